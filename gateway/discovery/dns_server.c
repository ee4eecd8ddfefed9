#include <ares.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <h2o/string_.h>
#include "gateway/discovery/dns_server.h"

struct gw_dns_server {
    ares_channel channel;
    int epoll_fd;
    unsigned index;
};

struct question {
    enum gw_dns_type type;
    void (*on_answer)(void *data, struct gw_dns_answer *);
    void *data;
};

static pthread_once_t library = PTHREAD_ONCE_INIT;
static void init_library(void) { ares_library_init(ARES_LIB_INIT_ALL); }

/* c-ares says what it waits for, and that it closes a socket before it does. */
static void on_socket(void *data, ares_socket_t fd, int is_reading, int is_writing)
{
    struct gw_dns_server *server = data;
    struct epoll_event event = {.events = (is_reading ? EPOLLIN : 0) | (is_writing ? EPOLLOUT : 0),
                                .data = {.u64 = (uint64_t)server->index << 32 | (uint32_t)fd}};
    if (!is_reading && !is_writing)
        epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, fd, &event);
    else if (epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, fd, &event) != 0 && errno == ENOENT)
        epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static bool set_address(ares_channel channel, const struct sockaddr *sa)
{
    struct ares_addr_port_node node = {.family = sa->sa_family};
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
        node.addr.addr4 = in->sin_addr;
        node.udp_port = node.tcp_port = ntohs(in->sin_port);
    } else {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;
        memcpy(&node.addr.addr6, &in6->sin6_addr, sizeof(node.addr.addr6));
        node.udp_port = node.tcp_port = ntohs(in6->sin6_port);
    }
    return ares_set_servers_ports(channel, &node) == ARES_SUCCESS;
}

/* A channel of c-ares for each server, which asks once: with several in one channel, it would hide the errors of all
 * but the last. Answers come as they are (NOCHECKRESP), so that SERVFAIL is told from silence. */
struct gw_dns_server *gw_dns_server_create(int epoll_fd, unsigned index, const struct sockaddr *sa, uint64_t timeout_ms,
                                           const char **why)
{
    struct gw_dns_server *server = h2o_mem_alloc(sizeof(*server));
    struct ares_options options = {.flags = ARES_FLAG_NOCHECKRESP | ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
                                   .timeout = (int)timeout_ms,
                                   .tries = 1,
                                   .sock_state_cb = on_socket,
                                   .sock_state_cb_data = server};
    int ret;

    pthread_once(&library, init_library);
    *server = (struct gw_dns_server){.epoll_fd = epoll_fd, .index = index};
    ret = ares_init_options(&server->channel, &options,
                            ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
    if (ret != ARES_SUCCESS) {
        *why = ares_strerror(ret);
        free(server);
        return NULL;
    }
    if (!set_address(server->channel, sa)) {
        *why = "its address is not usable";
        gw_dns_server_destroy(server);
        return NULL;
    }
    return server;
}

void gw_dns_server_destroy(struct gw_dns_server *server)
{
    if (server == NULL)
        return;
    ares_destroy(server->channel);
    free(server);
}

static enum gw_dns_outcome outcome_of(int status)
{
    switch (status) {
    case ARES_ETIMEOUT:
        return GW_DNS_TIMEOUT;
    case ARES_EBADRESP:
        return GW_DNS_MALFORMED;
    default: /* ARES_ECONNREFUSED above all; no descriptors; a network that is down */
        return GW_DNS_UNREACHABLE;
    }
}

/* The bytes tell more than c-ares does; it hands them on with error codes, too. */
static void on_reply(void *data, int status, int timeouts, unsigned char *bytes, int len)
{
    struct question question = *(struct question *)data;
    struct gw_dns_answer answer = {.outcome = outcome_of(status), .ttl_s = UINT32_MAX};

    free(data);
    if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED) {
        question.on_answer(question.data, NULL);
        return;
    }
    if (bytes != NULL && len > 0)
        gw_dns_answer_parse(bytes, (size_t)len, question.type, &answer);
    question.on_answer(question.data, &answer);
}

void gw_dns_server_ask(struct gw_dns_server *server, const char *name, enum gw_dns_type type,
                       void (*on_answer)(void *, struct gw_dns_answer *), void *data)
{
    struct question *question = h2o_mem_alloc(sizeof(*question));
    *question = (struct question){type, on_answer, data};
    ares_query(server->channel, name, 1 /* IN */, (int)type, on_reply, question);
}

void gw_dns_server_on_event(struct gw_dns_server *server, uint64_t event_data, uint32_t events)
{
    ares_socket_t fd = (ares_socket_t)(uint32_t)event_data;
    ares_process_fd(server->channel, (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0 ? fd : ARES_SOCKET_BAD,
                    (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0 ? fd : ARES_SOCKET_BAD);
}

void gw_dns_server_on_time(struct gw_dns_server *server)
{
    ares_process_fd(server->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

int32_t gw_dns_server_wait(struct gw_dns_server *server, int32_t max_wait_ms)
{
    struct timeval left;
    if (ares_timeout(server->channel, NULL, &left) == NULL)
        return max_wait_ms;
    int64_t ms = (int64_t)left.tv_sec * 1000 + (left.tv_usec + 999) / 1000;
    return ms < max_wait_ms ? (int32_t)ms : max_wait_ms;
}

/* ---- /etc/resolv.conf ---- */

static void take_servers(ares_channel channel, struct gw_dns_system *system)
{
    struct ares_addr_port_node *list = NULL;
    size_t max = sizeof(system->servers) / sizeof(system->servers[0]);

    if (ares_get_servers_ports(channel, &list) != ARES_SUCCESS)
        return;
    for (const struct ares_addr_port_node *it = list; it != NULL && system->num_servers != max; it = it->next) {
        struct sockaddr_storage *sa = &system->servers[system->num_servers++];
        uint16_t port = htons((uint16_t)(it->udp_port != 0 ? it->udp_port : 53));
        sa->ss_family = (sa_family_t)it->family;
        if (it->family == AF_INET) {
            ((struct sockaddr_in *)sa)->sin_addr = it->addr.addr4;
            ((struct sockaddr_in *)sa)->sin_port = port;
        } else {
            memcpy(&((struct sockaddr_in6 *)sa)->sin6_addr, &it->addr.addr6, sizeof(struct in6_addr));
            ((struct sockaddr_in6 *)sa)->sin6_port = port;
        }
    }
    ares_free_data(list);
}

/* c-ares reads the file; a name has no use if it cannot be asked for. */
bool gw_dns_system_read(const char *path, struct gw_dns_system *system)
{
    struct ares_options read = {.resolvconf_path = (char *)path}, options = {0};
    size_t max = sizeof(system->search) / sizeof(system->search[0]);
    ares_channel channel;
    int mask;

    pthread_once(&library, init_library);
    *system = (struct gw_dns_system){.ndots = 1};
    if (ares_init_options(&channel, &read, ARES_OPT_RESOLVCONF) != ARES_SUCCESS)
        return false;
    take_servers(channel, system);
    if (ares_save_options(channel, &options, &mask) == ARES_SUCCESS) {
        system->ndots = options.ndots >= 0 ? (unsigned)options.ndots : 1;
        for (int i = 0; i < options.ndomains && system->num_search != max; ++i)
            if (gw_host_name_is_valid(h2o_iovec_init(options.domains[i], strlen(options.domains[i]))))
                system->search[system->num_search++] = h2o_strdup(NULL, options.domains[i], SIZE_MAX).base;
        ares_destroy_options(&options);
    }
    ares_destroy(channel);
    return system->num_servers != 0;
}

void gw_dns_system_dispose(struct gw_dns_system *system)
{
    for (size_t i = 0; i != system->num_search; ++i)
        free(system->search[i]);
    system->num_search = 0;
}
