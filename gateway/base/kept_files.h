/* The files that a load has read, kept so that the load can be done again when they have changed meanwhile: after a
 * crash the configuration on disk may be half edited, while the one that served was fine. Holds keys and secrets, in
 * memory only. One thread. */
#pragma once
#include <stdbool.h>
#include <h2o/memory.h>

struct gw_kept_files;
struct gw_kept_files *gw_kept_files_create(void);
void gw_kept_files_destroy(struct gw_kept_files *); /* NULL is fine */

/* Copies what was read. The same path again: the first stays. */
void gw_kept_files_add(struct gw_kept_files *, const char *path, h2o_iovec_t bytes);
/* To be read from now on in place of the disk. */
bool gw_kept_files_is_source(const struct gw_kept_files *); /* NULL: false */
/* NULL when there was no such file. Borrowed. */
const h2o_iovec_t *gw_kept_files_get(const struct gw_kept_files *, const char *path);

/* A memory file, close-on-exec; -1 and errno. */
int gw_kept_files_write(const struct gw_kept_files *);
/* The same back, as a source. NULL when it makes no sense. */
struct gw_kept_files *gw_kept_files_read(int fd);
