/* Counts of what many requests have in common, each with its first examples: "route: users -> site, 31 requests".
 * Bounded, however many requests there are. One thread. */
#pragma once
#include <stdint.h>
#include "gateway/base/names.h"

struct gw_tally_example {
    uint64_t line;        /* of the log */
    char *request;        /* "GET http://a.example/x", cut to a readable length */
    char *client;         /* address, "" when not known */
    char *before, *after; /* further detail, or NULL */
};
struct gw_tally_row {
    char *what, *from, *to;
    uint64_t count;
    struct gw_tally_example *examples;
    size_t num_examples;
};
struct gw_tally {
    struct gw_tally_row *rows;
    size_t size, capacity;
    size_t max_rows, max_examples;
    uint64_t dropped; /* additions that would have been a row too many */
    struct gw_names names;
    char **keys;
};

void gw_tally_init(struct gw_tally *, size_t max_rows, size_t max_examples);
void gw_tally_dispose(struct gw_tally *);
/* Copies the texts. Returns the row if it wants another example, else NULL. Valid until the next call. */
struct gw_tally_row *gw_tally_add(struct gw_tally *, const char *what, h2o_iovec_t from, h2o_iovec_t to);
/* Copies; before and after may have base NULL. Texts are cut to 300 bytes. */
void gw_tally_add_example(struct gw_tally_row *, uint64_t line, h2o_iovec_t request, h2o_iovec_t client,
                          h2o_iovec_t before, h2o_iovec_t after);
/* Largest count first, then by name. The tally takes no additions afterwards. */
void gw_tally_sort(struct gw_tally *);
