/* Starting workers: fork, and exec of the very binary that runs (or of the new one), so that each has an address space
 * of its own making. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <h2o/memory.h>
#include "gateway/base/log.h"
#include "gateway/base/wheel.h"
#include "gateway/supervisor/handover.h"
#include "gateway/supervisor/systemd.h"

/* Between fork and exec. */
static void become_worker(const struct gw_supervisor *supervisor, int binary, int orders, int sockets)
{
    char ends[32], why[96];
    struct gw_packet hello;
    char *const argv[] = {supervisor->argv[0], "run", "-c", (char *)supervisor->config_path, "--worker", ends, NULL};
    sigset_t none;

    snprintf(ends, sizeof(ends), "%d,%d", orders, sockets);
    gw_systemd_forget();
    if (strcmp(supervisor->config_path, "-") == 0)
        lseek(STDIN_FILENO, 0, SEEK_SET);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    fcntl(orders, F_SETFD, 0);
    fcntl(sockets, F_SETFD, 0);
    fexecve(binary, argv, environ);
    snprintf(why, sizeof(why), "cannot be executed: %s", strerror(errno));
    gw_log(GW_LOG_ERROR, "supervisor", "cannot start a worker: the binary %s", why);
    gw_channel_receive(orders, false, &hello); /* an end that closes with bytes unread takes back what it said */
    gw_channel_tell(orders, GW_REPORT_FAILED, 0, 0, why);
    _exit(127);
}

/* The first word waits in the channel until the worker looks. A new binary gets a sample of what it would have to take
 * over. */
static bool greet(const struct gw_supervisor *supervisor, int orders, bool is_upgrade, bool is_replacement)
{
    struct gw_packet packet = {.type = GW_ORDER_HELLO};
    struct gw_hello hello = {.supervisor_pid = (uint64_t)getpid(),
                             .restarts = supervisor->restarts,
                             .started_ms = supervisor->started_ms,
                             .is_replacement = is_replacement,
                             .generation = supervisor->generation,
                             .kept_uid = supervisor->legacy.uid,
                             .kept_gid = supervisor->legacy.gid,
                             .has_predecessor = gw_supervisor_find_giver(supervisor) != NULL};
    bool ok;

    memcpy(packet.numbers, &hello, sizeof(hello));
    memcpy(packet.text, supervisor->tickets, sizeof(packet.text));
    if (is_upgrade) {
        if ((packet.fds[0] = gw_handover_write(supervisor)) == -1)
            return false;
        packet.num_fds = 1;
    } else if (is_replacement && supervisor->legacy.kept != -1) {
        packet.fds[0] = supervisor->legacy.kept;
        packet.num_fds = 1;
    }
    ok = gw_channel_send(orders, &packet);
    if (is_upgrade)
        gw_packet_close_fds(&packet);
    explicit_bzero(packet.text, sizeof(packet.text));
    return ok;
}

static struct gw_child *add(struct gw_supervisor *supervisor, const struct gw_child *child)
{
    struct gw_child *kept = h2o_mem_alloc(sizeof(*kept));
    *kept = *child;
    supervisor->children =
        h2o_mem_realloc(supervisor->children, sizeof(*supervisor->children) * (supervisor->num_children + 1));
    return supervisor->children[supervisor->num_children++] = kept;
}

static void close_pair(const int fds[2])
{
    for (int i = 0; i != 2; ++i)
        if (fds[i] != -1)
            close(fds[i]);
}

struct gw_child *gw_child_start(struct gw_supervisor *supervisor, bool is_upgrade, bool is_replacement)
{
    int orders[2] = {-1, -1}, sockets[2] = {-1, -1};
    struct gw_child child = {.is_upgrade = is_upgrade, .started_ms = gw_now_ms(), .legacy.kept = -1};

    if (!gw_channel_create(orders) || !gw_channel_create(sockets) ||
        !greet(supervisor, orders[0], is_upgrade, is_replacement) || (child.pid = fork()) == -1) {
        gw_log(GW_LOG_ERROR, "supervisor", "cannot start a worker: %s", strerror(errno));
        close_pair(orders);
        close_pair(sockets);
        return NULL;
    }
    if (child.pid == 0)
        become_worker(supervisor, is_upgrade ? supervisor->upgrade.binary : supervisor->self, orders[1], sockets[1]);
    close(orders[1]);
    close(sockets[1]);
    child.orders = orders[0];
    child.sockets = sockets[0];
    return add(supervisor, &child);
}

void gw_child_forget(struct gw_supervisor *supervisor, struct gw_child *child)
{
    const int fds[] = {child->orders, child->sockets};
    close_pair(fds);
    gw_legacy_take(&child->legacy, -1, 0, 0);
    for (size_t i = 0; i != supervisor->num_children; ++i)
        if (supervisor->children[i] == child) {
            supervisor->children[i] = supervisor->children[--supervisor->num_children];
            break;
        }
    free(child->failed_for);
    free(child);
}

void gw_legacy_take(struct gw_legacy *legacy, int kept, uid_t uid, gid_t gid)
{
    if (legacy->kept != -1)
        close(legacy->kept);
    *legacy = (struct gw_legacy){kept, uid, gid};
}

void gw_child_describe_end(int wait_status, char *text, size_t size)
{
    if (WIFSIGNALED(wait_status))
        snprintf(text, size, "was killed by signal %d (%s)%s", WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)),
                 WCOREDUMP(wait_status) ? ", core dumped" : "");
    else
        snprintf(text, size, "exited with status %d", WEXITSTATUS(wait_status));
}
