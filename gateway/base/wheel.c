#include "gateway/base/wheel.h"
#include <stdlib.h>
#include <time.h>
#include <h2o/memory.h>

/* Level n holds the timers whose due tick differs from the current one in its n-th group of six bits and in no higher
 * group. So every timer of level n is due before every timer of level n+1, the slots of a level that lie ahead are
 * those above the current index, and moving on touches a timer at most once per level. Six levels of 8 ms ticks reach
 * 17 years, so that nothing ever wraps. */
enum { TICK_MS = 8, BITS = 6, SLOTS = 1 << BITS, LEVELS = 6, LOOK_EVERY = 8 };
#define MAX_TICK ((UINT64_C(1) << (BITS * LEVELS)) - 1)

struct gw_wheel {
    uint64_t tick;   /* all before and at it has fired */
    uint64_t target; /* the tick the present or last run goes to */
    /* May have bits of slots that gw_timer_disarm, which does not know the wheel, has emptied; never lacks one. */
    uint64_t occupied[LEVELS];
    h2o_linklist_t slots[LEVELS][SLOTS];
    h2o_linklist_t overdue; /* taken out of its slot, to be fired; empty between runs that had time enough */
};

static struct gw_timer *timer_from(h2o_linklist_t *link) { return H2O_STRUCT_FROM_MEMBER(struct gw_timer, link, link); }

struct gw_wheel *gw_wheel_create(uint64_t now_ms)
{
    struct gw_wheel *wheel = h2o_mem_alloc(sizeof(*wheel));
    wheel->tick = wheel->target = now_ms / TICK_MS;
    h2o_linklist_init_anchor(&wheel->overdue);
    for (int level = 0; level != LEVELS; ++level) {
        wheel->occupied[level] = 0;
        for (int slot = 0; slot != SLOTS; ++slot)
            h2o_linklist_init_anchor(&wheel->slots[level][slot]);
    }
    return wheel;
}

static void forget_all(h2o_linklist_t *list)
{
    while (!h2o_linklist_is_empty(list))
        h2o_linklist_unlink(list->next);
}

void gw_wheel_destroy(struct gw_wheel *wheel)
{
    if (wheel == NULL)
        return;
    for (int level = 0; level != LEVELS; ++level)
        for (int slot = 0; slot != SLOTS; ++slot)
            forget_all(&wheel->slots[level][slot]);
    forget_all(&wheel->overdue);
    free(wheel);
}

void gw_timer_init(struct gw_timer *timer, void (*on_due)(struct gw_timer *))
{
    *timer = (struct gw_timer){.on_due = on_due};
}

bool gw_timer_is_armed(const struct gw_timer *timer) { return timer->link.next != NULL; }

/* Rounds up, so that nothing fires early. */
static uint64_t tick_of(uint64_t due_ms)
{
    uint64_t tick = due_ms / TICK_MS + (due_ms % TICK_MS != 0);
    return tick <= MAX_TICK ? tick : MAX_TICK;
}

/* tick must lie after wheel->tick */
static void put(struct gw_wheel *wheel, struct gw_timer *timer, uint64_t tick)
{
    unsigned level = (63 - (unsigned)__builtin_clzll(tick ^ wheel->tick)) / BITS;
    unsigned slot = (tick >> (level * BITS)) % SLOTS;
    wheel->occupied[level] |= UINT64_C(1) << slot;
    h2o_linklist_insert(&wheel->slots[level][slot], &timer->link);
}

void gw_timer_arm(struct gw_wheel *wheel, struct gw_timer *timer, uint64_t due_ms)
{
    uint64_t tick = tick_of(due_ms);
    if (gw_timer_is_armed(timer))
        h2o_linklist_unlink(&timer->link);
    /* Not before the end of a run that is under way: a callback that arms for the past would keep it going for ever. */
    if (tick <= wheel->target) {
        tick = wheel->target + 1;
        due_ms = tick * TICK_MS;
    }
    timer->due_ms = due_ms;
    put(wheel, timer, tick);
}

void gw_timer_disarm(struct gw_timer *timer)
{
    if (gw_timer_is_armed(timer))
        h2o_linklist_unlink(&timer->link);
}

/* The first slot ahead that holds a timer, and the tick it begins with. */
static bool find_next(struct gw_wheel *wheel, unsigned *level_found, unsigned *slot_found, uint64_t *tick)
{
    for (unsigned level = 0; level != LEVELS; ++level) {
        unsigned index = (wheel->tick >> (level * BITS)) % SLOTS;
        uint64_t ahead = index == SLOTS - 1 ? 0 : wheel->occupied[level] & (~UINT64_C(0) << (index + 1));
        for (; ahead != 0; ahead &= ahead - 1) {
            unsigned slot = (unsigned)__builtin_ctzll(ahead);
            if (h2o_linklist_is_empty(&wheel->slots[level][slot])) {
                wheel->occupied[level] &= ~(UINT64_C(1) << slot);
                continue;
            }
            *level_found = level;
            *slot_found = slot;
            *tick = ((wheel->tick >> (level * BITS)) - index + slot) << (level * BITS);
            return true;
        }
    }
    return false;
}

/* What is due at wheel->tick becomes overdue, the rest of an upper level's slot moves down. */
static void open_slot(struct gw_wheel *wheel, unsigned level, unsigned slot)
{
    h2o_linklist_t taken;

    wheel->occupied[level] &= ~(UINT64_C(1) << slot);
    if (level == 0) {
        h2o_linklist_insert_list(&wheel->overdue, &wheel->slots[level][slot]);
        return;
    }
    h2o_linklist_init_anchor(&taken);
    h2o_linklist_insert_list(&taken, &wheel->slots[level][slot]);
    while (!h2o_linklist_is_empty(&taken)) {
        struct gw_timer *timer = timer_from(taken.next);
        uint64_t tick = tick_of(timer->due_ms);
        h2o_linklist_unlink(&timer->link);
        if (tick > wheel->tick)
            put(wheel, timer, tick);
        else
            h2o_linklist_insert(&wheel->overdue, &timer->link);
    }
}

/* False when time is over first. A callback may disarm, move or free any other timer of the list. */
static bool fire_overdue(struct gw_wheel *wheel, uint64_t until_us)
{
    for (unsigned n = 1; !h2o_linklist_is_empty(&wheel->overdue); ++n) {
        struct gw_timer *timer = timer_from(wheel->overdue.next);
        h2o_linklist_unlink(&timer->link);
        timer->on_due(timer);
        if (n % LOOK_EVERY == 0 && until_us != UINT64_MAX && gw_now_us() >= until_us)
            return h2o_linklist_is_empty(&wheel->overdue);
    }
    return true;
}

void gw_wheel_run_for(struct gw_wheel *wheel, uint64_t now_ms, uint64_t for_us)
{
    uint64_t target = now_ms / TICK_MS, tick, until_us;
    unsigned level, slot;
    if (target <= wheel->tick && h2o_linklist_is_empty(&wheel->overdue))
        return;
    if (target > wheel->target)
        wheel->target = target;
    until_us = for_us != UINT64_MAX ? gw_now_us() + for_us : UINT64_MAX;
    for (;;) {
        if (!fire_overdue(wheel, until_us))
            return;
        if (!find_next(wheel, &level, &slot, &tick) || tick > target)
            break;
        wheel->tick = tick;
        open_slot(wheel, level, slot);
    }
    wheel->tick = wheel->target;
}

void gw_wheel_run(struct gw_wheel *wheel, uint64_t now_ms) { gw_wheel_run_for(wheel, now_ms, UINT64_MAX); }

int32_t gw_wheel_wait(const struct gw_wheel *wheel, uint64_t now_ms, int32_t max_wait_ms)
{
    uint64_t tick;
    unsigned level, slot;
    if (wheel->overdue.next != &wheel->overdue)
        return 0;
    /* const to the caller: all that changes is that bits of empty slots are forgotten */
    if (!find_next((struct gw_wheel *)wheel, &level, &slot, &tick))
        return max_wait_ms;
    uint64_t due_ms = tick * TICK_MS;
    if (due_ms <= now_ms)
        return 0;
    return due_ms - now_ms < (uint64_t)max_wait_ms ? (int32_t)(due_ms - now_ms) : max_wait_ms;
}

uint64_t gw_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t gw_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
