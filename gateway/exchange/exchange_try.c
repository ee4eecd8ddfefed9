/* A try: who is asked, what is noted and counted of it, its timers; the limits of the group; the first try of all. */
#include "gateway/exchange/exchange_state.h"
#include "gateway/exchange/choose.h"
#include "gateway/discovery/view.h"
#include "gateway/exchange/forwarded.h"
#include "gateway/answer/grpc.h"
#include "gateway/exchange/sticky.h"
#include "gateway/exchange/target_queue.h"
#include "gateway/lambda/lambda.h"
#include "gateway/observe/span.h"
#include "gateway/upstream/proxy_out.h"

/* ---- the timeline, where somebody asks for one ---- */

static void note_start(struct gw_try *try)
{
    struct gw_request *request = try->exchange->request;
    struct gw_timeline *timeline = request->timeline;

    if (timeline->num_attempts != GW_TIMELINE_ATTEMPTS)
        ++timeline->num_attempts;
    try->noted = gw_timeline_last(timeline);
    *try->noted = (struct gw_attempt){.started_us = gw_now_us(), .target = &request->group->targets[try->target]};
    if (request->span != NULL) {
        try->noted->span_id = gw_thread_random(&request->worker->thread) | 1;
        gw_forwarded_put_hex16(request->span->sent_id, try->noted->span_id); /* the target's spans are children of it */
    }
}

static void note_sent(struct gw_attempt *attempt, const struct gw_client *client)
{
    uint64_t connected_us = gw_client_connected_us(client);
    attempt->sent_us = connected_us != 0 ? connected_us : attempt->started_us;
}

void gw_exchange_note_head(struct gw_try *try, int status)
{
    note_sent(try->noted, try->client);
    try->noted->first_byte_us = try->exchange->request->upstream_first_byte_us;
    try->noted->status = status;
}

void gw_exchange_note_end(struct gw_try *try, enum gw_client_error error)
{
    try->noted->ended_us = gw_now_us();
    try->noted->failure = gw_reason_of_client(error);
    if (try->noted->sent_us == 0 && !gw_client_error_is_of_connect(error))
        note_sent(try->noted, try->client);
}

/* ---- tries ---- */

static void leave_target(struct gw_try *try)
{
    gw_choose_leave(try->exchange->request->worker, try->group, try->load);
    try->load = NULL;
}

void gw_exchange_target_is_done(struct gw_try *try)
{
    leave_target(try);
    gw_exchange_leave(try->exchange);
    GW_NOTE(try->exchange, gw_exchange_note_end(try, GW_CLIENT_OK));
}

void gw_exchange_end_try(struct gw_try *try)
{
    if (try->client == NULL)
        return;
    gw_client_release(try->client);
    try->client = NULL;
    gw_count(&try->slot->in_flight, (uint64_t)-1);
    leave_target(try);
    gw_timer_disarm(&try->timer);
    if (__builtin_expect(try->invocation != NULL, 0))
        gw_lambda_end_try(try);
}

void gw_exchange_end_tries(struct gw_exchange *exchange)
{
    for (size_t i = 0; i != GW_EXCHANGE_TRIES; ++i)
        gw_exchange_end_try(&exchange->tries[i]);
    gw_timer_disarm(&exchange->pause);
    gw_timer_disarm(&exchange->hedge);
    gw_timer_disarm(&exchange->total);
    if (__builtin_expect(exchange->request->waiter != NULL, 0))
        gw_target_queue_forget(exchange->request);
}

void gw_exchange_arm(struct gw_exchange *exchange, struct gw_timer *timer, void (*on_due)(struct gw_timer *),
                     uint64_t ms)
{
    struct gw_thread *thread = &exchange->request->worker->thread;
    gw_timer_init(timer, on_due);
    gw_timer_arm(thread->wheel, timer, gw_thread_now(thread) + ms);
}

static void on_try_due(struct gw_timer *timer)
{
    struct gw_try *try = H2O_STRUCT_FROM_MEMBER(struct gw_try, timer, timer);
    gw_exchange_callbacks.on_error(try, GW_CLIENT_FIRST_BYTE_TIMEOUT, false);
}

/* Indexes of one view are not those of another. What is known in the new one: the targets of the tries under way. */
void gw_exchange_begin_tried(struct gw_exchange *exchange)
{
    const struct routing_target_group *group = exchange->request->group;

    exchange->tried = 0;
    exchange->tried_of = group;
    if (exchange->request->sticky != NULL) /* the session goes where the answer comes from */
        exchange->request->sticky->target = ROUTING_NO_TARGET;
    for (size_t i = 0; i != GW_EXCHANGE_TRIES; ++i) {
        const struct gw_try *try = &exchange->tries[i];
        if (try->group == NULL || try->group->index != group->index || try->target >= try->group->size)
            continue;
        for (uint32_t j = 0; j != group->size && j != 64; ++j)
            if (group->targets[j].endpoint == try->group->targets[try->target].endpoint)
                exchange->tried |= (uint64_t)1 << j;
    }
}

void gw_exchange_start_try(struct gw_try *try, uint32_t target_index, bool allow_reuse)
{
    struct gw_exchange *exchange = try->exchange;
    struct gw_request *request = exchange->request;
    const struct routing_target *target = &request->group->targets[target_index];
    struct gw_client_timeouts timeouts = gw_choose_timeouts(request->group, GW_ROUTE_MORE(request->route, timeouts));
    struct gw_pool_limits limits = gw_choose_pool_limits(request->group);
    char header[GW_PROXY_OUT_MAX];

    try->target = request->target = target_index;
    ++request->attempts;
    ++exchange->tries_in_group;
    GW_NOTE(exchange, note_start(try));
    try->slot = &gw_endpoint_entry_of(target)->slots[request->worker->thread.index];
    gw_count(&try->slot->attempts, 1);
    gw_count(&try->slot->in_flight, 1);
    try->group = request->group;
    try->load = gw_choose_claimed(request, target_index);
    exchange->out.is_reserved = gw_choose_reserved(request, target_index);
    if (__builtin_expect(request->group->notes_latency, 0))
        try->started_us = gw_now_us();
    try->is_started = false;
    if (__builtin_expect(exchange->tried_of != request->group, 0))
        gw_exchange_begin_tried(exchange);
    if (target_index < 64)
        exchange->tried |= (uint64_t)1 << target_index;
    exchange->out.transport = target->transport;
    exchange->out.preface.len = 0;
    if (__builtin_expect(request->group->conf->send_proxy_protocol != ROUTING_PROXY_OFF, 0))
        exchange->out.preface = h2o_iovec_init(
            header, gw_proxy_out_of_conn(request->group->conf->send_proxy_protocol, request->stream->conn, header));
    if (__builtin_expect(request->group->conf->pool.reuse != ROUTING_REUSE_ALL, 0))
        allow_reuse &= !gw_choose_needs_new(request);
    try->client = __builtin_expect(request->group->conf->lambda != NULL, 0)
                      ? gw_lambda_invoke(try, &limits, &timeouts, allow_reuse)
                      : gw_client_start(request->worker->pool, target->endpoint, &limits, &timeouts, &exchange->out,
                                        allow_reuse, &gw_exchange_callbacks, try);
    if (request->stream->ops->room != NULL) /* one of a hundred streams of a client that may take none of them */
        gw_client_be_thrifty(try->client);
    if (__builtin_expect(exchange->policy->per_try_ms != 0, 0))
        gw_exchange_arm(exchange, &try->timer, on_try_due, exchange->policy->per_try_ms);
}

/* ---- limits of the group ---- */

bool gw_exchange_enter(struct gw_exchange *exchange, enum gw_reason *reason)
{
    const struct routing_target_group *group = exchange->request->group;

    if (__builtin_expect(group->load == NULL, 1))
        return true;
    switch (routing_limit_enter(group->load, group->conf)) {
    case ROUTING_LIMIT_OK:
        exchange->entered[exchange->entered[0] != NULL] = gw_view_base(exchange->request->snapshot, group);
        return true;
    case ROUTING_LIMIT_REQUESTS:
        *reason = GW_REASON_CIRCUIT_OPEN;
        gw_count(&exchange->request->worker->stats.circuit_refused[0], 1);
        break;
    case ROUTING_LIMIT_ADAPTIVE:
        *reason = GW_REASON_CONCURRENCY_LIMIT;
        break;
    }
    return false;
}

/* How long the group took, as far as it is to blame. */
static uint64_t time_taken_us(const struct gw_request *request)
{
    if (request->upstream_first_byte_us != 0)
        return request->upstream_first_byte_us - request->upstream_started_us;
    return request->status >= 500 ? gw_now_us() - request->upstream_started_us : 0;
}

void gw_exchange_leave_limits(struct gw_exchange *exchange)
{
    struct gw_request *request = exchange->request;

    for (size_t i = 0; i != 2 && __builtin_expect(exchange->entered[i] != NULL, 0); ++i) {
        routing_limit_leave(exchange->entered[i]->load, exchange->entered[i]->conf, time_taken_us(request),
                            gw_thread_now(&request->worker->thread));
        exchange->entered[i] = NULL;
    }
    if (exchange->retrying != NULL)
        routing_limit_leave_retry(exchange->retrying);
    exchange->retrying = NULL;
}

/* ---- the first one ---- */

const struct routing_retry_conf *gw_exchange_policy(const struct gw_request *request)
{
    const struct routing_retry_conf *own = GW_ROUTE_MORE(request->route, retry), *group = request->group->conf->retry;
    return own != NULL ? own : group != NULL ? group : &routing_retry_default;
}

static void on_total_due(struct gw_timer *timer)
{
    struct gw_exchange *exchange = H2O_STRUCT_FROM_MEMBER(struct gw_exchange, total, timer);
    gw_exchange_fail(exchange, GW_REASON_TOTAL_TIMEOUT, NULL);
}

static void on_deadline(struct gw_timer *timer)
{
    struct gw_exchange *exchange = H2O_STRUCT_FROM_MEMBER(struct gw_exchange, total, timer);
    gw_exchange_fail(exchange, GW_REASON_GRPC_DEADLINE, NULL);
}

static void on_cut(struct gw_timer *timer)
{
    struct gw_exchange *exchange = H2O_STRUCT_FROM_MEMBER(struct gw_exchange, total, timer);
    gw_exchange_fail(exchange, GW_REASON_TARGET_DEREGISTERED, NULL);
}

void gw_exchange_cut(struct gw_exchange *exchange)
{
    gw_timer_disarm(&exchange->total);
    gw_exchange_arm(exchange, &exchange->total, on_cut, 0);
}

static uint64_t total_ms(const struct gw_request *request)
{
    const struct routing_route_timeouts_conf *route = GW_ROUTE_MORE(request->route, timeouts);
    return route != NULL && route->total_ms != 0 ? route->total_ms : request->group->conf->timeouts.total_ms;
}

void gw_exchange_begin(struct gw_exchange *exchange)
{
    struct gw_request *request = exchange->request;
    uint64_t total;

    exchange->policy = gw_exchange_policy(request);
    exchange->now = &exchange->tries[0];
    exchange->now->exchange = exchange;
    exchange->tried_of = request->group;
    if (__builtin_expect(exchange->policy->at != NULL || GW_ROUTE_MORE(request->route, hedge) != NULL, 0))
        gw_exchange_begin_policies(exchange);
    if (__builtin_expect((total = total_ms(request)) != 0, 0))
        gw_exchange_arm(exchange, &exchange->total, on_total_due, total);
    if (__builtin_expect(request->group->conf->protocol == ROUTING_PROTOCOL_GRPC, 0)) {
        uint64_t deadline = gw_grpc_timeout_ms(request->facts.headers, request->facts.num_headers);
        if (deadline != 0 && (total == 0 || deadline < total))
            gw_exchange_arm(exchange, &exchange->total, on_deadline, deadline);
        request->stream->silence_ms =
            gw_choose_timeouts(request->group, GW_ROUTE_MORE(request->route, timeouts)).idle_ms;
    }
}

void gw_exchange_first_try(struct gw_exchange *exchange)
{
    gw_exchange_start_try(exchange->now, exchange->request->target, true);
}
