#include <string.h>
#include "gateway/upstream/client_state.h"
#include "gateway/http/field_lines.h"

static const char version_and_host[] = " HTTP/1.1\r\nhost: ";
static const char connection_close[] = "connection: close\r\n";
static const char chunked_coding[] = "transfer-encoding: chunked\r\n";
static const char content_length[] = "content-length: ";
static const char te_trailers[] = "te: trailers\r\n", connection_te[] = "connection: te\r\n";
static const char connection_close_te[] = "connection: close, te\r\n";
static const char trailer[] = "trailer: ";
static const char connection_upgrade[] = "connection: upgrade\r\nupgrade: ";

static bool has_trailers(const struct gw_client_request *req)
{
    return req->trailers != NULL && (req->announced_trailers.base != NULL || req->trailers->size != 0);
}

bool gw_client_body_is_chunked(const struct gw_client_request *req)
{
    return req->has_body &&
           ((!req->body_is_whole && req->content_length == UINT64_MAX) || __builtin_expect(has_trailers(req), 0));
}

size_t gw_client_head_bound(const struct gw_client_request *req)
{
    size_t n = req->method.len + 1 + req->target.len + sizeof(version_and_host) + req->host.len + 2 +
               sizeof(connection_close) + sizeof(chunked_coding) + sizeof(content_length) + 22 + 2 +
               sizeof(connection_upgrade) + req->upgrade.len + 2 + sizeof(te_trailers) + sizeof(connection_close_te) +
               sizeof(trailer) + req->announced_trailers.len + 2 + gw_field_lines_bound(req->fields, req->num_fields);
    if (req->body_is_whole && req->trailers != NULL)
        n += gw_trailers_bound(req->trailers);
    return n + (req->has_body ? req->body.len + 20 : 0); /* 16 digits and two line ends frame a chunk */
}

static char *put(char *dst, const char *bytes, size_t len)
{
    memcpy(dst, bytes, len);
    return dst + len;
}

static char *put_slice(char *dst, h2o_iovec_t s) { return s.len == 0 ? dst : put(dst, s.base, s.len); }

static char *put_number(char *dst, uint64_t n)
{
    char digits[20], *p = digits + sizeof(digits);
    do {
        *--p = (char)('0' + n % 10);
    } while ((n /= 10) != 0);
    return put(dst, p, (size_t)(digits + sizeof(digits) - p));
}

/* RFC 9110, 8.6: these methods anticipate content, so that its absence is said; the others stay without a length. */
static bool anticipates_body(h2o_iovec_t method)
{
    return h2o_memis(method.base, method.len, H2O_STRLIT("POST")) ||
           h2o_memis(method.base, method.len, H2O_STRLIT("PUT")) ||
           h2o_memis(method.base, method.len, H2O_STRLIT("PATCH"));
}

static char *put_body_framing(char *p, const struct gw_client_request *req)
{
    uint64_t length = req->content_length;
    if (!req->has_body) {
        if (!anticipates_body(req->method))
            return p;
        length = 0;
    } else if (gw_client_body_is_chunked(req)) {
        p = put(p, H2O_STRLIT(chunked_coding));
        if (__builtin_expect(req->announced_trailers.base == NULL, 1))
            return p;
        p = put(p, H2O_STRLIT(trailer));
        p = put_slice(p, req->announced_trailers);
        return put(p, "\r\n", 2);
    } else if (req->body_is_whole) {
        length = req->body.len;
    }
    p = put(p, H2O_STRLIT(content_length));
    p = put_number(p, length);
    return put(p, "\r\n", 2);
}

static char *put_body(char *p, const struct gw_client_request *req)
{
    if (!req->has_body)
        return p;
    if (!gw_client_body_is_chunked(req))
        return put_slice(p, req->body);
    if (req->body.len != 0) {
        p += sprintf(p, "%zx\r\n", req->body.len);
        p = put(p, req->body.base, req->body.len);
        p = put(p, "\r\n", 2);
    }
    if (req->body_is_whole) /* and chunked for the sake of its trailers */
        p += gw_trailers_write(p, req->trailers);
    return p;
}

static char *put_connection(char *p, const struct gw_client_request *req, bool close)
{
    if (req->upgrade.base != NULL) { /* that the connection serves no other request goes without saying */
        p = put(p, H2O_STRLIT(connection_upgrade));
        p = put_slice(p, req->upgrade);
        return put(p, "\r\n", 2);
    }
    if (__builtin_expect(req->accepts_trailers, 0)) { /* RFC 9110 10.1.4: TE is of this connection */
        p = put(p, H2O_STRLIT(te_trailers));
        return close ? put(p, H2O_STRLIT(connection_close_te)) : put(p, H2O_STRLIT(connection_te));
    }
    return close ? put(p, H2O_STRLIT(connection_close)) : p;
}

size_t gw_client_write_head(char *dst, const struct gw_client_request *req, bool close)
{
    char *p = put(dst, req->method.base, req->method.len);
    *p++ = ' ';
    p = put(p, req->target.base, req->target.len);
    p = put(p, H2O_STRLIT(version_and_host));
    p = put_slice(p, req->host);
    p = put(p, "\r\n", 2);
    p = gw_field_lines_put(p, req->fields, req->num_fields);
    p = put_body_framing(p, req);
    p = put_connection(p, req, close);
    p = put(p, "\r\n", 2);
    return (size_t)(put_body(p, req) - dst);
}
