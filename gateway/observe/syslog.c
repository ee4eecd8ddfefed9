#include "gateway/observe/syslog.h"
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PRIORITY = 16 * 8 + 6, MAX_HOST = 255 };

int gw_syslog_open(const struct gw_address *collector)
{
    int fd = socket(collector->sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd != -1 && connect(fd, (const struct sockaddr *)&collector->sa, collector->sa_len) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

size_t gw_syslog_header(char *dst, const struct timespec *now, const char *host, int pid)
{
    char time[32], name[MAX_HOST + 1];
    struct tm tm;
    size_t len = 0;

    gmtime_r(&now->tv_sec, &tm);
    strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%S", &tm);
    for (; host[len] != '\0' && len != MAX_HOST; ++len)
        name[len] = host[len] > ' ' && host[len] < 0x7f ? host[len] : '_';
    name[len] = '\0';
    return (size_t)sprintf(dst, "<%d>1 %s.%06ldZ %s weir %d access - ", PRIORITY, time, now->tv_nsec / 1000,
                           len != 0 ? name : "-", pid);
}

bool gw_syslog_send(int fd, const char *header, size_t header_len, const char *line, size_t line_len)
{
    struct iovec parts[] = {{(void *)header, header_len}, {(void *)line, line_len}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    return sendmsg(fd, &message, MSG_NOSIGNAL) >= 0;
}
