/* What the admin listener shows: built from the process's counters and its active snapshot. Control thread only;
 * counters of the workers are read relaxed, each whole. */
#pragma once
#include "gateway/base/json.h"
#include "gateway/base/metrics.h"
#include "gateway/process.h"
#include "gateway/admin/recent.h"

/* /metrics: below 2,000 series whatever the configuration's size (the budget of each family is in metrics_page.c). */
void gw_metrics_page(struct gw_process *, struct gw_exposition *);
/* /status */
void gw_status_page(struct gw_process *, struct gw_json *);
/* /api/v1/routes: in the order of matching, from offset on; the last entry is for requests that none took. */
void gw_routes_page(const struct gw_process *, struct gw_json *, uint64_t offset, uint64_t limit);
/* /api/v1/connections */
void gw_connections_page(const struct gw_process *, struct gw_json *);
/* /api/v1/errors */
void gw_errors_page(const struct gw_recent *, struct gw_json *, uint64_t limit);
/* /api/v1/reasons */
void gw_reasons_page(struct gw_json *);
/* One target: the object's members, without its braces. */
void gw_target_members(const struct gw_process *, struct gw_json *, const struct routing_target *);
/* The effective configuration with secrets masked; free its base. */
h2o_iovec_t gw_page_config_yaml(const struct gw_config *);

/* ---- parts that several pages use ---- */

/* One route over all threads. */
struct gw_route_sums {
    uint64_t requests, local, retries;
    uint64_t by_class[6]; /* of all answers, local ones too, where their class is known; [0]: none or unknown */
    uint64_t by_reason[GW_REASON_COUNT];
    uint64_t seconds[GW_HISTOGRAM_BUCKETS], upstream[GW_HISTOGRAM_BUCKETS];
    uint64_t seconds_sum_us, upstream_sum_us;
};
/* route NULL: of requests that no route took */
void gw_route_sum(const struct gw_process *, const struct gw_route_stats *, const struct gw_route *route,
                  struct gw_route_sums *);
/* Class of the status of a local answer, 0 if it has none. route may be NULL. */
int gw_reason_class(enum gw_reason, const struct gw_route *route);
struct gw_target_sums {
    uint64_t attempts, in_flight, failures, by_class[6];
    uint64_t seconds[GW_HISTOGRAM_BUCKETS], seconds_sum_us;
};
/* admin_members.c: where the targets of a group come from. */
void gw_page_sources(struct gw_json *, const struct routing_target_group *);
void gw_target_sum(const struct gw_process *, const struct routing_target *, struct gw_target_sums *);

/* "key": "2026-01-02T03:04:05.678Z", or null for 0 */
void gw_page_time_ms(struct gw_json *, const char *key, uint64_t wall_ms);
/* "key": {"count", "sum_ms", "p50_ms", "p99_ms", "buckets"} */
void gw_page_latency(struct gw_json *, const char *key, const uint64_t buckets[GW_HISTOGRAM_BUCKETS], uint64_t sum_us);
void gw_page_number(struct gw_json *, const char *key, uint64_t);
void gw_page_string(struct gw_json *, const char *key, const char *); /* NULL or "": null */
void gw_page_text(struct gw_json *, const char *key, h2o_iovec_t);    /* base NULL: null */
