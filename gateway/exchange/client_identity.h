/* X-Amzn-Mtls-* request fields (spec/alb.md 1.4), or what listeners call them: only weir says who a client is by its
 * certificate. */
#pragma once
#include "gateway/http/stream.h"

struct gw_snapshot;
struct gw_identity;

/* The names of a configuration's listeners. NULL: all have the usual ones. Immutable; it belongs to the snapshot, whose
 * config it refers to. */
struct gw_identity *gw_identity_create(const struct gw_snapshot *);
void gw_identity_destroy(struct gw_identity *); /* NULL is fine */

/* Takes away what a client sent under any of these names; returns how many fields are left. */
size_t gw_client_identity_strip(const struct gw_identity *, h2o_header_t *fields, size_t num_fields);
/* The same for a stream, then adds what its connection's certificate says: from here on routes, scripts and targets see
 * fields like any others. listener: index of the connection's; UINT32_MAX: it is not named any more. */
void gw_client_identity_apply(struct gw_stream *, const struct gw_identity *, uint32_t listener);
