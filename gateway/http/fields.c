#include "gateway/http/fields.h"
#include "gateway/http/grammar.h"

/* picohttpparser is exported by libh2o without an installed header (libh2o.md 2). It scans fast and refuses CTLs and
 * what is no name; it lets bare LF, obs-fold and trailing blanks pass, which are dealt with here. */
struct phr_header {
    const char *name; /* NULL: obs-fold */
    size_t name_len;
    const char *value;
    size_t value_len;
};
int phr_parse_headers(const char *buf, size_t len, struct phr_header *headers, size_t *num_headers, size_t last_len);

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

/* Eight letters at a time: in each byte below 0x80, bit 7 of (b + 0x3f) says b >= 'A' and bit 7 of (b + 0x25) b > 'Z'.
 */
static inline uint64_t lower_word(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t low7 = word & (ones * 0x7f);
    uint64_t is_upper = (low7 + ones * 0x3f) & ~(low7 + ones * 0x25) & ~word & (ones * 0x80);
    return word | is_upper >> 2;
}

static inline void lower_case(char *p, size_t len)
{
    uint64_t word;
    if (len >= sizeof(word)) {
        char *last = p + len - sizeof(word);
        for (; p < last; p += sizeof(word)) {
            memcpy(&word, p, sizeof(word));
            word = lower_word(word);
            memcpy(p, &word, sizeof(word));
        }
        memcpy(&word, last, sizeof(word));
        word = lower_word(word);
        memcpy(last, &word, sizeof(word));
        return;
    }
    for (; len != 0; ++p, --len)
        if (gw_char_is(*p, GW_CHAR_UPPER))
            *p |= 0x20;
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

static enum gw_head_result read_content_length(struct gw_fields *found, h2o_iovec_t value)
{
    uint64_t n = 0;
    if (found->has_content_length)
        return GW_HEAD_REPEATED_CONTENT_LENGTH;
    if (value.len == 0)
        return GW_HEAD_BAD_CONTENT_LENGTH;
    for (size_t i = 0; i != value.len; ++i) {
        unsigned digit = (unsigned char)value.base[i] - (unsigned)'0';
        if (digit > 9 || n > ((uint64_t)INT64_MAX - digit) / 10)
            return GW_HEAD_BAD_CONTENT_LENGTH;
        n = n * 10 + digit;
    }
    found->has_content_length = true;
    found->content_length = n;
    return GW_HEAD_OK;
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
    if (!is_nocase(value, H2O_STRLIT("100-continue")))
        return GW_HEAD_BAD_EXPECT;
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
static bool is_taken_name(h2o_iovec_t name)
{
    return h2o_memis(name.base, name.len, H2O_STRLIT("trailer")) ||
           h2o_memis(name.base, name.len, H2O_STRLIT("proxy-connection"));
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

/* ---- the field section ---- */

/* Why picohttpparser said no; off the hot path. p stands at the first line. */
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

enum gw_head_result gw_fields_parse(struct gw_fields *found, char *bytes, char *end, size_t max_fields, char **next)
{
    struct phr_header lines[GW_HEAD_MAX_FIELDS + 1];
    size_t num_lines = (max_fields < GW_HEAD_MAX_FIELDS ? max_fields : GW_HEAD_MAX_FIELDS) + 1;
    int len = phr_parse_headers(bytes, (size_t)(end - bytes), lines, &num_lines, 0);
    if (len == -2)
        return GW_HEAD_INCOMPLETE;
    if (len < 0)
        return explain_fields(bytes, end, max_fields);
    if (num_lines > max_fields)
        return GW_HEAD_TOO_MANY_FIELDS;
    if (bytes[len - 2] != '\r')
        return GW_HEAD_BARE_LF;
    *next = bytes + len;
    for (size_t i = 0; i != num_lines; ++i) {
        const struct phr_header *line = &lines[i];
        h2o_iovec_t name = h2o_iovec_init(line->name, line->name_len);
        h2o_iovec_t value = h2o_iovec_init(line->value, line->value_len);
        if (line->name == NULL)
            return GW_HEAD_OBS_FOLD;
        if (value.base[value.len] != '\r')
            return GW_HEAD_BARE_LF;
        while (value.len != 0 && is_blank(value.base[value.len - 1]))
            --value.len;
        lower_case(name.base, name.len);

        const h2o_token_t *token = h2o_lookup_token(name.base, name.len);
        h2o_header_t *field = &found->fields[found->num_fields];
        if (token != NULL) {
            bool is_taken;
            enum gw_head_result result = take_token(found, token, value, &is_taken);
            if (result != GW_HEAD_OK)
                return result;
            if (is_taken)
                continue;
            field->name = (h2o_iovec_t *)&token->buf;
        } else {
            if (is_taken_name(name))
                continue;
            found->names[found->num_fields] = name;
            field->name = &found->names[found->num_fields];
        }
        field->orig_name = NULL;
        field->value = value;
        ++found->num_fields;
    }
    if (found->is_chunked && found->minor_version == 0)
        return GW_HEAD_TRANSFER_ENCODING_IN_10;
    if (found->is_chunked && found->has_content_length)
        return GW_HEAD_BOTH_LENGTHS;
    if (found->num_nominations != 0)
        drop_nominated(found);
    return GW_HEAD_OK;
}
