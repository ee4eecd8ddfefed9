/* ALB redirects (spec/alb.md 2.5). Location from the route's redirect and the request; placeholders #{protocol} #{host}
 * #{port} #{path} #{query}. */
#pragma once
#include "routing/config.h"
#include "routing/facts.h"
/* Location value from the pool. The port is left out when it is the scheme's default (unlike the ALB, which writes
 * :443). base NULL when longer than 8 KiB (spec/alb.md 2.5: 507). Bytes that cannot stand in a URL are percent-encoded.
 */
h2o_iovec_t routing_redirect_location(h2o_mem_pool_t *, const struct routing_redirect_conf *,
                                      const struct routing_facts *);
/* For the check of a section: every placeholder known, path starts with '/', loop to itself refused. */
bool routing_redirect_check(struct gw_loader *, struct routing_redirect_conf *);
