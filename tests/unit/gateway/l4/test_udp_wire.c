#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "gateway/l4/udp_wire.h"
#include "gateway/process.h"

static char packet[GW_UDP_WIRE_MAX];
static struct gw_listening listening;
static struct gw_udp_listener listener = {.listening = &listening};
static struct gw_l4_stats stats;
static struct gw_endpoint endpoint;

static struct gw_udp_flow flow_of(uint16_t port)
{
    struct gw_udp_flow flow;

    listening.address.text = h2o_iovec_init(H2O_STRLIT("*:53"));
    stats.group = h2o_iovec_init(H2O_STRLIT("dns"));
    endpoint.name = h2o_iovec_init(H2O_STRLIT("10.0.0.1:53"));
    memset(&flow, 0, sizeof(flow));
    flow.key.peer_port = port;
    flow.peer.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    flow.peer_len = sizeof(flow.peer.v4);
    flow.stats = &stats;
    flow.endpoint = &endpoint;
    flow.bytes_in = UINT64_C(1) << 40;
    flow.is_proven = true;
    return flow;
}

static size_t write_flows(uint32_t count)
{
    struct gw_udp_writer writer;

    listening.address.text = h2o_iovec_init(H2O_STRLIT("*:53"));
    gw_udp_wire_begin(&writer, packet, GW_UDP_WIRE_FLOWS, &listener, 3);
    for (uint32_t i = 0; i != count; ++i) {
        struct gw_udp_flow flow = flow_of((uint16_t)(i + 1));
        assert_true(gw_udp_wire_put(&writer, &flow));
    }
    return writer.size;
}

static void flows_arrive_as_they_were(void **state)
{
    struct gw_udp_reader reader;
    struct gw_udp_wire_flow flow;
    h2o_iovec_t group, target;

    assert_true(gw_udp_wire_read(&reader, packet, write_flows(GW_UDP_WIRE_FLOWS_MAX)));
    assert_int_equal(reader.head.type, GW_UDP_WIRE_FLOWS);
    assert_int_equal(reader.head.sock, 3);
    assert_int_equal(reader.head.count, GW_UDP_WIRE_FLOWS_MAX);
    assert_true(h2o_memis(reader.address.base, reader.address.len, H2O_STRLIT("*:53")));
    for (uint32_t i = 0; i != GW_UDP_WIRE_FLOWS_MAX; ++i) {
        assert_true(gw_udp_wire_next(&reader, &flow, &group, &target));
        assert_int_equal(flow.key.peer_port, i + 1);
        assert_true(flow.bytes_in == UINT64_C(1) << 40 && flow.is_proven && !flow.has_answer);
        assert_true(h2o_memis(group.base, group.len, H2O_STRLIT("dns")));
        assert_true(h2o_memis(target.base, target.len, H2O_STRLIT("10.0.0.1:53")));
    }
    assert_int_equal(reader.rest.len, 0);
    assert_false(gw_udp_wire_next(&reader, &flow, &group, &target));
}

static void a_packet_takes_no_more_flows_than_descriptors(void **state)
{
    struct gw_udp_flow flow = flow_of(1);
    struct gw_udp_writer writer;
    uint32_t count = 0;

    gw_udp_wire_begin(&writer, packet, GW_UDP_WIRE_FLOWS, &listener, 0);
    while (gw_udp_wire_put(&writer, &flow))
        ++count;
    assert_int_equal(count, GW_UDP_WIRE_FLOWS_MAX);
}

static void names_that_are_too_long_stand_in_the_next_packet(void **state)
{
    struct gw_udp_flow flow = flow_of(1);
    struct gw_udp_writer writer;
    uint32_t count = 0;
    char *name = calloc(1, 40000);

    endpoint.name = h2o_iovec_init(name, 40000);
    gw_udp_wire_begin(&writer, packet, GW_UDP_WIRE_FLOWS, &listener, 0);
    while (gw_udp_wire_put(&writer, &flow))
        ++count;
    assert_int_equal(count, 2);
    assert_true(writer.size <= GW_UDP_WIRE_MAX);
    free(name);
}

static struct gw_udp_bundle through_a_packet(const struct gw_udp_bundle *bundle)
{
    struct gw_udp_flow from = flow_of(7);
    struct msghdr msg = {.msg_name = &from.peer, .msg_namelen = from.peer_len};
    struct gw_udp_writer writer;
    struct gw_udp_reader reader;
    struct gw_udp_wire_flow flow;
    h2o_iovec_t group, target;

    gw_udp_wire_begin(&writer, packet, GW_UDP_WIRE_DATAGRAM, &listener, 1);
    assert_true(gw_udp_wire_put_datagram(&writer, &from.key, &msg, bundle));
    assert_true(gw_udp_wire_read(&reader, packet, writer.size));
    assert_true(gw_udp_wire_next(&reader, &flow, &group, &target));
    assert_int_equal(reader.head.count, 0); /* no flow is counted */
    assert_int_equal(flow.key.peer_port, 7);
    return gw_udp_wire_rest(&reader);
}

static void a_datagram_of_any_size_arrives(void **state)
{
    static char bytes[65507];

    memset(bytes, 'x', sizeof(bytes));
    for (uint32_t len = 0; len <= sizeof(bytes); len += sizeof(bytes)) {
        struct gw_udp_bundle from = {.bytes = bytes, .len = len, .size = len}, to = through_a_packet(&from);
        assert_int_equal(gw_udp_bundle_count(&to), 1);
        assert_int_equal(to.len, len);
        assert_memory_equal(to.bytes, bytes, len);
    }
}

static void a_bundle_arrives_as_one(void **state)
{
    static char bytes[64000];
    struct gw_udp_bundle from = {.bytes = bytes, .len = 3601, .size = 1200}, to = through_a_packet(&from);

    assert_int_equal(to.size, 1200);
    assert_int_equal(to.len, 3601);
    assert_int_equal(gw_udp_bundle_count(&to), 4);
    from = (struct gw_udp_bundle){.bytes = bytes, .len = sizeof(bytes), .size = 1000};
    to = through_a_packet(&from);
    assert_int_equal(gw_udp_bundle_count(&to), 64);
}

static void the_last_word_says_which_thread_it_is(void **state)
{
    struct gw_udp_writer writer;
    struct gw_udp_reader reader;

    gw_udp_wire_end(&writer, packet, 1, 2);
    assert_true(gw_udp_wire_read(&reader, packet, writer.size));
    assert_int_equal(reader.head.type, GW_UDP_WIRE_END);
    assert_int_equal(reader.head.thread, 1);
    gw_udp_wire_end(&writer, packet, 2, 2);
    assert_false(gw_udp_wire_read(&reader, packet, writer.size));
}

/* What is cut off, and each byte changed: read to the end or refused, never beyond. The copy lets a sanitizer see. */
static void broken_packets_are_refused(void **state)
{
    size_t size = write_flows(2);
    struct gw_udp_reader reader;
    struct gw_udp_wire_flow flow;
    h2o_iovec_t group, target;

    for (size_t i = 0; i != size * 2; ++i) {
        size_t left = i < size ? i : size;
        char *copy = malloc(left + 1);
        unsigned found = 0;
        memcpy(copy, packet, left);
        if (i >= size)
            copy[i - size] ^= 0xff;
        if (gw_udp_wire_read(&reader, copy, left))
            while (found < 100 && gw_udp_wire_next(&reader, &flow, &group, &target))
                ++found;
        assert_true(found <= (i < size ? 1 : 2));
        free(copy);
    }
    packet[4] ^= 1; /* the version */
    assert_false(gw_udp_wire_read(&reader, packet, size));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flows_arrive_as_they_were),
        cmocka_unit_test(a_packet_takes_no_more_flows_than_descriptors),
        cmocka_unit_test(names_that_are_too_long_stand_in_the_next_packet),
        cmocka_unit_test(a_datagram_of_any_size_arrives),
        cmocka_unit_test(a_bundle_arrives_as_one),
        cmocka_unit_test(the_last_word_says_which_thread_it_is),
        cmocka_unit_test(broken_packets_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
