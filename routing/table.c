#include <string.h>
#include "routing/reachable.h"
#include "routing/table_impl.h"

/* A route with many hosts and many paths is filed under the larger of the two only, the other is checked afterwards:
 * the index must not grow by their product. */
enum { MAX_BOXES = 64 };
enum { CHECK_HOSTS = 1, CHECK_PATHS = 2, CHECK_CONDITIONS = 4 }; /* values of the items of a set */

/* ---- compiling routes ---- */

struct ordered {
    struct routing_route_conf *conf;
    size_t position;
};

static int compare_routes(const void *a_, const void *b_)
{
    const struct ordered *a = a_, *b = b_;
    uint64_t in_a = a->conf->priority - 1, in_b = b->conf->priority - 1; /* 0, not given, comes last */
    if (in_a != in_b)
        return in_a < in_b ? -1 : 1;
    return a->position < b->position ? -1 : a->position > b->position;
}

static size_t count_patterns(const struct routing_match_conf *match)
{
    size_t paths = match->path.size + match->path_prefix.size + match->path_exact.size + match->path_regex.size;
    size_t hosts = match->host.size + match->host_regex.size;
    return (hosts != 0 ? hosts : 1) + (paths != 0 ? paths : 1);
}

/* regexes beside globs, of hosts or of paths */
static bool compile_regexes(struct routing_table *self, const struct gw_texts *regexes, bool is_host,
                            struct gw_errors *errors)
{
    bool is_ok = true;
    for (size_t i = 0; i != regexes->size; ++i) {
        char why[256];
        h2o_iovec_t regex = regexes->entries[i];
        if (!routing_pattern_init_regex(self->patterns + self->num_patterns++, &self->pool, regex, is_host, why,
                                        sizeof(why)))
            is_ok = gw_error_at(errors, regexes->at[i], "bad regular expression \"%.*s\": %s", (int)regex.len,
                                regex.base, why);
    }
    return is_ok;
}

static bool compile_hosts(struct routing_table *self, struct routing_rule *rule, struct gw_errors *errors)
{
    const struct routing_match_conf *match = &rule->route.conf->match;
    const struct gw_texts *hosts = &match->host;
    bool is_ok;

    rule->hosts = self->patterns + self->num_patterns;
    for (size_t i = 0; i != hosts->size; ++i)
        routing_pattern_init_glob(self->patterns + self->num_patterns++, &self->pool, hosts->entries[i], true);
    is_ok = compile_regexes(self, &match->host_regex, true, errors);
    if (self->patterns + self->num_patterns == rule->hosts)
        routing_pattern_init_any(self->patterns + self->num_patterns++, false);
    rule->num_hosts = (uint32_t)(self->patterns + self->num_patterns - rule->hosts);
    return is_ok;
}

static bool compile_paths(struct routing_table *self, struct routing_rule *rule, struct gw_errors *errors)
{
    const struct routing_match_conf *match = &rule->route.conf->match;
    bool is_ok = true;

    rule->paths = self->patterns + self->num_patterns;
    for (size_t i = 0; i != match->path.size; ++i)
        routing_pattern_init_glob(self->patterns + self->num_patterns++, &self->pool, match->path.entries[i], false);
    for (size_t i = 0; i != match->path_prefix.size; ++i)
        routing_pattern_init_literal(self->patterns + self->num_patterns++, match->path_prefix.entries[i], true);
    for (size_t i = 0; i != match->path_exact.size; ++i)
        routing_pattern_init_literal(self->patterns + self->num_patterns++, match->path_exact.entries[i], false);
    is_ok = compile_regexes(self, &match->path_regex, false, errors);
    if (self->patterns + self->num_patterns == rule->paths)
        routing_pattern_init_any(self->patterns + self->num_patterns++, true);
    rule->num_paths = (uint32_t)(self->patterns + self->num_patterns - rule->paths);
    return is_ok;
}

static bool compile_rules(struct routing_table *self, struct ordered *ordered, size_t n, const h2o_iovec_t *listeners,
                          size_t num_listeners, struct gw_errors *errors)
{
    size_t num_patterns = 0;
    bool is_ok = true;

    for (size_t i = 0; i != n; ++i)
        num_patterns += count_patterns(&ordered[i].conf->match);
    qsort(ordered, n, sizeof(*ordered), compare_routes);
    self->rules = h2o_mem_alloc_pool(&self->pool, (n + 1) * sizeof(*self->rules));
    self->patterns = h2o_mem_alloc_pool(&self->pool, (num_patterns + 1) * sizeof(*self->patterns));
    for (; self->size != n; ++self->size) {
        struct routing_rule *rule = self->rules + self->size;
        rule->route = (struct routing_route){(uint32_t)self->size, ordered[self->size].conf};
        is_ok = compile_hosts(self, rule, errors) && is_ok;
        is_ok = compile_paths(self, rule, errors) && is_ok;
        is_ok = routing_conditions_create(&self->pool, &rule->route.conf->match, listeners, num_listeners, errors,
                                          &rule->conditions) &&
                is_ok;
    }
    return is_ok;
}

/* ---- names ---- */

const char *routing_place(const struct gw_node *at, char *buf)
{
    if (at == NULL)
        return "?";
    snprintf(buf, ROUTING_PLACE_MAX, "%s:%u:%u", at->file, at->line, at->column);
    return buf;
}

static int compare_texts(h2o_iovec_t a, h2o_iovec_t b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n != 0 ? memcmp(a.base, b.base, n) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_names(const void *a_, const void *b_)
{
    const struct ordered *a = a_, *b = b_;
    int order = compare_texts(a->conf->name, b->conf->name);
    return order != 0 ? order : a->position < b->position ? -1 : a->position > b->position;
}

/* Logs, metrics and statistics know a route by its name. */
static bool check_names(struct ordered *routes, size_t n, struct gw_errors *errors)
{
    bool is_ok = true;

    qsort(routes, n, sizeof(*routes), compare_names);
    for (size_t i = 1; i < n; ++i) {
        const struct routing_route_conf *first = routes[i - 1].conf, *again = routes[i].conf;
        char place[ROUTING_PLACE_MAX];
        if (again->name.base != NULL && compare_texts(first->name, again->name) == 0)
            is_ok =
                gw_error_at(errors, gw_setting_at(again->at, "name"), "route \"%.60s\" is defined twice (first at %s)",
                            again->name.base, routing_place(gw_setting_at(first->at, "name"), place));
    }
    return is_ok;
}

/* ---- filing them under hosts and paths ---- */

struct filed { /* one host pattern of one rule */
    const struct routing_pattern *host;
    uint32_t rule;
    uint32_t check;
};

static int compare_host_patterns(const struct routing_pattern *a, const struct routing_pattern *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return a->kind == ROUTING_PATTERN_ANY ? 0 : compare_texts(a->text, b->text);
}

static int compare_filed(const void *a_, const void *b_)
{
    const struct filed *a = a_, *b = b_;
    int order = compare_host_patterns(a->host, b->host);
    return order != 0 ? order : a->rule < b->rule ? -1 : a->rule > b->rule;
}

static struct filed *file_rules(const struct routing_table *self, const struct routing_pattern *any_host, size_t *size)
{
    struct filed *filed = h2o_mem_alloc((self->num_patterns + self->size + 1) * sizeof(*filed));
    *size = 0;
    for (size_t i = 0; i != self->size; ++i) {
        const struct routing_rule *rule = self->rules + i;
        bool is_wide = (uint64_t)rule->num_hosts * rule->num_paths > MAX_BOXES;
        if (is_wide && rule->num_paths > rule->num_hosts) {
            filed[(*size)++] = (struct filed){any_host, (uint32_t)i, CHECK_HOSTS};
            continue;
        }
        for (uint32_t j = 0; j != rule->num_hosts; ++j)
            filed[(*size)++] = (struct filed){rule->hosts + j, (uint32_t)i, is_wide ? CHECK_PATHS : 0};
    }
    qsort(filed, *size, sizeof(*filed), compare_filed);
    return filed;
}

static void build_set(struct routing_table *self, struct routing_index *set, const struct filed *filed, size_t n,
                      const struct routing_pattern *any_path)
{
    size_t num_items = 0;
    for (size_t i = 0; i != n; ++i)
        num_items += filed[i].check == CHECK_PATHS ? 1 : self->rules[filed[i].rule].num_paths;
    struct routing_index_item *items = h2o_mem_alloc((num_items + 1) * sizeof(*items)), *item = items;
    for (size_t i = 0; i != n; ++i) {
        const struct routing_rule *rule = self->rules + filed[i].rule;
        uint32_t checks = filed[i].check | (rule->conditions != NULL ? CHECK_CONDITIONS : 0);
        if (filed[i].check == CHECK_PATHS) {
            *item++ = (struct routing_index_item){any_path, filed[i].rule, checks};
            continue;
        }
        for (uint32_t j = 0; j != rule->num_paths; ++j)
            *item++ = (struct routing_index_item){rule->paths + j, filed[i].rule, checks};
    }
    routing_index_build(set, &self->pool, items, num_items);
    free(items);
}

static void build_indexes(struct routing_table *self)
{
    struct routing_pattern *any = h2o_mem_alloc_pool(&self->pool, 2 * sizeof(*any));
    size_t num_filed;

    routing_pattern_init_any(any, false);
    routing_pattern_init_any(any + 1, true);
    struct filed *filed = file_rules(self, any, &num_filed);
    struct routing_index_item *hosts = h2o_mem_alloc((num_filed + 1) * sizeof(*hosts));
    self->sets = h2o_mem_alloc_pool(&self->pool, (num_filed + 1) * sizeof(*self->sets));
    for (size_t i = 0, start; i != num_filed;) {
        for (start = i; i != num_filed && compare_host_patterns(filed[i].host, filed[start].host) == 0;)
            ++i;
        struct routing_index *set = self->sets + self->num_sets;
        build_set(self, set, filed + start, i - start, any + 1);
        hosts[self->num_sets] =
            (struct routing_index_item){filed[start].host, set->min_order, (uint32_t)self->num_sets};
        ++self->num_sets;
    }
    routing_index_build(&self->hosts, &self->pool, hosts, self->num_sets);
    free(hosts);
    free(filed);
}

struct routing_table *routing_table_create(const struct gw_list *routes, const h2o_iovec_t *listeners,
                                           size_t num_listeners, struct gw_errors *errors)
{
    struct routing_table *self = h2o_mem_alloc(sizeof(*self));
    struct ordered *ordered = h2o_mem_alloc((routes->size + 1) * sizeof(*ordered));
    size_t n = 0;
    bool is_ok = true;

    memset(self, 0, sizeof(*self));
    h2o_mem_init_pool(&self->pool);
    for (size_t i = 0; i != routes->size; ++i) {
        if (routes->is_bad != NULL && routes->is_bad[i])
            is_ok = false; /* has its errors already; the others are still looked at */
        else
            ordered[n++] = (struct ordered){routes->entries[i], i};
    }
    is_ok = compile_rules(self, ordered, n, listeners, num_listeners, errors) && is_ok;
    is_ok = check_names(ordered, n, errors) && is_ok;
    free(ordered);
    build_indexes(self);
    routing_warn_unreachable(self, errors);
    if (!is_ok) {
        routing_table_destroy(self);
        return NULL;
    }
    return self;
}

void routing_table_destroy(struct routing_table *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i != self->num_patterns; ++i)
        routing_pattern_dispose(self->patterns + i);
    for (size_t i = 0; i != self->size; ++i)
        routing_conditions_dispose(self->rules[i].conditions);
    h2o_mem_clear_pool(&self->pool);
    free(self);
}

size_t routing_table_size(const struct routing_table *self) { return self->size; }

const struct routing_route *routing_table_at(const struct routing_table *self, size_t index)
{
    return &self->rules[index].route;
}

/* ---- matching ---- */

struct match {
    const struct routing_table *table;
    const struct routing_facts *facts;
    h2o_iovec_t host;
};

static bool any_takes(const struct routing_pattern *patterns, uint32_t n, h2o_iovec_t text)
{
    for (uint32_t i = 0; i != n; ++i)
        if (routing_pattern_takes(patterns + i, text))
            return true;
    return false;
}

static void take_rule(void *context, const struct routing_index_item *item, uint32_t *best)
{
    const struct match *match = context;
    const struct routing_rule *rule = match->table->rules + item->order;
    if ((item->value & CHECK_HOSTS) != 0 && !any_takes(rule->hosts, rule->num_hosts, match->host))
        return;
    if ((item->value & CHECK_PATHS) != 0 && !any_takes(rule->paths, rule->num_paths, match->facts->path))
        return;
    if ((item->value & CHECK_CONDITIONS) == 0 || routing_conditions_hold(rule->conditions, match->facts))
        *best = item->order;
}

static void take_set(void *context, const struct routing_index_item *item, uint32_t *best)
{
    const struct match *match = context;
    routing_index_match(match->table->sets + item->value, match->facts->path, best, take_rule, context);
}

/* ---- explaining: a walk over all the routes before the winner, which the indexes save live traffic ---- */

enum { MAX_TRACED = 50 };

static const struct gw_node *path_setting(const struct routing_match_conf *match)
{
    return gw_setting_at(match->at, match->path.size != 0          ? "path"
                                    : match->path_prefix.size != 0 ? "path_prefix"
                                    : match->path_exact.size != 0  ? "path_exact"
                                                                   : "path_regex");
}

static void list_patterns(const struct routing_pattern *patterns, uint32_t n, char *buf, size_t len)
{
    struct gw_texts texts = {h2o_mem_alloc((n + 1) * sizeof(h2o_iovec_t)), n};
    for (uint32_t i = 0; i != n; ++i)
        texts.entries[i] = patterns[i].shown;
    routing_list_texts(&texts, buf, len);
    free(texts.entries);
}

static void trace_loss(const struct match *match, const struct routing_rule *rule, struct gw_trace *trace)
{
    const struct routing_facts *facts = match->facts;
    const struct routing_route_conf *conf = rule->route.conf;
    const struct gw_node *at = conf->at;
    char list[512], why[1024];

    if (!any_takes(rule->hosts, rule->num_hosts, match->host)) {
        at = gw_setting_at(conf->match.at, conf->match.host.size != 0 ? "host" : "host_regex");
        list_patterns(rule->hosts, rule->num_hosts, list, sizeof(list));
        snprintf(why, sizeof(why), "host \"%.*s\" does not match %s", (int)match->host.len, match->host.base, list);
    } else if (!any_takes(rule->paths, rule->num_paths, facts->path)) {
        at = path_setting(&conf->match);
        list_patterns(rule->paths, rule->num_paths, list, sizeof(list));
        snprintf(why, sizeof(why), "path \"%.*s\" does not match %s", (int)facts->path.len, facts->path.base, list);
    } else {
        routing_conditions_explain(rule->conditions, facts, why, sizeof(why), &at);
    }
    gw_trace_write(trace, "route", at, "route \"%.*s\" lost: %s", (int)conf->name.len, conf->name.base, why);
}

/* Of too many losers, those that had the right host say more than the others. */
static void trace_losers(const struct match *match, size_t n, struct gw_trace *trace)
{
    const struct routing_rule *rules = match->table->rules;
    size_t same_host = 0, left, others_left, left_out = 0;
    for (size_t i = 0; i != n; ++i)
        same_host += any_takes(rules[i].hosts, rules[i].num_hosts, match->host);
    left = same_host < MAX_TRACED ? same_host : MAX_TRACED;
    others_left = MAX_TRACED - left;
    for (size_t i = 0; i != n; ++i) {
        bool has_host = any_takes(rules[i].hosts, rules[i].num_hosts, match->host);
        size_t *quota = has_host ? &left : &others_left;
        if (*quota == 0) {
            ++left_out;
            continue;
        }
        --*quota;
        trace_loss(match, rules + i, trace);
    }
    if (left_out != 0)
        gw_trace_write(trace, "route", NULL, "%zu more routes lost", left_out);
}

static void trace_match(const struct match *match, uint32_t best, struct gw_trace *trace)
{
    const struct routing_table *self = match->table;
    bool has_winner = best != UINT32_MAX;
    trace_losers(match, has_winner ? best : self->size, trace);
    if (has_winner) {
        const struct routing_route_conf *conf = self->rules[best].route.conf;
        gw_trace_write(trace, "route", conf->at, "route \"%.*s\" takes the request", (int)conf->name.len,
                       conf->name.base);
    } else {
        gw_trace_write(trace, "route", NULL, "no route takes the request");
    }
}

const struct routing_route *routing_table_match(const struct routing_table *self, const struct routing_facts *facts,
                                                struct gw_trace *trace)
{
    struct match match = {self, facts, facts->host.base != NULL ? facts->host : h2o_iovec_init(H2O_STRLIT(""))};
    uint32_t best = UINT32_MAX;

    routing_index_match(&self->hosts, match.host, &best, take_set, &match);
    if (__builtin_expect(trace != NULL, 0))
        trace_match(&match, best, trace);
    return best == UINT32_MAX ? NULL : &self->rules[best].route;
}
