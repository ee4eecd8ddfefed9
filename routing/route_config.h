/* What the settings tables of routes share: route_config.c has the route, match_config.c its conditions,
 * action_config.c its actions. For these files alone. */
#pragma once
#include "routing/config.h"

extern const struct gw_section routing_match_section;
extern const struct gw_section routing_redirect_section, routing_respond_section, routing_files_section;

/* RFC 3986 2.3 */
bool routing_is_unreserved(int);
/* gw_setting.valid: the text is a regular expression. */
bool routing_check_regex(struct gw_loader *, const struct gw_node *, h2o_iovec_t pattern);
/* gw_setting.valid: the text is a canonical path, or the beginning of one. */
bool routing_check_path(struct gw_loader *, const struct gw_node *, h2o_iovec_t path);
