/* Rules that join sections of the configuration. Every lookup is by hash: ten thousand routes are an ordinary file. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <h2o.h>
#include "gateway/base/names.h"
#include "gateway/config/config.h"
#include "gateway/answer/error_page.h"
#include "gateway/l4/l4_config.h"
#include "routing/table.h"

/* An address that somebody listens on. */
struct taken {
    const struct gw_address *address;
    struct gw_ip ip;
    const struct gw_node *at;
    bool is_udp;
    const char *owner; /* name of the listener; NULL: the admin listener */
    size_t order;
};

struct taken_list {
    struct taken *entries;
    size_t size;
};

static bool is_any(const struct gw_ip *ip)
{
    static const uint8_t zero[16];
    return memcmp(ip->bytes, zero, 16) == 0 || (gw_ip_is_v4(ip) && memcmp(ip->bytes + 12, zero, 4) == 0);
}

/* Connections to inner would otherwise arrive at outer. [::] is dual stack, so it has 0.0.0.0 inside. */
static bool is_inside(const struct gw_ip *inner, const struct gw_ip *outer)
{
    return is_any(outer) && (!gw_ip_is_v4(outer) || gw_ip_is_v4(inner));
}

static const char *owner_text(const struct taken *taken, char *buf, size_t buf_len)
{
    if (taken->owner == NULL)
        snprintf(buf, buf_len, "the admin listener");
    else
        snprintf(buf, buf_len, "listener \"%s\"", taken->owner);
    return buf;
}

static void check_pair(const struct taken *first, const struct taken *second, struct gw_errors *errors)
{
    char owner[96];
    if (memcmp(&first->ip, &second->ip, sizeof(first->ip)) == 0)
        gw_error_at(errors, second->at, "address %s is taken already: %s at %s:%u:%u", second->address->text.base,
                    owner_text(first, owner, sizeof(owner)), first->at->file, first->at->line, first->at->column);
    else if (is_inside(&second->ip, &first->ip) || is_inside(&first->ip, &second->ip))
        gw_warn_at(errors, second->at,
                   "address %s overlaps %s of %s at %s:%u:%u: the more specific one gets its connections",
                   second->address->text.base, first->address->text.base, owner_text(first, owner, sizeof(owner)),
                   first->at->file, first->at->line, first->at->column);
}

static void take(struct taken_list *list, const struct gw_address *address, const struct gw_node *at, const char *owner,
                 bool is_udp)
{
    struct taken taken = {address, {{0}}, at, is_udp, owner, list->size};
    if (!gw_ip_from_sockaddr((const struct sockaddr *)&address->sa, &taken.ip))
        return;
    list->entries = h2o_mem_realloc(list->entries, (list->size + 1) * sizeof(list->entries[0]));
    list->entries[list->size++] = taken;
}

static int compare_taken(const void *a, const void *b)
{
    const struct taken *x = a, *y = b;
    if (x->address->port != y->address->port)
        return x->address->port < y->address->port ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static void check_addresses(const struct gw_config *config, struct gw_errors *errors)
{
    enum { MAX_COMPARED = 64 };
    struct taken_list list = {NULL, 0};
    for (size_t i = 0; i != config->listeners.size; ++i) {
        const struct gw_listener_conf *listener = config->listeners.entries[i].conf;
        for (size_t j = 0; j != listener->address.size; ++j)
            take(&list, listener->address.entries + j, listener->address.at[j], config->listeners.entries[i].name.base,
                 listener->protocol == GW_LISTENER_UDP);
    }
    if (config->admin.is_enabled && config->admin.address.text.len != 0 && !config->admin.address.is_unix)
        take(&list, &config->admin.address, gw_setting_at(config->admin.at, "address"), NULL, false);
    if (config->admin.is_enabled && config->admin.tcp.text.len != 0)
        take(&list, &config->admin.tcp, gw_setting_at(config->admin.at, "tcp"), NULL, false);
    if (list.size != 0)
        qsort(list.entries, list.size, sizeof(list.entries[0]), compare_taken);
    for (size_t i = 1; i < list.size; ++i)
        for (size_t j = i; j-- != 0 && i - j <= MAX_COMPARED;)
            if (list.entries[j].address->port == list.entries[i].address->port &&
                list.entries[j].is_udp == list.entries[i].is_udp)
                check_pair(list.entries + j, list.entries + i, errors);
    free(list.entries);
}

static void check_certificate_names(const struct gw_config *config, struct gw_errors *errors)
{
    for (size_t i = 0; i != config->listeners.size; ++i) {
        const struct gw_listener_conf *listener = config->listeners.entries[i].conf;
        for (size_t j = 0; listener->tls != NULL && j != listener->tls->certificates.size; ++j) {
            h2o_iovec_t name = listener->tls->certificates.entries[j];
            if (gw_map_find(&config->certificates, name) == NULL)
                gw_error_dangling(errors, listener->tls->certificates.at[j], "certificate", name,
                                  &config->certificates);
        }
        if (listener->tls != NULL && listener->tls->default_certificate.base != NULL &&
            gw_map_find(&config->certificates, listener->tls->default_certificate) == NULL)
            gw_error_dangling(errors, gw_setting_at(listener->tls->at, "default_certificate"), "certificate",
                              listener->tls->default_certificate, &config->certificates);
    }
}

/* Mirrors get requests as they are; functions take events. */
static void refuse_function(const struct gw_config *config, struct gw_errors *errors, const struct gw_node *at,
                            h2o_iovec_t name, const char *what)
{
    const struct gw_named *group = gw_map_find(&config->target_groups, name);
    if (group != NULL && ((const struct routing_target_group_conf *)group->conf)->lambda != NULL)
        gw_error_at(errors, at, "target group \"%s\" is a function, which cannot be a %s", name.base, what);
}

static void check_group_names(const struct gw_config *config, struct gw_errors *errors)
{
    for (size_t i = 0; i != config->routes.size; ++i) {
        const struct routing_route_conf *route = config->routes.entries[i];
        for (size_t j = 0; route->forward != NULL && j != route->forward->groups.size; ++j) {
            const struct routing_weighted_group_conf *group = route->forward->groups.entries[j];
            if (group->group.base != NULL && gw_map_find(&config->target_groups, group->group) == NULL)
                gw_error_dangling(errors, gw_setting_at(group->at, "group"), "target group", group->group,
                                  &config->target_groups);
        }
        if (route->mirror != NULL && route->mirror->group.base != NULL)
            refuse_function(config, errors, gw_setting_at(route->mirror->at, "group"), route->mirror->group, "mirror");
        if (route->mirror != NULL && route->mirror->group.base != NULL &&
            gw_map_find(&config->target_groups, route->mirror->group) == NULL)
            gw_error_dangling(errors, gw_setting_at(route->mirror->at, "group"), "target group", route->mirror->group,
                              &config->target_groups);
        if (route->forward != NULL && route->forward->fallback.base != NULL &&
            gw_map_find(&config->target_groups, route->forward->fallback) == NULL)
            gw_error_dangling(errors, gw_setting_at(route->forward->at, "fallback"), "target group",
                              route->forward->fallback, &config->target_groups);
    }
}

static const struct routing_target_group_conf *failover_of(const struct gw_config *config,
                                                           const struct routing_target_group_conf *group)
{
    const struct gw_named *named = group->failover != NULL && group->failover->to.base != NULL
                                       ? gw_map_find(&config->target_groups, group->failover->to)
                                       : NULL;
    return named != NULL ? named->conf : NULL;
}

static bool leads_back(const struct gw_config *config, const struct routing_target_group_conf *group)
{
    const struct routing_target_group_conf *next = failover_of(config, group);
    for (size_t i = 0; i != config->target_groups.size && next != NULL && next != group; ++i)
        next = failover_of(config, next);
    return next == group;
}

static void check_groups(const struct gw_config *config, struct gw_errors *errors)
{
    for (size_t i = 0; i != config->target_groups.size; ++i) {
        const struct routing_target_group_conf *group = config->target_groups.entries[i].conf;
        if (group->zones.mode != ROUTING_ZONES_ANY && config->zone.base == NULL)
            gw_error_at(errors, group->zones.at,
                        "\"zones\" needs to know where this gateway stands (expected a \"zone\" at the top level)");
        if (group->failover == NULL || group->failover->to.base == NULL)
            continue;
        if (gw_map_find(&config->target_groups, group->failover->to) == NULL)
            gw_error_dangling(errors, gw_setting_at(group->failover->at, "to"), "target group", group->failover->to,
                              &config->target_groups);
        else if (leads_back(config, group))
            gw_error_at(errors, gw_setting_at(group->failover->at, "to"), "failover to \"%s\" leads back to the group",
                        group->failover->to.base);
    }
}

static bool is_sticky(const struct gw_config *config, h2o_iovec_t name)
{
    const struct gw_named *named = name.base != NULL ? gw_map_find(&config->target_groups, name) : NULL;
    return named != NULL && ((const struct routing_target_group_conf *)named->conf)->stickiness != NULL;
}

/* spec/alb.md 2.3: with a cookie for the target only, the next request may be drawn to the other group. */
static void check_forward_stickiness(const struct gw_config *config, struct gw_errors *errors)
{
    for (size_t i = 0; i != config->routes.size; ++i) {
        const struct routing_forward_conf *forward = ((struct routing_route_conf *)config->routes.entries[i])->forward;
        if (forward == NULL || forward->groups.size < 2 || forward->stickiness_ms != 0)
            continue;
        for (size_t j = 0; j != forward->groups.size; ++j) {
            const struct routing_weighted_group_conf *entry = forward->groups.entries[j];
            if (!is_sticky(config, entry->group))
                continue;
            gw_warn_at(errors, forward->at,
                       "target group \"%s\" is sticky, but clients are drawn anew between the groups (expected "
                       "\"stickiness\" beside \"groups\")",
                       entry->group.base);
            break;
        }
    }
}

/* Between good routes the routing table finds them. */
static void check_route_names(const struct gw_config *config, struct gw_errors *errors)
{
    struct gw_names names;
    gw_names_init(&names, NULL);
    for (size_t i = 0; i != config->routes.size; ++i) {
        const struct routing_route_conf *route = config->routes.entries[i];
        bool is_new;
        size_t *index = gw_names_put(&names, route->name, &is_new);
        if (is_new) {
            *index = i;
            continue;
        }
        if (!config->routes.is_bad[i] && !config->routes.is_bad[*index] && !config->at->is_broken)
            continue;
        const struct routing_route_conf *first = config->routes.entries[*index];
        const struct gw_node *first_at = gw_setting_at(first->at, "name");
        gw_error_at(errors, gw_setting_at(route->at, "name"), "route \"%.60s\" is defined twice (first at %s:%u:%u)",
                    route->name.base, first_at->file, first_at->line, first_at->column);
    }
    gw_names_dispose(&names);
}

void gw_config_check(struct gw_config *config, struct gw_errors *errors)
{
    const struct gw_node *listeners = gw_node_get(config->at, "listeners");
    bool is_whole = config->at != NULL && !config->at->is_broken;
    if (is_whole && listeners != NULL && !listeners->is_broken && config->listeners.size == 0 &&
        (listeners->kind == GW_NODE_MAP || gw_node_is_null(listeners)))
        gw_error_at(errors, listeners, "listeners is empty (expected at least one)");
    if (config->group.base != NULL && config->user.base == NULL)
        gw_error_at(errors, gw_setting_at(config->at, "group"), "group needs a user (expected user: NAME beside it)");
    check_addresses(config, errors);
    check_route_names(config, errors);
    if (!is_whole) /* what is missing may be in the include that could not be read */
        return;
    check_certificate_names(config, errors);
    check_group_names(config, errors);
    check_groups(config, errors);
    check_forward_stickiness(config, errors);
    gw_l4_check(config, errors);
}

static void check_certificates(const struct gw_config *config, struct gw_errors *errors)
{
    for (size_t i = 0; i != config->certificates.size; ++i) {
        const struct gw_named *entry = config->certificates.entries + i;
        if (!entry->is_bad)
            tls_certificate_destroy(tls_certificate_load(entry->name, entry->conf, time(NULL), errors));
    }
}

static void check_table(const struct gw_config *config, struct gw_errors *errors)
{
    size_t num_listeners = config->listeners.size;
    struct gw_list good = {h2o_mem_alloc(config->routes.size * sizeof(good.entries[0]) + 1), 0, NULL};
    h2o_iovec_t *names = h2o_mem_alloc(num_listeners * sizeof(names[0]) + 1);
    for (size_t i = 0; i != num_listeners; ++i)
        names[i] = config->listeners.entries[i].name;
    for (size_t i = 0; i != config->routes.size; ++i)
        if (!config->routes.is_bad[i])
            good.entries[good.size++] = config->routes.entries[i];
    routing_table_destroy(routing_table_create(&good, names, num_listeners, errors));
    free(good.entries);
    free(names);
}

static void check_error_pages(const struct gw_map *conf, struct gw_errors *errors)
{
    struct gw_error_pages *pages;
    gw_error_pages_create(conf, &pages, errors);
    gw_error_pages_destroy(pages);
}

void gw_config_check_parts(const struct gw_config *config, bool allow_files, struct gw_errors *errors)
{
    if (allow_files) {
        check_certificates(config, errors);
        check_error_pages(&config->error_pages, errors);
        for (size_t i = 0; i != config->routes.size; ++i)
            check_error_pages(&((const struct routing_route_conf *)config->routes.entries[i])->error_pages, errors);
    }
    if (config->at != NULL && !config->at->is_broken)
        check_table(config, errors);
}
