#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "gateway/base/log.h"

static void ten_lines_a_second_of_one_site_are_written(void **state)
{
    struct gw_log_site site = {0};
    unsigned left_out = 99;
    for (unsigned i = 0; i != 10; ++i) {
        assert_true(gw_log_admit(&site, 1000, &left_out));
        assert_int_equal(left_out, 0);
    }
    for (unsigned i = 0; i != 5; ++i)
        assert_false(gw_log_admit(&site, 1000, &left_out));
    struct gw_log_site other = {0};
    assert_true(gw_log_admit(&other, 1000, &left_out));
}

static void next_line_says_how_many_were_left_out(void **state)
{
    struct gw_log_site site = {0};
    unsigned left_out = 99;
    for (unsigned i = 0; i != 17; ++i)
        gw_log_admit(&site, 1000, &left_out);
    assert_true(gw_log_admit(&site, 1030, &left_out));
    assert_int_equal(left_out, 7);
    assert_true(gw_log_admit(&site, 1030, &left_out));
    assert_int_equal(left_out, 0);
}

static void flood_in_one_second_does_not_wrap_around(void **state)
{
    struct gw_log_site site = {0};
    unsigned left_out;
    unsigned admitted = 0;
    for (unsigned i = 0; i != 200000; ++i)
        admitted += gw_log_admit(&site, 1000, &left_out);
    assert_int_equal(admitted, 10);
    assert_true(gw_log_admit(&site, 1001, &left_out));
    assert_true(left_out > 60000);
}

static struct gw_log_site shared_site;
static _Atomic unsigned num_admitted;

static void *admit_often(void *arg)
{
    unsigned left_out;
    for (unsigned i = 0; i != 10000; ++i)
        num_admitted += gw_log_admit(&shared_site, 5, &left_out);
    return NULL;
}

static void limit_holds_over_threads(void **state)
{
    pthread_t threads[4];
    for (int i = 0; i != 4; ++i)
        assert_int_equal(pthread_create(&threads[i], NULL, admit_often, NULL), 0);
    for (int i = 0; i != 4; ++i)
        pthread_join(threads[i], NULL);
    assert_int_equal(num_admitted, 10);
}

static size_t format(char *line, size_t capacity, unsigned left_out, const char *text, ...)
{
    struct timespec now = {.tv_sec = 1767323045, .tv_nsec = 678999999};
    va_list args;
    va_start(args, text);
    size_t len = gw_log_format(line, capacity, &now, GW_LOG_WARNING, "pool", left_out, text, args);
    va_end(args);
    return len;
}

static void line_has_time_level_module_and_text(void **state)
{
    char line[256];
    size_t len = format(line, sizeof(line), 0, "%d left", 3);
    assert_int_equal(line[len - 1], '\n');
    line[len - 1] = '\0';
    assert_string_equal(line, "2026-01-02T03:04:05.678Z warning pool: 3 left");
    len = format(line, sizeof(line), 7, "%d left", 3);
    line[len - 1] = '\0';
    assert_string_equal(line, "2026-01-02T03:04:05.678Z warning pool: 3 left (7 like it were left out)");
}

static void text_of_a_peer_cannot_forge_a_line(void **state)
{
    char line[256];
    size_t len = format(line, sizeof(line), 0, "bad header \"%s\"", "a\r\n2026 error x: \x1b[31m\x7f");
    assert_ptr_equal(memchr(line, '\n', len), line + len - 1);
    for (size_t i = 0; i + 1 < len; ++i)
        assert_true((unsigned char)line[i] >= 0x20 && line[i] != 0x7f);
}

static void long_text_is_cut_and_the_line_still_ends(void **state)
{
    char line[128], text[1000];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    for (size_t len = 60; len != sizeof(text) - 1; ++len) {
        size_t written = format(line, sizeof(line), 5, "%.*s", (int)len, text);
        assert_true(written <= sizeof(line));
        assert_int_equal(line[written - 1], '\n');
        assert_null(memchr(line, '\0', written));
    }
}

static void lines_go_to_stderr_unless_below_the_level(void **state)
{
    char got[512];
    int fds[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], STDERR_FILENO);
    gw_log(GW_LOG_DEBUG, "test", "too detailed");
    gw_log(GW_LOG_INFO, "test", "first");
    gw_log_set_level(GW_LOG_ERROR);
    gw_log(GW_LOG_WARNING, "test", "not now");
    gw_log(GW_LOG_ERROR, "test", "second");
    gw_log_set_level(GW_LOG_DEBUG);
    gw_log(GW_LOG_DEBUG, "test", "third %s", "time");
    gw_log_set_level(GW_LOG_INFO);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fds[1]);
    ssize_t len = read(fds[0], got, sizeof(got) - 1);
    close(fds[0]);
    assert_true(len > 0);
    got[len] = '\0';
    assert_non_null(strstr(got, " info test: first\n"));
    assert_non_null(strstr(got, " error test: second\n"));
    assert_non_null(strstr(got, " debug test: third time\n"));
    assert_null(strstr(got, "not now"));
    assert_null(strstr(got, "too detailed"));
}

static void a_pipe_that_nobody_reads_stops_nobody_and_the_gap_is_told(void **state)
{
    static char got[1 << 17];
    char filler[4096];
    int fds[2], saved = dup(STDERR_FILENO);
    ssize_t len;

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    memset(filler, 'x', sizeof(filler));
    while (write(fds[1], filler, sizeof(filler)) > 0)
        ;
    assert_int_equal(fcntl(fds[1], F_SETFL, 0), 0); /* now a write would wait for ever */
    dup2(fds[1], STDERR_FILENO);
    gw_log(GW_LOG_ERROR, "test", "lost");
    gw_log_text("lost, too\nand this\n", 19);
    while (read(fds[0], got, sizeof(got)) == (ssize_t)sizeof(got))
        ;
    gw_log(GW_LOG_ERROR, "test", "back");
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fds[1]);
    len = read(fds[0], got, sizeof(got) - 1);
    close(fds[0]);
    assert_true(len > 0);
    got[len] = '\0';
    assert_non_null(strstr(got, "3 lines are missing here"));
    assert_non_null(strstr(got, " error test: back\n"));
    assert_null(strstr(got, "lost"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_lines_a_second_of_one_site_are_written),
        cmocka_unit_test(next_line_says_how_many_were_left_out),
        cmocka_unit_test(flood_in_one_second_does_not_wrap_around),
        cmocka_unit_test(limit_holds_over_threads),
        cmocka_unit_test(line_has_time_level_module_and_text),
        cmocka_unit_test(text_of_a_peer_cannot_forge_a_line),
        cmocka_unit_test(long_text_is_cut_and_the_line_still_ends),
        cmocka_unit_test(lines_go_to_stderr_unless_below_the_level),
        cmocka_unit_test(a_pipe_that_nobody_reads_stops_nobody_and_the_gap_is_told),
    };
    return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}
