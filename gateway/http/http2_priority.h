/* The value of a Priority field (RFC 9218 4): a dictionary of RFC 8941 of which we know u and i. Pure. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <h2o/memory.h>

/* False: malformed, to be ignored. What the value does not say is the default: urgency 3, not incremental. */
bool gw_http2_priority_parse(h2o_iovec_t value, uint32_t *urgency, int *is_incremental);
