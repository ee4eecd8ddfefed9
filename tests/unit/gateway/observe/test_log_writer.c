#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/wheel.h"
#include "gateway/observe/log_writer.h"

static char folder[256];

static int make_folder(void **state)
{
    signal(SIGPIPE, SIG_DFL); /* the writer must not need it ignored */
    snprintf(folder, sizeof(folder), "%s/weir-log-XXXXXX", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    return mkdtemp(folder) == NULL;
}
static int remove_folder(void **state)
{
    char command[300];
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command);
}

static const char *path_of(const char *name)
{
    static char path[300];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void take_text(struct gw_log_writer *writer, const char *text)
{
    struct gw_log_chunk *chunk = gw_log_writer_chunk(writer, strlen(text));
    memcpy(chunk->bytes, text, strlen(text));
    chunk->size = strlen(text);
    for (; *text != '\0'; ++text)
        chunk->num_lines += *text == '\n';
    gw_log_writer_take(writer, chunk);
}

/* num lines of len bytes each, in one chunk. */
static void take_lines(struct gw_log_writer *writer, uint32_t num, size_t len)
{
    struct gw_log_chunk *chunk = gw_log_writer_chunk(writer, num * len);
    memset(chunk->bytes, 'x', num * len);
    for (uint32_t i = 1; i <= num; ++i)
        chunk->bytes[i * len - 1] = '\n';
    chunk->size = num * len;
    chunk->num_lines = num;
    gw_log_writer_take(writer, chunk);
}

static char *content_of(const char *name)
{
    static char content[4096];
    int fd = open(path_of(name), O_RDONLY);
    ssize_t n = fd != -1 ? read(fd, content, sizeof(content) - 1) : 0;
    content[n > 0 ? n : 0] = '\0';
    if (fd != -1)
        close(fd);
    return content;
}

static void lines_arrive_in_order_before_destroy_returns(void **state)
{
    struct gw_log_writer *writer = gw_log_writer_create();
    gw_log_writer_redirect(writer, path_of("order"), gw_log_writer_open(path_of("order")));
    for (char i = '0'; i <= '9'; ++i)
        take_text(writer, (char[]){i, '\n', '\0'});
    gw_log_writer_destroy(writer);
    assert_string_equal(content_of("order"), "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
}

static bool is_there(const char *name)
{
    struct stat st;
    return stat(path_of(name), &st) == 0;
}

static void a_rotated_file_is_made_anew(void **state)
{
    char rotated[300];
    struct gw_log_writer *writer = gw_log_writer_create();
    gw_log_writer_redirect(writer, path_of("log"), gw_log_writer_open(path_of("log")));
    snprintf(rotated, sizeof(rotated), "%s/log.1", folder);
    assert_int_equal(rename(path_of("log"), rotated), 0);
    gw_log_writer_reopen(writer);
    for (uint64_t until = gw_now_ms() + 60000; !is_there("log") && gw_now_ms() < until;)
        sched_yield();
    take_text(writer, "new\n");
    gw_log_writer_destroy(writer);
    assert_string_equal(content_of("log"), "new\n");
    assert_string_equal(content_of("log.1"), "");
}

static void a_full_disk_costs_lines_and_nothing_else(void **state)
{
    struct gw_log_writer *writer = gw_log_writer_create();
    gw_log_writer_redirect(writer, "/dev/full", open("/dev/full", O_WRONLY | O_CLOEXEC));
    take_lines(writer, 100, 50);
    take_lines(writer, 3, 50);
    for (uint64_t until = gw_now_ms() + 60000; gw_log_writer_dropped(writer) != 103 && gw_now_ms() < until;)
        sched_yield();
    assert_int_equal(gw_log_writer_dropped(writer), 103);
    gw_log_writer_redirect(writer, path_of("after"), gw_log_writer_open(path_of("after")));
    take_text(writer, "still here\n");
    gw_log_writer_destroy(writer);
    assert_string_equal(content_of("after"), "still here\n");
}

static void a_reader_that_left_costs_lines_and_no_signal(void **state)
{
    int fds[2];
    struct gw_log_writer *writer = gw_log_writer_create();
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    close(fds[0]);
    gw_log_writer_redirect(writer, "pipe", fds[1]);
    take_lines(writer, 7, 100);
    for (uint64_t until = gw_now_ms() + 60000; gw_log_writer_dropped(writer) != 7 && gw_now_ms() < until;)
        sched_yield();
    assert_int_equal(gw_log_writer_dropped(writer), 7);
    gw_log_writer_destroy(writer);
}

struct reader {
    int fd;
    uint64_t lines;
    bool is_ragged; /* a line of another length */
    size_t line_len;
};
static void *read_lines(void *data)
{
    struct reader *reader = data;
    char bytes[65536];
    size_t column = 0;
    for (ssize_t n; (n = read(reader->fd, bytes, sizeof(bytes))) > 0;)
        for (ssize_t i = 0; i != n; ++i) {
            ++column;
            if (bytes[i] != '\n')
                continue;
            reader->is_ragged |= column != reader->line_len;
            column = 0;
            __atomic_fetch_add(&reader->lines, 1, __ATOMIC_RELAXED);
        }
    reader->is_ragged |= column != 0;
    return NULL;
}

static void what_a_slow_reader_misses_is_counted_and_the_rest_is_whole(void **state)
{
    enum { LINES = 300, LEN = 100, CHUNKS = 1200 }; /* 36 MB against a queue of 16 */
    int fds[2];
    pthread_t tid;
    struct gw_log_writer *writer = gw_log_writer_create();

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    gw_log_writer_redirect(writer, "pipe", fds[1]);
    for (int i = 0; i != CHUNKS; ++i) /* nobody reads: this must neither block nor grow without bound */
        take_lines(writer, LINES, LEN);
    assert_true(gw_log_writer_dropped(writer) != 0);
    uint64_t dropped_by_the_queue = gw_log_writer_dropped(writer);

    struct reader reader = {.fd = fds[0], .line_len = LEN};
    assert_int_equal(pthread_create(&tid, NULL, read_lines, &reader), 0);
    for (uint64_t until = gw_now_ms() + 60000; gw_now_ms() < until;) {
        if (__atomic_load_n(&reader.lines, __ATOMIC_RELAXED) == LINES * CHUNKS - dropped_by_the_queue)
            break;
        sched_yield();
    }
    gw_log_writer_destroy(writer); /* closes the pipe's other end */
    pthread_join(tid, NULL);
    close(fds[0]);
    assert_false(reader.is_ragged);
    assert_int_equal(reader.lines, LINES * CHUNKS - dropped_by_the_queue);
}

static void a_reader_that_never_reads_does_not_hold_the_end(void **state)
{
    int fds[2];
    struct gw_log_writer *writer = gw_log_writer_create();
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    gw_log_writer_redirect(writer, "pipe", fds[1]);
    take_lines(writer, 10000, 100);
    gw_log_writer_destroy(writer);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    ssize_t n;
    do {
        char bytes[4096];
        n = read(fds[0], bytes, sizeof(bytes));
    } while (n > 0);
    assert_int_equal(n, 0); /* it has let go of the pipe: it was not left behind as stuck */
    close(fds[0]);
}

static void a_fifo_without_reader_cannot_be_opened(void **state)
{
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    assert_int_equal(gw_log_writer_open(path_of("fifo")), -1);
    assert_int_equal(errno, ENXIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_arrive_in_order_before_destroy_returns),
        cmocka_unit_test(a_rotated_file_is_made_anew),
        cmocka_unit_test(a_full_disk_costs_lines_and_nothing_else),
        cmocka_unit_test(a_reader_that_left_costs_lines_and_no_signal),
        cmocka_unit_test(what_a_slow_reader_misses_is_counted_and_the_rest_is_whole),
        cmocka_unit_test(a_reader_that_never_reads_does_not_hold_the_end),
        cmocka_unit_test(a_fifo_without_reader_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
