/* Header fields around a content coding: what they say about a response, and what must change with its bytes. */
#pragma once
#include <stdbool.h>
#include <h2o.h>
#include "gateway/compression/accept_encoding.h"
#include "gateway/http/trailers.h"

struct gw_compression_fields {
    h2o_iovec_t type;     /* media type without parameters; len 0: none */
    bool is_encoded;      /* Content-Encoding or Content-Range */
    bool is_no_transform; /* Cache-Control */
};
void gw_compression_fields_read(const h2o_headers_t *, struct gw_compression_fields *);
/* Cache-Control: no-transform (RFC 9111 5.2.1.6, 5.2.2.6) */
bool gw_compression_has_no_transform(const h2o_header_t *, size_t num);

/* Vary: Accept-Encoding, unless it is there. */
void gw_compression_add_vary(h2o_mem_pool_t *, h2o_headers_t *);
/* The content becomes another one (RFC 9110 8.4, 8.8.3.3): Content-Encoding is added, a strong ETag made weak, one that
 * is none removed; Accept-Ranges, Content-Length and the digests of the old bytes go. */
void gw_compression_change_fields(h2o_mem_pool_t *, h2o_headers_t *, enum gw_coding);
/* The same for trailers; whatever ETag they have goes, too. */
void gw_compression_change_trailers(struct gw_trailers *);
/* A 304 says what the 200 would: its ETag is the weak one if that is what the client knows (If-None-Match). */
void gw_compression_change_304(h2o_mem_pool_t *, h2o_headers_t *, const h2o_header_t *request, size_t num_request);
