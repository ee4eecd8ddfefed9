/* The error log: one line per event on stderr, `2026-01-02T03:04:05.678Z level module: text`, safe from any thread.
 * Repeats of one call site are limited to 10 a second; the number left out is said with the next line. A pipe that
 * nobody reads stops no thread: lines are lost, and their number is said when it is read again. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct timespec;
enum gw_log_level { GW_LOG_ERROR, GW_LOG_WARNING, GW_LOG_NOTICE, GW_LOG_INFO, GW_LOG_DEBUG };

struct gw_log_site {              /* one static per call site, made by the macro */
    _Atomic unsigned long window; /* atomic: second << 16 | count */
};
void gw_log_set_level(enum gw_log_level); /* set once at start-up and by reload; atomic */
void gw_log_write(struct gw_log_site *, enum gw_log_level, const char *module, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
#define gw_log(level, module, ...)                                                                                     \
    do {                                                                                                               \
        static struct gw_log_site site_;                                                                               \
        gw_log_write(&site_, level, module, __VA_ARGS__);                                                              \
    } while (0)

/* Lines as they are, such as findings about a configuration. Where nobody reads standard error, it gives up after a
 * second in all. */
void gw_log_text(const char *text, size_t len);

/* The parts of gw_log_write, with the time passed in. Whether a line of this site may be written in second now_s; if
 * so, how many were left out in the site's last second. */
bool gw_log_admit(struct gw_log_site *, unsigned long now_s, unsigned *num_left_out);
/* The line with its end; control characters are replaced, a long text is cut. capacity is at least 128. Returns its
 * length. */
size_t gw_log_format(char *line, size_t capacity, const struct timespec *now, enum gw_log_level, const char *module,
                     unsigned num_left_out, const char *format, va_list) __attribute__((format(printf, 7, 0)));
