#include "gateway/snapshot.h"
#include <malloc.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/alloc.h"
#include "gateway/answer/error_page.h"
#include "gateway/answer/files.h"
#include "gateway/discovery/discovery.h"
#include "gateway/discovery/view.h"
#include "gateway/l4/l4.h"
#include "gateway/gate.h"
#include "gateway/process.h"
#include "gateway/exchange/client_identity.h"
#include "gateway/exchange/sticky.h"

/* What one build of a snapshot carries along. */
struct builder {
    struct gw_process *process; /* NULL: check and explain, nothing outlives the snapshot, names are not resolved */
    struct gw_snapshot *snapshot;
    struct gw_errors *errors;
};

static void *alloc_zeroed(size_t count, size_t size)
{
    void *p = h2o_mem_alloc(count * size + 1);
    memset(p, 0, count * size + 1);
    return p;
}

/* ---- listeners and certificates ---- */

static bool load_certificates(struct builder *b)
{
    const struct gw_map *map = &b->snapshot->config->certificates;
    time_t now = time(NULL);
    bool ok = true;

    b->snapshot->certificates = alloc_zeroed(map->size, sizeof(*b->snapshot->certificates));
    b->snapshot->num_certificates = map->size;
    for (size_t i = 0; i != map->size; ++i)
        ok &= (b->snapshot->certificates[i] =
                   tls_certificate_load(map->entries[i].name, map->entries[i].conf, now, b->errors)) != NULL;
    return ok;
}

static bool build_tls(struct builder *b, struct gw_snapshot_listener *listener)
{
    static const char *const names_of[] = {"h2", "http/1.1"};
    const struct gw_config *config = b->snapshot->config;
    const struct tls_listener_conf *tls = listener->conf->tls;
    const struct gw_texts *names = &tls->certificates;
    size_t num_alpn = 0, num_names = names->size + tls_default_is_apart(tls);
    struct tls_certificate **certificates = alloc_zeroed(num_names, sizeof(*certificates));
    const char **alpn = alloc_zeroed(tls->alpn.size + 2, sizeof(*alpn));
    bool ok = true;

    for (size_t i = 0; i != num_names; ++i) {
        h2o_iovec_t name = i < names->size ? names->entries[i] : tls->default_certificate;
        const struct gw_node *at = i < names->size ? names->at[i] : gw_setting_at(tls->at, "default_certificate");
        const struct gw_named *named = gw_map_find(&config->certificates, name);
        if (named == NULL)
            ok = gw_error_dangling(b->errors, at, "certificate", name, &config->certificates);
        else
            certificates[i] = b->snapshot->certificates[named - config->certificates.entries];
    }
    for (size_t i = 0; i != 2 && listener->conf->protocol == GW_LISTENER_HTTP; ++i)
        if ((listener->conf->protocols & 1 << i) != 0)
            alpn[num_alpn++] = names_of[i];
    for (size_t i = 0; i != tls->alpn.size; ++i) /* what others carry is not known, unless they say so */
        alpn[num_alpn++] = tls->alpn.entries[i].base;
    if (ok)
        listener->tls = tls_context_create(tls, listener->name, certificates, num_names, alpn, num_alpn,
                                           b->process != NULL ? b->process->tickets : NULL, b->errors);
    free(certificates);
    free((void *)alpn);
    return listener->tls != NULL;
}

static bool build_listeners(struct builder *b)
{
    const struct gw_map *map = &b->snapshot->config->listeners;
    bool ok = true;

    b->snapshot->listeners = alloc_zeroed(map->size, sizeof(*b->snapshot->listeners));
    b->snapshot->num_listeners = map->size;
    for (size_t i = 0; i != map->size; ++i) {
        struct gw_snapshot_listener *listener = &b->snapshot->listeners[i];
        listener->name = map->entries[i].name;
        listener->conf = map->entries[i].conf;
        listener->index = i;
        listener->response_headers = routing_header_rules_create(&listener->conf->response_headers);
        if (listener->conf->accept_rate != 0)
            listener->accepted = alloc_zeroed(1, sizeof(*listener->accepted));
        if (listener->conf->tls != NULL)
            ok &= build_tls(b, listener);
    }
    b->snapshot->identity = gw_identity_create(b->snapshot);
    return ok;
}

/* After the target groups. */
static bool build_l4(struct builder *b)
{
    bool ok = true;

    for (size_t i = 0; i != b->snapshot->num_listeners; ++i) {
        struct gw_snapshot_listener *listener = &b->snapshot->listeners[i];
        if (listener->conf->protocol != GW_LISTENER_HTTP)
            ok &= (listener->l4 = gw_l4_listener_create(b->snapshot, listener, b->errors)) != NULL;
    }
    return ok;
}

/* ---- target groups ---- */

static bool build_tls_of_group(struct builder *b, struct routing_target_group *group)
{
    const struct routing_tls_conf *tls = routing_group_tls(group->conf);
    if (tls == NULL)
        return true;
    const struct gw_node *at = tls->at != NULL ? tls->at : group->conf->at;
    const struct tls_origin_conf conf = {
        .at = at,
        .at_ca = gw_setting_at(at, "ca"),
        .at_certificate = gw_setting_at(at, "certificate"),
        .at_key = gw_setting_at(at, "key"),
        .ca = tls->ca,
        .certificate = tls->certificate,
        .key = tls->key,
        .policy = routing_tls_policies[tls->min_version],
        .insecure = tls->insecure,
        .alpn = group->conf->protocol == ROUTING_PROTOCOL_TLS      ? NULL
                : routing_protocol_is_http2(group->conf->protocol) ? "h2"
                                                                   : "http/1.1",
    };
    group->tls = tls_origin_create(&conf, b->errors);
    return group->tls != NULL;
}

/* What the certificate of a target must be for: as the group says, else whoever found it, else its address. */
struct gw_transport *gw_snapshot_transport(const struct routing_target_group *group, const struct gw_address *address,
                                           h2o_iovec_t server_name)
{
    const struct routing_tls_conf *tls = routing_group_tls(group->conf);
    bool is_http2 = routing_protocol_is_http2(group->conf->protocol);
    h2o_iovec_t name = address->is_unix ? h2o_iovec_init(H2O_STRLIT("localhost")) : address->host;

    if (tls == NULL)
        return is_http2 ? gw_transport_create(true, NULL, name, 0) : NULL;
    if (tls->server_name.base != NULL)
        name = tls->server_name;
    else if (server_name.base != NULL)
        name = server_name;
    return gw_transport_create(is_http2, group->tls, name, (uint32_t)tls->handshake_timeout_ms);
}

static bool has_name_to_verify(struct builder *b, const struct routing_target_group *group,
                               const struct routing_target_conf *target)
{
    const struct routing_tls_conf *tls = routing_group_tls(group->conf);
    return tls == NULL || tls->server_name.base != NULL || !target->address.is_unix || tls->insecure ||
           gw_error_at(b->errors, target->at,
                       "TLS over a Unix socket needs a name to verify (expected tls.server_name)");
}

static bool stands_here(const struct builder *b, const struct routing_target_conf *conf)
{
    h2o_iovec_t zone = b->snapshot->config->zone;
    return zone.base != NULL && conf->zone.base != NULL &&
           h2o_memis(zone.base, zone.len, conf->zone.base, conf->zone.len);
}

static bool add_target(struct builder *b, struct routing_target_group *group, const struct routing_target_conf *conf,
                       const struct gw_address *address)
{
    static const h2o_iovec_t own_name = {NULL, 0};
    struct routing_target *target;

    if (!has_name_to_verify(b, group, conf))
        return false;
    group->targets = h2o_mem_realloc(group->targets, sizeof(*group->targets) * (group->size + 1));
    target = &group->targets[group->size++];
    *target = (struct routing_target){
        .name = address->text,
        .address = *address,
        .weight = (uint32_t)conf->weight,
        .transport = gw_snapshot_transport(group, &conf->address, own_name),
        .source = "static",
    };
    target->sticky_id = routing_sticky_id(target->name);
    target->is_local = stands_here(b, conf);
    if (b->process != NULL) {
        struct gw_endpoint_entry *entry =
            gw_process_endpoint(b->process, group->entry, address, group->conf->health_check.is_enabled);
        target->load = entry->load;
        target->health = &entry->health;
        target->endpoint = &entry->endpoint;
        target->name = entry->endpoint.name;
    } else {
        target->health = h2o_mem_alloc_pool(b->snapshot->config->pool, sizeof(*target->health));
        routing_health_init(target->health, false);
        target->load = b->snapshot->idle;
    }
    return true;
}

/* A name stands for all its addresses, each a target of its own. */
static bool add_named_target(struct builder *b, struct routing_target_group *group,
                             const struct routing_target_conf *conf)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list;
    bool ok = true;
    int ret = getaddrinfo(conf->address.host.base, NULL, &hints, &list);

    if (ret != 0)
        return gw_error_at(b->errors, conf->at, "cannot resolve \"%s\": %s", conf->address.host.base,
                           gai_strerror(ret));
    for (const struct addrinfo *it = list; it != NULL; it = it->ai_next) {
        struct gw_address address = conf->address;
        struct gw_ip ip;
        char host[GW_IP_TEXT], text[64];
        const char *why;
        if (!gw_ip_from_sockaddr(it->ai_addr, &ip))
            continue;
        gw_ip_format(&ip, host);
        int len = snprintf(text, sizeof(text), gw_ip_is_v4(&ip) ? "%s:%u" : "[%s]:%u", host, conf->address.port);
        if (gw_address_parse(b->snapshot->config->pool, h2o_iovec_init(text, len), false, &address, &why))
            ok &= add_target(b, group, conf, &address);
    }
    freeaddrinfo(list);
    return ok;
}

static void compile_limits(struct routing_target_group *group)
{
    const struct routing_target_group_conf *conf = group->conf;
    const struct routing_circuit_breaker_conf *breaker = conf->circuit_breaker;

    group->has_queue = routing_max_queue(conf) != 0;
    group->max_requests = routing_max_requests(conf);
    group->max_connections = (uint32_t)conf->target_limits.connections;
    group->max_group_connections = breaker != NULL ? (uint32_t)breaker->connections : 0;
    group->max_pending = breaker != NULL ? (uint32_t)breaker->pending : 0;
    group->limits_connections =
        group->max_connections != 0 || group->max_group_connections != 0 || group->max_pending != 0;
}

static void compile_group(struct builder *b, struct routing_target_group *group)
{
    const struct routing_target_group_conf *conf = group->conf;
    const struct gw_map *map = &b->snapshot->config->target_groups;

    group->entry = b->process != NULL ? gw_process_group(b->process, group->name) : NULL;
    compile_limits(group);
    group->counts_load = routing_balance_counts(conf);
    group->uses_key = routing_balance_uses_key(conf);
    group->notes_outcomes = conf->outlier_detection != NULL && conf->outlier_detection->is_enabled;
    group->notes_latency = conf->algorithm.type == ROUTING_PEAK_EWMA;
    group->sticky_id = routing_sticky_id(group->name);
    if (conf->is_dynamic && b->process != NULL)
        group->dynamic = gw_dynamic_create();
    if (conf->failover != NULL) /* gw_config_check knows that it is there */
        group->failover = &b->snapshot->groups[gw_map_find(map, conf->failover->to) - map->entries];
}

static bool build_groups(struct builder *b)
{
    const struct gw_map *map = &b->snapshot->config->target_groups;
    bool ok = true;

    b->snapshot->groups = alloc_zeroed(map->size, sizeof(*b->snapshot->groups));
    b->snapshot->num_groups = map->size;
    for (size_t i = 0; i != map->size; ++i) {
        struct routing_target_group *group = &b->snapshot->groups[i];
        group->name = map->entries[i].name;
        group->conf = map->entries[i].conf;
        group->index = i;
        compile_group(b, group);
        if (b->process != NULL && routing_limit_is_on(group->conf))
            group->load = gw_group_load_hold(b->process->group_loads, group->name);
        if (!build_tls_of_group(b, group)) {
            ok = false;
            continue;
        }
        for (size_t j = 0; j != group->conf->targets.size; ++j) {
            const struct routing_target_conf *target = group->conf->targets.entries[j];
            if (routing_target_is_source(target))
                continue;
            if (target->address.is_name && b->process != NULL)
                ok &= add_named_target(b, group, target);
            else
                ok &= add_target(b, group, target, &target->address);
        }
    }
    return ok;
}

static void build_balancers(struct builder *b)
{
    struct gw_snapshot *snapshot = b->snapshot;

    snapshot->num_workers = b->process != NULL ? b->process->num_workers : 0;
    snapshot->balancers =
        alloc_zeroed((snapshot->num_workers + 1) * snapshot->num_groups, sizeof(*snapshot->balancers));
    for (size_t g = 0; g != snapshot->num_groups && snapshot->views == NULL; ++g)
        if (snapshot->groups[g].dynamic != NULL)
            snapshot->views =
                alloc_zeroed((snapshot->num_workers + 1) * snapshot->num_groups, sizeof(*snapshot->views));
    snapshot->budgets = alloc_zeroed((snapshot->num_workers + 1) * snapshot->num_groups, sizeof(*snapshot->budgets));
    for (unsigned w = 0; w <= snapshot->num_workers; ++w)
        for (size_t g = 0; g != snapshot->num_groups; ++g)
            snapshot->balancers[w * snapshot->num_groups + g] =
                routing_balancer_create(&snapshot->groups[g], w != snapshot->num_workers ? w : 0);
}

/* ---- routes ---- */

static bool build_forward(struct builder *b, struct gw_route *route)
{
    const struct routing_forward_conf *conf = route->conf->forward;
    const struct gw_map *groups = &b->snapshot->config->target_groups;
    bool ok = true;

    route->groups = alloc_zeroed(conf->groups.size, sizeof(*route->groups));
    route->weights = alloc_zeroed(conf->groups.size, sizeof(*route->weights));
    route->num_groups = conf->groups.size;
    for (size_t i = 0; i != conf->groups.size; ++i) {
        const struct routing_weighted_group_conf *weighted = conf->groups.entries[i];
        const struct gw_named *named = gw_map_find(groups, weighted->group);
        if (named == NULL) {
            ok = gw_error_dangling(b->errors, weighted->at, "target group", weighted->group, groups);
            continue;
        }
        route->groups[i].group = &b->snapshot->groups[named - groups->entries];
        route->groups[i].weight = route->weights[i] = (uint32_t)weighted->weight;
    }
    route->group = route->groups[0].group;
    if (conf->fallback.base != NULL) {
        const struct gw_named *named = gw_map_find(groups, conf->fallback);
        if (named == NULL)
            return gw_error_dangling(b->errors, conf->at, "target group", conf->fallback, groups);
        route->fallback = &b->snapshot->groups[named - groups->entries];
    }
    if (route->conf->mirror != NULL) {
        const struct gw_named *named = gw_map_find(groups, route->conf->mirror->group);
        if (named == NULL)
            return gw_error_dangling(b->errors, route->conf->mirror->at, "target group", route->conf->mirror->group,
                                     groups);
        route->mirror_group = &b->snapshot->groups[named - groups->entries];
    }
    return ok;
}

static uint32_t log_sample(const struct gw_config *config, const struct routing_access_log_conf *conf)
{
    if (conf == NULL)
        return config->access_log.is_enabled ? GW_LOG_ALL : 0;
    return conf->is_enabled ? (uint32_t)(conf->sample / 100 * GW_LOG_ALL) : 0;
}

static bool build_route(struct builder *b, struct gw_route *route, const struct routing_route *matched)
{
    const struct routing_route_conf *conf = matched->conf;
    uint64_t max_body = conf->max_body != 0 ? conf->max_body : b->snapshot->config->limits.max_body;
    bool ok = true;

    route->conf = conf;
    route->compression =
        conf->compression != NULL ? gw_compression_create(conf->compression) : b->snapshot->compression;
    route->log_sample = log_sample(b->snapshot->config, conf->access_log);
    ok &= gw_error_pages_create(&conf->error_pages, &route->error_pages, b->errors);
    route->max_body = max_body != 0 ? max_body : UINT64_MAX;
    route->request_headers = routing_header_rules_create(&conf->request_headers);
    route->response_headers = routing_header_rules_create(&conf->response_headers);
    if (conf->rewrite != NULL) {
        ok &= (route->rewrite = routing_rewrite_create(conf->rewrite, b->errors)) != NULL;
    }
    if (b->process != NULL)
        route->stats = gw_process_route_stats(b->process, conf->name);
    if (conf->forward != NULL) {
        route->action = ROUTING_FORWARD;
        ok &= build_forward(b, route);
    } else if (conf->redirect != NULL) {
        route->action = ROUTING_REDIRECT;
    } else if (conf->respond != NULL) {
        route->action = ROUTING_RESPOND;
    } else if (conf->files != NULL) {
        route->action = ROUTING_FILES;
        ok &= (route->files = gw_files_create(conf->files, b->errors)) != NULL;
    } else {
        assert(conf->echo);
        route->action = ROUTING_ECHO;
    }
    route->has_more = conf->timeouts != NULL || conf->retry != NULL || conf->hedge != NULL || conf->fault != NULL ||
                      route->mirror_group != NULL || route->compression != NULL;
    return ok;
}

static bool build_routes(struct builder *b)
{
    struct gw_snapshot *snapshot = b->snapshot;
    h2o_iovec_t *listeners = alloc_zeroed(snapshot->num_listeners, sizeof(*listeners));
    bool ok = true;

    for (size_t i = 0; i != snapshot->num_listeners; ++i)
        listeners[i] = snapshot->listeners[i].name;
    snapshot->table = routing_table_create(&snapshot->config->routes, listeners, snapshot->num_listeners, b->errors);
    free(listeners);
    if (snapshot->table == NULL)
        return false;
    snapshot->num_routes = routing_table_size(snapshot->table);
    snapshot->routes = gw_alloc_lines(snapshot->num_routes * sizeof(*snapshot->routes));
    for (size_t i = 0; i != snapshot->num_routes; ++i)
        ok &= build_route(b, &snapshot->routes[i], routing_table_at(snapshot->table, i));
    return ok;
}

/* ---- life ---- */

static void destroy_group(struct routing_target_group *group)
{
    for (uint32_t i = 0; i != group->size; ++i) {
        gw_transport_release(group->targets[i].transport);
        if (group->targets[i].endpoint != NULL)
            gw_endpoint_release(gw_endpoint_entry_of(&group->targets[i]));
    }
    tls_origin_release(group->tls);
    free(group->targets);
}

static void dispose_route(struct gw_snapshot *snapshot, struct gw_route *route)
{
    routing_header_rules_destroy(route->request_headers);
    routing_header_rules_destroy(route->response_headers);
    routing_rewrite_destroy(route->rewrite);
    gw_files_destroy(route->files);
    if (snapshot->process != NULL)
        gw_process_release_route_stats(snapshot->process, route->stats);
    gw_error_pages_destroy(route->error_pages);
    if (route->compression != snapshot->compression)
        gw_compression_destroy(route->compression);
    free(route->groups);
    free(route->weights);
}

static void destroy_groups(struct gw_snapshot *snapshot)
{
    for (size_t i = 0; i != (snapshot->num_workers + 1) * snapshot->num_groups && snapshot->balancers != NULL; ++i)
        routing_balancer_destroy(snapshot->balancers[i]);
    free(snapshot->balancers);
    gw_views_destroy(snapshot);
    free(snapshot->budgets);
    free(snapshot->idle);
    routing_sticky_keys_destroy(snapshot->sticky_keys);
    for (size_t i = 0; i != snapshot->num_groups; ++i)
        destroy_group(&snapshot->groups[i]);
    free(snapshot->groups);
}

static void destroy(struct gw_snapshot *snapshot)
{
    for (size_t i = 0; snapshot->process != NULL && i != snapshot->num_groups; ++i) {
        gw_group_load_release(snapshot->process->group_loads, snapshot->groups[i].load);
        gw_group_release(snapshot->groups[i].entry);
    }
    for (size_t i = 0; i != snapshot->num_routes; ++i)
        dispose_route(snapshot, &snapshot->routes[i]);
    free(snapshot->routes);
    if (snapshot->process != NULL) {
        gw_process_release_route_stats(snapshot->process, snapshot->no_route);
        gw_process_prune(snapshot->process);
    }
    gw_error_pages_destroy(snapshot->error_pages);
    gw_compression_destroy(snapshot->compression);
    routing_table_destroy(snapshot->table);
    destroy_groups(snapshot);
    for (size_t i = 0; i != snapshot->num_listeners; ++i) {
        gw_l4_listener_dispose(snapshot->listeners[i].l4);
        tls_context_destroy(snapshot->listeners[i].tls);
        routing_header_rules_destroy(snapshot->listeners[i].response_headers);
        free(snapshot->listeners[i].accepted);
    }
    free(snapshot->listeners);
    gw_identity_destroy(snapshot->identity);
    for (size_t i = 0; i != snapshot->num_certificates; ++i)
        tls_certificate_destroy(snapshot->certificates[i]);
    free(snapshot->certificates);
    gw_config_destroy(snapshot->config);
    free(snapshot);
}

struct gw_snapshot *gw_snapshot_create(struct gw_process *process, struct gw_config *config, struct gw_errors *errors)
{
    struct gw_snapshot *snapshot = alloc_zeroed(1, sizeof(*snapshot));
    struct builder b = {process, snapshot, errors};
    bool ok = true;

    snapshot->config = config;
    snapshot->process = process;
    snapshot->refs = 1;
    snapshot->idle = gw_alloc_lines(sizeof(*snapshot->idle));
    snapshot->loaded_at_ms = (uint64_t)time(NULL) * 1000;
    ok &= load_certificates(&b);
    ok = ok && build_listeners(&b);
    ok &= gw_error_pages_create(&config->error_pages, &snapshot->error_pages, errors);
    snapshot->compression = gw_compression_create(config->compression);
    ok &= build_groups(&b);
    ok &= gw_discovery_check(config, errors);
    ok = ok && build_l4(&b);
    ok &= build_routes(&b);
    if (!ok) {
        destroy(snapshot);
        return NULL;
    }
    build_balancers(&b);
    snapshot->sticky_keys = gw_sticky_keys_create(process, config, errors);
    if (process != NULL)
        snapshot->no_route = gw_process_route_stats(process, h2o_iovec_init(H2O_STRLIT("-")));
    return snapshot;
}

void gw_snapshot_hold(struct gw_snapshot *snapshot) { __atomic_fetch_add((int *)&snapshot->refs, 1, __ATOMIC_RELAXED); }

void gw_snapshot_release(struct gw_snapshot *snapshot)
{
    if (snapshot != NULL && __atomic_fetch_sub((int *)&snapshot->refs, 1, __ATOMIC_ACQ_REL) == 1) {
        destroy(snapshot);
        malloc_trim(0);
    }
}
