/* Which DNS servers are asked, and for which full names: those of the section `resolver`, or what /etc/resolv.conf
 * says, which is looked at again while the process runs. One thread. */
#pragma once
#include <sys/types.h>
#include <time.h>
#include "gateway/discovery/dns_server.h"

struct gw_resolver_conf;
enum { GW_DNS_MAX_SERVERS = 16, GW_DNS_MAX_SEARCH = 16 };

struct gw_dns_servers {
    int epoll_fd;
    struct gw_dns_server *entries[GW_DNS_MAX_SERVERS];
    struct sockaddr_storage addresses[GW_DNS_MAX_SERVERS];
    char names[GW_DNS_MAX_SERVERS][64];
    size_t size;
    unsigned preferred; /* the server that answered last */
    uint64_t timeout_ms;
    char *search[GW_DNS_MAX_SEARCH];
    size_t num_search;
    unsigned ndots;
    /* of the system */
    bool uses_system, uses_system_search;
    const char *system_path;
    struct timespec system_mtime;
    ino_t system_inode;
    uint64_t system_checked_ms;
};
void gw_dns_servers_init(struct gw_dns_servers *, int epoll_fd);
void gw_dns_servers_dispose(struct gw_dns_servers *);
/* What servers that are left out now were asked ends without an answer. */
void gw_dns_servers_configure(struct gw_dns_servers *, const struct gw_resolver_conf *, uint64_t now_ms);
/* Laptops and containers get other servers while they run. Looks every five seconds at most. */
void gw_dns_servers_look_at_system(struct gw_dns_servers *, uint64_t now_ms);
/* The full names in the order of resolv.conf(5): a name with `ndots` dots is tried as it is first, else last. False:
 * there are no more. */
bool gw_dns_servers_full_name(const struct gw_dns_servers *, const char *name, unsigned candidate,
                              char full[GW_DNS_MAX_NAME + 1]);
