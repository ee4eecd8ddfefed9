#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include "fixture.h"

/* Handshakes on libh2o's own sockets over a socket pair: what a client hears when they fail. */
static struct tls_certificate *certificate;

static int load_certificate(void **state)
{
    make_folder(state);
    certificate = test_certificate("site", (struct recipe){.names = "DNS:a.example.com"});
    return 0;
}

static int destroy_certificate(void **state)
{
    tls_certificate_destroy(certificate);
    return remove_folder(state);
}

static struct {
    bool is_over;
    const char *error;
} outcome;

static void on_handshake(h2o_socket_t *sock, const char *err)
{
    outcome.is_over = true;
    outcome.error = err;
}

struct meeting {
    struct pair pair; /* only the client's half */
    SSL_CTX *client;
    h2o_loop_t *loop;
    h2o_socket_t *sock;
    int fd;
};

static void meet(struct meeting *it, struct tls_context *context, int version, const char *alpn)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    *it = (struct meeting){.client = client_context(version, version), .loop = h2o_evloop_create(), .fd = fds[0]};
    outcome.is_over = false;
    it->sock = h2o_evloop_socket_create(it->loop, fds[1], 0);
    h2o_socket_ssl_handshake(it->sock, tls_context_ssl(context), NULL, on_handshake);
    SSL *ssl = SSL_new(it->client);
    it->pair = (struct pair){ssl, NULL, -1, -1};
    SSL_set_app_data(ssl, &it->pair);
    SSL_set_info_callback(ssl, on_pair_info);
    SSL_set_fd(ssl, fds[0]);
    SSL_set_connect_state(ssl);
    if (alpn != NULL)
        SSL_set_alpn_protos(ssl, (const unsigned char *)alpn, strlen(alpn));
}

/* Runs both sides until the server's handshake is over and the client has nothing left to read. */
static bool meeting_handshake(struct meeting *it)
{
    int client = 0;
    for (int i = 0; i < 100 && client >= 0 && (client == 0 || !outcome.is_over); i++) {
        client = shake(it->pair.client);
        h2o_evloop_run(it->loop, 0);
    }
    if (client == 0)
        client = shake(it->pair.client);
    return client == 1 && outcome.is_over && outcome.error == NULL;
}

static void part(struct meeting *it)
{
    SSL_free(it->pair.client);
    SSL_CTX_free(it->client);
    h2o_socket_close(it->sock);
    for (int i = 0; i < 3; i++)
        h2o_evloop_run(it->loop, 0);
    close(it->fd);
    h2o_evloop_destroy(it->loop);
    ERR_clear_error();
}

/* TLS 1.3 fails before its keys are in use here; one that fails after, with the encrypted alert, is the next test. */
static void clients_hear_why_a_handshake_failed(void **state)
{
    struct tls_context *context =
        test_context("ELBSecurityPolicy-TLS13-1-2-Res-2021-06", "https", NULL, &certificate, 1);
    static const struct {
        int version;
        const char *alpn, *ciphers;
        int alert;
    } cases[] = {
        {TLS1_3_VERSION, "\x02h2", NULL, SSL_AD_NO_APPLICATION_PROTOCOL},
        {TLS1_2_VERSION, "\x02h2", NULL, SSL_AD_NO_APPLICATION_PROTOCOL},
        {TLS1_1_VERSION, NULL, NULL, SSL_AD_PROTOCOL_VERSION},
        {TLS1_2_VERSION, NULL, "AES128-SHA", SSL_AD_HANDSHAKE_FAILURE},
        {TLS1_2_VERSION, NULL, "ECDHE-RSA-AES128-GCM-SHA256", SSL_AD_HANDSHAKE_FAILURE},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct meeting it;
        meet(&it, context, cases[i].version, cases[i].alpn);
        if (cases[i].ciphers != NULL)
            SSL_set_cipher_list(it.pair.client, cases[i].ciphers);
        assert_false(meeting_handshake(&it));
        assert_true(outcome.is_over);
        assert_non_null(outcome.error);
        assert_int_equal(it.pair.client_alert, cases[i].alert);
        part(&it);
    }
    tls_context_destroy(context);
}

/* A client whose Finished is wrong: a TLS 1.3 server's alert is encrypted then. The record that carries the client's
 * Finished is changed on its way. */
static void clients_hear_an_encrypted_alert_too(void **state)
{
    struct tls_context *context = test_context("modern", "https", NULL, &certificate, 1);
    struct meeting it;
    meet(&it, context, TLS1_3_VERSION, NULL);
    assert_int_equal(shake(it.pair.client), 0); /* ClientHello */
    for (int i = 0; i < 10; i++)
        h2o_evloop_run(it.loop, 0); /* the server's flight is on its way */
    BIO *kept = BIO_new(BIO_s_mem());
    SSL_set0_wbio(it.pair.client, kept);
    assert_int_equal(shake(it.pair.client), 1); /* its Finished goes to memory */
    unsigned char *bytes;
    long len = BIO_get_mem_data(kept, &bytes);
    assert_true(len > 20);
    bytes[len - 1] ^= 1;
    assert_int_equal(write(it.fd, bytes, len), len);
    for (int i = 0; i < 10 && !outcome.is_over; i++)
        h2o_evloop_run(it.loop, 0);
    assert_true(outcome.is_over);
    assert_non_null(outcome.error);
    char byte;
    assert_true(SSL_read(it.pair.client, &byte, 1) <= 0);
    assert_int_equal(it.pair.client_alert, SSL_AD_BAD_RECORD_MAC);
    part(&it);
    tls_context_destroy(context);
}

static void a_good_handshake_says_nothing_extra(void **state)
{
    struct tls_context *context = test_context("intermediate", "https", NULL, &certificate, 1);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct meeting it;
        char byte;
        meet(&it, context, version, "\x08http/1.1");
        assert_true(meeting_handshake(&it));
        /* nothing but TLS records that the client can read, and no alert among them */
        assert_true(SSL_read(it.pair.client, &byte, 1) < 0);
        assert_int_equal(SSL_get_error(it.pair.client, -1), SSL_ERROR_WANT_READ);
        assert_int_equal(it.pair.client_alert, -1);
        part(&it);
    }
    tls_context_destroy(context);
}

static struct {
    h2o_socket_t *sock;
    SSL *ssl;
} greeted;

static void on_hello(h2o_socket_t *sock, SSL *ssl)
{
    greeted.sock = sock;
    greeted.ssl = ssl;
}

static void the_owner_of_a_socket_meets_its_ssl(void **state)
{
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct tls_context *context = test_context("intermediate", "https", NULL, &certificate, 1);
        struct meeting it;
        tls_context_on_hello(context, on_hello);
        greeted.sock = NULL;
        meet(&it, context, version, NULL);
        SSL_set_tlsext_host_name(it.pair.client, "a.example.com");
        assert_true(meeting_handshake(&it));
        assert_ptr_equal(greeted.sock, it.sock);
        assert_string_equal(SSL_get_servername(greeted.ssl, TLSEXT_NAMETYPE_host_name), "a.example.com");
        part(&it);
        tls_context_destroy(context);
    }
}

/* --- KeyUpdate ---------------------------------------------------------------------------------------------------- */
static struct {
    size_t num_bytes;
    const char *error;
} heard;

static void on_read(h2o_socket_t *sock, const char *err)
{
    if (err != NULL)
        heard.error = err;
    heard.num_bytes += sock->input->size;
    h2o_buffer_consume(&sock->input, sock->input->size);
}

static void on_written(h2o_socket_t *sock, const char *err) { assert_null(err); }

/* The server says something; the number of bytes that the client can read of it. */
static int server_says(struct meeting *it, const char *text)
{
    char bytes[64];
    h2o_iovec_t out = h2o_iovec_init(text, strlen(text));
    h2o_socket_write(it->sock, &out, 1, on_written);
    for (int i = 0; i < 5; i++)
        h2o_evloop_run(it->loop, 0);
    ERR_clear_error();
    return SSL_read(it->pair.client, bytes, sizeof(bytes));
}

static struct meeting established(struct tls_context *context)
{
    struct meeting it;
    char byte;
    meet(&it, context, TLS1_3_VERSION, NULL);
    assert_true(meeting_handshake(&it));
    heard.num_bytes = 0;
    heard.error = NULL;
    h2o_socket_read_start(it.sock, on_read);
    assert_int_equal(SSL_read(it.pair.client, &byte, 1), -1); /* takes the tickets in */
    return it;
}

static void client_asks(struct meeting *it, int how)
{
    assert_int_equal(SSL_key_update(it->pair.client, how), 1);
    assert_int_equal(SSL_do_handshake(it->pair.client), 1); /* sends it */
    for (int i = 0; i < 3; i++)
        h2o_evloop_run(it->loop, 0);
}

static unsigned num_updates_read;
static void count_updates(int is_write, int version, int content_type, const void *bytes, size_t len, SSL *ssl,
                          void *arg)
{
    if (!is_write && content_type == SSL3_RT_HANDSHAKE && *(const unsigned char *)bytes == SSL3_MT_KEY_UPDATE)
        num_updates_read++;
}

static void key_updates_are_followed_and_answered_with_the_next_data(void **state)
{
    struct tls_context *context = test_context("intermediate", "https", NULL, &certificate, 1);
    struct meeting it = established(context);
    num_updates_read = 0;
    SSL_set_msg_callback(it.pair.client, count_updates);
    for (int round = 1; round <= 5; round++) {
        client_asks(&it, SSL_KEY_UPDATE_REQUESTED);
        assert_int_equal(SSL_write(it.pair.client, "hello", 5), 5);
        h2o_evloop_run(it.loop, 0);
        assert_null(heard.error);
        assert_int_equal(heard.num_bytes, round * 5);
        assert_int_equal(num_updates_read, round - 1); /* nothing to say yet */
        assert_int_equal(server_says(&it, "answer"), 6);
        assert_int_equal(num_updates_read, round);
        client_asks(&it, SSL_KEY_UPDATE_NOT_REQUESTED);
        assert_int_equal(server_says(&it, "more"), 4);
        assert_int_equal(num_updates_read, round);
    }
    part(&it);
    tls_context_destroy(context);
}

static void several_key_updates_before_an_answer_are_all_answered(void **state)
{
    struct tls_context *context = test_context("intermediate", "https", NULL, &certificate, 1);
    struct meeting it = established(context);
    num_updates_read = 0;
    SSL_set_msg_callback(it.pair.client, count_updates);
    for (int i = 0; i < 20; i++)
        client_asks(&it, SSL_KEY_UPDATE_REQUESTED);
    assert_null(heard.error);
    assert_int_equal(server_says(&it, "answer"), 6);
    assert_int_equal(num_updates_read, 20);
    part(&it);
    tls_context_destroy(context);
}

static void a_flood_of_key_updates_ends_the_connection(void **state)
{
    struct tls_context *context = test_context("intermediate", "https", NULL, &certificate, 1);
    struct meeting it = established(context);
    for (int i = 0; i < 40 && heard.error == NULL; i++)
        client_asks(&it, SSL_KEY_UPDATE_REQUESTED);
    assert_non_null(heard.error);
    part(&it);
    tls_context_destroy(context);
}

static void a_connection_may_end_with_an_answer_held_back(void **state)
{
    struct tls_context *context = test_context("intermediate", "https", NULL, &certificate, 1);
    struct meeting it = established(context);
    client_asks(&it, SSL_KEY_UPDATE_REQUESTED);
    part(&it); /* says goodbye behind it */
    tls_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_hear_why_a_handshake_failed),
        cmocka_unit_test(clients_hear_an_encrypted_alert_too),
        cmocka_unit_test(a_good_handshake_says_nothing_extra),
        cmocka_unit_test(the_owner_of_a_socket_meets_its_ssl),
        cmocka_unit_test(key_updates_are_followed_and_answered_with_the_next_data),
        cmocka_unit_test(several_key_updates_before_an_answer_are_all_answered),
        cmocka_unit_test(a_flood_of_key_updates_ends_the_connection),
        cmocka_unit_test(a_connection_may_end_with_an_answer_held_back),
    };
    return cmocka_run_group_tests(tests, load_certificate, destroy_certificate);
}
