#include "gateway/admin/admin_pages.h"
#include "gateway/admin/resolver_page.h"
#include "gateway/discovery/departure.h"
#include "gateway/discovery/view.h"
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "gateway/l4/l4.h"
#include "tls/status.h"

static void put_reload(struct gw_json *json, const struct gw_process *process)
{
    gw_json_key(json, "last_reload");
    gw_json_object(json);
    gw_json_key(json, "ok");
    gw_json_bool(json, process->last_reload_ok);
    gw_page_time_ms(json, "at", process->last_reload_ms);
    gw_json_key(json, "error");
    if (process->last_reload_error != NULL)
        gw_json_string(json, process->last_reload_error);
    else
        gw_json_null(json);
    gw_json_object_end(json);
}

/* Null without one. */
static void put_supervisor(struct gw_json *json, const struct gw_process *process)
{
    const struct gw_hello *hello = process->supervised != NULL ? gw_supervised_hello(process->supervised) : NULL;

    gw_json_key(json, "supervisor");
    if (hello == NULL) {
        gw_json_null(json);
        return;
    }
    gw_json_object(json);
    gw_page_number(json, "pid", hello->supervisor_pid);
    gw_page_time_ms(json, "started_at", hello->started_ms);
    gw_page_number(json, "worker_restarts", hello->restarts);
    gw_json_object_end(json);
}

static void put_memory(struct gw_json *json)
{
    unsigned long size = 0, resident = 0;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    FILE *file = fopen("/proc/self/statm", "re");

    if (file != NULL) {
        if (fscanf(file, "%lu %lu", &size, &resident) != 2)
            size = resident = 0;
        fclose(file);
    }
    gw_json_key(json, "memory");
    gw_json_object(json);
    gw_page_number(json, "resident_bytes", resident * page);
    gw_page_number(json, "virtual_bytes", size * page);
    gw_json_object_end(json);
}

static void put_listeners(struct gw_json *json, const struct gw_snapshot *snapshot)
{
    gw_json_key(json, "listeners");
    gw_json_array(json);
    for (size_t i = 0; i != snapshot->num_listeners; ++i) {
        const struct gw_snapshot_listener *listener = &snapshot->listeners[i];
        gw_json_object(json);
        gw_json_key(json, "name");
        gw_json_text(json, listener->name);
        gw_json_key(json, "addresses");
        gw_json_array(json);
        for (size_t j = 0; j != listener->conf->address.size; ++j)
            gw_json_text(json, listener->conf->address.entries[j].text);
        gw_json_array_end(json);
        gw_page_string(json, "protocol", gw_listener_protocols[listener->conf->protocol]);
        gw_json_key(json, "tls");
        gw_json_bool(json, listener->tls != NULL);
        gw_json_key(json, "connections");
        if (listener->l4 != NULL)
            gw_json_number(json, gw_l4_num_open(listener->l4));
        else
            gw_json_null(json);
        gw_json_object_end(json);
    }
    gw_json_array_end(json);
}

struct page {
    const struct gw_process *process;
    struct gw_json *json;
};

static void put_target(void *data, const struct routing_target *target)
{
    const struct page *page = data;

    gw_json_object(page->json);
    gw_target_members(page->process, page->json, target);
    gw_json_object_end(page->json);
}

static void put_target_groups(struct gw_json *json, const struct gw_process *process,
                              const struct gw_snapshot *snapshot)
{
    struct page page = {process, json};

    gw_json_key(json, "target_groups");
    gw_json_array(json);
    for (size_t i = 0; i != snapshot->num_groups; ++i) {
        const struct routing_target_group *group = gw_view_of_control(snapshot, &snapshot->groups[i]);
        gw_json_object(json);
        gw_json_key(json, "name");
        gw_json_text(json, group->name);
        gw_page_sources(json, group);
        gw_json_key(json, "targets");
        gw_json_array(json);
        for (uint32_t j = 0; j != group->size; ++j)
            put_target(&page, &group->targets[j]);
        gw_departures_each(process, group->entry, put_target, &page);
        gw_json_array_end(json);
        gw_json_object_end(json);
    }
    gw_json_array_end(json);
}

/* What an operator should not have to look for. */
static void put_warnings(struct gw_json *json, const struct gw_snapshot *snapshot)
{
    char text[512];

    gw_json_key(json, "warnings");
    gw_json_array(json);
    for (size_t i = 0; i != snapshot->num_groups; ++i) {
        const struct routing_target_group *group = &snapshot->groups[i];
        const struct routing_tls_conf *tls = group->conf->tls;
        if (tls == NULL || !tls->insecure)
            continue;
        const struct gw_node *at = gw_setting_at(tls->at, "insecure");
        snprintf(text, sizeof(text), "target group \"%.*s\" does NOT verify its targets: tls.insecure at %s:%u",
                 (int)group->name.len, group->name.base, at->file, at->line);
        gw_json_string(json, text);
    }
    gw_json_array_end(json);
}

static void put_threads(struct gw_json *json, const struct gw_process *process)
{
    uint64_t open = 0, accepted = 0, in_flight = 0, requests = 0;

    gw_json_key(json, "threads");
    gw_json_array(json);
    for (unsigned i = 0; i != process->num_workers; ++i) {
        const struct gw_worker *worker = &process->workers[i];
        gw_json_object(json);
        gw_page_number(json, "thread", i);
        gw_page_number(json, "connections", gw_counter_read(&worker->stats.connections));
        gw_page_number(json, "requests", gw_counter_read(&worker->server.stats.requests));
        gw_page_number(json, "requests_in_flight", gw_counter_read(&worker->stats.requests_in_flight));
        gw_json_key(json, "loop_lag_ms");
        gw_json_decimal(json, (double)gw_counter_read(&worker->stats.loop_lag_us) / 1000, 3);
        gw_json_key(json, "loop_lag_max_ms");
        gw_json_decimal(json, (double)gw_counter_read(&worker->stats.loop_lag_max_us) / 1000, 3);
        gw_json_object_end(json);
        open += gw_counter_read(&worker->stats.connections);
        accepted += gw_counter_read(&worker->server.stats.accepted);
        in_flight += gw_counter_read(&worker->stats.requests_in_flight);
        requests += gw_counter_read(&worker->server.stats.requests);
    }
    gw_json_array_end(json);
    gw_json_key(json, "connections");
    gw_json_object(json);
    gw_page_number(json, "open", open);
    gw_page_number(json, "accepted", accepted);
    gw_json_object_end(json);
    gw_json_key(json, "requests");
    gw_json_object(json);
    gw_page_number(json, "total", requests);
    gw_page_number(json, "in_flight", in_flight);
    gw_json_object_end(json);
}

void gw_status_page(struct gw_process *process, struct gw_json *json)
{
    uint64_t now_ms = (uint64_t)time(NULL) * 1000;

    gw_json_object(json);
    gw_json_key(json, "version");
    gw_json_string(json, WEIR_VERSION);
    gw_page_number(json, "pid", (uint64_t)getpid());
    gw_page_number(json, "uptime_s", now_ms > process->started_ms ? (now_ms - process->started_ms) / 1000 : 0);
    put_supervisor(json, process);
    gw_json_key(json, "config_path");
    gw_json_string(json, process->config_path);
    gw_page_number(json, "generation", process->generation);
    gw_json_key(json, "ready");
    gw_json_bool(json, process->is_ready && !process->is_draining);
    gw_json_key(json, "draining");
    gw_json_bool(json, process->is_draining);
    put_reload(json, process);
    if (process->active != NULL) {
        gw_page_number(json, "routes", process->active->num_routes);
        put_listeners(json, process->active);
        gw_json_key(json, "certificates");
        tls_status_json(json, process->active->certificates, process->active->num_certificates, time(NULL));
        put_target_groups(json, process, process->active);
        put_warnings(json, process->active);
    }
    gw_resolver_status(process, json);
    put_threads(json, process);
    put_memory(json);
    gw_page_number(json, "access_log_dropped", gw_access_log_dropped(process->access_log));
    gw_json_object_end(json);
}
