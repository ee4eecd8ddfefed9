/* Does every thread of this worker process still turn? The control thread looks once a second and tells the supervisor,
 * which replaces a worker that says nothing for watchdog_timeout: a loop that hangs would keep its share of the
 * connections for ever. */
#pragma once
#include "gateway/base/wheel.h"

struct gw_process;

enum { GW_HEARTBEAT_MS = 1000 };

struct gw_heartbeat {
    struct gw_timer timer;
    uint64_t silent_since_ms; /* monotonic; 0: all turn */
};

/* Control thread, once its loop runs. Nothing without a supervisor. */
void gw_heartbeat_start(struct gw_process *);
