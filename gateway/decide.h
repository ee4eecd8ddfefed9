/* One request decided as live traffic would be, without a network behind it: the real head parser, the real pipeline.
 * What `weir explain`, `test`, `diff` and `replay` ask. One thread at a time for a snapshot: its balancers move. */
#pragma once
#include "gateway/request.h"

/* A request as somebody describes it. All borrowed; must outlive the decision. */
struct gw_question {
    h2o_iovec_t method;
    h2o_iovec_t authority; /* becomes Host; base NULL: HTTP/1.0 without Host */
    h2o_iovec_t host;      /* the authority without its port: the server name of TLS */
    h2o_iovec_t target;    /* path and query; "" and "?..." stand for "/" and "/?..." */
    bool is_tls;
    uint16_t port;            /* of the authority, else of the scheme */
    const h2o_iovec_t *lines; /* header lines "Name: value" without line end; a Host among them replaces authority */
    size_t num_lines;
    struct gw_ip peer;
    uint32_t random; /* draws between weighted target groups: uniform in [0, 2^32) */
    const struct gw_snapshot_listener *listener;
    bool with_certificate; /* choose it, even without a trace */
    bool skips_files;      /* what is on the disk is not looked at (struct gw_dry_run) */
};

/* Fills authority, host, target, is_tls and port. false: no http or https URL. */
bool gw_question_set_url(struct gw_question *, const char *url);

/* The listener that gets a question whose URL is set: by name if asked (base NULL: not), else by port and scheme; else
 * by scheme alone, as behind a port forwarding. NULL if there is none. why receives a literal. */
const struct gw_snapshot_listener *gw_decide_listener(const struct gw_snapshot *, const struct gw_question *,
                                                      h2o_iovec_t name, const char **why);

/* Points into itself: not to be copied. */
struct gw_decision {
    struct gw_request request; /* facts, route, target group, reason, status */
    struct gw_dry_run dry;     /* what would be sent */
    const struct tls_certificate *certificate;
    enum gw_head_result head_result; /* not GW_HEAD_OK: refused, there are no facts */
};
/* trace NULL: none. listener_why: how the listener was chosen, for the trace. Everything lives in the pool. */
void gw_decide(h2o_mem_pool_t *, struct gw_snapshot *, const struct gw_question *, const char *listener_why,
               struct gw_trace *, struct gw_decision *);

/* Names of the outcome; "-" where there is none: no route; the target's own answer. */
h2o_iovec_t gw_decision_route(const struct gw_decision *);
h2o_iovec_t gw_decision_group(const struct gw_decision *);
/* The request went to this group, or another draw by weight would have sent it there. */
bool gw_decision_may_use_group(const struct gw_decision *, h2o_iovec_t name);

/* A configuration to ask, without a process. Prints its errors to standard error and returns NULL if there are any. */
struct gw_snapshot *gw_decide_load(const char *path);
/* Flushes standard output; the exit status, or failure if it could not be written: a full disk is no success. */
int gw_decide_finish(int status, int failure);
