/* What a pick costs: nanoseconds for each algorithm and size of a group, with requests under way; and which way of
 * counting those is the cheaper one, a counter of all threads or one for each. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "routing/balance.h"

enum { PICKS = 200000, ROUNDS = 5, WINDOW = 64 };

struct group {
    struct routing_target_group group;
    struct routing_target_group_conf conf;
    struct routing_target *targets;
    struct routing_health *health;
    struct routing_target_load *load;
    struct routing_group_live live;
};

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void *zeroed(size_t size)
{
    void *p = aligned_alloc(64, (size + 63) & ~(size_t)63);
    memset(p, 0, size);
    return p;
}

static struct group *make(enum routing_algorithm type, uint32_t n)
{
    struct group *self = zeroed(sizeof(*self));
    self->targets = zeroed(n * sizeof(*self->targets));
    self->health = zeroed(n * sizeof(*self->health));
    self->load = zeroed(n * sizeof(*self->load));
    self->conf.algorithm.type = type;
    self->conf.algorithm.decay_ms = 10000;
    self->conf.minimum_healthy.targets = 1;
    self->group = (struct routing_target_group){
        .name = h2o_iovec_init(H2O_STRLIT("g")), .conf = &self->conf, .targets = self->targets, .size = n};
    for (uint32_t i = 0; i != n; ++i) {
        char name[32];
        h2o_iovec_t text =
            h2o_strdup(NULL, name, (size_t)snprintf(name, sizeof(name), "10.0.%u.%u:80", i / 250, i % 250));
        routing_health_init(self->health + i, false);
        self->health[i].group = &self->live;
        self->targets[i] =
            (struct routing_target){.name = text, .weight = 1, .health = self->health + i, .load = self->load + i};
    }
    return self;
}

/* A request is under way for the next WINDOW picks, as on a busy thread. */
static double pick_ns(struct group *group)
{
    struct routing_balancer *balancer = routing_balancer_create(&group->group, 1);
    uint32_t window[WINDOW];
    double best = 1e9;

    for (int round = 0; round != ROUNDS; ++round) {
        memset(window, 0xff, sizeof(window));
        uint64_t start = cpu_ns();
        for (unsigned i = 0; i != PICKS; ++i) {
            struct routing_pick pick = {.now_ms = i / 100, .key = i * UINT64_C(0x9e3779b97f4a7c15), .has_key = true};
            uint32_t target = routing_balancer_pick(balancer, &pick, NULL), *slot = &window[i % WINDOW];
            if (*slot != UINT32_MAX)
                routing_target_leave(&group->load[*slot]);
            routing_target_enter(&group->load[target], 0);
            *slot = target;
        }
        double ns = (double)(cpu_ns() - start) / PICKS;
        best = ns < best ? ns : best;
        for (unsigned i = 0; i != WINDOW; ++i)
            routing_target_leave(&group->load[window[i]]);
    }
    routing_balancer_destroy(balancer);
    return best;
}

/* ---- one counter, or one for each thread ---- */

enum { TARGETS = 8, THREADS = 2 };
struct counters {
    struct routing_target_load shared[TARGETS];
    struct {
        _Atomic uint64_t n;
    } __attribute__((aligned(64))) own[TARGETS][THREADS];
};
struct counting {
    struct counters *counters;
    unsigned thread;
    bool is_shared;
    double ns;
};

static void *count(void *data)
{
    struct counting *self = data;
    struct counters *c = self->counters;
    uint64_t start = cpu_ns();
    for (unsigned i = 0; i != PICKS; ++i) {
        uint64_t best = UINT64_MAX;
        unsigned target = 0;
        for (unsigned t = 0; t != TARGETS; ++t) {
            uint64_t n = 0;
            if (self->is_shared)
                n = routing_target_in_flight(&c->shared[t]);
            else
                for (unsigned w = 0; w != THREADS; ++w)
                    n += __atomic_load_n((uint64_t *)&c->own[t][w].n, __ATOMIC_RELAXED);
            if (n < best) {
                best = n;
                target = (t + i) % TARGETS;
            }
        }
        uint64_t *own = (uint64_t *)&c->own[target][self->thread].n;
        if (self->is_shared) {
            routing_target_enter(&c->shared[target], 0);
            routing_target_leave(&c->shared[target]);
        } else {
            __atomic_store_n(own, __atomic_load_n(own, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
            __atomic_store_n(own, __atomic_load_n(own, __ATOMIC_RELAXED) - 1, __ATOMIC_RELAXED);
        }
    }
    self->ns = (double)(cpu_ns() - start) / PICKS;
    return NULL;
}

static double counting_ns(bool is_shared)
{
    struct counters *counters = zeroed(sizeof(*counters));
    struct counting all[THREADS];
    pthread_t threads[THREADS];

    for (unsigned i = 0; i != THREADS; ++i) {
        all[i] = (struct counting){counters, i, is_shared, 0};
        pthread_create(&threads[i], NULL, count, &all[i]);
    }
    for (unsigned i = 0; i != THREADS; ++i)
        pthread_join(threads[i], NULL);
    free(counters);
    return (all[0].ns + all[1].ns) / 2;
}

int main(void)
{
    static const uint32_t sizes[] = {3, 20, 100, 1000};
    printf("| pick, ns | 3 targets | 20 | 100 | 1,000 |\n|---|---|---|---|---|\n");
    for (int type = ROUTING_ROUND_ROBIN; type <= ROUTING_CONSISTENT_HASH; ++type) {
        struct group *named = make((enum routing_algorithm)type, 1);
        printf("| %s |", routing_balance_name(&named->conf));
        for (size_t s = 0; s != sizeof(sizes) / sizeof(sizes[0]); ++s)
            printf(" %.0f |", pick_ns(make((enum routing_algorithm)type, sizes[s])));
        printf("\n");
    }
    printf("\nrequests under way of %d targets, %d threads: one counter %.0f ns, one for each thread %.0f ns\n",
           TARGETS, THREADS, counting_ns(true), counting_ns(false));
    return 0;
}
