/* Lists in field values: members, parameters, weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "gateway/http/list_field.h"

static h2o_iovec_t text_of(const char *text) { return h2o_iovec_init(text, strlen(text)); }

static void assert_is(h2o_iovec_t got, const char *wanted)
{
    assert_int_equal(got.len, strlen(wanted));
    assert_memory_equal(got.base, wanted, got.len);
}

static void blanks_are_taken_off_both_ends_only(void **state)
{
    assert_is(gw_trim(text_of(" \t a b\t ")), "a b");
    assert_is(gw_trim(text_of(" \t ")), "");
    assert_is(gw_trim(text_of("")), "");
}

static void members_come_one_by_one_and_empty_ones_too(void **state)
{
    h2o_iovec_t rest = text_of(" a , ,b,");
    assert_is(gw_list_cut(&rest, ','), "a");
    assert_is(gw_list_cut(&rest, ','), "");
    assert_is(gw_list_cut(&rest, ','), "b");
    assert_int_equal(rest.len, 0);
    assert_is(gw_list_cut(&rest, ','), "");
}

static void commas_in_quoted_strings_do_not_end_a_member(void **state)
{
    h2o_iovec_t rest = text_of("a=\"1,\\\",2\" , b");
    assert_is(gw_list_next(&rest), "a=\"1,\\\",2\"");
    assert_is(gw_list_next(&rest), "b");
    assert_int_equal(rest.len, 0);
    rest = text_of("\"never closed, b\\");
    assert_is(gw_list_next(&rest), "\"never closed, b\\");
    assert_int_equal(rest.len, 0);
}

static void weights_are_thousandths(void **state)
{
    enum { BAD = 77 };
    static const struct {
        const char *parameters;
        unsigned weight;
    } cases[] = {
        {"", 1000},        {"level=1", 1000},   {"q=1", 1000},     {"q=0", 0},       {"q=0.5", 500},
        {"Q=0.25", 250},   {"q=0.001", 1},      {"q=1.000", 1000}, {"q = 0.3", 300}, {"level=1; q=0.3", 300},
        {"q=0.3;q=0", 0},  {"quality=0", 1000}, {"q=0.", 0},       {"q=1.001", BAD}, {"q=2", BAD},
        {"q=0.1234", BAD}, {"q=-1", BAD},       {"q=", BAD},       {"q", BAD},       {"q=.5", BAD},
        {"q=0.5x", BAD},   {"q=01", BAD},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i)
        if (gw_list_weight(text_of(cases[i].parameters), BAD) != cases[i].weight)
            fail_msg("%s: %u", cases[i].parameters, gw_list_weight(text_of(cases[i].parameters), BAD));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blanks_are_taken_off_both_ends_only),
        cmocka_unit_test(members_come_one_by_one_and_empty_ones_too),
        cmocka_unit_test(commas_in_quoted_strings_do_not_end_a_member),
        cmocka_unit_test(weights_are_thousandths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
