#include "peer.h"
#include <arpa/inet.h>
#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <h2o/string_.h>
#include "gateway/base/wheel.h"

/* ---- messages ---- */

struct writer {
    uint8_t bytes[65535];
    size_t len;
};

static void put(struct writer *w, unsigned value, size_t len)
{
    for (size_t i = 0; i != len; ++i)
        w->bytes[w->len++] = (uint8_t)(len - 1 - i >= sizeof(value) ? 0 : value >> 8 * (len - 1 - i));
}

static void put_name(struct writer *w, const char *name)
{
    while (*name != '\0') {
        size_t n = strcspn(name, ".");
        put(w, (unsigned)n, 1);
        memcpy(w->bytes + w->len, name, n);
        w->len += n;
        name += n + (name[n] == '.');
    }
    put(w, 0, 1);
}

static void put_record(struct writer *w, const char *owner, int type, uint32_t ttl_s, const char *data)
{
    unsigned priority, weight, port;
    char target[256] = "";

    put_name(w, owner);
    put(w, (unsigned)type, 2);
    put(w, 1, 2);
    put(w, ttl_s, 4);
    size_t len_at = w->len;
    put(w, 0, 2);
    if (type == 5) {
        put_name(w, data);
    } else if (type == GW_DNS_SRV) {
        assert(sscanf(data, "%u %u %u %255s", &priority, &weight, &port, target) == 4);
        put(w, priority, 2);
        put(w, weight, 2);
        put(w, port, 2);
        put_name(w, strcmp(target, ".") == 0 ? "" : target);
    } else {
        int family = type == GW_DNS_A ? AF_INET : AF_INET6;
        assert(inet_pton(family, data, w->bytes + w->len) == 1);
        w->len += family == AF_INET ? 4 : 16;
    }
    size_t len = w->len - len_at - 2;
    w->bytes[len_at] = (uint8_t)(len >> 8);
    w->bytes[len_at + 1] = (uint8_t)len;
}

static void put_soa(struct writer *w, uint32_t minimum_s)
{
    put_name(w, "example");
    put(w, 6, 2);
    put(w, 1, 2);
    put(w, 86400, 4);
    put(w, 22, 2);
    put(w, 0, 2); /* two empty names */
    put(w, 1, 4);
    put(w, 1, 4);
    put(w, 1, 4);
    put(w, 1, 4);
    put(w, minimum_s, 4);
}

static void put_records(struct writer *w, const struct peer_entry *entry)
{
    char owner[256], text[32];
    unsigned n = 0;

    snprintf(owner, sizeof(owner), "%s", entry->name);
    if (entry->manner == PEER_HUGE)
        for (; n != 3000; ++n) {
            snprintf(text, sizeof(text), "10.1.%u.%u", n / 250, n % 250);
            put(w, 0xc00c, 2);
            put(w, GW_DNS_A, 2);
            put(w, 1, 2);
            put(w, 60, 4);
            put(w, 4, 2);
            assert(inet_pton(AF_INET, text, w->bytes + w->len) == 1);
            w->len += 4;
        }
    for (size_t i = 0; i != 8 && entry->data[i] != NULL; ++i, ++n) {
        const char *data = entry->data[i];
        put_record(w, owner, data[0] == '=' ? 5 : entry->type, entry->ttl_s, data[0] == '=' ? data + 1 : data);
        if (data[0] == '=')
            snprintf(owner, sizeof(owner), "%s", data + 1);
    }
    w->bytes[6] = (uint8_t)(n >> 8);
    w->bytes[7] = (uint8_t)n;
    if (entry->negative_ttl_s != 0) {
        w->bytes[9] = 1;
        put_soa(w, entry->negative_ttl_s);
    }
}

static const struct peer_entry *find(const struct peer *peer, const char *name, int type)
{
    static struct peer_entry none;
    for (size_t i = 0; i != peer->num_entries; ++i)
        if (strcasecmp(peer->entries[i].name, name) == 0 && peer->entries[i].type == type)
            return &peer->entries[i];
    none = (struct peer_entry){.rcode = 3};
    return &none;
}

/* 0: nothing is said. */
static size_t answer(struct peer *peer, const uint8_t *question, size_t len, bool is_tcp, struct writer *w)
{
    size_t at = 12, size = 0;
    char name[256] = "";

    assert(len > 16);
    for (; question[at] != 0; at += 1u + question[at])
        size += (size_t)snprintf(name + size, sizeof(name) - size, "%s%.*s", size != 0 ? "." : "", question[at],
                                 (const char *)question + at + 1);
    ++peer->num_questions;
    peer->num_over_tcp += is_tcp;
    snprintf(peer->last_name, sizeof(peer->last_name), "%s", name);
    int type = question[at + 1] << 8 | question[at + 2];
    const struct peer_entry *entry = find(peer, name, type);
    if (entry->manner == PEER_SILENT)
        return 0;
    memcpy(w->bytes, question, at + 5);
    w->len = at + 5;
    w->bytes[2] |= 0x80;
    w->bytes[3] = (uint8_t)entry->rcode;
    memset(w->bytes + 6, 0, 6);
    if (entry->manner == PEER_WRONG_ID)
        w->bytes[0] ^= 0xff;
    if (entry->manner == PEER_WRONG_NAME)
        w->bytes[13] ^= 1;
    if ((entry->manner == PEER_TRUNCATED || entry->manner == PEER_HUGE) && !is_tcp) {
        w->bytes[2] |= 2;
        return w->len;
    }
    if (entry->manner == PEER_GARBAGE) {
        w->bytes[7] = 2;
        memset(w->bytes + w->len, 0xff, 40);
        return w->len += 40;
    }
    put_records(w, entry);
    if (entry->manner == PEER_CUT)
        w->len -= 2;
    return w->len;
}

/* ---- sockets ---- */

static void set_nonblocking(int fd) { fcntl(fd, F_SETFL, O_NONBLOCK); }

/* UDP and TCP on the same port. */
void peer_open(struct peer *peer)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(sin);

    memset(peer, 0, sizeof(*peer));
    for (int i = 0; i != 100; ++i) {
        peer->tcp = socket(AF_INET, SOCK_STREAM, 0);
        peer->udp = socket(AF_INET, SOCK_DGRAM, 0);
        sin.sin_port = 0;
        assert(bind(peer->tcp, (struct sockaddr *)&sin, sizeof(sin)) == 0 && listen(peer->tcp, 8) == 0);
        assert(getsockname(peer->tcp, (struct sockaddr *)&sin, &len) == 0);
        if (bind(peer->udp, (struct sockaddr *)&sin, sizeof(sin)) == 0)
            break;
        close(peer->tcp);
        close(peer->udp);
        assert(i != 99);
    }
    peer->port = ntohs(sin.sin_port);
    set_nonblocking(peer->tcp);
    set_nonblocking(peer->udp);
    for (size_t i = 0; i != 8; ++i)
        peer->conns[i] = -1;
}

void peer_close(struct peer *peer)
{
    close(peer->tcp);
    close(peer->udp);
    for (size_t i = 0; i != 8; ++i)
        if (peer->conns[i] >= 0)
            close(peer->conns[i]);
}

static void serve_udp(struct peer *peer)
{
    static struct writer w;
    uint8_t question[512];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    ssize_t len;

    while ((len = recvfrom(peer->udp, question, sizeof(question), 0, (struct sockaddr *)&from, &from_len)) > 0)
        if (answer(peer, question, (size_t)len, false, &w) != 0)
            (void)!sendto(peer->udp, w.bytes, w.len, 0, (struct sockaddr *)&from, from_len);
}

/* A question comes in one piece over loopback. */
static bool serve_tcp(struct peer *peer, int fd)
{
    static struct writer w;
    uint8_t question[514];
    ssize_t len = recv(fd, question, sizeof(question), 0);

    if (len == 0)
        return false;
    for (size_t at = 0; len > 0 && at + 2 < (size_t)len;) {
        size_t n = (size_t)(question[at] << 8 | question[at + 1]);
        assert(at + 2 + n <= (size_t)len);
        if (answer(peer, question + at + 2, n, true, &w) != 0) {
            uint8_t prefix[2] = {(uint8_t)(w.len >> 8), (uint8_t)w.len};
            fcntl(fd, F_SETFL, 0);
            assert(send(fd, prefix, 2, MSG_NOSIGNAL) == 2 && send(fd, w.bytes, w.len, MSG_NOSIGNAL) == (ssize_t)w.len);
            set_nonblocking(fd);
        }
        at += 2 + n;
    }
    return true;
}

void peer_serve(struct peer *peer)
{
    serve_udp(peer);
    int fd = accept(peer->tcp, NULL, NULL);
    for (size_t i = 0; i != 8; ++i) {
        if (peer->conns[i] < 0 && fd >= 0) {
            set_nonblocking(fd);
            peer->conns[i] = fd;
            fd = -1;
        }
        if (peer->conns[i] >= 0 && !serve_tcp(peer, peer->conns[i])) {
            close(peer->conns[i]);
            peer->conns[i] = -1;
        }
    }
    assert(fd < 0);
}

/* ---- what it says ---- */

static struct peer_entry *set(struct peer *peer, const char *name, int type)
{
    struct peer_entry *entry = (struct peer_entry *)find(peer, name, type);
    if (entry->name[0] == '\0') {
        assert(peer->num_entries != 32);
        entry = &peer->entries[peer->num_entries++];
    }
    *entry = (struct peer_entry){.type = type};
    snprintf(entry->name, sizeof(entry->name), "%s", name);
    return entry;
}

struct peer_entry *peer_set(struct peer *peer, const char *name, int type, uint32_t ttl_s, ...)
{
    struct peer_entry *entry = set(peer, name, type);
    va_list args;

    entry->ttl_s = ttl_s;
    va_start(args, ttl_s);
    for (size_t i = 0; (entry->data[i] = va_arg(args, const char *)) != NULL; ++i)
        assert(i != 7);
    va_end(args);
    return entry;
}

struct peer_entry *peer_set_error(struct peer *peer, const char *name, int type, int rcode)
{
    struct peer_entry *entry = set(peer, name, type);
    entry->rcode = rcode;
    return entry;
}

struct peer_entry *peer_set_manner(struct peer *peer, const char *name, int type, enum peer_manner manner)
{
    struct peer_entry *entry = set(peer, name, type);
    entry->manner = manner;
    entry->ttl_s = 60;
    return entry;
}

/* ---- the rig ---- */

void rig_configure(struct rig *rig)
{
    static char texts[2][32];
    static h2o_iovec_t entries[2];

    for (size_t i = 0; i != rig->num_peers; ++i) {
        snprintf(texts[i], sizeof(texts[i]), "127.0.0.1:%u", rig->peers[i].port);
        entries[i] = h2o_iovec_init(texts[i], strlen(texts[i]));
    }
    rig->conf.servers = (struct gw_texts){.entries = entries, .size = rig->num_peers};
    gw_dns_configure(rig->dns, &rig->conf);
}

void rig_open(struct rig *rig, size_t num_peers)
{
    memset(rig, 0, sizeof(*rig));
    rig->conf = (struct gw_resolver_conf){.timeout_ms = 1000, .attempts = 1, .retry_ms = 1000, .max_retry_ms = 30000};
    rig->num_peers = num_peers;
    rig->now_ms = gw_now_ms();
    rig->dns = gw_dns_create(rig_now(rig));
    for (size_t i = 0; i != num_peers; ++i)
        peer_open(&rig->peers[i]);
    rig_configure(rig);
}

void rig_close(struct rig *rig)
{
    gw_dns_destroy(rig->dns);
    for (size_t i = 0; i != rig->num_peers; ++i)
        peer_close(&rig->peers[i]);
}

uint64_t rig_now(const struct rig *rig) { return rig->now_ms; }

void rig_turn(struct rig *rig)
{
    struct pollfd poll_fd = {.fd = gw_dns_fd(rig->dns), .events = POLLIN};

    gw_dns_run(rig->dns, rig_now(rig));
    for (size_t i = 0; i != rig->num_peers; ++i)
        peer_serve(&rig->peers[i]);
    int32_t wait_ms = gw_dns_wait(rig->dns, rig_now(rig), 2);
    if (poll(&poll_fd, 1, wait_ms) == 0)
        rig->now_ms += (uint64_t)wait_ms;
    gw_dns_run(rig->dns, rig_now(rig));
}

void rig_settle(struct rig *rig)
{
    uint64_t until_ms = gw_now_ms() + 60000;
    do {
        rig_turn(rig);
        assert(gw_now_ms() < until_ms);
    } while (!gw_dns_is_idle(rig->dns));
}

void rig_sleep(struct rig *rig, uint64_t ms)
{
    rig->now_ms += ms;
    rig_settle(rig);
}
