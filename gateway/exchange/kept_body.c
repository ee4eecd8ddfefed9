/* The request body, kept to be sent again: up to retry.buffer of one request, and up to limits.retry_buffers of all.
 * What is not kept is sent once. */
#include <stdlib.h>
#include <string.h>
#include "gateway/exchange/exchange_state.h"
#include "gateway/lambda/lambda.h"

static gw_counter *bytes_of_thread(const struct gw_exchange *exchange)
{
    struct gw_worker *worker = exchange->request->worker;
    return exchange->is_gathered ? &worker->stats.lambda_buffer_bytes : &worker->stats.retry_buffer_bytes;
}

void gw_exchange_forget_body(struct gw_exchange *exchange)
{
    if (__builtin_expect(exchange->kept == NULL, 1))
        return;
    gw_count(bytes_of_thread(exchange), -(uint64_t)exchange->kept_room);
    free(exchange->kept);
    exchange->kept = NULL;
    exchange->kept_size = exchange->kept_room = 0;
}

/* Each thread has its share, so that nobody asks the others. */
static bool may_grow(const struct gw_exchange *exchange, size_t by)
{
    const struct gw_snapshot *snapshot = exchange->request->snapshot;
    return gw_counter_read(bytes_of_thread(exchange)) + by <=
           snapshot->config->limits.retry_buffers / snapshot->num_workers;
}

static bool make_room(struct gw_exchange *exchange, size_t size)
{
    size_t room = exchange->kept_room * 2 > size ? exchange->kept_room * 2 : size;

    if (size <= exchange->kept_room)
        return true;
    if (room > exchange->policy->buffer)
        room = exchange->policy->buffer;
    if (!may_grow(exchange, room - exchange->kept_room)) {
        gw_count(&exchange->request->worker->stats.retry_buffers_refused, 1);
        return false;
    }
    gw_count(bytes_of_thread(exchange), room - exchange->kept_room);
    exchange->kept = h2o_mem_realloc(exchange->kept, exchange->kept_room = room);
    return true;
}

void gw_exchange_keep(struct gw_exchange *exchange, h2o_iovec_t piece)
{
    size_t size = exchange->kept_size + piece.len;

    if (exchange->policy->at == NULL || exchange->body_is_lost || piece.len == 0)
        return;
    if (exchange->kept == NULL && exchange->body_bytes != piece.len)
        return; /* given up before */
    if (exchange->head_is_ready || exchange->request->stream->response_started)
        return; /* there will be no other try */
    if (size > exchange->policy->buffer || !make_room(exchange, size)) {
        exchange->body_is_lost = exchange->kept_size != 0;
        gw_exchange_forget_body(exchange);
        return;
    }
    memcpy(exchange->kept + exchange->kept_size, piece.base, piece.len);
    exchange->kept_size = size;
}

bool gw_exchange_gather(struct gw_exchange *exchange, h2o_iovec_t piece)
{
    size_t size = exchange->kept_size + piece.len,
           room = exchange->kept_room * 2 > size ? exchange->kept_room * 2 : size;

    if (piece.len == 0)
        return true;
    if (size > exchange->kept_room) {
        exchange->is_gathered = true;
        if (!gw_lambda_hold(exchange->request, room - exchange->kept_room)) {
            gw_lambda_let_go(exchange->request, room - exchange->kept_room);
            gw_exchange_forget_body(exchange);
            return false;
        }
        exchange->kept = h2o_mem_realloc(exchange->kept, exchange->kept_room = room);
    }
    memcpy(exchange->kept + exchange->kept_size, piece.base, piece.len);
    exchange->kept_size = size;
    return true;
}
