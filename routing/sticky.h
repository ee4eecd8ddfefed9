/* Cookies that keep a client with its target or target group (spec/alb.md 3.4): what they hold, sealed with AES-256-GCM
 * so that nobody can read or choose it. Keys are frozen once made and read by every thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <h2o/memory.h>

struct routing_sticky_keys;
/* Of secrets of any length: the first seals, all open, so that keys can be exchanged without losing a session. */
struct routing_sticky_keys *routing_sticky_keys_create(const h2o_iovec_t *secrets, size_t n);
void routing_sticky_keys_destroy(struct routing_sticky_keys *); /* NULL is fine */

enum { ROUTING_STICKY_VALUE = 60, ROUTING_STICKY_NONCE = 12 };
/* The value of a cookie that names `what` (routing_sticky_id) until a time: ROUTING_STICKY_VALUE bytes of base64. It
 * opens with the same context only, the cookie's name and what it is for. A nonce must never come twice. */
void routing_sticky_seal(const struct routing_sticky_keys *, h2o_iovec_t context, uint64_t what, uint64_t until_s,
                         const uint8_t nonce[ROUTING_STICKY_NONCE], char *value);
/* False: not ours, tampered with, of another context or too old. */
bool routing_sticky_open(const struct routing_sticky_keys *, h2o_iovec_t context, h2o_iovec_t value, uint64_t now_s,
                         uint64_t *what);
/* Of the name of a target or target group. */
uint64_t routing_sticky_id(h2o_iovec_t name);

/* `NAME=VALUE; Expires=...; Path=/`, with "; SameSite=None" and "; Secure" where asked for; expires in seven days,
 * whatever the configured duration, which is inside (spec/alb.md 3.4). From the pool. */
h2o_iovec_t routing_sticky_cookie(h2o_mem_pool_t *, h2o_iovec_t name, const char value[ROUTING_STICKY_VALUE],
                                  uint64_t now_s, bool is_cross_site, bool is_secure);
