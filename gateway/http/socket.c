#include "gateway/http/socket.h"
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <linux/tcp.h> /* that of libc lacks tcpi_bytes_acked */
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* h2o_iovec_t is given to the kernel as it is */
_Static_assert(sizeof(h2o_iovec_t) == sizeof(struct iovec) &&
                   offsetof(h2o_iovec_t, len) == offsetof(struct iovec, iov_len),
               "h2o_iovec_t has the shape of struct iovec");

enum {
    MIN_READ = 4096,
    BULK_READ = 64 * 1024 - 512, /* with malloc's and the buffer's own head within 64 KiB */
    SMALL_RECORD = 4096,         /* a connection that begins gets records that fit its congestion window, */
    LARGE_RECORD = 16384,        /* a busy one the largest there are */
    BUSY_AFTER = 64 * 1024,
};

/* Those of libc are points where a thread may be cancelled: with more than one thread each call costs two atomic
 * exchanges to say so. No thread of ours is ever cancelled. */
static inline ssize_t receive(int fd, char *dst, size_t room)
{
    return syscall(SYS_recvfrom, fd, dst, room, 0, NULL, NULL);
}
static inline ssize_t transmit(int fd, h2o_iovec_t bytes)
{
    return syscall(SYS_sendto, fd, bytes.base, bytes.len, MSG_NOSIGNAL, NULL, 0);
}

/* A plain socket has no use for this field of the TLS record sizer; we keep in it whether its last read filled all the
 * room there was, in which case the next one makes room for more at once. */
static inline uint16_t *last_read_was_full(h2o_socket_t *sock)
{
    return &sock->_latency_optimization.suggested_tls_payload_size;
}

/* libh2o reads a TLS socket until the kernel has no more, megabytes at a time from a fast sender, and keeps what came
 * behind the end of the handshake until the next event. We read in bounded steps instead, through its own staging
 * buffer. These are the first members of its private struct, frozen by the soname 0.13 (built without picotls). */
struct st_h2o_socket_ssl_t {
    SSL_CTX *ssl_ctx;
    SSL *ossl;
    int *did_write_in_read;
    size_t record_overhead;
    struct {
        h2o_socket_cb cb;
        union {
            struct {
                int state;
                SSL_SESSION *session_data;
            } server;
            struct {
                char *server_name;
                h2o_cache_t *session_cache;
                h2o_iovec_t session_cache_key;
                h2o_cache_hashcode_t session_cache_key_hash;
            } client;
        };
    } handshake;
    struct {
        h2o_buffer_t *encrypted;
    } input;
    struct {
        H2O_VECTOR(h2o_iovec_t) bufs;
        h2o_mem_pool_t pool; /* cleared after each write */
    } output;
};

/* Decrypts all that is staged; a record of which a part is missing stays. OpenSSL's queue of errors says nothing that
 * its state does not say, and even a look at it costs as much as a small malloc(), so it is left alone while all is
 * well. */
static const char *decrypt_staged(h2o_socket_t *sock)
{
    struct st_h2o_socket_ssl_t *ssl = sock->ssl;

    /* Records that came together, header and all, are taken over in one step; those of an upload stay in the buffer
     * where they are, as OpenSSL moves what it holds to the front of its own each time. */
    SSL_set_read_ahead(ssl->ossl, ssl->input.encrypted->size <= MIN_READ);
    while (ssl->input.encrypted->size != 0 || SSL_has_pending(ssl->ossl)) {
        int did_write_in_read = 0, got;
        h2o_iovec_t space = h2o_buffer_reserve(&sock->input, MIN_READ);
        if (space.base == NULL)
            return h2o_socket_error_out_of_memory;
        ssl->did_write_in_read = &did_write_in_read; /* libh2o's BIO refuses writes then: no renegotiation */
        got = SSL_read(ssl->ossl, space.base, (int)(space.len < INT_MAX ? space.len : INT_MAX));
        ssl->did_write_in_read = NULL;
        if (did_write_in_read) {
            /* that record is lost or went past libh2o (tls/socket.h): nobody could read one behind it */
            SSL_set_shutdown(ssl->ossl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
            return h2o_socket_error_ssl_decode;
        }
        if (got > 0) {
            sock->input->size += (size_t)got;
            continue;
        }
        if (SSL_want_read(ssl->ossl))
            return NULL;
        ERR_clear_error();
        bool is_close_notify = (SSL_get_shutdown(ssl->ossl) & SSL_RECEIVED_SHUTDOWN) != 0 && !SSL_in_init(ssl->ossl);
        return is_close_notify ? h2o_socket_error_closed : h2o_socket_error_ssl_decode;
    }
    return NULL;
}

void gw_socket_setup(h2o_socket_t *sock)
{
    h2o_socket_dont_read(sock, 1);
    if (sock->ssl == NULL)
        *last_read_was_full(sock) = 0;
    else
        decrypt_staged(sock); /* an error is met again by the first read */
}

/* An idle connection must not hold a buffer. */
static void drop_empty_input(h2o_socket_t *sock)
{
    if (sock->input->size == 0 && sock->input->bytes != NULL) {
        h2o_buffer_dispose(&sock->input);
        h2o_buffer_init(&sock->input, &h2o_socket_buffer_prototype);
    }
}

static const char *read_plain(h2o_socket_t *sock, size_t max_bytes)
{
    int fd = h2o_socket_get_fd(sock);
    size_t total = 0, room;
    ssize_t got;
    do {
        size_t wanted = *last_read_was_full(sock) && max_bytes - total > MIN_READ ? max_bytes - total : MIN_READ;
        h2o_iovec_t space = h2o_buffer_reserve(&sock->input, wanted < BULK_READ ? wanted : BULK_READ);
        if (space.base == NULL)
            return h2o_socket_error_out_of_memory;
        room = space.len < max_bytes - total ? space.len : max_bytes - total;
        do
            got = receive(fd, space.base, room);
        while (got == -1 && errno == EINTR);
        if (got <= 0)
            break;
        sock->input->size += (size_t)got;
        total += (size_t)got;
        *last_read_was_full(sock) = (size_t)got == room;
    } while ((size_t)got == room && total < max_bytes);
    sock->bytes_read = total;
    if (got > 0 || total != 0)
        return NULL; /* an end or error behind the data is seen again by the next read */
    const char *err = got == 0 ? h2o_socket_error_closed : errno == EAGAIN ? NULL : h2o_socket_error_io;
    *last_read_was_full(sock) = 0;
    drop_empty_input(sock);
    return err;
}

static const char *read_tls(h2o_socket_t *sock, size_t max_bytes)
{
    int fd = h2o_socket_get_fd(sock);
    h2o_buffer_t **staged = &sock->ssl->input.encrypted;
    size_t total = 0, room, before = sock->input->size;
    ssize_t got;
    const char *err = NULL;

    do {
        h2o_iovec_t space = h2o_buffer_reserve(staged, total == 0 ? MIN_READ : BULK_READ);
        if (space.base == NULL)
            return h2o_socket_error_out_of_memory;
        room = space.len < max_bytes - total ? space.len : max_bytes - total;
        do
            got = receive(fd, space.base, room);
        while (got == -1 && errno == EINTR);
        if (got == 0)
            err = h2o_socket_error_closed;
        else if (got == -1 && errno != EAGAIN)
            err = h2o_socket_error_io;
        if (got <= 0)
            break;
        (*staged)->size += (size_t)got;
        total += (size_t)got;
    } while ((size_t)got == room && total < max_bytes);
    if ((*staged)->size == 0 && (*staged)->bytes != NULL) {
        h2o_buffer_dispose(staged);
        h2o_buffer_init(staged, &h2o_socket_buffer_prototype);
    }
    const char *bad = decrypt_staged(sock);
    sock->bytes_read = sock->input->size - before;
    /* what was decrypted comes first; the end or error behind it is met again by the next read */
    if (sock->bytes_read != 0 && (bad == NULL || bad == h2o_socket_error_closed))
        return NULL;
    drop_empty_input(sock);
    return bad != NULL ? bad : err;
}

const char *gw_socket_read(h2o_socket_t *sock, const char *err, size_t max_bytes)
{
    if (err != NULL || max_bytes == 0)
        return err;
    return sock->ssl != NULL ? read_tls(sock, max_bytes) : read_plain(sock, max_bytes);
}

const char *gw_socket_drop(h2o_socket_t *sock, const char *err, size_t max_bytes, size_t *dropped)
{
    int fd = h2o_socket_get_fd(sock);
    ssize_t got;
    char few[4096];

    if (err != NULL)
        return err;
    do { /* TCP does not even copy them (tcp(7)), Unix sockets do */
        got = syscall(SYS_recvfrom, fd, NULL, max_bytes, MSG_TRUNC, NULL, NULL);
        if (got == -1 && errno == EFAULT)
            got = receive(fd, few, sizeof(few));
    } while (got == -1 && errno == EINTR);
    if (got > 0)
        *dropped += (size_t)got;
    return got > 0 ? NULL : got == 0 ? h2o_socket_error_closed : errno == EAGAIN ? NULL : h2o_socket_error_io;
}

/* Hands what was not sent to libh2o, whose loop goes on with it and reports the outcome. It tries at once, so an error
 * that we have met is met again there and is reported from the loop and not from inside the write. */
static void write_rest(h2o_socket_t *sock, h2o_iovec_t *bufs, size_t num_bufs, size_t sent, h2o_socket_cb on_written)
{
    h2o_iovec_t few[16], *rest = num_bufs <= 16 ? few : h2o_mem_alloc(num_bufs * sizeof(*rest));
    size_t num_rest = 0;
    for (size_t i = 0; i != num_bufs; ++i) {
        size_t skipped = sent < bufs[i].len ? sent : bufs[i].len;
        sent -= skipped;
        /* an empty slice at the end would make libh2o poll for nothing */
        if (skipped != bufs[i].len)
            rest[num_rest++] = h2o_iovec_init(bufs[i].base + skipped, bufs[i].len - skipped);
    }
    h2o_socket_write(sock, rest, num_rest, on_written);
    if (rest != few)
        free(rest);
}

static ssize_t transmit_all(int fd, h2o_iovec_t *bufs, size_t num_bufs)
{
    struct msghdr message = {.msg_iov = (struct iovec *)(void *)bufs, .msg_iovlen = num_bufs};
    ssize_t sent;
    do /* more than IOV_MAX are refused by the kernel; libh2o sends them in portions */
        sent = num_bufs == 1 ? transmit(fd, *bufs) : sendmsg(fd, &message, MSG_NOSIGNAL);
    while (sent == -1 && errno == EINTR);
    return sent > 0 ? sent : 0;
}

/* The next len bytes of bufs, which lie in scratch if they did not lie side by side. */
static h2o_iovec_t take(h2o_iovec_t **bufs, size_t *offset, size_t len, char *scratch)
{
    size_t filled = 0;
    while ((*bufs)->len == *offset) {
        ++*bufs;
        *offset = 0;
    }
    if ((*bufs)->len - *offset >= len) {
        *offset += len;
        return h2o_iovec_init((*bufs)->base + *offset - len, len);
    }
    while (filled != len) {
        size_t part = (*bufs)->len - *offset < len - filled ? (*bufs)->len - *offset : len - filled;
        memcpy(scratch + filled, (*bufs)->base + *offset, part);
        filled += part;
        if ((*offset += part) == (*bufs)->len) {
            ++*bufs;
            *offset = 0;
        }
    }
    return h2o_iovec_init(scratch, len);
}

/* Fills records: most of a small one's price does not depend on its length. libh2o's BIO keeps them in ssl->output. */
static bool encrypt(h2o_socket_t *sock, h2o_iovec_t *bufs, size_t total)
{
    char scratch[LARGE_RECORD];
    size_t offset = 0, record = sock->bytes_written < BUSY_AFTER ? SMALL_RECORD : LARGE_RECORD;
    while (total != 0) {
        h2o_iovec_t next = take(&bufs, &offset, total < record ? total : record, scratch);
        if (SSL_write(sock->ssl->ossl, next.base, (int)next.len) != (int)next.len)
            return false;
        total -= next.len;
    }
    return true;
}

static void clear_output(struct st_h2o_socket_ssl_t *ssl)
{
    memset(&ssl->output.bufs, 0, sizeof(ssl->output.bufs));
    h2o_mem_clear_pool(&ssl->output.pool);
}

/* What has been encrypted goes on by libh2o as if the socket were plain; it clears ssl->output when all has left. */
static void write_encrypted(h2o_socket_t *sock, h2o_iovec_t *bufs, size_t num_bufs, size_t sent,
                            h2o_socket_cb on_written)
{
    struct st_h2o_socket_ssl_t *ssl = sock->ssl;
    sock->ssl = NULL;
    write_rest(sock, bufs, num_bufs, sent, on_written);
    sock->ssl = ssl;
}

static bool write_tls(h2o_socket_t *sock, h2o_iovec_t *bufs, size_t num_bufs, size_t total, h2o_socket_cb on_written)
{
    struct st_h2o_socket_ssl_t *ssl = sock->ssl;
    size_t len = 0, sent, written = sock->bytes_written + total;

    assert(ssl->output.bufs.size == 0);
    if (!encrypt(sock, bufs, total)) {
        ERR_clear_error();
        clear_output(ssl);
        h2o_socket_write(sock, bufs, num_bufs, on_written); /* fails like ours, and libh2o makes of it what it does */
        return false;
    }
    for (size_t i = 0; i != ssl->output.bufs.size; ++i)
        len += ssl->output.bufs.entries[i].len;
    sent = (size_t)transmit_all(h2o_socket_get_fd(sock), ssl->output.bufs.entries, ssl->output.bufs.size);
    if (sent == len)
        clear_output(ssl);
    else
        write_encrypted(sock, ssl->output.bufs.entries, ssl->output.bufs.size, sent, on_written);
    sock->bytes_written = written;
    return sent == len;
}

bool gw_socket_write(h2o_socket_t *sock, h2o_iovec_t *bufs, size_t num_bufs, h2o_socket_cb on_written)
{
    size_t total = 0, sent;
    assert(!h2o_socket_is_writing(sock));
    for (size_t i = 0; i != num_bufs; ++i)
        total += bufs[i].len;
    if (total == 0)
        return true;
    if (sock->ssl != NULL)
        return write_tls(sock, bufs, num_bufs, total, on_written);
    sent = (size_t)transmit_all(h2o_socket_get_fd(sock), bufs, num_bufs);
    sock->bytes_written += sent;
    if (sent == total)
        return true;
    write_rest(sock, bufs, num_bufs, sent, on_written);
    return false;
}

/* The alert is made into a BIO of its own: that of libh2o would keep it until the next write, which never comes. */
static size_t make_close_notify(SSL *ssl, char *dst, size_t size)
{
    BIO *own = SSL_get_wbio(ssl), *alert = BIO_new(BIO_s_mem());
    int len;

    if (alert == NULL)
        h2o_fatal("no memory");
    BIO_up_ref(own);
    SSL_set0_wbio(ssl, alert);
    ERR_clear_error();
    SSL_shutdown(ssl);
    len = BIO_read(alert, dst, (int)size);
    SSL_set0_wbio(ssl, own);
    return len > 0 ? (size_t)len : 0;
}

bool gw_socket_end(h2o_socket_t *sock, h2o_socket_cb on_written)
{
    struct st_h2o_socket_ssl_t *ssl = sock->ssl;
    char alert[256];
    size_t len;
    ssize_t sent;

    assert(!h2o_socket_is_writing(sock));
    if (ssl == NULL) {
        shutdown(h2o_socket_get_fd(sock), SHUT_WR);
        return true;
    }
    if ((len = make_close_notify(ssl->ossl, alert, sizeof(alert))) == 0)
        return true;
    do
        sent = send(h2o_socket_get_fd(sock), alert, len, MSG_NOSIGNAL);
    while (sent == -1 && errno == EINTR);
    if (sent < 0)
        sent = 0;
    if ((size_t)sent == len)
        return true;
    /* it is encrypted already: libh2o gets it as if the socket were plain, in memory that lives as long as its TLS
     * state */
    h2o_iovec_t rest = h2o_iovec_init(h2o_mem_alloc_pool(&ssl->output.pool, len - (size_t)sent), len - (size_t)sent);
    memcpy(rest.base, alert + sent, rest.len);
    write_encrypted(sock, &rest, 1, 0, on_written);
    return false;
}

bool gw_socket_has_ended(h2o_socket_t *sock)
{
    return sock->ssl != NULL && (SSL_get_shutdown(sock->ssl->ossl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

SSL *gw_socket_ssl(h2o_socket_t *sock) { return sock->ssl != NULL ? sock->ssl->ossl : NULL; }

h2o_buffer_t *gw_socket_detach_input(h2o_socket_t *sock)
{
    h2o_buffer_t *input = sock->input;
    h2o_buffer_init(&sock->input, &h2o_socket_buffer_prototype);
    return input;
}

uint64_t gw_socket_send_progress(h2o_socket_t *sock)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);
    int fd = h2o_socket_get_fd(sock), queued = 0;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
        return info.tcpi_bytes_acked;
    if (ioctl(fd, TIOCOUTQ, &queued) == 0)
        return (uint64_t)queued;
    return 0;
}

bool gw_socket_has_unsent(h2o_socket_t *sock)
{
    int queued = 0;
    return h2o_socket_is_writing(sock) || (ioctl(h2o_socket_get_fd(sock), TIOCOUTQ, &queued) == 0 && queued != 0);
}

static bool is_writable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) != 0;
}

static void on_never(h2o_socket_t *sock, const char *err) {}

/* libh2o waits without limit for room for close_notify; a client that stopped reading must not keep the descriptor. */
void gw_socket_close(h2o_socket_t *sock, bool is_cut_off)
{
    if (is_cut_off) {
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(h2o_socket_get_fd(sock), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    }
    if (sock->ssl != NULL && sock->_cb.write == NULL && (is_cut_off || !is_writable(h2o_socket_get_fd(sock))))
        sock->_cb.write = on_never; /* libh2o closes at once when a write is under way */
    h2o_socket_close(sock);
}
