/* Spans of a request for an OpenTelemetry collector: one of kind server, and one of kind client for every attempt at a
 * target. While the request runs its trace context is in the request's pool; when it is over, and only if the trace is
 * sampled, the spans are written as JSON (OTLP 1.x) into a record that outlives it. On the request's thread. */
#pragma once
#include "gateway/request.h"

struct gw_span {
    uint64_t id;             /* of the server span; not 0 */
    h2o_iovec_t parent_id;   /* 16 hex digits; base NULL: the trace begins here */
    h2o_iovec_t trace_state; /* the first tracestate field that came with it */
    char *sent_id;           /* 16 digits of request->traceparent: each attempt sends its own */
};

/* The spans of one request, ready for an export. Heap; freed with free(). */
struct gw_span_record {
    struct gw_span_record *next;
    uint32_t num_spans;
    size_t len;
    char json[]; /* {..},{..} */
};

/* Tracing is on: continues the trace of a valid traceparent field (NULL: there is none) or begins one. Sets
 * request->traceparent (a new one of version 00 with an id of our own as parent), trace_id, is_new_trace, and span when
 * the trace is sampled. */
void gw_span_begin(struct gw_request *, const struct gw_tracing_conf *, const h2o_header_t *traceparent,
                   struct gw_thread *);
/* The request is over: finished_us is set. now_ns: wall clock at finished_us. */
struct gw_span_record *gw_span_record_create(const struct gw_request *, uint64_t now_ns);

/* W3C Trace Context: low 56 bits of the trace id against the share, as other tracers do. percent 0..100. */
bool gw_span_is_sampled(h2o_iovec_t trace_id, double percent);
/* Values that open doors are replaced: AWSAccessKeyId, Signature, sig, X-Goog-Signature (OpenTelemetry semantic
 * conventions, url.query). From the pool where something was. */
h2o_iovec_t gw_span_redact_query(h2o_mem_pool_t *, h2o_iovec_t query);
