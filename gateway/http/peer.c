#include "gateway/http/peer.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct gw_peer_facts *gw_peer_facts(struct gw_peer *peer)
{
    if (peer->facts == NULL) {
        peer->facts = h2o_mem_alloc(sizeof(*peer->facts));
        memset(peer->facts, 0, sizeof(*peer->facts));
    }
    return peer->facts;
}

/* An id is any bytes. */
static h2o_iovec_t readable(h2o_iovec_t bytes)
{
    static const char hex[] = "0123456789abcdef";
    bool is_text = true;
    char *text = h2o_mem_alloc(bytes.len * 2 + 1), *dst = text;

    for (size_t i = 0; i != bytes.len; ++i)
        is_text &= bytes.base[i] > ' ' && bytes.base[i] < 0x7f;
    for (size_t i = 0; i != bytes.len; ++i) {
        if (is_text) {
            *dst++ = bytes.base[i];
        } else {
            *dst++ = hex[(uint8_t)bytes.base[i] >> 4];
            *dst++ = hex[bytes.base[i] & 15];
        }
    }
    return h2o_iovec_init(text, dst - text);
}

void gw_peer_take_proxy(struct gw_peer *peer, const char *bytes, size_t len)
{
    struct gw_peer_facts *facts = gw_peer_facts(peer);
    const char *why;
    size_t consumed;

    facts->has_proxy = true;
    facts->proxy_bytes = h2o_mem_alloc(len);
    memcpy(facts->proxy_bytes, bytes, len);
    enum gw_proxy_result result = gw_proxy_protocol_parse(facts->proxy_bytes, len, &facts->proxy, &consumed, &why);
    assert(result == GW_PROXY_OK && consumed == len);
    if (peer->has_ip)
        gw_ip_format(&peer->ip, facts->proxy_peer);
    if (facts->proxy.unique_id.base != NULL)
        facts->unique_id = readable(facts->proxy.unique_id);
    if (!facts->proxy.has_addresses)
        return;
    peer->has_ip = true;
    peer->ip = facts->proxy.source;
    peer->port = facts->proxy.source_port;
    peer->local_port = facts->proxy.destination_port;
}

void gw_peer_facts_destroy(struct gw_peer_facts *facts)
{
    if (facts == NULL)
        return;
    if (facts->destroy_certificate != NULL)
        facts->destroy_certificate(facts->certificate);
    free(facts->proxy_bytes);
    free(facts->unique_id.base);
    free(facts);
}
