#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <h2o/memory.h>
#include "gateway/base/wheel.h"

enum { TICK_MS = 8, NUM_TIMERS = 48 };
static const uint64_t day_ms = 86400000;

/* A timer that writes down that it fired. */
struct probe {
    struct gw_timer timer;
    unsigned fired;
};
static unsigned num_fired;
static struct probe *last_fired;

static void on_probe(struct gw_timer *timer)
{
    struct probe *probe = H2O_STRUCT_FROM_MEMBER(struct probe, timer, timer);
    assert_false(gw_timer_is_armed(timer));
    ++probe->fired;
    ++num_fired;
    last_fired = probe;
}

static struct probe new_probe(void)
{
    struct probe probe = {.fired = 0};
    gw_timer_init(&probe.timer, on_probe);
    return probe;
}

static void timer_fires_never_early_and_at_most_one_tick_late(void **state)
{
    static const uint64_t delays[] = {0,       1,        7,          8,          9,         63,    64,
                                      511,     512,      513,        4095,       32767,     32768, 100000,
                                      3600000, 86400000, 2592000000, 5184000000, 4096,      65537, 131071,
                                      2097151, 16777215, 134217727,  1073741823, 4294967295};
    for (uint64_t now = 1000; now < 1000 + 3 * TICK_MS; ++now) {
        for (size_t i = 0; i != sizeof(delays) / sizeof(delays[0]); ++i) {
            struct gw_wheel *wheel = gw_wheel_create(now);
            struct probe probe = new_probe();
            uint64_t due = now + delays[i];
            gw_timer_arm(wheel, &probe.timer, due);
            if (due > now) {
                gw_wheel_run(wheel, due - 1);
                assert_int_equal(probe.fired, 0);
            }
            /* armed for now or the past: from the next tick on */
            gw_wheel_run(wheel, (delays[i] == 0 ? now : due) + TICK_MS);
            assert_int_equal(probe.fired, 1);
            gw_wheel_destroy(wheel);
        }
    }
}

static void following_the_wait_meets_every_timer_within_one_tick(void **state)
{
    static const uint64_t delays[] = {1, 5, 90, 700, 20000, 61000, 86400000, 5184000000};
    for (size_t i = 0; i != sizeof(delays) / sizeof(delays[0]); ++i) {
        uint64_t now = 12345;
        struct gw_wheel *wheel = gw_wheel_create(now);
        struct probe probe = new_probe();
        unsigned num_wakes = 0;
        uint64_t due = now + delays[i];
        gw_timer_arm(wheel, &probe.timer, due);
        while (probe.fired == 0) {
            int32_t wait = gw_wheel_wait(wheel, now, INT32_MAX);
            assert_true(wait > 0);
            now += (uint64_t)wait;
            gw_wheel_run(wheel, now);
            assert_true(++num_wakes <= 8); /* at most one per level, not one per tick; and two for 60 days of int32_t */
        }
        assert_true(now >= due && now < due + TICK_MS);
        gw_wheel_destroy(wheel);
    }
}

static void wait_is_the_maximum_when_nothing_is_armed(void **state)
{
    struct gw_wheel *wheel = gw_wheel_create(5);
    struct probe probe = new_probe();
    assert_int_equal(gw_wheel_wait(wheel, 5, 1000), 1000);
    gw_timer_arm(wheel, &probe.timer, 50);
    assert_int_equal(gw_wheel_wait(wheel, 5, 1000), 56 - 5);
    assert_int_equal(gw_wheel_wait(wheel, 5, 20), 20);
    assert_int_equal(gw_wheel_wait(wheel, 60, 1000), 0);
    gw_timer_disarm(&probe.timer);
    assert_int_equal(gw_wheel_wait(wheel, 5, 1000), 1000);
    gw_wheel_destroy(wheel);
}

static void timers_fire_in_order_of_their_tick(void **state)
{
    struct gw_wheel *wheel = gw_wheel_create(0);
    struct probe probes[64];
    for (size_t i = 0; i != 64; ++i) {
        probes[i] = new_probe();
        gw_timer_arm(wheel, &probes[i].timer, 10 + (i * 37 % 64) * 1000);
    }
    num_fired = 0;
    for (unsigned i = 0; i != 64; ++i) {
        gw_wheel_run(wheel, 10 + i * 1000 + TICK_MS);
        assert_int_equal(num_fired, i + 1);
        assert_int_equal(last_fired->timer.due_ms, 10 + i * 1000);
    }
    gw_wheel_destroy(wheel);
}

static void disarmed_timer_does_not_fire(void **state)
{
    struct gw_wheel *wheel = gw_wheel_create(0);
    struct probe probe = new_probe();
    gw_timer_disarm(&probe.timer);
    gw_timer_arm(wheel, &probe.timer, 100);
    assert_true(gw_timer_is_armed(&probe.timer));
    gw_timer_disarm(&probe.timer);
    assert_false(gw_timer_is_armed(&probe.timer));
    gw_wheel_run(wheel, 100000);
    assert_int_equal(probe.fired, 0);
    gw_wheel_destroy(wheel);
}

static void arming_again_moves_the_timer(void **state)
{
    struct gw_wheel *wheel = gw_wheel_create(0);
    struct probe probe = new_probe();
    gw_timer_arm(wheel, &probe.timer, 100);
    gw_timer_arm(wheel, &probe.timer, 50000);
    gw_wheel_run(wheel, 49999);
    assert_int_equal(probe.fired, 0);
    gw_timer_arm(wheel, &probe.timer, 50100);
    gw_timer_arm(wheel, &probe.timer, 50050);
    gw_wheel_run(wheel, 50060);
    assert_int_equal(probe.fired, 1);
    gw_wheel_destroy(wheel);
}

static struct gw_wheel *the_wheel;

static void on_rearm_for_the_past(struct gw_timer *timer)
{
    on_probe(timer);
    gw_timer_arm(the_wheel, timer, 0);
}

static void timer_armed_for_the_past_in_its_callback_fires_once_per_run(void **state)
{
    struct probe probe = new_probe();
    the_wheel = gw_wheel_create(0);
    gw_timer_init(&probe.timer, on_rearm_for_the_past);
    gw_timer_arm(the_wheel, &probe.timer, 5);
    for (unsigned i = 1; i != 100; ++i) {
        gw_wheel_run(the_wheel, i * 1000);
        assert_int_equal(probe.fired, i);
    }
    gw_wheel_destroy(the_wheel);
}

static void on_free(struct gw_timer *timer)
{
    ++num_fired;
    free(timer);
}

static void timer_may_be_freed_in_its_callback(void **state)
{
    struct gw_wheel *wheel = gw_wheel_create(0);
    num_fired = 0;
    for (int i = 0; i != 10; ++i) {
        struct gw_timer *timer = malloc(sizeof(*timer));
        gw_timer_init(timer, on_free);
        gw_timer_arm(wheel, timer, 100);
    }
    gw_wheel_run(wheel, 200);
    assert_int_equal(num_fired, 10);
    gw_wheel_destroy(wheel);
}

static void destroyed_wheel_leaves_its_timers_disarmed(void **state)
{
    struct gw_wheel *wheel = gw_wheel_create(0);
    struct probe near = new_probe(), far = new_probe();
    gw_timer_arm(wheel, &near.timer, 10);
    gw_timer_arm(wheel, &far.timer, 50 * day_ms);
    gw_wheel_destroy(wheel);
    assert_false(gw_timer_is_armed(&near.timer));
    assert_false(gw_timer_is_armed(&far.timer));
    gw_wheel_destroy(NULL);
}

static unsigned order[64], num_ordered;
static struct gw_timer crowd[64];

static void on_crowd(struct gw_timer *timer) { order[num_ordered++] = (unsigned)(timer - crowd); }

static void a_run_without_time_goes_on_where_it_stopped(void **state)
{
    struct gw_wheel *wheel = gw_wheel_create(0);
    unsigned runs = 0, expected = 0;
    num_ordered = 0;
    for (unsigned i = 0; i != 64; ++i) {
        gw_timer_init(&crowd[i], on_crowd);
        gw_timer_arm(wheel, &crowd[i], 10 + i / 32 * 1000); /* of two levels */
    }
    for (; num_ordered < 63; ++runs) {
        gw_wheel_run_for(wheel, 5000, 0);
        assert_true(runs < 64);
        if (runs == 0) {
            assert_in_range(num_ordered, 1, 31);
            assert_int_equal(gw_wheel_wait(wheel, 5000, 1000), 0);
            gw_timer_disarm(&crowd[40]);
            gw_timer_arm(wheel, &crowd[0], 20); /* for the past, but not of this run */
        }
    }
    assert_true(runs > 1);
    for (unsigned i = 0; i != 63; ++i, ++expected) {
        expected += expected == 40;
        assert_int_equal(order[i], expected);
    }
    assert_true(gw_timer_is_armed(&crowd[0]));
    assert_in_range(gw_wheel_wait(wheel, 5000, 1000), 1, 2 * TICK_MS);
    gw_wheel_run_for(wheel, 5000 + 2 * TICK_MS, 0);
    assert_int_equal(order[63], 0);
    gw_wheel_destroy(wheel);
}

/* ---- random operations against a list of ticks ---- */

static struct model {
    struct gw_wheel *wheel;
    struct gw_timer timers[NUM_TIMERS];
    uint64_t ticks[NUM_TIMERS]; /* UINT64_MAX: not armed */
    uint64_t now, last_fired_tick;
    uint64_t target; /* of the present or last run */
    uint64_t seed;
    unsigned long num_fired;
} model;

static uint64_t next_random(void)
{
    model.seed ^= model.seed << 13;
    model.seed ^= model.seed >> 7;
    model.seed ^= model.seed << 17;
    return model.seed;
}

/* Delays of every magnitude are equally likely, so that all levels are used. */
static uint64_t random_delay(void) { return next_random() >> (32 + next_random() % 32); }

static void model_arm(unsigned i, uint64_t due)
{
    uint64_t tick = (due + TICK_MS - 1) / TICK_MS;
    gw_timer_arm(model.wheel, &model.timers[i], due);
    model.ticks[i] = tick > model.target ? tick : model.target + 1;
}

static void model_disarm(unsigned i)
{
    gw_timer_disarm(&model.timers[i]);
    model.ticks[i] = UINT64_MAX;
}

static void change_at_random(void)
{
    unsigned i = (unsigned)(next_random() % NUM_TIMERS);
    switch (next_random() % 4) {
    case 0:
        model_disarm(i);
        break;
    case 1:
        model_arm(i, model.now - random_delay() % (model.now + 1));
        break;
    default:
        model_arm(i, model.now + random_delay());
    }
}

static void on_model(struct gw_timer *timer)
{
    unsigned i = (unsigned)(timer - model.timers);
    assert_true(model.ticks[i] <= model.target);
    for (unsigned k = 0; k != NUM_TIMERS; ++k)
        assert_true(model.ticks[k] >= model.ticks[i]);
    assert_true(model.ticks[i] >= model.last_fired_tick);
    model.last_fired_tick = model.ticks[i];
    model.ticks[i] = UINT64_MAX;
    ++model.num_fired;
    while (next_random() % 2 == 0)
        change_at_random();
}

static void check_model(void)
{
    uint64_t next = UINT64_MAX;
    for (unsigned i = 0; i != NUM_TIMERS; ++i) {
        assert_true(model.ticks[i] > model.target);
        assert_int_equal(gw_timer_is_armed(&model.timers[i]), model.ticks[i] != UINT64_MAX);
        next = model.ticks[i] < next ? model.ticks[i] : next;
    }
    int32_t wait = gw_wheel_wait(model.wheel, model.now, INT32_MAX);
    assert_true(wait >= 0);
    if (next == UINT64_MAX)
        assert_int_equal(wait, INT32_MAX);
    else
        assert_true(model.now + (uint64_t)wait <= next * TICK_MS);
}

static void wheel_agrees_with_a_list_over_millions_of_random_operations(void **state)
{
    model.seed = 88172645463325252u;
    for (int round = 0; round != 40; ++round) {
        model.now = random_delay();
        model.target = model.now / TICK_MS;
        model.wheel = gw_wheel_create(model.now);
        for (unsigned i = 0; i != NUM_TIMERS; ++i) {
            gw_timer_init(&model.timers[i], on_model);
            model.ticks[i] = UINT64_MAX;
        }
        for (int i = 0; i != 50000; ++i) {
            if (next_random() % 4 != 0) {
                change_at_random();
                continue;
            }
            model.now += next_random() % 8 == 0 ? random_delay() : next_random() % 64;
            model.target = model.now / TICK_MS;
            model.last_fired_tick = 0;
            gw_wheel_run(model.wheel, model.now);
            check_model();
        }
        gw_wheel_destroy(model.wheel);
    }
    assert_true(model.num_fired > 500000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timer_fires_never_early_and_at_most_one_tick_late),
        cmocka_unit_test(following_the_wait_meets_every_timer_within_one_tick),
        cmocka_unit_test(wait_is_the_maximum_when_nothing_is_armed),
        cmocka_unit_test(timers_fire_in_order_of_their_tick),
        cmocka_unit_test(a_run_without_time_goes_on_where_it_stopped),
        cmocka_unit_test(disarmed_timer_does_not_fire),
        cmocka_unit_test(arming_again_moves_the_timer),
        cmocka_unit_test(timer_armed_for_the_past_in_its_callback_fires_once_per_run),
        cmocka_unit_test(timer_may_be_freed_in_its_callback),
        cmocka_unit_test(destroyed_wheel_leaves_its_timers_disarmed),
        cmocka_unit_test(wheel_agrees_with_a_list_over_millions_of_random_operations),
    };
    return cmocka_run_group_tests_name("base/wheel", tests, NULL, NULL);
}
