#include "gateway/upstream/check.h"
#include <string.h>

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

/* status of a HealthCheckResponse is field 1: SERVING is 1 (grpc/health/v1/health.proto). */
static bool says_serving(const struct gw_check *self)
{
    static const unsigned char serving[] = {0, 0, 0, 0, 2, 0x08, 1};
    return self->message_len == sizeof(serving) && memcmp(self->message, serving, sizeof(serving)) == 0;
}

static int grpc_status(const h2o_header_t *fields, size_t num_fields)
{
    for (size_t i = 0; i != num_fields; ++i) {
        if (!h2o_memis(fields[i].name->base, fields[i].name->len, H2O_STRLIT("grpc-status")))
            continue;
        size_t code = h2o_strtosize(fields[i].value.base, fields[i].value.len);
        return code <= 99 ? (int)code : -1;
    }
    return -1;
}

static void judge_call(struct gw_check *self, int code)
{
    bool passes = code >= 0 && routing_matcher_passes(self->matcher, code) &&
                  (code != 0 || !self->wants_serving || says_serving(self));
    release(self);
    judge(self,
          code < 0 ? ROUTING_PROBE_BAD_RESPONSE
          : passes ? ROUTING_PROBE_PASS
                   : ROUTING_PROBE_CODE_MISMATCH,
          code < 0 ? 0 : code);
}

/* kind->judge has the whole answer. */
static void judge_whole(struct gw_check *self)
{
    int status = self->kind->judge(self->kind);
    release(self);
    judge(self,
          status == 0                                     ? ROUTING_PROBE_BAD_RESPONSE
          : routing_matcher_passes(self->matcher, status) ? ROUTING_PROBE_PASS
                                                          : ROUTING_PROBE_CODE_MISMATCH,
          status);
}

/* The body is taken, within reason: a target that meets a reset logs it as an error of its client. */
static void on_head(void *data, const struct gw_response_head *head, bool body_follows)
{
    struct gw_check *self = data;
    int status = head->status;
    if (self->kind != NULL) {
        self->kind->on_head(self->kind, head);
        if (!body_follows)
            judge_whole(self);
        return;
    }
    if (self->is_grpc) {
        if (!body_follows || status != 200)
            judge_call(self, status == 200 ? grpc_status(head->fields, head->num_fields) : -1);
        return;
    }
    if (!body_follows)
        release(self);
    judge(self, routing_matcher_passes(self->matcher, status) ? ROUTING_PROBE_PASS : ROUTING_PROBE_CODE_MISMATCH,
          status);
}

static void on_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct gw_check *self = data;
    const struct gw_trailers *trailers;
    if (self->kind != NULL) {
        if (!self->kind->on_body(self->kind, bytes)) {
            release(self);
            judge(self, ROUTING_PROBE_BAD_RESPONSE, 0);
        } else if (is_last) {
            judge_whole(self);
        } else {
            gw_client_consumed(self->client, bytes.len);
        }
        return;
    }
    for (size_t i = 0; i != bytes.len && self->message_len != sizeof(self->message); ++i)
        self->message[self->message_len++] = (unsigned char)bytes.base[i];
    self->num_drained += bytes.len;
    if (self->is_grpc && !self->is_judged && (is_last || self->num_drained > MAX_DRAINED)) {
        trailers = is_last ? gw_client_trailers(self->client) : NULL;
        judge_call(self, trailers != NULL ? grpc_status(trailers->entries, trailers->size) : -1);
        return;
    }
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
                    const struct gw_client_request *request, const struct routing_matcher *matcher, bool is_grpc,
                    struct gw_check_kind *kind, uint64_t timeout_ms)
{
    static const struct gw_pool_limits limits = {0};
    static const struct gw_client_timeouts timeouts = {0}; /* the one timer is for all of it */
    gw_check_stop(self);
    gw_timer_init(&self->timeout, on_timeout);
    self->matcher = matcher;
    self->kind = kind;
    self->num_drained = self->message_len = 0;
    self->is_grpc = is_grpc;
    self->wants_serving =
        h2o_memis(request->target.base, request->target.len, H2O_STRLIT("/grpc.health.v1.Health/Check"));
    self->is_judged = false;
    self->client = gw_client_start(pool, endpoint, &limits, &timeouts, request, false, &callbacks, self);
    gw_timer_arm(self->thread->wheel, &self->timeout, gw_thread_now(self->thread) + timeout_ms);
}

bool gw_check_is_running(const struct gw_check *self) { return self->client != NULL && !self->is_judged; }
void gw_check_stop(struct gw_check *self) { release(self); }
