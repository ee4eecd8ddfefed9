/* Bytes both ways. Plain sockets are read into one buffer of the thread and written from it: what the other side does
 * not take at once is kept (at most one read) and reading pauses, so a connection costs no buffer while it is idle or
 * flows. Between plain sockets, a sender that fills such a read goes on through a pipe (l4_pipe.h), without copies,
 * until there is nothing to read. TLS goes through libh2o (gateway/http/socket.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/ssl.h>
#include "gateway/http/socket.h"
#include "gateway/l4/l4_connection.h"
#include "gateway/l4/l4_pipe.h"

enum {
    READ_SIZE = 64 * 1024,
    READS_A_TURN = 4,      /* so that one fast sender does not hold up the others */
    LINGER_MS = 5000,      /* for a client to close that still sends what nobody reads */
    CLOSE_NOTIFY_MAX = 64, /* bytes of the record */
};

static void on_readable(h2o_socket_t *, const char *err);
static void on_writable(h2o_socket_t *, const char *err);
static void on_tls_written(h2o_socket_t *, const char *err);

static void start_reading(struct gw_l4_side *side)
{
    if (side->is_reading || side->has_ended)
        return;
    side->is_reading = true;
    h2o_socket_read_start(side->sock, on_readable);
}

static void stop_reading(struct gw_l4_side *side)
{
    if (!side->is_reading)
        return;
    side->is_reading = false;
    h2o_socket_read_stop(side->sock);
}

static void touch(struct gw_l4_connection *connection)
{
    connection->active_ms = gw_thread_now(&connection->worker->thread);
}

/* ---- the end of one direction ---- */

/* libh2o sends close_notify only on its way to closing the socket, but a TLS connection too has two directions (RFC
 * 8446 6.1). The record is taken from OpenSSL and sent past libh2o; nothing else is under way then. A peer so far
 * behind that these bytes do not fit learns of the end from the FIN alone. */
static void send_close_notify(h2o_socket_t *sock)
{
    SSL *ssl = gw_socket_ssl(sock);
    BIO *usual = SSL_get_wbio(ssl), *record = BIO_new(BIO_s_mem());
    char bytes[CLOSE_NOTIFY_MAX];
    int len;

    if (record == NULL)
        return;
    BIO_up_ref(usual);
    SSL_set0_wbio(ssl, record);
    SSL_shutdown(ssl);
    len = BIO_read(record, bytes, sizeof(bytes));
    SSL_set0_wbio(ssl, usual);
    if (len > 0 && send(h2o_socket_get_fd(sock), bytes, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) == len)
        return;
}

static bool is_over(const struct gw_l4_connection *connection)
{
    const struct gw_l4_side *client = &connection->client, *target = &connection->target;
    return client->has_ended && target->has_ended && client->is_shut && target->is_shut;
}

/* No more bytes for this side: those before are with the kernel. */
static void shut(struct gw_l4_side *side)
{
    if (side->is_shut)
        return;
    side->is_shut = true;
    if (side->sock->ssl != NULL)
        send_close_notify(side->sock);
    shutdown(h2o_socket_get_fd(side->sock), SHUT_WR);
}

static enum gw_reason reset_by(const struct gw_l4_side *side)
{
    return side == &side->connection->client ? GW_REASON_CLIENT_RESET : GW_REASON_UPSTREAM_RESET;
}

/* What is left to say is that `from` has ended, to a side without TLS, which has ended too and was read to its end. */
static bool is_last_end(const struct gw_l4_side *from)
{
    return from->has_ended && from->other->has_ended && from->is_shut && from->other->sock->ssl == NULL;
}

/* All that came from `from` was written. False: the connection is gone. */
static bool pass_end_on(struct gw_l4_side *from)
{
    struct gw_l4_connection *connection = from->connection;

    if (from->has_failed) {
        gw_l4_end(connection, reset_by(from), NULL);
        return false;
    }
    if (is_last_end(from)) { /* closing says it too */
        gw_l4_end(connection, GW_REASON_NONE, NULL);
        return false;
    }
    shut(from->other);
    if (!is_over(connection)) {
        if (connection->loss != GW_REASON_NONE && connection->idle_timeout_ms > LINGER_MS)
            gw_l4_set_idle_timeout(connection, LINGER_MS);
        return true;
    }
    gw_l4_end(connection, GW_REASON_NONE, NULL);
    return false;
}

/* ---- writing ---- */

/* What is in it is lost. */
static void leave_pipe(struct gw_l4_side *from)
{
    gw_l4_pipe_give_back(from->connection->worker, from->pipe, from->piped == 0);
    from->pipe = NULL;
    from->piped = 0;
    from->may_splice = false;
}

/* The side takes nothing any more. What it has sent before may still be on its way to us, an answer to a request that
 * it did not want to read to the end: that goes on. False: the connection is gone. */
static bool on_write_failure(struct gw_l4_side *side)
{
    free(side->waiting);
    side->waiting = NULL;
    leave_pipe(side->other);
    side->is_writing = false;
    side->is_shut = true;
    side->connection->loss = reset_by(side);
    side->bytes_at_loss = side->bytes_read;
    if (side->has_ended) {
        gw_l4_end(side->connection, reset_by(side), NULL);
        return false;
    }
    if (side->other->has_ended)
        return pass_end_on(side->other);
    start_reading(side->other); /* and drop it: closing on unread bytes would reset what we have sent there */
    return true;
}

static ssize_t send_some(struct gw_l4_side *side, const char *bytes, size_t len)
{
    ssize_t sent;
    do
        sent = send(h2o_socket_get_fd(side->sock), bytes, len, MSG_NOSIGNAL);
    while (sent == -1 && errno == EINTR);
    return sent == -1 && errno == EAGAIN ? 0 : sent;
}

static void keep(struct gw_l4_side *side, const char *bytes, size_t len)
{
    side->waiting = h2o_mem_alloc(len);
    memcpy(side->waiting, bytes, len);
    side->waiting_len = len;
    side->waiting_at = 0;
    side->is_writing = true;
    h2o_socket_notify_write(side->sock, on_writable);
}

/* The bytes are free after it. False: the connection is gone. */
static bool write_to(struct gw_l4_side *side, const char *bytes, size_t len)
{
    if (side->is_shut)
        return true;
    if (side->sock->ssl != NULL) {
        h2o_iovec_t buf = h2o_iovec_init(bytes, len);
        side->is_writing = true;
        h2o_socket_write(side->sock, &buf, 1, on_tls_written); /* has encrypted them all on return */
        return true;
    }
    ssize_t sent = send_some(side, bytes, len);
    if (sent < 0)
        return on_write_failure(side);
    if ((size_t)sent != len)
        keep(side, bytes + sent, len - (size_t)sent);
    return true;
}

/* From the pipe of the other side. 0: it takes nothing now; -1: nor will it. */
static ssize_t send_piped(struct gw_l4_side *side)
{
    struct gw_l4_side *from = side->other;
    ssize_t sent;

    do
        sent = splice(from->pipe->from, NULL, h2o_socket_get_fd(side->sock), NULL, from->piped,
                      SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    while (sent == -1 && errno == EINTR);
    if (sent == -1)
        return errno == EAGAIN ? 0 : -1;
    from->piped -= (size_t)sent;
    return sent;
}

static void on_written(struct gw_l4_side *side)
{
    side->is_writing = false;
    touch(side->connection);
    if (side->other->has_ended)
        pass_end_on(side->other);
    else
        start_reading(side->other);
}

static void on_tls_written(h2o_socket_t *sock, const char *err)
{
    struct gw_l4_side *side = sock->data;
    if (err != NULL)
        on_write_failure(side);
    else
        on_written(side);
}

static ssize_t send_waiting(struct gw_l4_side *side)
{
    ssize_t sent;

    if (side->other->piped != 0)
        return send_piped(side);
    if ((sent = send_some(side, side->waiting + side->waiting_at, side->waiting_len - side->waiting_at)) > 0)
        side->waiting_at += (size_t)sent;
    return sent;
}

static void on_writable(h2o_socket_t *sock, const char *err)
{
    struct gw_l4_side *side = sock->data;
    ssize_t sent = err != NULL ? -1 : send_waiting(side);

    if (sent < 0) {
        on_write_failure(side);
        return;
    }
    if (side->waiting_at != side->waiting_len || side->other->piped != 0) {
        if (sent != 0)
            touch(side->connection);
        h2o_socket_notify_write(sock, on_writable);
        return;
    }
    free(side->waiting);
    side->waiting = NULL;
    side->waiting_at = side->waiting_len = 0;
    on_written(side);
}

/* ---- reading ---- */

static void on_end(struct gw_l4_side *side, bool is_failure)
{
    bool has_broken_off = side->connection->loss == reset_by(side) && side->bytes_read == side->bytes_at_loss;

    stop_reading(side);
    side->has_ended = true;
    side->has_failed =
        is_failure || has_broken_off; /* the kernel told the writer, and tells the reader of a mere end */
    if (!side->other->is_writing)
        pass_end_on(side);
}

/* TLS: what was decrypted waits in the socket's input. False: the connection is gone. */
static bool forward_input(struct gw_l4_side *side)
{
    h2o_buffer_t *input = gw_socket_detach_input(side->sock);
    bool lives = true;

    if (input->size != 0) {
        side->bytes_read += input->size;
        lives = write_to(side->other, input->bytes, input->size);
    }
    gw_buffer_free(input);
    return lives;
}

static bool has_said_goodbye(h2o_socket_t *sock)
{
    return sock->ssl != NULL && (SSL_get_shutdown(gw_socket_ssl(sock)) & SSL_RECEIVED_SHUTDOWN) != 0;
}

static void read_tls(struct gw_l4_side *side, const char *err)
{
    err = gw_socket_read(side->sock, err, READ_SIZE);
    if (side->sock->input->size != 0 && !forward_input(side))
        return;
    if (err == NULL && has_said_goodbye(side->sock)) /* behind the bytes; no FIN need follow that would wake us again */
        err = h2o_socket_error_closed;
    if (err != NULL && !side->has_ended)
        on_end(side, err != h2o_socket_error_closed);
}

/* One read by pipe; what the other side does not take at once stays in there. False: there is no more to do now. */
static bool splice_once(struct gw_l4_side *side)
{
    struct gw_l4_side *to = side->other;
    ssize_t got, sent;

    do
        got = splice(h2o_socket_get_fd(side->sock), NULL, side->pipe->to, NULL, GW_L4_PIPE_SIZE,
                     SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    while (got == -1 && errno == EINTR);
    if (got <= 0) {
        bool is_later = got == -1 && errno == EAGAIN;
        side->cannot_splice = got == -1 && errno == EINVAL;
        leave_pipe(side);
        if (!is_later && !side->cannot_splice)
            on_end(side, got < 0);
        return false;
    }
    side->bytes_read += (uint64_t)got;
    side->piped = (size_t)got;
    do
        sent = send_piped(to);
    while (sent > 0 && side->piped != 0);
    if (sent < 0) {
        on_write_failure(to);
        return false;
    }
    if (side->piped == 0)
        return true;
    to->is_writing = true;
    h2o_socket_notify_write(to->sock, on_writable);
    return false;
}

static bool has_pipe(struct gw_l4_side *side)
{
    if (side->pipe == NULL && side->may_splice && !side->cannot_splice && side->other->sock->ssl == NULL)
        side->pipe = gw_l4_pipe_take(side->connection->worker);
    return side->pipe != NULL;
}

static void read_plain(struct gw_l4_side *side)
{
    int fd = h2o_socket_get_fd(side->sock);
    char *buffer = side->connection->worker->l4_buffer;
    ssize_t got = READ_SIZE;

    if (!side->other->is_shut && has_pipe(side)) {
        for (int i = 0; i != READS_A_TURN && splice_once(side); ++i)
            ;
        return;
    }
    for (int i = 0; i != READS_A_TURN && got == READ_SIZE && !side->other->is_writing; ++i) {
        do
            got = recv(fd, buffer, READ_SIZE, 0);
        while (got == -1 && errno == EINTR);
        if (got == -1 && errno == EAGAIN)
            return;
        if (got <= 0) {
            on_end(side, got < 0);
            return;
        }
        side->bytes_read += (uint64_t)got;
        side->may_splice = got == READ_SIZE;
        if (!write_to(side->other, buffer, (size_t)got))
            return;
    }
}

static void on_readable(h2o_socket_t *sock, const char *err)
{
    struct gw_l4_side *side = sock->data;

    touch(side->connection);
    if (side->other->is_writing)
        stop_reading(side); /* until it has written */
    else if (sock->ssl != NULL)
        read_tls(side, err);
    else
        read_plain(side);
}

/* What came with the end of a handshake or was read by whoever had the socket before. False: the connection is gone. */
static bool take_what_is_there(struct gw_l4_side *side)
{
    if (!forward_input(side))
        return false;
    if (!has_said_goodbye(side->sock))
        return true;
    stop_reading(side);
    side->has_ended = true;
    return side->other->is_writing || pass_end_on(side);
}

void gw_l4_pump_start(struct gw_l4_connection *connection)
{
    struct gw_worker *worker = connection->worker;

    if (worker->l4_buffer == NULL)
        worker->l4_buffer = h2o_mem_alloc(READ_SIZE);
    touch(connection);
    start_reading(&connection->client);
    start_reading(&connection->target);
    if (!take_what_is_there(&connection->client) || !take_what_is_there(&connection->target))
        return;
    if (connection->client.sock->ssl == NULL && !connection->client.has_ended && !connection->client.other->is_writing)
        read_plain(&connection->client); /* mostly it has spoken while the target was connected to */
}
