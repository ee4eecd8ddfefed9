/* What an HTTP/2 client may make us do for nothing. Every kind of frame that costs us more than it costs its sender has
 * a budget per connection: so many at once, refilled evenly over ten seconds, and given back in part by honest use, so
 * that long-lived connections that cancel now and then go on while a flood ends within milliseconds. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* X(NAME, setting, initial, help) */
#define GW_HTTP2_BUDGETS(X)                                                                                            \
    X(RESETS, "resets", 200,                                                                                           \
      "Requests a client may cancel on one HTTP/2 connection in 10 s, besides one for each that it let complete.")     \
    X(STREAM_ERRORS, "stream_errors", 100, "Streams that had to be reset for a client's mistakes in 10 s.")            \
    X(PINGS, "pings", 200, "PING frames of one connection in 10 s, besides one for each DATA frame that it got.")      \
    X(SETTINGS, "settings", 50, "SETTINGS frames of one connection in 10 s.")                                          \
    X(PRIORITIES, "priorities", 1000, "PRIORITY and PRIORITY_UPDATE frames of one connection in 10 s.")                \
    X(EMPTY_FRAMES, "empty_frames", 200,                                                                               \
      "Frames of one connection in 10 s that carry nothing: DATA without data, frames for ended streams, unknown "     \
      "ones; besides one for each completed request.")                                                                 \
    X(WINDOW_UPDATES, "window_updates", 1000,                                                                          \
      "WINDOW_UPDATE frames of one connection in 10 s, besides two for each DATA frame worth one.")                    \
    X(CONTINUATIONS, "continuations", 16, "CONTINUATION frames of one field section.")                                 \
    X(FIELD_BYTES, "field_sections", 4,                                                                                \
      "How many times header_block a field section may decompress to; above header_block the answer is 431.")

enum gw_http2_budget {
#define X(name, setting, initial, help) GW_HTTP2_##name,
    GW_HTTP2_BUDGETS(X)
#undef X
        GW_HTTP2_NUM_BUDGETS
};

const char *gw_http2_budget_name(enum gw_http2_budget); /* of its setting */

enum { GW_HTTP2_REFILL_US = 10 * 1000 * 1000 };

/* A bucket of `limit` that refills within GW_HTTP2_REFILL_US: when it will be full again. */
struct gw_http2_bucket {
    uint64_t full_at_us;
};

/* Takes one; false: there was none left. Never false for a limit of 0, which is none. */
static inline bool gw_http2_bucket_take(struct gw_http2_bucket *bucket, uint32_t limit, uint64_t now_us)
{
    if (limit == 0)
        return true;
    if (bucket->full_at_us < now_us)
        bucket->full_at_us = now_us;
    bucket->full_at_us += GW_HTTP2_REFILL_US / limit;
    return bucket->full_at_us - now_us <= GW_HTTP2_REFILL_US;
}

/* Gives n back. */
static inline void gw_http2_bucket_give(struct gw_http2_bucket *bucket, uint32_t limit, uint32_t n)
{
    uint64_t worth_us = limit != 0 ? (uint64_t)n * (GW_HTTP2_REFILL_US / limit) : 0;
    bucket->full_at_us = bucket->full_at_us > worth_us ? bucket->full_at_us - worth_us : 0;
}
