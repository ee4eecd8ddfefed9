/* How late a loop was lately. By the loop's own thread; microseconds. */
#pragma once
#include <stdint.h>

/* The worst of two windows, so that it is not forgotten before somebody could see it. */
struct gw_lag_window {
    uint64_t now_us, before_us; /* worst of this window and of the one before */
    uint64_t began_us;
};

/* Takes how late a timer was; returns the worst of the last 15 to 30 s. */
uint64_t gw_lag_note(struct gw_lag_window *, uint64_t now_us, uint64_t late_us);
