#include "gateway/exchange/choose.h"
#include "gateway/discovery/found_by.h"
#include "gateway/discovery/view.h"
#include "gateway/exchange/exchange.h"
#include "gateway/worker.h"
#include "gateway/exchange/sticky.h"
#include "gateway/exchange/target_queue.h"
#include "routing/retry.h"

enum { MAX_FAILOVERS = 8, MAX_CLAIMS = 8 };

struct routing_balancer *gw_choose_balancer(const struct gw_request *request, const struct routing_target_group *group)
{
    unsigned worker = request->worker != NULL ? request->worker->thread.index : request->snapshot->num_workers;
    return request->snapshot->balancers[worker * request->snapshot->num_groups + group->index];
}

static uint64_t now_ms(const struct gw_request *request)
{
    return request->worker != NULL ? gw_thread_now(&request->worker->thread) : gw_now_ms();
}

/* ---- a place at the target ---- */

void gw_choose_leave(struct gw_worker *worker, const struct routing_target_group *group,
                     struct routing_target_load *load)
{
    if (load == NULL)
        return;
    routing_target_leave(load);
    if (__builtin_expect(group->has_queue, 0))
        gw_target_queue_wake(worker, group);
}

void gw_choose_forget(struct gw_request *request)
{
    struct routing_target_load *load = request->claim;
    const struct gw_endpoint *reserved = request->reserved;

    request->claim = NULL;
    request->reserved = NULL;
    if (__builtin_expect(reserved != NULL, 0))
        gw_pool_unreserve(reserved);
    gw_choose_leave(request->worker, request->group, load);
}

bool gw_choose_reserved(struct gw_request *request, uint32_t target)
{
    const struct gw_endpoint *reserved = request->reserved;

    if (__builtin_expect(reserved == NULL, 1))
        return false;
    request->reserved = NULL;
    if (reserved == request->group->targets[target].endpoint)
        return true;
    gw_pool_unreserve(reserved);
    return false;
}

struct gw_client_timeouts gw_choose_timeouts(const struct routing_target_group *of,
                                             const struct routing_route_timeouts_conf *route)
{
    const struct routing_timeouts_conf *group = &of->conf->timeouts;
    struct gw_client_timeouts timeouts = {(uint32_t)group->connect_ms, (uint32_t)group->first_byte_ms,
                                          (uint32_t)group->idle_ms, (uint32_t)group->tls_ms};

    if (__builtin_expect(route != NULL, 0)) {
        timeouts.connect_ms = route->connect_ms != 0 ? (uint32_t)route->connect_ms : timeouts.connect_ms;
        timeouts.first_byte_ms = route->first_byte_ms != 0 ? (uint32_t)route->first_byte_ms : timeouts.first_byte_ms;
        timeouts.idle_ms = route->idle_ms != 0 ? (uint32_t)route->idle_ms : timeouts.idle_ms;
        timeouts.tls_ms = route->tls_ms != 0 ? (uint32_t)route->tls_ms : timeouts.tls_ms;
    }
    return timeouts;
}

struct gw_pool_limits gw_choose_pool_limits(const struct routing_target_group *group)
{
    const struct routing_pool_conf *pool = &group->conf->pool;
    return (struct gw_pool_limits){(uint32_t)pool->max_idle, (uint32_t)pool->idle_ms,      (uint32_t)pool->max_requests,
                                   group->max_connections,   group->max_group_connections, group->max_pending};
}

struct routing_target_load *gw_choose_claimed(struct gw_request *request, uint32_t target)
{
    struct routing_target_load *load = request->group->targets[target].load;

    if (__builtin_expect(!request->group->counts_load, 1))
        return NULL;
    if (request->claim != load) { /* the same target again, whatever its limit: it is not a further request */
        struct routing_target_load *other = request->claim;
        request->claim = NULL;
        gw_choose_leave(request->worker, request->group, other);
        routing_target_enter(load, 0);
    }
    request->claim = NULL;
    return load;
}

bool gw_choose_needs_new(const struct gw_request *request)
{
    const struct routing_target_group_conf *conf = request->group->conf;
    return conf->send_proxy_protocol != ROUTING_PROXY_OFF ||
           (conf->pool.reuse == ROUTING_REUSE_IDEMPOTENT && !routing_protocol_is_http2(conf->protocol) &&
            !routing_is_idempotent(request->facts.method));
}

/* A connection at the target, kept or new. Who waits already counts as pending. */
static bool reserve(struct gw_request *request, uint32_t target, bool may_close)
{
    const struct routing_target_group *group = request->group;
    const struct routing_target *at = &group->targets[target];
    struct gw_pool_limits limits = gw_choose_pool_limits(group);

    if (request->waiter != NULL)
        limits.max_pending = 0;
    request->no_room = gw_pool_reserve(request->worker->pool, at->endpoint, at->transport, &limits,
                                       gw_choose_needs_new(request), may_close);
    if (request->no_room == GW_POOL_RESERVED)
        request->reserved = at->endpoint;
    request->full = request->no_room == GW_POOL_TARGET_FULL ? at->endpoint : NULL;
    return request->no_room <= GW_POOL_RESERVED;
}

/* Threads that see the last free place at once: one gets it, the others look again. */
static bool claim(struct gw_request *request, uint32_t target, bool may_close)
{
    const struct routing_target_group *group = request->group;
    struct routing_target_load *load = group->targets[target].load;

    request->no_room = GW_POOL_READY;
    if (request->claim != NULL || request->reserved != NULL)
        gw_choose_forget(request);
    if (group->counts_load) {
        if (!routing_target_enter(load, group->max_requests))
            return false;
        request->claim = load;
    }
    if (__builtin_expect(!group->limits_connections, 1) || reserve(request, target, may_close))
        return true;
    gw_choose_forget(request);
    return false;
}

/* ---- the target ---- */

static bool counts(const struct routing_target_group *group) { return group->counts_load || group->limits_connections; }

/* Where connections are limited, a target with a kept one comes before one whose connection takes another's place. Not
 * where the key says which target it must be. */
uint32_t gw_choose_target(struct gw_request *request, uint64_t exclude, struct gw_trace *trace)
{
    gw_view_enter(request);
    const struct routing_target_group *group = request->group;
    struct routing_pick pick = {.exclude = exclude, .now_ms = now_ms(request)};
    bool may_close = group->uses_key;
    uint32_t target;

    request->no_room = GW_POOL_READY;
    if (__builtin_expect(group->uses_key, 0))
        pick.has_key = routing_balance_key(group->conf, &request->facts, &pick.key);
    for (unsigned i = 0; i != MAX_CLAIMS; ++i) {
        target = routing_balancer_pick(gw_choose_balancer(request, group), &pick, trace);
        if (target < ROUTING_BUSY_TARGETS &&
            (!counts(group) || request->stream == NULL || claim(request, target, may_close)))
            return target;
        if (__builtin_expect(request->no_room <= GW_POOL_RESERVED, 1)) {
            if (target >= ROUTING_BUSY_TARGETS)
                return target;
            continue; /* another thread had the last place */
        }
        if (request->no_room == GW_POOL_TOO_MANY_PENDING)
            break;
        if (target < 64)
            pick.exclude |= (uint64_t)1 << target;
        if (target >= ROUTING_BUSY_TARGETS || i == MAX_CLAIMS / 2) { /* nobody has a kept one */
            if (may_close)
                break;
            may_close = true;
            pick.exclude = exclude;
        }
    }
    return ROUTING_BUSY_TARGETS;
}

/* The one that the client's cookie names, if it may be asked. When it is full another one takes this request, and the
 * session stays where it is. */
static uint32_t choose_sticky(struct gw_request *request)
{
    const struct routing_target_group *group = request->group;
    struct routing_balancer *balancer = gw_choose_balancer(request, group);
    uint32_t target = gw_sticky_target(request);

    if (target == ROUTING_NO_TARGET)
        return ROUTING_NO_TARGET;
    const struct routing_target *found = &group->targets[target];
    if (!routing_balancer_may_take(balancer, target, now_ms(request))) {
        gw_trace(request->trace, "stickiness", group->conf->stickiness->at,
                 "target \"%.*s\" loses the client's session: it takes no requests (%s)", (int)found->name.len,
                 found->name.base, routing_health_name(routing_health_state(found->health)));
        return ROUTING_NO_TARGET;
    }
    request->sticky->target = target;
    if (counts(group) &&
        (request->stream != NULL ? !claim(request, target, true) : routing_balancer_is_busy(balancer, target))) {
        gw_trace(request->trace, "stickiness", group->conf->stickiness->at,
                 "target \"%.*s\" keeps the client's session, but has as many requests as it may", (int)found->name.len,
                 found->name.base);
        return ROUTING_NO_TARGET;
    }
    gw_trace(request->trace, "target", group->conf->stickiness->at, "target \"%.*s\" has the client's session (%s)",
             (int)found->name.len, found->name.base, routing_health_name(routing_health_state(found->health)));
    return target;
}

/* ---- the group ---- */

static void count(const struct gw_request *request, const struct routing_target_group *group, uint32_t *fit,
                  uint32_t *registered)
{
    unsigned worker = request->worker != NULL ? request->worker->thread.index : request->snapshot->num_workers;
    gw_view_now(request->snapshot, worker, group);
    routing_balancer_count(gw_choose_balancer(request, group), now_ms(request), fit, registered);
}

static bool is_down(const struct gw_request *request, const struct routing_target_group *group)
{
    uint32_t fit, registered;
    count(request, group, &fit, &registered);
    return routing_is_below(&group->conf->failover->minimum_healthy, fit, registered);
}

/* Along `failover`, to the first group with enough healthy targets; the one drawn when there is none. */
static void fail_over(struct gw_request *request)
{
    const struct routing_target_group *group = request->group, *next = group;

    for (unsigned i = 0; i != MAX_FAILOVERS && next->failover != NULL && is_down(request, next); ++i) {
        gw_trace(request->trace, "target group", next->conf->failover->at,
                 "\"%.*s\" has too few healthy targets: \"%.*s\" is asked instead", (int)next->name.len,
                 next->name.base, (int)next->failover->name.len, next->failover->name.base);
        next = next->failover;
    }
    uint32_t fit, registered;
    count(request, next, &fit, &registered);
    if (fit != 0)
        request->group = next;
    else
        gw_trace(request->trace, "target group", group->conf->at, "\"%.*s\" has none either: back to \"%.*s\"",
                 (int)next->name.len, next->name.base, (int)group->name.len, group->name.base);
}

static void choose_in_group(struct gw_request *request)
{
    if (__builtin_expect(request->group->failover != NULL, 0))
        fail_over(request);
    gw_view_enter(request);
    if (__builtin_expect(gw_sticky_is_wanted(request), 0)) {
        gw_sticky_begin(request);
        if ((request->target = choose_sticky(request)) != ROUTING_NO_TARGET)
            return;
    }
    request->target = gw_choose_target(request, 0, request->trace);
}

static void choose_fallback(struct gw_request *request)
{
    const struct gw_route *route = request->route;

    if (route->fallback == NULL || !routing_may_fail_over(request->facts.method) ||
        (route->conf->forward->when.failures & ROUTING_FAILURE_CONNECT) == 0)
        return;
    request->group = route->fallback;
    gw_trace(request->trace, "target group", gw_setting_at(route->conf->forward->at, "fallback"),
             "\"%.*s\" (fallback: the primary has no target)", (int)request->group->name.len,
             request->group->name.base);
    choose_in_group(request);
}

static uint32_t draw_group(struct gw_request *request, uint32_t random)
{
    const struct gw_route *route = request->route;
    uint32_t index;

    if (route->num_groups == 1)
        return 0;
    if (__builtin_expect(route->conf->forward->stickiness_ms != 0, 0) && gw_sticky_group(request, &index)) {
        gw_trace(request->trace, "target group", gw_setting_at(route->conf->forward->at, "stickiness"),
                 "\"%.*s\" has the client's session", (int)route->groups[index].group->name.len,
                 route->groups[index].group->name.base);
        return index;
    }
    index = routing_weighted_choice(route->weights, route->num_groups, random);
    if (index < route->num_groups)
        gw_trace(request->trace, "target group", route->conf->forward->at, "\"%.*s\" (%u of %u by weight %u)",
                 (int)route->groups[index].group->name.len, route->groups[index].group->name.base, index + 1,
                 route->num_groups, route->weights[index]);
    return index;
}

bool gw_exchange_choose(struct gw_request *request, uint32_t random)
{
    const struct gw_route *route = request->route;
    uint32_t group = draw_group(request, random);

    request->target = ROUTING_NO_TARGET;
    if (group >= route->num_groups) /* all weights are 0 */
        return false;
    request->group = route->num_groups == 1 ? route->group : route->groups[group].group;
    if (route->num_groups == 1)
        gw_trace(request->trace, "target group", route->conf->forward->at, "\"%.*s\" (1 of 1 by weight)",
                 (int)request->group->name.len, request->group->name.base);
    choose_in_group(request);
    if (__builtin_expect(request->trace != NULL, 0))
        gw_discovery_explain(request);
    if (__builtin_expect(request->target == ROUTING_NO_TARGET, 0))
        choose_fallback(request);
    return request->target < ROUTING_BUSY_TARGETS;
}

bool gw_exchange_choose_again(struct gw_request *request)
{
    choose_in_group(request);
    return request->target < ROUTING_BUSY_TARGETS;
}
