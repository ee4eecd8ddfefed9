#include "gateway/discovery/dns.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>
#include <h2o/string_.h>
#include "gateway/base/log.h"
#include "gateway/base/wheel.h"
#include "gateway/discovery/dns_servers.h"

enum {
    MAX_RUNNING = 64,       /* questions at a time: more would overflow the socket buffers of small servers */
    NEGATIVE_TTL_MS = 5000, /* where no SOA says how long a name stays unknown */
    KEPT_MS = 600000,       /* in a clone: longer than a load takes */
    INITIAL_INDEX_SLOTS = 64
};

struct question {                /* under way or waiting for its turn */
    h2o_linklist_t link;         /* in dns->waiting; unlinked: asked */
    unsigned candidate, attempt; /* which full name, which try at it */
    unsigned server;             /* that is being asked */
    bool is_open;                /* it has not ended */
    struct gw_dns_answer empty;  /* the kinder of the empty answers to full names before this one */
    bool has_empty;
};

struct entry {
    struct gw_dns_record record;
    struct gw_dns *dns;
    struct entry *next; /* in the slot of the index */
    h2o_linklist_t watches;
    struct question question;
    struct asked *asked; /* what the answer comes back with; NULL: nothing is asked */
    struct gw_timer again;
};

/* Outlives the entry where that is dropped before its answer comes. */
struct asked {
    struct entry *entry;
};

struct gw_dns {
    int epoll_fd;
    uint64_t now_ms;
    struct gw_wheel *wheel;
    struct entry **slots;
    size_t num_slots, size;
    h2o_linklist_t waiting, told;
    unsigned num_running;
    struct gw_dns_totals totals;
    struct gw_dns_servers servers;
    uint64_t attempts, retry_ms, max_retry_ms;
};

/* ---- the index of names ---- */

static bool is_same_name(const char *a, const char *b) { return strcasecmp(a, b) == 0; }

static size_t slot_of(const struct gw_dns *dns, const char *name, enum gw_dns_type type)
{
    uint64_t hash = 14695981039346656037u ^ (uint64_t)type;
    for (; *name != '\0'; ++name)
        hash = (hash ^ (uint8_t)(*name >= 'A' && *name <= 'Z' ? *name | 0x20 : *name)) * 1099511628211u;
    return (hash ^ hash >> 32) & (dns->num_slots - 1);
}

static struct entry *find(const struct gw_dns *dns, const char *name, enum gw_dns_type type)
{
    struct entry *entry = dns->slots[slot_of(dns, name, type)];
    while (entry != NULL && (entry->record.type != type || !is_same_name(entry->record.name, name)))
        entry = entry->next;
    return entry;
}

static void link_entry(struct gw_dns *dns, struct entry *entry)
{
    struct entry **slot = &dns->slots[slot_of(dns, entry->record.name, entry->record.type)];
    entry->next = *slot;
    *slot = entry;
    ++dns->size;
}

static void unlink_entry(struct gw_dns *dns, struct entry *entry)
{
    struct entry **at = &dns->slots[slot_of(dns, entry->record.name, entry->record.type)];
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    --dns->size;
}

static void grow(struct gw_dns *dns)
{
    struct entry **old = dns->slots;
    size_t num_old = dns->num_slots;

    if (dns->size < num_old)
        return;
    dns->num_slots = num_old * 2;
    dns->slots = h2o_mem_alloc(dns->num_slots * sizeof(dns->slots[0]));
    memset(dns->slots, 0, dns->num_slots * sizeof(dns->slots[0]));
    dns->size = 0;
    for (size_t i = 0; i != num_old; ++i)
        for (struct entry *entry = old[i], *next; entry != NULL; entry = next) {
            next = entry->next;
            link_entry(dns, entry);
        }
    free(old);
}

static void on_again(struct gw_timer *);

static struct entry *add(struct gw_dns *dns, const char *name, enum gw_dns_type type)
{
    struct entry *entry = h2o_mem_alloc(sizeof(*entry));

    memset(entry, 0, sizeof(*entry));
    entry->dns = dns;
    entry->record = (struct gw_dns_record){.name = h2o_strdup(NULL, name, SIZE_MAX).base, .type = type};
    h2o_linklist_init_anchor(&entry->watches);
    gw_timer_init(&entry->again, on_again);
    grow(dns);
    link_entry(dns, entry);
    return entry;
}

static void close_question(struct entry *entry)
{
    struct question *question = &entry->question;
    if (h2o_linklist_is_linked(&question->link))
        h2o_linklist_unlink(&question->link);
    gw_dns_answer_dispose(&question->empty);
    question->has_empty = question->is_open = false;
    if (entry->asked != NULL) {
        entry->asked->entry = NULL;
        --entry->dns->num_running;
    }
    entry->asked = NULL;
}

static void drop(struct entry *entry)
{
    unlink_entry(entry->dns, entry);
    close_question(entry);
    gw_timer_disarm(&entry->again);
    gw_dns_answer_dispose(&entry->record.answer);
    free((char *)entry->record.name);
    free(entry);
}

/* ---- asking ---- */

static void open_question(struct entry *entry)
{
    if (entry->question.is_open)
        return;
    entry->question = (struct question){.is_open = true};
    h2o_linklist_insert(&entry->dns->waiting, &entry->question.link);
}

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
    return value < min ? min : value > max ? max : value;
}

/* ms and up to `spread` more. */
static uint64_t with_jitter(uint64_t ms, uint64_t spread_ms)
{
    uint32_t random = 0;
    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
        random = 0;
    return ms + spread_ms * random / UINT32_MAX;
}

/* As soon as the most impatient of those who want to know it. */
static uint64_t ttl_of(const struct entry *entry)
{
    const struct gw_dns_answer *answer = &entry->record.answer;
    uint64_t ttl_ms = UINT64_MAX, said_ms = (uint64_t)answer->ttl_s * 1000;

    if (answer->outcome != GW_DNS_VALUES && answer->ttl_s == UINT32_MAX)
        said_ms = NEGATIVE_TTL_MS;
    for (h2o_linklist_t *n = entry->watches.next; n != &entry->watches; n = n->next) {
        const struct gw_dns_watch *watch = H2O_STRUCT_FROM_MEMBER(struct gw_dns_watch, link, n);
        uint64_t max_ms = watch->max_ttl_ms;
        if (answer->outcome != GW_DNS_VALUES && max_ms > entry->dns->max_retry_ms)
            max_ms = entry->dns->max_retry_ms; /* what is not there may come any time */
        uint64_t wanted_ms = clamp(said_ms, watch->min_ttl_ms, max_ms < watch->min_ttl_ms ? watch->min_ttl_ms : max_ms);
        ttl_ms = wanted_ms < ttl_ms ? wanted_ms : ttl_ms;
    }
    return ttl_ms != UINT64_MAX ? ttl_ms : clamp(said_ms, 1000, 60000); /* nobody: how long it is kept */
}

static void ask_again_at(struct entry *entry, uint64_t due_ms)
{
    entry->record.due_ms = due_ms;
    gw_timer_arm(entry->dns->wheel, &entry->again, due_ms);
}

static void on_again(struct gw_timer *timer)
{
    struct entry *entry = H2O_STRUCT_FROM_MEMBER(struct entry, again, timer);
    if (entry->record.num_watches == 0)
        drop(entry);
    else
        open_question(entry);
}

static void tell(struct entry *entry)
{
    for (h2o_linklist_t *n = entry->watches.next; n != &entry->watches; n = n->next) {
        struct gw_dns_watch *watch = H2O_STRUCT_FROM_MEMBER(struct gw_dns_watch, link, n);
        if (!h2o_linklist_is_linked(&watch->told))
            h2o_linklist_insert(&entry->dns->told, &watch->told);
    }
}

static void end_with_failure(struct entry *entry, enum gw_dns_outcome outcome)
{
    struct gw_dns *dns = entry->dns;
    unsigned doublings = entry->record.failures < 20 ? (unsigned)entry->record.failures : 20;
    uint64_t pause_ms = dns->retry_ms << doublings;

    if (pause_ms > dns->max_retry_ms)
        pause_ms = dns->max_retry_ms;
    ++entry->record.failures;
    entry->record.last = outcome;
    entry->record.has_ended = true;
    close_question(entry);
    ask_again_at(entry, dns->now_ms + with_jitter(pause_ms - pause_ms / 4, pause_ms / 4));
    tell(entry);
}

/* Takes the answer. */
static void end_with_answer(struct entry *entry, struct gw_dns_answer answer)
{
    struct gw_dns_record *record = &entry->record;

    entry->question.has_empty = false; /* it may be the answer */
    entry->question.empty = (struct gw_dns_answer){.outcome = GW_DNS_VALUES};
    close_question(entry);
    gw_dns_answer_dispose(&record->answer);
    record->answer = answer;
    record->answered_ms = entry->dns->now_ms;
    record->failures = 0;
    record->last = answer.outcome;
    record->has_ended = true;
    uint64_t ttl_ms = ttl_of(entry); /* names that were first asked for together do not stay together */
    ask_again_at(entry, entry->dns->now_ms + with_jitter(ttl_ms, ttl_ms / 16));
    tell(entry);
}

/* An empty answer is the name's only when no search domain has it. The answer is the question's from here on. */
static void try_next_name(struct entry *entry, struct gw_dns_answer answer)
{
    struct question *question = &entry->question;
    char full[GW_DNS_MAX_NAME + 1];

    if (question->has_empty && question->empty.outcome == GW_DNS_EMPTY)
        answer.outcome = GW_DNS_EMPTY;
    if (question->has_empty && question->empty.ttl_s < answer.ttl_s)
        answer.ttl_s = question->empty.ttl_s;
    question->empty = answer;
    question->has_empty = true;
    question->attempt = 0;
    if (!gw_dns_servers_full_name(&entry->dns->servers, entry->record.name, ++question->candidate, full)) {
        end_with_answer(entry, answer);
        return;
    }
    h2o_linklist_insert(&entry->dns->waiting, &question->link);
}

/* The answer of one server to one full name. NULL: the server was taken away. */
static void on_answer(void *data, struct gw_dns_answer *answer)
{
    struct asked *asked = data;
    struct entry *entry = asked->entry;

    free(asked);
    if (entry == NULL) {
        if (answer != NULL)
            gw_dns_answer_dispose(answer);
        return;
    }
    struct gw_dns *dns = entry->dns;
    struct question *question = &entry->question;
    entry->asked = NULL;
    --dns->num_running;
    if (answer == NULL) {
        question->attempt = 0;
        h2o_linklist_insert(&dns->waiting, &question->link);
        return;
    }
    ++dns->totals.outcomes[answer->outcome];
    snprintf(entry->record.server, sizeof(entry->record.server), "%s", dns->servers.names[question->server]);
    if (gw_dns_is_failure(answer->outcome)) {
        if (++question->attempt < dns->servers.size * dns->attempts)
            h2o_linklist_insert(&dns->waiting, &question->link);
        else
            end_with_failure(entry, answer->outcome);
        return;
    }
    dns->servers.preferred = question->server;
    if (answer->outcome == GW_DNS_VALUES)
        end_with_answer(entry, *answer);
    else
        try_next_name(entry, *answer);
}

static void ask(struct entry *entry)
{
    struct gw_dns *dns = entry->dns;
    struct question *question = &entry->question;
    char full[GW_DNS_MAX_NAME + 1];

    if (dns->servers.size == 0 ||
        !gw_dns_servers_full_name(&dns->servers, entry->record.name, question->candidate, full)) {
        if (dns->servers.size == 0)
            end_with_failure(entry, GW_DNS_UNREACHABLE);
        else
            end_with_answer(entry, question->empty); /* the search list became shorter */
        return;
    }
    if (question->attempt == 0)
        question->server = dns->servers.preferred;
    else
        question->server = (question->server + 1) % (unsigned)dns->servers.size;
    entry->asked = h2o_mem_alloc(sizeof(*entry->asked));
    entry->asked->entry = entry;
    ++dns->num_running;
    ++dns->totals.queries;
    gw_dns_server_ask(dns->servers.entries[question->server], full, entry->record.type, on_answer, entry->asked);
}

/* ---- the outside ---- */

struct gw_dns *gw_dns_create(uint64_t now_ms)
{
    struct gw_dns *dns = h2o_mem_alloc(sizeof(*dns));

    memset(dns, 0, sizeof(*dns));
    dns->now_ms = now_ms;
    dns->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    dns->wheel = gw_wheel_create(now_ms);
    gw_dns_servers_init(&dns->servers, dns->epoll_fd);
    dns->attempts = 1;
    dns->num_slots = INITIAL_INDEX_SLOTS;
    dns->slots = h2o_mem_alloc(dns->num_slots * sizeof(dns->slots[0]));
    memset(dns->slots, 0, dns->num_slots * sizeof(dns->slots[0]));
    h2o_linklist_init_anchor(&dns->waiting);
    h2o_linklist_init_anchor(&dns->told);
    return dns;
}

static void forget_watches(struct entry *entry)
{
    while (!h2o_linklist_is_empty(&entry->watches))
        gw_dns_unwatch(H2O_STRUCT_FROM_MEMBER(struct gw_dns_watch, link, entry->watches.next));
}

void gw_dns_destroy(struct gw_dns *dns)
{
    if (dns == NULL)
        return;
    for (size_t i = 0; i != dns->num_slots; ++i)
        while (dns->slots[i] != NULL) {
            forget_watches(dns->slots[i]);
            drop(dns->slots[i]);
        }
    gw_dns_servers_dispose(&dns->servers);
    gw_wheel_destroy(dns->wheel);
    if (dns->epoll_fd >= 0)
        close(dns->epoll_fd);
    free(dns->slots);
    free(dns);
}

void gw_dns_configure(struct gw_dns *dns, const struct gw_resolver_conf *conf)
{
    dns->attempts = conf->attempts;
    dns->retry_ms = conf->retry_ms;
    dns->max_retry_ms = conf->max_retry_ms;
    gw_dns_servers_configure(&dns->servers, conf, dns->now_ms);
}

void gw_dns_set_system_file(struct gw_dns *dns, const char *path) { dns->servers.system_path = path; }

const char *gw_dns_server_name(const struct gw_dns *dns, size_t i)
{
    return i < dns->servers.size ? dns->servers.names[i] : NULL;
}

int gw_dns_fd(const struct gw_dns *dns) { return dns->epoll_fd; }

int32_t gw_dns_wait(const struct gw_dns *dns, uint64_t now_ms, int32_t max_wait_ms)
{
    if ((dns->waiting.next != &dns->waiting && dns->num_running < MAX_RUNNING) || dns->told.next != &dns->told)
        return 0;
    max_wait_ms = gw_wheel_wait(dns->wheel, now_ms, max_wait_ms);
    for (size_t i = 0; i != dns->servers.size && dns->num_running != 0; ++i)
        max_wait_ms = gw_dns_server_wait(dns->servers.entries[i], max_wait_ms);
    return max_wait_ms;
}

static void read_sockets(struct gw_dns *dns)
{
    struct epoll_event events[32];
    int n = epoll_wait(dns->epoll_fd, events, sizeof(events) / sizeof(events[0]), 0);

    for (int i = 0; i < n; ++i)
        gw_dns_server_on_event(dns->servers.entries[gw_dns_server_of(events[i].data.u64)], events[i].data.u64,
                               events[i].events);
    for (size_t i = 0; i != dns->servers.size && dns->num_running != 0; ++i)
        gw_dns_server_on_time(dns->servers.entries[i]);
}

/* A question that cannot even be sent ends at once; it has only so many attempts, so this ends too. */
static void ask_waiting(struct gw_dns *dns)
{
    if (!h2o_linklist_is_empty(&dns->waiting))
        gw_dns_servers_look_at_system(&dns->servers, dns->now_ms);
    while (!h2o_linklist_is_empty(&dns->waiting) && dns->num_running < MAX_RUNNING) {
        struct entry *entry = H2O_STRUCT_FROM_MEMBER(struct entry, question.link, dns->waiting.next);
        h2o_linklist_unlink(&entry->question.link);
        ask(entry);
    }
}

void gw_dns_run(struct gw_dns *dns, uint64_t now_ms)
{
    dns->now_ms = now_ms;
    read_sockets(dns);
    gw_wheel_run(dns->wheel, now_ms);
    ask_waiting(dns);
    while (!h2o_linklist_is_empty(&dns->told)) {
        struct gw_dns_watch *watch = H2O_STRUCT_FROM_MEMBER(struct gw_dns_watch, told, dns->told.next);
        h2o_linklist_unlink(&watch->told);
        watch->on_answer(watch);
    }
}

void gw_dns_watch(struct gw_dns *dns, struct gw_dns_watch *watch, const char *name, enum gw_dns_type type,
                  uint64_t now_ms)
{
    struct entry *entry = find(dns, name, type);

    if (entry == NULL)
        entry = add(dns, name, type);
    dns->now_ms = now_ms;
    watch->record = &entry->record;
    watch->link = watch->told = (h2o_linklist_t){NULL, NULL};
    h2o_linklist_insert(&entry->watches, &watch->link);
    ++entry->record.num_watches;
    if (!entry->record.has_ended)
        open_question(entry);
    else
        gw_dns_rewatch(dns, watch, now_ms);
}

/* This one may want to know sooner than those before, or later than when nobody did. */
void gw_dns_rewatch(struct gw_dns *dns, struct gw_dns_watch *watch, uint64_t now_ms)
{
    struct entry *entry = H2O_STRUCT_FROM_MEMBER(struct entry, record, watch->record);

    dns->now_ms = now_ms;
    if (!entry->record.has_ended || entry->question.is_open || entry->record.failures != 0)
        return;
    uint64_t due_ms = entry->record.answered_ms + ttl_of(entry);
    ask_again_at(entry, due_ms > now_ms ? due_ms : now_ms);
}

void gw_dns_unwatch(struct gw_dns_watch *watch)
{
    if (watch->record == NULL)
        return;
    --watch->record->num_watches;
    watch->record = NULL;
    h2o_linklist_unlink(&watch->link);
    if (h2o_linklist_is_linked(&watch->told))
        h2o_linklist_unlink(&watch->told);
}

void gw_dns_visit(const struct gw_dns *dns, void (*visit)(void *, const struct gw_dns_record *), void *data)
{
    for (size_t i = 0; i != dns->num_slots; ++i)
        for (const struct entry *entry = dns->slots[i]; entry != NULL; entry = entry->next)
            if (entry->record.num_watches != 0)
                visit(data, &entry->record);
}

bool gw_dns_is_idle(const struct gw_dns *dns)
{
    return dns->waiting.next == &dns->waiting && dns->told.next == &dns->told && dns->num_running == 0;
}

uint64_t gw_dns_now(const struct gw_dns *dns) { return dns->now_ms; }

struct gw_wheel *gw_dns_wheel(struct gw_dns *dns) { return dns->wheel; }

const struct gw_dns_totals *gw_dns_totals(const struct gw_dns *dns) { return &dns->totals; }

bool gw_dns_knows(const struct gw_dns *dns, const char *name, enum gw_dns_type type)
{
    const struct entry *entry = find(dns, name, type);
    return entry != NULL && entry->record.has_ended;
}

/* Takes the answer, unless there is a newer one. */
static void adopt_entry(struct gw_dns *dns, struct entry *from)
{
    struct entry *entry = find(dns, from->record.name, from->record.type);

    if (entry != NULL && entry->record.answered_ms >= from->record.answered_ms)
        return;
    if (entry == NULL)
        entry = add(dns, from->record.name, from->record.type);
    const char *name = entry->record.name;
    size_t num_watches = entry->record.num_watches;
    close_question(entry);
    gw_dns_answer_dispose(&entry->record.answer);
    entry->record = from->record;
    entry->record.name = name;
    entry->record.num_watches = num_watches;
    from->record.answer = (struct gw_dns_answer){.outcome = GW_DNS_VALUES};
    ask_again_at(entry, from->record.due_ms);
    tell(entry);
}

struct gw_dns *gw_dns_clone(const struct gw_dns *dns, uint64_t now_ms)
{
    struct gw_dns *clone = gw_dns_create(now_ms);

    clone->servers.system_path = dns->servers.system_path;
    for (size_t i = 0; i != dns->num_slots; ++i)
        for (const struct entry *from = dns->slots[i]; from != NULL; from = from->next) {
            if (!from->record.has_ended)
                continue;
            struct entry *entry = add(clone, from->record.name, from->record.type);
            const char *name = entry->record.name;
            entry->record = from->record;
            entry->record.name = name;
            entry->record.num_watches = 0;
            entry->record.answer.values = h2o_mem_alloc((from->record.answer.size + 1) * sizeof(struct gw_dns_value));
            memcpy(entry->record.answer.values, from->record.answer.values,
                   from->record.answer.size * sizeof(struct gw_dns_value));
            /* not dropped before somebody could want it, however long ago it was found out */
            ask_again_at(entry, from->record.due_ms > now_ms + KEPT_MS ? from->record.due_ms : now_ms + KEPT_MS);
        }
    return clone;
}

void gw_dns_adopt(struct gw_dns *dns, struct gw_dns *from, uint64_t now_ms)
{
    dns->now_ms = now_ms;
    for (size_t i = 0; i != from->num_slots; ++i)
        for (struct entry *entry = from->slots[i]; entry != NULL; entry = entry->next)
            if (entry->record.has_ended)
                adopt_entry(dns, entry);
    if (from->servers.preferred < dns->servers.size)
        dns->servers.preferred = from->servers.preferred;
    dns->totals.queries += from->totals.queries;
    for (size_t i = 0; i != GW_DNS_OUTCOMES; ++i)
        dns->totals.outcomes[i] += from->totals.outcomes[i];
}
