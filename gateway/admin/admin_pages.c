#include "gateway/admin/admin_pages.h"
#include "gateway/discovery/view.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "gateway/worker.h"

/* ---- parts ---- */

void gw_page_number(struct gw_json *json, const char *key, uint64_t value)
{
    gw_json_key(json, key);
    gw_json_unsigned(json, value);
}

void gw_page_string(struct gw_json *json, const char *key, const char *value)
{
    gw_json_key(json, key);
    if (value == NULL || value[0] == '\0')
        gw_json_null(json);
    else
        gw_json_string(json, value);
}

void gw_page_text(struct gw_json *json, const char *key, h2o_iovec_t value)
{
    gw_json_key(json, key);
    if (value.base == NULL)
        gw_json_null(json);
    else
        gw_json_text(json, value);
}

void gw_page_time_ms(struct gw_json *json, const char *key, uint64_t wall_ms)
{
    time_t t = (time_t)(wall_ms / 1000);
    char text[48];
    struct tm tm;
    size_t len;

    gw_json_key(json, key);
    if (wall_ms == 0 || gmtime_r(&t, &tm) == NULL ||
        (len = strftime(text, sizeof(text) - 8, "%Y-%m-%dT%H:%M:%S", &tm)) == 0) {
        gw_json_null(json);
        return;
    }
    snprintf(text + len, sizeof(text) - len, ".%03uZ", (unsigned)(wall_ms % 1000));
    gw_json_string(json, text);
}

void gw_page_latency(struct gw_json *json, const char *key, const uint64_t buckets[GW_HISTOGRAM_BUCKETS],
                     uint64_t sum_us)
{
    uint64_t count = 0;

    for (size_t i = 0; i != GW_HISTOGRAM_BUCKETS; ++i)
        count += buckets[i];
    gw_json_key(json, key);
    gw_json_object(json);
    gw_page_number(json, "count", count);
    gw_json_key(json, "sum_ms");
    gw_json_decimal(json, (double)sum_us / 1000, 3);
    gw_json_key(json, "p50_ms");
    gw_json_decimal(json, gw_histogram_quantile(buckets, 0.5) * 1000, 3);
    gw_json_key(json, "p99_ms");
    gw_json_decimal(json, gw_histogram_quantile(buckets, 0.99) * 1000, 3);
    gw_json_key(json, "buckets");
    gw_json_array(json);
    for (size_t i = 0; i != GW_HISTOGRAM_BUCKETS; ++i)
        gw_json_unsigned(json, buckets[i]);
    gw_json_array_end(json);
    gw_json_object_end(json);
}

static void put_classes(struct gw_json *json, const uint64_t by_class[6])
{
    static const char *const names[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

    gw_json_key(json, "by_class");
    gw_json_object(json);
    for (size_t i = 0; i != 6; ++i)
        gw_page_number(json, names[i], by_class[i]);
    gw_json_object_end(json);
}

static void put_bounds(struct gw_json *json)
{
    gw_json_key(json, "bucket_bounds_ms");
    gw_json_array(json);
    for (size_t i = 0; i != GW_HISTOGRAM_BUCKETS - 1; ++i)
        gw_json_decimal(json, (double)gw_histogram_bounds_us[i] / 1000, 1);
    gw_json_array_end(json);
}

/* ---- sums ---- */

int gw_reason_class(enum gw_reason reason, const struct gw_route *route)
{
    int status = gw_reason_info(reason)->status;

    if (reason == GW_REASON_REDIRECT)
        status = 302;
    else if (reason == GW_REASON_FILE_SERVED)
        status = 200;
    else if (reason == GW_REASON_TUNNEL_CLOSED || reason == GW_REASON_TUNNEL_IDLE_TIMEOUT)
        status = 101;
    else if (reason == GW_REASON_FIXED_RESPONSE && route != NULL && route->conf->respond != NULL)
        status = (int)route->conf->respond->status;
    else if (reason == GW_REASON_FIXED_RESPONSE)
        status = 200;
    return status >= 100 && status < 600 ? status / 100 : 0;
}

void gw_route_sum(const struct gw_process *process, const struct gw_route_stats *stats, const struct gw_route *route,
                  struct gw_route_sums *sums)
{
    memset(sums, 0, sizeof(*sums));
    for (unsigned w = 0; w != process->num_workers; ++w) {
        const struct gw_route_slot *slot = &stats->slots[w];
        for (size_t i = 0; i != 6; ++i)
            sums->by_class[i] += gw_counter_read(&slot->by_class[i]);
        for (size_t i = 1; i != GW_REASON_COUNT; ++i)
            sums->by_reason[i] += gw_counter_read(&slot->by_reason[i]);
        for (size_t i = 0; i != GW_HISTOGRAM_BUCKETS; ++i) {
            sums->seconds[i] += gw_counter_read(&slot->buckets[i].seconds);
            sums->upstream[i] += gw_counter_read(&slot->buckets[i].upstream);
        }
        sums->retries += gw_counter_read(&slot->retries);
        sums->seconds_sum_us += gw_counter_read(&slot->seconds_sum_us);
        sums->upstream_sum_us += gw_counter_read(&slot->upstream_sum_us);
    }
    for (size_t i = 1; i != GW_REASON_COUNT; ++i) {
        sums->by_class[gw_reason_class((enum gw_reason)i, route)] += sums->by_reason[i];
        sums->local += sums->by_reason[i];
    }
    for (size_t i = 0; i != 6; ++i)
        sums->requests += sums->by_class[i];
}

void gw_target_sum(const struct gw_process *process, const struct routing_target *target, struct gw_target_sums *sums)
{
    const struct gw_endpoint_entry *entry = gw_endpoint_entry_of(target);

    memset(sums, 0, sizeof(*sums));
    for (unsigned w = 0; w != process->num_workers; ++w) {
        const struct gw_target_slot *slot = &entry->slots[w];
        sums->attempts += gw_counter_read(&slot->attempts);
        sums->in_flight += gw_counter_read(&slot->in_flight);
        sums->failures += gw_counter_read(&slot->failures);
        for (size_t i = 0; i != 6; ++i)
            sums->by_class[i] += gw_counter_read(&slot->by_class[i]);
        for (size_t i = 0; i != GW_HISTOGRAM_BUCKETS; ++i)
            sums->seconds[i] += gw_counter_read(&slot->buckets[i]);
        sums->seconds_sum_us += gw_counter_read(&slot->seconds_sum_us);
    }
}

/* ---- routes ---- */

static void put_texts(struct gw_json *json, const struct gw_texts *texts)
{
    for (size_t i = 0; i != texts->size; ++i)
        gw_json_text(json, texts->entries[i]);
}

static void put_match(struct gw_json *json, const struct routing_match_conf *match)
{
    gw_json_key(json, "hosts");
    gw_json_array(json);
    put_texts(json, &match->host);
    put_texts(json, &match->host_regex);
    gw_json_array_end(json);
    gw_json_key(json, "paths");
    gw_json_array(json);
    put_texts(json, &match->path);
    put_texts(json, &match->path_prefix);
    put_texts(json, &match->path_exact);
    put_texts(json, &match->path_regex);
    gw_json_array_end(json);
}

static const char *action_name(enum routing_action action)
{
    switch (action) {
    case ROUTING_FORWARD:
        return "forward";
    case ROUTING_REDIRECT:
        return "redirect";
    case ROUTING_RESPOND:
        return "respond";
    case ROUTING_FILES:
        return "files";
    case ROUTING_ECHO:
        return "echo";
    }
    return "?";
}

static void put_what(struct gw_json *json, const struct gw_route *route)
{
    gw_page_text(json, "name", route->conf->name);
    gw_page_string(json, "action", action_name(route->action));
    gw_json_key(json, "target_groups");
    gw_json_array(json);
    for (uint32_t i = 0; i != route->num_groups; ++i)
        gw_json_text(json, route->groups[i].group->name);
    gw_json_array_end(json);
    put_match(json, &route->conf->match);
    gw_page_string(json, "file", route->conf->at->file);
    gw_page_number(json, "line", route->conf->at->line);
}

static void put_counts(struct gw_json *json, const struct gw_route_sums *sums)
{
    gw_page_number(json, "requests", sums->requests);
    put_classes(json, sums->by_class);
    gw_json_key(json, "by_reason");
    gw_json_object(json);
    for (size_t i = 1; i != GW_REASON_COUNT; ++i)
        if (sums->by_reason[i] != 0)
            gw_page_number(json, gw_reason_info((enum gw_reason)i)->code, sums->by_reason[i]);
    gw_json_object_end(json);
    gw_page_number(json, "retries", sums->retries);
    gw_page_latency(json, "latency", sums->seconds, sums->seconds_sum_us);
    gw_page_latency(json, "upstream_latency", sums->upstream, sums->upstream_sum_us);
}

void gw_routes_page(const struct gw_process *process, struct gw_json *json, uint64_t offset, uint64_t limit)
{
    const struct gw_snapshot *snapshot = process->active;
    struct gw_route_sums sums;

    gw_json_object(json);
    gw_page_number(json, "generation", snapshot->generation);
    gw_page_number(json, "total", snapshot->num_routes);
    gw_page_number(json, "offset", offset);
    put_bounds(json);
    gw_json_key(json, "routes");
    gw_json_array(json);
    for (uint64_t i = offset; i < snapshot->num_routes && i - offset < limit; ++i) {
        const struct gw_route *route = &snapshot->routes[i];
        gw_json_object(json);
        put_what(json, route);
        gw_route_sum(process, route->stats, route, &sums);
        put_counts(json, &sums);
        gw_json_object_end(json);
    }
    gw_json_array_end(json);
    gw_json_key(json, "unrouted");
    gw_json_object(json);
    gw_route_sum(process, snapshot->no_route, NULL, &sums);
    put_counts(json, &sums);
    gw_json_object_end(json);
    gw_json_object_end(json);
}

/* ---- targets ---- */

static void put_override(struct gw_json *json, const struct routing_health *health)
{
    uint32_t override = routing_health_override(health);

    gw_json_key(json, "override");
    if ((override & (ROUTING_OVERRIDE_DRAIN | ROUTING_OVERRIDE_WEIGHT)) == 0) {
        gw_json_null(json);
        return;
    }
    gw_json_object(json);
    gw_json_key(json, "drain");
    gw_json_bool(json, (override & ROUTING_OVERRIDE_DRAIN) != 0);
    gw_json_key(json, "weight");
    if ((override & ROUTING_OVERRIDE_WEIGHT) != 0)
        gw_json_unsigned(json, routing_health_weight(health, 0));
    else
        gw_json_null(json);
    gw_json_object_end(json);
}

static void put_ejection(struct gw_json *json, const struct routing_target *target)
{
    const struct routing_outlier *outlier = &gw_endpoint_entry_of(target)->outlier;
    uint64_t now_ms = gw_now_ms();

    gw_json_key(json, "ejection");
    if (outlier->until_ms == 0) {
        gw_json_null(json);
        return;
    }
    gw_json_object(json);
    gw_page_string(json, "reason", routing_outlier_name(outlier->why));
    gw_page_number(json, "ends_in_ms", outlier->until_ms > now_ms ? outlier->until_ms - now_ms : 0);
    gw_page_number(json, "times", outlier->times);
    gw_json_object_end(json);
}

/* Everything of a target's health: the prober lives on this thread. */
void gw_target_members(const struct gw_process *process, struct gw_json *json, const struct routing_target *target)
{
    const struct routing_health *health = target->health;
    struct gw_target_sums sums;

    gw_target_sum(process, target, &sums);
    gw_page_text(json, "target", target->name);
    gw_page_string(json, "source", target->source);
    gw_page_number(json, "weight", routing_health_weight(health, target->weight));
    gw_page_number(json, "configured_weight", target->weight);
    gw_page_string(json, "state", routing_health_name(routing_health_state(health)));
    gw_page_string(json, "checked_state", routing_health_name(routing_health_checked_state(health)));
    gw_json_key(json, "reason");
    gw_json_string(json, routing_health_reason(health));
    put_override(json, health);
    put_ejection(json, target);
    gw_json_key(json, "last_status");
    if (health->last_status != 0)
        gw_json_number(json, health->last_status);
    else
        gw_json_null(json);
    gw_page_time_ms(json, "since", health->changed_at_ms);
    gw_page_number(json, "checks", health->checks);
    gw_page_number(json, "failed_checks", health->failed_checks);
    gw_page_number(json, "in_flight", sums.in_flight);
    gw_page_number(json, "connections", routing_count_read(&target->load->connections));
    gw_page_number(json, "attempts", sums.attempts);
    gw_page_number(json, "failures", sums.failures);
    put_classes(json, sums.by_class);
    gw_page_latency(json, "latency", sums.seconds, sums.seconds_sum_us);
}

/* ---- connections ---- */

#define SUM(expression)                                                                                                \
    ({                                                                                                                 \
        uint64_t sum_ = 0;                                                                                             \
        for (unsigned i_ = 0; i_ != process->num_workers; ++i_) {                                                      \
            const struct gw_worker *worker = &process->workers[i_];                                                    \
            sum_ += gw_counter_read(&(expression));                                                                    \
        }                                                                                                              \
        sum_;                                                                                                          \
    })

static void put_threads(const struct gw_process *process, struct gw_json *json)
{
    gw_json_key(json, "threads");
    gw_json_array(json);
    for (unsigned i = 0; i != process->num_workers; ++i) {
        const struct gw_worker *worker = &process->workers[i];
        gw_json_object(json);
        gw_page_number(json, "thread", i);
        gw_page_number(json, "open", gw_counter_read(&worker->stats.connections));
        gw_page_number(json, "in_flight", gw_counter_read(&worker->stats.requests_in_flight));
        gw_page_number(json, "upstream_idle", gw_counter_read(&gw_pool_stats(worker->pool)->idle));
        gw_json_object_end(json);
    }
    gw_json_array_end(json);
}

static void put_in_flight(const struct gw_process *process, struct gw_json *json)
{
    struct gw_target_sums sums;

    gw_json_key(json, "targets");
    gw_json_array(json);
    for (size_t i = 0; process->active != NULL && i != process->active->num_groups; ++i) {
        const struct routing_target_group *group = gw_view_of_control(process->active, &process->active->groups[i]);
        for (uint32_t j = 0; j != group->size; ++j) {
            gw_target_sum(process, &group->targets[j], &sums);
            gw_json_object(json);
            gw_page_text(json, "target_group", group->name);
            gw_page_text(json, "target", group->targets[j].name);
            gw_page_number(json, "in_flight", sums.in_flight);
            gw_json_object_end(json);
        }
    }
    gw_json_array_end(json);
}

static uint64_t count_refused(const struct gw_process *process)
{
    uint64_t total = 0;
    for (int i = 0; i != GW_REASON_COUNT; ++i)
        total += SUM(worker->stats.refused_by[i]);
    return total;
}

void gw_connections_page(const struct gw_process *process, struct gw_json *json)
{
    gw_json_object(json);
    gw_page_number(json, "open", SUM(worker->stats.connections));
    gw_page_number(json, "accepted", SUM(worker->server.stats.accepted));
    gw_page_number(json, "refused", count_refused(process));
    gw_page_number(json, "in_flight", SUM(worker->stats.requests_in_flight));
    gw_page_number(json, "requests", SUM(worker->server.stats.requests));
    gw_json_key(json, "upstream");
    gw_json_object(json);
    gw_page_number(json, "idle", SUM(gw_pool_stats(worker->pool)->idle));
    gw_page_number(json, "connects", SUM(gw_pool_stats(worker->pool)->connects));
    gw_page_number(json, "connect_failures", SUM(gw_pool_stats(worker->pool)->connect_failures));
    gw_page_number(json, "reuses", SUM(gw_pool_stats(worker->pool)->reuses));
    gw_json_object_end(json);
    put_threads(process, json);
    put_in_flight(process, json);
    gw_json_object_end(json);
}

/* ---- errors and reasons ---- */

static void put_error(struct gw_json *json, const struct gw_recent_error *entry)
{
    const struct gw_reason_info *info = gw_reason_info(entry->reason);
    char ip[GW_IP_TEXT];

    gw_ip_format(&entry->client, ip);
    gw_json_object(json);
    gw_page_time_ms(json, "time", entry->wall_ms);
    gw_page_string(json, "reason", info->code);
    gw_json_key(json, "status");
    gw_json_number(json, entry->status);
    gw_page_string(json, "cause", info->cause);
    gw_page_string(json, "remedy", info->remedy);
    gw_page_string(json, "detail", entry->detail);
    gw_page_string(json, "client", ip);
    gw_page_string(json, "method", entry->method);
    gw_page_string(json, "host", entry->host);
    gw_page_string(json, "path", entry->path);
    gw_page_string(json, "route", entry->route);
    gw_page_string(json, "target_group", entry->group);
    gw_page_string(json, "target", entry->target);
    gw_page_string(json, "request_id", entry->request_id);
    gw_json_key(json, "duration_ms");
    gw_json_decimal(json, (double)entry->duration_us / 1000, 3);
    gw_json_object_end(json);
}

void gw_errors_page(const struct gw_recent *recent, struct gw_json *json, uint64_t limit)
{
    gw_json_object(json);
    gw_page_number(json, "total", recent->total);
    gw_json_key(json, "errors");
    gw_json_array(json);
    for (size_t i = 0; i < gw_recent_size(recent) && i < limit; ++i)
        put_error(json, gw_recent_at(recent, i));
    gw_json_array_end(json);
    gw_json_object_end(json);
}

void gw_reasons_page(struct gw_json *json)
{
    gw_json_object(json);
    gw_json_key(json, "reasons");
    gw_json_array(json);
    for (size_t i = 1; i != GW_REASON_COUNT; ++i) {
        const struct gw_reason_info *info = gw_reason_info((enum gw_reason)i);
        gw_json_object(json);
        gw_page_string(json, "code", info->code);
        gw_json_key(json, "status");
        if (info->status != 0)
            gw_json_number(json, info->status);
        else
            gw_json_null(json);
        gw_page_string(json, "cause", info->cause);
        gw_page_string(json, "remedy", info->remedy);
        gw_json_object_end(json);
    }
    gw_json_array_end(json);
    gw_json_object_end(json);
}

/* ---- configuration ---- */

h2o_iovec_t gw_page_config_yaml(const struct gw_config *config)
{
    h2o_iovec_t text = {NULL, 0};
    FILE *out = open_memstream(&text.base, &text.len);

    if (out == NULL)
        h2o_fatal("no memory");
    gw_settings_print(out, &gw_config_section, config);
    fclose(out);
    return text;
}
