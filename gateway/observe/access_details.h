/* What the formats beside JSON say of a request that is over. */
#pragma once
#include "gateway/observe/access_format.h"
#include "gateway/request.h"

/* Memory for texts that are made for one line. */
struct gw_access_details {
    char local[GW_IP_TEXT], conn_id[sizeof("TID_") + 32], actions[32];
};
/* full->line and wall_us are there already; slices borrow from the request and the details. */
void gw_access_details_fill(struct gw_access_full *, struct gw_access_details *, struct gw_request *);
