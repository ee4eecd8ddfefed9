#include "gateway/supervisor/supervisor.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <h2o/memory.h>
#include "gateway/base/log.h"
#include "gateway/base/wheel.h"
#include "gateway/supervisor/handover.h"
#include "gateway/supervisor/privileges.h"
#include "gateway/process.h"
#include "gateway/supervisor/supervisor_upgrade.h"
#include "gateway/supervisor/supervisor_watch.h"
#include "gateway/supervisor/systemd.h"

enum {
    YOUNG_MS = 1000, /* a worker that dies sooner is not started again at once for a second time */
    FIRST_DELAY_MS = 100,
    MAX_DELAY_MS = 5000,
    LONELY_UPGRADE_MS = 1000, /* with nobody else to serve, an upgrade must hurry */
    PACKETS_A_TURN = 64,      /* so that a worker gone mad does not keep us from the others */
};

/* ---- orders ---- */

void gw_supervisor_tell(struct gw_child *child, enum gw_packet_type type, uint64_t number0, uint64_t number1,
                        const char *text)
{
    if (child != NULL && child->orders != -1 && !gw_channel_tell(child->orders, type, number0, number1, text))
        gw_log(GW_LOG_WARNING, "supervisor", "worker %d takes no order: %s", (int)child->pid, strerror(errno));
}

void gw_supervisor_drain(struct gw_child *child, uint64_t timeout_ms, bool has_successor)
{
    gw_supervisor_tell(child, GW_ORDER_DRAIN, timeout_ms, has_successor, NULL);
    child->state = GW_CHILD_DRAINING;
    child->kill_at_ms = gw_now_ms() + timeout_ms + GW_KILL_GRACE_MS;
}

void gw_supervisor_answer_upgrade(struct gw_supervisor *supervisor, bool is_ok, const char *text)
{
    for (size_t i = 0; i != supervisor->num_children && supervisor->upgrade.asked_by != 0; ++i)
        if (supervisor->children[i]->pid == supervisor->upgrade.asked_by)
            gw_supervisor_tell(supervisor->children[i], GW_ORDER_UPGRADED, is_ok, 0, text);
    supervisor->upgrade.asked_by = 0;
}

/* ---- starting workers ---- */

uint64_t gw_supervisor_back_off(uint64_t *delay_ms, uint64_t lived_ms)
{
    uint64_t now_ms = lived_ms >= YOUNG_MS ? 0 : *delay_ms;

    *delay_ms = now_ms == 0 ? FIRST_DELAY_MS : now_ms * 2;
    if (*delay_ms > MAX_DELAY_MS)
        *delay_ms = MAX_DELAY_MS;
    return now_ms;
}

void gw_supervisor_start_worker(struct gw_supervisor *supervisor)
{
    supervisor->restart_at_ms = 0;
    supervisor->next = gw_child_start(supervisor, false, supervisor->has_served);
    if (supervisor->next == NULL && supervisor->has_served) /* no memory, no processes: it may get better */
        supervisor->restart_at_ms = gw_now_ms() + gw_supervisor_back_off(&supervisor->restart_delay_ms, 0);
    else if (supervisor->next == NULL)
        supervisor->is_over = true, supervisor->status = 1;
}

static void restart_in(struct gw_supervisor *supervisor, uint64_t delay_ms)
{
    if (delay_ms == 0)
        gw_supervisor_start_worker(supervisor);
    else
        supervisor->restart_at_ms = gw_now_ms() + delay_ms;
}

/* ---- ending ---- */

static void stop_now(struct gw_supervisor *supervisor)
{
    for (size_t i = 0; i != supervisor->num_children; ++i) {
        struct gw_child *child = supervisor->children[i];
        if (supervisor->is_in_haste)
            kill(child->pid, SIGKILL);
        gw_supervisor_tell(child, GW_ORDER_STOP, 0, 0, NULL);
        child->kill_at_ms = gw_now_ms() + GW_KILL_GRACE_MS;
    }
    supervisor->is_in_haste = true;
}

/* The listening sockets go first: the worker takes what waits in them and has the last descriptor. */
static void stop(struct gw_supervisor *supervisor)
{
    if (supervisor->is_stopping) {
        stop_now(supervisor); /* asked twice: at once; and then without asking */
        return;
    }
    supervisor->is_stopping = true;
    supervisor->restart_at_ms = 0;
    gw_systemd_notify("STOPPING=1\nSTATUS=draining");
    if (supervisor->upgrade.is_running)
        gw_supervisor_fail_upgrade(supervisor, "weir is shutting down");
    gw_inventory_close_listeners(&supervisor->inventory);
    for (size_t i = 0; i != supervisor->num_children; ++i) {
        struct gw_child *child = supervisor->children[i];
        if (child->state == GW_CHILD_STARTING)
            kill(child->pid, SIGKILL); /* it serves nobody yet */
        else
            gw_supervisor_drain(child, child->ready.shutdown_timeout_ms, false);
    }
}

/* ---- children that end ---- */

static void on_first_failed(struct gw_supervisor *supervisor, int status, const char *end)
{
    supervisor->is_over = true;
    supervisor->status = WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 1) /* 1: it has said why */
        gw_log(GW_LOG_ERROR, "supervisor", "the first worker %s before it served: giving up", end);
}

static void on_died(struct gw_supervisor *supervisor, pid_t pid, uint64_t lived_ms, const char *end)
{
    uint64_t delay_ms = gw_supervisor_back_off(&supervisor->restart_delay_ms, lived_ms);
    char when[40] = "at once";

    ++supervisor->restarts;
    if (delay_ms != 0)
        snprintf(when, sizeof(when), "in %llu ms", (unsigned long long)delay_ms);
    gw_log(GW_LOG_ERROR, "supervisor", "worker %d died: it %s after %llu.%03llu s; another is started %s", (int)pid,
           end, (unsigned long long)lived_ms / 1000, (unsigned long long)lived_ms % 1000, when);
    gw_systemd_notify("STATUS=worker %d %s; another is started %s", (int)pid, end, when);
    if (!supervisor->upgrade.is_wanted)
        restart_in(supervisor, delay_ms);
    else /* the new one instead */
        gw_supervisor_upgrade(supervisor, 0);
}

/* The new one takes its place, or its failure starts another. */
static void on_died_during_upgrade(struct gw_supervisor *supervisor, pid_t pid, const char *end)
{
    uint64_t deadline_ms = gw_now_ms() + LONELY_UPGRADE_MS;

    gw_log(GW_LOG_ERROR, "supervisor", "worker %d died: it %s; the new one is awaited", (int)pid, end);
    ++supervisor->restarts;
    if (supervisor->upgrade.is_running && supervisor->upgrade.deadline_ms > deadline_ms)
        supervisor->upgrade.deadline_ms = deadline_ms;
}

static void on_drained(struct gw_supervisor *supervisor, pid_t pid, int status, const char *end)
{
    if (status == 0) {
        gw_log(GW_LOG_NOTICE, "supervisor", "worker %d has drained", (int)pid);
        return;
    }
    gw_log(GW_LOG_ERROR, "supervisor", "worker %d died while it drained: it %s", (int)pid, end);
    if (supervisor->is_stopping && !supervisor->is_in_haste)
        supervisor->status = 1;
}

/* Whoever asked for it should not have to look for the reason in a log. */
static void fail_upgrade(struct gw_supervisor *supervisor, const char *failed_for, const char *end)
{
    char why[GW_PACKET_TEXT];

    if (failed_for != NULL)
        snprintf(why, sizeof(why), "its worker %s before it served: %s", end, failed_for);
    else
        snprintf(why, sizeof(why), "its worker %s before it served", end);
    gw_supervisor_fail_upgrade(supervisor, why);
}

static void on_exit_of(struct gw_supervisor *supervisor, struct gw_child *child, int status)
{
    bool was_active = child == supervisor->active, was_next = child == supervisor->next;
    uint64_t lived_ms = gw_now_ms() - child->started_ms;
    bool was_draining = child->state == GW_CHILD_DRAINING, was_upgrade = child->is_upgrade;
    bool was_given_up = child->is_given_up;
    pid_t pid = child->pid;
    char end[80], *failed_for = child->failed_for;

    child->failed_for = NULL;
    gw_child_describe_end(status, end, sizeof(end));
    gw_child_forget(supervisor, child);
    if (was_active)
        supervisor->active = NULL;
    if (was_next)
        supervisor->next = NULL;
    if (supervisor->is_stopping || was_draining) {
        if (was_draining && !was_given_up)
            on_drained(supervisor, pid, status, end);
    } else if (was_next && was_upgrade) {
        fail_upgrade(supervisor, failed_for, end);
    } else if (was_next && !supervisor->has_served) {
        on_first_failed(supervisor, status, end);
    } else if (was_next || supervisor->next == NULL) {
        gw_inventory_drop_next(&supervisor->inventory);
        on_died(supervisor, pid, lived_ms, end);
    } else {
        on_died_during_upgrade(supervisor, pid, end);
    }
    free(failed_for);
}

static struct gw_child *find(struct gw_supervisor *supervisor, pid_t pid)
{
    for (size_t i = 0; i != supervisor->num_children; ++i)
        if (supervisor->children[i]->pid == pid)
            return supervisor->children[i];
    return NULL;
}

static void read_child(struct gw_supervisor *supervisor, struct gw_child *child);

/* As the first process of a container we inherit everybody's orphans. */
static void reap(struct gw_supervisor *supervisor)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct gw_child *child = find(supervisor, pid);
        if (child == NULL)
            continue;
        child->has_ended = true;
        read_child(supervisor, child); /* its last words */
        on_exit_of(supervisor, child, status);
    }
}

/* ---- the loop ---- */

/* What a child has said. A closed end is forgotten: the child is about to end. */
static void read_end(struct gw_supervisor *supervisor, struct gw_child *child, int *fd,
                     void (*on_packet)(struct gw_supervisor *, struct gw_child *, struct gw_packet *))
{
    struct gw_packet packet;

    for (unsigned i = 0; i != PACKETS_A_TURN && *fd != -1; ++i) {
        switch (gw_channel_receive(*fd, false, &packet)) {
        case GW_CHANNEL_PACKET:
            on_packet(supervisor, child, &packet);
            gw_packet_close_fds(&packet);
            explicit_bzero(packet.text, sizeof(packet.text));
            break;
        case GW_CHANNEL_CLOSED:
            close(*fd);
            *fd = -1;
            return;
        case GW_CHANNEL_EMPTY:
            return;
        }
    }
}

static void read_child(struct gw_supervisor *supervisor, struct gw_child *child)
{
    read_end(supervisor, child, &child->sockets, gw_supervisor_on_question);
    read_end(supervisor, child, &child->orders, gw_supervisor_on_report);
}

static void on_signal(struct gw_supervisor *supervisor, int signal)
{
    switch (signal) {
    case SIGTERM:
    case SIGINT:
    case SIGQUIT:
        stop(supervisor);
        break;
    case SIGHUP:
        gw_supervisor_tell(supervisor->active, GW_ORDER_RELOAD, 0, 0, NULL);
        gw_supervisor_tell(supervisor->next, GW_ORDER_RELOAD, 0, 0, NULL);
        break;
    case SIGUSR1:
        for (size_t i = 0; i != supervisor->num_children; ++i)
            gw_supervisor_tell(supervisor->children[i], GW_ORDER_REOPEN, 0, 0, NULL);
        break;
    case SIGUSR2:
        gw_supervisor_upgrade(supervisor, 0);
        break;
    }
}

static void read_signals(struct gw_supervisor *supervisor, int signals)
{
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof(info)) == sizeof(info))
        on_signal(supervisor, (int)info.ssi_signo);
}

static void tell_systemd(struct gw_supervisor *supervisor, uint64_t now_ms)
{
    if (supervisor->alive_every_ms == 0 || now_ms < supervisor->alive_at_ms)
        return;
    gw_systemd_notify("WATCHDOG=1");
    supervisor->alive_at_ms = now_ms + supervisor->alive_every_ms;
}

/* Where this process stood still, the new worker may have said in time that it serves, and may do so by now. */
static void end_late_upgrade(struct gw_supervisor *supervisor)
{
    if (supervisor->next != NULL)
        read_child(supervisor, supervisor->next);
    if (supervisor->upgrade.is_running)
        gw_supervisor_fail_upgrade(supervisor, "it did not serve within upgrade.ready_timeout");
}

void gw_supervisor_run_timers(struct gw_supervisor *supervisor)
{
    uint64_t now_ms = gw_now_ms();

    if (supervisor->restart_at_ms != 0 && now_ms >= supervisor->restart_at_ms)
        gw_supervisor_start_worker(supervisor);
    if (supervisor->upgrade.is_running && now_ms >= supervisor->upgrade.deadline_ms)
        end_late_upgrade(supervisor);
    gw_supervisor_watch(supervisor, now_ms);
    tell_systemd(supervisor, now_ms);
    for (size_t i = 0; i != supervisor->num_children; ++i) {
        struct gw_child *child = supervisor->children[i];
        if (child->kill_at_ms == 0 || now_ms < child->kill_at_ms)
            continue;
        gw_log(GW_LOG_ERROR, "supervisor", "worker %d is stuck: killing it", (int)child->pid);
        kill(child->pid, SIGKILL);
        child->kill_at_ms = now_ms + GW_KILL_GRACE_MS;
    }
}

static int next_timer_ms(const struct gw_supervisor *supervisor)
{
    uint64_t due_ms = gw_supervisor_watch_due_ms(supervisor), now_ms = gw_now_ms();

    if (supervisor->alive_every_ms != 0 && supervisor->alive_at_ms < due_ms)
        due_ms = supervisor->alive_at_ms;
    if (supervisor->restart_at_ms != 0 && supervisor->restart_at_ms < due_ms)
        due_ms = supervisor->restart_at_ms;
    if (supervisor->upgrade.is_running && supervisor->upgrade.deadline_ms < due_ms)
        due_ms = supervisor->upgrade.deadline_ms;
    for (size_t i = 0; i != supervisor->num_children; ++i)
        if (supervisor->children[i]->kill_at_ms != 0 && supervisor->children[i]->kill_at_ms < due_ms)
            due_ms = supervisor->children[i]->kill_at_ms;
    if (due_ms == UINT64_MAX)
        return -1;
    return due_ms <= now_ms ? 0 : due_ms - now_ms > 60000 ? 60000 : (int)(due_ms - now_ms);
}

static void wait_for_something(struct gw_supervisor *supervisor, int signals)
{
    size_t n = supervisor->num_children * 2 + 1;
    struct pollfd *fds = h2o_mem_alloc(sizeof(*fds) * n);

    fds[0] = (struct pollfd){.fd = signals, .events = POLLIN};
    for (size_t i = 0; i != supervisor->num_children; ++i) {
        fds[1 + i * 2] = (struct pollfd){.fd = supervisor->children[i]->orders, .events = POLLIN};
        fds[2 + i * 2] = (struct pollfd){.fd = supervisor->children[i]->sockets, .events = POLLIN};
    }
    poll(fds, n, next_timer_ms(supervisor));
    free(fds);
}

/* Signals come first: when a whole process group is told to end, the worker's word that it does is no surprise then.
 * Children are listed anew after each, since what they say may start or end others. */
static void supervise(struct gw_supervisor *supervisor, int signals)
{
    for (;;) {
        reap(supervisor);
        gw_supervisor_run_timers(supervisor);
        if (supervisor->is_over || (supervisor->is_stopping && supervisor->num_children == 0))
            return;
        wait_for_something(supervisor, signals);
        read_signals(supervisor, signals);
        for (size_t i = 0; i < supervisor->num_children; ++i)
            read_child(supervisor, supervisor->children[i]);
    }
}

/* ---- start and end ---- */

static int watch_signals(void)
{
    static const int wanted[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i != sizeof(wanted) / sizeof(wanted[0]); ++i)
        sigaddset(&set, wanted[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* ignored, it would leave nobody to wait for */
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* Standard input is read once; every worker has to read it. */
static bool keep_input(void)
{
    char buf[16384];
    int fd = memfd_create("weir-config", MFD_CLOEXEC);
    ssize_t n = 0;

    if (lseek(STDIN_FILENO, 0, SEEK_CUR) != -1) { /* a file: it can be read again */
        if (fd != -1)
            close(fd);
        return true;
    }
    while (fd != -1 && (n = read(STDIN_FILENO, buf, sizeof(buf))) > 0)
        if (write(fd, buf, (size_t)n) != n)
            n = -1;
    if (fd == -1 || n < 0 || dup2(fd, STDIN_FILENO) == -1) {
        gw_log(GW_LOG_ERROR, "supervisor", "cannot read the configuration from standard input: %s", strerror(errno));
        return false;
    }
    close(fd);
    return true;
}

static void begin(struct gw_supervisor *supervisor)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    supervisor->started_ms = (uint64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    supervisor->binary = gw_supervisor_find_binary(supervisor->argv[0]);
    gw_systemd_take_sockets(&supervisor->inventory);
    if (strcmp(supervisor->config_path, "-") == 0 && !keep_input())
        supervisor->is_over = true, supervisor->status = 1;
    else
        gw_supervisor_start_worker(supervisor);
}

int gw_supervisor_run(char **argv, const char *config_path)
{
    static struct gw_supervisor supervisor; /* there is one */
    int signals;

    prctl(PR_SET_NAME, "weir"); /* not the name of a descriptor */
    supervisor.argv = argv;
    supervisor.config_path = config_path;
    supervisor.upgrade.binary = -1;
    supervisor.legacy.kept = -1;
    signals = watch_signals();
    supervisor.self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (signals == -1 || supervisor.self == -1) {
        gw_log(GW_LOG_ERROR, "supervisor", "cannot supervise: %s (is /proc mounted? --no-supervise does without it)",
               strerror(errno));
        return 1;
    }
    supervisor.alive_every_ms = gw_systemd_watchdog_us() / 2000; /* half of it, as sd_watchdog_enabled(3) says */
    gw_privileges_raise_file_limit();
    if (getenv(GW_HANDOVER_VARIABLE) == NULL)
        begin(&supervisor);
    else if (!gw_supervisor_take_over(&supervisor))
        return 1;
    supervise(&supervisor, signals);
    gw_inventory_close(&supervisor.inventory);
    gw_legacy_take(&supervisor.legacy, -1, 0, 0);
    free(supervisor.children);
    free(supervisor.binary);
    if (supervisor.is_stopping)
        gw_log(GW_LOG_NOTICE, "supervisor", "stopped");
    return supervisor.status;
}
