#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "gateway/http/chunked.h"

/* What came out of one input given in pieces. */
struct outcome {
    enum gw_chunked_result result;
    size_t payload_len, consumed;
    char payload[65536];
};

/* Gives bytes up to each cut, each piece in memory of its own size. */
static void decode(const char *raw, size_t len, const size_t *cuts, size_t num_cuts, struct outcome *outcome)
{
    struct gw_chunked decoder;
    size_t at = 0;
    gw_chunked_init(&decoder);
    outcome->result = GW_CHUNKED_MORE;
    outcome->payload_len = 0;
    for (size_t i = 0; i <= num_cuts && outcome->result == GW_CHUNKED_MORE; ++i) {
        size_t piece = (i == num_cuts ? len : cuts[i]) - at, payload_len = piece, consumed = SIZE_MAX;
        char *copy = malloc(piece);
        memcpy(copy, raw + at, piece);
        outcome->result = gw_chunked_decode(&decoder, copy, &payload_len, &consumed);
        assert_true(consumed <= piece && payload_len <= consumed);
        if (outcome->result == GW_CHUNKED_MORE)
            assert_int_equal(consumed, piece);
        memcpy(outcome->payload + outcome->payload_len, copy, payload_len);
        outcome->payload_len += payload_len;
        at += consumed;
        free(copy);
    }
    outcome->consumed = at;
}

#define RAW(text) text, sizeof(text) - 1

static const struct {
    const char *raw;
    size_t len;
    const char *payload, *rest;
} good[] = {
    {RAW("0\r\n\r\n"), "", ""},
    {RAW("5\r\nhello\r\n0\r\n\r\n"), "hello", ""},
    {RAW("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET /"), "hello world", "GET /"},
    {RAW("a\r\n0123456789\r\nA\r\n0123456789\r\n00\r\n\r\n"), "01234567890123456789", ""},
    {RAW("0000000000000003\r\nabc\r\n0000000000000000\r\n\r\n"), "abc", ""},
    {RAW("2\r\n\r\n\r\n0\r\n\r\n"), "\r\n", ""},
    {RAW("3;a\r\nabc\r\n0;b\r\n\r\n"), "abc", ""},
    {RAW("3;a=b;c=\"d\";e\r\nabc\r\n0\r\n\r\n"), "abc", ""},
    {RAW("3 ;\ta = b ; c =\t\"d\" ;e\r\nabc\r\n0\r\n\r\n"), "abc", ""},
    {RAW("3;a=\"b\\\"\\\\;c\x80 \t!\"\r\nabc\r\n0\r\n\r\n"), "abc", ""},
    {RAW("3;a=\"\"\r\nabc\r\n0\r\n\r\n"), "abc", ""},
    {RAW("3\r\nabc\r\n0\r\nX: y\r\n\r\nrest"), "abc", "rest"},
    {RAW("3\r\nabc\r\n0\r\nX:y\r\nZ:\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), "abc", ""},
    {RAW("0\r\nX: \xff\t a \r\n\r\n"), "", ""},
};

static const struct {
    const char *raw;
    size_t len;
} bad[] = {
    {RAW("\r\n")},
    {RAW("g\r\n")},
    {RAW(" 5\r\nhello\r\n")},
    {RAW("5 \r\nhello\r\n")},
    {RAW("5\t\r\nhello\r\n")},
    {RAW("-5\r\nhello\r\n")},
    {RAW("+5\r\nhello\r\n")},
    {RAW("0x5\r\nhello\r\n")},
    {RAW("5h\r\nhello\r\n")},
    {RAW("5\nhello\r\n")},
    {RAW("5\r\r\nhello\r\n")},
    {RAW("5\rhello")},
    {RAW("5 5\r\nhello\r\n")},
    {RAW("5,5\r\nhello\r\n")},
    {RAW("5\0\r\nhello\r\n")},
    {RAW("10000000000000000\r\n")},
    {RAW("00000000000000005\r\nhello\r\n")},
    {RAW("8000000000000000\r\n")},
    {RAW("ffffffffffffffff\r\n")},
    {RAW("FFFFFFFFFFFFFFFFF\r\n")},
    {RAW("5\r\nhellox\r\n")},
    {RAW("5\r\nhello\n")},
    {RAW("5\r\nhello\rx")},
    {RAW("5\r\nhello0\r\n\r\n")},
    {RAW("5\r\nhello\r\n\r\n")},
    {RAW("5;\r\nhello\r\n")},
    {RAW("5;;a\r\nhello\r\n")},
    {RAW("5; \r\nhello\r\n")},
    {RAW("5;a \r\nhello\r\n")},
    {RAW("5;a=\r\nhello\r\n")},
    {RAW("5;a= \r\nhello\r\n")},
    {RAW("5;a=b \r\nhello\r\n")},
    {RAW("5;a=\"b\" \r\nhello\r\n")},
    {RAW("5;a=\"b\r\nhello\r\n")},
    {RAW("5;a=\"b\"c\r\nhello\r\n")},
    {RAW("5;a=b\"c\"\r\nhello\r\n")},
    {RAW("5;a=\"\\\x01\"\r\nhello\r\n")},
    {RAW("5;a=\"\x7f\"\r\nhello\r\n")},
    {RAW("5;a=\"\n\"\r\nhello\r\n")},
    {RAW("5;a b\r\nhello\r\n")},
    {RAW("5;=b\r\nhello\r\n")},
    {RAW("5;a==b\r\nhello\r\n")},
    {RAW("5;a\nhello\r\n")},
    {RAW("5;a\x80\r\nhello\r\n")},
    {RAW("5 a\r\nhello\r\n")},
    {RAW("0\r\n\n")},
    {RAW("0\n\r\n")},
    {RAW("0\r\n\rx")},
    {RAW("0\r\n X: y\r\n\r\n")},
    {RAW("0\r\nX: y\r\n z\r\n\r\n")},
    {RAW("0\r\nX : y\r\n\r\n")},
    {RAW("0\r\nX\r\n\r\n")},
    {RAW("0\r\n: y\r\n\r\n")},
    {RAW("0\r\nX: y\n\r\n")},
    {RAW("0\r\nX: y\0\r\n\r\n")},
    {RAW("0\r\nX: a\rb\r\n\r\n")},
    {RAW("0\r\nX: \x7f\r\n\r\n")},
    {RAW("0\r\nGET / HTTP/1.1\r\n\r\n")},
};

enum { NUM_GOOD = sizeof(good) / sizeof(good[0]), NUM_BAD = sizeof(bad) / sizeof(bad[0]) };
static struct outcome outcome;

static void check_good(size_t i)
{
    if (outcome.result != GW_CHUNKED_DONE)
        fail_msg("%s", good[i].raw);
    assert_int_equal(outcome.payload_len, strlen(good[i].payload));
    assert_memory_equal(outcome.payload, good[i].payload, outcome.payload_len);
    assert_int_equal(outcome.consumed, good[i].len - strlen(good[i].rest));
}

static void good_bodies_are_decoded_at_every_cut(void **state)
{
    for (size_t i = 0; i != NUM_GOOD; ++i)
        for (size_t first = 0; first <= good[i].len; ++first)
            for (size_t second = first; second <= good[i].len; ++second) {
                size_t cuts[] = {first, second};
                decode(good[i].raw, good[i].len, cuts, 2, &outcome);
                check_good(i);
            }
}

static void bad_bodies_are_refused_at_every_cut(void **state)
{
    for (size_t i = 0; i != NUM_BAD; ++i)
        for (size_t first = 0; first <= bad[i].len; ++first)
            for (size_t second = first; second <= bad[i].len; ++second) {
                size_t cuts[] = {first, second};
                decode(bad[i].raw, bad[i].len, cuts, 2, &outcome);
                if (outcome.result != GW_CHUNKED_BAD)
                    fail_msg("%s cut at %zu and %zu: %d", bad[i].raw, first, second, outcome.result);
            }
}

static void body_without_its_last_chunk_is_not_done(void **state)
{
    const char raw[] = "5\r\nhello\r\n0\r\nX: y\r\n\r\n";
    for (size_t len = 0; len != sizeof(raw) - 1; ++len) {
        decode(raw, len, NULL, 0, &outcome);
        assert_int_equal(outcome.result, GW_CHUNKED_MORE);
    }
}

static void largest_size_is_taken_and_its_payload_passed_on(void **state)
{
    struct gw_chunked decoder;
    char data[] = "7fffffffffffffff\r\nabc";
    size_t len = sizeof(data) - 1, consumed;
    gw_chunked_init(&decoder);
    assert_int_equal(gw_chunked_decode(&decoder, data, &len, &consumed), GW_CHUNKED_MORE);
    assert_int_equal(len, 3);
    assert_int_equal(decoder.left, INT64_MAX - 3);
}

static void outcome_is_final(void **state)
{
    struct gw_chunked decoder;
    char last[] = "0\r\n\r\n0\r\n\r\n", junk[] = "x";
    size_t len = 10, consumed;
    gw_chunked_init(&decoder);
    assert_int_equal(gw_chunked_decode(&decoder, last, &len, &consumed), GW_CHUNKED_DONE);
    assert_int_equal(consumed, 5);
    len = 5;
    assert_int_equal(gw_chunked_decode(&decoder, last + 5, &len, &consumed), GW_CHUNKED_DONE);
    assert_int_equal(consumed, 0);
    assert_int_equal(len, 0);
    gw_chunked_init(&decoder);
    len = 1;
    assert_int_equal(gw_chunked_decode(&decoder, junk, &len, &consumed), GW_CHUNKED_BAD);
    len = 5;
    memcpy(last, "0\r\n\r\n", 5);
    assert_int_equal(gw_chunked_decode(&decoder, last, &len, &consumed), GW_CHUNKED_BAD);
    assert_int_equal(consumed, 0);
}

/* All numbers of the format are 0: their widths say how many digits that is. */
static enum gw_chunked_result decode_generated(struct gw_chunked *decoder, const char *format)
{
    static char data[32768];
    size_t len = (size_t)snprintf(data, sizeof(data), format, 0, 0), consumed;
    assert_true(len < sizeof(data));
    return gw_chunked_decode(decoder, data, &len, &consumed);
}

static void extensions_and_trailers_are_bounded(void **state)
{
    struct gw_chunked decoder;
    gw_chunked_init(&decoder);
    assert_int_equal(decode_generated(&decoder, "1;a=%01018d\r\n"), GW_CHUNKED_MORE); /* 1 KiB with its end */
    gw_chunked_init(&decoder);
    assert_int_equal(decode_generated(&decoder, "1;a=%01019d\r\n"), GW_CHUNKED_BAD);
    gw_chunked_init(&decoder);
    assert_int_equal(decode_generated(&decoder, "0\r\nX: %08185d\r\n\r\n"), GW_CHUNKED_DONE);
    gw_chunked_init(&decoder);
    assert_int_equal(decode_generated(&decoder, "0\r\nX: %08186d\r\n\r\n"), GW_CHUNKED_TRAILERS_TOO_LARGE);
    gw_chunked_init(&decoder);
    assert_int_equal(decode_generated(&decoder, "0\r\nX: %04000d\r\n"), GW_CHUNKED_MORE);
    assert_int_equal(decode_generated(&decoder, "X: %04000d\r\n"), GW_CHUNKED_MORE);
    assert_int_equal(decode_generated(&decoder, "X: %0400d\r\n"), GW_CHUNKED_TRAILERS_TOO_LARGE);
    gw_chunked_init(&decoder);
    assert_int_equal(decode_generated(&decoder, "0\r\n"), GW_CHUNKED_MORE);
    for (int i = 0; i != 100; ++i)
        assert_int_equal(decode_generated(&decoder, "X:\r\n"), GW_CHUNKED_MORE);
    assert_int_equal(decode_generated(&decoder, "X:\r\n"), GW_CHUNKED_TRAILERS_TOO_LARGE);
}

static void trailers_are_kept_as_they_came_whatever_the_cuts(void **state)
{
    static char section[9000], raw[9100];
    for (size_t size = 0; size < 8100; size += size < 1100 ? 1 : 977) {
        struct gw_chunked decoder;
        size_t len = size == 0 ? 0 : (size_t)sprintf(section, "X: %0*d\r\nY:\r\n", (int)size, 0), step = 1 + size % 600;
        size_t raw_len = (size_t)sprintf(raw, "2;a\r\nhi\r\n0\r\n%.*s\r\nnext", (int)len, section), consumed;
        enum gw_chunked_result result = GW_CHUNKED_MORE;
        gw_chunked_init(&decoder);
        decoder.keeps_trailers = true;
        for (size_t at = 0; result == GW_CHUNKED_MORE; at += step) {
            size_t piece = raw_len - at < step ? raw_len - at : step;
            result = gw_chunked_decode(&decoder, raw + at, &piece, &consumed);
        }
        assert_int_equal(result, GW_CHUNKED_DONE);
        h2o_iovec_t kept = gw_chunked_trailers(&decoder);
        assert_int_equal(kept.len, len);
        assert_true(len == 0 ? kept.base == NULL : memcmp(kept.base, section, len) == 0);
        gw_chunked_dispose(&decoder);
        assert_null(gw_chunked_trailers(&decoder).base);
    }
}

static void honest_small_chunks_go_on_for_ever(void **state)
{
    struct gw_chunked decoder;
    gw_chunked_init(&decoder);
    for (int i = 0; i != 100000; ++i)
        assert_int_equal(decode_generated(&decoder, "00000001\r\nx\r\n"), GW_CHUNKED_MORE);
    for (int i = 0; i != 1000; ++i)
        assert_int_equal(decode_generated(&decoder, "400;sig=%0512d\r\n%01024d\r\n"), GW_CHUNKED_MORE);
}

static void small_chunks_with_fat_extensions_are_refused_in_the_end(void **state)
{
    struct gw_chunked decoder;
    int num_taken = 0;
    gw_chunked_init(&decoder);
    while (num_taken != 1000 && decode_generated(&decoder, "1;a=%0500d\r\nx\r\n") == GW_CHUNKED_MORE)
        ++num_taken;
    assert_in_range(num_taken, 10, 40);
}

static uint64_t seed = 3;

static size_t random_below(size_t limit)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(seed >> 33) % limit;
}

static void random_bodies_survive_random_cuts(void **state)
{
    static char raw[65536], expected[65536];
    for (int round = 0; round != 300; ++round) {
        size_t len = 0, payload_len = 0, cuts[8], num_cuts = 0;
        for (size_t left = random_below(20); left != 0; --left) {
            size_t size = 1 + random_below(random_below(2) ? 2000 : 20);
            len += (size_t)sprintf(raw + len, "%zx%s\r\n", size, random_below(4) ? "" : ";ext=\"q\"");
            for (size_t k = 0; k != size; ++k)
                raw[len++] = expected[payload_len++] = (char)random_below(256);
            len += (size_t)sprintf(raw + len, "\r\n");
        }
        len += (size_t)sprintf(raw + len, "0\r\n%s\r\n", random_below(2) ? "" : "X: y\r\n");
        for (size_t at = 0; num_cuts != 8; ++num_cuts)
            cuts[num_cuts] = at = at + random_below(len - at + 1);
        decode(raw, len, cuts, num_cuts, &outcome);
        assert_int_equal(outcome.result, GW_CHUNKED_DONE);
        assert_int_equal(outcome.consumed, len);
        assert_int_equal(outcome.payload_len, payload_len);
        assert_memory_equal(outcome.payload, expected, payload_len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_bodies_are_decoded_at_every_cut),
        cmocka_unit_test(bad_bodies_are_refused_at_every_cut),
        cmocka_unit_test(body_without_its_last_chunk_is_not_done),
        cmocka_unit_test(largest_size_is_taken_and_its_payload_passed_on),
        cmocka_unit_test(outcome_is_final),
        cmocka_unit_test(extensions_and_trailers_are_bounded),
        cmocka_unit_test(trailers_are_kept_as_they_came_whatever_the_cuts),
        cmocka_unit_test(honest_small_chunks_go_on_for_ever),
        cmocka_unit_test(small_chunks_with_fat_extensions_are_refused_in_the_end),
        cmocka_unit_test(random_bodies_survive_random_cuts),
    };
    return cmocka_run_group_tests_name("http/chunked", tests, NULL, NULL);
}
