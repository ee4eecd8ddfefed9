#include "gateway/compression/accept_encoding.h"
#include <string.h>

enum { UNLISTED = 2000 };

static const h2o_iovec_t names[] = {
    [GW_CODING_IDENTITY] = {H2O_STRLIT("identity")},
    [GW_CODING_GZIP] = {H2O_STRLIT("gzip")},
    [GW_CODING_BROTLI] = {H2O_STRLIT("br")},
};

h2o_iovec_t gw_coding_name(enum gw_coding coding) { return names[coding]; }

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

/* qvalue of RFC 9110 12.4.2 in thousandths; what is none counts as 0: sending a coding nobody asked for breaks the
 * client, leaving it out does not. */
static unsigned read_weight(h2o_iovec_t q)
{
    unsigned weight, unit = 100;

    if (q.len == 0 || q.len > 5 || (q.base[0] != '0' && q.base[0] != '1') || (q.len > 1 && q.base[1] != '.'))
        return 0;
    weight = q.base[0] == '1' ? 1000 : 0;
    for (size_t i = 2; i < q.len; ++i, unit /= 10) {
        if (q.base[i] < '0' || q.base[i] > '9')
            return 0;
        weight += unit * (unsigned)(q.base[i] - '0');
    }
    return weight > 1000 ? 0 : weight;
}

/* `coding [;q=weight]`; other parameters are not defined and say nothing. */
static unsigned read_element(h2o_iovec_t element, h2o_iovec_t *coding)
{
    unsigned weight = 1000;

    *coding = cut(&element, ';');
    while (element.len != 0) {
        h2o_iovec_t parameter = cut(&element, ';');
        if (parameter.len >= 1 && h2o_tolower(parameter.base[0]) == 'q') {
            h2o_iovec_t value = parameter, name = cut(&value, '=');
            if (name.len == 1)
                weight = read_weight(trim(value));
        }
    }
    return weight;
}

static int coding_of(h2o_iovec_t name)
{
    for (int i = 0; i != GW_CODING_COUNT; ++i)
        if (h2o_lcstris(name.base, name.len, names[i].base, names[i].len))
            return i;
    return h2o_lcstris(name.base, name.len, H2O_STRLIT("x-gzip")) ? GW_CODING_GZIP : -1; /* RFC 9110 8.4.1.3 */
}

static void read_list(h2o_iovec_t rest, unsigned *weights, unsigned *any)
{
    while (rest.len != 0) {
        h2o_iovec_t name;
        unsigned weight = read_element(cut(&rest, ','), &name);
        int coding;
        if (name.len == 1 && name.base[0] == '*') {
            if (*any == UNLISTED)
                *any = weight;
        } else if ((coding = coding_of(name)) >= 0 && weights[coding] == UNLISTED) {
            weights[coding] = weight;
        }
    }
}

void gw_accept_encoding_read(const h2o_header_t *headers, size_t num_headers, struct gw_accept_encoding *accept)
{
    unsigned any = UNLISTED;

    for (size_t i = 0; i != GW_CODING_COUNT; ++i)
        accept->weights[i] = UNLISTED;
    for (size_t i = 0; i != num_headers; ++i)
        if (headers[i].name == &H2O_TOKEN_ACCEPT_ENCODING->buf)
            read_list(headers[i].value, accept->weights, &any);
    for (size_t i = 0; i != GW_CODING_COUNT; ++i)
        if (accept->weights[i] == UNLISTED && any != UNLISTED)
            accept->weights[i] = any;
    accept->is_identity_listed = accept->weights[GW_CODING_IDENTITY] != UNLISTED;
    for (size_t i = 0; i != GW_CODING_COUNT; ++i)
        if (accept->weights[i] == UNLISTED)
            accept->weights[i] = i == GW_CODING_IDENTITY ? 1000 : 0;
}

enum gw_coding gw_accept_encoding_choose(const struct gw_accept_encoding *accept, unsigned available)
{
    /* not listed, identity is acceptable but liked less than anything the client went to the length of listing */
    unsigned best_weight = accept->is_identity_listed ? accept->weights[GW_CODING_IDENTITY] : 0;
    enum gw_coding best = GW_CODING_IDENTITY;

    for (int i = GW_CODING_GZIP; i != GW_CODING_COUNT; ++i)
        if ((available & 1u << i) != 0 && accept->weights[i] != 0 && accept->weights[i] >= best_weight) {
            best = (enum gw_coding)i;
            best_weight = accept->weights[i];
        }
    return best;
}
