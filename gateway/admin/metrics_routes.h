/* The families of the metrics page that have series for routes: at most 1,335 of its 2,000 series. Control thread. */
#pragma once
#include "gateway/base/metrics.h"

struct gw_process;
void gw_metrics_put_routes(struct gw_exposition *, struct gw_process *);
