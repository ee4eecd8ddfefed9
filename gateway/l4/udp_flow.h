/* Inside of listeners of protocol udp, shared by udp_listener.c (sockets and datagrams), udp_flow.c (the life of a
 * flow) and udp_table.c (who is who). All of it on one thread. */
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>
#include "gateway/l4/udp.h"

struct gw_udp_listener;

/* Who sends where. Zero-filled before it is set: compared and hashed as bytes. */
struct gw_udp_key {
    struct gw_ip peer, local; /* local: all zero where the listener has one address only */
    uint16_t peer_port, unused;
    uint32_t scope; /* interface of a link-local address */
};

union gw_udp_address {
    struct sockaddr sa;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct gw_udp_flow {
    struct gw_udp_flow *next; /* in its bucket; then in the graveyard */
    uint64_t hash;
    struct gw_udp_key key;
    union gw_udp_address peer;
    socklen_t peer_len;
    int fd;              /* connected to the target; -1: the flow is over */
    h2o_linklist_t link; /* in listener->unproven or ->proven */
    struct gw_udp_listener *listener;
    struct gw_l4_stats *stats;
    /* the target */
    const struct gw_endpoint *endpoint; /* held, and with it what stands beside it */
    struct routing_health *health;
    struct routing_target_load *load; /* counted at it; NULL: the group does not count */
    struct gw_target_slot *slot;
    uint64_t tried;     /* bit set of targets that refused, since it was compared */
    uint64_t epoch;     /* when it was last compared with the configuration */
    uint32_t version;   /* of the group's state then */
    uint32_t attempts;  /* targets */
    uint32_t responses; /* to each datagram; 0: any number */
    bool is_proven;     /* its client has spoken after an answer: it is there, nobody has made its address up */
    bool has_answer, is_used, is_refused, is_counted, notes_outcomes;
    char *proxy; /* PROXY header that goes before each datagram; malloc, NULL: none */
    size_t proxy_len;
    struct gw_timer timer;
    uint64_t idle_timeout_ms, active_ms;
    uint64_t started_us, answered_us; /* answered_us 0: never */
    uint64_t datagrams_in, datagrams_out, bytes_in, bytes_out;
};

struct gw_udp_table {
    struct gw_udp_flow **buckets;
    size_t num_buckets; /* a power of two */
    size_t size;
};

/* One address in one thread. */
struct gw_udp_listener {
    h2o_linklist_t link; /* in udp->listeners */
    struct gw_udp *udp;
    struct gw_listening *listening; /* the process's; there until every thread has let go */
    h2o_socket_t **socks;           /* over copies of the descriptors; none: no thread's share came here */
    size_t num_socks;
    uint32_t index;            /* in the current snapshot; UINT32_MAX: no longer named */
    uint64_t unnamed_at;       /* the generation that did not name it */
    struct gw_l4_stats *stats; /* of the listener, with no group */
    uint16_t port;
    bool is_v6, is_wildcard;
    struct gw_udp_table table;
    h2o_linklist_t unproven, proven; /* flows, the oldest first */
    uint64_t behind_since_ms;        /* more comes than is read, turn after turn; 0: it does not */
    unsigned newcomers;              /* flows that may still be begun in this turn */
    struct gw_timer deadline;        /* of one that is no longer named */
};

enum { GW_UDP_DATAGRAM = 65536, GW_UDP_BATCH_IN = 32, GW_UDP_BATCH_OUT = 64, GW_UDP_CONTROL = 64 };

/* Datagrams that are received and sent together. */
struct gw_udp_batch {
    struct mmsghdr *msgs;
    struct iovec *iovs;
    char *bytes; /* GW_UDP_DATAGRAM for each; touched only as far as datagrams fill them */
    union gw_udp_address *peers;
    char (*control)[GW_UDP_CONTROL];
    unsigned size;
};

struct gw_udp {
    struct gw_worker *worker;
    h2o_linklist_t listeners;
    size_t num_flows;
    uint64_t seed[2]; /* clients choose what is hashed */
    int epoll;        /* of the flows' sockets */
    h2o_socket_t *poll;
    struct gw_udp_batch in, out;
    struct mmsghdr onward[GW_UDP_BATCH_IN]; /* of one flow, to its target */
    struct iovec onward_iovs[GW_UDP_BATCH_IN][2];
    struct gw_udp_listener *out_by; /* whose socket sends what is in `out` */
    bool is_in_turn;                /* events of flows are being looked at: none is freed before the end of it */
    struct gw_udp_flow *graveyard;
    bool is_draining;
    uint64_t epoch;       /* moves on with every configuration, and with every change of targets */
    uint64_t logged_at_s; /* evictions: */
    unsigned num_logged;  /* in that second */
};

/* udp_table.c */
uint64_t gw_udp_hash(const struct gw_udp *, const struct gw_udp_key *);
struct gw_udp_flow *gw_udp_table_find(const struct gw_udp_table *, uint64_t hash, const struct gw_udp_key *);
void gw_udp_table_add(struct gw_udp_table *, struct gw_udp_flow *);
void gw_udp_table_remove(struct gw_udp_table *, struct gw_udp_flow *);
void gw_udp_table_dispose(struct gw_udp_table *);
/* Reads who sent a datagram and to which of our addresses. False: nobody who could be answered. */
bool gw_udp_read_key(const struct gw_udp_listener *, const struct msghdr *, struct gw_udp_key *);
/* The ancillary data that answers from the address that the client wrote to; sets msg_control. buf: GW_UDP_CONTROL. */
void gw_udp_write_control(const struct gw_udp_listener *, const struct gw_udp_key *, struct msghdr *, char *buf);

/* udp_flow.c */
/* A new flow for what came from key; NULL: refused, and counted. */
struct gw_udp_flow *gw_udp_admit(struct gw_udp_listener *, const struct gw_udp_key *, uint64_t hash,
                                 const struct msghdr *);
/* Before a datagram goes to the target: sees whether that is still the one. */
void gw_udp_review(struct gw_udp_flow *);
/* The target refused (ICMP): true when there is another one now. */
bool gw_udp_refused(struct gw_udp_flow *);
/* The target has answered, and did not before. */
void gw_udp_answered(struct gw_udp_flow *);
void gw_udp_end(struct gw_udp_flow *, enum gw_reason);
/* For flows that ended within a turn. */
void gw_udp_bury(struct gw_udp *);
void gw_udp_shorten(struct gw_udp_flow *, uint64_t idle_timeout_ms);
static inline bool gw_udp_is_stale(const struct gw_udp_flow *flow)
{
    return flow->epoch != flow->listener->udp->epoch ||
           flow->version != __atomic_load_n((const uint32_t *)&flow->health->group->version, __ATOMIC_RELAXED);
}
static inline struct gw_l4_slot *gw_udp_counters(const struct gw_udp_flow *flow)
{
    return &flow->stats->slots[flow->listener->udp->worker->thread.index];
}

/* udp_listener.c */
void gw_udp_drop(struct gw_udp_listener *, enum gw_udp_dropped);
