/* Inside of listeners of protocol udp, shared by udp_listener.c (sockets), udp_datagrams.c (what they receive and
 * send), udp_flow.c (the life of a flow), udp_target.c (where it goes) and udp_table.c (who is who). All of it on one
 * thread. */
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>
#include "gateway/l4/udp.h"
#include "gateway/l4/udp_bundle.h"
#include "gateway/worker.h"

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
    uint32_t sock;      /* by which of the sockets of the address its client comes */
    bool is_proven;     /* its client has spoken after an answer: it is there, nobody has made its address up */
    bool has_answer, is_used, is_refused, is_counted, notes_outcomes;
    bool asks_bundles;                   /* of the kernel, for answers */
    bool has_bundles;                    /* among the answers that came last */
    uint32_t onward_limit, answer_limit; /* longer datagrams go alone: udp_bundle.h */
    char *proxy;                         /* PROXY header that goes before each datagram; malloc, NULL: none */
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

/* The kernel gives each client to one socket of the address, whatever process reads it. */
struct gw_udp_sock {
    h2o_socket_t *sock; /* over a copy of the descriptor */
    uint32_t index;     /* of listening->fds */
    bool is_waiting;    /* the process before this one may still read it */
    bool asks_bundles;  /* of the kernel */
};

/* One address in one thread. */
struct gw_udp_listener {
    h2o_linklist_t link; /* in udp->listeners */
    struct gw_udp *udp;
    struct gw_listening *listening; /* the process's; there until every thread has let go */
    struct gw_udp_sock *socks;      /* none: no thread's share came here */
    size_t num_socks;
    uint32_t sock;             /* index of the one that is being read */
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

enum { GW_UDP_BATCH_IN = 32, GW_UDP_BATCH_OUT = 64 };

/* What is received together. */
struct gw_udp_batch {
    struct mmsghdr *msgs;
    struct iovec *iovs;
    char *bytes; /* GW_UDP_DATAGRAM for each; touched only as far as they are filled */
    union gw_udp_address *peers;
    char (*control)[GW_UDP_CONTROL];
    struct gw_udp_bundle *bundles; /* what is in them */
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
    struct gw_udp_post post;
    bool can_bundle;
    struct gw_udp_listener *out_by; /* whose socket sends what is in `out` */
    bool is_in_turn;                /* events of flows are being looked at: none is freed before the end of it */
    struct gw_udp_flow *graveyard;
    bool is_draining;
    bool has_left;                /* the sockets are another process's to read */
    bool is_waiting;              /* still are the one's before this: udp_handover.h */
    struct gw_udp_giving *giving; /* flows are being given to the next one; NULL: they are not */
    uint64_t epoch;               /* moves on with every configuration, and with every change of targets */
    uint64_t logged_at_s;         /* evictions: */
    unsigned num_logged;          /* in that second */
};

/* udp_table.c */
uint64_t gw_udp_hash(const struct gw_udp *, const struct gw_udp_key *);
struct gw_udp_flow *gw_udp_table_find(const struct gw_udp_table *, uint64_t hash, const struct gw_udp_key *);
void gw_udp_table_add(struct gw_udp_table *, struct gw_udp_flow *);
void gw_udp_table_remove(struct gw_udp_table *, struct gw_udp_flow *);
void gw_udp_table_dispose(struct gw_udp_table *);
/* Reads who sent a datagram and to which of our addresses. False: nobody who could be answered. */
bool gw_udp_read_key(const struct gw_udp_listener *, const struct msghdr *, struct gw_udp_key *);
/* Adds the ancillary data that answers from the address that the client wrote to. msg_control: of GW_UDP_CONTROL. */
void gw_udp_write_control(const struct gw_udp_listener *, const struct gw_udp_key *, struct msghdr *);

/* udp_flow.c */
/* A new flow for what came from key; NULL: refused, and these datagrams counted. */
struct gw_udp_flow *gw_udp_admit(struct gw_udp_listener *, const struct gw_udp_key *, uint64_t hash,
                                 const struct msghdr *, unsigned count);
void gw_udp_end(struct gw_udp_flow *, enum gw_reason);
/* The flow goes on in another process, which has its socket: nothing is said of it. */
void gw_udp_part(struct gw_udp_flow *);
/* A flow that another process has had. fd: its socket; taken; -1: it needs a new one. */
struct gw_udp_wire_flow;
void gw_udp_adopt(struct gw_udp_listener *, const struct gw_udp_wire_flow *, h2o_iovec_t group, h2o_iovec_t target,
                  uint32_t sock, int fd);
/* For flows that ended within a turn. */
void gw_udp_bury(struct gw_udp *);
void gw_udp_shorten(struct gw_udp_flow *, uint64_t idle_timeout_ms);
/* The timeout counts from its last datagram on. */
void gw_udp_arm(struct gw_udp_flow *);
static inline uint64_t gw_udp_idle_ms(const struct gw_listener_conf *conf)
{
    return conf->idle_timeout_ms != 0 ? conf->idle_timeout_ms : UINT64_C(60) * 86400 * 1000;
}
static inline const struct gw_snapshot *gw_udp_snapshot(const struct gw_udp_listener *listener)
{
    return listener->udp->worker->held->snapshot;
}
/* NULL: the configuration has it no more. */
static inline const struct gw_snapshot_listener *gw_udp_configured(const struct gw_udp_listener *listener)
{
    return listener->index != UINT32_MAX ? &gw_udp_snapshot(listener)->listeners[listener->index] : NULL;
}

/* udp_target.c */
/* GW_REASON_NONE: it has one. */
enum gw_reason gw_udp_choose(struct gw_udp_flow *);
/* The one that it had in another process, or the next best when there it is no more. Takes fd, its socket; -1: it needs
 * a new one. False: none, and the reason. */
bool gw_udp_find_again(struct gw_udp_flow *, h2o_iovec_t group, h2o_iovec_t target, int fd, enum gw_reason *);
void gw_udp_leave_target(struct gw_udp_flow *);
/* Before a datagram goes to the target: sees whether that is still the one. */
void gw_udp_review(struct gw_udp_flow *);
/* The target refused (ICMP): true when there is another one now. */
bool gw_udp_refused(struct gw_udp_flow *);
/* The target has answered, and did not before. */
void gw_udp_answered(struct gw_udp_flow *);
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
struct gw_udp_listener *gw_udp_find(struct gw_udp *, h2o_iovec_t address); /* NULL: there is none */
struct gw_udp *gw_udp_of(struct gw_worker *);                              /* made when there is none */
/* The flow may end in there. */
void gw_udp_each_flow(struct gw_udp_listener *, void (*act)(struct gw_udp_flow *));
/* Sockets are (not) read from now on: all that are this process's to read; or those that thread of num_threads of the
 * process before this one has had (num_threads 0: all). */
void gw_udp_read(struct gw_udp *, bool is_on);
void gw_udp_read_freed(struct gw_udp_listener *, uint32_t thread, uint32_t num_threads);

/* udp_datagrams.c */
/* Room for so many datagrams; there as long as the thread. */
void gw_udp_batch_init(struct gw_udp_batch *, unsigned size);
/* What the loop calls when a listener's socket, or the epoll of the flows' sockets, has something to read. */
void gw_udp_on_datagrams(h2o_socket_t *, const char *err);
void gw_udp_on_answers(h2o_socket_t *, const char *err);
/* From somebody whose key this is; msg: with the name. */
void gw_udp_take(struct gw_udp_listener *, const struct gw_udp_key *, const struct msghdr *,
                 const struct gw_udp_bundle *);
/* Counts datagrams that are not passed on. */
void gw_udp_drop(struct gw_udp_listener *, enum gw_udp_dropped, unsigned count);
/* Bundles are neither asked for any more nor left in a socket. */
void gw_udp_end_bundles(struct gw_udp *);
