#include "gateway/http/fields.h"
#include "gateway/http/grammar.h"
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

static inline bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* expected is lower case */
static bool is_nocase(h2o_iovec_t text, const char *expected, size_t len)
{
    return text.len == len && strncasecmp(text.base, expected, len) == 0;
}

/* Takes the next element off a comma-separated list, without the blanks around it; false at the end. Elements may be
 * empty (RFC 9110 5.6.1.2). */
static bool next_element(h2o_iovec_t *list, h2o_iovec_t *element)
{
    if (list->base == NULL)
        return false;
    const char *comma = list->len == 0 ? NULL : memchr(list->base, ',', list->len);
    const char *p = list->base, *end = comma != NULL ? comma : list->base + list->len;
    *list = comma != NULL ? h2o_iovec_init(comma + 1, (size_t)(list->base + list->len - comma - 1))
                          : h2o_iovec_init(NULL, 0);
    while (p != end && is_blank(*p))
        ++p;
    while (p != end && is_blank(end[-1]))
        --end;
    *element = h2o_iovec_init(p, (size_t)(end - p));
    return true;
}

/* ---- single fields ---- */

static enum gw_head_result read_host(struct gw_fields *found, h2o_iovec_t value)
{
    if (found->has_host)
        return GW_HEAD_REPEATED_HOST;
    found->has_host = true;
    found->host = value;
    return gw_is_authority(value) ? GW_HEAD_OK : GW_HEAD_BAD_HOST;
}

bool gw_head_read_length(h2o_iovec_t value, uint64_t *length)
{
    uint64_t n = 0;
    if (value.len == 0)
        return false;
    for (size_t i = 0; i != value.len; ++i) {
        unsigned digit = (unsigned char)value.base[i] - (unsigned)'0';
        if (digit > 9 || n > ((uint64_t)INT64_MAX - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *length = n;
    return true;
}

static enum gw_head_result read_content_length(struct gw_fields *found, h2o_iovec_t value)
{
    if (found->has_content_length)
        return GW_HEAD_REPEATED_CONTENT_LENGTH;
    found->has_content_length = gw_head_read_length(value, &found->content_length);
    return found->has_content_length ? GW_HEAD_OK : GW_HEAD_BAD_CONTENT_LENGTH;
}

static bool is_known_coding(h2o_iovec_t coding)
{
    return is_nocase(coding, H2O_STRLIT("gzip")) || is_nocase(coding, H2O_STRLIT("deflate")) ||
           is_nocase(coding, H2O_STRLIT("compress")) ||
           (coding.len > 2 && strncasecmp(coding.base, "x-", 2) == 0 && gw_is_token(coding));
}

/* We understand chunked and nothing else. Other codings in their right place are honest but not for us (501); all the
 * rest is an attempt to make two parsers disagree. */
static enum gw_head_result read_transfer_encoding(struct gw_fields *found, h2o_iovec_t value)
{
    h2o_iovec_t coding;
    bool saw_known = false, saw_chunked = false;
    if (found->is_chunked)
        return GW_HEAD_BAD_TRANSFER_ENCODING;
    if (is_nocase(value, H2O_STRLIT("chunked"))) {
        found->is_chunked = true;
        return GW_HEAD_OK;
    }
    while (next_element(&value, &coding)) {
        bool is_chunked = is_nocase(coding, H2O_STRLIT("chunked"));
        if (saw_chunked || !(is_chunked || is_known_coding(coding)))
            return GW_HEAD_BAD_TRANSFER_ENCODING;
        saw_chunked = is_chunked;
        saw_known = saw_known || !is_chunked;
    }
    return saw_known ? GW_HEAD_UNKNOWN_TRANSFER_ENCODING : GW_HEAD_BAD_TRANSFER_ENCODING;
}

static enum gw_head_result read_connection(struct gw_fields *found, h2o_iovec_t value)
{
    h2o_iovec_t option;
    while (next_element(&value, &option)) {
        if (is_nocase(option, H2O_STRLIT("keep-alive"))) {
            found->is_keep_alive = true;
        } else if (is_nocase(option, H2O_STRLIT("close"))) {
            found->is_close = true;
        } else if (is_nocase(option, H2O_STRLIT("upgrade"))) {
            found->is_upgrade_listed = true;
        } else if (option.len != 0) {
            /* honest messages name one or two; comparing thousands with each field would be work for nothing */
            if (!gw_is_token(option) || found->num_nominations == GW_MAX_NOMINATIONS)
                return GW_HEAD_BAD_FIELD_VALUE;
            found->nominations[found->num_nominations++] = option;
        }
    }
    return GW_HEAD_OK;
}

static enum gw_head_result read_expect(struct gw_fields *found, h2o_iovec_t value)
{
    if (!found->is_request)
        return GW_HEAD_OK;
    h2o_iovec_t expectation; /* of a list, of which empty members count for nothing (RFC 9110 10.1.1, 5.6.1.2) */
    do {
        if (!next_element(&value, &expectation))
            return GW_HEAD_BAD_EXPECT;
    } while (expectation.len == 0);
    do
        if (expectation.len != 0 && !is_nocase(expectation, H2O_STRLIT("100-continue")))
            return GW_HEAD_BAD_EXPECT;
    while (next_element(&value, &expectation));
    found->expects_continue = found->minor_version >= 1; /* RFC 9110 10.1.1: ignored from an HTTP/1.0 client */
    return GW_HEAD_OK;
}

static void read_te(struct gw_fields *found, h2o_iovec_t value)
{
    h2o_iovec_t coding;
    while (next_element(&value, &coding))
        if (is_nocase(coding, H2O_STRLIT("trailers")))
            found->accepts_trailers = true;
}

/* Fields that stop here: they describe the connection or the framing, which are ours. */
static enum gw_head_result take_token(struct gw_fields *found, const h2o_token_t *token, h2o_iovec_t value,
                                      bool *is_taken)
{
    *is_taken = true;
    if (token == H2O_TOKEN_CONNECTION)
        return read_connection(found, value);
    if (token == H2O_TOKEN_CONTENT_LENGTH)
        return read_content_length(found, value);
    if (token == H2O_TOKEN_TRANSFER_ENCODING)
        return read_transfer_encoding(found, value);
    if (token == H2O_TOKEN_HOST && found->is_request)
        return read_host(found, value);
    if (token == H2O_TOKEN_EXPECT)
        return read_expect(found, value);
    if (token == H2O_TOKEN_UPGRADE) {
        if (found->upgrade.base == NULL)
            found->upgrade = value;
    } else if (token == H2O_TOKEN_TE) {
        read_te(found, value);
    } else if (token != H2O_TOKEN_KEEP_ALIVE && token != H2O_TOKEN_HTTP2_SETTINGS) {
        *is_taken = false;
    }
    return GW_HEAD_OK;
}

/* Hop-by-hop names that are no tokens of libh2o. */
static bool is_taken_name(struct gw_fields *found, h2o_iovec_t name, h2o_iovec_t value)
{
    if (h2o_memis(name.base, name.len, H2O_STRLIT("trailer"))) {
        if (found->trailer.base == NULL)
            found->trailer = value;
        return true;
    }
    return h2o_memis(name.base, name.len, H2O_STRLIT("proxy-connection"));
}

/* ---- connection options that name fields ---- */

/* What Connection may not take away: fields that tell the origin who asks and what for. A client that has them dropped
 * behind the gateway's back would pass checks that lean on them ("hop-by-hop abuse"). */
static bool is_protected(h2o_iovec_t name)
{
    static const struct {
        const char *name;
        bool is_prefix;
    } names[] = {{"x-forwarded-", true}, {"content-", true},       {"x-amzn-", true},           {"forwarded", false},
                 {"host", false},        {"via", false},           {"authorization", false},    {"cookie", false},
                 {"set-cookie", false},  {"traceparent", false},   {"tracestate", false},       {"x-request-id", false},
                 {"x-real-ip", false},   {"cache-control", false}, {"transfer-encoding", false}};
    for (size_t i = 0; i != sizeof(names) / sizeof(names[0]); ++i) {
        size_t len = strlen(names[i].name);
        if ((names[i].is_prefix ? name.len >= len : name.len == len) && memcmp(name.base, names[i].name, len) == 0)
            return true;
    }
    return false;
}

static bool is_nominated(const struct gw_fields *found, h2o_iovec_t name)
{
    for (size_t i = 0; i != found->num_nominations; ++i)
        if (found->nominations[i].len == name.len && strncasecmp(found->nominations[i].base, name.base, name.len) == 0)
            return !is_protected(name);
    return false;
}

static void drop_nominated(struct gw_fields *found)
{
    size_t kept = 0;
    for (size_t i = 0; i != found->num_fields; ++i)
        if (!is_nominated(found, *found->fields[i].name))
            found->fields[kept++] = found->fields[i];
    found->num_fields = kept;
}

bool gw_head_nominates(const char *bytes, h2o_iovec_t name)
{
    static const char field[] = "connection:";
    h2o_iovec_t value, option;

    for (const char *p = strchr(bytes, '\n') + 1; *p != '\r'; p = strchr(p, '\n') + 1) {
        if (strncmp(p, field, sizeof(field) - 1) != 0)
            continue;
        p += sizeof(field) - 1;
        value = h2o_iovec_init(p, strcspn(p, "\r"));
        while (next_element(&value, &option))
            if (is_nocase(option, name.base, name.len))
                return true;
    }
    return false;
}

/* ---- the field section ---- */

/* Which rule a field section breaks; off the hot path. p stands at the first line. */
static enum gw_head_result explain_fields(const char *p, const char *end, size_t max_fields)
{
    for (size_t count = 0; p != end && *p != '\r'; ++count) {
        if (*p == '\n')
            return GW_HEAD_BARE_LF;
        if (count == max_fields)
            return GW_HEAD_TOO_MANY_FIELDS;
        if (is_blank(*p))
            return GW_HEAD_OBS_FOLD;
        const char *name = p;
        while (p != end && gw_char_is(*p, GW_CHAR_TOKEN))
            ++p;
        if (p == end)
            break;
        if (*p++ != ':' || p - name == 1)
            return GW_HEAD_BAD_FIELD_NAME;
        while (p != end && gw_char_is(*p, GW_CHAR_VALUE))
            ++p;
        if (p == end || (*p == '\r' && p + 1 == end))
            break;
        if (*p == '\n')
            return GW_HEAD_BARE_LF;
        if (*p != '\r' || p[1] != '\n')
            return GW_HEAD_BAD_FIELD_VALUE;
        p += 2;
    }
    return GW_HEAD_BAD_SYNTAX;
}

/* Token characters in lower case, 0 for all others: one look-up both checks a name and lowers it. */
static const char lower_token[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*', ['+'] = '+',
    ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`', ['|'] = '|',   ['~'] = '~', ['0'] = '0',
    ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6',   ['7'] = '7', ['8'] = '8',
    ['9'] = '9', ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e',   ['f'] = 'f', ['g'] = 'g',
    ['h'] = 'h', ['i'] = 'i', ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm',   ['n'] = 'n', ['o'] = 'o',
    ['p'] = 'p', ['q'] = 'q', ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u',   ['v'] = 'v', ['w'] = 'w',
    ['x'] = 'x', ['y'] = 'y', ['z'] = 'z', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c',   ['D'] = 'd', ['E'] = 'e',
    ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k',   ['L'] = 'l', ['M'] = 'm',
    ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r', ['S'] = 's',   ['T'] = 't', ['U'] = 'u',
    ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y', ['Z'] = 'z',
};

/* The first byte that may not stand in a field value: where it ends, or what is wrong with it. picohttpparser, which
 * libh2o exports, is built without its vector code there and was a quarter of our own time per request. */
static inline char *skip_value(char *p, char *end)
{
#if defined(__SSE2__)
    const __m128i last_ctl = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f);
    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i is_ctl = _mm_andnot_si128(_mm_cmpeq_epi8(v, tab), _mm_cmpeq_epi8(_mm_min_epu8(v, last_ctl), v));
        int bits = _mm_movemask_epi8(_mm_or_si128(is_ctl, _mm_cmpeq_epi8(v, del)));
        if (bits != 0)
            return p + __builtin_ctz((unsigned)bits);
    }
#endif
    while (p != end && gw_char_is(*p, GW_CHAR_VALUE))
        ++p;
    return p;
}

/* A name made of letters, digits and hyphens, as nearly all are: lowered 16 bytes at a time. Returns the colon behind
 * it; NULL when the bytes are not that simple, whatever was lowered by then stays lowered. */
static inline char *skip_simple_name(char *p, char *end)
{
#if defined(__SSE2__)
    /* This bit turns letters into small ones and leaves digits and hyphens as they are. From byte 16 - n on, the table
     * has it for the first n of 16 bytes. */
    static const char small_bits[32] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
    const __m128i small = _mm_loadu_si128((const __m128i *)(const void *)small_bits);
    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        /* x <= n, unsigned: min(x, n) == x */
        __m128i letter = _mm_sub_epi8(_mm_or_si128(v, small), _mm_set1_epi8('a'));
        __m128i digit = _mm_sub_epi8(v, _mm_set1_epi8('0'));
        __m128i is_letter = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8('z' - 'a')), letter);
        __m128i is_digit = _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit);
        __m128i is_simple = _mm_or_si128(_mm_or_si128(is_letter, is_digit), _mm_cmpeq_epi8(v, _mm_set1_epi8('-')));
        /* a bit above the 16 stops the count */
        unsigned len = (unsigned)__builtin_ctz(~(unsigned)_mm_movemask_epi8(is_simple));
        __m128i bits = _mm_loadu_si128((const __m128i *)(const void *)(small_bits + 16 - len));
        _mm_storeu_si128((__m128i *)(void *)p, _mm_or_si128(v, bits));
        if (len != 16)
            return p[len] == ':' ? p + len : NULL;
    }
#endif
    return NULL;
}

static char *skip_any_name(char *p, char *end)
{
    char lower;
    while (p != end && (lower = lower_token[(unsigned char)*p]) != 0)
        *p++ = lower;
    return p;
}

/* Cuts one line; *p moves behind it. GW_HEAD_BAD_SYNTAX stands for whatever explain_fields will say. */
static inline enum gw_head_result cut_line(char **p, char *end, h2o_iovec_t *name, h2o_iovec_t *value)
{
    char *s = skip_simple_name(*p, end), *from, *to;

    if (__builtin_expect(s == NULL, 0) && (s = skip_any_name(*p, end)) == end)
        return GW_HEAD_INCOMPLETE;
    if (*s != ':' || s == *p)
        return GW_HEAD_BAD_SYNTAX;
    *name = h2o_iovec_init(*p, (size_t)(s - *p));
    for (++s; s != end && is_blank(*s);)
        ++s;
    from = s;
    to = s = skip_value(s, end);
    if (s == end || (*s == '\r' && s + 1 == end))
        return GW_HEAD_INCOMPLETE;
    if (*s != '\r' || s[1] != '\n')
        return GW_HEAD_BAD_SYNTAX;
    while (to != from && is_blank(to[-1]))
        --to;
    *value = h2o_iovec_init(from, (size_t)(to - from));
    *p = s + 2;
    return GW_HEAD_OK;
}

/* Takes a field over, unless it stops here. */
static inline enum gw_head_result take_field(struct gw_fields *found, h2o_iovec_t name, h2o_iovec_t value)
{
    const h2o_token_t *token = h2o_lookup_token(name.base, name.len);
    h2o_header_t *field = &found->fields[found->num_fields];

    if (token != NULL) {
        /* libh2o marks those that concern connections and framing */
        if (token->proxy_should_drop_for_req || token->is_init_header_special) {
            bool is_taken;
            enum gw_head_result result = take_token(found, token, value, &is_taken);
            if (result != GW_HEAD_OK || is_taken)
                return result;
        }
        field->name = (h2o_iovec_t *)&token->buf;
    } else {
        if (is_taken_name(found, name, value))
            return GW_HEAD_OK;
        if (__builtin_expect(gw_desync_may_be_suspicious(name), 0) && gw_desync_is_suspicious(name))
            found->is_suspicious = true;
        field->name = &found->names[found->num_names++];
        *field->name = name;
    }
    field->orig_name = name.base;
    field->value = value;
    found->initials |= 1u << (name.base[0] & 31);
    ++found->num_fields;
    return GW_HEAD_OK;
}

enum gw_head_result gw_fields_parse(struct gw_fields *found, char *bytes, char *end, size_t max_fields, char **next)
{
    /* what a field means counts only when the grammar of the whole section is right and all of it is there */
    enum gw_head_result meaning = GW_HEAD_OK, result;
    size_t num_lines = 0;
    char *p = bytes;

    if (max_fields > GW_HEAD_MAX_FIELDS)
        max_fields = GW_HEAD_MAX_FIELDS;
    for (; p == end || *p != '\r'; ++num_lines) {
        h2o_iovec_t name, value;
        if (p == end)
            return GW_HEAD_INCOMPLETE;
        if (num_lines == max_fields)
            return explain_fields(bytes, end, max_fields);
        if ((result = cut_line(&p, end, &name, &value)) != GW_HEAD_OK)
            return result == GW_HEAD_INCOMPLETE ? result : explain_fields(bytes, end, max_fields);
        if (__builtin_expect(meaning == GW_HEAD_OK, 1))
            meaning = take_field(found, name, value);
    }
    if (p + 1 == end)
        return GW_HEAD_INCOMPLETE;
    if (p[1] != '\n')
        return explain_fields(bytes, end, max_fields);
    *next = p + 2;
    if (meaning != GW_HEAD_OK)
        return meaning;
    if (found->is_chunked && found->minor_version == 0)
        return GW_HEAD_TRANSFER_ENCODING_IN_10;
    if (found->is_chunked && found->has_content_length)
        return GW_HEAD_BOTH_LENGTHS;
    if (found->num_nominations != 0)
        drop_nominated(found);
    return GW_HEAD_OK;
}
