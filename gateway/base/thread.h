/* What every module of one worker thread shares: loop, clock, timers. Created with the thread, lives as long as the
 * process. Modules embed nothing global; they are handed this. */
#pragma once
#include <h2o.h>
#include "gateway/base/wheel.h"

struct gw_thread {
    unsigned index; /* 0 .. num_threads-1 for workers; num_threads for the control thread */
    h2o_context_t *ctx;
    h2o_loop_t *loop;
    struct gw_wheel *wheel;
    uint64_t now_ms;  /* CLOCK_MONOTONIC, refreshed once per turn of the loop */
    uint64_t rng[2];  /* xorshift128+; see gw_thread_random */
    h2o_linklist_t deferred; /* of gw_deferred: run at the end of the turn */
    h2o_timeout_entry_t deferred_entry; /* on ctx->zero_timeout while deferred is not empty */
};

/* Work put off to the end of the current turn (libh2o.md 3.1): completion of a write is never called from inside the
 * write. */
struct gw_deferred {
    h2o_linklist_t link;
    void (*run)(struct gw_deferred *);
};
void gw_thread_init(struct gw_thread *, unsigned index, h2o_context_t *);
void gw_thread_defer(struct gw_thread *, struct gw_deferred *); /* fine when already put off */
void gw_thread_undefer(struct gw_deferred *);
/* One turn of the loop: waits at most max_wait_ms, runs events, timers and deferred work. */
int gw_thread_turn(struct gw_thread *, int32_t max_wait_ms);
uint64_t gw_thread_random(struct gw_thread *);
