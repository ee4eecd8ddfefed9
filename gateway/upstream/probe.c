#include "gateway/upstream/probe.h"
#include "gateway/http/head.h"
#include "gateway/http/socket.h"

enum { MAX_HEAD = 16 * 1024, MAX_INTERIM = 8, READ_SIZE = 8 * 1024, MAX_DRAINED = 64 * 1024 };

static void close_socket(struct gw_probe *self)
{
    gw_timer_disarm(&self->timeout);
    if (self->sock != NULL)
        h2o_socket_close(self->sock);
    self->sock = NULL;
}

static void judge(struct gw_probe *self, enum routing_probe result, int status)
{
    self->is_judged = true;
    if (result != ROUTING_PROBE_PASS && result != ROUTING_PROBE_CODE_MISMATCH)
        close_socket(self);
    self->on_done(self, result, status);
}

static void on_timeout(struct gw_timer *timer)
{
    struct gw_probe *self = H2O_STRUCT_FROM_MEMBER(struct gw_probe, timeout, timer);
    if (self->is_judged)
        close_socket(self);
    else
        judge(self, ROUTING_PROBE_TIMED_OUT, 0);
}

/* Closing on unread bytes would reset the connection, which a target logs as an error of its client. */
static void drain(struct gw_probe *self)
{
    self->num_drained += self->sock->input->size;
    h2o_buffer_consume(&self->sock->input, self->sock->input->size);
    if (self->num_drained > MAX_DRAINED)
        close_socket(self);
}

/* Returns false while the head is incomplete. */
static bool read_head(struct gw_probe *self)
{
    static const struct gw_head_limits limits = {MAX_HEAD, SIZE_MAX, GW_HEAD_MAX_FIELDS};
    h2o_header_t fields[GW_HEAD_MAX_FIELDS];
    h2o_iovec_t names[GW_HEAD_MAX_FIELDS];
    struct gw_response_head head = {.fields = fields, .names = names};
    h2o_buffer_t **input = &self->sock->input;
    while ((*input)->size != 0) {
        size_t used;
        enum gw_head_result result =
            gw_head_parse_response((*input)->bytes, (*input)->size, self->parsed_len, &limits, &head, &used);
        if (result == GW_HEAD_INCOMPLETE && (*input)->size <= MAX_HEAD) {
            self->parsed_len = (*input)->size;
            return false;
        }
        if (result != GW_HEAD_OK || head.status == 101 || (head.status < 200 && ++self->num_interim > MAX_INTERIM)) {
            judge(self, ROUTING_PROBE_BAD_RESPONSE, 0);
            return true;
        }
        h2o_buffer_consume(input, used);
        self->parsed_len = 0;
        if (head.status < 200)
            continue;
        drain(self);
        judge(self,
              routing_matcher_passes(self->matcher, head.status) ? ROUTING_PROBE_PASS : ROUTING_PROBE_CODE_MISMATCH,
              head.status);
        return true;
    }
    return false;
}

static void on_readable(h2o_socket_t *sock, const char *err)
{
    struct gw_probe *self = sock->data;
    size_t had = sock->input->size;
    err = gw_socket_read(sock, err, READ_SIZE);
    bool got_any = sock->input->size != had;
    if (self->is_judged) {
        if (got_any)
            drain(self);
        if (err != NULL)
            close_socket(self);
        return;
    }
    if (got_any && read_head(self))
        return;
    if (err != NULL) {
        bool is_silent = sock->input->size == 0 && self->num_interim == 0;
        judge(self, is_silent ? ROUTING_PROBE_CONNECTION_FAILED : ROUTING_PROBE_BAD_RESPONSE, 0);
    }
}

/* A failed write shows itself to the reader too. */
static void on_written(h2o_socket_t *sock, const char *err) {}

static void on_connect(h2o_socket_t *sock, const char *err)
{
    struct gw_probe *self = sock->data;
    if (err != NULL) {
        judge(self, ROUTING_PROBE_CONNECTION_FAILED, 0);
        return;
    }
    if (self->matcher == NULL) {
        /* a new socket's buffer has room for a header */
        if (self->request.len != 0 &&
            send(h2o_socket_get_fd(sock), self->request.base, self->request.len, MSG_NOSIGNAL) < 0) {
            judge(self, ROUTING_PROBE_CONNECTION_FAILED, 0);
            return;
        }
        close_socket(self);
        judge(self, ROUTING_PROBE_PASS, 0);
        return;
    }
    gw_socket_setup(sock);
    h2o_socket_read_start(sock, on_readable);
    (void)gw_socket_write(sock, &self->request, 1, on_written);
}

void gw_probe_start(struct gw_probe *self, const struct gw_address *address, h2o_iovec_t request,
                    const struct routing_matcher *matcher, uint64_t timeout_ms)
{
    struct sockaddr_storage sa = address->sa; /* the library takes no const */
    gw_probe_stop(self);
    gw_timer_init(&self->timeout, on_timeout);
    self->request = request;
    self->matcher = matcher;
    self->parsed_len = self->num_drained = 0;
    self->num_interim = 0;
    self->is_judged = false;
    if (address->sa_len != 0)
        self->sock = h2o_socket_connect(self->thread->loop, (struct sockaddr *)&sa, address->sa_len, on_connect);
    if (self->sock == NULL) { /* no descriptor, no route, no such path */
        judge(self, ROUTING_PROBE_CONNECTION_FAILED, 0);
        return;
    }
    self->sock->data = self;
    gw_timer_arm(self->thread->wheel, &self->timeout, gw_thread_now(self->thread) + timeout_ms);
}

bool gw_probe_is_running(const struct gw_probe *self) { return self->sock != NULL && !self->is_judged; }
void gw_probe_stop(struct gw_probe *self) { close_socket(self); }
