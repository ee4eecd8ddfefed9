#include "gateway/http/peer.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

const char *const gw_peer_note_names[GW_PEER_NOTE_COUNT] = {
#define X(name) #name,
    GW_PEER_NOTES(X)
#undef X
};

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

static void note_proxy(struct gw_peer_facts *facts)
{
    const struct gw_proxy_header *header = &facts->proxy;

    facts->notes[GW_PEER_NOTE_proxy_peer] = h2o_iovec_init(facts->proxy_peer, strlen(facts->proxy_peer));
    facts->notes[GW_PEER_NOTE_proxy_authority] = header->authority;
    facts->notes[GW_PEER_NOTE_proxy_alpn] = header->alpn;
    facts->notes[GW_PEER_NOTE_proxy_unique_id] = facts->unique_id;
    facts->notes[GW_PEER_NOTE_proxy_vpc_endpoint] = header->vpc_endpoint;
    facts->notes[GW_PEER_NOTE_proxy_tls_version] = header->ssl_version;
    facts->notes[GW_PEER_NOTE_proxy_tls_cipher] = header->ssl_cipher;
    if (header->is_ssl_verified) /* else anybody could have written it into a certificate of his own */
        facts->notes[GW_PEER_NOTE_proxy_tls_name] = header->ssl_common_name;
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
    note_proxy(facts);
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
