/* Frames into a whole HTTP/2 connection, over a socket pair, cut anywhere, drained or left to its timeouts in between:
 * whatever comes, each request that begins is told of its end exactly once, and nothing is left when it is over. */
#include <assert.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "gateway/http/stream.h"
#include "tests/fuzz/cut.h"

static struct gw_thread thread;
static struct gw_server server;
static h2o_context_t ctx;
static h2o_globalconf_t globalconf;
static size_t begun, ended;
static time_t skew_s;

/* Stands before libc's. The wall clock is libFuzzer's and stays what it is. */
int clock_gettime(clockid_t id, struct timespec *at)
{
    int rc = (int)syscall(SYS_clock_gettime, id, at);
    at->tv_sec += id == CLOCK_MONOTONIC ? skew_s : 0;
    return rc;
}

static void take_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct gw_stream *stream = data;
    gw_stream_consumed(stream, bytes.len);
}

static void end_answer(h2o_generator_t *generator, h2o_req_t *req)
{
    h2o_iovec_t last = h2o_iovec_init(H2O_STRLIT("the last"));
    h2o_send(req, &last, 1, H2O_SEND_STATE_FINAL);
}

static void answer(struct gw_stream *stream, int status)
{
    static h2o_generator_t generator = {.proceed = end_answer};
    static char body[20000];
    size_t len = stream->head.path.len;
    h2o_iovec_t buf = h2o_iovec_init(body, len % 2 == 0 ? 10 : sizeof(body));
    stream->req.res.status = status;
    stream->req.res.reason = "";
    h2o_start_response(&stream->req, &generator);
    h2o_send(&stream->req, &buf, 1,
             stream->is_tunnel || len % 5 == 0 ? H2O_SEND_STATE_IN_PROGRESS : H2O_SEND_STATE_FINAL);
}

static void on_request(struct gw_stream *stream)
{
    ++begun;
    assert(gw_is_token(stream->head.method) && gw_is_authority(stream->head.authority));
    assert(stream->head.path.base[0] == '/' || stream->head.target_is_asterisk);
    for (size_t i = 0; i != stream->head.num_fields; ++i)
        assert(gw_is_token(*stream->head.fields[i].name) && gw_is_field_value(stream->head.fields[i].value));
    stream->is_tunnel = stream->head.upgrade.base != NULL;
    gw_stream_start_body(stream, take_body, stream);
    if (stream->head.path.len % 3 != 0) /* the others are never answered */
        answer(stream, 200);
}
static void on_bad_head(struct gw_stream *stream, enum gw_head_result result)
{
    ++begun;
    assert(result != GW_HEAD_OK);
    answer(stream, gw_head_status(result) != 0 ? gw_head_status(result) : 408);
}
static void on_bad_body(struct gw_stream *stream) { answer(stream, 400); }
static void on_done(struct gw_stream *stream) { ++ended; }

static void set_up(void)
{
    signal(SIGPIPE, SIG_IGN); /* as the gateway does */
    h2o_config_init(&globalconf);
    h2o_hostconf_t *host = h2o_config_register_host(&globalconf, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_config_register_path(host, "/", 0)->filters.size = 0;
    h2o_context_init(&ctx, h2o_evloop_create(), &globalconf);
    gw_thread_init(&thread, 0, &ctx);
    gw_server_init(&server, &thread, globalconf.hosts);
    server.on_request = on_request;
    server.on_bad_head = on_bad_head;
    server.on_bad_body = on_bad_body;
    server.on_done = on_done;
    server.settings =
        (struct gw_http_settings){.limits = {.max_bytes = 2048, .max_target = 256, .max_fields = 32},
                                  .header_timeout_ms = 10000,
                                  .idle_timeout_ms = 10000,
                                  .body_timeout_ms = 10000,
                                  .send_timeout_ms = 10000,
                                  .http2 = {.max_streams = 16, .stream_window = 4096, .connection_window = 65536}};
    for (int i = 0; i != GW_HTTP2_NUM_BUDGETS; ++i)
        server.settings.http2.budgets[i] = 8;
}

static void send_and_turn(int fd, const uint8_t *bytes, size_t len)
{
    static char sink[65536];
    ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)sent;
    for (int i = 0; i != 3; ++i)
        gw_thread_turn(&thread, 0);
    while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
        gw_thread_turn(&thread, 0);
}

static void pass_time(void)
{
    for (int i = 0; i != 6; ++i) {
        skew_s += 3;
        thread.now_wall_ms = 0; /* look at the clock again, although the other one stood still */
        gw_thread_turn(&thread, 0);
        gw_thread_turn(&thread, 0);
    }
}

static struct gw_conn *first_conn(void) { return H2O_STRUCT_FROM_MEMBER(struct gw_conn, link, server.conns.next); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
    struct gw_peer peer = {.listener = NULL};
    size_t cut = fuzz_cut(data, len, 0);
    int fds[2];

    if (thread.ctx == NULL)
        set_up();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0)
        abort();
    begun = ended = 0;
    gw_http2_serve(&server, h2o_evloop_socket_create(ctx.loop, fds[0], H2O_SOCKET_FLAG_DONT_READ), &peer);
    send_and_turn(fds[1], (const uint8_t *)preface, sizeof(preface)); /* its last byte is the stream id's */
    send_and_turn(fds[1], data, cut);
    if (cut % 8 == 7 && server.num_conns != 0)
        first_conn()->ops->drain(first_conn());
    send_and_turn(fds[1], data + cut, len - cut);
    if (cut % 4 == 1)
        pass_time();
    close(fds[1]);
    gw_thread_turn(&thread, 0);
    while (server.num_conns != 0)
        first_conn()->ops->close(first_conn(), GW_END_CLIENT_GONE);
    gw_thread_turn(&thread, 0);
    assert(begun == ended);
    return 0;
}
