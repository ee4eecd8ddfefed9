/* The way of a request (design section 3): one list of stages, run by live traffic and by `weir explain` alike. */
#pragma once
#include "gateway/request.h"

enum gw_step { GW_NEXT, GW_ANSWERED, GW_PARKED };

/* Runs the stages on a request whose snapshot, listener, headers and (live) stream are set. In explain (stream NULL)
 * the action is decided and told to the trace, not carried out. */
void gw_pipeline_run(struct gw_request *);
/* Goes on behind the stage that has parked the request. */
void gw_pipeline_resume(struct gw_request *);
