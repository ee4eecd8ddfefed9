/* URL rewrites (spec/alb.md 2.7): regex on the canonical path, $1 groups in the replacement; first match only. */
#pragma once
#include "routing/config.h"

/* For the check of the section: the replacement uses only groups that the expression has. */
bool routing_rewrite_check(struct gw_loader *, const struct routing_rewrite_conf *);

struct routing_rewrite;
struct routing_rewrite *routing_rewrite_create(const struct routing_rewrite_conf *, struct gw_errors *);
void routing_rewrite_destroy(struct routing_rewrite *);
enum routing_rewrite_result { ROUTING_REWRITE_UNCHANGED, ROUTING_REWRITE_CHANGED, ROUTING_REWRITE_FAILED };
/* On CHANGED *target is path plus query, from the pool (else it is left alone); the request's query is kept unless the
 * replacement has its own
 * '?'. FAILED: the result would not be a valid request target (500 TransformInvalidPath). */
enum routing_rewrite_result routing_rewrite_apply(const struct routing_rewrite *, h2o_mem_pool_t *, h2o_iovec_t path,
                                                  h2o_iovec_t query, h2o_iovec_t *target);
/* The same for the Host that the target gets; host is in lower case, without port. FAILED: it would not be one. */
enum routing_rewrite_result routing_rewrite_host(const struct routing_rewrite *, h2o_mem_pool_t *, h2o_iovec_t host,
                                                 h2o_iovec_t *made);
