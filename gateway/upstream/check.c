#include "gateway/upstream/check.h"

enum { MAX_DRAINED = 64 * 1024 };

static void release(struct gw_check *self)
{
    struct gw_client *client = self->client;
    gw_timer_disarm(&self->timeout);
    self->client = NULL;
    gw_client_release(client);
}

static void judge(struct gw_check *self, enum routing_probe result, int status)
{
    self->is_judged = true;
    self->on_done(self, result, status);
}

static void on_timeout(struct gw_timer *timer)
{
    struct gw_check *self = H2O_STRUCT_FROM_MEMBER(struct gw_check, timeout, timer);
    release(self);
    if (!self->is_judged)
        judge(self, ROUTING_PROBE_TIMED_OUT, 0);
}

/* The body is taken, within reason: a target that meets a reset logs it as an error of its client. */
static void on_head(void *data, const struct gw_response_head *head, bool body_follows)
{
    struct gw_check *self = data;
    int status = head->status;
    if (!body_follows)
        release(self);
    judge(self, routing_matcher_passes(self->matcher, status) ? ROUTING_PROBE_PASS : ROUTING_PROBE_CODE_MISMATCH,
          status);
}

static void on_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct gw_check *self = data;
    self->num_drained += bytes.len;
    if (is_last || self->num_drained > MAX_DRAINED)
        release(self);
    else
        gw_client_consumed(self->client, bytes.len);
}

static enum routing_probe probe_of(const struct gw_client_failure *failure)
{
    switch (failure->error) {
    case GW_CLIENT_BAD_HEAD:
    case GW_CLIENT_HEAD_TOO_LARGE:
        return ROUTING_PROBE_BAD_RESPONSE;
    case GW_CLIENT_CONNECT_TIMEOUT:
    case GW_CLIENT_TLS_TIMEOUT:
    case GW_CLIENT_FIRST_BYTE_TIMEOUT:
    case GW_CLIENT_IDLE_TIMEOUT:
        return ROUTING_PROBE_TIMED_OUT;
    default:
        return failure->any_response_byte ? ROUTING_PROBE_BAD_RESPONSE : ROUTING_PROBE_CONNECTION_FAILED;
    }
}

static void on_error(void *data, enum gw_client_error error, bool retry_is_safe)
{
    struct gw_check *self = data;
    enum routing_probe result = probe_of(gw_client_failure(self->client));
    release(self);
    if (!self->is_judged)
        judge(self, result, 0);
}

static const struct gw_client_callbacks callbacks = {NULL, on_head, on_body, NULL, on_error};

void gw_check_start(struct gw_check *self, struct gw_pool *pool, const struct gw_endpoint *endpoint,
                    const struct gw_client_request *request, const struct routing_matcher *matcher, uint64_t timeout_ms)
{
    static const struct gw_pool_limits limits = {0};
    static const struct gw_client_timeouts timeouts = {0}; /* the one timer is for all of it */
    gw_check_stop(self);
    gw_timer_init(&self->timeout, on_timeout);
    self->matcher = matcher;
    self->num_drained = 0;
    self->is_judged = false;
    self->client = gw_client_start(pool, endpoint, &limits, &timeouts, request, false, &callbacks, self);
    gw_timer_arm(self->thread->wheel, &self->timeout, gw_thread_now(self->thread) + timeout_ms);
}

bool gw_check_is_running(const struct gw_check *self) { return self->client != NULL && !self->is_judged; }
void gw_check_stop(struct gw_check *self) { release(self); }
