/* The admin listener on the control thread: HTTP over a Unix socket (and an optional TCP address): /healthz (the
 * process lives), /readyz (the first snapshot is active and weir is not draining), /metrics (Prometheus), /status
 * (JSON). */
#pragma once
#include "gateway/process.h"

struct gw_admin;
struct gw_admin *gw_admin_create(struct gw_process *);
void gw_admin_destroy(struct gw_admin *);
/* Opens or moves its listeners as the active snapshot's config says; called on the control thread after each load. A
 * default Unix path that cannot be opened is a warning, a written one an error (false). A stale socket file nobody
 * listens on is replaced; a live one or another kind of file is not. */
bool gw_admin_configure(struct gw_admin *, const struct gw_config *, struct gw_errors *);
/* `weir status`, `weir reload`: clients of the admin socket. */
int gw_command_status(int argc, char **argv);
int gw_command_reload(int argc, char **argv);
