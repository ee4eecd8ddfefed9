/* Bodies that the configuration gives for errors that weir answers itself (error_pages, of a route and of the whole
 * gateway). Read from their files by the load, part of a snapshot, read-only. They hold no placeholders: what a client
 * sees is what the operator wrote and nothing of how the gateway is built. */
#pragma once
#include <stdbool.h>
#include "gateway/base/settings.h"

struct gw_error_page {
    uint16_t first, last; /* statuses */
    h2o_iovec_t body, content_type;
};
struct gw_error_pages;

/* conf: of routing_error_page_conf. *pages is NULL when there are none, and after errors (then the result is false). */
bool gw_error_pages_create(const struct gw_map *conf, struct gw_error_pages **pages, struct gw_errors *);
void gw_error_pages_destroy(struct gw_error_pages *); /* NULL is fine */
/* A status of its own comes before its class. NULL: none. */
const struct gw_error_page *gw_error_pages_find(const struct gw_error_pages *, int status);
