#include "gateway/discovery/dns_servers.h"
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <h2o/string_.h>
#include "gateway/base/log.h"
#include "gateway/discovery/dns.h"

enum { SYSTEM_CHECK_MS = 5000 };

/* ---- full names ---- */

static size_t count_dots(const char *name)
{
    size_t n = 0;
    for (; *name != '\0'; ++name)
        n += *name == '.';
    return n;
}

bool gw_dns_servers_full_name(const struct gw_dns_servers *self, const char *name, unsigned candidate,
                              char full[GW_DNS_MAX_NAME + 1])
{
    size_t len = strlen(name), own;
    bool is_absolute = len != 0 && name[len - 1] == '.';

    own = is_absolute || count_dots(name) >= self->ndots ? 0 : self->num_search;
    if (candidate > (is_absolute ? 0 : self->num_search))
        return false;
    if (candidate == own)
        snprintf(full, GW_DNS_MAX_NAME + 1, "%s", name);
    else
        /* too long: cut, and then the server knows no such name */
        snprintf(full, GW_DNS_MAX_NAME + 1, "%s.%s", name, self->search[candidate < own ? candidate : candidate - 1]);
    return true;
}

/* ---- which servers ---- */

static void set_name(char *name, size_t len, const struct sockaddr_storage *sa)
{
    struct gw_ip ip;
    char text[GW_IP_TEXT];
    uint16_t port = ntohs(sa->ss_family == AF_INET ? ((const struct sockaddr_in *)sa)->sin_port
                                                   : ((const struct sockaddr_in6 *)sa)->sin6_port);
    if (!gw_ip_from_sockaddr((const struct sockaddr *)sa, &ip))
        memset(&ip, 0, sizeof(ip));
    gw_ip_format(&ip, text);
    snprintf(name, len, sa->ss_family == AF_INET ? "%s:%u" : "[%s]:%u", text, port);
}

static void forget_servers(struct gw_dns_servers *self)
{
    for (size_t i = 0; i != self->size; ++i)
        gw_dns_server_destroy(self->entries[i]); /* what they were asked waits for others */
    self->size = 0;
    self->preferred = 0;
}

static void use_servers(struct gw_dns_servers *self, const struct sockaddr_storage *addresses, size_t size,
                        uint64_t timeout_ms)
{
    const char *why;

    if (size == self->size && timeout_ms == self->timeout_ms &&
        memcmp(addresses, self->addresses, size * sizeof(addresses[0])) == 0)
        return;
    forget_servers(self);
    self->timeout_ms = timeout_ms;
    for (size_t i = 0; i != size; ++i) {
        size_t n = self->size;
        self->addresses[n] = addresses[i];
        set_name(self->names[n], sizeof(self->names[n]), &addresses[i]);
        self->entries[n] =
            gw_dns_server_create(self->epoll_fd, (unsigned)n, (const struct sockaddr *)&addresses[i], timeout_ms, &why);
        if (self->entries[n] != NULL)
            ++self->size;
        else
            gw_log(GW_LOG_ERROR, "dns", "cannot ask %s: %s", self->names[n], why);
    }
}

static void forget_search(struct gw_dns_servers *self)
{
    for (size_t i = 0; i != self->num_search; ++i)
        free(self->search[i]);
    self->num_search = 0;
}

static void add_search(struct gw_dns_servers *self, const char *domain, size_t len)
{
    if (self->num_search != GW_DNS_MAX_SEARCH)
        self->search[self->num_search++] = h2o_strdup(NULL, domain, len).base;
}

static void use_system(struct gw_dns_servers *self, uint64_t timeout_ms, uint64_t now_ms)
{
    struct gw_dns_system system;
    struct stat st;

    self->system_checked_ms = now_ms;
    if (stat(self->system_path, &st) == 0) {
        self->system_mtime = st.st_mtim;
        self->system_inode = st.st_ino;
    }
    if (!gw_dns_system_read(self->system_path, &system))
        gw_log(GW_LOG_ERROR, "dns", "%s names no usable DNS server", self->system_path);
    use_servers(self, system.servers, system.num_servers, timeout_ms);
    if (self->uses_system_search) {
        forget_search(self);
        for (size_t i = 0; i != system.num_search; ++i)
            add_search(self, system.search[i], SIZE_MAX);
        self->ndots = system.ndots;
    }
    gw_dns_system_dispose(&system);
}

void gw_dns_servers_look_at_system(struct gw_dns_servers *self, uint64_t now_ms)
{
    struct stat st;

    if (!self->uses_system || now_ms < self->system_checked_ms + SYSTEM_CHECK_MS)
        return;
    self->system_checked_ms = now_ms;
    if (stat(self->system_path, &st) == 0 &&
        (st.st_ino != self->system_inode || st.st_mtim.tv_sec != self->system_mtime.tv_sec ||
         st.st_mtim.tv_nsec != self->system_mtime.tv_nsec))
        use_system(self, self->timeout_ms, now_ms);
}

void gw_dns_servers_init(struct gw_dns_servers *self, int epoll_fd)
{
    memset(self, 0, sizeof(*self));
    self->epoll_fd = epoll_fd;
    self->system_path = "/etc/resolv.conf";
    self->ndots = 1;
}

void gw_dns_servers_dispose(struct gw_dns_servers *self)
{
    forget_servers(self);
    forget_search(self);
}

void gw_dns_servers_configure(struct gw_dns_servers *self, const struct gw_resolver_conf *conf, uint64_t now_ms)
{
    struct sockaddr_storage addresses[GW_DNS_MAX_SERVERS] = {0};
    size_t size = 0;

    self->uses_system = conf->servers.size == 0;
    self->uses_system_search = self->uses_system && gw_node_get(conf->at, "search") == NULL;
    if (!self->uses_system_search) {
        forget_search(self);
        self->ndots = 1;
        for (size_t i = 0; i != conf->search.size; ++i)
            add_search(self, conf->search.entries[i].base, conf->search.entries[i].len);
    }
    for (size_t i = 0; i != conf->servers.size && size != GW_DNS_MAX_SERVERS; ++i)
        if (gw_dns_server_parse(conf->servers.entries[i], &addresses[size]))
            ++size;
    if (self->uses_system)
        use_system(self, conf->timeout_ms, now_ms);
    else
        use_servers(self, addresses, size, conf->timeout_ms);
}
