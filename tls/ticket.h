/* Session ticket keys (RFC 5077 section 4: AES-256-CBC with HMAC-SHA-256), made at start, kept by the process over
 * reloads, rotated by time, shared by all threads and listeners. Listeners are kept apart by the session id context,
 * which is inside the encrypted ticket (tls/context.c). Keys live in memory only. */
#pragma once
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

struct tls_tickets;
/* rotate_s: a new key encrypts after this many seconds (0 = the default, 12 h); the two before still decrypt, and what
 * they decrypt is handed out anew under the new key. Reading is lock-free on any thread. */
struct tls_tickets *tls_tickets_create(uint64_t rotate_s);
/* After the last SSL_CTX that they were installed in is unused. NULL is fine. */
void tls_tickets_destroy(struct tls_tickets *);
/* Lets the context issue and take tickets; they live as long as their key does at least (2 * rotate_s). */
void tls_tickets_install(struct tls_tickets *, SSL_CTX *);
/* Call about once a minute from one thread with wall time; makes the new key when due. The first call starts the clock.
 * Returns true when rotated. */
bool tls_tickets_tick(struct tls_tickets *, uint64_t now_s);

/* The keys as text, for another process of ours that goes on with them: TLS_TICKETS_TEXT bytes with the terminator.
 * Ticking thread. */
enum { TLS_TICKETS_TEXT = 528 };
void tls_tickets_export(const struct tls_tickets *, char *text);
/* Before anything uses them. False, and nothing changed, when the text makes no sense. */
bool tls_tickets_import(struct tls_tickets *, const char *text);
