/* The worker that ends: one packet after the other with up to 64 flows, as fast as the other side takes them, with
 * turns of the loop in between. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "gateway/base/log.h"
#include "gateway/l4/udp_handover.h"
#include "gateway/l4/udp_wire.h"
#include "gateway/worker.h"

enum {
    PACKETS_A_TURN = 8,
    DATAGRAMS_A_TURN = 128,
    TIME_MS = 10000, /* for all of it: the next worker does not answer any sooner later on */
};

struct gw_udp_giving {
    struct gw_udp *udp;
    h2o_socket_t *channel;
    struct gw_timer deadline;
    bool is_ending;
    size_t held; /* of `packet`: a datagram that the channel had no room for */
    uint64_t began_ms, num_flows, num_datagrams;
    char packet[GW_UDP_WIRE_MAX];
};

/* ---- the end ---- */

static void let_go(struct gw_udp_giving *self)
{
    self->udp->giving = NULL;
    gw_timer_disarm(&self->deadline);
    h2o_socket_close(self->channel);
    free(self);
}

static void fail(struct gw_udp_giving *self, const char *why)
{
    struct gw_udp *udp = self->udp;

    gw_log(GW_LOG_WARNING, "udp", "the next worker takes no flows: %s; %zu of thread %u stay until they are quiet", why,
           udp->num_flows, udp->worker->thread.index);
    let_go(self);
    gw_udp_drain(udp->worker, GW_UDP_LEAVE);
}

static void on_deadline(struct gw_timer *timer)
{
    fail(H2O_STRUCT_FROM_MEMBER(struct gw_udp_giving, deadline, timer), "it is too slow");
}

/* ---- packets ---- */

enum outcome { SENT, NO_ROOM, FAILED };

static enum outcome send_packet(struct gw_udp_giving *self, size_t size, const int *fds, unsigned num_fds)
{
    struct iovec part = {self->packet, size};
    char control[CMSG_SPACE(sizeof(int) * GW_UDP_WIRE_FLOWS_MAX)] = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t n;

    if (num_fds != 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * num_fds);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * num_fds);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * num_fds);
    }
    while ((n = sendmsg(h2o_socket_get_fd(self->channel), &message, MSG_NOSIGNAL | MSG_DONTWAIT)) == -1 &&
           errno == EINTR)
        ;
    if (n != -1)
        return SENT;
    return errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS ? NO_ROOM : FAILED;
}

static struct gw_udp_listener *find_listener(struct gw_udp *udp)
{
    for (h2o_linklist_t *node = udp->listeners.next; node != &udp->listeners; node = node->next) {
        struct gw_udp_listener *listener = H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, link, node);
        if (listener->table.size != 0)
            return listener;
    }
    return NULL;
}

/* The oldest go first, so that they are the oldest there, too. */
static h2o_linklist_t *oldest(struct gw_udp_listener *listener)
{
    return !h2o_linklist_is_empty(&listener->unproven) ? &listener->unproven : &listener->proven;
}

static struct gw_udp_flow *flow_at(h2o_linklist_t *node)
{
    return H2O_STRUCT_FROM_MEMBER(struct gw_udp_flow, link, node);
}

/* Some flows of a listener that come by one socket. */
static enum outcome give_some(struct gw_udp_giving *self, struct gw_udp_listener *listener)
{
    int fds[GW_UDP_WIRE_FLOWS_MAX];
    h2o_linklist_t *list = oldest(listener);
    uint32_t sock = flow_at(list->next)->sock;
    struct gw_udp_writer writer;
    enum outcome outcome;

    gw_udp_wire_begin(&writer, self->packet, GW_UDP_WIRE_FLOWS, listener, sock);
    for (h2o_linklist_t *node = list->next; node != list; node = node->next) {
        struct gw_udp_flow *flow = flow_at(node);
        if (flow->sock != sock || !gw_udp_wire_put(&writer, flow))
            break;
        fds[writer.count - 1] = flow->fd;
    }
    if (writer.count == 0) { /* names beyond all measure */
        gw_udp_end(flow_at(list->next), GW_REASON_SHUTTING_DOWN);
        return SENT;
    }
    if ((outcome = send_packet(self, writer.size, fds, writer.count)) == SENT) {
        self->num_flows += writer.count;
        for (uint32_t i = 0; i != writer.count; ++i)
            gw_udp_part(flow_at(list->next));
    }
    return outcome;
}

/* ---- datagrams of others' flows ---- */

static void hold(struct gw_udp_giving *self, size_t size)
{
    self->held = size;
    gw_udp_read(self->udp, false);
    gw_udp_go_on_giving(self->udp);
}

/* False: nothing more is to be read now. */
static bool pass_on(struct gw_udp_listener *listener, const struct gw_udp_key *key, const struct msghdr *msg,
                    const struct gw_udp_bundle *bundle)
{
    struct gw_udp_giving *self = listener->udp->giving;
    struct gw_udp_writer writer;

    gw_udp_wire_begin(&writer, self->packet, GW_UDP_WIRE_DATAGRAM, listener, listener->sock);
    gw_udp_wire_put_datagram(&writer, key, msg, bundle);
    self->num_datagrams += gw_udp_bundle_count(bundle);
    switch (send_packet(self, writer.size, NULL, 0)) {
    case SENT:
        return true;
    case NO_ROOM:
        hold(self, writer.size);
        return false;
    case FAILED:
        fail(self, strerror(errno));
        return false;
    }
    return false;
}

static bool receive(struct gw_udp_listener *listener, int fd, struct mmsghdr *msg)
{
    struct gw_udp_batch *in = &listener->udp->in;

    msg->msg_hdr.msg_name = &in->peers[0];
    msg->msg_hdr.msg_namelen = sizeof(in->peers[0]);
    msg->msg_hdr.msg_control = in->control[0];
    msg->msg_hdr.msg_controllen = GW_UDP_CONTROL;
    return recvmmsg(fd, msg, 1, MSG_DONTWAIT, NULL) == 1;
}

void gw_udp_give_datagrams(struct gw_udp_listener *listener, int fd)
{
    struct gw_udp *udp = listener->udp;
    struct mmsghdr *msg = &udp->in.msgs[0];
    struct gw_udp_key key;

    for (unsigned i = 0; i != DATAGRAMS_A_TURN && receive(listener, fd, msg); ++i) {
        struct gw_udp_bundle bundle = gw_udp_bundle_of(msg);
        if (!gw_udp_read_key(listener, &msg->msg_hdr, &key))
            gw_udp_drop(listener, GW_UDP_DROPPED_BAD_SOURCE, gw_udp_bundle_count(&bundle));
        else if (gw_udp_table_find(&listener->table, gw_udp_hash(udp, &key), &key) != NULL)
            gw_udp_take(listener, &key, &msg->msg_hdr, &bundle);
        else if (!pass_on(listener, &key, &msg->msg_hdr, &bundle))
            return;
    }
}

/* ---- turns ---- */

/* Nothing is read after this, so that it is the last word. */
static enum outcome say_end(struct gw_udp_giving *self)
{
    struct gw_udp *udp = self->udp;
    struct gw_udp_writer writer;
    enum outcome outcome;

    self->is_ending = true;
    gw_udp_read(udp, false);
    gw_udp_wire_end(&writer, self->packet, udp->worker->thread.index, udp->worker->process->num_workers);
    if ((outcome = send_packet(self, writer.size, NULL, 0)) != SENT)
        return outcome;
    if (self->num_flows != 0 || self->num_datagrams != 0)
        gw_log(GW_LOG_NOTICE, "udp", "thread %u has given %llu flows to the next worker in %llu ms, and %llu datagrams",
               udp->worker->thread.index, (unsigned long long)self->num_flows,
               (unsigned long long)(gw_now_ms() - self->began_ms), (unsigned long long)self->num_datagrams);
    let_go(self);
    gw_udp_drain(udp->worker, GW_UDP_LEAVE);
    return SENT;
}

static enum outcome take_turn(struct gw_udp_giving *self)
{
    struct gw_udp_listener *listener;
    enum outcome outcome = SENT;

    if (self->held != 0) {
        if ((outcome = send_packet(self, self->held, NULL, 0)) != SENT)
            return outcome;
        self->held = 0;
        gw_udp_read(self->udp, true);
    }
    for (unsigned i = 0; i != PACKETS_A_TURN && outcome == SENT; ++i) {
        if ((listener = find_listener(self->udp)) == NULL)
            return gw_udp_awaits_flows(self->udp->worker->process) ? SENT : say_end(self);
        outcome = give_some(self, listener);
    }
    return outcome;
}

static void on_room(h2o_socket_t *channel, const char *err)
{
    struct gw_udp_giving *self = channel->data;
    struct gw_udp *udp = self->udp;

    switch (err == NULL ? take_turn(self) : FAILED) {
    case FAILED:
        fail(self, err != NULL ? err : strerror(errno));
        break;
    case NO_ROOM:
        gw_udp_go_on_giving(udp);
        break;
    case SENT: /* it may be over; with nothing left it waits for those that are awaited */
        if (udp->num_flows != 0 || !gw_udp_awaits_flows(udp->worker->process))
            gw_udp_go_on_giving(udp);
        break;
    }
}

void gw_udp_go_on_giving(struct gw_udp *udp)
{
    if (udp != NULL && udp->giving != NULL && !h2o_socket_is_writing(udp->giving->channel))
        h2o_socket_notify_write(udp->giving->channel, on_room);
}

/* ---- the beginning ---- */

/* number: the channel's descriptor, and in the last bit whether bundles may be left in the sockets. */
static void on_give(struct gw_message *message)
{
    struct gw_worker *worker = message->worker;
    struct gw_udp *udp = gw_udp_of(worker);
    struct gw_udp_giving *self;
    int fd = (int)(message->number >> 1);

    if (udp->giving != NULL) { /* asked twice */
        close(fd);
        return;
    }
    if ((message->number & 1) == 0)
        gw_udp_end_bundles(udp);
    self = h2o_mem_alloc(sizeof(*self));
    memset(self, 0, offsetof(struct gw_udp_giving, packet));
    self->udp = udp;
    self->began_ms = gw_now_ms();
    self->channel = h2o_evloop_socket_create(worker->thread.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    self->channel->data = self;
    gw_timer_init(&self->deadline, on_deadline);
    gw_timer_arm(worker->thread.wheel, &self->deadline, self->began_ms + TIME_MS);
    udp->giving = self;
    gw_udp_go_on_giving(udp);
}

void gw_udp_hand_over(struct gw_process *process, int fd, bool takes_bundles)
{
    for (unsigned i = 0; i != process->num_workers; ++i) {
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* without it the other side waits in vain for this thread's end */
        if (copy != -1)
            gw_worker_tell_number(&process->workers[i], on_give, (uint64_t)copy << 1 | takes_bundles);
    }
    close(fd);
}
