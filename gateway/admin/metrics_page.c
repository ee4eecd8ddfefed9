#include "gateway/admin/admin.h"
#include "gateway/admin/admin_pages.h"
#include "gateway/admin/metrics_routes.h"
#include "gateway/admin/resolver_page.h"
#include "gateway/discovery/departure.h"
#include "gateway/discovery/discovery.h"
#include "gateway/discovery/view.h"
#include "gateway/exchange/target_queue.h"
#include <dirent.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "gateway/l4/l4.h"
#include "tls/status.h"

/* Series each family may have. The sum, with those of metrics_routes.c and some fifty that do not grow, stays below
 * 2,000. What does not fit is summed up under "_other", so that totals over a family stay true. */
enum {
    MAX_TARGET_SERIES = 200,
    MAX_GROUP_STATE_SERIES = 80,
    MAX_GROUP_USE_SERIES = 25, /* of each of two families */
    MAX_THREAD_SERIES = 32,
};

static const char other[] = "_other";

#define SUM_OF_WORKERS(process, expression)                                                                            \
    ({                                                                                                                 \
        uint64_t sum_ = 0;                                                                                             \
        for (unsigned i_ = 0; i_ != (process)->num_workers; ++i_) {                                                    \
            const struct gw_worker *worker = &(process)->workers[i_];                                                  \
            sum_ += gw_counter_read(&(expression));                                                                    \
        }                                                                                                              \
        sum_;                                                                                                          \
    })

/* ---- threads and connections ---- */

static void put_one(struct gw_exposition *out, const char *name, const char *type, const char *help, double value)
{
    gw_exposition_family(out, name, type, help);
    gw_exposition_sample(out, name, value, NULL);
}

static void put_two(struct gw_exposition *out, const char *name, const char *help, const char *label, const char *a,
                    uint64_t a_value, const char *b, uint64_t b_value)
{
    gw_exposition_family(out, name, "counter", help);
    gw_exposition_sample(out, name, (double)a_value, label, a, NULL);
    gw_exposition_sample(out, name, (double)b_value, label, b, NULL);
}

static void put_handshake_failures(struct gw_exposition *out, struct gw_process *process)
{
    gw_exposition_family(out, "weir_tls_handshake_failures_total", "counter",
                         "TLS handshakes with clients that failed, by reason.");
    for (int i = 0; i != TLS_FAILURE_COUNT; ++i)
        gw_exposition_sample(out, "weir_tls_handshake_failures_total",
                             (double)SUM_OF_WORKERS(process, worker->stats.handshake_failures_by[i]), "reason",
                             tls_failure_name((enum tls_failure)i), NULL);
}

static void put_floods(struct gw_exposition *out, struct gw_process *process)
{
    gw_exposition_family(out, "weir_http2_floods_total", "counter",
                         "HTTP/2 connections closed because a budget of limits.http2 was spent, by its setting.");
    for (int i = 0; i != GW_HTTP2_NUM_BUDGETS; ++i)
        gw_exposition_sample(out, "weir_http2_floods_total",
                             (double)SUM_OF_WORKERS(process, worker->server.stats.http2_floods[i]), "budget",
                             gw_http2_budget_name((enum gw_http2_budget)i), NULL);
}

static void put_settings_timeouts(struct gw_exposition *out, struct gw_process *process)
{
    gw_exposition_family(out, "weir_http2_settings_timeouts_total", "counter",
                         "HTTP/2 connections closed because the client did not acknowledge our SETTINGS.");
    gw_exposition_sample(out, "weir_http2_settings_timeouts_total",
                         (double)SUM_OF_WORKERS(process, worker->server.stats.http2_settings_timeouts), NULL);
}

static void put_desync(struct gw_exposition *out, struct gw_process *process)
{
    gw_exposition_family(out, "weir_desync_requests_total", "counter",
                         "HTTP/1 requests that two readers may take for different ones, by class.");
    for (int class = GW_DESYNC_ACCEPTABLE; class <= GW_DESYNC_SEVERE; ++class)
        gw_exposition_sample(out, "weir_desync_requests_total",
                             (double)SUM_OF_WORKERS(process, worker->server.stats.desync[class - 1]), "classification",
                             gw_desync_class_name((enum gw_desync_class) class), NULL);
}

static void put_refusals(struct gw_exposition *out, struct gw_process *process)
{
    gw_exposition_family(out, "weir_connections_refused_total", "counter",
                         "Client connections closed before anything was served, by reason.");
    for (int i = 0; i != GW_REASON_COUNT; ++i)
        if (gw_reason_is_refusal((enum gw_reason)i))
            gw_exposition_sample(out, "weir_connections_refused_total",
                                 (double)SUM_OF_WORKERS(process, worker->stats.refused_by[i]), "reason",
                                 gw_reason_info((enum gw_reason)i)->code, NULL);
}

static uint64_t worst_pressure(const struct gw_process *process)
{
    uint64_t worst = 0;
    for (unsigned i = 0; i != process->num_workers; ++i)
        if (gw_counter_read(&process->workers[i].stats.pressure) > worst)
            worst = gw_counter_read(&process->workers[i].stats.pressure);
    return worst;
}

static uint64_t count_queued(struct gw_process *process)
{
    uint64_t n = 0;
    pthread_mutex_lock(&process->lock);
    for (size_t i = 0; i != process->groups.size; ++i)
        n += gw_target_queue_size(process->groups.entries[i]->queues);
    pthread_mutex_unlock(&process->lock);
    return n;
}

static void put_ejections(struct gw_exposition *out, const struct gw_process *process)
{
    gw_exposition_family(out, "weir_outlier_ejections_total", "counter", "Targets taken out by outlier detection.");
    for (int why = 1; why != ROUTING_OUTLIER_COUNT; ++why)
        gw_exposition_sample(out, "weir_outlier_ejections_total", (double)process->ejections[why], "reason",
                             routing_outlier_name((enum routing_outlier_why)why), NULL);
}

static void put_circuit_breakers(struct gw_exposition *out, const struct gw_process *process)
{
    static const char *const bounds[] = {"requests", "connections", "pending", "retries"};
    gw_exposition_family(out, "weir_circuit_breaker_refused_total", "counter",
                         "Requests, or further tries of them, above a bound of circuit_breaker.");
    for (size_t i = 0; i != sizeof(bounds) / sizeof(bounds[0]); ++i)
        gw_exposition_sample(out, "weir_circuit_breaker_refused_total",
                             (double)SUM_OF_WORKERS(process, worker->stats.circuit_refused[i]), "bound", bounds[i],
                             NULL);
}

static void put_connections(struct gw_exposition *out, struct gw_process *process)
{
    put_one(out, "weir_connections", "gauge", "Client connections that are open.",
            (double)(int64_t)SUM_OF_WORKERS(process, worker->stats.connections));
    put_one(out, "weir_connections_accepted_total", "counter", "Client connections that were served.",
            (double)SUM_OF_WORKERS(process, worker->server.stats.accepted));
    put_refusals(out, process);
    put_desync(out, process);
    put_floods(out, process);
    put_settings_timeouts(out, process);
    put_one(out, "weir_accept_pauses_total", "counter",
            "Times that new connections had to wait because of an accept_rate.",
            (double)SUM_OF_WORKERS(process, worker->stats.accept_pauses));
    put_one(out, "weir_accept_errors_total", "counter",
            "Times that a connection could not be accepted for want of resources.",
            (double)SUM_OF_WORKERS(process, worker->stats.accept_errors));
    put_one(out, "weir_retries_over_budget_total", "counter", "Failures passed on because retry.budget was spent.",
            (double)SUM_OF_WORKERS(process, worker->stats.retries_over_budget));
    put_one(out, "weir_retry_buffer_bytes", "gauge", "Memory of request bodies that are kept to be sent again.",
            (double)SUM_OF_WORKERS(process, worker->stats.retry_buffer_bytes));
    put_one(out, "weir_retry_buffers_refused_total", "counter",
            "Request bodies that are sent once because limits.retry_buffers was used up.",
            (double)SUM_OF_WORKERS(process, worker->stats.retry_buffers_refused));
    put_one(out, "weir_lambda_buffer_bytes", "gauge", "Memory of what Lambda functions are sent and return.",
            (double)SUM_OF_WORKERS(process, worker->stats.lambda_buffer_bytes));
    put_one(out, "weir_lambda_buffers_refused_total", "counter",
            "Requests to Lambda functions that failed because limits.lambda_buffers was used up.",
            (double)SUM_OF_WORKERS(process, worker->stats.lambda_buffers_refused));
    put_one(out, "weir_hedges_total", "counter", "Second targets asked because the first was silent for hedge.after.",
            (double)SUM_OF_WORKERS(process, worker->stats.hedges));
    put_one(out, "weir_failovers_total", "counter", "Requests that a fallback target group was asked for.",
            (double)SUM_OF_WORKERS(process, worker->stats.failovers));
    put_one(out, "weir_overload_pressure", "gauge",
            "How near the bounds of overload the busiest thread is; from 1 on requests are refused.",
            (double)worst_pressure(process) / 1000);
    put_one(out, "weir_target_queue_requests", "gauge", "Requests that wait because every target is full.",
            (double)count_queued(process));
    put_circuit_breakers(out, process);
    put_ejections(out, process);
    put_one(out, "weir_requests_in_flight", "gauge", "Requests that are being answered.",
            (double)(int64_t)SUM_OF_WORKERS(process, worker->stats.requests_in_flight));
    put_two(out, "weir_tls_handshakes_total", "TLS handshakes with clients.", "result", "ok",
            SUM_OF_WORKERS(process, worker->stats.handshakes), "failed",
            SUM_OF_WORKERS(process, worker->stats.handshake_failures));
    put_handshake_failures(out, process);
    put_two(out, "weir_bytes_total", "Bytes of HTTP from and to clients, without TLS.", "direction", "in",
            SUM_OF_WORKERS(process, worker->server.stats.bytes_in), "out",
            SUM_OF_WORKERS(process, worker->server.stats.bytes_out));
}

static void put_tunnels(struct gw_exposition *out, struct gw_process *process)
{
    put_one(out, "weir_tunnels_open", "gauge", "Tunnels (WebSocket and other upgrades) that are open.",
            (double)(int64_t)SUM_OF_WORKERS(process, worker->tunnels.open));
    put_two(out, "weir_tunnels_total", "Tunnels that were opened.", "protocol", "websocket",
            SUM_OF_WORKERS(process, worker->tunnels.websockets), "other",
            SUM_OF_WORKERS(process, worker->tunnels.others));
    put_two(out, "weir_tunnel_bytes_total", "Bytes from and to clients within tunnels.", "direction", "in",
            SUM_OF_WORKERS(process, worker->tunnels.bytes_in), "out",
            SUM_OF_WORKERS(process, worker->tunnels.bytes_out));
}

static void put_upstream(struct gw_exposition *out, struct gw_process *process)
{
    put_one(out, "weir_upstream_connects_total", "counter", "New connections to targets.",
            (double)SUM_OF_WORKERS(process, gw_pool_stats(worker->pool)->connects));
    put_one(out, "weir_upstream_connect_failures_total", "counter", "Connections to targets that did not come about.",
            (double)SUM_OF_WORKERS(process, gw_pool_stats(worker->pool)->connect_failures));
    put_one(out, "weir_upstream_reuses_total", "counter", "Requests sent on a kept connection.",
            (double)SUM_OF_WORKERS(process, gw_pool_stats(worker->pool)->reuses));
    put_one(out, "weir_upstream_idle_closed_total", "counter", "Kept connections that ended unused.",
            (double)SUM_OF_WORKERS(process, gw_pool_stats(worker->pool)->idle_closed));
    put_one(out, "weir_upstream_idle_connections", "gauge", "Kept connections that wait for a request.",
            (double)(int64_t)SUM_OF_WORKERS(process, gw_pool_stats(worker->pool)->idle));
}

static void put_upstream_tls(struct gw_exposition *out, struct gw_process *process)
{
    static const char family[] = "weir_upstream_tls_failures_total";
    put_two(out, "weir_upstream_tls_handshakes_total", "TLS handshakes with targets that came about.", "kind", "full",
            SUM_OF_WORKERS(process, gw_pool_stats(worker->pool)->tls_full), "resumed",
            SUM_OF_WORKERS(process, gw_pool_stats(worker->pool)->tls_resumed));
    gw_exposition_family(out, family, "counter", "TLS handshakes with targets that failed.");
    for (int i = TLS_ORIGIN_NONE + 1; i != TLS_ORIGIN_FAILURE_COUNT; ++i)
        gw_exposition_sample(out, family, (double)SUM_OF_WORKERS(process, gw_pool_stats(worker->pool)->tls_failures[i]),
                             "reason", tls_origin_failure_name((enum tls_origin_failure)i), NULL);
}

/* One series per thread; those beyond the budget show their worst. */
static void put_lag_family(struct gw_exposition *out, const struct gw_process *process, const char *family,
                           const char *help, bool is_max)
{
    unsigned i, shown = process->num_workers < MAX_THREAD_SERIES ? process->num_workers : MAX_THREAD_SERIES - 2;
    uint64_t lag_us, worst_us = 0;
    char thread[16];

    gw_exposition_family(out, family, "gauge", help);
    for (i = 0; i != process->num_workers; ++i) {
        const struct gw_worker *worker = &process->workers[i];
        lag_us = gw_counter_read(is_max ? &worker->stats.loop_lag_max_us : &worker->stats.loop_lag_us);
        snprintf(thread, sizeof(thread), "%u", i);
        if (i < shown)
            gw_exposition_sample(out, family, (double)lag_us / 1e6, "thread", thread, NULL);
        else
            worst_us = lag_us > worst_us ? lag_us : worst_us;
    }
    if (shown != process->num_workers)
        gw_exposition_sample(out, family, (double)worst_us / 1e6, "thread", other, NULL);
    if (process->admin == NULL)
        return;
    const struct gw_traffic *traffic = gw_admin_traffic(process->admin);
    lag_us = is_max ? gw_traffic_lag_max_us(traffic) : gw_traffic_lag_us(traffic);
    gw_exposition_sample(out, family, (double)lag_us / 1e6, "thread", "control", NULL);
}

static void put_lag(struct gw_exposition *out, const struct gw_process *process)
{
    put_lag_family(out, process, "weir_event_loop_lag_seconds", "How late the last timer of a thread's loop ran.",
                   false);
    put_lag_family(out, process, "weir_event_loop_lag_max_seconds",
                   "The latest that a timer of a thread's loop ran in the last 15 to 30 seconds.", true);
}

/* ---- targets ---- */

static bool takes_traffic(enum routing_health_state state)
{
    return state == ROUTING_HEALTH_HEALTHY || state == ROUTING_HEALTH_UNCHECKED;
}

static void put_targets(struct gw_exposition *out, const struct gw_snapshot *snapshot)
{
    unsigned left = MAX_TARGET_SERIES;

    gw_exposition_family(out, "weir_target_health", "gauge", "1: the target is healthy or not checked, 0: it is not.");
    for (size_t i = 0; i != snapshot->num_groups; ++i) {
        const struct routing_target_group *group = gw_view_of_control(snapshot, &snapshot->groups[i]);
        for (uint32_t j = 0; j != group->size && left != 0; ++j, --left)
            gw_exposition_sample(out, "weir_target_health",
                                 takes_traffic(routing_health_state(group->targets[j].health)), "target_group",
                                 group->name.base, "target", group->targets[j].name.base, NULL);
    }
}

static void count_leaving(void *data, const struct routing_target *target)
{
    uint64_t *counts = data;
    ++counts[routing_health_state(target->health)];
}

/* Complete where the family above is not: groups beyond the budget are summed. */
static void put_group_states(struct gw_exposition *out, const struct gw_process *process)
{
    const struct gw_snapshot *snapshot = process->active;
    enum { NUM_STATES = ROUTING_HEALTH_COUNT };
    unsigned left = MAX_GROUP_STATE_SERIES - NUM_STATES;
    uint64_t rest[NUM_STATES] = {0};
    bool has_rest = false;

    gw_exposition_family(out, "weir_target_group_targets", "gauge", "Targets of a group by state.");
    for (size_t i = 0; i != snapshot->num_groups; ++i) {
        const struct routing_target_group *group = gw_view_of_control(snapshot, &snapshot->groups[i]);
        uint64_t counts[NUM_STATES] = {0};
        unsigned series = 0;
        for (uint32_t j = 0; j != group->size; ++j)
            ++counts[routing_health_state(group->targets[j].health)];
        gw_departures_each(process, group->entry, count_leaving, counts);
        for (int state = 0; state != NUM_STATES; ++state)
            series += counts[state] != 0;
        bool fits = series <= left;
        has_rest |= !fits;
        for (int state = 0; state != NUM_STATES; ++state) {
            if (fits && counts[state] != 0)
                gw_exposition_sample(out, "weir_target_group_targets", (double)counts[state], "target_group",
                                     group->name.base, "state", routing_health_name((enum routing_health_state)state),
                                     NULL);
            else if (!fits)
                rest[state] += counts[state];
        }
        left -= fits ? series : 0;
    }
    for (int state = 0; has_rest && state != NUM_STATES; ++state)
        gw_exposition_sample(out, "weir_target_group_targets", (double)rest[state], "target_group", other, "state",
                             routing_health_name((enum routing_health_state)state), NULL);
}

static void put_group_use(struct gw_exposition *out, const struct gw_snapshot *snapshot, const char *family,
                          const char *help, bool is_pending)
{
    uint64_t rest = 0;

    gw_exposition_family(out, family, "gauge", help);
    for (size_t i = 0; i != snapshot->num_groups; ++i) {
        const struct gw_group_use *use = &((const struct gw_group_entry *)snapshot->groups[i].entry)->use;
        uint32_t n = routing_count_read(is_pending ? &use->pending : &use->connections);
        if (i < MAX_GROUP_USE_SERIES - 1)
            gw_exposition_sample(out, family, n, "target_group", snapshot->groups[i].name.base, NULL);
        else
            rest += n;
    }
    if (snapshot->num_groups >= MAX_GROUP_USE_SERIES)
        gw_exposition_sample(out, family, (double)rest, "target_group", other, NULL);
}

/* ---- targets that come and go ---- */

static void put_discovery(struct gw_exposition *out, const struct gw_process *process)
{
    if (process->discovery == NULL)
        return;
    const struct gw_discovery_counters *counters = gw_discovery_counters(process);
    put_one(out, "weir_target_changes_total", "counter",
            "Lists of targets that a file, DNS or the admin API came with.", (double)counters->changes);
    put_one(out, "weir_target_source_failures_total", "counter",
            "Lists of targets that could not be had: the last good one stays.", (double)counters->failures);
    put_one(out, "weir_endpoints", "gauge", "Targets that are known, those that are still being forgotten too.",
            (double)gw_process_num_endpoints((struct gw_process *)process));
    put_one(out, "weir_target_groups", "gauge",
            "Target groups that are known, those that are still being forgotten too.",
            (double)gw_process_num_groups((struct gw_process *)process));
    put_one(out, "weir_targets_removed_total", "counter", "Targets that were taken out of their group.",
            (double)counters->departures);
    put_one(out, "weir_targets_cut_total", "counter",
            "Of them, those that still had requests under way when deregistration_delay was over.",
            (double)counters->cuts);
}

/* ---- faults and mirrors ---- */

static void put_faults(struct gw_exposition *out, const struct gw_process *process)
{
    put_two(out, "weir_faults_total", "Faults made on purpose.", "kind", "delay",
            SUM_OF_WORKERS(process, worker->stats.fault_delays), "abort",
            SUM_OF_WORKERS(process, worker->stats.fault_aborts));
    put_two(out, "weir_mirror_requests_total", "Copies of requests that were sent.", "result", "answered",
            SUM_OF_WORKERS(process, worker->stats.mirror_answered), "failed",
            SUM_OF_WORKERS(process, worker->stats.mirror_failed));
    put_one(out, "weir_mirror_dropped_total", "counter",
            "Copies that were not sent: too many under way, a body too large or not whole, the end of the process.",
            (double)SUM_OF_WORKERS(process, worker->stats.mirror_dropped));
}

/* ---- compression ---- */

static void put_codings(struct gw_exposition *out, const char *name, const uint64_t counts[GW_CODING_COUNT])
{
    for (int i = GW_CODING_GZIP; i != GW_CODING_COUNT; ++i)
        gw_exposition_sample(out, name, (double)counts[i], "coding", gw_coding_name((enum gw_coding)i).base, NULL);
}

static void put_compression(struct gw_exposition *out, const struct gw_process *process)
{
    uint64_t responses[GW_CODING_COUNT], in[GW_CODING_COUNT], out_bytes[GW_CODING_COUNT], memory = 0;

    for (int i = 0; i != GW_CODING_COUNT; ++i) {
        responses[i] = SUM_OF_WORKERS(process, worker->compressor->stats.responses[i]);
        in[i] = SUM_OF_WORKERS(process, worker->compressor->stats.bytes_in[i]);
        out_bytes[i] = SUM_OF_WORKERS(process, worker->compressor->stats.bytes_out[i]);
    }
    for (unsigned i = 0; i != process->num_workers; ++i)
        memory += gw_encoder_memory_gauge(process->workers[i].compressor->memory);
    gw_exposition_family(out, "weir_compression_responses_total", "counter", "Responses that weir compressed.");
    put_codings(out, "weir_compression_responses_total", responses);
    gw_exposition_family(out, "weir_compression_bytes_in_total", "counter", "Bytes that encoders were given.");
    put_codings(out, "weir_compression_bytes_in_total", in);
    gw_exposition_family(out, "weir_compression_bytes_out_total", "counter", "Bytes that encoders made of them.");
    put_codings(out, "weir_compression_bytes_out_total", out_bytes);
    put_one(out, "weir_compression_skipped_total", "counter",
            "Responses that were not compressed for want of compression.memory.",
            (double)SUM_OF_WORKERS(process, worker->compressor->stats.skipped));
    put_one(out, "weir_compression_deferred_total", "counter",
            "Times that encoding waited, because a turn of the event loop had no time left for it.",
            (double)SUM_OF_WORKERS(process, worker->compressor->stats.put_off));
    put_one(out, "weir_compression_memory_bytes", "gauge", "Memory of encoders in use.", (double)memory);
}

/* ---- configuration and process ---- */

static void put_config(struct gw_exposition *out, const struct gw_process *process)
{
    put_one(out, "weir_config_generation", "gauge", "Counts the configurations that were taken into service.",
            (double)process->generation);
    put_one(out, "weir_config_last_reload_success", "gauge", "1: the last load was taken into service, 0: it failed.",
            process->last_reload_ok);
    put_one(out, "weir_config_last_reload_timestamp_seconds", "gauge", "When the last load ended.",
            (double)process->last_reload_ms / 1000);
    put_one(out, "weir_config_routes", "gauge", "Routes of the active configuration.",
            (double)process->active->num_routes);
    put_one(out, "weir_access_log_dropped_total", "counter",
            "Lines of the access log that could not be written in time.",
            (double)gw_access_log_dropped(process->access_log));
    put_one(out, "weir_trace_spans_exported_total", "counter", "Spans that the collector took.",
            (double)gw_tracing_exported(process->tracing));
    put_one(out, "weir_trace_spans_dropped_total", "counter",
            "Spans that did not fit the queue or that the collector did not take.",
            (double)gw_tracing_dropped(process->tracing));
}

/* Resident and virtual bytes: /proc/self/statm counts pages. */
static void put_memory(struct gw_exposition *out)
{
    unsigned long size = 0, resident = 0;
    long page = sysconf(_SC_PAGESIZE);
    FILE *file = fopen("/proc/self/statm", "re");

    if (file == NULL)
        return;
    if (fscanf(file, "%lu %lu", &size, &resident) == 2) {
        put_one(out, "process_virtual_memory_bytes", "gauge", "Virtual memory.", (double)size * page);
        put_one(out, "process_resident_memory_bytes", "gauge", "Resident memory.", (double)resident * page);
    }
    fclose(file);
}

static void put_descriptors(struct gw_exposition *out)
{
    DIR *dir = opendir("/proc/self/fd");
    struct rlimit limit;
    unsigned n = 0;

    if (dir != NULL) {
        while (readdir(dir) != NULL)
            ++n;
        closedir(dir);
        put_one(out, "process_open_fds", "gauge", "Open descriptors.",
                n >= 3 ? n - 3 : 0); /* ".", "..", and this one */
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        put_one(out, "process_max_fds", "gauge", "Limit of open descriptors.", (double)limit.rlim_cur);
}

static void put_process(struct gw_exposition *out, const struct gw_process *process)
{
    struct rusage usage;

    put_memory(out);
    put_descriptors(out);
    put_one(out, "process_start_time_seconds", "gauge", "When the process started.",
            (double)process->started_ms / 1000);
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        put_one(out, "process_cpu_seconds_total", "counter", "CPU time in user and system mode.",
                (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    if (process->supervised != NULL)
        put_one(out, "weir_worker_restarts_total", "counter", "Workers that died and were replaced.",
                (double)gw_supervised_hello(process->supervised)->restarts);
    gw_exposition_family(out, "weir_build_info", "gauge", "Always 1; what runs is in the labels.");
    gw_exposition_sample(out, "weir_build_info", 1, "version", WEIR_VERSION, "openssl",
                         OpenSSL_version(OPENSSL_VERSION_STRING), NULL);
}

void gw_metrics_page(struct gw_process *process, struct gw_exposition *out)
{
    if (process->active != NULL) {
        gw_metrics_put_routes(out, process);
        put_targets(out, process->active);
        put_group_states(out, process);
        put_group_use(out, process->active, "weir_target_group_connections",
                      "Connections to the targets of a group, idle ones too.", false);
        put_group_use(out, process->active, "weir_target_group_pending_requests",
                      "Requests that wait for a connection to a group, being made or not yet.", true);
        tls_status_metrics(out, process->active->certificates, process->active->num_certificates);
        put_config(out, process);
    }
    put_connections(out, process);
    put_tunnels(out, process);
    gw_l4_metrics(process, out);
    put_upstream(out, process);
    put_upstream_tls(out, process);
    put_compression(out, process);
    put_discovery(out, process);
    put_faults(out, process);
    gw_resolver_metrics(process, out);
    put_lag(out, process);
    put_process(out, process);
}
