/* The error log: one line per event on stderr, `2026-01-02T03:04:05.678Z level module: text`, safe from any thread.
 * Repeats of one call site are limited to 10 a second; the number left out is said with the next line. */
#pragma once
enum gw_log_level { GW_LOG_ERROR, GW_LOG_WARNING, GW_LOG_NOTICE, GW_LOG_INFO, GW_LOG_DEBUG };

struct gw_log_site { /* one static per call site, made by the macro */
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
