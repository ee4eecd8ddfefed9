/* Inside of a connection that forwards bytes, shared by l4_connection.c (its life) and l4_pump.c (its bytes). */
#pragma once
#include "gateway/l4/l4.h"
#include "gateway/upstream/transport.h"
#include "tls/client_hello.h"

struct gw_l4_connection;

/* One end: the client's or the target's socket. */
struct gw_l4_side {
    h2o_socket_t *sock; /* NULL: not there (yet) */
    struct gw_l4_connection *connection;
    struct gw_l4_side *other;
    char *waiting; /* bytes that the socket did not take at once; malloc */
    size_t waiting_len, waiting_at;
    struct gw_l4_pipe *pipe; /* from here to the other side: l4_pipe.h; NULL: bytes are copied */
    size_t piped;            /* bytes in it */
    bool may_splice;         /* its last read was a full one */
    bool cannot_splice;      /* this kernel does not with these sockets */
    bool is_reading;
    bool is_writing; /* waiting, or the other side's pipe, is not empty, or TLS has not sent everything */
    bool has_ended;  /* nothing more comes from here */
    bool has_failed; /* by a reset: to be passed on when everything before it was */
    bool is_shut;    /* nothing more goes there: told so, or it takes nothing */
    uint64_t bytes_read;
    uint64_t bytes_at_loss; /* bytes_read when it took no more of ours */
};

enum gw_l4_state { GW_L4_HELLO, GW_L4_CONNECTING, GW_L4_HANDSHAKING, GW_L4_OPEN };

struct gw_l4_connection {
    struct gw_conn super; /* in the server's list; sock is the client's */
    struct gw_worker *worker;
    enum gw_l4_state state;
    /* until it is open: what connecting needs of the configuration */
    struct gw_held_snapshot *held;
    const struct gw_snapshot_listener *listener;
    const struct routing_target_group *group;
    uint64_t tried; /* bit set of target indexes */
    struct tls_hello_reader *hello;

    struct gw_l4_side client, target;
    struct gw_l4_stats *stats;
    const struct gw_endpoint *endpoint;   /* asked last; held */
    struct routing_target_load *load;     /* counted at it; NULL: the group does not count */
    const struct gw_transport *transport; /* TLS to the target, held; NULL: plain */
    struct gw_target_slot *slot;          /* of it, counted as in flight; NULL: none is */
    const char *protocol;
    struct gw_timer timer;
    uint64_t idle_timeout_ms, active_ms;
    uint64_t started_us, connected_us;
    enum gw_reason connect_failure; /* of the last attempt */
    const char *connect_error;      /* further detail; NULL: none */
    bool is_cut;                    /* its target is gone, and so is the time it had */
    enum gw_reason loss;            /* a side did not take all of its bytes; GW_REASON_NONE: both did */
    uint32_t attempts;
    char name[TLS_NAME_MAX + 1]; /* server name of a ClientHello that is passed on */
};

/* l4_pump.c: both sockets are there; what the client's holds already goes first. */
void gw_l4_pump_start(struct gw_l4_connection *);

/* l4_connection.c */
void gw_l4_set_idle_timeout(struct gw_l4_connection *, uint64_t timeout_ms);
/* Ends and frees it. GW_REASON_NONE: both sides have said that they are done; else both are reset, so
 * that neither takes what it has for all there is. */
void gw_l4_end(struct gw_l4_connection *, enum gw_reason, const char *error);
