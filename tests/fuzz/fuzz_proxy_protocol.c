/* PROXY headers: slices stay inside, the answer does not depend on how the bytes arrive, and what was read means the
 * same when it is written anew. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/http/proxy_protocol.h"

static void check_slice(h2o_iovec_t slice, const char *bytes, size_t len)
{
    assert(slice.base == NULL || (slice.base >= bytes && slice.base + slice.len <= bytes + len));
}

static bool is_same(h2o_iovec_t a, h2o_iovec_t b)
{
    return (a.base == NULL) == (b.base == NULL) && a.len == b.len && (a.len == 0 || memcmp(a.base, b.base, a.len) == 0);
}

static void check_again(const struct gw_proxy_header *header)
{
    char bytes[GW_PROXY_V2_MAX + 64];
    struct gw_proxy_header again;
    const char *why;
    size_t consumed, len = gw_proxy_protocol_write_v2(header, true, bytes, sizeof(bytes));
    assert(len != 0);
    if (len > GW_PROXY_V2_MAX) /* by the checksum that the original did not have */
        return;
    assert(gw_proxy_protocol_parse(bytes, len, &again, &consumed, &why) == GW_PROXY_OK && consumed == len);
    assert(again.has_addresses == header->has_addresses && again.is_local == header->is_local);
    assert(!header->has_addresses ||
           (memcmp(&again.source, &header->source, sizeof(again.source)) == 0 &&
            memcmp(&again.destination, &header->destination, sizeof(again.source)) == 0 &&
            again.source_port == header->source_port && again.destination_port == header->destination_port));
    assert(is_same(again.alpn, header->alpn) && is_same(again.authority, header->authority));
    assert(is_same(again.unique_id, header->unique_id) && is_same(again.vpc_endpoint, header->vpc_endpoint));
    assert(again.has_ssl == header->has_ssl && again.is_ssl_verified == header->is_ssl_verified);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gw_proxy_header header;
    enum gw_proxy_result result = GW_PROXY_MORE;
    const char *why = NULL;
    size_t consumed = 0, step = size < 600 ? 1 : size / 300, n;

    if (size == 0)
        return 0;
    /* the first answer that is not MORE, in memory of its own size */
    for (n = 1; n <= size; n += n + step > size && n != size ? size - n : step) {
        char *bytes = malloc(n);
        memcpy(bytes, data, n);
        result = gw_proxy_protocol_parse(bytes, n, &header, &consumed, &why);
        if (result == GW_PROXY_OK) {
            assert(consumed <= n && consumed <= GW_PROXY_V2_MAX);
            const h2o_iovec_t slices[] = {header.alpn,           header.authority,   header.unique_id,
                                          header.vpc_endpoint,   header.ssl_version, header.ssl_cipher,
                                          header.ssl_common_name};
            for (size_t i = 0; i != sizeof(slices) / sizeof(slices[0]); ++i)
                check_slice(slices[i], bytes, consumed);
            check_again(&header);
        }
        free(bytes);
        if (result != GW_PROXY_MORE)
            break;
    }
    assert(result != GW_PROXY_MORE || size < GW_PROXY_V2_MAX);
    char *whole = malloc(size);
    memcpy(whole, data, size);
    assert(gw_proxy_protocol_parse(whole, size, &header, &consumed, &why) == result);
    free(whole);
    return 0;
}
