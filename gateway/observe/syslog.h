/* Lines of a log as syslog messages: RFC 5424 over UDP (RFC 5426), facility local0, severity informational, one
 * datagram a line. */
#pragma once
#include <stddef.h>
#include <time.h>
#include "gateway/base/ip.h"

enum { GW_SYSLOG_HEADER_MAX = 400 };

/* A socket that sends there; -1 and errno. */
int gw_syslog_open(const struct gw_address *collector);
/* `<134>1 TIME HOST weir PID access - `, at most GW_SYSLOG_HEADER_MAX bytes; returns its length. What may not stand in
 * a host name is replaced; an empty one is "-". */
size_t gw_syslog_header(char *dst, const struct timespec *now, const char *host, int pid);
/* One datagram. False and errno when it did not go; EAGAIN: not now. */
bool gw_syslog_send(int fd, const char *header, size_t header_len, const char *line, size_t line_len);
