/* What happened to one target: its last checks and its last changes of state. Control thread only. */
#pragma once
#include "gateway/process.h"

enum { GW_HEALTH_LOG_MAX = 50 };

struct gw_health_check_event {
    uint64_t wall_ms;
    uint32_t elapsed_us;
    uint16_t status; /* of HTTP; 0: none */
    uint8_t result;  /* enum routing_probe */
};
enum gw_health_cause { GW_HEALTH_BY_CHECK, GW_HEALTH_BY_OPERATOR, GW_HEALTH_BY_OUTLIER };
struct gw_health_change_event {
    uint64_t wall_ms;
    uint8_t state;      /* enum routing_health_state after it */
    uint8_t cause;      /* enum gw_health_cause */
    int32_t weight;     /* by an operator: -1 as configured; INT32_MIN: the change was not about the weight */
    const char *reason; /* a static text: routing_health_reason() */
};
struct gw_health_log {
    struct gw_health_check_event checks[GW_HEALTH_LOG_MAX];
    struct gw_health_change_event changes[GW_HEALTH_LOG_MAX];
    uint32_t num_checks, num_changes; /* ever */
    uint8_t checked_state;            /* as of the last check */
};

/* Notes the change of state too, if the check was one. */
void gw_health_log_check(struct gw_endpoint_entry *, enum routing_probe, int status, uint64_t elapsed_us,
                         uint64_t wall_ms);
void gw_health_log_change(struct gw_endpoint_entry *, enum gw_health_cause, int32_t weight, uint64_t wall_ms);
/* "pass" "timeout" ... */
const char *gw_health_log_result(enum routing_probe);
