#include "gateway/command/log_reader.h"
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <h2o/string_.h>
#include "gateway/observe/access_line.h"
#include "gateway/reason.h"

/* A line of weir's own is below 1.1 MB even if every text in it is full of escapes (gw_access_line_bound). */
enum { BUFFER_BYTES = 4 << 20, MAX_DEPTH = 32 };

/* ---- JSON, in place: a string never grows by unescaping ---- */

struct scanner {
    char *p, *end;
};

static void skip_space(struct scanner *s)
{
    while (s->p != s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\r' || *s->p == '\n'))
        ++s->p;
}

static bool take(struct scanner *s, char c)
{
    skip_space(s);
    if (s->p == s->end || *s->p != c)
        return false;
    ++s->p;
    return true;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

static bool read_hex4(struct scanner *s, uint32_t *code)
{
    *code = 0;
    if (s->end - s->p < 4)
        return false;
    for (int i = 0; i != 4; ++i, ++s->p) {
        int digit = hex_digit(*s->p);
        if (digit < 0)
            return false;
        *code = *code << 4 | (uint32_t)digit;
    }
    return true;
}

static char *put_utf8(char *dst, uint32_t code)
{
    if (code < 0x80) {
        *dst++ = (char)code;
    } else if (code < 0x800) {
        *dst++ = (char)(0xc0 | code >> 6);
        *dst++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *dst++ = (char)(0xe0 | code >> 12);
        *dst++ = (char)(0x80 | (code >> 6 & 0x3f));
        *dst++ = (char)(0x80 | (code & 0x3f));
    } else {
        *dst++ = (char)(0xf0 | code >> 18);
        *dst++ = (char)(0x80 | (code >> 12 & 0x3f));
        *dst++ = (char)(0x80 | (code >> 6 & 0x3f));
        *dst++ = (char)(0x80 | (code & 0x3f));
    }
    return dst;
}

/* After "\u". Half of a surrogate pair becomes U+FFFD. */
static bool read_unicode(struct scanner *s, char **dst)
{
    uint32_t code, low;
    if (!read_hex4(s, &code))
        return false;
    if (code >= 0xd800 && code < 0xdc00 && s->end - s->p >= 6 && s->p[0] == '\\' && s->p[1] == 'u') {
        struct scanner ahead = {s->p + 2, s->end};
        if (read_hex4(&ahead, &low) && low >= 0xdc00 && low < 0xe000) {
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            s->p = ahead.p;
        }
    }
    *dst = put_utf8(*dst, code >= 0xd800 && code < 0xe000 ? 0xfffd : code);
    return true;
}

static bool read_escape(struct scanner *s, char **dst)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *found;

    if (s->p == s->end)
        return false;
    char c = *s->p++;
    if (c == 'u')
        return read_unicode(s, dst);
    if (c == '\0' || (found = strchr(from, c)) == NULL)
        return false;
    *(*dst)++ = to[found - from];
    return true;
}

/* A string whose opening quote is next. */
static bool read_string(struct scanner *s, h2o_iovec_t *text)
{
    char *dst;

    if (!take(s, '"'))
        return false;
    text->base = s->p;
    while (s->p != s->end && *s->p != '"' && *s->p != '\\' && (unsigned char)*s->p >= 0x20)
        ++s->p;
    dst = s->p;
    while (s->p != s->end && *s->p != '"') {
        if ((unsigned char)*s->p < 0x20)
            return false;
        if (*s->p != '\\') {
            *dst++ = *s->p++;
        } else {
            ++s->p;
            if (!read_escape(s, &dst))
                return false;
        }
    }
    text->len = dst - text->base;
    return take(s, '"');
}

static bool skip_word(struct scanner *s)
{
    char *begin = s->p;
    while (s->p != s->end && ((*s->p >= '0' && *s->p <= '9') || ((*s->p | 0x20) >= 'a' && (*s->p | 0x20) <= 'z') ||
                              *s->p == '-' || *s->p == '+' || *s->p == '.'))
        ++s->p;
    return s->p != begin;
}

/* Any value; nothing of it is kept. */
static bool skip_value(struct scanner *s, int depth)
{
    h2o_iovec_t ignored;

    skip_space(s);
    if (s->p == s->end || depth == MAX_DEPTH)
        return false;
    if (*s->p == '"')
        return read_string(s, &ignored);
    if (*s->p != '{' && *s->p != '[')
        return skip_word(s);
    bool is_object = *s->p == '{';
    char close = is_object ? '}' : ']';
    ++s->p;
    if (take(s, close))
        return true;
    do
        if ((is_object && (!read_string(s, &ignored) || !take(s, ':'))) || !skip_value(s, depth + 1))
            return false;
    while (take(s, ','));
    return take(s, close);
}

/* ---- the fields ---- */

#define TEXT(name)                                                                                                     \
    {                                                                                                                  \
#name, sizeof(#name) - 1, offsetof(struct gw_log_entry, name)                                                  \
    }
static const struct field {
    const char *name;
    size_t len, offset;
} fields[] = {
    TEXT(method),          TEXT(scheme), TEXT(host),     TEXT(path),         TEXT(query),
    TEXT(client),          TEXT(peer),   TEXT(listener), TEXT(user_agent),   TEXT(referer),
    TEXT(x_forwarded_for), TEXT(reason), TEXT(route),    TEXT(target_group),
};
#undef TEXT

static h2o_iovec_t *find_field(struct gw_log_entry *entry, h2o_iovec_t key)
{
    for (size_t i = 0; i != sizeof(fields) / sizeof(fields[0]); ++i)
        if (key.len == fields[i].len && memcmp(key.base, fields[i].name, key.len) == 0)
            return (h2o_iovec_t *)((char *)entry + fields[i].offset);
    return NULL;
}

/* A text, or null. */
static bool read_text(struct scanner *s, h2o_iovec_t *text)
{
    skip_space(s);
    if (s->p != s->end && *s->p == '"')
        return read_string(s, text);
    if (s->end - s->p < 4 || memcmp(s->p, "null", 4) != 0)
        return false;
    s->p += 4;
    *text = (h2o_iovec_t){NULL, 0};
    return true;
}

static bool read_status(struct scanner *s, int *status)
{
    char *begin;
    skip_space(s);
    *status = 0;
    for (begin = s->p; s->p != s->end && *s->p >= '0' && *s->p <= '9' && s->p - begin < 4; ++s->p)
        *status = *status * 10 + (*s->p - '0');
    return s->p != begin;
}

static bool read_member(struct scanner *s, struct gw_log_entry *entry)
{
    h2o_iovec_t key, *text;
    if (!read_string(s, &key) || !take(s, ':'))
        return false;
    if (h2o_memis(key.base, key.len, H2O_STRLIT("status")))
        return read_status(s, &entry->status);
    return (text = find_field(entry, key)) != NULL ? read_text(s, text) : skip_value(s, 0);
}

/* Would be more than itself in a request head: only somebody else than weir writes that into a log. */
static bool has_control(h2o_iovec_t text, bool is_field)
{
    for (size_t i = 0; i != text.len; ++i) {
        unsigned char c = text.base[i];
        if (c < 0x20 ? !(is_field && c == '\t') : c == 0x7f || (c == ' ' && !is_field))
            return true;
    }
    return false;
}

static bool is_clean(const struct gw_log_entry *entry)
{
    return !has_control(entry->method, false) && !has_control(entry->host, false) && !has_control(entry->path, false) &&
           !has_control(entry->query, false) && !has_control(entry->user_agent, true) &&
           !has_control(entry->referer, true) && !has_control(entry->x_forwarded_for, true);
}

/* Of such a head the line shows what it seemed to say, which is not all of it. */
static bool was_refused(const struct gw_log_entry *entry)
{
    char code[64];

    if (entry->route.base != NULL || entry->status < 400 || entry->reason.len >= sizeof(code))
        return false;
    memcpy(code, entry->reason.base, entry->reason.len);
    code[entry->reason.len] = '\0';
    return gw_reason_is_of_head(gw_reason_find(code));
}

enum gw_log_result gw_log_line_parse(char *line, size_t len, struct gw_log_entry *entry)
{
    struct scanner s = {line, line + len};
    uint64_t number = entry->line;

    *entry = (struct gw_log_entry){.line = number, .status = -1};
    if (!take(&s, '{'))
        return GW_LOG_BAD;
    if (!take(&s, '}')) {
        do
            if (!read_member(&s, entry))
                return GW_LOG_BAD;
        while (take(&s, ','));
        if (!take(&s, '}'))
            return GW_LOG_BAD;
    }
    skip_space(&s);
    if (s.p != s.end || entry->status == -1 || entry->reason.base == NULL)
        return GW_LOG_BAD;
    if (was_refused(entry)) /* with whatever bytes it was refused for */
        return GW_LOG_NO_REQUEST;
    if (!is_clean(entry))
        return GW_LOG_BAD;
    if (entry->method.len == 0 || entry->path.len == 0 || entry->path.len >= GW_ACCESS_MAX_TEXT ||
        entry->query.len >= GW_ACCESS_MAX_TEXT)
        return GW_LOG_NO_REQUEST;
    return GW_LOG_ENTRY;
}

/* ---- the file ---- */

struct gw_log_reader {
    int fd, error;
    bool is_at_end;    /* of the file; the buffer may hold more */
    bool is_too_long;  /* within a line that does not fit in */
    size_t begin, end; /* of what is in the buffer and not yet read */
    uint64_t line;
    struct gw_log_counts counts;
    char buffer[BUFFER_BYTES];
};

struct gw_log_reader *gw_log_reader_open(const char *path)
{
    int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd == -1)
        return NULL;
    struct gw_log_reader *reader = h2o_mem_alloc(sizeof(*reader)); /* the buffer's pages come as they are touched */
    memset(reader, 0, offsetof(struct gw_log_reader, buffer));
    reader->fd = fd;
    return reader;
}

void gw_log_reader_close(struct gw_log_reader *reader)
{
    if (reader == NULL)
        return;
    if (reader->fd != STDIN_FILENO)
        close(reader->fd);
    free(reader);
}

const struct gw_log_counts *gw_log_reader_counts(const struct gw_log_reader *reader) { return &reader->counts; }

/* Reads on behind what is there. A buffer that is full of one line is emptied: the line is lost. */
static void fill(struct gw_log_reader *reader)
{
    ssize_t n;

    memmove(reader->buffer, reader->buffer + reader->begin, reader->end - reader->begin);
    reader->end -= reader->begin;
    reader->begin = 0;
    if (reader->end == sizeof(reader->buffer)) {
        reader->is_too_long = true;
        reader->end = 0;
    }
    size_t room = sizeof(reader->buffer) - reader->end;
    while ((n = read(reader->fd, reader->buffer + reader->end, room < 256 << 10 ? room : 256 << 10)) == -1 &&
           errno == EINTR)
        ;
    if (n == -1)
        reader->error = errno;
    if (n <= 0)
        reader->is_at_end = true;
    else
        reader->end += (size_t)n;
}

/* The next line without its line feed; the last one may lack it. */
static bool next_line(struct gw_log_reader *reader, h2o_iovec_t *line)
{
    size_t seen = 0; /* without a line feed */

    for (;;) {
        char *begin = reader->buffer + reader->begin;
        size_t len = reader->end - reader->begin;
        char *found = memchr(begin + seen, '\n', len - seen);
        if (found == NULL && !reader->is_at_end) {
            seen = len == sizeof(reader->buffer) ? 0 : len;
            fill(reader);
            continue;
        }
        if (found == NULL && len == 0 && !reader->is_too_long)
            return false;
        *line = h2o_iovec_init(begin, found != NULL ? (size_t)(found - begin) : len);
        reader->begin += line->len + (found != NULL);
        ++reader->line;
        return true;
    }
}

static bool is_blank(h2o_iovec_t line)
{
    for (size_t i = 0; i != line.len; ++i)
        if (line.base[i] != ' ' && line.base[i] != '\t' && line.base[i] != '\r')
            return false;
    return true;
}

bool gw_log_reader_next(struct gw_log_reader *reader, struct gw_log_entry *entry)
{
    h2o_iovec_t line;

    while (next_line(reader, &line)) {
        bool is_whole = !reader->is_too_long;
        reader->is_too_long = false;
        if (is_whole && is_blank(line))
            continue;
        ++reader->counts.lines;
        entry->line = reader->line;
        enum gw_log_result result = is_whole ? gw_log_line_parse(line.base, line.len, entry) : GW_LOG_BAD;
        if (result == GW_LOG_ENTRY)
            return true;
        ++*(result == GW_LOG_BAD ? &reader->counts.bad : &reader->counts.no_request);
    }
    errno = reader->error;
    return false;
}
