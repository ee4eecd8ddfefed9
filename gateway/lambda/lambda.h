/* Forwarding to a Lambda function: the request as an event, posted to an Invoke endpoint; the function's JSON as the
 * response (spec/alb.md 6). On the worker's thread; everything in the request's pool but the two bodies. */
#pragma once
#include "gateway/request.h"

/* Asks the target chosen by gw_exchange_choose, whose group has `lambda`, and answers. */
void gw_lambda_start(struct gw_request *);
/* The request is over, for whatever reason. */
void gw_lambda_release(struct gw_request *);
/* The name that an Application Load Balancer's log has for a reason, "LambdaThrottling"; NULL: it has none. */
const char *gw_lambda_error_reason(enum gw_reason);
