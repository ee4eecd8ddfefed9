/* Members of target groups that come and go while the gateway serves: sources find them (source.h), here they become
 * lists that the threads look at (view.h), and what is gone is drained and forgotten (departure.h). Control thread.
 * Nothing of a snapshot is built for it. */
#pragma once
#include "gateway/discovery/source.h"
#include "gateway/process.h"

/* One target that a source has found. */
struct gw_source_member {
    struct gw_endpoint_entry *endpoint; /* held */
    uint32_t weight;
    h2o_iovec_t zone, server_name; /* copies; base NULL: none */
};
struct gw_source {
    struct gw_source *next; /* of the group */
    const struct gw_source_kind *kind;
    struct gw_process *process;
    struct gw_group_entry *group;
    char *key;
    void *data; /* the kind's */
    struct gw_source_member *members;
    size_t size, capacity;
    char *failure; /* of the last attempt; NULL: it was fine */
    uint64_t failures, changes;
    uint64_t changed_at_ms; /* wall clock */
    bool is_wanted;
};

struct gw_discovery_counters {
    uint64_t changes;      /* lists that sources came with */
    uint64_t publications; /* lists that threads were given */
    uint64_t departures, returns, cuts, forgotten;
    uint64_t failures; /* of sources */
};

struct gw_discovery *gw_discovery_create(struct gw_process *);
void gw_discovery_destroy(struct gw_discovery *);
const struct gw_discovery_counters *gw_discovery_counters(const struct gw_process *);

/* A snapshot is about to be served: sources are started and stopped, lists made for it, and it is found out which
 * targets nobody has any more. The second call, when the workers have been told of the snapshot, lets those drain. */
void gw_discovery_prepare(struct gw_process *, const struct gw_snapshot *);
void gw_discovery_announce(struct gw_process *);
/* In a load: whether sources can be read that must be. */
bool gw_discovery_check(const struct gw_config *, struct gw_errors *);

/* One member of a source, for the admin API. True: something changed. */
bool gw_source_put(struct gw_source *, const struct gw_member *);
bool gw_source_remove(struct gw_source *, h2o_iovec_t name);
/* The source that the admin API fills; made when there is none. */
struct gw_source *gw_source_of_admin(struct gw_process *, struct gw_group_entry *);
bool gw_source_is_of_admin(const struct gw_source *);
struct gw_admin_targets *gw_discovery_admin_targets(const struct gw_process *);

/* How a target is spoken to, on the terms of a compiled group; NULL: plain HTTP/1.1. The caller's. */
struct gw_transport *gw_snapshot_transport(const struct routing_target_group *, const struct gw_address *,
                                           h2o_iovec_t server_name);

struct gw_departures;
struct gw_watcher;
struct gw_watcher *gw_discovery_watcher(const struct gw_process *);
struct gw_departures *gw_discovery_departures(const struct gw_process *);
