/* HTTP as Lambda functions behind an Application Load Balancer see it (spec/alb.md 6): a request becomes a JSON event,
 * the function's JSON becomes a response. Pure functions. */
#pragma once
#include <stdbool.h>
#include <h2o.h>

enum { GW_LAMBDA_MAX_BYTES = 1 << 20 }; /* of a request body, of a response's JSON */

struct gw_lambda_request {
    h2o_iovec_t method, path, query; /* as sent, not decoded; query base NULL: none */
    h2o_iovec_t host;                /* base NULL: none */
    const h2o_header_t *fields;
    size_t num_fields;
    h2o_iovec_t body;
    bool has_body;
    bool is_multi_value;
    h2o_iovec_t target_group_arn;
};
/* The event, to be freed with free(); base NULL: something is not UTF-8, which JSON cannot say. */
h2o_iovec_t gw_lambda_event(const struct gw_lambda_request *);

struct gw_lambda_response {
    int status;         /* 200 to 599 */
    const char *reason; /* of statusDescription; NULL: none was given */
    h2o_headers_t fields;
    h2o_iovec_t body;
};
/* Everything from the pool. False: *why is a literal that says what is wrong. */
bool gw_lambda_response_parse(h2o_mem_pool_t *, h2o_iovec_t json, bool is_multi_value, struct gw_lambda_response *,
                              const char **why);
