/* Lets clients hear why a handshake failed. libh2o queues OpenSSL's fatal alert and then drops the connection with the
 * queue unsent (lib/common/socket.c, proceed_handshake), so the client would see a bare end of file instead of
 * "no application protocol" or "protocol version". While a handshake runs we watch what OpenSSL writes and send a fatal
 * alert ourselves, past libh2o, at that moment: nothing else of this connection will ever leave. */
#pragma once
#include <openssl/ssl.h>
#include <h2o/socket.h>

/* In the ClientHello callback. Gives the connection's socket; NULL, having done nothing, when it is not libh2o's. */
h2o_socket_t *tls_alert_watch(SSL *);
/* When the handshake is done: later alerts go the usual way. */
void tls_alert_unwatch(SSL *);
