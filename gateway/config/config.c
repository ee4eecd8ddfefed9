#include "gateway/config/config.h"
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <h2o.h>
#include "gateway/config/config_tests.h"
#include "gateway/l4/l4_config.h"

enum { MAX_WORKER_THREADS = 256, MAX_NAME_LEN = 64 };

static const char *const protocols[] = {[GW_PROTOCOL_H2] = "h2", [GW_PROTOCOL_HTTP1] = "http/1.1", NULL};
static const char *const x_forwarded[] = {[GW_X_FORWARDED_APPEND] = "append",
                                          [GW_X_FORWARDED_PRESERVE] = "preserve",
                                          [GW_X_FORWARDED_REMOVE] = "remove",
                                          NULL};

/* It must fit into a header field as it is. */
static bool is_token(struct gw_loader *loader, const struct gw_node *at, h2o_iovec_t token)
{
    for (size_t i = 0; i != token.len; ++i)
        if (token.base[i] <= ' ' || token.base[i] >= 0x7f)
            return gw_error_at(loader->errors, at, "a token is made of visible ASCII characters without blanks");
    return true;
}

static const struct gw_setting admin_settings[] = {
    {"enabled", GW_BOOL, offsetof(struct gw_admin_conf, is_enabled), "Whether there is an admin listener.",
     .initial = 1},
    {"address", GW_ADDRESS, offsetof(struct gw_admin_conf, address),
     "Unix socket or loopback address of status, reload, health and metrics.",
     .initial_text = "unix:/run/weir/admin.sock"},
    {"tcp", GW_ADDRESS, offsetof(struct gw_admin_conf, tcp),
     "An address that serves the same beside it, for scrapers, probes and browsers; one that is not loopback needs "
     "token."},
    {"token", GW_TEXT, offsetof(struct gw_admin_conf, token),
     "What clients over TCP must present as `Authorization: Bearer`; best as ${file:...}.", .min = 16, .max = 1024,
     .is_secret = true, .valid = is_token},
    {0},
};

static bool is_loopback(const struct gw_address *address)
{
    struct gw_ip ip;
    return gw_ip_from_sockaddr((const struct sockaddr *)&address->sa, &ip) &&
           (gw_ip_is_v4(&ip) ? ip.bytes[12] == 127 : IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)ip.bytes));
}

/* Without a token it asks nobody who they are. */
static bool check_admin(struct gw_loader *loader, void *_conf)
{
    static const char remote[] = "without admin.token the admin listener must stay on this machine (expected a "
                                 "loopback address like 127.0.0.1:9900, a Unix socket as address, or a token)";
    struct gw_admin_conf *conf = _conf;
    bool is_good = true;
    conf->is_default = gw_node_get(conf->at, "address") == NULL;
    if (!conf->address.is_unix && conf->token.base == NULL && !is_loopback(&conf->address))
        is_good = gw_error_at(loader->errors, gw_setting_at(conf->at, "address"), remote);
    if (conf->tcp.text.len != 0 && conf->tcp.is_unix)
        is_good = gw_error_at(loader->errors, gw_setting_at(conf->at, "tcp"),
                              "tcp needs an IP address and a port (the Unix socket is `address`)");
    else if (conf->tcp.text.len != 0 && conf->token.base == NULL && !is_loopback(&conf->tcp))
        is_good = gw_error_at(loader->errors, gw_setting_at(conf->at, "tcp"), remote);
    return is_good;
}

static const struct gw_section admin_section = {
    .name = "admin listener",
    .help = "Where status, reload, health and metrics are served.",
    .size = sizeof(struct gw_admin_conf),
    .settings = admin_settings,
    .check = check_admin,
};

static const char *const desync_modes[] = {"defensive", "strictest", "monitor", NULL}; /* enum gw_desync_mode */

#define LIMIT(field) offsetof(struct gw_limits_conf, field)
static const struct gw_setting limits_settings[] = {
    {"header_block", GW_SIZE, LIMIT(header_block), "Largest request head; above it the answer is 431.",
     .initial = 32 << 10, .min = 1 << 10, .max = 1 << 20},
    {"url", GW_SIZE, LIMIT(url), "Longest request target; above it the answer is 414.", .initial = 8 << 10, .min = 64,
     .max = 1 << 20},
    {"headers", GW_NUMBER, LIMIT(headers), "Most header fields of a request; above it the answer is 431.",
     .initial = 100, .min = 1, .max = 100},
    {"max_body", GW_SIZE, LIMIT(max_body),
     "Largest request body, where a route does not say otherwise; above it the answer is 413. 0 is unlimited."},
    {"header_timeout", GW_DURATION, LIMIT(header_timeout_ms), "How long a whole request head may take.",
     .initial = 10000, .min = 10, .max = 3600000},
    {"body_timeout", GW_DURATION, LIMIT(body_timeout_ms), "How long a request body may make no progress.",
     .initial = 30000, .min = 10, .max = 86400000},
    {"idle_timeout", GW_DURATION, LIMIT(idle_timeout_ms), "How long a client connection may wait for its next request.",
     .initial = 60000, .min = 10, .max = 86400000},
    {"send_timeout", GW_DURATION, LIMIT(send_timeout_ms), "How long a client may take nothing of its response.",
     .initial = 30000, .min = 10, .max = 86400000},
    {"max_connections", GW_NUMBER, LIMIT(max_connections), "Most client connections at a time. 0 is unlimited.",
     .max = 100000000},
    {"connections_per_ip", GW_NUMBER, LIMIT(connections_per_ip),
     "Most connections of one client address at a time; of IPv6 the first 64 bits count. 0 is unlimited.",
     .max = 100000000},
    {"accept_rate", GW_NUMBER, LIMIT(accept_rate),
     "New connections a second; those above it wait in the kernel's queue. 0 is unlimited.", .max = 1000000},
    {"accept_rate_per_ip", GW_NUMBER, LIMIT(accept_rate_per_ip),
     "New connections a second of one client address; those above it are closed. 0 is unlimited.", .max = 1000000},
    {"min_body_rate", GW_SIZE, LIMIT(min_body_rate),
     "Bytes a second that a client must send of its body on average, once it has used up body_timeout waiting; until "
     "the response begins. 0 is any.",
     .initial = 128, .max = 1 << 30},
    {"min_send_rate", GW_SIZE, LIMIT(min_send_rate),
     "Bytes a second that a client must take of its response while there is more for it. 0 is any.", .initial = 128,
     .max = 1 << 30},
    {"keepalive_time", GW_DURATION, LIMIT(keepalive_time_ms),
     "Age of a client connection after which it serves one more request (HTTP/2: those that are open) and closes, so "
     "that clients spread anew. 0 is unlimited.",
     .initial = 3600000, .max = 604800000},
    {"keepalive_requests", GW_NUMBER, LIMIT(keepalive_requests),
     "Most requests on one client connection. 0 is unlimited.", .max = 1000000000},
    {"retry_buffers", GW_SIZE, LIMIT(retry_buffers),
     "Memory of request bodies that are kept to be sent again (retry.buffer), of all requests; each thread has its "
     "share. "
     "Bodies for which there is none left are sent once.",
     .initial = 64 << 20, .max = (uint64_t)1 << 40},
    {"lambda_buffers", GW_SIZE, LIMIT(lambda_buffers),
     "Memory of what Lambda functions are sent and return, of all requests; each thread has its share. Requests for "
     "which there is none left are answered 503.",
     .initial = 256 << 20, .min = 1 << 10, .max = (uint64_t)1 << 40},
    {"desync_mitigation", GW_CHOICE, LIMIT(desync_mitigation),
     "What happens to HTTP/1 requests that two readers may take for different ones and that no rule of RFC 9112 "
     "refuses: "
     "`defensive` serves the ambiguous ones, then closes their connections, and refuses the severe ones with 400; "
     "`strictest` refuses all; `monitor` counts and logs them.",
     .choices = desync_modes},
    {"http2", GW_SECTION, LIMIT(http2), "What a client may ask of one HTTP/2 connection.",
     .section = &gw_http2_section},
    {0},
};

static bool check_limits(struct gw_loader *loader, void *_conf)
{
    const struct gw_limits_conf *conf = _conf;
    if (conf->url >= conf->header_block)
        return gw_error_at(loader->errors,
                           gw_setting_at(conf->at, gw_node_get(conf->at, "url") != NULL ? "url" : "header_block"),
                           "url (%llu bytes) must be smaller than header_block (%llu bytes), which holds it",
                           (unsigned long long)conf->url, (unsigned long long)conf->header_block);
    return true;
}

static const struct gw_section limits_section = {
    .name = "limits section",
    .help = "What a client may ask of weir.",
    .size = sizeof(struct gw_limits_conf),
    .settings = limits_settings,
    .check = check_limits,
};

static const struct gw_setting upgrade_settings[] = {
    {"ready_timeout", GW_DURATION, offsetof(struct gw_upgrade_conf, ready_timeout_ms),
     "How long the new binary may take until it serves; then the old one stays.", .initial = 60000, .min = 100,
     .max = 3600000},
    {"drain_timeout", GW_DURATION, offsetof(struct gw_upgrade_conf, drain_timeout_ms),
     "How long requests of the old worker may go on before they are cut off.", .initial = 3600000, .max = 86400000},
    {0},
};

static const struct gw_section upgrade_section = {
    .name = "upgrade section",
    .help = "How `weir upgrade` changes the binary under a running gateway.",
    .size = sizeof(struct gw_upgrade_conf),
    .settings = upgrade_settings,
};

static const struct gw_setting listener_settings[] = {
    {"address", GW_ADDRESSES, offsetof(struct gw_listener_conf, address), "IP address and port to listen on.",
     .is_required = true},
    {"protocol", GW_CHOICE, offsetof(struct gw_listener_conf, protocol),
     "What becomes of connections: `http` answers requests by routes; the others forward bytes to a target group. "
     "`tls` "
     "terminates TLS, `tls_passthrough` looks at the server name only, `udp` forwards datagrams.",
     .choices = gw_listener_protocols},
    {"forward", GW_OPTION, offsetof(struct gw_listener_conf, forward),
     "Target group of a listener that is not http; with sni, of the names that no entry takes.",
     .section = &routing_forward_section},
    {"sni", GW_LIST, offsetof(struct gw_listener_conf, sni),
     "Target groups by the server name that a TLS client asks for; the first entry that takes it wins.",
     .section = &gw_sni_section},
    {"idle_timeout", GW_DURATION, offsetof(struct gw_listener_conf, idle_timeout_ms),
     "How long a connection of a listener that is not http may go without a byte either way; left out, 120s for the "
     "flows of udp.",
     .initial_text = "350s", .min = 0, .max = 86400000},
    {"max_connections", GW_NUMBER, offsetof(struct gw_listener_conf, max_connections),
     "Most connections at a time of a listener that is not http; 0 is unlimited.", .max = 100000000},
    {"accept_rate", GW_NUMBER, offsetof(struct gw_listener_conf, accept_rate),
     "New connections a second on this listener; those above it wait in the kernel's queue. 0 is unlimited.",
     .max = 1000000},
    {"udp", GW_OPTION, offsetof(struct gw_listener_conf, udp), "How a listener of protocol udp keeps its flows.",
     .section = &gw_udp_section},
    {"protocols", GW_CHOICES, offsetof(struct gw_listener_conf, protocols),
     "What clients may speak: with tls by ALPN, h2 and http/1.1 unless it says otherwise; without tls http/1.1, or h2 "
     "with prior knowledge where it is named.",
     .initial = 1 << GW_PROTOCOL_HTTP1, .choices = protocols},
    {"tls", GW_OPTION, offsetof(struct gw_listener_conf, tls), "Makes this a TLS listener.",
     .section = &tls_listener_section},
    {"proxy_protocol", GW_OPTION, offsetof(struct gw_listener_conf, proxy_protocol),
     "Balancers that say with a PROXY header, version 1 or 2, who the client is.", .section = &gw_proxy_section},
    {"response_headers", GW_SECTION, offsetof(struct gw_listener_conf, response_headers),
     "Changes to the headers of every response on this listener, those of weir's own answers and errors too; after the "
     "route's.",
     .section = &routing_response_headers_section},
    {"server_header", GW_BOOL, offsetof(struct gw_listener_conf, server_header),
     "Whether answers that weir gives by itself say `server: weir`.", .initial = 1},
    {0},
};

static const struct gw_section listener_section;
static bool check_listener(struct gw_loader *loader, void *_conf)
{
    struct gw_listener_conf *conf = _conf;
    bool is_good = gw_l4_check_listener(loader, conf, &listener_section);
    for (size_t i = 0; i != conf->address.size; ++i)
        if (conf->address.entries[i].is_unix)
            is_good = gw_error_at(loader->errors, conf->address.at[i], "a listener needs an IP address and a port");
    if (conf->protocol == GW_LISTENER_HTTP && conf->tls != NULL && gw_node_get(conf->at, "protocols") == NULL)
        conf->protocols |= 1 << GW_PROTOCOL_H2;
    return is_good;
}

static const struct gw_section listener_section = {
    .name = "listener",
    .help = "Where connections are accepted.",
    .size = sizeof(struct gw_listener_conf),
    .settings = listener_settings,
    .scalar_is = "address",
    .list_is = "address",
    .check = check_listener,
};

static const struct gw_setting forwarding_settings[] = {
    {"x_forwarded", GW_CHOICE, offsetof(struct gw_forwarding_conf, x_forwarded),
     "What happens to X-Forwarded-For, -Proto, -Port and -Host: written by weir, passed as they came, or removed.",
     .choices = x_forwarded},
    {"client_port", GW_BOOL, offsetof(struct gw_forwarding_conf, client_port),
     "Whether X-Forwarded-For carries the client's port too."},
    {"via", GW_BOOL, offsetof(struct gw_forwarding_conf, via), "Whether Via names weir.", .initial = 1},
    {"request_id", GW_BOOL, offsetof(struct gw_forwarding_conf, request_id),
     "Whether X-Request-Id is sent, the one from the access log.", .initial = 1},
    {"traceparent", GW_BOOL, offsetof(struct gw_forwarding_conf, traceparent),
     "Whether a W3C traceparent is continued or begun.", .initial = 1},
    {"amzn_trace_id", GW_BOOL, offsetof(struct gw_forwarding_conf, amzn_trace_id),
     "Whether X-Amzn-Trace-Id is written as an ALB does.", .initial = 1},
    {"tls_headers", GW_BOOL, offsetof(struct gw_forwarding_conf, tls_headers),
     "Whether X-Amzn-Tls-Version and X-Amzn-Tls-Cipher-Suite say what the client's connection uses."},
    {"preserve_host", GW_BOOL, offsetof(struct gw_forwarding_conf, preserve_host),
     "Whether targets get Host as it came. `false`: in lower case and without a port on listeners of ports 80 and 443, "
     "with the listener's port on others where the client named none, as from an ALB.",
     .initial = 1},
    {"drop_invalid_headers", GW_BOOL, offsetof(struct gw_forwarding_conf, drop_invalid_headers),
     "Whether fields are left out whose name has other characters than letters, digits and `-`, as `_`."},
    {0},
};

static const struct gw_section forwarding_section = {
    .name = "forwarding section",
    .help = "What weir adds to requests on their way to a target.",
    .size = sizeof(struct gw_forwarding_conf),
    .settings = forwarding_settings,
};

/* Names go into metrics, logs and --print as they are. */
static bool is_name(struct gw_loader *loader, const struct gw_node *at, h2o_iovec_t name)
{
    bool is_good = name.len != 0 && name.len <= MAX_NAME_LEN;
    for (size_t i = 0; i != name.len; ++i) {
        unsigned char c = name.base[i];
        is_good &=
            (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_' || c == '-' || c == '.';
    }
    return is_good ||
           gw_error_at(loader->errors, at, "\"%.60s\" is no name (expected 1 to %d letters, digits, '_', '-' or '.')",
                       name.base, MAX_NAME_LEN);
}

#define TOP(field) offsetof(struct gw_config, field)
#define AT(field)  offsetof(struct gw_overload_conf, field)
static const struct gw_setting overload_settings[] = {
    {"loop_lag", GW_DURATION, AT(loop_lag_ms),
     "How late a thread may be with its work before it refuses some; 0 turns this off.", .max = 60000},
    {"memory", GW_SIZE, AT(memory), "Resident memory above which requests are refused; 0 turns this off."},
    {0},
};
#undef AT
static const struct gw_section overload_section = {
    .name = "overload",
    .help = "Above a bound sheddable requests are answered 503, and of the normal ones more with every step.",
    .size = sizeof(struct gw_overload_conf),
    .settings = overload_settings,
};

static const struct gw_setting config_settings[] = {
    {"include", GW_TEXTS, TOP(include),
     "Further files whose sections join these: paths or globs, relative to the file that names them.", .min = 1},
    {"worker_threads", GW_NUMBER, TOP(worker_threads), "Threads that serve requests.", .initial_text = "one per core",
     .min = 1, .max = MAX_WORKER_THREADS, .needs_restart = true},
    {"access_log", GW_SECTION, TOP(access_log), "One line for every request.", .section = &gw_access_log_section},
    {"admin", GW_SECTION, TOP(admin), "Where status, reload, health and metrics are served.",
     .section = &admin_section},
    {"state_dir", GW_TEXT, TOP(state_dir),
     "Folder for what must live through a restart; relative to the file that names it.", .min = 1,
     .needs_restart = true},
    {"user", GW_TEXT, TOP(user),
     "Account that serves, as name or number, when weir is started as root; ports and the admin socket stay the "
     "supervisor's. It must be able to read the configuration, keys and files, and to write the access log.",
     .min = 1, .needs_restart = true},
    {"group", GW_TEXT, TOP(group), "Group that serves; without it the user's own.", .min = 1, .needs_restart = true},
    {"zone", GW_TEXT, TOP(zone), "Where this gateway stands, for target groups that prefer their own zone.", .min = 1,
     .max = 128},
    {"stickiness_keys", GW_TEXTS, TOP(stickiness_keys),
     "Secrets that seal the cookies of sticky sessions: the first one seals, all of them open. Left out, weir has one "
     "of "
     "its own, which lives through a restart in `state_dir`.",
     .min = 16, .is_secret = true},
    {"shutdown_timeout", GW_DURATION, TOP(shutdown_timeout_ms),
     "How long requests may go on after SIGTERM before they are cut off.", .initial = 30000, .max = 86400000},
    {"watchdog_timeout", GW_DURATION, TOP(watchdog_timeout_ms),
     "A worker process of which a thread hangs for so long is killed and replaced. 0s turns it off.", .initial = 30000,
     .max = 86400000},
    {"upgrade", GW_SECTION, TOP(upgrade), "How `weir upgrade` changes the binary under a running gateway.",
     .section = &upgrade_section},
    {"overload", GW_SECTION, TOP(overload),
     "When requests are refused because weir itself has too much to do; `criticality` of routes says whose.",
     .section = &overload_section},
    {"limits", GW_SECTION, TOP(limits), "What a client may ask of weir.", .section = &limits_section},
    {"listeners", GW_MAP, TOP(listeners), "Where connections are accepted.", .section = &listener_section,
     .is_required = true, .valid = is_name},
    {"certificates", GW_MAP, TOP(certificates), "Certificates that TLS listeners name.",
     .section = &tls_certificate_section, .valid = is_name},
    {"trusted_proxies", GW_CIDRS, TOP(trusted_proxies),
     "Networks whose X-Forwarded-For is believed; without it nobody's."},
    {"forwarding", GW_SECTION, TOP(forwarding), "What weir adds to requests on their way to a target.",
     .section = &forwarding_section},
    {"compression", GW_OPTION, TOP(compression),
     "Compression of responses; left out, only routes that have one of their own compress.",
     .section = &routing_compression_default_section},
    {"tracing", GW_OPTION, TOP(tracing), "Spans of requests, sent to an OpenTelemetry collector.",
     .section = &gw_tracing_section},
    {"error_pages", GW_MAP, TOP(error_pages),
     "Bodies of errors that weir answers itself, by status (404) or class (5xx).",
     .section = &routing_error_page_section, .valid = routing_error_page_is_key},
    {"resolver", GW_SECTION, TOP(resolver), "How the names of dns: targets are looked up.",
     .section = &gw_resolver_section},
    {"target_groups", GW_MAP, TOP(target_groups), "Servers that routes forward to.",
     .section = &routing_target_group_section, .valid = is_name},
    {"routes", GW_LIST, TOP(routes), "What happens to a request; the first route that matches takes it.",
     .section = &routing_route_section},
    {"tests", GW_LIST, TOP(tests), "Requests and what is expected of them, for `weir test`.",
     .section = &gw_test_section},
    {0},
};

const struct gw_section gw_config_section = {
    .name = "configuration",
    .help = "The configuration of weir.",
    .size = sizeof(struct gw_config),
    .settings = config_settings,
};

static uint64_t count_cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n > MAX_WORKER_THREADS ? MAX_WORKER_THREADS : n;
}

static void name_routes(struct gw_config *config)
{
    for (size_t i = 0; i != config->routes.size; ++i) {
        struct routing_route_conf *route = config->routes.entries[i];
        if (route->name.base != NULL)
            continue;
        route->name.base = h2o_mem_alloc_pool(config->pool, sizeof("route-18446744073709551615"));
        route->name.len = sprintf(route->name.base, "route-%zu", i + 1);
    }
}

static void inherit_compression(struct gw_config *config)
{
    for (size_t i = 0; i != config->routes.size; ++i) {
        struct routing_route_conf *route = config->routes.entries[i];
        if (route->compression != NULL)
            routing_compression_inherit(route->compression, config->compression);
    }
}

/* Every path of a configuration is relative to the file that says it, as certificates are. */
static void resolve_paths(struct gw_config *config)
{
    if (config->state_dir.base != NULL)
        config->state_dir = gw_node_path(config->pool, gw_setting_at(config->at, "state_dir"), config->state_dir);
    for (size_t i = 0; i != config->routes.size; ++i) {
        struct routing_files_conf *files = ((struct routing_route_conf *)config->routes.entries[i])->files;
        if (files != NULL && files->root.base != NULL)
            files->root = gw_node_path(config->pool, gw_setting_at(files->at, "root"), files->root);
    }
}

static h2o_mem_pool_t *create_pool(void)
{
    h2o_mem_pool_t *pool = h2o_mem_alloc(sizeof(*pool));
    h2o_mem_init_pool(pool);
    return pool;
}

static void destroy_pool(h2o_mem_pool_t *pool)
{
    h2o_mem_clear_pool(pool);
    free(pool);
}

/* Takes the pool. */
static struct gw_config *load_tree(h2o_mem_pool_t *pool, const struct gw_node *root, bool allow_files,
                                   struct gw_errors *errors)
{
    struct gw_loader loader = {.pool = pool, .errors = errors};
    if (root == NULL) {
        destroy_pool(pool);
        return NULL;
    }
    struct gw_config *config = h2o_mem_alloc_pool(pool, sizeof(*config));
    gw_settings_load(&loader, &gw_config_section, root, config);
    config->pool = pool;
    if (config->worker_threads == 0)
        config->worker_threads = count_cores();
    name_routes(config);
    inherit_compression(config);
    resolve_paths(config);
    gw_config_check(config, errors);
    if (errors->num_errors == 0)
        return config;
    gw_config_check_parts(config, allow_files, errors);
    gw_config_destroy(config);
    return NULL;
}

struct gw_config *gw_config_load(const char *path, struct gw_errors *errors)
{
    h2o_mem_pool_t *pool = create_pool();
    return load_tree(pool, gw_yaml_load_file(pool, path, NULL, errors), true, errors);
}

struct gw_config *gw_config_load_text(const char *name, h2o_iovec_t text, bool allow_files, struct gw_errors *errors)
{
    h2o_mem_pool_t *pool = create_pool();
    return load_tree(pool, gw_yaml_load_text(pool, name, text, allow_files, NULL, errors), allow_files, errors);
}

void gw_config_destroy(struct gw_config *config)
{
    if (config != NULL)
        destroy_pool(config->pool);
}
