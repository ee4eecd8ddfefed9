#include "gateway/lambda/lambda.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "gateway/answer/answer.h"
#include "gateway/exchange/choose.h"
#include "gateway/exchange/forwarded.h"
#include "gateway/http/response.h"
#include "gateway/lambda/lambda_event.h"
#include "gateway/process.h"
#include "gateway/lambda/sigv4.h"

/* A body that grows up to its limit. Owned. */
struct gathered {
    char *base;
    size_t size, room;
};

struct gw_lambda {
    struct gw_request *request;
    const struct routing_lambda_conf *conf;
    struct gathered body, reply;
    h2o_iovec_t event; /* owned */
    struct gw_client *client;
    struct gw_client_request out;
    h2o_header_t fields[6]; /* of out */
    h2o_iovec_t names[4];
    struct gw_target_slot *slot;
    struct routing_target_load *load; /* NULL: the group does not count */
    const struct routing_target_group *group;
    bool is_again;          /* the second try, after a connection of the pool that had died */
    bool is_function_error; /* X-Amz-Function-Error */
    int status;             /* of the Invoke call */
};

static bool gather(struct gathered *g, h2o_iovec_t bytes)
{
    if (g->size + bytes.len > GW_LAMBDA_MAX_BYTES)
        return false;
    if (g->size + bytes.len > g->room) {
        g->room = (g->size + bytes.len) * 2;
        g->base = h2o_mem_realloc(g->base, g->room);
    }
    if (bytes.len != 0)
        memcpy(g->base + g->size, bytes.base, bytes.len);
    g->size += bytes.len;
    return true;
}

static void end_try(struct gw_lambda *lambda)
{
    if (lambda->client == NULL)
        return;
    gw_client_release(lambda->client);
    lambda->client = NULL;
    gw_count(&lambda->slot->in_flight, (uint64_t)-1);
    gw_choose_leave(lambda->request->worker, lambda->group, lambda->load);
}

static void fail(struct gw_lambda *lambda, enum gw_reason reason, const char *detail)
{
    struct gw_request *request = lambda->request;

    if (lambda->slot != NULL)
        gw_count(&lambda->slot->failures, 1);
    end_try(lambda);
    request->error = detail;
    gw_answer_error(request, reason, 0);
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

static void send_response(struct gw_lambda *lambda, struct gw_lambda_response *response)
{
    static h2o_generator_t generator; /* everything is sent at once */
    struct gw_request *request = lambda->request;
    h2o_req_t *req = &request->stream->req;

    req->res.status = request->status = response->status;
    req->res.reason = response->reason != NULL ? response->reason : gw_reason_phrase(response->status);
    req->res.headers = response->fields;
    gw_answer_add_server(request);
    if (request->route->response_headers != NULL)
        routing_header_rules_apply(request->route->response_headers, &req->pool, &req->res.headers);
    if (response->status == 204 || response->status == 304)
        response->body.len = 0;
    req->res.content_length = response->status == 204 || response->status == 304 ? SIZE_MAX : response->body.len;
    h2o_start_response(req, &generator);
    h2o_send(req, &response->body, response->body.len != 0, H2O_SEND_STATE_FINAL);
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

static void finish(struct gw_lambda *lambda)
{
    struct gw_request *request = lambda->request;
    struct gw_lambda_response response;
    const char *why;

    if (lambda->status != 200) {
        fail(lambda, reason_of_status(lambda->status), "the Invoke call was refused");
    } else if (lambda->is_function_error) {
        fail(lambda, GW_REASON_LAMBDA_FUNCTION_ERROR, "X-Amz-Function-Error");
    } else if (!gw_lambda_response_parse(request->pool, h2o_iovec_init(lambda->reply.base, lambda->reply.size),
                                         lambda->conf->multi_value_headers, &response, &why)) {
        fail(lambda, GW_REASON_LAMBDA_INVALID_RESPONSE, why);
    } else {
        uint64_t elapsed_us = request->upstream_first_byte_us - request->upstream_started_us;
        gw_count(&lambda->slot->by_class[response.status / 100], 1);
        gw_count(&lambda->slot->buckets[gw_histogram_bucket(elapsed_us)], 1);
        gw_count(&lambda->slot->seconds_sum_us, elapsed_us);
        end_try(lambda);
        send_response(lambda, &response);
    }
}

/* ---- what the endpoint says ---- */

static void on_head(void *data, const struct gw_response_head *head, bool body_follows)
{
    struct gw_lambda *lambda = data;

    lambda->request->upstream_first_byte_us = gw_now_us();
    lambda->status = head->status;
    for (size_t i = 0; i != head->num_fields; ++i)
        if (h2o_lcstris(head->fields[i].name->base, head->fields[i].name->len, H2O_STRLIT("x-amz-function-error")))
            lambda->is_function_error = true;
    if (!body_follows)
        finish(lambda);
}

static void on_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct gw_lambda *lambda = data;

    if (!gather(&lambda->reply, bytes))
        fail(lambda, GW_REASON_LAMBDA_RESPONSE_TOO_LARGE, NULL);
    else if (is_last)
        finish(lambda);
    else if (bytes.len != 0)
        gw_client_consumed(lambda->client, bytes.len);
}

static void invoke(struct gw_lambda *lambda);

static void on_error(void *data, enum gw_client_error error, bool retry_is_safe)
{
    struct gw_lambda *lambda = data;

    /* a connection of the pool that had died, and not a byte of the event can have been seen */
    if (retry_is_safe && gw_client_failure(lambda->client)->was_reused && !lambda->is_again) {
        end_try(lambda);
        lambda->is_again = true;
        invoke(lambda);
        return;
    }
    enum gw_reason reason = error == GW_CLIENT_CONNECT_FAILED    ? GW_REASON_LAMBDA_CONNECTION_ERROR
                            : error == GW_CLIENT_CONNECT_TIMEOUT ? GW_REASON_LAMBDA_CONNECTION_TIMEOUT
                                                                 : gw_reason_of_client(error);
    if (gw_reason_info(reason)->status == 0) /* broken off within its response, of which the client has seen nothing */
        reason = GW_REASON_LAMBDA_CONNECTION_ERROR;
    fail(lambda, reason, gw_client_failure(lambda->client)->detail);
}

static const struct gw_client_callbacks callbacks = {.on_head = on_head, .on_body = on_body, .on_error = on_error};

/* ---- the invocation ---- */

static h2o_iovec_t literal(const char *s) { return h2o_iovec_init(s, strlen(s)); }

/* An ARN has colons, which the SDKs encode. */
static h2o_iovec_t invoke_path(h2o_mem_pool_t *pool, h2o_iovec_t function)
{
    h2o_iovec_t name = h2o_iovec_init(h2o_mem_alloc_pool(pool, function.len * 3), 0);
    for (size_t i = 0; i != function.len; ++i) {
        char c = function.base[i];
        if (c == ':' || c == '$') {
            memcpy(name.base + name.len, c == ':' ? "%3A" : "%24", 3);
            name.len += 3;
        } else {
            name.base[name.len++] = c;
        }
    }
    return h2o_concat(pool, literal("/2015-03-31/functions/"), name, literal("/invocations"));
}

static h2o_iovec_t endpoint_host(const struct gw_lambda *lambda)
{
    const struct gw_request *request = lambda->request;
    const struct routing_target *target = &request->group->targets[request->target];

    if (lambda->conf->host.base != NULL)
        return lambda->conf->host;
    if (lambda->conf->sign != NULL)
        return h2o_concat(request->pool, literal("lambda."), lambda->conf->sign->region, literal(".amazonaws.com"));
    return target->address.is_unix ? literal("localhost") : target->name;
}

static void add_field(struct gw_lambda *lambda, size_t name, const char *text, h2o_iovec_t value)
{
    lambda->names[name] = literal(text);
    lambda->fields[lambda->out.num_fields++] = (h2o_header_t){&lambda->names[name], NULL, value};
}

static void sign(struct gw_lambda *lambda)
{
    const struct routing_lambda_sign_conf *conf = lambda->conf->sign;
    h2o_mem_pool_t *pool = lambda->request->pool;
    char *date = h2o_mem_alloc_pool(pool, 32), hash[GW_SHA256_HEX];
    time_t now = time(NULL);
    struct tm tm;
    size_t num = 3;

    gmtime_r(&now, &tm);
    strftime(date, 32, "%Y%m%dT%H%M%SZ", &tm);
    gw_sha256_hex(lambda->event, hash);
    h2o_iovec_t fields[5][2] = {{literal("content-type"), literal("application/json")},
                                {literal("host"), lambda->out.host},
                                {literal("x-amz-date"), literal(date)}};
    if (conf->session_token.base != NULL) {
        fields[num][0] = literal("x-amz-security-token");
        fields[num++][1] = conf->session_token;
        add_field(lambda, 2, "x-amz-security-token", conf->session_token);
    }
    struct gw_sigv4 request = {.method = lambda->out.method,
                               .path = lambda->out.target,
                               .fields = (const h2o_iovec_t(*)[2])fields,
                               .num_fields = num,
                               .body_hash = h2o_iovec_init(hash, sizeof(hash)),
                               .region = conf->region,
                               .service = literal("lambda"),
                               .access_key = conf->access_key,
                               .secret_key = conf->secret_key,
                               .time = date};
    add_field(lambda, 1, "x-amz-date", literal(date));
    lambda->fields[lambda->out.num_fields++] =
        (h2o_header_t){(h2o_iovec_t *)&H2O_TOKEN_AUTHORIZATION->buf, NULL, gw_sigv4_authorization(pool, &request)};
}

static void fill_call(struct gw_lambda *lambda)
{
    const struct gw_request *request = lambda->request;

    lambda->out = (struct gw_client_request){
        .method = literal("POST"),
        .target = invoke_path(request->pool, lambda->conf->function),
        .host = endpoint_host(lambda),
        .fields = lambda->fields,
        .content_length = lambda->event.len,
        .has_body = true,
        .body = lambda->event,
        .body_is_whole = true,
        .transport = request->group->targets[request->target].transport,
    };
    lambda->fields[lambda->out.num_fields++] =
        (h2o_header_t){(h2o_iovec_t *)&H2O_TOKEN_CONTENT_TYPE->buf, NULL, literal("application/json")};
    add_field(lambda, 0, "x-amz-invocation-type", literal("RequestResponse"));
    if (lambda->conf->sign != NULL)
        sign(lambda);
}

static void invoke(struct gw_lambda *lambda)
{
    struct gw_request *request = lambda->request;
    const struct routing_target *target = &request->group->targets[request->target];
    struct gw_client_timeouts timeouts = gw_choose_timeouts(request->group, request->route->conf->timeouts);
    struct gw_pool_limits limits = gw_choose_pool_limits(request->group);

    ++request->attempts;
    lambda->slot = &gw_endpoint_entry_of(target)->slots[request->worker->thread.index];
    gw_count(&lambda->slot->attempts, 1);
    gw_count(&lambda->slot->in_flight, 1);
    lambda->load = gw_choose_claimed(request, request->target);
    lambda->out.is_reserved = gw_choose_reserved(request, request->target);
    lambda->client = gw_client_start(request->worker->pool, target->endpoint, &limits, &timeouts, &lambda->out,
                                     !lambda->is_again, &callbacks, lambda);
}

/* ---- the event ---- */

static h2o_iovec_t target_group_arn(const struct gw_lambda *lambda)
{
    const struct routing_lambda_conf *conf = lambda->conf;

    if (conf->target_group_arn.base != NULL)
        return conf->target_group_arn;
    return h2o_concat(lambda->request->pool, literal("arn:aws:elasticloadbalancing:"),
                      conf->sign != NULL ? conf->sign->region : literal("us-east-1"),
                      literal(":000000000000:targetgroup/"), lambda->request->group->name,
                      literal("/0000000000000000"));
}

static bool rewrite(const struct gw_request *request, h2o_iovec_t *url, h2o_iovec_t *host)
{
    const struct routing_rewrite *rewrite = request->route->rewrite;
    const struct routing_facts *facts = &request->facts;

    return rewrite == NULL ||
           (routing_rewrite_apply(rewrite, request->pool, facts->path, facts->query, url) != ROUTING_REWRITE_FAILED &&
            routing_rewrite_host(rewrite, request->pool, facts->host, host) != ROUTING_REWRITE_FAILED);
}

static bool make_event(struct gw_lambda *lambda)
{
    struct gw_request *request = lambda->request;
    h2o_iovec_t url = request->stream->head.path, host = request->facts.authority;
    h2o_headers_t fields;

    if (!rewrite(request, &url, &host)) {
        gw_answer_error(request, GW_REASON_REWRITE_FAILED, 0);
        return false;
    }
    gw_forwarded_fields(request, &request->worker->thread, &fields);
    if (request->route->request_headers != NULL)
        routing_header_rules_apply(request->route->request_headers, request->pool, &fields);
    const char *mark = memchr(url.base, '?', url.len);
    size_t path_len = mark != NULL ? (size_t)(mark - url.base) : url.len;
    struct gw_lambda_request event = {
        .method = request->facts.method,
        .path = h2o_iovec_init(url.base, path_len),
        .query = mark != NULL ? h2o_iovec_init(mark + 1, url.len - path_len - 1) : h2o_iovec_init(NULL, 0),
        .host = host,
        .fields = fields.entries,
        .num_fields = fields.size,
        .body = h2o_iovec_init(lambda->body.base, lambda->body.size),
        .has_body = request->stream->has_body,
        .is_multi_value = lambda->conf->multi_value_headers,
        .target_group_arn = target_group_arn(lambda),
    };
    lambda->event = gw_lambda_event(&event);
    if (lambda->event.base != NULL)
        return true;
    fail(lambda, GW_REASON_LAMBDA_BAD_REQUEST, "a header or the body is not UTF-8");
    return false;
}

static void begin(struct gw_lambda *lambda)
{
    if (!make_event(lambda))
        return;
    free(lambda->body.base);
    lambda->body.base = NULL;
    fill_call(lambda);
    invoke(lambda);
}

static void refuse_large(struct gw_lambda *lambda)
{
    lambda->request->stream->close_after = true;
    fail(lambda, GW_REASON_LAMBDA_REQUEST_TOO_LARGE, NULL);
}

static void on_request_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct gw_lambda *lambda = data;
    struct gw_request *request = lambda->request;

    if (request->stream->response_started)
        return;
    if (lambda->body.size + bytes.len > request->route->max_body) {
        request->stream->close_after = true;
        fail(lambda, GW_REASON_BODY_TOO_LARGE, NULL);
    } else if (!gather(&lambda->body, bytes)) {
        refuse_large(lambda);
    } else if (is_last) {
        begin(lambda);
    } else {
        gw_stream_consumed(request->stream, bytes.len);
    }
}

void gw_lambda_start(struct gw_request *request)
{
    struct gw_lambda *lambda = h2o_mem_alloc_pool(request->pool, sizeof(*lambda));
    struct gw_stream *stream = request->stream;

    *lambda = (struct gw_lambda){.request = request, .conf = request->group->conf->lambda, .group = request->group};
    request->lambda = lambda;
    request->upstream_started_us = stream->started_us;
    if (request->upgrade.base != NULL) {
        fail(lambda, GW_REASON_LAMBDA_WEBSOCKET, NULL);
    } else if (stream->has_body && stream->head.content_length != UINT64_MAX &&
               stream->head.content_length > GW_LAMBDA_MAX_BYTES) {
        refuse_large(lambda);
    } else if (stream->has_body) {
        gw_stream_start_body(stream, on_request_body, lambda);
    } else {
        begin(lambda);
    }
}

void gw_lambda_release(struct gw_request *request)
{
    struct gw_lambda *lambda = request->lambda;

    if (lambda == NULL)
        return;
    request->lambda = NULL;
    end_try(lambda);
    if (request->claim != NULL || request->reserved != NULL) /* it ended before its target was asked */
        gw_choose_forget(request);
    free(lambda->body.base);
    free(lambda->reply.base);
    free(lambda->event.base);
    lambda->body.base = lambda->reply.base = lambda->event.base = NULL;
}
