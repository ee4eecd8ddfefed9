/* Passive health: what requests found out about targets (routing/outlier.h decides). Workers count in
 * routing_target_load, the control thread ejects, brings back, and takes the shares of anomalous targets. One state per
 * group and process. */
#pragma once
#include "gateway/request.h"

struct gw_outliers;
struct gw_process;
/* Worker: a try ended with a response, or without (status 0). Only for groups with notes_outcomes. */
void gw_outliers_note(struct gw_worker *, const struct routing_target_group *, uint32_t target, int status);

/* Control thread from here on. A snapshot is about to be served. */
void gw_outliers_configure(struct gw_process *, const struct gw_snapshot *);
/* The checks changed a target's state: begins its slow start. */
void gw_outliers_on_health(struct gw_process *, h2o_iovec_t group, const struct routing_health *);
/* What is kept of a group that is gone. NULL is fine. */
void gw_outliers_destroy(struct gw_outliers *);
/* An operator wants the target back. */
void gw_outliers_pardon(struct gw_process *, const struct routing_target *);
/* Ejections by reason since the start (routing_outlier_name), indexes 1 to ROUTING_OUTLIER_COUNT - 1. */
const uint64_t *gw_outliers_counts(const struct gw_process *);
