/* Who fails more than the others: ejection of outliers, and the milder mitigation of anomalies (spec/alb.md 3.3). Pure
 * decisions from counts and the time; the control thread keeps the state and carries them out
 * (gateway/exchange/outliers.h). */
#pragma once
#include "routing/config.h"

enum routing_outlier_why {
    ROUTING_OUTLIER_NOT,
    ROUTING_OUTLIER_5XX,
    ROUTING_OUTLIER_GATEWAY,
    ROUTING_OUTLIER_SUCCESS_RATE,
    ROUTING_OUTLIER_LATENCY,
    ROUTING_OUTLIER_COUNT
};
const char *routing_outlier_name(enum routing_outlier_why); /* "consecutive_5xx" ... */

/* One target's standing. Zero-filled before the first use. */
struct routing_outlier {
    uint64_t until_ms; /* ejected; 0: it is not */
    uint32_t times;    /* ejections that count for the length of the next one; a quiet interval takes one off */
    enum routing_outlier_why why;
    bool is_back; /* since the last comparison: it was not in for all of that interval */
};
/* May one more be ejected? One always may, of two or more. */
bool routing_outlier_may_eject(const struct routing_outlier_conf *, size_t num_ejected, size_t num_targets);
void routing_outlier_eject(struct routing_outlier *, const struct routing_outlier_conf *, enum routing_outlier_why,
                           uint64_t now_ms);
/* True: the time is over, and it takes requests again. */
bool routing_outlier_return(struct routing_outlier *, uint64_t now_ms);
/* An interval without ejection is over: one less counts, unless it was out for a part of it. */
void routing_outlier_calm(struct routing_outlier *);

/* What a target did in one interval. */
struct routing_outlier_sample {
    uint64_t requests, failures; /* failures: responses 5xx and attempts without a response */
    uint64_t latency_us;         /* sum over the responses */
    bool is_out;                 /* ejected: neither judged nor compared with */
};
/* Each target against the others; why receives n verdicts. */
void routing_outlier_compare(const struct routing_outlier_conf *, const struct routing_outlier_sample *, size_t n,
                             enum routing_outlier_why *why);

/* What is left of the weights of weighted_random after the next five seconds, of ROUTING_SHARE_ALL: an anomalous target
 * is cut to what is needed to go on measuring it, and comes back by steps. At least three targets are needed to tell.
 */
enum { ROUTING_ANOMALY_INTERVAL_MS = 5000 };
void routing_anomaly_adjust(double threshold_percent, const struct routing_outlier_sample *, size_t n,
                            uint32_t *shares);
