#include "gateway/supervisor/supervisor_upgrade.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <h2o.h>
#include "gateway/base/log.h"
#include "gateway/base/wheel.h"
#include "gateway/supervisor/handover.h"
#include "gateway/supervisor/systemd.h"

/* ---- the binary ---- */

static bool is_what_runs(const char *path)
{
    struct stat a, b;
    return stat(path, &a) == 0 && stat("/proc/self/exe", &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* The kernel's name of it: links are followed, and a file that was replaced is marked. */
static char *name_of_self(void)
{
    static const char gone[] = " (deleted)";
    char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (len < 0)
        len = 0;
    if ((size_t)len > sizeof(gone) - 1 && memcmp(path + len - (sizeof(gone) - 1), gone, sizeof(gone) - 1) == 0)
        len -= sizeof(gone) - 1;
    return h2o_strdup(NULL, path, (size_t)len).base;
}

static char *join(const char *folder, size_t folder_len, const char *name)
{
    return h2o_concat(NULL, h2o_iovec_init(folder, folder_len), h2o_iovec_init(H2O_STRLIT("/")),
                      h2o_iovec_init(name, strlen(name)))
        .base;
}

/* As the shell found it. NULL: not there. */
static char *search(const char *name)
{
    const char *folders = getenv("PATH");

    while (folders != NULL && *folders != '\0') {
        size_t len = strcspn(folders, ":");
        char *path = join(folders, len, name);
        if (len != 0 && is_what_runs(path))
            return path;
        free(path);
        folders += len + (folders[len] == ':');
    }
    return NULL;
}

/* argv[0] rather than the kernel's name, because a link to the current release may point to another one next time. */
char *gw_supervisor_find_binary(const char *argv0)
{
    char folder[4096], *path;

    if (strchr(argv0, '/') == NULL)
        path = search(argv0);
    else if (argv0[0] == '/' || getcwd(folder, sizeof(folder)) == NULL)
        path = h2o_strdup(NULL, argv0, SIZE_MAX).base;
    else
        path = join(folder, strlen(folder), argv0);
    if (path != NULL && is_what_runs(path))
        return path;
    free(path);
    return name_of_self();
}

/* ---- the old binary's part ---- */

static void close_binary(struct gw_supervisor *supervisor)
{
    if (supervisor->upgrade.binary != -1)
        close(supervisor->upgrade.binary);
    supervisor->upgrade.binary = -1;
}

void gw_supervisor_fail_upgrade(struct gw_supervisor *supervisor, const char *why)
{
    struct gw_child *next = supervisor->next;

    gw_log(GW_LOG_ERROR, "supervisor", "upgrade failed: %s; the binary that runs goes on", why);
    supervisor->upgrade.is_running = false;
    close_binary(supervisor);
    if (next != NULL && next->is_upgrade) {
        supervisor->next = NULL;
        next->is_given_up = true;
        if (next->state == GW_CHILD_STARTING) {
            next->state = GW_CHILD_DRAINING;
            kill(next->pid, SIGKILL);
        } else {
            gw_supervisor_drain(next, next->ready.drain_timeout_ms, true); /* it may have taken connections */
        }
    }
    gw_inventory_drop_next(&supervisor->inventory);
    gw_supervisor_answer_upgrade(supervisor, false, why);       /* whoever hears it may count on all being as before */
    if (supervisor->active == NULL && !supervisor->is_stopping) /* it died meanwhile */
        gw_supervisor_start_worker(supervisor);
}

static void begin(struct gw_supervisor *supervisor, const char **why)
{
    supervisor->upgrade.binary = open(supervisor->binary, O_RDONLY | O_CLOEXEC);
    if (supervisor->upgrade.binary == -1) {
        *why = strerror(errno);
        return;
    }
    supervisor->upgrade.is_running = true;
    supervisor->upgrade.deadline_ms = gw_now_ms() + supervisor->upgrade_timeout_ms;
    supervisor->restart_at_ms = 0; /* of a crash loop: this may be the way out */
    supervisor->next = gw_child_start(supervisor, true, false);
    if (supervisor->next == NULL)
        *why = "no process for it";
}

void gw_supervisor_upgrade(struct gw_supervisor *supervisor, pid_t asked_by)
{
    const char *why = NULL;
    bool is_busy = supervisor->upgrade.is_running;

    if (!is_busy && !supervisor->is_stopping && supervisor->has_served && supervisor->next != NULL && asked_by == 0) {
        supervisor->upgrade.is_wanted = true;
        return;
    }
    if (is_busy)
        why = "another one is running";
    else if (supervisor->is_stopping)
        why = "weir is shutting down";
    else if (!supervisor->has_served || supervisor->next != NULL)
        why = "a worker is just being started";
    if (why != NULL) {
        pid_t first = supervisor->upgrade.asked_by;
        gw_log(GW_LOG_ERROR, "supervisor", "no upgrade: %s", why);
        supervisor->upgrade.asked_by = asked_by;
        gw_supervisor_answer_upgrade(supervisor, false, why);
        supervisor->upgrade.asked_by = first;
        return;
    }
    supervisor->upgrade.is_wanted = false;
    supervisor->upgrade.asked_by = asked_by;
    gw_log(GW_LOG_NOTICE, "supervisor", "upgrading to %s", supervisor->binary);
    begin(supervisor, &why);
    if (why != NULL) {
        char text[256];
        snprintf(text, sizeof(text), "cannot start %.150s: %.80s", supervisor->binary, why);
        gw_supervisor_fail_upgrade(supervisor, text);
    }
}

/* After the exec there is no way back, so it is read once more as the new binary will. NULL: all is well. */
static const char *find_fault(int fd)
{
    struct gw_supervisor copy = {0};
    const char *why = NULL;

    if (gw_handover_read(fd, GW_HANDOVER_LEFT, &copy, &why) && copy.next == NULL)
        why = "no worker";
    gw_handover_dispose(&copy);
    return why;
}

/* Nothing has changed until fexecve() succeeds, and then this code is gone. */
void gw_supervisor_become(struct gw_supervisor *supervisor)
{
    char number[16], text[160];
    const char *why = NULL;
    int fd;

    supervisor->next->state = GW_CHILD_SERVING;
    if ((fd = gw_handover_write(supervisor)) != -1 && fcntl(fd, F_SETFD, 0) == 0 &&
        gw_handover_keep_open(supervisor, true) && (why = find_fault(fd)) == NULL) {
        snprintf(number, sizeof(number), "%d", fd);
        setenv(GW_HANDOVER_VARIABLE, number, 1);
        fexecve(supervisor->upgrade.binary, supervisor->argv, environ);
    }
    snprintf(text, sizeof(text), "cannot become the new binary: %s", why != NULL ? why : strerror(errno));
    unsetenv(GW_HANDOVER_VARIABLE);
    gw_handover_keep_open(supervisor, false);
    if (fd != -1)
        close(fd);
    gw_supervisor_fail_upgrade(supervisor, text);
}

/* ---- the new binary's part ---- */

static void hand_over(struct gw_supervisor *supervisor)
{
    struct gw_child *old = supervisor->active, *new = supervisor->next;

    gw_supervisor_promote(supervisor);
    gw_log(GW_LOG_NOTICE, "supervisor", "upgraded to weir %s: worker %d serves", WEIR_VERSION, (int)new->pid);
    gw_systemd_notify("MAINPID=%d\nREADY=1\nSTATUS=worker %d serves generation %llu", (int)getpid(), (int)new->pid,
                      (unsigned long long)new->ready.generation);
    gw_supervisor_hand_flows(old, new);
    if (old != NULL) {
        gw_log(GW_LOG_NOTICE, "supervisor", "worker %d drains", (int)old->pid);
        gw_supervisor_drain(old, new->ready.drain_timeout_ms, true);
    }
    gw_supervisor_answer_upgrade(supervisor, true, WEIR_VERSION);
}

bool gw_supervisor_take_over(struct gw_supervisor *supervisor)
{
    const char *number = getenv(GW_HANDOVER_VARIABLE), *why;
    int fd = atoi(number);

    unsetenv(GW_HANDOVER_VARIABLE);
    if (!gw_handover_read(fd, GW_HANDOVER_TAKEN, supervisor, &why) || supervisor->next == NULL) {
        gw_log(GW_LOG_ERROR, "supervisor", "cannot take over from the binary before this one: %s",
               why != NULL ? why : "it left no worker");
        return false;
    }
    close(fd);
    gw_handover_keep_open(supervisor, false);
    hand_over(supervisor);
    return true;
}
