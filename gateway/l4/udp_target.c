/* Which target a flow has: the first one, the one after it, the one that it had in another process. */
#include "gateway/l4/udp_wire.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "gateway/discovery/view.h"
#include "gateway/exchange/outliers.h"
#include "gateway/gate.h"
#include "gateway/http/proxy_protocol.h"

enum { MAX_ATTEMPTS = 3 };

void gw_udp_leave_target(struct gw_udp_flow *flow)
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

/* What is known of a socket is not known of another one. */
static bool watch(struct gw_udp_flow *flow, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = flow};

    flow->onward_limit = flow->listener->udp->can_bundle ? GW_UDP_ANY_SIZE : GW_UDP_NO_BUNDLES;
    flow->asks_bundles = flow->has_bundles = false;
    return epoll_ctl(flow->listener->udp->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static int open_socket(struct gw_udp_flow *flow, const struct routing_target *target)
{
    int family = target->address.sa.ss_family;
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd == -1)
        return -1;
    if (connect(fd, (const struct sockaddr *)&target->address.sa, target->address.sa_len) == 0 && watch(flow, fd))
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

/* Its place at the target. */
static void enter_target(struct gw_udp_flow *flow, const struct routing_target *target,
                         struct routing_target_load *load)
{
    flow->load = load;
    gw_endpoint_hold(gw_endpoint_entry_of(target));
    flow->endpoint = target->endpoint;
    flow->health = target->health;
    flow->slot = &gw_endpoint_entry_of(target)->slots[flow->listener->udp->worker->thread.index];
    gw_count(&flow->slot->in_flight, 1);
}

static void note_comparison(struct gw_udp_flow *flow)
{
    flow->epoch = flow->listener->udp->epoch;
    flow->version = __atomic_load_n((uint32_t *)&flow->health->group->version, __ATOMIC_RELAXED);
}

static bool attempt(struct gw_udp_flow *flow, const struct routing_target_group *group, uint32_t index)
{
    const struct routing_target *target = &group->targets[index];
    struct routing_target_load *load = group->counts_load ? target->load : NULL;

    if (index < 64)
        flow->tried |= (uint64_t)1 << index;
    if (load != NULL && !routing_target_enter(load, group->max_requests))
        return false;
    enter_target(flow, target, load);
    gw_count(&flow->slot->attempts, 1);
    ++flow->attempts;
    if ((flow->fd = open_socket(flow, target)) != -1) {
        note_comparison(flow);
        return true;
    }
    gw_count(&flow->slot->failures, 1);
    gw_udp_leave_target(flow);
    return false;
}

/* Its listener has another name now, and counts of its own. */
static void change_whole(struct gw_udp_flow *flow, struct gw_l4_stats *to)
{
    struct gw_l4_stats *from = flow->stats->whole;

    __atomic_fetch_sub((int64_t *)&from->num_open, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add((int64_t *)&to->num_open, 1, __ATOMIC_RELAXED);
    if (flow->is_counted)
        gw_gate_leave(from->gate, &flow->key.peer, gw_now_us());
    flow->is_counted = false;
}

/* Counters of the flow move to the group's. */
static void count_for(struct gw_udp_flow *flow, struct gw_l4_stats *stats)
{
    if (stats->whole != flow->stats->whole)
        change_whole(flow, stats->whole);
    gw_count(&gw_udp_counters(flow)->open, (uint64_t)-1);
    gw_l4_stats_hold(stats);
    gw_l4_stats_release(flow->stats);
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
    return gw_view_now(gw_udp_snapshot(flow->listener), flow->listener->udp->worker->thread.index, group);
}

enum gw_reason gw_udp_choose(struct gw_udp_flow *flow)
{
    const h2o_iovec_t no_name = {NULL, 0};
    /* the same client meets the same group, whatever thread or process it comes to */
    uint32_t random =
        (uint32_t)routing_balance_hash(h2o_iovec_init(&flow->key.peer, sizeof(flow->key.peer)), flow->key.peer_port);
    struct gw_l4_choice choice = gw_l4_choose(gw_udp_configured(flow->listener), no_name, random, NULL);

    flow->tried = 0;
    count_for(flow, choice.stats);
    return choice.group != NULL ? connect_to(flow, as_now(flow, choice.group)) : choice.reason;
}

/* ---- another target ---- */

/* The place of a group in what the listener forwards to; SIZE_MAX: it is not there (any more). */
static size_t find_group(const struct gw_l4_forward *forward, h2o_iovec_t name)
{
    for (size_t i = 0; forward != NULL && i != forward->size; ++i)
        if (h2o_memis(forward->groups[i]->name.base, forward->groups[i]->name.len, name.base, name.len))
            return i;
    return SIZE_MAX;
}

/* The group that it was given, as configured now; NULL: its listener has it no more. */
static const struct routing_target_group *current_group(const struct gw_udp_flow *flow)
{
    const struct gw_snapshot_listener *listener = gw_udp_configured(flow->listener);
    const struct gw_l4_forward *forward = listener != NULL ? listener->l4->forward : NULL;
    size_t i = find_group(forward, flow->stats->group);

    return i != SIZE_MAX ? as_now(flow, forward->groups[i]) : NULL;
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
    gw_udp_leave_target(flow);
    if (!attempt(flow, group, index) && connect_to(flow, group) != GW_REASON_NONE)
        return false; /* no socket: the caller sees it by the descriptor */
    write_proxy_header(flow, group);
    gw_count(&gw_udp_counters(flow)->moves, 1);
    return true;
}

static void adopt_settings(struct gw_udp_flow *flow)
{
    const struct gw_listener_conf *conf = gw_udp_configured(flow->listener)->conf;
    uint64_t idle_ms = gw_udp_idle_ms(conf);

    flow->responses = (uint32_t)gw_udp_settings(conf)->responses;
    if (idle_ms == flow->idle_timeout_ms || flow->listener->udp->is_draining)
        return;
    flow->idle_timeout_ms = idle_ms;
    gw_udp_arm(flow);
}

void gw_udp_review(struct gw_udp_flow *flow)
{
    const struct routing_target_group *group;
    uint32_t index;

    note_comparison(flow);
    if (flow->listener->index == UINT32_MAX)
        return; /* goes on as it is */
    adopt_settings(flow);
    group = current_group(flow);
    index = find_target(group, flow->endpoint);
    flow->tried = index < 64 ? (uint64_t)1 << index : 0;
    if (index == ROUTING_NO_TARGET) {
        gw_udp_leave_target(flow);
        enum gw_reason reason = group != NULL ? connect_to(flow, group) : gw_udp_choose(flow);
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

/* ---- from another process ---- */

/* Goes on with the socket that it has. A limit of the target is no reason to send an open flow away. */
static bool go_on_with(struct gw_udp_flow *flow, const struct routing_target_group *group, uint32_t index, int fd)
{
    const struct routing_target *target = &group->targets[index];
    struct routing_target_load *load = group->counts_load ? target->load : NULL;

    if (fd == -1 || !watch(flow, fd))
        return false;
    if (load != NULL && !routing_target_enter(load, group->max_requests))
        load = NULL;
    enter_target(flow, target, load);
    flow->fd = fd;
    flow->notes_outcomes = group->notes_outcomes;
    note_comparison(flow);
    write_proxy_header(flow, group);
    return true;
}

/* The target that it had, or the next best when there it is no more. False: none. */
bool gw_udp_find_again(struct gw_udp_flow *flow, h2o_iovec_t group_name, h2o_iovec_t target_name, int fd,
                       enum gw_reason *reason)
{
    const struct gw_l4_forward *forward = gw_udp_configured(flow->listener)->l4->forward;
    const struct routing_target_group *group = NULL;
    size_t i = find_group(forward, group_name);

    if (i != SIZE_MAX) {
        count_for(flow, forward->stats[i]);
        group = as_now(flow, forward->groups[i]);
    }
    for (uint32_t j = 0; group != NULL && j != group->size; ++j) {
        const struct gw_endpoint *endpoint = group->targets[j].endpoint;
        h2o_iovec_t name = endpoint->name;
        if (h2o_memis(name.base, name.len, target_name.base, target_name.len) && go_on_with(flow, group, j, fd))
            return true;
    }
    if (fd != -1)
        close(fd);
    *reason = group != NULL ? connect_to(flow, group) : gw_udp_choose(flow);
    if (*reason == GW_REASON_NONE)
        gw_count(&gw_udp_counters(flow)->moves, 1);
    return *reason == GW_REASON_NONE;
}
