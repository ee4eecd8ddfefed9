#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/observe/access_line.h"

static h2o_iovec_t text(const char *s) { return h2o_iovec_init(s, strlen(s)); }

static struct gw_access_line plain_line(void)
{
    return (struct gw_access_line){
        .wall_ms = 1767323045678,
        .request_id = text("0123456789abcdef0123456789abcdef"),
        .client = text("192.0.2.1"),
        .client_port = 5555,
        .method = text("GET"),
        .path = text("/a/b"),
        .status = 200,
        .reason = text("-"),
        .bytes_in = 100,
        .bytes_out = INT64_MAX,
        .duration_us = 1234567,
        .upstream_us = UINT64_MAX,
        .user_agent = text("test/1.0"),
    };
}

/* Writes the line into exactly the bytes that the bound allows (so that sanitizers see one more) and reads it back. */
static json_t *written(const struct gw_access_line *line)
{
    struct gw_access_clock clock = {0};
    json_error_t error;
    size_t bound = gw_access_line_bound(line);
    char *bytes = malloc(bound);
    size_t len = gw_access_line_write(bytes, line, &clock);

    assert_true(len <= bound);
    assert_int_equal(bytes[len - 1], '\n');
    assert_ptr_equal(memchr(bytes, '\n', len), bytes + len - 1);
    json_t *json = json_loadb(bytes, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (json == NULL)
        fail_msg("%s: %.*s", error.text, (int)len, bytes);
    free(bytes);
    return json;
}

static const char *text_in(const json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}

static void a_line_reads_back_as_it_was(void **state)
{
    struct gw_access_line line = plain_line();
    json_t *json = written(&line);
    assert_string_equal(text_in(json, "time"), "2026-01-02T03:04:05.678Z");
    assert_string_equal(text_in(json, "request_id"), "0123456789abcdef0123456789abcdef");
    assert_string_equal(text_in(json, "path"), "/a/b");
    assert_int_equal(json_integer_value(json_object_get(json, "client_port")), 5555);
    assert_int_equal(json_integer_value(json_object_get(json, "status")), 200);
    assert_true(json_real_value(json_object_get(json, "duration_ms")) == 1234.567);
    assert_string_equal(text_in(json, "user_agent"), "test/1.0");
    json_decref(json);
}

static void what_is_missing_is_null(void **state)
{
    struct gw_access_line line = plain_line();
    json_t *json = written(&line);
    static const char *const keys[] = {"trace_id", "listener", "tls_version", "query",   "route",      "target_group",
                                       "target",   "error",    "upstream_ms", "referer", "server_name"};
    for (size_t i = 0; i != sizeof(keys) / sizeof(keys[0]); ++i)
        assert_true(json_is_null(json_object_get(json, keys[i])));
    json_decref(json);
    line.query = h2o_iovec_init("", 0); /* "?" with nothing behind it is not "no query" */
    line.upstream_us = 0;
    json = written(&line);
    assert_string_equal(text_in(json, "query"), "");
    assert_true(json_real_value(json_object_get(json, "upstream_ms")) == 0);
    json_decref(json);
}

/* Each byte, at each place relative to the eight-byte steps, keeps the line parsable and the text what it was. */
static void every_byte_survives_at_every_place(void **state)
{
    for (unsigned byte = 0; byte != 256; ++byte)
        for (unsigned at = 0; at != 17; ++at) {
            char value[17] = "abcdefghijklmnop";
            value[at] = (char)byte;
            struct gw_access_line line = plain_line();
            line.user_agent = h2o_iovec_init(value, sizeof(value));
            json_t *json = written(&line), *got = json_object_get(json, "user_agent");
            if (byte < 0x80) {
                assert_int_equal(json_string_length(got), sizeof(value));
                assert_memory_equal(json_string_value(got), value, sizeof(value));
            } else {
                assert_int_equal(json_string_length(got), sizeof(value) + 2);
                assert_memory_equal(json_string_value(got) + at, "\xef\xbf\xbd", 3);
            }
            json_decref(json);
        }
}

static const char *agent(const char *sent, size_t len)
{
    static char got[64];
    struct gw_access_line line = plain_line();
    line.user_agent = h2o_iovec_init(sent, len);
    json_t *json = written(&line);
    snprintf(got, sizeof(got), "%s", text_in(json, "user_agent"));
    json_decref(json);
    return got;
}
#define AGENT(literal) agent(literal, sizeof(literal) - 1)

static void utf8_stays_and_anything_else_is_replaced(void **state)
{
    assert_string_equal(AGENT("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"), "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
    assert_string_equal(AGENT("1234567\xe2\x82\xac"), "1234567\xe2\x82\xac"); /* across a step of eight */
    assert_string_equal(AGENT("\xc3("), "\xef\xbf\xbd(");
    assert_string_equal(AGENT("\xc0\x80"), "\xef\xbf\xbd\xef\xbf\xbd");                 /* overlong */
    assert_string_equal(AGENT("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"); /* surrogate */
    assert_string_equal(AGENT("\xf4\x90\x80\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    assert_string_equal(AGENT("a\xe2\x82"), "a\xef\xbf\xbd\xef\xbf\xbd"); /* cut short */
    assert_string_equal(AGENT("\"\\\b\f\n\r\t"), "\"\\\b\f\n\r\t");
}

static void long_texts_are_cut_and_fit_the_bound(void **state)
{
    enum { LONG = 100000 };
    char *value = malloc(LONG);
    memset(value, '\x01', LONG); /* the longest escape */
    struct gw_access_line line = plain_line();
    h2o_iovec_t *const texts[] = {&line.path,    &line.query,           &line.user_agent,
                                  &line.referer, &line.x_forwarded_for, &line.host};
    for (size_t i = 0; i != sizeof(texts) / sizeof(texts[0]); ++i)
        *texts[i] = h2o_iovec_init(value, LONG);
    json_t *json = written(&line);
    assert_int_equal(json_string_length(json_object_get(json, "path")), GW_ACCESS_MAX_TEXT);
    json_decref(json);
    free(value);
}

static void the_time_moves_with_the_clock(void **state)
{
    static const struct {
        uint64_t wall_ms;
        const char *text;
    } cases[] = {{1767323045678, "2026-01-02T03:04:05.678Z"}, {1767323045999, "2026-01-02T03:04:05.999Z"},
                 {1767323046000, "2026-01-02T03:04:06.000Z"}, {1767323045001, "2026-01-02T03:04:05.001Z"},
                 {1709251199999, "2024-02-29T23:59:59.999Z"}, {0, "1970-01-01T00:00:00.000Z"}};
    struct gw_access_clock clock = {0};
    struct gw_access_line line = plain_line();
    char *bytes = malloc(gw_access_line_bound(&line));
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        line.wall_ms = cases[i].wall_ms;
        gw_access_line_write(bytes, &line, &clock);
        assert_memory_equal(bytes + strlen("{\"time\":\""), cases[i].text, strlen(cases[i].text));
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_reads_back_as_it_was),
        cmocka_unit_test(what_is_missing_is_null),
        cmocka_unit_test(every_byte_survives_at_every_place),
        cmocka_unit_test(utf8_stays_and_anything_else_is_replaced),
        cmocka_unit_test(long_texts_are_cut_and_fit_the_bound),
        cmocka_unit_test(the_time_moves_with_the_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
