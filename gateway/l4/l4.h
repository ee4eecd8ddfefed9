/* Listeners that forward bytes: the role of a network load balancer. A connection chooses its target group once, by the
 * listener and (TLS) the server name, then bytes go both ways until both sides are done. Connections belong to their
 * thread and outlive configurations. */
#pragma once
#include "gateway/base/names.h"
#include "gateway/worker.h"

/* Counters of one listener's connections to one target group, found by their names, kept for the life of the process.
 */
struct gw_l4_slot {                        /* written by one thread */
    gw_counter open;                       /* gauge */
    gw_counter bytes_in, bytes_out;        /* from clients, to clients */
    gw_counter by_reason[GW_REASON_COUNT]; /* of those that ended */
} __attribute__((aligned(64)));
struct gw_l4_stats {
    h2o_iovec_t listener, group; /* group "-": none was chosen */
    struct gw_l4_stats *next;
    struct gw_l4_stats *whole; /* the listener's "-" */
    _Atomic int64_t num_open;  /* atomic: of the whole listener, for max_connections; in its "-" only */
    struct gw_l4_slot *slots;  /* num_workers */
};
struct gw_l4_stats *gw_l4_stats(struct gw_process *, h2o_iovec_t listener, h2o_iovec_t group);

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
};
void gw_l4_report(const struct gw_l4_record *);

/* Control thread. */
uint64_t gw_l4_num_open(const struct gw_l4_listener *);
void gw_l4_metrics(struct gw_process *, struct gw_exposition *);
