/* One connection to an endpoint. It belongs to the pool while idle and to one client while in use; only this folder
 * sees it. The socket is in read state from the connect to the close, except while a client is held back. */
#pragma once
#include "gateway/upstream/pool.h"

#define GW_UPSTREAM_CONNECTION_MAGIC 0x77757063u
#define GW_NO_DEADLINE               UINT64_MAX

struct gw_client;
struct gw_pool_slot;

struct gw_upstream_connection {
    uint32_t magic;
    uint32_t generation; /* of its slot at connect time; another one now means that the endpoint was forgotten */
    h2o_linklist_t link; /* idle only: in the slot's list, newest first */
    h2o_socket_t *sock;
    struct gw_pool *pool;
    struct gw_pool_slot *slot;
    struct gw_client *client; /* NULL while idle */
    uint64_t idle_since_ms;
    uint64_t deadline_ms;                 /* GW_NO_DEADLINE: none */
    struct gw_timer timer;                /* armed for deadline_ms or earlier, see gw_upstream_set_deadline */
    const struct gw_transport *transport; /* held; NULL: plain HTTP/1.1 */
    uint32_t num_requests;                /* started on it */
    struct gw_counted counted;
    /* That it began with; owned, len 0: none. It serves requests that would begin theirs with it. */
    h2o_iovec_t preface;
    struct gw_upstream_connection *next_free;
};

static inline struct gw_upstream_connection *gw_upstream_connection_from(h2o_socket_t *sock)
{
    struct gw_upstream_connection *self = sock->data;
    assert(self->magic == GW_UPSTREAM_CONNECTION_MAGIC);
    return self;
}

/* The newest idle connection that began with the preface, now the caller's, or NULL. look_first: ask the kernel whether
 * the origin has closed or said anything that the loop has not seen yet; a system call that only a request worth it
 * should pay. has_place: the caller has counted a new connection; of one that turns out to be dead it takes over the
 * place. */
struct gw_upstream_connection *gw_pool_take(struct gw_pool *, const struct gw_endpoint *, const struct gw_transport *,
                                            h2o_iovec_t preface, bool look_first, bool *has_place);
/* Counts one more connection, after idle ones of this thread were closed where that makes room. */
enum gw_pool_room gw_pool_enter(struct gw_pool *, const struct gw_endpoint *, const struct gw_pool_limits *);
/* Starts to connect; on_connect tells how it went. NULL: failed at once, errno says why. on_due: the deadline passed.
 * The connection has been counted and is counted until its end. */
struct gw_upstream_connection *gw_pool_connect(struct gw_pool *, const struct gw_endpoint *,
                                               const struct gw_transport *, h2o_socket_cb on_connect,
                                               void (*on_due)(struct gw_timer *));
/* Begins the TLS handshake of a connection whose transport wants one. */
void gw_pool_handshake(struct gw_upstream_connection *, h2o_socket_cb on_done);
/* In on_done: what became of it, counted. detail: static. */
enum tls_origin_failure gw_pool_judge_handshake(struct gw_upstream_connection *, const char *err, const char **detail);
/* Gives a connection back after a complete exchange. It is kept when the limits and its endpoint allow it. */
void gw_pool_put(struct gw_upstream_connection *, const struct gw_pool_limits *);
/* Closes and frees a connection that a client holds. */
void gw_pool_close(struct gw_upstream_connection *);
/* An idle connection became readable: whatever it is, it is not for us. */
void gw_pool_on_idle_readable(struct gw_upstream_connection *, const char *err);
struct gw_pool_stats *gw_pool_counters(struct gw_pool *);
struct gw_thread *gw_pool_thread(struct gw_pool *);
uint64_t gw_pool_now_ms(struct gw_pool *);

/* Client structs and scratch memory are recycled with the pool, so that a warm request allocates nothing. */
struct gw_client *gw_pool_alloc_client(struct gw_pool *, size_t size);
void gw_pool_free_client(struct gw_pool *, struct gw_client *);
/* At least size bytes, the pool's until gw_pool_keep_scratch makes them the caller's, who frees them with free(). */
char *gw_pool_scratch(struct gw_pool *, size_t size);
void gw_pool_keep_scratch(struct gw_pool *);

/* Deadlines move with every request, timers should not: the timer stays where it is when that is early enough, and
 * looks at deadline_ms again when it is due. */
void gw_upstream_arm(struct gw_upstream_connection *);
static inline void gw_upstream_set_deadline(struct gw_upstream_connection *self, uint64_t due_ms)
{
    self->deadline_ms = due_ms;
    if (due_ms != GW_NO_DEADLINE && (!gw_timer_is_armed(&self->timer) || self->timer.due_ms > due_ms))
        gw_upstream_arm(self);
}
