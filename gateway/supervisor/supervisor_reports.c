/* What workers say to the supervisor: that they serve, drain, want an upgrade, and which sockets they need. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/log.h"
#include "gateway/process.h"
#include "gateway/supervisor/supervisor.h"
#include "gateway/supervisor/supervisor_upgrade.h"
#include "gateway/supervisor/supervisor_watch.h"
#include "gateway/supervisor/systemd.h"

enum { DAY_MS = 24 * 3600 * 1000, FLOWS_BUFFER = 2 << 20 };

/* ---- what workers say ---- */

static void warn_of_unused_sockets(const struct gw_supervisor *supervisor)
{
    for (size_t i = 0; i != supervisor->inventory.size; ++i) {
        const struct gw_inventory_entry *entry = supervisor->inventory.entries[i];
        char text[160];
        if (!entry->is_activated || entry->used_by_active)
            continue;
        gw_inventory_describe(entry, text, sizeof(text));
        gw_log(GW_LOG_WARNING, "supervisor",
               "socket activation: no listener names %s; what connects there waits for nothing", text);
    }
}

/* A worker that could not read the files has none to leave: those before it stay. */
static void take_legacy(struct gw_supervisor *supervisor, struct gw_child *child)
{
    if (child->legacy.kept == -1)
        return;
    gw_legacy_take(&supervisor->legacy, child->legacy.kept, child->legacy.uid, child->legacy.gid);
    child->legacy.kept = -1;
}

void gw_supervisor_promote(struct gw_supervisor *supervisor)
{
    struct gw_child *child = supervisor->next;

    child->state = GW_CHILD_SERVING;
    supervisor->active = child;
    supervisor->next = NULL;
    supervisor->has_served = true;
    supervisor->generation = child->ready.generation;
    supervisor->upgrade_timeout_ms = child->ready.upgrade_timeout_ms;
    gw_supervisor_heard(child);
    take_legacy(supervisor, child);
    gw_inventory_promote(&supervisor->inventory);
}

struct gw_child *gw_supervisor_find_giver(const struct gw_supervisor *supervisor)
{
    if (supervisor->active != NULL)
        return supervisor->active;
    for (size_t i = supervisor->num_children; i-- != 0;)
        if (supervisor->children[i]->has_flows)
            return supervisor->children[i];
    return NULL;
}

static bool send_end(struct gw_child *child, enum gw_packet_type type, int end)
{
    struct gw_packet packet = {.type = type, .numbers = {1}, .fds = {end}, .num_fds = 1};
    return child->orders != -1 && gw_channel_send(child->orders, &packet);
}

void gw_supervisor_hand_flows(struct gw_child *giver, struct gw_child *taker)
{
    int ends[2], room = FLOWS_BUFFER;

    if (giver == NULL || !gw_channel_create(ends)) {
        gw_supervisor_tell(taker, GW_ORDER_TAKE_FLOWS, 0, 0, NULL);
        return;
    }
    giver->has_flows = false;
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    if (!send_end(taker, GW_ORDER_TAKE_FLOWS, ends[1]) || !send_end(giver, GW_ORDER_GIVE_FLOWS, ends[0]))
        gw_log(GW_LOG_WARNING, "supervisor", "worker %d gives its flows to nobody: %s", (int)giver->pid,
               strerror(errno)); /* the other end is told by the closed channel */
    close(ends[0]);
    close(ends[1]);
}

static void on_first_ready(struct gw_supervisor *supervisor, struct gw_child *child)
{
    bool is_first = !supervisor->has_served;
    struct gw_child *giver = gw_supervisor_find_giver(supervisor);

    gw_supervisor_promote(supervisor);
    if (!is_first)
        gw_supervisor_hand_flows(giver, child);
    for (size_t i = 0; i != supervisor->num_children;
         ++i) /* of those that ended by themselves: the admin API is free now */
        if (supervisor->children[i]->state == GW_CHILD_DRAINING)
            gw_supervisor_tell(supervisor->children[i], GW_ORDER_DRAIN, DAY_MS, 1, NULL);
    if (is_first)
        warn_of_unused_sockets(supervisor);
    gw_log(GW_LOG_NOTICE, "supervisor", "worker %d serves", (int)child->pid);
    if (supervisor->upgrade.is_wanted)
        gw_supervisor_upgrade(supervisor, 0);
}

/* The kernel says whose the worker is; what it has read is not to be believed as anybody else. */
static void keep_files(struct gw_child *child, struct gw_packet *packet)
{
    char path[32];
    struct stat st;

    snprintf(path, sizeof(path), "/proc/%d", (int)child->pid);
    if (packet->num_fds != 1 || stat(path, &st) != 0)
        return;
    gw_legacy_take(&child->legacy, packet->fds[0], st.st_uid, st.st_gid);
    packet->num_fds = 0;
}

static void on_ready(struct gw_supervisor *supervisor, struct gw_child *child, struct gw_packet *packet)
{
    memcpy(&child->ready, packet->numbers, sizeof(child->ready));
    keep_files(child, packet);
    gw_supervisor_heard(child);
    if (child == supervisor->next && child->is_upgrade) {
        if (child->has_ended) /* nothing to become */
            return;
        snprintf(supervisor->upgrade.version, sizeof(supervisor->upgrade.version), "%.31s", packet->text);
        gw_supervisor_become(supervisor); /* returns when that failed */
        return;
    }
    if (child == supervisor->next)
        on_first_ready(supervisor, child);
    if (child != supervisor->active)
        return;
    supervisor->generation = child->ready.generation;
    supervisor->upgrade_timeout_ms = child->ready.upgrade_timeout_ms;
    take_legacy(supervisor, child);
    if (!supervisor->is_stopping)
        gw_systemd_notify("READY=1\nSTATUS=worker %d serves generation %llu", (int)child->pid,
                          (unsigned long long)child->ready.generation);
}

/* Somebody told it to end, but not us. */
static void on_draining(struct gw_supervisor *supervisor, struct gw_child *child)
{
    if (child != supervisor->active || supervisor->is_stopping)
        return;
    child->state = GW_CHILD_DRAINING;
    child->has_flows = true;
    child->kill_at_ms = gw_now_ms() + child->ready.shutdown_timeout_ms + GW_KILL_GRACE_MS;
    supervisor->active = NULL;
    gw_log(GW_LOG_NOTICE, "supervisor", "worker %d drains by itself: another takes its place", (int)child->pid);
    if (supervisor->next == NULL)
        gw_supervisor_start_worker(supervisor);
}

void gw_supervisor_on_report(struct gw_supervisor *supervisor, struct gw_child *child, struct gw_packet *packet)
{
    switch (packet->type) {
    case GW_REPORT_READY:
        on_ready(supervisor, child, packet);
        break;
    case GW_REPORT_DRAINING:
        on_draining(supervisor, child);
        break;
    case GW_REPORT_LOADING:
        if (child == supervisor->active && !supervisor->is_stopping)
            gw_systemd_notify_reloading();
        break;
    case GW_REPORT_FAILED:
        if (child == supervisor->next && *packet->text != '\0') {
            free(child->failed_for);
            child->failed_for = h2o_strdup(NULL, packet->text, SIZE_MAX).base;
        }
        if (child == supervisor->active && !supervisor->is_stopping)
            gw_systemd_notify("READY=1\nSTATUS=reload failed: generation %llu stays",
                              (unsigned long long)child->ready.generation);
        break;
    case GW_REPORT_ALIVE:
        gw_supervisor_heard(child);
        break;
    case GW_REPORT_UPGRADE:
        gw_supervisor_upgrade(supervisor, child->pid);
        break;
    case GW_REPORT_TICKETS: /* it becomes a line of the handover */
        if (child->state != GW_CHILD_DRAINING &&
            strspn(packet->text, "0123456789abcdef") == strnlen(packet->text, sizeof(packet->text)))
            memcpy(supervisor->tickets, packet->text, sizeof(supervisor->tickets));
        break;
    default:
        gw_log(GW_LOG_WARNING, "supervisor", "worker %d says something that this version does not know: %d",
               (int)child->pid, (int)packet->type);
    }
}

/* ---- sockets for workers ---- */

static void give(struct gw_child *child, const struct gw_inventory_entry *entry, uint64_t question)
{
    struct gw_packet answer = {.type = GW_SOCKETS_HERE, .numbers[1] = question};

    for (unsigned sent = 0; sent != entry->num_fds; sent += answer.num_fds) {
        answer.num_fds = entry->num_fds - sent < GW_PACKET_MAX_FDS ? entry->num_fds - sent : GW_PACKET_MAX_FDS;
        answer.numbers[0] = entry->num_fds - sent - answer.num_fds;
        memcpy(answer.fds, entry->fds + sent, sizeof(int) * answer.num_fds);
        if (!gw_channel_send(child->sockets, &answer)) {
            gw_log(GW_LOG_ERROR, "supervisor", "cannot give %s to worker %d: %s", entry->address, (int)child->pid,
                   strerror(errno));
            return;
        }
    }
}

void gw_supervisor_on_question(struct gw_supervisor *supervisor, struct gw_child *child, struct gw_packet *packet)
{
    const char *space = strchr(packet->text, ' '), *address = space != NULL ? space + 1 : "";
    bool is_known = child == supervisor->active || child == supervisor->next, by_next = child == supervisor->next;
    uint64_t count = packet->numbers[0], question = packet->numbers[1];
    struct gw_inventory_error error = {0, "the supervisor does not understand"};
    const struct gw_inventory_entry *entry = NULL;
    enum gw_socket_kind kind;

    if (space == NULL || !gw_socket_kind_parse(packet->text, space - packet->text, &kind)) {
        /* said below */
    } else if (packet->type == GW_SOCKETS_CLOSE) {
        if (is_known)
            gw_inventory_release(&supervisor->inventory, kind, address, by_next);
        gw_channel_tell(child->sockets, GW_SOCKETS_CLOSE, 0, question, NULL);
        return;
    } else if (!is_known || supervisor->is_stopping) {
        snprintf(error.text, sizeof(error.text), "%s",
                 supervisor->is_stopping ? "weir is shutting down" : "another worker serves");
    } else if (packet->type == GW_SOCKETS_OPEN && count != 0 && count <= GW_MAX_THREADS) {
        entry = gw_inventory_open(&supervisor->inventory, kind, address, (unsigned)count, by_next, &error);
    }
    if (entry != NULL)
        give(child, entry, question);
    else
        gw_channel_tell(child->sockets, GW_SOCKETS_FAILED, (uint64_t)error.number, question, error.text);
}
