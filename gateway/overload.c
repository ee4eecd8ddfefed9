#include "gateway/overload.h"
#include <stdio.h>
#include <unistd.h>
#include "gateway/worker.h"

static uint64_t resident_bytes(void)
{
    unsigned long size, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file == NULL)
        return 0;
    if (fscanf(file, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    fclose(file);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* A tenth above the bound is twice the pressure: memory has no room for gentle slopes. */
static uint64_t memory_pressure(uint64_t bound)
{
    uint64_t now = resident_bytes();
    if (now < bound)
        return now * GW_PRESSURE_FULL / bound;
    return GW_PRESSURE_FULL + (now - bound) * 10 * GW_PRESSURE_FULL / bound;
}

void gw_overload_look(struct gw_worker *worker, uint64_t late_us)
{
    const struct gw_overload_conf *conf;
    uint64_t pressure = 0, memory;

    if (worker->held == NULL)
        return;
    conf = &worker->held->snapshot->config->overload;
    if (conf->loop_lag_ms != 0)
        pressure = late_us * GW_PRESSURE_FULL / (conf->loop_lag_ms * 1000);
    if (conf->memory != 0 && (memory = memory_pressure(conf->memory)) > pressure)
        pressure = memory;
    worker->pressure = pressure < UINT32_MAX ? (uint32_t)pressure : UINT32_MAX;
    __atomic_store_n((uint64_t *)&worker->stats.pressure, worker->pressure, __ATOMIC_RELAXED);
}

bool gw_overload_refuses(struct gw_worker *worker, int criticality)
{
    uint32_t above = worker->pressure - GW_PRESSURE_FULL;

    switch (criticality) {
    case ROUTING_CRITICAL:
        return false;
    case ROUTING_SHEDDABLE:
        return true;
    default:
        return above >= GW_PRESSURE_FULL || gw_thread_random(&worker->thread) % GW_PRESSURE_FULL < above;
    }
}
