/* When a request may be sent again, and how often (spec/cloudfront.md 1.3 and 1.5; RFC 9110 9.2.2). Pure decisions from
 * plain inputs; no thread of their own. */
#pragma once
#include "routing/config.h"

/* What holds for a group without `retry`: a target that cannot be connected to is passed over, twice at most. */
extern const struct routing_retry_conf routing_retry_default;

/* How many requests may be sent again: each request pays in a share of a retry, each retry takes a whole one, and a
 * trickle keeps quiet services from having none. Targets that are all down get at most 1 + budget of the load. One
 * thread's, zero-filled before the first use. */
struct routing_budget {
    uint32_t thousandths; /* of a retry */
    uint64_t refilled_ms; /* CLOCK_MONOTONIC */
};
void routing_budget_pay(struct routing_budget *, double percent);
/* False: it is spent. */
bool routing_budget_take(struct routing_budget *, uint64_t now_ms);

/* RFC 9110 9.2.2 */
bool routing_is_idempotent(h2o_iovec_t method);
/* GET, HEAD, OPTIONS: the methods that may go to a fallback (spec/cloudfront.md 1.5) */
bool routing_may_fail_over(h2o_iovec_t method);

/* Milliseconds before try number `nth` (1 is the second try): doubled each time, between half of it and all of it, so
 * that clients that failed together do not come back together. */
uint64_t routing_backoff_ms(const struct routing_retry_conf *, unsigned nth, uint64_t random);
