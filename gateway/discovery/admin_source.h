/* Targets that the admin API has added. They stay over reloads, and where there is a state_dir in a file of it
 * (targets.json), so that the next process has them too. Control thread. */
#pragma once
#include "gateway/discovery/discovery.h"

struct gw_admin_targets;
struct gw_admin_targets *gw_admin_targets_create(struct gw_process *);
void gw_admin_targets_destroy(struct gw_admin_targets *);
/* Those of the process before this one; once, before anything is served. */
void gw_admin_targets_load(struct gw_admin_targets *, const struct gw_config *);
/* Something has changed: the file is written soon. */
void gw_admin_targets_keep(struct gw_process *);
