/* Listeners of protocol udp. A flow is what comes from one address and port of a client to one of our addresses: it has
 * a socket of its own, connected to its target, so that the kernel tells answers (and ICMP errors) of flows apart. The
 * kernel spreads clients over the sockets of the threads by address and port (SO_REUSEPORT), so a flow belongs to the
 * thread that saw it first. Flows belong to their thread and outlive configurations. */
#pragma once
#include "gateway/l4/l4.h"

struct gw_udp;

/* On the loop of the worker, all of it. With the new snapshot current: listens where it does anew; a listener that it
 * does not name takes no new flow, and closes with its last one or after shutdown_timeout. */
void gw_udp_publish(struct gw_worker *, const struct gw_publication *);

/* Targets of groups have changed. */
void gw_udp_look_anew(struct gw_worker *);
/* The endpoint is gone, and so is the time that its flows had. */
void gw_udp_cut(struct gw_worker *, const struct gw_endpoint *);

enum gw_udp_drain {
    GW_UDP_FINISH, /* nobody else reads: flows go on until they are quiet */
    GW_UDP_LEAVE,  /* another process reads the sockets: answers under way are still passed on */
};
void gw_udp_drain(struct gw_worker *, enum gw_udp_drain);
/* Cuts off what is left. */
void gw_udp_stop(struct gw_worker *);
/* What the limit of open files leaves for flows, each of which has one: any thread. */
int64_t gw_udp_max_flows(void);
/* It has flows, or they are on their way to the next process. NULL: no. */
bool gw_udp_is_busy(const struct gw_udp *);
