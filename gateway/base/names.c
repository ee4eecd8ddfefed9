#include "gateway/base/names.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/hash.h"

static struct gw_name_slot *find(const struct gw_names *names, h2o_iovec_t name)
{
    uint64_t hash = gw_fnv1a(GW_FNV1A_START, name.base, name.len);
    for (size_t i = hash ^ hash >> 32;; ++i) {
        struct gw_name_slot *slot = names->slots + (i & (names->capacity - 1));
        if (slot->name.base == NULL ||
            (slot->name.len == name.len && memcmp(slot->name.base, name.base, name.len) == 0))
            return slot;
    }
}

void gw_names_init(struct gw_names *names, h2o_mem_pool_t *pool) { *names = (struct gw_names){.pool = pool}; }

void gw_names_dispose(struct gw_names *names)
{
    if (names->pool == NULL)
        free(names->slots);
    *names = (struct gw_names){.pool = names->pool};
}

static void grow(struct gw_names *names)
{
    struct gw_names old = *names;
    names->capacity = old.capacity == 0 ? 16 : old.capacity * 2;
    size_t bytes = names->capacity * sizeof(names->slots[0]);
    names->slots = names->pool != NULL ? h2o_mem_alloc_pool(names->pool, bytes) : h2o_mem_alloc(bytes);
    memset(names->slots, 0, bytes);
    for (size_t i = 0; i != old.capacity; ++i)
        if (old.slots[i].name.base != NULL)
            *find(names, old.slots[i].name) = old.slots[i];
    if (old.pool == NULL)
        free(old.slots);
}

size_t *gw_names_put(struct gw_names *names, h2o_iovec_t name, bool *is_new)
{
    if (names->size * 2 >= names->capacity)
        grow(names);
    struct gw_name_slot *slot = find(names, name);
    *is_new = slot->name.base == NULL;
    if (*is_new) {
        slot->name = name;
        ++names->size;
    }
    return &slot->value;
}

const size_t *gw_names_get(const struct gw_names *names, h2o_iovec_t name)
{
    if (names->size == 0)
        return NULL;
    const struct gw_name_slot *slot = find(names, name);
    return slot->name.base != NULL ? &slot->value : NULL;
}
