/* Listeners that forward bytes: the role of a network load balancer. A connection chooses its target group once, by the
 * listener and (TLS) the server name, then bytes go both ways until both sides are done. Connections belong to their
 * thread and outlive configurations. */
#pragma once
#include "gateway/base/names.h"
#include "gateway/worker.h"

/* Why a datagram went nowhere, where no flow's end says so. */
#define GW_UDP_DROPS(X)                                                                                                \
    X(NO_FLOW, "no_flow")         /* the listener takes no new flows: removed, or the process drains */                \
    X(REFUSED, "refused")         /* a new flow was: weir_l4_connections_total says why */                             \
    X(OVERLOAD, "overload")       /* too many new flows for the time there is; others are served meanwhile */          \
    X(LOOP, "loop")               /* its source is a listener of ours */                                               \
    X(BAD_SOURCE, "bad_source")   /* nobody could be answered */                                                       \
    X(TOO_LARGE, "too_large")     /* for the next network, or with a PROXY header */                                   \
    X(NO_ROOM, "no_room")         /* the kernel's buffer is full */                                                    \
    X(UNREACHABLE, "unreachable") /* the kernel has no way there, or the target refused */
enum gw_udp_dropped {
#define X(name, text) GW_UDP_DROPPED_##name,
    GW_UDP_DROPS(X)
#undef X
        GW_UDP_DROPPED_COUNT
};

/* Counters of one listener's connections to one target group, found by their names; kept as long as a configuration
 * names the two or a connection counts there. */
struct gw_l4_slot {                                /* written by one thread */
    gw_counter open;                               /* gauge */
    gw_counter bytes_in, bytes_out;                /* from clients, to clients */
    gw_counter by_reason[GW_REASON_COUNT];         /* of those that ended */
    gw_counter datagrams_in, datagrams_out, moves; /* udp; moves: of flows to another target */
    gw_counter dropped[GW_UDP_DROPPED_COUNT];      /* udp: datagrams; in the listener's "-" only */
} __attribute__((aligned(64)));
struct gw_l4_stats {
    h2o_iovec_t listener, group; /* group "-": none was chosen */
    struct gw_l4_stats *next;
    _Atomic uint32_t refs;     /* atomic: of snapshots, connections, flows, udp listeners; of "-" also its groups' */
    struct gw_l4_stats *whole; /* the listener's "-" */
    _Atomic bool is_udp;       /* written by loads: its name may have been another protocol's */
    _Atomic int64_t num_open;  /* atomic: of the whole listener, for max_connections; in its "-" only */
    struct gw_gate *gate;     /* udp: flows of each address, for flows_per_ip; in its "-" only, NULL: never asked for */
    struct gw_l4_slot *slots; /* num_workers */
};
/* Loads: held. */
struct gw_l4_stats *gw_l4_stats(struct gw_process *, const struct gw_snapshot_listener *, h2o_iovec_t group);
static inline struct gw_l4_stats *gw_l4_stats_hold(struct gw_l4_stats *stats)
{
    __atomic_fetch_add((uint32_t *)&stats->refs, 1, __ATOMIC_RELAXED);
    return stats;
}
/* Any thread, as the last thing it does with them. NULL is fine. */
static inline void gw_l4_stats_release(struct gw_l4_stats *stats)
{
    if (stats != NULL)
        __atomic_fetch_sub((uint32_t *)&stats->refs, 1, __ATOMIC_RELEASE);
}
/* Frees those that nobody holds. */
void gw_l4_stats_prune(struct gw_process *);

/* `forward`, compiled. */
struct gw_l4_forward {
    const struct routing_forward_conf *conf;
    const struct routing_target_group **groups;
    struct gw_l4_stats **stats; /* of each; NULL entries without a process */
    uint32_t *weights;
    size_t size;
};
struct gw_l4_rule {
    const struct gw_sni_conf *conf;
    struct gw_l4_forward forward;
};
/* What a snapshot knows of a listener of another protocol than http. Memory of the configuration's pool. */
struct gw_l4_listener {
    struct gw_l4_forward *forward; /* NULL: what no rule takes is refused */
    struct gw_l4_rule *rules;
    size_t num_rules;
    struct gw_names exact;     /* host -> first rule that has it without wildcards */
    struct gw_l4_stats *stats; /* of the listener with no group; NULL without a process */
};
/* NULL after errors. */
struct gw_l4_listener *gw_l4_listener_create(struct gw_snapshot *, const struct gw_snapshot_listener *,
                                             struct gw_errors *);

/* Lets go of statistics; its memory is the configuration's. NULL is fine. */
void gw_l4_listener_dispose(struct gw_l4_listener *);

struct gw_l4_choice {
    const struct gw_l4_forward *forward;      /* NULL: no rule takes the name, and there is no default */
    const struct routing_target_group *group; /* NULL: nor if all weights are 0 */
    struct gw_l4_stats *stats;
    enum gw_reason reason; /* why there is no group */
};
/* name: lower case, base NULL: none is known. random: uniform in [0, 2^32). The same for traffic and `weir explain`. */
struct gw_l4_choice gw_l4_choose(const struct gw_snapshot_listener *, h2o_iovec_t name, uint32_t random,
                                 struct gw_trace *);

/* Takes an accepted socket (tls: after the handshake). held: the configuration it was accepted under; borrowed. */
void gw_l4_serve(struct gw_worker *, h2o_socket_t *, const struct gw_peer *, struct gw_held_snapshot *held,
                 const struct gw_snapshot_listener *);

/* The time of those that are connected to the target is over: they end within this turn or the next. */
void gw_l4_cut(struct gw_worker *, const struct gw_endpoint *);

/* The end of a connection, for the access log and the counters. Borrowed. */
struct gw_l4_record {
    struct gw_worker *worker;
    const struct gw_l4_stats *stats;
    const char *protocol; /* as in the configuration: "tcp" */
    const char *peer_text;
    size_t peer_text_len;
    uint16_t peer_port;
    h2o_iovec_t target;                                 /* base NULL: none was connected to */
    const char *tls_version, *tls_cipher, *server_name; /* NULL: none */
    const char *error;                                  /* further detail; NULL: none */
    enum gw_reason reason;
    uint32_t attempts;
    uint64_t bytes_in, bytes_out, started_us;
    uint64_t connected_us; /* 0: never */
    bool is_unlogged;      /* there are too many of its kind */
};
void gw_l4_report(const struct gw_l4_record *);

/* Any thread. */
uint64_t gw_l4_num_open(const struct gw_l4_listener *);
struct gw_l4_sums {
    uint64_t open, ended, bytes_in, bytes_out, datagrams;
};
void gw_l4_sum(struct gw_process *, const struct gw_l4_listener *, struct gw_l4_sums *);
void gw_l4_metrics(struct gw_process *, struct gw_exposition *);
