#include <stdlib.h>
#include <string.h>
#include "gateway/upstream/h2_session.h"

static const char te[] = "te", trailers[] = "trailers", content_length[] = "content-length", trailer[] = "trailer";

/* Secrets are kept out of the table that all requests of a connection share (RFC 7541 7.1.3). */
static uint8_t flags_of(h2o_iovec_t name)
{
    return h2o_memis(name.base, name.len, H2O_STRLIT("authorization")) ||
                   h2o_memis(name.base, name.len, H2O_STRLIT("cookie"))
               ? NGHTTP2_NV_FLAG_NO_INDEX
               : NGHTTP2_NV_FLAG_NONE;
}

static nghttp2_nv pair(const char *name, size_t name_len, h2o_iovec_t value)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value.base, name_len, value.len, NGHTTP2_NV_FLAG_NONE};
}

/* Names are in lower case on this side (RFC 9113 8.2.1), whatever header rules have written. */
static char *copy_lower(char *dst, h2o_iovec_t from)
{
    for (size_t i = 0; i != from.len; ++i)
        dst[i] = (char)h2o_tolower(from.base[i]);
    return dst + from.len;
}

static char *copy(char *dst, h2o_iovec_t from)
{
    if (from.len != 0)
        memcpy(dst, from.base, from.len);
    return dst + from.len;
}

nghttp2_nv *gw_h2_request_fields(const struct gw_client_request *req, bool is_tls, size_t *num_fields)
{
    size_t max = req->num_fields + 7, n = 0;
    size_t size = req->method.len + req->target.len + req->host.len + req->announced_trailers.len + 20;
    for (size_t i = 0; i != req->num_fields; ++i)
        size += req->fields[i].name->len + req->fields[i].value.len;
    nghttp2_nv *list = h2o_mem_alloc(max * sizeof(*list) + size);
    char *p = (char *)(list + max), *at = p;

    p = copy(p, req->method);
    list[n++] = pair(H2O_STRLIT(":method"), h2o_iovec_init(at, req->method.len));
    list[n++] =
        pair(H2O_STRLIT(":scheme"), is_tls ? h2o_iovec_init(H2O_STRLIT("https")) : h2o_iovec_init(H2O_STRLIT("http")));
    at = p;
    p = copy(p, req->host);
    list[n++] = pair(H2O_STRLIT(":authority"), h2o_iovec_init(at, req->host.len));
    at = p;
    p = copy(p, req->target);
    list[n++] = pair(H2O_STRLIT(":path"), h2o_iovec_init(at, req->target.len));
    for (size_t i = 0; i != req->num_fields; ++i) {
        h2o_iovec_t name = {p, req->fields[i].name->len};
        p = copy_lower(p, *req->fields[i].name);
        h2o_iovec_t value = {p, req->fields[i].value.len};
        p = copy(p, req->fields[i].value);
        list[n] = pair(name.base, name.len, value);
        list[n++].flags = flags_of(name);
    }
    /* gRPC targets insist on it, and trailers are taken in any case */
    list[n++] = pair(te, 2, h2o_iovec_init(trailers, 8));
    if (__builtin_expect(req->announced_trailers.base != NULL, 0)) {
        list[n++] = pair(trailer, sizeof(trailer) - 1, h2o_iovec_init(p, req->announced_trailers.len));
        p = copy(p, req->announced_trailers);
    }
    if (req->has_body && (req->body_is_whole || req->content_length != UINT64_MAX)) {
        uint64_t length = req->body_is_whole ? req->body.len : req->content_length;
        int len = sprintf(p, "%llu", (unsigned long long)length); /* at most 20 digits; the NUL lands in the reserve */
        list[n++] = pair(content_length, sizeof(content_length) - 1, h2o_iovec_init(p, len));
    }
    *num_fields = n;
    return list;
}

bool gw_h2_fields_add(struct gw_h2_fields *self, const char *name, size_t name_len, const char *value, size_t value_len)
{
    size_t size = self->size + name_len + value_len;
    if (self->num_fields == GW_HEAD_MAX_FIELDS || size + 4 * self->num_fields > GW_CLIENT_MAX_HEAD)
        return false;
    if (size > self->capacity) {
        self->capacity = size < 512 ? 1024 : 2 * size;
        self->bytes = h2o_mem_realloc(self->bytes, self->capacity);
    }
    self->at[self->num_fields].name_at = (uint32_t)self->size;
    self->at[self->num_fields].name_len = (uint32_t)name_len;
    self->at[self->num_fields].value_at = (uint32_t)(self->size + name_len);
    self->at[self->num_fields++].value_len = (uint32_t)value_len;
    memcpy(self->bytes + self->size, name, name_len);
    if (value_len != 0)
        memcpy(self->bytes + self->size + name_len, value, value_len);
    self->size = size;
    return true;
}

size_t gw_h2_fields_finish(const struct gw_h2_fields *self, h2o_header_t *fields, h2o_iovec_t *names,
                           bool (*is_wanted)(h2o_iovec_t name))
{
    size_t n = 0;
    for (uint32_t i = 0; i != self->num_fields; ++i) {
        h2o_iovec_t name = {self->bytes + self->at[i].name_at, self->at[i].name_len};
        if (!is_wanted(name))
            continue;
        const h2o_token_t *token = h2o_lookup_token(name.base, name.len);
        names[n] = name;
        fields[n] = (h2o_header_t){.name = token != NULL ? (h2o_iovec_t *)&token->buf : &names[n],
                                   .value = {self->bytes + self->at[i].value_at, self->at[i].value_len}};
        ++n;
    }
    return n;
}
