#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <netinet/udp.h>
#include "gateway/l4/udp_bundle.h"

enum { MAX_BUNDLES = 64, MAX_FOUND = 8192, MAX_DATAGRAMS = 64, MAX_BYTES = 65507 };

static char bytes[1 << 20];
static struct gw_udp_post post;
static const h2o_iovec_t no_header = {NULL, 0};

/* What goes out, message by message, as the kernel would cut it. */
static struct {
    uint32_t lens[MAX_FOUND];
    unsigned size, num_messages;
} found;

static unsigned size_in(const struct msghdr *msg)
{
    uint16_t size = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR((struct msghdr *)msg, c))
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_SEGMENT)
            memcpy(&size, CMSG_DATA(c), sizeof(size));
    return size;
}

static uint32_t length_of(const struct msghdr *msg)
{
    uint32_t len = 0;
    for (size_t i = 0; i != msg->msg_iovlen; ++i)
        len += (uint32_t)msg->msg_iov[i].iov_len;
    return len;
}

static void cut(const struct msghdr *msg, unsigned count)
{
    uint32_t len = length_of(msg), size = size_in(msg), before = found.size;

    assert_true(len <= MAX_BYTES || count == 1);
    if (size == 0)
        size = len;
    do {
        assert_true(found.size != MAX_FOUND);
        found.lens[found.size++] = len < size ? len : size;
        len -= found.lens[found.size - 1];
    } while (len != 0);
    assert_int_equal(found.size - before, count);
    assert_true(count <= MAX_DATAGRAMS);
    ++found.num_messages;
}

static void post_all(const struct gw_udp_bundle *bundles, unsigned size, h2o_iovec_t header, uint32_t limit)
{
    struct gw_udp_place at = {0, 0};

    found.size = found.num_messages = 0;
    while (at.bundle != size) {
        post.size = post.num_parts = 0;
        gw_udp_post_add(&post, bundles, size, &at, header, limit);
        assert_true(post.size != 0 && post.size <= GW_UDP_MESSAGES && post.num_parts <= GW_UDP_PARTS);
        for (unsigned i = 0; i != post.size; ++i)
            cut(&post.msgs[i].msg_hdr, post.counts[i]);
        assert_int_equal(post.next[post.size - 1].bundle, at.bundle);
        assert_int_equal(post.next[post.size - 1].offset, at.offset);
    }
}

/* Lengths of single datagrams, 0 behind the last; -1: an empty one. */
static unsigned list(struct gw_udp_bundle *bundles, const int *lens)
{
    unsigned size = 0;
    for (char *at = bytes; lens[size] != 0; ++size) {
        uint32_t len = lens[size] < 0 ? 0 : (uint32_t)lens[size];
        bundles[size] = (struct gw_udp_bundle){.bytes = at, .len = len, .size = len};
        at += len + 1; /* apart */
    }
    return size;
}

static void expect_messages(const int *lens, unsigned num_messages)
{
    struct gw_udp_bundle bundles[MAX_BUNDLES] = {{NULL}};
    unsigned size = list(bundles, lens);

    post_all(bundles, size, no_header, GW_UDP_ANY_SIZE);
    assert_int_equal(found.size, size);
    for (unsigned i = 0; i != size; ++i)
        assert_int_equal(found.lens[i], bundles[i].len);
    assert_int_equal(found.num_messages, num_messages);
}

static void only_datagrams_of_one_size_and_a_shorter_last_one_go_together(void **state)
{
    expect_messages((const int[]){1200, 1200, 1200, 0}, 1);
    expect_messages((const int[]){1200, 1200, 7, 0}, 1);
    expect_messages((const int[]){1200, 7, 1200, 0}, 2);
    expect_messages((const int[]){7, 1200, 1200, 0}, 2);
    expect_messages((const int[]){1200, 1200, 7, 7, 0}, 2);
    expect_messages((const int[]){5, 4, 3, 2, 1, 0}, 3);
    expect_messages((const int[]){1, 2, 3, 4, 5, 0}, 5);
    expect_messages((const int[]){1200, 0}, 1);
}

static void an_empty_datagram_goes_alone(void **state)
{
    expect_messages((const int[]){1200, 1200, -1, 0}, 2);
    expect_messages((const int[]){1200, -1, 1200, 0}, 3);
    expect_messages((const int[]){-1, -1, -1, 0}, 3);
    expect_messages((const int[]){-1, 1200, 1200, 0}, 2);
}

static void a_message_takes_no_more_than_the_kernel_does(void **state)
{
    struct gw_udp_bundle many = {.bytes = bytes, .len = 65000, .size = 100};
    struct gw_udp_bundle large[] = {{.bytes = bytes, .len = 64000, .size = 1000},
                                    {.bytes = bytes, .len = 64000, .size = 16000}};

    post_all(&many, 1, no_header, GW_UDP_ANY_SIZE);
    assert_int_equal(found.size, 650);
    assert_int_equal(found.num_messages, 11);
    post_all(large, 2, no_header, GW_UDP_ANY_SIZE);
    assert_int_equal(found.size, 68);
    assert_int_equal(found.num_messages, 2);
    for (unsigned i = 0; i != 68; ++i)
        assert_int_equal(found.lens[i], i < 64 ? 1000 : 16000);
}

/* The same bytes, header by header, whatever bounds are met. */
static void each_datagram_has_its_header(void **state)
{
    static char header[52], out[1 << 20];
    struct gw_udp_bundle bundles[32];
    struct gw_udp_place at = {0, 0};
    uint32_t copied = 0;

    memset(header, 'h', sizeof(header));
    memset(bytes, 'p', sizeof(bytes));
    for (unsigned i = 0; i != 32; ++i)
        bundles[i] = (struct gw_udp_bundle){.bytes = bytes + i, .len = 12345, .size = 100 + i % 2};
    post_all(bundles, 32, h2o_iovec_init(header, sizeof(header)), GW_UDP_ANY_SIZE);
    unsigned total = 0;
    for (unsigned i = 0; i != 32; ++i)
        for (uint32_t left = 12345; left != 0; ++total) {
            uint32_t len = left < bundles[i].size ? left : bundles[i].size;
            assert_int_equal(found.lens[total], len + sizeof(header));
            left -= len;
        }
    assert_int_equal(found.size, total);
    post.size = post.num_parts = 0;
    gw_udp_post_add(&post, bundles, 1, &at, h2o_iovec_init(header, sizeof(header)), GW_UDP_ANY_SIZE);
    for (size_t i = 0; i != post.num_parts; copied += (uint32_t)post.parts[i++].iov_len)
        memcpy(out + copied, post.parts[i].iov_base, post.parts[i].iov_len);
    for (uint32_t i = 0; i != copied; ++i)
        assert_int_equal(out[i], i % 152 < 52 ? 'h' : 'p');
}

/* With a header even those that are empty are there. */
static void empty_datagrams_with_a_header_go_together(void **state)
{
    char header[] = "header";
    struct gw_udp_bundle bundles[MAX_BUNDLES] = {{NULL}};
    unsigned size = list(bundles, (const int[]){-1, -1, -1, 0});

    post_all(bundles, size, h2o_iovec_init(header, 6), GW_UDP_ANY_SIZE);
    assert_int_equal(found.num_messages, 1);
    assert_int_equal(found.size, 3);
}

static void what_the_kernel_refuses_goes_alone(void **state)
{
    struct gw_udp_bundle bundles[] = {{.bytes = bytes, .len = 5000, .size = 1200},
                                      {.bytes = bytes, .len = 300, .size = 100}};
    uint32_t limit = GW_UDP_ANY_SIZE;

    post_all(bundles, 2, no_header, limit);
    assert_int_equal(found.num_messages, 2);
    post.counts[0] = 1;
    assert_false(gw_udp_post_unbundle(&post, EMSGSIZE, &limit)); /* it is too long itself */
    post.counts[0] = 5;
    assert_false(gw_udp_post_unbundle(&post, EAGAIN, &limit));
    assert_false(gw_udp_post_unbundle(&post, ECONNREFUSED, &limit));
    assert_int_equal(limit, GW_UDP_ANY_SIZE);
    assert_true(gw_udp_post_unbundle(&post, EMSGSIZE, &limit));
    post_all(bundles, 2, no_header, limit);
    assert_int_equal(found.num_messages, 6); /* smaller ones still go together */
    post_all(bundles + 1, 1, no_header, limit);
    for (unsigned i = 0; i != 3; ++i) {
        limit = GW_UDP_ANY_SIZE;
        assert_true(gw_udp_post_unbundle(&post, (const int[]){EINVAL, EIO, EOPNOTSUPP}[i], &limit));
        post_all(bundles + 1, 1, no_header, limit);
        assert_int_equal(found.num_messages, 3);
        post_all(bundles + 1, 1, no_header, GW_UDP_ANY_SIZE);
    }
}

/* ---- with the kernel ---- */

static struct gw_udp_bundle receive(int fd)
{
    static char into[GW_UDP_DATAGRAM];
    static _Alignas(struct cmsghdr) char control[GW_UDP_CONTROL];
    struct iovec part = {into, sizeof(into)};
    struct mmsghdr msg = {
        .msg_hdr = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)}};
    assert_int_equal(recvmmsg(fd, &msg, 1, 0, NULL), 1);
    return gw_udp_bundle_of(&msg);
}

static void a_bundle_that_is_sent_is_received_as_it_was(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int to = socket(AF_INET, SOCK_DGRAM, 0), from = socket(AF_INET, SOCK_DGRAM, 0);
    struct gw_udp_bundle sent = {.bytes = bytes, .len = 4000, .size = 1200}, got;
    struct gw_udp_place at = {0, 0};

    if (!gw_udp_can_bundle())
        skip();
    for (unsigned i = 0; i != 4000; ++i)
        bytes[i] = (char)(i * 7 >> 3);
    gw_udp_receive_bundles(to, true);
    assert_int_equal(bind(to, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(getsockname(to, (struct sockaddr *)&address, &len), 0);
    assert_int_equal(connect(from, (struct sockaddr *)&address, sizeof(address)), 0);
    post.size = post.num_parts = 0;
    gw_udp_post_add(&post, &sent, 1, &at, no_header, GW_UDP_ANY_SIZE);
    assert_int_equal(sendmmsg(from, post.msgs, post.size, 0), 1);
    for (uint32_t seen = 0; seen != 4000; seen += got.len) {
        got = receive(to);
        assert_true(got.size == 1200 || seen + got.len == 4000);
        assert_memory_equal(got.bytes, bytes + seen, got.len);
    }
    assert_int_equal(send(from, "", 0, 0), 0);
    got = receive(to);
    assert_int_equal(got.len, 0);
    assert_int_equal(gw_udp_bundle_count(&got), 1);
    close(from);
    close(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_datagrams_of_one_size_and_a_shorter_last_one_go_together),
        cmocka_unit_test(an_empty_datagram_goes_alone),
        cmocka_unit_test(a_message_takes_no_more_than_the_kernel_does),
        cmocka_unit_test(each_datagram_has_its_header),
        cmocka_unit_test(empty_datagrams_with_a_header_go_together),
        cmocka_unit_test(what_the_kernel_refuses_goes_alone),
        cmocka_unit_test(a_bundle_that_is_sent_is_received_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
