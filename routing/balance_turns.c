/* Round robin, smooth and weighted. Earliest deadline first: each target is due again one stride (inverse of its
 * weight) after its last turn, a heap keeps the next one on top. The shares are exact for any weights and the turns of
 * a target are spread evenly, as with nginx's smooth round robin, but a pick costs O(log n) instead of O(n), so that
 * 1,000 targets cost little more than 3. A target that is no member any more leaves the heap when its turn comes. */
#include <assert.h>
#include "routing/balance_internal.h"

/* Of a target with weight 1, in units of virtual time. Dues are at most a stride apart, so that they may wrap around.
 */
static const uint64_t STRIDE = UINT64_C(1) << 44;

static bool is_before(const struct turn *a, const struct turn *b)
{
    int64_t apart = (int64_t)(a->due - b->due);
    return apart < 0 || (apart == 0 && a->rank < b->rank);
}

static void sift_up(struct ring *ring, uint32_t at)
{
    struct turn turn = ring->heap[at];
    while (at != 0 && is_before(&turn, ring->heap + (at - 1) / 2)) {
        ring->heap[at] = ring->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    ring->heap[at] = turn;
}

static void sift_down(struct ring *ring, uint32_t at)
{
    struct turn turn = ring->heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= ring->heap_size)
            break;
        if (child + 1 < ring->heap_size && is_before(ring->heap + child + 1, ring->heap + child))
            ++child;
        if (!is_before(ring->heap + child, &turn))
            break;
        ring->heap[at] = ring->heap[child];
        at = child;
    }
    ring->heap[at] = turn;
}

static void push(struct ring *ring, struct turn turn)
{
    ring->heap[ring->heap_size++] = turn;
    ring->is_in_heap[turn.target] = true;
    sift_up(ring, ring->heap_size - 1);
}

static struct turn pop(struct ring *ring)
{
    struct turn top = ring->heap[0];
    ring->heap[0] = ring->heap[--ring->heap_size];
    if (ring->heap_size != 0)
        sift_down(ring, 0);
    ring->is_in_heap[top.target] = false;
    return top;
}

/* A turn that was planned with the weight before is taken as planned, later ones follow the new weight. */
static uint64_t stride_of(const struct routing_balancer *self, uint32_t target)
{
    assert(self->effective[target] != 0);
    return STRIDE / self->effective[target];
}

/* Half a stride to the first turn spreads light targets between the turns of heavy ones from the start. */
void balance_turns_update(struct routing_balancer *self, struct ring *ring)
{
    for (uint32_t i = 0; i != ring->size; ++i) {
        uint32_t target = ring->members[i];
        if (ring->is_in_heap[target])
            continue;
        uint32_t rank = (target + self->size - self->seed % self->size) % self->size;
        push(ring, (struct turn){ring->now + stride_of(self, target) / 2, target, rank});
    }
}

/* The next turn of a member that is free. The others keep their turn for the next request. */
uint32_t balance_turns_pick(struct routing_balancer *self, struct ring *ring, const struct routing_pick *pick)
{
    uint32_t num_aside = 0, picked = ROUTING_NO_TARGET;

    while (ring->heap_size != 0 && picked == ROUTING_NO_TARGET) {
        struct turn turn = pop(ring);
        if (!ring->is_member[turn.target])
            continue; /* balance_turns_update finds it when it is back */
        if (__builtin_expect(balance_is_out(self, pick, turn.target), 0)) {
            ring->aside[num_aside++] = turn;
            continue;
        }
        picked = turn.target;
        if ((int64_t)(turn.due - ring->now) > 0)
            ring->now = turn.due;
        turn.due += stride_of(self, turn.target);
        push(ring, turn);
    }
    while (num_aside != 0) {
        struct turn turn = ring->aside[--num_aside];
        if (balance_is_busy(self, turn.target) && (int64_t)(ring->now - turn.due) > 0)
            turn.due = ring->now; /* what it could not take is not made up for */
        push(ring, turn);
    }
    return picked;
}
