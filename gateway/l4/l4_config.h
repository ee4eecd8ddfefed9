/* Settings of listeners that forward bytes instead of answering requests. */
#pragma once
#include "gateway/config/config.h"

/* What fits the listener's protocol and what does not; fills in its idle timeout. */
bool gw_l4_check_listener(struct gw_loader *, struct gw_listener_conf *, const struct gw_section *);
/* Rules that join listeners, target groups and routes. */
void gw_l4_check(const struct gw_config *, struct gw_errors *);
