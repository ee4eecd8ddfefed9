/* What a supervisor and its worker say to each other. Two connected pairs of SOCK_SEQPACKET sockets: *orders* carries
 * single packets both ways at any time, *sockets* carries the worker's questions for listening sockets, each answered
 * before the next is asked. An old worker may have to understand a newer supervisor (`weir upgrade`), so numbers of
 * packets are never given a new meaning, and unknown ones are ignored. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gw_packet_type {
    /* orders, from the supervisor */
    GW_ORDER_HELLO = 1, /* the first one: numbers are those of struct gw_hello */
    GW_ORDER_DRAIN = 2, /* numbers[0]: milliseconds until what is left is cut off, numbers[1]: another worker serves */
    GW_ORDER_STOP = 3,  /* cut off what is left */
    GW_ORDER_RELOAD = 4,
    GW_ORDER_REOPEN = 5,   /* log files */
    GW_ORDER_UPGRADED = 6, /* answer to GW_REPORT_UPGRADE: numbers[0]: 1 done, 0 failed and text says why */
    /* Flows of listeners of protocol udp go from worker to worker: each has an end of a channel of their own as its
     * descriptor. TAKE without one: there is nobody to take them from. GIVE: numbers[0]: 1 the taker, which is of the
     * supervisor's version, knows bundles of datagrams (l4/udp_bundle.h). */
    GW_ORDER_GIVE_FLOWS = 7,
    GW_ORDER_TAKE_FLOWS = 8,
    /* orders, from the worker */
    GW_REPORT_READY = 20,    /* a generation is served by all threads: numbers are those of struct gw_ready */
    GW_REPORT_DRAINING = 21, /* it ends although nobody told it to */
    GW_REPORT_LOADING = 22,  /* a reload begins */
    GW_REPORT_FAILED = 23,   /* a load failed: the last generation stays, if there is one; text: why, or "" */
    GW_REPORT_UPGRADE = 24,  /* asks for an upgrade */
    GW_REPORT_TICKETS = 25,  /* text: session ticket keys, for the workers after this one */
    GW_REPORT_ALIVE = 26,    /* every second: all threads turn */
    /* sockets, from the worker: text is kind and address as `listener 0.0.0.0:80`, numbers[1] comes back in every
     * packet of the answer, so that one that came too late is not taken for the next */
    GW_SOCKETS_OPEN = 40,  /* numbers[0]: how many, if they are not open yet */
    GW_SOCKETS_CLOSE = 41, /* this worker does not use them any more */
    /* sockets, from the supervisor */
    GW_SOCKETS_HERE = 50,   /* numbers[0]: how many are still to come in further packets; descriptors */
    GW_SOCKETS_FAILED = 51, /* numbers[0]: errno or 0; text says why */
};

enum { GW_PACKET_NUMBERS = 8, GW_PACKET_TEXT = 1024, GW_PACKET_MAX_FDS = 64 };

struct gw_packet {
    enum gw_packet_type type;
    uint64_t numbers[GW_PACKET_NUMBERS];
    char text[GW_PACKET_TEXT]; /* NUL-terminated */
    int fds[GW_PACKET_MAX_FDS];
    size_t num_fds;
};

/* Both ends, close-on-exec. False and errno. The worker's own protocols may go over one, too. */
bool gw_channel_create(int fds[2]);
/* Copies the descriptors, never waits; a SIGPIPE is not raised. False and errno: EAGAIN when the other side reads
 * nothing. */
bool gw_channel_send(int fd, const struct gw_packet *);
/* The same without descriptors. text may be NULL. */
bool gw_channel_tell(int fd, enum gw_packet_type, uint64_t number0, uint64_t number1, const char *text);

enum gw_channel_result { GW_CHANNEL_PACKET, GW_CHANNEL_EMPTY, GW_CHANNEL_CLOSED };
/* The next packet; its descriptors (close-on-exec) are the caller's. Bytes that are no packet count as CLOSED. wait:
 * until there is one or the socket's receive timeout has passed (EMPTY). */
enum gw_channel_result gw_channel_receive(int fd, bool wait, struct gw_packet *);
void gw_packet_close_fds(struct gw_packet *);
