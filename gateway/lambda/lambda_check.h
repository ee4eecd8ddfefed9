/* Health checks of functions: the event that an Application Load Balancer sends for one (spec/alb.md 6), invoked like a
 * request. */
#pragma once
#include "gateway/upstream/check.h"
#include "routing/target_group.h"

/* For a target of a group with `lambda`, whose settings are copied. The prober takes it. */
struct gw_check_kind *gw_lambda_check_create(const struct routing_target_group *, const struct routing_target *);
