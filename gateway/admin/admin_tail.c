/* GET /api/v1/log: requests as they end, one JSON object a line, for as long as the client stays. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/admin/admin_request.h"
#include "gateway/answer/answer.h"
#include "gateway/admin/tail.h"

/* An empty line now and then: so that a client that has gone is noticed, and one that is there knows it is not alone.
 */
enum { TICK_MS = 250, HEARTBEAT_TICKS = 20 };

/* In the request's pool. */
struct tail_view {
    h2o_generator_t generator;
    struct gw_admin_request *request;
    struct gw_tail *tail;
    struct gw_tail_piece *first, **last; /* waiting */
    struct gw_tail_piece *sending;
    bool is_busy;  /* h2o_send is under way */
    char note[64]; /* about lines left out */
    unsigned ticks;
};

static void send_bytes(struct tail_view *view, h2o_iovec_t *bufs, size_t num_bufs)
{
    view->is_busy = true;
    h2o_send(&view->request->request.stream->req, bufs, num_bufs, H2O_SEND_STATE_IN_PROGRESS);
}

static void send_next(struct tail_view *view)
{
    h2o_iovec_t bufs[2];
    size_t num_bufs = 0;
    uint64_t dropped;

    if (view->is_busy || view->first == NULL)
        return;
    view->sending = view->first;
    if ((view->first = view->sending->next) == NULL)
        view->last = &view->first;
    if ((dropped = gw_tail_take_dropped(view->tail)) != 0)
        bufs[num_bufs++] = h2o_iovec_init(
            view->note, snprintf(view->note, sizeof(view->note), "{\"dropped\":%llu}\n", (unsigned long long)dropped));
    bufs[num_bufs++] = h2o_iovec_init(view->sending->bytes, view->sending->size);
    send_bytes(view, bufs, num_bufs);
}

static void free_sent(struct tail_view *view)
{
    if (view->sending == NULL)
        return;
    gw_tail_written(view->tail, view->sending->size);
    free(view->sending);
    view->sending = NULL;
}

static void on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    struct tail_view *view = H2O_STRUCT_FROM_MEMBER(struct tail_view, generator, generator);
    free_sent(view);
    view->is_busy = false;
    send_next(view);
}

static void on_piece(void *data, struct gw_tail_piece *piece)
{
    struct tail_view *view = data;
    piece->next = NULL;
    *view->last = piece;
    view->last = &piece->next;
    send_next(view);
}

static void on_tick(struct gw_timer *timer)
{
    struct gw_admin_request *self = H2O_STRUCT_FROM_MEMBER(struct gw_admin_request, timer, timer);
    struct tail_view *view = self->data;
    h2o_iovec_t line = h2o_iovec_init(H2O_STRLIT("\n"));

    struct gw_conn *conn = self->request.stream->conn;

    if (gw_admin_has_successor(self->admin)) { /* what is to be seen is there: the client asks again */
        conn->ops->close(conn, GW_END_DRAIN);
        return;
    }
    gw_timer_arm(self->process->control.wheel, timer, gw_thread_now(&self->process->control) + TICK_MS);
    if (++view->ticks % HEARTBEAT_TICKS == 0 && !view->is_busy)
        send_bytes(view, &line, 1);
}

static void on_over(struct gw_admin_request *self)
{
    struct tail_view *view = self->data;

    gw_admin_count_tails(self->admin, -1);
    free_sent(view);
    for (struct gw_tail_piece *piece = view->first, *next; piece != NULL; piece = next) {
        next = piece->next;
        free(piece);
    }
    view->first = NULL;
    gw_tail_close(view->tail);
    view->tail = NULL;
}

/* ---- the filter ---- */

/* "0.1" or "10%" */
static bool read_share(const char *text, double *share)
{
    char *end;
    double value = strtod(text, &end);

    if (end != text && *end == '%') {
        value /= 100;
        ++end;
    }
    *share = value;
    return end != text && *end == '\0' && value > 0 && value <= 1;
}

static bool read_filter(struct gw_admin_request *self, struct gw_tail_filter *filter)
{
    h2o_iovec_t status = gw_admin_parameter(self, "status"), sample = gw_admin_parameter(self, "sample");

    memset(filter, 0, sizeof(*filter));
    filter->route = gw_admin_parameter(self, "route");
    filter->target_group = gw_admin_parameter(self, "target_group");
    filter->target = gw_admin_parameter(self, "target");
    filter->reason = gw_admin_parameter(self, "reason");
    filter->method = gw_admin_parameter(self, "method");
    filter->host = gw_admin_parameter(self, "host");
    filter->path = gw_admin_parameter(self, "path");
    filter->sample = 1;
    if (status.base != NULL && !gw_tail_parse_statuses(status, filter)) {
        gw_admin_problem(self, 400, "status must be like 404, 5xx, 500-504, or several of these joined by commas");
        return false;
    }
    if (sample.base != NULL && !read_share(sample.base, &filter->sample)) {
        gw_admin_problem(self, 400, "sample must be a share like 0.1 or 10%%");
        return false;
    }
    return true;
}

void gw_admin_tail(struct gw_admin_request *self)
{
    h2o_req_t *req = &self->request.stream->req;
    struct gw_tail_filter filter;
    h2o_iovec_t nothing = h2o_iovec_init(H2O_STRLIT("\n"));

    if (!read_filter(self, &filter))
        return;
    if (gw_admin_count_tails(self->admin, 0) >= GW_TAIL_MAX) {
        gw_admin_problem(self, 503, "there are %d tails already", GW_TAIL_MAX);
        return;
    }
    if (self->request.stream->is_head_request) {
        gw_admin_answer_static(self, 200, "application/x-ndjson", h2o_iovec_init(H2O_STRLIT("")));
        return;
    }
    struct tail_view *view = h2o_mem_alloc_pool(self->request.pool, sizeof(*view));
    *view = (struct tail_view){.generator = {on_proceed, NULL}, .request = self};
    view->last = &view->first;
    self->data = view;
    self->on_over = on_over;
    self->is_answered = true;
    gw_admin_count_tails(self->admin, 1);
    view->tail = gw_tail_create(self->process, &filter, on_piece, view);
    gw_timer_init(&self->timer, on_tick);
    gw_timer_arm(self->process->control.wheel, &self->timer, gw_thread_now(&self->process->control) + TICK_MS);
    req->res.status = 200;
    req->res.reason = "OK";
    gw_answer_add_server(&self->request);
    gw_admin_add_header(self, "content-type", "application/x-ndjson");
    gw_admin_add_standard_headers(self);
    h2o_start_response(req, &view->generator);
    send_bytes(view, &nothing, 1);
}
