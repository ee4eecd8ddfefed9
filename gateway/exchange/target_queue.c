#include "gateway/exchange/target_queue.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/base/alloc.h"
#include "gateway/answer/answer.h"
#include "gateway/exchange/exchange.h"
#include "gateway/process.h"
#include "gateway/worker.h"

enum { MAX_BRIEF = 1000 }; /* requests of a group without a queue, for the moment that the threads need to answer */

struct gw_waiter { /* in the request's pool */
    h2o_linklist_t link;
    struct gw_timer timer;
    struct gw_request *request;
    struct gw_target_queues *queues;
    uint32_t until_round; /* is_brief: waits for the answers of this round of questions */
    bool is_brief; /* the group has no queue: another thread's idle connection makes room at once, or none does */
};

struct thread_queue {
    h2o_linklist_t waiters;     /* loop: of gw_waiter */
    struct gw_deferred serving; /* loop */
    struct gw_worker *worker;
    struct gw_target_queues *queues;
    _Atomic uint32_t size; /* atomic: written by its thread */
} __attribute__((aligned(64)));

struct gw_target_queues {
    _Atomic uint32_t size;   /* atomic: of all threads */
    _Atomic uint32_t turn;   /* atomic: whose turn it is to be woken */
    _Atomic uint32_t asked;  /* atomic: threads that are still to say whether they have a connection to spare */
    _Atomic uint32_t rounds; /* atomic: of questions that have been answered */
    _Atomic uint32_t
        wanted; /* atomic: gw_endpoint.index, which may be another's by now; GW_POOL_ANY: any of the group */
    struct gw_group_entry *group;
    unsigned num_threads;
    struct thread_queue threads[];
};

static struct gw_target_queues *queues_of(const struct routing_target_group *group)
{
    return ((struct gw_group_entry *)group->entry)->queues;
}

static uint32_t load_size(const _Atomic uint32_t *size)
{
    return __atomic_load_n((const uint32_t *)size, __ATOMIC_SEQ_CST);
}

static void add_size(_Atomic uint32_t *size, uint32_t by)
{
    __atomic_fetch_add((uint32_t *)size, by, __ATOMIC_SEQ_CST);
}

static void leave(struct gw_waiter *waiter)
{
    unsigned index = waiter->request->worker->thread.index;

    h2o_linklist_unlink(&waiter->link);
    gw_timer_disarm(&waiter->timer);
    add_size(&waiter->queues->threads[index].size, -1);
    add_size(&waiter->queues->size, -1);
    routing_count_leave(&waiter->queues->group->use.pending);
    waiter->request->waiter = NULL;
}

static void on_woken(struct gw_message *message)
{
    struct thread_queue *queue = message->data;
    gw_thread_defer(&message->worker->thread, &queue->serving);
}

/* worker: on whose thread this is; NULL: any. */
static void wake(const struct gw_worker *worker, struct gw_target_queues *queues)
{
    if (load_size(&queues->size) == 0)
        return;
    uint32_t first = __atomic_fetch_add((uint32_t *)&queues->turn, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i != queues->num_threads; ++i) {
        struct thread_queue *queue = &queues->threads[(first + i) % queues->num_threads];
        if (load_size(&queue->size) == 0)
            continue;
        if (queue->worker == worker)
            gw_thread_defer(&queue->worker->thread, &queue->serving);
        else
            gw_worker_tell(queue->worker, on_woken, queue);
        return;
    }
}

void gw_target_queue_on_room(struct gw_group_use *use)
{
    wake(NULL, H2O_STRUCT_FROM_MEMBER(struct gw_group_entry, use, use)->queues);
}

/* ---- places of idle connections, which belong to threads ---- */

static void wake_all(struct gw_target_queues *queues)
{
    for (unsigned i = 0; i != queues->num_threads; ++i)
        if (load_size(&queues->threads[i].size) != 0)
            gw_worker_tell(queues->threads[i].worker, on_woken, &queues->threads[i]);
}

static void on_asked(struct gw_message *message)
{
    struct gw_target_queues *queues = message->data;
    uint32_t wanted = load_size(&queues->wanted);

    if (load_size(&queues->size) != 0)
        (void)gw_pool_make_room(message->worker->pool, &queues->group->use, wanted);
    if (__atomic_sub_fetch((uint32_t *)&queues->asked, 1, __ATOMIC_SEQ_CST) != 0)
        return;
    add_size(&queues->rounds, 1);
    wake_all(queues); /* some may have wanted to ask meanwhile */
}

/* Others may have one to spare. */
static bool needs_connection(const struct gw_request *request)
{
    return request->worker->process->num_workers != 1 &&
           (request->no_room == GW_POOL_TARGET_FULL || request->no_room == GW_POOL_GROUP_FULL);
}

/* A request waits because of the number of connections: the other threads may have one that nobody uses. One round of
 * questions at a time. */
static void ask_others(const struct gw_request *request, struct gw_target_queues *queues)
{
    uint32_t none = 0;

    if (!needs_connection(request) ||
        !__atomic_compare_exchange_n((uint32_t *)&queues->asked, &none, queues->num_threads - 1, false,
                                     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return;
    __atomic_store_n((uint32_t *)&queues->wanted, request->full != NULL ? request->full->index : GW_POOL_ANY,
                     __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i != queues->num_threads; ++i)
        if (queues->threads[i].worker != request->worker)
            gw_worker_tell(queues->threads[i].worker, on_asked, queues);
}

/* ---- waiting ---- */

/* It waits for a further try. */
static bool has_begun(const struct gw_request *request) { return request->exchange != NULL; }

static enum gw_reason count_refusal(const struct gw_request *request, enum gw_reason reason)
{
    if (reason == GW_REASON_CIRCUIT_CONNECTIONS || reason == GW_REASON_CIRCUIT_PENDING)
        gw_count(&request->worker->stats.circuit_refused[reason - GW_REASON_CIRCUIT_OPEN], 1);
    return reason;
}

static void give_up(struct gw_request *request, enum gw_reason reason)
{
    count_refusal(request, reason);
    if (has_begun(request))
        gw_exchange_abort(request->exchange, reason);
    else
        gw_answer_error(request, reason, 0);
}

static enum gw_reason refusal_of(const struct gw_request *request)
{
    return request->no_room == GW_POOL_GROUP_FULL ? GW_REASON_CIRCUIT_CONNECTIONS : GW_REASON_TARGETS_BUSY;
}

static bool is_in_vain(const struct gw_waiter *waiter)
{
    return waiter->is_brief && (!needs_connection(waiter->request) ||
                                (int32_t)(load_size(&waiter->queues->rounds) - waiter->until_round) >= 0);
}

/* In order of arrival, as long as there is room. */
static void on_serve(struct gw_deferred *deferred)
{
    struct thread_queue *queue = H2O_STRUCT_FROM_MEMBER(struct thread_queue, serving, deferred);

    while (!h2o_linklist_is_empty(&queue->waiters)) {
        struct gw_waiter *waiter = H2O_STRUCT_FROM_MEMBER(struct gw_waiter, link, queue->waiters.next);
        struct gw_request *request = waiter->request;
        if (!gw_exchange_choose_again(request) && request->target == ROUTING_BUSY_TARGETS) {
            if (!is_in_vain(waiter)) {
                ask_others(request, queue->queues);
                return;
            }
            leave(waiter);
            give_up(request, refusal_of(request));
            continue;
        }
        leave(waiter);
        if (request->target == ROUTING_NO_TARGET)
            give_up(request, GW_REASON_NO_TARGETS);
        else if (has_begun(request))
            gw_exchange_resume(request->exchange);
        else
            gw_exchange_start(request);
    }
    wake(queue->worker, queue->queues); /* nobody is left here: the place is somebody else's */
}

static void on_timeout(struct gw_timer *timer)
{
    struct gw_waiter *waiter = H2O_STRUCT_FROM_MEMBER(struct gw_waiter, timer, timer);
    struct gw_request *request = waiter->request;

    leave(waiter);
    give_up(request, GW_REASON_TARGET_QUEUE_TIMEOUT);
}

struct gw_target_queues *gw_target_queues_create(struct gw_process *process, struct gw_group_entry *group)
{
    unsigned num_workers = process->num_workers;
    struct gw_target_queues *self =
        gw_alloc_lines(sizeof(struct gw_target_queues) + num_workers * sizeof(struct thread_queue));

    self->num_threads = num_workers;
    self->group = group;
    for (unsigned i = 0; i != num_workers; ++i) {
        h2o_linklist_init_anchor(&self->threads[i].waiters);
        self->threads[i].serving.run = on_serve;
        self->threads[i].worker = &process->workers[i];
        self->threads[i].queues = self;
    }
    return self;
}

void gw_target_queues_end(struct gw_target_queues *self, const struct gw_worker *worker)
{
    gw_thread_undefer(&self->threads[worker->thread.index].serving);
}

void gw_target_queues_destroy(struct gw_target_queues *self) { free(self); }

static enum gw_reason check_bounds(const struct gw_request *request, struct gw_target_queues *queues)
{
    const struct routing_target_group *group = request->group;
    uint64_t most = group->has_queue ? routing_max_queue(group->conf) : MAX_BRIEF;

    if (request->no_room == GW_POOL_TOO_MANY_PENDING)
        return GW_REASON_CIRCUIT_PENDING;
    if (!group->has_queue && !needs_connection(request))
        return refusal_of(request);
    if (load_size(&queues->size) >= most)
        return !group->has_queue                       ? refusal_of(request)
               : group->conf->target_limits.queue != 0 ? GW_REASON_TARGET_QUEUE_FULL
                                                       : GW_REASON_CIRCUIT_PENDING;
    if (!routing_count_enter(&queues->group->use.pending, group->max_pending))
        return GW_REASON_CIRCUIT_PENDING;
    return GW_REASON_NONE;
}

enum gw_reason gw_target_queue_join(struct gw_request *request)
{
    struct gw_thread *thread = &request->worker->thread;
    struct gw_target_queues *queues = queues_of(request->group);
    enum gw_reason reason = check_bounds(request, queues);
    struct gw_waiter *waiter;

    if (reason != GW_REASON_NONE)
        return count_refusal(request, reason);
    waiter = h2o_mem_alloc_pool(request->pool, sizeof(*waiter));
    *waiter = (struct gw_waiter){.request = request,
                                 .queues = queues,
                                 .is_brief = !request->group->has_queue,
                                 .until_round = load_size(&queues->rounds) + (load_size(&queues->asked) != 0 ? 2 : 1)};
    gw_timer_init(&waiter->timer, on_timeout);
    gw_timer_arm(thread->wheel, &waiter->timer,
                 gw_thread_now(thread) + request->group->conf->target_limits.queue_timeout_ms);
    h2o_linklist_insert(&queues->threads[thread->index].waiters, &waiter->link);
    request->waiter = waiter;
    add_size(&queues->threads[thread->index].size, 1);
    add_size(&queues->size, 1);
    /* a place may have become free before we were seen waiting: look once more, when the turn ends */
    gw_thread_defer(thread, &queues->threads[thread->index].serving);
    return GW_REASON_NONE;
}

void gw_target_queue_wake(struct gw_worker *worker, const struct routing_target_group *group)
{
    wake(worker, queues_of(group));
}

void gw_target_queue_forget(struct gw_request *request)
{
    if (request->waiter != NULL)
        leave(request->waiter);
}

uint32_t gw_target_queue_size(const struct gw_target_queues *queues) { return load_size(&queues->size); }
