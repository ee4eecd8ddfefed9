/* The worker's end of its supervisor: listening sockets come from there, orders come from there, and what happens is
 * told there. A process without supervisor (--no-supervise) has none of this. */
#pragma once
#include "gateway/base/ip.h"
#include "gateway/supervisor/channel.h"
#include "gateway/supervisor/inventory.h"

struct gw_kept_files;
struct gw_process;
struct gw_supervised;

/* What a worker is told when it starts. Goes over the channel as numbers in this order. */
struct gw_hello {
    uint64_t supervisor_pid;
    uint64_t restarts;   /* workers that died before this one */
    uint64_t started_ms; /* wall clock: the supervisor's start, kept over upgrades */
    /* Another worker has served this before: what traffic does not depend on is no reason to give up. */
    uint64_t is_replacement;
    uint64_t generation;         /* of the last configuration that served: numbers go on */
    uint64_t kept_uid, kept_gid; /* whose worker has read the kept files */
    /* Another worker reads datagrams: they are left to it until GW_ORDER_TAKE_FLOWS. */
    uint64_t has_predecessor;
};

/* What the supervisor is told with every generation that is served. */
struct gw_ready {
    uint64_t generation;
    uint64_t shutdown_timeout_ms;
    uint64_t upgrade_timeout_ms;
    uint64_t drain_timeout_ms;    /* of upgrades */
    uint64_t watchdog_timeout_ms; /* 0: it may be silent for as long as it likes */
};

/* Takes the ends of the channel: `weir run --worker ORDERS,SOCKETS`. Waits for the supervisor's first word. NULL when
 * there is no supervisor at the other end. */
struct gw_supervised *gw_supervised_create(const char *ends);
void gw_supervised_destroy(struct gw_supervised *);
const struct gw_hello *gw_supervised_hello(const struct gw_supervised *);
/* What the last good load has read, for when the disk has nothing better; NULL: nothing was kept. Read anew by each
 * call, the caller's. */
struct gw_kept_files *gw_supervised_kept(const struct gw_supervised *);
/* Session ticket keys as text (tls/ticket.h), "" when there were none. */
const char *gw_supervised_tickets(const struct gw_supervised *);
/* The kernel kills this process when its supervisor dies. After the last change of users, which undoes it. False: it is
 * dead. */
bool gw_supervised_die_with_it(const struct gw_supervised *);

/* Sockets that listen on an address, at least one: the supervisor's own, or opened there with its privileges. fds:
 * malloc, the caller's. Any thread (a load has one of its own); waits for the answer. */
bool gw_supervised_open(struct gw_supervised *, enum gw_socket_kind, const char *address, unsigned count, int **fds,
                        unsigned *num_fds, struct gw_inventory_error *);
/* This worker is about to close them too: returns when the supervisor has. Any thread. */
void gw_supervised_close(struct gw_supervised *, enum gw_socket_kind, const char *address);

/* Control thread, when its loop runs: orders are followed from now on. */
void gw_supervised_watch(struct gw_supervised *, struct gw_process *);
/* Control thread; nothing without a supervisor (NULL). */
void gw_supervised_report(struct gw_supervised *, enum gw_packet_type);
/* A load failed. why: its first error; may be NULL. */
void gw_supervised_report_failed(struct gw_supervised *, const char *why);
/* kept: what this generation was made from; NULL: what the supervisor has already. */
void gw_supervised_report_ready(struct gw_supervised *, const struct gw_ready *, const struct gw_kept_files *kept);
void gw_supervised_report_tickets(struct gw_supervised *, const char *text);
