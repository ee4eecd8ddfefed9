/* The last loads of the configuration: when, how long, what changed, what was wrong. Control thread only. */
#pragma once
#include <stdbool.h>
#include "gateway/base/json.h"
#include "gateway/changes.h"

enum { GW_RELOADS_MAX = 20 };

struct gw_reload_note {
    uint64_t wall_ms, duration_ms;
    uint64_t generation; /* taken into service by it; 0: it failed */
    bool has_changes;    /* false: it failed, or there was nothing before */
    struct gw_changes changes;
    size_t num_errors, num_warnings;
    char *errors; /* the first findings, one a line; NULL: none */
};
struct gw_reloads { /* zero to begin */
    struct gw_reload_note notes[GW_RELOADS_MAX];
    uint64_t total;
};
void gw_reloads_dispose(struct gw_reloads *);
/* Takes note.errors. */
void gw_reloads_add(struct gw_reloads *, const struct gw_reload_note *);
size_t gw_reloads_size(const struct gw_reloads *);
const struct gw_reload_note *gw_reloads_at(const struct gw_reloads *, size_t i); /* from the newest (0) on */
/* The first errors of a load as text, at most a few KiB; free it. NULL: there is none. */
char *gw_reloads_errors_text(const struct gw_errors *);
void gw_reloads_json(const struct gw_reloads *, struct gw_json *);
