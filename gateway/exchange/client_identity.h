/* X-Amzn-Mtls-* request fields (spec/alb.md 1.4): only weir says who a client is by its certificate. */
#pragma once
#include "gateway/http/stream.h"

/* Takes away what a client sent under these names; returns how many fields are left. */
size_t gw_client_identity_strip(h2o_header_t *fields, size_t num_fields);
/* The same for a stream, then adds what its connection's certificate says: from here on routes, scripts and targets see
 * fields like any others. */
void gw_client_identity_apply(struct gw_stream *);
