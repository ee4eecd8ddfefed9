#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "gateway/compression/accept_encoding.h"

enum { GZIP = GW_CODING_BIT_GZIP, BR = GW_CODING_BIT_BROTLI, BOTH = GZIP | BR };

static struct gw_accept_encoding read_fields(const char *const *values, size_t num)
{
    h2o_header_t headers[4] = {{NULL}};
    struct gw_accept_encoding accept;
    for (size_t i = 0; i != num; ++i)
        headers[i] = (h2o_header_t){(h2o_iovec_t *)&H2O_TOKEN_ACCEPT_ENCODING->buf, NULL,
                                    h2o_iovec_init(values[i], strlen(values[i]))};
    gw_accept_encoding_read(headers, num, &accept);
    return accept;
}

static enum gw_coding choose(const char *value, unsigned available)
{
    struct gw_accept_encoding accept = read_fields(&value, 1);
    return gw_accept_encoding_choose(&accept, available);
}

static void who_says_nothing_gets_identity(void **state)
{
    struct gw_accept_encoding accept = read_fields(NULL, 0);
    assert_int_equal(gw_accept_encoding_choose(&accept, BOTH), GW_CODING_IDENTITY);
    assert_int_equal(choose("", BOTH), GW_CODING_IDENTITY);
    assert_int_equal(choose("deflate, zstd", BOTH), GW_CODING_IDENTITY);
}

static void brotli_is_preferred_among_equals(void **state)
{
    assert_int_equal(choose("gzip, deflate, br, zstd", BOTH), GW_CODING_BROTLI);
    assert_int_equal(choose("br, gzip", BOTH), GW_CODING_BROTLI);
    assert_int_equal(choose("gzip;q=0.5, br;q=0.5", BOTH), GW_CODING_BROTLI);
    assert_int_equal(choose("*", BOTH), GW_CODING_BROTLI);
    assert_int_equal(choose("gzip, br", GZIP), GW_CODING_GZIP);
    assert_int_equal(choose("br", GZIP), GW_CODING_IDENTITY);
}

static void weights_decide_before_our_preference(void **state)
{
    assert_int_equal(choose("gzip;q=1.0, br;q=0.9", BOTH), GW_CODING_GZIP);
    assert_int_equal(choose("gzip;q=0.001, br;q=0.000", BOTH), GW_CODING_GZIP);
    assert_int_equal(choose("identity, gzip;q=0.5", BOTH), GW_CODING_IDENTITY);
    assert_int_equal(choose("identity;q=0.5, gzip;q=0.2", BOTH), GW_CODING_IDENTITY);
    assert_int_equal(choose("identity, gzip", BOTH), GW_CODING_GZIP);
    assert_int_equal(choose("gzip;q=0.1", BOTH), GW_CODING_GZIP);
}

static void a_weight_of_zero_refuses(void **state)
{
    assert_int_equal(choose("gzip;q=0", BOTH), GW_CODING_IDENTITY);
    assert_int_equal(choose("gzip;q=0.000, br;q=0", BOTH), GW_CODING_IDENTITY);
    assert_int_equal(choose("*;q=0", BOTH), GW_CODING_IDENTITY);
    assert_int_equal(choose("gzip, *;q=0", BOTH), GW_CODING_GZIP);
    assert_int_equal(choose("br;q=0, *", BOTH), GW_CODING_GZIP);
    assert_int_equal(choose("*;q=0.5, gzip;q=0.3", BOTH), GW_CODING_BROTLI);
}

static void identity_is_acceptable_unless_it_is_refused(void **state)
{
    static const struct {
        const char *value;
        unsigned weight;
    } cases[] = {{"gzip", 1000},         {"gzip, identity;q=0", 0}, {"*;q=0", 0}, {"identity;q=1, *;q=0", 1000},
                 {"gzip, *;q=0.3", 300}, {"identity;q=0.2", 200}};
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        struct gw_accept_encoding accept = read_fields(&cases[i].value, 1);
        assert_int_equal(accept.weights[GW_CODING_IDENTITY], cases[i].weight);
    }
}

static void spelling_and_blanks_do_not_matter(void **state)
{
    assert_int_equal(choose("GZIP ; Q=0.8 ,\tBr;q=0.2", BOTH), GW_CODING_GZIP);
    assert_int_equal(choose(" ,, gzip ,", BOTH), GW_CODING_GZIP);
    assert_int_equal(choose("x-gzip", BOTH), GW_CODING_GZIP);
    assert_int_equal(choose("gzipp, brr", BOTH), GW_CODING_IDENTITY);
}

static void a_malformed_weight_takes_its_coding_out(void **state)
{
    static const char *const weights[] = {"2", "1.001", "-1", "0.1234", ".5", "abc", "", "1,5", "0x1", "1.", "+1"};
    static const bool is_good[] = {false, false, false, false, false, false, false, true, false, true, false};
    for (size_t i = 0; i != sizeof(weights) / sizeof(weights[0]); ++i) {
        char value[64];
        snprintf(value, sizeof(value), "gzip;q=%s", weights[i]);
        assert_int_equal(choose(value, BOTH), is_good[i] ? GW_CODING_GZIP : GW_CODING_IDENTITY);
    }
}

static void several_fields_count_as_one_list(void **state)
{
    static const char *const values[] = {"gzip;q=0.5", "br;q=0.9", "gzip"};
    struct gw_accept_encoding accept = read_fields(values, 3);
    assert_int_equal(accept.weights[GW_CODING_GZIP], 500);
    assert_int_equal(gw_accept_encoding_choose(&accept, BOTH), GW_CODING_BROTLI);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_says_nothing_gets_identity),
        cmocka_unit_test(brotli_is_preferred_among_equals),
        cmocka_unit_test(weights_decide_before_our_preference),
        cmocka_unit_test(a_weight_of_zero_refuses),
        cmocka_unit_test(identity_is_acceptable_unless_it_is_refused),
        cmocka_unit_test(spelling_and_blanks_do_not_matter),
        cmocka_unit_test(a_malformed_weight_takes_its_coding_out),
        cmocka_unit_test(several_fields_count_as_one_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
