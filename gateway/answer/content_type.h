/* The media type of a file by its name. The table is the same for every route and every load: built by the first call,
 * read-only from then on. Any thread. */
#pragma once
#include <h2o/memory.h>

/* By the extension of the last segment, whatever its case; "application/octet-stream" when there is none that is known.
 * Static. */
h2o_iovec_t gw_media_type_of(h2o_iovec_t file_name);
/* What Content-Type says of it: texts are UTF-8. From the pool (NULL: the caller frees it). */
h2o_iovec_t gw_content_type_of(h2o_mem_pool_t *, h2o_iovec_t media_type);
