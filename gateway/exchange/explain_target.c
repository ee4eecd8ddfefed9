#include "gateway/exchange/explain_target.h"
#include <stdio.h>
#include "gateway/exchange/exchange_state.h"
#include "gateway/exchange/target_queue.h"
#include "gateway/process.h"

/* A line that is put together piece by piece; what does not fit is left out. */
struct line {
    char text[512];
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line->text + line->len, sizeof(line->text) - line->len, format, args);
    va_end(args);
    line->len += n > 0 ? (size_t)n : 0;
    if (line->len >= sizeof(line->text))
        line->len = sizeof(line->text) - 1;
}

/* ---- what is spoken ---- */

static const char *spoken(const struct routing_target_group_conf *conf)
{
    switch (conf->protocol) {
    case ROUTING_PROTOCOL_HTTP:
        return "HTTP/1.1, plain";
    case ROUTING_PROTOCOL_HTTPS:
        return "HTTP/1.1 over TLS";
    case ROUTING_PROTOCOL_H2C:
        return "HTTP/2, plain (h2c)";
    case ROUTING_PROTOCOL_H2:
        return "HTTP/2 over TLS";
    case ROUTING_PROTOCOL_GRPC:
        return conf->tls != NULL ? "gRPC: HTTP/2 over TLS" : "gRPC: HTTP/2, plain";
    default:
        return "bytes";
    }
}

/* The name of the target in brackets: what its certificate must be for. */
static h2o_iovec_t certified_name(const struct gw_request *request, const struct routing_tls_conf *tls)
{
    if (tls->server_name.base != NULL)
        return tls->server_name;
    if (request->target < request->group->size)
        return request->group->targets[request->target].address.host;
    return h2o_iovec_init(H2O_STRLIT("each target's own name"));
}

static void explain_tls(const struct gw_request *request, const struct routing_tls_conf *tls)
{
    static const char *const versions[] = {"1.2", "1.3", "1.0"};
    h2o_iovec_t name = certified_name(request, tls);
    struct line line = {.len = 0};

    if (tls->insecure)
        add(&line, "the target is NOT verified (insecure)");
    else
        add(&line, "the certificate must be for \"%.*s\" and trusted by %s", (int)name.len, name.base,
            tls->ca.base != NULL ? tls->ca.base : "the system's store");
    add(&line, "; TLS %s or later", versions[tls->min_version]);
    if (tls->certificate.base != NULL)
        add(&line, "; weir shows %s", tls->certificate.base);
    gw_trace_write(request->trace, "tls", tls->at != NULL ? tls->at : request->group->conf->at, "%s", line.text);
}

static void explain_protocol(const struct gw_request *request)
{
    static const char *const headers[] = {"", ", behind a PROXY header v1", ", behind a PROXY header v2"};
    const struct routing_target_group_conf *conf = request->group->conf;
    const struct routing_tls_conf *tls = routing_group_tls(conf);

    gw_trace_write(request->trace, "protocol", gw_setting_at(conf->at, "protocol"), "\"%.*s\" is spoken to in %s%s",
                   (int)request->group->name.len, request->group->name.base, spoken(conf),
                   headers[conf->send_proxy_protocol]);
    if (tls != NULL)
        explain_tls(request, tls);
}

/* ---- time ---- */

/* The route's where it has one. */
static void add_timeout(struct line *line, const char *name, uint64_t of_route_ms, uint64_t of_group_ms)
{
    uint64_t ms = of_route_ms != 0 ? of_route_ms : of_group_ms;

    add(line, line->len == 0 ? "%s " : ", %s ", name);
    if (ms == 0)
        add(line, "unlimited");
    else if (ms % 1000 == 0)
        add(line, "%llus", (unsigned long long)ms / 1000);
    else
        add(line, "%llums", (unsigned long long)ms);
    if (of_route_ms != 0)
        add(line, " (the route's)");
}

static void explain_timeouts(const struct gw_request *request)
{
    static const struct routing_route_timeouts_conf none;
    const struct routing_timeouts_conf *group = &request->group->conf->timeouts;
    const struct routing_route_timeouts_conf *route = request->route->conf->timeouts;
    const struct gw_node *at = route != NULL ? route->at : group->at != NULL ? group->at : request->group->conf->at;
    struct line line = {.len = 0};

    route = route != NULL ? route : &none;
    add_timeout(&line, "connect", route->connect_ms, group->connect_ms);
    if (routing_group_tls(request->group->conf) != NULL)
        add_timeout(&line, "TLS handshake", route->tls_ms,
                    group->tls_ms != 0 ? group->tls_ms : routing_group_tls(request->group->conf)->handshake_timeout_ms);
    add_timeout(&line, "first byte", route->first_byte_ms, group->first_byte_ms);
    add_timeout(&line, "between bytes", route->idle_ms, group->idle_ms);
    add_timeout(&line, "total", route->total_ms, group->total_ms);
    if (request->upgrade.base != NULL)
        add_timeout(&line, "tunnel", route->tunnel_idle_ms, group->tunnel_idle_ms);
    gw_trace_write(request->trace, "timeouts", at, "%s", line.text);
}

/* ---- bounds ---- */

static void add_bound(struct line *line, const char *name, uint64_t used, uint64_t most)
{
    if (most != 0)
        add(line, "%s%llu of %llu %s", line->len == 0 ? "" : ", ", (unsigned long long)used, (unsigned long long)most,
            name);
}

static void trace_bounds(const struct gw_request *request)
{
    static const struct routing_load no_load;
    static const struct gw_group_use no_use;
    const struct routing_target_group *group = request->group;
    const struct routing_circuit_breaker_conf *breaker = group->conf->circuit_breaker;
    const struct routing_adaptive_conf *adaptive = group->conf->adaptive_concurrency;
    const struct gw_group_entry *entry = group->entry;
    const struct routing_load *load = group->load != NULL ? group->load : &no_load;
    const struct gw_group_use *use = entry != NULL ? &entry->use : &no_use;
    uint64_t requests = __atomic_load_n((const uint64_t *)&load->requests, __ATOMIC_RELAXED);
    struct line line = {.len = 0};

    if (breaker != NULL) {
        add_bound(&line, "connections", routing_count_read(&use->connections), breaker->connections);
        add_bound(&line, "pending", routing_count_read(&use->pending), breaker->pending);
        add_bound(&line, "requests", requests, breaker->requests);
        add_bound(&line, "retries", __atomic_load_n((const uint64_t *)&load->retries, __ATOMIC_RELAXED),
                  breaker->retries);
        gw_trace_write(request->trace, "limits", breaker->at, "circuit breaker: %s",
                       line.len != 0 ? line.text : "no bound");
    }
    if (adaptive != NULL)
        gw_trace_write(request->trace, "limits", adaptive->at, "adaptive concurrency: %llu of %llu requests at present",
                       (unsigned long long)requests, (unsigned long long)routing_limit_now(load, adaptive));
}

/* As routing_limit_enter, without entering. */
enum gw_reason gw_explain_bounds(const struct gw_request *request)
{
    const struct routing_target_group *group = request->group;
    const struct routing_circuit_breaker_conf *breaker = group->conf->circuit_breaker;
    const struct routing_adaptive_conf *adaptive = group->conf->adaptive_concurrency;

    if (group->load == NULL)
        return GW_REASON_NONE;
    uint64_t requests = __atomic_load_n((const uint64_t *)&group->load->requests, __ATOMIC_RELAXED);
    if (breaker != NULL && breaker->requests != 0 && requests >= breaker->requests)
        return GW_REASON_CIRCUIT_OPEN;
    return adaptive != NULL && requests >= routing_limit_now(group->load, adaptive) ? GW_REASON_CONCURRENCY_LIMIT
                                                                                    : GW_REASON_NONE;
}

enum gw_reason gw_explain_wait(const struct gw_request *request)
{
    const struct routing_target_group *group = request->group;
    const struct gw_group_entry *entry = group->entry;
    const struct routing_target_limits_conf *limits = &group->conf->target_limits;
    uint32_t waiting = entry != NULL && entry->queues != NULL ? gw_target_queue_size(entry->queues) : 0;

    if (!group->has_queue)
        return GW_REASON_TARGETS_BUSY;
    if (waiting >= routing_max_queue(group->conf))
        return limits->queue != 0 ? GW_REASON_TARGET_QUEUE_FULL : GW_REASON_CIRCUIT_PENDING;
    gw_trace_write(request->trace, "queue", limits->at != NULL ? limits->at : group->conf->at,
                   "the request waits for a place: %u of %llu do, each for up to %llums", waiting,
                   (unsigned long long)routing_max_queue(group->conf), (unsigned long long)limits->queue_timeout_ms);
    return GW_REASON_NONE;
}

/* ---- asking again ---- */

static void explain_fallback(const struct gw_request *request)
{
    const struct gw_route *route = request->route;
    const struct routing_forward_conf *forward = route->conf->forward;
    struct line line = {.len = 0};

    if (route->fallback == NULL || request->group->index == route->fallback->index)
        return;
    const struct gw_texts *on = routing_forward_on(forward);
    for (size_t i = 0; i != on->size; ++i)
        add(&line, "%s%.*s", i == 0 ? "" : ", ", (int)on->entries[i].len, on->entries[i].base);
    if (routing_may_fail_over(request->facts.method))
        gw_trace_write(request->trace, "retry", gw_setting_at(forward->at, "fallback"),
                       "after the last try \"%.*s\" is asked on %s", (int)route->fallback->name.len,
                       route->fallback->name.base, line.text);
    else
        gw_trace_write(request->trace, "retry", gw_setting_at(forward->at, "fallback"),
                       "no fallback: it is for GET, HEAD and OPTIONS");
}

static void explain_retries(const struct gw_request *request)
{
    const struct routing_retry_conf *policy = gw_exchange_policy(request);
    const struct routing_hedge_conf *hedge = request->route->conf->hedge;
    struct line line = {.len = 0};

    if (policy->at != NULL) {
        for (size_t i = 0; i != policy->on.size; ++i)
            add(&line, "%s%.*s", i == 0 ? "" : ", ", (int)policy->on.entries[i].len, policy->on.entries[i].base);
        if (policy->on.size == 0) /* the default */
            add(&line, "connect_failure, reset");
        gw_trace_write(request->trace, "retry", policy->at, "up to %llu further tries on %s; budget %g%%",
                       (unsigned long long)policy->attempts, line.text, policy->budget);
    }
    if (hedge != NULL)
        gw_trace_write(request->trace, "retry", hedge->at, "another target is asked after %llums of silence",
                       (unsigned long long)hedge->after_ms);
}

void gw_explain_target(const struct gw_request *request)
{
    explain_protocol(request);
    explain_timeouts(request);
    trace_bounds(request);
    if (request->group->conf->lambda == NULL)
        explain_retries(request);
    explain_fallback(request);
}
