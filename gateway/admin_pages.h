/* What the admin listener shows: built from the process's counters and its active snapshot. Control thread only;
 * counters of the workers are read relaxed, each whole. */
#pragma once
#include "gateway/base/json.h"
#include "gateway/base/metrics.h"
#include "gateway/process.h"

/* /metrics: below 2,000 series whatever the configuration's size (the budget of each family is in metrics_page.c). */
void gw_metrics_page(struct gw_process *, struct gw_exposition *);
/* /status */
void gw_status_page(struct gw_process *, struct gw_json *);
