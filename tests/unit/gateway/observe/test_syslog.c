#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "gateway/observe/syslog.h"

static const char *header(const char *host)
{
    static char bytes[GW_SYSLOG_HEADER_MAX + 1];
    struct timespec now = {1767323045, 678901234};
    size_t len = gw_syslog_header(bytes, &now, host, 4194304);
    assert_true(len <= GW_SYSLOG_HEADER_MAX);
    assert_int_equal(strlen(bytes), len);
    return bytes;
}

static void a_header_is_that_of_rfc_5424(void **state)
{
    assert_string_equal(header("edge-1.example.com"),
                        "<134>1 2026-01-02T03:04:05.678901Z edge-1.example.com weir 4194304 access - ");
}

static void a_host_without_a_name_is_the_nil_value(void **state)
{
    assert_string_equal(header(""), "<134>1 2026-01-02T03:04:05.678901Z - weir 4194304 access - ");
}

static void a_host_name_is_one_word_of_at_most_255_bytes(void **state)
{
    char host[400];
    memset(host, 'a', sizeof(host) - 1);
    host[sizeof(host) - 1] = '\0';
    host[3] = ' ';
    host[5] = '\n';
    size_t nil_len = strlen(header(""));
    const char *got = header(host);
    assert_non_null(strstr(got, "Z aaa_a_aaa"));
    assert_int_equal(strlen(got), nil_len - 1 + 255);
    assert_null(strchr(got, '\n'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_is_that_of_rfc_5424),
        cmocka_unit_test(a_host_without_a_name_is_the_nil_value),
        cmocka_unit_test(a_host_name_is_one_word_of_at_most_255_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
