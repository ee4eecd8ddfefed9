/* The process: what lives longer than a snapshot, and the threads. One control thread (main: signals, admin listener,
 * health checks, loads are started from it) and N workers, each with its loop. */
#pragma once
#include <pthread.h>
#include "gateway/access_log.h"
#include "gateway/snapshot.h"

enum { GW_MAX_THREADS = 256 };

/* A listening address and one SO_REUSEPORT socket per worker thread; found by its text, kept over reloads. */
struct gw_listening {
    struct gw_address address;
    int *fds; /* num_workers */
    bool is_named; /* by the active snapshot */
};

struct gw_worker {
    struct gw_thread thread;
    struct gw_process *process;
    struct gw_server server;
    struct gw_pool *pool;
    struct gw_access_log_buffer *log;
    h2o_context_t ctx;
    h2o_multithread_receiver_t receiver;
    pthread_t tid;
    /* loop: the snapshot new requests start with; older ones stay while requests hold them */
    struct gw_held_snapshot *held;
    h2o_linklist_t accepts; /* loop: of listening sockets in this thread */
    struct {
        gw_counter handshakes, handshake_failures, accept_errors;
        gw_counter requests_in_flight; /* gauge */
        gw_counter connections;        /* gauge */
        gw_counter loop_lag_us;        /* gauge: longest turn in the last second */
    } stats;
    bool is_stopped; /* loop: drained; the thread is about to end */
};

struct gw_process {
    const char *config_path;
    unsigned num_workers;            /* frozen after start */
    struct gw_worker *workers;       /* frozen after start */
    struct gw_thread control;        /* control thread */
    h2o_context_t control_ctx;
    h2o_multithread_receiver_t control_receiver;
    struct gw_access_log *access_log;
    struct gw_prober *prober;        /* control thread */
    struct gw_admin *admin;          /* control thread */
    struct tls_tickets *tickets;

    pthread_mutex_t lock; /* the registries below: loads and control thread */
    struct {
        struct gw_endpoint_entry **entries; /* endpoint + health of one (group, address) */
        size_t size, capacity;
    } endpoints;
    struct {
        struct gw_route_stats **entries;
        size_t size, capacity;
    } route_stats;

    /* control thread */
    struct gw_snapshot *active; /* held */
    uint64_t generation;
    bool is_ready;              /* first snapshot is served by all workers */
    bool is_draining;
    bool reload_running, reload_wanted;
    bool last_reload_ok;
    uint64_t last_reload_ms;    /* wall clock */
    uint64_t started_ms;        /* wall clock */
    char *last_reload_error;    /* first finding of the last failed load; owned */
};

/* Endpoint and health of one target, process lifetime, found by group name + address text. */
struct gw_endpoint_entry {
    h2o_iovec_t group;
    struct gw_endpoint endpoint;
    struct routing_health health;
    uint32_t snapshots; /* that name it; under lock */
};
struct gw_endpoint_entry *gw_process_endpoint(struct gw_process *, h2o_iovec_t group, const struct gw_address *,
                                              bool is_checked);
struct gw_route_stats *gw_process_route_stats(struct gw_process *, h2o_iovec_t route_name);

/* Starts a load in the background (control thread): SIGHUP, POST /reload. One at a time; a second request runs after the first. */
void gw_process_reload(struct gw_process *);

/* `weir run -c FILE`. Returns the exit status. */
int gw_command_run(int argc, char **argv);
