#include "gateway/admin/tail.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/base/hash.h"
#include "gateway/observe/access_line.h"
#include "gateway/observe/access_log.h"
#include "gateway/base/glob.h"
#include "gateway/worker.h"

struct gw_tail {
    struct gw_tail_filter filter; /* frozen; texts are ours */
    struct gw_process *process;
    _Atomic int refs;             /* atomic */
    _Atomic int64_t queued_bytes; /* atomic: written by workers, not yet taken by the client */
    _Atomic uint64_t dropped;     /* atomic: lines */
    _Atomic bool is_closed;       /* atomic: workers need not bother */
    /* control thread */
    void (*on_piece)(void *data, struct gw_tail_piece *);
    void *data;
};

/* One tail as one thread sees it. */
struct gw_tail_source {
    struct gw_tail_source *next;
    struct gw_worker *worker;
    struct gw_tail *tail;
    struct gw_tail_piece *piece; /* lines of this turn; NULL: none */
    size_t capacity;             /* of piece->bytes */
    struct gw_deferred at_end_of_turn;
    struct gw_access_clock clock;
};

/* ---- the filter ---- */

static bool read_digits(h2o_iovec_t text, size_t at, uint16_t *value)
{
    if (at + 3 > text.len)
        return false;
    *value = 0;
    for (size_t i = at; i != at + 3; ++i) {
        if (text.base[i] < '0' || text.base[i] > '9')
            return false;
        *value = (uint16_t)(*value * 10 + (text.base[i] - '0'));
    }
    return true;
}

/* "5xx", "404" or "500-504" */
static bool read_range(h2o_iovec_t text, uint16_t *range)
{
    if (text.len == 3 && text.base[0] >= '0' && text.base[0] <= '9' && (text.base[1] | 0x20) == 'x' &&
        (text.base[2] | 0x20) == 'x') {
        range[0] = (uint16_t)((text.base[0] - '0') * 100);
        range[1] = (uint16_t)(range[0] + 99);
        return true;
    }
    if (!read_digits(text, 0, &range[0]))
        return false;
    range[1] = range[0];
    if (text.len == 3)
        return true;
    return text.len == 7 && text.base[3] == '-' && read_digits(text, 4, &range[1]) && range[0] <= range[1];
}

bool gw_tail_parse_statuses(h2o_iovec_t text, struct gw_tail_filter *filter)
{
    filter->num_statuses = 0;
    for (size_t at = 0;;) {
        size_t end = at;
        while (end != text.len && text.base[end] != ',')
            ++end;
        if (filter->num_statuses == sizeof(filter->statuses) / sizeof(filter->statuses[0]) ||
            !read_range(h2o_iovec_init(text.base + at, end - at), filter->statuses[filter->num_statuses]))
            return false;
        ++filter->num_statuses;
        if (end == text.len)
            return true;
        at = end + 1;
    }
}

static bool is(h2o_iovec_t wanted, h2o_iovec_t text)
{
    return wanted.base == NULL || (text.base != NULL && h2o_memis(wanted.base, wanted.len, text.base, text.len));
}

static bool is_nocase(h2o_iovec_t wanted, h2o_iovec_t text)
{
    return wanted.base == NULL ||
           (text.base != NULL && wanted.len == text.len && strncasecmp(wanted.base, text.base, text.len) == 0);
}

static bool has_status(const struct gw_tail_filter *filter, uint32_t status)
{
    for (unsigned i = 0; i != filter->num_statuses; ++i)
        if (status >= filter->statuses[i][0] && status <= filter->statuses[i][1])
            return true;
    return filter->num_statuses == 0;
}

bool gw_tail_wants(const struct gw_tail_filter *filter, const struct gw_access_line *line)
{
    return has_status(filter, line->status) && is(filter->route, line->route) &&
           is(filter->target_group, line->target_group) && is(filter->target, line->target) &&
           is_nocase(filter->reason, line->reason) && is_nocase(filter->method, line->method) &&
           (filter->host.base == NULL || (line->host.base != NULL && gw_glob_match_nocase(filter->host, line->host))) &&
           (filter->path.base == NULL || (line->path.base != NULL && gw_glob_match(filter->path, line->path)));
}

/* ---- shared ---- */

static void release(struct gw_tail *tail)
{
    h2o_iovec_t *texts[] = {&tail->filter.route,  &tail->filter.target_group, &tail->filter.target,
                            &tail->filter.reason, &tail->filter.method,       &tail->filter.host,
                            &tail->filter.path};

    if (__atomic_fetch_sub((int *)&tail->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    for (size_t i = 0; i != sizeof(texts) / sizeof(texts[0]); ++i)
        free(texts[i]->base);
    free(tail);
}

static void hold(struct gw_tail *tail) { __atomic_fetch_add((int *)&tail->refs, 1, __ATOMIC_RELAXED); }

/* ---- a worker's side ---- */

/* Control thread. The piece holds a reference. */
static void on_piece_message(struct gw_message *message)
{
    struct gw_tail_piece *piece = message->data;
    struct gw_tail *tail = piece->tail;

    if (tail->is_closed)
        free(piece);
    else
        tail->on_piece(tail->data, piece);
    release(tail);
}

static void hand_over(struct gw_deferred *deferred)
{
    struct gw_tail_source *source = H2O_STRUCT_FROM_MEMBER(struct gw_tail_source, at_end_of_turn, deferred);
    struct gw_tail_piece *piece = source->piece;

    source->piece = NULL;
    if (piece == NULL)
        return;
    hold(source->tail);
    gw_process_tell(source->worker->process, on_piece_message, source->worker, piece);
}

static char *make_room(struct gw_tail_source *source, size_t bytes)
{
    enum { PIECE_BYTES = 4096 };
    size_t size = source->piece != NULL ? source->piece->size : 0;

    if (source->piece == NULL || source->capacity - size < bytes) {
        size_t capacity = source->piece != NULL ? source->capacity * 2 : PIECE_BYTES;
        while (capacity - size < bytes)
            capacity *= 2;
        source->piece = h2o_mem_realloc(source->piece, sizeof(*source->piece) + capacity);
        source->piece->next = NULL;
        source->piece->tail = source->tail;
        source->piece->size = size;
        source->capacity = capacity;
    }
    return source->piece->bytes + size;
}

static bool is_sampled(struct gw_worker *worker, double share)
{
    return share >= 1 || gw_unit_interval(gw_thread_random(&worker->thread)) < share;
}

static void see(struct gw_tail_source *source, const struct gw_access_line *line)
{
    struct gw_tail *tail = source->tail;

    if (tail->is_closed || !gw_tail_wants(&tail->filter, line) || !is_sampled(source->worker, tail->filter.sample))
        return;
    if (__atomic_load_n((int64_t *)&tail->queued_bytes, __ATOMIC_RELAXED) >= GW_TAIL_QUEUE_BYTES) {
        __atomic_fetch_add((uint64_t *)&tail->dropped, 1, __ATOMIC_RELAXED);
        return;
    }
    char *dst = make_room(source, gw_access_line_bound(line));
    size_t len = gw_access_line_write(dst, line, &source->clock);
    source->piece->size += len;
    __atomic_fetch_add((int64_t *)&tail->queued_bytes, (int64_t)len, __ATOMIC_RELAXED);
    gw_thread_defer(&source->worker->thread, &source->at_end_of_turn);
}

void gw_tail_see(struct gw_worker *worker, const struct gw_request *request)
{
    struct gw_access_line line;
    char client[GW_IP_TEXT];

    gw_access_log_fill(&line, request, client);
    for (struct gw_tail_source *source = worker->tails; source != NULL; source = source->next)
        see(source, &line);
}

void gw_tail_see_connection(struct gw_worker *worker, const struct gw_l4_record *record)
{
    struct gw_access_line line;

    gw_access_log_fill_connection(&line, record);
    for (struct gw_tail_source *source = worker->tails; source != NULL; source = source->next)
        see(source, &line);
}

static void on_open(struct gw_message *message)
{
    struct gw_tail_source *source = h2o_mem_alloc(sizeof(*source));

    *source = (struct gw_tail_source){.next = message->worker->tails,
                                      .worker = message->worker,
                                      .tail = message->data,
                                      .at_end_of_turn = {.run = hand_over}};
    message->worker->tails = source;
}

static void on_close(struct gw_message *message)
{
    struct gw_tail_source **at = &message->worker->tails, *source;

    while ((source = *at) != NULL && source->tail != message->data)
        at = &source->next;
    if (source == NULL)
        return;
    *at = source->next;
    gw_thread_undefer(&source->at_end_of_turn);
    free(source->piece);
    release(source->tail);
    free(source);
}

/* ---- the control thread's side ---- */

static h2o_iovec_t copy(h2o_iovec_t text) { return text.base == NULL ? text : h2o_strdup(NULL, text.base, text.len); }

struct gw_tail *gw_tail_create(struct gw_process *process, const struct gw_tail_filter *filter,
                               void (*on_piece)(void *, struct gw_tail_piece *), void *data)
{
    struct gw_tail *tail = h2o_mem_alloc(sizeof(*tail));

    memset(tail, 0, sizeof(*tail));
    tail->filter = *filter;
    tail->filter.route = copy(filter->route);
    tail->filter.target_group = copy(filter->target_group);
    tail->filter.target = copy(filter->target);
    tail->filter.reason = copy(filter->reason);
    tail->filter.method = copy(filter->method);
    tail->filter.host = copy(filter->host);
    tail->filter.path = copy(filter->path);
    tail->process = process;
    tail->refs = 1;
    tail->on_piece = on_piece;
    tail->data = data;
    for (unsigned i = 0; i != process->num_workers; ++i) {
        hold(tail);
        gw_worker_tell(&process->workers[i], on_open, tail);
    }
    return tail;
}

void gw_tail_close(struct gw_tail *tail)
{
    if (tail == NULL)
        return;
    tail->is_closed = true;
    for (unsigned i = 0; i != tail->process->num_workers; ++i)
        gw_worker_tell(&tail->process->workers[i], on_close, tail);
    release(tail);
}

void gw_tail_written(struct gw_tail *tail, size_t bytes)
{
    __atomic_fetch_sub((int64_t *)&tail->queued_bytes, (int64_t)bytes, __ATOMIC_RELAXED);
}

uint64_t gw_tail_take_dropped(struct gw_tail *tail)
{
    return __atomic_exchange_n((uint64_t *)&tail->dropped, 0, __ATOMIC_RELAXED);
}
