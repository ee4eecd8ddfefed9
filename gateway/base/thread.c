#include "gateway/base/thread.h"
#include <sys/random.h>

/* Deferred work may put off more: a response from memory, its completion, the next pipelined request. That is done in
 * the same turn, as another epoll_wait costs more; but not for ever, as other connections wait. */
enum { MAX_ROUNDS = 8 };
/* A turn is as long as everybody else waits. So its events, its timers, its deferred work and those behind have each a
 * share of time, beyond which work is left to the next turns. As turns have a price of their own (every socket that has
 * not been read is told of again), the shares grow, a step a turn, while turns leave work: that of events and of
 * deferred work if it is work of those who use little; that of those behind if there is nobody else. If there is, those
 * behind have BEHIND_TO_REST times what the rest of the turn took, so that not most of the time goes into turns. */
enum {
    FRONT_US_MIN = 80,
    FRONT_US_MAX = 300,
    BEHIND_US_MIN = 40,
    BEHIND_US_SHARED = 100, /* most, while others come */
    BEHIND_US_MAX = 300,
    STEP_US = 4,
    BEHIND_TO_REST = 3
};
enum { TIMERS_US = 50, LOOK_EVERY = 2, WARY_MS = 20, CLASS_MS = 100, MEASURE_EVERY = 4 };
/* Little is an eighth of what the connections that are served have used: where all are alike, nobody comes first. Below
 * TYPICAL_LEAST too few turns are measured to tell. */
enum { LITTLE_PART = 8, TYPICAL_OF = 64, TYPICAL_LEAST = 2 * GW_USAGE_MUCH_US };
/* So many requests of the usual kind fit into a turn. Something that takes so long by itself ends its share at once:
 * others may be as long. */
enum { MUCH_US = 60 };

bool gw_thread_look(struct gw_thread *thread)
{
    uint64_t now_us = gw_now_us(), last_us = thread->last_us;
    thread->last_us = now_us;
    if (thread->looked_us == 0) {
        thread->looked_us = now_us;
        return false;
    }
    return thread->is_late = now_us - thread->looked_us >= thread->front_us || now_us - last_us >= MUCH_US;
}

void gw_thread_charge_now(struct gw_thread *thread, struct gw_usage *usage)
{
    uint64_t now_us = gw_now_us();
    if (thread->user != NULL)
        gw_usage_add(thread->user, gw_thread_now(thread), (now_us - thread->since_us) * thread->measure_weight);
    thread->user = usage;
    thread->since_us = now_us;
    if (usage != NULL) {
        uint32_t used_us = gw_usage_read(usage, gw_thread_now(thread));
        thread->typical_us += ((double)used_us - thread->typical_us) / TYPICAL_OF;
        if (used_us >= GW_USAGE_MUCH_US)
            thread->much_ms = gw_thread_now(thread);
    }
}

bool gw_thread_may_serve_now(struct gw_thread *thread, struct gw_usage *usage)
{
    uint64_t now_ms = gw_thread_now(thread);
    uint32_t used_us = gw_usage_read(usage, now_ms);
    bool is_much = used_us >= GW_USAGE_MUCH_US;

    if (!is_much && thread->typical_us >= TYPICAL_LEAST && used_us < thread->typical_us / LITTLE_PART)
        thread->little_ms = now_ms;
    if (is_much && thread->is_pressed)
        return false;
    thread->front_ms = now_ms;
    gw_thread_charge(thread, usage);
    return !gw_thread_is_late(thread);
}

static bool is_read_share_over(struct gw_thread *thread)
{
    uint64_t now_us = gw_now_us();
    if (thread->read_for_us == 0)
        thread->read_for_us = now_us;
    return now_us - thread->read_for_us >= BEHIND_US_MIN;
}

bool gw_thread_may_read_for_now(struct gw_thread *thread, struct gw_usage *usage)
{
    uint64_t now_ms = gw_thread_now(thread);

    if (thread->is_pressed && usage != NULL && gw_usage_is_much(usage, now_ms) && is_read_share_over(thread)) {
        thread->wary_until_ms = now_ms + WARY_MS; /* it is work that this turn leaves */
        return false;
    }
    gw_thread_charge(thread, usage);
    return true;
}

static void on_timers(h2o_timeout_entry_t *entry)
{
    struct gw_thread *thread = H2O_STRUCT_FROM_MEMBER(struct gw_thread, timers_entry, entry);
    gw_thread_charge(thread, NULL);
    gw_wheel_run_for(thread->wheel, gw_thread_now(thread), TIMERS_US);
    /* Stay linked, but not for this turn; gw_thread_turn sets the time. */
    h2o_linklist_insert(&thread->timers_list._entries, &entry->_link);
    entry->registered_at = UINT64_MAX;
}

/* Something is left, or was put off too late, for the next turn. */
static void go_on_in_next_turn(struct gw_thread *thread)
{
    h2o_timeout_entry_t *entry = &thread->deferred_entry;
    entry->registered_at = UINT64_MAX;
    if (!h2o_linklist_is_linked(&entry->_link))
        h2o_linklist_insert(&thread->deferred_list._entries, &entry->_link);
}

static void run_first(h2o_linklist_t *list)
{
    struct gw_deferred *deferred = H2O_STRUCT_FROM_MEMBER(struct gw_deferred, link, list->next);
    h2o_linklist_unlink(&deferred->link);
    deferred->run(deferred);
}

/* What of the turn's share of time is over. */
static bool is_share_over(struct gw_thread *thread)
{
    uint64_t now_us = gw_now_us(), last_us = thread->last_us;
    thread->last_us = now_us;
    if (thread->deferred_us == 0) {
        thread->deferred_us = now_us;
        return false;
    }
    return now_us - thread->deferred_us > thread->front_us * 2 / 3 || now_us - last_us >= MUCH_US;
}

static void run_deferred(struct gw_thread *thread)
{
    h2o_linklist_t batch;
    h2o_linklist_init_anchor(&batch);
    h2o_linklist_insert_list(&batch, &thread->deferred);
    if (thread->is_wary && thread->deferred_us == 0)
        thread->deferred_us = thread->last_us = gw_now_us();
    while (!h2o_linklist_is_empty(&batch)) {
        run_first(&batch);
        if (++thread->num_deferred % LOOK_EVERY == 0 && is_share_over(thread)) { /* the rest goes first next time */
            h2o_linklist_insert_list(thread->deferred.next, &batch);
            thread->deferred_rounds = MAX_ROUNDS;
        }
    }
}

static unsigned within(uint64_t n, unsigned least, unsigned most)
{
    return n < least ? least : n > most ? most : (unsigned)n;
}

static void run_behind(struct gw_thread *thread)
{
    uint64_t began_us = gw_now_us();
    if (thread->ended_us != 0)
        thread->behind_us = within((began_us - thread->ended_us) * BEHIND_TO_REST, BEHIND_US_MIN, BEHIND_US_SHARED);
    do
        run_first(&thread->behind);
    while (!h2o_linklist_is_empty(&thread->behind) && gw_now_us() - began_us < thread->behind_us);
}

static void on_deferred(h2o_timeout_entry_t *entry)
{
    struct gw_thread *thread = H2O_STRUCT_FROM_MEMBER(struct gw_thread, deferred_entry, entry);
    /* UINT64_MAX: what is put off from now on waits for the next turn, which sets it back */
    entry->registered_at = ++thread->deferred_rounds < MAX_ROUNDS ? 0 : UINT64_MAX;
    if (!h2o_linklist_is_empty(&thread->deferred))
        run_deferred(thread);
    bool is_over = h2o_linklist_is_empty(&thread->deferred) || thread->deferred_rounds >= MAX_ROUNDS;
    if (is_over && !thread->is_behind_done && !h2o_linklist_is_empty(&thread->behind)) {
        thread->is_behind_done = true;
        run_behind(thread);
    }
    if (thread->deferred_rounds >= MAX_ROUNDS || h2o_linklist_is_empty(&thread->deferred)) {
        entry->registered_at = UINT64_MAX;
        if (!h2o_linklist_is_empty(&thread->deferred) || !h2o_linklist_is_empty(&thread->behind))
            go_on_in_next_turn(thread);
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
    thread->front_us = FRONT_US_MIN;
    thread->behind_us = BEHIND_US_MIN;
    h2o_linklist_init_anchor(&thread->deferred);
    h2o_linklist_init_anchor(&thread->behind);
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
    while (!h2o_linklist_is_empty(&thread->behind))
        h2o_linklist_unlink(thread->behind.next);
    h2o_timeout_unlink(&thread->timers_entry);
    h2o_timeout_unlink(&thread->deferred_entry);
    h2o_timeout_dispose(thread->loop, &thread->timers_list);
    h2o_timeout_dispose(thread->loop, &thread->deferred_list);
    gw_wheel_destroy(thread->wheel);
    thread->wheel = NULL;
}

/* To measure has a price, so while it decides nothing only some turns are measured. */
static unsigned choose_measure(const struct gw_thread *thread)
{
    if (thread->is_pressed)
        return 1;
    return thread->is_wary && thread->turns % MEASURE_EVERY == 0 ? MEASURE_EVERY : 0;
}

static void set_shares(struct gw_thread *thread)
{
    uint64_t now_ms = gw_thread_now(thread);
    bool is_front_left = !h2o_linklist_is_empty(&thread->deferred);
    bool is_behind_left = !h2o_linklist_is_empty(&thread->behind);

    if (thread->is_late || is_front_left || is_behind_left)
        thread->wary_until_ms = now_ms + WARY_MS;
    if (is_behind_left)
        thread->much_ms = now_ms;
    thread->is_wary = now_ms < thread->wary_until_ms;
    thread->is_pressed =
        thread->is_wary && now_ms - thread->little_ms < CLASS_MS && now_ms - thread->much_ms < CLASS_MS;
    thread->measure_weight = choose_measure(thread);
    if (is_front_left)
        thread->front_us += thread->front_us < FRONT_US_MAX ? STEP_US : 0;
    else
        thread->front_us -= thread->front_us > FRONT_US_MIN ? STEP_US : 0;
    if (now_ms - thread->front_ms < CLASS_MS)
        thread->behind_us = BEHIND_US_MIN; /* at least */
    else if (is_behind_left)
        thread->behind_us += thread->behind_us < BEHIND_US_MAX ? STEP_US : 0;
}

int gw_thread_turn(struct gw_thread *thread, int32_t max_wait_ms)
{
    int32_t wait_ms = gw_wheel_wait(thread->wheel, gw_thread_now(thread), max_wait_ms);
    /* what was written between two turns has only queued its completion, which no event will announce */
    if (thread->loop->_pending_as_client != NULL || thread->loop->_pending_as_server != NULL ||
        !h2o_linklist_is_empty(&thread->deferred) || !h2o_linklist_is_empty(&thread->behind))
        wait_ms = 0;
    ++thread->turns;
    set_shares(thread);
    thread->deferred_rounds = thread->num_deferred = 0;
    thread->num_looks = thread->is_wary ? GW_THREAD_LOOK_EVERY - 1 : 0;
    thread->looked_us = thread->deferred_us = thread->read_for_us = 0;
    thread->is_late = thread->is_behind_done = false;
    thread->deferred_entry.registered_at = 0;
    /* Wall clock: should it be set back during the wait, the timers run in the next turn, which begins at once. */
    thread->timers_entry.registered_at = thread->loop->_now + (uint64_t)wait_ms;
    int rc = h2o_evloop_run(thread->loop, wait_ms);
    gw_thread_charge(thread, NULL);
    bool is_shared = !h2o_linklist_is_empty(&thread->behind) && gw_thread_now(thread) - thread->front_ms < CLASS_MS;
    thread->ended_us = is_shared ? gw_now_us() : 0;
    return rc;
}
