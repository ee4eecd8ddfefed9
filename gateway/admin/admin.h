/* The admin listener on the control thread: HTTP over a Unix socket (and an optional TCP address). What it serves is in
 * admin_api.c; who may ask is in admin_access.c. */
#pragma once
#include "gateway/process.h"
#include "gateway/admin/recent.h"
#include "gateway/admin/reloads.h"
#include "gateway/admin/traffic.h"

struct gw_admin;
struct gw_admin *gw_admin_create(struct gw_process *);
void gw_admin_destroy(struct gw_admin *);
/* Takes no further connection, for another worker does; those that are there go on. */
void gw_admin_close_doors(struct gw_admin *);
bool gw_admin_has_successor(const struct gw_admin *);
bool gw_admin_is_idle(const struct gw_admin *); /* no request is being answered */
/* Opens or moves its listeners as the active snapshot's config says; called on the control thread after each load. A
 * default Unix path that cannot be opened is a warning, a written one an error (false). A stale socket file nobody
 * listens on is replaced; a live one or another kind of file is not. */
bool gw_admin_configure(struct gw_admin *, const struct gw_config *, struct gw_errors *);

/* What operators are shown beyond the counters; all on the control thread. */
struct gw_recent *gw_admin_recent(struct gw_admin *);
struct gw_reloads *gw_admin_reloads(struct gw_admin *);
struct gw_traffic *gw_admin_traffic(struct gw_admin *);
