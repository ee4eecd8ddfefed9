/* PCRE2 with JIT and hard match limits. Compiled once by a load, matched by any thread (match data is per thread). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <h2o/memory.h>

struct gw_regex;
enum { GW_REGEX_MAX_GROUPS = 32 };

/* NULL on a bad pattern; why then holds a sentence with the offset. Back-references, look-around, recursion,
 * possessive quantifiers, Unicode properties and callouts are refused (spec/alb.md 2.2), so that the limits are never
 * what stops an honest pattern. */
struct gw_regex *gw_regex_create(h2o_iovec_t pattern, bool ignore_case, char *why, size_t why_len);
void gw_regex_destroy(struct gw_regex *);
/* Unanchored search. groups may be NULL; else receives GW_REGEX_MAX_GROUPS slices into text (unset: base NULL).
 * A match that hits the limits counts as no match. */
bool gw_regex_search(const struct gw_regex *, h2o_iovec_t text, h2o_iovec_t *groups);
/* Number of capture groups. */
unsigned gw_regex_num_groups(const struct gw_regex *);
