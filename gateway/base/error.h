/* Findings about a configuration: errors and warnings with file, line and column. A load collects them all, then prints
 * them sorted by position. Owned by whoever loads; one thread. Messages look like this:
 *     edge.yaml:12:9: unknown key "adress" (did you mean "address"?)
 *     edge.yaml:14:3: warning: route "old" is never reached: "all" at edge.yaml:9:5 takes every request before it */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct gw_kept_files;
struct gw_names;
struct gw_node;
enum gw_severity { GW_ERROR, GW_WARNING };

struct gw_finding {
    enum gw_severity severity;
    const char *file;      /* owned by the findings */
    unsigned line, column; /* from 1; 0 when the file as a whole is meant */
    const char *text;      /* owned */
    size_t file_order;     /* position among the files of this load */
    size_t order;          /* position among the findings: keeps the sort stable */
};

struct gw_errors {
    struct gw_finding *entries;
    size_t size, capacity;
    size_t num_errors;  /* findings that are not warnings */
    size_t num_dropped; /* findings beyond the first 10,000, which are counted but not kept */
    char **files;       /* in order of first inclusion */
    size_t num_files, last_file;
    char **secrets; /* never printed */
    size_t num_secrets;
    struct gw_names *secret_names; /* the same, to find repeats */
    struct gw_kept_files *kept;    /* not owned: where this load's files are kept, or come from; NULL: neither */
};

void gw_errors_init(struct gw_errors *);
void gw_errors_dispose(struct gw_errors *);

/* Records an error at a node's position and returns false, so that a check is one line. Nothing is recorded at a node
 * that already has its error (gw_node.is_broken), so that one mistake is one line. Control characters are escaped. */
bool gw_error_at(struct gw_errors *, const struct gw_node *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Records a warning. */
void gw_warn_at(struct gw_errors *, const struct gw_node *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* For places that have no node: an unreadable file, a YAML syntax error. line 0 prints as "file: text". Returns false.
 */
bool gw_error_in(struct gw_errors *, const char *file, unsigned line, unsigned column, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void gw_warn_in(struct gw_errors *, const char *file, unsigned line, unsigned column, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* Says that a file takes part in the load: the order of these calls is the order of printing. Returns the copy that
 * lives as long as the findings. */
const char *gw_errors_add_file(struct gw_errors *, const char *file);
/* A text that no finding may show: wherever it appears (4 bytes and longer) it is printed as ***. Copied. */
void gw_errors_add_secret(struct gw_errors *, const char *text, size_t len);

/* Sorts by file (in order of first inclusion: the file given on the command line first), line, column; drops exact
 * repeats; one line each. */
void gw_errors_print(struct gw_errors *, FILE *);
/* The same as lines of the error log, for processes that serve: gw_log_text(). */
void gw_errors_log(struct gw_errors *);
/* The first error as it would be printed, without line end and cut off at size; "" when there is none. */
void gw_errors_first(struct gw_errors *, char *text, size_t size);

/* The entry of names closest to name by edit distance (at most a third of its length, at least 1), else NULL. Case and
 * the difference between '-' and '_' count for nothing; a swap of neighbours counts as one edit. */
const char *gw_nearest(const char *name, const char *const *names, size_t num_names);
