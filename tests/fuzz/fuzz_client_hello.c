/* A ClientHello in pieces: the outcome does not depend on how the bytes came, and a name that was found is one. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "tls/client_hello.h"

static enum tls_hello_result read_by(const uint8_t *data, size_t size, size_t step, struct tls_hello_reader *reader)
{
    enum tls_hello_result result = TLS_HELLO_INCOMPLETE;
    memset(reader, 0, sizeof(*reader));
    for (size_t len = step; result == TLS_HELLO_INCOMPLETE; len += step) {
        size_t now = len < size ? len : size;
        uint8_t *copy = malloc(now + 1);
        memcpy(copy, data, now);
        result = tls_hello_read(reader, copy, now);
        free(copy);
        if (now == size)
            break;
    }
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tls_hello_reader whole, pieces;
    if (size < 1)
        return 0;
    size_t step = 1 + data[0] % 37;
    enum tls_hello_result at_once = read_by(data + 1, size - 1, size, &whole);
    enum tls_hello_result bit_by_bit = read_by(data + 1, size - 1, step, &pieces);
    /* only whether too much has come may be noticed at another time */
    assert(at_once == bit_by_bit || at_once == TLS_HELLO_TOO_LARGE || bit_by_bit == TLS_HELLO_TOO_LARGE);
    if (at_once == TLS_HELLO_DONE && bit_by_bit == TLS_HELLO_DONE) {
        char name[TLS_NAME_MAX + 1];
        size_t len;
        assert(whole.name_len == pieces.name_len && memcmp(whole.name, pieces.name, whole.name_len) == 0);
        if (whole.name_len != 0)
            assert(tls_name_canonical(h2o_iovec_init(whole.name, whole.name_len), false, name, &len) &&
                   len == whole.name_len);
    }
    tls_hello_dispose(&whole);
    tls_hello_dispose(&pieces);
    return 0;
}
