#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/upstream/check.h"
#include "gateway/upstream/health.h"
#include "gateway/upstream/probe.h"
#include "gateway/upstream/proxy_out.h"

/* More checks than this at a time wait for one to end, so that a load with thousands of targets does not eat the
 * descriptors of the process. */
enum { MAX_RUNNING = 256 };

struct probed {             /* one target */
    h2o_linklist_t link;    /* in gw_prober.targets */
    h2o_linklist_t waiting; /* in gw_prober.waiting: due, but too many are running */
    struct gw_prober *prober;
    const struct gw_endpoint *endpoint;
    struct routing_health *health;
    h2o_iovec_t group;
    struct routing_health_check_conf conf; /* texts are ours */
    struct gw_address address;             /* the endpoint's, with the port of the check */
    int send_proxy_protocol;
    h2o_iovec_t head;    /* of a check by way of probe; empty: TCP */
    h2o_iovec_t preface; /* PROXY header of checks; empty: none */
    h2o_iovec_t request; /* preface and head */
    struct routing_matcher matcher;
    const struct gw_transport *transport; /* of the check; held. NULL: plain HTTP/1.1 or TCP, by way of probe */
    struct gw_endpoint checked;           /* where the check goes: the endpoint with another port */
    h2o_iovec_t host;
    struct gw_check check;
    struct gw_check_kind *kind; /* owned; NULL: none */
    struct gw_timer next;
    uint64_t due_ms;
    uint64_t began_us; /* the check under way */
    bool is_checked;   /* at least once: the place in the interval is chosen */
    bool is_listed;    /* by the gw_prober_set_targets under way */
    bool is_counted;   /* in gw_prober.num_running */
    struct gw_probe probe;
};

struct gw_prober {
    struct gw_thread *thread;
    struct gw_pool *pool; /* of checks by way of the client */
    void (*on_change)(void *data, h2o_iovec_t group, const struct gw_endpoint *, const struct routing_health *);
    void *data;
    void (*on_check)(void *data, const struct gw_endpoint *, const struct routing_health *, enum routing_probe,
                     int status, uint64_t elapsed_us, uint64_t wall_ms);
    void *check_data;
    h2o_linklist_t targets, waiting;
    unsigned num_running;
};

static h2o_iovec_t copy(h2o_iovec_t s) { return s.base == NULL ? s : h2o_strdup(NULL, s.base, s.len); }

static bool is_equal(h2o_iovec_t a, h2o_iovec_t b)
{
    return (a.base == NULL) == (b.base == NULL) && h2o_memis(a.base, a.len, b.base, b.len);
}

static bool is_same_check(const struct routing_health_check_conf *a, const struct routing_health_check_conf *b)
{
    return a->protocol == b->protocol && a->port == b->port && a->interval_ms == b->interval_ms &&
           a->timeout_ms == b->timeout_ms && a->healthy_threshold == b->healthy_threshold &&
           a->unhealthy_threshold == b->unhealthy_threshold && is_equal(a->path, b->path) &&
           is_equal(a->matcher, b->matcher) && is_equal(a->host, b->host);
}

static bool is_same_kind(const struct gw_check_kind *a, const struct gw_check_kind *b)
{
    return a == NULL || b == NULL ? a == b : a->judge == b->judge && a->is_same(a, b);
}

static void start_waiting(struct gw_prober *);

static void stop_counting(struct probed *target)
{
    if (target->is_counted)
        --target->prober->num_running;
    target->is_counted = false;
}

static void free_target(struct probed *target)
{
    h2o_linklist_unlink(&target->link);
    if (h2o_linklist_is_linked(&target->waiting))
        h2o_linklist_unlink(&target->waiting);
    gw_timer_disarm(&target->next);
    gw_probe_stop(&target->probe);
    gw_check_stop(&target->check);
    gw_pool_forget(target->prober->pool, &target->checked);
    gw_transport_release(target->transport);
    stop_counting(target);
    if (target->kind != NULL)
        target->kind->dispose(target->kind);
    free(target->host.base);
    free(target->group.base);
    free(target->conf.path.base);
    free(target->conf.matcher.base);
    free(target->conf.host.base);
    free(target->head.base);
    free(target->request.base);
    free(target->preface.base);
    free(target);
}

static void conclude(struct probed *target, enum routing_probe result, int status)
{
    struct gw_prober *prober = target->prober;
    uint64_t wall_ms = h2o_now(prober->thread->loop);
    stop_counting(target);
    start_waiting(prober);
    bool is_changed = routing_health_on_probe(target->health, result, status, (unsigned)target->conf.healthy_threshold,
                                              (unsigned)target->conf.unhealthy_threshold, wall_ms);
    if (prober->on_check != NULL)
        prober->on_check(prober->check_data, target->endpoint, target->health, result, status,
                         gw_now_us() - target->began_us, wall_ms);
    if (is_changed && prober->on_change != NULL)
        prober->on_change(prober->data, target->group, target->endpoint, target->health);
}

static void on_probe_done(struct gw_probe *probe, enum routing_probe result, int status)
{
    conclude(H2O_STRUCT_FROM_MEMBER(struct probed, probe, probe), result, status);
}

static void on_check_done(struct gw_check *check, enum routing_probe result, int status)
{
    conclude(H2O_STRUCT_FROM_MEMBER(struct probed, check, check), result, status);
}

static void start_check(struct probed *target)
{
    static const char empty_message[5] = {0}; /* of HealthCheckRequest: the whole server */
    h2o_header_t fields[] = {
        {.name = (h2o_iovec_t *)&H2O_TOKEN_USER_AGENT->buf, .value = {H2O_STRLIT("weir-health-check/" WEIR_VERSION)}},
        {.name = (h2o_iovec_t *)&H2O_TOKEN_ACCEPT->buf, .value = {H2O_STRLIT("*/*")}},
    };
    bool is_grpc = target->conf.protocol == ROUTING_HEALTH_CHECK_GRPC;
    h2o_header_t type = {.name = (h2o_iovec_t *)&H2O_TOKEN_CONTENT_TYPE->buf,
                         .value = {H2O_STRLIT("application/grpc")}};
    if (is_grpc)
        fields[1] = type;
    const struct gw_client_request request = {
        .method = is_grpc ? h2o_iovec_init(H2O_STRLIT("POST")) : h2o_iovec_init(H2O_STRLIT("GET")),
        .has_body = is_grpc,
        .body = {is_grpc ? (char *)empty_message : NULL, is_grpc ? sizeof(empty_message) : 0},
        .body_is_whole = is_grpc,
        .target = target->conf.path,
        .host = target->host,
        .fields = fields,
        .num_fields = sizeof(fields) / sizeof(fields[0]),
        .content_length = UINT64_MAX,
        .transport = target->transport,
        .preface = target->preface,
    };
    gw_check_start(&target->check, target->prober->pool, &target->checked, &request, &target->matcher, is_grpc, NULL,
                   target->conf.timeout_ms);
}

static void start_of_kind(struct probed *target)
{
    struct gw_client_request request;
    h2o_mem_pool_t pool;

    h2o_mem_init_pool(&pool);
    target->kind->ask(target->kind, &pool, target->transport, &request);
    request.preface = target->preface;
    gw_check_start(&target->check, target->prober->pool, &target->checked, &request, &target->matcher, false,
                   target->kind, target->conf.timeout_ms);
    h2o_mem_clear_pool(&pool); /* the client has copied what it needs */
}

/* A target that wants a header wants it from everybody; another port may have other habits. Version 1 has our address,
 * which may be another one by now. */
static void set_preface(struct probed *target)
{
    char header[GW_PROXY_OUT_MAX];
    size_t len =
        target->conf.port == 0 ? gw_proxy_out_of_weir(target->send_proxy_protocol, &target->address, header) : 0;

    if (target->request.base != NULL && h2o_memis(target->preface.base, target->preface.len, header, len))
        return;
    free(target->preface.base);
    free(target->request.base);
    target->preface = h2o_strdup(NULL, header, len);
    target->request = h2o_concat(NULL, target->preface, target->head);
}

static void start(struct probed *target)
{
    set_preface(target);
    target->is_counted = true;
    target->began_us = gw_now_us();
    ++target->prober->num_running;
    if (target->kind != NULL)
        start_of_kind(target);
    else if (target->transport != NULL)
        start_check(target);
    else
        gw_probe_start(&target->probe, &target->address, target->request,
                       target->conf.protocol == ROUTING_HEALTH_CHECK_TCP ? NULL : &target->matcher,
                       target->conf.timeout_ms);
}

/* One per ended check keeps the number, and no recursion through checks that fail at once. */
static void start_waiting(struct gw_prober *prober)
{
    if (h2o_linklist_is_empty(&prober->waiting) || prober->num_running >= MAX_RUNNING)
        return;
    struct probed *target = H2O_STRUCT_FROM_MEMBER(struct probed, waiting, prober->waiting.next);
    h2o_linklist_unlink(&target->waiting);
    /* by way of the timer: the next turn is soon enough */
    gw_timer_arm(prober->thread->wheel, &target->next, gw_thread_now(prober->thread));
}

/* Checks keep their place in the interval however long the answers take; a new target's place is chosen at random. */
static void plan_next(struct probed *target)
{
    struct gw_thread *thread = target->prober->thread;
    uint64_t now_ms = gw_thread_now(thread), interval_ms = target->conf.interval_ms;
    if (interval_ms == 0)
        interval_ms = 1;
    if (target->is_checked)
        target->due_ms += interval_ms;
    else
        target->due_ms = now_ms + 1 + gw_thread_random(thread) % interval_ms;
    target->is_checked = true;
    if (target->due_ms <= now_ms) /* the loop was away for longer */
        target->due_ms = now_ms + interval_ms;
    gw_timer_arm(thread->wheel, &target->next, target->due_ms);
}

static void on_due(struct gw_timer *timer)
{
    struct probed *target = H2O_STRUCT_FROM_MEMBER(struct probed, next, timer);
    struct gw_prober *prober = target->prober;
    if (prober->num_running >= MAX_RUNNING && !target->is_counted) {
        h2o_linklist_insert(&prober->waiting, &target->waiting);
        return;
    }
    plan_next(target);
    if (!gw_probe_is_running(&target->probe) &&
        !gw_check_is_running(&target->check)) /* else the timeout is longer than the interval */
        start(target);
}

static void build_head(struct probed *target)
{
    const struct gw_address *address = &target->address;
    char host[512];
    if (target->conf.protocol == ROUTING_HEALTH_CHECK_TCP)
        return;
    if (target->conf.host.base != NULL)
        snprintf(host, sizeof(host), "%.*s", (int)target->conf.host.len, target->conf.host.base);
    else if (address->is_unix)
        snprintf(host, sizeof(host), "localhost");
    else {
        bool is_v6 = memchr(address->host.base, ':', address->host.len) != NULL;
        int n = snprintf(host, sizeof(host), "%s%.*s%s", is_v6 ? "[" : "", (int)address->host.len, address->host.base,
                         is_v6 ? "]" : "");
        if (address->port != (target->transport != NULL && target->transport->tls != NULL ? 443 : 80) && n > 0 &&
            n < (int)sizeof(host))
            snprintf(host + n, sizeof(host) - (size_t)n, ":%u", (unsigned)address->port);
    }
    target->host = h2o_strdup(NULL, host, SIZE_MAX);
    char *text;
    int len = asprintf(&text,
                       "GET %.*s HTTP/1.1\r\nHost: %s\r\nUser-Agent: weir-health-check/" WEIR_VERSION
                       "\r\nAccept: */*\r\nConnection: close\r\n\r\n",
                       (int)target->conf.path.len, target->conf.path.base, host);
    if (len < 0)
        h2o_fatal("no memory");
    target->head = h2o_iovec_init(text, (size_t)len);
}

static void set_port(struct gw_address *address, uint16_t port)
{
    if (port == 0 || address->is_unix)
        return;
    address->port = port;
    if (address->sa.ss_family == AF_INET)
        ((struct sockaddr_in *)&address->sa)->sin_port = htons(port);
    else if (address->sa.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&address->sa)->sin6_port = htons(port);
}

/* Plain checks of TLS targets exist: another port may be for them. */
static const struct gw_transport *transport_of(const struct gw_prober_target *target)
{
    int protocol = target->conf.protocol;
    return protocol == ROUTING_HEALTH_CHECK_HTTP || protocol == ROUTING_HEALTH_CHECK_TCP ? NULL : target->transport;
}

static void add_target(struct gw_prober *prober, const struct gw_prober_target *from)
{
    struct probed *target = h2o_mem_alloc(sizeof(*target));
    memset(target, 0, sizeof(*target));
    target->prober = prober;
    target->endpoint = from->endpoint;
    target->health = from->health;
    target->group = copy(from->group);
    target->conf = from->conf;
    target->conf.at = NULL; /* of a configuration that may go */
    target->conf.path = copy(from->conf.path);
    target->conf.matcher = copy(from->conf.matcher);
    target->conf.host = copy(from->conf.host);
    target->address = from->endpoint->address;
    set_port(&target->address, (uint16_t)from->conf.port);
    target->transport = gw_transport_hold(transport_of(from));
    target->kind = from->kind;
    target->send_proxy_protocol = from->send_proxy_protocol;
    build_head(target);
    /* The configuration was checked; a matcher that does not parse leaves 200, the default. */
    bool is_grpc = target->conf.protocol == ROUTING_HEALTH_CHECK_GRPC;
    if (target->conf.matcher.base == NULL ||
        !routing_matcher_parse(target->conf.matcher, is_grpc ? 0 : 200, is_grpc ? 99 : 599, &target->matcher))
        target->matcher = (struct routing_matcher){.ranges = {{200, 200}}, .size = 1};
    target->probe.thread = prober->thread;
    target->probe.on_done = on_probe_done;
    target->check.thread = prober->thread;
    target->check.on_done = on_check_done;
    gw_timer_init(&target->check.timeout, NULL);
    target->checked =
        (struct gw_endpoint){.address = target->address, .name = from->endpoint->name, .index = from->endpoint->index};
    target->is_listed = true;
    h2o_linklist_insert(&prober->targets, &target->link);
    gw_timer_init(&target->next, on_due);
    gw_timer_arm(prober->thread->wheel, &target->next, gw_thread_now(prober->thread));
}

static struct probed *target_from(h2o_linklist_t *link) { return H2O_STRUCT_FROM_MEMBER(struct probed, link, link); }

/* The present targets by endpoint index, which is dense and one per group and address. */
static struct probed **index_targets(struct gw_prober *prober, size_t *size)
{
    *size = 0;
    for (h2o_linklist_t *n = prober->targets.next; n != &prober->targets; n = n->next)
        if (target_from(n)->endpoint->index >= *size)
            *size = (size_t)target_from(n)->endpoint->index + 1;
    struct probed **by_index = h2o_mem_alloc((*size + 1) * sizeof(by_index[0]));
    memset(by_index, 0, (*size + 1) * sizeof(by_index[0]));
    for (h2o_linklist_t *n = prober->targets.next; n != &prober->targets; n = n->next) {
        target_from(n)->is_listed = false;
        by_index[target_from(n)->endpoint->index] = target_from(n);
    }
    return by_index;
}

void gw_prober_set_targets(struct gw_prober *prober, const struct gw_prober_target *targets, size_t num_targets)
{
    size_t size;
    struct probed **by_index = index_targets(prober, &size);
    for (size_t i = 0; i != num_targets; ++i) {
        const struct gw_prober_target *t = &targets[i];
        struct probed *old = t->endpoint->index < size ? by_index[t->endpoint->index] : NULL;
        if (!t->conf.is_enabled)
            continue;
        if (old != NULL && old->endpoint == t->endpoint && is_equal(old->group, t->group) &&
            is_same_check(&old->conf, &t->conf) && is_same_kind(old->kind, t->kind) &&
            old->send_proxy_protocol == t->send_proxy_protocol &&
            gw_transport_id(old->transport) == gw_transport_id(transport_of(t))) {
            old->is_listed = true;
            old->health = t->health;
            if (t->kind != NULL)
                t->kind->dispose(t->kind);
        } else {
            add_target(prober, t);
        }
    }
    free(by_index);
    for (h2o_linklist_t *n = prober->targets.next, *next; n != &prober->targets; n = next) {
        next = n->next;
        if (!target_from(n)->is_listed)
            free_target(target_from(n));
    }
}

struct gw_prober *gw_prober_create(struct gw_thread *thread,
                                   void (*on_change)(void *data, h2o_iovec_t group, const struct gw_endpoint *,
                                                     const struct routing_health *),
                                   void *data)
{
    struct gw_prober *prober = h2o_mem_alloc(sizeof(*prober));
    *prober =
        (struct gw_prober){.thread = thread, .pool = gw_pool_create(thread), .on_change = on_change, .data = data};
    h2o_linklist_init_anchor(&prober->targets);
    h2o_linklist_init_anchor(&prober->waiting);
    return prober;
}

void gw_prober_watch(struct gw_prober *prober,
                     void (*on_check)(void *data, const struct gw_endpoint *, const struct routing_health *,
                                      enum routing_probe, int status, uint64_t elapsed_us, uint64_t wall_ms),
                     void *data)
{
    prober->on_check = on_check;
    prober->check_data = data;
}

void gw_prober_destroy(struct gw_prober *prober)
{
    if (prober == NULL)
        return;
    while (!h2o_linklist_is_empty(&prober->targets))
        free_target(target_from(prober->targets.next));
    gw_pool_destroy(prober->pool);
    free(prober);
}
