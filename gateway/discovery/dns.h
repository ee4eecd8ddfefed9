/* The resolver: who asks DNS servers for what, when again, and what the last good answer was. One question for a name
 * and type, whoever else wants to know; it is asked anew when the answer's TTL has passed, within the bounds of those
 * who want it. What fails is tried at the other servers, then again after a growing pause; the last answer stays.
 *
 * It has no loop of its own: whoever has one calls gw_dns_run when gw_dns_fd is readable or gw_dns_wait has passed. One
 * thread, never blocking; times are CLOCK_MONOTONIC in milliseconds and passed in. */
#pragma once
#include <h2o/linklist.h>
#include "gateway/base/settings.h"
#include "gateway/discovery/dns_message.h"

/* The top-level section `resolver`. */
struct gw_resolver_conf {
    const struct gw_node *at;
    struct gw_texts servers;         /* addresses with or without port; empty: those of the system */
    struct gw_texts search;          /* domains; with servers of the system and nothing written: the system's */
    uint64_t timeout_ms;             /* of one question to one server */
    uint64_t attempts;               /* rounds through the servers */
    uint64_t retry_ms, max_retry_ms; /* pause after a failure, which doubles */
    uint64_t wait_ms;                /* how long a load waits for names that are new */
};
extern const struct gw_section gw_resolver_section;
/* "10.0.0.2", "127.0.0.1:5353", "[::1]:53"; port 53 if there is none. */
bool gw_dns_server_parse(h2o_iovec_t text, struct sockaddr_storage *);

struct gw_dns;
struct gw_dns *gw_dns_create(uint64_t now_ms);
void gw_dns_destroy(struct gw_dns *); /* watches that are left are forgotten; NULL is fine */
/* Copies what it needs. Answers stay; questions under way are asked anew where the servers are others. */
void gw_dns_configure(struct gw_dns *, const struct gw_resolver_conf *);
/* For tests: another file than /etc/resolv.conf. Borrowed. */
void gw_dns_set_system_file(struct gw_dns *, const char *path);

int gw_dns_fd(const struct gw_dns *);
int32_t gw_dns_wait(const struct gw_dns *, uint64_t now_ms, int32_t max_wait_ms);
void gw_dns_run(struct gw_dns *, uint64_t now_ms);
bool gw_dns_is_idle(const struct gw_dns *);     /* nothing is being asked, nobody left to be told */
uint64_t gw_dns_now(const struct gw_dns *);     /* as last passed in */
struct gw_wheel *gw_dns_wheel(struct gw_dns *); /* timers that run in gw_dns_run */

/* Somebody's wish to know. Embedded there; on_answer is called from gw_dns_run after each question has ended, whether
 * the values are others or not. It may watch and unwatch. */
struct gw_dns_record;
struct gw_dns_watch {
    h2o_linklist_t link, told; /* in record->watches, dns->told */
    struct gw_dns_record *record;
    uint64_t min_ttl_ms, max_ttl_ms;
    void (*on_answer)(struct gw_dns_watch *);
};
/* The name is copied; it is valid. With a dot at its end, search domains are not tried. Anything that is known already
 * can be read at once. */
void gw_dns_watch(struct gw_dns *, struct gw_dns_watch *, const char *name, enum gw_dns_type, uint64_t now_ms);
/* After other bounds were set in it. */
void gw_dns_rewatch(struct gw_dns *, struct gw_dns_watch *, uint64_t now_ms);
void gw_dns_unwatch(struct gw_dns_watch *); /* fine when it does not watch (zero-filled) */

struct gw_dns_record {
    const char *name;
    enum gw_dns_type type;
    bool has_ended;              /* a question has, with whatever outcome */
    struct gw_dns_answer answer; /* the last that was no failure; size 0 and outcome VALUES: there was none yet */
    uint64_t answered_ms;        /* when it came; 0: never */
    uint64_t due_ms;             /* when it is asked for again */
    enum gw_dns_outcome last;    /* of the last question that ended */
    uint64_t failures;           /* in a row */
    char server[64];             /* that said so last: "127.0.0.1:53" */
    size_t num_watches;
};
/* All names that somebody wants to know, in no order. */
void gw_dns_visit(const struct gw_dns *, void (*visit)(void *data, const struct gw_dns_record *), void *data);

struct gw_dns_totals {
    uint64_t queries;                   /* sent to a server */
    uint64_t outcomes[GW_DNS_OUTCOMES]; /* of those */
};
const struct gw_dns_totals *gw_dns_totals(const struct gw_dns *);
/* The servers in use: "127.0.0.1:5353". NULL beyond the last. */
const char *gw_dns_server_name(const struct gw_dns *, size_t i);

/* A resolver of its own, for another thread, that knows what this one does. */
struct gw_dns *gw_dns_clone(const struct gw_dns *, uint64_t now_ms);
/* Moves what `from` has found out to a resolver that knows less, and adds up the totals. `from` has no watches. */
void gw_dns_adopt(struct gw_dns *, struct gw_dns *from, uint64_t now_ms);
/* Whether a question for this has ended, with an answer or not. */
bool gw_dns_knows(const struct gw_dns *, const char *name, enum gw_dns_type);
