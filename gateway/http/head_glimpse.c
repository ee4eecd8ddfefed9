/* What a refused head seems to say, for the log. */
#include <string.h>
#include <strings.h>
#include "gateway/http/head.h"

enum { MAX_METHOD = 32, MAX_TARGET = 8192, MAX_HOST = 255 };

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* The end of the line at p, without CR. */
static const char *end_of_line(const char *p, const char *end)
{
    const char *lf = p != end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
    if (lf == NULL)
        return end;
    return lf != p && lf[-1] == '\r' ? lf - 1 : lf;
}

/* Visible ASCII, so that no binary noise is taken for a word. */
static bool is_word(const char *p, const char *end, size_t max)
{
    if (p == end || (size_t)(end - p) > max)
        return false;
    for (; p != end; ++p)
        if (*p <= ' ' || *p >= 0x7f)
            return false;
    return true;
}

static h2o_iovec_t find_host(const char *p, const char *end)
{
    while ((p = p != end ? memchr(p, '\n', (size_t)(end - p)) : NULL) != NULL) {
        const char *line_end = end_of_line(++p, end), *from = p + 5, *to = line_end;
        if (line_end - p <= 5 || strncasecmp(p, "host:", 5) != 0)
            continue;
        while (from != to && is_blank(*from))
            ++from;
        while (from != to && is_blank(to[-1]))
            --to;
        if (is_word(from, to, MAX_HOST))
            return h2o_iovec_init(from, (size_t)(to - from));
    }
    return h2o_iovec_init(NULL, 0);
}

struct gw_head_glimpse gw_head_glimpse(const char *bytes, size_t len)
{
    struct gw_head_glimpse seen = {{NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}};
    const char *p = bytes, *end = bytes + len, *line_end, *word, *query;

    while (p != end && (*p == '\r' || *p == '\n'))
        ++p;
    line_end = end_of_line(p, end);
    for (word = p; p != line_end && !is_blank(*p);)
        ++p;
    if (p == line_end || !is_word(word, p, MAX_METHOD))
        return seen;
    seen.method = h2o_iovec_init(word, (size_t)(p - word));
    while (p != line_end && is_blank(*p))
        ++p;
    for (word = p; p != line_end && !is_blank(*p) && p - word != MAX_TARGET;)
        ++p;
    if (p == word)
        return seen;
    query = memchr(word, '?', (size_t)(p - word));
    seen.path = h2o_iovec_init(word, (size_t)((query != NULL ? query : p) - word));
    if (query != NULL)
        seen.query = h2o_iovec_init(query + 1, (size_t)(p - query - 1));
    seen.host = find_host(line_end, end);
    return seen;
}
