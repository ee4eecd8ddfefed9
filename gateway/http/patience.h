/* Against clients that are slow on purpose. How long we wait for a body: a client may pause for body_timeout, but not
 * dole out a byte before each end of it. Waiting is paid from an account that holds body_timeout at most, and bytes pay
 * time into it at min_body_rate. And what is no progress in taking a response. */
#pragma once
#include "gateway/http/stream.h"

struct gw_patience {
    uint64_t left_ms, since_ms; /* since_ms 0: not waiting for the client */
};

static inline void gw_patience_init(struct gw_patience *self, const struct gw_http_settings *settings)
{
    *self = (struct gw_patience){.left_ms = settings->body_timeout_ms};
}

/* We wait from now on, if we do not yet: returns how long. Without is_rate_asked only pauses count: once the response
 * has begun both sides may talk at their own pace. */
static inline uint64_t gw_patience_wait(struct gw_patience *self, const struct gw_http_settings *settings,
                                        uint64_t now_ms, bool is_rate_asked)
{
    if (self->since_ms == 0)
        self->since_ms = now_ms;
    bool is_short = is_rate_asked && settings->min_body_rate != 0 && self->left_ms < settings->body_timeout_ms;
    return is_short ? self->left_ms : settings->body_timeout_ms;
}

/* So many bytes came. */
static inline void gw_patience_pay(struct gw_patience *self, const struct gw_http_settings *settings, uint64_t now_ms,
                                   size_t bytes)
{
    if (self->since_ms == 0 || settings->min_body_rate == 0)
        return;
    uint64_t waited_ms = now_ms - self->since_ms;
    self->since_ms = 0;
    self->left_ms -= waited_ms < self->left_ms ? waited_ms : self->left_ms;
    self->left_ms += (uint64_t)bytes * 1000 / settings->min_body_rate;
    if (self->left_ms > settings->body_timeout_ms)
        self->left_ms = settings->body_timeout_ms;
}

/* Between two looks half a send_timeout apart; before: UINT64_MAX at the first. */
static inline bool gw_send_is_stalled(const struct gw_http_settings *settings, uint64_t before, uint64_t seen)
{
    uint64_t least = settings->min_send_rate * settings->send_timeout_ms / 2000;
    return before != UINT64_MAX && seen - before < (least != 0 ? least : 1);
}
