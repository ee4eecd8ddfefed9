/* Replaces libh2o's recycling allocator in sanitizer builds. It keeps freed pool chunks and socket buffers in lists per
 * thread, where AddressSanitizer can neither see a use after free nor tell a leak from a spare. The library calls these
 * two through its own symbol table, so the executable's definitions take their place. */
#include <stdlib.h>
#include <h2o/memory.h>

void *h2o_mem_alloc_recycle(h2o_mem_recycle_t *allocator, size_t size) { return h2o_mem_alloc(size); }

void h2o_mem_free_recycle(h2o_mem_recycle_t *allocator, void *p) { free(p); }
