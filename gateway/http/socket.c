#include "gateway/http/socket.h"
#include <errno.h>
#include <limits.h>
#include <sys/uio.h>

/* h2o_iovec_t is given to the kernel as it is */
_Static_assert(sizeof(h2o_iovec_t) == sizeof(struct iovec) &&
                   offsetof(h2o_iovec_t, len) == offsetof(struct iovec, iov_len),
               "h2o_iovec_t has the shape of struct iovec");

enum { MIN_READ = 4096, BULK_READ = 64 * 1024 - 512 /* with malloc's and the buffer's own head within 64 KiB */ };

/* A plain socket has no use for this field of the TLS record sizer; we keep in it whether its last read filled all the
 * room there was, in which case the next one makes room for more at once. */
static inline uint16_t *last_read_was_full(h2o_socket_t *sock)
{
    return &sock->_latency_optimization.suggested_tls_payload_size;
}

void gw_socket_setup(h2o_socket_t *sock)
{
    if (sock->ssl != NULL)
        return;
    h2o_socket_dont_read(sock, 1);
    *last_read_was_full(sock) = 0;
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
            got = recv(fd, space.base, room, 0);
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

const char *gw_socket_read(h2o_socket_t *sock, const char *err, size_t max_bytes)
{
    if (err != NULL || sock->ssl != NULL || max_bytes == 0)
        return err;
    return read_plain(sock, max_bytes);
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
        /* libh2o.md 3.2: an empty one at the end would make it poll for nothing */
        if (skipped != bufs[i].len)
            rest[num_rest++] = h2o_iovec_init(bufs[i].base + skipped, bufs[i].len - skipped);
    }
    h2o_socket_write(sock, rest, num_rest, on_written);
    if (rest != few)
        free(rest);
}

bool gw_socket_write(h2o_socket_t *sock, h2o_iovec_t *bufs, size_t num_bufs, h2o_socket_cb on_written)
{
    size_t total = 0;
    ssize_t sent = 0;
    assert(!h2o_socket_is_writing(sock));
    for (size_t i = 0; i != num_bufs; ++i)
        total += bufs[i].len;
    if (total == 0)
        return true;
    if (sock->ssl == NULL) {
        int fd = h2o_socket_get_fd(sock);
        struct msghdr message = {.msg_iov = (struct iovec *)(void *)bufs, .msg_iovlen = num_bufs};
        if (num_bufs > IOV_MAX)
            message.msg_iovlen = IOV_MAX;
        do
            sent = num_bufs == 1 ? send(fd, bufs->base, bufs->len, MSG_NOSIGNAL) : sendmsg(fd, &message, MSG_NOSIGNAL);
        while (sent == -1 && errno == EINTR);
        if (sent < 0)
            sent = 0;
        sock->bytes_written += (size_t)sent;
        if ((size_t)sent == total)
            return true;
    }
    write_rest(sock, bufs, num_bufs, (size_t)sent, on_written);
    return false;
}

h2o_buffer_t *gw_socket_detach_input(h2o_socket_t *sock)
{
    h2o_buffer_t *input = sock->input;
    h2o_buffer_init(&sock->input, &h2o_socket_buffer_prototype);
    return input;
}
