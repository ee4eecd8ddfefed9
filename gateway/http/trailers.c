#include "gateway/http/trailers.h"
#include <string.h>
#include "gateway/http/head.h"

/* refused: lower case, with hyphens */
static bool has_prefix(h2o_iovec_t name, const char *refused, size_t len)
{
    if (name.len < len)
        return false;
    for (size_t i = 0; i != len; ++i)
        if ((name.base[i] == '_' ? '-' : h2o_tolower(name.base[i])) != refused[i])
            return false;
    return true;
}

bool gw_trailer_is_allowed(h2o_iovec_t name)
{
    static const char *const refused[] = {
        "accept-ranges",
        "age",
        "authorization",
        "cache-control",
        "connection",
        "cookie",
        "date",
        "expect",
        "expires",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "location",
        "max-forwards",
        "origin",
        "pragma",
        "range",
        "retry-after",
        "set-cookie",
        "set-cookie2",
        "strict-transport-security",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "via",
        "warning",
        "www-authenticate",
        "x-api-key",
        "x-real-ip",
        "x-request-id",
    };
    static const char *const prefixes[] = {"access-control-", "content-",     "if-",    "proxy-",
                                           "x-amzn-",         "x-forwarded-", "x-weir-"};
    /* of the content-* these are what trailers are for: known only when all has been sent (RFC 9530 2) */
    static const char *const allowed[] = {"content-digest", "content-md5"};
    for (size_t i = 0; i != sizeof(allowed) / sizeof(allowed[0]); ++i)
        if (name.len == strlen(allowed[i]) && has_prefix(name, allowed[i], name.len))
            return true;
    for (size_t i = 0; i != sizeof(refused) / sizeof(refused[0]); ++i)
        if (name.len == strlen(refused[i]) && has_prefix(name, refused[i], name.len))
            return false;
    for (size_t i = 0; i != sizeof(prefixes) / sizeof(prefixes[0]); ++i)
        if (has_prefix(name, prefixes[i], strlen(prefixes[i])))
            return false;
    return true;
}

/* ---- reading ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

size_t gw_trailers_count(h2o_iovec_t section)
{
    size_t n = 0;
    for (size_t i = 0; i != section.len; ++i)
        n += section.base[i] == '\n';
    return n;
}

size_t gw_trailers_cut(h2o_iovec_t section, const char *head, h2o_header_t *fields, h2o_iovec_t *names)
{
    char *p = section.base;
    size_t n = 0;

    if (section.len == 0) /* its base may be NULL, to which C adds nothing, not even 0 */
        return 0;
    for (char *end = p + section.len; p != end;) {
        char *line_end = (char *)memchr(p, '\n', (size_t)(end - p)) - 1;
        char *colon = memchr(p, ':', (size_t)(line_end - p)), *from = colon + 1, *to = line_end;
        h2o_iovec_t name = h2o_iovec_init(p, (size_t)(colon - p));
        p = line_end + 2;
        while (from != to && is_blank(*from))
            ++from;
        while (from != to && is_blank(to[-1]))
            --to;
        h2o_strtolower(name.base, name.len);
        if (!gw_trailer_is_allowed(name) || gw_head_nominates(head, name))
            continue;
        const h2o_token_t *token = h2o_lookup_token(name.base, name.len);
        names[n] = name;
        fields[n] = (h2o_header_t){.name = token != NULL ? (h2o_iovec_t *)&token->buf : &names[n],
                                   .value = h2o_iovec_init(from, (size_t)(to - from))};
        ++n;
    }
    return n;
}

/* ---- announcing ---- */

static void append_name(h2o_iovec_t *list, h2o_iovec_t name)
{
    if (list->len != 0) {
        memcpy(list->base + list->len, ", ", 2);
        list->len += 2;
    }
    memcpy(list->base + list->len, name.base, name.len);
    list->len += name.len;
}

h2o_iovec_t gw_trailers_announce(h2o_mem_pool_t *pool, h2o_iovec_t value)
{
    const char *p = value.base, *end = p + value.len;
    h2o_iovec_t list = {h2o_mem_alloc_pool(pool, 2 * value.len + 2), 0};

    while (p < end) {
        const char *comma = memchr(p, ',', (size_t)(end - p)), *to = comma != NULL ? comma : end, *next = to + 1;
        while (p != to && is_blank(*p))
            ++p;
        while (p != to && is_blank(to[-1]))
            --to;
        h2o_iovec_t name = h2o_iovec_init(p, (size_t)(to - p));
        if (gw_is_token(name) && gw_trailer_is_allowed(name))
            append_name(&list, name);
        p = next;
    }
    return list.len != 0 ? list : h2o_iovec_init(NULL, 0);
}

h2o_iovec_t gw_trailers_names(h2o_mem_pool_t *pool, const struct gw_trailers *trailers)
{
    size_t len = 0;
    for (size_t i = 0; i != trailers->size; ++i)
        len += trailers->entries[i].name->len + 2;
    h2o_iovec_t list = {h2o_mem_alloc_pool(pool, len), 0};
    for (size_t i = 0; i != trailers->size; ++i)
        append_name(&list, *trailers->entries[i].name);
    return list;
}

/* ---- writing ---- */

size_t gw_trailers_bound(const struct gw_trailers *trailers)
{
    size_t len = 5;
    for (size_t i = 0; i != trailers->size; ++i)
        len += trailers->entries[i].name->len + trailers->entries[i].value.len + 4;
    return len;
}

static char *put(char *dst, const char *bytes, size_t len)
{
    if (len != 0)
        memcpy(dst, bytes, len);
    return dst + len;
}

size_t gw_trailers_write(char *dst, const struct gw_trailers *trailers)
{
    char *p = put(dst, H2O_STRLIT("0\r\n"));
    for (size_t i = 0; i != trailers->size; ++i) {
        const h2o_header_t *field = &trailers->entries[i];
        p = put(p, field->name->base, field->name->len);
        p = put(p, H2O_STRLIT(": "));
        p = put(p, field->value.base, field->value.len);
        p = put(p, H2O_STRLIT("\r\n"));
    }
    return (size_t)(put(p, H2O_STRLIT("\r\n")) - dst);
}
