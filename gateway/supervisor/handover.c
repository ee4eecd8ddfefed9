#include "gateway/supervisor/handover.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <h2o.h>
#include "gateway/base/wheel.h"

static const char first_line[] = "weir-handover 1\n";
enum { MAX_BYTES = 16 << 20, MAX_FDS = 4096 };

/* ---- writing ---- */

static const char *role_of(const struct gw_supervisor *supervisor, const struct gw_child *child)
{
    return child == supervisor->active ? "active" : child == supervisor->next ? "next" : "draining";
}

static void write_entry(FILE *to, const struct gw_inventory_entry *entry)
{
    fprintf(to, "entry %s %d %d %d %ju %ju ", gw_socket_kind_name(entry->kind), entry->is_activated,
            entry->used_by_active, entry->used_by_next, (uintmax_t)entry->dev, (uintmax_t)entry->ino);
    for (unsigned i = 0; i != entry->num_fds; ++i)
        fprintf(to, "%s%d", i != 0 ? "," : "", entry->fds[i]);
    fprintf(to, " %s\n", entry->address != NULL ? entry->address : "-");
}

static void write_child(FILE *to, const struct gw_supervisor *supervisor, const struct gw_child *child)
{
    fprintf(to,
            "child %ld %s %d %d %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
            (long)child->pid, role_of(supervisor, child), child->orders, child->sockets, child->started_ms,
            child->kill_at_ms, child->ready.generation, child->ready.shutdown_timeout_ms,
            child->ready.upgrade_timeout_ms, child->ready.drain_timeout_ms, child->ready.watchdog_timeout_ms);
}

/* What the next one leaves is what will be needed; it may have left nothing. */
static const struct gw_legacy *legacy_of(const struct gw_supervisor *supervisor)
{
    const struct gw_child *next = supervisor->next;
    return next != NULL && next->legacy.kept != -1 ? &next->legacy : &supervisor->legacy;
}

static void write_legacy(FILE *to, const struct gw_supervisor *supervisor)
{
    const struct gw_legacy *legacy = legacy_of(supervisor);
    if (legacy->kept != -1)
        fprintf(to, "kept %d %u %u\n", legacy->kept, (unsigned)legacy->uid, (unsigned)legacy->gid);
    if (supervisor->tickets[0] != '\0')
        fprintf(to, "tickets %s\n", supervisor->tickets);
}

int gw_handover_write(const struct gw_supervisor *supervisor)
{
    int fd = memfd_create("weir-handover", MFD_CLOEXEC), copy = fd != -1 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
    FILE *to = copy != -1 ? fdopen(copy, "w") : NULL;

    if (to == NULL)
        goto Fail;
    fputs(first_line, to);
    fprintf(to, "self %ld %" PRIu64 " %" PRIu64 " %ld %s\n", (long)getpid(), supervisor->started_ms,
            supervisor->restarts, (long)supervisor->upgrade.asked_by, supervisor->binary);
    for (size_t i = 0; i != supervisor->inventory.size; ++i)
        write_entry(to, supervisor->inventory.entries[i]);
    for (size_t i = 0; i != supervisor->num_children; ++i)
        write_child(to, supervisor, supervisor->children[i]);
    write_legacy(to, supervisor);
    fputs("end\n", to);
    copy = -1;
    if (fclose(to) != 0 || lseek(fd, 0, SEEK_SET) != 0)
        goto Fail;
    return fd;
Fail:
    if (copy != -1)
        close(copy);
    if (fd != -1)
        close(fd);
    return -1;
}

/* ---- reading ---- */

struct reader {
    struct gw_supervisor *supervisor;
    enum gw_handover_check check;
    bool has_self;
    const char *why;
};

static bool refuse(struct reader *reader, const char *why)
{
    reader->why = why;
    return false;
}

static bool read_self(struct reader *reader, char *fields)
{
    long pid, asked_by;
    int at = 0;

    if (sscanf(fields, "%ld %" SCNu64 " %" SCNu64 " %ld %n", &pid, &reader->supervisor->started_ms,
               &reader->supervisor->restarts, &asked_by, &at) < 4 ||
        at == 0)
        return refuse(reader, "the line \"self\" is broken");
    if (reader->check != GW_HANDOVER_SAMPLE && pid != getpid())
        return refuse(reader, "it was written by another process");
    reader->supervisor->upgrade.asked_by = (pid_t)asked_by;
    reader->supervisor->binary = h2o_strdup(NULL, fields + at, SIZE_MAX).base;
    reader->has_self = true;
    return true;
}

/* Open, and on the way out: going to be. */
static bool is_open(const struct reader *reader, int fd)
{
    int flags;
    if (fd == -1 || reader->check == GW_HANDOVER_SAMPLE)
        return true;
    return (flags = fcntl(fd, F_GETFD)) != -1 && (reader->check == GW_HANDOVER_TAKEN || (flags & FD_CLOEXEC) == 0);
}

static bool is_of_kind(int fd, enum gw_socket_kind kind)
{
    int on = 0, type = 0;
    socklen_t len = sizeof(on);
    if (kind == GW_SOCKET_UDP)
        return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_DGRAM;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0 && on != 0;
}

/* "5,6,7" */
static bool read_fds(struct reader *reader, enum gw_socket_kind kind, const char *text, int **fds, unsigned *num_fds)
{
    *fds = NULL;
    *num_fds = 0;
    for (char *end;; text = end + 1) {
        long fd = strtol(text, &end, 10);
        if (end == text || fd < 0 || fd > INT32_MAX || (*end != ',' && *end != '\0') || *num_fds == MAX_FDS)
            return refuse(reader, "the descriptors of a socket are broken");
        if (reader->check != GW_HANDOVER_SAMPLE && (!is_open(reader, (int)fd) || !is_of_kind((int)fd, kind)))
            return refuse(reader, "a descriptor is no listening socket");
        *fds = h2o_mem_realloc(*fds, sizeof(**fds) * (*num_fds + 1));
        (*fds)[(*num_fds)++] = (int)fd;
        if (*end == '\0')
            return true;
    }
}

static bool read_entry(struct reader *reader, char *fields)
{
    int activated, by_active, by_next, at = 0, *fds;
    uintmax_t dev, ino;
    unsigned num_fds;
    enum gw_socket_kind kind;
    char *save, *name = strtok_r(fields, " ", &save), *rest = strtok_r(NULL, "", &save);

    if (name == NULL || rest == NULL || !gw_socket_kind_parse(name, strlen(name), &kind) ||
        sscanf(rest, "%d %d %d %ju %ju %n", &activated, &by_active, &by_next, &dev, &ino, &at) < 5 || at == 0)
        return refuse(reader, "the line of a socket is broken");
    char *list = strtok_r(rest + at, " ", &save), *address = strtok_r(NULL, "", &save);
    if (list == NULL || address == NULL)
        return refuse(reader, "the line of a socket is broken");
    if (!read_fds(reader, kind, list, &fds, &num_fds)) {
        free(fds);
        return false;
    }
    struct gw_inventory_entry *entry = gw_inventory_add(
        &reader->supervisor->inventory, kind, strcmp(address, "-") != 0 ? address : NULL, fds, num_fds, activated != 0);
    entry->used_by_active = by_active != 0;
    entry->used_by_next = by_next != 0;
    entry->dev = (dev_t)dev;
    entry->ino = (ino_t)ino;
    return true;
}

static bool read_child(struct reader *reader, char *fields)
{
    struct gw_supervisor *supervisor = reader->supervisor;
    struct gw_child child = {.legacy.kept = -1};
    char role[16];
    long pid;

    if (sscanf(fields,
               "%ld %15s %d %d %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &pid,
               role, &child.orders, &child.sockets, &child.started_ms, &child.kill_at_ms, &child.ready.generation,
               &child.ready.shutdown_timeout_ms, &child.ready.upgrade_timeout_ms, &child.ready.drain_timeout_ms,
               &child.ready.watchdog_timeout_ms) < 10 ||
        pid < 1)
        return refuse(reader, "the line of a child is broken");
    if (!is_open(reader, child.orders) || !is_open(reader, child.sockets))
        return refuse(reader, "the channel of a child is closed");
    child.pid = (pid_t)pid;
    child.heard_ms = gw_now_ms();
    child.state = strcmp(role, "draining") == 0 ? GW_CHILD_DRAINING : GW_CHILD_SERVING;
    supervisor->children =
        h2o_mem_realloc(supervisor->children, sizeof(*supervisor->children) * (supervisor->num_children + 1));
    struct gw_child *kept = supervisor->children[supervisor->num_children++] = h2o_mem_alloc(sizeof(*kept));
    *kept = child;
    if (strcmp(role, "active") == 0)
        supervisor->active = kept;
    else if (strcmp(role, "next") == 0)
        supervisor->next = kept;
    return true;
}

static bool read_kept(struct reader *reader, char *fields)
{
    unsigned uid, gid;
    int fd;

    if (sscanf(fields, "%d %u %u", &fd, &uid, &gid) != 3 || fd < 0 || !is_open(reader, fd))
        return refuse(reader, "the line \"kept\" is broken");
    reader->supervisor->legacy = (struct gw_legacy){fd, (uid_t)uid, (gid_t)gid};
    return true;
}

static bool read_tickets(struct reader *reader, char *fields)
{
    snprintf(reader->supervisor->tickets, sizeof(reader->supervisor->tickets), "%s", fields);
    return true;
}

static bool read_line(struct reader *reader, char *line)
{
    static const struct {
        const char *word;
        bool (*read)(struct reader *, char *fields);
    } kinds[] = {{"self ", read_self},
                 {"entry ", read_entry},
                 {"child ", read_child},
                 {"kept ", read_kept},
                 {"tickets ", read_tickets}};

    for (size_t i = 0; i != sizeof(kinds) / sizeof(kinds[0]); ++i)
        if (strncmp(line, kinds[i].word, strlen(kinds[i].word)) == 0)
            return kinds[i].read(reader, line + strlen(kinds[i].word));
    return true;
}

/* The whole file, NUL-terminated; NULL when it cannot be. */
static char *read_text(int fd)
{
    char *text = h2o_mem_alloc(MAX_BYTES);
    size_t size = 0;
    ssize_t n;

    while ((n = pread(fd, text + size, MAX_BYTES - 1 - size, (off_t)size)) > 0)
        size += n;
    text[size] = '\0';
    if (n == 0 && size != 0 && strlen(text) == size)
        return text;
    free(text);
    return NULL;
}

bool gw_handover_read(int fd, enum gw_handover_check check, struct gw_supervisor *supervisor, const char **why)
{
    struct reader reader = {supervisor, check, false, NULL};
    char *text = read_text(fd);
    size_t size = text != NULL ? strlen(text) : 0;
    bool is_whole = false;

    if (text == NULL || strncmp(text, first_line, sizeof(first_line) - 1) != 0) {
        free(text);
        *why = "it is of another kind";
        return false;
    }
    char *save, *line = strtok_r(text, "\n", &save);
    while ((line = strtok_r(NULL, "\n", &save)) != NULL && !is_whole && reader.why == NULL) {
        if (strcmp(line, "end") == 0)
            is_whole = true;
        else
            read_line(&reader, line);
    }
    explicit_bzero(text, size);
    free(text);
    if (reader.why == NULL && (!is_whole || !reader.has_self))
        reader.why = "it is cut off";
    *why = reader.why;
    return reader.why == NULL;
}

void gw_handover_dispose(struct gw_supervisor *supervisor)
{
    for (size_t i = 0; i != supervisor->inventory.size; ++i) {
        free(supervisor->inventory.entries[i]->fds);
        free(supervisor->inventory.entries[i]->address);
        free(supervisor->inventory.entries[i]);
    }
    free(supervisor->inventory.entries);
    for (size_t i = 0; i != supervisor->num_children; ++i)
        free(supervisor->children[i]);
    free(supervisor->children);
    free(supervisor->binary);
    memset(supervisor, 0, sizeof(*supervisor));
}

/* ---- descriptors ---- */

static bool set_cloexec(int fd, bool on) { return fd == -1 || fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) == 0; }

bool gw_handover_keep_open(const struct gw_supervisor *supervisor, bool keep)
{
    bool ok = true;

    for (size_t i = 0; i != supervisor->inventory.size; ++i)
        for (unsigned j = 0; j != supervisor->inventory.entries[i]->num_fds; ++j)
            ok &= set_cloexec(supervisor->inventory.entries[i]->fds[j], !keep);
    for (size_t i = 0; i != supervisor->num_children; ++i)
        ok &=
            set_cloexec(supervisor->children[i]->orders, !keep) && set_cloexec(supervisor->children[i]->sockets, !keep);
    ok &= set_cloexec(legacy_of(supervisor)->kept, !keep);
    return ok;
}
