/* The field section of a head, request or response: what head.c needs to know of it. Internal to this folder. */
#pragma once
#include "gateway/http/head.h"

enum { GW_MAX_NOMINATIONS = 32 };
struct gw_fields {
    /* given */
    bool is_request;
    int minor_version;
    h2o_header_t *fields;
    h2o_iovec_t *names;
    /* found; zero to begin with */
    size_t num_fields, num_names;
    uint32_t initials; /* of the fields: bit (c & 31) for a name that begins with c */
    bool has_host, has_content_length, is_chunked, is_close, is_keep_alive, is_upgrade_listed;
    bool expects_continue, accepts_trailers, is_suspicious; /* gw_desync_is_suspicious */
    h2o_iovec_t host, upgrade, trailer;
    uint64_t content_length;
    size_t num_nominations;
    h2o_iovec_t *nominations; /* connection options that name further fields: room for GW_MAX_NOMINATIONS */
};
/* bytes .. end begins behind the first line. On OK *next is behind the empty line; names are in lower case. */
enum gw_head_result gw_fields_parse(struct gw_fields *, char *bytes, char *end, size_t max_fields, char **next);
