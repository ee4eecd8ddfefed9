/* A hash from names to numbers, for what must not be quadratic in the size of a configuration: duplicate keys, entries
 * by name, anchors. Names are borrowed. One thread; read-only lookups from any. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <h2o/memory.h>

struct gw_names {
    struct gw_name_slot {
        h2o_iovec_t name; /* base NULL: free */
        size_t value;
    } * slots;
    size_t size, capacity;
    h2o_mem_pool_t *pool;
};

/* pool NULL: memory is freed by dispose; else it lives as long as the pool. */
void gw_names_init(struct gw_names *, h2o_mem_pool_t *pool);
void gw_names_dispose(struct gw_names *);
/* The value of a name, which is added (value 0) when it is new; valid until the next put. */
size_t *gw_names_put(struct gw_names *, h2o_iovec_t name, bool *is_new);
/* NULL when absent. */
const size_t *gw_names_get(const struct gw_names *, h2o_iovec_t name);
