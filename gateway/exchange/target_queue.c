#include "gateway/exchange/target_queue.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/answer/answer.h"
#include "gateway/exchange/exchange.h"
#include "gateway/process.h"
#include "gateway/worker.h"

struct gw_waiter { /* in the request's pool */
    h2o_linklist_t link;
    struct gw_timer timer;
    struct gw_request *request;
    struct gw_target_queues *queues;
};

struct thread_queue {
    h2o_linklist_t waiters;     /* loop: of gw_waiter */
    struct gw_deferred serving; /* loop */
    struct gw_worker *worker;
    struct gw_target_queues *queues;
    _Atomic uint32_t size; /* atomic: written by its thread */
} __attribute__((aligned(64)));

struct gw_target_queues {
    _Atomic uint32_t size; /* atomic: of all threads */
    _Atomic uint32_t turn; /* atomic: whose turn it is to be woken */
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
    waiter->request->waiter = NULL;
}

static void on_woken(struct gw_message *message)
{
    struct thread_queue *queue = message->data;
    gw_thread_defer(&message->worker->thread, &queue->serving);
}

static void wake(struct gw_worker *worker, struct gw_target_queues *queues)
{
    if (load_size(&queues->size) == 0)
        return;
    uint32_t first = __atomic_fetch_add((uint32_t *)&queues->turn, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i != queues->num_threads; ++i) {
        struct thread_queue *queue = &queues->threads[(first + i) % queues->num_threads];
        if (load_size(&queue->size) == 0)
            continue;
        if (queue->worker == worker)
            gw_thread_defer(&worker->thread, &queue->serving);
        else
            gw_worker_tell(queue->worker, on_woken, queue);
        return;
    }
}

/* In order of arrival, as long as there is room. */
static void on_serve(struct gw_deferred *deferred)
{
    struct thread_queue *queue = H2O_STRUCT_FROM_MEMBER(struct thread_queue, serving, deferred);

    while (!h2o_linklist_is_empty(&queue->waiters)) {
        struct gw_waiter *waiter = H2O_STRUCT_FROM_MEMBER(struct gw_waiter, link, queue->waiters.next);
        struct gw_request *request = waiter->request;
        if (!gw_exchange_choose_again(request) && request->target == ROUTING_BUSY_TARGETS)
            return;
        leave(waiter);
        if (request->target == ROUTING_NO_TARGET)
            gw_answer_error(request, GW_REASON_NO_TARGETS, 0);
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
    gw_answer_error(request, GW_REASON_TARGET_QUEUE_TIMEOUT, 0);
}

struct gw_target_queues *gw_target_queues_create(struct gw_process *process, unsigned num_workers)
{
    size_t bytes = sizeof(struct gw_target_queues) + num_workers * sizeof(struct thread_queue);
    struct gw_target_queues *self = aligned_alloc(64, (bytes + 63) & ~(size_t)63);

    memset(self, 0, bytes);
    self->num_threads = num_workers;
    for (unsigned i = 0; i != num_workers; ++i) {
        h2o_linklist_init_anchor(&self->threads[i].waiters);
        self->threads[i].serving.run = on_serve;
        self->threads[i].worker = &process->workers[i];
        self->threads[i].queues = self;
    }
    return self;
}

enum gw_reason gw_target_queue_join(struct gw_request *request)
{
    const struct routing_target_limits_conf *conf = &request->group->conf->target_limits;
    struct gw_thread *thread = &request->worker->thread;
    struct gw_target_queues *queues;
    struct gw_waiter *waiter;

    if (conf->queue == 0)
        return GW_REASON_TARGETS_BUSY;
    queues = queues_of(request->group);
    if (load_size(&queues->size) >= conf->queue)
        return GW_REASON_TARGET_QUEUE_FULL;
    waiter = h2o_mem_alloc_pool(request->pool, sizeof(*waiter));
    *waiter = (struct gw_waiter){.request = request, .queues = queues};
    gw_timer_init(&waiter->timer, on_timeout);
    gw_timer_arm(thread->wheel, &waiter->timer, gw_thread_now(thread) + conf->queue_timeout_ms);
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
