/* Chunked bodies: the outcome does not depend on how the bytes arrive, and what we accept a lenient decoder reads
 * alike. Trailers that are kept are fields that may stand in a message, and mean the same when written anew. */
#include <assert.h>
#include <sys/types.h>
#include "gateway/http/chunked.h"
#include "gateway/http/head.h"
#include "gateway/http/trailers.h"
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
    char *section;
    size_t section_len;
};

static struct outcome decode(const uint8_t *data, size_t len, const size_t *cuts, size_t num_cuts)
{
    struct gw_chunked decoder;
    struct outcome outcome = {.payload = malloc(len)};
    gw_chunked_init(&decoder);
    decoder.keeps_trailers = true;
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
    if (outcome.result == GW_CHUNKED_DONE) {
        h2o_iovec_t section = gw_chunked_trailers(&decoder);
        outcome.section = fuzz_copy((const uint8_t *)section.base, section.len);
        outcome.section_len = section.len;
    }
    gw_chunked_dispose(&decoder);
    return outcome;
}

static void check_trailers(const struct outcome *outcome)
{
    static h2o_header_t fields[100], again[100];
    static h2o_iovec_t names[100], names_again[100];
    h2o_iovec_t section = {outcome->section, outcome->section_len};
    size_t count = gw_trailers_count(section);
    assert(count <= 100);
    struct gw_trailers trailers = {fields,
                                   gw_trailers_cut(section, "GET / HTTP/1.1\r\nconnection: x\r\n\r\n", fields, names)};
    assert(trailers.size <= count);
    for (size_t i = 0; i != trailers.size; ++i) {
        assert(gw_is_token(*fields[i].name) && gw_is_field_value(fields[i].value));
        assert(gw_trailer_is_allowed(*fields[i].name));
        assert(!h2o_memis(fields[i].name->base, fields[i].name->len, "x", 1));
    }
    size_t bound = gw_trailers_bound(&trailers);
    char *written = malloc(bound);
    size_t len = gw_trailers_write(written, &trailers);
    assert(len <= bound);
    struct gw_chunked decoder;
    size_t payload_len = len, consumed;
    gw_chunked_init(&decoder);
    decoder.keeps_trailers = true;
    if (gw_chunked_decode(&decoder, written, &payload_len, &consumed) ==
        GW_CHUNKED_DONE) { /* else the blanks were too much */
        assert(consumed == len && payload_len == 0);
        size_t n = gw_trailers_cut(gw_chunked_trailers(&decoder), "GET / HTTP/1.1\r\n\r\n", again, names_again);
        assert(n == trailers.size);
        for (size_t i = 0; i != n; ++i)
            assert(h2o_memis(again[i].value.base, again[i].value.len, fields[i].value.base, fields[i].value.len));
    } else {
        assert(len > 8000);
    }
    gw_chunked_dispose(&decoder);
    free(written);
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
        assert(whole.section_len == pieces.section_len);
        assert(memcmp(whole.section, pieces.section, whole.section_len) == 0);
        check_trailers(&whole);
    }
    free(whole.section);
    free(pieces.section);
    free(whole.payload);
    free(pieces.payload);
    return 0;
}
