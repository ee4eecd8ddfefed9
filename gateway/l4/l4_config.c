#include "gateway/l4/l4_config.h"
#include <stdio.h>
#include <h2o.h>

enum { IDLE_MS = 350 * 1000, UDP_IDLE_MS = 120 * 1000, FLOWS = 65536 };

const char *const gw_listener_protocols[] = {
    [GW_LISTENER_HTTP] = "http", [GW_LISTENER_TCP] = "tcp",
    [GW_LISTENER_TLS] = "tls",   [GW_LISTENER_TLS_PASSTHROUGH] = "tls_passthrough",
    [GW_LISTENER_UDP] = "udp",   NULL};

static bool check_sni(struct gw_loader *loader, void *conf)
{
    const struct gw_sni_conf *sni = conf;
    if (sni->host.size == 0)
        return gw_error_at(loader->errors, sni->at, "the server name rule names no host (expected host: NAME)");
    if (sni->forward == NULL)
        return gw_error_at(loader->errors, sni->at,
                           "the server name rule has no target group (expected forward: NAME)");
    return true;
}

static const struct gw_setting sni_settings[] = {
    {"host", GW_TEXTS, offsetof(struct gw_sni_conf, host),
     "Server names: globs like \"*.example.com\", upper and lower case alike.", .min = 1, .max = 255,
     .is_required = true, .valid = routing_check_host_glob},
    {"forward", GW_OPTION, offsetof(struct gw_sni_conf, forward), "Target group of their connections.",
     .section = &routing_forward_section, .is_required = true},
    {0},
};

const struct gw_section gw_sni_section = {
    .name = "server name rule",
    .help = "Which target group gets the connections for a server name.",
    .size = sizeof(struct gw_sni_conf),
    .settings = sni_settings,
    .check = check_sni,
};

static const struct gw_setting udp_settings[] = {
    {"flows", GW_NUMBER, offsetof(struct gw_udp_conf, flows),
     "Most flows at a time. For a new one beyond them the oldest makes room whose client has said nothing since it was "
     "first answered; when there is none, the new one is refused.",
     .initial = FLOWS, .min = 1, .max = 16777216},
    {"flows_per_ip", GW_NUMBER, offsetof(struct gw_udp_conf, flows_per_ip),
     "Most flows at a time of one client address; 0 is unlimited.", .max = 16777216},
    {"responses", GW_NUMBER, offsetof(struct gw_udp_conf, responses),
     "How many datagrams of the target each one of the client is worth; then the flow ends. 0 is any number, until "
     "idle_timeout.",
     .max = 1000000},
    {0},
};

const struct gw_section gw_udp_section = {
    .name = "udp section",
    .help = "Flows of a listener of protocol udp: what comes from one address and port to one of ours.",
    .size = sizeof(struct gw_udp_conf),
    .settings = udp_settings,
};

const struct gw_udp_conf *gw_udp_settings(const struct gw_listener_conf *conf)
{
    static const struct gw_udp_conf usual = {.flows = FLOWS};
    return conf->udp != NULL ? conf->udp : &usual;
}

/* ---- one listener ---- */

static bool refuse(struct gw_loader *loader, const struct gw_listener_conf *conf, const char *setting, const char *why)
{
    return gw_error_at(loader->errors, gw_setting_at(conf->at, setting),
                       "\"%s\" does not fit a listener of protocol %s (%s)", setting,
                       gw_listener_protocols[conf->protocol], why);
}

static bool check_http(struct gw_loader *loader, const struct gw_listener_conf *conf)
{
    bool is_good = true;
    if (conf->forward != NULL)
        is_good = refuse(loader, conf, "forward",
                         "its requests are taken by routes; expected protocol tcp, tls, tls_passthrough or udp");
    if (conf->sni.size != 0)
        is_good = refuse(loader, conf, "sni", "its requests are taken by routes, which match on host");
    if (conf->idle_timeout_ms != 0)
        is_good = refuse(loader, conf, "idle_timeout", "it has limits.idle_timeout");
    if (conf->max_connections != 0)
        is_good = refuse(loader, conf, "max_connections", "it has limits.max_connections");
    if (conf->udp != NULL)
        is_good = refuse(loader, conf, "udp", "expected protocol udp");
    if (conf->tls != NULL && conf->tls->alpn.size != 0)
        is_good = gw_error_at(loader->errors, gw_setting_at(conf->tls->at, "alpn"),
                              "\"alpn\" is for listeners of protocol tls (http has \"protocols\" beside \"tls\")");
    return is_good;
}

/* Of what other listeners have, datagrams have nothing. */
static bool check_udp(struct gw_loader *loader, const struct gw_listener_conf *conf)
{
    bool is_good = true;
    if (conf->max_connections != 0)
        is_good = refuse(loader, conf, "max_connections", "it has udp.flows");
    if (conf->accept_rate != 0)
        is_good = refuse(loader, conf, "accept_rate", "datagrams make no connections");
    if (conf->proxy_protocol != NULL)
        is_good = refuse(loader, conf, "proxy_protocol", "datagrams are taken from whom they come");
    return is_good;
}

static bool check_l4(struct gw_loader *loader, const struct gw_listener_conf *conf, const struct gw_section *section)
{
    bool is_tls = conf->protocol == GW_LISTENER_TLS;
    bool knows_name = is_tls || conf->protocol == GW_LISTENER_TLS_PASSTHROUGH;
    bool is_good = true;

    if (conf->protocol == GW_LISTENER_UDP)
        is_good = check_udp(loader, conf);
    else if (conf->udp != NULL)
        is_good = refuse(loader, conf, "udp", "expected protocol udp");
    if (!gw_setting_is_default(section, "protocols", conf))
        is_good = refuse(loader, conf, "protocols", "it is for http");
    if (conf->tls != NULL && !is_tls)
        is_good = refuse(loader, conf, "tls", "TLS is terminated by protocol tls");
    if (conf->tls == NULL && is_tls)
        is_good = gw_error_at(loader->errors, gw_setting_at(conf->at, "protocol"),
                              "a listener of protocol tls needs certificates (expected tls: {certificates: [NAME]})");
    if (conf->sni.size != 0 && !knows_name)
        is_good = refuse(loader, conf, "sni", "server names are known to tls and tls_passthrough");
    if (conf->forward == NULL && (conf->sni.size == 0 || !knows_name))
        is_good = gw_error_at(loader->errors, gw_setting_at(conf->at, "protocol"),
                              "a listener of protocol %s needs a target group (expected forward: NAME)",
                              gw_listener_protocols[conf->protocol]);
    return is_good;
}

bool gw_l4_check_listener(struct gw_loader *loader, struct gw_listener_conf *conf, const struct gw_section *section)
{
    if (conf->protocol == GW_LISTENER_HTTP)
        return check_http(loader, conf);
    if (conf->idle_timeout_ms == 0)
        conf->idle_timeout_ms = conf->protocol == GW_LISTENER_UDP ? UDP_IDLE_MS : IDLE_MS;
    return check_l4(loader, conf, section);
}

/* ---- listeners and target groups ---- */

static const char *expected_groups(int protocol)
{
    return protocol == GW_LISTENER_UDP ? "udp" : protocol == GW_LISTENER_TLS_PASSTHROUGH ? "tcp" : "tcp or tls";
}

static bool fits(int listener, int group)
{
    if (listener == GW_LISTENER_UDP || group == ROUTING_PROTOCOL_UDP)
        return listener == GW_LISTENER_UDP && group == ROUTING_PROTOCOL_UDP;
    return group == ROUTING_PROTOCOL_TCP || (group == ROUTING_PROTOCOL_TLS && listener != GW_LISTENER_TLS_PASSTHROUGH);
}

static void check_forward(const struct gw_config *config, const struct gw_listener_conf *listener,
                          const struct routing_forward_conf *forward, struct gw_errors *errors)
{
    for (size_t i = 0; i != forward->groups.size; ++i) {
        const struct routing_weighted_group_conf *weighted = forward->groups.entries[i];
        const struct gw_node *at = gw_setting_at(weighted->at, "group");
        if (weighted->group.base == NULL)
            continue;
        const struct gw_named *named = gw_map_find(&config->target_groups, weighted->group);
        if (named == NULL) {
            gw_error_dangling(errors, at, "target group", weighted->group, &config->target_groups);
            continue;
        }
        const struct routing_target_group_conf *group = named->conf;
        if (!named->is_bad && !fits(listener->protocol, group->protocol))
            gw_error_at(errors, at,
                        "target group \"%s\" does not fit a listener of protocol %s (expected one with protocol %s)",
                        named->name.base, gw_listener_protocols[listener->protocol],
                        expected_groups(listener->protocol));
    }
}

/* The other way round: a route's target group speaks HTTP. */
static void check_routes(const struct gw_config *config, struct gw_errors *errors)
{
    for (size_t i = 0; i != config->routes.size; ++i) {
        const struct routing_route_conf *route = config->routes.entries[i];
        for (size_t j = 0; route->forward != NULL && j != route->forward->groups.size; ++j) {
            const struct routing_weighted_group_conf *weighted = route->forward->groups.entries[j];
            const struct gw_named *named =
                weighted->group.base != NULL ? gw_map_find(&config->target_groups, weighted->group) : NULL;
            if (named != NULL && !named->is_bad &&
                routing_protocol_is_l4(((const struct routing_target_group_conf *)named->conf)->protocol))
                gw_error_at(errors, gw_setting_at(weighted->at, "group"),
                            "target group \"%s\" takes no requests: its protocol is for listeners that forward bytes",
                            named->name.base);
        }
        for (size_t j = 0; j != route->match.listener.size; ++j) {
            const struct gw_named *named = gw_map_find(&config->listeners, route->match.listener.entries[j]);
            if (named != NULL && !named->is_bad &&
                ((const struct gw_listener_conf *)named->conf)->protocol != GW_LISTENER_HTTP)
                gw_error_at(errors, route->match.listener.at[j],
                            "listener \"%s\" has no requests for a route: its protocol is %s", named->name.base,
                            gw_listener_protocols[((const struct gw_listener_conf *)named->conf)->protocol]);
        }
    }
}

void gw_l4_check(const struct gw_config *config, struct gw_errors *errors)
{
    for (size_t i = 0; i != config->listeners.size; ++i) {
        const struct gw_listener_conf *listener = config->listeners.entries[i].conf;
        if (listener->protocol == GW_LISTENER_HTTP || config->listeners.entries[i].is_bad)
            continue;
        if (listener->forward != NULL)
            check_forward(config, listener, listener->forward, errors);
        for (size_t j = 0; j != listener->sni.size; ++j)
            if (!listener->sni.is_bad[j])
                check_forward(config, listener, ((const struct gw_sni_conf *)listener->sni.entries[j])->forward,
                              errors);
    }
    check_routes(config, errors);
}
