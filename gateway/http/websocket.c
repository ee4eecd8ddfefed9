#include "gateway/http/websocket.h"
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

static bool is_named(const h2o_header_t *field, const char *name, size_t len)
{
    return h2o_memis(field->name->base, field->name->len, name, len);
}

bool gw_websocket_is_key_field(const h2o_header_t *field) { return is_named(field, H2O_STRLIT("sec-websocket-key")); }

bool gw_websocket_is_accept_field(const h2o_header_t *field)
{
    return is_named(field, H2O_STRLIT("sec-websocket-accept"));
}

/* How often a field is there, and its first value. */
static unsigned find(const h2o_header_t *fields, size_t num_fields, const char *name, size_t len, h2o_iovec_t *value)
{
    unsigned n = 0;
    *value = h2o_iovec_init(NULL, 0);
    for (size_t i = 0; i != num_fields; ++i)
        if (is_named(&fields[i], name, len) && n++ == 0)
            *value = fields[i].value;
    return n;
}

/* 16 bytes in base64: 22 characters and "==". */
static bool is_key(h2o_iovec_t key)
{
    if (key.len != GW_WEBSOCKET_KEY_LEN || memcmp(key.base + 22, "==", 2) != 0)
        return false;
    for (size_t i = 0; i != 22; ++i) {
        char c = key.base[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/'))
            return false;
    }
    return true;
}

enum gw_websocket_fault gw_websocket_check_version(const h2o_header_t *fields, size_t num_fields, bool *has_version)
{
    h2o_iovec_t version;
    unsigned n = find(fields, num_fields, H2O_STRLIT("sec-websocket-version"), &version);

    *has_version = n != 0;
    return n == 0 || (n == 1 && h2o_memis(version.base, version.len, H2O_STRLIT("13"))) ? GW_WEBSOCKET_OK
                                                                                        : GW_WEBSOCKET_BAD_VERSION;
}

enum gw_websocket_fault gw_websocket_check(const h2o_header_t *fields, size_t num_fields, h2o_iovec_t *key)
{
    bool has_version;
    unsigned num_keys = find(fields, num_fields, H2O_STRLIT("sec-websocket-key"), key);

    /* the version first: another one may know other fields, and 426 tells the client which to use */
    if (gw_websocket_check_version(fields, num_fields, &has_version) != GW_WEBSOCKET_OK || !has_version)
        return GW_WEBSOCKET_BAD_VERSION;
    if (num_keys == 0)
        return GW_WEBSOCKET_NO_KEY;
    return num_keys == 1 && is_key(*key) ? GW_WEBSOCKET_OK : GW_WEBSOCKET_BAD_KEY;
}

const char *gw_websocket_problem(enum gw_websocket_fault fault)
{
    switch (fault) {
    case GW_WEBSOCKET_OK:
        break;
    case GW_WEBSOCKET_NO_KEY:
        return "Sec-WebSocket-Key is missing";
    case GW_WEBSOCKET_BAD_KEY:
        return "Sec-WebSocket-Key is repeated or not 16 bytes in base64";
    case GW_WEBSOCKET_BAD_VERSION:
        return "Sec-WebSocket-Version is not 13";
    }
    return "fine";
}

void gw_websocket_accept(h2o_iovec_t key, char accept[GW_WEBSOCKET_ACCEPT_LEN])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[GW_WEBSOCKET_KEY_LEN + sizeof(guid) - 1], base64[GW_WEBSOCKET_ACCEPT_LEN + 1];
    unsigned char digest[EVP_MAX_MD_SIZE];
    size_t digest_len;

    assert(key.len == GW_WEBSOCKET_KEY_LEN);
    memcpy(text, key.base, key.len);
    memcpy(text + key.len, guid, sizeof(guid) - 1);
    if (EVP_Q_digest(NULL, "SHA1", NULL, text, sizeof(text), digest, &digest_len) != 1)
        h2o_fatal("SHA-1 is not available");
    EVP_EncodeBlock((unsigned char *)base64, digest, (int)digest_len);
    memcpy(accept, base64, GW_WEBSOCKET_ACCEPT_LEN);
}

bool gw_websocket_is_accepted(const h2o_header_t *fields, size_t num_fields, h2o_iovec_t key)
{
    char expected[GW_WEBSOCKET_ACCEPT_LEN];
    h2o_iovec_t value;

    if (find(fields, num_fields, H2O_STRLIT("sec-websocket-accept"), &value) != 1)
        return false;
    gw_websocket_accept(key, expected);
    return h2o_memis(value.base, value.len, expected, sizeof(expected));
}

void gw_websocket_make_key(char key[GW_WEBSOCKET_KEY_LEN])
{
    unsigned char bytes[16];
    char base64[GW_WEBSOCKET_KEY_LEN + 1];

    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        h2o_fatal("no random bytes");
    EVP_EncodeBlock((unsigned char *)base64, bytes, sizeof(bytes));
    memcpy(key, base64, GW_WEBSOCKET_KEY_LEN);
}
