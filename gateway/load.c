#include "gateway/exchange/outliers.h"
#include "gateway/load.h"
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "gateway/admin/admin.h"
#include "gateway/base/kept_files.h"
#include "gateway/base/log.h"
#include "gateway/discovery/discovery.h"
#include "gateway/discovery/resolver.h"
#include "gateway/discovery/view.h"
#include "gateway/lambda/lambda_check.h"
#include "gateway/listening.h"
#include "gateway/supervisor/privileges.h"
#include "gateway/admin/reloads.h"
#include "gateway/supervisor/supervised.h"
#include "gateway/worker.h"

enum { LOADER_NICE = 5 }; /* where there are fewer cores than threads, requests come first */

/* One load on its way: made by the loader thread, finished by the control thread. */
struct load {
    struct gw_process *process;
    struct gw_snapshot *snapshot; /* NULL: failed */
    struct gw_listening_set set;  /* what the snapshot listens on */
    struct gw_errors errors;
    struct gw_dns *dns;         /* what is known of names, and what this load finds out; NULL: taken */
    struct gw_snapshot *before; /* held; what it changes is counted against it. NULL: the first load */
    struct gw_changes changes;
    uint64_t started_ms; /* CLOCK_MONOTONIC */
};

/* ---- building ---- */

struct gw_config *gw_load_config(const char *path, struct gw_errors *errors)
{
    if (strcmp(path, "-") == 0)
        lseek(STDIN_FILENO, 0, SEEK_SET); /* a pipe says no: then it is read once */
    return gw_config_load(path, errors);
}

static bool build(struct load *load, struct gw_config *config)
{
    bool has_names = gw_resolver_look_up(load->dns, config, &load->errors);

    load->snapshot = gw_snapshot_create(load->process, config, &load->errors);
    if (load->snapshot == NULL)
        return false;
    if (!has_names || !gw_listening_open(load->process, load->snapshot, &load->set, &load->errors)) {
        gw_snapshot_release(load->snapshot);
        load->snapshot = NULL;
        return false;
    }
    return true;
}

/* ---- publishing (control thread) ---- */

static struct gw_check_kind *check_kind(const struct routing_target_group *group, const struct routing_target *target)
{
    return group->conf->health_check.protocol == ROUTING_HEALTH_CHECK_LAMBDA ? gw_lambda_check_create(group, target)
                                                                             : NULL;
}

void gw_load_set_checks(struct gw_process *process, const struct gw_snapshot *snapshot)
{
    struct gw_prober_target *targets = NULL;
    size_t size = 0;

    for (size_t i = 0; i != snapshot->num_groups; ++i) {
        const struct routing_target_group *group = gw_view_of_control(snapshot, &snapshot->groups[i]);
        if (!group->conf->health_check.is_enabled)
            continue;
        targets = h2o_mem_realloc(targets, sizeof(*targets) * (size + group->size + 1));
        for (uint32_t j = 0; j != group->size; ++j)
            targets[size++] = (struct gw_prober_target){.endpoint = group->targets[j].endpoint,
                                                        .health = group->targets[j].health,
                                                        .group = group->name,
                                                        .conf = group->conf->health_check,
                                                        .transport = group->targets[j].transport,
                                                        .kind = check_kind(group, &group->targets[j]),
                                                        .send_proxy_protocol = group->conf->send_proxy_protocol};
    }
    gw_prober_set_targets(process->prober, targets, size);
    free(targets);
}

/* The supervisor has the files of this generation then, and this process need not. */
static void report_ready(struct gw_process *process, const struct gw_snapshot *snapshot)
{
    const struct gw_config *config = snapshot->config;
    struct gw_ready ready = {.generation = snapshot->generation,
                             .shutdown_timeout_ms = config->shutdown_timeout_ms,
                             .upgrade_timeout_ms = config->upgrade.ready_timeout_ms,
                             .drain_timeout_ms = config->upgrade.drain_timeout_ms,
                             .watchdog_timeout_ms = config->watchdog_timeout_ms};
    gw_supervised_report_ready(process->supervised, &ready, process->kept);
    gw_kept_files_destroy(process->kept);
    process->kept = NULL;
}

static void end_load(struct gw_process *process)
{
    process->reload_running = false;
    gw_listening_sweep(process);
}

static void on_applied(struct gw_message *message)
{
    struct gw_process *process = message->process;
    struct gw_publication *publication = message->data;

    if (--publication->num_pending != 0)
        return;
    process->is_ready = true;
    end_load(process);
    process->generation = publication->snapshot->generation;
    gw_log(GW_LOG_NOTICE, "process", "generation %lu is serving: %zu listeners, %zu routes, %zu target groups",
           (unsigned long)publication->snapshot->generation, publication->snapshot->num_listeners,
           publication->snapshot->num_routes, publication->snapshot->num_groups);
    report_ready(process, publication->snapshot);
    gw_snapshot_release(publication->snapshot);
    free(publication->listening);
    free(publication);
    if (process->reload_wanted) {
        process->reload_wanted = false;
        gw_process_reload(process);
    }
}

static void publish(struct load *load)
{
    struct gw_process *process = load->process;
    struct gw_publication *publication = h2o_mem_alloc(sizeof(*publication));
    struct gw_snapshot *old = process->active;

    load->snapshot->generation = process->generation + 1; /* it counts when all workers serve it: on_applied */
    *publication =
        (struct gw_publication){load->snapshot, load->set.entries, load->set.size, process->num_workers, on_applied};
    gw_resolver_end_load(process->resolver, load->snapshot->config, load->dns);
    load->dns = NULL;
    gw_discovery_prepare(process, load->snapshot); /* what the one before had is seen by the difference */
    process->active = load->snapshot;
    gw_listening_commit(process, &load->set);
    gw_snapshot_hold(load->snapshot); /* the publication's */
    for (unsigned i = 0; i != process->num_workers; ++i) {
        gw_snapshot_hold(load->snapshot);
        gw_worker_tell(&process->workers[i], gw_worker_publish, publication);
    }
    gw_discovery_announce(process);
    gw_load_set_checks(process, load->snapshot);
    gw_outliers_configure(process, load->snapshot);
    gw_snapshot_release(old);
}

/* Traffic goes on without a log and an admin API when the worker before this one died: that is when they are not missed
 * most. */
static bool may_do_without(const struct gw_process *process)
{
    return process->active == NULL && process->supervised != NULL &&
           gw_supervised_hello(process->supervised)->is_replacement;
}

/* A failed load changes nothing: when the log cannot be opened the admin listener moves back. */
static bool configure_services(struct gw_process *process, const struct gw_config *config, struct gw_errors *errors)
{
    if (!gw_admin_configure(process->admin, config, errors) && !may_do_without(process))
        return false;
    if (gw_access_log_configure(process->access_log, &config->access_log, errors) &&
        gw_tracing_configure(process->tracing, config->tracing, errors))
        return true;
    if (process->active != NULL)
        gw_admin_configure(process->admin, process->active->config, errors);
    return may_do_without(process);
}

/* What was built is not going to serve. */
static void abandon(struct load *load)
{
    if (load->snapshot == NULL)
        return;
    gw_listening_abandon(load->process, &load->set);
    gw_snapshot_release(load->snapshot);
    load->snapshot = NULL;
}

static void note_in_history(struct gw_process *process, const struct load *load, bool ok)
{
    const struct gw_errors *errors = &load->errors;
    struct gw_reload_note note = {
        .wall_ms = process->last_reload_ms,
        .duration_ms = gw_now_ms() - load->started_ms,
        .generation = ok ? process->generation + 1 : 0,
        .has_changes = ok && load->before != NULL,
        .changes = load->changes,
        .num_errors = errors->num_errors,
        .num_warnings = errors->size + errors->num_dropped - errors->num_errors,
        .errors = ok ? NULL : gw_reloads_errors_text(errors),
    };
    char text[200];

    if (note.has_changes) {
        gw_changes_text(&note.changes, text, sizeof(text));
        gw_log(GW_LOG_NOTICE, "process", "generation %lu: %s", (unsigned long)note.generation, text);
    }
    gw_reloads_add(gw_admin_reloads(process->admin), &note);
}

static void note_result(struct gw_process *process, struct load *load, bool ok)
{
    char text[1024] = "";

    process->last_reload_ok = ok;
    process->last_reload_ms = (uint64_t)time(NULL) * 1000;
    free(process->last_reload_error);
    process->last_reload_error = NULL;
    if (!ok)
        gw_errors_first(&load->errors, text, sizeof(text));
    if (*text != '\0')
        process->last_reload_error = strdup(text);
    note_in_history(process, load, ok);
}

void gw_load_note_failure(struct gw_process *process, const struct gw_errors *errors)
{
    struct load load = {.process = process, .errors = *errors, .started_ms = gw_now_ms()};
    note_result(process, &load, false);
}

bool gw_load_first(struct gw_process *process, struct gw_config *config, struct gw_errors *errors)
{
    struct load load = {.process = process,
                        .dns = gw_resolver_begin_load(process->resolver),
                        .errors = *errors,
                        .started_ms = gw_now_ms()};
    bool ok = build(&load, config) && configure_services(process, load.snapshot->config, &load.errors);

    *errors = load.errors;
    if (!ok) {
        abandon(&load);
        gw_dns_destroy(load.dns);
        return false;
    }
    process->reload_running = true;
    note_result(process, &load, true);
    publish(&load);
    return true;
}

/* ---- reloading ---- */

static void dispose(struct load *load)
{
    gw_dns_destroy(load->dns);
    gw_kept_files_destroy(load->errors.kept);
    gw_errors_dispose(&load->errors);
    free(load);
}

static void on_loaded(struct gw_message *message)
{
    struct load *load = message->data;
    struct gw_process *process = load->process;
    bool ok = load->snapshot != NULL && !process->is_draining;

    if (ok && !configure_services(process, load->snapshot->config, &load->errors))
        ok = false;
    gw_errors_log(&load->errors);
    note_result(process, load, ok);
    gw_snapshot_release(load->before);
    if (ok) {
        if (load->snapshot->config->worker_threads != process->num_workers)
            gw_log(GW_LOG_WARNING, "process", "worker_threads: a change needs a restart");
        if (gw_privileges_differ(process->active->config, load->snapshot->config))
            gw_log(GW_LOG_WARNING, "process", "user, group: a change needs a restart");
        process->kept = load->errors.kept;
        load->errors.kept = NULL;
        publish(load);
    } else {
        gw_log(GW_LOG_ERROR, "process", "reload failed: generation %lu stays", (unsigned long)process->generation);
        gw_supervised_report_failed(process->supervised, process->last_reload_error);
        abandon(load);
        end_load(process);
        if (process->reload_wanted) {
            process->reload_wanted = false;
            gw_process_reload(process);
        }
    }
    dispose(load);
}

static void *load_in_background(void *data)
{
    struct load *load = data;
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), LOADER_NICE); /* of this thread alone */
    struct gw_config *config = gw_load_config(load->process->config_path, &load->errors);

    if (config != NULL) {
        gw_privileges_prepare_state_dir(config, &load->errors);
        build(load, config);
    }
    if (load->snapshot != NULL && load->before != NULL) {
        gw_changes_count(load->before->config, load->snapshot->config, &load->changes);
        gw_changes_count_renewed(load->before, load->snapshot, &load->changes);
    }
    malloc_trim(0);
    gw_process_tell(load->process, on_loaded, NULL, load);
    return NULL;
}

void gw_load_join(struct gw_process *process)
{
    struct timespec until;

    if (!process->has_loader)
        return;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 2;
    pthread_timedjoin_np(process->loader, NULL, &until);
    process->has_loader = false;
}

void gw_process_reload(struct gw_process *process)
{

    if (process->is_draining)
        return;
    if (process->reload_running) {
        process->reload_wanted = true;
        return;
    }
    struct load *load = h2o_mem_alloc(sizeof(*load));
    *load = (struct load){.process = process,
                          .dns = gw_resolver_begin_load(process->resolver),
                          .before = process->active,
                          .started_ms = gw_now_ms()};
    if (load->before != NULL)
        gw_snapshot_hold(load->before);
    gw_errors_init(&load->errors);
    if (process->supervised != NULL)
        load->errors.kept = gw_kept_files_create();
    process->reload_running = true;
    gw_supervised_report(process->supervised, GW_REPORT_LOADING);
    gw_load_join(process);
    process->has_loader = pthread_create(&process->loader, NULL, load_in_background, load) == 0;
    if (!process->has_loader) {
        gw_log(GW_LOG_ERROR, "process", "reload failed: cannot start a thread: %s", strerror(errno));
        end_load(process);
        gw_supervised_report_failed(process->supervised, "cannot start a thread");
        gw_snapshot_release(load->before);
        dispose(load);
    }
}
