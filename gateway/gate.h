/* How many connections one client address may have and how fast it, and all together, may open them. One gate for the
 * process: every thread asks it when it accepts, none on the way of a request. */
#pragma once
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
/* The rate of all addresses together, above 0: how long to wait before the next connection may be accepted, and that
 * one was. Threads that ask at the same moment may each get one. */
uint64_t gw_gate_wait_us(const struct gw_gate *, uint64_t a_second, uint64_t now_us);
void gw_gate_accepted(struct gw_gate *, uint64_t a_second, uint64_t now_us);
/* Addresses that take memory now. */
size_t gw_gate_size(struct gw_gate *);
