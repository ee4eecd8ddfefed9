#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/answer/ranges.h"

/* The outcome as text: "whole", "none", or the pieces as "first-last" joined by commas. */
static const char *ranges_of(const char *value, uint64_t size)
{
    static char text[1024];
    struct gw_ranges ranges;
    size_t len = 0;

    switch (gw_ranges_parse(h2o_iovec_init(value, strlen(value)), size, &ranges)) {
    case GW_RANGE_WHOLE:
        return "whole";
    case GW_RANGE_UNSATISFIABLE:
        return "none";
    case GW_RANGE_PARTIAL:
        break;
    }
    text[0] = '\0';
    for (size_t i = 0; i != ranges.size; ++i)
        len += snprintf(text + len, sizeof(text) - len, "%s%lu-%lu", i == 0 ? "" : ",", ranges.entries[i].first,
                        ranges.entries[i].end - 1);
    return text;
}

static void single_ranges(void **state)
{
    assert_string_equal(ranges_of("bytes=0-9", 100), "0-9");
    assert_string_equal(ranges_of("bytes=90-", 100), "90-99");
    assert_string_equal(ranges_of("bytes=-10", 100), "90-99");
    assert_string_equal(ranges_of("bytes=-1000", 100), "0-99");
    assert_string_equal(ranges_of("bytes=0-", 100), "0-99");
    assert_string_equal(ranges_of("bytes=50-1000", 100), "50-99");
    assert_string_equal(ranges_of("bytes=99-99", 100), "99-99");
    assert_string_equal(ranges_of("Bytes=0-0", 100), "0-0");
    assert_string_equal(ranges_of(" bytes= 0-0 ", 100), "0-0");
}

static void ranges_behind_the_end_cannot_be_satisfied(void **state)
{
    assert_string_equal(ranges_of("bytes=100-", 100), "none");
    assert_string_equal(ranges_of("bytes=100-200", 100), "none");
    assert_string_equal(ranges_of("bytes=-0", 100), "none");
    assert_string_equal(ranges_of("bytes=200-,300-", 100), "none");
    assert_string_equal(ranges_of("bytes=200-,0-1", 100), "0-1");
    assert_string_equal(ranges_of("bytes=0-", 0), "none");
    assert_string_equal(ranges_of("bytes=-5", 0), "whole");
}

static void malformed_fields_are_ignored(void **state)
{
    static const char *const values[] = {
        "",          "bytes",      "bytes=",      "bytes=-",       "bytes=a-b",   "bytes=5-4",  "bytes=1",
        "items=0-1", "bytes 0-1",  "bytes=0-1;",  "bytes=0-1 2-3", "bytes=--1",   "bytes=+1-2", "bytes=0x1-2",
        "bytes=,",   "bytes=0 -1", "bytes=0-1,x", "bytes=0-1,5-4", "bytes = 0-1", "=0-1"};
    for (size_t i = 0; i != sizeof(values) / sizeof(values[0]); ++i)
        assert_string_equal(ranges_of(values[i], 100), "whole");
}

static void several_ranges_keep_the_order_asked_for(void **state)
{
    assert_string_equal(ranges_of("bytes=0-1,10-11", 100), "0-1,10-11");
    assert_string_equal(ranges_of("bytes=10-11 , 0-1", 100), "10-11,0-1");
    assert_string_equal(ranges_of("bytes=,0-1,,10-11,", 100), "0-1,10-11");
    assert_string_equal(ranges_of("bytes=0-0,-1", 100), "0-0,99-99");
}

static void overlapping_and_touching_ranges_are_joined(void **state)
{
    assert_string_equal(ranges_of("bytes=0-10,5-20", 100), "0-20");
    assert_string_equal(ranges_of("bytes=0-4,5-9", 100), "0-9");
    assert_string_equal(ranges_of("bytes=0-4,6-9", 100), "0-4,6-9");
    assert_string_equal(ranges_of("bytes=50-60,0-4,55-70", 100), "0-4,50-70");
    assert_string_equal(ranges_of("bytes=0-,0-,0-,0-", 100), "0-99");
    assert_string_equal(ranges_of("bytes=-1,0-98", 100), "0-99");
}

static void huge_numbers_do_not_wrap_around(void **state)
{
    assert_string_equal(ranges_of("bytes=0-18446744073709551615", 100), "0-99");
    assert_string_equal(ranges_of("bytes=0-18446744073709551616", 100), "0-99");
    assert_string_equal(ranges_of("bytes=18446744073709551616-", 100), "none");
    assert_string_equal(ranges_of("bytes=-99999999999999999999999999", 100), "0-99");
    assert_string_equal(ranges_of("bytes=99999999999999999999-5", 100), "whole");
}

/* "bytes=0-0,2-2,..." of n ranges that do not touch. */
static char *many(unsigned n)
{
    char *text = malloc(n * 24 + 16), *end = text + sprintf(text, "bytes=");
    for (unsigned i = 0; i != n; ++i)
        end += sprintf(end, "%s%u-%u", i == 0 ? "" : ",", i * 2, i * 2);
    return text;
}

static void too_many_ranges_get_the_whole(void **state)
{
    char *sixteen = many(GW_MAX_RANGES), *seventeen = many(GW_MAX_RANGES + 1), *endless = many(5000);
    assert_string_not_equal(ranges_of(sixteen, 100000), "whole");
    assert_string_equal(ranges_of(seventeen, 100000), "whole");
    assert_string_equal(ranges_of(endless, 100000), "whole");
    free(sixteen);
    free(seventeen);
    free(endless);
}

static void an_answer_is_never_longer_than_the_file(void **state) /* CVE-2011-3192 */
{
    char text[8192] = "bytes=0-";
    struct gw_ranges ranges;
    uint64_t total = 0;
    size_t len = strlen(text);

    for (unsigned i = 0; i != 200; ++i)
        len += snprintf(text + len, sizeof(text) - len, ",%u-", i);
    assert_int_equal(gw_ranges_parse(h2o_iovec_init(text, len), 1000, &ranges), GW_RANGE_PARTIAL);
    for (size_t i = 0; i != ranges.size; ++i)
        total += ranges.entries[i].end - ranges.entries[i].first;
    assert_int_equal(total, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_ranges),
        cmocka_unit_test(ranges_behind_the_end_cannot_be_satisfied),
        cmocka_unit_test(malformed_fields_are_ignored),
        cmocka_unit_test(several_ranges_keep_the_order_asked_for),
        cmocka_unit_test(overlapping_and_touching_ranges_are_joined),
        cmocka_unit_test(huge_numbers_do_not_wrap_around),
        cmocka_unit_test(too_many_ranges_get_the_whole),
        cmocka_unit_test(an_answer_is_never_longer_than_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
