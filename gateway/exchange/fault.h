/* The `fault` policy: some requests wait, some are answered with an error, both on purpose. */
#pragma once
#include "gateway/pipeline.h"

/* A stage: draws, and parks a request that waits. In explain nothing is drawn, only told. */
enum gw_step gw_fault_stage(struct gw_request *);
/* The request is over or answered by somebody else: it waits no more. */
void gw_fault_release(struct gw_request *);
