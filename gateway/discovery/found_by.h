/* Where a target of a decision comes from, for `explain`. */
#pragma once
#include "gateway/request.h"

/* After the target was chosen, or none. On the control thread, where it can say who found what; elsewhere (a decision
 * without a process) it tells which entries find targets at run time. */
void gw_discovery_explain(const struct gw_request *);
