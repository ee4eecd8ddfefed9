/* How a process comes to its first configuration: from the files, or, when it replaces a worker that died and the files
 * are broken by now, from what that worker had read. */
#pragma once
#include "gateway/process.h"

struct gw_first_load {
    struct gw_errors errors;      /* of the configuration that is used, or of the last that was tried */
    struct gw_errors disk_errors; /* of the files, when what was kept serves in their place */
    struct gw_kept_files *kept;   /* read from the files, for the next; or what was kept */
    bool is_from_kept;
};

/* Loads, and becomes the user that the configuration names (with a supervisor; without one the sockets are not open
 * yet). NULL: all has been said. */
struct gw_config *gw_first_load_begin(struct gw_first_load *, const char *path, struct gw_supervised *);
/* Takes the config into service. */
bool gw_first_load_finish(struct gw_first_load *, struct gw_process *, struct gw_config *);
