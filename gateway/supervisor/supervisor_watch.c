#include "gateway/supervisor/supervisor_watch.h"
#include <signal.h>
#include "gateway/base/log.h"
#include "gateway/base/wheel.h"

enum {
    SECOND_LOOK_MS = 1000, /* a machine that was stopped as a whole lets all deadlines pass at once */
    LAST_WILL_MS = 2000,   /* for writing a core; a stopped process does not die of SIGABRT at all */
};

void gw_supervisor_heard(struct gw_child *child)
{
    child->heard_ms = gw_now_ms();
    child->suspected_ms = 0;
}

static uint64_t due_ms(const struct gw_child *child)
{
    if (child->ready.watchdog_timeout_ms == 0 || child->state == GW_CHILD_STARTING || child->is_hung)
        return UINT64_MAX;
    if (child->suspected_ms != 0)
        return child->suspected_ms + SECOND_LOOK_MS;
    return child->heard_ms + child->ready.watchdog_timeout_ms;
}

static void end_silence(struct gw_child *child, uint64_t now_ms)
{
    if (child->suspected_ms == 0) {
        child->suspected_ms = now_ms;
        return;
    }
    gw_log(GW_LOG_ERROR, "supervisor", "worker %d hangs: no sign of life for %llu s; killing it (watchdog_timeout)",
           (int)child->pid, (unsigned long long)(now_ms - child->heard_ms) / 1000);
    child->is_hung = true;
    kill(child->pid, SIGABRT);
    if (child->kill_at_ms == 0 || child->kill_at_ms > now_ms + LAST_WILL_MS)
        child->kill_at_ms = now_ms + LAST_WILL_MS;
}

void gw_supervisor_watch(struct gw_supervisor *supervisor, uint64_t now_ms)
{
    for (size_t i = 0; i != supervisor->num_children; ++i)
        if (now_ms >= due_ms(supervisor->children[i]))
            end_silence(supervisor->children[i], now_ms);
}

uint64_t gw_supervisor_watch_due_ms(const struct gw_supervisor *supervisor)
{
    uint64_t first_ms = UINT64_MAX;

    for (size_t i = 0; i != supervisor->num_children; ++i)
        if (due_ms(supervisor->children[i]) < first_ms)
            first_ms = due_ms(supervisor->children[i]);
    return first_ms;
}
