/* A logged request put to a configuration again: what `weir replay` and `weir diff --log` have in common. The access
 * log holds no header but User-Agent, Referer and X-Forwarded-For. */
#pragma once
#include "gateway/base/json.h"
#include "gateway/decide.h"
#include "gateway/command/log_reader.h"
#include "gateway/command/tally.h"

/* The question without its listener. Of groups with weights one is drawn by the line's number: always the same. */
void gw_logged_question(h2o_mem_pool_t *, const struct gw_log_entry *, struct gw_question *);

/* What came of it, in words that can be compared. Slices live as long as the pool and the snapshot. */
struct gw_outcome {
    h2o_iovec_t route;        /* "-": none */
    h2o_iovec_t answer;       /* "404 NO_ROUTE", "forwarded", "file"; "no listener": not accepted at all */
    h2o_iovec_t target_group; /* "-": none */
    h2o_iovec_t url;          /* Location, or the URL for the target; base NULL: neither */
    int status;               /* 0: not weir's to say */
    enum gw_reason reason;
};
/* decision NULL: no listener. */
void gw_outcome_init(struct gw_outcome *, h2o_mem_pool_t *, const struct gw_decision *);

/* "404 NO_ROUTE", "forwarded" (no reason), "file". */
h2o_iovec_t gw_answer_text(h2o_mem_pool_t *, int status, enum gw_reason);

/* "GET http://a.example/x?y" */
h2o_iovec_t gw_logged_request(h2o_mem_pool_t *, const struct gw_log_entry *);

/* A route that looks at headers which no log holds: requests may be decided otherwise than they were. */
bool gw_route_is_blind(const struct routing_route_conf *);

/* Kinds of difference that are told apart: a log may name routes without end. */
enum { GW_LOGGED_MAX_KINDS = 2000 };
/* --examples N: how many requests are shown for each kind, 0 to 100. */
enum { GW_LOGGED_EXAMPLES = 3, GW_LOGGED_MAX_EXAMPLES = 100 };
/* False after a message to standard error. */
bool gw_logged_parse_examples(const char *command, const char *text, size_t *n);

/* The parts of a report that both commands have. */
void gw_logged_print_skipped(FILE *, const struct gw_log_counts *);
/* Names the blind routes of a configuration, if there are any. */
void gw_logged_print_blind(FILE *, const char *path, const struct gw_config *);
/* Sorted rows of one aspect ("route"), with examples; nothing if there are none. */
void gw_logged_print_rows(FILE *, const struct gw_tally *, const char *what);
/* "lines", "decided", "skipped" and "blind_routes" of the object that is being written. */
void gw_logged_json_counts(struct gw_json *, const struct gw_log_counts *, const struct gw_config *);
/* The rows as an array. */
void gw_logged_json_rows(struct gw_json *, const struct gw_tally *, const char *what);
/* Says on standard error why reading the log ended: an error of reading, or not one line of an access log. */
bool gw_logged_is_read(const char *command, const char *log, int error, const struct gw_log_counts *);
