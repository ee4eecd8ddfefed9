/* Flows go from the worker that ends to the one that serves after it (`weir upgrade`): each with its socket to the
 * target, which sees no difference. A flow has one owner at any time. The old worker reads the listening sockets until
 * it has given its last flow; what comes for flows that are gone, or for new ones, it passes on in between. The new one
 * reads them when the old one has said that it does not, so every datagram is either there or in the kernel's queue.
 *
 * When it does not go that far (one of the two dies, hangs or is too old to know of it), flows end as they do without:
 * the new worker begins them anew, the old one passes answers on for a while. */
#pragma once
#include "gateway/l4/udp.h"

/* Control thread of the worker that ends, before it is told to drain. Takes the descriptor. takes_bundles: the worker
 * after it knows of them; for an older one, none are left in the sockets. */
void gw_udp_hand_over(struct gw_process *, int fd, bool takes_bundles);
/* Control thread of the one after it. Takes the descriptor; -1: there is nobody to take over from. */
void gw_udp_take_over(struct gw_process *, int fd);
/* Sockets are not to be read yet: any thread. */
static inline bool gw_udp_awaits_flows(const struct gw_process *process)
{
    return __atomic_load_n((const bool *)&process->awaits_flows, __ATOMIC_ACQUIRE);
}

struct gw_udp_listener;
/* On the loop of the worker: a socket of the listener can be read while flows are being given. */
void gw_udp_give_datagrams(struct gw_udp_listener *, int fd);
/* There may be flows to give, or nothing is awaited any more. Fine when none are being given. */
void gw_udp_go_on_giving(struct gw_udp *);
