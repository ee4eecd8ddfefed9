/* The trace sink of `weir explain`: each stage that decides writes what it looked at and what it decided. NULL sink =
 * live traffic: one branch, no work. One thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct gw_node;
struct gw_trace_entry {
    const char *stage;        /* literal: "listener", "route", "target" */
    char *text;               /* owned by the trace */
    const struct gw_node *at; /* the setting that says so, or NULL */
};
struct gw_trace {
    struct gw_trace_entry *entries;
    size_t size, capacity;
};
void gw_trace_init(struct gw_trace *);
void gw_trace_dispose(struct gw_trace *);
void gw_trace_write(struct gw_trace *, const char *stage, const struct gw_node *at, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
#define gw_trace(sink, ...)                                                                                            \
    do {                                                                                                               \
        if (__builtin_expect((sink) != NULL, 0))                                                                       \
            gw_trace_write((sink), __VA_ARGS__);                                                                       \
    } while (0)
