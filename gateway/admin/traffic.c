#include "gateway/admin/traffic.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "gateway/worker.h"

enum { PERIOD_MS = 1000 };

/* Sums over all threads at one moment. */
struct sums {
    uint64_t by_class[6], local_errors, bytes_in, bytes_out;
    uint64_t buckets[GW_HISTOGRAM_BUCKETS];
};

struct gw_traffic {
    struct gw_process *process;
    struct gw_timer timer;
    uint64_t due_us, taken_us;
    uint64_t lag_us, lag_max_us;
    struct gw_lag_window lag_window;
    struct sums before;
    uint64_t size; /* samples ever taken */
    struct gw_traffic_sample samples[GW_TRAFFIC_SAMPLES];
};

static void sum_up(const struct gw_process *process, struct sums *sums, struct gw_traffic_sample *sample)
{
    memset(sums, 0, sizeof(*sums));
    for (unsigned i = 0; i != process->num_workers; ++i) {
        const struct gw_worker *worker = &process->workers[i];
        for (size_t j = 0; j != 6; ++j)
            sums->by_class[j] += gw_counter_read(&worker->totals.by_class[j]);
        for (size_t j = 0; j != GW_HISTOGRAM_BUCKETS; ++j)
            sums->buckets[j] += gw_counter_read(&worker->totals.buckets[j]);
        sums->local_errors += gw_counter_read(&worker->totals.local_errors);
        sums->bytes_in += gw_counter_read(&worker->server.stats.bytes_in);
        sums->bytes_out += gw_counter_read(&worker->server.stats.bytes_out);
        sample->connections += gw_counter_read(&worker->stats.connections);
        sample->in_flight += gw_counter_read(&worker->stats.requests_in_flight);
    }
}

static float per_second(uint64_t now, uint64_t before, double elapsed_s)
{
    return (float)((double)(now - before) / elapsed_s);
}

static void take_sample(struct gw_traffic *traffic, uint64_t now_us)
{
    struct gw_traffic_sample sample = {.wall_s = (uint64_t)time(NULL)};
    double elapsed_s = (double)(now_us - traffic->taken_us) / 1e6;
    uint64_t buckets[GW_HISTOGRAM_BUCKETS];
    struct sums now;

    sum_up(traffic->process, &now, &sample);
    if (elapsed_s < 0.001)
        elapsed_s = 0.001;
    for (size_t i = 0; i != 6; ++i) {
        sample.by_class[i] = per_second(now.by_class[i], traffic->before.by_class[i], elapsed_s);
        sample.requests += sample.by_class[i];
    }
    sample.local_errors = per_second(now.local_errors, traffic->before.local_errors, elapsed_s);
    sample.bytes_in = per_second(now.bytes_in, traffic->before.bytes_in, elapsed_s);
    sample.bytes_out = per_second(now.bytes_out, traffic->before.bytes_out, elapsed_s);
    for (size_t i = 0; i != GW_HISTOGRAM_BUCKETS; ++i)
        buckets[i] = now.buckets[i] - traffic->before.buckets[i];
    sample.p50_ms = (float)(gw_histogram_quantile(buckets, 0.5) * 1000);
    sample.p99_ms = (float)(gw_histogram_quantile(buckets, 0.99) * 1000);
    traffic->before = now;
    traffic->taken_us = now_us;
    traffic->samples[traffic->size++ % GW_TRAFFIC_SAMPLES] = sample;
}

static void arm(struct gw_traffic *traffic, uint64_t now_us)
{
    traffic->due_us = now_us + PERIOD_MS * 1000;
    gw_timer_arm(traffic->process->control.wheel, &traffic->timer, now_us / 1000 + PERIOD_MS);
}

static void on_timer(struct gw_timer *timer)
{
    struct gw_traffic *traffic = H2O_STRUCT_FROM_MEMBER(struct gw_traffic, timer, timer);
    uint64_t now_us = gw_now_us();

    traffic->lag_us = now_us > traffic->due_us ? now_us - traffic->due_us : 0;
    traffic->lag_max_us = gw_lag_note(&traffic->lag_window, now_us, traffic->lag_us);
    take_sample(traffic, now_us);
    arm(traffic, now_us);
}

struct gw_traffic *gw_traffic_create(struct gw_process *process)
{
    struct gw_traffic *traffic = h2o_mem_alloc(sizeof(*traffic));

    memset(traffic, 0, sizeof(*traffic));
    traffic->process = process;
    traffic->taken_us = gw_now_us();
    gw_timer_init(&traffic->timer, on_timer);
    arm(traffic, traffic->taken_us);
    return traffic;
}

void gw_traffic_destroy(struct gw_traffic *traffic)
{
    if (traffic == NULL)
        return;
    gw_timer_disarm(&traffic->timer);
    free(traffic);
}

const struct gw_traffic_sample *gw_traffic_at(const struct gw_traffic *traffic, size_t i)
{
    if (i >= traffic->size || i >= GW_TRAFFIC_SAMPLES)
        return NULL;
    return &traffic->samples[(traffic->size - 1 - i) % GW_TRAFFIC_SAMPLES];
}

uint64_t gw_traffic_lag_us(const struct gw_traffic *traffic) { return traffic->lag_us; }
uint64_t gw_traffic_lag_max_us(const struct gw_traffic *traffic) { return traffic->lag_max_us; }

/* ---- as JSON ---- */

static double class_1(const struct gw_traffic_sample *s) { return s->by_class[1]; }
static double class_2(const struct gw_traffic_sample *s) { return s->by_class[2]; }
static double class_3(const struct gw_traffic_sample *s) { return s->by_class[3]; }
static double class_4(const struct gw_traffic_sample *s) { return s->by_class[4]; }
static double class_5(const struct gw_traffic_sample *s) { return s->by_class[5]; }
static double class_none(const struct gw_traffic_sample *s) { return s->by_class[0]; }
static double time_of(const struct gw_traffic_sample *s) { return (double)s->wall_s; }
static double requests_of(const struct gw_traffic_sample *s) { return s->requests; }
static double local_errors_of(const struct gw_traffic_sample *s) { return s->local_errors; }
static double p50_of(const struct gw_traffic_sample *s) { return s->p50_ms; }
static double p99_of(const struct gw_traffic_sample *s) { return s->p99_ms; }
static double connections_of(const struct gw_traffic_sample *s) { return s->connections; }
static double in_flight_of(const struct gw_traffic_sample *s) { return s->in_flight; }
static double bytes_in_of(const struct gw_traffic_sample *s) { return s->bytes_in; }
static double bytes_out_of(const struct gw_traffic_sample *s) { return s->bytes_out; }

static const struct {
    const char *name;
    double (*value)(const struct gw_traffic_sample *);
    int digits;
} columns[] = {
    {"time", time_of, 0},           {"requests", requests_of, 1},   {"responses_1xx", class_1, 1},
    {"responses_2xx", class_2, 1},  {"responses_3xx", class_3, 1},  {"responses_4xx", class_4, 1},
    {"responses_5xx", class_5, 1},  {"no_response", class_none, 1}, {"local_errors", local_errors_of, 1},
    {"p50_ms", p50_of, 2},          {"p99_ms", p99_of, 2},          {"connections", connections_of, 0},
    {"in_flight", in_flight_of, 0}, {"bytes_in", bytes_in_of, 0},   {"bytes_out", bytes_out_of, 0},
};

void gw_traffic_json(const struct gw_traffic *traffic, struct gw_json *json, size_t seconds)
{
    size_t size = traffic->size < GW_TRAFFIC_SAMPLES ? traffic->size : GW_TRAFFIC_SAMPLES;

    size = size < seconds ? size : seconds;
    gw_json_object(json);
    gw_json_key(json, "step_s");
    gw_json_number(json, PERIOD_MS / 1000);
    gw_json_key(json, "samples");
    gw_json_unsigned(json, size);
    for (size_t c = 0; c != sizeof(columns) / sizeof(columns[0]); ++c) {
        gw_json_key(json, columns[c].name);
        gw_json_array(json);
        for (size_t i = size; i-- != 0;)
            gw_json_decimal(json, columns[c].value(gw_traffic_at(traffic, i)), columns[c].digits);
        gw_json_array_end(json);
    }
    gw_json_object_end(json);
}
