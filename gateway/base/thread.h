/* What every module of one worker thread shares: loop, clock, timers. Created with the thread, lives as long as the
 * process. Modules embed nothing global; they are handed this. */
#pragma once
#include <h2o.h>
#include "gateway/base/usage.h"
#include "gateway/base/wheel.h"

struct gw_thread {
    unsigned index; /* 0 .. num_threads-1 for workers; num_threads for the control thread */
    h2o_context_t *ctx;
    h2o_loop_t *loop;
    struct gw_wheel *wheel;
    uint64_t turns;          /* so far */
    uint64_t now_ms;         /* CLOCK_MONOTONIC as gw_thread_now last read it; ask gw_thread_now */
    uint64_t now_wall_ms;    /* loop->_now at that time */
    uint64_t rng[2];         /* xorshift128+; see gw_thread_random */
    h2o_linklist_t deferred; /* of gw_deferred: run at the end of the turn */
    h2o_linklist_t behind;   /* the same, behind all of them */
    unsigned deferred_rounds, num_deferred, num_looks; /* of this turn; num_looks: gw_thread_is_late */
    uint64_t looked_us, deferred_us; /* when its events, and its deferred work, were first seen to run; 0: not yet */
    uint64_t read_for_us;            /* when something was first read for those who use much in this turn; 0: not yet */
    uint64_t ended_us; /* when the last turn ended, if it left work of those behind while others came; else 0 */
    uint64_t last_us;  /* the last time that the clock was looked at in one of them */
    bool is_late, is_behind_done;
    /* A turn of the last WARY_MS had not time for all: the clock is looked at from the first event on, and what
     * connections use is measured, in every turn that is_pressed and in some of the others. */
    bool is_wary;
    bool is_pressed;         /* and in the last CLASS_MS came some who used little and some who used much */
    double typical_us;       /* what the connections that are served have used, on average */
    unsigned measure_weight; /* what a microsecond counts in this turn; 0: is not measured */
    uint64_t wary_until_ms, little_ms, much_ms; /* when the last ones of the two were served, as far as measured */
    uint64_t front_ms;                          /* when somebody was last served out of an event, while wary */
    unsigned front_us, behind_us;               /* how long events, and those behind, may take in this turn */
    struct gw_usage *user;                      /* whose the time from since_us on is; NULL: nobody's */
    uint64_t since_us;
    /* How the loop calls us inside a turn, where sockets may be written and closed. The lists are our own, because
     * those of libh2o stall when the wall clock is set back. */
    h2o_timeout_t timers_list, deferred_list;
    h2o_timeout_entry_t timers_entry;   /* always linked, due when the wheel is */
    h2o_timeout_entry_t deferred_entry; /* linked while deferred is not empty */
};

/* Work put off to the end of the current turn: completion of a write is never called from inside the
 * write. Zero-filled before the first use. */
struct gw_deferred {
    h2o_linklist_t link;
    void (*run)(struct gw_deferred *); /* it is off the list before the call; it may be put off again or freed in it */
};
/* ctx needs no more than its loop. */
void gw_thread_init(struct gw_thread *, unsigned index, h2o_context_t *);
/* For tests and the end of the process: what is still put off or armed is forgotten, not called. */
void gw_thread_dispose(struct gw_thread *);
/* The events of this turn have taken long already. Who has one more, or more to do than for one request, puts it off:
 * so the next turn begins soon, in which newcomers are served first, and the rest in the order it was put off. For the
 * first events of a turn it costs next to nothing. */
static inline bool gw_thread_is_late(struct gw_thread *);
/* Order is kept. What is put off by deferred work runs in the same turn, up to a bound that keeps the turn short. */
static inline void gw_thread_defer(struct gw_thread *, struct gw_deferred *); /* fine when already put off */
static inline void gw_thread_undefer(struct gw_deferred *);                   /* fine when not put off */
/* The work of who takes more than others: it comes behind all that is deferred, in its order and a little in each turn,
 * at least one. Fine when already put off, by either. */
static inline void gw_thread_defer_behind(struct gw_thread *, struct gw_deferred *);
static inline bool gw_thread_is_deferred(const struct gw_deferred *deferred) { return deferred->link.next != NULL; }
/* What is done from here on, until the next call or the end of the turn's events, is done for this usage (NULL: for
 * nobody in particular). Costs next to nothing unless the thread is wary. The usage must stay as long as it is
 * `user`. */
static inline void gw_thread_charge(struct gw_thread *, struct gw_usage *);
/* May whoever used so much be served now, out of an event? If not, its work is put off by gw_thread_defer_for. */
static inline bool gw_thread_may_serve(struct gw_thread *, struct gw_usage *);
/* What has come from elsewhere for this usage (NULL: for nobody in particular) may be read now. When it may not, as
 * those who use much have had their part of this turn, it is left in the socket. Charges the usage. */
static inline bool gw_thread_may_read_for(struct gw_thread *, struct gw_usage *);
/* Others, who use little, are being served while the thread has not time for all: work is to come in short pieces. */
static inline bool gw_thread_is_pressed(const struct gw_thread *thread) { return thread->is_pressed; }
/* Puts work off behind the others when the thread is pressed and the usage is much, else like gw_thread_defer. */
static inline void gw_thread_defer_for(struct gw_thread *, struct gw_usage *, struct gw_deferred *);
/* One turn of the loop: waits at most max_wait_ms, runs events, then timers, then deferred work. Returns 0; -1 with
 * errno when the wait failed, EINTR being the harmless case. */
int gw_thread_turn(struct gw_thread *, int32_t max_wait_ms);
/* Not for secrets. */
static inline uint64_t gw_thread_random(struct gw_thread *);

/* CLOCK_MONOTONIC in milliseconds, true to the millisecond at the start of the turn. Events are polled and their
 * callbacks run in one call of the library, so there is no place in between to refresh a clock; but the library reads
 * the wall clock there, and when that has moved, so has ours. */
static inline uint64_t gw_thread_now(struct gw_thread *thread)
{
    uint64_t wall_ms = h2o_now(thread->loop);
    if (wall_ms != thread->now_wall_ms) {
        thread->now_wall_ms = wall_ms;
        thread->now_ms = gw_now_ms();
    }
    return thread->now_ms;
}

/* inline definitions */

enum { GW_THREAD_LOOK_EVERY = 2 };
bool gw_thread_look(struct gw_thread *);
void gw_thread_charge_now(struct gw_thread *, struct gw_usage *);
bool gw_thread_may_serve_now(struct gw_thread *, struct gw_usage *);
bool gw_thread_may_read_for_now(struct gw_thread *, struct gw_usage *);
static inline bool gw_thread_is_late(struct gw_thread *thread)
{
    return thread->is_late || (++thread->num_looks % GW_THREAD_LOOK_EVERY == 0 && gw_thread_look(thread));
}

static inline void gw_thread_defer(struct gw_thread *thread, struct gw_deferred *deferred)
{
    if (h2o_linklist_is_linked(&deferred->link))
        return;
    h2o_linklist_insert(&thread->deferred, &deferred->link);
    if (!h2o_linklist_is_linked(&thread->deferred_entry._link)) /* registered_at stays 0: due whatever the clock says */
        h2o_linklist_insert(&thread->deferred_list._entries, &thread->deferred_entry._link);
}

static inline void gw_thread_defer_behind(struct gw_thread *thread, struct gw_deferred *deferred)
{
    if (h2o_linklist_is_linked(&deferred->link))
        return;
    h2o_linklist_insert(&thread->behind, &deferred->link);
    if (!h2o_linklist_is_linked(&thread->deferred_entry._link))
        h2o_linklist_insert(&thread->deferred_list._entries, &thread->deferred_entry._link);
}

static inline void gw_thread_charge(struct gw_thread *thread, struct gw_usage *usage)
{
    if (__builtin_expect(thread->measure_weight != 0, 0))
        gw_thread_charge_now(thread, usage);
}

static inline bool gw_thread_may_serve(struct gw_thread *thread, struct gw_usage *usage)
{
    if (__builtin_expect(!thread->is_wary, 1))
        return !gw_thread_is_late(thread);
    return gw_thread_may_serve_now(thread, usage);
}

static inline bool gw_thread_may_read_for(struct gw_thread *thread, struct gw_usage *usage)
{
    return __builtin_expect(!thread->is_wary, 1) || gw_thread_may_read_for_now(thread, usage);
}

static inline void gw_thread_defer_for(struct gw_thread *thread, struct gw_usage *usage, struct gw_deferred *deferred)
{
    if (__builtin_expect(thread->is_pressed, 0) && gw_usage_is_much(usage, gw_thread_now(thread)))
        gw_thread_defer_behind(thread, deferred);
    else
        gw_thread_defer(thread, deferred);
}

static inline void gw_thread_undefer(struct gw_deferred *deferred)
{
    if (h2o_linklist_is_linked(&deferred->link))
        h2o_linklist_unlink(&deferred->link);
}

static inline uint64_t gw_thread_random(struct gw_thread *thread)
{
    uint64_t a = thread->rng[0], b = thread->rng[1];
    thread->rng[0] = b;
    a ^= a << 23;
    thread->rng[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
    return thread->rng[1] + b;
}
