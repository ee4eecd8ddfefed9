/* Three things that libh2o's TLS sockets lack, added from inside OpenSSL's callbacks: who the owner of an SSL is, the
 * alert that says why a handshake or a connection failed, and the answer to a KeyUpdate. */
#pragma once
#include <openssl/ssl.h>
#include <h2o/socket.h>

/* The socket whose bytes an SSL reads; NULL when it is not libh2o's. */
h2o_socket_t *tls_socket_of(SSL *);

/* libh2o queues OpenSSL's fatal alert and then drops the connection with the queue unsent (lib/common/socket.c,
 * proceed_handshake), so the client would see a bare end of file instead of "no application protocol" or "protocol
 * version". While a handshake runs we watch what OpenSSL writes and send a fatal alert ourselves, past libh2o, at that
 * moment: nothing else of this connection will ever leave. watch: in the ClientHello callback. unwatch: when the
 * handshake is done. Both do nothing for connections that are not libh2o's. */
void tls_socket_watch_alerts(SSL *);
void tls_socket_unwatch_alerts(SSL *);

/* A message callback for SSL_CTX_set_msg_callback, for two things that OpenSSL writes from within SSL_read(), where
 * libh2o refuses it and the connection is closed.
 *
 * Alerts after the handshake: bad_record_mac and whatever else is fatal (RFC 8446 6.2, RFC 5246 7.2.2), and
 * no_renegotiation. They are sent past libh2o, too, at that moment, unless bytes of a record still wait to be sent.
 *
 * The answer to a KeyUpdate: a TLS 1.3 client may ask for new keys of both sides (RFC 8446 4.6.3). It is held back
 * until the next record is written, which is as early as the RFC wants it. */
void tls_socket_on_message(int is_write, int version, int content_type, const void *bytes, size_t len, SSL *,
                           void *arg);
