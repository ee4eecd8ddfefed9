/* Active health checks: one prober per process, on the control thread's loop. It knows endpoints, not snapshots: a load
 * hands it the list of what to probe; targets that stay keep their state and their place in the interval. */
#pragma once
#include "gateway/upstream/pool.h"
#include "routing/health.h"
#include "routing/config.h"

struct gw_check_kind;
struct gw_prober;
struct gw_prober_target {
    const struct gw_endpoint *endpoint; /* process lifetime while listed */
    struct routing_health *health;
    h2o_iovec_t group;                     /* name; copied */
    struct routing_health_check_conf conf; /* texts copied */
    const struct gw_transport *transport;  /* of the traffic; held. NULL: plain HTTP/1.1 */
    struct gw_check_kind *kind;            /* taken; NULL: what conf.protocol says */
    int send_proxy_protocol; /* of the traffic: checks of the same port are local to it. enum routing_proxy_protocol */
};
/* on_change runs on the control thread after a state change (log, metrics). */
struct gw_prober *gw_prober_create(struct gw_thread *,
                                   void (*on_change)(void *data, h2o_iovec_t group, const struct gw_endpoint *,
                                                     const struct routing_health *),
                                   void *data);
/* Runs on the control thread after every check, before on_change. */
void gw_prober_watch(struct gw_prober *,
                     void (*on_check)(void *data, const struct gw_endpoint *, const struct routing_health *,
                                      enum routing_probe, int status, uint64_t elapsed_us, uint64_t wall_ms),
                     void *data);
void gw_prober_destroy(struct gw_prober *);
/* Replaces the list. The first check of a new target starts at once, later ones are spread over the interval. */
void gw_prober_set_targets(struct gw_prober *, const struct gw_prober_target *, size_t num_targets);
