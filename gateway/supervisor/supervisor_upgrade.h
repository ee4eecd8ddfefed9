/* Changing the binary under a running supervisor. The process stays: it has the number that systemd, a container or a
 * shell knows. What runs in it is replaced by exec once a worker of the new binary serves, so that there is a way back
 * until the last moment. */
#pragma once
#include "gateway/supervisor/supervisor.h"

/* Where the binary lies that an upgrade would start: what argv[0] names, as long as that is what runs; owned by the
 * caller. */
char *gw_supervisor_find_binary(const char *argv0);
/* Starts a worker of the binary on disk; asked_by (0: nobody) gets the answer. */
void gw_supervisor_upgrade(struct gw_supervisor *, pid_t asked_by);
/* The new one is not going to be: the old one stays. */
void gw_supervisor_fail_upgrade(struct gw_supervisor *, const char *why);
/* The new worker serves: become the new binary. Returns when that failed. */
void gw_supervisor_become(struct gw_supervisor *);
/* In the new binary: what the old one has left, then the old worker is told to drain. False: there is nothing to go on
 * with. */
bool gw_supervisor_take_over(struct gw_supervisor *);

/* supervisor.c, but for the first of these: supervisor_reports.c */
/* The next worker serves: it is the active one from now on. */
void gw_supervisor_promote(struct gw_supervisor *);
void gw_supervisor_drain(struct gw_child *, uint64_t timeout_ms, bool has_successor);
/* A worker of the binary that runs, now. */
void gw_supervisor_start_worker(struct gw_supervisor *);
void gw_supervisor_answer_upgrade(struct gw_supervisor *, bool is_ok, const char *text);
