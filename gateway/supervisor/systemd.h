/* What systemd offers and wants of a service (sd_notify(3), sd_listen_fds(3)), without its library: a datagram and
 * three variables of the environment. Does nothing where there is no systemd. */
#pragma once
#include <stdint.h>
#include "gateway/supervisor/inventory.h"

/* Sends a state like "READY=1\nSTATUS=serving". */
void gw_systemd_notify(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "RELOADING=1" with the time that Type=notify-reload asks for. */
void gw_systemd_notify_reloading(void);
/* Whoever says nothing for so long is killed by systemd (WatchdogSec=); 0: it does not look. Microseconds. */
uint64_t gw_systemd_watchdog_us(void);
/* Takes the sockets of LISTEN_FDS, those of one address as one entry. Says what it cannot use. */
void gw_systemd_take_sockets(struct gw_inventory *);
/* A child's environment: what is meant for this process alone. Between fork and exec. */
void gw_systemd_forget(void);
