/* How many connections one client address may have and how fast it, and all together, may open them. One gate for the
 * process: every thread asks it when it accepts, none on the way of a request. */
#pragma once
#include <stdatomic.h>
#include "gateway/base/ip.h"

struct gw_gate;
struct gw_gate *gw_gate_create(void);
void gw_gate_destroy(struct gw_gate *);

enum gw_gate_verdict { GW_GATE_OPEN, GW_GATE_TOO_MANY, GW_GATE_TOO_FAST };
/* Counts a connection of this address unless it would be one too many. most: at a time, 0 = unlimited; a_second: new
 * ones, with as many at once after a second of rest, 0 = unlimited. Of an IPv6 address the first 64 bits count, because
 * who has one has them all. Any thread. */
enum gw_gate_verdict gw_gate_enter(struct gw_gate *, const struct gw_ip *, uint64_t most, uint64_t a_second,
                                   uint64_t now_us);
/* Once for each GW_GATE_OPEN. */
void gw_gate_leave(struct gw_gate *, const struct gw_ip *, uint64_t now_us);
/* A rate of new connections that threads share, of a_second above 0: how long to wait before the next one may be
 * accepted, and that one was. Threads that ask at the same moment may each get one. Zero-filled before the first use.
 */
struct gw_rate {
    _Atomic uint64_t full_us; /* when as many as in a second may come at once again */
};
uint64_t gw_rate_wait_us(const struct gw_rate *, uint64_t a_second, uint64_t now_us);
void gw_rate_take(struct gw_rate *, uint64_t a_second, uint64_t now_us);
struct gw_rate *gw_gate_rate(struct gw_gate *); /* of all connections */
/* Addresses that take memory now. */
size_t gw_gate_size(struct gw_gate *);
