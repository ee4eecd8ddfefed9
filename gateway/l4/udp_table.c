/* Which flow a datagram belongs to. */
#include "gateway/l4/udp_flow.h"
#include <stdlib.h>
#include <string.h>

enum { FIRST_BUCKETS = 64 };

/* ---- the table ---- */

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t gw_udp_hash(const struct gw_udp *udp, const struct gw_udp_key *key)
{
    uint64_t words[5], hash;

    _Static_assert(sizeof(*key) == sizeof(words), "the key has no padding");
    memcpy(words, key, sizeof(words));
    hash = fold(words[0] ^ udp->seed[0], words[1] ^ udp->seed[1]);
    hash = fold(words[2] ^ udp->seed[0] ^ hash, words[3] ^ udp->seed[1]);
    return fold(words[4] ^ udp->seed[0] ^ hash, udp->seed[1]);
}

struct gw_udp_flow *gw_udp_table_find(const struct gw_udp_table *table, uint64_t hash, const struct gw_udp_key *key)
{
    struct gw_udp_flow *flow = table->size != 0 ? table->buckets[hash & (table->num_buckets - 1)] : NULL;
    while (flow != NULL && (flow->hash != hash || memcmp(&flow->key, key, sizeof(*key)) != 0))
        flow = flow->next;
    return flow;
}

static void resize(struct gw_udp_table *table, size_t num_buckets)
{
    struct gw_udp_flow **buckets = h2o_mem_alloc(sizeof(*buckets) * num_buckets);

    memset(buckets, 0, sizeof(*buckets) * num_buckets);
    for (size_t i = 0; i != table->num_buckets; ++i) {
        for (struct gw_udp_flow *flow = table->buckets[i], *next; flow != NULL; flow = next) {
            next = flow->next;
            flow->next = buckets[flow->hash & (num_buckets - 1)];
            buckets[flow->hash & (num_buckets - 1)] = flow;
        }
    }
    free(table->buckets);
    table->buckets = buckets;
    table->num_buckets = num_buckets;
}

void gw_udp_table_add(struct gw_udp_table *table, struct gw_udp_flow *flow)
{
    if (table->size == table->num_buckets)
        resize(table, table->num_buckets != 0 ? table->num_buckets * 2 : FIRST_BUCKETS);
    flow->next = table->buckets[flow->hash & (table->num_buckets - 1)];
    table->buckets[flow->hash & (table->num_buckets - 1)] = flow;
    ++table->size;
}

void gw_udp_table_remove(struct gw_udp_table *table, struct gw_udp_flow *flow)
{
    struct gw_udp_flow **at = &table->buckets[flow->hash & (table->num_buckets - 1)];
    while (*at != flow)
        at = &(*at)->next;
    *at = flow->next;
    --table->size;
    if (table->num_buckets > FIRST_BUCKETS && table->size < table->num_buckets / 8) /* a flood is over */
        resize(table, table->num_buckets / 2);
}

void gw_udp_table_dispose(struct gw_udp_table *table)
{
    free(table->buckets);
    *table = (struct gw_udp_table){NULL, 0, 0};
}

/* ---- datagrams ---- */

static void map_v4(struct gw_ip *ip, const struct in_addr *address)
{
    memset(ip->bytes, 0, 10);
    ip->bytes[10] = ip->bytes[11] = 0xff;
    memcpy(ip->bytes + 12, address, 4);
}

static void read_local(const struct msghdr *msg, struct gw_udp_key *key)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            map_v4(&key->local, &info.ipi_spec_dst); /* our own, even if it was sent to all */
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            memcpy(key->local.bytes, &info.ipi6_addr, 16);
        }
    }
}

bool gw_udp_read_key(const struct gw_udp_listener *listener, const struct msghdr *msg, struct gw_udp_key *key)
{
    const union gw_udp_address *peer = msg->msg_name;

    memset(key, 0, sizeof(*key));
    if (peer->sa.sa_family == AF_INET && msg->msg_namelen >= sizeof(peer->v4)) {
        map_v4(&key->peer, &peer->v4.sin_addr);
        key->peer_port = ntohs(peer->v4.sin_port);
    } else if (peer->sa.sa_family == AF_INET6 && msg->msg_namelen >= sizeof(peer->v6)) {
        memcpy(key->peer.bytes, &peer->v6.sin6_addr, 16);
        key->peer_port = ntohs(peer->v6.sin6_port);
        key->scope = peer->v6.sin6_scope_id;
    } else {
        return false;
    }
    if (listener->is_wildcard)
        read_local(msg, key);
    return key->peer_port != 0;
}

static void put_control(struct msghdr *msg, int level, int type, const void *info, size_t len)
{
    struct cmsghdr *c = (struct cmsghdr *)((char *)msg->msg_control + msg->msg_controllen);

    memset(c, 0, CMSG_SPACE(len));
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), info, len);
    msg->msg_controllen += CMSG_SPACE(len);
}

void gw_udp_write_control(const struct gw_udp_listener *listener, const struct gw_udp_key *key, struct msghdr *msg)
{
    if (!listener->is_wildcard)
        return;
    if (listener->is_v6) {
        struct in6_pktinfo info = {.ipi6_ifindex = key->scope};
        memcpy(&info.ipi6_addr, key->local.bytes, 16);
        put_control(msg, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
    } else {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, key->local.bytes + 12, 4);
        put_control(msg, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    }
}
