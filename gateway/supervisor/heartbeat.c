#include "gateway/supervisor/heartbeat.h"
#include "gateway/base/log.h"
#include "gateway/process.h"

/* The first thread that did not turn since the last look; NULL: none. Threads that have ended need not. */
static struct gw_worker *find_silent(struct gw_process *process)
{
    struct gw_worker *silent = NULL;

    for (unsigned i = 0; i != process->num_workers; ++i) {
        struct gw_worker *worker = &process->workers[i];
        uint64_t beats = gw_counter_read(&worker->stats.beats);
        if (beats == worker->seen_beats && !worker->has_ended && silent == NULL)
            silent = worker;
        worker->seen_beats = beats;
    }
    return silent;
}

static void on_due(struct gw_timer *timer)
{
    struct gw_process *process = H2O_STRUCT_FROM_MEMBER(struct gw_process, heartbeat.timer, timer);
    struct gw_heartbeat *self = &process->heartbeat;
    const struct gw_worker *silent = find_silent(process);
    uint64_t now_ms = gw_now_ms();

    if (silent == NULL) {
        self->silent_since_ms = 0;
        gw_supervised_report(process->supervised, GW_REPORT_ALIVE);
    } else if (self->silent_since_ms == 0) {
        self->silent_since_ms = now_ms;
        gw_log(GW_LOG_WARNING, "process", "thread %u has not turned for a second", silent->thread.index);
    }
    gw_timer_arm(process->control.wheel, timer, now_ms + GW_HEARTBEAT_MS);
}

void gw_heartbeat_start(struct gw_process *process)
{
    if (process->supervised == NULL)
        return;
    gw_timer_init(&process->heartbeat.timer, on_due);
    gw_timer_arm(process->control.wheel, &process->heartbeat.timer, gw_now_ms() + GW_HEARTBEAT_MS);
}
