/* Shared by the three files that read YAML: parse.c (one file into a tree), substitute.c (${...}), yaml.c (several
 * files into one tree). */
#pragma once
#include <stdint.h>
#include <sys/types.h>
#include <h2o.h>
#include "gateway/base/names.h"
#include "gateway/base/yaml.h"

struct gw_yaml_reader {
    h2o_mem_pool_t *pool;
    struct gw_errors *errors;
    struct gw_yaml_limits limits; /* no zeros */
    bool allow_files, is_data;    /* data: ${...} is a text like others */
    size_t num_bytes, num_nodes;  /* so far, all files */
    bool is_incomplete;           /* an include could not be read */
    bool keeps_fields;            /* the scalar at hand is a template: ${name} without a colon is not ours to replace */
};

/* Reads a regular file or pipe into memory from the pool (NUL-terminated); at most max_len bytes. From or to the load's
 * kept files, if it has them. On failure why holds a sentence. */
bool gw_read_file(struct gw_yaml_reader *, const char *path, size_t max_len, h2o_iovec_t *text, const char **why);

/* One document. NULL after an error that leaves no tree. file: lives as long as the pool. */
struct gw_node *gw_yaml_parse(struct gw_yaml_reader *, const char *file, h2o_iovec_t text);

/* Replaces ${...} in a scalar. On error the node is_broken. */
void gw_yaml_substitute(struct gw_yaml_reader *, struct gw_node *);
