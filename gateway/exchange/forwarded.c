#include "gateway/exchange/forwarded.h"
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "gateway/http/socket.h"
#include "gateway/process.h"
#include "gateway/observe/span.h"

/* ---- names: all that this file looks at, told apart by length first ---- */

enum field {
    FIELD_OTHER,
    FIELD_VIA,
    FIELD_TRACEPARENT,
    FIELD_TRACESTATE,
    FIELD_REQUEST_ID,
    FIELD_XFF,
    FIELD_AMZN_TRACE,
    FIELD_XF_HOST,
    FIELD_XF_PORT,
    FIELD_XF_PROTO,
};

static const h2o_iovec_t name_via = {H2O_STRLIT("via")}, name_traceparent = {H2O_STRLIT("traceparent")},
                         name_request_id = {H2O_STRLIT("x-request-id")}, name_xff = {H2O_STRLIT("x-forwarded-for")},
                         name_amzn_trace = {H2O_STRLIT("x-amzn-trace-id")},
                         name_xf_host = {H2O_STRLIT("x-forwarded-host")},
                         name_xf_port = {H2O_STRLIT("x-forwarded-port")},
                         name_xf_proto = {H2O_STRLIT("x-forwarded-proto")},
                         name_tls_version = {H2O_STRLIT("x-amzn-tls-version")},
                         name_tls_cipher = {H2O_STRLIT("x-amzn-tls-cipher-suite")};

#define IS(name, literal) (memcmp((name)->base, literal, sizeof(literal) - 1) == 0)

static enum field classify(const h2o_iovec_t *name)
{
    switch (name->len) {
    case 3:
        return IS(name, "via") ? FIELD_VIA : FIELD_OTHER;
    case 10:
        return IS(name, "tracestate") ? FIELD_TRACESTATE : FIELD_OTHER;
    case 11:
        return IS(name, "traceparent") ? FIELD_TRACEPARENT : FIELD_OTHER;
    case 12:
        return IS(name, "x-request-id") ? FIELD_REQUEST_ID : FIELD_OTHER;
    case 15:
        return IS(name, "x-forwarded-for") ? FIELD_XFF : IS(name, "x-amzn-trace-id") ? FIELD_AMZN_TRACE : FIELD_OTHER;
    case 16:
        return IS(name, "x-forwarded-host")   ? FIELD_XF_HOST
               : IS(name, "x-forwarded-port") ? FIELD_XF_PORT
                                              : FIELD_OTHER;
    case 17:
        return IS(name, "x-forwarded-proto") ? FIELD_XF_PROTO : FIELD_OTHER;
    default:
        return FIELD_OTHER;
    }
}

static void append(h2o_headers_t *list, const h2o_iovec_t *name, h2o_iovec_t value)
{
    assert(list->size < list->capacity);
    list->entries[list->size++] = (h2o_header_t){.name = (h2o_iovec_t *)name, .value = value};
}

static const h2o_header_t *find(const h2o_header_t *fields, size_t n, enum field which)
{
    for (size_t i = 0; i != n; ++i)
        if (classify(fields[i].name) == which)
            return &fields[i];
    return NULL;
}

/* Whether a field may be there whose name begins with one of these letters. */
static inline bool may_have(const struct gw_request *request, const char *initials)
{
    for (; *initials != '\0'; ++initials)
        if (gw_may_have_field(request->facts.absent_initials, *initials))
            return true;
    return false;
}

/* ---- client IP ---- */

static h2o_iovec_t trim(const char *from, const char *to)
{
    while (from != to && (*from == ' ' || *from == '\t'))
        ++from;
    while (from != to && (to[-1] == ' ' || to[-1] == '\t'))
        --to;
    return h2o_iovec_init(from, to - from);
}

/* An element of X-Forwarded-For: an address, perhaps with a port (spec/alb.md 5.2: 12.34.56.78:8080, [v6]:8080). */
static bool parse_element(h2o_iovec_t text, struct gw_ip *ip)
{
    if (gw_ip_parse(text, ip))
        return true;
    for (size_t i = text.len; i != 0; --i)
        if (text.base[i - 1] == ':')
            return gw_ip_parse(h2o_iovec_init(text.base, i - 1), ip);
    return false;
}

void gw_forwarded_client(const struct gw_cidrs *trusted, const h2o_header_t *fields, size_t n, const struct gw_ip *peer,
                         struct gw_ip *client, bool *peer_is_trusted)
{
    *client = *peer;
    *peer_is_trusted = trusted->size != 0 && gw_cidrs_contain(trusted, peer);
    if (!*peer_is_trusted)
        return;
    /* from right to left over all lines: what the last trusted proxy saw is the first that is not one of ours */
    for (size_t i = n; i != 0; --i) {
        const h2o_header_t *field = &fields[i - 1];
        const char *base = field->value.base, *end = base + field->value.len;
        if (classify(field->name) != FIELD_XFF)
            continue;
        while (true) {
            const char *comma = end;
            struct gw_ip ip;
            while (comma != base && comma[-1] != ',')
                --comma;
            if (!parse_element(trim(comma, end), &ip))
                return; /* nothing left of garbage can be believed */
            *client = ip;
            if (!gw_cidrs_contain(trusted, &ip))
                return;
            if (comma == base)
                break;
            end = comma - 1;
        }
    }
}

size_t gw_forwarded_count(const struct gw_request *request)
{
    const h2o_header_t *fields = request->facts.headers;
    size_t count = 0;
    for (size_t i = 0; may_have(request, "x") && i != request->facts.num_headers; ++i) {
        if (classify(fields[i].name) != FIELD_XFF)
            continue;
        ++count;
        for (size_t j = 0; j != fields[i].value.len; ++j)
            count += fields[i].value.base[j] == ',';
    }
    return count;
}

/* ---- ids ---- */

/* Eight digits at a time: each nibble spread into a byte, then turned into its letter without a branch. */
static char *put_hex8(char *dst, uint32_t value)
{
    uint64_t x, over;
    x = ((uint64_t)(value & 0xffff) << 32) | (value >> 16);
    x = ((x & 0x000000ff000000ff) << 16) | ((x >> 8) & 0x000000ff000000ff);
    x = ((x & 0x000f000f000f000f) << 8) | ((x >> 4) & 0x000f000f000f000f);
    over = ((x + 0x0606060606060606) >> 4) & 0x0101010101010101; /* 1 where the nibble is above 9 */
    x += 0x3030303030303030 + over * ('a' - '0' - 10);
    memcpy(dst, &x, 8);
    return dst + 8;
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "put_hex8 writes the low byte first");

char *gw_forwarded_put_hex16(char *dst, uint64_t value)
{
#if defined(__SSE2__)
    const __m128i low = _mm_set1_epi8(0x0f);
    __m128i bytes = _mm_cvtsi64_si128((int64_t)__builtin_bswap64(value));
    __m128i digits = _mm_unpacklo_epi8(_mm_and_si128(_mm_srli_epi64(bytes, 4), low), _mm_and_si128(bytes, low));
    __m128i over = _mm_and_si128(_mm_cmpgt_epi8(digits, _mm_set1_epi8(9)), _mm_set1_epi8('a' - '0' - 10));
    digits = _mm_add_epi8(_mm_add_epi8(digits, _mm_set1_epi8('0')), over);
    _mm_storeu_si128((__m128i *)(void *)dst, digits);
    return dst + 16;
#else
    return put_hex8(put_hex8(dst, value >> 32), (uint32_t)value);
#endif
}

static bool is_lower_hex(const char *s, size_t len, bool *is_zero)
{
    *is_zero = true;
    for (size_t i = 0; i != len; ++i) {
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
            return false;
        *is_zero &= s[i] == '0';
    }
    return true;
}

/* W3C Trace Context 3.2: version ff is invalid, ids are not all zero; later versions may be longer. */
static bool is_traceparent(h2o_iovec_t v)
{
    bool zero;
    if (v.len < GW_TRACEPARENT_LEN || v.base[GW_TRACE_ID_AT - 1] != '-' || v.base[GW_PARENT_ID_AT - 1] != '-' ||
        v.base[GW_TRACE_FLAGS_AT - 1] != '-')
        return false;
    if (!is_lower_hex(v.base, 2, &zero) || memcmp(v.base, "ff", 2) == 0 || (zero && v.len != GW_TRACEPARENT_LEN) ||
        (v.len > GW_TRACEPARENT_LEN && v.base[GW_TRACEPARENT_LEN] != '-'))
        return false;
    return is_lower_hex(v.base + GW_TRACE_ID_AT, GW_TRACE_ID_LEN, &zero) && !zero &&
           is_lower_hex(v.base + GW_PARENT_ID_AT, GW_PARENT_ID_LEN, &zero) && !zero &&
           is_lower_hex(v.base + GW_TRACE_FLAGS_AT, 2, &zero);
}

static bool is_request_id(h2o_iovec_t v)
{
    if (v.len == 0 || v.len > 128)
        return false;
    for (size_t i = 0; i != v.len; ++i)
        if (v.base[i] <= ' ' || v.base[i] >= 0x7f || v.base[i] == '"' || v.base[i] == '\\')
            return false;
    return true;
}

void gw_forwarded_identify(struct gw_request *request, struct gw_thread *thread)
{
    const h2o_header_t *fields = request->facts.headers, *id = NULL, *parent = NULL;

    for (size_t i = 0; may_have(request, "xt") && i != request->facts.num_headers; ++i) {
        enum field field =
            fields[i].name->len == 12 || fields[i].name->len == 11 ? classify(fields[i].name) : FIELD_OTHER;
        if (field == FIELD_REQUEST_ID && id == NULL)
            id = &fields[i];
        else if (field == FIELD_TRACEPARENT && parent == NULL)
            parent = &fields[i];
    }
    if (id != NULL && is_request_id(id->value)) {
        request->request_id_text = id->value;
    } else {
        gw_forwarded_put_hex16(gw_forwarded_put_hex16(request->request_id, gw_thread_random(thread)),
                               gw_thread_random(thread));
        request->request_id_text = h2o_iovec_init(request->request_id, 32);
    }
    if (parent != NULL && !is_traceparent(parent->value))
        parent = NULL;
    if (__builtin_expect(request->snapshot->config->tracing != NULL, 0)) {
        gw_span_begin(request, request->snapshot->config->tracing, parent, thread);
    } else if (parent != NULL) {
        request->traceparent = parent->value;
        request->trace_id = h2o_iovec_init(parent->value.base + 3, 32);
    } else {
        char *made = request->made_traceparent, *p = made;
        memcpy(p, "00-", 3);
        p = gw_forwarded_put_hex16(gw_forwarded_put_hex16(p + 3, gw_thread_random(thread)),
                                   gw_thread_random(thread) | 1);
        *p++ = '-';
        p = gw_forwarded_put_hex16(p, gw_thread_random(thread) | 1);
        memcpy(p, "-01", 4);
        request->traceparent = h2o_iovec_init(made, GW_TRACEPARENT_LEN);
        request->trace_id = h2o_iovec_init(made + GW_TRACE_ID_AT, GW_TRACE_ID_LEN);
    }
}

/* ---- X-Amzn-Trace-Id (spec/alb.md 5.3) ---- */

static char *put_trace_id(char *p, const char *label, struct gw_thread *thread, uint64_t now_s)
{
    size_t len = strlen(label);
    memcpy(p, label, len);
    p += len;
    memcpy(p, "=1-", 3);
    p = put_hex8(p + 3, (uint32_t)now_s);
    *p++ = '-';
    return put_hex8(gw_forwarded_put_hex16(p, gw_thread_random(thread)), (uint32_t)gw_thread_random(thread));
}
enum { TRACE_ID_BYTES = 4 + 3 + 8 + 1 + 24, LARGE_HEAD = 7 * 1024 };
_Static_assert(TRACE_ID_BYTES <= sizeof(((struct gw_request *)NULL)->made_amzn_trace_id), "it has room");

/* The element `name=...` of a ';' list; false when there is none. */
static bool find_element(h2o_iovec_t list, const char *name, size_t *from, size_t *to)
{
    size_t len = strlen(name), at = 0;
    while (at < list.len) {
        size_t end = at;
        while (end != list.len && list.base[end] != ';')
            ++end;
        h2o_iovec_t element = trim(list.base + at, list.base + end);
        if (element.len > len && memcmp(element.base, name, len) == 0 && element.base[len] == '=') {
            *from = element.base - list.base;
            *to = *from + element.len;
            return true;
        }
        at = end + 1;
    }
    return false;
}

/* Of a head that is too large for additions, only the Root stays, if it is one. */
static h2o_iovec_t root_alone(h2o_iovec_t list)
{
    size_t from, to;
    if (find_element(list, "Root", &from, &to) && to - from == TRACE_ID_BYTES &&
        memcmp(list.base + from, "Root=1-", 7) == 0 && list.base[from + 15] == '-')
        return h2o_iovec_init(list.base + from, to - from);
    return h2o_iovec_init(NULL, 0);
}

static bool is_large(const h2o_header_t *fields, size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i != n; ++i)
        bytes += fields[i].name->len + fields[i].value.len + 4;
    return bytes > LARGE_HEAD;
}

static h2o_iovec_t amzn_trace_value(struct gw_request *request, struct gw_thread *thread, const h2o_header_t *incoming)
{
    uint64_t now_s = h2o_now(thread->loop) / 1000;
    h2o_iovec_t old = incoming != NULL ? incoming->value : h2o_iovec_init(NULL, 0);
    size_t from, to;

    if (old.len != 0 && is_large(request->facts.headers, request->facts.num_headers) &&
        (old = root_alone(old)).len != 0)
        return old;
    char *base = old.len == 0 ? request->made_amzn_trace_id
                              : h2o_mem_alloc_pool(request->pool, old.len + TRACE_ID_BYTES + 2),
         *p = base;

    if (old.len == 0) {
        p = put_trace_id(p, "Root", thread, now_s);
    } else if (find_element(old, "Self", &from, &to)) {
        memcpy(p, old.base, from);
        p = put_trace_id(p + from, "Self", thread, now_s);
        memcpy(p, old.base + to, old.len - to);
        p += old.len - to;
    } else {
        p = put_trace_id(p, find_element(old, "Root", &from, &to) ? "Self" : "Root", thread, now_s);
        *p++ = ';';
        memcpy(p, old.base, old.len);
        p += old.len;
    }
    return h2o_iovec_init(base, p - base);
}

h2o_iovec_t gw_forwarded_amzn_trace_id(struct gw_request *request)
{
    if (request->amzn_trace_id.base == NULL) {
        const h2o_header_t *incoming = find(request->facts.headers, request->facts.num_headers, FIELD_AMZN_TRACE);
        request->amzn_trace_id = amzn_trace_value(request, &request->worker->thread, incoming);
    }
    return request->amzn_trace_id;
}

/* ---- X-Forwarded-* and Via ---- */

/* All values of one name joined by ", " in order, then extra. */
static h2o_iovec_t join(struct gw_request *request, enum field which, h2o_iovec_t extra)
{
    const h2o_header_t *fields = request->facts.headers;
    size_t n = request->facts.num_headers, len = extra.len;
    const h2o_header_t *first = find(fields, n, which);
    char *base, *p;

    if (first == NULL)
        return extra;
    for (const h2o_header_t *f = first; f != fields + n; ++f)
        if (classify(f->name) == which)
            len += f->value.len + 2;
    p = base = h2o_mem_alloc_pool(request->pool, len);
    for (const h2o_header_t *f = first; f != fields + n; ++f) {
        if (classify(f->name) != which || f->value.len == 0)
            continue;
        memcpy(p, f->value.base, f->value.len);
        p += f->value.len;
        *p++ = ',';
        *p++ = ' ';
    }
    memcpy(p, extra.base, extra.len);
    return h2o_iovec_init(base, p + extra.len - base);
}

static h2o_iovec_t peer_text(struct gw_request *request, bool with_port)
{
    const struct gw_conn *conn = request->stream->conn;
    if (!with_port || conn->peer_port == 0)
        return h2o_iovec_init(conn->peer_text, conn->peer_text_len);
    char *text = h2o_mem_alloc_pool(request->pool, 64);
    bool is_v6 = memchr(conn->peer_text, ':', conn->peer_text_len) != NULL;
    return h2o_iovec_init(text, snprintf(text, 64, is_v6 ? "[%s]:%u" : "%s:%u", conn->peer_text, conn->peer_port));
}

static h2o_iovec_t port_text(struct gw_request *request)
{
    char *text = request->made_port, digits[8];
    unsigned port = request->stream->conn->local_port, n = 0, len = 0;
    do
        digits[n++] = '0' + port % 10;
    while ((port /= 10) != 0);
    while (n != 0)
        text[len++] = digits[--n];
    return h2o_iovec_init(text, len);
}

h2o_iovec_t gw_forwarded_host(const struct gw_request *request)
{
    const struct routing_facts *facts = &request->facts;
    unsigned listens = request->stream->conn->local_port, port;
    size_t digits = 0;

    while (digits != facts->authority.len && facts->authority.base[facts->authority.len - 1 - digits] >= '0' &&
           facts->authority.base[facts->authority.len - 1 - digits] <= '9')
        ++digits;
    bool has_port = digits != 0 && digits != facts->authority.len &&
                    facts->authority.base[facts->authority.len - 1 - digits] == ':';
    if (facts->host.len == 0 || listens == 80 || listens == 443)
        return facts->host;
    port = has_port ? facts->port : listens;
    char *text = h2o_mem_alloc_pool(request->pool, facts->host.len + 8);
    return h2o_iovec_init(text, (size_t)sprintf(text, "%.*s:%u", (int)facts->host.len, facts->host.base, port));
}

/* What a trusted proxy said stands; anybody else's word is replaced. */
static void append_claim(struct gw_request *request, h2o_headers_t *out, const h2o_iovec_t *name,
                         const h2o_header_t *said, h2o_iovec_t own)
{
    append(out, name, said != NULL && request->client_is_trusted && said->value.len != 0 ? said->value : own);
}

/* spec/alb.md 5.5: [-A-Za-z0-9]+ */
static bool is_plain_name(h2o_iovec_t name)
{
    for (size_t i = 0; i != name.len; ++i) {
        char c = name.base[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return true;
}

static bool is_tls_header(h2o_iovec_t name)
{
    return h2o_memis(name.base, name.len, name_tls_version.base, name_tls_version.len) ||
           h2o_memis(name.base, name.len, name_tls_cipher.base, name_tls_cipher.len);
}

/* spec/alb.md 5.5: what the client and we have agreed on. */
static void append_tls(struct gw_request *request, h2o_headers_t *out)
{
    const char *version, *cipher;
    SSL *ssl;

    if (!request->facts.is_tls || (ssl = gw_socket_ssl(request->stream->conn->sock)) == NULL)
        return;
    version = SSL_get_version(ssl); /* static, both */
    cipher = SSL_get_cipher_name(ssl);
    append(out, &name_tls_version, h2o_iovec_init(version, strlen(version)));
    append(out, &name_tls_cipher, h2o_iovec_init(cipher, strlen(cipher)));
}

enum { MAX_ADDED = 10 };

struct seen { /* the first field of each kind */
    const h2o_header_t *host, *port, *proto, *trace;
    bool via, xff;
};

static void copy_rest(struct gw_request *request, const struct gw_forwarding_conf *conf, h2o_headers_t *out,
                      struct seen *seen)
{
    bool keeps_xf = conf->x_forwarded == GW_X_FORWARDED_PRESERVE;

    /* nothing that a switch below would find: x-*, via, trace* */
    if (!may_have(request, "xvt") && !conf->drop_invalid_headers) {
        h2o_memcpy(out->entries, request->facts.headers, sizeof(*out->entries) * request->facts.num_headers);
        out->size = request->facts.num_headers;
        return;
    }
    for (size_t i = 0; i != request->facts.num_headers; ++i) {
        const h2o_header_t *field = &request->facts.headers[i];
        bool is_kept = true;
        switch (classify(field->name)) {
        case FIELD_OTHER:
            if (__builtin_expect(conf->drop_invalid_headers, 0))
                is_kept = is_plain_name(*field->name);
            if (__builtin_expect(conf->tls_headers, 0))
                is_kept = is_kept && !is_tls_header(*field->name);
            break;
        case FIELD_VIA:
            seen->via = true;
            is_kept = !conf->via;
            break;
        case FIELD_TRACEPARENT:
            is_kept = !conf->traceparent;
            break;
        case FIELD_TRACESTATE: /* W3C Trace Context 3.3: of no use to another trace */
            is_kept = !request->is_new_trace || !conf->traceparent;
            break;
        case FIELD_REQUEST_ID:
            is_kept = !conf->request_id;
            break;
        case FIELD_AMZN_TRACE:
            seen->trace = seen->trace != NULL ? seen->trace : field;
            is_kept = !conf->amzn_trace_id;
            break;
        case FIELD_XFF:
            seen->xff = true;
            is_kept = keeps_xf;
            break;
        case FIELD_XF_HOST:
            seen->host = seen->host != NULL ? seen->host : field;
            is_kept = keeps_xf;
            break;
        case FIELD_XF_PORT:
            seen->port = seen->port != NULL ? seen->port : field;
            is_kept = keeps_xf;
            break;
        case FIELD_XF_PROTO:
            seen->proto = seen->proto != NULL ? seen->proto : field;
            is_kept = keeps_xf;
            break;
        }
        if (is_kept)
            out->entries[out->size++] = *field;
    }
}

void gw_forwarded_fields(struct gw_request *request, struct gw_thread *thread, h2o_headers_t *out)
{
    const struct gw_forwarding_conf *conf = &request->snapshot->config->forwarding;
    struct seen seen = {0};

    out->size = 0;
    out->capacity = request->facts.num_headers + MAX_ADDED;
    out->entries = h2o_mem_alloc_pool(request->pool, sizeof(h2o_header_t) * out->capacity);
    copy_rest(request, conf, out, &seen);
    if (conf->x_forwarded == GW_X_FORWARDED_APPEND) {
        h2o_iovec_t peer = peer_text(request, conf->client_port);
        append(out, &name_xff, seen.xff ? join(request, FIELD_XFF, peer) : peer);
        append_claim(request, out, &name_xf_proto, seen.proto,
                     request->facts.is_tls ? h2o_iovec_init(H2O_STRLIT("https")) : h2o_iovec_init(H2O_STRLIT("http")));
        append_claim(request, out, &name_xf_port, seen.port, port_text(request));
        if (request->facts.authority.len != 0)
            append_claim(request, out, &name_xf_host, seen.host, request->facts.authority);
    }
    if (conf->via) {
        h2o_iovec_t own = request->stream->req.version == 0x101   ? h2o_iovec_init(H2O_STRLIT("1.1 weir"))
                          : request->stream->req.version == 0x200 ? h2o_iovec_init(H2O_STRLIT("2.0 weir"))
                                                                  : h2o_iovec_init(H2O_STRLIT("1.0 weir"));
        append(out, &name_via, seen.via ? join(request, FIELD_VIA, own) : own);
    }
    if (conf->request_id)
        append(out, &name_request_id, request->request_id_text);
    if (conf->traceparent)
        append(out, &name_traceparent, request->traceparent);
    if (__builtin_expect(conf->tls_headers, 0))
        append_tls(request, out);
    if (conf->amzn_trace_id) {
        request->amzn_trace_id = amzn_trace_value(request, thread, seen.trace);
        append(out, &name_amzn_trace, request->amzn_trace_id);
    }
}

bool gw_forwarded_may_go_on(struct gw_request *request, h2o_headers_t *fields)
{
    ssize_t at;
    uint64_t left;

    if (!h2o_memis(request->facts.method.base, request->facts.method.len, H2O_STRLIT("OPTIONS")) ||
        (at = h2o_find_header(fields, H2O_TOKEN_MAX_FORWARDS, -1)) < 0 ||
        !gw_head_read_length(fields->entries[at].value, &left))
        return true;
    if (left == 0)
        return false;
    char *text = h2o_mem_alloc_pool(request->pool, 24);
    fields->entries[at].value = h2o_iovec_init(text, (size_t)sprintf(text, "%llu", (unsigned long long)(left - 1)));
    return true;
}
