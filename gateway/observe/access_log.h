/* The access log: one line per request, in the format of its configuration. Lines are made on the worker's thread into
 * its own buffer and written by one writer thread, so a slow disk or a full pipe never blocks a loop: what does not fit
 * the bounded queue is dropped and counted. */
#pragma once
#include "gateway/request.h"

struct gw_access_log;        /* process: the writer */
struct gw_access_log_buffer; /* one per worker thread */
struct gw_access_log *gw_access_log_create(void);
void gw_access_log_destroy(
    struct gw_access_log *); /* writes out what is queued (at most two seconds); after the buffers */
/* Called by a load (any thread): where lines go from now on. False if it cannot be opened: then all stays as it was. */
bool gw_access_log_configure(struct gw_access_log *, const struct gw_access_log_conf *, struct gw_errors *);
void gw_access_log_reopen(struct gw_access_log *);
uint64_t gw_access_log_dropped(const struct gw_access_log *); /* lines; any thread */

/* The rest on the worker's thread (destroy: also after it has ended; hands over what is left). */
struct gw_access_log_buffer *gw_access_log_buffer_create(struct gw_access_log *, struct gw_thread *);
void gw_access_log_buffer_destroy(struct gw_access_log_buffer *);
/* Called when a request is over; fields are documented in gateway/observe/README.md. */
void gw_access_log_write(struct gw_access_log_buffer *, struct gw_request *);
/* The same for a connection that was forwarded (gateway/l4/l4.h). */
struct gw_l4_record;
void gw_access_log_write_connection(struct gw_access_log_buffer *, const struct gw_l4_record *);
/* What a line says of a request that is over. client (46 bytes) holds the text of line->client where it is not at hand.
 * Everything is borrowed from the request. */
struct gw_access_line;
void gw_access_log_fill(struct gw_access_line *, const struct gw_request *, char *client);
/* The same of a connection that was forwarded. */
struct gw_l4_record;
void gw_access_log_fill_connection(struct gw_access_line *, const struct gw_l4_record *);
/* Hands what is buffered to the writer: when 32 KiB are there, and at the latest 100 ms after the first line (a line
 * after a quiet time goes at the end of its turn). */
void gw_access_log_flush(struct gw_access_log_buffer *);
