#include "gateway/discovery/dns_target.h"
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <h2o/string_.h>

enum { MAX_WEIGHT = 999 };

struct host { /* a name and its addresses */
    struct host *next;
    struct gw_dns_target *target;
    struct gw_dns_watch watches[2]; /* A, AAAA; record NULL: not wanted */
    bool is_wanted;                 /* by the SRV records at hand */
    char name[GW_DNS_MAX_NAME + 1];
};

struct list {
    struct gw_dns_address *entries;
    double *shares; /* of a priority's weight */
    size_t size, capacity;
};

struct gw_dns_target {
    struct gw_dns *dns;
    struct gw_dns_target_conf conf; /* name: owned */
    void (*on_news)(void *data);
    void *data;
    struct gw_dns_watch srv; /* record NULL: none */
    struct host *hosts;      /* not SRV: one. Those that addresses were found by stay until they are others */
    struct list found;       /* in use */
    uint64_t version, now_ms;
    struct gw_timer leaving; /* armed: the name is gone, and the addresses leave when it is due */
    bool has_address;        /* the name is one */
};

/* ---- lists of addresses ---- */

static void append(struct list *list, struct gw_dns_address address, double share)
{
    if (list->size == list->capacity) {
        list->capacity = list->capacity == 0 ? 8 : list->capacity * 2;
        list->entries = h2o_mem_realloc(list->entries, list->capacity * sizeof(list->entries[0]));
        list->shares = h2o_mem_realloc(list->shares, list->capacity * sizeof(list->shares[0]));
    }
    list->shares[list->size] = share;
    list->entries[list->size++] = address;
}

static void dispose(struct list *list)
{
    free(list->entries);
    free(list->shares);
    *list = (struct list){NULL};
}

/* Weights as the records have them where they fit; else so that the largest is 999. */
static void set_weights(struct list *list)
{
    double largest = 0;
    bool fits = true;

    for (size_t i = 0; i != list->size; ++i) {
        if (list->shares[i] > largest)
            largest = list->shares[i];
        fits = fits && list->shares[i] == (double)(uint32_t)list->shares[i];
    }
    double factor = largest == 0 || (fits && largest <= MAX_WEIGHT) ? 1 : MAX_WEIGHT / largest;
    for (size_t i = 0; i != list->size; ++i) {
        uint32_t weight = (uint32_t)(list->shares[i] * factor + 0.5);
        list->entries[i].weight = weight == 0 ? 1 : weight; /* RFC 2782: a very small chance, not none */
    }
}

static bool is_equal(const struct list *a, const struct list *b)
{
    if (a->size != b->size)
        return false;
    for (size_t i = 0; i != a->size; ++i) {
        const struct gw_dns_address *x = &a->entries[i], *y = &b->entries[i];
        if (memcmp(&x->ip, &y->ip, sizeof(x->ip)) != 0 || x->port != y->port || x->weight != y->weight ||
            strcmp(x->host, y->host) != 0)
            return false;
    }
    return true;
}

/* ---- hosts ---- */

static void on_answer_a(struct gw_dns_watch *);
static void on_answer_aaaa(struct gw_dns_watch *);
static void on_answer_srv(struct gw_dns_watch *);

static void set_times(const struct gw_dns_target *target, struct gw_dns_watch *watch)
{
    watch->min_ttl_ms = target->conf.min_ttl_ms;
    watch->max_ttl_ms = target->conf.max_ttl_ms;
}

static void begin_watch(struct gw_dns_target *target, struct gw_dns_watch *watch, const char *name,
                        enum gw_dns_type type, void (*on_answer)(struct gw_dns_watch *))
{
    *watch = (struct gw_dns_watch){.on_answer = on_answer};
    set_times(target, watch);
    gw_dns_watch(target->dns, watch, name, type, target->now_ms);
}

static struct host *add_host(struct gw_dns_target *target, const char *name, bool is_absolute)
{
    struct host *host = h2o_mem_alloc(sizeof(*host));

    *host = (struct host){.next = target->hosts, .target = target, .is_wanted = true};
    snprintf(host->name, sizeof(host->name), is_absolute ? "%s." : "%s", name);
    target->hosts = host;
    if (target->conf.wants_a)
        begin_watch(target, &host->watches[0], host->name, GW_DNS_A, on_answer_a);
    if (target->conf.wants_aaaa)
        begin_watch(target, &host->watches[1], host->name, GW_DNS_AAAA, on_answer_aaaa);
    if (is_absolute)
        host->name[strlen(name)] = '\0';
    return host;
}

static struct host *find_host(const struct gw_dns_target *target, const char *name)
{
    struct host *host = target->hosts;
    while (host != NULL && strcmp(host->name, name) != 0)
        host = host->next;
    return host;
}

static void free_hosts(struct gw_dns_target *target, bool even_wanted)
{
    for (struct host **at = &target->hosts, *host; (host = *at) != NULL;) {
        if (host->is_wanted && !even_wanted) {
            at = &host->next;
            continue;
        }
        *at = host->next;
        gw_dns_unwatch(&host->watches[0]);
        gw_dns_unwatch(&host->watches[1]);
        free(host);
    }
}

/* New servers of the service are looked up; those of before stay until their addresses are out of use. */
static void update_hosts(struct gw_dns_target *target)
{
    const struct gw_dns_answer *answer = &target->srv.record->answer;

    for (struct host *host = target->hosts; host != NULL; host = host->next)
        host->is_wanted = false;
    for (size_t i = 0; i != answer->size; ++i) {
        const char *name = answer->values[i].target;
        struct host *host = name[0] == '\0' ? NULL : find_host(target, name);
        if (host != NULL)
            host->is_wanted = true;
        else if (name[0] != '\0')
            add_host(target, name, true);
    }
}

/* ---- putting it together ---- */

/* What is known of some questions taken together. */
struct state {
    bool is_pending; /* one has not ended yet */
    bool has_failed; /* one ended without an answer, and there is none from before */
};

static void note_state(const struct gw_dns_record *record, struct state *state)
{
    if (!record->has_ended)
        state->is_pending = true;
    else if (record->answered_ms == 0)
        state->has_failed = true;
}

/* Nothing is sent: the kernel looks for a way. */
static bool has_route(const struct gw_ip *ip)
{
    struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return false;
    memcpy(&sin6.sin6_addr, ip->bytes, 16);
    bool has = connect(fd, (struct sockaddr *)&sin6, sizeof(sin6)) == 0;
    close(fd);
    return has;
}

/* Most machines that cannot speak IPv6 get AAAA records all the same: unless there is nothing else, addresses that no
 * route leads to are left out. */
static bool is_usable(const struct host *host, const struct gw_ip *ip)
{
    const struct gw_dns_record *a = host->watches[0].record;
    return gw_ip_is_v4(ip) || a == NULL || has_route(ip) || (a->has_ended && a->answer.size == 0);
}

static void collect_host(const struct host *host, uint16_t port, double weight, struct list *list, struct state *state)
{
    size_t first = list->size;

    for (size_t i = 0; i != 2; ++i) {
        const struct gw_dns_record *record = host->watches[i].record;
        if (record == NULL)
            continue;
        note_state(record, state);
        for (size_t j = 0; j != record->answer.size; ++j)
            if (is_usable(host, &record->answer.values[j].ip))
                append(list, (struct gw_dns_address){record->answer.values[j].ip, port, 1, host->name}, weight);
    }
    for (size_t i = first; i != list->size && weight != 0; ++i) /* the weight is that of the server, however many */
        list->shares[i] = weight / (double)(list->size - first);
}

/* Records come sorted by priority. The lowest with addresses is used (RFC 2782: "that it can reach"). */
static void collect_services(const struct gw_dns_target *target, struct list *list, struct state *state)
{
    const struct gw_dns_answer *answer = &target->srv.record->answer;

    note_state(target->srv.record, state);
    for (size_t i = 0; i != answer->size; ++i) {
        const struct gw_dns_value *value = &answer->values[i];
        const struct host *host = find_host(target, value->target);
        if (i != 0 && value->priority != value[-1].priority && (list->size != 0 || state->is_pending))
            break;
        if (host != NULL && value->port != 0)
            collect_host(host, value->port, value->weight, list, state);
    }
}

static void collect(const struct gw_dns_target *target, struct list *list, struct state *state)
{
    if (target->srv.record != NULL)
        collect_services(target, list, state);
    else if (target->hosts != NULL)
        collect_host(target->hosts, target->conf.port, 1, list, state);
    if (target->srv.record == NULL)
        for (size_t i = 0; i != list->size; ++i)
            list->shares[i] = 1;
    set_weights(list);
}

/* Takes the list. */
static void use(struct gw_dns_target *target, struct list list)
{
    gw_timer_disarm(&target->leaving);
    if (is_equal(&list, &target->found)) {
        dispose(&list);
    } else {
        dispose(&target->found);
        target->found = list;
        ++target->version;
    }
    free_hosts(target, false);
}

static void on_leaving(struct gw_timer *timer)
{
    struct gw_dns_target *target = H2O_STRUCT_FROM_MEMBER(struct gw_dns_target, leaving, timer);
    use(target, (struct list){NULL});
    target->on_news(target->data);
}

static void update(struct gw_dns_target *target)
{
    struct list list = {NULL};
    struct state state = {false};

    collect(target, &list, &state);
    if (list.size != 0 && (!state.is_pending || target->found.size == 0)) {
        use(target, list);
        return;
    }
    dispose(&list);
    /* Half a picture is not shown instead of a whole one, and failures say nothing about the name. */
    if (state.is_pending || state.has_failed || target->found.size == 0) {
        if (state.has_failed)
            gw_timer_disarm(&target->leaving);
    } else if (!gw_timer_is_armed(&target->leaving)) {
        gw_timer_arm(gw_dns_wheel(target->dns), &target->leaving, target->now_ms + target->conf.grace_ms);
    }
}

static void on_host_answer(struct host *host)
{
    struct gw_dns_target *target = host->target;
    target->now_ms = gw_dns_now(target->dns);
    update(target);
    target->on_news(target->data);
}

static void on_answer_a(struct gw_dns_watch *watch)
{
    on_host_answer(H2O_STRUCT_FROM_MEMBER(struct host, watches[0], watch));
}

static void on_answer_aaaa(struct gw_dns_watch *watch)
{
    on_host_answer(H2O_STRUCT_FROM_MEMBER(struct host, watches[1], watch));
}

static void on_answer_srv(struct gw_dns_watch *watch)
{
    struct gw_dns_target *target = H2O_STRUCT_FROM_MEMBER(struct gw_dns_target, srv, watch);
    target->now_ms = gw_dns_now(target->dns);
    update_hosts(target);
    update(target);
    target->on_news(target->data);
}

/* ---- the outside ---- */

static void add_address(struct gw_dns_target *target, const char *text)
{
    struct gw_ip ip;
    if (gw_ip_parse(h2o_iovec_init(text, strlen(text)), &ip))
        append(&target->found, (struct gw_dns_address){ip, target->conf.port, 1, target->conf.name}, 1);
    target->has_address = true;
}

/* RFC 6761, 6.3: nobody is asked for localhost. */
static bool is_localhost(const char *name)
{
    size_t len = strlen(name);
    if (len != 0 && name[len - 1] == '.')
        --len;
    return len >= 9 && strncasecmp(name + len - 9, "localhost", 9) == 0 && (len == 9 || name[len - 10] == '.');
}

static void begin(struct gw_dns_target *target)
{
    const char *name = target->conf.name;
    struct gw_ip ip;

    if (gw_ip_parse(h2o_iovec_init(name, strlen(name)), &ip)) {
        add_address(target, name);
    } else if (target->conf.wants_srv) {
        begin_watch(target, &target->srv, name, GW_DNS_SRV, on_answer_srv);
        update_hosts(target);
    } else if (is_localhost(name)) {
        if (target->conf.wants_a)
            add_address(target, "127.0.0.1");
        if (target->conf.wants_aaaa &&
            (!target->conf.wants_a || (gw_ip_parse(h2o_iovec_init(H2O_STRLIT("::1")), &ip) && has_route(&ip))))
            add_address(target, "::1");
    } else {
        add_host(target, name, false);
    }
}

struct gw_dns_target *gw_dns_target_create(struct gw_dns *dns, const struct gw_dns_target_conf *conf, uint64_t now_ms,
                                           void (*on_news)(void *), void *data)
{
    struct gw_dns_target *target = h2o_mem_alloc(sizeof(*target));

    *target = (struct gw_dns_target){.dns = dns, .conf = *conf, .on_news = on_news, .data = data, .now_ms = now_ms};
    target->conf.name = h2o_strdup(NULL, conf->name, SIZE_MAX).base;
    if (conf->wants_srv) /* whatever addresses its servers have */
        target->conf.wants_a = target->conf.wants_aaaa = true;
    gw_timer_init(&target->leaving, on_leaving);
    begin(target);
    if (target->has_address)
        target->version = 1;
    else
        update(target);
    return target;
}

void gw_dns_target_destroy(struct gw_dns_target *target)
{
    if (target == NULL)
        return;
    gw_timer_disarm(&target->leaving);
    gw_dns_unwatch(&target->srv);
    free_hosts(target, true);
    dispose(&target->found);
    free((char *)target->conf.name);
    free(target);
}

void gw_dns_target_change(struct gw_dns_target *target, const struct gw_dns_target_conf *conf, uint64_t now_ms)
{
    target->now_ms = now_ms;
    target->conf.min_ttl_ms = conf->min_ttl_ms;
    target->conf.max_ttl_ms = conf->max_ttl_ms;
    target->conf.grace_ms = conf->grace_ms;
    if (target->srv.record != NULL) {
        set_times(target, &target->srv);
        gw_dns_rewatch(target->dns, &target->srv, now_ms);
    }
    for (struct host *host = target->hosts; host != NULL; host = host->next)
        for (size_t i = 0; i != 2; ++i)
            if (host->watches[i].record != NULL) {
                set_times(target, &host->watches[i]);
                gw_dns_rewatch(target->dns, &host->watches[i], now_ms);
            }
}

const struct gw_dns_address *gw_dns_target_addresses(const struct gw_dns_target *target, size_t *size)
{
    *size = target->found.size;
    return target->found.entries;
}

uint64_t gw_dns_target_version(const struct gw_dns_target *target) { return target->version; }

void gw_dns_target_visit(const struct gw_dns_target *target, void (*visit)(void *, const struct gw_dns_record *),
                         void *data)
{
    if (target->srv.record != NULL)
        visit(data, target->srv.record);
    for (const struct host *host = target->hosts; host != NULL; host = host->next)
        for (size_t i = 0; i != 2; ++i)
            if (host->watches[i].record != NULL)
                visit(data, host->watches[i].record);
}

static void note_pending(void *data, const struct gw_dns_record *record) { note_state(record, data); }

bool gw_dns_target_has_ended(const struct gw_dns_target *target)
{
    struct state state = {false};
    gw_dns_target_visit(target, note_pending, &state);
    return !state.is_pending;
}

/* The worst first: what fails, then what is not there although it was asked for. */
static void note_worst(void *data, const struct gw_dns_record *record)
{
    const struct gw_dns_record **worst = data;
    if (record->has_ended && record->last != GW_DNS_VALUES &&
        (*worst == NULL || (gw_dns_is_failure(record->last) && !gw_dns_is_failure((*worst)->last))))
        *worst = record;
}

bool gw_dns_target_error(const struct gw_dns_target *target, char *buf, size_t len)
{
    const struct gw_dns_record *worst = NULL;
    bool is_leaving = gw_timer_is_armed(&target->leaving);

    gw_dns_target_visit(target, note_worst, &worst);
    /* a host without AAAA records is nothing to complain about while it has others */
    if (worst == NULL || (!gw_dns_is_failure(worst->last) && target->found.size != 0 && !is_leaving))
        return false;
    snprintf(buf, len, "%s %s: %s%s%s%s", worst->name, gw_dns_type_name(worst->type), gw_dns_outcome_text(worst->last),
             worst->server[0] != '\0' ? ", asked at " : "", worst->server,
             is_leaving                ? "; its targets leave soon"
             : target->found.size != 0 ? "; the last answer stays"
                                       : "");
    return true;
}
