#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include "gateway/http/socket.h"

/* Stands before libc's: what libh2o is given to write must have no empty slices, for which it would poll. */
ssize_t writev(int fd, const struct iovec *slices, int num_slices)
{
    for (int i = 0; i != num_slices; ++i)
        assert_true(slices[i].iov_len != 0);
    return syscall(SYS_writev, fd, slices, num_slices);
}

static h2o_loop_t *loop;
static h2o_socket_t *sock; /* ours */
static int peer;           /* the other end's descriptor */

static void open_pair(int far, int near)
{
    fcntl(far, F_SETFL, O_NONBLOCK);
    peer = far;
    sock = h2o_evloop_socket_create(loop, near, 0);
    gw_socket_setup(sock);
}

static int set_up(void **state)
{
    int fds[2];
    loop = h2o_evloop_create();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    open_pair(fds[0], fds[1]);
    return 0;
}

/* A TCP connection, for what Unix sockets cannot do: resets. */
static int set_up_tcp(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0), far = socket(AF_INET, SOCK_STREAM, 0);
    loop = h2o_evloop_create();
    assert_int_equal(bind(listener, (void *)&address, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (void *)&address, &len), 0);
    assert_int_equal(connect(far, (void *)&address, len), 0);
    open_pair(far, accept(listener, NULL, NULL));
    close(listener);
    return 0;
}

static int tear_down(void **state)
{
    if (sock != NULL)
        h2o_socket_close(sock);
    if (peer != -1)
        close(peer);
    h2o_evloop_run(loop, 0); /* frees closed sockets */
    h2o_evloop_destroy(loop);
    return 0;
}

static void give(const char *bytes, size_t len) { assert_int_equal(write(peer, bytes, len), len); }

/* ---- reading ---- */

static void read_takes_what_is_there_without_waiting(void **state)
{
    give("hello", 5);
    assert_null(gw_socket_read(sock, NULL, 65536));
    assert_int_equal(sock->input->size, 5);
    give(" world", 6);
    assert_null(gw_socket_read(sock, NULL, 65536));
    assert_int_equal(sock->input->size, 11);
    assert_memory_equal(sock->input->bytes, "hello world", 11);
    assert_null(gw_socket_read(sock, NULL, 65536));
    assert_int_equal(sock->input->size, 11);
}

static void read_takes_no_more_than_asked_for(void **state)
{
    static char bytes[100000];
    for (size_t i = 0; i != sizeof(bytes); ++i)
        bytes[i] = (char)(i * 7 + i / 256);
    give(bytes, sizeof(bytes));
    size_t at = 0;
    static const size_t limits[] = {1, 100, 4096, 20000, 0, 65536, 65536};
    for (size_t i = 0; i != sizeof(limits) / sizeof(limits[0]); ++i) {
        size_t expected = sizeof(bytes) - at < limits[i] ? sizeof(bytes) - at : limits[i];
        assert_null(gw_socket_read(sock, NULL, limits[i]));
        assert_int_equal(sock->input->size, expected);
        assert_memory_equal(sock->input->bytes, bytes + at, expected);
        at += expected;
        h2o_buffer_consume(&sock->input, expected);
    }
    assert_int_equal(at, sizeof(bytes));
}

static void end_is_reported_after_the_data_before_it(void **state)
{
    give("bye", 3);
    close(peer);
    peer = -1;
    assert_null(gw_socket_read(sock, NULL, 65536));
    assert_int_equal(sock->input->size, 3);
    assert_ptr_equal(gw_socket_read(sock, NULL, 65536), h2o_socket_error_closed);
    assert_int_equal(sock->input->size, 3);
}

static void end_behind_a_full_buffer_is_not_lost(void **state)
{
    static char bytes[8192 - 64];
    assert_null(gw_socket_read(sock, NULL, 8192)); /* no data: no buffer either */
    assert_null(sock->input->bytes);
    h2o_iovec_t room = h2o_buffer_reserve(&sock->input, 4096);
    assert_true(room.len >= sizeof(bytes));
    give(bytes, sizeof(bytes));
    close(peer);
    peer = -1;
    assert_null(gw_socket_read(sock, NULL, sizeof(bytes))); /* all that was asked for */
    assert_int_equal(sock->input->size, sizeof(bytes));
    assert_ptr_equal(gw_socket_read(sock, NULL, 65536), h2o_socket_error_closed);
}

static void idle_socket_holds_no_buffer(void **state)
{
    assert_null(gw_socket_read(sock, NULL, 65536));
    assert_null(sock->input->bytes);
    give("x", 1);
    assert_null(gw_socket_read(sock, NULL, 65536));
    assert_non_null(sock->input->bytes);
    h2o_buffer_consume(&sock->input, 1);
    assert_null(gw_socket_read(sock, NULL, 65536));
    assert_null(sock->input->bytes);
}

static void reset_is_an_error_and_not_an_end(void **state)
{
    struct linger now = {.l_onoff = 1};
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(peer);
    peer = -1;
    assert_ptr_equal(gw_socket_read(sock, NULL, 65536), h2o_socket_error_io);
}

static void error_of_the_callback_is_passed_on(void **state)
{
    assert_ptr_equal(gw_socket_read(sock, h2o_socket_error_ssl_decode, 65536), h2o_socket_error_ssl_decode);
}

static void detached_input_stays_while_the_socket_reads_on(void **state)
{
    give("first", 5);
    assert_null(gw_socket_read(sock, NULL, 65536));
    h2o_buffer_t *first = gw_socket_detach_input(sock);
    assert_int_equal(sock->input->size, 0);
    give("second", 6);
    assert_null(gw_socket_read(sock, NULL, 65536));
    assert_memory_equal(first->bytes, "first", 5);
    assert_memory_equal(sock->input->bytes, "second", 6);
    gw_buffer_free(first);
    gw_buffer_free(gw_socket_detach_input(sock));
    gw_buffer_free(gw_socket_detach_input(sock)); /* an empty one */
    gw_buffer_free(NULL);
}

/* ---- writing ---- */

static unsigned num_written;
static const char *write_error;

static void on_written(h2o_socket_t *written, const char *err)
{
    assert_ptr_equal(written, sock);
    ++num_written;
    write_error = err;
}

/* Reads all that the peer has. */
static size_t drain(char *to, size_t room)
{
    size_t total = 0;
    ssize_t got;
    while (total != room && (got = read(peer, to + total, room - total)) > 0)
        total += (size_t)got;
    return total;
}

static void small_write_leaves_at_once_and_calls_nobody(void **state)
{
    char got[32];
    h2o_iovec_t bufs[] = {h2o_iovec_init(NULL, 0), h2o_iovec_init(H2O_STRLIT("hello")), h2o_iovec_init("", 0),
                          h2o_iovec_init(H2O_STRLIT(" world")), h2o_iovec_init(NULL, 0)};
    num_written = 0;
    assert_true(gw_socket_write(sock, bufs + 1, 1, on_written));
    assert_true(gw_socket_write(sock, bufs, 5, on_written));
    assert_true(gw_socket_write(sock, bufs, 1, on_written));
    assert_true(gw_socket_write(sock, NULL, 0, on_written));
    assert_false(h2o_socket_is_writing(sock));
    assert_int_equal(drain(got, sizeof(got)), 16);
    assert_memory_equal(got, "hellohello world", 16);
    assert_int_equal(sock->bytes_written, 16);
    for (int i = 0; i != 3; ++i)
        h2o_evloop_run(loop, 0);
    assert_int_equal(num_written, 0);
}

/* Writes num_bufs slices of bytes (and empty ones between them), reads them at the other end and compares. */
static void write_and_compare(const char *bytes, size_t len, size_t num_bufs)
{
    h2o_iovec_t *bufs = malloc(2 * num_bufs * sizeof(*bufs));
    char *got = malloc(len);
    for (size_t i = 0; i != num_bufs; ++i) {
        size_t from = len / num_bufs * i, to = i + 1 == num_bufs ? len : len / num_bufs * (i + 1);
        bufs[2 * i] = h2o_iovec_init(bytes + from, to - from);
        bufs[2 * i + 1] = h2o_iovec_init(NULL, 0);
    }
    num_written = 0;
    write_error = "not called";
    assert_false(gw_socket_write(sock, bufs, 2 * num_bufs, on_written));
    assert_int_equal(num_written, 0);
    memset(bufs, 0xff, 2 * num_bufs * sizeof(*bufs)); /* the array was copied */
    size_t total = 0;
    for (int turn = 0; turn != 10000 && num_written == 0; ++turn) {
        h2o_evloop_run(loop, 0);
        total += drain(got + total, len - total);
    }
    total += drain(got + total, len - total);
    assert_int_equal(num_written, 1);
    assert_null(write_error);
    assert_int_equal(total, len);
    assert_memory_equal(got, bytes, len);
    free(bufs);
    free(got);
}

static void what_does_not_fit_follows_when_the_peer_reads(void **state)
{
    size_t len = 4 << 20;
    char *bytes = malloc(len);
    for (size_t i = 0; i != len; ++i)
        bytes[i] = (char)(i * 31 + i / 4096);
    write_and_compare(bytes, len, 1);
    write_and_compare(bytes, len, 3);
    write_and_compare(bytes, len, 40);
    write_and_compare(bytes, len, IOV_MAX); /* with the empty ones: more than one call takes */
    assert_int_equal(sock->bytes_written, 4 * len);
    free(bytes);
}

static void failed_write_is_reported_from_the_loop(void **state)
{
    h2o_iovec_t hello = h2o_iovec_init(H2O_STRLIT("hello"));
    close(peer);
    peer = -1;
    num_written = 0;
    write_error = NULL;
    assert_false(gw_socket_write(sock, &hello, 1, on_written)); /* and no SIGPIPE either */
    assert_int_equal(num_written, 0);
    h2o_evloop_run(loop, 0);
    assert_int_equal(num_written, 1);
    assert_ptr_equal(write_error, h2o_socket_error_io);
}

static void reset_during_a_write_is_reported(void **state)
{
    struct linger now = {.l_onoff = 1};
    size_t len = 32 << 20;
    char *bytes = calloc(1, len);
    h2o_iovec_t buf = h2o_iovec_init(bytes, len);
    num_written = 0;
    assert_false(gw_socket_write(sock, &buf, 1, on_written));
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(peer);
    peer = -1;
    for (int turn = 0; turn != 1000 && num_written == 0; ++turn)
        h2o_evloop_run(loop, 10);
    assert_int_equal(num_written, 1);
    assert_ptr_equal(write_error, h2o_socket_error_io);
    free(bytes);
}

/* ---- through the loop ---- */

static char received[64];

static void on_readable(h2o_socket_t *readable, const char *err)
{
    assert_null(gw_socket_read(readable, err, 65536));
    assert_true(readable->input->size < sizeof(received));
    memcpy(received, readable->input->bytes, readable->input->size);
}

static void loop_leaves_the_reading_of_plain_sockets_to_us(void **state)
{
    memset(received, 0, sizeof(received));
    h2o_socket_read_start(sock, on_readable);
    give("hello", 5);
    h2o_evloop_run(loop, 1000);
    assert_string_equal(received, "hello");
}

/* ---- TLS ---- */

static SSL_CTX *tls_context(void)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_set_version(certificate, 2);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_sign(certificate, key, EVP_sha256());
    assert_int_equal(SSL_CTX_use_certificate(tls, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(tls, key), 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return tls;
}

static unsigned num_handshakes;

static void on_handshake(h2o_socket_t *done, const char *err)
{
    assert_null(err);
    ++num_handshakes;
    gw_socket_setup(done);
}

static void on_client_handshake(h2o_socket_t *done, const char *err)
{
    ++num_handshakes; /* err: nobody vouches for the certificate */
    gw_socket_setup(done);
}

static SSL_CTX *server_tls, *client_tls;
static h2o_socket_t *client;

static int set_up_tls(void **state)
{
    set_up(state);
    server_tls = tls_context();
    client_tls = SSL_CTX_new(TLS_client_method()); /* libh2o asks SSL_is_server before the first step */
    client = h2o_evloop_socket_create(loop, peer, 0);
    peer = -1;
    h2o_socket_dont_read(sock, 0); /* set_up took it for a plain one */
    num_handshakes = num_written = 0;
    write_error = "not called";
    h2o_socket_ssl_handshake(sock, server_tls, NULL, on_handshake);
    h2o_socket_ssl_handshake(client, client_tls, "localhost", on_client_handshake);
    for (int turn = 0; turn != 1000 && num_handshakes != 2; ++turn)
        h2o_evloop_run(loop, 10);
    assert_int_equal(num_handshakes, 2);
    return 0;
}

static int tear_down_tls(void **state)
{
    h2o_socket_close(client);
    if (sock != NULL)
        h2o_socket_close(sock);
    h2o_evloop_run(loop, 0);
    h2o_evloop_destroy(loop);
    SSL_CTX_free(server_tls);
    SSL_CTX_free(client_tls);
    return 0;
}

static unsigned num_records;

static void count_records(int is_write, int version, int type, const void *bytes, size_t len, SSL *ssl, void *arg)
{
    if (!is_write && type == SSL3_RT_HEADER)
        ++num_records;
}

/* Steps of max_bytes of what has been sent, until no more comes or an error does. */
static const char *read_in_steps(h2o_socket_t *from, size_t max_bytes)
{
    struct pollfd arrived = {.fd = h2o_socket_get_fd(from), .events = POLLIN};
    const char *err = NULL;
    while (err == NULL && poll(&arrived, 1, 0) == 1)
        err = gw_socket_read(from, NULL, max_bytes);
    return err;
}

static void tls_small_write_leaves_at_once_and_calls_nobody(void **state)
{
    h2o_iovec_t bufs[] = {h2o_iovec_init(NULL, 0), h2o_iovec_init(H2O_STRLIT("hello")), h2o_iovec_init(NULL, 0)};
    memset(received, 0, sizeof(received));
    h2o_socket_read_start(client, on_readable);
    assert_true(gw_socket_write(sock, bufs, 1, on_written)); /* nothing to write is nothing to wait for */
    assert_true(gw_socket_write(sock, bufs, 3, on_written));
    assert_int_equal(sock->bytes_written, 5);
    for (int turn = 0; turn != 1000 && received[0] == '\0'; ++turn)
        h2o_evloop_run(loop, 10);
    assert_int_equal(num_written, 0);
    assert_string_equal(received, "hello");
}

static void tls_pieces_share_a_record(void **state)
{
    static char filler[5000];
    h2o_iovec_t bufs[] = {h2o_iovec_init(H2O_STRLIT("head ")), h2o_iovec_init(H2O_STRLIT("and ")),
                          h2o_iovec_init(filler, sizeof(filler)), h2o_iovec_init(H2O_STRLIT("tail"))};
    memset(filler, 'x', sizeof(filler));
    assert_null(read_in_steps(client, 65536)); /* tickets */
    SSL_set_msg_callback(gw_socket_ssl(client), count_records);
    num_records = 0;
    assert_true(gw_socket_write(sock, bufs, 2, on_written));
    assert_null(read_in_steps(client, 65536));
    assert_int_equal(num_records, 1);
    assert_true(gw_socket_write(sock, bufs, 4, on_written));
    assert_null(read_in_steps(client, 65536));
    assert_int_equal(num_records, 3); /* the first two are of 4 KiB at most */
    assert_int_equal(client->input->size, 9 + 9 + sizeof(filler) + 4);
    assert_memory_equal(client->input->bytes, "head and head and xxx", 21);
    assert_memory_equal(client->input->bytes + client->input->size - 7, "xxxtail", 7);
}

static void tls_record_in_parts_is_read_when_it_is_complete(void **state)
{
    h2o_iovec_t hello = h2o_iovec_init(H2O_STRLIT("hello"));
    for (size_t step = 1; step != 40; ++step) {
        for (int i = 0; i != 3; ++i)
            assert_true(gw_socket_write(sock, &hello, 1, on_written));
        assert_null(read_in_steps(client, step));
        assert_int_equal(client->input->size, 15);
        assert_memory_equal(client->input->bytes, "hellohellohello", 15);
        h2o_buffer_consume(&client->input, 15);
        assert_null(gw_socket_read(client, NULL, 65536));
        assert_false(SSL_has_pending(gw_socket_ssl(client)));
    }
}

static void tls_errors_that_others_left_are_not_its_own(void **state)
{
    h2o_iovec_t hello = h2o_iovec_init(H2O_STRLIT("hello"));
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    assert_true(gw_socket_write(sock, &hello, 1, on_written));
    assert_null(read_in_steps(client, 3));
    assert_int_equal(client->input->size, 5);
    h2o_socket_close(sock);
    sock = NULL;
    assert_ptr_equal(read_in_steps(client, 65536), h2o_socket_error_closed); /* close_notify came, too */
    assert_true(gw_socket_has_ended(client));
    ERR_clear_error();
}

static void tls_corrupt_record_is_an_error_each_time(void **state)
{
    char record[5 + 64] = {SSL3_RT_APPLICATION_DATA, 3, 3, 0, 64};
    h2o_iovec_t hello = h2o_iovec_init(H2O_STRLIT("hello"));
    assert_true(gw_socket_write(sock, &hello, 1, on_written));
    assert_int_equal(write(h2o_socket_get_fd(sock), record, sizeof(record)), sizeof(record));
    const char *first = gw_socket_read(client, NULL, 65536);
    assert_true(first == NULL || first == h2o_socket_error_ssl_decode); /* behind data or not */
    assert_int_equal(client->input->size, 5);
    for (int i = 0; i != 3; ++i) {
        assert_int_equal(write(h2o_socket_get_fd(sock), record, sizeof(record)), sizeof(record));
        assert_ptr_equal(gw_socket_read(client, NULL, 65536), h2o_socket_error_ssl_decode);
    }
}

static void tls_failed_write_is_reported_from_the_loop(void **state)
{
    h2o_iovec_t hello = h2o_iovec_init(H2O_STRLIT("hello"));
    shutdown(h2o_socket_get_fd(sock), SHUT_WR);
    assert_false(gw_socket_write(sock, &hello, 1, on_written));
    assert_int_equal(num_written, 0);
    h2o_evloop_run(loop, 0);
    assert_int_equal(num_written, 1);
    assert_ptr_equal(write_error, h2o_socket_error_io);
}

enum { TLS_STEP = 16384, TLS_TOTAL = 1 << 20 };
static size_t num_received;
static const char *end_of_reading;

static char byte_at(size_t at) { return (char)(at * 13 + at / 1000); }

static void on_bulk(h2o_socket_t *readable, const char *err)
{
    end_of_reading = gw_socket_read(readable, err, TLS_STEP);
    /* a step, and what of a record waited for its end */
    assert_true(readable->input->size < TLS_STEP + 16384 + 256);
    for (size_t i = 0; i != readable->input->size; ++i)
        assert_int_equal(readable->input->bytes[i], byte_at(num_received + i));
    num_received += readable->input->size;
    h2o_buffer_consume(&readable->input, readable->input->size);
    if (end_of_reading != NULL)
        h2o_socket_read_stop(readable);
}

static void tls_is_read_in_bounded_steps_up_to_the_end(void **state)
{
    enum { NUM_PIECES = 257 }; /* of one byte, two, ... and the rest */
    char *bytes = malloc(TLS_TOTAL);
    h2o_iovec_t pieces[NUM_PIECES];
    size_t at = 0;
    for (size_t i = 0; i != TLS_TOTAL; ++i)
        bytes[i] = byte_at(i);
    for (size_t i = 0; i != NUM_PIECES; at += pieces[i++].len)
        pieces[i] = h2o_iovec_init(bytes + at, i + 1 != NUM_PIECES ? i : TLS_TOTAL - at);
    num_received = 0;
    end_of_reading = NULL;
    h2o_socket_read_start(client, on_bulk);
    assert_false(gw_socket_write(sock, pieces, NUM_PIECES, on_written));
    memset(pieces, 0xff, sizeof(pieces)); /* all is encrypted or copied by now */
    memset(bytes, 0xff, TLS_TOTAL);
    for (int turn = 0; turn != 10000 && num_written == 0; ++turn)
        h2o_evloop_run(loop, 10);
    assert_null(write_error);
    assert_int_equal(sock->bytes_written, TLS_TOTAL);
    h2o_socket_close(sock);
    sock = NULL;
    for (int turn = 0; turn != 10000 && end_of_reading == NULL; ++turn)
        h2o_evloop_run(loop, 10);
    assert_int_equal(num_received, TLS_TOTAL);
    assert_ptr_equal(end_of_reading, h2o_socket_error_closed);
    free(bytes);
}

#define TEST(name)     cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TCP_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_tcp, tear_down)
#define TLS_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_tls, tear_down_tls)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(read_takes_what_is_there_without_waiting),
        TEST(read_takes_no_more_than_asked_for),
        TEST(end_is_reported_after_the_data_before_it),
        TEST(end_behind_a_full_buffer_is_not_lost),
        TEST(idle_socket_holds_no_buffer),
        TCP_TEST(reset_is_an_error_and_not_an_end),
        TEST(error_of_the_callback_is_passed_on),
        TEST(detached_input_stays_while_the_socket_reads_on),
        TEST(small_write_leaves_at_once_and_calls_nobody),
        TEST(what_does_not_fit_follows_when_the_peer_reads),
        TEST(failed_write_is_reported_from_the_loop),
        TCP_TEST(reset_during_a_write_is_reported),
        TEST(loop_leaves_the_reading_of_plain_sockets_to_us),
        TLS_TEST(tls_small_write_leaves_at_once_and_calls_nobody),
        TLS_TEST(tls_pieces_share_a_record),
        TLS_TEST(tls_record_in_parts_is_read_when_it_is_complete),
        TLS_TEST(tls_errors_that_others_left_are_not_its_own),
        TLS_TEST(tls_corrupt_record_is_an_error_each_time),
        TLS_TEST(tls_failed_write_is_reported_from_the_loop),
        TLS_TEST(tls_is_read_in_bounded_steps_up_to_the_end),
    };
    signal(SIGPIPE, SIG_IGN); /* as the gateway does; libh2o writes with writev */
    return cmocka_run_group_tests_name("http/socket", tests, NULL, NULL);
}
