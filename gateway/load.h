/* Loading a configuration into a running process: build off the loops, open what it listens on, publish, or change
 * nothing. */
#pragma once
#include "gateway/process.h"

/* At start-up, before the workers run. Takes the config. */
bool gw_load_first(struct gw_process *, struct gw_config *, struct gw_errors *);
