/* set / add / remove on a header list: remove first, then set (replaces all of the name), then add. */
#pragma once
#include "routing/config.h"
#include <h2o.h>

/* RFC 9110 5.6.2 token; 5.5 field value without obs-text at the ends (no CTL but tab, no space at either end). */
bool routing_is_token(h2o_iovec_t);
bool routing_is_field_value(h2o_iovec_t);
/* The check of the settings table: errors for names that weir manages itself (Host, Content-Length, hop-by-hop). */
bool routing_header_rules_check(struct gw_loader *, struct routing_header_rules_conf *);

struct routing_header_rules; /* compiled: names lower-cased and interned as libh2o tokens */
/* NULL when the conf has no rule at all (so callers skip with one branch). Hop-by-hop names, Host, Content-Length and
 * pseudo headers are refused by the settings table, names and values must be RFC 9110 tokens / field values. */
struct routing_header_rules *routing_header_rules_create(const struct routing_header_rules_conf *);
void routing_header_rules_destroy(struct routing_header_rules *);
/* Whether one of the rules is about this field. name in any case. */
bool routing_header_rules_name(const struct routing_header_rules *, h2o_iovec_t name);
void routing_header_rules_apply(const struct routing_header_rules *, h2o_mem_pool_t *, h2o_headers_t *);
