#include "gateway/base/alloc.h"
#include <stdlib.h>
#include <string.h>
#include <h2o.h>

void *gw_alloc_lines(size_t bytes)
{
    size_t rounded = bytes == 0 ? GW_CACHE_LINE : (bytes + GW_CACHE_LINE - 1) / GW_CACHE_LINE * GW_CACHE_LINE;
    void *lines = aligned_alloc(GW_CACHE_LINE, rounded);

    if (lines == NULL)
        h2o_fatal("no memory");
    memset(lines, 0, rounded);
    return lines;
}
