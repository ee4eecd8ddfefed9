/* ALB globs: `*` is zero or more of any character (also '/'), `?` exactly one, `\*` `\?` `\\` literal; a backslash
 * before anything else is itself (spec/alb.md 2.2). No pattern makes matching explode: pattern length times text length
 * steps at worst. */
#pragma once
#include <stdbool.h>
#include <h2o/memory.h>

bool gw_glob_match(h2o_iovec_t pattern, h2o_iovec_t text);        /* case-sensitive */
bool gw_glob_match_nocase(h2o_iovec_t pattern, h2o_iovec_t text); /* ASCII case ignored */
/* The literal text before the first wildcard, unescaped into buf (pattern.len bytes); is_literal: there is none. */
h2o_iovec_t gw_glob_prefix(h2o_iovec_t pattern, char *buf, bool *is_literal);
