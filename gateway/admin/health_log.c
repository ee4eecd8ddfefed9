#include "gateway/admin/health_log.h"
#include <string.h>

static struct gw_health_log *log_of(struct gw_endpoint_entry *entry)
{
    if (entry->log == NULL) {
        entry->log = h2o_mem_alloc(sizeof(*entry->log));
        memset(entry->log, 0, sizeof(*entry->log));
        entry->log->checked_state = ROUTING_HEALTH_INITIAL;
    }
    return entry->log;
}

void gw_health_log_check(struct gw_endpoint_entry *entry, enum routing_probe result, int status, uint64_t elapsed_us,
                         uint64_t wall_ms)
{
    struct gw_health_log *log = log_of(entry);
    log->checks[log->num_checks++ % GW_HEALTH_LOG_MAX] = (struct gw_health_check_event){
        wall_ms, elapsed_us < UINT32_MAX ? (uint32_t)elapsed_us : UINT32_MAX, (uint16_t)status, (uint8_t)result};
    if (log->checked_state == routing_health_checked_state(&entry->health))
        return;
    log->checked_state = (uint8_t)routing_health_checked_state(&entry->health);
    gw_health_log_change(entry, GW_HEALTH_BY_CHECK, INT32_MIN, wall_ms);
}

void gw_health_log_change(struct gw_endpoint_entry *entry, enum gw_health_cause cause, int32_t weight, uint64_t wall_ms)
{
    struct gw_health_log *log = log_of(entry);
    log->changes[log->num_changes++ % GW_HEALTH_LOG_MAX] =
        (struct gw_health_change_event){wall_ms, (uint8_t)routing_health_state(&entry->health), (uint8_t)cause, weight,
                                        routing_health_reason(&entry->health)};
}

const char *gw_health_log_result(enum routing_probe result)
{
    switch (result) {
    case ROUTING_PROBE_PASS:
        return "pass";
    case ROUTING_PROBE_TIMED_OUT:
        return "timeout";
    case ROUTING_PROBE_CONNECTION_FAILED:
        return "connection_failed";
    case ROUTING_PROBE_BAD_RESPONSE:
        return "bad_response";
    case ROUTING_PROBE_CODE_MISMATCH:
        return "code_mismatch";
    }
    return "?";
}
