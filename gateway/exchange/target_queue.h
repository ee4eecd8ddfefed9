/* Requests that wait because every target of their group has as many as it may (target_limits), or the group as many
 * connections (circuit_breaker), before their first try or before a further one. One queue per group and
 * thread, in order of arrival; the bound counts all threads. What is here lives as long as the group's entry. */
#pragma once
#include "gateway/request.h"

struct gw_process;
struct gw_target_queues; /* of one group: one for each thread */
struct gw_group_entry;
struct gw_target_queues *gw_target_queues_create(struct gw_process *, struct gw_group_entry *);
/* Of a group that is gone, in which nobody can wait any more: every worker ends its part, then it can be freed. */
void gw_target_queues_end(struct gw_target_queues *, const struct gw_worker *);
void gw_target_queues_destroy(struct gw_target_queues *); /* NULL is fine */

/* GW_REASON_NONE: the request waits, and is forwarded or answered later (a place may have become free meanwhile, then
 * it is under way already). Otherwise why it may not. */
enum gw_reason gw_target_queue_join(struct gw_request *);
/* A connection of the group was closed. Any thread. */
void gw_target_queue_on_room(struct gw_group_use *);
/* A place at a target of the group is free again. */
void gw_target_queue_wake(struct gw_worker *, const struct routing_target_group *);
/* The request is over while it waits. Fine when it does not. */
void gw_target_queue_forget(struct gw_request *);
uint32_t gw_target_queue_size(const struct gw_target_queues *); /* all threads; statistics */
