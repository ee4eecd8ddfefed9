#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "gateway/answer/conditional.h"

enum { CHANGED_NS = 600000000, CHANGED_S = 784111777 }; /* Sun, 06 Nov 1994 08:49:37 GMT */
static const char before[] = "Sun, 06 Nov 1994 08:49:36 GMT", same[] = "Sun, 06 Nov 1994 08:49:37 GMT",
                  after[] = "Sun, 06 Nov 1994 08:49:38 GMT";

static h2o_iovec_t text(const char *s) { return h2o_iovec_init(s, strlen(s)); }

static struct gw_validators current(void) { return (struct gw_validators){text("\"abc\""), CHANGED_S, CHANGED_NS}; }

/* Name, value pairs ended by NULL. */
static size_t fields(h2o_header_t *headers, va_list args)
{
    size_t n = 0;
    for (const h2o_token_t *name; (name = va_arg(args, const h2o_token_t *)) != NULL; ++n)
        headers[n] = (h2o_header_t){(h2o_iovec_t *)&name->buf, NULL, text(va_arg(args, const char *))};
    return n;
}

static enum gw_precondition check(const void *first, ...)
{
    struct gw_validators validators = current();
    h2o_header_t headers[8];
    va_list args;
    va_start(args, first);
    size_t n = fields(headers, args);
    va_end(args);
    return gw_precondition_check(headers, n, &validators);
}
#define CHECK(...) check(NULL, __VA_ARGS__, NULL)

static bool allows_range(struct timespec now, ...)
{
    struct gw_validators validators = current();
    h2o_header_t headers[8];
    va_list args;
    va_start(args, now);
    size_t n = fields(headers, args);
    va_end(args);
    return gw_precondition_allows_range(headers, n, &validators, &now);
}

static void requests_without_conditions_are_served(void **state)
{
    assert_int_equal(CHECK(H2O_TOKEN_USER_AGENT, "x"), GW_PRECONDITION_HOLDS);
    assert_int_equal(gw_precondition_check(NULL, 0, &(struct gw_validators){{NULL}, -1}), GW_PRECONDITION_HOLDS);
}

static void if_match_needs_a_strong_tag_of_ours(void **state)
{
    assert_int_equal(CHECK(H2O_TOKEN_IF_MATCH, "\"abc\""), GW_PRECONDITION_HOLDS);
    assert_int_equal(CHECK(H2O_TOKEN_IF_MATCH, "*"), GW_PRECONDITION_HOLDS);
    assert_int_equal(CHECK(H2O_TOKEN_IF_MATCH, "\"x\", \"abc\""), GW_PRECONDITION_HOLDS);
    assert_int_equal(CHECK(H2O_TOKEN_IF_MATCH, "\"x\"", H2O_TOKEN_IF_MATCH, "\"abc\""), GW_PRECONDITION_HOLDS);
    assert_int_equal(CHECK(H2O_TOKEN_IF_MATCH, "\"abcd\""), GW_PRECONDITION_FAILED);
    assert_int_equal(CHECK(H2O_TOKEN_IF_MATCH, "W/\"abc\""), GW_PRECONDITION_FAILED);
    assert_int_equal(CHECK(H2O_TOKEN_IF_MATCH, "abc"), GW_PRECONDITION_FAILED);
    assert_int_equal(CHECK(H2O_TOKEN_IF_MATCH, ""), GW_PRECONDITION_FAILED);
}

static void if_none_match_compares_weakly(void **state)
{
    assert_int_equal(CHECK(H2O_TOKEN_IF_NONE_MATCH, "\"abc\""), GW_PRECONDITION_NOT_MODIFIED);
    assert_int_equal(CHECK(H2O_TOKEN_IF_NONE_MATCH, "W/\"abc\""), GW_PRECONDITION_NOT_MODIFIED);
    assert_int_equal(CHECK(H2O_TOKEN_IF_NONE_MATCH, " * "), GW_PRECONDITION_NOT_MODIFIED);
    assert_int_equal(CHECK(H2O_TOKEN_IF_NONE_MATCH, "\"a\",,\"b\" , W/\"abc\""), GW_PRECONDITION_NOT_MODIFIED);
    assert_int_equal(CHECK(H2O_TOKEN_IF_NONE_MATCH, "\"a\"", H2O_TOKEN_IF_NONE_MATCH, "\"abc\""),
                     GW_PRECONDITION_NOT_MODIFIED);
    assert_int_equal(CHECK(H2O_TOKEN_IF_NONE_MATCH, "\"x\""), GW_PRECONDITION_HOLDS);
    assert_int_equal(CHECK(H2O_TOKEN_IF_NONE_MATCH, "\"x, \\\"abc\\\"\""), GW_PRECONDITION_HOLDS);
    assert_int_equal(CHECK(H2O_TOKEN_IF_NONE_MATCH, "abc"), GW_PRECONDITION_HOLDS);
    assert_int_equal(CHECK(H2O_TOKEN_IF_NONE_MATCH, "W/"), GW_PRECONDITION_HOLDS);
    assert_int_equal(CHECK(H2O_TOKEN_IF_NONE_MATCH, "\"abc"), GW_PRECONDITION_HOLDS);
}

static void a_comma_inside_a_tag_does_not_end_it(void **state)
{
    struct gw_validators validators = {text("\"a,b\""), CHANGED_S};
    h2o_header_t header = {(h2o_iovec_t *)&H2O_TOKEN_IF_NONE_MATCH->buf, NULL, text("\"a,b\"")};
    assert_int_equal(gw_precondition_check(&header, 1, &validators), GW_PRECONDITION_NOT_MODIFIED);
    validators.etag = text("\"b\"");
    assert_int_equal(gw_precondition_check(&header, 1, &validators), GW_PRECONDITION_HOLDS);
}

static void dates_count_to_the_second(void **state)
{
    assert_int_equal(CHECK(H2O_TOKEN_IF_MODIFIED_SINCE, before), GW_PRECONDITION_HOLDS);
    assert_int_equal(CHECK(H2O_TOKEN_IF_MODIFIED_SINCE, same), GW_PRECONDITION_NOT_MODIFIED);
    assert_int_equal(CHECK(H2O_TOKEN_IF_MODIFIED_SINCE, after), GW_PRECONDITION_NOT_MODIFIED);
    assert_int_equal(CHECK(H2O_TOKEN_IF_UNMODIFIED_SINCE, before), GW_PRECONDITION_FAILED);
    assert_int_equal(CHECK(H2O_TOKEN_IF_UNMODIFIED_SINCE, same), GW_PRECONDITION_HOLDS);
    assert_int_equal(CHECK(H2O_TOKEN_IF_UNMODIFIED_SINCE, after), GW_PRECONDITION_HOLDS);
}

static void what_is_no_single_date_is_ignored(void **state)
{
    assert_int_equal(CHECK(H2O_TOKEN_IF_MODIFIED_SINCE, "yesterday"), GW_PRECONDITION_HOLDS);
    assert_int_equal(CHECK(H2O_TOKEN_IF_UNMODIFIED_SINCE, "0"), GW_PRECONDITION_HOLDS);
    assert_int_equal(CHECK(H2O_TOKEN_IF_MODIFIED_SINCE, after, H2O_TOKEN_IF_MODIFIED_SINCE, after),
                     GW_PRECONDITION_HOLDS);
}

static void tags_go_before_dates(void **state) /* RFC 9110 13.2.2 */
{
    assert_int_equal(CHECK(H2O_TOKEN_IF_MATCH, "\"abc\"", H2O_TOKEN_IF_UNMODIFIED_SINCE, before),
                     GW_PRECONDITION_HOLDS);
    assert_int_equal(CHECK(H2O_TOKEN_IF_NONE_MATCH, "\"x\"", H2O_TOKEN_IF_MODIFIED_SINCE, after),
                     GW_PRECONDITION_HOLDS);
    assert_int_equal(CHECK(H2O_TOKEN_IF_NONE_MATCH, "\"abc\"", H2O_TOKEN_IF_MODIFIED_SINCE, before),
                     GW_PRECONDITION_NOT_MODIFIED);
    assert_int_equal(CHECK(H2O_TOKEN_IF_NONE_MATCH, "\"abc\"", H2O_TOKEN_IF_MATCH, "\"x\""), GW_PRECONDITION_FAILED);
    assert_int_equal(CHECK(H2O_TOKEN_IF_NONE_MATCH, "\"abc\"", H2O_TOKEN_IF_UNMODIFIED_SINCE, before),
                     GW_PRECONDITION_FAILED);
}

static void if_range_takes_our_tag_or_our_date_once_it_is_strong(void **state)
{
    static const struct timespec LATER = {CHANGED_S + 100, 0};
    assert_true(allows_range(LATER, NULL));
    assert_true(allows_range(LATER, H2O_TOKEN_IF_RANGE, "\"abc\"", NULL));
    assert_true(allows_range(LATER, H2O_TOKEN_IF_RANGE, same, NULL));
    assert_false(allows_range(LATER, H2O_TOKEN_IF_RANGE, "\"x\"", NULL));
    assert_false(allows_range(LATER, H2O_TOKEN_IF_RANGE, "W/\"abc\"", NULL));
    assert_false(allows_range(LATER, H2O_TOKEN_IF_RANGE, after, NULL));
    assert_false(allows_range(LATER, H2O_TOKEN_IF_RANGE, before, NULL));
    assert_false(allows_range(LATER, H2O_TOKEN_IF_RANGE, "*", NULL));
    assert_false(allows_range(LATER, H2O_TOKEN_IF_RANGE, "\"abc\"", H2O_TOKEN_IF_RANGE, "\"abc\"", NULL));
}

static void a_date_is_no_strong_validator_before_it_is_a_second_old(void **state)
{
    struct timespec young = {CHANGED_S + 1, CHANGED_NS - 1}, old = {CHANGED_S + 1, CHANGED_NS};
    assert_false(allows_range((struct timespec){CHANGED_S, CHANGED_NS}, H2O_TOKEN_IF_RANGE, same, NULL));
    assert_false(allows_range((struct timespec){CHANGED_S - 10, 0}, H2O_TOKEN_IF_RANGE, same, NULL));
    assert_false(allows_range((struct timespec){CHANGED_S + 1, 0}, H2O_TOKEN_IF_RANGE, same, NULL));
    assert_false(allows_range(young, H2O_TOKEN_IF_RANGE, same, NULL));
    assert_true(allows_range(old, H2O_TOKEN_IF_RANGE, same, NULL));
    assert_true(allows_range(young, H2O_TOKEN_IF_RANGE, "\"abc\"", NULL));
}

static void all_three_forms_of_dates_are_read(void **state)
{
    enum { NOW_S = 1767225600 }; /* 2026 */
    assert_int_equal(gw_http_date_parse(text("Sun, 06 Nov 1994 08:49:37 GMT"), NOW_S), CHANGED_S);
    assert_int_equal(gw_http_date_parse(text("Sunday, 06-Nov-94 08:49:37 GMT"), NOW_S), CHANGED_S);
    assert_int_equal(gw_http_date_parse(text("Sun Nov  6 08:49:37 1994"), NOW_S), CHANGED_S);
    assert_int_equal(gw_http_date_parse(text("Sun Nov 16 08:49:37 1994"), NOW_S), CHANGED_S + 10 * 86400);
    assert_int_equal(gw_http_date_parse(text("Wednesday, 01-Jan-76 00:00:00 GMT"), NOW_S), 3345062400);
    assert_int_equal(gw_http_date_parse(text("Saturday, 01-Jan-77 00:00:00 GMT"), NOW_S), 220924800);
    assert_int_equal(gw_http_date_parse(text("Thu, 29 Feb 2024 00:00:00 GMT"), NOW_S), 1709164800);
}

static void what_is_no_date_is_refused(void **state)
{
    static const char *const values[] = {"",
                                         "Sun, 06 Nov 1994 08:49:37",
                                         "Sun, 06 Nov 1994 08:49:37 CET",
                                         "Sun, 06 Nov 1994 24:00:00 GMT",
                                         "Sun, 06 Nov 1994 08:60:00 GMT",
                                         "Sun, 00 Nov 1994 08:49:37 GMT",
                                         "Sun, 31 Nov 1994 08:49:37 GMT",
                                         "Wed, 29 Feb 2023 00:00:00 GMT",
                                         "Sun, 06 Foo 1994 08:49:37 GMT",
                                         "Sun, 6 Nov 1994 08:49:37 GMT",
                                         "Sun, 06 Nov 94 08:49:37 GMT",
                                         "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
                                         "Sunday, 06-Nov-1994 08:49:37 GMT",
                                         "1994-11-06T08:49:37Z",
                                         "-1",
                                         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i != sizeof(values) / sizeof(values[0]); ++i)
        assert_int_equal(gw_http_date_parse(text(values[i]), CHANGED_S), -1);
}

static void tags_tell_times_and_sizes_apart(void **state)
{
    char a[GW_ETAG_SIZE] = "", b[GW_ETAG_SIZE] = "";
    struct timespec t = {CHANGED_S, 5}, u = {CHANGED_S, 6}, last = {(time_t)1 << 33, 999999999};

    size_t len = gw_etag_format(a, &t, 10);
    assert_int_equal(len, strlen(a));
    assert_true(a[0] == '"' && a[strlen(a) - 1] == '"');
    gw_etag_format(b, &u, 10);
    assert_string_not_equal(a, b);
    gw_etag_format(b, &t, 11);
    assert_string_not_equal(a, b);
    gw_etag_format(b, &t, 10);
    assert_string_equal(a, b);
    assert_true(gw_etag_format(b, &last, UINT64_MAX) < GW_ETAG_SIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_without_conditions_are_served),
        cmocka_unit_test(if_match_needs_a_strong_tag_of_ours),
        cmocka_unit_test(if_none_match_compares_weakly),
        cmocka_unit_test(a_comma_inside_a_tag_does_not_end_it),
        cmocka_unit_test(dates_count_to_the_second),
        cmocka_unit_test(what_is_no_single_date_is_ignored),
        cmocka_unit_test(tags_go_before_dates),
        cmocka_unit_test(if_range_takes_our_tag_or_our_date_once_it_is_strong),
        cmocka_unit_test(a_date_is_no_strong_validator_before_it_is_a_second_old),
        cmocka_unit_test(all_three_forms_of_dates_are_read),
        cmocka_unit_test(what_is_no_date_is_refused),
        cmocka_unit_test(tags_tell_times_and_sizes_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
