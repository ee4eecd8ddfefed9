#include "gateway/observe/span.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/base/json.h"
#include "gateway/exchange/exchange.h"
#include "gateway/exchange/forwarded.h"
#include "gateway/observe/timeline.h"
#include "gateway/worker.h"

enum { KIND_SERVER = 2, KIND_CLIENT = 3, STATUS_ERROR = 2, MAX_TEXT = 2048 };

/* ---- trace context ---- */

static int hex_value(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

bool gw_span_is_sampled(h2o_iovec_t trace_id, double percent)
{
    uint64_t low = 0;

    if (percent >= 100)
        return true;
    for (size_t i = trace_id.len - 14; i != trace_id.len; ++i)
        low = low << 4 | (uint64_t)hex_value(trace_id.base[i]);
    return low < (uint64_t)(percent / 100 * (double)(UINT64_C(1) << 56));
}

static uint64_t new_id(struct gw_thread *thread)
{
    uint64_t id;
    while ((id = gw_thread_random(thread)) == 0)
        ;
    return id;
}

static h2o_iovec_t find_trace_state(const struct gw_request *request)
{
    for (size_t i = 0; i != request->facts.num_headers; ++i) {
        const h2o_header_t *field = &request->facts.headers[i];
        if (h2o_memis(field->name->base, field->name->len, H2O_STRLIT("tracestate")))
            return field->value;
    }
    return h2o_iovec_init(NULL, 0);
}

void gw_span_begin(struct gw_request *request, const struct gw_tracing_conf *conf, const h2o_header_t *parent,
                   struct gw_thread *thread)
{
    char *made = h2o_mem_alloc_pool(request->pool, GW_TRACEPARENT_LEN + 1);
    uint64_t id = new_id(thread);
    bool is_sampled;

    memcpy(made, "00-", 3);
    if (parent != NULL)
        memcpy(made + GW_TRACE_ID_AT, parent->value.base + GW_TRACE_ID_AT, GW_TRACE_ID_LEN);
    else
        gw_forwarded_put_hex16(gw_forwarded_put_hex16(made + GW_TRACE_ID_AT, gw_thread_random(thread)), new_id(thread));
    made[GW_PARENT_ID_AT - 1] = '-';
    gw_forwarded_put_hex16(made + GW_PARENT_ID_AT, id);
    request->trace_id = h2o_iovec_init(made + GW_TRACE_ID_AT, GW_TRACE_ID_LEN);
    is_sampled = parent != NULL && conf->parent_based ? hex_value(parent->value.base[GW_TRACE_FLAGS_AT + 1]) & 1
                                                      : gw_span_is_sampled(request->trace_id, conf->sample);
    memcpy(made + GW_TRACE_FLAGS_AT - 1, is_sampled ? "-01" : "-00", 4);
    request->traceparent = h2o_iovec_init(made, GW_TRACEPARENT_LEN);
    request->is_new_trace = parent == NULL;
    if (!is_sampled)
        return;
    request->span = h2o_mem_alloc_pool(request->pool, sizeof(*request->span));
    *request->span = (struct gw_span){.id = id, .sent_id = made + GW_PARENT_ID_AT};
    if (parent != NULL) {
        request->span->parent_id = h2o_iovec_init(parent->value.base + GW_PARENT_ID_AT, GW_PARENT_ID_LEN);
        request->span->trace_state = find_trace_state(request);
    }
}

/* ---- JSON: OTLP's mapping has 64-bit numbers as texts and ids as hex digits ---- */

static h2o_iovec_t text_of(const char *s) { return h2o_iovec_init(s, strlen(s)); }

static h2o_iovec_t capped(h2o_iovec_t text)
{
    if (text.len > MAX_TEXT)
        text.len = MAX_TEXT;
    return text;
}

static void begin_attribute(struct gw_json *json, const char *key, const char *type)
{
    gw_json_object(json);
    gw_json_key(json, "key");
    gw_json_string(json, key);
    gw_json_key(json, "value");
    gw_json_object(json);
    gw_json_key(json, type);
}

static void end_attribute(struct gw_json *json)
{
    gw_json_object_end(json);
    gw_json_object_end(json);
}

static void put_text(struct gw_json *json, const char *key, h2o_iovec_t value)
{
    if (value.base == NULL)
        return;
    begin_attribute(json, key, "stringValue");
    gw_json_text(json, capped(value));
    end_attribute(json);
}

static void put_decimal(struct gw_json *json, uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);
    gw_json_text(json, h2o_iovec_init(digits, len));
}

static void put_number(struct gw_json *json, const char *key, uint64_t value)
{
    begin_attribute(json, key, "intValue");
    put_decimal(json, value);
    end_attribute(json);
}

static void put_id(struct gw_json *json, const char *key, uint64_t id)
{
    char digits[16];
    gw_forwarded_put_hex16(digits, id);
    gw_json_key(json, key);
    gw_json_text(json, h2o_iovec_init(digits, sizeof(digits)));
}

/* What all spans of a request share, and where its clocks meet. */
struct writer {
    struct gw_json *json;
    const struct gw_request *request;
    uint64_t now_ns; /* wall clock at finished_us */
};

static void put_time(struct writer *w, const char *key, uint64_t at_us)
{
    uint64_t finished_us = w->request->finished_us;
    gw_json_key(w->json, key);
    put_decimal(w->json, w->now_ns - (finished_us > at_us ? finished_us - at_us : 0) * 1000);
}

static void put_status(struct writer *w, bool is_error)
{
    gw_json_key(w->json, "status");
    gw_json_object(w->json);
    if (is_error) {
        gw_json_key(w->json, "code");
        gw_json_number(w->json, STATUS_ERROR);
    }
    gw_json_object_end(w->json);
}

/* ---- attributes: OpenTelemetry's semantic conventions for HTTP ---- */

static const char *known_method(h2o_iovec_t method)
{
    static const char *const known[] = {"GET",     "HEAD",    "POST",  "PUT",   "DELETE",
                                        "CONNECT", "OPTIONS", "TRACE", "PATCH", NULL};
    for (size_t i = 0; known[i] != NULL; ++i)
        if (h2o_memis(method.base, method.len, known[i], strlen(known[i])))
            return known[i];
    return NULL;
}

static void put_method(struct gw_json *json, h2o_iovec_t method)
{
    const char *known = known_method(method);
    put_text(json, "http.request.method", text_of(known != NULL ? known : "_OTHER"));
    if (known == NULL)
        put_text(json, "http.request.method_original", method);
}

static bool is_secret_key(h2o_iovec_t key)
{
    static const char *const keys[] = {"AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature", NULL};
    for (size_t i = 0; keys[i] != NULL; ++i)
        if (h2o_memis(key.base, key.len, keys[i], strlen(keys[i])))
            return true;
    return false;
}

h2o_iovec_t gw_span_redact_query(h2o_mem_pool_t *pool, h2o_iovec_t query)
{
    static const char redacted[] = "REDACTED";
    size_t num_pairs = 1, out = 0;

    for (size_t i = 0; i != query.len; ++i)
        num_pairs += query.base[i] == '&';
    char *base = h2o_mem_alloc_pool(pool, query.len + num_pairs * sizeof(redacted) + 1);
    for (size_t at = 0; at < query.len;) {
        const char *from = query.base + at, *amp = memchr(from, '&', query.len - at);
        size_t len = amp != NULL ? (size_t)(amp - from) : query.len - at;
        const char *equals = memchr(from, '=', len);
        bool is_secret = equals != NULL && is_secret_key(h2o_iovec_init(from, equals - from));
        size_t kept = is_secret ? (size_t)(equals - from) + 1 : len;
        memcpy(base + out, from, kept);
        out += kept;
        if (is_secret) {
            memcpy(base + out, redacted, sizeof(redacted) - 1);
            out += sizeof(redacted) - 1;
        }
        if (amp != NULL)
            base[out++] = '&';
        at += len + 1;
    }
    return h2o_iovec_init(base, out);
}

static void put_client(struct gw_json *json, const struct gw_request *request)
{
    const struct gw_conn *conn = request->stream->conn;
    char client[GW_IP_TEXT];

    put_text(json, "client.address", h2o_iovec_init(client, gw_ip_format(&request->facts.client_ip, client)));
    put_text(json, "network.peer.address", h2o_iovec_init(conn->peer_text, conn->peer_text_len));
    if (conn->peer_port != 0)
        put_number(json, "network.peer.port", conn->peer_port);
    put_text(json, "network.protocol.version",
             text_of(request->stream->req.version == 0x101   ? "1.1"
                     : request->stream->req.version == 0x100 ? "1.0"
                                                             : "2"));
}

static bool broke_off(const struct gw_request *request)
{
    enum gw_stream_end end = request->stream->end;
    return end != GW_END_COMPLETE && end != GW_END_CLIENT_GONE;
}

static void put_outcome(struct gw_json *json, const struct gw_request *request)
{
    char digits[12];

    if (request->status != 0)
        put_number(json, "http.response.status_code", (uint64_t)request->status);
    if (request->reason != GW_REASON_NONE)
        put_text(json, "weir.reason", text_of(gw_reason_info(request->reason)->code));
    if (request->status < 500 && !broke_off(request))
        return;
    snprintf(digits, sizeof(digits), "%d", request->status);
    put_text(json, "error.type",
             text_of(request->reason != GW_REASON_NONE ? gw_reason_info(request->reason)->code : digits));
}

static void put_server_attributes(struct writer *w)
{
    const struct gw_request *request = w->request;
    const struct routing_facts *facts = &request->facts;
    struct gw_json *json = w->json;

    put_method(json, facts->method);
    put_text(json, "url.scheme", text_of(facts->is_tls ? "https" : "http"));
    put_text(json, "url.path", facts->raw_path);
    if (facts->query.base != NULL)
        put_text(json, "url.query", gw_span_redact_query(request->pool, facts->query));
    if (facts->host.len != 0)
        put_text(json, "server.address", facts->host);
    put_number(json, "server.port", facts->port);
    put_client(json, request);
    for (size_t i = 0; i != facts->num_headers; ++i)
        if (facts->headers[i].name == &H2O_TOKEN_USER_AGENT->buf) {
            put_text(json, "user_agent.original", facts->headers[i].value);
            break;
        }
    put_number(json, "http.request.body.size", request->stream->body_bytes_in);
    put_text(json, "weir.request_id", request->request_id_text);
    if (request->listener != NULL)
        put_text(json, "weir.listener", request->listener->name);
    if (request->route != NULL)
        put_text(json, "weir.route", request->route->conf->name);
    if (request->group != NULL)
        put_text(json, "weir.target_group", request->group->name);
    put_outcome(json, request);
}

/* The URL as the target got it. */
static h2o_iovec_t sent_url(const struct gw_request *request, const struct gw_attempt *attempt)
{
    h2o_iovec_t host, url, query = {NULL, 0};

    gw_exchange_target(request->exchange, &host, &url);
    char *mark = memchr(url.base, '?', url.len);
    if (mark != NULL) {
        size_t len = mark + 1 - url.base;
        query = gw_span_redact_query(request->pool, h2o_iovec_init(mark + 1, url.len - len));
        url.len = len;
    }
    return h2o_concat(request->pool, text_of("http://"), attempt->target->name, url, query);
}

static void put_client_attributes(struct writer *w, const struct gw_attempt *attempt, unsigned index)
{
    const struct gw_request *request = w->request;
    const struct gw_address *address = &attempt->target->address;
    enum gw_reason failure = attempt->ended_us != 0 ? attempt->failure : request->reason; /* else: cut off with it */
    struct gw_json *json = w->json;
    char digits[12];

    put_method(json, request->facts.method);
    put_text(json, "url.full", sent_url(request, attempt));
    put_text(json, "server.address", address->host);
    put_text(json, "network.peer.address", address->host);
    if (address->port != 0) {
        put_number(json, "server.port", address->port);
        put_number(json, "network.peer.port", address->port);
    }
    put_text(json, "network.protocol.version", text_of("1.1"));
    if (index != 0)
        put_number(json, "http.request.resend_count", index);
    if (attempt->status != 0)
        put_number(json, "http.response.status_code", (uint64_t)attempt->status);
    if (failure != GW_REASON_NONE) {
        put_text(json, "error.type", text_of(gw_reason_info(failure)->code));
    } else if (attempt->status >= 400) {
        snprintf(digits, sizeof(digits), "%d", attempt->status);
        put_text(json, "error.type", text_of(digits));
    }
}

/* ---- spans ---- */

static void begin_span(struct writer *w, h2o_iovec_t name, int kind, uint64_t from_us, uint64_t to_us)
{
    struct gw_json *json = w->json;
    const struct gw_span *span = w->request->span;

    gw_json_key(json, "traceId");
    gw_json_text(json, w->request->trace_id);
    if (span->trace_state.base != NULL) {
        gw_json_key(json, "traceState");
        gw_json_text(json, capped(span->trace_state));
    }
    gw_json_key(json, "name");
    gw_json_text(json, capped(name));
    gw_json_key(json, "kind");
    gw_json_number(json, kind);
    put_time(w, "startTimeUnixNano", from_us);
    put_time(w, "endTimeUnixNano", to_us);
    gw_json_key(json, "attributes");
    gw_json_array(json);
}

/* "GET" and, where one matched, the route: few names for many requests. */
static h2o_iovec_t name_of(const struct gw_request *request, bool with_route)
{
    const char *known = known_method(request->facts.method);
    h2o_iovec_t method = text_of(known != NULL ? known : "HTTP");
    if (!with_route || request->route == NULL)
        return method;
    return h2o_concat(request->pool, method, text_of(" "), request->route->conf->name);
}

static void put_server_span(struct writer *w)
{
    const struct gw_request *request = w->request;
    const struct gw_span *span = request->span;

    gw_json_object(w->json);
    put_id(w->json, "spanId", span->id);
    if (span->parent_id.base != NULL) {
        gw_json_key(w->json, "parentSpanId");
        gw_json_text(w->json, span->parent_id);
    }
    begin_span(w, name_of(request, true), KIND_SERVER, request->stream->started_us, request->finished_us);
    put_server_attributes(w);
    gw_json_array_end(w->json);
    put_status(w, request->status >= 500 || broke_off(request));
    gw_json_object_end(w->json);
}

static void put_client_span(struct writer *w, const struct gw_attempt *attempt, unsigned index)
{
    gw_json_object(w->json);
    put_id(w->json, "spanId", attempt->span_id);
    put_id(w->json, "parentSpanId", w->request->span->id);
    begin_span(w, name_of(w->request, false), KIND_CLIENT, attempt->started_us,
               attempt->ended_us != 0 ? attempt->ended_us : w->request->finished_us);
    put_client_attributes(w, attempt, index);
    gw_json_array_end(w->json);
    put_status(w, attempt->ended_us == 0 || attempt->failure != GW_REASON_NONE || attempt->status >= 400);
    gw_json_object_end(w->json);
}

struct gw_span_record *gw_span_record_create(const struct gw_request *request, uint64_t now_ns)
{
    struct gw_json json;
    struct writer w = {&json, request, now_ns};
    unsigned num_attempts = request->timeline != NULL ? request->timeline->num_attempts : 0;

    gw_json_init(&json);
    put_server_span(&w);
    for (unsigned i = 0; i != num_attempts; ++i)
        put_client_span(&w, &request->timeline->attempts[i], i);
    struct gw_span_record *record = h2o_mem_alloc(sizeof(*record) + json.size);
    *record = (struct gw_span_record){.num_spans = 1 + num_attempts, .len = json.size};
    memcpy(record->json, json.base, json.size);
    gw_json_dispose(&json);
    return record;
}
