/* Target groups whose targets change while they serve, as requests see them.
 *
 * The control thread publishes a new immutable list of members whenever something changes (gw_members_publish). Each
 * thread keeps a *view* of it: a copy of the group of the snapshot with the list's targets in it, and a balancer bound
 * to that. A request holds the view its target was chosen from: request->group is the view, so that (group, target)
 * means the same target as long as the request wants it to. Groups that do not change have no view and no cost but the
 * look at `dynamic`.
 *
 * Whoever holds a view for long lets go of it when there is a newer one (gw_view_settle): lists then live for about a
 * second, however long the requests do. */
#pragma once
#include "gateway/request.h"

struct gw_endpoint_entry;

/* One list; counted, because threads let go of it each in its time. */
struct gw_members {
    _Atomic unsigned refs;
    uint32_t size;
    struct routing_target targets[]; /* each holds its endpoint and its transport */
};
/* Takes what is filled in; `targets` of size entries are zero. One reference. */
struct gw_members *gw_members_create(uint32_t size);
void gw_members_release(struct gw_members *); /* any thread; NULL is fine */

/* routing_target_group.dynamic of a snapshot's group and of its views. */
struct gw_dynamic *gw_dynamic_create(void);
void gw_dynamic_destroy(struct gw_dynamic *); /* NULL is fine */
/* Control thread. Takes the list; every thread looks at it with its next request. */
void gw_members_publish(const struct routing_target_group *, struct gw_members *);
/* Control thread: the latest. Borrowed; NULL: none was published. */
const struct gw_members *gw_members_of(const struct routing_target_group *);

/* ---- the thread's own ---- */

/* The group as it is now, for the worker of that index (num_workers: the control thread): itself where it does not
 * change. Its balancer is bound to it. Good until the thread asks again, or held. */
const struct routing_target_group *gw_view_now(const struct gw_snapshot *, unsigned worker,
                                               const struct routing_target_group *);
/* Control thread: the targets of a group for pages, checks, outlier detection. */
const struct routing_target_group *gw_view_of_control(const struct gw_snapshot *, const struct routing_target_group *);
/* The group of the snapshot that a view is of; itself where it is none. */
static inline const struct routing_target_group *gw_view_base(const struct gw_snapshot *snapshot,
                                                              const struct routing_target_group *group)
{
    return &snapshot->groups[group->index];
}
/* Fine for groups that do not change. */
void gw_view_hold(const struct routing_target_group *);
void gw_view_release(const struct routing_target_group *);
/* What a snapshot keeps of them, at its end; all threads have let go. */
void gw_views_destroy(struct gw_snapshot *);

/* ---- requests ---- */

/* request->group becomes what it is now, and stays there as long as the request. */
void gw_view_enter_slow(struct gw_request *);
static inline void gw_view_enter(struct gw_request *request)
{
    if (__builtin_expect(request->group->dynamic != NULL, 0))
        gw_view_enter_slow(request);
}
/* The request is over. */
void gw_views_leave(struct gw_request *);
/* Lets go of views that are no longer the latest: what the request is about is copied. */
void gw_view_settle(struct gw_request *);
