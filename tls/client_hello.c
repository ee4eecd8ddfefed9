#include "tls/client_hello.h"
#include <stdlib.h>
#include <string.h>

enum {
    RECORD_HEAD = 5,
    RECORD_MAX = 1 << 14, /* RFC 8446 5.1: of a plaintext record */
    CONTENT_HANDSHAKE = 22,
    MESSAGE_HEAD = 4,
    CLIENT_HELLO = 1,
    EXTENSION_SERVER_NAME = 0,
    EXTENSION_ENCRYPTED_HELLO = 0xfe0d,
    NAME_TYPE_HOST = 0,
};

/* Bytes that are left of a vector; every read checks. */
struct cursor {
    const uint8_t *at;
    size_t left;
};

static bool take(struct cursor *from, size_t len, struct cursor *part)
{
    if (from->left < len)
        return false;
    *part = (struct cursor){from->at, len};
    from->at += len;
    from->left -= len;
    return true;
}

static bool take_number(struct cursor *from, size_t bytes, size_t *number)
{
    struct cursor part;
    if (!take(from, bytes, &part))
        return false;
    for (*number = 0; part.left != 0; --part.left)
        *number = *number << 8 | *part.at++;
    return true;
}

/* opaque x<..>: its length in so many bytes, then itself. */
static bool take_vector(struct cursor *from, size_t length_bytes, struct cursor *vector)
{
    size_t len;
    return take_number(from, length_bytes, &len) && take(from, len, vector);
}

/* RFC 6066 3: a list of names, at most one of each type. */
static bool read_server_name(struct tls_hello_reader *reader, struct cursor extension)
{
    struct cursor list, name;
    size_t type;
    bool has_name = false;

    if (!take_vector(&extension, 2, &list) || extension.left != 0 || list.left == 0)
        return false;
    while (list.left != 0) {
        if (!take_number(&list, 1, &type) || !take_vector(&list, 2, &name))
            return false;
        if (type != NAME_TYPE_HOST)
            continue;
        if (has_name || name.left == 0)
            return false;
        has_name = true;
        if (!tls_name_canonical(h2o_iovec_init(name.at, name.left), false, reader->name, &reader->name_len))
            reader->name_len = 0;
    }
    return true;
}

static bool read_extensions(struct tls_hello_reader *reader, struct cursor extensions)
{
    struct cursor extension;
    size_t type;
    bool has_name = false;

    while (extensions.left != 0) {
        if (!take_number(&extensions, 2, &type) || !take_vector(&extensions, 2, &extension))
            return false;
        if (type == EXTENSION_SERVER_NAME) {
            if (has_name || !read_server_name(reader, extension))
                return false;
            has_name = true;
        } else if (type == EXTENSION_ENCRYPTED_HELLO) {
            reader->is_encrypted |= extension.left != 0 && extension.at[0] == 0; /* outer; GREASE looks the same */
        }
    }
    return true;
}

static bool read_hello(struct tls_hello_reader *reader, struct cursor body)
{
    struct cursor skipped, extensions;

    if (!take(&body, 2 + 32, &skipped) ||                                                /* legacy_version, random */
        !take_vector(&body, 1, &skipped) || skipped.left > 32 ||                         /* legacy_session_id */
        !take_vector(&body, 2, &skipped) || skipped.left < 2 || skipped.left % 2 != 0 || /* cipher_suites */
        !take_vector(&body, 1, &skipped) || skipped.left == 0) /* legacy_compression_methods */
        return false;
    if (body.left == 0) /* before TLS 1.2 there need not be any extensions */
        return true;
    return take_vector(&body, 2, &extensions) && body.left == 0 && read_extensions(reader, extensions);
}

/* The message is whole once its own length says so. */
static enum tls_hello_result read_message(struct tls_hello_reader *reader)
{
    struct cursor message = {reader->message, reader->message_len}, body;
    size_t type, len;

    if (!take_number(&message, 1, &type))
        return TLS_HELLO_INCOMPLETE;
    if (type != CLIENT_HELLO)
        return TLS_HELLO_MALFORMED;
    if (!take_number(&message, 3, &len))
        return TLS_HELLO_INCOMPLETE;
    if (len > TLS_HELLO_MAX_MESSAGE - MESSAGE_HEAD)
        return TLS_HELLO_TOO_LARGE;
    if (!take(&message, len, &body))
        return TLS_HELLO_INCOMPLETE;
    return read_hello(reader, body) ? TLS_HELLO_DONE : TLS_HELLO_MALFORMED;
}

static bool append(struct tls_hello_reader *reader, const uint8_t *bytes, size_t len)
{
    if (len > TLS_HELLO_MAX_MESSAGE - reader->message_len)
        return false;
    if (reader->message == NULL)
        reader->message = h2o_mem_alloc(TLS_HELLO_MAX_MESSAGE);
    memcpy(reader->message + reader->message_len, bytes, len);
    reader->message_len += len;
    return true;
}

enum tls_hello_result tls_hello_read(struct tls_hello_reader *reader, const uint8_t *bytes, size_t len)
{
    while (len > reader->at) {
        const uint8_t *record = bytes + reader->at;
        size_t left = len - reader->at, payload;

        /* what is no TLS is known by its first bytes: plain HTTP need not wait for a timeout */
        if (record[0] != CONTENT_HANDSHAKE || (left > 1 && record[1] != 3))
            return reader->at == 0 ? TLS_HELLO_NOT_TLS : TLS_HELLO_MALFORMED;
        if (left < RECORD_HEAD)
            break;
        payload = (size_t)record[3] << 8 | record[4];
        if (payload == 0 || payload > RECORD_MAX) /* RFC 8446 5.1: no empty handshake records */
            return TLS_HELLO_MALFORMED;
        if (left < RECORD_HEAD + payload)
            break;
        if (!append(reader, record + RECORD_HEAD, payload))
            return TLS_HELLO_TOO_LARGE;
        reader->at += RECORD_HEAD + payload;
        enum tls_hello_result result = read_message(reader);
        if (result != TLS_HELLO_INCOMPLETE)
            return result;
    }
    return len > TLS_HELLO_MAX_BYTES ? TLS_HELLO_TOO_LARGE : TLS_HELLO_INCOMPLETE;
}

void tls_hello_dispose(struct tls_hello_reader *reader)
{
    free(reader->message);
    reader->message = NULL;
}
