/* Workers that hang: they live, but say nothing (gateway/supervisor/heartbeat.h). */
#pragma once
#include "gateway/supervisor/supervisor.h"

/* The worker has said something. */
void gw_supervisor_heard(struct gw_child *);
/* Kills what has been silent for too long, with a core dump where cores are kept. */
void gw_supervisor_watch(struct gw_supervisor *, uint64_t now_ms);
/* When gw_supervisor_watch() has something to do next; UINT64_MAX: never. */
uint64_t gw_supervisor_watch_due_ms(const struct gw_supervisor *);
