/* One API over libh2o's sockets for the hot path: read with recv() and written with send()/sendmsg() at once, plain or
 * after encryption; what does not fit goes through h2o_socket. Used by server connections and by the upstream client. A
 * socket has one reader and one writer, both on its loop, and is written only from callbacks of the loop: no event
 * tells of the completion of a write between two turns. The process ignores SIGPIPE. */
#pragma once
#include <stdbool.h>
#include <h2o.h>

/* After accept or connect (and after a TLS handshake): plain sockets are told not to read by themselves. */
void gw_socket_setup(h2o_socket_t *);
/* Reads what is there into sock->input (plain: recv until short read or max_bytes more; TLS: the same, then decrypted).
 * Call from the read callback with its err. Returns NULL, or the error text; h2o_socket_error_closed on EOF. Data read
 * together with the EOF stays in input and the EOF is reported by the next call. After an error of a TLS socket nothing
 * may be written: libh2o would report a success. */
const char *gw_socket_read(h2o_socket_t *, const char *err, size_t max_bytes);
/* Reads and drops up to max_bytes of what is there, as it came from the network; adds their number to dropped. For
 * connections on which nothing matters any more but their end, which is what it returns like gw_socket_read. */
const char *gw_socket_drop(h2o_socket_t *, const char *err, size_t max_bytes, size_t *dropped);
/* Writes all of bufs; empty ones are fine. On TLS they share records, of 4 KiB until the connection has written 64 KiB
 * and of 16 KiB from then on. Returns true when everything left at once: on_written is NOT called then. Otherwise
 * false, and the memory that bufs point to must stay valid until on_written (plain sockets; TLS has copied it); the
 * array itself is copied. Errors are reported through on_written, from the loop and never from inside this call. Never
 * call while an earlier write waits (h2o_socket_is_writing). */
bool gw_socket_write(h2o_socket_t *, h2o_iovec_t *bufs, size_t num_bufs, h2o_socket_cb on_written);
/* Says that we send no more, while reading goes on: close_notify on TLS, else a FIN. Like gw_socket_write: true when it
 * left at once, otherwise on_written reports it. Nothing may be written afterwards. */
bool gw_socket_end(h2o_socket_t *, h2o_socket_cb on_written);
/* The peer has said close_notify: no byte follows those that were read, though the connection may stay open, and no
 * further read event may come. Always false on plain sockets. */
bool gw_socket_has_ended(h2o_socket_t *);
/* Bytes the peer has acknowledged (TCP), or the room it made in our queue (Unix sockets): changes when it reads. */
uint64_t gw_socket_send_progress(h2o_socket_t *);
/* Bytes that we wrote have not reached the peer's kernel (TCP), or the peer (Unix sockets). */
bool gw_socket_has_unsent(h2o_socket_t *);
/* Never waits. is_cut_off: a body that ends with the connection must not look complete: reset, and no close_notify. */
void gw_socket_close(h2o_socket_t *, bool is_cut_off);
/* The TLS state of a socket, NULL if it is plain. Borrowed. */
SSL *gw_socket_ssl(h2o_socket_t *);
/* Takes the input buffer away, leaving an empty one: slices into it stay valid until gw_buffer_free. On the thread of
 * the socket: buffers go back to a list of their thread. */
h2o_buffer_t *gw_socket_detach_input(h2o_socket_t *);
static inline void gw_buffer_free(h2o_buffer_t *buffer) /* NULL is fine */
{
    if (buffer != NULL)
        h2o_buffer_dispose(&buffer);
}
