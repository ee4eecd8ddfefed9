#include "gateway/supervisor/inventory.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <h2o.h>
#include "gateway/supervisor/sockets.h"

static const char *const kind_names[] = {
    [GW_SOCKET_LISTENER] = "listener", [GW_SOCKET_ADMIN] = "admin", [GW_SOCKET_UDP] = "udp"};

const char *gw_socket_kind_name(enum gw_socket_kind kind) { return kind_names[kind]; }

bool gw_socket_kind_parse(const char *name, size_t len, enum gw_socket_kind *kind)
{
    for (int i = 0; i != sizeof(kind_names) / sizeof(kind_names[0]); ++i)
        if (strlen(kind_names[i]) == len && memcmp(kind_names[i], name, len) == 0) {
            *kind = (enum gw_socket_kind)i;
            return true;
        }
    return false;
}

/* ---- entries ---- */

struct gw_inventory_entry *gw_inventory_add(struct gw_inventory *inventory, enum gw_socket_kind kind,
                                            const char *address, int *fds, unsigned num_fds, bool is_activated)
{
    struct gw_inventory_entry *entry = h2o_mem_alloc(sizeof(*entry));

    *entry = (struct gw_inventory_entry){.kind = kind, .fds = fds, .num_fds = num_fds, .is_activated = is_activated};
    if (address != NULL)
        entry->address = h2o_strdup(NULL, address, SIZE_MAX).base;
    inventory->entries = h2o_mem_realloc(inventory->entries, sizeof(*inventory->entries) * (inventory->size + 1));
    return inventory->entries[inventory->size++] = entry;
}

static struct gw_inventory_entry *find(struct gw_inventory *inventory, enum gw_socket_kind kind, const char *address)
{
    for (size_t i = 0; i != inventory->size; ++i) {
        struct gw_inventory_entry *entry = inventory->entries[i];
        if (entry->kind == kind && entry->address != NULL && strcmp(entry->address, address) == 0)
            return entry;
    }
    return NULL;
}

/* The path of a socket file in the kernel's own words; false for other sockets. */
static bool file_of(const struct gw_inventory_entry *entry, struct sockaddr_un *sa)
{
    socklen_t len = sizeof(*sa);
    memset(sa, 0, sizeof(*sa));
    return getsockname(entry->fds[0], (struct sockaddr *)sa, &len) == 0 && sa->sun_family == AF_UNIX &&
           sa->sun_path[0] != '\0';
}

static void note_file(struct gw_inventory_entry *entry)
{
    struct sockaddr_un sa;
    struct stat st;
    if (file_of(entry, &sa) && lstat(sa.sun_path, &st) == 0) {
        entry->dev = st.st_dev;
        entry->ino = st.st_ino;
    }
}

/* Whether the socket can still be reached: its file is the one that it made. */
static bool is_in_place(const struct gw_inventory_entry *entry)
{
    struct sockaddr_un sa;
    struct stat st;
    return !file_of(entry, &sa) || entry->is_activated ||
           (lstat(sa.sun_path, &st) == 0 && st.st_dev == entry->dev && st.st_ino == entry->ino);
}

static void close_sockets(struct gw_inventory_entry *entry)
{
    struct sockaddr_un sa;
    if (!entry->is_activated && file_of(entry, &sa) && is_in_place(entry))
        unlink(sa.sun_path);
    for (unsigned i = 0; i != entry->num_fds; ++i)
        close(entry->fds[i]);
    free(entry->fds);
}

static void remove_at(struct gw_inventory *inventory, size_t i)
{
    struct gw_inventory_entry *entry = inventory->entries[i];
    close_sockets(entry);
    free(entry->address);
    free(entry);
    inventory->entries[i] = inventory->entries[--inventory->size];
}

/* Closes what nobody uses. systemd keeps its own sockets bound whatever we do, so a later reload could not open them
 * anew. */
static void sweep(struct gw_inventory *inventory)
{
    for (size_t i = inventory->size; i-- != 0;) {
        struct gw_inventory_entry *entry = inventory->entries[i];
        if (entry->used_by_active || entry->used_by_next)
            continue;
        if (!entry->is_activated) {
            remove_at(inventory, i);
        } else {
            free(entry->address);
            entry->address = NULL;
        }
    }
}

/* ---- opening ---- */

static bool is_same_address(const struct gw_address *address, const struct sockaddr_storage *sa)
{
    struct gw_ip a, b;

    if (address->sa.ss_family != sa->ss_family)
        return false;
    if (address->is_unix)
        return strcmp(address->host.base, ((const struct sockaddr_un *)sa)->sun_path) == 0;
    /* the port is at the same place in both families */
    return ((const struct sockaddr_in *)&address->sa)->sin_port == ((const struct sockaddr_in *)sa)->sin_port &&
           gw_ip_from_sockaddr((const struct sockaddr *)&address->sa, &a) &&
           gw_ip_from_sockaddr((const struct sockaddr *)sa, &b) && memcmp(&a, &b, sizeof(a)) == 0;
}

static struct gw_inventory_entry *find_activated(struct gw_inventory *inventory, const struct gw_address *address)
{
    for (size_t i = 0; i != inventory->size; ++i) {
        struct gw_inventory_entry *entry = inventory->entries[i];
        struct sockaddr_storage sa = {0};
        socklen_t len = sizeof(sa) - 1; /* a path stays terminated */
        if (entry->is_activated && entry->address == NULL &&
            getsockname(entry->fds[0], (struct sockaddr *)&sa, &len) == 0 && is_same_address(address, &sa))
            return entry;
    }
    return NULL;
}

static bool open_sockets(enum gw_socket_kind kind, const struct gw_address *address, unsigned count, int *fds,
                         struct gw_inventory_error *error)
{
    const char *why;

    if (kind != GW_SOCKET_ADMIN) {
        if (kind == GW_SOCKET_UDP ? gw_sockets_bind_udp(address, count, fds) : gw_sockets_listen(address, count, fds))
            return true;
        error->number = errno;
        snprintf(error->text, sizeof(error->text), "%s", strerror(errno));
        return false;
    }
    if ((fds[0] = gw_sockets_listen_admin(address, &why)) != -1)
        return true;
    snprintf(error->text, sizeof(error->text), "%s", why);
    return false;
}

/* With old: its sockets are replaced by new ones, because nobody can reach them any more. */
static struct gw_inventory_entry *open_anew(struct gw_inventory *inventory, enum gw_socket_kind kind,
                                            const struct gw_address *address, unsigned count,
                                            struct gw_inventory_entry *old, struct gw_inventory_error *error)
{
    int *fds = h2o_mem_alloc(sizeof(*fds) * count);

    if (!open_sockets(kind, address, count, fds, error)) {
        free(fds);
        return NULL;
    }
    if (old != NULL) {
        close_sockets(old);
        old->fds = fds;
        old->num_fds = count;
    } else {
        old = gw_inventory_add(inventory, kind, address->text.base, fds, count, false);
    }
    note_file(old);
    return old;
}

static struct gw_inventory_entry *open_parsed(struct gw_inventory *inventory, enum gw_socket_kind kind,
                                              const struct gw_address *address, unsigned count,
                                              struct gw_inventory_error *error)
{
    struct gw_inventory_entry *entry = find(inventory, kind, address->text.base);

    if (entry != NULL)
        return is_in_place(entry) ? entry : open_anew(inventory, kind, address, count, entry, error);
    if (kind != GW_SOCKET_UDP && (entry = find_activated(inventory, address)) != NULL) {
        entry->kind = kind;
        entry->address = h2o_strdup(NULL, address->text.base, address->text.len).base;
        return entry;
    }
    return open_anew(inventory, kind, address, count, NULL, error);
}

/* The address comes from a worker that may have been taken over, and becomes a line of the handover. */
static bool is_printable(const char *text)
{
    for (; *text != '\0'; ++text)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

struct gw_inventory_entry *gw_inventory_open(struct gw_inventory *inventory, enum gw_socket_kind kind, const char *text,
                                             unsigned count, bool by_next, struct gw_inventory_error *error)
{
    h2o_mem_pool_t pool;
    struct gw_address address;
    struct gw_inventory_entry *entry = NULL;
    const char *why;

    *error = (struct gw_inventory_error){0};
    h2o_mem_init_pool(&pool);
    if (!is_printable(text))
        snprintf(error->text, sizeof(error->text), "the address has a control character in it");
    else if (!gw_address_parse(&pool, h2o_iovec_init(text, strlen(text)), false, &address, &why))
        snprintf(error->text, sizeof(error->text), "%s", why);
    else if (kind != GW_SOCKET_ADMIN && address.is_unix)
        snprintf(error->text, sizeof(error->text), "a listener needs an IP address and a port");
    else
        entry = open_parsed(inventory, kind, &address, kind == GW_SOCKET_ADMIN ? 1 : count, error);
    h2o_mem_clear_pool(&pool);
    if (entry != NULL)
        *(by_next ? &entry->used_by_next : &entry->used_by_active) = true;
    return entry;
}

/* ---- letting go ---- */

void gw_inventory_release(struct gw_inventory *inventory, enum gw_socket_kind kind, const char *address, bool by_next)
{
    struct gw_inventory_entry *entry = find(inventory, kind, address);
    if (entry == NULL)
        return;
    *(by_next ? &entry->used_by_next : &entry->used_by_active) = false;
    sweep(inventory);
}

void gw_inventory_promote(struct gw_inventory *inventory)
{
    for (size_t i = 0; i != inventory->size; ++i) {
        inventory->entries[i]->used_by_active = inventory->entries[i]->used_by_next;
        inventory->entries[i]->used_by_next = false;
    }
    sweep(inventory);
}

void gw_inventory_drop_next(struct gw_inventory *inventory)
{
    for (size_t i = 0; i != inventory->size; ++i)
        inventory->entries[i]->used_by_next = false;
    sweep(inventory);
}

void gw_inventory_close_listeners(struct gw_inventory *inventory)
{
    for (size_t i = inventory->size; i-- != 0;)
        if (inventory->entries[i]->kind != GW_SOCKET_ADMIN)
            remove_at(inventory, i);
}

void gw_inventory_close(struct gw_inventory *inventory)
{
    while (inventory->size != 0)
        remove_at(inventory, inventory->size - 1);
    free(inventory->entries);
    *inventory = (struct gw_inventory){NULL, 0};
}

void gw_inventory_describe(const struct gw_inventory_entry *entry, char *text, size_t size)
{
    struct sockaddr_storage sa = {0};
    socklen_t len = sizeof(sa) - 1;
    struct gw_ip ip;
    char host[GW_IP_TEXT];

    if (entry->address != NULL)
        snprintf(text, size, "%s", entry->address);
    else if (getsockname(entry->fds[0], (struct sockaddr *)&sa, &len) != 0)
        snprintf(text, size, "descriptor %d", entry->fds[0]);
    else if (!gw_ip_from_sockaddr((const struct sockaddr *)&sa, &ip))
        snprintf(text, size, "unix:%s", ((const struct sockaddr_un *)&sa)->sun_path);
    else {
        gw_ip_format(&ip, host);
        snprintf(text, size, gw_ip_is_v4(&ip) ? "%s:%u" : "[%s]:%u", host,
                 ntohs(((const struct sockaddr_in *)&sa)->sin_port));
    }
}
