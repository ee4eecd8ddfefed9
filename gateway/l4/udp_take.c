/* The worker that takes flows over: the control thread receives them and gives them to the threads whose sockets their
 * clients come by. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "gateway/base/log.h"
#include "gateway/l4/udp_handover.h"
#include "gateway/l4/udp_wire.h"
#include "gateway/worker.h"

enum {
    PACKETS_A_TURN = 32,
    PENDING_MAX = 128, /* packets on their way to the threads */
    SILENCE_MS = 5000, /* of the worker that ends: it is given up */
};

struct gw_udp_taking {
    struct gw_process *process;
    h2o_socket_t *channel; /* NULL: it is over */
    struct gw_timer silence;
    unsigned num_pending, num_ended;
    bool is_paused;
    uint64_t began_ms, num_flows, num_lost;
    char packet[GW_UDP_WIRE_MAX];
};

/* To a thread. */
struct parcel {
    struct gw_udp_taking *taking;
    unsigned num_fds;
    int fds[GW_UDP_WIRE_FLOWS_MAX];
    size_t size;
    char bytes[];
};

/* ---- on the loop of a worker ---- */

static void adopt_all(struct gw_udp_listener *listener, struct parcel *parcel, struct gw_udp_reader *reader)
{
    for (uint32_t i = 0; i != reader->head.count; ++i) {
        struct gw_udp_wire_flow flow;
        h2o_iovec_t group, target;
        if (!gw_udp_wire_next(reader, &flow, &group, &target))
            return;
        gw_udp_adopt(listener, &flow, group, target, reader->head.sock, i < parcel->num_fds ? parcel->fds[i] : -1);
        if (i < parcel->num_fds)
            parcel->fds[i] = -1;
    }
}

static void take_datagram(struct gw_udp_listener *listener, struct gw_udp_reader *reader)
{
    struct gw_udp_wire_flow flow;
    h2o_iovec_t group, target;

    if (!gw_udp_wire_next(reader, &flow, &group, &target))
        return;
    struct msghdr msg = {.msg_name = &flow.peer, .msg_namelen = flow.peer_len};
    struct gw_udp_bundle bundle = gw_udp_wire_rest(reader);
    listener->sock = reader->head.sock;
    gw_udp_take(listener, &flow.key, &msg, &bundle);
}

static void on_packet_done(struct gw_message *message);

static void on_parcel(struct gw_message *message)
{
    struct gw_worker *worker = message->worker;
    struct parcel *parcel = message->data;
    struct gw_udp_listener *listener = NULL;
    struct gw_udp_reader reader;
    uint64_t num_lost = 0;

    gw_udp_wire_read(&reader, parcel->bytes, parcel->size); /* it has been read before */
    if (worker->udp != NULL)
        listener = gw_udp_find(worker->udp, reader.address);
    if (listener == NULL || listener->index == UINT32_MAX || listener->num_socks == 0)
        num_lost = reader.head.count; /* this configuration has no such listener */
    else if (reader.head.type == GW_UDP_WIRE_FLOWS)
        adopt_all(listener, parcel, &reader);
    else
        take_datagram(listener, &reader);
    for (unsigned i = 0; i != parcel->num_fds; ++i)
        if (parcel->fds[i] != -1)
            close(parcel->fds[i]);
    gw_udp_go_on_giving(worker->udp);
    gw_process_tell_number(worker->process, on_packet_done, worker, parcel->taking, num_lost);
    free(parcel);
}

/* Nobody else reads: the sockets of one thread of the other worker (by what it is: index in the upper half, how many
 * there are in the lower one), or all (0). */
static void on_free(struct gw_message *message)
{
    struct gw_udp *udp = message->worker->udp;
    uint64_t whose = (uint64_t)(uintptr_t)message->data;
    uint32_t thread = (uint32_t)(whose >> 32), num_threads = (uint32_t)whose;

    if (udp == NULL || !udp->is_waiting)
        return;
    for (h2o_linklist_t *node = udp->listeners.next; node != &udp->listeners; node = node->next)
        gw_udp_read_freed(H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, link, node), thread, num_threads);
    if (num_threads == 0) {
        udp->is_waiting = false;
        gw_udp_go_on_giving(udp);
    }
}

/* ---- the control thread ---- */

static void tell_free(struct gw_process *process, uint32_t thread, uint32_t num_threads)
{
    for (unsigned i = 0; i != process->num_workers; ++i)
        gw_worker_tell(&process->workers[i], on_free, (void *)(uintptr_t)((uint64_t)thread << 32 | num_threads));
}

static void serve_all(struct gw_process *process)
{
    __atomic_store_n((bool *)&process->awaits_flows, false, __ATOMIC_RELEASE);
    tell_free(process, 0, 0);
}

static void finish(struct gw_udp_taking *self, const char *why)
{
    if (why != NULL)
        gw_log(GW_LOG_WARNING, "udp", "not all flows of the worker before this one were taken over: %s", why);
    if (self->num_flows != 0)
        gw_log(GW_LOG_NOTICE, "udp", "%llu flows taken over in %llu ms", (unsigned long long)self->num_flows,
               (unsigned long long)(gw_now_ms() - self->began_ms));
    gw_timer_disarm(&self->silence);
    h2o_socket_close(self->channel);
    self->channel = NULL;
    serve_all(self->process);
}

static void on_silence(struct gw_timer *timer)
{
    struct gw_udp_taking *self = H2O_STRUCT_FROM_MEMBER(struct gw_udp_taking, silence, timer);

    if (self->num_pending != 0) /* it is us */
        gw_timer_arm(self->process->control.wheel, timer, gw_now_ms() + SILENCE_MS);
    else
        finish(self, "it says no more");
}

static void take_fds(struct msghdr *message, struct parcel *parcel)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        parcel->num_fds = (unsigned)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(parcel->fds, CMSG_DATA(header), sizeof(int) * parcel->num_fds);
    }
}

static void deliver(struct gw_udp_taking *self, const struct gw_udp_reader *reader, struct msghdr *message, size_t size)
{
    struct gw_process *process = self->process;
    struct parcel *parcel = h2o_mem_alloc(sizeof(*parcel) + size);

    parcel->taking = self;
    parcel->num_fds = 0;
    parcel->size = size;
    memcpy(parcel->bytes, self->packet, size);
    take_fds(message, parcel); /* fewer than flows when there are no more descriptors for us */
    self->num_flows += reader->head.count;
    ++self->num_pending;
    gw_worker_tell(&process->workers[reader->head.sock % process->num_workers], on_parcel, parcel);
}

static void close_fds(struct msghdr *message)
{
    struct parcel none = {.num_fds = 0};
    take_fds(message, &none);
    for (unsigned i = 0; i != none.num_fds; ++i)
        close(none.fds[i]);
}

/* False: it is over. */
static bool take_packet(struct gw_udp_taking *self, struct msghdr *message, size_t size)
{
    struct gw_udp_reader reader;

    if ((message->msg_flags & MSG_TRUNC) != 0 || !gw_udp_wire_read(&reader, self->packet, size)) {
        close_fds(message);
        finish(self, "it is of another version");
        return false;
    }
    if (reader.head.type != GW_UDP_WIRE_END) {
        deliver(self, &reader, message, size);
        return true;
    }
    close_fds(message);
    tell_free(self->process, reader.head.thread, reader.head.num_threads);
    if (++self->num_ended != reader.head.num_threads)
        return true;
    finish(self, NULL);
    return false;
}

static bool receive(struct gw_udp_taking *self)
{
    char control[CMSG_SPACE(sizeof(int) * GW_UDP_WIRE_FLOWS_MAX)];
    struct iovec part = {self->packet, sizeof(self->packet)};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(h2o_socket_get_fd(self->channel), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

    if (n > 0)
        return take_packet(self, &message, (size_t)n);
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        finish(self, n == 0 ? "it has ended" : strerror(errno));
    return false;
}

static void on_channel(h2o_socket_t *channel, const char *err)
{
    struct gw_udp_taking *self = channel->data;

    gw_timer_arm(self->process->control.wheel, &self->silence, gw_now_ms() + SILENCE_MS);
    for (unsigned i = 0; i != PACKETS_A_TURN && receive(self); ++i)
        if (self->num_pending >= PENDING_MAX) {
            self->is_paused = true;
            h2o_socket_read_stop(self->channel);
            return;
        }
}

static void on_packet_done(struct gw_message *message)
{
    struct gw_udp_taking *self = message->data;

    --self->num_pending;
    if ((self->num_lost += message->number) != 0 && self->num_pending == 0) {
        gw_log(GW_LOG_NOTICE, "udp", "%llu flows have ended: the configuration has their listener no more",
               (unsigned long long)self->num_lost);
        self->num_lost = 0;
    }
    if (self->is_paused && self->channel != NULL && self->num_pending <= PENDING_MAX / 2) {
        self->is_paused = false;
        h2o_socket_read_start(self->channel, on_channel);
    }
}

void gw_udp_take_over(struct gw_process *process, int fd)
{
    struct gw_udp_taking *self = process->taking;

    if (self == NULL) { /* kept: threads may still speak of it */
        self = process->taking = h2o_mem_alloc(sizeof(*self));
        memset(self, 0, offsetof(struct gw_udp_taking, packet));
        self->process = process;
        gw_timer_init(&self->silence, on_silence);
    } else if (self->channel != NULL) {
        finish(self, "there is another one");
    }
    if (fd == -1) {
        serve_all(process);
        return;
    }
    self->num_ended = 0;
    self->num_flows = 0;
    self->is_paused = false;
    self->began_ms = gw_now_ms();
    self->channel = h2o_evloop_socket_create(process->control.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    self->channel->data = self;
    gw_timer_arm(process->control.wheel, &self->silence, self->began_ms + SILENCE_MS);
    h2o_socket_read_start(self->channel, on_channel);
}
