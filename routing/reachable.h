/* Warns about routes that no request can ever reach, because earlier ones take all that they could take. */
#pragma once
#include "routing/table.h"
void routing_warn_unreachable(const struct routing_table *, struct gw_errors *);
