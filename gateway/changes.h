/* What a load changes, in numbers: "routes +2 -1 ~3". Compares what was written, by name. Pure; any thread. */
#pragma once
#include "gateway/config/config.h"

struct gw_change_counts {
    uint32_t added, removed, changed;
};
struct gw_changes {
    struct gw_change_counts routes, target_groups, listeners, certificates;
    bool routes_moved;       /* routes that stay come in another order */
    uint32_t other_settings; /* top-level settings that changed */
};
void gw_changes_count(const struct gw_config *before, const struct gw_config *after, struct gw_changes *);
/* Adds certificates that are written as before, but whose file holds another one: renewed. */
struct gw_snapshot;
void gw_changes_count_renewed(const struct gw_snapshot *before, const struct gw_snapshot *after, struct gw_changes *);
/* "routes +2 -1 ~3, listeners +1", "no changes". NUL-terminated, cut to size; returns its length. */
size_t gw_changes_text(const struct gw_changes *, char *dst, size_t size);
