#include "gateway/base/trace.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <h2o/memory.h>

void gw_trace_init(struct gw_trace *trace) { *trace = (struct gw_trace){NULL}; }

void gw_trace_dispose(struct gw_trace *trace)
{
    for (size_t i = 0; i != trace->size; ++i)
        free(trace->entries[i].text);
    free(trace->entries);
    gw_trace_init(trace);
}

void gw_trace_write(struct gw_trace *trace, const char *stage, const struct gw_node *at, const char *format, ...)
{
    char *text;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        h2o_fatal("no memory");
    va_end(args);
    if (trace->size == trace->capacity) {
        trace->capacity = trace->capacity == 0 ? 16 : trace->capacity * 2;
        trace->entries = h2o_mem_realloc(trace->entries, trace->capacity * sizeof(*trace->entries));
    }
    trace->entries[trace->size++] = (struct gw_trace_entry){stage, text, at};
}
