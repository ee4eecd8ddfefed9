/* The handshake of WebSocket as bytes of header fields (RFC 6455 4, RFC 8441 5). Pure functions, but for the key's
 * random bytes. */
#pragma once
#include <stdbool.h>
#include <h2o.h>

enum { GW_WEBSOCKET_KEY_LEN = 24, GW_WEBSOCKET_ACCEPT_LEN = 28 };

enum gw_websocket_fault {
    GW_WEBSOCKET_OK,
    GW_WEBSOCKET_NO_KEY,      /* Sec-WebSocket-Key is missing */
    GW_WEBSOCKET_BAD_KEY,     /* given twice, or not 16 bytes in base64 */
    GW_WEBSOCKET_BAD_VERSION, /* Sec-WebSocket-Version is not 13, once */
};
/* What the client's fields say (RFC 6455 4.2.1). *key receives the value of Sec-WebSocket-Key, base NULL: there is
 * none.
 */
enum gw_websocket_fault gw_websocket_check(const h2o_header_t *fields, size_t num_fields, h2o_iovec_t *key);
/* The same for an extended CONNECT, where the fields may be left out and a key means nothing (RFC 8441 5). */
enum gw_websocket_fault gw_websocket_check_version(const h2o_header_t *fields, size_t num_fields, bool *has_version);
/* A sentence for logs; static. */
const char *gw_websocket_problem(enum gw_websocket_fault);

/* Sec-WebSocket-Accept for a key (RFC 6455 4.2.2). */
void gw_websocket_accept(h2o_iovec_t key, char accept[GW_WEBSOCKET_ACCEPT_LEN]);
/* Is it there once, and the one for the key? */
bool gw_websocket_is_accepted(const h2o_header_t *fields, size_t num_fields, h2o_iovec_t key);
/* A key of our own. */
void gw_websocket_make_key(char key[GW_WEBSOCKET_KEY_LEN]);

bool gw_websocket_is_key_field(const h2o_header_t *);
bool gw_websocket_is_accept_field(const h2o_header_t *);
