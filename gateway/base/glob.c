#include "gateway/base/glob.h"

/* One step of a pattern. */
enum step { LITERAL, ANY_ONE, ANY_RUN };

static enum step read_step(const char **at, const char *end, unsigned char *literal)
{
    const char *p = (*at)++;
    if (*p == '*')
        return ANY_RUN;
    if (*p == '?')
        return ANY_ONE;
    /* a backslash before anything else, or at the end, is itself */
    if (*p == '\\' && *at != end && (**at == '*' || **at == '?' || **at == '\\'))
        p = (*at)++;
    *literal = (unsigned char)*p;
    return LITERAL;
}

static inline unsigned char fold(unsigned char c, bool nocase) { return nocase && 'A' <= c && c <= 'Z' ? c | 0x20 : c; }

/* Greedy: a star takes as little as it can, and only the last star passed is ever widened, as an earlier one could only
 * reach places that the later one reaches too. Hence at most pattern length times text length steps. */
static inline bool match(h2o_iovec_t pattern, h2o_iovec_t text, bool nocase)
{
    const char *p = pattern.base, *p_end = p + pattern.len, *after_star = NULL;
    const char *t = text.base, *t_end = t + text.len, *star_takes_to = NULL;
    while (1) {
        unsigned char literal;
        if (p != p_end) {
            const char *next = p;
            switch (read_step(&next, p_end, &literal)) {
            case ANY_RUN:
                if (next == p_end)
                    return true;
                after_star = p = next;
                star_takes_to = t;
                continue;
            case ANY_ONE:
                if (t == t_end)
                    return false; /* widening a star would leave even less */
                p = next;
                ++t;
                continue;
            case LITERAL:
                if (t == t_end)
                    return false;
                if (fold((unsigned char)*t, nocase) == fold(literal, nocase)) {
                    p = next;
                    ++t;
                    continue;
                }
            }
        } else if (t == t_end) {
            return true;
        }
        if (after_star == NULL || star_takes_to == t_end)
            return false;
        p = after_star;
        t = ++star_takes_to;
    }
}

bool gw_glob_match(h2o_iovec_t pattern, h2o_iovec_t text) { return match(pattern, text, false); }

bool gw_glob_match_nocase(h2o_iovec_t pattern, h2o_iovec_t text) { return match(pattern, text, true); }

h2o_iovec_t gw_glob_prefix(h2o_iovec_t pattern, char *buf, bool *is_literal)
{
    const char *p = pattern.base, *end = p + pattern.len;
    size_t len = 0;
    *is_literal = true;
    while (p != end) {
        unsigned char literal;
        if (read_step(&p, end, &literal) != LITERAL) {
            *is_literal = false;
            break;
        }
        buf[len++] = (char)literal;
    }
    return h2o_iovec_init(buf, len);
}
