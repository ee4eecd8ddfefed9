/* A DNS server of the test's own, in the test's thread: answers what it was told to, over UDP and TCP, well or badly.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include "gateway/discovery/dns.h"

enum peer_manner {
    PEER_WELL,
    PEER_SILENT,
    PEER_TRUNCATED,  /* over UDP: TC and no records */
    PEER_WRONG_ID,   /* then nothing */
    PEER_WRONG_NAME, /* an answer to another question; then nothing */
    PEER_GARBAGE,    /* header and question, then bytes that are no records */
    PEER_CUT,        /* ends in the middle of a record */
    PEER_HUGE,       /* 3,000 addresses, over TCP */
};

struct peer_entry {
    char name[256];
    int type, rcode;
    enum peer_manner manner;
    uint32_t ttl_s, negative_ttl_s; /* negative: 0 = no SOA */
    const char *data[8];            /* "10.0.0.1", "10 5 8080 a.example"; "=b.example" is an alias */
};
struct peer {
    int udp, tcp, conns[8];
    uint16_t port;
    struct peer_entry entries[32];
    size_t num_entries;
    unsigned num_questions, num_over_tcp;
    char last_name[256];
};
void peer_open(struct peer *);
void peer_close(struct peer *);
/* Replaces what is said of the name and type. data ends with NULL. */
struct peer_entry *peer_set(struct peer *, const char *name, int type, uint32_t ttl_s, ...);
struct peer_entry *peer_set_error(struct peer *, const char *name, int type, int rcode);
struct peer_entry *peer_set_manner(struct peer *, const char *name, int type, enum peer_manner);
void peer_serve(struct peer *); /* what is there; never waits */

/* One resolver with its clock, asking one peer (or two). */
struct rig {
    struct gw_dns *dns;
    uint64_t now_ms; /* its clock: stands still but for rig_sleep and turns in which nothing comes */
    struct peer peers[2];
    size_t num_peers;
    struct gw_resolver_conf conf;
};
void rig_open(struct rig *, size_t num_peers);
void rig_configure(struct rig *); /* after a change to .conf */
void rig_close(struct rig *);
uint64_t rig_now(const struct rig *);
void rig_turn(struct rig *);
/* Turns until there is nothing under way, at most a minute. */
void rig_settle(struct rig *);
void rig_sleep(struct rig *, uint64_t ms); /* moves the clock on and settles */
