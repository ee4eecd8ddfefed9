/* What a refused head seems to say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "gateway/http/head.h"

static void assert_text(h2o_iovec_t got, const char *expected)
{
    if (expected == NULL) {
        assert_null(got.base);
        return;
    }
    assert_non_null(got.base);
    assert_int_equal(got.len, strlen(expected));
    assert_memory_equal(got.base, expected, got.len);
}

static void what_looks_like_a_request_line_and_a_host_is_shown(void **state)
{
    static const struct {
        const char *bytes, *method, *path, *query, *host;
    } cases[] = {
        {"GET /a?b=c HTTP/1.1\r\nHost: example.com\r\n\r\n", "GET", "/a", "b=c", "example.com"},
        {"\r\nGET /a? HTTP/1.1\nx: y\nhOST:\tA \n\n", "GET", "/a", "", "A"},
        {"GE(T /a\"b\x01\xff HTTP/1.1\r\nxhost: a\r\nhost: two words\r\nhost: b", "GE(T", "/a\"b\x01\xff", NULL, "b"},
        {"GET http://a/b?c?d", "GET", "http://a/b", "c?d", NULL},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI", "*", NULL, NULL},
        {"GET  \t /x", "GET", "/x", NULL, NULL},
        {"GET ", "GET", NULL, NULL, NULL},
        {"GET", NULL, NULL, NULL, NULL},
        {"GET /x\r\nhost:", "GET", "/x", NULL, NULL},
        {"", NULL, NULL, NULL, NULL},
        {"\r\n", NULL, NULL, NULL, NULL},
        {" /x", NULL, NULL, NULL, NULL},
        {"\x16\x03\x01 /x", NULL, NULL, NULL, NULL},
        {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA /x", NULL, NULL, NULL, NULL},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        struct gw_head_glimpse seen = gw_head_glimpse(cases[i].bytes, strlen(cases[i].bytes));
        assert_text(seen.method, cases[i].method);
        assert_text(seen.path, cases[i].path);
        assert_text(seen.query, cases[i].query);
        assert_text(seen.host, cases[i].host);
    }
}

static void no_byte_behind_the_given_ones_is_looked_at(void **state)
{
    static const char text[] = "GET /a?b HTTP/1.1\r\nhost: example\r\n\r\n";
    for (size_t len = 0; len != sizeof(text); ++len) {
        char *exact = malloc(len + 1); /* AddressSanitizer knows its end */
        char *copy = realloc(exact, len != 0 ? len : 1);
        memcpy(copy, text, len);
        struct gw_head_glimpse seen = gw_head_glimpse(copy, len);
        assert_true(seen.method.base == NULL || seen.method.base + seen.method.len <= copy + len);
        assert_true(seen.path.base == NULL || seen.path.base + seen.path.len <= copy + len);
        free(copy);
    }
}

static void a_long_target_is_cut(void **state)
{
    static char text[40000];
    memset(text, 'a', sizeof(text));
    memcpy(text, "GET /", 5);
    assert_int_equal(gw_head_glimpse(text, sizeof(text)).path.len, 8192);
    text[100] = '?';
    struct gw_head_glimpse seen = gw_head_glimpse(text, sizeof(text));
    assert_int_equal(seen.path.len + 1 + seen.query.len, 8192);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_looks_like_a_request_line_and_a_host_is_shown),
        cmocka_unit_test(no_byte_behind_the_given_ones_is_looked_at),
        cmocka_unit_test(a_long_target_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
