#include "gateway/base/thread.h"
#include <sys/random.h>

/* Deferred work may put off more: a response from memory, its completion, the next pipelined request. That is done in
 * the same turn, as another epoll_wait costs more; but not for ever, as other connections wait. */
enum { MAX_ROUNDS = 8 };
/* A turn is as long as everybody else waits. So its events, its timers and its deferred work have each a share of time,
 * beyond which work is left to the next turns. The clock is read now and then only. */
enum { EVENTS_US = 300, TIMERS_US = 200, DEFERRED_US = 200, LOOK_EVERY = 2 };

bool gw_thread_look(struct gw_thread *thread)
{
    uint64_t now_us = gw_now_us();
    if (thread->looked_us == 0)
        thread->looked_us = now_us;
    return thread->is_late = now_us - thread->looked_us >= EVENTS_US;
}

static void on_timers(h2o_timeout_entry_t *entry)
{
    struct gw_thread *thread = H2O_STRUCT_FROM_MEMBER(struct gw_thread, timers_entry, entry);
    gw_wheel_run_for(thread->wheel, gw_thread_now(thread), TIMERS_US);
    /* Stay linked, but not for this turn; gw_thread_turn sets the time. */
    h2o_linklist_insert(&thread->timers_list._entries, &entry->_link);
    entry->registered_at = UINT64_MAX;
}

static void on_deferred(h2o_timeout_entry_t *entry)
{
    struct gw_thread *thread = H2O_STRUCT_FROM_MEMBER(struct gw_thread, deferred_entry, entry);
    h2o_linklist_t batch;
    h2o_linklist_init_anchor(&batch);
    h2o_linklist_insert_list(&batch, &thread->deferred);
    /* UINT64_MAX: what is put off from now on waits for the next turn, which sets it back */
    entry->registered_at = ++thread->deferred_rounds < MAX_ROUNDS ? 0 : UINT64_MAX;
    while (!h2o_linklist_is_empty(&batch)) {
        struct gw_deferred *deferred = H2O_STRUCT_FROM_MEMBER(struct gw_deferred, link, batch.next);
        h2o_linklist_unlink(&deferred->link);
        deferred->run(deferred);
        if (++thread->num_deferred % LOOK_EVERY != 0)
            continue;
        uint64_t now_us = gw_now_us();
        if (thread->deferred_us == 0) {
            thread->deferred_us = now_us;
        } else if (now_us - thread->deferred_us > DEFERRED_US) { /* the rest goes first in the next turn */
            h2o_linklist_insert_list(thread->deferred.next, &batch);
            entry->registered_at = UINT64_MAX;
            if (!h2o_linklist_is_linked(&entry->_link)) /* unless something was put off meanwhile, nobody has */
                h2o_linklist_insert(&thread->deferred_list._entries, &entry->_link);
        }
    }
}

void gw_thread_init(struct gw_thread *thread, unsigned index, h2o_context_t *ctx)
{
    *thread = (struct gw_thread){.index = index, .ctx = ctx, .loop = ctx->loop};
    thread->now_ms = gw_now_ms();
    thread->now_wall_ms = h2o_now(thread->loop);
    thread->wheel = gw_wheel_create(thread->now_ms);
    /* getrandom cannot fail for so few bytes once the system is up; the clock keeps threads apart if it ever does */
    if (getrandom(thread->rng, sizeof(thread->rng), 0) != (ssize_t)sizeof(thread->rng))
        thread->rng[0] = gw_now_us() * 2654435761u + index;
    thread->rng[1] |= 1; /* all zero is the one state it never leaves */
    h2o_linklist_init_anchor(&thread->deferred);
    /* The loop walks its lists in this order: deferred work of timers is done in the same turn. */
    h2o_timeout_init(thread->loop, &thread->timers_list, 0);
    h2o_timeout_init(thread->loop, &thread->deferred_list, 0);
    thread->timers_entry = (h2o_timeout_entry_t){.registered_at = UINT64_MAX, .cb = on_timers};
    h2o_linklist_insert(&thread->timers_list._entries, &thread->timers_entry._link);
    thread->deferred_entry.cb = on_deferred;
}

void gw_thread_dispose(struct gw_thread *thread)
{
    while (!h2o_linklist_is_empty(&thread->deferred))
        h2o_linklist_unlink(thread->deferred.next);
    h2o_timeout_unlink(&thread->timers_entry);
    h2o_timeout_unlink(&thread->deferred_entry);
    h2o_timeout_dispose(thread->loop, &thread->timers_list);
    h2o_timeout_dispose(thread->loop, &thread->deferred_list);
    gw_wheel_destroy(thread->wheel);
    thread->wheel = NULL;
}

int gw_thread_turn(struct gw_thread *thread, int32_t max_wait_ms)
{
    int32_t wait_ms = gw_wheel_wait(thread->wheel, gw_thread_now(thread), max_wait_ms);
    /* libh2o.md 3.1: what was written between two turns has only queued its completion, which no event will announce */
    if (thread->loop->_pending_as_client != NULL || thread->loop->_pending_as_server != NULL ||
        !h2o_linklist_is_empty(&thread->deferred))
        wait_ms = 0;
    ++thread->turns;
    thread->deferred_rounds = thread->num_looks = thread->num_deferred = 0;
    thread->looked_us = thread->deferred_us = 0;
    thread->is_late = false;
    thread->deferred_entry.registered_at = 0;
    /* Wall clock: should it be set back during the wait, the timers run in the next turn, which begins at once. */
    thread->timers_entry.registered_at = thread->loop->_now + (uint64_t)wait_ms;
    return h2o_evloop_run(thread->loop, wait_ms);
}
