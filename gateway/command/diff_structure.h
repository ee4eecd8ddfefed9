/* What changes in a configuration itself: listeners, certificates, target groups, routes and their order, and all other
 * settings, by their effective values. The part of `weir diff` that needs no log. One thread. */
#pragma once
#include "gateway/base/json.h"
#include "gateway/snapshot.h"
#include "gateway/command/tree_diff.h"

enum gw_entity_state { GW_ENTITY_SAME, GW_ENTITY_ADDED, GW_ENTITY_REMOVED, GW_ENTITY_CHANGED };

/* A listener, certificate, target group or route that is not as it was. */
struct gw_entity_change {
    h2o_iovec_t name;
    enum gw_entity_state state;
    const struct gw_node *at; /* in the new file; of what was removed, in the old one */
    struct gw_setting_changes settings;
    /* routes: place in matching order, from 1; 0: not moved */
    size_t from_place, to_place;
    h2o_iovec_t before; /* the route that now comes next; base NULL: none */
};
struct gw_collection_diff {
    const char *name; /* "target_groups" */
    struct gw_entity_change *entries;
    size_t size;
    size_t added, removed, changed, moved;
};

enum { GW_DIFF_LISTENERS, GW_DIFF_CERTIFICATES, GW_DIFF_TARGET_GROUPS, GW_DIFF_ROUTES, GW_DIFF_COLLECTIONS };
struct gw_structure_diff {
    struct gw_collection_diff collections[GW_DIFF_COLLECTIONS];
    struct gw_setting_changes settings; /* of no collection: "limits.url" */
    bool is_changed;
    h2o_mem_pool_t pool;
};

/* Compares paths as they are written, so that both files may lie in different folders: writes that into the
 * configurations, which are fit for decisions afterwards but not for serving. `tests` are no part of what is served and
 * are not compared. Borrows from both snapshots. false: they cannot be compared, standard error says why; dispose of it
 * all the same. */
bool gw_structure_diff_init(struct gw_structure_diff *, struct gw_snapshot *from, struct gw_snapshot *to);
void gw_structure_diff_dispose(struct gw_structure_diff *);
void gw_structure_diff_print(FILE *, const struct gw_structure_diff *);
/* One object. */
void gw_structure_diff_json(struct gw_json *, const struct gw_structure_diff *);
