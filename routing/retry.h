/* When a request may be sent again, and how often (spec/cloudfront.md 1.3 and 1.5; RFC 9110 9.2.2). Pure decisions from
 * plain inputs; no thread of their own. */
#pragma once
#include "routing/config.h"

/* What holds for a group without `retry`: a target that cannot be connected to is passed over, twice at most. */
extern const struct routing_retry_conf routing_retry_default;

/* How many requests may be sent again: each request pays in a share of a retry, each retry takes a whole one. What a
 * second paid in may be used until the end of the next, so that a quiet day does not pay for a storm; a group for which
 * this is little has ten a second instead, so that its only failing target does not show. Targets that are all down get
 * at most 1 + budget of the load. One thread's, zero-filled before the first use. */
struct routing_budget {
    uint64_t began_ms; /* CLOCK_MONOTONIC: of this second */
    uint32_t saved;    /* thousandths of a retry, as all of these: left over from the second before */
    uint32_t paid, taken;
    bool pays_for_itself; /* the second before paid in more than the ten */
};
void routing_budget_pay(struct routing_budget *, double percent, uint64_t now_ms);
/* percent: the same as that of routing_budget_pay. False: it is spent, or there is none (0). */
bool routing_budget_take(struct routing_budget *, double percent, uint64_t now_ms);

/* RFC 9110 9.2.2 */
bool routing_is_idempotent(h2o_iovec_t method);
/* GET, HEAD, OPTIONS: the methods that may go to a fallback (spec/cloudfront.md 1.5) */
bool routing_may_fail_over(h2o_iovec_t method);

/* Milliseconds before try number `nth` (1 is the second try): doubled each time, between half of it and all of it, so
 * that clients that failed together do not come back together. */
uint64_t routing_backoff_ms(const struct routing_retry_conf *, unsigned nth, uint64_t random);
