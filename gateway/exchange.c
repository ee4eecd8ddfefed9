#include "gateway/exchange.h"
#include <string.h>
#include "gateway/answer.h"
#include "gateway/forwarded.h"
#include "gateway/http/response.h"
#include "gateway/process.h"
#include "gateway/span.h"
#include "gateway/timeline.h"

/* Attempts in all: a stale pooled connection, a target that refuses, another one. */
enum { MAX_ATTEMPTS = 3 };

struct gw_exchange {
    h2o_generator_t generator; /* of the response */
    struct gw_request *request;
    struct gw_client *client; /* the attempt in progress */
    struct gw_client_request out;
    uint64_t tried; /* bit set of target indexes */
    /* request body */
    h2o_iovec_t piece;   /* what the stream gave last and has not been told consumed */
    uint64_t body_bytes; /* so far */
    bool piece_is_last;
    bool body_began;             /* the stream has been asked for it */
    bool body_is_lost;           /* bytes were consumed: no other attempt can send them again */
    struct gw_target_slot *slot; /* of the target that is being asked; NULL: none is */
    bool is_started;             /* the attempt in progress has sent its head: body may be written */
    bool is_writing;             /* the client holds `piece` */
    /* response body */
    H2O_VECTOR(h2o_iovec_t) pending; /* not yet handed to h2o_send */
    size_t in_flight;                /* bytes handed to h2o_send, not yet consumed */
    bool head_is_ready;              /* status and headers are set, the response has not begun */
    bool is_sending;
    bool is_last; /* the last body bytes are pending or sent */
    struct gw_deferred flush;
};

static const struct gw_client_callbacks callbacks;

/* ---- choosing a target ---- */

static struct routing_balancer *balancer_of(struct gw_request *request)
{
    unsigned worker = request->worker != NULL ? request->worker->thread.index : request->snapshot->num_workers;
    return request->snapshot->balancers[worker * request->snapshot->num_groups + request->group->index];
}

bool gw_exchange_choose(struct gw_request *request, uint32_t random)
{
    const struct gw_route *route = request->route;
    uint32_t group = route->num_groups == 1 ? 0 : routing_weighted_choice(route->weights, route->num_groups, random);

    request->target = ROUTING_NO_TARGET;
    if (group >= route->num_groups) /* all weights are 0 */
        return false;
    request->group = route->num_groups == 1 ? route->group : route->groups[group].group;
    gw_trace(request->trace, "target group", route->conf->forward->at, "\"%.*s\" (%u of %u by weight)",
             (int)request->group->name.len, request->group->name.base, group + 1, route->num_groups);
    request->target = routing_balancer_pick(balancer_of(request), 0, request->trace);
    return request->target != ROUTING_NO_TARGET;
}

/* ---- the timeline, where somebody asks for one ---- */

static void begin_timeline(struct gw_request *request)
{
    int format = request->snapshot->config->access_log.format;

    if (__builtin_expect(request->span == NULL && format != GW_ACCESS_ALB && format != GW_ACCESS_TEMPLATE, 1))
        return;
    request->timeline = h2o_mem_alloc_pool(request->pool, sizeof(*request->timeline));
    memset(request->timeline, 0, sizeof(*request->timeline));
}

static void note_attempt(struct gw_request *request)
{
    struct gw_timeline *timeline = request->timeline;
    struct gw_attempt *attempt;

    if (timeline->num_attempts != GW_TIMELINE_ATTEMPTS)
        ++timeline->num_attempts;
    attempt = gw_timeline_last(timeline);
    *attempt = (struct gw_attempt){.started_us = gw_now_us(), .target = &request->group->targets[request->target]};
    if (request->span != NULL) {
        attempt->span_id = gw_thread_random(&request->worker->thread) | 1;
        gw_forwarded_put_hex16(request->span->sent_id, attempt->span_id); /* the target's spans are children of it */
    }
}

static void note_sent(struct gw_attempt *attempt, const struct gw_client *client)
{
    uint64_t connected_us = gw_client_connected_us(client);
    attempt->sent_us = connected_us != 0 ? connected_us : attempt->started_us;
}

static void note_head(struct gw_exchange *exchange, int status)
{
    struct gw_attempt *attempt = gw_timeline_last(exchange->request->timeline);
    note_sent(attempt, exchange->client);
    attempt->first_byte_us = exchange->request->upstream_first_byte_us;
    attempt->status = status;
}

static void note_end(struct gw_exchange *exchange, enum gw_client_error error)
{
    struct gw_attempt *attempt = gw_timeline_last(exchange->request->timeline);

    attempt->ended_us = gw_now_us();
    attempt->failure = gw_reason_of_client(error);
    if (attempt->sent_us == 0 && error != GW_CLIENT_CONNECT_FAILED && error != GW_CLIENT_CONNECT_TIMEOUT)
        note_sent(attempt, exchange->client);
}
#define NOTE(exchange, call)                                                                                           \
    do {                                                                                                               \
        if (__builtin_expect((exchange)->request->timeline != NULL, 0))                                                \
            call;                                                                                                      \
    } while (0)

/* ---- attempts ---- */

/* The attempt in progress is over, as far as its target is concerned. */
static void end_attempt(struct gw_exchange *exchange)
{
    gw_client_release(exchange->client);
    exchange->client = NULL;
    if (exchange->slot != NULL)
        gw_count(&exchange->slot->in_flight, (uint64_t)-1);
    exchange->slot = NULL;
}

static void attempt(struct gw_exchange *exchange, bool allow_reuse)
{
    struct gw_request *request = exchange->request;
    const struct routing_target *target = &request->group->targets[request->target];
    const struct routing_target_group_conf *conf = request->group->conf;
    struct gw_client_timeouts timeouts = {conf->timeouts.connect_ms, conf->timeouts.first_byte_ms,
                                          conf->timeouts.idle_ms};
    struct gw_pool_limits limits = {conf->pool.max_idle, conf->pool.idle_ms, conf->pool.max_requests};

    ++request->attempts;
    NOTE(exchange, note_attempt(request));
    exchange->slot = &gw_endpoint_entry_of(target)->slots[request->worker->thread.index];
    gw_count(&exchange->slot->attempts, 1);
    gw_count(&exchange->slot->in_flight, 1);
    exchange->is_started = false;
    if (request->target < 64)
        exchange->tried |= (uint64_t)1 << request->target;
    exchange->client = gw_client_start(request->worker->pool, target->endpoint, &limits, &timeouts, &exchange->out,
                                       allow_reuse, &callbacks, exchange);
}

/* RFC 9110 9.2.2 */
static bool is_idempotent(h2o_iovec_t method)
{
    static const char *const names[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"};
    for (size_t i = 0; i != sizeof(names) / sizeof(names[0]); ++i)
        if (h2o_memis(method.base, method.len, names[i], strlen(names[i])))
            return true;
    return false;
}

/* A stale pooled connection is no fault of the target: ask it again on a new one. A target that cannot be reached: ask
 * another one, the same if there is none. */
static bool retry(struct gw_exchange *exchange, enum gw_client_error error, bool is_safe)
{
    struct gw_request *request = exchange->request;
    uint32_t other;

    if (!is_safe || exchange->body_is_lost || request->attempts >= MAX_ATTEMPTS)
        return false;
    if (error == GW_CLIENT_CLOSED_EARLY) {
        if (!is_idempotent(request->facts.method))
            return false;
    } else if (error == GW_CLIENT_CONNECT_FAILED || error == GW_CLIENT_CONNECT_TIMEOUT) {
        other = routing_balancer_pick(balancer_of(request), exchange->tried, NULL);
        if (other == ROUTING_NO_TARGET)
            return false;
        request->target = other;
    } else {
        return false;
    }
    gw_count(&request->route->stats->slots[request->worker->thread.index].retries, 1);
    if (error != GW_CLIENT_CLOSED_EARLY)
        gw_count(&exchange->slot->failures, 1);
    end_attempt(exchange);
    exchange->is_writing = false;
    attempt(exchange, error != GW_CLIENT_CLOSED_EARLY);
    return true;
}

static void on_error(void *data, enum gw_client_error error, bool retry_is_safe)
{
    struct gw_exchange *exchange = data;
    struct gw_request *request = exchange->request;
    struct gw_stream *stream = request->stream;

    NOTE(exchange, note_end(exchange, error));
    if (!exchange->head_is_ready && !stream->response_started && retry(exchange, error, retry_is_safe))
        return;
    request->error = gw_client_failure(exchange->client)->detail;
    gw_count(&exchange->slot->failures, 1);
    end_attempt(exchange);
    gw_thread_undefer(&exchange->flush);
    if (stream->response_started || exchange->is_sending) {
        request->reason = gw_reason_of_client(error);
        gw_stream_abort(stream);
        return;
    }
    stream->req.res.headers.size = 0; /* a head may have been taken over already */
    stream->req.res.content_length = SIZE_MAX;
    if (!stream->body_complete)
        stream->close_after = true;
    enum gw_reason reason = gw_reason_of_client(error);
    gw_answer_error(request, reason, gw_reason_info(reason)->status != 0 ? 0 : 502);
}

/* ---- request body: stream -> client ---- */

static void write_piece(struct gw_exchange *exchange)
{
    exchange->is_writing = true;
    gw_client_write(exchange->client, exchange->piece, exchange->piece_is_last);
}

static void on_request_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct gw_exchange *exchange = data;
    struct gw_request *request = exchange->request;

    exchange->body_bytes += bytes.len;
    exchange->piece = bytes;
    exchange->piece_is_last = is_last;
    if (exchange->body_bytes > request->route->max_body && !request->stream->response_started &&
        !exchange->head_is_ready) {
        end_attempt(exchange);
        request->stream->close_after = true;
        gw_answer_error(request, GW_REASON_BODY_TOO_LARGE, 0);
        return;
    }
    if (exchange->client != NULL && exchange->is_started) /* else on_started of a further attempt writes it */
        write_piece(exchange);
}

static void on_started(void *data, bool reused)
{
    struct gw_exchange *exchange = data;

    exchange->is_started = true;
    if (!exchange->out.has_body)
        return;
    if (!exchange->body_began) {
        exchange->body_began = true;
        gw_stream_start_body(exchange->request->stream, on_request_body, exchange);
    } else if (exchange->piece.len != 0 || exchange->piece_is_last) {
        write_piece(exchange); /* a further attempt sends the first piece again */
    }
}

static void on_drained(void *data)
{
    struct gw_exchange *exchange = data;

    exchange->is_writing = false;
    if (exchange->piece_is_last)
        return; /* kept until the end, in case it must be sent again */
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
        NOTE(exchange, request->timeline->response_us = gw_now_us());
        h2o_start_response(req, &exchange->generator);
    }
    exchange->is_sending = true;
    exchange->in_flight = 0;
    for (size_t i = 0; i != n; ++i)
        exchange->in_flight += exchange->pending.entries[i].len;
    exchange->pending.size = 0;
    h2o_send(req, exchange->pending.entries, n, exchange->is_last ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
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
    if (request->route->response_headers != NULL)
        routing_header_rules_apply(request->route->response_headers, &req->pool, &req->res.headers);
}

static void count_response(struct gw_exchange *exchange, int status)
{
    const struct gw_request *request = exchange->request;
    uint64_t elapsed_us = request->upstream_first_byte_us - request->upstream_started_us;

    gw_count(&exchange->slot->by_class[status >= 100 && status < 600 ? status / 100 : 0], 1);
    gw_count(&exchange->slot->buckets[gw_histogram_bucket(elapsed_us)], 1);
    gw_count(&exchange->slot->seconds_sum_us, elapsed_us);
}

static void on_head(void *data, const struct gw_response_head *head, bool body_follows)
{
    struct gw_exchange *exchange = data;

    exchange->request->upstream_first_byte_us = gw_now_us();
    NOTE(exchange, note_head(exchange, head->status));
    if (!body_follows)
        NOTE(exchange, note_end(exchange, GW_CLIENT_OK));
    count_response(exchange, head->status);
    take_head(exchange, head);
    exchange->head_is_ready = true;
    exchange->is_last = !body_follows;
    if (exchange->is_last)
        send_pending(exchange);
    else /* the body's first bytes are usually here too: give them this turn to go out with the head */
        gw_thread_defer(&exchange->request->worker->thread, &exchange->flush);
}

static void on_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct gw_exchange *exchange = data;

    if (bytes.len != 0) {
        h2o_vector_reserve(exchange->request->pool, &exchange->pending, exchange->pending.size + 1);
        exchange->pending.entries[exchange->pending.size++] = bytes;
    }
    exchange->is_last |= is_last;
    if (is_last)
        NOTE(exchange, note_end(exchange, GW_CLIENT_OK));
    if (!exchange->is_sending) {
        gw_thread_undefer(&exchange->flush);
        send_pending(exchange);
    }
}

static void proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    struct gw_exchange *exchange = H2O_STRUCT_FROM_MEMBER(struct gw_exchange, generator, generator);

    exchange->is_sending = false;
    if (exchange->in_flight != 0 && exchange->client != NULL)
        gw_client_consumed(exchange->client, exchange->in_flight);
    exchange->in_flight = 0;
    if (exchange->pending.size != 0 || exchange->is_last)
        send_pending(exchange);
}

static const struct gw_client_callbacks callbacks = {on_started, on_head, on_body, on_drained, on_error};

/* ---- life ---- */

static bool set_target_url(struct gw_exchange *exchange)
{
    struct gw_request *request = exchange->request;
    const struct routing_facts *facts = &request->facts;

    exchange->out.target = request->stream->head.path;
    if (request->route->rewrite == NULL)
        return true;
    return routing_rewrite_apply(request->route->rewrite, request->pool, facts->path, facts->query,
                                 &exchange->out.target) != ROUTING_REWRITE_FAILED;
}

static h2o_iovec_t target_host(const struct gw_request *request)
{
    const struct routing_target *target = &request->group->targets[request->target];
    return target->address.is_unix ? h2o_iovec_init(H2O_STRLIT("localhost")) : target->name;
}

void gw_exchange_start(struct gw_request *request)
{
    struct gw_stream *stream = request->stream;
    struct gw_exchange *exchange = h2o_mem_alloc_pool(request->pool, sizeof(*exchange));
    h2o_headers_t fields;

    *exchange = (struct gw_exchange){.generator = {proceed, NULL}, .request = request, .flush = {.run = on_flush}};
    request->exchange = exchange;
    if (!set_target_url(exchange)) {
        gw_answer_error(request, GW_REASON_REWRITE_FAILED, 0);
        return;
    }
    gw_forwarded_fields(request, &request->worker->thread, &fields);
    if (request->route->request_headers != NULL)
        routing_header_rules_apply(request->route->request_headers, request->pool, &fields);
    exchange->out.method = request->facts.method;
    exchange->out.host = request->facts.authority;
    if (request->route->rewrite_host.base != NULL)
        exchange->out.host = request->route->rewrite_host;
    else if (exchange->out.host.len == 0) /* HTTP/1.0 without Host: we speak 1.1, where an origin may insist on one */
        exchange->out.host = target_host(request);
    exchange->out.fields = fields.entries;
    exchange->out.num_fields = fields.size;
    exchange->out.content_length = stream->head.content_length;
    exchange->out.has_body = stream->has_body;
    exchange->out.expects_head_only = stream->is_head_request;
    request->upstream_started_us = stream->started_us;
    begin_timeline(request);
    attempt(exchange, true);
}

void gw_exchange_target(const struct gw_exchange *exchange, h2o_iovec_t *host, h2o_iovec_t *url)
{
    *host = exchange->out.host;
    *url = exchange->out.target;
}

void gw_exchange_release(struct gw_exchange *exchange)
{
    if (exchange == NULL)
        return;
    gw_thread_undefer(&exchange->flush);
    end_attempt(exchange);
}
