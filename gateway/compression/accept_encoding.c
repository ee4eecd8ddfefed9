#include "gateway/compression/accept_encoding.h"
#include "gateway/http/list_field.h"

enum { UNLISTED = 2000 };

static const h2o_iovec_t names[] = {
    [GW_CODING_IDENTITY] = {H2O_STRLIT("identity")},
    [GW_CODING_GZIP] = {H2O_STRLIT("gzip")},
    [GW_CODING_BROTLI] = {H2O_STRLIT("br")},
};

h2o_iovec_t gw_coding_name(enum gw_coding coding) { return names[coding]; }

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
        h2o_iovec_t element = gw_list_cut(&rest, ','), name = gw_list_cut(&element, ';');
        /* a weight that is none: sending a coding nobody asked for breaks the client, leaving it out does not */
        unsigned weight = gw_list_weight(element, 0);
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
