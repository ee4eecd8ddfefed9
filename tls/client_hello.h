/* The server name of a ClientHello, read without terminating TLS: what a listener that passes TLS through chooses by.
 * Sees bytes of strangers: bounded, tolerant of what it need not know (GREASE, ECH, post-quantum key shares), strict
 * about lengths. RFC 8446 4.1.2 and 5.1, RFC 6066 3. One thread. */
#pragma once
#include <stdbool.h>
#include <h2o/memory.h>
#include "tls/name.h"

enum {
    TLS_HELLO_MAX_MESSAGE = 16 * 1024, /* the handshake message; real ones are 200 bytes to 3 KiB */
    TLS_HELLO_MAX_BYTES = 32 * 1024,   /* the records that carry it: a message may come in many */
};

enum tls_hello_result {
    TLS_HELLO_INCOMPLETE,
    TLS_HELLO_DONE,
    TLS_HELLO_NOT_TLS,   /* the first bytes are no TLS handshake record */
    TLS_HELLO_MALFORMED, /* lengths that do not fit, another message, a name twice */
    TLS_HELLO_TOO_LARGE,
};

/* Zero-filled before the first call. */
struct tls_hello_reader {
    uint8_t *message; /* malloc; put together from the records */
    size_t message_len;
    size_t at;                   /* bytes of the stream that were looked at: whole records */
    char name[TLS_NAME_MAX + 1]; /* when done: lower case, without trailing dot, NUL-terminated */
    size_t name_len;             /* 0: none was sent, or no host name */
    bool is_encrypted;           /* an encrypted_client_hello of kind outer is there: the name is the public one */
};
/* bytes: the whole stream so far, with everything that was there in the last call. Not to be called again after another
 * result than INCOMPLETE. */
enum tls_hello_result tls_hello_read(struct tls_hello_reader *, const uint8_t *bytes, size_t len);
void tls_hello_dispose(struct tls_hello_reader *);
