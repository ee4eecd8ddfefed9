/* Timers: a hierarchical wheel on the monotonic clock, one per thread, O(1) arm and disarm. The loop asks how long it
 * may sleep and then runs what is due. Time is passed in, so tests do not sleep. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <h2o/linklist.h>

struct gw_timer {
    h2o_linklist_t link;               /* unlinked when not armed */
    uint64_t due_ms;                   /* as armed; the next tick when that was in the past */
    void (*on_due)(struct gw_timer *); /* the timer is disarmed before the call; it may be armed again or freed in it */
};

struct gw_wheel;
struct gw_wheel *gw_wheel_create(uint64_t now_ms);
void gw_wheel_destroy(struct gw_wheel *); /* timers still armed are forgotten, not called */

void gw_timer_init(struct gw_timer *, void (*on_due)(struct gw_timer *));
bool gw_timer_is_armed(const struct gw_timer *);
/* Arms or moves. Never fires early; at most one tick (8 ms) late. Due times up to 60 days ahead. */
void gw_timer_arm(struct gw_wheel *, struct gw_timer *, uint64_t due_ms);
void gw_timer_disarm(struct gw_timer *); /* fine when not armed */

/* Calls all that is due at now_ms, in order of due tick. Timers armed for the past during the run fire in the next. */
void gw_wheel_run(struct gw_wheel *, uint64_t now_ms);
/* The same for about so many microseconds: what is left is called first by the next run, and no wait is long before. */
void gw_wheel_run_for(struct gw_wheel *, uint64_t now_ms, uint64_t for_us);
/* Milliseconds until the next timer could be due, at most max_wait_ms. */
int32_t gw_wheel_wait(const struct gw_wheel *, uint64_t now_ms, int32_t max_wait_ms);

/* CLOCK_MONOTONIC in milliseconds and in microseconds. */
uint64_t gw_now_ms(void);
uint64_t gw_now_us(void);
