#include "gateway/base/lag.h"

enum { LAG_WINDOW_US = 15 * 1000 * 1000 };

uint64_t gw_lag_note(struct gw_lag_window *window, uint64_t now_us, uint64_t late_us)
{
    if (now_us - window->began_us >= LAG_WINDOW_US) {
        window->before_us = now_us - window->began_us < 2 * LAG_WINDOW_US ? window->now_us : 0;
        window->now_us = 0;
        window->began_us = now_us;
    }
    if (late_us > window->now_us)
        window->now_us = late_us;
    return window->now_us > window->before_us ? window->now_us : window->before_us;
}
