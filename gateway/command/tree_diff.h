/* What differs between two configuration trees (gateway/base/yaml.h), setting by setting. Pure functions; everything
 * lives in a pool. */
#pragma once
#include "gateway/base/yaml.h"

struct gw_setting_change {
    const char *path; /* "match.path", "targets[10.0.0.1:9001].weight" */
    /* values on one line, "{weight: 2}"; NULL: not there */
    const char *from, *to;
};
struct gw_setting_changes {
    struct gw_setting_change *entries;
    size_t size, capacity;
};

/* Appends what differs below path ("" at the top). Either may be NULL. Maps are compared by key, lists of maps by what
 * names their entries (name, address or group, where every entry has one of its own), other lists as a whole. */
void gw_tree_diff(h2o_mem_pool_t *, const char *path, const struct gw_node *from, const struct gw_node *to,
                  struct gw_setting_changes *);

/* A value on one line. Marks behind "***" (gw_settings_print_marked) are left out. */
const char *gw_node_line(h2o_mem_pool_t *, const struct gw_node *);

/* Order: of n items, from[i] is the place that the item at place i had before. is_moved[i] is set for as few items as
 * possible, so that the others have kept their order among themselves. */
void gw_find_moved(const size_t *from, size_t n, bool *is_moved);
