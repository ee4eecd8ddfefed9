#include "gateway/listening.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct gw_listening *find(struct gw_listening *const *entries, size_t size, h2o_iovec_t address)
{
    for (size_t i = 0; i != size; ++i)
        if (h2o_memis(entries[i]->address.text.base, entries[i]->address.text.len, address.base, address.len))
            return entries[i];
    return NULL;
}

static int open_socket(const struct gw_address *address)
{
    int on = 1, off = 0, fd = socket(address->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd == -1)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (!address->is_unix && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0)
        goto Fail;
    if (address->sa.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, (const struct sockaddr *)&address->sa, address->sa_len) != 0 || listen(fd, H2O_SOMAXCONN) != 0)
        goto Fail;
    return fd;
Fail:
    off = errno;
    close(fd);
    errno = off;
    return -1;
}

static void destroy(struct gw_listening *listening, unsigned num_fds)
{
    for (unsigned i = 0; i != num_fds; ++i)
        close(listening->fds[i]);
    free(listening->fds);
    free(listening->address.text.base);
    free(listening);
}

/* SO_REUSEPORT lets two processes of one user share an address without a word; an operator who starts weir twice wants
 * to be told. A probe without it finds out. */
static bool is_taken(const struct gw_address *address)
{
    int on = 1, off = 0, fd = socket(address->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool taken = false;

    if (fd == -1 || address->is_unix) {
        if (fd != -1)
            close(fd);
        return false;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->sa.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    taken = bind(fd, (const struct sockaddr *)&address->sa, address->sa_len) != 0 && errno == EADDRINUSE;
    close(fd);
    return taken;
}

static struct gw_listening *create(struct gw_process *process, const struct gw_address *address)
{
    struct gw_listening *listening;

    if (is_taken(address)) {
        errno = EADDRINUSE;
        return NULL;
    }
    listening = h2o_mem_alloc(sizeof(*listening));
    memset(listening, 0, sizeof(*listening));
    listening->address = *address;
    listening->address.text = h2o_strdup(NULL, address->text.base, address->text.len);
    listening->fds = h2o_mem_alloc(sizeof(int) * process->num_workers);
    for (unsigned i = 0; i != process->num_workers; ++i) {
        /* Unix sockets know no SO_REUSEPORT: all workers share one */
        listening->fds[i] = address->is_unix && i != 0 ? dup(listening->fds[0]) : open_socket(address);
        if (listening->fds[i] == -1) {
            int error = errno;
            destroy(listening, i);
            errno = error;
            return NULL;
        }
    }
    return listening;
}

static bool add(struct gw_process *process, struct gw_listening_set *set, const struct gw_snapshot_listener *listener,
                const struct gw_address *address, struct gw_errors *errors)
{
    struct gw_listening *listening = find(process->listening.entries, process->listening.size, address->text);

    if (listening == NULL && (listening = create(process, address)) == NULL)
        return gw_error_at(errors, gw_setting_at(listener->conf->at, "address"), "cannot listen on %.*s: %s",
                           (int)address->text.len, address->text.base, strerror(errno));
    set->entries = h2o_mem_realloc(set->entries, sizeof(*set->entries) * (set->size + 1));
    set->entries[set->size++] = listening;
    return true;
}

bool gw_listening_open(struct gw_process *process, const struct gw_snapshot *snapshot, struct gw_listening_set *set,
                       struct gw_errors *errors)
{
    bool ok = true;

    *set = (struct gw_listening_set){NULL, 0};
    for (size_t i = 0; i != snapshot->num_listeners; ++i) {
        const struct gw_snapshot_listener *listener = &snapshot->listeners[i];
        for (size_t j = 0; j != listener->conf->address.size; ++j)
            ok &= add(process, set, listener, &listener->conf->address.entries[j], errors);
    }
    if (!ok)
        gw_listening_abandon(process, set);
    return ok;
}

/* The indexes are written here, on the control thread, before the set goes to the workers: a set in use is never
 * changed while workers may read it, because loads follow one another. */
void gw_listening_commit(struct gw_process *process, const struct gw_listening_set *set)
{
    const struct gw_snapshot *snapshot = process->active;
    size_t n = 0;

    for (size_t i = 0; i != snapshot->num_listeners; ++i)
        for (size_t j = 0; j != snapshot->listeners[i].conf->address.size; ++j)
            set->entries[n++]->listener = i;
    for (size_t i = 0; i != process->listening.size; ++i)
        if (find(set->entries, set->size, process->listening.entries[i]->address.text) == NULL)
            destroy(process->listening.entries[i], 0); /* the workers close the sockets */
    free(process->listening.entries);
    process->listening.entries = h2o_mem_alloc(sizeof(*set->entries) * (set->size + 1));
    memcpy(process->listening.entries, set->entries, sizeof(*set->entries) * set->size);
    process->listening.size = set->size;
}

void gw_listening_abandon(struct gw_process *process, struct gw_listening_set *set)
{
    for (size_t i = 0; i != set->size; ++i)
        if (find(process->listening.entries, process->listening.size, set->entries[i]->address.text) == NULL)
            destroy(set->entries[i], process->num_workers);
    free(set->entries);
    *set = (struct gw_listening_set){NULL, 0};
}
