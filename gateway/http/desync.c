#include "gateway/http/desync.h"
#include <string.h>
#include <strings.h>
#include "gateway/http/grammar.h"

static const struct {
    const char *name;
    enum gw_desync_class class;
} reasons[] = {{NULL, GW_DESYNC_COMPLIANT},
#define X(name, class) {#name, GW_DESYNC_##class},
               GW_DESYNC_REASONS(X)
#undef X
};

enum gw_desync_class gw_desync_class(enum gw_desync desync) { return reasons[desync].class; }
const char *gw_desync_name(enum gw_desync desync) { return reasons[desync].name; }

const char *gw_desync_class_name(enum gw_desync_class class)
{
    static const char *const names[] = {"Compliant", "Acceptable", "Ambiguous", "Severe"};
    return names[class];
}

/* A verdict only gets worse; of one class the first reason stays. */
static void find(enum gw_desync *verdict, enum gw_desync reason)
{
    if (reasons[reason].class > reasons[*verdict].class)
        *verdict = reason;
}

/* ---- names ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t'; }
static bool is_control(char c) { return (unsigned char)c < 0x20 || c == 0x7f; }

static bool is_name(h2o_iovec_t name, const char *expected)
{
    return name.len == strlen(expected) && strncasecmp(name.base, expected, name.len) == 0;
}

/* Takes the next letter or digit off, in lower case; 0 at the end. U+017F and U+0131 are what some languages make of S
 * and I when they compare without case. */
static char next_letter(h2o_iovec_t *text)
{
    while (text->len != 0) {
        unsigned char c = text->base[0], after = text->len > 1 ? text->base[1] : 0;
        bool is_s = c == 0xc5 && after == 0xbf, is_i = c == 0xc4 && after == 0xb1;
        size_t used = is_s || is_i ? 2 : 1;
        *text = h2o_iovec_init(text->base + used, text->len - used);
        if (is_s || is_i)
            return is_s ? 's' : 'i';
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
            return (char)c;
        if (c >= 'A' && c <= 'Z')
            return (char)(c + ('a' - 'A'));
    }
    return 0;
}

static bool has_letters_of(h2o_iovec_t name, const char *letters)
{
    char c;
    while ((c = next_letter(&name)) != 0 && c == *letters)
        ++letters;
    return c == 0 && *letters == '\0';
}

bool gw_desync_is_suspicious(h2o_iovec_t name)
{
    return (has_letters_of(name, "contentlength") && !is_name(name, "content-length")) ||
           (has_letters_of(name, "transferencoding") && !is_name(name, "transfer-encoding"));
}

/* ---- the fields that frame ---- */

struct framing {
    bool has_length, has_valid_length, has_codings, is_suspicious;
    bool ends_chunked; /* the last coding so far */
    uint64_t length;
    enum gw_desync values; /* what their values give rise to, beside everything else */
};

static void read_length(struct framing *self, h2o_iovec_t value)
{
    uint64_t n = 0;
    bool is_good = value.len != 0;

    for (size_t i = 0; i != value.len && is_good; ++i) {
        unsigned digit = (unsigned char)value.base[i] - (unsigned)'0';
        is_good = digit <= 9 && n <= (UINT64_MAX - digit) / 10;
        n = n * 10 + digit;
    }
    if (!is_good)
        find(&self->values, GW_DESYNC_BadContentLength);
    else if (self->has_valid_length)
        find(&self->values, n == self->length ? GW_DESYNC_DuplicateContentLength : GW_DESYNC_MultipleContentLength);
    self->has_length = true;
    if (is_good && !self->has_valid_length) {
        self->has_valid_length = true;
        self->length = n;
    }
}

static h2o_iovec_t trim(const char *from, const char *to)
{
    while (from != to && is_blank(*from))
        ++from;
    while (from != to && is_blank(to[-1]))
        --to;
    return h2o_iovec_init(from, (size_t)(to - from));
}

static void read_coding(struct framing *self, h2o_iovec_t coding)
{
    static const char *const known[] = {"chunked", "compress", "deflate", "gzip", "identity"};
    const char *parameters = coding.len != 0 ? memchr(coding.base, ';', coding.len) : NULL;
    bool is_known = false;

    if (parameters != NULL)
        coding = trim(coding.base, parameters);
    for (size_t i = 0; i != sizeof(known) / sizeof(known[0]); ++i)
        is_known = is_known || is_name(coding, known[i]);
    if (!is_known)
        find(&self->values, GW_DESYNC_BadTransferEncoding);
    if (self->ends_chunked && is_name(coding, "chunked"))
        find(&self->values, GW_DESYNC_MultipleTransferEncodingChunked);
    self->ends_chunked = is_name(coding, "chunked");
}

static void read_codings(struct framing *self, h2o_iovec_t value)
{
    const char *p = value.base, *end = value.base + value.len, *comma;

    self->has_codings = true;
    do {
        comma = p != end ? memchr(p, ',', (size_t)(end - p)) : NULL;
        read_coding(self, trim(p, comma != NULL ? comma : end));
        p = comma != NULL ? comma + 1 : end;
    } while (comma != NULL);
}

/* minor_version: -1 of HTTP/0.9 */
static void judge_framing(const struct framing *self, bool is_get_or_head, int minor_version, enum gw_desync *verdict)
{
    if (self->has_codings && minor_version < 1) {
        find(verdict, GW_DESYNC_UndefinedTransferEncodingSemantics);
        return;
    }
    find(verdict, self->values);
    if (self->has_codings && self->has_valid_length)
        find(verdict, self->is_suspicious ? GW_DESYNC_SuspiciousTeClPresent : GW_DESYNC_BothTeClPresent);
    if (self->has_codings && is_get_or_head)
        find(verdict, GW_DESYNC_UndefinedTransferEncodingSemantics);
    if (self->has_length && minor_version < 0)
        find(verdict, GW_DESYNC_UndefinedContentLengthSemantics);
    if (self->has_valid_length && is_get_or_head)
        find(verdict,
             self->length != 0 ? GW_DESYNC_UndefinedContentLengthSemantics : GW_DESYNC_GetHeadZeroContentLength);
}

/* ---- one field ---- */

static void judge_text(h2o_iovec_t text, bool is_name, enum gw_desync *verdict)
{
    for (size_t i = 0; i != text.len; ++i) {
        char c = text.base[i];
        if (c == '\r' || c == '\n' || c == '\0')
            find(verdict, GW_DESYNC_BadHeader);
        else if (is_name ? !gw_char_is(c, GW_CHAR_TOKEN) : is_control(c) && c != '\t')
            find(verdict, GW_DESYNC_NonCompliantHeader);
    }
}

static void judge_field(h2o_iovec_t name, h2o_iovec_t value, struct framing *framing, enum gw_desync *verdict)
{
    bool is_suspicious;

    judge_text(name, true, verdict);
    judge_text(value, false, verdict);
    if (trim(name.base, name.base + name.len).len == 0)
        find(verdict, GW_DESYNC_EmptyHeader);
    if ((is_suspicious = gw_desync_is_suspicious(name))) {
        find(verdict, GW_DESYNC_SuspiciousHeader);
        framing->is_suspicious = true;
    }
    if (is_name(name, "content-length") || (is_suspicious && has_letters_of(name, "contentlength")))
        read_length(framing, value);
    else if (is_name(name, "transfer-encoding") || is_suspicious)
        read_codings(framing, value);
}

/* A line without its end; false: there is none, *line is what there is of it. */
static bool cut_line(const char **p, const char *end, h2o_iovec_t *line)
{
    const char *lf = *p != end ? memchr(*p, '\n', (size_t)(end - *p)) : NULL, *to = lf != NULL ? lf : end;

    *line = h2o_iovec_init(*p, (size_t)(to - *p));
    *p = lf != NULL ? lf + 1 : end;
    if (lf != NULL && line->len != 0 && line->base[line->len - 1] == '\r')
        --line->len;
    return lf != NULL;
}

/* Folded lines and lines without a colon are none that an ALB has a word for. */
static void judge_fields(const char *p, const char *end, struct framing *framing, enum gw_desync *verdict)
{
    h2o_iovec_t line;

    while (cut_line(&p, end, &line) && line.len != 0) {
        const char *colon = memchr(line.base, ':', line.len), *line_end = line.base + line.len;
        if (colon != NULL && !is_blank(line.base[0]))
            judge_field(h2o_iovec_init(line.base, (size_t)(colon - line.base)), trim(colon + 1, line_end), framing,
                        verdict);
        else if (colon != NULL && trim(line.base, colon).len == 0)
            find(verdict, GW_DESYNC_EmptyHeader);
    }
    if (p == end && line.len != 0 && memchr(line.base, ':', line.len) != NULL) /* cut off: what it frames is unknown */
        judge_text(line, false, verdict);
}

enum gw_desync gw_desync_of_fields(const char *fields, const char *end, bool is_get_or_head, int minor_version)
{
    struct framing framing = {0};
    enum gw_desync verdict = GW_DESYNC_NONE;

    judge_fields(fields, end, &framing, &verdict);
    judge_framing(&framing, is_get_or_head, minor_version, &verdict);
    if (minor_version > 1)
        find(&verdict, GW_DESYNC_NonCompliantVersion);
    return verdict;
}

/* ---- a head that is refused ---- */

struct request_line {
    h2o_iovec_t method, target, version;
    bool is_version_bare; /* one blank before it, none behind it */
};

/* The version is the last word, if it looks like one. */
static void cut_request_line(h2o_iovec_t line, struct request_line *self)
{
    const char *end = line.base + line.len, *to = end, *space = memchr(line.base, ' ', line.len), *word;

    *self =
        (struct request_line){.method = h2o_iovec_init(line.base, (size_t)((space != NULL ? space : end) - line.base)),
                              .target = h2o_iovec_init(end, 0),
                              .version = h2o_iovec_init(end, 0)};
    if (space == NULL)
        return;
    while (to != space + 1 && is_blank(to[-1]))
        --to;
    for (word = to; word != space + 1 && !is_blank(word[-1]);)
        --word;
    if (word == space + 1 || to - word < 4 || memcmp(word, "HTTP", 4) != 0) {
        self->target = trim(space + 1, end);
        return;
    }
    self->version = h2o_iovec_init(word, (size_t)(to - word));
    self->is_version_bare = to == end && !is_blank(word[-2]);
    self->target = trim(space + 1, word);
}

/* -1: HTTP/0.9; -2: none of HTTP/1 */
static int minor_of(h2o_iovec_t version)
{
    if (version.len == 0)
        return -1;
    return version.len == 8 && memcmp(version.base, "HTTP/1.", 7) == 0 && version.base[7] >= '0' &&
                   version.base[7] <= '9'
               ? version.base[7] - '0'
               : -2;
}

static void judge_target(h2o_iovec_t target, enum gw_desync *verdict)
{
    for (size_t i = 0; i != target.len; ++i) {
        char c = target.base[i];
        if (c == '\r' || c == '\n' || c == '\0')
            find(verdict, GW_DESYNC_BadUri);
        else if (is_control(c))
            find(verdict, GW_DESYNC_AmbiguousUri);
        else if (c == ' ')
            find(verdict, GW_DESYNC_SpaceInUri);
    }
}

enum gw_desync gw_desync_of_head(const char *bytes, size_t len)
{
    const char *p = bytes, *end = bytes + len;
    struct framing framing = {0};
    struct request_line line;
    enum gw_desync verdict = GW_DESYNC_NONE;
    h2o_iovec_t text;
    int minor;

    while (p != end && (*p == '\r' || *p == '\n'))
        ++p;
    bool is_whole = cut_line(&p, end, &text);
    cut_request_line(text, &line);
    minor = is_whole ? minor_of(line.version) : 1;
    judge_fields(p, end, &framing, &verdict);
    judge_framing(&framing,
                  h2o_memis(line.method.base, line.method.len, H2O_STRLIT("GET")) ||
                      h2o_memis(line.method.base, line.method.len, H2O_STRLIT("HEAD")),
                  minor == -2 ? 1 : minor, &verdict);
    if (line.method.len == 0)
        find(&verdict, GW_DESYNC_BadMethod);
    for (size_t i = 0; i != line.method.len; ++i)
        if (!gw_char_is(line.method.base[i], GW_CHAR_TOKEN))
            find(&verdict, GW_DESYNC_BadMethod);
    if (minor == -2)
        find(&verdict, GW_DESYNC_BadVersion);
    else if (minor == -1 || minor > 1 || (is_whole && !line.is_version_bare))
        find(&verdict, GW_DESYNC_NonCompliantVersion);
    judge_target(line.target, &verdict);
    return verdict;
}
