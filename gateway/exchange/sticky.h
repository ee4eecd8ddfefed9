/* Stickiness of one request (spec/alb.md 2.3, 3.4): which target and target group its cookies name, and the cookies
 * that its response gets. routing/sticky.h has their form. On the worker's thread. */
#pragma once
#include "gateway/request.h"

struct gw_process;
/* In the request's pool; where a route or a group is sticky. */
struct gw_sticky {
    uint32_t target;     /* the one that the session is at, if it may take requests; ROUTING_NO_TARGET */
    bool has_app_cookie; /* the application's cookie, and ours beside it */
    bool group_is_sticky;
};

static inline bool gw_sticky_is_wanted(const struct gw_request *request)
{
    return request->group->conf->stickiness != NULL || request->route->conf->forward->stickiness_ms != 0;
}
void gw_sticky_begin(struct gw_request *);
/* The target of request->group that the cookies name; ROUTING_NO_TARGET: none, or it is gone. */
uint32_t gw_sticky_target(struct gw_request *);
/* The group of the route that the cookie names. */
bool gw_sticky_group(struct gw_request *, uint32_t *index);
/* Adds the cookies to the response of request->target. */
void gw_sticky_answer(struct gw_request *, h2o_headers_t *fields);

/* The keys of a snapshot: those of the configuration, or one of our own that is kept in state_dir, or as long as the
 * process lives. In a load. */
struct routing_sticky_keys *gw_sticky_keys_create(struct gw_process *, const struct gw_config *, struct gw_errors *);
