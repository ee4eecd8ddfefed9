/* What table.c builds and reachable.c looks into. Inside routing/ only. */
#pragma once
#include "routing/conditions.h"
#include "routing/pattern_index.h"
#include "routing/table.h"

struct routing_rule {
    struct routing_route route;
    struct routing_conditions *conditions;       /* NULL: host and path decide */
    const struct routing_pattern *hosts, *paths; /* at least one each; no condition is one ANY */
    uint32_t num_hosts, num_paths;
};
struct routing_table {
    h2o_mem_pool_t pool;
    struct routing_rule *rules; /* in matching order */
    size_t size;
    struct routing_pattern *patterns; /* of all rules, for disposal */
    size_t num_patterns;
    struct routing_index hosts; /* values: indexes into sets */
    struct routing_index *sets; /* paths of one host pattern; values unused, order is the rule */
    size_t num_sets;
};

/* "edge.yaml:9:5" for messages; buf holds ROUTING_PLACE_MAX bytes. */
enum { ROUTING_PLACE_MAX = 512 };
const char *routing_place(const struct gw_node *, char *buf);
