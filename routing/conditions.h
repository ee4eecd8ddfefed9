/* The conditions of a route besides host and path: listener, method, header, query, source IP. They are checked one by
 * one on the few routes that host and path leave. Inside routing/ only; read-only once made. */
#pragma once
#include "gateway/base/trace.h"
#include "routing/config.h"
#include "routing/facts.h"

struct routing_conditions; /* memory from the pool, but for regular expressions */

/* *made is NULL when the route has none of these. Returns false after recording errors (unknown listeners). */
bool routing_conditions_create(h2o_mem_pool_t *, const struct routing_match_conf *, const h2o_iovec_t *listeners,
                               size_t num_listeners, struct gw_errors *, struct routing_conditions **made);
void routing_conditions_dispose(struct routing_conditions *); /* NULL is fine */
bool routing_conditions_hold(const struct routing_conditions *, const struct routing_facts *);
/* true: whenever b holds a holds too. Either may be NULL, which always holds. */
bool routing_conditions_cover(const struct routing_conditions *a, const struct routing_conditions *b);
/* Writes why the conditions do not hold: a clause like `method "GET" is not "POST"`; *at receives the setting. */
void routing_conditions_explain(const struct routing_conditions *, const struct routing_facts *, char *why,
                                size_t why_len, const struct gw_node **at);
/* `"a", "b" and 3 more` into buf. */
void routing_list_texts(const struct gw_texts *, char *buf, size_t len);
