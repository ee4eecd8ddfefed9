/* The load of target groups that have limits (routing/limit.h), by name: a reload keeps what is counted. Any thread. */
#pragma once
#include "routing/limit.h"

struct gw_group_loads;
struct gw_group_loads *gw_group_loads_create(void);
void gw_group_loads_destroy(struct gw_group_loads *); /* every load has been released. NULL is fine */
/* Made when there is none of that name; held until the release. */
struct routing_load *gw_group_load_hold(struct gw_group_loads *, h2o_iovec_t group);
void gw_group_load_release(struct gw_group_loads *, struct routing_load *); /* NULL is fine */
