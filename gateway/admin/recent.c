#include "gateway/admin/recent.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/admin/admin.h"
#include "gateway/worker.h"

struct gw_recent_batch {
    uint64_t total; /* noted; the last GW_RECENT_MAX are there */
    struct gw_recent_error entries[GW_RECENT_MAX];
};

bool gw_recent_is_error(enum gw_reason reason)
{
    switch (reason) {
    case GW_REASON_NONE:
    case GW_REASON_FIXED_RESPONSE:
    case GW_REASON_MAX_FORWARDS:
    case GW_REASON_REDIRECT:
    case GW_REASON_FILE_SERVED:
    case GW_REASON_ECHO:
    case GW_REASON_TUNNEL_CLOSED:
        return false;
    default:
        return true;
    }
}

bool gw_recent_is_ours(const struct gw_request *request)
{
    switch (request->reason) {
    case GW_REASON_UPSTREAM_TRUNCATED:
    case GW_REASON_UPSTREAM_BAD_CHUNK:
    case GW_REASON_UPSTREAM_TRAILERS_TOO_LARGE:
    case GW_REASON_UPSTREAM_IDLE_TIMEOUT:
    case GW_REASON_UPSTREAM_RESET:
    case GW_REASON_TOTAL_TIMEOUT:
    case GW_REASON_TARGET_DEREGISTERED:
    case GW_REASON_SHUTTING_DOWN:
        return true;
    default:
        return request->status >= 500;
    }
}

/* ---- a worker's side ---- */

static void copy(char *dst, size_t size, h2o_iovec_t text)
{
    size_t len = text.len < size - 1 ? text.len : size - 1;

    if (text.base == NULL)
        len = 0;
    memcpy(dst, len != 0 ? text.base : "", len);
    dst[len] = '\0';
    for (size_t i = 0; i != len; ++i)
        if (dst[i] == '\0')
            dst[i] = '?';
}
#define COPY(field, text) copy(entry->field, sizeof(entry->field), (text))

static void describe(struct gw_recent_error *entry, const struct gw_request *request)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    entry->wall_ms = (uint64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    entry->duration_us = request->finished_us - request->stream->started_us;
    entry->reason = request->reason;
    entry->status = request->status;
    entry->client = request->facts.client_ip;
    COPY(method, request->facts.method);
    COPY(host, request->facts.host.base != NULL ? request->facts.host : request->facts.authority);
    COPY(path, request->facts.raw_path);
    COPY(route, request->route != NULL ? request->route->conf->name : h2o_iovec_init(NULL, 0));
    COPY(group, request->group != NULL ? request->group->name : h2o_iovec_init(NULL, 0));
    COPY(target, request->group != NULL && request->target < request->group->size
                     ? request->group->targets[request->target].name
                     : h2o_iovec_init(NULL, 0));
    COPY(request_id, request->request_id_text);
    COPY(detail, h2o_iovec_init(request->error, request->error != NULL ? strlen(request->error) : 0));
}

void gw_recent_note(struct gw_worker *worker, const struct gw_request *request)
{
    if (worker->errors == NULL) {
        worker->errors = h2o_mem_alloc(sizeof(*worker->errors));
        worker->errors->total = 0;
    }
    describe(&worker->errors->entries[worker->errors->total++ % GW_RECENT_MAX], request);
}

static void on_batch(struct gw_message *message)
{
    struct gw_recent_batch *batch = message->data;
    struct gw_recent *recent = gw_admin_recent(message->process->admin);
    size_t size = batch->total < GW_RECENT_MAX ? batch->total : GW_RECENT_MAX;

    recent->total += batch->total - size; /* those that others have pushed out already */
    for (uint64_t i = batch->total - size; i != batch->total; ++i)
        gw_recent_add(recent, &batch->entries[i % GW_RECENT_MAX]);
    free(batch);
}

void gw_recent_flush(struct gw_worker *worker)
{
    if (worker->errors == NULL)
        return;
    gw_process_tell(worker->process, on_batch, worker, worker->errors);
    worker->errors = NULL;
}

/* ---- the control thread's side ---- */

void gw_recent_dispose(struct gw_recent *recent)
{
    free(recent->entries);
    *recent = (struct gw_recent){NULL};
}

/* Entries lie at their number modulo GW_RECENT_MAX, counted among those that were kept. */
size_t gw_recent_size(const struct gw_recent *recent)
{
    return recent->kept < GW_RECENT_MAX ? recent->kept : GW_RECENT_MAX;
}

const struct gw_recent_error *gw_recent_at(const struct gw_recent *recent, size_t i)
{
    return &recent->entries[(recent->kept - 1 - i) % GW_RECENT_MAX];
}

void gw_recent_add(struct gw_recent *recent, const struct gw_recent_error *entry)
{
    if (recent->entries == NULL)
        recent->entries = h2o_mem_alloc(sizeof(*recent->entries) * GW_RECENT_MAX);
    recent->entries[recent->kept++ % GW_RECENT_MAX] = *entry;
    ++recent->total;
}
