/* What client connections of every protocol share, and the serving side of a thread. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include "gateway/http/socket.h"
#include "gateway/http/stream.h"

void gw_peer_of_socket(struct gw_peer *peer, h2o_socket_t *sock, void *listener, uint16_t local_port)
{
    struct sockaddr_storage sa;
    socklen_t len = h2o_socket_getpeername(sock, (void *)&sa);

    *peer = (struct gw_peer){.listener = listener, .local_port = local_port};
    if (len != 0 && gw_ip_from_sockaddr((void *)&sa, &peer->ip)) {
        peer->has_ip = true;
        peer->port = ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
                                                    : ((struct sockaddr_in *)&sa)->sin_port);
    }
}

static h2o_socket_t *get_socket(h2o_conn_t *super)
{
    return H2O_STRUCT_FROM_MEMBER(struct gw_conn, super, super)->sock;
}
static socklen_t get_sockname(h2o_conn_t *super, struct sockaddr *sa)
{
    return h2o_socket_getsockname(get_socket(super), sa);
}
static socklen_t get_peername(h2o_conn_t *super, struct sockaddr *sa)
{
    return h2o_socket_getpeername(get_socket(super), sa);
}
static const h2o_conn_callbacks_t h2o_callbacks = {get_sockname, get_peername, NULL, get_socket, NULL, {{{NULL}}}};

void gw_conn_init(struct gw_conn *conn, struct gw_server *server, h2o_socket_t *sock, const struct gw_peer *peer)
{
    conn->super.ctx = server->thread->ctx;
    conn->super.hosts = server->hosts;
    conn->super.callbacks = &h2o_callbacks;
    conn->server = server;
    conn->sock = sock;
    conn->is_tls = sock->ssl != NULL;
    if (conn->is_tls)
        conn->server_name = SSL_get_servername(gw_socket_ssl(sock), TLSEXT_NAMETYPE_host_name);
    conn->listener = peer->listener;
    conn->began_ms = gw_thread_now(server->thread);
    conn->local_port = peer->local_port;
    conn->peer_ip = peer->ip;
    conn->peer_port = peer->port;
    conn->facts = peer->facts;
    conn->is_counted = peer->is_counted;
    if (peer->has_ip) {
        conn->peer_text_len = gw_ip_format(&conn->peer_ip, conn->peer_text);
    } else {
        memcpy(conn->peer_text, "unix", 5);
        conn->peer_text_len = 4;
    }
    gw_usage_begin(&conn->usage,
                   peer->has_ip ? gw_usage_of_address(server->addresses, &peer->ip, conn->began_ms) : NULL,
                   conn->began_ms);
    h2o_linklist_insert(&server->conns, &conn->link);
    ++server->num_conns;
    gw_count(&server->stats.accepted, 1);
    conn->super.id = gw_counter_read(&server->stats.accepted);
}

void gw_conn_dispose(struct gw_conn *conn)
{
    if (conn->server->thread->user == &conn->usage) /* what its end takes is its address's */
        gw_thread_charge_now(conn->server->thread, conn->usage.of_address);
    h2o_linklist_unlink(&conn->link);
    --conn->server->num_conns;
    if (conn->server->on_conn_closed != NULL)
        conn->server->on_conn_closed(conn);
    gw_peer_facts_destroy(conn->facts);
    conn->facts = NULL;
}

void gw_conn_each_stream(struct gw_server *server, void (*see)(struct gw_stream *, void *data), void *data)
{
    for (h2o_linklist_t *node = server->conns.next; node != &server->conns; node = node->next) {
        struct gw_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_conn, link, node);
        if (conn->ops->each_stream != NULL)
            conn->ops->each_stream(conn, see, data);
    }
}

void gw_server_init(struct gw_server *server, struct gw_thread *thread, h2o_hostconf_t **hosts)
{
    memset(server, 0, sizeof(*server));
    server->thread = thread;
    server->hosts = hosts;
    server->date_second = -1;
    h2o_linklist_init_anchor(&server->conns);
    server->scratch = h2o_mem_alloc(sizeof(*server->scratch));
    server->addresses = gw_usage_table_create();
}

const char *gw_server_date(struct gw_server *server)
{
    time_t second = (time_t)(h2o_now(server->thread->loop) / 1000);
    if (second != server->date_second) {
        struct tm tm;
        server->date_second = second;
        gmtime_r(&second, &tm);
        h2o_time2str_rfc1123(server->date, &tm);
    }
    return server->date;
}
