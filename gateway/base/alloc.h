/* Memory beside libh2o's: whole lines of the cache, for what threads write without disturbing each other. */
#pragma once
#include <stddef.h>

enum { GW_CACHE_LINE = 64 };

/* All zero, begins with a line of the cache and shares its last one with nothing. Owned by the caller: free(). Out of
 * memory ends the process, as h2o_mem_alloc does. Any thread. */
void *gw_alloc_lines(size_t bytes);
