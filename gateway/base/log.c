#include "gateway/base/log.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_LINE = 4096, /* PIPE_BUF: what poll() promises a pipe to take at once */
    PATIENCE_MS = 1000,
    MAX_PER_SECOND = 10,
    COUNT_BITS = 16
};
#define COUNT_MASK ((1UL << COUNT_BITS) - 1)

static pthread_mutex_t write_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long num_lost;                /* under write_lock: lines since the last one that was written */
static _Atomic int level_limit = GW_LOG_INFO; /* atomic: any thread reads, start-up and reload write */

void gw_log_set_level(enum gw_log_level level)
{
    atomic_store_explicit(&level_limit, (int)level, memory_order_relaxed);
}

bool gw_log_admit(struct gw_log_site *site, unsigned long now_s, unsigned *num_left_out)
{
    unsigned long seen = atomic_load_explicit(&site->window, memory_order_relaxed), next;
    do {
        unsigned long count = seen & COUNT_MASK;
        if (seen >> COUNT_BITS == now_s)
            next = count == COUNT_MASK ? seen : seen + 1;
        else
            next = now_s << COUNT_BITS | 1;
    } while (
        !atomic_compare_exchange_weak_explicit(&site->window, &seen, next, memory_order_relaxed, memory_order_relaxed));
    if ((next & COUNT_MASK) > MAX_PER_SECOND)
        return false;
    unsigned long before = seen >> COUNT_BITS == now_s ? 0 : seen & COUNT_MASK;
    *num_left_out = before > MAX_PER_SECOND ? (unsigned)(before - MAX_PER_SECOND) : 0;
    return true;
}

/* One event is one line, whatever a peer put into its text. */
static void blank_controls(char *text, size_t len)
{
    for (size_t i = 0; i != len; ++i)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
}

static size_t clamp(int written, size_t room)
{
    return written < 0 ? 0 : (size_t)written < room ? (size_t)written : room - 1;
}

size_t gw_log_format(char *line, size_t capacity, const struct timespec *now, enum gw_log_level level,
                     const char *module, unsigned num_left_out, const char *format, va_list args)
{
    static const char *const names[] = {"error", "warning", "notice", "info", "debug"};
    struct tm tm;
    size_t len, text_at;
    gmtime_r(&now->tv_sec, &tm);
    len = strftime(line, capacity, "%Y-%m-%dT%H:%M:%S", &tm);
    len += clamp(snprintf(line + len, capacity - len, ".%03uZ %s %s: ", (unsigned)(now->tv_nsec / 1000000),
                          names[level], module),
                 capacity - len);
    text_at = len;
    len += clamp(vsnprintf(line + len, capacity - len - 1, format, args), capacity - len - 1);
    if (num_left_out != 0)
        len += clamp(snprintf(line + len, capacity - len - 1, " (%u like it were left out)", num_left_out),
                     capacity - len - 1);
    blank_controls(line + text_at, len - text_at);
    line[len++] = '\n';
    return len;
}

/* Other processes may write into the same pipe, but then only the one line that comes in between waits. */
static bool is_taken(int wait_ms)
{
    struct pollfd poller = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&poller, 1, wait_ms) > 0;
}

/* Under write_lock. One write: lines of several processes do not mix. There is nowhere to report that it failed. */
static void write_line(const char *line, size_t len, int wait_ms)
{
    char lost[80];
    ssize_t written;

    if (!is_taken(wait_ms)) {
        ++num_lost;
        return;
    }
    if (num_lost != 0) {
        int n = snprintf(lost, sizeof(lost), "%lu lines are missing here: nobody read standard error\n", num_lost);
        num_lost = 0;
        written = write(STDERR_FILENO, lost, (size_t)n);
        if (!is_taken(wait_ms)) {
            ++num_lost;
            return;
        }
    }
    written = write(STDERR_FILENO, line, len);
    (void)written;
}

void gw_log_text(const char *text, size_t len)
{
    const char *end = text + len;
    struct timespec start, now;
    int left_ms = PATIENCE_MS;

    clock_gettime(CLOCK_MONOTONIC, &start);
    pthread_mutex_lock(&write_lock);
    while (text != end) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t size = stop != NULL ? (size_t)(stop + 1 - text) : (size_t)(end - text);
        if (size > MAX_LINE)
            size = MAX_LINE;
        write_line(text, size, left_ms);
        text += size;
        clock_gettime(CLOCK_MONOTONIC, &now);
        left_ms = PATIENCE_MS - (int)((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000);
        if (left_ms < 0)
            left_ms = 0;
    }
    pthread_mutex_unlock(&write_lock);
}

void gw_log_write(struct gw_log_site *site, enum gw_log_level level, const char *module, const char *format, ...)
{
    char line[MAX_LINE];
    struct timespec now;
    unsigned num_left_out;
    va_list args;
    int saved_errno = errno;
    if ((int)level > atomic_load_explicit(&level_limit, memory_order_relaxed))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    if (!gw_log_admit(site, (unsigned long)now.tv_sec, &num_left_out))
        return;
    va_start(args, format);
    size_t len = gw_log_format(line, sizeof(line), &now, level, module, num_left_out, format, args);
    va_end(args);
    pthread_mutex_lock(&write_lock);
    write_line(line, len, 0);
    pthread_mutex_unlock(&write_lock);
    errno = saved_errno; /* callers log first and look at it then */
}
