/* What a worker that ends tells the one after it about its flows: packets of a SOCK_SEQPACKET socket, written and read
 * by weir on one machine, so numbers are the machine's own. Another version is not understood, and then nothing is
 * taken over. The socket of each flow to its target goes along as a descriptor, in the order of the flows. */
#pragma once
#include "gateway/l4/udp_flow.h"

enum gw_udp_wire_type {
    GW_UDP_WIRE_FLOWS = 1,
    GW_UDP_WIRE_DATAGRAM = 2, /* came when its flow had gone before, or is that of a new one */
    GW_UDP_WIRE_END = 3,      /* a thread reads no more */
};
enum {
    GW_UDP_WIRE_FLOWS_MAX = 64,  /* of one packet */
    GW_UDP_WIRE_MAX = 96 * 1024, /* a datagram, or flows with names of sensible length */
};

struct gw_udp_wire_head {
    uint32_t magic;
    uint16_t version, type;
    /* END: of the worker that ends. DATAGRAM: thread is the size in a bundle (udp_bundle.h), 0: there is one. */
    uint32_t thread, num_threads;
    uint32_t sock;        /* FLOWS, DATAGRAM: which of the sockets of the address the clients come by */
    uint32_t count;       /* of flows */
    uint32_t address_len; /* of the listener; the text stands behind the head */
};

/* A flow, or with the first three only, whose a datagram is. */
struct gw_udp_wire_flow {
    struct gw_udp_key key;
    union gw_udp_address peer;
    uint32_t peer_len;
    uint32_t attempts;
    uint64_t active_ms, started_us, answered_us; /* monotonic: the machine's, not the process's */
    uint64_t datagrams_in, datagrams_out, bytes_in, bytes_out;
    uint8_t is_proven, has_answer, is_used, is_refused;
    uint16_t group_len, target_len; /* the texts stand behind it */
};

/* Into GW_UDP_WIRE_MAX bytes of the caller. */
struct gw_udp_writer {
    char *bytes;
    size_t size;
    uint32_t count;
};
void gw_udp_wire_begin(struct gw_udp_writer *, char *bytes, enum gw_udp_wire_type, const struct gw_udp_listener *,
                       uint32_t sock);
/* thread, num_threads */
void gw_udp_wire_end(struct gw_udp_writer *, char *bytes, uint32_t thread, uint32_t num_threads);
/* False: it stands in the next packet. */
bool gw_udp_wire_put(struct gw_udp_writer *, const struct gw_udp_flow *);
bool gw_udp_wire_put_datagram(struct gw_udp_writer *, const struct gw_udp_key *, const struct msghdr *,
                              const struct gw_udp_bundle *);

/* Borrows the bytes. */
struct gw_udp_reader {
    struct gw_udp_wire_head head;
    h2o_iovec_t address, rest;
};
/* False: not a packet of this version. */
bool gw_udp_wire_read(struct gw_udp_reader *, const char *bytes, size_t size);
/* What is behind the flow of a DATAGRAM. */
struct gw_udp_bundle gw_udp_wire_rest(const struct gw_udp_reader *);
/* The next flow. False: it is broken. */
bool gw_udp_wire_next(struct gw_udp_reader *, struct gw_udp_wire_flow *, h2o_iovec_t *group, h2o_iovec_t *target);
