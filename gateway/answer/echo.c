#include "gateway/answer/echo.h"
#include <openssl/evp.h>
#include "gateway/base/json.h"
#include "gateway/snapshot.h"

enum { MAX_SHOWN_BODY = 64 * 1024 };

/* A request whose body is being collected. In the request's pool, which frees it whatever happens. */
struct echo {
    struct gw_request *request;
    EVP_MD_CTX *sha256;
    char *bytes; /* the first MAX_SHOWN_BODY of the body */
    size_t size, capacity;
    uint64_t total;
    bool is_answered;
};

static void on_dispose(void *data)
{
    struct echo *self = data;
    EVP_MD_CTX_free(self->sha256);
    free(self->bytes);
}

static void put_text(struct gw_json *json, const char *key, h2o_iovec_t value)
{
    gw_json_key(json, key);
    if (value.base != NULL)
        gw_json_text(json, value);
    else
        gw_json_null(json);
}

static void put_string(struct gw_json *json, const char *key, const char *value)
{
    put_text(json, key, value != NULL ? h2o_iovec_init(value, strlen(value)) : h2o_iovec_init(NULL, 0));
}

static void put_client(struct gw_json *json, const struct gw_request *request)
{
    const struct gw_conn *conn = request->stream->conn;
    char ip[GW_IP_TEXT];

    gw_json_key(json, "client");
    gw_json_object(json);
    gw_json_key(json, "ip");
    gw_json_text(json, h2o_iovec_init(ip, gw_ip_format(&request->facts.client_ip, ip)));
    put_text(json, "peer", h2o_iovec_init(conn->peer_text, conn->peer_text_len));
    gw_json_key(json, "port");
    gw_json_unsigned(json, conn->peer_port);
    gw_json_key(json, "trusted");
    gw_json_bool(json, request->client_is_trusted);
    gw_json_object_end(json);
}

static void put_tls(struct gw_json *json, const struct gw_conn *conn)
{
    gw_json_key(json, "tls");
    if (!conn->is_tls || conn->sock == NULL) {
        gw_json_null(json);
        return;
    }
    gw_json_object(json);
    put_string(json, "version", h2o_socket_get_ssl_protocol_version(conn->sock));
    put_string(json, "cipher", h2o_socket_get_ssl_cipher(conn->sock));
    put_string(json, "server_name", conn->server_name);
    gw_json_object_end(json);
}

static void put_headers(struct gw_json *json, const struct routing_facts *facts)
{
    gw_json_key(json, "headers");
    gw_json_array(json);
    for (size_t i = 0; i != facts->num_headers; ++i) {
        gw_json_array(json);
        gw_json_text(json, *facts->headers[i].name);
        gw_json_text(json, facts->headers[i].value);
        gw_json_array_end(json);
    }
    gw_json_array_end(json);
}

static bool is_utf8(const char *bytes, size_t len)
{
    const uint8_t *s = (const uint8_t *)bytes, *end = s + len;

    while (s != end) {
        unsigned lead = *s++, more;
        uint32_t code;
        if (lead < 0x80) {
            if (lead == 0)
                return false; /* shown as binary: most readers of JSON stumble over NUL */
            continue;
        }
        more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
        if (lead < 0xc2 || lead > 0xf4 || (size_t)(end - s) < more)
            return false;
        code = lead & (0x3f >> more);
        for (unsigned i = 0; i != more; ++i, ++s) {
            if ((*s & 0xc0) != 0x80)
                return false;
            code = code << 6 | (*s & 0x3f);
        }
        if ((more == 2 && code < 0x800) || (more == 3 && code < 0x10000) || code > 0x10ffff ||
            (code >= 0xd800 && code <= 0xdfff))
            return false;
    }
    return true;
}

static void put_body(struct gw_json *json, const struct echo *self)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE + 1];

    gw_json_key(json, "body");
    gw_json_object(json);
    gw_json_key(json, "bytes");
    gw_json_unsigned(json, self->total);
    if (self->sha256 != NULL && EVP_DigestFinal_ex(self->sha256, digest, NULL)) {
        h2o_hex_encode(hex, digest, 32);
        gw_json_key(json, "sha256");
        gw_json_string(json, hex);
    }
    if (is_utf8(self->bytes, self->size)) {
        gw_json_key(json, "text");
        gw_json_text(json, h2o_iovec_init(self->bytes, self->size));
    } else {
        char *encoded = h2o_mem_alloc(h2o_base64_encode_capacity(self->size));
        size_t len = h2o_base64_encode(encoded, self->bytes, self->size, 0);
        gw_json_key(json, "base64");
        gw_json_text(json, h2o_iovec_init(encoded, len));
        free(encoded);
    }
    gw_json_key(json, "truncated");
    gw_json_bool(json, self->size != self->total);
    gw_json_object_end(json);
}

static void put_request_line(struct gw_json *json, const struct gw_request *request)
{
    const struct gw_stream *stream = request->stream;
    char protocol[16];
    size_t len = (size_t)sprintf(protocol, "HTTP/%d.%d", stream->req.version >> 8 & 0xf, stream->req.version & 0xf);

    put_text(json, "method", request->facts.method);
    put_string(json, "scheme", request->facts.is_tls ? "https" : "http");
    put_text(json, "host", request->facts.host);
    put_text(json, "authority", request->facts.authority);
    put_text(json, "path", request->facts.path);
    put_text(json, "raw_path", request->facts.raw_path);
    put_text(json, "query", request->facts.query);
    put_text(json, "protocol", h2o_iovec_init(protocol, len));
}

static void answer(struct echo *self)
{
    struct gw_request *request = self->request;
    struct gw_json json;

    gw_json_init(&json);
    gw_json_object(&json);
    put_request_line(&json, request);
    put_client(&json, request);
    put_text(&json, "listener", request->listener != NULL ? request->listener->name : h2o_iovec_init(NULL, 0));
    put_tls(&json, request->stream->conn);
    put_text(&json, "route", request->route != NULL ? request->route->conf->name : h2o_iovec_init(NULL, 0));
    put_text(&json, "request_id", request->request_id_text);
    put_text(&json, "trace_id", request->trace_id);
    put_headers(&json, &request->facts);
    put_body(&json, self);
    gw_json_object_end(&json);
    gw_json_raw(&json, "\n", 1);
    self->is_answered = true;
    gw_answer(request, GW_REASON_ECHO, 200, h2o_iovec_init(H2O_STRLIT("application/json")),
              h2o_iovec_init(json.base, json.size), false);
    gw_json_dispose(&json);
}

static void keep(struct echo *self, h2o_iovec_t bytes)
{
    size_t len = bytes.len < MAX_SHOWN_BODY - self->size ? bytes.len : MAX_SHOWN_BODY - self->size;

    if (self->size + len > self->capacity) {
        self->capacity = self->size + len > 4096 ? MAX_SHOWN_BODY : 4096;
        self->bytes = h2o_mem_realloc(self->bytes, self->capacity);
    }
    h2o_memcpy(self->bytes + self->size, bytes.base, len);
    self->size += len;
}

static void on_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct echo *self = data;
    struct gw_request *request = self->request;

    self->total += bytes.len;
    if (!self->is_answered && bytes.len != 0) {
        if (self->sha256 != NULL)
            EVP_DigestUpdate(self->sha256, bytes.base, bytes.len);
        keep(self, bytes);
    }
    if (bytes.len != 0)
        gw_stream_consumed(request->stream, bytes.len);
    if (self->is_answered)
        return;
    if (request->route != NULL && self->total > request->route->max_body) {
        self->is_answered = true;
        request->stream->close_after = true;
        gw_answer_error(request, GW_REASON_BODY_TOO_LARGE, 0);
    } else if (is_last) {
        answer(self);
    }
}

void gw_echo_serve(struct gw_request *request)
{
    if (request->stream == NULL) {
        request->reason = GW_REASON_ECHO;
        request->status = 200;
        return;
    }
    struct echo *self = h2o_mem_alloc_shared(request->pool, sizeof(*self), on_dispose);
    *self = (struct echo){.request = request, .sha256 = EVP_MD_CTX_new()};
    if (self->sha256 != NULL && !EVP_DigestInit_ex(self->sha256, EVP_sha256(), NULL)) {
        EVP_MD_CTX_free(self->sha256);
        self->sha256 = NULL;
    }
    gw_stream_start_body(request->stream, on_body, self);
}
