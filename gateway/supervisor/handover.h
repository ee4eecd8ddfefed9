/* What one supervisor leaves to the binary it becomes: sockets, children, counts. A text in a memory file, so that
 * versions can read each other's; descriptors and children survive the exec by themselves.
 *
 *     weir-handover 1
 *     self PID STARTED_MS RESTARTS ASKED_BY BINARY
 *     entry KIND IS_ACTIVATED BY_ACTIVE BY_NEXT DEV INO FD,FD,... ADDRESS|-
 *     child PID ROLE ORDERS SOCKETS STARTED_MS KILL_AT_MS GENERATION SHUTDOWN_MS UPGRADE_MS DRAIN_MS WATCHDOG_MS
 *         (ROLE: active next draining)
 *     end
 *
 * A reader ignores lines with a first word that it does not know, and what follows the fields it knows. */
#pragma once
#include "gateway/supervisor/supervisor.h"

#define GW_HANDOVER_VARIABLE "WEIR_HANDOVER"

/* A memory file with the supervisor's state, close-on-exec, at its start. -1 and errno. */
int gw_handover_write(const struct gw_supervisor *);
enum gw_handover_check {
    GW_HANDOVER_SAMPLE, /* is it understood? */
    GW_HANDOVER_LEFT,   /* by the process that writes it: and will every descriptor be open in the next program? */
    GW_HANDOVER_TAKEN,  /* by that program: and is every descriptor what it is said to be? */
};
/* Reads it back into an empty supervisor. On false (and why, a static text) the supervisor holds what was read so far.
 */
bool gw_handover_read(int fd, enum gw_handover_check, struct gw_supervisor *, const char **why);
/* Frees what gw_handover_read made without closing or ending anything. */
void gw_handover_dispose(struct gw_supervisor *);
/* Whether every descriptor of the state stays open in a program that takes our place. False and errno. */
bool gw_handover_keep_open(const struct gw_supervisor *, bool keep);
