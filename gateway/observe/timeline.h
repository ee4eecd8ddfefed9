/* When the parts of a request happened and what each attempt at a target came to: for traces and for the access log
 * formats that say more than the JSON line. Kept only where somebody asks; a request without one has timeline NULL.
 * From the request's pool, on its thread; times are CLOCK_MONOTONIC, 0 = did not happen. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "gateway/reason.h"

enum { GW_TIMELINE_ATTEMPTS = 8 }; /* further ones overwrite the last */

struct gw_attempt {
    uint64_t started_us, sent_us, first_byte_us, ended_us;
    uint64_t span_id; /* not 0 */
    const struct routing_target *target;
    enum gw_reason failure; /* GW_REASON_NONE: none */
    int status;             /* of the target's response head, 0 = none */
};

struct gw_timeline {
    uint64_t response_us; /* the response of a target began to leave */
    unsigned num_attempts;
    struct gw_attempt attempts[GW_TIMELINE_ATTEMPTS];
};

static inline struct gw_attempt *gw_timeline_last(struct gw_timeline *timeline)
{
    return timeline->num_attempts != 0 ? &timeline->attempts[timeline->num_attempts - 1] : NULL;
}
