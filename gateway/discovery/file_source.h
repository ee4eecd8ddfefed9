/* Lists of targets in YAML or JSON: what the files of `{file: ...}` hold, and bodies of the admin API. */
#pragma once
#include "gateway/base/error.h"
#include "gateway/discovery/source.h"

/* `[...]` or `{targets: [...]}`, each an address or a map as in `targets`. name stands in positions. defaults: weight
 * and zone of entries that say none. What it makes is in the pool. False: there are errors. */
bool gw_targets_read(h2o_mem_pool_t *, const char *name, h2o_iovec_t text, const struct gw_member *defaults,
                     struct gw_member **, size_t *size, struct gw_errors *);
