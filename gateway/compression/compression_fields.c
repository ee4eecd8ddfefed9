#include "gateway/compression/compression_fields.h"
#include <string.h>
#include "gateway/http/list_field.h"

static bool has_member(h2o_iovec_t list, const char *name, size_t len)
{
    while (list.len != 0) {
        h2o_iovec_t member = gw_list_next(&list);
        if (h2o_lcstris(member.base, member.len, name, len))
            return true;
    }
    return false;
}

bool gw_compression_has_no_transform(const h2o_header_t *headers, size_t num)
{
    for (size_t i = 0; i != num; ++i)
        if (headers[i].name == &H2O_TOKEN_CACHE_CONTROL->buf &&
            has_member(headers[i].value, H2O_STRLIT("no-transform")))
            return true;
    return false;
}

void gw_compression_fields_read(const h2o_headers_t *headers, struct gw_compression_fields *fields)
{
    *fields = (struct gw_compression_fields){{NULL}};
    for (size_t i = 0; i != headers->size; ++i) {
        const h2o_header_t *header = &headers->entries[i];
        if (header->name == &H2O_TOKEN_CONTENT_TYPE->buf) {
            const char *end = memchr(header->value.base, ';', header->value.len);
            size_t len = end != NULL ? (size_t)(end - header->value.base) : header->value.len;
            fields->type = gw_trim(h2o_iovec_init(header->value.base, len));
        } else if (header->name == &H2O_TOKEN_CONTENT_ENCODING->buf || header->name == &H2O_TOKEN_CONTENT_RANGE->buf) {
            fields->is_encoded = true;
        }
    }
    fields->is_no_transform = gw_compression_has_no_transform(headers->entries, headers->size);
}

void gw_compression_add_vary(h2o_mem_pool_t *pool, h2o_headers_t *fields)
{
    h2o_header_t *vary = NULL;

    for (size_t i = 0; i != fields->size; ++i) {
        if (fields->entries[i].name != &H2O_TOKEN_VARY->buf)
            continue;
        vary = &fields->entries[i];
        if (has_member(vary->value, H2O_STRLIT("accept-encoding")) || has_member(vary->value, H2O_STRLIT("*")))
            return;
    }
    if (vary == NULL || gw_trim(vary->value).len == 0)
        h2o_add_header(pool, fields, H2O_TOKEN_VARY, NULL, H2O_STRLIT("Accept-Encoding"));
    else
        vary->value = h2o_concat(pool, vary->value, h2o_iovec_init(H2O_STRLIT(", Accept-Encoding")));
}

/* ---- ETag ---- */

/* RFC 9110 8.8.3: W/"..." or "...", printable without quotes, or bytes above 0x7f */
static bool is_etag(h2o_iovec_t tag, bool *is_weak)
{
    *is_weak = tag.len > 2 && memcmp(tag.base, "W/", 2) == 0;
    if (*is_weak)
        tag = h2o_iovec_init(tag.base + 2, tag.len - 2);
    if (tag.len < 2 || tag.base[0] != '"' || tag.base[tag.len - 1] != '"')
        return false;
    for (size_t i = 1; i != tag.len - 1; ++i) {
        unsigned char c = (unsigned char)tag.base[i];
        if (c <= 0x20 || c == '"' || c == 0x7f)
            return false;
    }
    return true;
}

static h2o_iovec_t weakened(h2o_mem_pool_t *pool, h2o_iovec_t tag)
{
    return h2o_concat(pool, h2o_iovec_init(H2O_STRLIT("W/")), tag);
}

static bool is_stale_field(const h2o_header_t *header)
{
    /* Repr-Digest and Digest are of the coded representation too (RFC 9530 3.1) */
    static const h2o_iovec_t digests[] = {{H2O_STRLIT("content-md5")},
                                          {H2O_STRLIT("digest")},
                                          {H2O_STRLIT("content-digest")},
                                          {H2O_STRLIT("repr-digest")}};
    bool is_weak;

    if (header->name == &H2O_TOKEN_ETAG->buf)
        return !is_etag(gw_trim(header->value), &is_weak);
    if (header->name == &H2O_TOKEN_ACCEPT_RANGES->buf || header->name == &H2O_TOKEN_CONTENT_LENGTH->buf)
        return true;
    for (size_t i = 0; i != sizeof(digests) / sizeof(digests[0]); ++i)
        if (h2o_lcstris(header->name->base, header->name->len, digests[i].base, digests[i].len))
            return true;
    return false;
}

void gw_compression_change_fields(h2o_mem_pool_t *pool, h2o_headers_t *fields, enum gw_coding coding)
{
    h2o_iovec_t name = gw_coding_name(coding);
    size_t kept = 0;
    bool is_weak;

    for (size_t i = 0; i != fields->size; ++i) {
        h2o_header_t header = fields->entries[i];
        if (is_stale_field(&header))
            continue;
        if (header.name == &H2O_TOKEN_ETAG->buf && is_etag(gw_trim(header.value), &is_weak) && !is_weak)
            header.value = weakened(pool, gw_trim(header.value));
        fields->entries[kept++] = header;
    }
    fields->size = kept;
    h2o_add_header(pool, fields, H2O_TOKEN_CONTENT_ENCODING, NULL, name.base, name.len);
}

void gw_compression_change_trailers(struct gw_trailers *trailers)
{
    size_t kept = 0;

    for (size_t i = 0; i != trailers->size; ++i) {
        const h2o_header_t *field = &trailers->entries[i];
        if (!is_stale_field(field) && !h2o_memis(field->name->base, field->name->len, H2O_STRLIT("etag")))
            trailers->entries[kept++] = *field;
    }
    trailers->size = kept;
}

static bool names_weak(const h2o_header_t *request, size_t num, h2o_iovec_t tag)
{
    for (size_t i = 0; i != num; ++i) {
        h2o_iovec_t rest = request[i].value;
        while (request[i].name == &H2O_TOKEN_IF_NONE_MATCH->buf && rest.len != 0) {
            h2o_iovec_t member = gw_list_next(&rest);
            if (member.len == tag.len + 2 && memcmp(member.base, "W/", 2) == 0 &&
                memcmp(member.base + 2, tag.base, tag.len) == 0)
                return true;
        }
    }
    return false;
}

void gw_compression_change_304(h2o_mem_pool_t *pool, h2o_headers_t *fields, const h2o_header_t *request,
                               size_t num_request)
{
    ssize_t at = h2o_find_header(fields, H2O_TOKEN_ETAG, -1);
    bool is_weak;

    gw_compression_add_vary(pool, fields);
    if (at == -1)
        return;
    h2o_iovec_t tag = gw_trim(fields->entries[at].value);
    if (is_etag(tag, &is_weak) && !is_weak && names_weak(request, num_request, tag))
        fields->entries[at].value = weakened(pool, tag);
}
