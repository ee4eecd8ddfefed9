/* Who is asked, and who is asked next: tries, their timers, retries within the budget, the fallback group, hedges. */
#include "gateway/exchange/exchange_state.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/exchange/choose.h"
#include "gateway/discovery/view.h"
#include "gateway/exchange/forwarded.h"
#include "gateway/answer/grpc.h"
#include "gateway/exchange/outliers.h"
#include "gateway/exchange/sticky.h"
#include "gateway/exchange/target_queue.h"
#include "gateway/lambda/lambda.h"
#include "gateway/observe/span.h"
#include "gateway/upstream/proxy_out.h"

static uint32_t slot_index(const struct gw_request *request)
{
    unsigned worker = request->worker != NULL ? request->worker->thread.index : request->snapshot->num_workers;
    return worker * request->snapshot->num_groups + request->group->index;
}

static struct routing_budget *budget_of(const struct gw_request *request)
{
    return &request->snapshot->budgets[slot_index(request)];
}

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

static void note_head(struct gw_try *try, int status)
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

static void arm(struct gw_exchange *exchange, struct gw_timer *timer, void (*on_due)(struct gw_timer *), uint64_t ms)
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
static void begin_tried(struct gw_exchange *exchange)
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

static void start(struct gw_try *try, uint32_t target_index, bool allow_reuse)
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
        begin_tried(exchange);
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
        arm(exchange, &try->timer, on_try_due, exchange->policy->per_try_ms);
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

void gw_exchange_leave(struct gw_exchange *exchange)
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

static bool may_retry(struct gw_exchange *exchange)
{
    const struct routing_target_group *group = exchange->request->group;

    if (group->load == NULL || exchange->retrying != NULL || group->conf->circuit_breaker == NULL ||
        group->conf->circuit_breaker->retries == 0)
        return true;
    if (!routing_limit_enter_retry(group->load, group->conf)) {
        gw_count(&exchange->request->worker->stats.circuit_refused[3], 1);
        return false;
    }
    exchange->retrying = group->load;
    return true;
}

/* ---- another try ---- */

/* is_whole: nothing of a response is passed on before all of it is there. */
static uint32_t failure_of(enum gw_client_error error, bool is_whole)
{
    switch (error) {
    case GW_CLIENT_CONNECT_FAILED:
    case GW_CLIENT_CONNECT_TIMEOUT:
    case GW_CLIENT_TLS_TIMEOUT:
    case GW_CLIENT_TLS_CERTIFICATE:
    case GW_CLIENT_TLS_FAILED:
    case GW_CLIENT_NOT_HTTP2:
        return ROUTING_FAILURE_CONNECT;
    case GW_CLIENT_CLOSED_EARLY:
    case GW_CLIENT_REFUSED:
        return ROUTING_FAILURE_RESET;
    case GW_CLIENT_FIRST_BYTE_TIMEOUT:
        return ROUTING_FAILURE_TIMEOUT;
    case GW_CLIENT_BAD_HEAD:
    case GW_CLIENT_HEAD_TOO_LARGE:
        return ROUTING_FAILURE_BAD_RESPONSE;
    case GW_CLIENT_TRUNCATED:
    case GW_CLIENT_RESET:
        return is_whole ? ROUTING_FAILURE_RESET : 0;
    case GW_CLIENT_BAD_CHUNK:
        return is_whole ? ROUTING_FAILURE_BAD_RESPONSE : 0;
    case GW_CLIENT_IDLE_TIMEOUT:
        return is_whole ? ROUTING_FAILURE_TIMEOUT : 0;
    default:
        return 0;
    }
}

/* The body that was kept goes with the next head; the piece at hand is part of it. */
static void send_kept_again(struct gw_exchange *exchange)
{
    exchange->is_writing = false;
    if (exchange->kept_size == 0)
        return;
    exchange->out.body = h2o_iovec_init(exchange->kept, exchange->kept_size);
    exchange->out.body_is_whole = exchange->piece_is_last;
}

/* The other way round: what is on its way again is no longer the piece's to be written. */
static void let_go_of_piece(struct gw_exchange *exchange)
{
    size_t len = exchange->piece.len;

    if (exchange->kept_size == 0)
        return;
    exchange->out.body = h2o_iovec_init(NULL, 0);
    exchange->piece = h2o_iovec_init(NULL, 0);
    if (len != 0 && !exchange->piece_is_last)
        gw_stream_consumed(exchange->request->stream, len);
}

static void start_again(struct gw_exchange *exchange, uint32_t target, bool allow_reuse)
{
    send_kept_again(exchange);
    start(exchange->now, target, allow_reuse);
    let_go_of_piece(exchange);
}

/* Not asked yet, else any that may be asked. Then request->group is what the index is of; else it stays what it was. */
static uint32_t pick_another(struct gw_exchange *exchange, bool must_differ)
{
    struct gw_request *request = exchange->request;
    const struct routing_target_group *before = request->group;

    gw_view_enter(request);
    if (__builtin_expect(exchange->tried_of != request->group, 0))
        begin_tried(exchange);
    uint32_t target = gw_choose_target(request, exchange->tried, NULL);
    if (target >= ROUTING_BUSY_TARGETS && !must_differ)
        target = gw_choose_target(request, 0, NULL);
    if (target >= ROUTING_BUSY_TARGETS)
        request->group = before;
    return target;
}

/* The one that was picked is not asked (yet): somebody else may have its place, and the request speaks of the target
 * before. */
static void unpick(struct gw_request *request, const struct routing_target_group *before)
{
    gw_choose_forget(request);
    request->group = before;
}

/* Nobody has a place for the next try just now: it waits in the queue. False: it may not, and fails with the reason. */
static bool wait_for_place(struct gw_exchange *exchange, enum gw_reason *reason)
{
    gw_choose_forget(exchange->request);
    return (*reason = gw_target_queue_join(exchange->request)) == GW_REASON_NONE;
}

void gw_exchange_resume(struct gw_exchange *exchange) { start_again(exchange, exchange->request->target, true); }

static void on_pause_over(struct gw_timer *timer)
{
    struct gw_exchange *exchange = H2O_STRUCT_FROM_MEMBER(struct gw_exchange, pause, timer);
    uint32_t target = pick_another(exchange, false);
    enum gw_reason reason;

    if (target < ROUTING_BUSY_TARGETS)
        start_again(exchange, target, true);
    else if (target == ROUTING_NO_TARGET)
        gw_exchange_fail(exchange, GW_REASON_NO_TARGETS, NULL);
    else if (!wait_for_place(exchange, &reason))
        gw_exchange_fail(exchange, reason, NULL);
}

static void count_retry(const struct gw_request *request)
{
    gw_count(&request->route->stats->slots[request->worker->thread.index].retries, 1);
}

static bool has_body_for_another(const struct gw_exchange *exchange)
{
    return !exchange->body_is_lost && !exchange->request->stream->response_started && !exchange->head_is_ready;
}

/* A connection of the pool that had died: no fault of the target, which is asked again on a new one. is_untouched: it
 * has said itself that it did nothing with the request, whatever the method (RFC 9113 8.7). */
static bool retry_stale(struct gw_try *try, bool is_untouched)
{
    struct gw_exchange *exchange = try->exchange;
    struct gw_request *request = exchange->request;

    if ((!routing_is_idempotent(request->facts.method) && !is_untouched) || request->attempts >= GW_STALE_TRIES)
        return false;
    count_retry(request);
    gw_exchange_end_try(try);
    --exchange->tries_in_group;
    request->group = try->group;
    start_again(exchange, try->target, false);
    return true;
}

static bool retry_by_policy(struct gw_try *try, const struct gw_refusal *refusal)
{
    struct gw_exchange *exchange = try->exchange;
    struct gw_request *request = exchange->request;
    const struct routing_retry_conf *policy = exchange->policy;
    const struct routing_target_group *before = request->group;
    bool is_free = refusal->failure == ROUTING_FAILURE_CONNECT;
    uint64_t pause_ms;
    uint32_t target;

    if ((policy->when.failures & refusal->failure) == 0 && !routing_when_status(&policy->when, refusal->status))
        return false;
    if (exchange->tries_in_group > policy->attempts)
        return false;
    if (!is_free && !refusal->is_untouched && !policy->non_idempotent && !routing_is_idempotent(request->facts.method))
        return false;
    /* without a policy of its own the target that cannot be reached is not asked again */
    if ((target = pick_another(exchange, policy->at == NULL)) >= ROUTING_BUSY_TARGETS)
        return false;
    if (!may_retry(exchange) ||
        (!is_free && !routing_budget_take(budget_of(request), gw_thread_now(&request->worker->thread)))) {
        gw_count(&request->worker->stats.retries_over_budget, 1);
        unpick(request, before);
        return false;
    }
    count_retry(request);
    gw_exchange_end_try(try);
    pause_ms = policy->backoff_ms == 0
                   ? 0
                   : routing_backoff_ms(policy, exchange->tries_in_group, gw_thread_random(&request->worker->thread));
    if (pause_ms == 0) {
        start_again(exchange, target, true);
    } else {
        unpick(request, before);
        arm(exchange, &exchange->pause, on_pause_over, pause_ms);
    }
    return true;
}

/* spec/cloudfront.md 1.5: after the last try of the primary, once. */
static bool fail_over(struct gw_try *try, const struct gw_refusal *refusal)
{
    struct gw_exchange *exchange = try->exchange;
    struct gw_request *request = exchange->request;
    const struct gw_route *route = request->route;
    const struct routing_when *when;
    const struct routing_target_group *primary = request->group;
    uint32_t target;

    if (route->fallback == NULL || primary->index == route->fallback->index ||
        !routing_may_fail_over(request->facts.method))
        return false;
    when = &route->conf->forward->when;
    if ((when->failures & refusal->failure) == 0 && !routing_when_status(when, refusal->status))
        return false;
    gw_choose_forget(request);
    request->group = route->fallback;
    if ((target = gw_choose_target(request, 0, NULL)) >= ROUTING_BUSY_TARGETS) {
        request->group = primary;
        return false;
    }
    enum gw_reason reason;
    if ((route->fallback->conf->lambda != NULL && !gw_lambda_prepare(exchange, &reason)) ||
        (exchange->entered[1] == NULL && !gw_exchange_enter(exchange, &reason))) {
        unpick(request, primary);
        return false;
    }
    gw_count(&request->worker->stats.failovers, 1);
    gw_exchange_end_try(try);
    exchange->tried = 0;
    exchange->tried_of = request->group;
    exchange->tries_in_group = 0;
    exchange->policy = gw_exchange_policy(request);
    start_again(exchange, target, true);
    return true;
}

static struct gw_try *rival_of(struct gw_try *try)
{
    struct gw_try *other = &try->exchange->tries[try == try->exchange->tries];
    return other->client != NULL ? other : NULL;
}

/* A hedge is there already: it goes on alone. */
static void leave_to_rival(struct gw_try *try, struct gw_try *rival)
{
    gw_exchange_end_try(try);
    try->exchange->now = rival;
    try->exchange->request->group = rival->group;
    try->exchange->request->target = rival->target;
}

/* Limits of connections allow none: as if the target had been found full when it was chosen. */
static bool has_no_room(struct gw_try *try)
{
    struct gw_exchange *exchange = try->exchange;
    enum gw_reason reason;
    uint32_t target;

    gw_exchange_end_try(try);
    --exchange->request->attempts;
    --exchange->tries_in_group;
    target = gw_choose_target(exchange->request, 0, NULL);
    if (target < ROUTING_BUSY_TARGETS)
        start_again(exchange, target, true);
    else if (target == ROUTING_NO_TARGET)
        gw_exchange_fail(exchange, GW_REASON_NO_TARGETS, NULL);
    else if (!wait_for_place(exchange, &reason))
        gw_exchange_fail(exchange, reason, NULL);
    return true;
}

bool gw_exchange_try_failed(struct gw_try *try, enum gw_client_error error, bool is_safe)
{
    struct gw_exchange *exchange = try->exchange;
    uint32_t failure = failure_of(error, try->group->conf->lambda != NULL);
    struct gw_try *rival = rival_of(try);
    bool is_stale = (error == GW_CLIENT_CLOSED_EARLY && is_safe) || error == GW_CLIENT_REFUSED;

    if (__builtin_expect(error == GW_CLIENT_NO_ROOM, 0) && rival == NULL)
        return has_no_room(try);
    if (!is_stale && error != GW_CLIENT_NO_ROOM) {
        gw_count(&try->slot->failures, 1);
        if (__builtin_expect(try->group->notes_outcomes, 0))
            gw_outliers_note(exchange->request->worker, try->group, try->target, 0);
    }
    if (rival != NULL && !exchange->head_is_ready && !exchange->request->stream->response_started) {
        leave_to_rival(try, rival);
        return true;
    }
    if (failure == 0 || !has_body_for_another(exchange))
        return false;
    gw_timer_disarm(&exchange->hedge);
    struct gw_refusal refusal = {.failure = failure};
    return (is_stale && retry_stale(try, error == GW_CLIENT_REFUSED || gw_client_failure(try->client)->is_untouched)) ||
           retry_by_policy(try, &refusal) || fail_over(try, &refusal);
}

static void count_response(struct gw_try *try, int status)
{
    const struct gw_request *request = try->exchange->request;
    uint64_t elapsed_us = request->upstream_first_byte_us - request->upstream_started_us;

    gw_count(&try->slot->by_class[status >= 100 && status < 600 ? status / 100 : 0], 1);
    gw_count(&try->slot->buckets[gw_histogram_bucket(elapsed_us)], 1);
    gw_count(&try->slot->seconds_sum_us, elapsed_us);
}

bool gw_exchange_try_answered(struct gw_try *try, int status)
{
    struct gw_exchange *exchange = try->exchange;
    struct gw_try *rival = rival_of(try);

    gw_timer_disarm(&try->timer);
    count_response(try, status);
    GW_NOTE(exchange, note_head(try, status));
    if (__builtin_expect(try->group->notes_outcomes, 0))
        gw_outliers_note(exchange->request->worker, try->group, try->target, status);
    if (__builtin_expect(try->group->notes_latency, 0))
        routing_target_note_latency(
            try->group->targets[try->target].load, exchange->request->upstream_first_byte_us - try->started_us,
            gw_thread_now(&exchange->request->worker->thread), try->group->conf->algorithm.decay_ms);
    if (__builtin_expect(status < 400, 1))
        return false;
    if (rival != NULL && routing_when_status(&exchange->policy->when, status)) {
        leave_to_rival(try, rival);
        return true;
    }
    if (rival != NULL || !has_body_for_another(exchange))
        return false;
    gw_timer_disarm(&exchange->hedge);
    struct gw_refusal refusal = {.status = status};
    return retry_by_policy(try, &refusal) || fail_over(try, &refusal);
}

bool gw_exchange_try_refused(struct gw_try *try, const struct gw_refusal *refusal)
{
    struct gw_exchange *exchange = try->exchange;
    struct gw_try *rival = rival_of(try);

    gw_timer_disarm(&try->timer);
    if (refusal->target_status != 0)
        count_response(try, refusal->target_status);
    else
        gw_count(&try->slot->failures, 1);
    GW_NOTE(exchange, note_head(try, refusal->target_status));
    if (__builtin_expect(try->group->notes_outcomes, 0))
        gw_outliers_note(exchange->request->worker, try->group, try->target, refusal->target_status);
    if (rival != NULL) {
        leave_to_rival(try, rival);
        return true;
    }
    gw_timer_disarm(&exchange->hedge);
    return retry_by_policy(try, refusal) || fail_over(try, refusal);
}

void gw_exchange_win(struct gw_try *try)
{
    struct gw_exchange *exchange = try->exchange;
    struct gw_try *rival = rival_of(try);

    gw_timer_disarm(&exchange->hedge);
    if (rival != NULL)
        gw_exchange_end_try(rival);
    exchange->now = try;
    exchange->request->group = try->group;
    exchange->request->target = try->target;
}

/* ---- hedges ---- */

static void on_hedge_due(struct gw_timer *timer)
{
    struct gw_exchange *exchange = H2O_STRUCT_FROM_MEMBER(struct gw_exchange, hedge, timer);
    struct gw_request *request = exchange->request;
    struct gw_try *second = &exchange->tries[exchange->now == exchange->tries];
    const struct routing_target_group *first_group = request->group;
    uint32_t first_target = request->target, target;

    if (exchange->now->client == NULL || second->client != NULL || !has_body_for_another(exchange))
        return;
    target = pick_another(exchange, true);
    if (target >= ROUTING_BUSY_TARGETS)
        return;
    if (!routing_budget_take(budget_of(request), gw_thread_now(&request->worker->thread))) {
        unpick(request, first_group);
        return;
    }
    gw_count(&request->worker->stats.hedges, 1);
    second->exchange = exchange;
    start(second, target, true);
    request->group = first_group;
    request->target = first_target;
}

static void begin_policies(struct gw_exchange *exchange)
{
    struct gw_request *request = exchange->request;
    const struct routing_hedge_conf *hedge = request->route->conf->hedge;

    if (exchange->policy->at != NULL)
        routing_budget_pay(budget_of(request), exchange->policy->budget);
    if (hedge == NULL || exchange->out.has_body || exchange->out.upgrade.base != NULL ||
        !routing_is_idempotent(request->facts.method))
        return;
    if (exchange->policy->at == NULL)
        routing_budget_pay(budget_of(request), 20);
    arm(exchange, &exchange->hedge, on_hedge_due, hedge->after_ms);
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
    arm(exchange, &exchange->total, on_cut, 0);
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
        begin_policies(exchange);
    if (__builtin_expect((total = total_ms(request)) != 0, 0))
        arm(exchange, &exchange->total, on_total_due, total);
    if (__builtin_expect(request->group->conf->protocol == ROUTING_PROTOCOL_GRPC, 0)) {
        uint64_t deadline = gw_grpc_timeout_ms(request->facts.headers, request->facts.num_headers);
        if (deadline != 0 && (total == 0 || deadline < total))
            arm(exchange, &exchange->total, on_deadline, deadline);
    }
}

void gw_exchange_first_try(struct gw_exchange *exchange) { start(exchange->now, exchange->request->target, true); }
