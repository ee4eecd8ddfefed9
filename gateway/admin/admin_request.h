/* A request to the admin API, shared by the files that answer it. Lives in its request's pool; control thread. */
#pragma once
#include "gateway/admin/admin.h"
#include "gateway/base/json.h"

enum { GW_ADMIN_MAX_PARTS = 8, GW_ADMIN_MAX_BODY = 64 * 1024 };

struct gw_admin_request {
    struct gw_request request; /* for gw_answer */
    struct gw_admin *admin;
    struct gw_process *process;
    h2o_iovec_t path, query;              /* without '?'; query base NULL: none */
    h2o_iovec_t part[GW_ADMIN_MAX_PARTS]; /* of the path, decoded: {group} and {target} in order */
    h2o_iovec_t body;                     /* POST: the whole one */
    size_t body_capacity;
    struct gw_timer timer; /* free for the handler; disarmed when the request is over */
    uint64_t give_up_ms;
    bool is_answered;
    void (*run)(struct gw_admin_request *);
    void (*on_over)(struct gw_admin_request *); /* NULL, or what the handler has to clean up */
    void *data;                                 /* the handler's */
};

/* Exactly one of these per request; bodies are copied. */
void gw_admin_answer(struct gw_admin_request *, int status, const char *type, h2o_iovec_t body);
void gw_admin_answer_static(struct gw_admin_request *, int status, const char *type, h2o_iovec_t body);
void gw_admin_answer_json(struct gw_admin_request *, int status, struct gw_json *); /* disposes of it */
/* {"status": 404, "message": "..."} */
void gw_admin_problem(struct gw_admin_request *, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* What every answer says. */
void gw_admin_add_standard_headers(struct gw_admin_request *);
void gw_admin_add_header(struct gw_admin_request *, const char *name, const char *value);

/* The first parameter of that name in the query, decoded, NUL-terminated; base NULL if there is none. */
h2o_iovec_t gw_admin_parameter(struct gw_admin_request *, const char *name);
/* A number parameter, or otherwise what is given; false: it is no number up to max, and that has been answered. */
bool gw_admin_number(struct gw_admin_request *, const char *name, uint64_t otherwise, uint64_t max, uint64_t *value);
/* %XX decoded, NUL-terminated; base NULL where it is malformed or holds a NUL. is_query: '+' is a blank. */
h2o_iovec_t gw_admin_decode(h2o_mem_pool_t *, h2o_iovec_t, bool is_query);

/* gateway/admin/admin_access.c: may this request be answered? If not, it has been refused. token base NULL: none is
 * asked for. */
bool gw_admin_may_enter(struct gw_admin_request *, h2o_iovec_t token);

/* Adds to the number of tails and returns it. */
int gw_admin_count_tails(struct gw_admin *, int n);

/* gateway/admin/admin_api.c: finds the handler and runs it, at once or when the body is there. */
void gw_admin_dispatch(struct gw_admin_request *);

/* Handlers that have a file of their own. */
void gw_admin_tail(struct gw_admin_request *);    /* admin_tail.c */
void gw_admin_explain(struct gw_admin_request *); /* admin_explain.c */
void gw_admin_targets(struct gw_admin_request *); /* admin_targets.c */
void gw_admin_target_group(struct gw_admin_request *);
void gw_admin_target_action(struct gw_admin_request *);
void gw_admin_members_change(struct gw_admin_request *); /* admin_members.c */
void gw_admin_members_remove(struct gw_admin_request *);
void gw_admin_dashboard(struct gw_admin_request *); /* dashboard.c */
void gw_admin_dashboard_file(struct gw_admin_request *);
