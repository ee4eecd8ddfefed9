/* What `weir explain` says of a forwarded request once its target is chosen: how the target is spoken to, how long weir
 * waits for it, what bounds the group has and how much of them is used. */
#pragma once
#include "gateway/request.h"

/* Writes to request->trace, which is not NULL; request->group is set, the target may be none. */
void gw_explain_target(const struct gw_request *);
