/* Opening sockets to listen on. Nothing is kept here; the descriptors are non-blocking, close-on-exec and the caller's.
 */
#pragma once
#include "gateway/base/ip.h"

/* count SO_REUSEPORT sockets on one address, one for each worker thread. False and errno, then none stays open;
 * EADDRINUSE also when another process of this user could have shared the address. */
bool gw_sockets_listen(const struct gw_address *, unsigned count, int *fds);
/* The same for datagrams. Those to an address that stands for all of ours carry which one it was (IP_PKTINFO). */
bool gw_sockets_bind_udp(const struct gw_address *, unsigned count, int *fds);

/* One socket of the admin API. A Unix socket is for its owner alone (mode 0600); its folder is made (one level), a
 * stale socket file nobody listens on is replaced, a live one or another kind of file is not. -1 and why (a static or
 * libc's sentence). */
int gw_sockets_listen_admin(const struct gw_address *, const char **why);
