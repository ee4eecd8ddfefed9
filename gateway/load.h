/* Loading a configuration into a running process: build off the loops, open what it listens on, publish, or change
 * nothing. */
#pragma once
#include "gateway/process.h"

/* Control thread: health checks are those of the snapshot's groups and the targets they have now. */
void gw_load_set_checks(struct gw_process *, const struct gw_snapshot *);
/* At start-up, before the workers run. Takes the config. False after errors. */
bool gw_load_first(struct gw_process *, struct gw_config *, struct gw_errors *);
/* gw_config_load that may read standard input ("-") again, where that can be done (a supervisor keeps it for its
 * workers). */
struct gw_config *gw_load_config(const char *path, struct gw_errors *);
/* What serves is not what the files say: shown in status and metrics. */
void gw_load_note_failure(struct gw_process *, const struct gw_errors *);
/* Control thread: waits until the thread of the last reload has ended, a moment after it has told its result; at most
 * two seconds for one that is in the middle of its work. */
void gw_load_join(struct gw_process *);
