#include <assert.h>
#include <string.h>
#include "routing/path.h"

enum { PLAIN, BAD, SLASH, PERCENT };

/* What a byte of a raw path is; only the marked ones need thought. RFC 3986 3.3 allows less, but browsers send the
 * printable rest ("|", "\"", "[") as it is, so that is kept. */
static const unsigned char kinds[256] = {
    [0x00 ... 0x20] = BAD, ['#'] = BAD, [0x7f ... 0xff] = BAD, ['/'] = SLASH, ['%'] = PERCENT,
};

/* Value of a hex digit; 0xff for other bytes. */
static const unsigned char hex_values[256] = {
    [0 ... '0' - 1] = 0xff,
    ['9' + 1 ... 'A' - 1] = 0xff,
    ['F' + 1 ... 'a' - 1] = 0xff,
    ['f' + 1 ... 255] = 0xff,
    ['0'] = 0,
    ['1'] = 1,
    ['2'] = 2,
    ['3'] = 3,
    ['4'] = 4,
    ['5'] = 5,
    ['6'] = 6,
    ['7'] = 7,
    ['8'] = 8,
    ['9'] = 9,
    ['A'] = 10,
    ['B'] = 11,
    ['C'] = 12,
    ['D'] = 13,
    ['E'] = 14,
    ['F'] = 15,
    ['a'] = 10,
    ['b'] = 11,
    ['c'] = 12,
    ['d'] = 13,
    ['e'] = 14,
    ['f'] = 15,
};

static const bool unreserved[256] = {
    ['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['-'] = true,
    ['.'] = true,         ['_'] = true,         ['~'] = true,
};

/* An escape whose canonical form is itself: upper-case digits, and not an unreserved character. */
static bool is_canonical_escape(const unsigned char *p)
{
    unsigned hi = hex_values[p[1]], lo = hex_values[p[2]];
    return hi != 0xff && lo != 0xff && p[1] < 'a' && p[2] < 'a' && !unreserved[hi << 4 | lo] && (hi | lo) != 0;
}

/* The first segment at p is "." or "..", written plainly (escaped dots stop the scan by their '%'). */
static bool is_dot_segment(const unsigned char *p, const unsigned char *end)
{
    if (p == end || *p != '.')
        return false;
    ++p;
    if (p != end && *p == '.')
        ++p;
    return p == end || *p == '/';
}

/* Most paths are canonical already: one pass that stops at the first byte that is not. Returns that place, or end. */
static const unsigned char *scan_canonical(const unsigned char *p, const unsigned char *end)
{
    while (p != end) {
        switch (kinds[*p]) {
        case PLAIN:
            ++p;
            break;
        case SLASH:
            if (is_dot_segment(p + 1, end))
                return p;
            ++p;
            break;
        case PERCENT:
            if (end - p < 3 || !is_canonical_escape(p))
                return p;
            p += 3;
            break;
        default:
            return p;
        }
    }
    return end;
}

/* Ends the segment that starts after the last '/' in out: "." vanishes, ".." takes the segment before it along.
 * RFC 3986 5.2.4, with the difference that leaving the root is an error. Returns the new length, 0 = above the root. */
static size_t close_segment(const char *out, size_t len)
{
    size_t start = len;
    while (out[start - 1] != '/')
        --start;
    if (len - start == 1 && out[start] == '.')
        return start;
    if (len - start != 2 || out[start] != '.' || out[start + 1] != '.')
        return len;
    if (start == 1)
        return 0;
    --start;
    while (out[start - 1] != '/')
        --start;
    return start;
}

static enum routing_path_result copy_escape(const unsigned char *p, const unsigned char *end, char *out, size_t *len)
{
    static const char digits[] = "0123456789ABCDEF";
    unsigned hi, lo;

    if (end - p < 3 || (hi = hex_values[p[1]]) == 0xff || (lo = hex_values[p[2]]) == 0xff)
        return ROUTING_PATH_BAD_ESCAPE;
    if ((hi | lo) == 0)
        return ROUTING_PATH_NUL;
    if (unreserved[hi << 4 | lo]) {
        out[(*len)++] = (char)(hi << 4 | lo);
    } else {
        out[(*len)++] = '%';
        out[(*len)++] = digits[hi];
        out[(*len)++] = digits[lo];
    }
    return ROUTING_PATH_OK;
}

enum routing_path_result routing_path_canonical(h2o_mem_pool_t *pool, h2o_iovec_t raw, h2o_iovec_t *canonical)
{
    const unsigned char *start = (const unsigned char *)raw.base, *end = start + raw.len, *p;

    *canonical = (h2o_iovec_t){NULL, 0};
    if (raw.len == 0 || *start != '/')
        return ROUTING_PATH_NO_SLASH;
    if ((p = scan_canonical(start, end)) == end) {
        *canonical = raw;
        return ROUTING_PATH_OK;
    }

    char *out = h2o_mem_alloc_pool(pool, raw.len); /* never grows */
    size_t len = p - start;
    memcpy(out, start, len);
    for (; p != end; ++p) {
        switch (kinds[*p]) {
        case PLAIN:
            out[len++] = *p;
            break;
        case SLASH: /* ends a segment; one that vanishes leaves the slash before it */
            if (len != 0) {
                size_t closed = close_segment(out, len);
                if (closed == 0)
                    return ROUTING_PATH_ABOVE_ROOT;
                if (closed != len) {
                    len = closed;
                    break;
                }
            }
            out[len++] = '/';
            break;
        case PERCENT: {
            enum routing_path_result result = copy_escape(p, end, out, &len);
            if (result != ROUTING_PATH_OK)
                return result;
            p += 2;
            break;
        }
        default:
            return ROUTING_PATH_BAD_BYTE;
        }
    }
    if ((len = close_segment(out, len)) == 0)
        return ROUTING_PATH_ABOVE_ROOT;
    assert(len <= raw.len);
    *canonical = h2o_iovec_init(out, len);
    return ROUTING_PATH_OK;
}

const char *routing_path_problem(enum routing_path_result result)
{
    switch (result) {
    case ROUTING_PATH_OK:
        return "the path is fine";
    case ROUTING_PATH_NO_SLASH:
        return "the path does not start with \"/\"";
    case ROUTING_PATH_BAD_ESCAPE:
        return "the path has a \"%\" without two hex digits";
    case ROUTING_PATH_NUL:
        return "the path has a NUL character";
    case ROUTING_PATH_BAD_BYTE:
        return "the path has a byte that must be percent-encoded";
    case ROUTING_PATH_ABOVE_ROOT:
        return "the path leaves the root by \"..\"";
    }
    return "?";
}
