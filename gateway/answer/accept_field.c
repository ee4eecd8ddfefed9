#include "gateway/answer/accept_field.h"
#include <stdbool.h>

static const struct {
    const char *name;
    size_t name_len, type_len; /* type_len: through the slash */
} formats[] = {
    [GW_ACCEPT_TEXT] = {H2O_STRLIT("text/plain"), 5},
    [GW_ACCEPT_JSON] = {H2O_STRLIT("application/json"), 12},
    [GW_ACCEPT_HTML] = {H2O_STRLIT("text/html"), 5},
};
enum { NUM_FORMATS = sizeof(formats) / sizeof(formats[0]) };

/* How well a format is liked: weight in thousandths and how closely the best range names it (0 = no range does). */
struct liking {
    unsigned weight, specificity, position;
};

static h2o_iovec_t trim(h2o_iovec_t s)
{
    while (s.len != 0 && (*s.base == ' ' || *s.base == '\t'))
        s = h2o_iovec_init(s.base + 1, s.len - 1);
    while (s.len != 0 && (s.base[s.len - 1] == ' ' || s.base[s.len - 1] == '\t'))
        --s.len;
    return s;
}

/* Cuts off and returns what stands before the separator (all when there is none). */
static h2o_iovec_t cut(h2o_iovec_t *rest, char separator)
{
    const char *at = rest->len != 0 ? memchr(rest->base, separator, rest->len) : NULL;
    h2o_iovec_t part = h2o_iovec_init(rest->base, at != NULL ? (size_t)(at - rest->base) : rest->len);
    *rest = at != NULL ? h2o_iovec_init(at + 1, rest->len - part.len - 1) : h2o_iovec_init(NULL, 0);
    return trim(part);
}

/* qvalue of RFC 9110 12.4.2 in thousandths; what is none counts as 1. */
static unsigned read_weight(h2o_iovec_t q)
{
    unsigned weight, unit = 100;

    if (q.len == 0 || q.len > 5 || (q.base[0] != '0' && q.base[0] != '1') || (q.len > 1 && q.base[1] != '.'))
        return 1000;
    weight = q.base[0] == '1' ? 1000 : 0;
    for (size_t i = 2; i < q.len; ++i, unit /= 10) {
        if (q.base[i] < '0' || q.base[i] > '9')
            return 1000;
        weight += unit * (q.base[i] - '0');
    }
    return weight > 1000 ? 1000 : weight;
}

static unsigned specificity_of(h2o_iovec_t range, size_t format)
{
    if (h2o_lcstris(range.base, range.len, formats[format].name, formats[format].name_len))
        return 3;
    if (range.len == formats[format].type_len + 1 && range.base[range.len - 1] == '*' &&
        h2o_lcstris(range.base, range.len - 1, formats[format].name, formats[format].type_len))
        return 2;
    return h2o_memis(range.base, range.len, H2O_STRLIT("*/*")) ? 1 : 0;
}

/* One media range with its parameters, e.g. `text/html;level=1;q=0.5`. */
static void apply_range(struct liking *likings, h2o_iovec_t element, unsigned position)
{
    h2o_iovec_t range = cut(&element, ';');
    unsigned weight = 1000;

    while (element.len != 0) {
        h2o_iovec_t parameter = cut(&element, ';');
        if (parameter.len >= 2 && h2o_tolower(parameter.base[0]) == 'q' && parameter.base[1] == '=')
            weight = read_weight(h2o_iovec_init(parameter.base + 2, parameter.len - 2));
    }
    for (size_t i = 0; i != NUM_FORMATS; ++i) {
        unsigned specificity = specificity_of(range, i);
        if (specificity > likings[i].specificity)
            likings[i] = (struct liking){weight, specificity, position};
    }
}

static bool is_liked_more(const struct liking *a, const struct liking *b)
{
    if (a->weight != b->weight)
        return a->weight > b->weight;
    if (a->specificity != b->specificity)
        return a->specificity > b->specificity;
    return a->position < b->position;
}

enum gw_accept gw_accept_field_choose(const h2o_header_t *headers, size_t num_headers)
{
    struct liking likings[NUM_FORMATS] = {{0}};
    size_t best = GW_ACCEPT_TEXT;
    unsigned position = 0;

    for (size_t i = 0; i != num_headers; ++i) {
        if (headers[i].name != &H2O_TOKEN_ACCEPT->buf)
            continue;
        h2o_iovec_t rest = headers[i].value;
        while (rest.len != 0)
            apply_range(likings, cut(&rest, ','), position++);
    }
    for (size_t i = 1; i != NUM_FORMATS; ++i)
        if (is_liked_more(&likings[i], &likings[best]))
            best = i;
    return (enum gw_accept)best;
}
