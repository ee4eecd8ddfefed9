#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/upstream/pool.h"
#include "gateway/upstream/connection.h"
#include "gateway/http/socket.h"
#include "gateway/upstream/h2_session.h"

/* Structs kept for reuse. None under AddressSanitizer, which would not see a use after free of a recycled struct. */
#if defined(__SANITIZE_ADDRESS__)
enum { MAX_SPARE = 0 };
#else
enum { MAX_SPARE = 256 };
#endif
enum { MIN_SCRATCH = 16 * 1024, MAX_IDLE_READ = 16 * 1024 };

/* What the pool knows of one endpoint. Found by the endpoint's index; lives as long as the pool, because connections in
 * use point to it. */
struct gw_pool_slot {
    h2o_linklist_t idle;     /* of gw_upstream_connection, newest first */
    h2o_linklist_t to_sweep; /* in gw_pool.to_sweep when connections were idle since the last sweep */
    const struct gw_endpoint *endpoint;
    uint64_t transport_id; /* of all idle connections, and of the session */
    struct tls_origin_session session;
    h2o_linklist_t sessions; /* of gw_h2_session: those that take requests, newest first */
    uint32_t num_idle;
    uint32_t idle_ms;    /* as the latest request said */
    uint32_t generation; /* moves on when the endpoint is forgotten */
};

struct spare { /* a freed client struct */
    struct spare *next;
};

struct gw_pool {
    struct gw_thread *thread;
    struct gw_pool_slot **slots; /* by gw_endpoint.index; entries may be NULL */
    size_t num_slots;
    h2o_linklist_t to_sweep;
    h2o_linklist_t sessions; /* of gw_h2_session: all that live */
    struct gw_timer sweep;
    struct gw_upstream_connection *spare_connections;
    struct spare *spare_clients;
    unsigned num_spare_connections, num_spare_clients;
    size_t num_connections, num_clients; /* alive; both 0 at the end or somebody forgot a release */
    char *scratch;
    size_t scratch_size;
    struct gw_pool_stats stats;
};

static bool has_room_for_spare(unsigned num_spare) { return num_spare + 1 <= MAX_SPARE; }

static void free_connection(struct gw_upstream_connection *self)
{
    struct gw_pool *pool = self->pool;
    gw_timer_disarm(&self->timer);
    gw_transport_release(self->transport);
    if (__builtin_expect(self->preface.len != 0, 0))
        free(self->preface.base);
    self->magic = 0;
    --pool->num_connections;
    if (!has_room_for_spare(pool->num_spare_connections)) {
        free(self);
        return;
    }
    self->next_free = pool->spare_connections;
    pool->spare_connections = self;
    ++pool->num_spare_connections;
}

static struct gw_upstream_connection *alloc_connection(struct gw_pool *pool)
{
    struct gw_upstream_connection *self = pool->spare_connections;
    ++pool->num_connections;
    if (self == NULL)
        return h2o_mem_alloc(sizeof(*self));
    pool->spare_connections = self->next_free;
    --pool->num_spare_connections;
    return self;
}

static void unlink_idle(struct gw_upstream_connection *self)
{
    h2o_linklist_unlink(&self->link);
    --self->slot->num_idle;
    gw_count(&self->pool->stats.idle, (uint64_t)-1);
}

static void close_idle(struct gw_upstream_connection *self)
{
    unlink_idle(self);
    gw_count(&self->pool->stats.idle_closed, 1);
    gw_pool_close(self);
}

static struct gw_upstream_connection *oldest_idle(const struct gw_pool_slot *slot)
{
    return H2O_STRUCT_FROM_MEMBER(struct gw_upstream_connection, link, slot->idle.prev);
}

static void close_all_idle(struct gw_pool_slot *slot)
{
    while (slot->num_idle != 0)
        close_idle(oldest_idle(slot));
}

/* A turn's part of many connections that became idle at the same time: a close takes some 6 us. */
enum { CLOSED_AT_A_TIME = 8 };

/* Closes what was idle for too long and finds out when to look again. Lists are in order of age. */
static void on_sweep(struct gw_timer *timer)
{
    struct gw_pool *pool = H2O_STRUCT_FROM_MEMBER(struct gw_pool, sweep, timer);
    unsigned left = CLOSED_AT_A_TIME;
    uint64_t now_ms = gw_thread_now(pool->thread), next_ms = UINT64_MAX;
    h2o_linklist_t *node = pool->to_sweep.next;
    while (node != &pool->to_sweep) {
        struct gw_pool_slot *slot = H2O_STRUCT_FROM_MEMBER(struct gw_pool_slot, to_sweep, node);
        node = node->next;
        for (; left != 0 && slot->num_idle != 0 && oldest_idle(slot)->idle_since_ms + slot->idle_ms <= now_ms; --left)
            close_idle(oldest_idle(slot));
        if (slot->num_idle == 0)
            h2o_linklist_unlink(&slot->to_sweep);
        else if (oldest_idle(slot)->idle_since_ms + slot->idle_ms < next_ms)
            next_ms = oldest_idle(slot)->idle_since_ms + slot->idle_ms;
    }
    if (next_ms != UINT64_MAX)
        gw_timer_arm(pool->thread->wheel, &pool->sweep, next_ms > now_ms ? next_ms : now_ms + 1);
}

struct gw_pool *gw_pool_create(struct gw_thread *thread)
{
    struct gw_pool *pool = h2o_mem_alloc(sizeof(*pool));
    memset(pool, 0, sizeof(*pool));
    pool->thread = thread;
    h2o_linklist_init_anchor(&pool->to_sweep);
    h2o_linklist_init_anchor(&pool->sessions);
    gw_timer_init(&pool->sweep, on_sweep);
    return pool;
}

void gw_pool_destroy(struct gw_pool *pool)
{
    if (pool == NULL)
        return;
    while (!h2o_linklist_is_empty(&pool->sessions))
        gw_h2_session_fail(H2O_STRUCT_FROM_MEMBER(struct gw_h2_session, link_of_all, pool->sessions.next),
                           GW_CLIENT_CLOSED_EARLY, "the thread ends");
    for (size_t i = 0; i != pool->num_slots; ++i) {
        if (pool->slots[i] == NULL)
            continue;
        close_all_idle(pool->slots[i]);
        tls_origin_session_dispose(&pool->slots[i]->session);
        free(pool->slots[i]);
    }
    assert(pool->num_connections == 0 && pool->num_clients == 0 && "a client outlives its pool");
    gw_timer_disarm(&pool->sweep);
    for (struct gw_upstream_connection *c; (c = pool->spare_connections) != NULL;) {
        pool->spare_connections = c->next_free;
        free(c);
    }
    for (struct spare *s; (s = pool->spare_clients) != NULL;) {
        pool->spare_clients = s->next;
        free(s);
    }
    free(pool->slots);
    free(pool->scratch);
    free(pool);
}

static struct gw_pool_slot *add_slot(struct gw_pool *pool, uint32_t index)
{
    if (index >= pool->num_slots) {
        size_t size = (size_t)index + 16;
        pool->slots = h2o_mem_realloc(pool->slots, size * sizeof(pool->slots[0]));
        memset(pool->slots + pool->num_slots, 0, (size - pool->num_slots) * sizeof(pool->slots[0]));
        pool->num_slots = size;
    }
    struct gw_pool_slot *slot = h2o_mem_alloc(sizeof(*slot));
    memset(slot, 0, sizeof(*slot));
    h2o_linklist_init_anchor(&slot->idle);
    h2o_linklist_init_anchor(&slot->sessions);
    pool->slots[index] = slot;
    return slot;
}

static void forget(struct gw_pool_slot *slot)
{
    close_all_idle(slot);
    while (!h2o_linklist_is_empty(&slot->sessions))
        gw_h2_session_retire(H2O_STRUCT_FROM_MEMBER(struct gw_h2_session, link, slot->sessions.next));
    tls_origin_session_dispose(&slot->session);
    ++slot->generation;
    slot->endpoint = NULL;
}

/* Connections of other settings (another ca, another name, another protocol) serve no request of these: idle ones are
 * closed now, those in use when they come back. */
static void change_transport(struct gw_pool_slot *slot, uint64_t id)
{
    const struct gw_endpoint *endpoint = slot->endpoint;
    forget(slot);
    slot->endpoint = endpoint;
    slot->transport_id = id;
}

static struct gw_pool_slot *slot_of(struct gw_pool *pool, const struct gw_endpoint *endpoint,
                                    const struct gw_transport *transport)
{
    struct gw_pool_slot *slot = endpoint->index < pool->num_slots ? pool->slots[endpoint->index] : NULL;
    uint64_t id = gw_transport_id(transport);
    if (slot != NULL && slot->endpoint == endpoint) {
        if (__builtin_expect(slot->transport_id != id, 0))
            change_transport(slot, id);
        return slot;
    }
    if (slot == NULL)
        slot = add_slot(pool, endpoint->index);
    else
        forget(slot); /* the index went to another endpoint */
    slot->endpoint = endpoint;
    slot->transport_id = id;
    return slot;
}

void gw_pool_forget(struct gw_pool *pool, const struct gw_endpoint *endpoint)
{
    if (endpoint->index < pool->num_slots && pool->slots[endpoint->index] != NULL &&
        pool->slots[endpoint->index]->endpoint == endpoint)
        forget(pool->slots[endpoint->index]);
}

/* Nothing to read, not even the end. */
static bool is_quiet(const struct gw_upstream_connection *self)
{
    char byte;
    ssize_t n = recv(h2o_socket_get_fd(self->sock), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* As the kernel knows it now; of TLS only a byte of HTTP or the end is a reason not to use it. */
static bool is_usable(const struct gw_upstream_connection *self)
{
    if (is_quiet(self))
        return true;
    return self->sock->ssl != NULL && gw_socket_read(self->sock, NULL, MAX_IDLE_READ) == NULL &&
           self->sock->input->size == 0;
}

struct gw_upstream_connection *gw_pool_take(struct gw_pool *pool, const struct gw_endpoint *endpoint,
                                            const struct gw_transport *transport, h2o_iovec_t preface, bool look_first,
                                            bool *has_place)
{
    struct gw_pool_slot *slot = slot_of(pool, endpoint, transport);
    for (h2o_linklist_t *node = slot->idle.next; node != &slot->idle;) {
        struct gw_upstream_connection *self = H2O_STRUCT_FROM_MEMBER(struct gw_upstream_connection, link, node);
        node = node->next;
        if (__builtin_expect((self->preface.len | preface.len) != 0, 0) &&
            !h2o_memis(self->preface.base, self->preface.len, preface.base, preface.len))
            continue; /* it speaks for somebody else */
        if (look_first && !is_usable(self)) {
            if (!*has_place) { /* for the one that takes over: nobody else's meanwhile */
                self->counted = (struct gw_counted){NULL, NULL};
                *has_place = true;
            }
            close_idle(self);
            continue;
        }
        unlink_idle(self);
        gw_count(&pool->stats.reuses, 1);
        return self;
    }
    return NULL;
}

/* ---- how many there may be ---- */

enum gw_pool_room gw_room_enter(struct gw_counted at, uint32_t max, uint32_t max_of_group)
{
    if (at.load == NULL)
        return GW_POOL_READY;
    if (!routing_count_enter(&at.load->connections, max))
        return GW_POOL_TARGET_FULL;
    if (routing_count_enter(&at.of_group->connections, max_of_group))
        return GW_POOL_READY;
    routing_count_leave(&at.load->connections);
    return GW_POOL_GROUP_FULL;
}

void gw_room_leave(struct gw_counted at)
{
    if (at.load == NULL)
        return;
    routing_count_leave(&at.load->connections);
    routing_count_leave(&at.of_group->connections);
    if (at.of_group->on_room != NULL)
        at.of_group->on_room(at.of_group);
}

static bool make_room_at(struct gw_pool_slot *slot)
{
    if (slot->num_idle != 0) {
        close_idle(oldest_idle(slot));
        return true;
    }
    for (h2o_linklist_t *node = slot->sessions.next; node != &slot->sessions; node = node->next)
        if (gw_h2_session_close_if_idle(H2O_STRUCT_FROM_MEMBER(struct gw_h2_session, link, node)))
            return true;
    return false;
}

static bool make_room_for(struct gw_pool_slot *slot, const struct gw_group_use *use)
{
    return slot != NULL && slot->endpoint != NULL && slot->endpoint->counted.of_group == use && make_room_at(slot);
}

bool gw_pool_make_room(struct gw_pool *pool, const struct gw_group_use *use, uint32_t index)
{
    if (index != GW_POOL_ANY)
        return index < pool->num_slots && make_room_for(pool->slots[index], use);
    for (size_t i = 0; i != pool->num_slots; ++i)
        if (make_room_for(pool->slots[i], use))
            return true;
    return false;
}

enum gw_pool_room gw_pool_enter(struct gw_pool *pool, const struct gw_endpoint *endpoint,
                                const struct gw_pool_limits *limits)
{
    for (;;) {
        enum gw_pool_room room =
            gw_room_enter(endpoint->counted, limits->max_connections, limits->max_group_connections);
        if (__builtin_expect(room == GW_POOL_READY, 1) ||
            !gw_pool_make_room(pool, endpoint->counted.of_group,
                               room == GW_POOL_TARGET_FULL ? endpoint->index : GW_POOL_ANY))
            return room;
    }
}

enum gw_pool_room gw_pool_reserve(struct gw_pool *pool, const struct gw_endpoint *endpoint,
                                  const struct gw_transport *transport, const struct gw_pool_limits *limits,
                                  bool needs_new, bool may_close)
{
    struct gw_pool_slot *slot = slot_of(pool, endpoint, transport);
    enum gw_pool_room room;

    if (!needs_new && (slot->num_idle != 0 || gw_h2_session_with_room(&slot->sessions, limits->max_requests) != NULL))
        return GW_POOL_READY;
    room = may_close ? gw_pool_enter(pool, endpoint, limits)
                     : gw_room_enter(endpoint->counted, limits->max_connections, limits->max_group_connections);
    if (room != GW_POOL_READY)
        return room;
    if (routing_count_enter(&endpoint->counted.of_group->pending, limits->max_pending))
        return GW_POOL_RESERVED;
    gw_room_leave(endpoint->counted);
    return GW_POOL_TOO_MANY_PENDING;
}

void gw_pool_unreserve(const struct gw_endpoint *endpoint)
{
    routing_count_leave(&endpoint->counted.of_group->pending);
    gw_room_leave(endpoint->counted);
}

/* ---- connecting ---- */

struct gw_upstream_connection *gw_pool_connect(struct gw_pool *pool, const struct gw_endpoint *endpoint,
                                               const struct gw_transport *transport, h2o_socket_cb on_connect,
                                               void (*on_due)(struct gw_timer *))
{
    struct sockaddr_storage address = endpoint->address.sa; /* the library takes no const */
    errno = 0;
    h2o_socket_t *sock =
        h2o_socket_connect(pool->thread->loop, (struct sockaddr *)&address, endpoint->address.sa_len, on_connect);
    if (sock == NULL) {
        gw_room_leave(endpoint->counted);
        return NULL;
    }
    struct gw_upstream_connection *self = alloc_connection(pool);
    memset(self, 0, sizeof(*self));
    self->magic = GW_UPSTREAM_CONNECTION_MAGIC;
    self->slot = slot_of(pool, endpoint, transport);
    self->transport = gw_transport_hold(transport);
    self->generation = self->slot->generation;
    self->sock = sock;
    self->pool = pool;
    self->counted = endpoint->counted;
    self->deadline_ms = GW_NO_DEADLINE;
    gw_timer_init(&self->timer, on_due);
    sock->data = self;
    return self;
}

h2o_linklist_t *gw_pool_sessions(struct gw_pool *pool, const struct gw_endpoint *endpoint,
                                 const struct gw_transport *transport, struct gw_pool_slot **slot)
{
    *slot = slot_of(pool, endpoint, transport);
    return &(*slot)->sessions;
}

struct tls_origin_session *gw_pool_tls_session(struct gw_pool_slot *slot) { return &slot->session; }
h2o_linklist_t *gw_pool_all_sessions(struct gw_pool *pool) { return &pool->sessions; }

void gw_pool_handshake(struct gw_upstream_connection *self, h2o_socket_cb on_done)
{
    tls_origin_handshake(self->transport->tls, self->sock, self->transport->name, &self->slot->session,
                         self->transport->id, on_done);
}

enum tls_origin_failure gw_pool_judge_handshake(struct gw_upstream_connection *self, const char *err,
                                                const char **detail)
{
    struct gw_pool_stats *stats = &self->pool->stats;
    enum tls_origin_failure failure = tls_origin_judge(self->transport->tls, self->sock, err, detail);
    if (failure != TLS_ORIGIN_NONE)
        gw_count(&stats->tls_failures[failure], 1);
    else if (h2o_socket_get_ssl_session_reused(self->sock) == 1)
        gw_count(&stats->tls_resumed, 1);
    else
        gw_count(&stats->tls_full, 1);
    return failure;
}

void gw_pool_put(struct gw_upstream_connection *self, const struct gw_pool_limits *limits)
{
    struct gw_pool *pool = self->pool;
    struct gw_pool_slot *slot = self->slot;
    assert(h2o_socket_is_reading(self->sock) && !h2o_socket_is_writing(self->sock));
    if (self->generation != slot->generation || (self->sock->ssl != NULL && tls_origin_has_said_goodbye(self->sock)) ||
        limits->max_idle == 0 || limits->idle_ms == 0 ||
        (limits->max_requests != 0 && self->num_requests >= limits->max_requests)) {
        gw_pool_close(self);
        return;
    }
    if (slot->num_idle >= limits->max_idle)
        close_idle(oldest_idle(slot));
    self->client = NULL;
    self->deadline_ms = GW_NO_DEADLINE;
    self->idle_since_ms = gw_thread_now(pool->thread);
    slot->idle_ms = limits->idle_ms;
    h2o_linklist_insert(slot->idle.next, &self->link);
    ++slot->num_idle;
    gw_count(&pool->stats.idle, 1);
    if (!h2o_linklist_is_linked(&slot->to_sweep))
        h2o_linklist_insert(&pool->to_sweep, &slot->to_sweep);
    uint64_t due_ms = self->idle_since_ms + slot->idle_ms;
    if (!gw_timer_is_armed(&pool->sweep) || pool->sweep.due_ms > due_ms)
        gw_timer_arm(pool->thread->wheel, &pool->sweep, due_ms);
}

void gw_pool_close(struct gw_upstream_connection *self)
{
    struct gw_counted counted = self->counted;
    tls_origin_detach(self->sock);
    h2o_socket_close(self->sock);
    free_connection(self);
    gw_room_leave(counted);
}

void gw_pool_on_idle_readable(struct gw_upstream_connection *self, const char *err)
{
    /* A wake-up without bytes or end (a TLS session ticket, say) is no reason to close. */
    if (err == NULL && self->sock->input->size == 0 && is_usable(self))
        return;
    close_idle(self);
}

const struct gw_pool_stats *gw_pool_stats(const struct gw_pool *pool) { return &pool->stats; }
struct gw_pool_stats *gw_pool_counters(struct gw_pool *pool) { return &pool->stats; }
struct gw_thread *gw_pool_thread(struct gw_pool *pool) { return pool->thread; }
uint64_t gw_pool_now_ms(struct gw_pool *pool) { return gw_thread_now(pool->thread); }

struct gw_client *gw_pool_alloc_client(struct gw_pool *pool, size_t size)
{
    struct spare *self = pool->spare_clients;
    ++pool->num_clients;
    if (self == NULL)
        return h2o_mem_alloc(size);
    pool->spare_clients = self->next;
    --pool->num_spare_clients;
    return (struct gw_client *)self;
}

void gw_pool_free_client(struct gw_pool *pool, struct gw_client *client)
{
    --pool->num_clients;
    if (!has_room_for_spare(pool->num_spare_clients)) {
        free(client);
        return;
    }
    struct spare *self = (struct spare *)client;
    self->next = pool->spare_clients;
    pool->spare_clients = self;
    ++pool->num_spare_clients;
}

char *gw_pool_scratch(struct gw_pool *pool, size_t size)
{
    if (pool->scratch_size < size) {
        free(pool->scratch);
        pool->scratch_size = size < MIN_SCRATCH ? MIN_SCRATCH : size;
        pool->scratch = h2o_mem_alloc(pool->scratch_size);
    }
    return pool->scratch;
}

void gw_pool_keep_scratch(struct gw_pool *pool)
{
    pool->scratch = NULL;
    pool->scratch_size = 0;
}

void gw_upstream_arm(struct gw_upstream_connection *self)
{
    gw_timer_arm(self->pool->thread->wheel, &self->timer, self->deadline_ms);
}
