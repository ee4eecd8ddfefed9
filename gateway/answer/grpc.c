#include "gateway/answer/grpc.h"
#include <stdio.h>
#include <string.h>
#include "gateway/answer/answer.h"

static const h2o_header_t *find(const h2o_header_t *fields, size_t num_fields, const char *name, size_t len)
{
    for (size_t i = 0; i != num_fields; ++i)
        if (h2o_memis(fields[i].name->base, fields[i].name->len, name, len))
            return &fields[i];
    return NULL;
}

/* application/grpc, application/grpc+proto, application/grpc;charset=utf-8; but not application/grpc-web. */
static bool is_grpc_type(h2o_iovec_t type)
{
    static const char prefix[] = "application/grpc";
    size_t len = sizeof(prefix) - 1;
    return type.len >= len && h2o_lcstris(type.base, len, prefix, len) &&
           (type.len == len || type.base[len] == '+' || type.base[len] == ';' || type.base[len] == ' ');
}

static bool is_http2_post(const struct gw_request *request)
{
    return h2o_memis(request->facts.method.base, request->facts.method.len, H2O_STRLIT("POST")) &&
           (request->stream == NULL || request->stream->req.version >= 0x200);
}

bool gw_grpc_is_call(const struct gw_request *request)
{
    if (request->facts.num_headers == 0 || !is_http2_post(request))
        return false;
    const h2o_header_t *type = find(request->facts.headers, request->facts.num_headers, H2O_STRLIT("content-type"));
    return type != NULL && is_grpc_type(type->value);
}

bool gw_grpc_refuses(const struct gw_request *request)
{
    return request->group->conf->protocol == ROUTING_PROTOCOL_GRPC && !is_http2_post(request);
}

uint64_t gw_grpc_timeout_ms(const h2o_header_t *fields, size_t num_fields)
{
    static const struct {
        char unit;
        uint64_t us;
    } units[] = {{'H', 3600000000}, {'M', 60000000}, {'S', 1000000}, {'m', 1000}, {'u', 1}, {'n', 0}};
    const h2o_header_t *field = find(fields, num_fields, H2O_STRLIT("grpc-timeout"));
    uint64_t n = 0;
    if (field == NULL || field->value.len < 2 || field->value.len > 9) /* at most 8 digits */
        return 0;
    for (size_t i = 0; i != field->value.len - 1; ++i) {
        if (field->value.base[i] < '0' || field->value.base[i] > '9')
            return 0;
        n = n * 10 + (uint64_t)(field->value.base[i] - '0');
    }
    for (size_t i = 0; i != sizeof(units) / sizeof(units[0]); ++i)
        if (units[i].unit == field->value.base[field->value.len - 1]) {
            uint64_t us = units[i].us != 0 ? n * units[i].us : n / 1000;
            return us < 1000 ? 1 : us / 1000;
        }
    return 0;
}

unsigned gw_grpc_status_of(enum gw_reason reason, int http_status)
{
    enum {
        UNKNOWN = 2,
        DEADLINE_EXCEEDED = 4,
        PERMISSION_DENIED = 7,
        UNIMPLEMENTED = 12,
        INTERNAL,
        UNAVAILABLE,
        UNAUTHENTICATED = 16
    };
    if (reason == GW_REASON_GRPC_DEADLINE)
        return DEADLINE_EXCEEDED;
    switch (http_status) {
    case 400:
        return INTERNAL;
    case 401:
        return UNAUTHENTICATED;
    case 403:
        return PERMISSION_DENIED;
    case 404:
        return UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return UNAVAILABLE;
    default:
        return UNKNOWN;
    }
}

h2o_iovec_t gw_grpc_encode_message(h2o_mem_pool_t *pool, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t len = strlen(text);
    char *start = h2o_mem_alloc_pool(pool, 3 * len + 1), *dst = start;
    for (size_t i = 0; i != len; ++i) {
        unsigned char c = (unsigned char)text[i];
        if (c >= ' ' && c <= '~' && c != '%') {
            *dst++ = (char)c;
            continue;
        }
        *dst++ = '%';
        *dst++ = digits[c >> 4];
        *dst++ = digits[c & 15];
    }
    return h2o_iovec_init(start, dst - start);
}

static void add(h2o_req_t *req, const char *name, size_t name_len, h2o_iovec_t value)
{
    h2o_add_header_by_str(&req->pool, &req->res.headers, name, name_len, 0, NULL, value.base, value.len);
}

void gw_grpc_answer(struct gw_request *request, enum gw_reason reason, unsigned code, const char *message)
{
    static h2o_generator_t generator; /* libh2o wants one; nothing is written */
    h2o_req_t *req = &request->stream->req;
    char *digits = h2o_mem_alloc_pool(&req->pool, 12);

    request->reason = reason;
    request->status = 200;
    req->res.status = 200;
    req->res.reason = "OK";
    req->res.content_length = SIZE_MAX; /* none: the head ends the stream */
    gw_answer_add_server(request);
    h2o_set_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, H2O_STRLIT("application/grpc"), 1);
    add(req, H2O_STRLIT("grpc-status"), h2o_iovec_init(digits, sprintf(digits, "%u", code)));
    add(req, H2O_STRLIT("grpc-message"), gw_grpc_encode_message(&req->pool, message));
    if (request->client_is_trusted) {
        const char *name = gw_reason_info(reason)->code;
        add(req, H2O_STRLIT("x-weir-reason"), h2o_iovec_init(name, strlen(name)));
    }
    gw_answer_start(request, &generator);
    h2o_send(req, NULL, 0, H2O_SEND_STATE_FINAL);
}
