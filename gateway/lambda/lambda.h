/* Tries that go to Lambda functions: the request as an event, posted to an Invoke endpoint; the function's JSON as the
 * response (spec/alb.md 6). The exchange's part for such groups: who is asked and when again is decided in
 * exchange/exchange_try.c, as for everybody. On the worker's thread; in the request's pool but for bodies and events.
 */
#pragma once
#include "gateway/exchange/exchange_state.h"

/* The request's group is a function: takes the body in whole and makes the first try, or answers why not. */
void gw_lambda_begin(struct gw_exchange *);
/* A further piece of the body is in exchange->piece. */
void gw_lambda_gather(struct gw_exchange *);
/* Makes the event for the request's group, unless it is there. False: it cannot be one; the reason is set. */
bool gw_lambda_prepare(struct gw_exchange *, enum gw_reason *);
/* Posts it to the try's target. */
struct gw_client *gw_lambda_invoke(struct gw_try *, const struct gw_pool_limits *, const struct gw_client_timeouts *,
                                   bool allow_reuse);
void gw_lambda_end_try(struct gw_try *);
void gw_lambda_release(struct gw_exchange *);
/* Memory of limits.lambda_buffers: what is held counts in any case; false: it is more than the thread's share, so that
 * whoever asked fails and lets go. */
bool gw_lambda_hold(const struct gw_request *, size_t bytes);
void gw_lambda_let_go(const struct gw_request *, size_t bytes);

enum gw_reason gw_lambda_reason_of_client(enum gw_client_error);
/* The name that an Application Load Balancer's log has for a reason, "LambdaThrottling"; NULL: it has none. */
const char *gw_lambda_error_reason(enum gw_reason);
