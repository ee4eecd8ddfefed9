/* What `weir explain` says of a forwarded request once its target is chosen: how the target is spoken to, how long weir
 * waits for it, what bounds the group has and how much of them is used. */
#pragma once
#include "gateway/request.h"

/* Writes to request->trace, which is not NULL; request->group is set, the target may be none. */
void gw_explain_target(const struct gw_request *);
/* Why the group would not let the request in at this moment; GW_REASON_NONE: it would. */
enum gw_reason gw_explain_bounds(const struct gw_request *);
/* The same where every target is full; GW_REASON_NONE: it would wait. */
enum gw_reason gw_explain_wait(const struct gw_request *);
