/* What one `dns:` entry stands for: the addresses behind a name, or the servers of a service (SRV) with theirs. Keeps
 * the last good ones whatever fails; lets go of them only when the name has been gone for a while. Of the resolver's
 * thread. */
#pragma once
#include "gateway/base/wheel.h"
#include "gateway/discovery/dns.h"

struct gw_dns_address {
    struct gw_ip ip;
    uint16_t port;
    uint32_t weight;  /* 1 to 999 */
    const char *host; /* the name behind it: the one that was asked for, or the SRV record's; borrowed */
};

struct gw_dns_target_conf {
    const char *name; /* valid; or an IP address */
    uint16_t port;    /* of addresses; SRV brings its own */
    bool wants_a, wants_aaaa, wants_srv;
    uint64_t min_ttl_ms, max_ttl_ms;
    uint64_t grace_ms; /* how long addresses stay when there is no such name any more */
};

struct gw_dns_target;
/* on_news is called from gw_dns_run after each look-up that has to do with it; what is known at once is there before
 * create returns. Texts are copied. */
struct gw_dns_target *gw_dns_target_create(struct gw_dns *, const struct gw_dns_target_conf *, uint64_t now_ms,
                                           void (*on_news)(void *data), void *data);
void gw_dns_target_destroy(struct gw_dns_target *); /* NULL is fine */
/* Other times for the same name, types and port. */
void gw_dns_target_change(struct gw_dns_target *, const struct gw_dns_target_conf *, uint64_t now_ms);

const struct gw_dns_address *gw_dns_target_addresses(const struct gw_dns_target *, size_t *size);
/* Grows by one whenever the addresses are others. */
uint64_t gw_dns_target_version(const struct gw_dns_target *);
/* Every question of it has ended once. */
bool gw_dns_target_has_ended(const struct gw_dns_target *);
/* What is wrong at present, NUL-terminated; false: nothing. */
bool gw_dns_target_error(const struct gw_dns_target *, char *buf, size_t len);
/* The questions it consists of. */
void gw_dns_target_visit(const struct gw_dns_target *, void (*visit)(void *data, const struct gw_dns_record *),
                         void *data);
