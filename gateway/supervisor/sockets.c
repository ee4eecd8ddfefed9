#include "gateway/supervisor/sockets.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <h2o.h>

enum { ADMIN_BACKLOG = 128, UDP_BUFFER = 2 << 20 };

static void close_keeping_errno(int fd)
{
    int error = errno;
    if (fd != -1)
        close(fd);
    errno = error;
}

/* ---- listeners ---- */

static int open_socket(const struct gw_address *address, int type)
{
    int on = 1, off = 0, fd = socket(address->sa.ss_family, type | SOCK_CLOEXEC, 0);

    if (fd == -1)
        return -1;
    if ((type & SOCK_DGRAM) == 0) /* of datagrams it would let anybody share the address */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->sa.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    return fd;
}

/* Which of our addresses a datagram came to is known from its ancillary data alone. A burst waits in the buffer. */
static bool prepare_udp(int fd, const struct gw_address *address)
{
    int on = 1, buffer = UDP_BUFFER;
    bool is_v6 = address->sa.ss_family == AF_INET6;

    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
    return setsockopt(fd, is_v6 ? IPPROTO_IPV6 : IPPROTO_IP, is_v6 ? IPV6_RECVPKTINFO : IP_PKTINFO, &on, sizeof(on)) ==
           0;
}

static int open_one(const struct gw_address *address, int type)
{
    int on = 1, fd = open_socket(address, type | SOCK_NONBLOCK);

    if (fd != -1 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0 &&
        bind(fd, (const struct sockaddr *)&address->sa, address->sa_len) == 0 &&
        (type == SOCK_DGRAM ? prepare_udp(fd, address) : listen(fd, H2O_SOMAXCONN) == 0))
        return fd;
    close_keeping_errno(fd);
    return -1;
}

/* SO_REUSEPORT lets two processes of one user share an address without a word; an operator who starts weir twice wants
 * to be told. A probe without it finds out. */
static bool is_taken(const struct gw_address *address, int type)
{
    int fd = open_socket(address, type);
    bool taken =
        fd != -1 && bind(fd, (const struct sockaddr *)&address->sa, address->sa_len) != 0 && errno == EADDRINUSE;

    if (fd != -1)
        close(fd);
    return taken;
}

static bool open_all(const struct gw_address *address, int type, unsigned count, int *fds)
{
    if (is_taken(address, type)) {
        errno = EADDRINUSE;
        return false;
    }
    for (unsigned i = 0; i != count; ++i)
        if ((fds[i] = open_one(address, type)) == -1) {
            while (i != 0)
                close_keeping_errno(fds[--i]);
            return false;
        }
    return true;
}

bool gw_sockets_listen(const struct gw_address *address, unsigned count, int *fds)
{
    return open_all(address, SOCK_STREAM, count, fds);
}

bool gw_sockets_bind_udp(const struct gw_address *address, unsigned count, int *fds)
{
    return open_all(address, SOCK_DGRAM, count, fds);
}

/* ---- the admin API ---- */

/* Is there a process that listens on a socket file? */
static bool is_alive(const struct gw_address *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive =
        fd != -1 && (connect(fd, (const struct sockaddr *)&address->sa, address->sa_len) == 0 || errno == EAGAIN);

    if (fd != -1)
        close(fd);
    return alive;
}

/* Makes way for a socket file: the parent folder (one level), no stale socket. Returns NULL, or why it cannot be. */
static const char *make_way(const struct gw_address *address)
{
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
    const char *slash = strrchr(address->host.base, '/');
    struct stat st;

    if (slash != NULL && slash != address->host.base && (size_t)(slash - address->host.base) < sizeof(folder)) {
        memcpy(folder, address->host.base, slash - address->host.base);
        folder[slash - address->host.base] = '\0';
        if (mkdir(folder, 0755) != 0 && errno != EEXIST)
            return strerror(errno);
    }
    if (lstat(address->host.base, &st) != 0)
        return errno == ENOENT ? NULL : strerror(errno);
    if (!S_ISSOCK(st.st_mode))
        return "a file that is no socket is in its place";
    if (is_alive(address))
        return "another process listens on it";
    return unlink(address->host.base) == 0 ? NULL : strerror(errno);
}

/* The mode of a Unix socket itself is what bind() gives to the file, without the race of a chmod() afterwards. */
int gw_sockets_listen_admin(const struct gw_address *address, const char **why)
{
    int fd, on = 1;

    if (address->is_unix && (*why = make_way(address)) != NULL)
        return -1;
    if ((fd = socket(address->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) == -1 ||
        (address->is_unix ? fchmod(fd, 0600) : setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on))) != 0 ||
        bind(fd, (const struct sockaddr *)&address->sa, address->sa_len) != 0 || listen(fd, ADMIN_BACKLOG) != 0) {
        *why = strerror(errno);
        if (fd != -1)
            close(fd);
        return -1;
    }
    return fd;
}
