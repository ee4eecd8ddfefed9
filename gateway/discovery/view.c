#include "gateway/discovery/view.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/exchange/exchange_state.h"
#include "gateway/exchange/sticky.h"
#include "gateway/upstream/transport.h"
#include "gateway/worker.h"

/* ---- lists of members ---- */

struct gw_dynamic {
    pthread_mutex_t lock;     /* held for a few instructions, when a thread looks anew */
    struct gw_members *now;   /* under lock */
    _Atomic uint64_t version; /* atomic: moves on with `now` */
};

struct gw_members *gw_members_create(uint32_t size)
{
    size_t bytes = sizeof(struct gw_members) + size * sizeof(struct routing_target);
    struct gw_members *self = h2o_mem_alloc(bytes);
    memset(self, 0, bytes);
    self->refs = 1;
    self->size = size;
    return self;
}

void gw_members_release(struct gw_members *self)
{
    if (self == NULL || __atomic_fetch_sub((unsigned *)&self->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    for (uint32_t i = 0; i != self->size; ++i) {
        gw_transport_release(self->targets[i].transport);
        gw_endpoint_release(gw_endpoint_entry_of(&self->targets[i]));
    }
    free(self);
}

struct gw_dynamic *gw_dynamic_create(void)
{
    struct gw_dynamic *self = h2o_mem_alloc(sizeof(*self));
    memset(self, 0, sizeof(*self));
    pthread_mutex_init(&self->lock, NULL);
    return self;
}

void gw_dynamic_destroy(struct gw_dynamic *self)
{
    if (self == NULL)
        return;
    gw_members_release(self->now);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

void gw_members_publish(const struct routing_target_group *group, struct gw_members *members)
{
    struct gw_dynamic *self = group->dynamic;

    pthread_mutex_lock(&self->lock);
    struct gw_members *before = self->now;
    self->now = members;
    __atomic_fetch_add((uint64_t *)&self->version, 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&self->lock);
    gw_members_release(before);
}

const struct gw_members *gw_members_of(const struct routing_target_group *group)
{
    return ((struct gw_dynamic *)group->dynamic)->now;
}

static struct gw_members *take_members(struct gw_dynamic *self, uint64_t *version)
{
    pthread_mutex_lock(&self->lock);
    struct gw_members *members = self->now;
    if (members != NULL)
        __atomic_fetch_add((unsigned *)&members->refs, 1, __ATOMIC_RELAXED);
    *version = __atomic_load_n((uint64_t *)&self->version, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&self->lock);
    return members;
}

/* ---- views ---- */

struct gw_view {
    struct routing_target_group group;
    struct gw_members *members; /* held; NULL: nothing was published yet */
    uint64_t version;
    size_t uses; /* of requests, and 1 while it is the latest */
    bool is_latest;
};

static struct gw_view *view_of(const struct routing_target_group *group)
{
    return H2O_STRUCT_FROM_MEMBER(struct gw_view, group, (struct routing_target_group *)group);
}

static bool is_view(const struct routing_target_group *group) { return group->dynamic != NULL && group->is_view; }

static void let_go(struct gw_view *view)
{
    assert(view->uses != 0);
    if (--view->uses != 0)
        return;
    gw_members_release(view->members);
    free(view);
}

static struct gw_view *create_view(const struct routing_target_group *base)
{
    struct gw_view *view = h2o_mem_alloc(sizeof(*view));
    *view = (struct gw_view){.group = *base, .uses = 1, .is_latest = true};
    view->group.is_view = true;
    view->members = take_members(base->dynamic, &view->version);
    view->group.targets = view->members != NULL ? view->members->targets : NULL;
    view->group.size = view->members != NULL ? view->members->size : 0;
    return view;
}

const struct routing_target_group *gw_view_now(const struct gw_snapshot *snapshot, unsigned worker,
                                               const struct routing_target_group *group)
{
    if (group->dynamic == NULL)
        return group;
    struct gw_dynamic *dynamic = group->dynamic;
    size_t at = worker * snapshot->num_groups + group->index;
    struct gw_view *view = snapshot->views[at];
    if (__builtin_expect(
            view != NULL && view->version == __atomic_load_n((uint64_t *)&dynamic->version, __ATOMIC_RELAXED), 1))
        return &view->group;
    snapshot->views[at] = create_view(gw_view_base(snapshot, group));
    routing_balancer_rebind(snapshot->balancers[at], &snapshot->views[at]->group);
    if (view != NULL) {
        view->is_latest = false;
        let_go(view);
    }
    return &snapshot->views[at]->group;
}

const struct routing_target_group *gw_view_of_control(const struct gw_snapshot *snapshot,
                                                      const struct routing_target_group *group)
{
    return gw_view_now(snapshot, snapshot->num_workers, group);
}

void gw_view_hold(const struct routing_target_group *group)
{
    if (group != NULL && is_view(group))
        ++view_of(group)->uses;
}

void gw_view_release(const struct routing_target_group *group)
{
    if (group != NULL && is_view(group))
        let_go(view_of(group));
}

void gw_views_destroy(struct gw_snapshot *snapshot)
{
    for (size_t i = 0; snapshot->views != NULL && i != (snapshot->num_workers + 1) * snapshot->num_groups; ++i)
        if (snapshot->views[i] != NULL)
            let_go(snapshot->views[i]);
    free(snapshot->views);
    for (size_t i = 0; i != snapshot->num_groups; ++i)
        gw_dynamic_destroy(snapshot->groups[i].dynamic);
}

/* ---- requests ---- */

/* What a request holds, in its pool: a view, or of a target what is needed of it. */
struct gw_held_views {
    struct gw_view *view;
    struct gw_endpoint_entry *endpoint;
    const struct gw_transport *transport;
    struct gw_held_views *next;
};

static struct gw_held_views *add_held(struct gw_request *request)
{
    struct gw_held_views *held = h2o_mem_alloc_pool(request->pool, sizeof(*held));
    *held = (struct gw_held_views){.next = request->views};
    request->views = held;
    return held;
}

static bool holds(const struct gw_request *request, const struct gw_view *view)
{
    for (const struct gw_held_views *held = request->views; held != NULL; held = held->next)
        if (held->view == view)
            return true;
    return false;
}

void gw_view_enter_slow(struct gw_request *request)
{
    unsigned worker = request->worker != NULL ? request->worker->thread.index : request->snapshot->num_workers;

    request->group = gw_view_now(request->snapshot, worker, request->group);
    if (request->worker == NULL ||
        holds(request, view_of(request->group))) /* explain is done before anything changes */
        return;
    add_held(request)->view = view_of(request->group);
    ++view_of(request->group)->uses;
}

static void release_all(const struct gw_held_views *held)
{
    for (; held != NULL; held = held->next) {
        if (held->view != NULL)
            let_go(held->view);
        if (held->endpoint != NULL)
            gw_endpoint_release(held->endpoint);
        gw_transport_release(held->transport);
    }
}

void gw_views_leave(struct gw_request *request)
{
    release_all(request->views);
    request->views = NULL;
}

/* ---- settling ---- */

/* A group of the request's own, with the targets that it still speaks of. */
struct settled {
    struct routing_target_group group;
    struct routing_target targets[2 + GW_EXCHANGE_TRIES];
    struct settled *next;
};

static struct settled *settled_of(struct gw_request *request, struct settled **all,
                                  const struct routing_target_group *group)
{
    for (struct settled *it = *all; it != NULL; it = it->next)
        if (it->group.index == group->index)
            return it;
    struct settled *settled = h2o_mem_alloc_pool(request->pool, sizeof(*settled));
    *settled = (struct settled){.group = *gw_view_base(request->snapshot, group), .next = *all};
    settled->group.targets = settled->targets;
    settled->group.size = 0;
    return *all = settled;
}

static uint32_t copy_target(struct gw_request *request, struct settled *to, const struct routing_target_group *group,
                            uint32_t index)
{
    if (index >= group->size)
        return index; /* none, or all are busy */
    const struct routing_target *target = &group->targets[index];
    for (uint32_t i = 0; i != to->group.size; ++i)
        if (to->targets[i].endpoint == target->endpoint)
            return i;
    struct gw_held_views *held = add_held(request);
    held->endpoint = gw_endpoint_entry_of(target);
    gw_endpoint_hold(held->endpoint);
    held->transport = gw_transport_hold(target->transport);
    to->targets[to->group.size] = *target;
    return to->group.size++;
}

static void settle_try(struct gw_request *request, struct settled **all, struct gw_try *try)
{
    if (try->group == NULL || try->group->dynamic == NULL)
        return;
    struct settled *settled = settled_of(request, all, try->group);
    try->target = copy_target(request, settled, try->group, try->target);
    try->group = &settled->group;
}

static void settle_timeline(struct gw_request *request, struct gw_timeline *timeline)
{
    for (unsigned i = 0; i != timeline->num_attempts; ++i) {
        const struct routing_target *target = timeline->attempts[i].target;
        struct routing_target *copy = h2o_mem_alloc_pool(request->pool, sizeof(*copy));
        *copy = *target;
        copy->name = h2o_strdup(request->pool, target->name.base, target->name.len);
        copy->address.host = h2o_strdup(request->pool, target->address.host.base, target->address.host.len);
        timeline->attempts[i].target = copy;
    }
}

static bool has_stale(const struct gw_request *request)
{
    for (const struct gw_held_views *held = request->views; held != NULL; held = held->next)
        if (held->view != NULL && !held->view->is_latest)
            return true;
    return false;
}

void gw_view_settle(struct gw_request *request)
{
    const struct gw_held_views *before = request->views;
    struct settled *all = NULL;

    if (!has_stale(request))
        return;
    request->views = NULL;
    request->full = NULL;                  /* only a hint */
    if (request->group->dynamic != NULL) { /* a fallback that does not change may have been asked after one that does */
        struct settled *settled = settled_of(request, &all, request->group);
        request->target = copy_target(request, settled, request->group, request->target);
        if (request->sticky != NULL)
            request->sticky->target = copy_target(request, settled, request->group, request->sticky->target);
        request->group = &settled->group;
    }
    if (request->exchange != NULL)
        request->exchange->tried_of = NULL;
    for (size_t i = 0; request->exchange != NULL && i != GW_EXCHANGE_TRIES; ++i)
        settle_try(request, &all, &request->exchange->tries[i]);
    if (request->timeline != NULL)
        settle_timeline(request, request->timeline);
    release_all(before);
}
