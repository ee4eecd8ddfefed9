#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/answer/content_type.h"

static void assert_type(const char *name, const char *expected)
{
    h2o_iovec_t type = gw_content_type_of(NULL, gw_media_type_of(h2o_iovec_init(name, strlen(name))));

    assert_int_equal(type.len, strlen(expected));
    assert_memory_equal(type.base, expected, type.len);
    free(type.base);
}

static void texts_are_utf_8_and_nothing_else_is(void **state)
{
    assert_type("index.html", "text/html; charset=utf-8");
    assert_type("style.css", "text/css; charset=utf-8");
    assert_type("logo.svg", "image/svg+xml; charset=utf-8");
    assert_type("logo.png", "image/png");
    assert_type("data.json", "application/json");
}

static void types_that_were_renamed_have_their_present_names(void **state)
{
    assert_type("app.js", "text/javascript; charset=utf-8"); /* RFC 9239 */
    assert_type("app.mjs", "text/javascript; charset=utf-8");
    assert_type("a.woff2", "font/woff2"); /* RFC 8081 */
    assert_type("a.wasm", "application/wasm");
}

static void the_last_extension_of_the_last_segment_decides_whatever_its_case(void **state)
{
    assert_type("PAGE.HTML", "text/html; charset=utf-8");
    assert_type("site.css/app.png", "image/png");
    assert_type("backup.css.gz", "application/gzip");
}

static void names_that_tell_nothing_are_bytes(void **state)
{
    assert_type("README", "application/octet-stream");
    assert_type("", "application/octet-stream");
    assert_type("a.", "application/octet-stream");
    assert_type("a.unheardof", "application/octet-stream");
    assert_type("site.css/README", "application/octet-stream");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_utf_8_and_nothing_else_is),
        cmocka_unit_test(types_that_were_renamed_have_their_present_names),
        cmocka_unit_test(the_last_extension_of_the_last_segment_decides_whatever_its_case),
        cmocka_unit_test(names_that_tell_nothing_are_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
