/* Trailer fields (RFC 9110 6.5): which may be passed on, and how they stand in chunked bodies. Pure functions. */
#pragma once
#include <stdbool.h>
#include <h2o.h>

/* Fields in order; whose memory they are is said where they are. */
struct gw_trailers {
    h2o_header_t *entries;
    size_t size;
};

/* Not one that frames, routes, authenticates, controls or describes a message, which a recipient that has acted upon
 * the head would get too late or not notice (RFC 9110 6.5.1). name in any case; an underscore is taken for a hyphen, as
 * some recipients do. */
bool gw_trailer_is_allowed(h2o_iovec_t name);

/* Lines of a section that gw_chunked_trailers gave: at least as many as it has fields. */
size_t gw_trailers_count(h2o_iovec_t section);
/* Cuts it into fields, those left out that may not be passed on or that a Connection field of the message's head names
 * (gw_head_nominates). Names are lower-cased in place; fields and names have room for gw_trailers_count. */
size_t gw_trailers_cut(h2o_iovec_t section, const char *head, h2o_header_t *fields, h2o_iovec_t *names);

/* The value of a Trailer field without the names that may not be passed on; base NULL when none is left. */
h2o_iovec_t gw_trailers_announce(h2o_mem_pool_t *, h2o_iovec_t value);
/* The value of a Trailer field for trailers that are known already. */
h2o_iovec_t gw_trailers_names(h2o_mem_pool_t *, const struct gw_trailers *);

/* The last chunk with the section behind it (RFC 9112 7.1): an upper bound of its size, then the writing of it; returns
 * the size. */
size_t gw_trailers_bound(const struct gw_trailers *);
size_t gw_trailers_write(char *dst, const struct gw_trailers *);
