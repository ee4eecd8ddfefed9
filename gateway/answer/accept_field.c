#include "gateway/answer/accept_field.h"
#include <stdbool.h>
#include "gateway/http/list_field.h"

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
    h2o_iovec_t range = gw_list_cut(&element, ';');
    unsigned weight = gw_list_weight(element, 1000);

    for (size_t i = 0; i != NUM_FORMATS; ++i) {
        unsigned specificity = specificity_of(range, i);
        if (specificity > likings[i].specificity)
            likings[i] = (struct liking){weight, specificity, position};
    }
}

static bool is_liked_more(const struct liking *a, const struct liking *b)
{
    if (a->weight == 0) /* refused, or not named */
        return false;
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
            apply_range(likings, gw_list_cut(&rest, ','), position++);
    }
    for (size_t i = 1; i != NUM_FORMATS; ++i)
        if (is_liked_more(&likings[i], &likings[best]))
            best = i;
    return (enum gw_accept)best;
}
