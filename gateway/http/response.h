/* HTTP/1.x response heads: reason phrases and serialising. Pure functions. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <h2o.h>

/* "Not Found"; "Unknown" for a status without a registered phrase. Never NULL. */
const char *gw_reason_phrase(int status);

struct gw_response_framing {
    int minor_version;       /* of the request: what we may use */
    uint64_t content_length; /* written unless UINT64_MAX */
    bool is_chunked;
    bool must_close;     /* writes connection: close */
    bool say_keep_alive; /* HTTP/1.0 client that asked for it */
    h2o_iovec_t trailer; /* names of the trailers of a chunked response; base NULL = none are announced */
    h2o_iovec_t upgrade; /* of a 101: the protocol, at most GW_HEAD_MAX_UPGRADE bytes; base NULL = none */
    const char *date;    /* 29 bytes; written when the headers have no date; NULL = never */
};
/* An upper bound of the head's size, then the writing of it; returns the size. */
size_t gw_response_head_bound(const h2o_res_t *, const struct gw_response_framing *);
size_t gw_response_head_write(char *dst, const h2o_res_t *, const struct gw_response_framing *);
