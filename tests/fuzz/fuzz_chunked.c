/* Chunked bodies: the outcome does not depend on how the bytes arrive, and what we accept a lenient decoder reads
 * alike. */
#include <assert.h>
#include <sys/types.h>
#include "gateway/http/chunked.h"
#include "tests/fuzz/cut.h"

/* libh2o's own decoder; it accepts much that we refuse, but nothing that we accept may mean something else to it */
struct phr_chunked_decoder {
    size_t bytes_left_in_chunk;
    char consume_trailer, _hex_count, _state;
};
ssize_t phr_decode_chunked(struct phr_chunked_decoder *, char *buf, size_t *len);

struct outcome {
    enum gw_chunked_result result;
    char *payload;
    size_t payload_len, consumed;
};

static struct outcome decode(const uint8_t *data, size_t len, const size_t *cuts, size_t num_cuts)
{
    struct gw_chunked decoder;
    struct outcome outcome = {.payload = malloc(len)};
    gw_chunked_init(&decoder);
    for (size_t i = 0; i <= num_cuts && outcome.result == GW_CHUNKED_MORE; ++i) {
        size_t to = i == num_cuts ? len : cuts[i];
        if (to < outcome.consumed)
            continue;
        size_t piece = to - outcome.consumed, payload_len = piece, consumed;
        char *copy = fuzz_copy(data + outcome.consumed, piece);
        outcome.result = gw_chunked_decode(&decoder, copy, &payload_len, &consumed);
        assert(consumed <= piece && payload_len <= consumed);
        assert(outcome.result != GW_CHUNKED_MORE || consumed == piece);
        h2o_memcpy(outcome.payload + outcome.payload_len, copy, payload_len);
        outcome.payload_len += payload_len;
        outcome.consumed += consumed;
        free(copy);
    }
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    size_t cuts[] = {fuzz_cut(data, len, 1), fuzz_cut(data, len, 2), fuzz_cut(data, len, 3)};
    struct outcome whole = decode(data, len, NULL, 0), pieces = decode(data, len, cuts, 3);
    assert(whole.result == pieces.result && whole.consumed == pieces.consumed);
    assert(whole.payload_len == pieces.payload_len);
    assert(memcmp(whole.payload, pieces.payload, whole.payload_len) == 0);

    if (whole.result == GW_CHUNKED_DONE) {
        struct phr_chunked_decoder lenient = {.consume_trailer = 1};
        char *copy = fuzz_copy(data, len);
        size_t payload_len = len;
        ssize_t rest = phr_decode_chunked(&lenient, copy, &payload_len);
        assert(rest == (ssize_t)(len - whole.consumed));
        assert(payload_len == whole.payload_len && memcmp(copy, whole.payload, payload_len) == 0);
        free(copy);
    }
    free(whole.payload);
    free(pieces.payload);
    return 0;
}
