/* The stages of a request: facts, route, limits, action. One list (at the end of pipeline.c) that live traffic and
 * `weir explain` both run. A request's stages all run on the thread that owns it. */
#pragma once
#include "gateway/request.h"

/* What a stage returns. */
enum gw_step {
    GW_NEXT,     /* the next stage decides */
    GW_ANSWERED, /* the request has its answer; no further stage runs */
    GW_PARKED,   /* something under way will answer it, or call gw_pipeline_resume */
};

/* Runs the stages on a request whose snapshot, listener, headers and (live) stream are set. In explain (stream NULL)
 * the action is decided and told to the trace, not carried out. */
void gw_pipeline_run(struct gw_request *);
/* Runs the stages after the one that returned GW_PARKED. */
void gw_pipeline_resume(struct gw_request *);
