/* The other shapes of an access log line: that of an ALB (spec/alb.md 8.1), Apache's "combined", and templates. Like
 * access_line.h from plain values to bytes, pure functions apart from a clock passed in. Anything that could end a line
 * or a quoted text early is written as \xHH. */
#pragma once
#include "gateway/observe/access_line.h"
#include "gateway/base/error.h"

enum gw_access_format { GW_ACCESS_JSON, GW_ACCESS_ALB, GW_ACCESS_COMBINED, GW_ACCESS_TEMPLATE };

enum { GW_ACCESS_NEVER_PRIORITY = -2 };
/* What these formats say beyond the JSON line. Slices with base NULL and times of UINT64_MAX are written as "-"
 * (ALB's times as -1). */
struct gw_access_full {
    struct gw_access_line line;
    uint64_t wall_us;        /* end of the request, since the epoch */
    uint64_t to_target_us;   /* from the request's head until it was sent to the target */
    uint64_t in_target_us;   /* then until the target's response began */
    uint64_t to_client_us;   /* then until the response to the client began */
    uint64_t body_bytes_out; /* of the response behind its head, with its framing */
    h2o_iovec_t authority;   /* host and port as sent */
    h2o_iovec_t local;       /* address the client connected to */
    h2o_iovec_t amzn_trace_id, location, certificate, actions;
    h2o_iovec_t sent_host, sent_url; /* to the target, where a rewrite made them different */
    h2o_iovec_t conn_id;
    uint32_t target_status; /* 0: none */
    uint32_t local_port;
    int64_t priority;        /* of the route; GW_ACCESS_NEVER_PRIORITY: none was found */
    h2o_iovec_t domain_name; /* the server name, if the certificate that was shown is for it */
    bool is_rewritten, is_tls_resumed, is_grpc;
};

/* A compiled template. Part of a configuration, read-only. */
struct gw_access_field;
struct gw_access_template {
    struct gw_access_segment {
        h2o_iovec_t literal;                 /* then */
        const struct gw_access_field *field; /* NULL: nothing */
    } * segments;
    size_t size;
};
/* Borrows the text. Names are those of the JSON line and those in gateway/observe/README.md; false after errors at the
 * node. */
bool gw_access_template_parse(h2o_mem_pool_t *, h2o_iovec_t text, struct gw_access_template *, struct gw_errors *,
                              const struct gw_node *at);

/* No line is longer. template: of GW_ACCESS_TEMPLATE; load_balancer: of GW_ACCESS_ALB, base NULL for
 * the default. */
size_t gw_access_format_bound(enum gw_access_format, const struct gw_access_full *, const struct gw_access_template *,
                              h2o_iovec_t load_balancer);
/* Each writes the line with its line feed and returns its length. */
size_t gw_access_alb_write(char *dst, const struct gw_access_full *, h2o_iovec_t load_balancer,
                           struct gw_access_clock *);
size_t gw_access_combined_write(char *dst, const struct gw_access_full *);
size_t gw_access_template_write(char *dst, const struct gw_access_full *, const struct gw_access_template *,
                                struct gw_access_clock *);
