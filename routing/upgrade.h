/* The protocols that clients of a route may switch to (RFC 9110 7.8): the setting, and the choice among what a client
 * offers. */
#pragma once
#include "gateway/base/settings.h"

enum { ROUTING_UPGRADE_MAX = 64 }; /* bytes of a protocol's name */

/* One entry of the setting: a protocol, or "off". */
bool routing_upgrade_check_entry(struct gw_loader *, const struct gw_node *at, h2o_iovec_t value);
/* The whole list, in a route. */
bool routing_upgrade_check(struct gw_loader *, const struct gw_texts *);

/* The first protocol that the client offers (the value of its Upgrade field, a list) and the route takes; base NULL:
 * none. Points into offered. */
h2o_iovec_t routing_upgrade_choose(const struct gw_texts *, h2o_iovec_t offered);
