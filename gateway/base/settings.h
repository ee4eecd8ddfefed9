/* Settings tables: the one place that knows a setting. A row gives its name, type, place in a plain struct, default,
 * bounds and help; parsing, `check --print`, the JSON Schema and `weir help` all come from the same row.
 *
 * A section is a table plus the struct it fills. By convention the first member of every section's struct is
 * `const struct gw_node *at;` (where it stands in the file; NULL if it was left out and all is default); the loader
 * fills it. Structs live in the load's pool and are never freed one by one. */
#pragma once
#include <stdint.h>
#include <h2o/memory.h>
#include "gateway/base/error.h"
#include "gateway/base/yaml.h"

enum gw_setting_type {
    GW_BOOL,      /* bool                  true | false only */
    GW_NUMBER,    /* uint64_t              decimal */
    GW_DURATION,  /* uint64_t, ms          500ms 30s 5m 1h 7d; "0" allowed when min is 0 */
    GW_SIZE,      /* uint64_t, bytes       512 64KiB 10MB (KB MB GB = 1000^n, KiB MiB GiB = 1024^n) */
    GW_PERCENT,   /* double 0..100         20% 0.5% */
    GW_TEXT,      /* h2o_iovec_t           any scalar, NUL-terminated; base NULL when absent and without default */
    GW_TEXTS,     /* struct gw_texts       list of scalars; one value may stand alone */
    GW_CHOICE,    /* int                   index into choices */
    GW_CHOICES,   /* uint32_t              list of choices as a bit set; one value may stand alone */
    GW_ADDRESS,   /* struct gw_address     host:port, [v6]:port, unix:/path (base/ip.h). min = 1: host names allowed */
    GW_ADDRESSES, /* struct gw_addresses   list of addresses; one may stand alone */
    GW_CIDRS,     /* struct gw_cidrs       list of addresses or address/bits; see base/ip.h */
    GW_PAIRS,     /* struct gw_pairs       map of name: value */
    GW_SECTION,   /* embedded struct       a map with its own table; absent = all defaults */
    GW_OPTION,    /* struct *              the same, but NULL when absent */
    GW_LIST,      /* struct gw_list        list of sections; one may stand alone */
    GW_MAP,       /* struct gw_map         map of name: section */
    GW_CUSTOM,    /* anything              read() does it; schema_json and print() describe it */
};

struct gw_texts {
    h2o_iovec_t *entries;
    size_t size;
    const struct gw_node **at; /* position of each entry */
};
struct gw_address; /* base/ip.h */
struct gw_addresses {
    struct gw_address *entries;
    size_t size;
    const struct gw_node **at; /* position of each entry */
};
struct gw_pair {
    h2o_iovec_t name, value;
    const struct gw_node *at; /* the value's position */
};
struct gw_pairs {
    struct gw_pair *entries;
    size_t size;
};
struct gw_list {
    void **entries; /* pointers to section structs */
    size_t size;
    bool *is_bad; /* entry had errors: safe to read, unfit for use */
};
struct gw_named {
    h2o_iovec_t name;
    const struct gw_node *key; /* where the name stands */
    void *conf;                /* the section struct */
    bool is_bad;               /* it had errors: safe to read, unfit for use */
};
struct gw_map {
    struct gw_named *entries; /* in file order */
    size_t size;
    struct gw_names *index; /* NULL while the map is small */
};

struct gw_json;
struct gw_names;
struct gw_setting;

struct gw_loader {
    h2o_mem_pool_t *pool;
    struct gw_errors *errors;
};

struct gw_section {
    const char *name;                  /* singular noun for messages: "target group" */
    const char *help;                  /* one sentence */
    size_t size;                       /* of the struct */
    const struct gw_setting *settings; /* ends with a row of zeros */
    /* a scalar in the section's place stands for {scalar_is: scalar}; NULL = a map is needed */
    const char *scalar_is;
    /* the same for a list in the section's place (`path: [a, b]`, `forward: [{..}, {..}]`) */
    const char *list_is;
    /* joins settings after all rows are read (only called when every row was fine); conf has its `at` set, which is
     * NULL when the section was left out */
    bool (*check)(struct gw_loader *, void *conf);
};

struct gw_setting {
    const char *name;
    enum gw_setting_type type;
    size_t offset;
    const char *help;           /* one sentence, ends with a full stop */
    double initial;             /* GW_BOOL GW_NUMBER GW_DURATION (ms) GW_SIZE (bytes) GW_PERCENT GW_CHOICE(S) */
    const char *initial_text;   /* default of GW_TEXT, of GW_ADDRESS, of GW_TEXTS (one entry); for all other types
                                   what `help` shows as default when it is computed */
    double min, max;            /* bounds of the parsed value; max 0 = none. GW_TEXT(S): length bounds */
    const char *const *choices; /* NULL-terminated */
    const struct gw_section *section;
    const char *only_with[2]; /* GW_TEXTs of the section; without any of them it says nothing, and is not shown */
    bool is_required;
    bool is_secret;     /* masked by --print */
    bool needs_restart; /* a reload reports but does not apply it */
    bool no_zero;       /* refuse 0 even though min is 0 */
    /* checks one GW_TEXT or each entry of GW_TEXTS / name of a GW_MAP or GW_PAIRS (e.g. "is a glob") */
    bool (*valid)(struct gw_loader *, const struct gw_node *at, h2o_iovec_t value);
    /* GW_CUSTOM */
    bool (*read)(struct gw_loader *, const struct gw_setting *, const struct gw_node *value, void *field);
    void (*print)(struct gw_json *, const struct gw_setting *, const void *field);
    const char *schema_json; /* JSON Schema of a GW_CUSTOM, or further keywords for any type: an object */
};

/* How values are read:
 * - Nothing after the colon is an error for a value, and "all default" for a section, list of sections or map.
 * - A number in quotes is a text, except where ${env:} or ${file:} made it.
 * - Texts, durations, sizes and choices may be quoted or not. */
/* Fills *conf (size bytes, zeroed by the callee) from a map node; NULL node = all defaults. Records every mistake and
 * returns false if there was any; conf then is unfit for use but safe to read. */
bool gw_settings_load(struct gw_loader *, const struct gw_section *, const struct gw_node *, void *conf);

/* The node of one setting of a loaded section (for messages of cross-checks); falls back to the section's own node. */
const struct gw_node *gw_setting_at(const struct gw_node *section, const char *name);
/* Whether a setting of a loaded section has its default value, written or not. Only for GW_BOOL, GW_NUMBER,
 * GW_DURATION, GW_SIZE, GW_CHOICE and GW_CHOICES. */
bool gw_setting_is_default(const struct gw_section *, const char *name, const void *conf);
/* Entry of a GW_MAP by name, NULL if none. */
const struct gw_named *gw_map_find(const struct gw_map *, h2o_iovec_t name);
/* Records `unknown WHAT "name" (did you mean "x"?)` at a node against the names of a map; returns false. */
bool gw_error_dangling(struct gw_errors *, const struct gw_node *at, const char *what, h2o_iovec_t name,
                       const struct gw_map *);

/* The effective configuration as YAML (secrets shown as "***"), the JSON Schema (draft 2020-12), and the manual page of
 * one setting by dotted path (`target_groups.*.health_check.interval`, `target_groups.health_check` also works); NULL
 * or
 * "" prints the top level. Help returns false with a "did you mean" on stderr stream when there is no such setting. */
void gw_settings_print(FILE *, const struct gw_section *, const void *conf);
/* The same to be compared, not shown: "***" is followed by a mark, equal for equal secrets under one seed. */
void gw_settings_print_marked(FILE *, const struct gw_section *, const void *conf, uint64_t seed);
/* The same as one JSON value, with null for what is absent and has no default. */
void gw_settings_json(struct gw_json *, const struct gw_section *, const void *conf);
void gw_settings_schema(FILE *, const struct gw_section *root);
bool gw_settings_help(FILE *, const struct gw_section *root, const char *path);
