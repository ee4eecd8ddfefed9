/* What outlives a configuration, found by name: target groups, endpoints, statistics of routes. A reload that keeps a
 * name keeps what is known of it. Any thread may ask (loads have one of their own); the process's lock is taken inside,
 * and members say whose they are. */
#pragma once
#include "gateway/exchange/group_load.h"
#include "gateway/snapshot.h"
#include "routing/outlier.h"

struct gw_process;
struct gw_health_log;
struct gw_outliers;
struct gw_source;
struct gw_target_queues;

/* An open hash over a registry's entries: index + 1, 0 = free. */
struct gw_registry_index {
    uint32_t *slots;
    size_t num_slots;
};

/* What one thread counts of one target: attempts, not requests (a retry is another attempt). */
struct gw_target_slot {
    gw_counter attempts, in_flight; /* in_flight: gauge */
    gw_counter failures;            /* no usable response: not connected, closed early, timed out, malformed */
    gw_counter by_class[6];         /* of responses: [1]..[5] */
    gw_counter seconds_sum_us;      /* until the response began */
    gw_counter buckets[GW_HISTOGRAM_BUCKETS];
} __attribute__((aligned(64)));

/* What outlives a configuration of a target group; found by name, lives as long as somebody holds it and a little
 * longer (gateway/discovery/departure.h). */
struct gw_group_entry {
    h2o_iovec_t name;
    _Atomic uint32_t refs; /* atomic: of snapshots, endpoints, sources */
    size_t position;       /* under lock: in the registry */
    bool is_leaving;       /* control thread: it is in no configuration any more and has no source */
    bool is_forgotten;     /* control thread: the workers are being told */
    struct routing_group_live live;
    struct gw_group_use use;
    struct gw_target_queues *queues;
    struct gw_outliers *outliers; /* control thread; NULL: it has no outlier detection (yet) */
    bool is_new;                  /* under lock: no snapshot with it has been served */
    struct gw_source *sources;    /* control thread: where its targets come from while it serves; a list */
    bool is_checked, has_changed; /* control thread: of its sources */
    uint64_t mark;                /* control thread: that of the endpoints in its list */
};
/* Endpoint and health of one target, found by group and address text; lives as long as somebody holds it and a little
 * longer (gateway/discovery/departure.h). */
struct gw_endpoint_entry {
    struct gw_group_entry *group; /* frozen */
    struct gw_endpoint endpoint;
    _Atomic uint32_t refs;   /* atomic: of snapshots, lists of members, requests, connections that forward bytes */
    size_t position;         /* under lock: in the registry */
    struct gw_departure {    /* control thread: it is in no configuration and no source any more */
        h2o_linklist_t link; /* not linked: it is not leaving */
        uint64_t since_ms, due_ms;
        unsigned num_pending; /* workers that have not been heard of */
        bool is_cut, is_forgotten;
    } departure;
    uint64_t mark; /* control thread: gateway/discovery/discovery.c */
    struct routing_health health;
    struct routing_target_load *load;
    bool is_checked;                          /* under lock */
    struct routing_outlier outlier;           /* control thread */
    struct routing_outlier_sample sampled[2]; /* control thread: as of the last comparison, the last adjustment */
    struct gw_target_slot *slots;             /* num_workers, each written by its thread */
    struct gw_health_log *log;                /* control thread; NULL: nothing happened yet */
};
static inline struct gw_endpoint_entry *gw_endpoint_entry_of(const struct routing_target *target)
{
    return H2O_STRUCT_FROM_MEMBER(struct gw_endpoint_entry, endpoint, (struct gw_endpoint *)target->endpoint);
}

/* ---- target groups ---- */

/* Held; made when there is none. */
struct gw_group_entry *gw_process_group(struct gw_process *, h2o_iovec_t name);
static inline void gw_group_hold(struct gw_group_entry *entry)
{
    __atomic_fetch_add((uint32_t *)&entry->refs, 1, __ATOMIC_RELAXED);
}
/* Any thread; the control thread finds out that nobody holds it. NULL is fine. */
static inline void gw_group_release(struct gw_group_entry *entry)
{
    if (entry != NULL)
        __atomic_fetch_sub((uint32_t *)&entry->refs, 1, __ATOMIC_RELEASE);
}
static inline bool gw_group_is_held(const struct gw_group_entry *entry)
{
    return __atomic_load_n((const uint32_t *)&entry->refs, __ATOMIC_ACQUIRE) != 0;
}
size_t gw_process_num_groups(struct gw_process *);
/* Control thread, when no worker can still speak of it. False: somebody holds it again. */
bool gw_process_forget_group(struct gw_process *, struct gw_group_entry *);

/* ---- endpoints ---- */

/* Held; made when there is none. is_checked: it has health checks. */
struct gw_endpoint_entry *gw_process_endpoint(struct gw_process *, struct gw_group_entry *, const struct gw_address *,
                                              bool is_checked);
static inline void gw_endpoint_hold(struct gw_endpoint_entry *entry)
{
    __atomic_fetch_add((uint32_t *)&entry->refs, 1, __ATOMIC_RELAXED);
}
/* Any thread; the control thread finds out that nobody holds it. */
static inline void gw_endpoint_release(struct gw_endpoint_entry *entry)
{
    __atomic_fetch_sub((uint32_t *)&entry->refs, 1, __ATOMIC_RELEASE);
}
static inline uint32_t gw_endpoint_refs(const struct gw_endpoint_entry *entry)
{
    return __atomic_load_n((const uint32_t *)&entry->refs, __ATOMIC_ACQUIRE);
}
size_t gw_process_num_endpoints(struct gw_process *);
/* Control thread, when no worker can still speak of it. False: somebody holds it again. */
bool gw_process_forget_endpoint(struct gw_process *, struct gw_endpoint_entry *);

/* ---- statistics of routes ---- */

/* Statistics by name, made when there are none, held until released: a reload that keeps a route keeps its counters. */
struct gw_route_stats *gw_process_route_stats(struct gw_process *, h2o_iovec_t route_name);
void gw_process_release_route_stats(struct gw_process *, struct gw_route_stats *); /* NULL is fine */
/* Frees the statistics that no snapshot holds any more. */
void gw_process_prune(struct gw_process *);
