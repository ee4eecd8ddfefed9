#include "gateway/http/list_field.h"
#include <stdbool.h>
#include <string.h>

h2o_iovec_t gw_trim(h2o_iovec_t s)
{
    while (s.len != 0 && (*s.base == ' ' || *s.base == '\t'))
        s = h2o_iovec_init(s.base + 1, s.len - 1);
    while (s.len != 0 && (s.base[s.len - 1] == ' ' || s.base[s.len - 1] == '\t'))
        --s.len;
    return s;
}

static h2o_iovec_t cut_at(h2o_iovec_t *rest, size_t at)
{
    h2o_iovec_t part = h2o_iovec_init(rest->base, at);
    size_t skip = at != rest->len ? at + 1 : at;
    *rest = h2o_iovec_init(rest->base + skip, rest->len - skip);
    return gw_trim(part);
}

h2o_iovec_t gw_list_cut(h2o_iovec_t *rest, char separator)
{
    const char *at = rest->len != 0 ? memchr(rest->base, separator, rest->len) : NULL;
    return cut_at(rest, at != NULL ? (size_t)(at - rest->base) : rest->len);
}

h2o_iovec_t gw_list_next(h2o_iovec_t *rest)
{
    size_t end = 0;
    bool is_quoted = false;

    for (; end != rest->len && (is_quoted || rest->base[end] != ','); ++end) {
        if (rest->base[end] == '"')
            is_quoted = !is_quoted;
        else if (rest->base[end] == '\\' && is_quoted && end + 1 != rest->len)
            ++end;
    }
    return cut_at(rest, end);
}

static unsigned read_weight(h2o_iovec_t q, unsigned if_malformed)
{
    unsigned weight, unit = 100;

    if (q.len == 0 || q.len > 5 || (q.base[0] != '0' && q.base[0] != '1') || (q.len > 1 && q.base[1] != '.'))
        return if_malformed;
    weight = q.base[0] == '1' ? 1000 : 0;
    for (size_t i = 2; i < q.len; ++i, unit /= 10) {
        if (q.base[i] < '0' || q.base[i] > '9')
            return if_malformed;
        weight += unit * (unsigned)(q.base[i] - '0');
    }
    return weight > 1000 ? if_malformed : weight;
}

unsigned gw_list_weight(h2o_iovec_t parameters, unsigned if_malformed)
{
    unsigned weight = 1000;

    while (parameters.len != 0) {
        h2o_iovec_t value = gw_list_cut(&parameters, ';'), name = gw_list_cut(&value, '=');
        if (name.len == 1 && h2o_tolower(name.base[0]) == 'q')
            weight = read_weight(gw_trim(value), if_malformed);
    }
    return weight;
}
