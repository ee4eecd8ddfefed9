#include "gateway/l4/l4_explain.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/base/json.h"
#include "gateway/decide.h"
#include "gateway/explain.h"
#include "gateway/l4/l4.h"
#include "tls/name.h"

/* A question that was understood. */
struct asked {
    const struct gw_snapshot_listener *listener;
    char name[TLS_NAME_MAX + 1]; /* server name; "" none */
    size_t name_len;
    const char *why; /* this listener */
    bool is_understood;
};

static const char *const schemes[] = {"tcp://", "tls://"};

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
        return true; /* tcp:// too: it names the port */
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

static bool find_by_name(const struct gw_snapshot *snapshot, const char *name, struct asked *asked)
{
    for (size_t i = 0; i != snapshot->num_listeners; ++i)
        if (h2o_memis(snapshot->listeners[i].name.base, snapshot->listeners[i].name.len, name, strlen(name)))
            asked->listener = &snapshot->listeners[i];
    asked->why = "as asked";
    if (asked->listener == NULL)
        fprintf(stderr, "weir explain: no listener has the name %s\n", name);
    else if (asked->listener->l4 == NULL)
        fprintf(stderr, "weir explain: listener %s serves http: ask with a URL\n", name);
    return asked->listener != NULL && asked->listener->l4 != NULL;
}

static bool find_by_url(const struct gw_snapshot *snapshot, const char *url, struct asked *asked)
{
    h2o_mem_pool_t pool;
    struct gw_address address;
    const char *why;
    h2o_iovec_t text = h2o_iovec_init(url + 6, strlen(url + 6));

    if (text.len != 0 && text.base[text.len - 1] == '/')
        --text.len;
    h2o_mem_init_pool(&pool);
    if (!gw_address_parse(&pool, text, true, &address, &why) || address.is_unix) {
        fprintf(stderr, "weir explain: \"%s\" is no %.3s://HOST:PORT\n", url, url);
        h2o_mem_clear_pool(&pool);
        return false;
    }
    for (size_t i = 0; i != snapshot->num_listeners && asked->listener == NULL; ++i)
        if (is_of_scheme(&snapshot->listeners[i], url) && listens_on(&snapshot->listeners[i], address.port))
            asked->listener = &snapshot->listeners[i];
    if (asked->listener == NULL)
        fprintf(stderr, "weir explain: no %.3s listener has port %u\n", url, address.port);
    else if (address.is_name && !tls_name_canonical(address.host, false, asked->name, &asked->name_len))
        asked->name_len = 0;
    asked->why = "it listens on the port";
    h2o_mem_clear_pool(&pool);
    return asked->listener != NULL;
}

static bool understand(const struct gw_snapshot *snapshot, const struct gw_l4_question *q, struct asked *asked)
{
    if (!(q->listener != NULL ? find_by_name(snapshot, q->listener, asked) : find_by_url(snapshot, q->url, asked)))
        return false;
    if (q->sni != NULL &&
        !tls_name_canonical(h2o_iovec_init(q->sni, strlen(q->sni)), false, asked->name, &asked->name_len)) {
        fprintf(stderr, "weir explain: --sni: \"%s\" is no host name\n", q->sni);
        return false;
    }
    return true;
}

static void put_text(struct gw_json *json, const char *key, h2o_iovec_t text)
{
    gw_json_key(json, key);
    if (text.base != NULL)
        gw_json_text(json, text);
    else
        gw_json_null(json);
}

static void print_json(const struct asked *asked, const struct gw_l4_choice *choice, uint32_t target,
                       enum gw_reason reason, const struct gw_trace *trace)
{
    const h2o_iovec_t none = {NULL, 0};
    struct gw_json json;

    gw_json_init(&json);
    gw_json_object(&json);
    put_text(&json, "listener", asked->listener->name);
    gw_json_key(&json, "protocol");
    gw_json_string(&json, gw_listener_protocols[asked->listener->conf->protocol]);
    put_text(&json, "server_name", asked->name_len != 0 ? h2o_iovec_init(asked->name, asked->name_len) : none);
    put_text(&json, "target_group", choice->group != NULL ? choice->group->name : none);
    put_text(&json, "target", target < ROUTING_BUSY_TARGETS ? choice->group->targets[target].name : none);
    gw_json_key(&json, "reason");
    gw_json_string(&json, gw_reason_info(reason)->code);
    gw_explain_steps(&json, trace);
    gw_json_object_end(&json);
    fwrite(json.base, 1, json.size, stdout);
    putchar('\n');
    gw_json_dispose(&json);
}

static void answer(const struct gw_snapshot *snapshot, const struct asked *asked, bool as_json)
{
    const struct gw_snapshot_listener *listener = asked->listener;
    h2o_iovec_t name = {asked->name_len != 0 ? (char *)asked->name : NULL, asked->name_len};
    uint32_t target = ROUTING_NO_TARGET;
    struct gw_trace trace;

    gw_trace_init(&trace);
    gw_trace(&trace, "listener", listener->conf->at, "\"%.*s\" (%s): %s", (int)listener->name.len, listener->name.base,
             gw_listener_protocols[listener->conf->protocol], asked->why);
    if (listener->tls != NULL)
        tls_context_select(listener->tls, name, &trace);
    struct gw_l4_choice choice = gw_l4_choose(listener, name, 0, &trace);
    if (choice.group != NULL)
        target = routing_balancer_pick(snapshot->balancers[choice.group->index], &(struct routing_pick){0}, &trace);
    enum gw_reason reason = target < ROUTING_BUSY_TARGETS ? GW_REASON_NONE : choice.reason;
    if (reason != GW_REASON_NONE)
        gw_trace(&trace, "end", NULL, "the connection is closed: %s", gw_reason_info(reason)->code);
    else if (choice.group->conf->send_proxy_protocol != ROUTING_PROXY_OFF)
        gw_trace(&trace, "proxy", gw_setting_at(choice.group->conf->at, "send_proxy_protocol"),
                 "the target is told the client by a PROXY header of version %d",
                 choice.group->conf->send_proxy_protocol == ROUTING_PROXY_V1 ? 1 : 2);
    if (as_json)
        print_json(asked, &choice, target, reason, &trace);
    else
        gw_explain_print(&trace);
    gw_trace_dispose(&trace);
}

int gw_l4_explain(const struct gw_l4_question *q, const char *config_path)
{
    struct gw_snapshot *snapshot = gw_decide_load(config_path);
    struct asked asked = {0};
    int status = 1;

    if (snapshot != NULL) {
        asked.is_understood = understand(snapshot, q, &asked);
        if (asked.is_understood)
            answer(snapshot, &asked, q->as_json);
        status = asked.is_understood ? 0 : 2;
    }
    gw_snapshot_release(snapshot);
    return status;
}
