#include "gateway/supervisor/systemd.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <h2o/memory.h>
#include "gateway/base/log.h"

enum { FIRST_FD = 3 }; /* SD_LISTEN_FDS_START */

/* ---- notifications ---- */

static void notify(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    size_t len = path != NULL ? strlen(path) : 0;

    if (len < 2 || len >= sizeof(sa.sun_path) || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(sa.sun_path, path, len);
    if (path[0] == '@') /* the abstract namespace */
        sa.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd == -1 || sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&sa,
                           offsetof(struct sockaddr_un, sun_path) + len) == -1)
        gw_log(GW_LOG_WARNING, "supervisor", "cannot notify %s: %s", path, strerror(errno));
    if (fd != -1)
        close(fd);
}

void gw_systemd_notify(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    notify(text);
}

void gw_systemd_notify_reloading(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    gw_systemd_notify("RELOADING=1\nMONOTONIC_USEC=%llu",
                      (unsigned long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

uint64_t gw_systemd_watchdog_us(void)
{
    const char *pid = getenv("WATCHDOG_PID"), *us = getenv("WATCHDOG_USEC");
    return us != NULL && (pid == NULL || strtol(pid, NULL, 10) == getpid()) ? strtoull(us, NULL, 10) : 0;
}

/* ---- socket activation ---- */

static bool is_listening_stream(int fd)
{
    int type = 0, accepts = 0;
    socklen_t len = sizeof(int);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) == 0 && accepts != 0;
}

/* Several sockets of one address (ReusePort=yes) belong together. */
static struct gw_inventory_entry *find_same(struct gw_inventory *inventory, int fd)
{
    struct sockaddr_storage a = {0}, b;
    socklen_t a_len = sizeof(a), b_len;

    if (getsockname(fd, (struct sockaddr *)&a, &a_len) != 0)
        return NULL;
    for (size_t i = 0; i != inventory->size; ++i) {
        memset(&b, 0, b_len = sizeof(b));
        if (getsockname(inventory->entries[i]->fds[0], (struct sockaddr *)&b, &b_len) == 0 && a_len == b_len &&
            memcmp(&a, &b, a_len) == 0)
            return inventory->entries[i];
    }
    return NULL;
}

static void take_socket(struct gw_inventory *inventory, int fd)
{
    struct gw_inventory_entry *entry;

    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (!is_listening_stream(fd)) {
        gw_log(GW_LOG_WARNING, "supervisor", "socket activation: descriptor %d is no listening stream socket", fd);
        close(fd);
        return;
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    if ((entry = find_same(inventory, fd)) == NULL) {
        int *fds = h2o_mem_alloc(sizeof(*fds));
        fds[0] = fd;
        gw_inventory_add(inventory, GW_SOCKET_LISTENER, NULL, fds, 1, true);
    } else {
        entry->fds = h2o_mem_realloc(entry->fds, sizeof(*entry->fds) * (entry->num_fds + 1));
        entry->fds[entry->num_fds++] = fd;
    }
}

void gw_systemd_take_sockets(struct gw_inventory *inventory)
{
    const char *pid = getenv("LISTEN_PID"), *num_fds = getenv("LISTEN_FDS");

    if (pid == NULL || num_fds == NULL || strtol(pid, NULL, 10) != getpid())
        return;
    long n = strtol(num_fds, NULL, 10);
    for (int fd = FIRST_FD; fd < FIRST_FD + n && fcntl(fd, F_GETFD) != -1; ++fd)
        take_socket(inventory, fd);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}

void gw_systemd_forget(void)
{
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_PID");
    unsetenv("WATCHDOG_USEC");
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}
