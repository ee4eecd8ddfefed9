/* The `files` action: static files below a root with ranges, conditional requests and MIME types (RFC 9110 8.8, 13,
 * 14). Paths cannot leave the root, whatever links and dots say. */
#pragma once
#include "gateway/answer/answer.h"

struct gw_files;
/* root and index are checked here (a missing root is a warning: it may be mounted later). Part of a snapshot. */
struct gw_files *gw_files_create(const struct routing_files_conf *, struct gw_errors *);
void gw_files_destroy(struct gw_files *);
/* Answers the request (facts.path is canonical). Sets reason and status. */
void gw_files_serve(struct gw_files *, struct gw_request *);
