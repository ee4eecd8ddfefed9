#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <brotli/decode.h>
#include <string.h>
#include <zlib.h>
#include "gateway/compression/encoder.h"

enum { TEXT_BYTES = 300000, ROOM = 700000 };

static char text[TEXT_BYTES], noise[TEXT_BYTES];

static int make_inputs(void **state)
{
    uint32_t x = 12345;
    for (size_t i = 0; i != TEXT_BYTES; ++i) {
        x = x * 1664525 + 1013904223;
        noise[i] = (char)(x >> 24);
        text[i] = "the quick brown fox jumps over "[i % 31];
        if (i % 97 == 0)
            text[i] = (char)('a' + (x >> 24) % 26);
    }
    return 0;
}

/* Decodes what there is so far; returns the bytes it makes. */
static size_t decode(enum gw_coding coding, const char *in, size_t len, char *out, bool *is_end)
{
    size_t made = 0;
    if (coding == GW_CODING_BROTLI) {
        BrotliDecoderState *state = BrotliDecoderCreateInstance(NULL, NULL, NULL);
        const uint8_t *next_in = (const uint8_t *)in;
        uint8_t *next_out = (uint8_t *)out;
        size_t avail_in = len, avail_out = ROOM;
        BrotliDecoderResult result =
            BrotliDecoderDecompressStream(state, &avail_in, &next_in, &avail_out, &next_out, NULL);
        assert_int_not_equal(result, BROTLI_DECODER_RESULT_ERROR);
        *is_end = result == BROTLI_DECODER_RESULT_SUCCESS && avail_in == 0;
        made = ROOM - avail_out;
        BrotliDecoderDestroyInstance(state);
    } else {
        z_stream z = {.next_in = (Bytef *)in, .avail_in = (uInt)len, .next_out = (Bytef *)out, .avail_out = ROOM};
        assert_int_equal(inflateInit2(&z, 16 + 15), Z_OK);
        int ret = inflate(&z, Z_SYNC_FLUSH);
        assert_true(ret == Z_OK || ret == Z_STREAM_END || ret == Z_BUF_ERROR);
        *is_end = ret == Z_STREAM_END && z.avail_in == 0;
        made = ROOM - z.avail_out;
        inflateEnd(&z);
    }
    return made;
}

/* Runs one operation to its end through small outputs; returns the new size of out. */
static size_t put(struct gw_encoder *encoder, h2o_iovec_t in, enum gw_encoder_op op, char *out, size_t size)
{
    bool is_done = false;
    unsigned rounds = 0;
    while (!is_done) {
        size += gw_encoder_run(encoder, &in, op, out + size, 64 + size % 1000, &is_done);
        assert_true(size < ROOM - 2000);
        assert_true(++rounds < 100000);
    }
    assert_int_equal(in.len, 0);
    return size;
}

static void round_trip(enum gw_coding coding, unsigned level, bool is_lean, const char *input, size_t len, size_t piece)
{
    static char out[ROOM], back[ROOM];
    struct gw_encoder_memory *memory = gw_encoder_memory_create();
    struct gw_encoder_options options = {coding, level, is_lean, UINT64_MAX};
    struct gw_encoder *encoder = gw_encoder_create(memory, &options);
    size_t size = 0;
    bool is_end;

    for (size_t at = 0; at < len; at += piece) {
        size_t n = len - at < piece ? len - at : piece;
        size = put(encoder, h2o_iovec_init(input + at, n), GW_ENCODER_FLUSH, out, size);
        if (piece >= 50000 || at < 3000) { /* everything that went in can be read now */
            assert_int_equal(decode(coding, out, size, back, &is_end), at + n);
            assert_false(is_end);
        }
    }
    size = put(encoder, h2o_iovec_init(NULL, 0), GW_ENCODER_FINISH, out, size);
    assert_int_equal(decode(coding, out, size, back, &is_end), len);
    assert_true(is_end);
    assert_memory_equal(back, input, len);
    gw_encoder_destroy(encoder);
    assert_int_equal(gw_encoder_memory_used(memory), 0);
    gw_encoder_memory_destroy(memory);
}

static void what_is_flushed_can_be_decoded(void **state)
{
    static const size_t pieces[] = {7, 1000, 65536, TEXT_BYTES};
    for (size_t i = 0; i != sizeof(pieces) / sizeof(pieces[0]); ++i)
        for (int lean = 0; lean != 2; ++lean) {
            size_t len = pieces[i] == 7 ? 5000 : TEXT_BYTES;
            round_trip(GW_CODING_GZIP, 5, lean, text, len, pieces[i]);
            round_trip(GW_CODING_BROTLI, 4, lean, text, len, pieces[i]);
            round_trip(GW_CODING_GZIP, 1, lean, noise, len, pieces[i]);
            round_trip(GW_CODING_BROTLI, 0, lean, noise, len, pieces[i]);
        }
}

static void every_level_makes_what_decoders_read(void **state)
{
    for (unsigned level = 0; level != 10; ++level) {
        round_trip(GW_CODING_BROTLI, level, false, text, 100000, 65536);
        if (level != 0)
            round_trip(GW_CODING_GZIP, level, false, text, 100000, 65536);
    }
}

static void nothing_is_a_stream_too(void **state)
{
    round_trip(GW_CODING_GZIP, 5, false, text, 0, 1);
    round_trip(GW_CODING_BROTLI, 4, false, text, 0, 1);
}

/* The most it takes while it encodes len bytes, which stays below what it reserved. */
static size_t memory_of(enum gw_coding coding, unsigned level, bool is_lean, const char *input, size_t len,
                        uint64_t said)
{
    static char out[ROOM];
    struct gw_encoder_memory *memory = gw_encoder_memory_create();
    struct gw_encoder_options options = {coding, level, is_lean, said};
    struct gw_encoder *encoder = gw_encoder_create(memory, &options);
    size_t reserved = gw_encoder_memory_reserved(memory), most = 0, size = 0;
    for (size_t at = 0; at < len; at += 60000) {
        size =
            put(encoder, h2o_iovec_init(input + at, len - at < 60000 ? len - at : 60000), GW_ENCODER_FLUSH, out, size);
        assert_int_equal(gw_encoder_memory_gauge(memory), gw_encoder_memory_used(memory));
        most = gw_encoder_memory_used(memory) > most ? gw_encoder_memory_used(memory) : most;
    }
    assert_in_range(most, 1, reserved);
    gw_encoder_destroy(encoder);
    assert_int_equal(gw_encoder_memory_reserved(memory), 0);
    gw_encoder_memory_destroy(memory);
    return most;
}

static void no_encoder_takes_more_than_it_reserved(void **state)
{
    static const size_t sizes[] = {1000, 8192, 8193, 16384, 16385, 100000, TEXT_BYTES};
    for (unsigned level = 0; level != 10; ++level)
        for (size_t i = 0; i != sizeof(sizes) / sizeof(sizes[0]); ++i)
            for (int lean = 0; lean != 2; ++lean) {
                memory_of(GW_CODING_BROTLI, level, lean, text, sizes[i], sizes[i]);
                memory_of(GW_CODING_BROTLI, level, lean, noise, sizes[i], sizes[i]);
                memory_of(GW_CODING_BROTLI, level, lean, text, TEXT_BYTES, 9000000);
                memory_of(GW_CODING_BROTLI, level, lean, text, TEXT_BYTES, UINT64_MAX);
                if (level != 0)
                    memory_of(GW_CODING_GZIP, level, lean, noise, sizes[i], sizes[i]);
            }
}

static void a_lean_or_small_encoder_takes_little(void **state)
{
    assert_in_range(memory_of(GW_CODING_GZIP, 9, true, text, TEXT_BYTES, TEXT_BYTES), 1, 76 << 10);
    assert_in_range(memory_of(GW_CODING_GZIP, 9, false, text, 4000, 4000), 1, 76 << 10);
    assert_in_range(memory_of(GW_CODING_BROTLI, 9, true, text, TEXT_BYTES, TEXT_BYTES), 1, 176 << 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_flushed_can_be_decoded),
        cmocka_unit_test(every_level_makes_what_decoders_read),
        cmocka_unit_test(nothing_is_a_stream_too),
        cmocka_unit_test(no_encoder_takes_more_than_it_reserved),
        cmocka_unit_test(a_lean_or_small_encoder_takes_little),
    };
    return cmocka_run_group_tests(tests, make_inputs, NULL);
}
