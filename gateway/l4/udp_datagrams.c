/* Datagrams on their way: from clients in batches of a listener's socket, to each target by its flow's socket; answers
 * from the sockets of flows, and out together by the listener's. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include "gateway/l4/udp_flow.h"
#include "gateway/l4/udp_handover.h"

enum {
    DATAGRAMS_A_TURN = 4 * GW_UDP_BATCH_IN, /* so that a flood does not hold up the others */
    EVENTS_A_TURN = 64,
    ANSWERS_A_TURN = 16, /* of one flow */
    BUNDLES_A_TURN = 4,  /* the same where answers come bundled */
    BURST = 4,           /* of one flow: what comes after it may come bundled */
    RETRIES = 2,         /* of a datagram whose way an ICMP error closed; the error was another one's */
    BEHIND_MS = 50,      /* so long without an empty queue, and only NEWCOMERS_A_TURN flows are begun in a turn */
    NEWCOMERS_A_TURN = 8,
};

void gw_udp_drop(struct gw_udp_listener *listener, enum gw_udp_dropped why, unsigned count)
{
    struct gw_l4_stats *stats = listener->stats;
    gw_count(&stats->slots[listener->udp->worker->thread.index].dropped[why], count);
}

static enum gw_udp_dropped drop_of_errno(int error)
{
    switch (error) {
    case EMSGSIZE:
        return GW_UDP_DROPPED_TOO_LARGE;
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
        return GW_UDP_DROPPED_NO_ROOM;
    default:
        return GW_UDP_DROPPED_UNREACHABLE;
    }
}

/* ---- batches ---- */

void gw_udp_batch_init(struct gw_udp_batch *batch, unsigned size)
{
    batch->msgs = h2o_mem_alloc(sizeof(*batch->msgs) * size);
    batch->iovs = h2o_mem_alloc(sizeof(*batch->iovs) * size);
    batch->peers = h2o_mem_alloc(sizeof(*batch->peers) * size);
    batch->control = h2o_mem_alloc(sizeof(*batch->control) * size);
    batch->bundles = h2o_mem_alloc(sizeof(*batch->bundles) * size);
    batch->bytes =
        mmap(NULL, (size_t)size * GW_UDP_DATAGRAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (batch->bytes == MAP_FAILED)
        h2o_fatal("no memory");
    memset(batch->msgs, 0, sizeof(*batch->msgs) * size);
    for (unsigned i = 0; i != size; ++i) {
        batch->msgs[i].msg_hdr.msg_iov = &batch->iovs[i];
        batch->msgs[i].msg_hdr.msg_iovlen = 1;
        batch->iovs[i] = (struct iovec){batch->bytes + (size_t)i * GW_UDP_DATAGRAM, GW_UDP_DATAGRAM};
    }
}

/* It costs other sockets of the machine something, so it waits until there is something to bundle. */
static void ask_for_bundles(const struct gw_udp *udp, int fd, bool *asks_bundles)
{
    if (*asks_bundles)
        return;
    *asks_bundles = true;
    if (udp->can_bundle)
        gw_udp_receive_bundles(fd, true);
}

static void begin_post(struct gw_udp *udp) { udp->post.size = udp->post.num_parts = 0; }

/* ---- to the target ---- */

/* As sendmmsg(). */
static int send_onward(int fd, struct gw_udp_post *post)
{
    const struct msghdr *msg = &post->msgs[0].msg_hdr;

    if (post->size != 1)
        return sendmmsg(fd, post->msgs, post->size, MSG_NOSIGNAL);
    if (msg->msg_iovlen == 1 && msg->msg_controllen == 0)
        return send(fd, msg->msg_iov->iov_base, msg->msg_iov->iov_len, MSG_NOSIGNAL) >= 0 ? 1 : -1;
    return sendmsg(fd, msg, MSG_NOSIGNAL) >= 0 ? 1 : -1;
}

/* An ICMP error, of an earlier datagram, is told once, instead of sending: the datagram is sent after it, perhaps to
 * another target. False: the flow is over. */
static bool hear_of_refusal(struct gw_udp_flow *flow)
{
    gw_udp_refused(flow);
    if (flow->fd != -1)
        return true;
    gw_udp_end(flow, GW_REASON_CONNECT_FAILED);
    return false;
}

static void send_all(struct gw_udp *udp, struct gw_udp_flow *flow, unsigned size)
{
    struct gw_udp_place at = {0, 0};
    unsigned retries = 0;

    while (at.bundle != size) {
        struct gw_udp_place next = at;
        begin_post(udp);
        gw_udp_post_add(&udp->post, udp->in.bundles, size, &next, h2o_iovec_init(flow->proxy, flow->proxy_len),
                        flow->onward_limit);
        int sent = send_onward(flow->fd, &udp->post);
        if (sent > 0) {
            at = udp->post.next[sent - 1];
        } else if (errno == ECONNREFUSED && retries++ != RETRIES) {
            if (!hear_of_refusal(flow))
                return;
        } else if (errno != EINTR && !gw_udp_post_unbundle(&udp->post, errno, &flow->onward_limit)) {
            gw_udp_drop(flow->listener, drop_of_errno(errno), udp->post.counts[0]);
            at = udp->post.next[0];
        }
    }
}

/* What is in in.bundles goes to the target of its flow. */
static void forward(struct gw_udp *udp, struct gw_udp_flow *flow, unsigned size)
{
    if (size == 0)
        return;
    if (__builtin_expect(gw_udp_is_stale(flow), 0)) {
        bool was_in_turn = udp->is_in_turn;
        udp->is_in_turn = true; /* it may end in there, and is looked at after it */
        gw_udp_review(flow);
        udp->is_in_turn = was_in_turn;
        if (flow->fd == -1) {
            if (!was_in_turn)
                gw_udp_bury(udp);
            return;
        }
    }
    send_all(udp, flow, size);
}

/* ---- from clients ---- */

static void note_client(struct gw_udp_flow *flow, const struct gw_udp_bundle *bundle)
{
    struct gw_l4_slot *slot = gw_udp_counters(flow);
    unsigned count = gw_udp_bundle_count(bundle);

    flow->active_ms = gw_thread_now(&flow->listener->udp->worker->thread);
    flow->datagrams_in += count;
    if (flow->datagrams_in != 1)
        flow->is_used = true;
    flow->bytes_in += bundle->len;
    gw_count(&slot->datagrams_in, count);
    gw_count(&slot->bytes_in, bundle->len);
    if (flow->has_answer && !flow->is_proven) {
        flow->is_proven = true;
        h2o_linklist_unlink(&flow->link);
        h2o_linklist_insert(&flow->listener->proven, &flow->link);
    }
}

/* NULL: refused, and counted. */
static struct gw_udp_flow *find_or_admit(struct gw_udp_listener *listener, const struct gw_udp_key *key,
                                         const struct msghdr *msg, const struct gw_udp_bundle *bundle)
{
    uint64_t hash = gw_udp_hash(listener->udp, key);
    struct gw_udp_flow *flow = gw_udp_table_find(&listener->table, hash, key);

    return flow != NULL ? flow : gw_udp_admit(listener, key, hash, msg, gw_udp_bundle_count(bundle));
}

/* Datagrams of one flow that stand together go on together. Returns how many there were. */
static unsigned take_batch(struct gw_udp_listener *listener, struct gw_udp_sock *from, unsigned size)
{
    struct gw_udp *udp = listener->udp;
    struct gw_udp_flow *run = NULL;
    unsigned run_size = 0, taken = 0;

    for (unsigned i = 0; i != size; ++i) {
        const struct msghdr *msg = &udp->in.msgs[i].msg_hdr;
        struct gw_udp_bundle bundle = gw_udp_bundle_of(&udp->in.msgs[i]);
        struct gw_udp_key key;
        taken += gw_udp_bundle_count(&bundle);
        if (!gw_udp_read_key(listener, msg, &key)) {
            gw_udp_drop(listener, GW_UDP_DROPPED_BAD_SOURCE, gw_udp_bundle_count(&bundle));
            continue;
        }
        if (run == NULL || memcmp(&run->key, &key, sizeof(key)) != 0) {
            forward(udp, run, run_size); /* before another flow takes its place */
            run_size = 0;
            if ((run = find_or_admit(listener, &key, msg, &bundle)) == NULL)
                continue;
        }
        note_client(run, &bundle);
        udp->in.bundles[run_size++] = bundle;
        if (run_size == BURST)
            ask_for_bundles(udp, h2o_socket_get_fd(from->sock), &from->asks_bundles);
    }
    forward(udp, run, run_size);
    return taken;
}

/* To begin a flow takes ten times as long as to continue one. In a flood of new ones the kernel's queue runs over, and
 * it drops without regard to whom: so when it has not been emptied for a while, only so many are begun. */
static void allow_newcomers(struct gw_udp_listener *listener)
{
    uint64_t now_ms = gw_thread_now(&listener->udp->worker->thread);
    bool is_behind = listener->behind_since_ms != 0 && now_ms - listener->behind_since_ms > BEHIND_MS;
    listener->newcomers = is_behind ? NEWCOMERS_A_TURN : UINT32_MAX;
}

void gw_udp_take(struct gw_udp_listener *listener, const struct gw_udp_key *key, const struct msghdr *msg,
                 const struct gw_udp_bundle *bundle)
{
    struct gw_udp_flow *flow;

    allow_newcomers(listener);
    if ((flow = find_or_admit(listener, key, msg, bundle)) == NULL)
        return;
    note_client(flow, bundle);
    listener->udp->in.bundles[0] = *bundle;
    forward(listener->udp, flow, 1);
}

static void prepare_in(struct gw_udp_batch *in)
{
    for (unsigned i = 0; i != GW_UDP_BATCH_IN; ++i) {
        struct msghdr *msg = &in->msgs[i].msg_hdr;
        msg->msg_name = &in->peers[i];
        msg->msg_namelen = sizeof(in->peers[i]);
        msg->msg_control = in->control[i];
        msg->msg_controllen = GW_UDP_CONTROL;
    }
}

static void note_backlog(struct gw_udp_listener *listener, bool is_empty)
{
    if (is_empty)
        listener->behind_since_ms = 0;
    else if (listener->behind_since_ms == 0)
        listener->behind_since_ms = gw_thread_now(&listener->udp->worker->thread);
}

static struct gw_udp_sock *note_socket(struct gw_udp_listener *listener, const h2o_socket_t *sock)
{
    size_t i = 0;
    while (listener->socks[i].sock != sock)
        ++i;
    listener->sock = listener->socks[i].index;
    return &listener->socks[i];
}

void gw_udp_on_datagrams(h2o_socket_t *sock, const char *err)
{
    struct gw_udp_listener *listener = sock->data;
    struct gw_udp_sock *from = note_socket(listener, sock);
    int fd = h2o_socket_get_fd(sock), got = GW_UDP_BATCH_IN;

    if (__builtin_expect(listener->udp->giving != NULL, 0)) {
        gw_udp_give_datagrams(listener, fd);
        return;
    }
    allow_newcomers(listener);
    for (unsigned taken = 0; taken < DATAGRAMS_A_TURN && got == GW_UDP_BATCH_IN;) {
        prepare_in(&listener->udp->in);
        got = recvmmsg(fd, listener->udp->in.msgs, GW_UDP_BATCH_IN, MSG_DONTWAIT, NULL);
        if (got > 0)
            taken += take_batch(listener, from, (unsigned)got);
    }
    note_backlog(listener, got != GW_UDP_BATCH_IN);
}

/* ---- answers ---- */

/* Messages of answers from `at` on, as many as there is room for. */
static void post_answers(struct gw_udp *udp, struct gw_udp_place at)
{
    const struct gw_udp_bundle *answers = udp->out.bundles;
    struct gw_udp_post *post = &udp->post;
    unsigned from;

    begin_post(udp);
    do {
        struct gw_udp_flow *flow = answers[at.bundle].flow;
        unsigned end = at.bundle + 1;
        while (end != udp->out.size && answers[end].flow == flow)
            ++end;
        from = post->size;
        gw_udp_post_add(post, answers, end, &at, h2o_iovec_init(NULL, 0), flow->answer_limit);
        for (unsigned i = from; i != post->size; ++i) {
            struct msghdr *msg = &post->msgs[i].msg_hdr;
            msg->msg_name = &flow->peer;
            msg->msg_namelen = flow->peer_len;
            gw_udp_write_control(flow->listener, &flow->key, msg);
        }
    } while (at.bundle != udp->out.size && post->size != from);
}

static void flush(struct gw_udp *udp)
{
    struct gw_udp_place at = {0, 0};

    while (at.bundle != udp->out.size) {
        post_answers(udp, at);
        int sent =
            sendmmsg(h2o_socket_get_fd(udp->out_by->socks[0].sock), udp->post.msgs, udp->post.size, MSG_NOSIGNAL);
        if (sent > 0) {
            at = udp->post.next[sent - 1];
        } else if (errno != EINTR &&
                   !gw_udp_post_unbundle(&udp->post, errno, &udp->out.bundles[at.bundle].flow->answer_limit)) {
            gw_udp_drop(udp->out_by, drop_of_errno(errno), udp->post.counts[0]);
            at = udp->post.next[0];
        }
    }
    udp->out.size = 0;
}

static void note_answer(struct gw_udp_flow *flow, const struct gw_udp_bundle *bundle)
{
    struct gw_l4_slot *slot = gw_udp_counters(flow);
    unsigned count = gw_udp_bundle_count(bundle);

    flow->active_ms = gw_thread_now(&flow->listener->udp->worker->thread);
    flow->datagrams_out += count;
    flow->bytes_out += bundle->len;
    flow->has_bundles |= count > 1;
    gw_count(&slot->datagrams_out, count);
    gw_count(&slot->bytes_out, bundle->len);
    if (__builtin_expect(!flow->has_answer, 0)) {
        flow->has_answer = true;
        flow->answered_us = gw_now_us();
        gw_udp_answered(flow);
    }
}

static void queue_answers(struct gw_udp *udp, struct gw_udp_flow *flow, unsigned size)
{
    flow->has_bundles = false;
    for (unsigned i = udp->out.size; i != udp->out.size + size; ++i) {
        udp->out.bundles[i] = gw_udp_bundle_of(&udp->out.msgs[i]);
        udp->out.bundles[i].flow = flow;
        note_answer(flow, &udp->out.bundles[i]);
    }
    udp->out.size += size;
    if (size >= BURST)
        ask_for_bundles(udp, flow->fd, &flow->asks_bundles);
}

static void hear(struct gw_udp_flow *flow)
{
    if (errno == EAGAIN || errno == EINTR)
        return;
    gw_udp_refused(flow); /* ICMP: the next datagram may go elsewhere */
    if (flow->fd == -1)
        gw_udp_end(flow, GW_REASON_CONNECT_FAILED);
}

static void take_answers(struct gw_udp *udp, struct gw_udp_flow *flow)
{
    if (udp->out.size != 0 && (udp->out_by != flow->listener || udp->out.size + ANSWERS_A_TURN > GW_UDP_BATCH_OUT))
        flush(udp);
    udp->out_by = flow->listener;
    unsigned room = flow->has_bundles ? BUNDLES_A_TURN : ANSWERS_A_TURN;
    for (unsigned i = udp->out.size; i != udp->out.size + room; ++i) {
        struct msghdr *msg = &udp->out.msgs[i].msg_hdr;
        msg->msg_control = udp->out.control[i];
        msg->msg_controllen = GW_UDP_CONTROL;
    }
    int got = recvmmsg(flow->fd, udp->out.msgs + udp->out.size, room, MSG_DONTWAIT, NULL);
    if (got <= 0) {
        hear(flow);
        return;
    }
    queue_answers(udp, flow, (unsigned)got);
    if (flow->responses != 0 && flow->datagrams_out >= flow->datagrams_in * flow->responses)
        gw_udp_end(flow, GW_REASON_FLOW_ANSWERED);
}

void gw_udp_on_answers(h2o_socket_t *sock, const char *err)
{
    struct gw_udp *udp = sock->data;
    struct epoll_event events[EVENTS_A_TURN];
    int num_events = epoll_wait(udp->epoll, events, EVENTS_A_TURN, 0);

    udp->is_in_turn = true;
    for (int i = 0; i < num_events; ++i) {
        struct gw_udp_flow *flow = events[i].data.ptr;
        if (flow->fd != -1)
            take_answers(udp, flow);
    }
    flush(udp);
    udp->is_in_turn = false;
    gw_udp_bury(udp);
}

/* ---- for a process that knows no bundles ---- */

/* What is in the socket is read first: once it is off, nothing tells where a bundle is to be cut. */
static void end_bundles_of(struct gw_udp_flow *flow)
{
    int fd = flow->fd;

    take_answers(flow->listener->udp, flow);
    if (flow->fd == fd)
        gw_udp_receive_bundles(fd, false);
}

void gw_udp_end_bundles(struct gw_udp *udp)
{
    udp->can_bundle = false;
    udp->is_in_turn = true;
    for (h2o_linklist_t *node = udp->listeners.next; node != &udp->listeners; node = node->next) {
        struct gw_udp_listener *listener = H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, link, node);
        for (size_t i = 0; i != listener->num_socks; ++i) {
            if (!listener->socks[i].is_waiting)
                gw_udp_on_datagrams(listener->socks[i].sock, NULL);
            gw_udp_receive_bundles(h2o_socket_get_fd(listener->socks[i].sock), false);
        }
        gw_udp_each_flow(listener, end_bundles_of);
    }
    flush(udp);
    udp->is_in_turn = false;
    gw_udp_bury(udp);
}
