#include <assert.h>
#include <linux/sockios.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include "gateway/upstream/client_state.h"
#include "gateway/http/socket.h"
#include "gateway/upstream/h2_session.h"

static const struct gw_head_limits head_limits = {GW_CLIENT_MAX_HEAD, SIZE_MAX, GW_HEAD_MAX_FIELDS};

static bool has_too_much_outstanding(const struct gw_client *client)
{
    size_t most = client->is_thrifty ? 0 : GW_CLIENT_MAX_OUTSTANDING;
    return client->outstanding > most || client->num_buffers == GW_CLIENT_MAX_BUFFERS;
}

void gw_client_drop_buffers(struct gw_client *client)
{
    while (client->num_buffers != 0) {
        h2o_buffer_dispose(&client->buffers[client->first_buffer].buffer);
        client->first_buffer = (client->first_buffer + 1) % GW_CLIENT_MAX_BUFFERS;
        --client->num_buffers;
    }
    if (client->head_buffer != NULL)
        h2o_buffer_dispose(&client->head_buffer);
}

/* A tunnel may last for days: its head need not. */
static void drop_head_buffer(struct gw_client *client)
{
    if (client->head_buffer != NULL)
        h2o_buffer_dispose(&client->head_buffer);
    client->head_buffer = NULL;
}

void gw_client_consumed(struct gw_client *client, size_t bytes)
{
    if (client->h2 != NULL) {
        gw_h2_client_consumed(client, bytes);
        return;
    }
    assert(bytes <= client->outstanding);
    client->outstanding -= bytes;
    size_t of_head = bytes < client->head_outstanding ? bytes : client->head_outstanding;
    client->head_outstanding -= of_head;
    bytes -= of_head;
    while (bytes != 0) {
        struct gw_client_buffer *oldest = &client->buffers[client->first_buffer];
        size_t n = bytes < oldest->outstanding ? bytes : oldest->outstanding;
        oldest->outstanding -= n;
        bytes -= n;
        if (oldest->outstanding != 0)
            break;
        h2o_buffer_dispose(&oldest->buffer);
        client->first_buffer = (client->first_buffer + 1) % GW_CLIENT_MAX_BUFFERS;
        --client->num_buffers;
    }
    if (client->is_tunnel && client->head_outstanding == 0)
        drop_head_buffer(client);
    if (client->state == GW_CLIENT_RECEIVING && !h2o_socket_is_reading(client->conn->sock) && !client->origin_ended &&
        !has_too_much_outstanding(client)) {
        h2o_socket_read_start(client->conn->sock, gw_client_on_readable);
        gw_client_set_deadline(client);
    }
}

/* Makes the buffer that holds n body bytes ours, so that they stay where they are while reading goes on. */
static void keep_input(struct gw_client *client, size_t n)
{
    h2o_socket_t *sock = client->conn->sock;
    if (n == 0) {
        h2o_buffer_consume(&sock->input, sock->input->size);
        return;
    }
    assert(client->num_buffers < GW_CLIENT_MAX_BUFFERS);
    unsigned at = (client->first_buffer + client->num_buffers++) % GW_CLIENT_MAX_BUFFERS;
    client->buffers[at].buffer = gw_socket_detach_input(sock);
    client->buffers[at].outstanding = n;
}

/* The body is complete, trailers have come with it. */
static void take_trailers(struct gw_client *client, h2o_iovec_t section)
{
    size_t n = gw_trailers_count(section);
    client->trailers.entries = h2o_mem_alloc(n * (sizeof(h2o_header_t) + sizeof(h2o_iovec_t)));
    client->trailers.size = gw_trailers_cut(section, client->head_buffer->bytes, client->trailers.entries,
                                            (h2o_iovec_t *)(client->trailers.entries + n));
}

/* Takes len bytes of the body's framing at p, in the socket's input or (in_head) behind the head. Returns false when
 * the client has ended or is gone. */
static bool take_body(struct gw_client *client, char *p, size_t len, bool in_head)
{
    size_t n = len, used = len;
    bool is_last = false;
    if (client->framing == GW_FRAMED_BY_LENGTH) {
        if (n >= client->body_left) {
            n = used = client->body_left;
            is_last = true;
        }
        client->body_left -= n;
    } else if (client->framing == GW_FRAMED_BY_CHUNKS) {
        enum gw_chunked_result result = gw_chunked_decode(&client->chunked, p, &n, &used);
        if (result == GW_CHUNKED_BAD || result == GW_CHUNKED_TRAILERS_TOO_LARGE) {
            gw_client_fail(client, result == GW_CHUNKED_BAD ? GW_CLIENT_BAD_CHUNK : GW_CLIENT_TRAILERS_TOO_LARGE);
            return false;
        }
        is_last = result == GW_CHUNKED_DONE;
        if (__builtin_expect(client->chunked.trailers != NULL, 0) && is_last)
            take_trailers(client, gw_chunked_trailers(&client->chunked));
    }
    client->outstanding += n;
    if (in_head)
        client->head_outstanding += n;
    else
        keep_input(client, n);
    if (is_last) /* more bytes than the response has are nobody's */
        gw_client_end(client, client->head.keep_alive && used == len);
    if ((n != 0 || is_last) && !GW_CLIENT_CALL(client, on_body, h2o_iovec_init(p, n), is_last))
        return false;
    if (is_last)
        return false;
    if (has_too_much_outstanding(client))
        h2o_socket_read_stop(client->conn->sock);
    gw_client_set_deadline(client);
    return true;
}

/* RFC 9112, 6.3. */
static bool choose_framing(struct gw_client *client)
{
    const struct gw_response_head *head = &client->head;
    if (client->expects_head_only || head->status == 204 || head->status == 304)
        return false;
    if (head->is_chunked) {
        client->framing = GW_FRAMED_BY_CHUNKS;
        gw_chunked_init(&client->chunked);
        client->chunked.keeps_trailers = true;
    } else if (head->content_length != UINT64_MAX) {
        client->framing = GW_FRAMED_BY_LENGTH;
        client->body_left = head->content_length;
        return head->content_length != 0;
    } else {
        client->framing = GW_FRAMED_BY_CLOSE;
    }
    return true;
}

/* The final head is parsed and head_size bytes long. */
static bool take_final_head(struct gw_client *client, size_t head_size)
{
    /* An origin that gives up an idle connection may say so while our request is on its way (RFC 9110, 15.5.9): what it
     * answers is its own silence, not this request. */
    if (client->head.status == 408 && client->failure.was_reused && !client->head.keep_alive) {
        client->failure.any_response_byte = false;
        gw_client_fail(client, GW_CLIENT_CLOSED_EARLY);
        return false;
    }
    client->head_buffer = gw_socket_detach_input(client->conn->sock);
    char *rest = client->head_buffer->bytes + head_size;
    size_t rest_len = client->head_buffer->size - head_size;
    bool body_follows = choose_framing(client);
    if (!gw_client_report_started(client))
        return false;
    if (!body_follows) {
        gw_client_end(client, client->head.keep_alive && rest_len == 0);
        (void)GW_CLIENT_CALL(client, on_head, &client->head, false);
        return false;
    }
    client->state = GW_CLIENT_RECEIVING;
    if (!GW_CLIENT_CALL(client, on_head, &client->head, true))
        return false;
    if (rest_len != 0)
        return take_body(client, rest, rest_len, true);
    gw_client_set_deadline(client);
    return true;
}

/* The 101 is head_size bytes long; what follows is the tunnel's. */
static bool take_tunnel_head(struct gw_client *client, size_t head_size)
{
    client->head_buffer = gw_socket_detach_input(client->conn->sock);
    char *rest = client->head_buffer->bytes + head_size;
    size_t rest_len = client->head_buffer->size - head_size;

    if (!gw_client_report_started(client))
        return false;
    client->is_tunnel = true;
    client->framing = GW_FRAMED_BY_CLOSE;
    client->state = GW_CLIENT_RECEIVING;
    client->request_is_sent = false;
    gw_client_set_deadline(client);
    if (!GW_CLIENT_CALL(client, on_head, &client->head, true))
        return false;
    if (rest_len != 0)
        return take_body(client, rest, rest_len, true);
    drop_head_buffer(client);
    return true;
}

/* RFC 9110 15.2.2, 8.6; RFC 9112 6.1. NULL: it does what was asked for. */
static const char *find_fault_with_switch(const struct gw_client *client)
{
    const struct gw_response_head *head = &client->head;
    if (client->upgrade_len == 0)
        return "101 without an upgrade asked for";
    if (head->minor_version == 0)
        return "101 in HTTP/1.0";
    if (head->upgrade.len != client->upgrade_len ||
        strncasecmp(head->upgrade.base, client->upgrade, client->upgrade_len) != 0)
        return "101 to another protocol than was asked for";
    if (head->is_chunked || head->content_length != UINT64_MAX)
        return "101 with a length";
    return NULL;
}

static bool fail_head(struct gw_client *client, enum gw_client_error error, enum gw_head_result rule,
                      const char *detail)
{
    client->failure.head = rule;
    client->failure.detail = detail;
    gw_client_fail(client, error);
    return false;
}

static bool take_head(struct gw_client *client)
{
    h2o_socket_t *sock = client->conn->sock;
    size_t used;
    while (sock->input->size != 0) {
        enum gw_head_result result = gw_head_parse_response(sock->input->bytes, sock->input->size, client->parsed_len,
                                                            &head_limits, &client->head, &used);
        if (result == GW_HEAD_INCOMPLETE) {
            client->parsed_len = sock->input->size;
            return true;
        }
        if (result == GW_HEAD_TOO_LARGE || result == GW_HEAD_TOO_MANY_FIELDS)
            return fail_head(client, GW_CLIENT_HEAD_TOO_LARGE, result, gw_head_problem(result));
        if (result != GW_HEAD_OK)
            return fail_head(client, GW_CLIENT_BAD_HEAD, result, gw_head_problem(result));
        if (client->head.status >= 200)
            return take_final_head(client, used);
        if (client->head.status == 101) {
            const char *fault = find_fault_with_switch(client);
            return fault == NULL ? take_tunnel_head(client, used)
                                 : fail_head(client, GW_CLIENT_BAD_HEAD, GW_HEAD_OK, fault);
        }
        if (++client->num_interim > GW_CLIENT_MAX_INTERIM)
            return fail_head(client, GW_CLIENT_BAD_HEAD, GW_HEAD_OK, "too many interim responses");
        if (!gw_client_report_interim(client))
            return false;
        client->parsed_len = 0;
        h2o_buffer_consume(&sock->input, used);
        gw_client_set_deadline(client); /* the origin is at work and says so */
    }
    return true;
}

/* A connection of the pool that the origin had closed when the request was on its way: its FIN is here, and no byte of
 * the request has been acknowledged. What a closed socket has not received its process never reads, so that the request
 * may be sent again whatever its method (RFC 9110 9.2.2: "some means to detect that the original request was never
 * applied"). A reset without a FIN proves nothing. */
static bool is_untouched(const struct gw_client *client)
{
    int fd = h2o_socket_get_fd(client->conn->sock), unacknowledged;
    char byte;
    return client->failure.was_reused && !client->is_writing && !client->write_failed && client->sent != 0 &&
           recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0 && ioctl(fd, SIOCOUTQ, &unacknowledged) == 0 &&
           unacknowledged > 0 && (uint64_t)unacknowledged >= client->sent;
}

static void on_closed(struct gw_client *client, const char *err)
{
    bool is_eof = err == h2o_socket_error_closed;
    if (is_eof && client->is_tunnel && !client->write_failed) {
        client->origin_ended = true;
        h2o_socket_read_stop(client->conn->sock);
        (void)GW_CLIENT_CALL(client, on_body, h2o_iovec_init(NULL, 0), true);
        return;
    }
    if (client->state == GW_CLIENT_RECEIVING) {
        /* A send() that met a reset takes the error away and leaves a plain end to the reader: not a body to trust. */
        if (is_eof && client->framing == GW_FRAMED_BY_CLOSE && !client->is_writing && !client->write_failed &&
            (client->conn->sock->ssl == NULL || tls_origin_has_said_goodbye(client->conn->sock))) {
            gw_client_end(client, false);
            (void)GW_CLIENT_CALL(client, on_body, h2o_iovec_init(NULL, 0), true);
            return;
        }
        gw_client_fail(client, is_eof && !client->is_tunnel ? GW_CLIENT_TRUNCATED : GW_CLIENT_RESET);
    } else if (client->conn->sock->input->size != 0) {
        fail_head(client, GW_CLIENT_BAD_HEAD, GW_HEAD_INCOMPLETE, "closed within the response head");
    } else {
        client->failure.is_untouched = is_eof && !client->failure.any_response_byte && is_untouched(client);
        if (err == h2o_socket_error_ssl_decode)
            client->failure.detail = tls_origin_read_error();
        gw_client_fail(client, GW_CLIENT_CLOSED_EARLY);
    }
}

/* What is left in the socket, the next turn tells of again; over TLS it has been taken out of it. */
static bool must_wait(struct gw_client *client, const h2o_socket_t *sock)
{
    struct gw_thread *thread = gw_pool_thread(client->pool);
    if (sock->ssl != NULL) {
        gw_thread_charge(thread, client->usage);
        return false;
    }
    return !gw_thread_may_read_for(thread, client->usage) || (client->is_bulky && gw_thread_is_late(thread));
}

static size_t read_at_most(const struct gw_client *client)
{
    if (client->state != GW_CLIENT_RECEIVING)
        return GW_CLIENT_HEAD_READ;
    bool is_little = client->is_thrifty || gw_thread_is_pressed(gw_pool_thread(client->pool));
    return is_little ? GW_CLIENT_THRIFTY_READ : GW_CLIENT_BODY_READ;
}

void gw_client_on_readable(h2o_socket_t *sock, const char *err)
{
    struct gw_upstream_connection *conn = gw_upstream_connection_from(sock);
    if (conn->client == NULL) {
        gw_pool_on_idle_readable(conn, err);
        return;
    }
    struct gw_client *client = gw_client_of(conn);
    if (err == NULL && must_wait(client, sock))
        return;
    size_t had = sock->input->size;
    err = gw_socket_read(sock, err, read_at_most(client));
    size_t got = sock->input->size - had;
    client->is_bulky = got >= GW_CLIENT_THRIFTY_READ;
    /* close_notify in one read with the last bytes: no event will tell of it again while the origin waits for ours */
    if (err == NULL && got != 0 && sock->ssl != NULL && tls_origin_has_said_goodbye(sock))
        err = h2o_socket_error_closed;
    if (got != 0) {
        client->failure.any_response_byte = true;
        if (client->state == GW_CLIENT_RECEIVING) {
            if (!take_body(client, sock->input->bytes, sock->input->size, false))
                return;
        } else if (!take_head(client)) {
            return;
        }
    }
    if (err == NULL && client->is_tunnel && gw_socket_has_ended(sock))
        err = h2o_socket_error_closed;
    if (err != NULL)
        on_closed(client, err);
}
