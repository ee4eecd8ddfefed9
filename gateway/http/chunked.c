#include "gateway/http/chunked.h"
#include "gateway/http/grammar.h"
#include <stdlib.h>

enum { MAX_LINE = 1024, MAX_DIGITS = 16, MAX_OVERHEAD = 16384, FREE_OVERHEAD = 16 };
enum { MAX_TRAILERS = 8192, MAX_TRAILER_FIELDS = 100, MIN_TRAILER_ROOM = 512 };

/* Named after what comes next. */
enum state {
    SIZE,           /* hex digits */
    SIZE_BLANK,     /* BWS before ';' */
    EXT_NAME_START, /* BWS or the first byte of a name */
    EXT_NAME,
    EXT_NAME_BLANK,  /* BWS before '=' or ';' */
    EXT_VALUE_START, /* BWS, a token or '"' */
    EXT_TOKEN,
    EXT_QUOTED,
    EXT_QUOTED_PAIR,
    EXT_VALUE_END, /* behind a quoted string: BWS before ';', or the line end */
    EXT_BLANK,     /* behind a value and BWS: only ';' */
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_START, /* a name, or the CR of the last line */
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    LAST_LF,
    DONE,
    BAD,
    TOO_LARGE,
};

void gw_chunked_init(struct gw_chunked *self) { *self = (struct gw_chunked){.state = SIZE}; }

void gw_chunked_dispose(struct gw_chunked *self)
{
    free(self->trailers);
    self->trailers = NULL;
    self->keeps_trailers = false;
}

h2o_iovec_t gw_chunked_trailers(const struct gw_chunked *self)
{
    return self->trailers != NULL ? h2o_iovec_init(self->trailers, self->line_bytes - 2) : h2o_iovec_init(NULL, 0);
}

static inline bool is_blank(char c) { return c == ' ' || c == '\t'; }

static enum state read_size(struct gw_chunked *self, char c)
{
    if (gw_char_is(c, GW_CHAR_HEX)) {
        unsigned digit = c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
        if (self->digits++ == MAX_DIGITS || self->left > (INT64_MAX >> 4))
            return BAD;
        self->left = self->left << 4 | digit;
        return SIZE;
    }
    if (self->digits == 0)
        return BAD;
    return c == '\r' ? SIZE_LF : c == ';' ? EXT_NAME_START : is_blank(c) ? SIZE_BLANK : BAD;
}

/* chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] ), RFC 9112 7.1.1. A blank must lead on to
 * what the grammar has behind it: "5 CRLF" is refused. */
static enum state read_extension(enum state state, char c)
{
    switch (state) {
    case SIZE_BLANK:
    case EXT_BLANK:
        return is_blank(c) ? state : c == ';' ? EXT_NAME_START : BAD;
    case EXT_NAME_START:
        return is_blank(c) ? state : gw_char_is(c, GW_CHAR_TOKEN) ? EXT_NAME : BAD;
    case EXT_NAME:
        if (gw_char_is(c, GW_CHAR_TOKEN))
            return state;
        return c == '='      ? EXT_VALUE_START
               : c == ';'    ? EXT_NAME_START
               : c == '\r'   ? SIZE_LF
               : is_blank(c) ? EXT_NAME_BLANK
                             : BAD;
    case EXT_NAME_BLANK:
        return is_blank(c) ? state : c == '=' ? EXT_VALUE_START : c == ';' ? EXT_NAME_START : BAD;
    case EXT_VALUE_START:
        return is_blank(c) ? state : c == '"' ? EXT_QUOTED : gw_char_is(c, GW_CHAR_TOKEN) ? EXT_TOKEN : BAD;
    case EXT_TOKEN:
        if (gw_char_is(c, GW_CHAR_TOKEN))
            return state;
        /* fallthrough */
    case EXT_VALUE_END:
        return c == ';' ? EXT_NAME_START : c == '\r' ? SIZE_LF : is_blank(c) ? EXT_BLANK : BAD;
    case EXT_QUOTED:
        return c == '"' ? EXT_VALUE_END : c == '\\' ? EXT_QUOTED_PAIR : gw_char_is(c, GW_CHAR_QUOTED) ? state : BAD;
    case EXT_QUOTED_PAIR:
        return gw_char_is(c, GW_CHAR_VALUE) ? EXT_QUOTED : BAD;
    default:
        return BAD;
    }
}

static enum state end_size_line(struct gw_chunked *self, char c)
{
    if (c != '\n')
        return BAD;
    uint64_t allowed = self->left < MAX_OVERHEAD ? FREE_OVERHEAD + 2 * self->left : 2 * MAX_OVERHEAD;
    uint64_t overhead = (uint64_t)self->overhead + self->line_bytes;
    self->overhead = overhead > allowed ? (uint32_t)(overhead - allowed) : 0;
    if (self->overhead > MAX_OVERHEAD)
        return BAD;
    self->line_bytes = 0;
    self->digits = 0;
    return self->left != 0 ? DATA : TRAILER_START;
}

static enum state read_trailer(enum state state, char c)
{
    switch (state) {
    case TRAILER_START:
        return c == '\r' ? LAST_LF : gw_char_is(c, GW_CHAR_TOKEN) ? TRAILER_NAME : BAD;
    case TRAILER_NAME:
        return c == ':' ? TRAILER_VALUE : gw_char_is(c, GW_CHAR_TOKEN) ? state : BAD;
    case TRAILER_VALUE:
        return c == '\r' ? TRAILER_LF : gw_char_is(c, GW_CHAR_VALUE) ? state : BAD;
    case TRAILER_LF:
        return c == '\n' ? TRAILER_START : BAD;
    default:
        return c == '\n' ? DONE : BAD;
    }
}

/* The room is a power of two: it doubles when the section's length comes to one. */
static void keep_trailer_byte(struct gw_chunked *self, char c)
{
    uint32_t at = self->line_bytes - 1;
    if (at == 0 || (at >= MIN_TRAILER_ROOM && (at & (at - 1)) == 0))
        self->trailers = h2o_mem_realloc(self->trailers, at == 0 ? MIN_TRAILER_ROOM : 2 * (size_t)at);
    self->trailers[at] = c;
}

static enum state read_trailers(struct gw_chunked *self, char c)
{
    enum state state = read_trailer(self->state, c);
    if (self->line_bytes > MAX_TRAILERS)
        return TOO_LARGE;
    if (self->state == TRAILER_START && state == TRAILER_NAME && ++self->digits > MAX_TRAILER_FIELDS)
        return TOO_LARGE;
    if (self->keeps_trailers && self->digits != 0)
        keep_trailer_byte(self, c);
    return state;
}

/* One byte of framing. */
static enum state read_framing(struct gw_chunked *self, char c)
{
    enum state state = self->state;
    if (state == DATA_CR)
        return c == '\r' ? DATA_LF : BAD;
    if (state == DATA_LF)
        return c == '\n' ? SIZE : BAD;
    ++self->line_bytes;
    if (state >= TRAILER_START)
        return read_trailers(self, c);
    if (self->line_bytes > MAX_LINE)
        return BAD;
    if (state == SIZE)
        return read_size(self, c);
    if (state == SIZE_LF)
        return end_size_line(self, c);
    return read_extension(state, c);
}

enum gw_chunked_result gw_chunked_decode(struct gw_chunked *self, char *data, size_t *len, size_t *consumed)
{
    char *from = data, *to = data, *end = data + *len;
    while (from != end && self->state < DONE) {
        if (self->state != DATA) {
            self->state = (uint8_t)read_framing(self, *from++);
            continue;
        }
        size_t n = (uint64_t)(end - from) < self->left ? (size_t)(end - from) : (size_t)self->left;
        if (to != from)
            memmove(to, from, n);
        from += n;
        to += n;
        self->left -= n;
        if (self->left == 0)
            self->state = DATA_CR;
    }
    *len = (size_t)(to - data);
    *consumed = (size_t)(from - data);
    switch (self->state) {
    case DONE:
        return GW_CHUNKED_DONE;
    case BAD:
        return GW_CHUNKED_BAD;
    case TOO_LARGE:
        return GW_CHUNKED_TRAILERS_TOO_LARGE;
    default:
        return GW_CHUNKED_MORE;
    }
}
