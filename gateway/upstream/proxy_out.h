/* The PROXY protocol header that a connection to a target begins with (target_groups.*.send_proxy_protocol). Pure
 * functions. */
#pragma once
#include "gateway/http/proxy_protocol.h"
#include "gateway/http/stream.h"
#include "gateway/upstream/client.h"
#include "routing/config.h"

enum { GW_PROXY_OUT_MAX = GW_CLIENT_MAX_PREFACE };

/* Both return the length, 0 for ROUTING_PROXY_OFF. dst holds GW_PROXY_OUT_MAX bytes. */
/* Whom the connection is for, and with version 2 how it came: TLS, server name. */
size_t gw_proxy_out_of_conn(int version, const struct gw_conn *, char *dst);
/* weir's own connections, to check `target`: LOCAL. Version 1 has no such word, and its UNKNOWN is refused by Apache
 * and Varnish: it names weir by the address that the system takes for this target, and the port that it gave to a
 * socket which asked for it; UNKNOWN for Unix sockets and where no route leads. A few system calls with version 1. */
size_t gw_proxy_out_of_weir(int version, const struct gw_address *target, char *dst);
