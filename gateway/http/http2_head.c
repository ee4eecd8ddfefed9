#include "gateway/http/http2_head.h"
#include <string.h>
#include "gateway/http/grammar.h"

enum {
    FIRST_FIELDS = 24,
    ROOM = 1000,    /* pools of libh2o give out less than a quarter of 4 KiB without another malloc() */
    OVERHEAD = 32,  /* RFC 9113 6.5.2 */
    MAX_METHOD = 32 /* as in head.c */
};

void gw_http2_head_init(struct gw_http2_head *self, h2o_mem_pool_t *pool, const struct gw_head_limits *limits,
                        bool is_trailer)
{
    memset(self, 0, sizeof(*self));
    self->pool = pool;
    self->limits = limits;
    self->is_trailer = is_trailer;
}

static h2o_iovec_t keep(struct gw_http2_head *self, h2o_iovec_t text)
{
    if (self->room_left < text.len || self->room == NULL) { /* what is there has a base, however short */
        self->room_left = text.len > ROOM ? text.len : ROOM;
        self->room = h2o_mem_alloc_pool(self->pool, self->room_left);
    }
    char *to = self->room;
    memcpy(to, text.base, text.len);
    self->room += text.len;
    self->room_left -= text.len;
    return h2o_iovec_init(to, text.len);
}

static h2o_header_t *add_field(struct gw_http2_head *self)
{
    struct gw_http2_fields *fields = &self->fields;
    if (fields->size == fields->capacity) {
        size_t capacity = fields->capacity == 0 ? FIRST_FIELDS : 2 * fields->capacity;
        h2o_header_t *entries = h2o_mem_alloc_pool(self->pool, sizeof(*entries) * capacity);
        h2o_memcpy(entries, fields->entries, sizeof(*entries) * fields->size);
        fields->entries = entries;
        fields->capacity = capacity;
    }
    return &fields->entries[fields->size++];
}

/* ---- names and values ---- */

/* RFC 9113 8.2.1: a token without upper case. */
static bool is_name(h2o_iovec_t name)
{
    for (size_t i = 0; i != name.len; ++i)
        if (!gw_char_is(name.base[i], GW_CHAR_TOKEN) || gw_char_is(name.base[i], GW_CHAR_UPPER))
            return false;
    return name.len != 0;
}

static bool is(h2o_iovec_t text, const char *literal, size_t len)
{
    return h2o_memis(text.base, text.len, literal, len);
}

/* RFC 9113 8.2.2 */
static bool is_connection_specific(const h2o_token_t *token, h2o_iovec_t name)
{
    if (token != NULL)
        return token == H2O_TOKEN_CONNECTION || token == H2O_TOKEN_TRANSFER_ENCODING || token == H2O_TOKEN_UPGRADE ||
               token == H2O_TOKEN_KEEP_ALIVE;
    return is(name, H2O_STRLIT("proxy-connection"));
}

/* ---- pseudo-header fields ---- */

static enum gw_head_result set_once(struct gw_http2_head *self, h2o_iovec_t *slot, h2o_iovec_t value, bool is_static)
{
    if (slot->base != NULL)
        return GW_HEAD_BAD_PSEUDO;
    *slot = is_static ? value : keep(self, value);
    return GW_HEAD_OK;
}

static enum gw_head_result add_pseudo(struct gw_http2_head *self, h2o_iovec_t name, h2o_iovec_t value, bool is_static)
{
    if (self->is_trailer || self->saw_field)
        return GW_HEAD_BAD_PSEUDO;
    if (is(name, H2O_STRLIT(":method")))
        return set_once(self, &self->method, value, is_static);
    if (is(name, H2O_STRLIT(":path"))) {
        if (value.len > self->limits->max_target)
            return GW_HEAD_TARGET_TOO_LONG;
        return set_once(self, &self->path, value, is_static);
    }
    if (is(name, H2O_STRLIT(":scheme")))
        return set_once(self, &self->scheme, value, is_static);
    if (is(name, H2O_STRLIT(":authority")))
        return set_once(self, &self->authority, value, is_static);
    if (is(name, H2O_STRLIT(":protocol")))
        return set_once(self, &self->protocol, value, is_static);
    return GW_HEAD_BAD_PSEUDO;
}

/* ---- regular fields ---- */

static enum gw_head_result take_length(struct gw_http2_head *self, h2o_iovec_t value)
{
    if (self->has_content_length)
        return GW_HEAD_REPEATED_CONTENT_LENGTH;
    self->has_content_length = true;
    return gw_head_read_length(value, &self->content_length) ? GW_HEAD_OK : GW_HEAD_BAD_CONTENT_LENGTH;
}

static enum gw_head_result take_host(struct gw_http2_head *self, h2o_iovec_t value, bool is_static)
{
    if (self->host.base != NULL)
        return GW_HEAD_REPEATED_HOST;
    self->host = is_static ? value : keep(self, value);
    return gw_is_authority(value) ? GW_HEAD_OK : GW_HEAD_BAD_HOST;
}

static enum gw_head_result take_te(struct gw_http2_head *self, h2o_iovec_t value)
{
    self->accepts_trailers = h2o_lcstris(value.base, value.len, H2O_STRLIT("trailers"));
    return self->accepts_trailers ? GW_HEAD_OK : GW_HEAD_CONNECTION_FIELD;
}

static enum gw_head_result take_expect(struct gw_http2_head *self, h2o_iovec_t value)
{
    self->expects_continue = h2o_lcstris(value.base, value.len, H2O_STRLIT("100-continue"));
    return self->expects_continue ? GW_HEAD_OK : GW_HEAD_BAD_EXPECT;
}

/* RFC 9113 8.2.3: browsers cut Cookie into crumbs, which are joined again at the end. */
static enum gw_head_result take_crumb(struct gw_http2_head *self, h2o_iovec_t value, bool is_static)
{
    h2o_iovec_t kept = is_static ? value : keep(self, value);
    if (self->crumbs.size == 0) {
        if (self->fields.size >= self->limits->max_fields)
            return GW_HEAD_TOO_MANY_FIELDS;
        self->cookie_at = self->fields.size;
        *add_field(self) = (h2o_header_t){.name = (h2o_iovec_t *)&H2O_TOKEN_COOKIE->buf, .value = kept};
    }
    h2o_vector_reserve(self->pool, &self->crumbs, self->crumbs.size + 1);
    self->crumbs.entries[self->crumbs.size++] = kept;
    return GW_HEAD_OK;
}

/* Fields that we consume: the same as over HTTP/1 (head.h). */
static bool take(struct gw_http2_head *self, const h2o_token_t *token, h2o_iovec_t value, bool is_static,
                 enum gw_head_result *result)
{
    *result = GW_HEAD_OK;
    if (token == H2O_TOKEN_CONTENT_LENGTH)
        *result = self->is_trailer ? GW_HEAD_OK : take_length(self, value);
    else if (token == H2O_TOKEN_HOST)
        *result = self->is_trailer ? GW_HEAD_OK : take_host(self, value, is_static);
    else if (token == H2O_TOKEN_TE)
        *result = take_te(self, value);
    else if (token == H2O_TOKEN_EXPECT)
        *result = self->is_trailer ? GW_HEAD_OK : take_expect(self, value);
    else if (token == H2O_TOKEN_COOKIE && !self->is_trailer)
        *result = take_crumb(self, value, is_static);
    else
        return token == H2O_TOKEN_HTTP2_SETTINGS;
    return true;
}

static enum gw_head_result add_regular(struct gw_http2_head *self, h2o_iovec_t name, h2o_iovec_t value, bool is_static)
{
    enum gw_head_result result;
    const h2o_token_t *token = h2o_lookup_token(name.base, name.len);

    self->saw_field = true;
    if (token == NULL && !is_name(name))
        return GW_HEAD_BAD_FIELD_NAME;
    self->initials |= 1u << (name.base[0] & 31);
    if (!gw_is_field_value(value))
        return GW_HEAD_BAD_FIELD_VALUE;
    if (is_connection_specific(token, name))
        return GW_HEAD_CONNECTION_FIELD;
    if (token != NULL && take(self, token, value, is_static, &result))
        return result;
    if (token == NULL && is(name, H2O_STRLIT("trailer"))) {
        if (self->trailer.base == NULL)
            self->trailer = keep(self, value);
        return GW_HEAD_OK;
    }
    if (self->fields.size >= self->limits->max_fields)
        return GW_HEAD_TOO_MANY_FIELDS;
    h2o_header_t *field = add_field(self);
    field->orig_name = NULL;
    if (token != NULL) {
        field->name = (h2o_iovec_t *)&token->buf;
    } else {
        field->name = h2o_mem_alloc_pool(self->pool, sizeof(*field->name));
        *field->name = keep(self, name);
    }
    field->value = is_static ? value : keep(self, value);
    if (token == NULL && is(name, H2O_STRLIT("priority")))
        self->priority = field->value;
    return GW_HEAD_OK;
}

void gw_http2_head_add(struct gw_http2_head *self, h2o_iovec_t name, h2o_iovec_t value, bool is_static)
{
    ++self->num_lines;
    self->bytes += name.len + value.len + OVERHEAD;
    if (self->result != GW_HEAD_OK)
        return;
    if (self->bytes > self->limits->max_bytes)
        self->result = GW_HEAD_TOO_LARGE;
    else if (name.len != 0 && name.base[0] == ':')
        self->result = add_pseudo(self, name, value, is_static);
    else
        self->result = add_regular(self, name, value, is_static);
}

/* ---- the section as a whole ---- */

static void join_crumbs(struct gw_http2_head *self)
{
    size_t len = 0;
    if (self->crumbs.size < 2)
        return;
    for (size_t i = 0; i != self->crumbs.size; ++i)
        len += self->crumbs.entries[i].len + 2;
    char *p = h2o_mem_alloc_pool(self->pool, len), *to = p;
    for (size_t i = 0; i != self->crumbs.size; ++i) {
        if (self->crumbs.entries[i].len == 0) /* a value must not end in a space */
            continue;
        if (to != p) {
            *to++ = ';';
            *to++ = ' ';
        }
        h2o_memcpy(to, self->crumbs.entries[i].base, self->crumbs.entries[i].len);
        to += self->crumbs.entries[i].len;
    }
    self->fields.entries[self->cookie_at].value = h2o_iovec_init(p, (size_t)(to - p));
}

static enum gw_head_result check_method(h2o_iovec_t method)
{
    return gw_is_token(method) && method.len <= MAX_METHOD ? GW_HEAD_OK : GW_HEAD_BAD_METHOD;
}

/* RFC 9113 8.3.1 */
static enum gw_head_result check_authority(struct gw_http2_head *self, struct gw_request_head *head)
{
    bool is_tls = self->scheme.len == 5;
    if (self->authority.base == NULL) {
        if (self->host.base == NULL)
            return GW_HEAD_MISSING_HOST;
        head->authority = self->host;
        return GW_HEAD_OK;
    }
    if (!gw_is_authority(self->authority))
        return GW_HEAD_BAD_HOST;
    if (self->host.base != NULL && !gw_is_same_authority(self->authority, self->host, is_tls))
        return GW_HEAD_HOST_CONFLICT;
    head->authority = self->authority;
    return GW_HEAD_OK;
}

static bool is_scheme(h2o_iovec_t scheme)
{
    return h2o_lcstris(scheme.base, scheme.len, H2O_STRLIT("https")) ||
           h2o_lcstris(scheme.base, scheme.len, H2O_STRLIT("http"));
}

/* What pseudo-header fields there must be and what they say. */
static enum gw_head_result check_pseudo(struct gw_http2_head *self, struct gw_request_head *head)
{
    bool is_connect;
    enum gw_head_result result;

    if (self->method.base == NULL)
        return GW_HEAD_BAD_PSEUDO;
    is_connect = is(self->method, H2O_STRLIT("CONNECT"));
    if (self->protocol.base != NULL && !is_connect)
        return GW_HEAD_BAD_PSEUDO;
    if (is_connect && self->protocol.base == NULL) /* RFC 9113 8.5: the two must be absent; and not with us at all */
        return self->scheme.base != NULL || self->path.base != NULL || self->authority.base == NULL
                   ? GW_HEAD_BAD_PSEUDO
                   : GW_HEAD_METHOD_NOT_ALLOWED;
    if (self->scheme.base == NULL || self->path.base == NULL || self->path.len == 0)
        return GW_HEAD_BAD_PSEUDO;
    if ((result = check_method(self->method)) != GW_HEAD_OK)
        return result;
    if (!is_scheme(self->scheme) || (self->protocol.base != NULL && !gw_is_token(self->protocol)))
        return GW_HEAD_BAD_TARGET;
    return gw_head_check_path(self->path, is(self->method, H2O_STRLIT("OPTIONS")), &head->query_at);
}

static void fill_head(struct gw_http2_head *self, struct gw_request_head *head)
{
    head->method = self->method;
    head->target = head->path = self->path;
    head->target_is_asterisk = self->path.len == 1 && self->path.base[0] == '*';
    head->fields = self->fields.entries;
    head->num_fields = self->fields.size;
    head->absent_initials = ~self->initials;
    head->content_length = self->has_content_length ? self->content_length : UINT64_MAX;
    head->expects_continue = self->expects_continue;
    head->accepts_trailers = self->accepts_trailers;
    head->trailer = self->trailer;
    if (self->protocol.base != NULL) {
        head->method = h2o_iovec_init(H2O_STRLIT("GET"));
        head->wants_upgrade = true;
        head->upgrade = self->protocol;
    }
}

enum gw_head_result gw_http2_head_finish(struct gw_http2_head *self, struct gw_request_head *head)
{
    enum gw_head_result result = self->result;

    memset(head, 0, sizeof(*head));
    head->query_at = SIZE_MAX;
    head->content_length = UINT64_MAX;
    head->minor_version = 1;
    head->keep_alive = true;
    if (result == GW_HEAD_OK)
        result = check_pseudo(self, head);
    if (result == GW_HEAD_OK)
        result = check_authority(self, head);
    if (result != GW_HEAD_OK)
        return result;
    join_crumbs(self);
    fill_head(self, head);
    return GW_HEAD_OK;
}

bool gw_http2_is_malformed(enum gw_head_result result)
{
    return result == GW_HEAD_BAD_PSEUDO || result == GW_HEAD_CONNECTION_FIELD || result == GW_HEAD_BAD_FIELD_NAME ||
           result == GW_HEAD_BAD_FIELD_VALUE;
}
