/* The last ten minutes in samples of a second: what the charts of the dashboard show. Taken by the control thread from
 * the counters of the workers. */
#pragma once
#include "gateway/base/json.h"
#include "gateway/process.h"

enum { GW_TRAFFIC_SAMPLES = 600 };

struct gw_traffic_sample {
    uint64_t wall_s;
    uint32_t connections, in_flight;
    float requests, by_class[6], local_errors, bytes_in, bytes_out; /* per second */
    float p50_ms, p99_ms;                                           /* NAN without requests */
};

struct gw_traffic;
/* Starts sampling on the control thread's loop. */
struct gw_traffic *gw_traffic_create(struct gw_process *);
void gw_traffic_destroy(struct gw_traffic *);
/* From the newest (0) on; NULL: not that many. */
const struct gw_traffic_sample *gw_traffic_at(const struct gw_traffic *, size_t i);
/* Columns from the oldest to the newest of the last `seconds`. */
void gw_traffic_json(const struct gw_traffic *, struct gw_json *, size_t seconds);
/* How late the control thread's timer ran: now, and the worst of the last 15 to 30 s. */
uint64_t gw_traffic_lag_us(const struct gw_traffic *);
uint64_t gw_traffic_lag_max_us(const struct gw_traffic *);
