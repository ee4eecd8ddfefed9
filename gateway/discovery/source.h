/* Where the targets of a group come from while it serves. A *source* is one entry of a group's `targets` that stands
 * for any number of them ({file: ...}), or the admin API. It lives as long as the configuration has it: a reload that
 * keeps the entry keeps the source and what it found; it is known by (group, kind, key). Control thread, but for
 * `check`. */
#pragma once
#include "gateway/base/ip.h"
#include "gateway/base/json.h"
#include "routing/config.h"

struct gw_process;
struct gw_source;

struct gw_member {             /* all borrowed for the call */
    struct gw_address address; /* numeric or unix; its text is what logs and status show: "10.0.0.1:8080" */
    uint32_t weight;           /* 0 to 999 */
    h2o_iovec_t zone;          /* base NULL: none */
    /* What its certificate must be for, and SNI, where tls.server_name is not set; base NULL: address.host. */
    h2o_iovec_t server_name;
};

/* Replaces all that the source has found, in any order; of entries with the same address.text the first counts. Costs
 * O(n), and nothing more when nothing has changed. The next request of every thread sees it a few milliseconds later.
 * Members that are gone are drained (deregistration_delay), those that come back in time are taken back. When a look-up
 * fails, simply do not call: the last good list stays. May be called from inside start(). */
void gw_members_set(struct gw_source *, const struct gw_member *, size_t n);
/* The last attempt failed; NULL: it is fine again. Shown in status, counted. Copied. */
void gw_source_note_failure(struct gw_source *, const char *why);

struct gw_process *gw_source_process(const struct gw_source *); /* ->control has the loop and the timers */
h2o_iovec_t gw_source_group(const struct gw_source *);          /* name */
const char *gw_source_key(const struct gw_source *);            /* what the kind said */

/* What a kind of sources implements; listed in gateway/discovery/discovery.c. */
struct gw_source_kind {
    const char *name; /* shown as the source of a target, label of metrics */
    /* Whether the entry is one of this kind, and then what tells it from others of its group over reloads. */
    bool (*key)(const struct routing_target_conf *, char *buf, size_t len);
    /* A configuration with it is about to be served; conf is borrowed for the call. NULL is allowed. */
    void *(*start)(struct gw_source *, const struct routing_target_conf *);
    void (*change)(void *self, const struct routing_target_conf *); /* a reload kept it, perhaps with other settings */
    void (*stop)(void *self); /* it is in no configuration any more, or the process ends: frees self */
    /* May be NULL. In a load, before anything serves: {required: true} can refuse it. */
    bool (*check)(const struct routing_target_conf *, struct gw_errors *);
    void (*describe)(const void *self, struct gw_json *); /* may be NULL: further fields in /api/v1/status */
};
extern const struct gw_source_kind gw_dns_source_kind, gw_file_source_kind;
