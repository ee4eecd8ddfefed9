/* Listening sockets of the process: SO_REUSEPORT, one per worker and address, opened once and kept over reloads. */
#pragma once
#include "gateway/process.h"

/* What one snapshot listens on: entries that the process already has, and new ones. */
struct gw_listening_set {
    struct gw_listening **entries;
    size_t size;
};
/* Opens what is missing (loader thread; nothing of the process changes). False after errors, nothing stays open then.
 */
bool gw_listening_open(struct gw_process *, const struct gw_snapshot *, struct gw_listening_set *, struct gw_errors *);
/* Control thread: the set becomes the process's; entries it no longer has are forgotten (workers close their sockets).
 * The entries array stays the caller's. */
void gw_listening_commit(struct gw_process *, const struct gw_listening_set *);
/* Control thread: one thread more has no flow of a udp listener that a generation (unnamed_at) names no longer. What
 * the last one has let go of is closed by the next gw_listening_sweep. */
void gw_listening_let_go(struct gw_process *, struct gw_listening *, uint64_t unnamed_at);
/* Control thread: closes what every thread has let go of, unless a load is running: its thread may have found such an
 * entry and be about to name it again. To be called when a load has come to its end, too. */
void gw_listening_sweep(struct gw_process *);
/* Control thread: the load failed after all: closes what was opened for it. */
void gw_listening_abandon(struct gw_process *, struct gw_listening_set *);
