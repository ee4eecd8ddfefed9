/* One call of a Lambda Invoke endpoint, plain or signed. */
#pragma once
#include "gateway/upstream/client.h"
#include "routing/config.h"

enum { GW_LAMBDA_CALL_FIELDS = 6, GW_LAMBDA_CALL_NAMES = 4 };

/* What a request borrows; lives as long as it. */
struct gw_lambda_call {
    struct gw_client_request out;
    h2o_header_t fields[GW_LAMBDA_CALL_FIELDS]; /* of out */
    h2o_iovec_t names[GW_LAMBDA_CALL_NAMES];
};
/* The call that posts the event; signed with the time as it is now. Further memory from the pool. default_host: Host of
 * an endpoint that the settings give none. */
void gw_lambda_call_fill(struct gw_lambda_call *, h2o_mem_pool_t *, const struct routing_lambda_conf *,
                         h2o_iovec_t default_host, const struct gw_transport *, h2o_iovec_t event);
/* What the function is told about its target group. */
h2o_iovec_t gw_lambda_target_group_arn(h2o_mem_pool_t *, const struct routing_lambda_conf *, h2o_iovec_t group);

/* The reply to a call, up to the size a function may return. Zero-filled before the first byte. */
struct gw_lambda_reply {
    int status;             /* of the call */
    bool is_function_error; /* X-Amz-Function-Error */
    char *base;             /* owned */
    size_t size, room;
};
void gw_lambda_reply_begin(struct gw_lambda_reply *, const struct gw_response_head *);
/* False: it is too large. */
bool gw_lambda_reply_add(struct gw_lambda_reply *, h2o_iovec_t bytes);
void gw_lambda_reply_dispose(struct gw_lambda_reply *);
