#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <ctype.h>
#include <string.h>
#include "gateway/reason.h"

static void every_reason_has_a_code_a_cause_and_a_remedy(void **state)
{
    for (int i = 0; i != GW_REASON_COUNT; ++i) {
        const struct gw_reason_info *info = gw_reason_info((enum gw_reason)i);
        assert_non_null(info->code);
        assert_true(strlen(info->cause) > 10);
        assert_true(strlen(info->remedy) > 10);
        assert_int_equal(info->cause[strlen(info->cause) - 1], '.');
        assert_int_equal(info->remedy[strlen(info->remedy) - 1], '.');
    }
}

static void statuses_are_errors_or_left_to_the_situation(void **state)
{
    for (int i = 1; i != GW_REASON_COUNT; ++i) {
        const struct gw_reason_info *info = gw_reason_info((enum gw_reason)i);
        assert_true(info->status == 0 || info->status == 200 || (info->status >= 400 && info->status < 600));
    }
    assert_int_equal(gw_reason_info(GW_REASON_NO_ROUTE)->status, 404);
    assert_int_equal(gw_reason_info(GW_REASON_CLIENT_CLOSED)->status, 460);
    assert_int_equal(gw_reason_info(GW_REASON_FIXED_RESPONSE)->status, 0);
}

static void codes_are_upper_case_and_unique(void **state)
{
    for (int i = 1; i != GW_REASON_COUNT; ++i) {
        const char *code = gw_reason_info((enum gw_reason)i)->code;
        for (const char *s = code; *s != '\0'; ++s)
            assert_true(isupper((unsigned char)*s) || isdigit((unsigned char)*s) || *s == '_');
        for (int j = 0; j != i; ++j)
            assert_string_not_equal(code, gw_reason_info((enum gw_reason)j)->code);
    }
}

static void a_code_is_found_in_any_case(void **state)
{
    for (int i = 0; i != GW_REASON_COUNT; ++i)
        assert_int_equal(gw_reason_find(gw_reason_info((enum gw_reason)i)->code), i);
    assert_int_equal(gw_reason_find("no_route"), GW_REASON_NO_ROUTE);
    assert_int_equal(gw_reason_find("NO_ROUT"), GW_REASON_COUNT);
    assert_int_equal(gw_reason_find(""), GW_REASON_COUNT);
}

static void the_reason_of_a_refused_head_has_the_status_that_the_parser_names(void **state)
{
    for (int i = GW_HEAD_INCOMPLETE + 1; i != GW_HEAD_NUM_RESULTS; ++i) {
        enum gw_reason reason = gw_reason_of_head((enum gw_head_result)i);
        assert_int_not_equal(reason, GW_REASON_NONE);
        assert_int_equal(gw_reason_info(reason)->status, gw_head_status((enum gw_head_result)i));
    }
    assert_int_equal(gw_reason_of_head(GW_HEAD_INCOMPLETE), GW_REASON_HEADER_TIMEOUT);
    assert_int_equal(gw_reason_of_head(GW_HEAD_OK), GW_REASON_NONE);
}

static void every_failed_attempt_and_every_early_end_has_a_reason(void **state)
{
    for (int i = GW_CLIENT_OK + 1; i <= GW_CLIENT_RESET; ++i) {
        enum gw_reason reason = gw_reason_of_client((enum gw_client_error)i);
        assert_int_not_equal(reason, GW_REASON_NONE);
        assert_int_not_equal(reason, GW_REASON_INTERNAL_ERROR);
    }
    for (int i = GW_END_COMPLETE + 1; i <= GW_END_ABORTED; ++i)
        assert_int_not_equal(gw_reason_of_end((enum gw_stream_end)i), GW_REASON_NONE);
    assert_int_equal(gw_reason_of_end(GW_END_COMPLETE), GW_REASON_NONE);
    assert_int_equal(gw_reason_of_client(GW_CLIENT_OK), GW_REASON_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reason_has_a_code_a_cause_and_a_remedy),
        cmocka_unit_test(statuses_are_errors_or_left_to_the_situation),
        cmocka_unit_test(codes_are_upper_case_and_unique),
        cmocka_unit_test(a_code_is_found_in_any_case),
        cmocka_unit_test(the_reason_of_a_refused_head_has_the_status_that_the_parser_names),
        cmocka_unit_test(every_failed_attempt_and_every_early_end_has_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
