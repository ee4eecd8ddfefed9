/* A route is a set of boxes, host pattern by path pattern, under the same other conditions. It is dead when each of its
 * boxes lies in a box of an earlier route that asks for nothing more. The indexes that find the routes for a request
 * also find, for a box, the few that could cover it, so 10,000 routes do not take 50 million comparisons. What is
 * found is certain; what only several boxes together cover, or regular expressions, is not looked for. */
#include "routing/reachable.h"
#include "routing/table_impl.h"

enum {
    MAX_BOXES = 1024,       /* of a route; beyond, nothing is said about it */
    MAX_SEEN_PER_BOX = 64,  /* comparisons; thousands of routes may share one host and path */
    MAX_SETS_PER_BOX = 256, /* host patterns looked into; thousands may have no literal end to be found by */
};

struct search {
    const struct routing_table *table;
    const struct routing_rule *rule;
    const struct routing_pattern *host, *path; /* the box */
    const struct routing_rule *covering;       /* found */
    unsigned left, sets_left;
};

static bool any_covers(const struct routing_pattern *patterns, uint32_t n, const struct routing_pattern *other)
{
    for (uint32_t i = 0; i != n; ++i)
        if (routing_pattern_covers(patterns + i, other))
            return true;
    return false;
}

static bool see_rule(void *context, const struct routing_index_item *item)
{
    struct search *search = context;
    const struct routing_rule *earlier = search->table->rules + item->order;

    if (search->left == 0)
        return false;
    --search->left;
    if (!any_covers(earlier->paths, earlier->num_paths, search->path) ||
        !any_covers(earlier->hosts, earlier->num_hosts, search->host) ||
        !routing_conditions_cover(earlier->conditions, search->rule->conditions))
        return true;
    search->covering = earlier;
    return false;
}

static bool see_set(void *context, const struct routing_index_item *item)
{
    struct search *search = context;
    if (search->sets_left == 0)
        return false;
    --search->sets_left;
    return routing_index_covering(search->table->sets + item->value, search->path, search->rule->route.index, see_rule,
                                  search);
}

static const struct routing_rule *find_covering(const struct routing_table *table, const struct routing_rule *rule,
                                                const struct routing_pattern *host, const struct routing_pattern *path)
{
    struct search search = {table, rule, host, path, NULL, MAX_SEEN_PER_BOX, MAX_SETS_PER_BOX};
    routing_index_covering(&table->hosts, host, rule->route.index, see_set, &search);
    return search.covering;
}

static void check_rule(const struct routing_table *table, const struct routing_rule *rule, struct gw_errors *errors)
{
    const struct routing_rule *first = NULL;
    bool by_several = false;

    if ((uint64_t)rule->num_hosts * rule->num_paths > MAX_BOXES)
        return;
    for (uint32_t i = 0; i != rule->num_hosts; ++i)
        for (uint32_t j = 0; j != rule->num_paths; ++j) {
            const struct routing_rule *covering = find_covering(table, rule, rule->hosts + i, rule->paths + j);
            if (covering == NULL)
                return;
            by_several = by_several || (first != NULL && covering != first);
            if (first == NULL)
                first = covering;
        }
    const struct routing_route_conf *conf = rule->route.conf, *earlier = first->route.conf;
    char place[ROUTING_PLACE_MAX];
    gw_warn_at(errors, conf->at, "route \"%.*s\" is never reached: \"%.*s\" at %s %s", (int)conf->name.len,
               conf->name.base, (int)earlier->name.len, earlier->name.base, routing_place(earlier->at, place),
               by_several ? "and others take every request before it" : "takes every request before it");
}

void routing_warn_unreachable(const struct routing_table *table, struct gw_errors *errors)
{
    for (size_t i = 1; i < table->size; ++i)
        check_rule(table, table->rules + i, errors);
}
