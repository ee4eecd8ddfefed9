#include "tls/alert.h"
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <h2o.h>

/* A whole record that is a fatal alert, in clear or (TLS 1.3) encrypted: level and description, the real content type
 * and a tag of 16 bytes. Nothing else that a server writes in a handshake is that short. */
static bool is_fatal_alert(const unsigned char *record, size_t len)
{
    enum { ALERT = 21, APPLICATION_DATA = 23, FATAL = 2, HEADER = 5 };
    if (len < HEADER || len != HEADER + ((size_t)record[3] << 8 | record[4]))
        return false;
    if (record[0] == ALERT)
        return len != HEADER + 2 || record[5] == FATAL;
    return record[0] == APPLICATION_DATA && len == HEADER + 2 + 1 + 16;
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

static BIO *libh2o_bio(SSL *ssl)
{
    BIO *bio = SSL_get_wbio(ssl);
    const char *name = bio != NULL ? BIO_method_name(bio) : NULL;
    return name != NULL && strcmp(name, "h2o_socket") == 0 ? bio : NULL;
}

h2o_socket_t *tls_alert_watch(SSL *ssl)
{
    BIO *bio = libh2o_bio(ssl);
    if (bio == NULL)
        return NULL;
    BIO_set_callback_ex(bio, on_bio);
    return BIO_get_data(bio);
}

void tls_alert_unwatch(SSL *ssl)
{
    BIO *bio = libh2o_bio(ssl);
    if (bio != NULL)
        BIO_set_callback_ex(bio, NULL);
}
