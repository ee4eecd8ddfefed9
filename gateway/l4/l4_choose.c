/* Which target group a connection goes to: compiled from listeners.*.forward and .sni, asked by traffic and explain. */
#include <string.h>
#include "gateway/base/glob.h"
#include "gateway/gate.h"
#include "gateway/l4/l4.h"

static const h2o_iovec_t no_group = {(char *)"-", 1};

static void *alloc_zeroed(h2o_mem_pool_t *pool, size_t count, size_t size)
{
    void *p = h2o_mem_alloc_pool(pool, count * size + 1);
    memset(p, 0, count * size + 1);
    return p;
}

/* ---- compiling ---- */

static bool compile_forward(struct gw_snapshot *snapshot, const struct gw_snapshot_listener *listener,
                            const struct routing_forward_conf *conf, struct gw_l4_forward *forward,
                            struct gw_errors *errors)
{
    h2o_mem_pool_t *pool = snapshot->config->pool;
    const struct gw_map *map = &snapshot->config->target_groups;

    forward->conf = conf;
    forward->size = conf->groups.size;
    forward->groups = alloc_zeroed(pool, forward->size, sizeof(*forward->groups));
    forward->stats = alloc_zeroed(pool, forward->size, sizeof(*forward->stats));
    forward->weights = alloc_zeroed(pool, forward->size, sizeof(*forward->weights));
    for (size_t i = 0; i != forward->size; ++i) {
        const struct routing_weighted_group_conf *weighted = conf->groups.entries[i];
        const struct gw_named *named = gw_map_find(map, weighted->group);
        if (named == NULL)
            return gw_error_dangling(errors, weighted->at, "target group", weighted->group, map);
        forward->groups[i] = &snapshot->groups[named - map->entries];
        forward->weights[i] = (uint32_t)weighted->weight;
        if (snapshot->process != NULL)
            forward->stats[i] = gw_l4_stats(snapshot->process, listener, named->name);
    }
    return true;
}

static h2o_iovec_t lower(h2o_mem_pool_t *pool, h2o_iovec_t text)
{
    h2o_iovec_t copy = h2o_strdup(pool, text.base, text.len);
    h2o_strtolower(copy.base, copy.len);
    return copy;
}

static bool is_exact(h2o_iovec_t glob)
{
    return memchr(glob.base, '*', glob.len) == NULL && memchr(glob.base, '?', glob.len) == NULL &&
           memchr(glob.base, '\\', glob.len) == NULL;
}

static bool compile_rules(struct gw_snapshot *snapshot, const struct gw_snapshot_listener *listener,
                          struct gw_l4_listener *self, struct gw_errors *errors)
{
    h2o_mem_pool_t *pool = snapshot->config->pool;
    const struct gw_list *sni = &listener->conf->sni;
    bool is_good = true, is_new;

    self->rules = alloc_zeroed(pool, sni->size, sizeof(*self->rules));
    self->num_rules = sni->size;
    gw_names_init(&self->exact, pool);
    for (size_t i = 0; i != sni->size; ++i) {
        const struct gw_sni_conf *conf = sni->entries[i];
        self->rules[i].conf = conf;
        is_good &= compile_forward(snapshot, listener, conf->forward, &self->rules[i].forward, errors);
        for (size_t j = 0; j != conf->host.size; ++j) {
            if (!is_exact(conf->host.entries[j]))
                continue;
            size_t *first = gw_names_put(&self->exact, lower(pool, conf->host.entries[j]), &is_new);
            if (is_new)
                *first = i;
        }
    }
    return is_good;
}

struct gw_l4_listener *gw_l4_listener_create(struct gw_snapshot *snapshot, const struct gw_snapshot_listener *listener,
                                             struct gw_errors *errors)
{
    h2o_mem_pool_t *pool = snapshot->config->pool;
    struct gw_l4_listener *self = alloc_zeroed(pool, 1, sizeof(*self));
    bool is_good = compile_rules(snapshot, listener, self, errors);

    if (listener->conf->forward != NULL) {
        self->forward = alloc_zeroed(pool, 1, sizeof(*self->forward));
        is_good &= compile_forward(snapshot, listener, listener->conf->forward, self->forward, errors);
    }
    if (snapshot->process != NULL)
        self->stats = gw_l4_stats(snapshot->process, listener, no_group);
    if (self->stats != NULL && gw_udp_settings(listener->conf)->flows_per_ip != 0 && self->stats->gate == NULL)
        self->stats->gate = gw_gate_create(); /* before any thread knows the snapshot; one load at a time */
    if (is_good)
        return self;
    gw_l4_listener_dispose(self);
    return NULL;
}

static void dispose_forward(struct gw_l4_forward *forward)
{
    for (size_t i = 0; i != forward->size; ++i)
        gw_l4_stats_release(forward->stats[i]);
}

void gw_l4_listener_dispose(struct gw_l4_listener *self)
{
    if (self == NULL)
        return;
    if (self->forward != NULL)
        dispose_forward(self->forward);
    for (size_t i = 0; i != self->num_rules; ++i)
        dispose_forward(&self->rules[i].forward);
    gw_l4_stats_release(self->stats);
}

/* ---- choosing ---- */

/* Patterns with wildcards are few; exact names, of which there may be thousands, cost one look-up. */
static const struct gw_l4_rule *find_rule(const struct gw_l4_listener *self, h2o_iovec_t name, h2o_iovec_t *pattern)
{
    const size_t *exact = gw_names_get(&self->exact, name);
    size_t end = exact != NULL ? *exact : self->num_rules;

    for (size_t i = 0; i != end; ++i) {
        const struct gw_texts *hosts = &self->rules[i].conf->host;
        for (size_t j = 0; j != hosts->size; ++j) {
            if (is_exact(hosts->entries[j]) || !gw_glob_match_nocase(hosts->entries[j], name))
                continue;
            *pattern = hosts->entries[j];
            return &self->rules[i];
        }
    }
    *pattern = name;
    return exact != NULL ? &self->rules[*exact] : NULL;
}

static const struct gw_l4_forward *find_forward(const struct gw_snapshot_listener *listener, h2o_iovec_t name,
                                                struct gw_trace *trace)
{
    const struct gw_l4_listener *self = listener->l4;
    const struct gw_l4_rule *rule;
    h2o_iovec_t pattern;

    if (self->num_rules != 0 && name.base != NULL) {
        if ((rule = find_rule(self, name, &pattern)) != NULL) {
            gw_trace(trace, "sni", rule->conf->at, "\"%.*s\" is taken by \"%.*s\"", (int)name.len, name.base,
                     (int)pattern.len, pattern.base);
            return &rule->forward;
        }
        gw_trace(trace, "sni", gw_setting_at(listener->conf->at, "sni"), "no entry takes \"%.*s\": %s", (int)name.len,
                 name.base, self->forward != NULL ? "the listener's forward" : "refused, there is no default");
    } else if (self->num_rules != 0) {
        gw_trace(trace, "sni", gw_setting_at(listener->conf->at, "sni"), "the client names no server: %s",
                 self->forward != NULL ? "the listener's forward" : "refused, there is no default");
    }
    return self->forward;
}

struct gw_l4_choice gw_l4_choose(const struct gw_snapshot_listener *listener, h2o_iovec_t name, uint32_t random,
                                 struct gw_trace *trace)
{
    struct gw_l4_choice choice = {.forward = find_forward(listener, name, trace),
                                  .stats = listener->l4->stats,
                                  .reason = GW_REASON_SERVER_NAME_UNKNOWN};
    uint32_t i = 0;

    if (choice.forward == NULL)
        return choice;
    choice.reason = GW_REASON_NO_TARGETS;
    if (choice.forward->size != 1)
        i = routing_weighted_choice(choice.forward->weights, choice.forward->size, random);
    if (i >= choice.forward->size) /* all weights are 0 */
        return choice;
    choice.group = choice.forward->groups[i];
    choice.stats = choice.forward->stats[i];
    gw_trace(trace, "target group", choice.forward->conf->at, "\"%.*s\" (%u of %zu by weight)",
             (int)choice.group->name.len, choice.group->name.base, i + 1, choice.forward->size);
    return choice;
}
