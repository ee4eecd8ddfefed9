#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/observe/access_line.h"
#include "gateway/admin/tail.h"

static h2o_iovec_t text_of(const char *s) { return h2o_iovec_init(s, strlen(s)); }

static bool parses(const char *text, struct gw_tail_filter *filter)
{
    return gw_tail_parse_statuses(text_of(text), filter);
}

static void statuses_are_codes_classes_and_ranges(void **state)
{
    struct gw_tail_filter filter;
    assert_true(parses("404,5xx,301-302,2XX", &filter));
    assert_int_equal(filter.num_statuses, 4);
    static const uint16_t expected[4][2] = {{404, 404}, {500, 599}, {301, 302}, {200, 299}};
    assert_memory_equal(filter.statuses, expected, sizeof(expected));
    assert_true(parses("000", &filter)); /* nothing was sent */
}

static void other_statuses_are_refused(void **state)
{
    static const char *const cases[] = {"",    "5x",     "5xxx", "40",       "4044",    "404,",    ",404",
                                        "x04", "404-",   "-404", "500-404",  "404 500", "5xx-6xx", "404-40x",
                                        "4 4", "404--5", "+04",  "404,,405", "9xy"};
    struct gw_tail_filter filter;
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i)
        if (parses(cases[i], &filter))
            fail_msg("\"%s\" was taken", cases[i]);
    assert_false(parses("1xx,2xx,3xx,4xx,5xx,600,601,602,603", &filter)); /* too many */
}

static struct gw_access_line line_of(uint32_t status)
{
    return (struct gw_access_line){.status = status,
                                   .route = text_of("users"),
                                   .host = text_of("api.example.com"),
                                   .path = text_of("/users/1"),
                                   .method = text_of("GET"),
                                   .reason = text_of("NO_ROUTE")};
}

static void a_filter_without_conditions_wants_everything(void **state)
{
    struct gw_tail_filter filter = {.sample = 1};
    struct gw_access_line nothing = {.status = 0}, line = line_of(200);
    assert_true(gw_tail_wants(&filter, &line));
    assert_true(gw_tail_wants(&filter, &nothing));
}

static void all_conditions_must_hold(void **state)
{
    struct gw_access_line line = line_of(503);
    struct gw_tail_filter filter = {.route = text_of("users"),
                                    .host = text_of("*.EXAMPLE.com"),
                                    .path = text_of("/users/?"),
                                    .method = text_of("get"),
                                    .reason = text_of("no_route")};
    assert_true(gw_tail_parse_statuses(text_of("5xx"), &filter));
    assert_true(gw_tail_wants(&filter, &line));

    struct gw_tail_filter other = filter;
    other.route = text_of("user");
    assert_false(gw_tail_wants(&other, &line));
    other = filter;
    other.host = text_of("example.com");
    assert_false(gw_tail_wants(&other, &line));
    other = filter;
    other.path = text_of("/USERS/?");
    assert_false(gw_tail_wants(&other, &line));
    other = filter;
    other.method = text_of("GETS");
    assert_false(gw_tail_wants(&other, &line));
    other = filter;
    other.target = text_of("10.0.0.1:80");
    assert_false(gw_tail_wants(&other, &line));
    line.status = 499;
    assert_false(gw_tail_wants(&filter, &line));
}

/* A request whose head was refused has neither host nor path. */
static void what_a_line_lacks_fits_no_condition(void **state)
{
    struct gw_access_line nothing = {.status = 400};
    struct gw_tail_filter any_host = {.host = text_of("*")}, no_route = {.route = text_of("")};
    assert_false(gw_tail_wants(&any_host, &nothing));
    assert_false(gw_tail_wants(&no_route, &nothing));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statuses_are_codes_classes_and_ranges),        cmocka_unit_test(other_statuses_are_refused),
        cmocka_unit_test(a_filter_without_conditions_wants_everything), cmocka_unit_test(all_conditions_must_hold),
        cmocka_unit_test(what_a_line_lacks_fits_no_condition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
