#include "gateway/lambda/lambda.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/answer/answer.h"
#include "gateway/lambda/lambda_call.h"
#include "gateway/lambda/lambda_event.h"

struct gw_lambda {
    h2o_iovec_t event; /* owned */
    size_t answer;     /* bytes of the response's body */
    uint32_t group;    /* index of the one that it was made for */
};

/* What a try has under way; used again by the next one in its place. */
struct gw_invocation {
    struct gw_lambda_call call;
    struct gw_lambda_reply reply;
};

/* ---- memory: limits.lambda_buffers ---- */

bool gw_lambda_hold(const struct gw_request *request, size_t bytes)
{
    gw_counter *held = &request->worker->stats.lambda_buffer_bytes;

    gw_count(held, bytes);
    if (gw_counter_read(held) <= request->snapshot->config->limits.lambda_buffers / request->snapshot->num_workers)
        return true;
    gw_count(&request->worker->stats.lambda_buffers_refused, 1);
    return false;
}

void gw_lambda_let_go(const struct gw_request *request, size_t bytes)
{
    gw_count(&request->worker->stats.lambda_buffer_bytes, -(uint64_t)bytes);
}

static void drop_event(struct gw_exchange *exchange)
{
    gw_lambda_let_go(exchange->request, exchange->lambda->event.len);
    free(exchange->lambda->event.base);
    exchange->lambda->event = h2o_iovec_init(NULL, 0);
}

/* ---- reasons ---- */

enum gw_reason gw_lambda_reason_of_client(enum gw_client_error error)
{
    enum gw_reason reason = error == GW_CLIENT_CONNECT_FAILED    ? GW_REASON_LAMBDA_CONNECTION_ERROR
                            : error == GW_CLIENT_CONNECT_TIMEOUT ? GW_REASON_LAMBDA_CONNECTION_TIMEOUT
                                                                 : gw_reason_of_client(error);
    /* broken off within its response, of which the client has seen nothing */
    return gw_reason_info(reason)->status == 0 ? GW_REASON_LAMBDA_CONNECTION_ERROR : reason;
}

const char *gw_lambda_error_reason(enum gw_reason reason)
{
    switch (reason) {
    case GW_REASON_LAMBDA_REQUEST_TOO_LARGE:
        return "LambdaRequestTooLarge";
    case GW_REASON_LAMBDA_BAD_REQUEST:
        return "LambdaBadRequest";
    case GW_REASON_LAMBDA_WEBSOCKET:
        return "LambdaWebsocketNotSupported";
    case GW_REASON_LAMBDA_ACCESS_DENIED:
        return "LambdaAccessDenied";
    case GW_REASON_LAMBDA_NOT_FOUND:
        return "LambdaResourceNotFound";
    case GW_REASON_LAMBDA_THROTTLED:
        return "LambdaThrottling";
    case GW_REASON_LAMBDA_SERVICE_ERROR:
        return "LambdaServiceException";
    case GW_REASON_LAMBDA_FUNCTION_ERROR:
        return "LambdaUnhandled";
    case GW_REASON_LAMBDA_INVALID_RESPONSE:
        return "LambdaInvalidResponse";
    case GW_REASON_LAMBDA_RESPONSE_TOO_LARGE:
        return "LambdaResponseTooLarge";
    case GW_REASON_LAMBDA_CONNECTION_ERROR:
        return "LambdaConnectionError";
    case GW_REASON_LAMBDA_CONNECTION_TIMEOUT:
        return "LambdaConnectionTimeout";
    default:
        return NULL;
    }
}

/* ---- the answer ---- */

/* It cannot be passed on: another try, or the end. */
static void refuse(struct gw_try *try, enum gw_reason reason, uint32_t failure, int target_status, const char *detail)
{
    struct gw_exchange *exchange = try->exchange;
    struct gw_refusal refusal = {.failure = failure,
                                 .status = gw_reason_info(reason)->status,
                                 .target_status = target_status,
                                 .is_untouched = failure == ROUTING_FAILURE_THROTTLED};

    GW_NOTE(exchange, gw_exchange_note_end(try, GW_CLIENT_OK));
    if (!gw_exchange_try_refused(try, &refusal))
        gw_exchange_fail(exchange, reason, detail);
}

static enum gw_reason reason_of_status(int status)
{
    switch (status) {
    case 403:
        return GW_REASON_LAMBDA_ACCESS_DENIED;
    case 404:
        return GW_REASON_LAMBDA_NOT_FOUND;
    case 429:
        return GW_REASON_LAMBDA_THROTTLED;
    default:
        return status >= 500 ? GW_REASON_LAMBDA_SERVICE_ERROR : GW_REASON_LAMBDA_BAD_REQUEST;
    }
}

static void pass_on(struct gw_try *try, const struct gw_lambda_response *response)
{
    struct gw_exchange *exchange = try->exchange;
    struct gw_whole_response whole = {response->status, response->reason, response->fields, response->body};

    if (gw_exchange_try_answered(try, response->status))
        return;
    exchange->lambda->answer = response->body.len; /* until the client has taken it */
    if (!gw_lambda_hold(exchange->request, response->body.len)) {
        refuse(try, GW_REASON_LAMBDA_MEMORY, 0, 0, NULL);
        return;
    }
    gw_exchange_win(try);
    GW_NOTE(exchange, gw_exchange_note_end(try, GW_CLIENT_OK));
    gw_exchange_end_try(try);
    gw_exchange_answer(exchange, &whole);
}

/* The function is to blame for what it throws, as a server is for its 500; the endpoint for what it says itself. */
static void finish(struct gw_try *try)
{
    const struct gw_lambda_reply *reply = &try->invocation->reply;
    struct gw_lambda_response response;
    const char *why;

    if (reply->status != 200)
        refuse(try, reason_of_status(reply->status),
               reply->status == 429   ? ROUTING_FAILURE_THROTTLED
               : reply->status >= 500 ? ROUTING_FAILURE_SERVICE
                                      : 0,
               reply->status, "the Invoke call was refused");
    else if (reply->is_function_error)
        refuse(try, GW_REASON_LAMBDA_FUNCTION_ERROR, ROUTING_FAILURE_FUNCTION, 500, "X-Amz-Function-Error");
    else if (!gw_lambda_response_parse(try->exchange->request->pool, h2o_iovec_init(reply->base, reply->size),
                                       try->group->conf->lambda->multi_value_headers, &response, &why))
        refuse(try, GW_REASON_LAMBDA_INVALID_RESPONSE, ROUTING_FAILURE_BAD_RESPONSE, 0, why);
    else
        pass_on(try, &response);
}

/* ---- what the endpoint says ---- */

static void on_head(void *data, const struct gw_response_head *head, bool body_follows)
{
    struct gw_try *try = data;

    try->exchange->request->upstream_first_byte_us = gw_now_us();
    gw_lambda_reply_begin(&try->invocation->reply, head);
    if (!body_follows)
        finish(try);
}

static void on_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct gw_try *try = data;
    struct gw_lambda_reply *reply = &try->invocation->reply;
    size_t before = reply->room;
    bool fits = gw_lambda_reply_add(reply, bytes);

    if (!fits)
        refuse(try, GW_REASON_LAMBDA_RESPONSE_TOO_LARGE, 0, 0, NULL);
    else if (reply->room != before && !gw_lambda_hold(try->exchange->request, reply->room - before))
        refuse(try, GW_REASON_LAMBDA_MEMORY, 0, 0, NULL);
    else if (is_last)
        finish(try);
    else if (bytes.len != 0)
        gw_client_consumed(try->client, bytes.len);
}

static void on_error(void *data, enum gw_client_error error, bool retry_is_safe)
{
    gw_exchange_callbacks.on_error(data, error, retry_is_safe);
}

static const struct gw_client_callbacks callbacks = {.on_head = on_head, .on_body = on_body, .on_error = on_error};

/* ---- the event ---- */

/* The whole of it, if it is at hand. */
static bool find_body(const struct gw_exchange *exchange, h2o_iovec_t *body)
{
    *body = exchange->kept != NULL ? h2o_iovec_init(exchange->kept, exchange->kept_size) : exchange->piece;
    return !exchange->out.has_body || (exchange->piece_is_last && body->len == exchange->body_bytes);
}

static bool make_event(struct gw_exchange *exchange, enum gw_reason *reason)
{
    struct gw_request *request = exchange->request;
    struct gw_lambda *lambda = exchange->lambda;
    const struct routing_lambda_conf *conf = request->group->conf->lambda;
    h2o_iovec_t url = exchange->out.target, body;
    const char *mark = memchr(url.base, '?', url.len);
    size_t path_len = mark != NULL ? (size_t)(mark - url.base) : url.len;

    *reason = GW_REASON_LAMBDA_BAD_REQUEST;
    if (!find_body(exchange, &body) || body.len > GW_LAMBDA_MAX_BYTES)
        return false;
    struct gw_lambda_request event = {
        .method = request->facts.method,
        .path = h2o_iovec_init(url.base, path_len),
        .query = mark != NULL ? h2o_iovec_init(mark + 1, url.len - path_len - 1) : h2o_iovec_init(NULL, 0),
        .host = exchange->out.host,
        .fields = exchange->out.fields,
        .num_fields = exchange->out.num_fields,
        .body = body,
        .has_body = exchange->out.has_body,
        .is_multi_value = conf->multi_value_headers,
        .target_group_arn = gw_lambda_target_group_arn(request->pool, conf, request->group->name),
    };
    bool is_first = lambda->event.base == NULL;
    drop_event(exchange);
    lambda->event = gw_lambda_event(&event);
    lambda->group = request->group->index;
    if (lambda->event.base == NULL || gw_lambda_hold(request, lambda->event.len) || !is_first)
        return lambda->event.base != NULL;
    drop_event(exchange);
    *reason = GW_REASON_LAMBDA_MEMORY;
    return false;
}

bool gw_lambda_prepare(struct gw_exchange *exchange, enum gw_reason *reason)
{
    *reason = GW_REASON_LAMBDA_WEBSOCKET;
    if (exchange->out.upgrade.base != NULL)
        return false;
    if (exchange->lambda == NULL) {
        exchange->lambda = h2o_mem_alloc_pool(exchange->request->pool, sizeof(*exchange->lambda));
        *exchange->lambda = (struct gw_lambda){.answer = 0};
    }
    return (exchange->lambda->event.base != NULL && exchange->lambda->group == exchange->request->group->index) ||
           make_event(exchange, reason);
}

/* ---- the body, which an event holds as a whole ---- */

/* Unless something else than this event may be made of it. */
static void drop_body(struct gw_exchange *exchange)
{
    if (exchange->request->route->fallback != NULL || exchange->request->span != NULL)
        return;
    gw_exchange_forget_body(exchange);
}

static void proceed(struct gw_exchange *exchange)
{
    enum gw_reason reason;

    if (!gw_lambda_prepare(exchange, &reason)) {
        gw_exchange_fail(exchange, reason,
                         reason == GW_REASON_LAMBDA_BAD_REQUEST ? "a header or the body is not UTF-8" : NULL);
        return;
    }
    drop_body(exchange);
    gw_exchange_first_try(exchange);
}

void gw_lambda_gather(struct gw_exchange *exchange)
{
    h2o_iovec_t piece = exchange->piece;

    if (exchange->request->stream->response_started)
        return;
    if (exchange->body_bytes > GW_LAMBDA_MAX_BYTES) {
        gw_exchange_fail(exchange, GW_REASON_LAMBDA_REQUEST_TOO_LARGE, NULL);
        return;
    }
    if (!gw_exchange_gather(exchange, piece)) {
        gw_exchange_fail(exchange, GW_REASON_LAMBDA_MEMORY, NULL);
        return;
    }
    exchange->piece = h2o_iovec_init(NULL, 0);
    if (!exchange->piece_is_last) {
        gw_stream_consumed(exchange->request->stream, piece.len);
        return;
    }
    exchange->is_gathering = false;
    proceed(exchange);
}

/* ---- life ---- */

void gw_lambda_begin(struct gw_exchange *exchange)
{

    if (exchange->out.upgrade.base != NULL) {
        gw_exchange_fail(exchange, GW_REASON_LAMBDA_WEBSOCKET, NULL);
    } else if (!exchange->out.has_body) {
        proceed(exchange);
    } else if (exchange->out.content_length != UINT64_MAX && exchange->out.content_length > GW_LAMBDA_MAX_BYTES) {
        gw_exchange_fail(exchange, GW_REASON_LAMBDA_REQUEST_TOO_LARGE, NULL);
    } else {
        exchange->is_gathering = true;
        gw_exchange_take_body(exchange);
    }
}

struct gw_client *gw_lambda_invoke(struct gw_try *try, const struct gw_pool_limits *limits,
                                   const struct gw_client_timeouts *timeouts, bool allow_reuse)
{
    struct gw_exchange *exchange = try->exchange;
    struct gw_request *request = exchange->request;
    const struct routing_target *target = &try->group->targets[try->target];
    h2o_iovec_t host = target->address.is_unix ? h2o_iovec_init(H2O_STRLIT("localhost")) : target->name;
    enum gw_reason reason;

    if (request->span != NULL) /* each try is a span of its own, which the event names */
        make_event(exchange, &reason);
    if (try->invocation == NULL)
        try->invocation = h2o_mem_alloc_pool(request->pool, sizeof(*try->invocation));
    memset(&try->invocation->reply, 0, sizeof(try->invocation->reply));
    gw_lambda_call_fill(&try->invocation->call, request->pool, try->group->conf->lambda, host, target->transport,
                        exchange->lambda->event);
    try->invocation->call.out.is_reserved = exchange->out.is_reserved;
    try->invocation->call.out.preface = exchange->out.preface;
    return gw_client_start(request->worker->pool, target->endpoint, limits, timeouts, &try->invocation->call.out,
                           allow_reuse, &callbacks, try);
}

void gw_lambda_end_try(struct gw_try *try)
{
    gw_lambda_let_go(try->exchange->request, try->invocation->reply.room);
    gw_lambda_reply_dispose(&try->invocation->reply);
}

void gw_lambda_release(struct gw_exchange *exchange)
{
    drop_event(exchange);
    gw_lambda_let_go(exchange->request, exchange->lambda->answer);
    exchange->lambda->answer = 0;
}
