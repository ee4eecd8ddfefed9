#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <h2o.h>
#include "gateway/config/config.h"
#include "gateway/config/config_tests.h"
#include "tests/unit/base/findings.h"

#define TOP "listeners: {http: {address: '127.0.0.1:8080'}}\ntests:\n"

static struct gw_config *load(const char *text, struct gw_errors *errors)
{
    gw_errors_init(errors);
    return gw_config_load_text("t", h2o_iovec_init(text, strlen(text)), false, errors);
}

static void a_url_alone_is_a_request(void **state)
{
    struct gw_errors errors;
    struct gw_config *config = load(TOP "  - {request: 'http://a/', expect: {route: '-'}}\n", &errors);
    assert_findings(&errors, "");
    assert_non_null(config);
    const struct gw_test_conf *test = config->tests.entries[0];
    assert_null(test->name.base);
    assert_string_equal(test->request.url.base, "http://a/");
    assert_string_equal(test->request.method.base, "GET");
    assert_string_equal(test->request.ip.base, "127.0.0.1");
    assert_null(test->request.listener.base);
    assert_string_equal(test->expect.route.base, "-");
    assert_true(test->expect.status == UINT64_MAX);
    assert_null(test->expect.reason.base);
    gw_errors_dispose(&errors);
    gw_config_destroy(config);
}

static void mistakes_in_tests_are_found_by_the_load(void **state)
{
    static const struct {
        const char *test, *finding;
    } cases[] = {
        {"{}", "t:3:5: request is missing (a test needs it)\nt:3:5: expect is missing (a test needs it)\n"},
        {"{request: 'http://a/', expect: {}}", "t:3:36: expect is empty (expected a route, status or reason, say)\n"},
        {"{request: a.example, expect: {route: x}}",
         "t:3:15: \"a.example\" is no URL (expected http://HOST/PATH or https://HOST/PATH)\n"},
        {"{request: {method: GET}, expect: {route: x}}", "t:3:15: url is missing (a test request needs it)\n"},
        {"{request: {url: 'http://a/', method: 'G T'}, expect: {route: x}}",
         "t:3:42: \"G T\" is not a method (expected a word like GET)\n"},
        {"{request: {url: 'http://a/', ip: localhost}, expect: {route: x}}",
         "t:3:38: \"localhost\" is no address (expected one like 192.0.2.7 or 2001:db8::7)\n"},
        {"{request: {url: 'http://a/', headers: {'a b': c}}, expect: {route: x}}",
         "t:3:44: \"a b\" is not a header name\n"},
        {"{request: {url: 'http://a/', headers: {a: \"b\\r\\nc: d\"}}, expect: {route: x}}",
         "t:3:47: the value of a cannot stand in a header (line end, control character, or blank at an end)\n"},
        {"{request: 'http://a/', expect: {reason: NO_ROUT}}",
         "t:3:45: unknown reason \"NO_ROUT\" (did you mean \"NO_ROUTE\"?)\n"},
        {"{request: 'http://a/', expect: {reason: zzzzzzzzzzzzzzz}}",
         "t:3:45: unknown reason \"zzzzzzzzzzzzzzz\" (`weir reason` lists them)\n"},
        {"{request: 'http://a/', expect: {status: 20}}",
         "t:3:45: status is out of bounds: \"20\" (expected a number from 100 to 599)\n"},
        {"{request: 'http://a/', expct: {route: x}}", "t:3:28: unknown key \"expct\" (did you mean \"expect\"?)\n"},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        struct gw_errors errors;
        char text[512];
        snprintf(text, sizeof(text), TOP "  - %s\n", cases[i].test);
        assert_null(load(text, &errors));
        assert_findings(&errors, cases[i].finding);
        gw_errors_dispose(&errors);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_url_alone_is_a_request),
        cmocka_unit_test(mistakes_in_tests_are_found_by_the_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
