/* Upgrade heads, both sides: what a route chooses of a client's offer is one of its protocols and stands in the offer,
 * a handshake that is taken has one well-formed key, and an accept is taken for its key alone. */
#include <assert.h>
#include <string.h>
#include "gateway/http/head.h"
#include "gateway/http/websocket.h"
#include "routing/upgrade.h"

static const struct gw_head_limits limits = {.max_bytes = 4096, .max_target = 256, .max_fields = 32};
static h2o_iovec_t taken[] = {{H2O_STRLIT("websocket")}, {H2O_STRLIT("tcp")}, {H2O_STRLIT("SPDY/3.1")}};

static unsigned count(const h2o_header_t *fields, size_t n, const char *name)
{
    unsigned found = 0;
    for (size_t i = 0; i != n; ++i)
        found += h2o_memis(fields[i].name->base, fields[i].name->len, name, strlen(name));
    return found;
}

static void check_choice(h2o_iovec_t offered)
{
    struct gw_texts texts = {taken, sizeof(taken) / sizeof(taken[0]), NULL}, none = {NULL, 0, NULL};
    h2o_iovec_t chosen = routing_upgrade_choose(&texts, offered);
    bool is_taken = false;

    assert(routing_upgrade_choose(&none, offered).base == NULL);
    if (chosen.base == NULL)
        return;
    assert(chosen.base >= offered.base && chosen.base + chosen.len <= offered.base + offered.len);
    for (size_t i = 0; i != texts.size; ++i)
        is_taken |= chosen.len == taken[i].len && strncasecmp(chosen.base, taken[i].base, chosen.len) == 0;
    assert(is_taken);
    /* the element alone means the same */
    h2o_iovec_t again = routing_upgrade_choose(&texts, chosen);
    assert(again.base == chosen.base && again.len == chosen.len);
}

static void check_request(char *bytes, size_t len)
{
    h2o_header_t fields[GW_HEAD_MAX_FIELDS];
    h2o_iovec_t names[GW_HEAD_MAX_FIELDS], key;
    struct gw_request_head head = {.fields = fields, .names = names};
    size_t consumed;
    bool has_version;

    if (gw_head_parse_request(bytes, len, 0, &limits, &head, &consumed) != GW_HEAD_OK)
        return;
    assert((head.upgrade.base != NULL) == head.wants_upgrade);
    assert(!head.wants_upgrade || head.minor_version == 1);
    if (head.wants_upgrade)
        check_choice(head.upgrade);
    if (gw_websocket_check(fields, head.num_fields, &key) == GW_WEBSOCKET_OK) {
        char accept[GW_WEBSOCKET_ACCEPT_LEN];
        assert(key.len == GW_WEBSOCKET_KEY_LEN && memcmp(key.base + 22, "==", 2) == 0);
        assert(count(fields, head.num_fields, "sec-websocket-key") == 1);
        assert(count(fields, head.num_fields, "sec-websocket-version") == 1);
        gw_websocket_accept(key, accept);
        assert(gw_websocket_check_version(fields, head.num_fields, &has_version) == GW_WEBSOCKET_OK && has_version);
    }
}

static void check_response(char *bytes, size_t len)
{
    static const h2o_iovec_t key = {H2O_STRLIT("dGhlIHNhbXBsZSBub25jZQ==")};
    h2o_header_t fields[GW_HEAD_MAX_FIELDS];
    h2o_iovec_t names[GW_HEAD_MAX_FIELDS];
    struct gw_response_head head = {.fields = fields, .names = names};
    size_t consumed;

    if (gw_head_parse_response(bytes, len, 0, &limits, &head, &consumed) != GW_HEAD_OK)
        return;
    assert(head.upgrade.base == NULL || head.status == 101);
    if (gw_websocket_is_accepted(fields, head.num_fields, key))
        assert(count(fields, head.num_fields, "sec-websocket-accept") == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char copy[4096];

    if (size > sizeof(copy))
        return 0;
    memcpy(copy, data, size);
    check_request(copy, size);
    memcpy(copy, data, size);
    check_response(copy, size);
    check_choice(h2o_iovec_init(data, size));
    return 0;
}
