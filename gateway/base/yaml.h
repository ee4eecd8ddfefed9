/* The configuration tree: YAML read with libyaml into nodes that remember where they stood. Includes are merged and
 * ${env:NAME} / ${file:PATH} are substituted here, so later stages see one plain tree. Built once per load, read-only
 * afterwards, freed whole with its pool. */
#pragma once
#include <h2o/memory.h>
#include "gateway/base/error.h"

enum gw_node_kind { GW_NODE_SCALAR, GW_NODE_LIST, GW_NODE_MAP };

struct gw_node {
    enum gw_node_kind kind;
    bool is_quoted;      /* scalar written in quotes or as a block: never null, boolean or number by its looks */
    bool is_substituted; /* scalar with ${...} in it: may be a number although it is quoted */
    bool is_secret;      /* came out of ${env:} or ${file:} (not the default after :-): masked wherever it is shown */
    bool is_broken; /* its error is already recorded (gw_error_at says no more about it); at the root: an include is
                       missing, so that a name without an entry is no finding */
    const char *file;
    unsigned line, column; /* from 1 */
    h2o_iovec_t text;      /* scalar; NUL-terminated beyond len */
    size_t size;           /* list and map: number of entries */
    struct gw_node **entries;
    struct gw_node **keys; /* map only: scalar nodes with their own positions, same order as in the file */
};

struct gw_yaml_limits {
    size_t max_bytes;   /* all files together; 0 = 64 MiB */
    size_t max_nodes;   /* after alias expansion; 0 = 4,000,000 */
    unsigned max_depth; /* 0 = 64 */
};

/* Reads a file and everything its `include:` names (globs, relative to the including file, sorted; cycles are errors).
 * Top-level maps are merged key by key one level deep (`routes:` lists are joined in include order, after the including
 * file's own); a name defined twice is an error that shows both places. Anchors and aliases are supported within the
 * limits; merge keys (<<), tags other than the core schema's, duplicate keys and several documents are errors.
 * Scalars may hold ${env:NAME}, ${env:NAME:-default}, ${file:PATH} (relative to the file that says it; one line end at
 * its end is dropped) and $${ for a literal ${; the
 * ${field} of access_log.template stays as it is.
 * Records every mistake it finds. Returns NULL when there is no tree at all (a file that cannot be read or parsed); a
 * tree with mistakes in it is returned, so that later stages can report theirs in the same run: look at
 * errors->num_errors before serving. "-" reads standard input. */
struct gw_node *gw_yaml_load_file(h2o_mem_pool_t *, const char *path, const struct gw_yaml_limits *,
                                  struct gw_errors *);
/* The same for bytes in memory (tests, fuzzing); name stands in positions. Includes are resolved from "." unless
 * allow_files is false, then `include:` and ${file:} are errors. */
struct gw_node *gw_yaml_load_text(h2o_mem_pool_t *, const char *name, h2o_iovec_t text, bool allow_files,
                                  const struct gw_yaml_limits *, struct gw_errors *);

/* One document of data rather than settings: of any kind, without includes and ${...}. NULL after errors. */
struct gw_node *gw_yaml_load_data(h2o_mem_pool_t *, const char *name, h2o_iovec_t text, const struct gw_yaml_limits *,
                                  struct gw_errors *);

/* The value of a key in a map; NULL if the node is NULL, not a map, or lacks the key. */
struct gw_node *gw_node_get(const struct gw_node *map, const char *key);
/* The key's own node (its position), or NULL. */
struct gw_node *gw_node_key(const struct gw_node *map, const char *key);
/* A plain scalar without text, or ~ or null, as written: what YAML calls null. */
bool gw_node_is_null(const struct gw_node *);
/* Something in the tree below the node came out of ${env:} or ${file:}. */
bool gw_node_holds_secret(const struct gw_node *);
/* The path that a relative path written at this node means: relative to the node's file. From the pool. */
h2o_iovec_t gw_node_path(h2o_mem_pool_t *, const struct gw_node *, h2o_iovec_t path);
