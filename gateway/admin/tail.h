/* A live view of requests as they end, for one admin client: each thread looks at its own requests, writes the lines
 * that the filter wants and hands them to the control thread at the end of its turn. Independent of the access log: it
 * may be off, sampled, or written in another format. Without a tail a request costs one look at a pointer.
 *
 * A tail is shared by the control thread and the workers; each holds a reference. What a slow reader leaves no room for
 * is dropped and counted; a request never waits. */
#pragma once
#include "gateway/process.h"

/* What a line must satisfy; slices with base NULL are no condition. Copied. */
struct gw_tail_filter {
    h2o_iovec_t route, target_group, target, reason, method; /* exact; reason and method without regard to case */
    h2o_iovec_t host, path;                                  /* globs */
    uint16_t statuses[8][2];                                 /* ranges, both ends included */
    unsigned num_statuses;                                   /* 0: any */
    double sample;                                           /* share of the lines: (0, 1] */
};
/* "5xx", "404", "500-504", joined by commas. false: not understood. */
bool gw_tail_parse_statuses(h2o_iovec_t, struct gw_tail_filter *);
/* The text part of the filter, so that it can be tested alone. */
struct gw_access_line;
bool gw_tail_wants(const struct gw_tail_filter *, const struct gw_access_line *);

enum { GW_TAIL_QUEUE_BYTES = 1024 * 1024, GW_TAIL_MAX = 16 };

/* Lines on their way; freed by who gets it. */
struct gw_tail_piece {
    struct gw_tail_piece *next;
    struct gw_tail *tail;
    size_t size;
    char bytes[];
};

struct gw_tail;
/* Control thread. on_piece runs there for whole lines; gives the piece away. */
struct gw_tail *gw_tail_create(struct gw_process *, const struct gw_tail_filter *,
                               void (*on_piece)(void *data, struct gw_tail_piece *), void *data);
/* No on_piece after this. */
void gw_tail_close(struct gw_tail *);
/* The client has taken this many bytes: there is room again. */
void gw_tail_written(struct gw_tail *, size_t bytes);
/* Lines left out since the last call. */
uint64_t gw_tail_take_dropped(struct gw_tail *);

/* Worker's thread: a request is over. Call only if worker->tails is not NULL. */
void gw_tail_see(struct gw_worker *, const struct gw_request *);
/* The same for a connection, or a flow of datagrams, that was forwarded. */
struct gw_l4_record;
void gw_tail_see_connection(struct gw_worker *, const struct gw_l4_record *);
