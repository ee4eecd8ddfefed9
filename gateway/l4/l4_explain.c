#include "gateway/l4/l4_explain.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/json.h"
#include "gateway/decide.h"
#include "gateway/discovery/view.h"
#include "gateway/explain.h"
#include "gateway/l4/l4.h"
#include "tls/name.h"

/* A question that was understood. */
struct asked {
    const struct gw_snapshot *snapshot;
    char *problem; /* what was not understood, for people */
    size_t problem_size;
    struct gw_ip client;
    uint16_t client_port;
    const struct gw_snapshot_listener *listener;
    char name[TLS_NAME_MAX + 1]; /* server name; "" none */
    size_t name_len;
    const char *why; /* this listener */
};

/* What comes of it. */
struct answer {
    struct gw_l4_choice choice;
    uint32_t target;
    enum gw_reason reason;
};

static const char *const schemes[] = {"tcp://", "tls://", "udp://"};

static bool refuse(struct asked *asked, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(struct asked *asked, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(asked->problem, asked->problem_size, format, args);
    va_end(args);
    return false;
}

bool gw_l4_is_question(const char *url)
{
    for (size_t i = 0; i != sizeof(schemes) / sizeof(schemes[0]); ++i)
        if (strncasecmp(url, schemes[i], strlen(schemes[i])) == 0)
            return true;
    return false;
}

static bool is_of_scheme(const struct gw_snapshot_listener *listener, const char *url)
{
    switch (listener->conf->protocol) {
    case GW_LISTENER_TCP:
        return strncasecmp(url, "tcp", 3) == 0;
    case GW_LISTENER_TLS:
    case GW_LISTENER_TLS_PASSTHROUGH:
        return strncasecmp(url, "udp", 3) != 0; /* tcp:// too: it names the port */
    case GW_LISTENER_UDP:
        return strncasecmp(url, "udp", 3) == 0;
    default:
        return false;
    }
}

static bool listens_on(const struct gw_snapshot_listener *listener, uint16_t port)
{
    for (size_t i = 0; i != listener->conf->address.size; ++i)
        if (listener->conf->address.entries[i].port == port)
            return true;
    return false;
}

static bool find_by_name(const char *name, struct asked *asked)
{
    const struct gw_snapshot *snapshot = asked->snapshot;

    for (size_t i = 0; i != snapshot->num_listeners; ++i)
        if (h2o_memis(snapshot->listeners[i].name.base, snapshot->listeners[i].name.len, name, strlen(name)))
            asked->listener = &snapshot->listeners[i];
    asked->why = "as asked";
    if (asked->listener == NULL)
        return refuse(asked, "no listener has the name %s", name);
    if (asked->listener->l4 == NULL)
        return refuse(asked, "listener %s serves http: ask with a URL", name);
    return true;
}

static bool find_by_url(const char *url, struct asked *asked)
{
    const struct gw_snapshot *snapshot = asked->snapshot;
    h2o_mem_pool_t pool;
    struct gw_address address;
    const char *why;
    h2o_iovec_t text = h2o_iovec_init(url + 6, strlen(url + 6));

    if (text.len != 0 && text.base[text.len - 1] == '/')
        --text.len;
    h2o_mem_init_pool(&pool);
    if (!gw_address_parse(&pool, text, true, &address, &why) || address.is_unix) {
        h2o_mem_clear_pool(&pool);
        return refuse(asked, "\"%s\" is no %.3s://HOST:PORT", url, url);
    }
    for (size_t i = 0; i != snapshot->num_listeners && asked->listener == NULL; ++i)
        if (is_of_scheme(&snapshot->listeners[i], url) && listens_on(&snapshot->listeners[i], address.port))
            asked->listener = &snapshot->listeners[i];
    if (asked->listener == NULL)
        refuse(asked, "no %.3s listener has port %u", url, address.port);
    else if (address.is_name && !tls_name_canonical(address.host, false, asked->name, &asked->name_len))
        asked->name_len = 0;
    asked->why = "it listens on the port";
    h2o_mem_clear_pool(&pool);
    return asked->listener != NULL;
}

/* "192.0.2.1", "192.0.2.1:5353" or "[2001:db8::1]:5353" */
static bool read_client(const char *text, struct asked *asked)
{
    h2o_mem_pool_t pool;
    struct gw_address address;
    const char *why;
    bool is_good;

    if (gw_ip_parse(h2o_iovec_init(text, strlen(text)), &asked->client))
        return true;
    h2o_mem_init_pool(&pool);
    is_good = gw_address_parse(&pool, h2o_iovec_init(text, strlen(text)), false, &address, &why) &&
              gw_ip_from_sockaddr((const struct sockaddr *)&address.sa, &asked->client);
    asked->client_port = is_good ? address.port : 0;
    h2o_mem_clear_pool(&pool);
    return is_good;
}

static bool understand(const struct gw_l4_question *q, struct asked *asked)
{
    if (!(q->listener != NULL ? find_by_name(q->listener, asked) : find_by_url(q->url, asked)))
        return false;
    if (q->sni != NULL &&
        !tls_name_canonical(h2o_iovec_init(q->sni, strlen(q->sni)), false, asked->name, &asked->name_len))
        return refuse(asked, "--sni: \"%s\" is no host name", q->sni);
    if (!read_client(q->ip != NULL ? q->ip : "127.0.0.1", asked))
        return refuse(asked, "--ip: \"%s\" is no address", q->ip);
    return true;
}

/* ---- deciding ---- */

static uint32_t pick(const struct asked *asked, const struct routing_target_group *group, struct gw_trace *trace)
{
    const struct gw_snapshot *snapshot = asked->snapshot;
    const struct routing_facts facts = {.peer_ip = asked->client,
                                        .client_ip = asked->client,
                                        .peer_port = asked->client_port,
                                        .port = asked->listener->conf->address.entries[0].port};
    struct routing_pick pick = {.now_ms = snapshot->process != NULL ? gw_now_ms() : 0};

    if (group->uses_key)
        pick.has_key = routing_balance_key(group->conf, &facts, &pick.key);
    return routing_balancer_pick(snapshot->balancers[snapshot->num_workers * snapshot->num_groups + group->index],
                                 &pick, trace);
}

static void trace_bounds(const struct gw_snapshot_listener *listener, struct gw_trace *trace)
{
    const struct gw_udp_conf *udp = gw_udp_settings(listener->conf);

    if (listener->conf->protocol != GW_LISTENER_UDP)
        return;
    gw_trace(trace, "flow", udp->at != NULL ? udp->at : listener->conf->at,
             "one of at most %lu; it ends after %lu ms without a datagram", (unsigned long)udp->flows,
             (unsigned long)listener->conf->idle_timeout_ms);
    if (udp->responses != 0)
        gw_trace(trace, "flow", gw_setting_at(udp->at, "responses"), "or with %lu answers to each datagram",
                 (unsigned long)udp->responses);
}

static void trace_proxy(const struct routing_target_group_conf *conf, struct gw_trace *trace)
{
    if (conf->send_proxy_protocol != ROUTING_PROXY_OFF)
        gw_trace(trace, "proxy", gw_setting_at(conf->at, "send_proxy_protocol"),
                 "the target is told the client by a PROXY header of version %d%s",
                 conf->send_proxy_protocol == ROUTING_PROXY_V1 ? 1 : 2,
                 conf->protocol == ROUTING_PROTOCOL_UDP ? ", in each datagram" : "");
}

static struct answer decide(const struct asked *asked, struct gw_trace *trace)
{
    const struct gw_snapshot_listener *listener = asked->listener;
    h2o_iovec_t name = {asked->name_len != 0 ? (char *)asked->name : NULL, asked->name_len};
    struct answer answer = {.target = ROUTING_NO_TARGET};

    gw_trace(trace, "listener", listener->conf->at, "\"%.*s\" (%s): %s", (int)listener->name.len, listener->name.base,
             gw_listener_protocols[listener->conf->protocol], asked->why);
    if (listener->tls != NULL)
        tls_context_select(listener->tls, name, trace);
    answer.choice = gw_l4_choose(listener, name, 0, trace);
    if (answer.choice.group != NULL && asked->snapshot->process != NULL)
        answer.choice.group = gw_view_of_control(asked->snapshot, answer.choice.group);
    if (answer.choice.group != NULL)
        answer.target = pick(asked, answer.choice.group, trace);
    answer.reason = answer.target < ROUTING_BUSY_TARGETS    ? GW_REASON_NONE
                    : answer.target == ROUTING_BUSY_TARGETS ? GW_REASON_TARGETS_BUSY
                                                            : answer.choice.reason;
    if (answer.reason != GW_REASON_NONE) {
        gw_trace(trace, "end", NULL, "the %s: %s",
                 listener->conf->protocol == GW_LISTENER_UDP ? "datagram goes nowhere" : "connection is closed",
                 gw_reason_info(answer.reason)->code);
        return answer;
    }
    trace_bounds(listener, trace);
    trace_proxy(answer.choice.group->conf, trace);
    return answer;
}

/* ---- telling ---- */

static void put_text(struct gw_json *json, const char *key, h2o_iovec_t text)
{
    gw_json_key(json, key);
    if (text.base != NULL)
        gw_json_text(json, text);
    else
        gw_json_null(json);
}

static void put_answer(struct gw_json *json, const struct asked *asked, const struct answer *answer,
                       const struct gw_trace *trace)
{
    const h2o_iovec_t none = {NULL, 0};
    const struct routing_target_group *group = answer->choice.group;
    char client[GW_IP_TEXT];

    gw_ip_format(&asked->client, client);
    gw_json_object(json);
    put_text(json, "listener", asked->listener->name);
    gw_json_key(json, "protocol");
    gw_json_string(json, gw_listener_protocols[asked->listener->conf->protocol]);
    put_text(json, "server_name", asked->name_len != 0 ? h2o_iovec_init(asked->name, asked->name_len) : none);
    put_text(json, "target_group", group != NULL ? group->name : none);
    put_text(json, "target", answer->target < ROUTING_BUSY_TARGETS ? group->targets[answer->target].name : none);
    gw_json_key(json, "reason");
    gw_json_string(json, gw_reason_info(answer->reason)->code);
    gw_json_key(json, "client_ip");
    gw_json_string(json, client);
    gw_explain_steps(json, trace);
    gw_json_object_end(json);
}

bool gw_l4_explain_json(const struct gw_snapshot *snapshot, const struct gw_l4_question *q, struct gw_json *json,
                        char *problem, size_t problem_size)
{
    struct asked asked = {.snapshot = snapshot, .problem = problem, .problem_size = problem_size};
    struct gw_trace trace;

    if (!understand(q, &asked))
        return false;
    gw_trace_init(&trace);
    const struct answer answer = decide(&asked, &trace);
    put_answer(json, &asked, &answer, &trace);
    gw_trace_dispose(&trace);
    return true;
}

static bool print(const struct gw_snapshot *snapshot, const struct gw_l4_question *q, char *problem,
                  size_t problem_size)
{
    struct asked asked = {.snapshot = snapshot, .problem = problem, .problem_size = problem_size};
    struct gw_trace trace;

    if (!understand(q, &asked))
        return false;
    gw_trace_init(&trace);
    decide(&asked, &trace);
    gw_explain_print(&trace);
    gw_trace_dispose(&trace);
    return true;
}

static bool print_json(const struct gw_snapshot *snapshot, const struct gw_l4_question *q, char *problem,
                       size_t problem_size)
{
    struct gw_json json;
    bool is_good;

    gw_json_init(&json);
    is_good = gw_l4_explain_json(snapshot, q, &json, problem, problem_size);
    if (is_good)
        printf("%.*s\n", (int)json.size, json.base);
    gw_json_dispose(&json);
    return is_good;
}

int gw_l4_explain(const struct gw_l4_question *q, const char *config_path)
{
    struct gw_snapshot *snapshot = gw_decide_load(config_path);
    char problem[512];
    int status = 1;

    if (snapshot != NULL)
        status = (q->as_json ? print_json : print)(snapshot, q, problem, sizeof(problem)) ? 0 : 2;
    if (status == 2)
        fprintf(stderr, "weir explain: %s\n", problem);
    gw_snapshot_release(snapshot);
    return status;
}
