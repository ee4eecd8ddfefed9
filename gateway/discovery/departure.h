/* Endpoints that no configuration and no source has any more. They get no new requests; those under way go on for the
 * group's deregistration_delay, then they are cut off. An endpoint that nobody speaks of any more is forgotten by all
 * who know it: pools, health checks, statistics. So is a group. Control thread, but for what the workers are told. */
#pragma once
#include "gateway/process.h"

struct gw_departures;
struct gw_departures *gw_departures_create(struct gw_process *);
void gw_departures_destroy(struct gw_departures *);

/* It leaves; told to the workers by the next gw_departures_tell. Fine when it is leaving. */
void gw_departures_add(struct gw_departures *, struct gw_endpoint_entry *, uint64_t delay_ms);
/* It is back. False: it was not leaving. */
bool gw_departures_take_back(struct gw_departures *, struct gw_endpoint_entry *);
/* A configuration without some groups is about to be served (gw_group_entry.is_leaving): they are forgotten when nobody
 * holds them any more. */
void gw_departures_look_at_groups(struct gw_departures *);
/* Tells every worker that members have changed, and which endpoints to let go of. */
void gw_departures_tell(struct gw_departures *);

static inline bool gw_endpoint_is_leaving(const struct gw_endpoint_entry *entry)
{
    return h2o_linklist_is_linked((h2o_linklist_t *)&entry->departure.link);
}
/* Of the endpoints that are leaving: those of a group (NULL: all) at which requests are under way. */
void gw_departures_each(const struct gw_process *, const struct gw_group_entry *,
                        void (*see)(void *data, const struct routing_target *), void *data);
