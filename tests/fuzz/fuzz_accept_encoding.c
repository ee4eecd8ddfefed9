/* Accept-Encoding: each line of the input is a field. Whatever they say, the choice is one that is available and that
 * the weights allow, and no better one is. */
#include <assert.h>
#include "gateway/compression/accept_encoding.h"
#include "tests/fuzz/cut.h"

enum { MAX_FIELDS = 8 };

static void check_choice(const struct gw_accept_encoding *accept, unsigned available)
{
    enum gw_coding choice = gw_accept_encoding_choose(accept, available);

    assert(choice < GW_CODING_COUNT);
    assert(choice == GW_CODING_IDENTITY || ((available & 1u << choice) != 0 && accept->weights[choice] != 0));
    for (int i = GW_CODING_GZIP; i != GW_CODING_COUNT; ++i) {
        if ((available & 1u << i) == 0 || accept->weights[i] == 0)
            continue;
        assert(choice != GW_CODING_IDENTITY ||
               (accept->is_identity_listed && accept->weights[GW_CODING_IDENTITY] > accept->weights[i]));
        assert(choice == GW_CODING_IDENTITY || accept->weights[choice] >= accept->weights[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    h2o_header_t headers[MAX_FIELDS];
    size_t num = 0, from = 0;
    struct gw_accept_encoding accept;

    for (size_t i = 0; i <= len && num != MAX_FIELDS; ++i)
        if (i == len || data[i] == '\n') {
            headers[num++] = (h2o_header_t){(h2o_iovec_t *)&H2O_TOKEN_ACCEPT_ENCODING->buf, NULL,
                                            h2o_iovec_init(fuzz_copy(data + from, i - from), i - from)};
            from = i + 1;
        }
    gw_accept_encoding_read(headers, num, &accept);
    for (int i = 0; i != GW_CODING_COUNT; ++i)
        assert(accept.weights[i] <= 1000);
    for (unsigned available = 0; available != 8; available += 2)
        check_choice(&accept, available);
    for (size_t i = 0; i != num; ++i)
        free(headers[i].value.base);
    return 0;
}
