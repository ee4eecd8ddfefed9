#include "gateway/upstream/proxy_out.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static h2o_iovec_t text_of(const char *s) { return h2o_iovec_init(s, s != NULL ? strlen(s) : 0); }

/* Version 1 has one line of text (2.1): addresses of one family, or UNKNOWN. */
static size_t write_v1(const struct gw_proxy_header *header, char *dst)
{
    char source[GW_IP_TEXT], destination[GW_IP_TEXT];
    bool is_v4 = gw_ip_is_v4(&header->source);

    if (!header->has_addresses || gw_ip_is_v4(&header->destination) != is_v4)
        return (size_t)snprintf(dst, GW_PROXY_OUT_MAX, "PROXY UNKNOWN\r\n");
    gw_ip_format(&header->source, source);
    gw_ip_format(&header->destination, destination);
    return (size_t)snprintf(dst, GW_PROXY_OUT_MAX, "PROXY %s %s %s %u %u\r\n", is_v4 ? "TCP4" : "TCP6", source,
                            destination, header->source_port, header->destination_port);
}

static size_t write_header(int version, const struct gw_proxy_header *header, char *dst)
{
    if (version == ROUTING_PROXY_OFF)
        return 0;
    return version == ROUTING_PROXY_V1 ? write_v1(header, dst)
                                       : gw_proxy_protocol_write_v2(header, false, dst, GW_PROXY_OUT_MAX);
}

/* It is at the same place in both families. */
static uint16_t port_of(const struct sockaddr_storage *sa) { return ntohs(((const struct sockaddr_in *)sa)->sin_port); }

/* What a balancer in front of us said goes on to the target as it was. */
static void fill_destination(struct gw_proxy_header *header, const struct gw_conn *conn)
{
    const struct gw_proxy_header *came = conn->facts != NULL && conn->facts->has_proxy ? &conn->facts->proxy : NULL;
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);

    if (came != NULL) {
        header->unique_id = came->unique_id;
        header->vpc_endpoint = came->vpc_endpoint;
    }
    if (came != NULL && came->has_addresses) {
        header->has_addresses = true;
        header->destination = came->destination;
        header->destination_port = came->destination_port;
        return;
    }
    header->has_addresses = getsockname(h2o_socket_get_fd(conn->sock), (struct sockaddr *)&sa, &len) == 0 &&
                            gw_ip_from_sockaddr((struct sockaddr *)&sa, &header->destination);
    if (header->has_addresses)
        header->destination_port = port_of(&sa);
}

size_t gw_proxy_out_of_conn(int version, const struct gw_conn *conn, char *dst)
{
    struct gw_proxy_header header = {.source = conn->peer_ip, .source_port = conn->peer_port, .version = 2};

    if (version == ROUTING_PROXY_OFF)
        return 0;
    fill_destination(&header, conn);
    if (conn->server_name != NULL)
        header.authority = text_of(conn->server_name);
    if (conn->is_tls) {
        header.has_ssl = true;
        header.ssl_client = GW_PROXY_SSL;
        header.ssl_version = text_of(h2o_socket_get_ssl_protocol_version(conn->sock));
        header.ssl_cipher = text_of(h2o_socket_get_ssl_cipher(conn->sock));
    }
    return write_header(version, &header, dst);
}

/* Asks the system without sending anything: connecting a datagram socket chooses a route and a source. */
static bool find_own_address(const struct gw_address *target, struct sockaddr_storage *own)
{
    socklen_t len = sizeof(*own);
    bool is_found = false;
    int fd;

    if (target->is_unix || target->sa_len == 0 ||
        (fd = socket(target->sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0)) == -1)
        return false;
    if (connect(fd, (const struct sockaddr *)&target->sa, target->sa_len) == 0)
        is_found = getsockname(fd, (struct sockaddr *)own, &len) == 0;
    close(fd);
    return is_found;
}

size_t gw_proxy_out_of_weir(int version, const struct gw_address *target, char *dst)
{
    struct gw_proxy_header header = {.is_local = true, .version = 2};
    struct sockaddr_storage own;

    if (version == ROUTING_PROXY_V1 && find_own_address(target, &own) &&
        gw_ip_from_sockaddr((const struct sockaddr *)&own, &header.source) &&
        gw_ip_from_sockaddr((const struct sockaddr *)&target->sa, &header.destination)) {
        header.has_addresses = true;
        header.source_port = port_of(&own);
        header.destination_port = port_of(&target->sa);
    }
    return write_header(version, &header, dst);
}
