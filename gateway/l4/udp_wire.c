#include "gateway/l4/udp_wire.h"
#include <string.h>

enum { MAGIC = 0x50445557, VERSION = 1 };

/* ---- writing ---- */

static bool put(struct gw_udp_writer *writer, const void *bytes, size_t size)
{
    if (size > GW_UDP_WIRE_MAX - writer->size)
        return false;
    if (size != 0)
        memcpy(writer->bytes + writer->size, bytes, size);
    writer->size += size;
    return true;
}

static void write_head(struct gw_udp_writer *writer, char *bytes, const struct gw_udp_wire_head *head)
{
    *writer = (struct gw_udp_writer){.bytes = bytes};
    put(writer, head, sizeof(*head));
}

void gw_udp_wire_begin(struct gw_udp_writer *writer, char *bytes, enum gw_udp_wire_type type,
                       const struct gw_udp_listener *listener, uint32_t sock)
{
    h2o_iovec_t address = listener->listening->address.text;
    struct gw_udp_wire_head head = {
        .magic = MAGIC, .version = VERSION, .type = (uint16_t)type, .sock = sock, .address_len = (uint32_t)address.len};
    write_head(writer, bytes, &head);
    put(writer, address.base, address.len);
}

void gw_udp_wire_end(struct gw_udp_writer *writer, char *bytes, uint32_t thread, uint32_t num_threads)
{
    struct gw_udp_wire_head head = {
        .magic = MAGIC, .version = VERSION, .type = GW_UDP_WIRE_END, .thread = thread, .num_threads = num_threads};
    write_head(writer, bytes, &head);
}

static void describe(const struct gw_udp_flow *flow, struct gw_udp_wire_flow *wire)
{
    memset(wire, 0, sizeof(*wire));
    wire->key = flow->key;
    wire->peer = flow->peer;
    wire->peer_len = flow->peer_len;
    wire->attempts = flow->attempts;
    wire->active_ms = flow->active_ms;
    wire->started_us = flow->started_us;
    wire->answered_us = flow->answered_us;
    wire->datagrams_in = flow->datagrams_in;
    wire->datagrams_out = flow->datagrams_out;
    wire->bytes_in = flow->bytes_in;
    wire->bytes_out = flow->bytes_out;
    wire->is_proven = flow->is_proven;
    wire->has_answer = flow->has_answer;
    wire->is_used = flow->is_used;
    wire->is_refused = flow->is_refused;
    wire->group_len = (uint16_t)flow->stats->group.len;
    wire->target_len = (uint16_t)flow->endpoint->name.len;
}

bool gw_udp_wire_put(struct gw_udp_writer *writer, const struct gw_udp_flow *flow)
{
    h2o_iovec_t group = flow->stats->group, target = flow->endpoint->name;
    struct gw_udp_wire_flow wire;

    if (writer->count == GW_UDP_WIRE_FLOWS_MAX ||
        sizeof(wire) + group.len + target.len > GW_UDP_WIRE_MAX - writer->size)
        return false;
    describe(flow, &wire);
    put(writer, &wire, sizeof(wire));
    put(writer, group.base, group.len);
    put(writer, target.base, target.len);
    ++writer->count;
    memcpy(writer->bytes + offsetof(struct gw_udp_wire_head, count), &writer->count, sizeof(writer->count));
    return true;
}

bool gw_udp_wire_put_datagram(struct gw_udp_writer *writer, const struct gw_udp_key *key, const struct msghdr *msg,
                              const struct gw_udp_bundle *bundle)
{
    struct gw_udp_wire_flow wire;
    uint32_t size = bundle->size < bundle->len ? bundle->size : 0;

    memset(&wire, 0, sizeof(wire));
    wire.key = *key;
    wire.peer_len = msg->msg_namelen;
    memcpy(&wire.peer, msg->msg_name, msg->msg_namelen);
    memcpy(writer->bytes + offsetof(struct gw_udp_wire_head, thread), &size, sizeof(size));
    return put(writer, &wire, sizeof(wire)) && put(writer, bundle->bytes, bundle->len);
}

/* ---- reading ---- */

static bool take(h2o_iovec_t *from, size_t len, h2o_iovec_t *text)
{
    if (len > from->len)
        return false;
    *text = h2o_iovec_init(from->base, len);
    from->base += len;
    from->len -= len;
    return true;
}

bool gw_udp_wire_read(struct gw_udp_reader *reader, const char *bytes, size_t size)
{
    h2o_iovec_t head;

    reader->rest = h2o_iovec_init(bytes, size);
    if (!take(&reader->rest, sizeof(reader->head), &head))
        return false;
    memcpy(&reader->head, head.base, sizeof(reader->head));
    if (reader->head.magic != MAGIC || reader->head.version != VERSION ||
        !take(&reader->rest, reader->head.address_len, &reader->address))
        return false;
    switch (reader->head.type) {
    case GW_UDP_WIRE_FLOWS:
        return reader->head.count <= GW_UDP_WIRE_FLOWS_MAX;
    case GW_UDP_WIRE_DATAGRAM:
        return true;
    case GW_UDP_WIRE_END:
        return reader->head.thread < reader->head.num_threads;
    default:
        return false;
    }
}

static bool is_address(const struct gw_udp_wire_flow *wire)
{
    return (wire->peer.sa.sa_family == AF_INET && wire->peer_len == sizeof(wire->peer.v4)) ||
           (wire->peer.sa.sa_family == AF_INET6 && wire->peer_len == sizeof(wire->peer.v6));
}

bool gw_udp_wire_next(struct gw_udp_reader *reader, struct gw_udp_wire_flow *wire, h2o_iovec_t *group,
                      h2o_iovec_t *target)
{
    h2o_iovec_t fixed;

    if (!take(&reader->rest, sizeof(*wire), &fixed))
        return false;
    memcpy(wire, fixed.base, sizeof(*wire));
    return is_address(wire) && take(&reader->rest, wire->group_len, group) &&
           take(&reader->rest, wire->target_len, target);
}

struct gw_udp_bundle gw_udp_wire_rest(const struct gw_udp_reader *reader)
{
    uint32_t len = (uint32_t)reader->rest.len, size = reader->head.thread;
    return (struct gw_udp_bundle){.bytes = reader->rest.base, .len = len, .size = size != 0 && size < len ? size : len};
}
