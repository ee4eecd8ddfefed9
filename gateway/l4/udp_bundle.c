#include "gateway/l4/udp_bundle.h"
#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <unistd.h>

enum {
    MAX_DATAGRAMS = 64, /* UDP_MAX_SEGMENTS of kernels before 6.9 */
    MAX_BYTES = 65507,  /* the payload of the longest IPv4 packet */
};

/* ---- sockets ---- */

bool gw_udp_can_bundle(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size;
    socklen_t len = sizeof(size);
    bool can = fd != -1 && getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, &len) == 0;

    if (fd != -1)
        close(fd);
    return can;
}

void gw_udp_receive_bundles(int fd, bool is_on)
{
    int on = is_on;
    setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on));
}

struct gw_udp_bundle gw_udp_bundle_of(const struct mmsghdr *msg)
{
    struct msghdr *head = (struct msghdr *)&msg->msg_hdr;
    struct gw_udp_bundle bundle = {.bytes = head->msg_iov->iov_base, .len = msg->msg_len, .size = msg->msg_len};

    for (struct cmsghdr *c = CMSG_FIRSTHDR(head); c != NULL; c = CMSG_NXTHDR(head, c)) {
        int size;
        if (c->cmsg_level != IPPROTO_UDP || c->cmsg_type != UDP_GRO)
            continue;
        memcpy(&size, CMSG_DATA(c), sizeof(size));
        if (size > 0 && (uint32_t)size < bundle.len)
            bundle.size = (uint32_t)size;
    }
    return bundle;
}

/* ---- messages ---- */

static uint32_t datagram_at(const struct gw_udp_bundle *bundle, uint32_t offset)
{
    uint32_t left = bundle->len - offset;
    return left < bundle->size ? left : bundle->size;
}

static void add_part(struct gw_udp_post *post, struct msghdr *msg, void *base, size_t len)
{
    struct iovec *last = msg->msg_iovlen != 0 ? &msg->msg_iov[msg->msg_iovlen - 1] : NULL;

    if (last != NULL && (char *)last->iov_base + last->iov_len == (char *)base) {
        last->iov_len += len;
        return;
    }
    msg->msg_iov[msg->msg_iovlen++] = (struct iovec){base, len};
    ++post->num_parts;
}

static void note_size(struct msghdr *msg, uint32_t size)
{
    uint16_t value = (uint16_t)size;
    struct cmsghdr *c = msg->msg_control;

    c->cmsg_level = IPPROTO_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof(value));
    memset(CMSG_DATA(c), 0, CMSG_SPACE(sizeof(value)) - CMSG_LEN(0));
    memcpy(CMSG_DATA(c), &value, sizeof(value));
    msg->msg_controllen = CMSG_SPACE(sizeof(value));
}

/* Nothing can come behind a shorter one, and an empty one is nowhere to be seen among others. */
static bool fits(const struct gw_udp_post *post, uint32_t len, uint32_t limit)
{
    unsigned count = post->counts[post->size];
    uint32_t size = post->sizes[post->size];

    if (post->num_parts + 2 > GW_UDP_PARTS)
        return false;
    return count == 0 || (len != 0 && len <= size && size <= limit && count != MAX_DATAGRAMS);
}

static void add_message(struct gw_udp_post *post, const struct gw_udp_bundle *bundles, unsigned end,
                        struct gw_udp_place *at, h2o_iovec_t header, uint32_t limit)
{
    struct msghdr *msg = &post->msgs[post->size].msg_hdr;
    unsigned *count = &post->counts[post->size];
    uint32_t total = 0, len, whole, *size = &post->sizes[post->size];

    *msg = (struct msghdr){.msg_iov = &post->parts[post->num_parts], .msg_control = post->control[post->size]};
    *count = *size = 0;
    do {
        const struct gw_udp_bundle *bundle = &bundles[at->bundle];
        len = datagram_at(bundle, at->offset);
        whole = len + (uint32_t)header.len;
        if (!fits(post, whole, limit) || (*count != 0 && total + whole > MAX_BYTES))
            break;
        if (header.len != 0)
            add_part(post, msg, header.base, header.len);
        add_part(post, msg, bundle->bytes + at->offset, len);
        if ((*count)++ == 0)
            *size = whole;
        total += whole;
        *at = at->offset + len != bundle->len ? (struct gw_udp_place){at->bundle, at->offset + len}
                                              : (struct gw_udp_place){at->bundle + 1, 0};
    } while (at->bundle != end && whole == *size);
    if (*count > 1)
        note_size(msg, *size);
    post->next[post->size] = *at;
}

void gw_udp_post_add(struct gw_udp_post *post, const struct gw_udp_bundle *bundles, unsigned end,
                     struct gw_udp_place *at, h2o_iovec_t header, uint32_t limit)
{
    while (at->bundle != end && post->size != GW_UDP_MESSAGES && post->num_parts + 2 <= GW_UDP_PARTS) {
        add_message(post, bundles, end, at, header, limit);
        ++post->size;
    }
}

bool gw_udp_post_unbundle(const struct gw_udp_post *post, int error, uint32_t *limit)
{
    if (post->counts[0] == 1)
        return false;
    switch (error) {
    case EMSGSIZE: /* one of them alone may be fragmented; smaller ones are none the worse */
        *limit = post->sizes[0] - 1;
        return true;
    case EINVAL: /* what older kernels say of that, too */
    case EIO:    /* the device has no checksums, or IPsec is on the way */
    case EOPNOTSUPP:
    case ENOPROTOOPT:
        *limit = GW_UDP_NO_BUNDLES;
        return true;
    default:
        return false;
    }
}
