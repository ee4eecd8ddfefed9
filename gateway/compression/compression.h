/* Compression of responses on their way to the client: which ones, and the filter (libh2o's ostream) that does it. It
 * stands behind everything else, so it sees what targets and weir itself answer alike.
 *
 * libh2o's own compression is not used: it takes `gzip;q=1.0` for a coding it does not know and leaves ETag
 * and no-transform out of account. */
#pragma once
#include "gateway/compression/accept_encoding.h"
#include "gateway/base/thread.h"
#include "gateway/compression/encoder.h"
#include "routing/config.h"

struct gw_request;
struct gw_trace;

/* The settings, compiled; part of a snapshot, read by any thread. NULL: nothing is compressed. */
struct gw_compression;
struct gw_compression *gw_compression_create(const struct routing_compression_conf *);
void gw_compression_destroy(struct gw_compression *); /* NULL is fine */
const struct routing_compression_conf *gw_compression_conf(const struct gw_compression *);

/* What becomes of a response. */
enum gw_compression_verdict {
    GW_COMPRESSED,
    /* another client would get it compressed: Vary says so */
    GW_NOT_ACCEPTED,
    GW_NOT_TRANSFORMED, /* the client said no-transform */
    GW_TOO_OLD,         /* HTTP/1.0 */
    /* nobody would */
    GW_NO_CONTENT,         /* status without content, or part of one (206) */
    GW_ALREADY_ENCODED,    /* or a range of something */
    GW_TYPE_NOT_LISTED,    /* or none is given */
    GW_SIZE_OUT_OF_BOUNDS, /* min_size, max_size */
    GW_NO_TRANSFORM,       /* the response forbids it */
};
/* What a verdict stands on: the request's fields and version, and the response's head. content_length SIZE_MAX:
 * unknown. */
struct gw_compression_question {
    const h2o_header_t *headers;
    size_t num_headers;
    bool is_http10;
    int status;
    const h2o_headers_t *fields;
    size_t content_length;
};
enum gw_compression_verdict gw_compression_judge(const struct gw_compression *, const struct gw_compression_question *,
                                                 enum gw_coding *);

/* Says in the trace what the settings make of the request and, when question is not NULL, of an answer known already.
 */
void gw_compression_explain(const struct gw_compression *, struct gw_trace *, const struct gw_compression_question *);
/* Live requests, before the response starts: it will pass the filter. The settings live as long as the request. */
void gw_compression_offer(struct gw_request *, const struct gw_compression *);
/* The bytes that the source of the response has handed over are about to go away, and the response with them. */
void gw_compression_cut(struct gw_request *);
/* The response's trailers are there: those that are about other bytes than the client gets are taken away. */
void gw_compression_see_trailers(const struct gw_request *);
/* The request is over. */
void gw_compression_release(struct gw_request *);

/* A thread's share: encoders, work that waits for its turn, counters. */
struct gw_compressor {
    struct gw_thread *thread;
    struct gw_encoder_memory *memory;
    h2o_linklist_t waiting;  /* loop: streams whose input waits, first come first served */
    struct gw_deferred run;  /* loop */
    uint64_t turn, spent_us; /* loop: of this turn */
    struct {
        gw_counter responses[GW_CODING_COUNT], bytes_in[GW_CODING_COUNT], bytes_out[GW_CODING_COUNT];
        gw_counter skipped; /* for want of memory */
        gw_counter put_off; /* times that work had to wait for a later turn */
    } stats;
};
struct gw_compressor *gw_compressor_create(struct gw_thread *);
void gw_compressor_destroy(struct gw_compressor *); /* no response passes it any more */
