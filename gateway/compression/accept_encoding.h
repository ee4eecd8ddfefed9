/* Accept-Encoding (RFC 9110 12.5.3): which content coding a client likes best. Pure functions on header fields. */
#pragma once
#include <stdbool.h>
#include <h2o.h>

/* In order of preference among equals, the best last. */
enum gw_coding { GW_CODING_IDENTITY, GW_CODING_GZIP, GW_CODING_BROTLI, GW_CODING_COUNT };
enum { GW_CODING_BIT_GZIP = 1 << GW_CODING_GZIP, GW_CODING_BIT_BROTLI = 1 << GW_CODING_BROTLI };

/* "identity", "gzip", "br" */
h2o_iovec_t gw_coding_name(enum gw_coding);

struct gw_accept_encoding {
    unsigned weights[GW_CODING_COUNT]; /* thousandths; 0: not acceptable */
    bool is_identity_listed;           /* the client has said how it likes identity, by name or as "*" */
};
/* All Accept-Encoding fields as one list. Without the field only identity is acceptable: RFC 9110 would allow any
 * coding then, but those who do not send it are scripts and probes that cannot decode one. A coding whose weight is
 * malformed is not acceptable; of a coding listed twice the first counts. */
void gw_accept_encoding_read(const h2o_header_t *headers, size_t num_headers, struct gw_accept_encoding *);
/* The best of the codings whose bits (1 << enum gw_coding) are set; identity is always there, and also the answer when
 * nothing is acceptable. */
enum gw_coding gw_accept_encoding_choose(const struct gw_accept_encoding *, unsigned available);
