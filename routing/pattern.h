/* One host or path pattern of a condition, compiled: what it takes, whether it covers another, and the literal ends by
 * which an index finds it. Inside routing/ only. Read-only once made; memory belongs to the table's pool. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <h2o/memory.h>
#include "gateway/base/regex.h"

enum routing_pattern_kind {
    ROUTING_PATTERN_ANY,
    ROUTING_PATTERN_EXACT,
    ROUTING_PATTERN_PREFIX, /* by whole segments */
    ROUTING_PATTERN_GLOB,
    ROUTING_PATTERN_REGEX,
};
struct routing_pattern {
    enum routing_pattern_kind kind;
    uint32_t prefix_len, suffix_len; /* literal ends that every text it takes has */
    const char *prefix, *suffix;
    h2o_iovec_t text;       /* EXACT: unescaped; else as written (hosts in lower case) */
    h2o_iovec_t shown;      /* as written */
    bool is_host;           /* REGEX: of hosts, so that case does not matter and no "/" comes first */
    struct gw_regex *regex; /* owned; REGEX only, NULL if it does not compile */
};

/* ANY: every text. is_path: texts start with '/', which tells what `*` can stand for. */
void routing_pattern_init_any(struct routing_pattern *, bool is_path);
void routing_pattern_init_glob(struct routing_pattern *, h2o_mem_pool_t *, h2o_iovec_t glob, bool is_host);
void routing_pattern_init_literal(struct routing_pattern *, h2o_iovec_t text, bool is_prefix);
/* false: the expression does not compile; why receives a sentence. */
bool routing_pattern_init_regex(struct routing_pattern *, h2o_mem_pool_t *, h2o_iovec_t regex, bool is_host, char *why,
                                size_t why_len);
void routing_pattern_dispose(struct routing_pattern *);

bool routing_pattern_takes(const struct routing_pattern *, h2o_iovec_t text);
/* A text that has the literal ends of the pattern is certainly taken. */
bool routing_pattern_is_prefix_only(const struct routing_pattern *);
bool routing_pattern_is_suffix_only(const struct routing_pattern *);
/* true: whatever b takes a takes too. false: not so, or not seen to be so. */
bool routing_pattern_covers(const struct routing_pattern *a, const struct routing_pattern *b);
/* The same for two globs. */
bool routing_glob_covers(h2o_iovec_t a, h2o_iovec_t b, bool ignore_case);
