#include "tls/socket.h"
#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <h2o.h>

enum { HEADER_LEN = 5, TAG_LEN = 16 }; /* of a record */

static BIO *libh2o_bio(SSL *ssl)
{
    BIO *bio = SSL_get_rbio(ssl);
    const char *name = bio != NULL ? BIO_method_name(bio) : NULL;
    return name != NULL && strcmp(name, "h2o_socket") == 0 ? bio : NULL;
}

h2o_socket_t *tls_socket_of(SSL *ssl)
{
    BIO *bio = libh2o_bio(ssl);
    return bio != NULL ? BIO_get_data(bio) : NULL;
}

/* --- alerts ------------------------------------------------------------------------------------------------------- */
/* A whole record that is a fatal alert, in clear or (TLS 1.3) encrypted: level and description, the real content type
 * and the tag. Nothing else that a server writes in a handshake is that short. */
static bool is_fatal_alert(const unsigned char *record, size_t len)
{
    enum { FATAL = 2 };
    if (len < HEADER_LEN || len != HEADER_LEN + ((size_t)record[3] << 8 | record[4]))
        return false;
    if (record[0] == SSL3_RT_ALERT)
        return len != HEADER_LEN + 2 || record[5] == FATAL;
    return record[0] == SSL3_RT_APPLICATION_DATA && len == HEADER_LEN + 2 + 1 + TAG_LEN;
}

static long on_bio(BIO *bio, int operation, const char *data, size_t len, int argi, long argl, int ret,
                   size_t *processed)
{
    if (operation != BIO_CB_WRITE)
        return operation & BIO_CB_RETURN ? ret : 1;
    if (is_fatal_alert((const unsigned char *)data, len)) {
        /* Best effort: the connection ends here anyway, also when the socket is full. */
        ssize_t sent = send(h2o_socket_get_fd(BIO_get_data(bio)), data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)sent;
    }
    return 1;
}

void tls_socket_watch_alerts(SSL *ssl)
{
    BIO *bio = libh2o_bio(ssl);
    if (bio != NULL)
        BIO_set_callback_ex(bio, on_bio);
}

void tls_socket_unwatch_alerts(SSL *ssl)
{
    BIO *bio = libh2o_bio(ssl);
    if (bio != NULL)
        BIO_set_callback_ex(bio, NULL);
}

/* Once: in an answer that follows, records may be as short as an alert. */
static long on_bio_with_late_alert(BIO *bio, int operation, const char *data, size_t len, int argi, long argl, int ret,
                                   size_t *processed)
{
    if (operation == BIO_CB_WRITE) {
        BIO_set_callback_ex(bio, NULL);
        return on_bio(bio, operation, data, len, argi, argl, ret, processed);
    }
    return operation & BIO_CB_RETURN ? ret : 1;
}

/* OpenSSL is about to write an alert. A close_notify is libh2o's to send, in its turn; behind a record of which a part
 * still waits any other would be noise. */
static void watch_late_alert(SSL *ssl)
{
    BIO *bio = libh2o_bio(ssl);
    if (bio != NULL && BIO_get_callback_ex(bio) == NULL && (SSL_get_shutdown(ssl) & SSL_SENT_SHUTDOWN) == 0 &&
        !h2o_socket_is_writing(BIO_get_data(bio)))
        BIO_set_callback_ex(bio, on_bio_with_late_alert);
}

/* --- KeyUpdate ---------------------------------------------------------------------------------------------------- */
/* OpenSSL takes 32 in a row without application data between them. */
enum { MAX_HELD = 32 * (HEADER_LEN + 5 + 1 + TAG_LEN) };

/* Stands in front of libh2o's BIO from the first KeyUpdate on, for writing only. */
struct holder {
    SSL *ssl;
    BIO *next; /* libh2o's; a reference */
    size_t held_len;
    unsigned char held[MAX_HELD];
};

static BIO_METHOD *holder_method;

static int holder_write(BIO *bio, const char *data, int len)
{
    struct holder *self = BIO_get_data(bio);
    /* between the message and the end of SSL_read(), or after a fatal error */
    if (SSL_in_init(self->ssl) && !is_fatal_alert((const unsigned char *)data, (size_t)len)) {
        if ((size_t)len > MAX_HELD - self->held_len)
            return -1;
        memcpy(self->held + self->held_len, data, len);
        self->held_len += len;
        return len;
    }
    if (self->held_len != 0) {
        if (BIO_write(self->next, self->held, (int)self->held_len) != (int)self->held_len)
            return -1; /* inside SSL_read() after all: an alert, and libh2o closes */
        self->held_len = 0;
    }
    return BIO_write(self->next, data, len);
}

static long holder_ctrl(BIO *bio, int command, long number, void *pointer)
{
    struct holder *self = BIO_get_data(bio);
    return command == BIO_CTRL_FLUSH ? 1 : BIO_ctrl(self->next, command, number, pointer);
}

static int holder_destroy(BIO *bio)
{
    struct holder *self = BIO_get_data(bio);
    if (self != NULL) {
        BIO_free(self->next);
        free(self);
    }
    return 1;
}

static void make_holder_method(void)
{
    holder_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_FILTER, "weir_holder");
    if (holder_method == NULL)
        h2o_fatal("no memory");
    BIO_meth_set_write(holder_method, holder_write);
    BIO_meth_set_ctrl(holder_method, holder_ctrl);
    BIO_meth_set_destroy(holder_method, holder_destroy);
}

static void install_holder(SSL *ssl, BIO *next)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_holder_method);
    BIO *bio = BIO_new(holder_method);
    if (bio == NULL)
        h2o_fatal("no memory");
    struct holder *self = h2o_mem_alloc(sizeof(*self));
    self->ssl = ssl;
    self->next = next;
    self->held_len = 0;
    BIO_up_ref(next);
    BIO_set_data(bio, self);
    BIO_set_init(bio, 1);
    SSL_set0_wbio(ssl, bio);
}

void tls_socket_on_message(int is_write, int version, int content_type, const void *bytes, size_t len, SSL *ssl,
                           void *arg)
{
    if (len == 0)
        return;
    unsigned char first = *(const unsigned char *)bytes;
    if (is_write) {
        if (first == SSL3_RT_ALERT && (content_type == SSL3_RT_HEADER || content_type == SSL3_RT_INNER_CONTENT_TYPE))
            watch_late_alert(ssl);
        return;
    }
    if (content_type != SSL3_RT_HANDSHAKE || first != SSL3_MT_KEY_UPDATE)
        return;
    BIO *next = libh2o_bio(ssl);
    if (next != NULL && SSL_get_wbio(ssl) == next)
        install_holder(ssl, next);
}
