/* A worker thread: acceptors, serves, drains. Everything here runs on its loop; other threads speak to it with
 * gw_worker_tell (gateway/message.h). */
#pragma once
#include "gateway/message.h"
#include "gateway/process.h"

/* A snapshot as one thread holds it: a plain count of the requests (and handshakes) that use it. */
struct gw_held_snapshot {
    struct gw_snapshot *snapshot;
    size_t uses; /* requests, handshakes, and 1 while it is the current one */
};

/* A listening socket in one thread. Known by the address; a connection points to the one that accepted it, so these are
 * kept for the life of the process. */
struct gw_acceptor {
    h2o_linklist_t link; /* in worker->acceptors */
    struct gw_worker *worker;
    h2o_socket_t **socks; /* its share of the address's sockets: one, but for a set that was made for more threads */
    size_t num_socks;     /* 0: not listening (any more) */
    h2o_iovec_t address;  /* owned */
    uint16_t port;
    uint32_t listener; /* index in the current snapshot; UINT32_MAX: no longer named */
    struct gw_timer resume;
};

/* By the worker's own thread, before gw_worker_main. */
void gw_worker_init(struct gw_worker *, struct gw_process *, unsigned index, h2o_globalconf_t *);
void *gw_worker_main(void *worker);

/* Messages. publish: data is a struct gw_publication. */
void gw_worker_publish(struct gw_message *);
void gw_worker_drain(struct gw_message *); /* its number: enum gw_udp_drain */
void gw_worker_stop(struct gw_message *);  /* closes what is left */

void gw_held_snapshot_release(struct gw_worker *, struct gw_held_snapshot *);

/* gateway/serving.c: what the server's connections call for each request. */
void gw_serving_init(struct gw_server *);

/* gateway/arrival.c: from an accepted socket to whoever serves it: PROXY header, caps per address, TLS. */
void gw_arrival_begin(struct gw_acceptor *, h2o_socket_t *);
void gw_arrival_greet(struct gw_deferred *); /* worker->hello_turn */
/* A connection that was handed on has ended. */
void gw_arrival_left(struct gw_worker *, const struct gw_ip *, bool is_counted);
/* Counts and logs a refusal; peer may be NULL. */
void gw_arrival_count_refusal(struct gw_worker *, enum gw_reason, const struct gw_ip *peer, const char *detail);

/* gateway/acceptor.c */
/* Stops listening where the publication no longer does, while the old snapshot is still current: what waits in a queue
 * is served by it. Then, with the new one current, the rest. */
void gw_acceptor_remove(struct gw_worker *, const struct gw_publication *);
void gw_acceptor_start(struct gw_worker *, const struct gw_publication *);
int gw_acceptor_spare_fd(void); /* -1: there is none */
void gw_acceptor_stop_all(struct gw_worker *);
