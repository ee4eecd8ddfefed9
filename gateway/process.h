/* The process: what lives longer than a snapshot, and the threads. One control thread (main: signals, admin listener,
 * health checks, loads are started from it) and N workers, each with its loop. */
#pragma once
#include <pthread.h>
#include "gateway/base/lag.h"
#include "gateway/observe/access_log.h"
#include "gateway/compression/compression.h"
#include "gateway/gate.h"
#include "gateway/supervisor/heartbeat.h"
#include "gateway/registry.h"
#include "gateway/snapshot.h"
#include "gateway/supervisor/supervised.h"
#include "gateway/observe/tracing.h"
#include "tls/failure.h"

enum { GW_MAX_THREADS = 256, GW_STICKY_KEY = 32 };

struct gw_message;
/* A listening address and one SO_REUSEPORT socket per worker thread; found by its text, kept over reloads. */
struct gw_listening {
    struct gw_address address;
    int *fds; /* at least num_workers; thread t has every num_workers-th from t on, and owns them once published */
    unsigned num_fds;
    uint32_t listener; /* index in the snapshot that is being published */
    /* Datagrams: at most one socket for each thread, which the process owns; threads have copies. One that is no longer
     * named stays until all of them have let go of it. */
    bool is_udp;
    unsigned num_let_go; /* control thread */
    uint64_t unnamed_at; /* the first generation that did not name it; written before that is published */
};

/* A snapshot on its way to the workers; freed when all have applied it. */
struct gw_publication {
    struct gw_snapshot *snapshot;
    struct gw_listening **listening; /* of the process's registry: what the snapshot names */
    size_t num_listening;
    unsigned num_pending; /* control thread: workers that have not applied it yet */
    void (*on_applied)(struct gw_message *);
};

/* All requests of one thread, whatever the route. */
struct gw_worker_totals {
    gw_counter by_class[6];  /* of the status sent; [0]: none was */
    gw_counter local_errors; /* answered with 5xx, or cut off, by weir itself */
    gw_counter seconds_sum_us;
    gw_counter buckets[GW_HISTOGRAM_BUCKETS];
};

struct gw_discovery;
struct gw_resolver;
struct gw_l4_pipes;
struct gw_l4_stats;
struct gw_udp;
struct gw_udp_taking;
struct gw_recent_batch;
struct gw_tail_source;
struct gw_worker {
    struct gw_thread thread;
    struct gw_process *process;
    struct gw_server server;
    struct gw_pool *pool;
    struct gw_access_log_buffer *log;
    struct gw_compressor *compressor;
    h2o_context_t ctx;
    h2o_multithread_receiver_t receiver;
    pthread_t tid;
    /* loop: the snapshot new requests start with; older ones stay while requests hold them */
    struct gw_held_snapshot *held;
    h2o_linklist_t acceptors;  /* loop: of gw_accept, the listening sockets in this thread */
    h2o_linklist_t handshakes; /* loop: PROXY headers and TLS handshakes in progress */
    size_t num_handshakes;     /* loop */
    /* loop: of those whose ClientHello is there, in order; of addresses that use much; both served by hello_turn */
    h2o_linklist_t hellos, hellos_behind;
    struct gw_deferred hello_turn;
    uint64_t hellos_in_turn;      /* loop: the last turn in which some were answered */
    int spare_fd;                 /* loop: given up to empty a queue when there are no descriptors; -1: it is */
    struct gw_udp *udp;           /* loop: gateway/l4/udp.h; NULL: no listener of that kind yet */
    char *l4_buffer;              /* loop: what gateway/l4/l4_pump.c reads into; NULL: not used yet */
    struct gw_l4_pipes *l4_pipes; /* loop: gateway/l4/l4_pipe.h; NULL: not used yet */
    h2o_linklist_t mirrors;       /* loop: copies of requests under way (gateway/exchange/mirror.h) */
    size_t num_mirrors;           /* loop */
    struct gw_timer settle_timer; /* loop: gateway/discovery/departure.c */
    struct gw_timer lag_timer;    /* loop */
    uint64_t lag_due_us;          /* loop */
    uint32_t pressure;            /* loop: gateway/overload.h */
    struct {
        gw_counter handshakes, handshake_failures, accept_errors, accept_pauses;
        gw_counter fault_delays, fault_aborts;
        gw_counter mirror_answered, mirror_failed, mirror_dropped;
        gw_counter retries_over_budget, hedges, failovers;
        gw_counter retry_buffer_bytes; /* gauge */
        gw_counter retry_buffers_refused;
        gw_counter lambda_buffer_bytes; /* gauge */
        gw_counter lambda_buffers_refused;
        gw_counter circuit_refused[4];          /* requests by GW_REASON_CIRCUIT_OPEN and the two after it; retries */
        gw_counter refused_by[GW_REASON_COUNT]; /* only where gw_reason_is_refusal */
        gw_counter requests_in_flight;          /* gauge */
        gw_counter connections;                 /* gauge */
        gw_counter beats;                       /* of the 250 ms timer */
        gw_counter loop_lag_us;                 /* gauge: how late a 250 ms timer was last */
        gw_counter loop_lag_max_us;             /* gauge: the worst of the last 15 to 30 s */
        gw_counter pressure;                    /* gauge: thousandths */
        gw_counter handshake_failures_by[TLS_FAILURE_COUNT];
    } stats;
    struct gw_worker_totals totals;
    struct {
        gw_counter open; /* gauge */
        gw_counter websockets, others, bytes_in, bytes_out;
    } tunnels;
    struct gw_recent_batch *errors;  /* loop: on their way to gateway/admin/recent.h; NULL: none */
    struct gw_tail_source *tails;    /* loop: who watches this thread's requests (gateway/admin/tail.h); NULL: nobody */
    struct gw_lag_window lag_window; /* loop */
    bool is_stopped;                 /* loop: drained; the thread is about to end */
    bool has_ended;                  /* control thread: it has */
    uint64_t seen_beats;             /* control thread: gateway/supervisor/heartbeat.h */
};

struct gw_process {
    const char *config_path;
    struct gw_supervised *supervised; /* frozen after start; NULL: --no-supervise */
    unsigned num_workers;             /* frozen after start */
    struct gw_worker *workers;        /* frozen after start */
    struct gw_thread control;         /* control thread */
    h2o_context_t control_ctx;
    h2o_multithread_receiver_t control_receiver;
    struct gw_access_log *access_log;
    struct gw_tracing *tracing;
    struct gw_prober *prober;       /* control thread */
    struct gw_admin *admin;         /* control thread */
    struct gw_discovery *discovery; /* control thread */
    struct gw_resolver *resolver;   /* control thread */
    struct tls_tickets *tickets;
    struct gw_group_loads *group_loads;
    uint8_t sticky_key[GW_STICKY_KEY]; /* of loads, one at a time: gateway/exchange/sticky.h */
    bool has_sticky_key;
    uint64_t ejections[ROUTING_OUTLIER_COUNT]; /* control thread */

    _Atomic int64_t num_connections; /* atomic: for limits.max_connections */
    _Atomic int64_t num_udp_flows;   /* atomic: each has a descriptor */
    _Atomic bool awaits_flows; /* atomic: the worker before this one still reads datagrams: gateway/l4/udp_handover.h */
    struct gw_udp_taking *taking; /* control thread */
    int64_t max_udp_flows;        /* frozen after start: what the limit of open files leaves for them */
    struct gw_gate *gate;         /* for the limits per client address and of rates */

    pthread_mutex_t lock; /* the registries below: loads and control thread */
    struct {
        struct gw_endpoint_entry **entries; /* endpoint + health of one (group, address) */
        size_t size, capacity;
        struct gw_registry_index index;
        uint32_t *free_indexes,
            num_indexes; /* gw_endpoint.index: those that are free again, how many there ever were */
        size_t num_free_indexes, free_capacity;
    } endpoints;
    struct {
        /* one for each name of a target group; without the lock: control thread, no load running */
        struct gw_group_entry **entries;
        size_t size, capacity;
        struct gw_registry_index index;
    } groups;
    struct {
        struct gw_route_stats **entries;
        size_t size, capacity, num_unused;
        struct gw_registry_index index;
    } route_stats;

    struct gw_l4_stats *l4_stats; /* gateway/l4/l4.h: a list, under lock */

    struct { /* control thread and the one load at a time */
        struct gw_listening **entries;
        size_t size;
    } listening;

    /* control thread */
    h2o_socket_t *signals;
    struct gw_timer tick; /* every 10 s: ticket keys, certificates about to end */
    struct gw_heartbeat heartbeat;
    time_t ticked_at;
    struct gw_timer drain_timer;
    unsigned num_running;   /* workers */
    unsigned num_accepting; /* when draining: workers that still listen */
    bool is_over;
    uint64_t over_at_ms;        /* monotonic */
    uint64_t over_at_turn;      /* of the control thread */
    struct gw_snapshot *active; /* held */
    uint64_t generation;
    bool is_ready; /* first snapshot is served by all workers */
    bool is_draining;
    bool reload_running, reload_wanted; /* running: until every worker serves what was loaded, or it failed */
    pthread_t loader;                   /* of the last reload; may have ended */
    bool has_loader;                    /* it is still to be joined */
    bool last_reload_ok;
    uint64_t last_reload_ms;    /* wall clock */
    uint64_t started_ms;        /* wall clock */
    char *last_reload_error;    /* first finding of the last failed load; owned */
    struct gw_kept_files *kept; /* files of the generation that is being published; NULL: the supervisor has them */
    struct {
        bool is_running; /* somebody may be waiting for the rest */
        bool is_decided, is_ok;
        char text[640]; /* of the last one: its version, or why it failed */
    } upgrade;
};

/* Starts a load in the background (control thread): SIGHUP, POST /reload. One at a time; a second request runs after
 * the first. */
void gw_process_reload(struct gw_process *);

/* Control thread. No new connections, and those that are there end with their request; at the latest after timeout_ms.
 * With a successor the admin API is that one's from now on. Asked again, it can only become sooner. */
void gw_process_drain(struct gw_process *, uint64_t timeout_ms, bool has_successor);
/* Control thread: cuts off what is left. */
void gw_process_stop(struct gw_process *);
/* A worker that was told to drain listens no more (control thread). */
void gw_process_worker_closed(struct gw_process *);
/* A worker's loop has ended (control thread). */
void gw_process_worker_stopped(struct gw_process *, struct gw_worker *);

/* Control thread: asks the supervisor to start the binary anew; the outcome will be in .upgrade. False: there is none
 * to ask. */
bool gw_process_upgrade(struct gw_process *);
void gw_process_upgraded(struct gw_process *, bool is_ok, const char *text);

/* Serves until told to end; takes the supervised end (NULL: nobody watches over it, signals are its orders). Returns
 * the exit status: 0 drained, 1 it never served. */
int gw_process_run(const char *config_path, struct gw_supervised *);
