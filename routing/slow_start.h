/* Slow start (spec/alb.md 3.3): the share of a target that became healthy grows over a while. The control thread says
 * when it begins, every pick reads it from the target's health. */
#pragma once
#include "routing/target_group.h"

/* A target became healthy, or may take requests again. Begins only if another fit target is not in slow start itself,
 * and never for those that an empty group began with. */
void routing_slow_start_begin(const struct routing_target_group *, uint32_t target, uint64_t now_ms);
/* What it may have of its weight, of ROUTING_SHARE_ALL: at least a tenth, so that it is asked at all. */
uint32_t routing_slow_start_share(const struct routing_health *, uint64_t now_ms, uint64_t duration_ms);
