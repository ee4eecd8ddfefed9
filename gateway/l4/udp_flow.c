/* The life of a flow: bounds, its target and the next one, the end. */
#include "gateway/l4/udp_flow.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "gateway/discovery/view.h"
#include "gateway/exchange/outliers.h"
#include "gateway/gate.h"
#include "gateway/http/proxy_protocol.h"

enum {
    MAX_ATTEMPTS = 3,
    MAX_LOOKS = 8,         /* for a flow that may go; then the next one goes anyway */
    LOGGED_A_SECOND = 100, /* of ends that a flood brings about, each thread: a log on disk is no place for one */
};

static const uint64_t no_limit_ms = UINT64_C(60) * 86400 * 1000;

static const struct gw_snapshot *snapshot_of(const struct gw_udp_listener *listener)
{
    return listener->udp->worker->held->snapshot;
}

/* NULL: the configuration has it no more. */
static const struct gw_snapshot_listener *configured(const struct gw_udp_listener *listener)
{
    return listener->index != UINT32_MAX ? &snapshot_of(listener)->listeners[listener->index] : NULL;
}

/* ---- the end ---- */

static bool is_ordinary(enum gw_reason reason)
{
    return reason == GW_REASON_FLOW_IDLE || reason == GW_REASON_FLOW_ANSWERED || reason == GW_REASON_SHUTTING_DOWN;
}

static bool is_too_much(struct gw_udp *udp)
{
    uint64_t now_s = gw_thread_now(&udp->worker->thread) / 1000;
    if (now_s != udp->logged_at_s) {
        udp->logged_at_s = now_s;
        udp->num_logged = 0;
    }
    return ++udp->num_logged > LOGGED_A_SECOND;
}

static void report(struct gw_udp *udp, const struct gw_l4_stats *stats, const struct gw_udp_key *key,
                   const struct gw_udp_flow *flow, enum gw_reason reason)
{
    char peer[46];
    struct gw_l4_record record = {
        .worker = udp->worker,
        .stats = stats,
        .protocol = gw_listener_protocols[GW_LISTENER_UDP],
        .peer_text = peer,
        .peer_text_len = gw_ip_format(&key->peer, peer),
        .peer_port = key->peer_port,
        .reason = reason,
        .started_us = gw_now_us(),
        .is_unlogged = !is_ordinary(reason) && is_too_much(udp),
    };
    if (flow != NULL) {
        record.attempts = flow->attempts;
        record.bytes_in = flow->bytes_in;
        record.bytes_out = flow->bytes_out;
        record.started_us = flow->started_us;
        record.connected_us = flow->answered_us;
        if (flow->endpoint != NULL)
            record.target = flow->endpoint->name;
    }
    gw_l4_report(&record);
}

static void leave_target(struct gw_udp_flow *flow)
{
    if (flow->fd != -1)
        close(flow->fd); /* nobody else has it, so it leaves the epoll set by itself */
    flow->fd = -1;
    if (flow->load != NULL)
        routing_target_leave(flow->load);
    flow->load = NULL;
    if (flow->slot != NULL)
        gw_count(&flow->slot->in_flight, (uint64_t)-1);
    flow->slot = NULL;
    if (flow->endpoint != NULL)
        gw_endpoint_release(
            H2O_STRUCT_FROM_MEMBER(struct gw_endpoint_entry, endpoint, (struct gw_endpoint *)flow->endpoint));
    flow->endpoint = NULL;
}

static void release(struct gw_udp_flow *flow)
{
    free(flow->proxy);
    free(flow);
}

void gw_udp_bury(struct gw_udp *udp)
{
    for (struct gw_udp_flow *flow; (flow = udp->graveyard) != NULL;) {
        udp->graveyard = flow->next;
        release(flow);
    }
}

/* The places that a flow takes in counts of the process. */
static void give_back(struct gw_udp_listener *listener, struct gw_l4_stats *stats, const struct gw_udp_key *key,
                      bool is_counted)
{
    struct gw_process *process = listener->udp->worker->process;
    __atomic_fetch_sub((int64_t *)&stats->whole->num_open, 1, __ATOMIC_RELAXED);
    __atomic_fetch_sub((int64_t *)&process->num_udp_flows, 1, __ATOMIC_RELAXED);
    if (is_counted)
        gw_gate_leave(stats->whole->gate, &key->peer, gw_now_us());
}

void gw_udp_end(struct gw_udp_flow *flow, enum gw_reason reason)
{
    struct gw_udp_listener *listener = flow->listener;
    struct gw_udp *udp = listener->udp;

    if (reason == GW_REASON_FLOW_IDLE && flow->is_refused && !flow->has_answer)
        reason = GW_REASON_CONNECT_FAILED;
    /* first: who has read its line in the log finds its place free */
    gw_count(&gw_udp_counters(flow)->open, (uint64_t)-1);
    give_back(listener, flow->stats, &flow->key, flow->is_counted);
    report(udp, flow->stats, &flow->key, flow, reason);
    leave_target(flow);
    gw_timer_disarm(&flow->timer);
    h2o_linklist_unlink(&flow->link);
    gw_udp_table_remove(&listener->table, flow);
    --udp->num_flows;
    if (listener->index == UINT32_MAX && listener->table.size == 0) /* not from here: it is in use */
        gw_timer_arm(udp->worker->thread.wheel, &listener->deadline, 0);
    if (udp->is_in_turn) {
        flow->next = udp->graveyard;
        udp->graveyard = flow;
    } else {
        release(flow);
    }
}

/* ---- time ---- */

static void arm(struct gw_udp_flow *flow)
{
    gw_timer_arm(flow->listener->udp->worker->thread.wheel, &flow->timer, flow->active_ms + flow->idle_timeout_ms);
}

/* Activity only notes its time. */
static void on_timer(struct gw_timer *timer)
{
    struct gw_udp_flow *flow = H2O_STRUCT_FROM_MEMBER(struct gw_udp_flow, timer, timer);

    if (gw_thread_now(&flow->listener->udp->worker->thread) < flow->active_ms + flow->idle_timeout_ms)
        arm(flow);
    else
        gw_udp_end(flow, GW_REASON_FLOW_IDLE);
}

void gw_udp_shorten(struct gw_udp_flow *flow, uint64_t idle_timeout_ms)
{
    if (flow->idle_timeout_ms <= idle_timeout_ms)
        return;
    flow->idle_timeout_ms = idle_timeout_ms;
    arm(flow);
}

/* ---- bounds ---- */

/* Sources can be made up, so a flow is only sure of its place once its client has spoken after an answer. Of the others
 * the oldest goes, but for those that were used since the last look. */
static bool evict_one(struct gw_udp_listener *listener)
{
    for (unsigned looks = 0; !h2o_linklist_is_empty(&listener->unproven); ++looks) {
        struct gw_udp_flow *flow = H2O_STRUCT_FROM_MEMBER(struct gw_udp_flow, link, listener->unproven.next);
        if (!flow->is_used || looks == MAX_LOOKS) {
            gw_udp_end(flow, GW_REASON_FLOW_EVICTED);
            return true;
        }
        flow->is_used = false;
        h2o_linklist_unlink(&flow->link);
        h2o_linklist_insert(&listener->unproven, &flow->link);
    }
    return false;
}

static int64_t add(_Atomic int64_t *count, int64_t n)
{
    return __atomic_add_fetch((int64_t *)count, n, __ATOMIC_RELAXED);
}

static bool claim_place(struct gw_udp_listener *listener, const struct gw_udp_conf *conf, struct gw_l4_stats *whole)
{
    struct gw_process *process = listener->udp->worker->process;
    bool is_full = add(&whole->num_open, 1) > (int64_t)conf->flows;

    if ((add(&process->num_udp_flows, 1) > process->max_udp_flows || is_full) && !evict_one(listener)) {
        add(&whole->num_open, -1);
        add(&process->num_udp_flows, -1);
        return false;
    }
    return true;
}

static enum gw_reason claim(struct gw_udp_listener *listener, const struct gw_udp_key *key, struct gw_l4_stats *whole,
                            bool *is_counted)
{
    const struct gw_udp_conf *conf = gw_udp_settings(configured(listener)->conf);

    *is_counted = conf->flows_per_ip != 0 && whole->gate != NULL;
    if (*is_counted && gw_gate_enter(whole->gate, &key->peer, conf->flows_per_ip, 0, gw_now_us()) != GW_GATE_OPEN)
        return GW_REASON_FLOWS_PER_ADDRESS;
    if (claim_place(listener, conf, whole))
        return GW_REASON_NONE;
    if (*is_counted)
        gw_gate_leave(whole->gate, &key->peer, gw_now_us());
    return GW_REASON_FLOWS_FULL;
}

/* ---- the target ---- */

static uint32_t pick(struct gw_udp_flow *flow, const struct routing_target_group *group)
{
    struct gw_worker *worker = flow->listener->udp->worker;
    const struct gw_snapshot *snapshot = worker->held->snapshot;
    struct routing_balancer *balancer = snapshot->balancers[worker->thread.index * snapshot->num_groups + group->index];
    const struct routing_facts facts = {.peer_ip = flow->key.peer,
                                        .client_ip = flow->key.peer,
                                        .peer_port = flow->key.peer_port,
                                        .port = flow->listener->port};
    struct routing_pick pick = {.exclude = flow->tried, .now_ms = gw_thread_now(&worker->thread)};

    if (group->uses_key)
        pick.has_key = routing_balance_key(group->conf, &facts, &pick.key);
    return routing_balancer_pick(balancer, &pick, NULL);
}

static int open_socket(struct gw_udp_flow *flow, const struct routing_target *target)
{
    int family = target->address.sa.ss_family;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = flow};
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd == -1)
        return -1;
    if (connect(fd, (const struct sockaddr *)&target->address.sa, target->address.sa_len) == 0 &&
        epoll_ctl(flow->listener->udp->epoll, EPOLL_CTL_ADD, fd, &event) == 0)
        return fd;
    close(fd);
    return -1;
}

/* Datagrams get lost and overtake one another, so each of them says whose it is (as PowerDNS, Unbound and dnsdist read
 * it). */
static void write_proxy_header(struct gw_udp_flow *flow, const struct routing_target_group *group)
{
    char bytes[GW_PROXY_V2_BOUND];
    struct gw_proxy_header header = {.source = flow->key.peer,
                                     .source_port = flow->key.peer_port,
                                     .destination = flow->key.local,
                                     .destination_port = flow->listener->port,
                                     .has_addresses = true,
                                     .is_datagram = true,
                                     .version = 2};

    free(flow->proxy);
    flow->proxy = NULL;
    flow->proxy_len = 0;
    if (group->conf->send_proxy_protocol == ROUTING_PROXY_OFF)
        return;
    if (!flow->listener->is_wildcard)
        gw_ip_from_sockaddr((const struct sockaddr *)&flow->listener->listening->address.sa, &header.destination);
    flow->proxy_len = gw_proxy_protocol_write_v2(&header, false, bytes, sizeof(bytes));
    flow->proxy = h2o_mem_alloc(flow->proxy_len);
    memcpy(flow->proxy, bytes, flow->proxy_len);
}

static bool attempt(struct gw_udp_flow *flow, const struct routing_target_group *group, uint32_t index)
{
    const struct routing_target *target = &group->targets[index];
    struct gw_worker *worker = flow->listener->udp->worker;
    struct routing_target_load *load = group->counts_load ? target->load : NULL;

    if (index < 64)
        flow->tried |= (uint64_t)1 << index;
    if (load != NULL && !routing_target_enter(load, group->max_requests))
        return false;
    flow->load = load;
    gw_endpoint_hold(gw_endpoint_entry_of(target));
    flow->endpoint = target->endpoint;
    flow->health = target->health;
    flow->slot = &gw_endpoint_entry_of(target)->slots[worker->thread.index];
    gw_count(&flow->slot->attempts, 1);
    gw_count(&flow->slot->in_flight, 1);
    ++flow->attempts;
    if ((flow->fd = open_socket(flow, target)) != -1) {
        flow->epoch = flow->listener->udp->epoch;
        flow->version = __atomic_load_n((uint32_t *)&flow->health->group->version, __ATOMIC_RELAXED);
        return true;
    }
    gw_count(&flow->slot->failures, 1);
    leave_target(flow);
    return false;
}

/* Counters of the flow move to the group's. */
static void count_for(struct gw_udp_flow *flow, struct gw_l4_stats *stats)
{
    gw_count(&gw_udp_counters(flow)->open, (uint64_t)-1);
    flow->stats = stats;
    gw_count(&gw_udp_counters(flow)->open, 1);
}

/* Connects it to a target of the group that was not tried. GW_REASON_NONE: it is. */
static enum gw_reason connect_to(struct gw_udp_flow *flow, const struct routing_target_group *group)
{
    enum gw_reason reason = GW_REASON_NO_TARGETS;

    flow->notes_outcomes = group->notes_outcomes;
    for (unsigned i = 0; i != MAX_ATTEMPTS; ++i) {
        uint32_t index = pick(flow, group);
        if (index == ROUTING_BUSY_TARGETS)
            return GW_REASON_TARGETS_BUSY;
        if (index == ROUTING_NO_TARGET)
            return reason;
        if (attempt(flow, group, index)) {
            write_proxy_header(flow, group);
            return GW_REASON_NONE;
        }
        reason = GW_REASON_CONNECT_FAILED;
    }
    return reason;
}

/* With the targets that it has now; good until it is asked for again. */
static const struct routing_target_group *as_now(const struct gw_udp_flow *flow,
                                                 const struct routing_target_group *group)
{
    return gw_view_now(snapshot_of(flow->listener), flow->listener->udp->worker->thread.index, group);
}

static enum gw_reason choose(struct gw_udp_flow *flow)
{
    const h2o_iovec_t no_name = {NULL, 0};
    /* the same client meets the same group, whatever thread or process it comes to */
    uint32_t random =
        (uint32_t)routing_balance_hash(h2o_iovec_init(&flow->key.peer, sizeof(flow->key.peer)), flow->key.peer_port);
    struct gw_l4_choice choice = gw_l4_choose(configured(flow->listener), no_name, random, NULL);

    flow->tried = 0;
    count_for(flow, choice.stats);
    return choice.group != NULL ? connect_to(flow, as_now(flow, choice.group)) : choice.reason;
}

/* ---- another target ---- */

/* The group that it was given, as configured now; NULL: its listener has it no more. */
static const struct routing_target_group *current_group(const struct gw_udp_flow *flow)
{
    const struct gw_snapshot_listener *listener = configured(flow->listener);
    const struct gw_l4_forward *forward = listener != NULL ? listener->l4->forward : NULL;
    h2o_iovec_t name = flow->stats->group;

    for (size_t i = 0; forward != NULL && i != forward->size; ++i)
        if (h2o_memis(forward->groups[i]->name.base, forward->groups[i]->name.len, name.base, name.len))
            return as_now(flow, forward->groups[i]);
    return NULL;
}

static uint32_t find_target(const struct routing_target_group *group, const struct gw_endpoint *endpoint)
{
    for (uint32_t i = 0; group != NULL && i != group->size; ++i)
        if (group->targets[i].endpoint == endpoint)
            return i;
    return ROUTING_NO_TARGET;
}

/* An operator's drain is for new flows; this one goes on. */
static bool is_lost(const struct routing_health *health)
{
    enum routing_health_state state = routing_health_state(health);
    return state == ROUTING_HEALTH_UNHEALTHY || state == ROUTING_HEALTH_EJECTED;
}

/* Where it was before is where it stays when there is nothing better. */
static bool move_within(struct gw_udp_flow *flow, const struct routing_target_group *group, bool only_to_fit)
{
    uint32_t index = pick(flow, group);

    if (index >= ROUTING_BUSY_TARGETS || group->targets[index].endpoint == flow->endpoint ||
        (only_to_fit && !routing_health_is_fit(group->targets[index].health)))
        return false;
    leave_target(flow);
    if (!attempt(flow, group, index) && connect_to(flow, group) != GW_REASON_NONE)
        return false; /* no socket: the caller sees it by the descriptor */
    write_proxy_header(flow, group);
    gw_count(&gw_udp_counters(flow)->moves, 1);
    return true;
}

static void adopt_settings(struct gw_udp_flow *flow)
{
    const struct gw_listener_conf *conf = configured(flow->listener)->conf;
    uint64_t idle_ms = conf->idle_timeout_ms != 0 ? conf->idle_timeout_ms : no_limit_ms;

    flow->responses = (uint32_t)gw_udp_settings(conf)->responses;
    if (idle_ms == flow->idle_timeout_ms || flow->listener->udp->is_draining)
        return;
    flow->idle_timeout_ms = idle_ms;
    arm(flow);
}

void gw_udp_review(struct gw_udp_flow *flow)
{
    const struct routing_target_group *group;
    uint32_t index;

    flow->epoch = flow->listener->udp->epoch;
    flow->version = __atomic_load_n((uint32_t *)&flow->health->group->version, __ATOMIC_RELAXED);
    if (flow->listener->index == UINT32_MAX)
        return; /* goes on as it is */
    adopt_settings(flow);
    group = current_group(flow);
    index = find_target(group, flow->endpoint);
    flow->tried = index < 64 ? (uint64_t)1 << index : 0;
    if (index == ROUTING_NO_TARGET) {
        leave_target(flow);
        enum gw_reason reason = group != NULL ? connect_to(flow, group) : choose(flow);
        if (reason != GW_REASON_NONE)
            gw_udp_end(flow, reason);
        else
            gw_count(&gw_udp_counters(flow)->moves, 1);
    } else if (is_lost(flow->health)) {
        move_within(flow, group, true);
        if (flow->fd == -1)
            gw_udp_end(flow, GW_REASON_CONNECT_FAILED);
    }
}

bool gw_udp_refused(struct gw_udp_flow *flow)
{
    const struct routing_target_group *group = current_group(flow);
    uint32_t index = find_target(group, flow->endpoint);

    flow->is_refused = true;
    gw_count(&flow->slot->failures, 1);
    if (index == ROUTING_NO_TARGET)
        return false;
    if (flow->notes_outcomes)
        gw_outliers_note(flow->listener->udp->worker, group, index, 0);
    flow->tried |= index < 64 ? (uint64_t)1 << index : 0;
    if (move_within(flow, group, false))
        return true;
    flow->tried = 0; /* all have refused: each may be asked again */
    return false;
}

void gw_udp_answered(struct gw_udp_flow *flow)
{
    const struct routing_target_group *group;
    uint32_t index;

    flow->tried = 0;
    if (!flow->notes_outcomes || (group = current_group(flow)) == NULL ||
        (index = find_target(group, flow->endpoint)) == ROUTING_NO_TARGET)
        return;
    gw_outliers_note(flow->listener->udp->worker, group, index, 200);
}

/* ---- the beginning ---- */

static struct gw_udp_flow *create(struct gw_udp_listener *listener, const struct gw_udp_key *key, uint64_t hash,
                                  const struct msghdr *msg)
{
    struct gw_udp *udp = listener->udp;
    const struct gw_listener_conf *conf = configured(listener)->conf;
    struct gw_udp_flow *flow = h2o_mem_alloc(sizeof(*flow));

    memset(flow, 0, sizeof(*flow));
    flow->fd = -1;
    flow->key = *key;
    flow->hash = hash;
    flow->listener = listener;
    flow->stats = configured(listener)->l4->stats;
    flow->peer_len = msg->msg_namelen;
    memcpy(&flow->peer, msg->msg_name, msg->msg_namelen);
    flow->responses = (uint32_t)gw_udp_settings(conf)->responses;
    flow->started_us = gw_now_us();
    flow->active_ms = gw_thread_now(&udp->worker->thread);
    flow->idle_timeout_ms = conf->idle_timeout_ms != 0 ? conf->idle_timeout_ms : no_limit_ms;
    gw_timer_init(&flow->timer, on_timer);
    arm(flow);
    h2o_linklist_insert(&listener->unproven, &flow->link);
    gw_udp_table_add(&listener->table, flow);
    ++udp->num_flows;
    gw_count(&gw_udp_counters(flow)->open, 1);
    return flow;
}

/* Echo services answer one another for ever when somebody introduces them: a datagram that claims to come from one of
 * our own listeners goes nowhere. */
static bool is_from_listener(const struct gw_udp_listener *listener, const struct gw_udp_key *key)
{
    const struct gw_udp *udp = listener->udp;
    struct gw_ip local = key->local;

    if (!listener->is_wildcard)
        gw_ip_from_sockaddr((const struct sockaddr *)&listener->listening->address.sa, &local);
    if (memcmp(&key->peer, &local, sizeof(local)) != 0)
        return false;
    for (h2o_linklist_t *node = udp->listeners.next; node != &udp->listeners; node = node->next)
        if (H2O_STRUCT_FROM_MEMBER(struct gw_udp_listener, link, node)->port == key->peer_port)
            return true;
    return false;
}

struct gw_udp_flow *gw_udp_admit(struct gw_udp_listener *listener, const struct gw_udp_key *key, uint64_t hash,
                                 const struct msghdr *msg)
{
    bool is_counted;
    enum gw_reason reason;

    if (listener->index == UINT32_MAX || listener->udp->is_draining) {
        gw_udp_drop(listener, GW_UDP_DROPPED_NO_FLOW);
        return NULL;
    }
    if (is_from_listener(listener, key)) {
        gw_udp_drop(listener, GW_UDP_DROPPED_LOOP);
        return NULL;
    }
    if (listener->newcomers == 0) {
        gw_udp_drop(listener, GW_UDP_DROPPED_OVERLOAD);
        return NULL;
    }
    struct gw_l4_stats *stats = configured(listener)->l4->stats;
    if ((reason = claim(listener, key, stats, &is_counted)) != GW_REASON_NONE) {
        report(listener->udp, stats, key, NULL, reason);
        gw_udp_drop(listener, GW_UDP_DROPPED_REFUSED);
        return NULL;
    }
    --listener->newcomers; /* those that are refused cost little */
    struct gw_udp_flow *flow = create(listener, key, hash, msg);
    flow->is_counted = is_counted;
    if ((reason = choose(flow)) != GW_REASON_NONE) {
        gw_udp_drop(listener, GW_UDP_DROPPED_REFUSED);
        gw_udp_end(flow, reason);
        return NULL;
    }
    return flow;
}
