/* Datagrams of one flow and one size that the kernel gives (UDP_GRO) and takes (UDP_SEGMENT) as one: the way through it
 * is what a datagram costs, and a bundle goes it once. What stands in a bundle is what was sent: `size` bytes each, but
 * for the last, which may be shorter. Thread of the listener. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <h2o/memory.h>

struct gw_udp_flow;

/* Borrows the bytes. */
struct gw_udp_bundle {
    char *bytes;
    uint32_t len;
    uint32_t size;            /* of each datagram; len, which may be 0: there is one */
    struct gw_udp_flow *flow; /* of answers: whose they are */
};

/* A datagram of a list of bundles. */
struct gw_udp_place {
    unsigned bundle;
    uint32_t offset;
};

enum {
    GW_UDP_DATAGRAM = 65536,
    GW_UDP_CONTROL = 128, /* the address, and the size in a bundle */
    GW_UDP_MESSAGES = 64,
    GW_UDP_PARTS = 512,
    GW_UDP_NO_BUNDLES = 0,
    GW_UDP_ANY_SIZE = 65535,
};

/* Messages that are sent by one call. */
struct gw_udp_post {
    struct mmsghdr msgs[GW_UDP_MESSAGES];
    struct iovec parts[GW_UDP_PARTS];
    _Alignas(struct cmsghdr) char control[GW_UDP_MESSAGES][GW_UDP_CONTROL];
    struct gw_udp_place next[GW_UDP_MESSAGES]; /* behind each of them */
    unsigned counts[GW_UDP_MESSAGES];          /* of datagrams in each */
    uint32_t sizes[GW_UDP_MESSAGES];           /* of the first of these, with its header */
    unsigned size, num_parts;
};

/* The kernel knows UDP_SEGMENT. An older one would send a bundle as one datagram. */
bool gw_udp_can_bundle(void);
/* What comes to the socket from now on may be bundled, or is not; nor is it where the kernel cannot. */
void gw_udp_receive_bundles(int fd, bool is_on);
/* Of a message that was received with room for GW_UDP_CONTROL. */
struct gw_udp_bundle gw_udp_bundle_of(const struct mmsghdr *);
static inline unsigned gw_udp_bundle_count(const struct gw_udp_bundle *bundle)
{
    return bundle->len > bundle->size ? (bundle->len + bundle->size - 1) / bundle->size : 1;
}

/* Adds messages with the datagrams of bundles[at..end), each with the header before it (len 0: none), until there is no
 * room; datagrams of more than limit bytes go alone. Moves `at` behind the last. Their msg_control has room for
 * GW_UDP_CONTROL, and msg_controllen says how much of it is in use. */
void gw_udp_post_add(struct gw_udp_post *, const struct gw_udp_bundle *bundles, unsigned end, struct gw_udp_place *at,
                     h2o_iovec_t header, uint32_t limit);
/* The first message was refused with that errno. True: only because it is a bundle; with the limit lowered, it is to be
 * tried again. */
bool gw_udp_post_unbundle(const struct gw_udp_post *, int error, uint32_t *limit);
