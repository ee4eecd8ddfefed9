/* Field values that are lists (RFC 9110 5.6.1), with parameters and weights. Pure functions on text they do not own. */
#pragma once
#include <h2o.h>

h2o_iovec_t gw_trim(h2o_iovec_t); /* without spaces and tabs at both ends */
/* Cuts off and returns what stands before the separator, trimmed; all when there is none. Knows no quoted strings. */
h2o_iovec_t gw_list_cut(h2o_iovec_t *rest, char separator);
/* The next member of a comma-separated list whose quoted strings may hold commas. */
h2o_iovec_t gw_list_next(h2o_iovec_t *rest);
/* The weight among an element's parameters (RFC 9110 12.4.2), in thousandths: 1000 without one, if_malformed for what
 * is no weight. Other parameters say nothing; of several weights the last counts. */
unsigned gw_list_weight(h2o_iovec_t parameters, unsigned if_malformed);
