/* Finds, among many patterns, the few that can take a text, in time that does not grow with their number: exact ones by
 * hash, the others by the longer of their literal ends in a radix trie (from the front or from the back). Up to
 * SMALL patterns are just a list. Used for hosts (values are sets of routes) and, within each host, for paths (values
 * are routes). Inside routing/ only; read-only once made, memory from the pool. */
#pragma once
#include "routing/pattern.h"

struct routing_index_item {
    const struct routing_pattern *pattern; /* inside the index: NULL when being found by the key means to match */
    uint32_t order;                        /* lower wins; lists are sorted by it */
    uint32_t value;
};
struct routing_index_tables;
struct routing_index {
    struct routing_index_item *items; /* all of a small index, sorted; else only those without a literal end */
    uint32_t num_items;
    uint32_t min_order;
    const struct routing_index_tables *tables; /* NULL when small */
};

/* Items are copied and may come in any order. */
void routing_index_build(struct routing_index *, h2o_mem_pool_t *, const struct routing_index_item *, size_t num_items);

/* Calls take for every item that takes the text and has an order below *best, until *best (which take may lower) rules
 * out the rest. */
typedef void (*routing_index_take)(void *context, const struct routing_index_item *, uint32_t *best);
void routing_index_match(const struct routing_index *, h2o_iovec_t text, uint32_t *best, routing_index_take take,
                         void *context);

/* Calls see for the items whose patterns may cover the given one (and for others), each list by rising order, while
 * order < below; see returns false to stop. Returns false when stopped. */
typedef bool (*routing_index_see)(void *context, const struct routing_index_item *);
bool routing_index_covering(const struct routing_index *, const struct routing_pattern *, uint32_t below,
                            routing_index_see see, void *context);
