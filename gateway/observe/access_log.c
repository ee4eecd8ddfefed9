#include "gateway/observe/access_log.h"
#include <errno.h>
#include <string.h>
#include "gateway/observe/access_details.h"
#include "gateway/l4/l4.h"
#include "gateway/observe/log_writer.h"
#include "gateway/observe/syslog.h"

enum { FLUSH_MS = 100 };

struct gw_access_log {
    struct gw_log_writer *writer;
};

struct gw_access_log_buffer { /* loop: one thread's */
    struct gw_log_writer *writer;
    struct gw_thread *thread;
    struct gw_log_chunk *chunk; /* NULL: nothing buffered */
    struct gw_timer timer;
    struct gw_deferred at_end_of_turn;
    uint64_t flushed_ms;
    struct gw_access_clock clock;
};

struct gw_access_log *gw_access_log_create(void)
{
    struct gw_access_log *log = h2o_mem_alloc(sizeof(*log));
    log->writer = gw_log_writer_create();
    return log;
}

void gw_access_log_destroy(struct gw_access_log *log)
{
    if (log == NULL)
        return;
    gw_log_writer_destroy(log->writer);
    free(log);
}

bool gw_access_log_configure(struct gw_access_log *log, const struct gw_access_log_conf *conf, struct gw_errors *errors)
{
    const char *path = conf->file.base;
    int fd = -1;

    if (conf->syslog.base != NULL) {
        if ((fd = gw_syslog_open(&conf->syslog_address)) == -1)
            return gw_error_at(errors, gw_setting_at(conf->at, "syslog"), "cannot send to %s: %s", conf->syslog.base,
                               strerror(errno));
        gw_log_writer_redirect_to_syslog(log->writer, conf->syslog.base, fd);
        return true;
    }
    if (path != NULL && (fd = gw_log_writer_open(path)) == -1)
        return gw_error_at(errors, conf->at, "cannot open the access log %s: %s", path,
                           gw_log_writer_why_not_open(errno));
    gw_log_writer_redirect(log->writer, path, fd);
    return true;
}

void gw_access_log_reopen(struct gw_access_log *log) { gw_log_writer_reopen(log->writer); }

uint64_t gw_access_log_dropped(const struct gw_access_log *log) { return gw_log_writer_dropped(log->writer); }

/* ---- a worker's buffer ---- */

void gw_access_log_flush(struct gw_access_log_buffer *buffer)
{
    gw_timer_disarm(&buffer->timer);
    gw_thread_undefer(&buffer->at_end_of_turn);
    buffer->flushed_ms = gw_thread_now(buffer->thread);
    if (buffer->chunk == NULL)
        return;
    gw_log_writer_take(buffer->writer, buffer->chunk);
    buffer->chunk = NULL;
}

static void on_timer(struct gw_timer *timer)
{
    gw_access_log_flush(H2O_STRUCT_FROM_MEMBER(struct gw_access_log_buffer, timer, timer));
}

static void on_end_of_turn(struct gw_deferred *deferred)
{
    gw_access_log_flush(H2O_STRUCT_FROM_MEMBER(struct gw_access_log_buffer, at_end_of_turn, deferred));
}

struct gw_access_log_buffer *gw_access_log_buffer_create(struct gw_access_log *log, struct gw_thread *thread)
{
    struct gw_access_log_buffer *buffer = h2o_mem_alloc(sizeof(*buffer));
    *buffer = (struct gw_access_log_buffer){
        .writer = log->writer, .thread = thread, .at_end_of_turn = {.run = on_end_of_turn}};
    gw_timer_init(&buffer->timer, on_timer);
    return buffer;
}

void gw_access_log_buffer_destroy(struct gw_access_log_buffer *buffer)
{
    if (buffer == NULL)
        return;
    gw_access_log_flush(buffer);
    free(buffer);
}

static h2o_iovec_t text_of(const char *s) { return h2o_iovec_init(s, s != NULL ? strlen(s) : 0); }

static void fill_connection(struct gw_access_line *line, const struct gw_stream *stream)
{
    struct gw_conn *conn = stream->conn;

    line->peer = h2o_iovec_init(conn->peer_text, conn->peer_text_len);
    line->client_port = conn->peer_port;
    if (__builtin_expect(conn->facts != NULL, 0))
        line->notes = conn->facts->notes;
    line->scheme = conn->is_tls ? text_of("https") : text_of("http");
    if (conn->is_tls && conn->sock != NULL) {
        line->tls_version = text_of(h2o_socket_get_ssl_protocol_version(conn->sock));
        line->tls_cipher = text_of(h2o_socket_get_ssl_cipher(conn->sock));
        if (conn->server_name != NULL)
            line->server_name = text_of(conn->server_name);
    }
}

static void fill_request(struct gw_access_line *line, const struct gw_request *request)
{
    const struct gw_stream *stream = request->stream;
    const struct routing_facts *facts = &request->facts;

    line->request_id = request->request_id_text;
    line->trace_id = request->trace_id;
    line->method = facts->method;
    line->host = facts->host;
    line->path = facts->raw_path;
    line->query = facts->query;
    line->protocol = stream->req.version == 0x101   ? text_of("HTTP/1.1")
                     : stream->req.version == 0x100 ? text_of("HTTP/1.0")
                                                    : text_of("HTTP/2.0");
    line->bytes_in = stream->head_bytes_in + stream->body_bytes_in;
    line->bytes_out = stream->bytes_out;
    line->status = request->status;
    line->reason = text_of(gw_reason_info(request->reason)->code);
    line->error = text_of(request->error);
    if (__builtin_expect(stream->head.desync != GW_DESYNC_NONE, 0)) {
        line->classification = text_of(gw_desync_class_name(gw_desync_class(stream->head.desync)));
        line->classification_reason = text_of(gw_desync_name(stream->head.desync));
    }
    if (request->listener != NULL)
        line->listener = request->listener->name;
    if (request->route != NULL)
        line->route = request->route->conf->name;
    for (size_t i = 0; i != facts->num_headers; ++i) {
        const h2o_header_t *field = &facts->headers[i];
        if (field->name == &H2O_TOKEN_USER_AGENT->buf)
            line->user_agent = field->value;
        else if (field->name == &H2O_TOKEN_REFERER->buf)
            line->referer = field->value;
        else if (field->name == &H2O_TOKEN_X_FORWARDED_FOR->buf)
            line->x_forwarded_for = field->value;
    }
}

static void fill_upstream(struct gw_access_line *line, const struct gw_request *request)
{
    line->attempts = request->attempts;
    line->upstream_us = UINT64_MAX;
    if (request->group == NULL)
        return;
    line->target_group = request->group->name;
    if (request->target < request->group->size)
        line->target = request->group->targets[request->target].name;
    if (request->upstream_first_byte_us != 0 && request->upstream_started_us != 0)
        line->upstream_us = request->upstream_first_byte_us - request->upstream_started_us;
}

/* Room for one more line; a full chunk goes to the writer. */
static char *make_room(struct gw_access_log_buffer *buffer, size_t bytes)
{
    if (buffer->chunk != NULL && buffer->chunk->capacity - buffer->chunk->size < bytes)
        gw_access_log_flush(buffer);
    if (buffer->chunk == NULL)
        buffer->chunk = gw_log_writer_chunk(buffer->writer, bytes);
    return buffer->chunk->bytes + buffer->chunk->size;
}

static void schedule_flush(struct gw_access_log_buffer *buffer)
{
    uint64_t due_ms = buffer->flushed_ms + FLUSH_MS;
    if (gw_timer_is_armed(&buffer->timer))
        return;
    if (gw_thread_now(buffer->thread) >= due_ms)
        gw_thread_defer(buffer->thread, &buffer->at_end_of_turn);
    else
        gw_timer_arm(buffer->thread->wheel, &buffer->timer, due_ms);
}

static void fill(struct gw_access_line *line, const struct gw_request *request, const struct timespec *now,
                 char client[GW_IP_TEXT])
{
    line->wall_ms = (uint64_t)now->tv_sec * 1000 + now->tv_nsec / 1000000;
    line->duration_us = (request->finished_us != 0 ? request->finished_us : gw_now_us()) - request->stream->started_us;
    if (request->snapshot != NULL)
        line->config_generation = request->snapshot->generation;
    fill_connection(line, request->stream);
    fill_request(line, request);
    fill_upstream(line, request);
    /* the peer's text is at hand; a client behind a trusted proxy is formatted anew */
    if (memcmp(&request->facts.client_ip, &request->facts.peer_ip, sizeof(struct gw_ip)) == 0)
        line->client = line->peer;
    else
        line->client = h2o_iovec_init(client, gw_ip_format(&request->facts.client_ip, client));
}

void gw_access_log_fill(struct gw_access_line *line, const struct gw_request *request, char *client)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    *line = (struct gw_access_line){0};
    fill(line, request, &now, client);
}

/* Any format but JSON. */
static void write_other(struct gw_access_log_buffer *buffer, struct gw_request *request, const struct timespec *now)
{
    const struct gw_access_log_conf *conf = &request->snapshot->config->access_log;
    struct gw_access_details details;
    struct gw_access_full full;
    char client[GW_IP_TEXT], *dst;

    memset(&full, 0, sizeof(full));
    fill(&full.line, request, now, client);
    full.wall_us = (uint64_t)now->tv_sec * 1000000 + now->tv_nsec / 1000;
    gw_access_details_fill(&full, &details, request);
    dst = make_room(buffer, gw_access_format_bound(conf->format, &full, &conf->compiled, conf->load_balancer));
    if (conf->format == GW_ACCESS_ALB)
        buffer->chunk->size += gw_access_alb_write(dst, &full, conf->load_balancer, &buffer->clock);
    else if (conf->format == GW_ACCESS_COMBINED)
        buffer->chunk->size += gw_access_combined_write(dst, &full);
    else
        buffer->chunk->size += gw_access_template_write(dst, &full, &conf->compiled, &buffer->clock);
}

void gw_access_log_write(struct gw_access_log_buffer *buffer, struct gw_request *request)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (request->snapshot->config->access_log.format == GW_ACCESS_JSON) {
        struct gw_access_line line = {0};
        char client[GW_IP_TEXT];
        fill(&line, request, &now, client);
        char *dst = make_room(buffer, gw_access_line_bound(&line));
        buffer->chunk->size += gw_access_line_write(dst, &line, &buffer->clock);
    } else {
        write_other(buffer, request, &now);
    }
    ++buffer->chunk->num_lines;
    schedule_flush(buffer);
}

/* ---- connections ---- */

static void fill_record(struct gw_access_line *line, const struct gw_l4_record *record, const struct timespec *now)
{
    *line = (struct gw_access_line){
        .wall_ms = (uint64_t)now->tv_sec * 1000 + now->tv_nsec / 1000000,
        .client = h2o_iovec_init(record->peer_text, record->peer_text_len),
        .peer = h2o_iovec_init(record->peer_text, record->peer_text_len),
        .client_port = record->peer_port,
        .listener = record->stats->listener,
        .protocol = text_of(record->protocol),
        .tls_version = text_of(record->tls_version),
        .tls_cipher = text_of(record->tls_cipher),
        .server_name = text_of(record->server_name),
        .reason = text_of(gw_reason_info(record->reason)->code),
        .error = text_of(record->error),
        .target = record->target,
        .attempts = record->attempts,
        .bytes_in = record->bytes_in,
        .bytes_out = record->bytes_out,
        .duration_us = gw_now_us() - record->started_us,
        .upstream_us = record->connected_us != 0 ? record->connected_us - record->started_us : UINT64_MAX,
        .config_generation = record->worker->held->snapshot->generation,
    };
    if (record->stats != record->stats->whole)
        line->target_group = record->stats->group;
}

void gw_access_log_fill_connection(struct gw_access_line *line, const struct gw_l4_record *record)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    fill_record(line, record, &now);
}

void gw_access_log_write_connection(struct gw_access_log_buffer *buffer, const struct gw_l4_record *record)
{
    const struct gw_access_log_conf *conf = &record->worker->held->snapshot->config->access_log;
    struct gw_access_full full;
    struct timespec now;
    char *dst;

    if (conf->format == GW_ACCESS_ALB || conf->format == GW_ACCESS_COMBINED)
        return; /* their lines are requests */
    clock_gettime(CLOCK_REALTIME, &now);
    memset(&full, 0, sizeof(full));
    fill_record(&full.line, record, &now);
    if (conf->format == GW_ACCESS_JSON) {
        dst = make_room(buffer, gw_access_line_bound(&full.line));
        buffer->chunk->size += gw_access_line_write(dst, &full.line, &buffer->clock);
    } else {
        full.wall_us = (uint64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
        full.to_target_us = full.in_target_us = full.to_client_us = UINT64_MAX;
        full.priority = GW_ACCESS_NEVER_PRIORITY;
        dst = make_room(buffer, gw_access_format_bound(conf->format, &full, &conf->compiled, conf->load_balancer));
        buffer->chunk->size += gw_access_template_write(dst, &full, &conf->compiled, &buffer->clock);
    }
    ++buffer->chunk->num_lines;
    schedule_flush(buffer);
}
