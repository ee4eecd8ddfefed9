/* The process's resolver (dns.h) on the control thread's loop, and the look-ups that a load waits for. */
#pragma once
#include "gateway/base/thread.h"
#include "gateway/config/config.h"
#include "gateway/discovery/dns.h"

struct gw_resolver;
struct gw_resolver *gw_resolver_create(struct gw_thread *control);
void gw_resolver_destroy(struct gw_resolver *); /* NULL is fine */
struct gw_dns *gw_resolver_dns(struct gw_resolver *);
/* Something was asked of the resolver outside of its own callbacks. */
void gw_resolver_wake(struct gw_resolver *);

/* ---- loads ---- */

/* Control thread: what a load starts with. It owns it. */
struct gw_dns *gw_resolver_begin_load(struct gw_resolver *);
/* On the thread of the load: asks for all names of dns: entries that `dns` does not know, and waits up to resolver.wait
 * for the answers, longer for those that are required. False after an error: a required one has no address. */
bool gw_resolver_look_up(struct gw_dns *dns, const struct gw_config *, struct gw_errors *);
/* Control thread: the load is served. Takes what it has found out. */
void gw_resolver_end_load(struct gw_resolver *, const struct gw_config *, struct gw_dns *);
/* What a dns: entry asks for. The name is borrowed. */
struct gw_dns_target_conf;
void gw_resolver_target_conf(const struct routing_target_conf *, struct gw_dns_target_conf *);
