#include "gateway/exchange/mirror.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/base/hash.h"
#include "gateway/discovery/view.h"
#include "gateway/exchange/choose.h"
#include "gateway/process.h"
#include "gateway/worker.h"

struct gw_mirror {
    h2o_linklist_t link; /* in worker->mirrors */
    struct gw_worker *worker;
    struct gw_held_snapshot *held;
    const struct routing_mirror_conf *conf;
    const struct routing_target_group *group;
    h2o_mem_pool_t pool; /* of the copied head */
    struct gw_client_request out;
    char *body;    /* owned */
    bool is_again; /* the second try, after a connection that had died */
    size_t size, room;
    struct gw_client *client;
    struct gw_target_slot *slot;      /* of the target that is asked */
    struct routing_target_load *load; /* NULL: the group does not count */
    uint32_t target;                  /* its index in the group */
    struct routing_pick pick;
};

enum outcome { ANSWERED, FAILED, DROPPED };

static void end(struct gw_mirror *mirror, enum outcome outcome)
{
    struct gw_worker *worker = mirror->worker;

    gw_count(outcome == ANSWERED ? &worker->stats.mirror_answered
             : outcome == FAILED ? &worker->stats.mirror_failed
                                 : &worker->stats.mirror_dropped,
             1);
    if (mirror->client != NULL) {
        gw_client_release(mirror->client);
        gw_count(&mirror->slot->in_flight, (uint64_t)-1);
        gw_choose_leave(worker, mirror->group, mirror->load);
    }
    gw_view_release(mirror->group);
    h2o_linklist_unlink(&mirror->link);
    --worker->num_mirrors;
    gw_held_snapshot_release(worker, mirror->held);
    free(mirror->body);
    h2o_mem_clear_pool(&mirror->pool);
    free(mirror);
}

/* ---- the response, which nobody waits for ---- */

static void start(struct gw_mirror *mirror);

static void on_head(void *data, const struct gw_response_head *head, bool body_follows)
{
    struct gw_mirror *mirror = data;

    gw_count(&mirror->slot->by_class[head->status >= 100 && head->status < 600 ? head->status / 100 : 0], 1);
    if (!body_follows || head->status < 200)
        end(mirror, ANSWERED);
}

static void on_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct gw_mirror *mirror = data;

    if (is_last)
        end(mirror, ANSWERED);
    else if (bytes.len != 0)
        gw_client_consumed(mirror->client, bytes.len);
}

static void on_error(void *data, enum gw_client_error error, bool retry_is_safe)
{
    struct gw_mirror *mirror = data;

    /* a connection of the pool that had died: once more, on a new one */
    if (retry_is_safe && gw_client_failure(mirror->client)->was_reused && !mirror->is_again) {
        gw_client_release(mirror->client);
        mirror->is_again = true;
        start(mirror);
        return;
    }
    gw_count(&mirror->slot->failures, 1);
    end(mirror, FAILED);
}

static const struct gw_client_callbacks callbacks = {.on_head = on_head, .on_body = on_body, .on_error = on_error};

/* ---- the copy ---- */

static h2o_iovec_t with_suffix(h2o_mem_pool_t *pool, h2o_iovec_t host, h2o_iovec_t suffix)
{
    size_t end = host.len;

    while (end != 0 && host.base[end - 1] >= '0' && host.base[end - 1] <= '9')
        --end;
    if (end == 0 || host.base[end - 1] != ':')
        end = host.len;
    else
        --end;
    if (suffix.len == 0 || end == 0 || host.base[end - 1] == ']') /* an address has no names below it */
        return h2o_strdup(pool, host.base, host.len);
    return h2o_concat(pool, h2o_iovec_init(host.base, end), suffix, h2o_iovec_init(host.base + end, host.len - end));
}

static void copy_field(h2o_mem_pool_t *pool, h2o_header_t *dst, const h2o_header_t *src)
{
    *dst = (h2o_header_t){src->name, NULL, h2o_strdup(pool, src->value.base, src->value.len)};
    if (!h2o_iovec_is_token(src->name)) {
        dst->name = h2o_mem_alloc_pool(pool, sizeof(*dst->name));
        *dst->name = h2o_strdup(pool, src->name->base, src->name->len);
    }
}

static void copy_head(struct gw_mirror *mirror, const struct gw_client_request *out)
{
    static h2o_iovec_t marker = {H2O_STRLIT("x-weir-shadow")};
    h2o_mem_pool_t *pool = &mirror->pool;
    h2o_header_t *fields = h2o_mem_alloc_pool(pool, sizeof(*fields) * (out->num_fields + 1));
    size_t n = 0;

    for (size_t i = 0; i != out->num_fields; ++i) {
        const h2o_header_t *field = &out->fields[i];
        if (!h2o_lcstris(field->name->base, field->name->len, marker.base, marker.len))
            copy_field(pool, &fields[n++], field);
    }
    fields[n++] = (h2o_header_t){&marker, NULL, h2o_iovec_init(H2O_STRLIT("true"))};
    mirror->out = (struct gw_client_request){
        .method = h2o_strdup(pool, out->method.base, out->method.len),
        .target = h2o_strdup(pool, out->target.base, out->target.len),
        .host = with_suffix(pool, out->host, mirror->conf->host_suffix),
        .fields = fields,
        .num_fields = n,
        .expects_head_only = out->expects_head_only,
    };
}

static void start(struct gw_mirror *mirror)
{
    const struct routing_target *target = &mirror->group->targets[mirror->target];
    struct gw_client_timeouts timeouts = gw_choose_timeouts(mirror->group, NULL);
    struct gw_pool_limits limits = gw_choose_pool_limits(mirror->group);

    mirror->client = gw_client_start(mirror->worker->pool, target->endpoint, &limits, &timeouts, &mirror->out,
                                     !mirror->is_again, &callbacks, mirror);
}

/* A target, and a place at it where the group counts. A busy one is left alone: the requests that count come first. */
static bool choose(struct gw_mirror *mirror)
{
    struct gw_worker *worker = mirror->worker;
    const struct gw_snapshot *snapshot = mirror->held->snapshot;
    const struct routing_target_group *group = gw_view_now(snapshot, worker->thread.index, mirror->group);

    mirror->group = group;
    gw_view_hold(group);
    mirror->pick.now_ms = gw_thread_now(&worker->thread);
    mirror->target = routing_balancer_pick(
        snapshot->balancers[worker->thread.index * snapshot->num_groups + group->index], &mirror->pick, NULL);
    if (mirror->target >= ROUTING_BUSY_TARGETS)
        return false;
    if (!group->counts_load)
        return true;
    mirror->load = group->targets[mirror->target].load;
    return routing_target_enter(mirror->load, group->max_requests);
}

/* The body is whole: off it goes, and nobody waits for it. */
static void send_copy(struct gw_mirror *mirror)
{
    if (!choose(mirror)) {
        end(mirror, FAILED);
        return;
    }
    const struct routing_target *target = &mirror->group->targets[mirror->target];
    mirror->slot = &gw_endpoint_entry_of(target)->slots[mirror->worker->thread.index];
    gw_count(&mirror->slot->attempts, 1);
    gw_count(&mirror->slot->in_flight, 1);
    mirror->out.transport = target->transport;
    mirror->out.body = h2o_iovec_init(mirror->body, mirror->size);
    mirror->out.body_is_whole = mirror->out.has_body;
    mirror->out.content_length = mirror->out.has_body ? mirror->size : 0;
    start(mirror);
}

static bool draw(struct gw_worker *worker, double percent)
{
    return percent >= 100 || gw_unit_interval(gw_thread_random(&worker->thread)) * 100 < percent;
}

struct gw_mirror *gw_mirror_begin(struct gw_request *request, const struct gw_client_request *out)
{
    struct gw_worker *worker = request->worker;
    const struct routing_mirror_conf *conf = request->route->conf->mirror;
    uint64_t most = conf->max_requests / request->snapshot->num_workers;

    if (out->upgrade.base != NULL || !draw(worker, conf->percent))
        return NULL;
    if (worker->num_mirrors >= (most != 0 ? most : 1) ||
        (out->has_body && out->content_length != UINT64_MAX && out->content_length > conf->max_body)) {
        gw_count(&worker->stats.mirror_dropped, 1);
        return NULL;
    }
    struct gw_mirror *mirror = h2o_mem_alloc(sizeof(*mirror));
    *mirror = (struct gw_mirror){
        .worker = worker, .held = request->held, .conf = conf, .group = request->route->mirror_group};
    ++mirror->held->uses;
    h2o_linklist_insert(&worker->mirrors, &mirror->link);
    ++worker->num_mirrors;
    if (mirror->group->uses_key)
        mirror->pick.has_key = routing_balance_key(mirror->group->conf, &request->facts, &mirror->pick.key);
    h2o_mem_init_pool(&mirror->pool);
    copy_head(mirror, out);
    if (!out->has_body) {
        send_copy(mirror);
        return NULL;
    }
    mirror->out.has_body = true;
    return mirror;
}

static void keep(struct gw_mirror *mirror, h2o_iovec_t bytes)
{
    if (mirror->size + bytes.len > mirror->room) {
        mirror->room = (mirror->size + bytes.len) * 2;
        if (mirror->room > mirror->conf->max_body)
            mirror->room = mirror->conf->max_body;
        mirror->body = h2o_mem_realloc(mirror->body, mirror->room);
    }
    if (bytes.len != 0)
        memcpy(mirror->body + mirror->size, bytes.base, bytes.len);
    mirror->size += bytes.len;
}

struct gw_mirror *gw_mirror_body(struct gw_mirror *mirror, h2o_iovec_t bytes, bool is_last)
{
    if (mirror->size + bytes.len > mirror->conf->max_body) {
        end(mirror, DROPPED);
        return NULL;
    }
    keep(mirror, bytes);
    if (!is_last)
        return mirror;
    send_copy(mirror);
    return NULL;
}

void gw_mirror_drop(struct gw_mirror *mirror)
{
    if (mirror != NULL)
        end(mirror, DROPPED);
}

void gw_mirror_cut(struct gw_worker *worker, const struct gw_endpoint *endpoint)
{
    for (h2o_linklist_t *next, *link = worker->mirrors.next; link != &worker->mirrors; link = next) {
        struct gw_mirror *mirror = H2O_STRUCT_FROM_MEMBER(struct gw_mirror, link, link);
        next = link->next;
        if (mirror->client != NULL && mirror->group->targets[mirror->target].endpoint == endpoint)
            end(mirror, FAILED);
    }
}

void gw_mirror_end_all(struct gw_worker *worker)
{
    while (!h2o_linklist_is_empty(&worker->mirrors))
        end(H2O_STRUCT_FROM_MEMBER(struct gw_mirror, link, worker->mirrors.next), DROPPED);
}
