#include "gateway/supervisor/channel.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What goes over the socket: this, then the text without its end. */
struct wire {
    uint32_t magic;
    uint32_t type;
    uint64_t numbers[GW_PACKET_NUMBERS];
};
enum { MAGIC = 0x57454952 };

bool gw_channel_create(int fds[2]) { return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0; }

bool gw_channel_send(int fd, const struct gw_packet *packet)
{
    struct wire wire = {.magic = MAGIC, .type = packet->type};
    struct iovec parts[] = {{&wire, sizeof(wire)}, {(void *)packet->text, strnlen(packet->text, GW_PACKET_TEXT - 1)}};
    char control[CMSG_SPACE(sizeof(int) * GW_PACKET_MAX_FDS)] = {0};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t n;

    memcpy(wire.numbers, packet->numbers, sizeof(wire.numbers));
    if (packet->num_fds != 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * packet->num_fds);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * packet->num_fds);
        memcpy(CMSG_DATA(header), packet->fds, sizeof(int) * packet->num_fds);
    }
    while ((n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)) == -1 && errno == EINTR)
        ;
    return n != -1;
}

bool gw_channel_tell(int fd, enum gw_packet_type type, uint64_t number0, uint64_t number1, const char *text)
{
    struct gw_packet packet = {.type = type, .numbers = {number0, number1}};
    snprintf(packet.text, sizeof(packet.text), "%s", text != NULL ? text : "");
    return gw_channel_send(fd, &packet);
}

static void take_fds(struct msghdr *message, struct gw_packet *packet)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(packet->fds + packet->num_fds, CMSG_DATA(header), sizeof(int) * n);
        packet->num_fds += n;
    }
}

enum gw_channel_result gw_channel_receive(int fd, bool wait, struct gw_packet *packet)
{
    struct wire wire;
    struct iovec parts[] = {{&wire, sizeof(wire)}, {packet->text, GW_PACKET_TEXT - 1}};
    char control[CMSG_SPACE(sizeof(int) * GW_PACKET_MAX_FDS)];
    struct msghdr message = {
        .msg_iov = parts, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof(control)};
    ssize_t n;

    memset(packet, 0, sizeof(*packet));
    while ((n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT))) == -1 && errno == EINTR)
        ;
    if (n == -1)
        return errno == EAGAIN || errno == EWOULDBLOCK ? GW_CHANNEL_EMPTY : GW_CHANNEL_CLOSED;
    take_fds(&message, packet);
    if ((size_t)n < sizeof(wire) || wire.magic != MAGIC || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        gw_packet_close_fds(packet);
        return GW_CHANNEL_CLOSED;
    }
    packet->type = (enum gw_packet_type)wire.type;
    memcpy(packet->numbers, wire.numbers, sizeof(wire.numbers));
    return GW_CHANNEL_PACKET;
}

void gw_packet_close_fds(struct gw_packet *packet)
{
    for (size_t i = 0; i != packet->num_fds; ++i)
        close(packet->fds[i]);
    packet->num_fds = 0;
}
