/* Which of weir's own body formats a client prefers: the Accept field (RFC 9110 12.5.1). Pure function. */
#pragma once
#include <h2o.h>

enum gw_accept { GW_ACCEPT_TEXT, GW_ACCEPT_JSON, GW_ACCEPT_HTML };
/* Highest weight first, then the more specific range, then the one named first; without any preference, text. */
enum gw_accept gw_accept_field_choose(const h2o_header_t *headers, size_t num_headers);
