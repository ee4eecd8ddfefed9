/* What weir must know of gRPC (PROTOCOL-HTTP2.md of the gRPC project): to tell such requests, to answer their errors in
 * the only form that their clients understand, and to keep their deadlines. Pure but for the answer. */
#pragma once
#include "gateway/request.h"

/* A gRPC call: HTTP/2, POST, content-type application/grpc (spec/alb.md 1.5). */
bool gw_grpc_is_call(const struct gw_request *);
/* The group takes gRPC alone, and this is none: HTTP/2 and POST are wanted (spec/alb.md 3.2). Without a stream
 * (explain) the protocol is not known, and the method decides. */
bool gw_grpc_refuses(const struct gw_request *);
/* grpc-timeout in milliseconds, at least 1; 0: none or malformed, which gRPC servers judge themselves. */
uint64_t gw_grpc_timeout_ms(const h2o_header_t *fields, size_t num_fields);
/* The code that clients make of a bare HTTP status (http-grpc-status-mapping.md), or of our own reason. */
unsigned gw_grpc_status_of(enum gw_reason, int http_status);
/* A trailers-only response: 200, grpc-status and grpc-message. message: plain text. */
void gw_grpc_answer(struct gw_request *, enum gw_reason, unsigned code, const char *message);
/* Percent-encoded as grpc-message wants it, in the pool. */
h2o_iovec_t gw_grpc_encode_message(h2o_mem_pool_t *, const char *text);
