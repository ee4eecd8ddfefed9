#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "gateway/l4/udp_flow.h"

enum { MANY = 5000 };

static struct gw_udp udp = {.seed = {0x1234567890abcdef, 0xfedcba0987654321}};

static struct gw_udp_key key_of(uint32_t number)
{
    struct gw_udp_key key;
    memset(&key, 0, sizeof(key));
    key.peer.bytes[10] = key.peer.bytes[11] = 0xff;
    memcpy(key.peer.bytes + 12, &number, 4);
    key.peer_port = (uint16_t)(number % 7 + 1);
    return key;
}

static void every_flow_is_found_while_others_come_and_go(void **state)
{
    struct gw_udp_table table = {NULL};
    struct gw_udp_flow *flows = calloc(MANY, sizeof(*flows));

    for (uint32_t i = 0; i != MANY; ++i) {
        flows[i].key = key_of(i);
        flows[i].hash = gw_udp_hash(&udp, &flows[i].key);
        assert_null(gw_udp_table_find(&table, flows[i].hash, &flows[i].key));
        gw_udp_table_add(&table, &flows[i]);
    }
    assert_int_equal(table.size, MANY);
    for (uint32_t i = 0; i < MANY; i += 1 + i % 3)
        assert_ptr_equal(gw_udp_table_find(&table, flows[i].hash, &flows[i].key), &flows[i]);
    for (uint32_t i = 0; i != MANY; ++i) {
        gw_udp_table_remove(&table, &flows[i]);
        assert_null(gw_udp_table_find(&table, flows[i].hash, &flows[i].key));
        if (i + 1 != MANY)
            assert_ptr_equal(gw_udp_table_find(&table, flows[MANY - 1].hash, &flows[MANY - 1].key), &flows[MANY - 1]);
    }
    assert_int_equal(table.size, 0);
    assert_true(table.num_buckets <= 128); /* what a flood took is given back */
    gw_udp_table_dispose(&table);
    free(flows);
}

static void keys_that_differ_in_one_bit_hash_apart(void **state)
{
    struct gw_udp_key key = key_of(1);
    uint64_t hash = gw_udp_hash(&udp, &key);

    for (size_t bit = 0; bit != sizeof(key) * 8; ++bit) {
        ((unsigned char *)&key)[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_true(gw_udp_hash(&udp, &key) != hash);
        ((unsigned char *)&key)[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    struct gw_udp other = {.seed = {1, 2}};
    assert_true(gw_udp_hash(&other, &key) != hash);
}

/* What is written for an answer is read back as the address it leaves from. */
static void an_answer_leaves_from_the_address_that_was_written_to(void **state)
{
    for (int is_v6 = 0; is_v6 != 2; ++is_v6) {
        struct gw_udp_listener listener = {.is_wildcard = true, .is_v6 = is_v6 != 0};
        union gw_udp_address peer = {.v4 = {.sin_family = AF_INET, .sin_port = htons(53)}};
        _Alignas(struct cmsghdr) char control[GW_UDP_CONTROL];
        struct msghdr msg = {.msg_name = &peer, .msg_namelen = sizeof(peer.v4), .msg_control = control};
        struct gw_udp_key key = key_of(htonl(0x7f000002)), read;

        if (is_v6) {
            peer.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(53), .sin6_scope_id = 3};
            msg.msg_namelen = sizeof(peer.v6);
        }
        key.local = key.peer;
        gw_udp_write_control(&listener, &key, &msg);
        assert_true(msg.msg_controllen <= sizeof(control));
        assert_true(gw_udp_read_key(&listener, &msg, &read));
        assert_memory_equal(&read.local, &key.local, sizeof(read.local));
        assert_int_equal(read.peer_port, 53);
        assert_int_equal(read.scope, is_v6 ? 3 : 0);
    }
}

static void nobody_can_be_answered_without_a_port_or_an_address(void **state)
{
    struct gw_udp_listener listener = {.is_wildcard = false};
    union gw_udp_address peer = {.v4 = {.sin_family = AF_INET, .sin_port = 0}};
    struct msghdr msg = {.msg_name = &peer, .msg_namelen = sizeof(peer.v4)};
    struct gw_udp_key key;

    assert_false(gw_udp_read_key(&listener, &msg, &key));
    peer.v4.sin_port = htons(1);
    assert_true(gw_udp_read_key(&listener, &msg, &key));
    msg.msg_namelen = 2;
    assert_false(gw_udp_read_key(&listener, &msg, &key));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flow_is_found_while_others_come_and_go),
        cmocka_unit_test(keys_that_differ_in_one_bit_hash_apart),
        cmocka_unit_test(an_answer_leaves_from_the_address_that_was_written_to),
        cmocka_unit_test(nobody_can_be_answered_without_a_port_or_an_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
