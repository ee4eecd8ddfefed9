/* What the resolver knows, for the pages of the admin listener. Control thread. */
#pragma once
#include "gateway/admin/admin_pages.h"
#include "gateway/admin/html.h"

struct gw_dns_record;
void gw_resolver_metrics(const struct gw_process *, struct gw_exposition *);
/* "resolver": {...} of /status */
void gw_resolver_status(const struct gw_process *, struct gw_json *);
/* One name and type, as an object. */
void gw_resolver_question(const struct gw_dns_record *, struct gw_json *, uint64_t now_ms);
void gw_dashboard_names(struct gw_html *, struct gw_process *); /* nothing, where there are none */
