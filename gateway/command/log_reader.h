/* Reads access logs back: JSON lines as gateway/observe/README.md documents them. Streams, so that a log may have any
 * size; what is no line of a log is skipped and counted. One thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <h2o/memory.h>

/* What a line says about its request. Slices with base NULL: null, or not there. */
struct gw_log_entry {
    uint64_t line; /* from 1 */
    h2o_iovec_t method, scheme, host, path, query, client, peer, listener;
    h2o_iovec_t user_agent, referer, x_forwarded_for;
    h2o_iovec_t reason, route, target_group;
    int status;
};

enum gw_log_result {
    GW_LOG_ENTRY,
    GW_LOG_BAD,        /* no JSON object, or its fields are not those of an access log */
    GW_LOG_NO_REQUEST, /* a request that cannot be asked again: its head was refused, or the URL was cut for the log */
};
/* Parses one line without its line end, in place: the entry's slices point into it. Fields that are not known are
 * skipped, whatever they hold. Leaves entry->line alone. */
enum gw_log_result gw_log_line_parse(char *line, size_t len, struct gw_log_entry *);

struct gw_log_reader;
/* "-" is standard input. NULL: errno says why. */
struct gw_log_reader *gw_log_reader_open(const char *path);
void gw_log_reader_close(struct gw_log_reader *); /* NULL is fine */
/* The next entry that holds a request, valid until the next call. false: the end, or an error (errno, else 0). */
bool gw_log_reader_next(struct gw_log_reader *, struct gw_log_entry *);

struct gw_log_counts {
    uint64_t lines; /* that are not empty */
    uint64_t bad, no_request;
};
const struct gw_log_counts *gw_log_reader_counts(const struct gw_log_reader *);
