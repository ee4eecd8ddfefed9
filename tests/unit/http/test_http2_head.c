/* Field sections of HTTP/2, as a table and piece by piece. What a whole connection makes of them: e2e/test_http2.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include "gateway/http/http2_budget.h"
#include "gateway/http/http2_head.h"
#include "gateway/http/http2_priority.h"

static const struct gw_head_limits limits = {.max_bytes = 4096, .max_target = 64, .max_fields = 4};

struct section {
    h2o_mem_pool_t pool;
    struct gw_http2_head head;
    struct gw_request_head request;
    enum gw_head_result result;
};

static h2o_iovec_t text(const char *s) { return h2o_iovec_init(s, strlen(s)); }

/* pairs: name, value, ..., NULL */
static void read_section(struct section *section, const char *const *pairs)
{
    h2o_mem_init_pool(&section->pool);
    gw_http2_head_init(&section->head, &section->pool, &limits, false);
    for (; *pairs != NULL; pairs += 2)
        gw_http2_head_add(&section->head, text(pairs[0]), text(pairs[1]), false);
    section->result = gw_http2_head_finish(&section->head, &section->request);
}

#define READ(section, ...) read_section((section), (const char *const[]){__VA_ARGS__, NULL})
#define GET                ":method", "GET", ":scheme", "http", ":path", "/a?b", ":authority", "example.com"

static void assert_text(h2o_iovec_t actual, const char *expected)
{
    assert_int_equal(actual.len, strlen(expected));
    assert_memory_equal(actual.base, expected, actual.len);
}

static void a_request_is_the_one_http1_would_make(void **state)
{
    struct section s;
    READ(&s, GET, "content-length", "7", "te", "trailers", "x-team", "a", "trailer", "x");
    assert_int_equal(s.result, GW_HEAD_OK);
    assert_text(s.request.method, "GET");
    assert_text(s.request.path, "/a?b");
    assert_int_equal(s.request.query_at, 2);
    assert_text(s.request.authority, "example.com");
    assert_int_equal(s.request.content_length, 7);
    assert_true(s.request.accepts_trailers);
    assert_int_equal(s.request.num_fields, 1);
    assert_text(*s.request.fields[0].name, "x-team");
    assert_text(s.request.fields[0].value, "a");
    h2o_mem_clear_pool(&s.pool);
}

static void crumbs_of_cookies_are_joined_where_the_first_stood(void **state)
{
    struct section s;
    READ(&s, GET, "cookie", "a=1", "accept", "*/*", "cookie", "b=2", "cookie", "c=3");
    assert_int_equal(s.result, GW_HEAD_OK);
    assert_int_equal(s.request.num_fields, 2);
    assert_ptr_equal(s.request.fields[0].name, &H2O_TOKEN_COOKIE->buf);
    assert_text(s.request.fields[0].value, "a=1; b=2; c=3");
    h2o_mem_clear_pool(&s.pool);
}

static void empty_crumbs_of_cookies_add_nothing(void **state)
{
    struct section s;
    READ(&s, GET, "cookie", "", "cookie", "a=1", "cookie", "", "cookie", "b=2", "cookie", "");
    assert_int_equal(s.result, GW_HEAD_OK);
    assert_int_equal(s.request.num_fields, 1);
    assert_text(s.request.fields[0].value, "a=1; b=2");
    h2o_mem_clear_pool(&s.pool);
}

static void host_stands_in_for_authority_and_must_agree_with_it(void **state)
{
    struct section s;
    READ(&s, ":method", "GET", ":scheme", "http", ":path", "/", "host", "a.example");
    assert_int_equal(s.result, GW_HEAD_OK);
    assert_text(s.request.authority, "a.example");
    assert_int_equal(s.request.num_fields, 0);
    h2o_mem_clear_pool(&s.pool);
    READ(&s, GET, "host", "EXAMPLE.com:80");
    assert_int_equal(s.result, GW_HEAD_OK);
    h2o_mem_clear_pool(&s.pool);
    READ(&s, GET, "host", "example.com:81");
    assert_int_equal(s.result, GW_HEAD_HOST_CONFLICT);
    h2o_mem_clear_pool(&s.pool);
}

static void an_extended_connect_is_a_get_that_wants_to_switch(void **state)
{
    struct section s;
    READ(&s, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/chat", ":authority", "a");
    assert_int_equal(s.result, GW_HEAD_OK);
    assert_text(s.request.method, "GET");
    assert_text(s.request.upgrade, "websocket");
    h2o_mem_clear_pool(&s.pool);
}

static void a_path_of_the_longest_length_is_the_last_that_is_taken(void **state)
{
    char path[66];
    struct section s;
    memset(path, 'a', sizeof(path));
    path[0] = '/';
    path[64] = '\0';
    READ(&s, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", path);
    assert_int_equal(s.result, GW_HEAD_OK);
    h2o_mem_clear_pool(&s.pool);
    path[64] = 'a';
    path[65] = '\0';
    READ(&s, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", path);
    assert_int_equal(s.result, GW_HEAD_TARGET_TOO_LONG);
    h2o_mem_clear_pool(&s.pool);
}

static void fields_above_the_limits_are_counted_on_but_not_kept(void **state)
{
    struct section s;
    READ(&s, GET, "x-1", "", "x-2", "", "x-3", "", "x-4", "");
    assert_int_equal(s.result, GW_HEAD_OK);
    h2o_mem_clear_pool(&s.pool);
    READ(&s, GET, "x-1", "", "x-2", "", "x-3", "", "x-4", "", "cookie", "a=b");
    assert_int_equal(s.result, GW_HEAD_TOO_MANY_FIELDS);
    h2o_mem_clear_pool(&s.pool);
    READ(&s, GET, "x-1", "", "x-2", "", "x-3", "", "x-4", "", "x-5", "");
    assert_int_equal(s.result, GW_HEAD_TOO_MANY_FIELDS);
    gw_http2_head_add(&s.head, text("x-6"), text("12345"), false);
    assert_int_equal(s.head.num_lines, 10);
    assert_int_equal(s.head.fields.size, 4);
    h2o_mem_clear_pool(&s.pool);
}

static void an_empty_pseudo_header_field_counts_as_there(void **state)
{
    struct section s;
    READ(&s, ":method", "", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a");
    assert_int_equal(s.result, GW_HEAD_BAD_PSEUDO);
    h2o_mem_clear_pool(&s.pool);
}

static void trailers_hold_no_pseudo_header_fields(void **state)
{
    struct section s;
    h2o_mem_init_pool(&s.pool);
    gw_http2_head_init(&s.head, &s.pool, &limits, true);
    gw_http2_head_add(&s.head, text("grpc-status"), text("0"), false);
    gw_http2_head_add(&s.head, text("content-length"), text("5"), false);
    assert_int_equal(s.head.result, GW_HEAD_OK);
    assert_int_equal(s.head.fields.size, 1);
    gw_http2_head_add(&s.head, text(":path"), text("/"), false);
    assert_int_equal(s.head.result, GW_HEAD_BAD_PSEUDO);
    h2o_mem_clear_pool(&s.pool);
}

/* RFC 9218 4, 5 */
static void priorities_are_read_as_dictionaries(void **state)
{
    static const struct {
        const char *value;
        bool is_good;
        uint32_t urgency;
        int is_incremental;
    } cases[] = {
        {"", true, 3, 0},
        {"u=0", true, 0, 0},
        {"u=7, i", true, 7, 1},
        {"i", true, 3, 1},
        {"i=?1", true, 3, 1},
        {"i=?0,u=1", true, 1, 0},
        {"u=2;x=y", true, 2, 0},
        {"i;a=\"b,c\", u=5", true, 5, 1},
        {"u=1,u=4", true, 4, 0},
        {"foo=(1 2), u=6", true, 6, 0},
        {"bar=\"a,b\"", true, 3, 0},
        {"  u=1", true, 1, 0},
        {"u=8", false, 0, 0},
        {"u=-1", false, 0, 0},
        {"u=10", false, 0, 0},
        {"u", false, 0, 0},
        {"u=", false, 0, 0},
        {"i=1", false, 0, 0},
        {"U=1", false, 0, 0},
        {"u=1,", false, 0, 0},
        {",u=1", false, 0, 0},
        {"a=\"b", false, 0, 0},
        {"a=(1", false, 0, 0},
        {"u =1", false, 0, 0},
    };
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        uint32_t urgency;
        int is_incremental;
        bool is_good = gw_http2_priority_parse(text(cases[i].value), &urgency, &is_incremental);
        if (is_good != cases[i].is_good)
            fail_msg("\"%s\" was %s", cases[i].value, is_good ? "taken" : "refused");
        if (is_good && (urgency != cases[i].urgency || is_incremental != cases[i].is_incremental))
            fail_msg("\"%s\" gave u=%u i=%d", cases[i].value, urgency, is_incremental);
    }
}

static void a_bucket_refills_evenly_and_takes_back_what_is_given(void **state)
{
    struct gw_http2_bucket bucket = {0};
    uint64_t now_us = 1000000000;
    for (int i = 0; i != 10; ++i)
        assert_true(gw_http2_bucket_take(&bucket, 10, now_us));
    assert_false(gw_http2_bucket_take(&bucket, 10, now_us));
    bucket = (struct gw_http2_bucket){0};
    for (int i = 0; i != 10; ++i)
        gw_http2_bucket_take(&bucket, 10, now_us);
    assert_true(gw_http2_bucket_take(&bucket, 10, now_us + GW_HTTP2_REFILL_US / 10));
    gw_http2_bucket_give(&bucket, 10, 1);
    assert_true(gw_http2_bucket_take(&bucket, 10, now_us + GW_HTTP2_REFILL_US / 10));
    for (int i = 0; i != 1000; ++i)
        assert_true(gw_http2_bucket_take(&bucket, 0, now_us));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_the_one_http1_would_make),
        cmocka_unit_test(crumbs_of_cookies_are_joined_where_the_first_stood),
        cmocka_unit_test(empty_crumbs_of_cookies_add_nothing),
        cmocka_unit_test(host_stands_in_for_authority_and_must_agree_with_it),
        cmocka_unit_test(an_extended_connect_is_a_get_that_wants_to_switch),
        cmocka_unit_test(a_path_of_the_longest_length_is_the_last_that_is_taken),
        cmocka_unit_test(fields_above_the_limits_are_counted_on_but_not_kept),
        cmocka_unit_test(an_empty_pseudo_header_field_counts_as_there),
        cmocka_unit_test(trailers_hold_no_pseudo_header_fields),
        cmocka_unit_test(priorities_are_read_as_dictionaries),
        cmocka_unit_test(a_bucket_refills_evenly_and_takes_back_what_is_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
