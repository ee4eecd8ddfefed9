#include "gateway/exchange/client_identity.h"
#include "gateway/exchange/exchange_state.h"
#include <alloca.h>
#include <string.h>
#include "gateway/answer/answer.h"
#include "gateway/exchange/forwarded.h"
#include "gateway/http/response.h"
#include "gateway/lambda/lambda.h"
#include "gateway/exchange/mirror.h"
#include "gateway/process.h"
#include "gateway/observe/span.h"
#include "gateway/exchange/sticky.h"
#include "gateway/exchange/upgrade.h"

/* ---- the timeline, where somebody asks for one ---- */

static void begin_timeline(struct gw_request *request)
{
    int format = request->snapshot->config->access_log.format;

    if (__builtin_expect(request->span == NULL && format != GW_ACCESS_ALB && format != GW_ACCESS_TEMPLATE, 1))
        return;
    request->timeline = h2o_mem_alloc_pool(request->pool, sizeof(*request->timeline));
    memset(request->timeline, 0, sizeof(*request->timeline));
}

/* ---- failure ---- */

void gw_exchange_fail(struct gw_exchange *exchange, enum gw_reason reason, const char *detail)
{
    struct gw_request *request = exchange->request;
    struct gw_stream *stream = request->stream;

    request->error = detail;
    gw_compression_cut(request);
    gw_exchange_end_tries(exchange);
    gw_thread_undefer(&exchange->flush);
    if (stream->response_started || exchange->is_sending) {
        request->reason = reason;
        gw_stream_abort(stream);
        return;
    }
    stream->req.res.headers.size = 0; /* a head may have been taken over already */
    stream->req.res.content_length = SIZE_MAX;
    /* nobody tells bytes that were sent ahead, for a tunnel, from a request */
    if (!stream->body_complete || exchange->out.upgrade.base != NULL)
        stream->close_after = true;
    gw_answer_error(request, reason, gw_reason_info(reason)->status != 0 ? 0 : 502);
}

static void on_error(void *data, enum gw_client_error error, bool retry_is_safe)
{
    struct gw_try *try = data;

    GW_NOTE(try->exchange, gw_exchange_note_end(try, error));
    if (!gw_exchange_try_failed(try, error, retry_is_safe))
        gw_exchange_fail(try->exchange,
                         try->group->conf->lambda != NULL ? gw_lambda_reason_of_client(error)
                                                          : gw_reason_of_client(error),
                         gw_client_failure(try->client)->detail);
}

/* ---- trailers ---- */

/* What the route's rules say of a field they say of a trailer, too: one they remove or write is not passed on, so that
 * nobody gets around them behind a body. */
static bool is_ruled(const struct routing_header_rules *rules, h2o_iovec_t name)
{
    return rules != NULL && routing_header_rules_name(rules, name);
}

static void drop_ruled(struct gw_trailers *trailers, const struct routing_header_rules *rules)
{
    size_t kept = 0;

    for (size_t i = 0; i != trailers->size; ++i)
        if (!is_ruled(rules, *trailers->entries[i].name))
            trailers->entries[kept++] = trailers->entries[i];
    trailers->size = kept;
}

/* ---- request body: stream -> client ---- */

static void write_piece(struct gw_exchange *exchange)
{
    exchange->is_writing = true;
    gw_client_write(exchange->now->client, exchange->piece, exchange->piece_is_last);
}

static void on_request_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct gw_exchange *exchange = data;
    struct gw_request *request = exchange->request;

    exchange->body_bytes += bytes.len;
    exchange->piece = bytes;
    exchange->piece_is_last = is_last;
    if (__builtin_expect(request->stream->request_trailers.size != 0, 0))
        drop_ruled(&request->stream->request_trailers, request->route->request_headers);
    if (__builtin_expect(request->snapshot->identity != NULL, 0)) /* the usual names are no trailers at all */
        request->stream->request_trailers.size =
            gw_client_identity_strip(request->snapshot->identity, request->stream->request_trailers.entries,
                                     request->stream->request_trailers.size);
    if (exchange->body_bytes > request->route->max_body && !request->stream->response_started &&
        !exchange->head_is_ready) {
        gw_exchange_end_tries(exchange);
        request->stream->close_after = true;
        gw_answer_error(request, GW_REASON_BODY_TOO_LARGE, 0);
        return;
    }
    if (__builtin_expect(exchange->mirror != NULL, 0))
        exchange->mirror = gw_mirror_body(exchange->mirror, bytes, is_last);
    if (__builtin_expect(exchange->is_gathering, 0)) {
        gw_lambda_gather(exchange);
        return;
    }
    if (exchange->tunnel != NULL)
        gw_tunnel_moved(exchange->tunnel, bytes.len, true, is_last);
    else
        gw_exchange_keep(exchange, bytes);
    if (exchange->now->client != NULL && exchange->now->is_started) /* else on_started of a further attempt writes it */
        write_piece(exchange);
}

void gw_exchange_take_body(struct gw_exchange *exchange)
{
    exchange->body_began = true;
    gw_stream_start_body(exchange->request->stream, on_request_body, exchange);
}

static void on_started(void *data, bool reused)
{
    struct gw_try *try = data;
    struct gw_exchange *exchange = try->exchange;

    try->is_started = true;
    if (!exchange->out.has_body)
        return;
    if (!exchange->body_began)
        gw_exchange_take_body(exchange);
    else if (exchange->piece.len != 0 || (exchange->piece_is_last && !exchange->out.body_is_whole))
        write_piece(exchange); /* a further try sends the first piece again */
}

static void on_drained(void *data)
{
    struct gw_exchange *exchange = ((struct gw_try *)data)->exchange;

    exchange->is_writing = false;
    if (exchange->piece_is_last && exchange->tunnel == NULL)
        return; /* kept until the end, in case it must be sent again */
    if (exchange->kept == NULL)
        exchange->body_is_lost = true;
    size_t len = exchange->piece.len;
    exchange->piece = h2o_iovec_init(NULL, 0);
    gw_stream_consumed(exchange->request->stream, len);
}

/* ---- response: client -> stream ---- */

static void send_pending(struct gw_exchange *exchange)
{
    struct gw_request *request = exchange->request;
    h2o_req_t *req = &request->stream->req;
    size_t n = exchange->pending.size;

    if (exchange->head_is_ready) {
        exchange->head_is_ready = false;
        GW_NOTE(exchange, request->timeline->response_us = gw_now_us());
        gw_answer_start(request, &exchange->generator);
    }
    exchange->is_sending = true;
    exchange->in_flight = 0;
    for (size_t i = 0; i != n; ++i)
        exchange->in_flight += exchange->pending.entries[i].len;
    exchange->pending.size = 0;
    h2o_send(req, exchange->pending.entries, n, exchange->is_last ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
    if (__builtin_expect(exchange->tunnel != NULL, 0) && !exchange->body_began)
        gw_exchange_take_body(exchange);
}

static void on_flush(struct gw_deferred *deferred)
{
    struct gw_exchange *exchange = H2O_STRUCT_FROM_MEMBER(struct gw_exchange, flush, deferred);
    if (!exchange->is_sending)
        send_pending(exchange);
}

/* Fields as they are, except that our own trace of the way comes from the route's rules. */
static void take_head(struct gw_exchange *exchange, const struct gw_response_head *head)
{
    struct gw_request *request = exchange->request;
    h2o_req_t *req = &request->stream->req;

    req->res.status = request->status = head->status;
    req->res.reason = gw_reason_phrase(head->status);
    req->res.content_length = head->content_length == UINT64_MAX ? SIZE_MAX : head->content_length;
    h2o_vector_reserve(&req->pool, &req->res.headers, head->num_fields + 8);
    memcpy(req->res.headers.entries, head->fields, sizeof(h2o_header_t) * head->num_fields);
    req->res.headers.size = head->num_fields;
    if (__builtin_expect(head->trailer.base != NULL, 0))
        request->stream->announced_trailers = gw_trailers_announce(&req->pool, head->trailer);
    if (__builtin_expect(request->sticky != NULL, 0))
        gw_sticky_answer(request, &req->res.headers);
    if (request->route->response_headers != NULL)
        routing_header_rules_apply(request->route->response_headers, &req->pool, &req->res.headers);
}

/* What is kept as long as a tunnel must not lie in the client's buffer. */
static void copy_head(struct gw_exchange *exchange, const struct gw_response_head *head)
{
    h2o_mem_pool_t *pool = exchange->request->pool;

    for (size_t i = 0; i != head->num_fields; ++i) {
        h2o_header_t *field = &head->fields[i];
        if (!h2o_iovec_is_token(field->name)) {
            h2o_iovec_t *name = h2o_mem_alloc_pool(pool, sizeof(*name));
            *name = h2o_strdup(pool, field->name->base, field->name->len);
            field->name = name;
        }
        field->orig_name = NULL;
        field->value = h2o_strdup(pool, field->value.base, field->value.len);
    }
}

/* The target has switched protocols (and the client checked that it was asked to). */
static void begin_tunnel(struct gw_exchange *exchange, const struct gw_response_head *head)
{
    struct gw_request *request = exchange->request;
    const struct routing_route_timeouts_conf *timeouts = request->route->conf->timeouts;
    uint64_t idle_ms = request->group->conf->timeouts.tunnel_idle_ms;
    const char *fault = gw_upgrade_fault(request, head);

    if (fault != NULL) {
        gw_exchange_fail(exchange, GW_REASON_UPSTREAM_BAD_UPGRADE, fault);
        return;
    }
    if (timeouts != NULL && timeouts->tunnel_idle_ms != 0)
        idle_ms = timeouts->tunnel_idle_ms;
    gw_timer_disarm(&exchange->total); /* of the handshake, which is over */
    copy_head(exchange, head);
    take_head(exchange, head);
    gw_upgrade_complete_response(request);
    exchange->tunnel = gw_tunnel_begin(request, idle_ms);
    exchange->head_is_ready = true;
    gw_thread_defer(&request->worker->thread, &exchange->flush);
}

static void on_head(void *data, const struct gw_response_head *head, bool body_follows)
{
    struct gw_try *try = data;
    struct gw_exchange *exchange = try->exchange;

    exchange->request->upstream_first_byte_us = gw_now_us();
    if (gw_exchange_try_answered(try, head->status))
        return;
    gw_exchange_win(try);
    if (!body_follows)
        gw_exchange_target_is_done(try);
    if (__builtin_expect(exchange->out.upgrade.base != NULL, 0)) {
        if (head->status == 101) {
            begin_tunnel(exchange, head);
            return;
        }
        if (!gw_upgrade_was_refused(exchange->request, head->status)) {
            gw_exchange_fail(exchange, GW_REASON_UPSTREAM_BAD_UPGRADE, "the target answers 2xx without switching");
            return;
        }
    }
    take_head(exchange, head);
    gw_exchange_forget_body(exchange);
    exchange->head_is_ready = true;
    exchange->is_last = !body_follows;
    if (exchange->is_last)
        send_pending(exchange);
    else /* the body's first bytes are usually here too: give them this turn to go out with the head */
        gw_conn_defer(exchange->request->stream->conn, &exchange->flush);
}

/* Copied: the client's memory goes with the client, the stream writes them when it is their turn. */
static void take_trailers(struct gw_exchange *exchange, const struct gw_trailers *from)
{
    const struct gw_request *request = exchange->request;
    struct gw_trailers *to = &request->stream->response_trailers;
    h2o_mem_pool_t *pool = request->pool;

    to->entries = h2o_mem_alloc_pool(pool, sizeof(*to->entries) * from->size);
    for (size_t i = 0; i != from->size; ++i) {
        const h2o_header_t *field = &from->entries[i];
        h2o_header_t *copy = &to->entries[to->size];
        if (is_ruled(request->route->response_headers, *field->name))
            continue;
        ++to->size;
        h2o_iovec_t *name = h2o_mem_alloc_pool(pool, sizeof(*name));
        *name = h2o_strdup(pool, field->name->base, field->name->len);
        *copy = (h2o_header_t){.name = name, .value = h2o_strdup(pool, field->value.base, field->value.len)};
    }
    gw_compression_see_trailers(request);
}

static void on_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct gw_try *try = data;
    struct gw_exchange *exchange = try->exchange;

    h2o_iovec_t *last = exchange->pending.size != 0 ? &exchange->pending.entries[exchange->pending.size - 1] : NULL;
    if (last != NULL && last->base + last->len == bytes.base) {
        last->len += bytes.len;
    } else if (bytes.len != 0) {
        h2o_vector_reserve(exchange->request->pool, &exchange->pending, exchange->pending.size + 1);
        exchange->pending.entries[exchange->pending.size++] = bytes;
    }
    exchange->is_last |= is_last;
    if (__builtin_expect(exchange->tunnel != NULL, 0))
        gw_tunnel_moved(exchange->tunnel, bytes.len, false, is_last);
    if (is_last) {
        const struct gw_trailers *trailers = gw_client_trailers(try->client);
        if (__builtin_expect(trailers != NULL, 0))
            take_trailers(exchange, trailers);
        gw_exchange_target_is_done(try);
    }
    if (!exchange->is_sending) {
        gw_thread_undefer(&exchange->flush);
        send_pending(exchange);
    }
}

static void proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    struct gw_exchange *exchange = H2O_STRUCT_FROM_MEMBER(struct gw_exchange, generator, generator);

    exchange->is_sending = false;
    if (exchange->in_flight != 0 && exchange->now->client != NULL)
        gw_client_consumed(exchange->now->client, exchange->in_flight);
    exchange->in_flight = 0;
    if (exchange->pending.size != 0 || exchange->is_last)
        send_pending(exchange);
}

/* ---- a response that is there as a whole ---- */

void gw_exchange_answer(struct gw_exchange *exchange, struct gw_whole_response *response)
{
    struct gw_request *request = exchange->request;
    h2o_req_t *req = &request->stream->req;
    bool has_body = response->status != 204 && response->status != 304;

    req->res.status = request->status = response->status;
    req->res.reason = response->reason != NULL ? response->reason : gw_reason_phrase(response->status);
    req->res.headers = response->fields;
    req->res.content_length = has_body ? response->body.len : SIZE_MAX;
    gw_answer_add_server(request);
    if (__builtin_expect(request->sticky != NULL, 0))
        gw_sticky_answer(request, &req->res.headers);
    if (request->route->response_headers != NULL)
        routing_header_rules_apply(request->route->response_headers, &req->pool, &req->res.headers);
    if (has_body && response->body.len != 0) {
        h2o_vector_reserve(request->pool, &exchange->pending, 1);
        exchange->pending.entries[exchange->pending.size++] = response->body;
    }
    exchange->head_is_ready = exchange->is_last = true;
    send_pending(exchange);
}

/* RFC 9110 15.2: passed on at once, whatever the response will be. Of two that are asked, the hedge is not heard yet.
 */
static void on_interim(void *data, const struct gw_response_head *head)
{
    struct gw_try *try = data;
    const struct gw_request *request = try->exchange->request;
    const struct routing_header_rules *rules = request->route->response_headers;
    h2o_header_t *fields = alloca(sizeof(*fields) * head->num_fields);
    size_t n = 0;

    if (try != try->exchange->now)
        return;
    for (size_t i = 0; i != head->num_fields; ++i)
        if (!is_ruled(rules, *head->fields[i].name))
            fields[n++] = head->fields[i];
    gw_stream_send_interim(request->stream, head->status, fields, n);
}

const struct gw_client_callbacks gw_exchange_callbacks = {.on_started = on_started,
                                                          .on_interim = on_interim,
                                                          .on_head = on_head,
                                                          .on_body = on_body,
                                                          .on_drained = on_drained,
                                                          .on_error = on_error};

/* ---- life ---- */

static bool set_target_url(struct gw_exchange *exchange)
{
    struct gw_request *request = exchange->request;
    const struct routing_facts *facts = &request->facts;

    exchange->out.target = request->stream->head.path;
    exchange->out.host = __builtin_expect(request->snapshot->config->forwarding.preserve_host, 1)
                             ? facts->authority
                             : gw_forwarded_host(request);
    if (request->route->rewrite == NULL)
        return true;
    return routing_rewrite_apply(request->route->rewrite, request->pool, facts->path, facts->query,
                                 &exchange->out.target) != ROUTING_REWRITE_FAILED &&
           routing_rewrite_host(request->route->rewrite, request->pool, facts->host, &exchange->out.host) !=
               ROUTING_REWRITE_FAILED;
}

static h2o_iovec_t target_host(const struct gw_request *request)
{
    const struct routing_target *target = &request->group->targets[request->target];
    return target->address.is_unix ? h2o_iovec_init(H2O_STRLIT("localhost"))
                                   : h2o_strdup(request->pool, target->name.base, target->name.len);
}

/* RFC 9110 7.6.2, 9.3.7: we are the final recipient. */
static void answer_options(struct gw_request *request)
{
    static const char methods[] = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    h2o_req_t *req = &request->stream->req;

    h2o_set_header(&req->pool, &req->res.headers, H2O_TOKEN_ALLOW, methods, sizeof(methods) - 1, 0);
    gw_answer(request, GW_REASON_MAX_FORWARDS, 200, h2o_iovec_init(NULL, 0), h2o_iovec_init(NULL, 0), true);
}

static struct gw_exchange *create(struct gw_request *request)
{
    struct gw_exchange *exchange = h2o_mem_alloc_pool(request->pool, sizeof(*exchange));

    *exchange = (struct gw_exchange){.generator = {proceed, NULL}, .request = request, .flush = {.run = on_flush}};
    exchange->pending.entries = exchange->few_pending;
    exchange->pending.capacity = sizeof(exchange->few_pending) / sizeof(exchange->few_pending[0]);
    request->exchange = exchange;
    return exchange;
}

/* What every try sends; `fields` as forwarding and the route's rules have made them. */
static void describe_request(struct gw_exchange *exchange, h2o_headers_t *fields)
{
    struct gw_request *request = exchange->request;
    struct gw_stream *stream = request->stream;
    struct gw_client_request *out = &exchange->out;

    out->method = request->facts.method;
    /* HTTP/1.0 without Host: we speak 1.1, where an origin may insist on one; a function is no host */
    if (out->host.len == 0 && request->group->conf->lambda == NULL)
        out->host = target_host(request);
    out->content_length = stream->head.content_length;
    out->has_body = stream->has_body;
    out->trailers = &stream->request_trailers;
    out->accepts_trailers = stream->head.accepts_trailers;
    if (__builtin_expect(stream->head.trailer.base != NULL, 0))
        out->announced_trailers = gw_trailers_announce(request->pool, stream->head.trailer);
    out->expects_head_only = stream->is_head_request;
    out->closes_connection = stream->closes_target;
    out->usage = &stream->conn->usage;
    if (__builtin_expect(request->upgrade.base != NULL, 0)) {
        gw_upgrade_complete_fields(request, fields);
        out->content_length = UINT64_MAX;
        out->has_body = false;
        out->upgrade = request->upgrade;
    }
    out->fields = fields->entries;
    out->num_fields = fields->size;
}

void gw_exchange_start(struct gw_request *request)
{
    struct gw_exchange *exchange = create(request);
    h2o_headers_t fields;
    enum gw_reason reason;

    if (!set_target_url(exchange)) {
        gw_answer_error(request, GW_REASON_REWRITE_FAILED, 0);
        return;
    }
    gw_forwarded_fields(request, &request->worker->thread, &fields);
    if (request->route->request_headers != NULL)
        routing_header_rules_apply(request->route->request_headers, request->pool, &fields);
    if (__builtin_expect(request->facts.method.base[0] == 'O', 0) && !gw_forwarded_may_go_on(request, &fields)) {
        answer_options(request);
        return;
    }
    describe_request(exchange, &fields);
    request->upstream_started_us = request->stream->started_us;
    begin_timeline(request);
    if (!gw_exchange_enter(exchange, &reason)) {
        gw_answer_error(request, reason, 0);
        return;
    }
    if (__builtin_expect(request->route->has_more, 0) && request->route->mirror_group != NULL)
        exchange->mirror = gw_mirror_begin(request, &exchange->out);
    gw_exchange_begin(exchange);
    if (__builtin_expect(request->group->conf->lambda != NULL, 0))
        gw_lambda_begin(exchange);
    else
        gw_exchange_first_try(exchange);
}

void gw_exchange_target(const struct gw_exchange *exchange, h2o_iovec_t *host, h2o_iovec_t *url)
{
    *host = exchange->out.host;
    *url = exchange->out.target;
}

void gw_exchange_abort(struct gw_exchange *exchange, enum gw_reason reason)
{
    gw_exchange_fail(exchange, reason, NULL);
}

void gw_exchange_release(struct gw_exchange *exchange)
{
    if (exchange == NULL)
        return;
    gw_thread_undefer(&exchange->flush);
    gw_mirror_drop(exchange->mirror);
    exchange->mirror = NULL;
    gw_exchange_end_tries(exchange);
    gw_exchange_leave(exchange);
    gw_tunnel_end(exchange->tunnel);
    exchange->tunnel = NULL;
    if (__builtin_expect(exchange->lambda != NULL, 0))
        gw_lambda_release(exchange);
    gw_exchange_forget_body(exchange);
}
