/* Session ticket keys: AES-256-GCM... kept by the process over reloads, rotated by time, shared by all threads and
 * listeners, separated per listener by the session id context. */
#pragma once
#include <openssl/ssl.h>
#include <stdint.h>
struct tls_tickets;
/* rotate_s: a new key encrypts after this many seconds (default 12 h); the two before still decrypt. Lock-free reads. */
struct tls_tickets *tls_tickets_create(uint64_t rotate_s);
void tls_tickets_destroy(struct tls_tickets *);
void tls_tickets_install(struct tls_tickets *, SSL_CTX *);
/* Call about once a minute with wall time; makes the new key when due. Returns true when rotated. */
bool tls_tickets_tick(struct tls_tickets *, uint64_t now_s);
