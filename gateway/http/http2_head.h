/* The fields of one HTTP/2 header section, as HPACK gives them, become the same gw_request_head that HTTP/1 makes
 * (RFC 9113 8.2, 8.3; RFC 8441 4). All that is refused over HTTP/1 is refused here too, so that nothing can be injected
 * towards an HTTP/1 origin. Bytes are copied into the pool, each once. Plain value; internal to this folder. */
#pragma once
#include <h2o.h>
#include "gateway/http/head.h"

struct gw_http2_fields { /* a growing array in a pool */
    h2o_header_t *entries;
    size_t size, capacity;
};

struct gw_http2_head {
    h2o_mem_pool_t *pool;
    const struct gw_head_limits *limits;
    struct gw_http2_fields fields;
    enum gw_head_result result; /* the first rule that was broken; later fields are only counted */
    bool is_trailer;            /* no pseudo-header fields, and nothing is taken out of it but what frames messages */
    bool saw_field;             /* a regular one: pseudo-header fields may not follow */
    bool expects_continue, accepts_trailers, has_content_length;
    h2o_iovec_t method, scheme, authority, path, protocol, host; /* base NULL: not seen */
    h2o_iovec_t priority;                                        /* also among the fields; base NULL: not seen */
    h2o_iovec_t trailer;                                         /* not among the fields; base NULL: not seen */
    uint64_t content_length;
    size_t bytes;      /* decoded size as in SETTINGS_MAX_HEADER_LIST_SIZE: name, value and 32 each */
    size_t num_lines;  /* all fields, cookie crumbs too */
    uint32_t initials; /* of the fields, as in fields.h */
    H2O_VECTOR(h2o_iovec_t) crumbs;
    size_t cookie_at; /* the field that the first crumb became */
    char *room;       /* where the next bytes are copied to */
    size_t room_left;
};
void gw_http2_head_init(struct gw_http2_head *, h2o_mem_pool_t *, const struct gw_head_limits *, bool is_trailer);
/* is_static: the value's bytes live for ever (HPACK's static table). */
void gw_http2_head_add(struct gw_http2_head *, h2o_iovec_t name, h2o_iovec_t value, bool is_static);
/* Fills the head (not of trailers). Fields of it may be unset (base NULL) when the result is not GW_HEAD_OK. An
 * extended CONNECT becomes the GET with `upgrade` that it would be over HTTP/1. */
enum gw_head_result gw_http2_head_finish(struct gw_http2_head *, struct gw_request_head *);
/* RFC 9113 8.1.1: malformed, a stream error; what else is refused gets an answer. */
bool gw_http2_is_malformed(enum gw_head_result);
