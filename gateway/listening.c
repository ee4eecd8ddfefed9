#include "gateway/listening.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "gateway/supervisor/sockets.h"
#include "gateway/supervisor/supervised.h"

static struct gw_listening *find(struct gw_listening *const *entries, size_t size, h2o_iovec_t address, bool is_udp)
{
    for (size_t i = 0; i != size; ++i)
        if (entries[i]->is_udp == is_udp &&
            h2o_memis(entries[i]->address.text.base, entries[i]->address.text.len, address.base, address.len))
            return entries[i];
    return NULL;
}

static void close_sockets(struct gw_listening *listening)
{
    for (unsigned i = 0; i != listening->num_fds; ++i)
        close(listening->fds[i]);
}

static void destroy(struct gw_listening *listening)
{
    free(listening->fds);
    free(listening->address.text.base);
    free(listening);
}

/* A set that was opened for fewer threads (before an upgrade, or by systemd) is shared: each thread needs one of its
 * own. */
static bool share(struct gw_listening *listening, unsigned num_workers)
{
    unsigned num_opened = listening->num_fds;

    if (num_opened < num_workers)
        listening->fds = h2o_mem_realloc(listening->fds, sizeof(*listening->fds) * num_workers);
    for (; listening->num_fds < num_workers; ++listening->num_fds) {
        int fd = fcntl(listening->fds[listening->num_fds % num_opened], F_DUPFD_CLOEXEC, 3);
        if (fd == -1)
            return false;
        listening->fds[listening->num_fds] = fd;
    }
    return true;
}

static enum gw_socket_kind kind_of(const struct gw_listening *listening)
{
    return listening->is_udp ? GW_SOCKET_UDP : GW_SOCKET_LISTENER;
}

static bool open_sockets(struct gw_process *process, struct gw_listening *listening, struct gw_inventory_error *error)
{
    unsigned count = process->num_workers;

    if (process->supervised != NULL) {
        if (!gw_supervised_open(process->supervised, kind_of(listening), listening->address.text.base, count,
                                &listening->fds, &listening->num_fds, error))
            return false;
        if (listening->is_udp || share(listening, count)) /* datagrams of a flow must not be read by two threads */
            return true;
    } else {
        listening->fds = h2o_mem_alloc(sizeof(int) * count);
        if (listening->is_udp ? gw_sockets_bind_udp(&listening->address, count, listening->fds)
                              : gw_sockets_listen(&listening->address, count, listening->fds)) {
            listening->num_fds = count;
            return true;
        }
    }
    snprintf(error->text, sizeof(error->text), "%s", strerror(errno));
    return false;
}

static struct gw_listening *create(struct gw_process *process, const struct gw_address *address, bool is_udp,
                                   struct gw_inventory_error *error)
{
    struct gw_listening *listening = h2o_mem_alloc(sizeof(*listening));

    memset(listening, 0, sizeof(*listening));
    listening->address = *address;
    listening->is_udp = is_udp;
    listening->address.text = h2o_strdup(NULL, address->text.base, address->text.len);
    if (open_sockets(process, listening, error))
        return listening;
    close_sockets(listening);
    destroy(listening);
    return NULL;
}

static void tell_closed(struct gw_process *process, const struct gw_listening *listening)
{
    if (process->supervised != NULL)
        gw_supervised_close(process->supervised, kind_of(listening), listening->address.text.base);
}

static bool add(struct gw_process *process, struct gw_listening_set *set, const struct gw_snapshot_listener *listener,
                const struct gw_address *address, struct gw_errors *errors)
{
    bool is_udp = listener->conf->protocol == GW_LISTENER_UDP;
    struct gw_listening *listening = find(process->listening.entries, process->listening.size, address->text, is_udp);
    struct gw_inventory_error error;

    if (listening == NULL && (listening = create(process, address, is_udp, &error)) == NULL)
        return gw_error_at(errors, gw_setting_at(listener->conf->at, "address"), "cannot listen on %.*s: %s",
                           (int)address->text.len, address->text.base, error.text);
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

/* Other threads read the registry for metrics, under the lock: what leaves it is freed after that. */
static void replace_entries(struct gw_process *process, struct gw_listening **entries, size_t size)
{
    pthread_mutex_lock(&process->lock);
    process->listening.entries = entries;
    process->listening.size = size;
    pthread_mutex_unlock(&process->lock);
}

static void unname(struct gw_listening *listening, uint64_t generation)
{
    if (listening->listener == UINT32_MAX)
        return;
    listening->listener = UINT32_MAX;
    listening->num_let_go = 0;
    listening->unnamed_at = generation;
}

static bool is_kept(const struct gw_listening_set *set, const struct gw_listening *listening)
{
    return find(set->entries, set->size, listening->address.text, listening->is_udp) != NULL;
}

/* The indexes are written here, on the control thread, before the set goes to the workers: a set in use is never
 * changed while workers may read it, because loads follow one another. */
void gw_listening_commit(struct gw_process *process, const struct gw_listening_set *set)
{
    const struct gw_snapshot *snapshot = process->active;
    struct gw_listening **old = process->listening.entries, **entries;
    size_t num_old = process->listening.size, size = 0, n = 0;

    entries = h2o_mem_alloc(sizeof(*old) * (set->size + num_old + 1));
    for (size_t i = 0; i != snapshot->num_listeners; ++i)
        for (size_t j = 0; j != snapshot->listeners[i].conf->address.size; ++j)
            set->entries[n++]->listener = i;
    for (size_t i = 0; i != set->size; ++i)
        entries[size++] = set->entries[i];
    for (size_t i = 0; i != num_old; ++i) {
        if (!old[i]->is_udp || is_kept(set, old[i]))
            continue;
        unname(old[i], snapshot->generation); /* its flows go on: gw_listening_let_go */
        entries[size++] = old[i];
    }
    replace_entries(process, entries, size);
    for (size_t i = 0; i != num_old; ++i) {
        if (old[i]->is_udp || is_kept(set, old[i]))
            continue;
        /* The threads take what waits, then close: nothing may come after that, so theirs must be the last descriptors.
         */
        tell_closed(process, old[i]);
        destroy(old[i]);
    }
    free(old);
}

void gw_listening_let_go(struct gw_process *process, struct gw_listening *listening, uint64_t unnamed_at)
{
    if (listening->listener != UINT32_MAX || listening->unnamed_at != unnamed_at)
        return; /* it is named again */
    ++listening->num_let_go;
    gw_listening_sweep(process);
}

void gw_listening_sweep(struct gw_process *process)
{
    for (size_t i = process->listening.size; i-- != 0 && !process->reload_running;) {
        struct gw_listening *listening = process->listening.entries[i];
        if (listening->listener != UINT32_MAX || listening->num_let_go != process->num_workers)
            continue;
        pthread_mutex_lock(&process->lock);
        process->listening.entries[i] = process->listening.entries[--process->listening.size];
        pthread_mutex_unlock(&process->lock);
        tell_closed(process, listening);
        close_sockets(listening);
        destroy(listening);
    }
}

void gw_listening_abandon(struct gw_process *process, struct gw_listening_set *set)
{
    for (size_t i = 0; i != set->size; ++i) {
        struct gw_listening *listening = set->entries[i];
        if (find(process->listening.entries, process->listening.size, listening->address.text, listening->is_udp) !=
            NULL)
            continue;
        tell_closed(process, listening);
        close_sockets(listening);
        destroy(listening);
    }
    free(set->entries);
    *set = (struct gw_listening_set){NULL, 0};
}
