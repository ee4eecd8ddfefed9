#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <h2o.h>
#include "gateway/config/config.h"
#include "gateway/answer/error_page.h"
#include "tests/unit/base/findings.h"

static struct gw_config *load(const char *pages)
{
    char source[1024];
    struct gw_errors errors;
    gw_errors_init(&errors);
    int len =
        snprintf(source, sizeof(source), "listeners: {http: {address: '127.0.0.1:8080'}}\nerror_pages: %s\n", pages);
    struct gw_config *config = gw_config_load_text("t", h2o_iovec_init(source, len), false, &errors);
    assert_findings(&errors, "");
    gw_errors_dispose(&errors);
    return config;
}

static const char *body_for(const struct gw_error_pages *pages, int status)
{
    const struct gw_error_page *page = gw_error_pages_find(pages, status);
    return page != NULL ? page->body.base : NULL;
}

static void a_status_of_its_own_comes_before_its_class(void **state)
{
    static const char *const orders[] = {"{404: {body: exact}, 4xx: {body: class}}",
                                         "{4xx: {body: class}, 404: {body: exact}}"};
    for (size_t i = 0; i != 2; ++i) {
        struct gw_config *config = load(orders[i]);
        struct gw_error_pages *pages;
        struct gw_errors errors;
        gw_errors_init(&errors);
        assert_true(gw_error_pages_create(&config->error_pages, &pages, &errors));
        assert_string_equal(body_for(pages, 404), "exact");
        assert_string_equal(body_for(pages, 400), "class");
        assert_string_equal(body_for(pages, 499), "class");
        assert_null(body_for(pages, 500));
        assert_null(body_for(pages, 399));
        gw_error_pages_destroy(pages);
        gw_errors_dispose(&errors);
        gw_config_destroy(config);
    }
}

static void without_pages_there_is_nothing_to_find(void **state)
{
    struct gw_config *config = load("{}");
    struct gw_error_pages *pages;
    struct gw_errors errors;
    gw_errors_init(&errors);
    assert_true(gw_error_pages_create(&config->error_pages, &pages, &errors));
    assert_null(pages);
    assert_null(gw_error_pages_find(pages, 404));
    gw_errors_dispose(&errors);
    gw_config_destroy(config);
}

static void a_file_that_cannot_be_read_is_an_error_at_its_place(void **state)
{
    struct gw_config *config = load("{404: {file: /nonexistent/x.html}, 5xx: {body: x}}");
    struct gw_error_pages *pages;
    struct gw_errors errors;
    gw_errors_init(&errors);
    assert_false(gw_error_pages_create(&config->error_pages, &pages, &errors));
    assert_null(pages);
    assert_findings(&errors, "t:2:27: cannot read the error page /nonexistent/x.html: No such file or directory\n");
    gw_errors_dispose(&errors);
    gw_config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_status_of_its_own_comes_before_its_class),
        cmocka_unit_test(without_pages_there_is_nothing_to_find),
        cmocka_unit_test(a_file_that_cannot_be_read_is_an_error_at_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
