#include <stdlib.h>
#include <string.h>
#include "routing/health.h"
#include "routing/outlier.h"

enum {
    MIN_REQUESTS = 5,                /* of a target, in five seconds, to call it anomalous */
    CUT_TO = ROUTING_SHARE_ALL / 16, /* as long as it is */
    STEP = ROUTING_SHARE_ALL / 8,    /* back, every five seconds */
    MIN_ANOMALY_TARGETS = 3,         /* spec/alb.md 3.3 */
};

const char *routing_outlier_name(enum routing_outlier_why why)
{
    static const char *const names[] = {"-", "consecutive_5xx", "consecutive_gateway_errors", "success_rate",
                                        "latency"};
    return names[why];
}

bool routing_outlier_may_eject(const struct routing_outlier_conf *conf, size_t num_ejected, size_t num_targets)
{
    size_t most = (size_t)((double)num_targets * conf->max_ejected / 100);
    if (most == 0 && num_targets > 1 && conf->max_ejected > 0)
        most = 1;
    return num_ejected < most;
}

void routing_outlier_eject(struct routing_outlier *outlier, const struct routing_outlier_conf *conf,
                           enum routing_outlier_why why, uint64_t now_ms)
{
    uint64_t for_ms = conf->ejection_time_ms * ++outlier->times;

    if (for_ms >= conf->max_ejection_time_ms) {
        for_ms = conf->max_ejection_time_ms;
        if (outlier->times > 1 && conf->ejection_time_ms * (outlier->times - 1) >= for_ms)
            --outlier->times; /* it cannot become longer */
    }
    outlier->until_ms = now_ms + for_ms;
    outlier->why = why;
}

bool routing_outlier_return(struct routing_outlier *outlier, uint64_t now_ms)
{
    if (outlier->until_ms == 0 || now_ms < outlier->until_ms)
        return false;
    outlier->until_ms = 0;
    outlier->why = ROUTING_OUTLIER_NOT;
    outlier->is_back = true;
    return true;
}

void routing_outlier_calm(struct routing_outlier *outlier)
{
    if (outlier->until_ms == 0 && outlier->times != 0 && !outlier->is_back)
        --outlier->times;
    outlier->is_back = false;
}

/* ---- comparing ---- */

static int compare_doubles(const void *a_, const void *b_)
{
    double a = *(const double *)a_, b = *(const double *)b_;
    return (a > b) - (a < b);
}

/* The median of the others is not moved by one that is out of all bounds, nor by a second one. */
static double median_of_others(const double *values, const bool *counts, size_t n, size_t self, double *scratch)
{
    size_t size = 0;
    for (size_t i = 0; i != n; ++i)
        if (i != self && counts[i])
            scratch[size++] = values[i];
    qsort(scratch, size, sizeof(*scratch), compare_doubles);
    return size == 0 ? 0 : size % 2 == 1 ? scratch[size / 2] : (scratch[size / 2 - 1] + scratch[size / 2]) / 2;
}

struct comparison {
    bool *counts;
    double *rates, *latencies, *scratch;
    size_t size; /* that count */
};

static void prepare(struct comparison *c, const struct routing_outlier_sample *samples, size_t n, uint64_t min_requests)
{
    c->counts = h2o_mem_alloc((n + 1) * sizeof(*c->counts));
    c->rates = h2o_mem_alloc(3 * (n + 1) * sizeof(*c->rates));
    c->latencies = c->rates + n + 1;
    c->scratch = c->latencies + n + 1;
    c->size = 0;
    for (size_t i = 0; i != n; ++i) {
        const struct routing_outlier_sample *s = samples + i;
        c->counts[i] = !s->is_out && s->requests >= min_requests && s->requests != 0;
        c->rates[i] = c->counts[i] ? 100.0 * (double)s->failures / (double)s->requests : 0;
        c->latencies[i] = c->counts[i] ? (double)s->latency_us / (double)s->requests : 0;
        c->size += c->counts[i];
    }
}

static void dispose(struct comparison *c)
{
    free(c->counts);
    free(c->rates);
}

void routing_outlier_compare(const struct routing_outlier_conf *conf, const struct routing_outlier_sample *samples,
                             size_t n, enum routing_outlier_why *why)
{
    struct comparison c;

    memset(why, 0, n * sizeof(*why));
    prepare(&c, samples, n, conf->minimum_requests);
    for (size_t i = 0; i != n && c.size >= conf->minimum_targets; ++i) {
        if (!c.counts[i])
            continue;
        if (conf->success_rate_deviation != 0 &&
            c.rates[i] > median_of_others(c.rates, c.counts, n, i, c.scratch) + conf->success_rate_deviation)
            why[i] = ROUTING_OUTLIER_SUCCESS_RATE;
        else if (conf->latency_factor != 0 &&
                 c.latencies[i] >
                     median_of_others(c.latencies, c.counts, n, i, c.scratch) * (double)conf->latency_factor)
            why[i] = ROUTING_OUTLIER_LATENCY;
    }
    dispose(&c);
}

void routing_anomaly_adjust(double threshold, const struct routing_outlier_sample *samples, size_t n, uint32_t *shares)
{
    struct comparison c;

    prepare(&c, samples, n, MIN_REQUESTS);
    for (size_t i = 0; i != n; ++i) {
        uint32_t share = shares[i] != 0 ? shares[i] : ROUTING_SHARE_ALL;
        bool is_anomalous = c.counts[i] && c.size >= MIN_ANOMALY_TARGETS &&
                            c.rates[i] > median_of_others(c.rates, c.counts, n, i, c.scratch) + threshold;
        if (is_anomalous)
            share = CUT_TO;
        else if (c.counts[i] || share == ROUTING_SHARE_ALL || samples[i].failures == 0)
            share = share + STEP < ROUTING_SHARE_ALL ? share + STEP : ROUTING_SHARE_ALL;
        shares[i] = share;
    }
    dispose(&c);
}
