/* Trailer fields (RFC 9110 6.5): which may be passed on, and those of chunked bodies. Pure functions. */
#pragma once
#include <stdbool.h>
#include <h2o.h>

/* Not one that frames, routes, authenticates, controls or describes a message, which a recipient that has acted upon
 * the head would get too late or not notice (RFC 9110 6.5.1). name in any case. */
bool gw_trailer_is_allowed(h2o_iovec_t name);
