/* The listening sockets that a supervisor owns, by kind and address. Workers come and go, a new binary takes them over;
 * a socket is closed when no worker's configuration names it any more. One thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum gw_socket_kind { GW_SOCKET_LISTENER, GW_SOCKET_ADMIN, GW_SOCKET_UDP };

struct gw_inventory_entry {
    enum gw_socket_kind kind;
    char *address; /* as the configuration writes it; NULL: from socket activation, and nobody has asked for it yet */
    int *fds;
    unsigned num_fds;
    bool is_activated; /* systemd's: kept when nobody uses it, its file is not ours to remove */
    /* The worker that serves, and the one that is being started: until that one is ready, both may need it. */
    bool used_by_active, used_by_next;
    dev_t dev; /* of a Unix socket's file: another file in its place is not ours to remove */
    ino_t ino;
};

struct gw_inventory {
    struct gw_inventory_entry **entries;
    size_t size;
};

struct gw_inventory_error {
    int number; /* errno, or 0 */
    char text[256];
};

const char *gw_socket_kind_name(enum gw_socket_kind);
bool gw_socket_kind_parse(const char *name, size_t len, enum gw_socket_kind *);

/* Takes an open socket set (fds from malloc); address copied, may be NULL. */
struct gw_inventory_entry *gw_inventory_add(struct gw_inventory *, enum gw_socket_kind, const char *address, int *fds,
                                            unsigned num_fds, bool is_activated);
/* The entry of an address: the one that is there, an activated one, or newly opened with count sockets. NULL and error.
 */
struct gw_inventory_entry *gw_inventory_open(struct gw_inventory *, enum gw_socket_kind, const char *address,
                                             unsigned count, bool by_next, struct gw_inventory_error *);
/* A worker has no use for it any more. */
void gw_inventory_release(struct gw_inventory *, enum gw_socket_kind, const char *address, bool by_next);
/* The next worker serves: what only the one before it used is closed. */
void gw_inventory_promote(struct gw_inventory *);
/* The next worker failed: what only it used is closed. */
void gw_inventory_drop_next(struct gw_inventory *);
/* No connection is taken any more: closes listeners. The admin API stays to the end. */
void gw_inventory_close_listeners(struct gw_inventory *);
/* Everything; socket files go with it. */
void gw_inventory_close(struct gw_inventory *);

/* "0.0.0.0:80" for a message about a socket that nobody named. */
void gw_inventory_describe(const struct gw_inventory_entry *, char *text, size_t size);
