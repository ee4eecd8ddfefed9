/* Who may use the admin API. A Unix socket asks nobody: its file mode did. Over TCP a token, where one is configured.
 * And never a page in a browser that is not our own: by a form or script (Origin), or by a host name that was made to
 * point here (DNS rebinding). */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include "gateway/admin/admin_request.h"

static h2o_iovec_t field_of(const struct gw_stream *stream, const char *name, size_t len)
{
    for (size_t i = 0; i != stream->head.num_fields; ++i) {
        const h2o_header_t *field = &stream->head.fields[i];
        if (h2o_memis(field->name->base, field->name->len, name, len))
            return field->value;
    }
    return h2o_iovec_init(NULL, 0);
}

static bool is_unix(const struct gw_stream *stream)
{
    return h2o_memis(stream->conn->peer_text, stream->conn->peer_text_len, H2O_STRLIT("unix"));
}

static bool same_bytes(h2o_iovec_t a, h2o_iovec_t b)
{
    return a.len == b.len && CRYPTO_memcmp(a.base, b.base, a.len) == 0;
}

/* Empty where it is none. */
static h2o_iovec_t decode_base64(h2o_mem_pool_t *pool, h2o_iovec_t text)
{
    h2o_iovec_t bytes = h2o_iovec_init(h2o_mem_alloc_pool(pool, text.len + 4), 0);
    int len = text.len % 4 == 0 && text.len < 1 << 16
                  ? EVP_DecodeBlock((unsigned char *)bytes.base, (const unsigned char *)text.base, (int)text.len)
                  : -1;

    if (len <= 0)
        return bytes;
    bytes.len = (size_t)len;
    for (size_t i = 1; i <= 2 && text.base[text.len - i] == '='; ++i)
        --bytes.len;
    return bytes;
}

/* `Authorization: Bearer TOKEN`, or, because browsers can ask for that, `Basic` with the token as password. */
static bool has_token(struct gw_admin_request *self, h2o_iovec_t token)
{
    const struct gw_stream *stream = self->request.stream;
    h2o_iovec_t value = field_of(stream, H2O_STRLIT("authorization"));

    if (value.len > 7 && strncasecmp(value.base, "bearer ", 7) == 0)
        return same_bytes(h2o_iovec_init(value.base + 7, value.len - 7), token);
    if (value.len <= 6 || strncasecmp(value.base, "basic ", 6) != 0)
        return false;
    h2o_iovec_t pair = decode_base64(self->request.pool, h2o_iovec_init(value.base + 6, value.len - 6));
    const char *colon = pair.len != 0 ? memchr(pair.base, ':', pair.len) : NULL;
    return colon != NULL && same_bytes(h2o_iovec_init(colon + 1, pair.base + pair.len - colon - 1), token);
}

/* Of a Host or Origin, without the port. */
static bool is_address_or_localhost(h2o_iovec_t host)
{
    struct gw_ip ip;

    if (host.len != 0 && host.base[host.len - 1] != ']') {
        const char *colon = h2o_memrchr(host.base, ':', host.len);
        if (colon != NULL)
            host.len = colon - host.base;
    }
    return gw_ip_parse(host, &ip) || h2o_lcstris(host.base, host.len, H2O_STRLIT("localhost"));
}

/* A page that we served ourselves: its origin is the host it was asked from. */
static bool is_our_own_page(h2o_iovec_t origin, h2o_iovec_t host)
{
    static const char scheme[] = "http://";
    size_t len = sizeof(scheme) - 1;

    return host.len != 0 && origin.len == len + host.len && memcmp(origin.base, scheme, len) == 0 &&
           strncasecmp(origin.base + len, host.base, host.len) == 0;
}

static bool is_from_another_page(const struct gw_stream *stream, bool has_proved_itself)
{
    h2o_iovec_t host = stream->head.authority, origin = field_of(stream, H2O_STRLIT("origin"));

    if (!is_unix(stream) && !has_proved_itself && host.len != 0 && !is_address_or_localhost(host))
        return true;
    return origin.base != NULL && !is_our_own_page(origin, host);
}

/* Probes of orchestrators cannot say a token, and learn nothing here that a connection would not tell. */
static bool is_open_to_all(h2o_iovec_t path)
{
    return h2o_memis(path.base, path.len, H2O_STRLIT("/healthz")) ||
           h2o_memis(path.base, path.len, H2O_STRLIT("/readyz"));
}

bool gw_admin_may_enter(struct gw_admin_request *self, h2o_iovec_t token)
{
    const struct gw_stream *stream = self->request.stream;
    bool asks_token = token.base != NULL && !is_unix(stream) && !is_open_to_all(self->path);
    bool has_proved_itself = asks_token && has_token(self, token);

    if (is_from_another_page(stream, has_proved_itself)) {
        gw_admin_problem(self, 403,
                         "the admin API is not for web pages but its own: no other Origin, and a Host that is an "
                         "address or localhost");
        return false;
    }
    if (asks_token && !has_proved_itself) {
        gw_admin_add_header(self, "www-authenticate", "Basic realm=\"weir\", charset=\"UTF-8\"");
        gw_admin_problem(self, 401, "admin.token is needed: Authorization: Bearer TOKEN");
        return false;
    }
    return true;
}
