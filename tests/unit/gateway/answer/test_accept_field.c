#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "gateway/answer/accept_field.h"

static enum gw_accept choose(const char *value)
{
    h2o_header_t header = {(h2o_iovec_t *)&H2O_TOKEN_ACCEPT->buf, NULL, h2o_iovec_init(value, strlen(value))};
    return gw_accept_field_choose(&header, 1);
}

static void text_is_for_those_without_a_preference(void **state)
{
    assert_int_equal(gw_accept_field_choose(NULL, 0), GW_ACCEPT_TEXT);
    assert_int_equal(choose("*/*"), GW_ACCEPT_TEXT);
    assert_int_equal(choose(""), GW_ACCEPT_TEXT);
    assert_int_equal(choose("image/png"), GW_ACCEPT_TEXT);
    assert_int_equal(choose("text/*"), GW_ACCEPT_TEXT);
}

static void named_formats_are_given(void **state)
{
    assert_int_equal(choose("application/json"), GW_ACCEPT_JSON);
    assert_int_equal(choose("Application/JSON; charset=utf-8"), GW_ACCEPT_JSON);
    assert_int_equal(choose("application/*"), GW_ACCEPT_JSON);
    assert_int_equal(choose("text/html"), GW_ACCEPT_HTML);
    assert_int_equal(choose("text/plain"), GW_ACCEPT_TEXT);
}

static void browsers_get_html_and_scripts_get_json(void **state)
{
    assert_int_equal(choose("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"),
                     GW_ACCEPT_HTML);
    assert_int_equal(choose("application/json, text/plain, */*"), GW_ACCEPT_JSON);
    assert_int_equal(choose("application/json, text/javascript, */*; q=0.01"), GW_ACCEPT_JSON);
}

static void weights_decide_before_order(void **state)
{
    assert_int_equal(choose("text/html;q=0.5, application/json;q=0.9"), GW_ACCEPT_JSON);
    assert_int_equal(choose("text/html;q=0.501, application/json;q=0.5"), GW_ACCEPT_HTML);
    assert_int_equal(choose("text/html, application/json"), GW_ACCEPT_HTML);
    assert_int_equal(choose("application/json;q=0, */*;q=0.1"), GW_ACCEPT_TEXT);
    assert_int_equal(choose("text/plain;q=0, */*"), GW_ACCEPT_JSON);
    assert_int_equal(choose("application/json;q=0"), GW_ACCEPT_TEXT);
    assert_int_equal(choose("text/html;q=0, image/png"), GW_ACCEPT_TEXT);
    assert_int_equal(choose("text/plain;q=0.2, */*;q=0.2, application/json;q=0.1"), GW_ACCEPT_TEXT);
}

static void broken_fields_do_no_harm(void **state)
{
    static const char *const values[] = {
        ",",       ";", ";q", ";q=", "a;q=;q=2", "text/html;q=9", "text/html;q=0.12345", "/", "*", "text/html ; q = 1",
        ",,,;;;,", "\t"};
    for (size_t i = 0; i != sizeof(values) / sizeof(values[0]); ++i)
        assert_in_range(choose(values[i]), GW_ACCEPT_TEXT, GW_ACCEPT_HTML);
}

static void several_fields_count_as_one_list(void **state)
{
    h2o_header_t headers[] = {
        {(h2o_iovec_t *)&H2O_TOKEN_ACCEPT->buf, NULL, h2o_iovec_init(H2O_STRLIT("text/html;q=0.1"))},
        {(h2o_iovec_t *)&H2O_TOKEN_USER_AGENT->buf, NULL, h2o_iovec_init(H2O_STRLIT("text/plain"))},
        {(h2o_iovec_t *)&H2O_TOKEN_ACCEPT->buf, NULL, h2o_iovec_init(H2O_STRLIT("application/json;q=0.2"))},
    };
    assert_int_equal(gw_accept_field_choose(headers, 3), GW_ACCEPT_JSON);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_for_those_without_a_preference),
        cmocka_unit_test(named_formats_are_given),
        cmocka_unit_test(browsers_get_html_and_scripts_get_json),
        cmocka_unit_test(weights_decide_before_order),
        cmocka_unit_test(broken_fields_do_no_harm),
        cmocka_unit_test(several_fields_count_as_one_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
