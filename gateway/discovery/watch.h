/* Tells of changes in directories (inotify). A directory and not a file is watched, so that files that are replaced by
 * a rename, and links that are swapped (the `..data` of a Kubernetes volume), are seen. One thread. */
#pragma once
#include <stdbool.h>
#include "gateway/base/thread.h"

struct gw_watcher;
struct gw_watch;
struct gw_watcher *gw_watcher_create(struct gw_thread *);
void gw_watcher_destroy(struct gw_watcher *); /* after its watches; NULL is fine */

/* on_event: something in the directory may have changed; is_whole: a file was closed or moved there, so what is there
 * is all of it. Not from inside this call. NULL: it cannot be watched (errno). */
struct gw_watch *gw_watcher_add(struct gw_watcher *, const char *directory, void (*on_event)(void *data, bool is_whole),
                                void *data);
bool gw_watch_is_over(const struct gw_watch *); /* the directory is gone */
void gw_watch_remove(struct gw_watch *);        /* fine in on_event; NULL is fine */
