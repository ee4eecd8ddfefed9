#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <h2o.h>
#include "gateway/observe/access_line.h"
#include "gateway/command/log_reader.h"

static char buffer[1 << 20];

static enum gw_log_result parse(const char *text, struct gw_log_entry *entry)
{
    size_t len = strlen(text);
    memcpy(buffer, text, len);
    return gw_log_line_parse(buffer, len, entry);
}

#define assert_slice(slice, text) assert_true(h2o_memis((slice).base, (slice).len, text, strlen(text)))
#define REST                      "\"path\":\"/\",\"status\":200,\"reason\":\"-\"}"

static h2o_iovec_t slice(const char *text) { return h2o_iovec_init(text, strlen(text)); }

static void what_the_access_log_writes_is_read_back(void **state)
{
    struct gw_access_clock clock = {0};
    struct gw_access_line line = {.upstream_us = UINT64_MAX, .status = 404, .duration_us = 1234567};
    struct gw_log_entry entry = {.line = 7};
    line.method = slice("GET");
    line.scheme = slice("https");
    line.host = slice("a.example");
    line.path = slice("/a%20b\"\\\x01z/\xc3\xa9");
    line.query = slice("");
    line.client = slice("2001:db8::1");
    line.peer = slice("10.0.0.1");
    line.listener = slice("https");
    line.reason = slice("NO_ROUTE");
    line.user_agent = slice("tab\there");
    size_t len = gw_access_line_write(buffer, &line, &clock);

    assert_int_equal(gw_log_line_parse(buffer, len, &entry), GW_LOG_BAD); /* \x01 is no byte of a request */
    line.path = slice("/a%20b\"\\z/\xc3\xa9");
    len = gw_access_line_write(buffer, &line, &clock);
    assert_int_equal(gw_log_line_parse(buffer, len, &entry), GW_LOG_ENTRY);
    assert_int_equal(entry.line, 7);
    assert_int_equal(entry.status, 404);
    assert_slice(entry.method, "GET");
    assert_slice(entry.scheme, "https");
    assert_slice(entry.host, "a.example");
    assert_slice(entry.path, "/a%20b\"\\z/\xc3\xa9");
    assert_non_null(entry.query.base);
    assert_int_equal(entry.query.len, 0);
    assert_slice(entry.client, "2001:db8::1");
    assert_slice(entry.peer, "10.0.0.1");
    assert_slice(entry.listener, "https");
    assert_slice(entry.reason, "NO_ROUTE");
    assert_slice(entry.user_agent, "tab\there");
    assert_null(entry.route.base);
    assert_null(entry.target_group.base);
    assert_null(entry.referer.base);
}

static void escapes_are_undone(void **state)
{
    struct gw_log_entry entry;
    assert_int_equal(parse("{\"method\":\"GET\",\"path\":\"\\/\\\"\\\\\\u00e9\\u20ac\\ud83d\\ude00\\ud83d!\\udc00\","
                           "\"user_agent\":\"\\t\",\"status\":0,\"reason\":\"-\"}",
                           &entry),
                     GW_LOG_ENTRY);
    assert_slice(entry.path, "/\"\\\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbd!\xef\xbf\xbd");
    assert_slice(entry.user_agent, "\t");
}

static void order_blanks_and_unknown_fields_do_not_matter(void **state)
{
    struct gw_log_entry entry;
    assert_int_equal(
        parse(" { \"x\" : {\"path\": [1, {\"a\": null}, []], \"b\": {}} ,\"reason\" : \"-\", \"path\":\"/p\" , "
              "\"y\":-1.5e+7,\"z\":true,\"status\":  201,\"method\":\"PUT\"} \r",
              &entry),
        GW_LOG_ENTRY);
    assert_slice(entry.path, "/p");
    assert_slice(entry.method, "PUT");
    assert_int_equal(entry.status, 201);
}

static void what_is_no_access_log_line_is_bad(void **state)
{
    static const char *const lines[] = {
        "x",
        "{",
        "{}",
        "[]",
        "null",
        "{\"method\":\"GET\",\"path\":\"/\",\"status\":200}",                       /* no reason */
        "{\"method\":\"GET\",\"path\":\"/\",\"reason\":\"-\"}",                     /* no status */
        "{\"method\":\"GET\"," REST "x",                                            /* more behind it */
        "{\"method\":\"GET\"," REST "{}",                                           /* two objects */
        "{\"method\":1," REST,                                                      /* wrong type */
        "{\"method\":\"GET\",\"path\":\"/\",\"status\":\"200\",\"reason\":\"-\"}",  /* wrong type */
        "{\"method\":\"GET\",,\"path\":\"/\",\"status\":200,\"reason\":\"-\"}",     /* no member */
        "{\"method\":\"GET\",\"path\":\"/\",\"status\":200,\"reason\":\"-\",}",     /* no member */
        "{\"method\":\"G\\x\"," REST,                                               /* no escape */
        "{\"method\":\"G\\u12g4\"," REST,                                           /* no escape */
        "{\"method\":\"G\\u12\"," REST,                                             /* no escape */
        "{\"method\":\"GET\\r\\nX: y\"," REST,                                      /* would be a field */
        "{\"method\":\"GET\",\"path\":\"/ HTTP\",\"status\":200,\"reason\":\"-\"}", /* would end the target */
        "{\"method\":\"GET\",\"referer\":\"a\\nHost: b\"," REST,                    /* would be a field */
        "{\"method\":\"GET\",\"host\":\"a\\u0000b\"," REST,                         /* NUL */
        "{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],\"method\":"
        "\"GET\"," REST,
        "{\"method\":\"GET\",\"x\":\"",
        "{\"method\":\"GET\",\"x\":\"\\",
        "{\"method\":\"GET\",\"x\":\"\\u",
    };
    struct gw_log_entry entry;
    for (size_t i = 0; i != sizeof(lines) / sizeof(lines[0]); ++i)
        if (parse(lines[i], &entry) != GW_LOG_BAD)
            fail_msg("taken: %s", lines[i]);
}

static void a_line_without_a_whole_request_is_told_apart(void **state)
{
    struct gw_log_entry entry;
    char line[10000];
    assert_int_equal(parse("{\"method\":null,\"path\":null,\"status\":400,\"reason\":\"BAD_REQUEST\"}", &entry),
                     GW_LOG_NO_REQUEST);
    snprintf(line, sizeof(line), "{\"method\":\"GET\",\"path\":\"/%0*d\",\"status\":200,\"reason\":\"-\"}",
             GW_ACCESS_MAX_TEXT - 1, 0);
    assert_int_equal(parse(line, &entry), GW_LOG_NO_REQUEST); /* as long as the log's longest text: cut */
    snprintf(line, sizeof(line), "{\"method\":\"GET\",\"path\":\"/%0*d\",\"status\":200,\"reason\":\"-\"}",
             GW_ACCESS_MAX_TEXT - 2, 0);
    assert_int_equal(parse(line, &entry), GW_LOG_ENTRY);
}

/* ---- files ---- */

static char path[] = "/tmp/weir-test-log-XXXXXX";

static FILE *create_log(void)
{
    strcpy(path + sizeof(path) - 7, "XXXXXX");
    int fd = mkstemp(path);
    assert_int_not_equal(fd, -1);
    return fdopen(fd, "w");
}

static void put_line(FILE *log, const char *method) { fprintf(log, "{\"method\":\"%s\"," REST "\n", method); }

static struct gw_log_reader *finish_log(FILE *log)
{
    fclose(log);
    struct gw_log_reader *reader = gw_log_reader_open(path);
    assert_non_null(reader);
    unlink(path);
    return reader;
}

static void bad_lines_are_skipped_and_counted(void **state)
{
    FILE *log = create_log();
    struct gw_log_entry entry;
    put_line(log, "A");
    fputs("\n  \r\nnonsense\n{\"method\":null,\"status\":408,\"reason\":\"X\"}\n", log);
    put_line(log, "B");
    fputs("{\"method\":\"C\"," REST, log); /* without its line end */
    struct gw_log_reader *reader = finish_log(log);
    static const char *const methods[] = {"A", "B", "C"};
    static const uint64_t lines[] = {1, 6, 7};
    for (int i = 0; i != 3; ++i) {
        assert_true(gw_log_reader_next(reader, &entry));
        assert_slice(entry.method, methods[i]);
        assert_int_equal(entry.line, lines[i]);
    }
    assert_false(gw_log_reader_next(reader, &entry));
    assert_int_equal(errno, 0);
    assert_int_equal(gw_log_reader_counts(reader)->lines, 5);
    assert_int_equal(gw_log_reader_counts(reader)->bad, 1);
    assert_int_equal(gw_log_reader_counts(reader)->no_request, 1);
    gw_log_reader_close(reader);
}

static void a_line_that_fits_no_buffer_is_one_bad_line(void **state)
{
    FILE *log = create_log();
    struct gw_log_entry entry;
    put_line(log, "A");
    fputs("{\"x\":\"", log);
    for (int i = 0; i != 9 << 20; ++i)
        fputc('x', log);
    fputs("\"}\n", log);
    put_line(log, "B");
    struct gw_log_reader *reader = finish_log(log);
    assert_true(gw_log_reader_next(reader, &entry));
    assert_slice(entry.method, "A");
    assert_true(gw_log_reader_next(reader, &entry));
    assert_slice(entry.method, "B");
    assert_int_equal(entry.line, 3);
    assert_false(gw_log_reader_next(reader, &entry));
    assert_int_equal(gw_log_reader_counts(reader)->bad, 1);
    gw_log_reader_close(reader);
}

static void an_endless_last_line_is_one_bad_line(void **state)
{
    FILE *log = create_log();
    struct gw_log_entry entry;
    for (int i = 0; i != 4 << 20; ++i) /* the buffer exactly */
        fputc('x', log);
    struct gw_log_reader *reader = finish_log(log);
    assert_false(gw_log_reader_next(reader, &entry));
    assert_int_equal(gw_log_reader_counts(reader)->lines, 1);
    assert_int_equal(gw_log_reader_counts(reader)->bad, 1);
    gw_log_reader_close(reader);
}

static void lines_are_whole_wherever_reads_end(void **state)
{
    FILE *log = create_log();
    struct gw_log_entry entry;
    char method[64];
    enum { LINES = 20000 };
    for (int i = 0; i != LINES; ++i) {
        snprintf(method, sizeof(method), "M%0*d", 1 + i % 50, i);
        put_line(log, method);
    }
    struct gw_log_reader *reader = finish_log(log);
    for (int i = 0; i != LINES; ++i) {
        snprintf(method, sizeof(method), "M%0*d", 1 + i % 50, i);
        assert_true(gw_log_reader_next(reader, &entry));
        assert_slice(entry.method, method);
    }
    assert_false(gw_log_reader_next(reader, &entry));
    assert_int_equal(gw_log_reader_counts(reader)->lines, LINES);
    gw_log_reader_close(reader);
}

static void errors_are_told(void **state)
{
    struct gw_log_entry entry;
    errno = 0;
    assert_null(gw_log_reader_open("/nonexistent/log"));
    assert_int_equal(errno, ENOENT);
    struct gw_log_reader *reader = gw_log_reader_open("/");
    assert_false(gw_log_reader_next(reader, &entry));
    assert_int_equal(errno, EISDIR);
    gw_log_reader_close(reader);
    gw_log_reader_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_access_log_writes_is_read_back),
        cmocka_unit_test(escapes_are_undone),
        cmocka_unit_test(order_blanks_and_unknown_fields_do_not_matter),
        cmocka_unit_test(what_is_no_access_log_line_is_bad),
        cmocka_unit_test(a_line_without_a_whole_request_is_told_apart),
        cmocka_unit_test(bad_lines_are_skipped_and_counted),
        cmocka_unit_test(a_line_that_fits_no_buffer_is_one_bad_line),
        cmocka_unit_test(an_endless_last_line_is_one_bad_line),
        cmocka_unit_test(lines_are_whole_wherever_reads_end),
        cmocka_unit_test(errors_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
