/* Sends the spans of finished requests to a collector, OTLP over HTTP in JSON, from a thread of its own: loops only put
 * a record into a bounded queue. What does not fit, or what the collector does not take, is dropped and counted.
 * Functions are safe from any thread unless they say otherwise. */
#pragma once
#include "gateway/observe/span.h"

struct gw_tracing;
struct gw_tracing *gw_tracing_create(void); /* does nothing until it is configured */
/* Sends what is queued for at most two seconds, then ends the thread; the rest is counted as dropped. NULL is fine. */
void gw_tracing_destroy(struct gw_tracing *);
/* By a load, on the control thread: where spans go from now on; NULL: none are expected. Copied. False and an error
 * when the thread cannot be started. */
bool gw_tracing_configure(struct gw_tracing *, const struct gw_tracing_conf *, struct gw_errors *);

/* Takes the record. Never blocks longer than a short lock. */
void gw_tracing_take(struct gw_tracing *, struct gw_span_record *);
uint64_t gw_tracing_exported(const struct gw_tracing *); /* spans */
uint64_t gw_tracing_dropped(const struct gw_tracing *);
