#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "gateway/answer/grpc.h"
#include "gateway/http/trailers.h"

static uint64_t timeout_of(const char *value)
{
    static h2o_iovec_t name = {H2O_STRLIT("grpc-timeout")};
    const h2o_header_t field = {.name = &name, .value = {(char *)value, strlen(value)}};
    return gw_grpc_timeout_ms(&field, 1);
}

static void timeouts_are_told_in_milliseconds(void **state)
{
    assert_int_equal(timeout_of("2H"), 7200000);
    assert_int_equal(timeout_of("3M"), 180000);
    assert_int_equal(timeout_of("10S"), 10000);
    assert_int_equal(timeout_of("250m"), 250);
    assert_int_equal(timeout_of("2500u"), 2);
    assert_int_equal(timeout_of("99999999H"), 99999999ull * 3600000);
    assert_int_equal(timeout_of("1u"), 1); /* not none */
    assert_int_equal(timeout_of("0S"), 1);
    assert_int_equal(timeout_of("5000000n"), 5);
}

static void malformed_timeouts_are_none(void **state)
{
    static const char *const bad[] = {"", "S", "1", "1s", "-1S", "1.5S", "123456789S", " 1S", "1 S", "S1"};
    for (size_t i = 0; i != sizeof(bad) / sizeof(bad[0]); ++i)
        if (timeout_of(bad[i]) != 0)
            fail_msg("\"%s\" was taken", bad[i]);
    assert_int_equal(gw_grpc_timeout_ms(NULL, 0), 0);
}

static void messages_are_percent_encoded(void **state)
{
    h2o_mem_pool_t pool;
    h2o_mem_init_pool(&pool);
    h2o_iovec_t text = gw_grpc_encode_message(&pool, "100% n\xc3\xb6\n~ ok");
    assert_int_equal(text.len, strlen("100%25 n%C3%B6%0A~ ok"));
    assert_memory_equal(text.base, "100%25 n%C3%B6%0A~ ok", text.len);
    h2o_mem_clear_pool(&pool);
}

static void statuses_become_the_codes_that_clients_would_make_of_them(void **state)
{
    static const int cases[][2] = {{400, 13}, {401, 16}, {403, 7},  {404, 12}, {429, 14},
                                   {502, 14}, {503, 14}, {504, 14}, {500, 2},  {413, 2}};
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i)
        assert_int_equal(gw_grpc_status_of(GW_REASON_NO_ROUTE, cases[i][0]), cases[i][1]);
    assert_int_equal(gw_grpc_status_of(GW_REASON_GRPC_DEADLINE, 504), 4);
}

static void trailers_do_not_carry_what_belongs_into_heads(void **state)
{
    static const char *const refused[] = {"content-length",  "Transfer-Encoding", "host",
                                          "set-cookie",      "authorization",     "X-Forwarded-For",
                                          "x-amzn-trace-id", "trailer",           "te"};
    static const char *const allowed[] = {"grpc-status", "grpc-message", "x-checksum", "etag", "server-timing"};
    for (size_t i = 0; i != sizeof(refused) / sizeof(refused[0]); ++i)
        assert_false(gw_trailer_is_allowed(h2o_iovec_init(refused[i], strlen(refused[i]))));
    for (size_t i = 0; i != sizeof(allowed) / sizeof(allowed[0]); ++i)
        assert_true(gw_trailer_is_allowed(h2o_iovec_init(allowed[i], strlen(allowed[i]))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeouts_are_told_in_milliseconds),
        cmocka_unit_test(malformed_timeouts_are_none),
        cmocka_unit_test(messages_are_percent_encoded),
        cmocka_unit_test(statuses_become_the_codes_that_clients_would_make_of_them),
        cmocka_unit_test(trailers_do_not_carry_what_belongs_into_heads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
