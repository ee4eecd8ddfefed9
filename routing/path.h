/* The canonical path: what routing, auth, limits and cache all see. Percent-encoded unreserved characters (RFC 3986
 * 2.3) are decoded, other escapes get upper-case hex digits, dot segments are removed (RFC 3986 5.2.4), duplicate
 * slashes and %2F stay. The algorithm is in routing/README.md, which links
 * its table of cases. */
#pragma once
#include <stdbool.h>
#include <h2o/memory.h>

enum routing_path_result {
    ROUTING_PATH_OK,
    ROUTING_PATH_NO_SLASH,   /* does not start with '/' */
    ROUTING_PATH_BAD_ESCAPE, /* '%' without two hex digits */
    ROUTING_PATH_NUL,        /* %00 */
    ROUTING_PATH_BAD_BYTE,   /* a byte outside the grammar: CTL, space, '#', DEL, >= 0x80 are refused */
    ROUTING_PATH_ABOVE_ROOT, /* ".." would leave the root */
};
/* raw: path without query. On the fast path (nothing to change) *canonical is raw itself; otherwise it is allocated
 * from the pool. */
enum routing_path_result routing_path_canonical(h2o_mem_pool_t *, h2o_iovec_t raw, h2o_iovec_t *canonical);
const char *routing_path_problem(enum routing_path_result);
