#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/ssl.h>
#include "tls/client_hello.h"

enum { ROOM = 40000 };

/* A ClientHello under construction; lengths are filled in by seal. */
struct hello {
    uint8_t bytes[ROOM];
    size_t len;
};

static void put(struct hello *self, const void *bytes, size_t len)
{
    assert_true(self->len + len <= ROOM);
    memcpy(self->bytes + self->len, bytes, len);
    self->len += len;
}
static void put8(struct hello *self, unsigned n) { put(self, &(uint8_t){(uint8_t)n}, 1); }
static void put16(struct hello *self, unsigned n)
{
    put8(self, n >> 8);
    put8(self, n);
}

/* Everything before the extensions: handshake header, version, random, session, two suites, no compression. */
static struct hello begin(void)
{
    struct hello self = {.len = 0};
    put(&self, "\1\0\0\0\3\3", 6);
    for (int i = 0; i != 32; ++i)
        put8(&self, (unsigned)i);
    put8(&self, 0);
    put(&self, "\0\4\x0a\x0a\x13\x01\1\0", 8); /* GREASE, TLS_AES_128_GCM_SHA256 */
    put16(&self, 0);
    return self;
}
enum { EXTENSIONS_AT = 6 + 32 + 1 + 8 };

static void extension(struct hello *self, unsigned type, const void *bytes, size_t len)
{
    put16(self, type);
    put16(self, (unsigned)len);
    put(self, bytes, len);
}

static void server_name(struct hello *self, const char *name)
{
    size_t len = strlen(name);
    put16(self, 0);
    put16(self, (unsigned)len + 5);
    put16(self, (unsigned)len + 3);
    put8(self, 0);
    put16(self, (unsigned)len);
    put(self, name, len);
}

static void seal(struct hello *self)
{
    size_t extensions = self->len - EXTENSIONS_AT - 2, body = self->len - 4;
    self->bytes[EXTENSIONS_AT] = (uint8_t)(extensions >> 8);
    self->bytes[EXTENSIONS_AT + 1] = (uint8_t)extensions;
    self->bytes[1] = (uint8_t)(body >> 16);
    self->bytes[2] = (uint8_t)(body >> 8);
    self->bytes[3] = (uint8_t)body;
}

/* The message in records of so many bytes. */
static struct hello in_records(const struct hello *message, size_t each)
{
    struct hello out = {.len = 0};
    for (size_t at = 0; at < message->len; at += each) {
        size_t len = message->len - at < each ? message->len - at : each;
        put(&out, "\x16\3\1", 3);
        put16(&out, (unsigned)len);
        put(&out, message->bytes + at, len);
    }
    return out;
}

struct outcome {
    enum tls_hello_result result;
    char name[TLS_NAME_MAX + 1];
    bool is_encrypted;
};

/* step: how many bytes come at a time. Every prefix must be INCOMPLETE until it is not. */
static struct outcome read_by(const struct hello *stream, size_t step)
{
    struct tls_hello_reader reader = {NULL};
    struct outcome outcome = {TLS_HELLO_INCOMPLETE, "", false};
    for (size_t len = step < stream->len ? step : stream->len; outcome.result == TLS_HELLO_INCOMPLETE;) {
        uint8_t *exact = malloc(len); /* for AddressSanitizer */
        memcpy(exact, stream->bytes, len);
        outcome.result = tls_hello_read(&reader, exact, len);
        free(exact);
        if (len == stream->len)
            break;
        len = len + step < stream->len ? len + step : stream->len;
    }
    if (outcome.result == TLS_HELLO_DONE && reader.name_len != 0)
        memcpy(outcome.name, reader.name, reader.name_len + 1);
    outcome.is_encrypted = reader.is_encrypted;
    tls_hello_dispose(&reader);
    return outcome;
}

static struct outcome read_message(const struct hello *message)
{
    struct hello stream = in_records(message, 16384);
    return read_by(&stream, stream.len);
}

/* ---- what clients send ---- */

static void name_is_found_in_lower_case_without_its_dot(void **state)
{
    struct hello hello = begin();
    extension(&hello, 0x0a0a, "", 0);
    extension(&hello, 16, "\0\3\2h2", 5);
    server_name(&hello, "WWW.Example.COM.");
    extension(&hello, 0x1a1a, "\0", 1);
    seal(&hello);
    struct outcome outcome = read_message(&hello);
    assert_int_equal(outcome.result, TLS_HELLO_DONE);
    assert_string_equal(outcome.name, "www.example.com");
    assert_false(outcome.is_encrypted);
}

static void pieces_and_records_of_any_size_are_put_together(void **state)
{
    struct hello hello = begin();
    server_name(&hello, "a.example");
    extension(&hello, 51, (const char[1500]){0}, 1500); /* as large as a post-quantum key share */
    seal(&hello);
    for (size_t each = 1; each < hello.len; each = each * 2 + 1) {
        struct hello stream = in_records(&hello, each);
        const size_t steps[] = {1, 3, 5, 6, 1000, stream.len};
        for (size_t i = 0; i != sizeof(steps) / sizeof(steps[0]); ++i) {
            struct outcome outcome = read_by(&stream, steps[i]);
            assert_int_equal(outcome.result, TLS_HELLO_DONE);
            assert_string_equal(outcome.name, "a.example");
        }
    }
}

static void hello_without_a_name_is_fine(void **state)
{
    struct hello hello = begin();
    extension(&hello, 10, "\0\2\0\x1d", 4);
    seal(&hello);
    assert_int_equal(read_message(&hello).result, TLS_HELLO_DONE);
    assert_string_equal(read_message(&hello).name, "");
    hello.len = EXTENSIONS_AT; /* TLS 1.0: no extensions at all */
    hello.bytes[3] = (uint8_t)(hello.len - 4);
    assert_int_equal(read_message(&hello).result, TLS_HELLO_DONE);
}

static void name_that_is_no_host_name_counts_as_none(void **state)
{
    static const char *const names[] = {"a b", "-/", "a..b", "*.example"};
    for (size_t i = 0; i != sizeof(names) / sizeof(names[0]); ++i) {
        struct hello hello = begin();
        server_name(&hello, names[i]);
        seal(&hello);
        assert_int_equal(read_message(&hello).result, TLS_HELLO_DONE);
        assert_string_equal(read_message(&hello).name, "");
    }
}

static void encrypted_hello_is_told_and_its_public_name_found(void **state)
{
    struct hello hello = begin();
    server_name(&hello, "public.example");
    extension(&hello, 0xfe0d, (const char[200]){0}, 200);
    seal(&hello);
    struct outcome outcome = read_message(&hello);
    assert_int_equal(outcome.result, TLS_HELLO_DONE);
    assert_string_equal(outcome.name, "public.example");
    assert_true(outcome.is_encrypted);
}

static void hello_of_a_real_client_is_read(void **state)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    BIO *out = BIO_new(BIO_s_mem());
    struct hello stream = {.len = 0};
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
    SSL_set_tlsext_host_name(ssl, "db.example");
    assert_int_equal(SSL_connect(ssl), -1);
    stream.len = (size_t)BIO_read(out, stream.bytes, ROOM);
    assert_string_equal(read_by(&stream, 7).name, "db.example");
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

/* ---- what they do not ---- */

static void expect_stream(const void *bytes, size_t len, enum tls_hello_result result)
{
    struct hello stream = {.len = 0};
    put(&stream, bytes, len);
    assert_int_equal(read_by(&stream, stream.len).result, result);
}

static void other_protocols_are_known_by_their_first_bytes(void **state)
{
    expect_stream("G", 1, TLS_HELLO_NOT_TLS);
    expect_stream("SSH-2.0-x\r\n", 11, TLS_HELLO_NOT_TLS);
    expect_stream("\x16\2", 2, TLS_HELLO_NOT_TLS);
    expect_stream("\x80\x2e\1\3\1", 5, TLS_HELLO_NOT_TLS); /* a hello of SSL 2 */
    expect_stream("\x16", 1, TLS_HELLO_INCOMPLETE);
    expect_stream("\x16\3\1\0", 4, TLS_HELLO_INCOMPLETE);
}

static void records_that_cannot_be_are_refused(void **state)
{
    expect_stream("\x16\3\1\0\0", 5, TLS_HELLO_MALFORMED);                      /* empty */
    expect_stream("\x16\3\1\x40\1", 5, TLS_HELLO_MALFORMED);                    /* above 2^14 */
    expect_stream("\x16\3\1\0\1\2", 6, TLS_HELLO_MALFORMED);                    /* a ServerHello */
    expect_stream("\x16\3\1\0\1\1\x15\3\3\0\2\2\x28", 13, TLS_HELLO_MALFORMED); /* an alert within */
}

static void messages_above_the_bound_are_refused_before_they_come(void **state)
{
    expect_stream("\x16\3\1\0\4\1\0\x40\0", 9, TLS_HELLO_TOO_LARGE);
    expect_stream("\x16\3\1\0\4\1\xff\xff\xff", 9, TLS_HELLO_TOO_LARGE);
}

static void endless_crumbs_are_refused(void **state)
{
    struct hello hello = begin();
    extension(&hello, 21, (const char[15000]){0}, 15000);
    seal(&hello);
    struct hello stream = in_records(&hello, 4);
    assert_true(stream.len > TLS_HELLO_MAX_BYTES);
    struct hello part = stream;
    part.len = TLS_HELLO_MAX_BYTES + 8;
    assert_int_equal(read_by(&part, 9).result, TLS_HELLO_TOO_LARGE);
}

static void every_wrong_length_is_refused(void **state)
{
    struct hello good = begin();
    server_name(&good, "a.example");
    seal(&good);
    /* session id, suites, compression, extensions, extension, list, name */
    static const size_t at[] = {
        4 + 34, 4 + 36, 4 + 41, EXTENSIONS_AT + 1, EXTENSIONS_AT + 5, EXTENSIONS_AT + 7, EXTENSIONS_AT + 10};
    assert_int_equal(read_message(&good).result, TLS_HELLO_DONE);
    for (size_t i = 0; i != sizeof(at) / sizeof(at[0]); ++i)
        for (int delta = -1; delta <= 1; delta += 2) {
            struct hello bad = good;
            bad.bytes[at[i]] = (uint8_t)(bad.bytes[at[i]] + delta);
            assert_int_equal(read_message(&bad).result, TLS_HELLO_MALFORMED);
        }
}

static void name_given_twice_is_refused(void **state)
{
    struct hello hello = begin();
    server_name(&hello, "a.example");
    server_name(&hello, "b.example");
    seal(&hello);
    assert_int_equal(read_message(&hello).result, TLS_HELLO_MALFORMED);
    hello = begin();
    extension(&hello, 0, "\0\x0a\0\0\2a.\0\0\2b.", 12);
    seal(&hello);
    assert_int_equal(read_message(&hello).result, TLS_HELLO_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(name_is_found_in_lower_case_without_its_dot),
        cmocka_unit_test(pieces_and_records_of_any_size_are_put_together),
        cmocka_unit_test(hello_without_a_name_is_fine),
        cmocka_unit_test(name_that_is_no_host_name_counts_as_none),
        cmocka_unit_test(encrypted_hello_is_told_and_its_public_name_found),
        cmocka_unit_test(hello_of_a_real_client_is_read),
        cmocka_unit_test(other_protocols_are_known_by_their_first_bytes),
        cmocka_unit_test(records_that_cannot_be_are_refused),
        cmocka_unit_test(messages_above_the_bound_are_refused_before_they_come),
        cmocka_unit_test(endless_crumbs_are_refused),
        cmocka_unit_test(every_wrong_length_is_refused),
        cmocka_unit_test(name_given_twice_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
