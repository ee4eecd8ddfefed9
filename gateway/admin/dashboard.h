/* The page of the admin listener for browsers: the tables are written here, so that they can be read without scripts;
 * dashboard/dashboard.js draws the charts and fetches the page anew. Control thread. */
#pragma once
#include "gateway/admin/html.h"
#include "gateway/process.h"

/* Tables, each a part of dashboard/index.html. */
void gw_dashboard_routes(struct gw_html *, struct gw_process *);
void gw_dashboard_listeners(struct gw_html *, struct gw_process *);
void gw_dashboard_targets(struct gw_html *, struct gw_process *);
void gw_dashboard_certificates(struct gw_html *, struct gw_process *);
void gw_dashboard_errors(struct gw_html *, struct gw_process *);
void gw_dashboard_reloads(struct gw_html *, struct gw_process *);
