/* One DNS server and the questions under way to it, by way of c-ares: ids, UDP, TCP for what UDP truncates, one timeout
 * a question. Which server is asked when, and how often, is the business of dns.c. One thread. */
#pragma once
#include <stdint.h>
#include "gateway/discovery/dns_message.h"

struct gw_dns_server;
/* epoll_fd gets the server's sockets; their events come with gw_dns_server_of(event.data.u64). NULL with *why when
 * c-ares does not want to. */
struct gw_dns_server *gw_dns_server_create(int epoll_fd, unsigned index, const struct sockaddr *, uint64_t timeout_ms,
                                           const char **why);
/* Questions under way end without an answer: on_answer gets none (NULL). */
void gw_dns_server_destroy(struct gw_dns_server *);

/* on_answer is called once, perhaps from within; it takes the answer and must not ask or destroy servers. */
void gw_dns_server_ask(struct gw_dns_server *, const char *name, enum gw_dns_type,
                       void (*on_answer)(void *data, struct gw_dns_answer *), void *data);

static inline unsigned gw_dns_server_of(uint64_t event_data) { return (unsigned)(event_data >> 32); }
void gw_dns_server_on_event(struct gw_dns_server *, uint64_t event_data, uint32_t events);
void gw_dns_server_on_time(struct gw_dns_server *);
/* Milliseconds until gw_dns_server_on_time is due, at most max_wait_ms. */
int32_t gw_dns_server_wait(struct gw_dns_server *, int32_t max_wait_ms);

/* What /etc/resolv.conf (path) says. Texts are owned: gw_dns_system_dispose. */
struct gw_dns_system {
    struct sockaddr_storage servers[16];
    size_t num_servers;
    char *search[16];
    size_t num_search;
    unsigned ndots;
};
bool gw_dns_system_read(const char *path, struct gw_dns_system *);
void gw_dns_system_dispose(struct gw_dns_system *);
