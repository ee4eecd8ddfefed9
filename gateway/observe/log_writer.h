/* A thread that writes chunks of log lines to a file, pipe, terminal or syslog collector, so that a slow one never
 * blocks a loop. Bounded: what does not fit the queue is dropped and counted. Functions are safe from any thread unless
 * they say otherwise. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

struct gw_log_chunk {
    struct gw_log_chunk *next;
    size_t size, capacity;
    uint32_t num_lines;
    char bytes[];
};
enum { GW_LOG_CHUNK_BYTES = 32 * 1024, GW_LOG_QUEUE_BYTES = 16 * 1024 * 1024 };

struct gw_log_writer;
struct gw_log_writer *gw_log_writer_create(void); /* writes to stdout until told otherwise */
/* Writes what is queued for at most two seconds, then ends the thread; the rest is counted as dropped. */
void gw_log_writer_destroy(struct gw_log_writer *);

/* Where bytes go from now on: an open descriptor (taken) and its path (copied; NULL: stdout, fd -1). Chunks queued
 * earlier may go to either. */
void gw_log_writer_redirect(struct gw_log_writer *, const char *path, int fd);
/* The same for a syslog collector: each line a datagram of its own. fd: of gw_syslog_open. name: for messages. */
void gw_log_writer_redirect_to_syslog(struct gw_log_writer *, const char *name, int fd);
/* Opens the path again (a rotated file); stdout stays. */
void gw_log_writer_reopen(struct gw_log_writer *);
int gw_log_writer_open(const char *path); /* for appending; -1 and errno */
const char *gw_log_writer_why_not_open(int error);

/* An empty chunk with room for at least min_capacity bytes. */
struct gw_log_chunk *gw_log_writer_chunk(struct gw_log_writer *, size_t min_capacity);
/* Takes the chunk; whole lines only. Never blocks longer than a short lock. */
void gw_log_writer_take(struct gw_log_writer *, struct gw_log_chunk *);
uint64_t gw_log_writer_dropped(const struct gw_log_writer *); /* lines */
