/* Which route serves a request. Compiled once from configuration, then read by every thread. Hash on host, trie on
 * path, residual checks: the cost does not grow with the number of routes that cannot match. First match in order
 * (priority, then file order) wins, whatever index found it. */
#pragma once
#include "routing/config.h"
#include "routing/facts.h"
#include "gateway/base/trace.h"

struct routing_table;

/* A compiled route; open, read-only. The gateway hangs its own compiled action on it by index. */
struct routing_route {
    uint32_t index; /* position in matching order, from 0 */
    const struct routing_route_conf *conf;
};

/* Everything borrowed (conf, names) must outlive the table. listeners: names in snapshot order. Reports unreachable
 * routes as warnings, dangling listeners and bad patterns as errors; NULL if there was any error. */
struct routing_table *routing_table_create(const struct gw_list *routes, const h2o_iovec_t *listeners,
                                           size_t num_listeners, struct gw_errors *);
void routing_table_destroy(struct routing_table *);
size_t routing_table_size(const struct routing_table *);
const struct routing_route *routing_table_at(const struct routing_table *, size_t index);

/* NULL if no route takes the request. With a trace, says for each route considered why it lost (at most the first 50),
 * then which won; the decision is the same with and without. Allocates nothing. */
const struct routing_route *routing_table_match(const struct routing_table *, const struct routing_facts *,
                                                struct gw_trace *);
