/* The process and its control thread: the life from start to exit. Loading
 * is in load.c, sockets are in listening.c. */
#include "gateway/process.h"
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "gateway/admin/admin.h"
#include "gateway/base/alloc.h"
#include "gateway/base/log.h"
#include "gateway/discovery/discovery.h"
#include "gateway/discovery/resolver.h"
#include "gateway/supervisor/first_load.h"
#include "gateway/l4/udp.h"
#include "gateway/load.h"
#include "gateway/exchange/outliers.h"
#include "gateway/supervisor/privileges.h"
#include "gateway/supervisor/supervised.h"
#include "gateway/exchange/target_queue.h"
#include "gateway/worker.h"
#include "tls/status.h"

enum { LAST_WORDS_MS = 1000, LAST_TURN_MS = 100, TICK_MS = 10000, KEPT_HEAP_TOP = 1024 * 1024 };

/* ---- shutting down ---- */

void gw_process_stop(struct gw_process *process)
{
    process->is_draining = true;
    for (unsigned i = 0; i != process->num_workers; ++i)
        gw_worker_tell(&process->workers[i], gw_worker_stop, NULL);
}

static void on_drain_timeout(struct gw_timer *timer)
{
    struct gw_process *process = H2O_STRUCT_FROM_MEMBER(struct gw_process, drain_timer, timer);
    gw_log(GW_LOG_NOTICE, "process", "shutdown_timeout passed: closing what is left");
    gw_process_stop(process);
}

static void drain(struct gw_process *process, uint64_t timeout_ms, bool has_successor, enum gw_udp_drain udp)
{
    uint64_t due_ms = gw_now_ms() + timeout_ms;

    if (!process->is_draining || (gw_timer_is_armed(&process->drain_timer) && due_ms < process->drain_timer.due_ms))
        gw_timer_arm(process->control.wheel, &process->drain_timer, due_ms);
    if (has_successor)
        gw_admin_close_doors(process->admin);
    if (process->is_draining)
        return;
    gw_log(GW_LOG_NOTICE, "process", has_successor ? "draining: another worker serves" : "draining");
    process->is_draining = true;
    process->num_accepting = process->num_workers;
    for (unsigned i = 0; i != process->num_workers; ++i)
        gw_worker_tell_number(&process->workers[i], gw_worker_drain, udp);
}

void gw_process_drain(struct gw_process *process, uint64_t timeout_ms, bool has_successor)
{
    drain(process, timeout_ms, has_successor, has_successor ? GW_UDP_LEAVE : GW_UDP_FINISH);
}

void gw_process_worker_stopped(struct gw_process *process, struct gw_worker *worker)
{
    worker->has_ended = true;
    if (--process->num_running != 0)
        return;
    process->is_over = true;
    process->over_at_ms = gw_now_ms();
    process->over_at_turn = process->control.turns;
}

/* ---- upgrades ---- */

bool gw_process_upgrade(struct gw_process *process)
{
    if (process->supervised == NULL)
        return false;
    process->upgrade.is_running = true;
    process->upgrade.is_decided = false;
    gw_supervised_report(process->supervised, GW_REPORT_UPGRADE);
    return true;
}

/* Whoever hears that it is done may count on the new one: no connection comes here any more. */
static void end_upgrade(struct gw_process *process)
{
    if (process->upgrade.is_decided && (!process->upgrade.is_ok || process->num_accepting == 0))
        process->upgrade.is_running = false;
}

void gw_process_upgraded(struct gw_process *process, bool is_ok, const char *why)
{
    process->upgrade.is_decided = true;
    process->upgrade.is_ok = is_ok;
    snprintf(process->upgrade.text, sizeof(process->upgrade.text), "%s", why);
    end_upgrade(process);
}

void gw_process_worker_closed(struct gw_process *process)
{
    --process->num_accepting;
    end_upgrade(process);
}

/* ---- signals ---- */

/* A supervised worker takes orders from its supervisor; the signals it gets are for the whole process group or
 * somebody's own idea. One such end is told, so that another worker takes its place. */
static void on_end_signal(struct gw_process *process)
{
    uint64_t timeout_ms = process->active->config->shutdown_timeout_ms;

    if (!process->is_draining) {
        gw_supervised_report(process->supervised, GW_REPORT_DRAINING);
        drain(process, timeout_ms, false, process->supervised != NULL ? GW_UDP_LEAVE : GW_UDP_FINISH);
    } else if (process->supervised == NULL) {
        gw_process_stop(process); /* asked twice: at once */
    }
}

static void on_upgrade_signal(struct gw_process *process)
{
    if (process->supervised == NULL)
        gw_log(GW_LOG_WARNING, "process", "SIGUSR2: no upgrade without a supervisor (--no-supervise)");
    else
        gw_log(GW_LOG_WARNING, "process", "SIGUSR2: no upgrade: it is for the supervisor, process %llu",
               (unsigned long long)gw_supervised_hello(process->supervised)->supervisor_pid);
}

static void on_signal(h2o_socket_t *sock, const char *err)
{
    struct gw_process *process = sock->data;
    struct signalfd_siginfo info;

    while (read(h2o_socket_get_fd(sock), &info, sizeof(info)) == sizeof(info)) {
        switch (info.ssi_signo) {
        case SIGTERM:
        case SIGINT:
        case SIGQUIT:
            on_end_signal(process);
            break;
        case SIGHUP:
            gw_process_reload(process);
            break;
        case SIGUSR1:
            gw_access_log_reopen(process->access_log);
            break;
        case SIGUSR2:
            on_upgrade_signal(process);
            break;
        }
    }
}

static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGQUIT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR1);
    sigaddset(set, SIGUSR2); /* the supervisor's */
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a log that has reached a limit of file sizes is an error of write() */
}

/* The buffer of a long response comes from the top of a thread's heap and goes back there: with the default of 128 KiB
 * it was given back to the kernel and faulted in again each time, a third of the CPU time of a download. */
static void keep_heap_tops(void)
{
    mallopt(M_TRIM_THRESHOLD, KEPT_HEAP_TOP);
    mallopt(M_MMAP_THRESHOLD, KEPT_HEAP_TOP); /* which no longer adjusts itself when the other is set */
}

static void watch_signals(struct gw_process *process, const sigset_t *set)
{
    int fd = signalfd(-1, set, SFD_NONBLOCK | SFD_CLOEXEC);
    process->signals = h2o_evloop_socket_create(process->control.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    process->signals->data = process;
    h2o_socket_read_start(process->signals, on_signal);
}

/* ---- start ---- */

static void inherit(struct gw_process *process)
{
    if (process->supervised == NULL)
        return;
    process->generation = gw_supervised_hello(process->supervised)->generation;
    process->awaits_flows = gw_supervised_hello(process->supervised)->has_predecessor != 0;
    tls_tickets_import(process->tickets, gw_supervised_tickets(process->supervised));
}

static void share_tickets(struct gw_process *process)
{
    char text[TLS_TICKETS_TEXT];
    tls_tickets_export(process->tickets, text);
    gw_supervised_report_tickets(process->supervised, text);
    explicit_bzero(text, sizeof(text));
}

static void on_tick(struct gw_timer *timer)
{
    struct gw_process *process = H2O_STRUCT_FROM_MEMBER(struct gw_process, tick, timer);
    time_t now = time(NULL);

    if (tls_tickets_tick(process->tickets, (uint64_t)now)) {
        gw_log(GW_LOG_INFO, "tls", "session ticket key rotated");
        share_tickets(process);
    }
    if (process->active != NULL)
        tls_status_log(process->active->certificates, process->active->num_certificates, process->ticked_at, now);
    process->ticked_at = now;
    gw_l4_stats_prune(process);
    gw_timer_arm(process->control.wheel, timer, gw_now_ms() + TICK_MS);
}

static void on_health_change(void *data, h2o_iovec_t group, const struct gw_endpoint *endpoint,
                             const struct routing_health *health)
{
    enum routing_health_state state = routing_health_state(health);
    gw_log(state == ROUTING_HEALTH_UNHEALTHY ? GW_LOG_WARNING : GW_LOG_NOTICE, "health",
           "target %.*s of %.*s is %s (%s)", (int)endpoint->name.len, endpoint->name.base, (int)group.len, group.base,
           routing_health_name(state), routing_health_reason(health));
    gw_outliers_on_health(data, group, health);
}

/* One static host and path: libh2o sizes its per-thread state by them. No filter of libh2o: each response gets ours. */
static void init_globalconf(h2o_globalconf_t *globalconf)
{
    h2o_config_init(globalconf);
    h2o_hostconf_t *host = h2o_config_register_host(globalconf, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    path->filters.size = 0;
}

static void init_process(struct gw_process *process, h2o_globalconf_t *globalconf, unsigned num_workers)
{
    pthread_mutex_init(&process->lock, NULL);
    process->started_ms = (uint64_t)time(NULL) * 1000;
    process->ticked_at = time(NULL);
    process->num_workers = num_workers;
    process->max_udp_flows = gw_udp_max_flows();
    process->tickets = tls_tickets_create(0 /* rotated by default */);
    process->gate = gw_gate_create();
    process->group_loads = gw_group_loads_create();
    process->access_log = gw_access_log_create();
    process->tracing = gw_tracing_create();
    h2o_context_init(&process->control_ctx, h2o_evloop_create(), globalconf);
    gw_thread_init(&process->control, num_workers, &process->control_ctx);
    h2o_multithread_register_receiver(process->control_ctx.queue, &process->control_receiver, gw_message_receive);
    gw_timer_init(&process->tick, on_tick);
    gw_timer_arm(process->control.wheel, &process->tick, gw_now_ms() + TICK_MS);
    gw_timer_init(&process->drain_timer, on_drain_timeout);
    process->prober = gw_prober_create(&process->control, on_health_change, process);
    process->admin = gw_admin_create(process);
    process->resolver = gw_resolver_create(&process->control);
    process->discovery = gw_discovery_create(process);
    process->workers = gw_alloc_lines(sizeof(*process->workers) * num_workers);
}

struct start {
    struct gw_process *process;
    h2o_globalconf_t *globalconf;
    unsigned index;
    sem_t *initialized;
};

/* libh2o's sockets take their buffers from a list of the thread that made them, without a lock. The message queue of a
 * worker has such a socket, so each worker's context is made by its own thread. */
static void *worker_thread(void *data)
{
    struct start start = *(struct start *)data;
    struct gw_worker *worker = &start.process->workers[start.index];
    char name[16]; /* for top -H, debuggers and core files */

    snprintf(name, sizeof(name), "weir-loop-%u", start.index);
    pthread_setname_np(pthread_self(), name);
    gw_worker_init(worker, start.process, start.index, start.globalconf);
    sem_post(start.initialized);
    return gw_worker_main(worker);
}

/* One after the other, each able to take messages when this returns. */
static bool start_workers(struct gw_process *process, h2o_globalconf_t *globalconf)
{
    sem_t initialized;
    sem_init(&initialized, 0, 0);
    for (unsigned i = 0; i != process->num_workers; ++i) {
        struct start start = {process, globalconf, i, &initialized};
        int ret = pthread_create(&process->workers[i].tid, NULL, worker_thread, &start);
        if (ret != 0) {
            gw_log(GW_LOG_ERROR, "process", "cannot start thread %u: %s", i, strerror(ret));
            return false;
        }
        while (sem_wait(&initialized) != 0)
            ;
        ++process->num_running;
    }
    sem_destroy(&initialized);
    return true;
}

static void join_workers(struct gw_process *process)
{
    for (unsigned i = 0; i != process->num_workers; ++i)
        pthread_join(process->workers[i].tid, NULL);
}

/* The worker threads have ended; whoever asked the admin API for an upgrade still wants the answer. The turns are
 * counted, too: a process that stood still for so long has not spoken. */
static bool has_last_words(const struct gw_process *process)
{
    return !gw_admin_is_idle(process->admin) &&
           (gw_now_ms() < process->over_at_ms + LAST_WORDS_MS ||
            process->control.turns < process->over_at_turn + LAST_WORDS_MS / LAST_TURN_MS);
}

static void serve(struct gw_process *process)
{
    while (!process->is_over || has_last_words(process))
        if (gw_thread_turn(&process->control, process->is_over ? LAST_TURN_MS : 1000) != 0 && errno != EINTR) {
            gw_log(GW_LOG_ERROR, "process", "control loop failed: %s", strerror(errno));
            abort();
        }
    join_workers(process);
    gw_load_join(process);
    gw_discovery_destroy(process->discovery);
    process->discovery = NULL;
    gw_resolver_destroy(process->resolver);
    gw_prober_destroy(process->prober);
    gw_admin_destroy(process->admin);
    gw_tracing_destroy(process->tracing);
    gw_access_log_destroy(process->access_log);
}

int gw_process_run(const char *config_path, struct gw_supervised *supervised)
{
    static h2o_globalconf_t globalconf;
    static struct gw_process process; /* of this process there is one */
    struct gw_first_load first;
    struct gw_config *config;
    sigset_t signals;

    process.config_path = config_path;
    process.supervised = supervised;
    block_signals(&signals);
    keep_heap_tops();
    gw_privileges_raise_file_limit();
    if ((config = gw_first_load_begin(&first, config_path, supervised)) == NULL ||
        (supervised != NULL && !gw_supervised_die_with_it(supervised)))
        return 1;
    init_globalconf(&globalconf);
    init_process(&process, &globalconf, config->worker_threads);
    inherit(&process);
    watch_signals(&process, &signals);
    if (!start_workers(&process, &globalconf))
        return 1;
    if (!gw_first_load_finish(&first, &process, config)) {
        for (unsigned i = 0; i != process.num_workers; ++i)
            gw_worker_tell(&process.workers[i], gw_worker_stop, NULL);
        join_workers(&process);
        return 1;
    }
    if (supervised != NULL)
        gw_supervised_watch(supervised, &process);
    gw_heartbeat_start(&process);
    tls_tickets_tick(process.tickets, (uint64_t)time(NULL)); /* starts their clock */
    share_tickets(&process);
    serve(&process);
    gw_log(GW_LOG_NOTICE, "process", "stopped");
    return 0;
}
