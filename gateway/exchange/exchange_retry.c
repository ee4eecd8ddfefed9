/* What becomes of an exchange when a target has failed or takes its time: the same target again, another one, the
 * fallback group, a hedge. */
#include "gateway/answer/grpc.h"
#include "gateway/discovery/view.h"
#include "gateway/exchange/choose.h"
#include "gateway/exchange/exchange_state.h"
#include "gateway/exchange/outliers.h"
#include "gateway/exchange/target_queue.h"
#include "gateway/lambda/lambda.h"

static uint32_t slot_index(const struct gw_request *request)
{
    unsigned worker = request->worker != NULL ? request->worker->thread.index : request->snapshot->num_workers;
    return worker * request->snapshot->num_groups + request->group->index;
}
static struct routing_budget *budget_of(const struct gw_request *request)
{
    return &request->snapshot->budgets[slot_index(request)];
}

/* Percent. Hedges without a policy for retries have what such a policy has by default. */
static double budget_percent(const struct gw_exchange *exchange)
{
    return exchange->policy->at != NULL ? exchange->policy->budget : 20;
}

static void pay_budget(struct gw_exchange *exchange)
{
    struct gw_request *request = exchange->request;
    routing_budget_pay(budget_of(request), budget_percent(exchange), gw_thread_now(&request->worker->thread));
}

static bool take_of_budget(struct gw_exchange *exchange)
{
    struct gw_request *request = exchange->request;
    return routing_budget_take(budget_of(request), budget_percent(exchange), gw_thread_now(&request->worker->thread));
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
    gw_exchange_start_try(exchange->now, target, allow_reuse);
    let_go_of_piece(exchange);
}

/* Not asked yet, else any that may be asked. Then request->group is what the index is of; else it stays what it was. */
static uint32_t pick_another(struct gw_exchange *exchange, bool must_differ)
{
    struct gw_request *request = exchange->request;
    const struct routing_target_group *before = request->group;

    gw_view_enter(request);
    if (__builtin_expect(exchange->tried_of != request->group, 0))
        gw_exchange_begin_tried(exchange);
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
    if (!may_retry(exchange) || (!is_free && !take_of_budget(exchange))) {
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
        gw_exchange_arm(exchange, &exchange->pause, on_pause_over, pause_ms);
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
    GW_NOTE(exchange, gw_exchange_note_head(try, status));
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
    GW_NOTE(exchange, gw_exchange_note_head(try, refusal->target_status));
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
    if (!take_of_budget(exchange)) {
        unpick(request, first_group);
        return;
    }
    gw_count(&request->worker->stats.hedges, 1);
    second->exchange = exchange;
    gw_exchange_start_try(second, target, true);
    request->group = first_group;
    request->target = first_target;
}

void gw_exchange_begin_policies(struct gw_exchange *exchange)
{
    struct gw_request *request = exchange->request;
    const struct routing_hedge_conf *hedge = request->route->conf->hedge;

    if (exchange->policy->at != NULL)
        pay_budget(exchange);
    if (hedge == NULL || exchange->out.has_body || exchange->out.upgrade.base != NULL ||
        !routing_is_idempotent(request->facts.method))
        return;
    if (exchange->policy->at == NULL)
        pay_budget(exchange);
    gw_exchange_arm(exchange, &exchange->hedge, on_hedge_due, hedge->after_ms);
}
