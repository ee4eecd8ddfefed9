#include "gateway/admin.h"
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "gateway/admin_pages.h"
#include "gateway/answer.h"
#include "gateway/base/log.h"

enum {
    MAX_CONNECTIONS = 64,
    ACCEPTS_A_TURN = 16,
    PAUSE_MS = 100, /* out of descriptors: libh2o.md 3.6 */
    RELOAD_POLL_MS = 10,
    RELOAD_PATIENCE_MS = 60 * 1000,
};

/* A socket the admin API listens on. */
struct door {
    struct gw_admin *admin;
    h2o_iovec_t text;   /* the address as written; base NULL: closed */
    h2o_socket_t *sock; /* NULL: closed */
    struct gw_timer resume;
    char *unix_path; /* NULL: TCP */
    dev_t dev;       /* of the socket file we made: another one in its place is not ours to remove */
    ino_t ino;
};

struct gw_admin { /* control thread */
    struct gw_process *process;
    struct gw_server server;
    struct door doors[2]; /* admin.address, admin.tcp */
};

/* A request to the admin API; in its pool. */
struct admin_request {
    struct gw_request request; /* for gw_answer */
    struct gw_admin *admin;
    struct gw_timer timer; /* POST /reload: until the load is over */
    uint64_t give_up_ms;
};

/* ---- pages ---- */

static void answer(struct admin_request *self, int status, const char *type, h2o_iovec_t body)
{
    h2o_req_t *req = &self->request.stream->req;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL, H2O_STRLIT("no-store"));
    gw_answer(&self->request, GW_REASON_NONE, status, h2o_iovec_init(type, strlen(type)), body, false);
}

static void answer_text(struct admin_request *self, int status, const char *text)
{
    answer(self, status, "text/plain; charset=utf-8", h2o_iovec_init(text, strlen(text)));
}

static void answer_problem(struct admin_request *self, int status, const char *problem)
{
    struct gw_json json;
    gw_json_init(&json);
    gw_json_object(&json);
    gw_json_key(&json, "status");
    gw_json_number(&json, status);
    gw_json_key(&json, "message");
    gw_json_string(&json, problem);
    gw_json_object_end(&json);
    gw_json_raw(&json, "\n", 1);
    answer(self, status, "application/json", h2o_iovec_init(json.base, json.size));
    gw_json_dispose(&json);
}

static void show_health(struct admin_request *self) { answer_text(self, 200, "ok\n"); }

static void show_readiness(struct admin_request *self)
{
    const struct gw_process *process = self->admin->process;
    if (process->is_draining)
        answer_text(self, 503, "draining\n");
    else if (!process->is_ready)
        answer_text(self, 503, "starting\n");
    else
        answer_text(self, 200, "ready\n");
}

static void show_metrics(struct admin_request *self)
{
    struct gw_exposition out;
    gw_exposition_init(&out);
    gw_metrics_page(self->admin->process, &out);
    answer(self, 200, "text/plain; version=0.0.4; charset=utf-8", h2o_iovec_init(out.base, out.size));
    gw_exposition_dispose(&out);
}

static void show_status(struct admin_request *self)
{
    struct gw_json json;
    gw_json_init(&json);
    gw_status_page(self->admin->process, &json);
    answer(self, 200, "application/json", h2o_iovec_init(json.base, json.size));
    gw_json_dispose(&json);
}

static void show_reload(struct admin_request *self)
{
    const struct gw_process *process = self->admin->process;
    struct gw_json json;

    gw_json_init(&json);
    gw_json_object(&json);
    gw_json_key(&json, "ok");
    gw_json_bool(&json, process->last_reload_ok);
    gw_json_key(&json, "generation");
    gw_json_unsigned(&json, process->generation);
    gw_json_key(&json, "error");
    if (process->last_reload_error != NULL)
        gw_json_string(&json, process->last_reload_error);
    else
        gw_json_null(&json);
    gw_json_object_end(&json);
    gw_json_raw(&json, "\n", 1);
    answer(self, process->last_reload_ok ? 200 : 422, "application/json", h2o_iovec_init(json.base, json.size));
    gw_json_dispose(&json);
}

static void on_reload_timer(struct gw_timer *timer)
{
    struct admin_request *self = H2O_STRUCT_FROM_MEMBER(struct admin_request, timer, timer);
    struct gw_process *process = self->admin->process;
    uint64_t now_ms = gw_thread_now(&process->control);

    if (!process->reload_running && !process->reload_wanted)
        show_reload(self);
    else if (now_ms >= self->give_up_ms)
        answer_problem(self, 504, "the configuration is still being loaded; see /status");
    else
        gw_timer_arm(process->control.wheel, timer, now_ms + RELOAD_POLL_MS);
}

/* Loads run beside the loop; the answer waits for the result. */
static void reload(struct admin_request *self)
{
    struct gw_process *process = self->admin->process;

    if (process->is_draining) {
        answer_problem(self, 503, "weir is shutting down");
        return;
    }
    self->give_up_ms = gw_thread_now(&process->control) + RELOAD_PATIENCE_MS;
    gw_process_reload(process);
    on_reload_timer(&self->timer);
}

/* ---- requests ---- */

enum { GET = 1, POST = 2 };
static const struct {
    const char *path;
    int method;
    void (*run)(struct admin_request *);
} endpoints[] = {
    {"/healthz", GET, show_health}, {"/readyz", GET, show_readiness}, {"/metrics", GET, show_metrics},
    {"/status", GET, show_status},  {"/reload", POST, reload},
};

static int method_of(h2o_iovec_t method)
{
    if (h2o_memis(method.base, method.len, H2O_STRLIT("GET")) || h2o_memis(method.base, method.len, H2O_STRLIT("HEAD")))
        return GET;
    return h2o_memis(method.base, method.len, H2O_STRLIT("POST")) ? POST : 0;
}

static struct admin_request *create_request(struct gw_stream *stream)
{
    struct gw_admin *admin = H2O_STRUCT_FROM_MEMBER(struct gw_admin, server, stream->conn->server);
    struct admin_request *self = h2o_mem_alloc_pool(&stream->req.pool, sizeof(*self));

    memset(self, 0, sizeof(*self));
    self->request.pool = &stream->req.pool;
    self->request.stream = stream;
    self->admin = admin;
    gw_timer_init(&self->timer, on_reload_timer);
    stream->user = self;
    return self;
}

/* A page in a browser on this machine may ask for loopback addresses in its user's name: by a form or script (Origin),
 * or by a host name that was made to point here (DNS rebinding). */
static bool is_from_a_web_page(const struct gw_stream *stream)
{
    h2o_iovec_t host = stream->head.authority;
    struct gw_ip ip;

    for (size_t i = 0; i != stream->head.num_fields; ++i)
        if (h2o_memis(stream->head.fields[i].name->base, stream->head.fields[i].name->len, H2O_STRLIT("origin")))
            return true;
    if (host.len == 0 || h2o_memis(stream->conn->peer_text, stream->conn->peer_text_len, H2O_STRLIT("unix")))
        return false;
    if (host.base[host.len - 1] != ']') {
        const char *colon = h2o_memrchr(host.base, ':', host.len);
        if (colon != NULL)
            host.len = colon - host.base;
    }
    return !gw_ip_parse(host, &ip) && !h2o_lcstris(host.base, host.len, H2O_STRLIT("localhost"));
}

static void on_request(struct gw_stream *stream)
{
    struct admin_request *self = create_request(stream);
    h2o_iovec_t path = stream->head.path;

    if (is_from_a_web_page(stream)) {
        answer_problem(self, 403,
                       "the admin API is not for web pages: no Origin, and a Host that is an address or localhost");
        return;
    }
    if (stream->head.query_at != SIZE_MAX)
        path.len = stream->head.query_at;
    for (size_t i = 0; i != sizeof(endpoints) / sizeof(endpoints[0]); ++i) {
        if (!h2o_memis(path.base, path.len, endpoints[i].path, strlen(endpoints[i].path)))
            continue;
        if (method_of(stream->head.method) == endpoints[i].method) {
            endpoints[i].run(self);
        } else {
            const char *allowed = endpoints[i].method == GET ? "GET, HEAD" : "POST";
            h2o_add_header(&stream->req.pool, &stream->req.res.headers, H2O_TOKEN_ALLOW, NULL, allowed,
                           strlen(allowed));
            answer_problem(self, 405, "method not allowed");
        }
        return;
    }
    answer_problem(self, 404, "no such page: /healthz /readyz /metrics /status, POST /reload");
}

static void on_bad_head(struct gw_stream *stream, enum gw_head_result result)
{
    struct admin_request *self = create_request(stream);
    if (result == GW_HEAD_INCOMPLETE)
        answer_problem(self, 408, "the request head did not arrive in time");
    else
        answer_problem(self, gw_head_status(result), gw_head_problem(result));
}

/* No page reads a body, so nothing is lost with it. */
static void on_bad_body(struct gw_stream *stream)
{
    struct admin_request *self = stream->user;
    gw_timer_disarm(&self->timer);
    answer_problem(self, 400, "the request body is broken");
}

static void on_done(struct gw_stream *stream)
{
    struct admin_request *self = stream->user;
    gw_timer_disarm(&self->timer);
}

/* ---- accepting ---- */

static void on_readable(h2o_socket_t *listener, const char *err);

static void on_resume(struct gw_timer *timer)
{
    struct door *door = H2O_STRUCT_FROM_MEMBER(struct door, resume, timer);
    if (door->sock != NULL)
        h2o_socket_read_start(door->sock, on_readable);
}

static void on_readable(h2o_socket_t *listener, const char *err)
{
    struct door *door = listener->data;
    struct gw_admin *admin = door->admin;

    for (int i = 0; i != ACCEPTS_A_TURN; ++i) {
        h2o_socket_t *sock = h2o_evloop_socket_accept(listener);
        if (sock == NULL) {
            if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM)
                return;
            gw_log(GW_LOG_ERROR, "admin", "cannot accept: %s", strerror(errno));
            h2o_socket_read_stop(listener);
            gw_timer_arm(admin->process->control.wheel, &door->resume,
                         gw_thread_now(&admin->process->control) + PAUSE_MS);
            return;
        }
        if (admin->server.num_conns >= MAX_CONNECTIONS) {
            gw_log(GW_LOG_WARNING, "admin", "more than %d connections", MAX_CONNECTIONS);
            h2o_socket_close(sock);
            continue;
        }
        gw_http1_serve(&admin->server, sock, door, 0);
    }
}

/* ---- opening and closing ---- */

/* Is there a process that listens on a socket file? */
static bool is_alive(const struct gw_address *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive =
        fd != -1 && (connect(fd, (const struct sockaddr *)&address->sa, address->sa_len) == 0 || errno == EAGAIN);

    if (fd != -1)
        close(fd);
    return alive;
}

/* Makes way for a socket file: the parent folder (one level), no stale socket. Returns NULL, or why it cannot be. */
static const char *make_way(const struct gw_address *address)
{
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
    const char *slash = strrchr(address->host.base, '/');
    struct stat st;

    if (slash != NULL && slash != address->host.base && (size_t)(slash - address->host.base) < sizeof(folder)) {
        memcpy(folder, address->host.base, slash - address->host.base);
        folder[slash - address->host.base] = '\0';
        if (mkdir(folder, 0755) != 0 && errno != EEXIST)
            return strerror(errno);
    }
    if (lstat(address->host.base, &st) != 0)
        return errno == ENOENT ? NULL : strerror(errno);
    if (!S_ISSOCK(st.st_mode))
        return "a file that is no socket is in its place";
    if (is_alive(address))
        return "another process listens on it";
    return unlink(address->host.base) == 0 ? NULL : strerror(errno);
}

/* A listening socket, or -1 and why. A Unix socket is for its owner alone: the mode of the socket itself is what bind()
 * gives to the file, without the race of a chmod() afterwards. */
static int open_socket(const struct gw_address *address, const char **why)
{
    int fd, on = 1;

    if (address->is_unix && (*why = make_way(address)) != NULL)
        return -1;
    if ((fd = socket(address->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) == -1 ||
        (address->is_unix ? fchmod(fd, 0600) : setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on))) != 0 ||
        bind(fd, (const struct sockaddr *)&address->sa, address->sa_len) != 0 || listen(fd, 128) != 0) {
        *why = strerror(errno);
        if (fd != -1)
            close(fd);
        return -1;
    }
    return fd;
}

static bool is_our_file(const struct door *door)
{
    struct stat st;
    return door->unix_path != NULL && lstat(door->unix_path, &st) == 0 && st.st_dev == door->dev &&
           st.st_ino == door->ino;
}

static void close_door(struct door *door)
{
    if (door->sock == NULL)
        return;
    gw_timer_disarm(&door->resume);
    if (is_our_file(door))
        unlink(door->unix_path);
    h2o_socket_close(door->sock);
    door->sock = NULL;
    free(door->unix_path);
    door->unix_path = NULL;
    free(door->text.base);
    door->text = h2o_iovec_init(NULL, 0);
}

static void open_door(struct door *door, const struct gw_address *address, int fd)
{
    struct stat st;

    door->text = h2o_strdup(NULL, address->text.base, address->text.len);
    if (address->is_unix && lstat(address->host.base, &st) == 0) {
        door->unix_path = h2o_strdup(NULL, address->host.base, address->host.len).base;
        door->dev = st.st_dev;
        door->ino = st.st_ino;
    }
    door->sock = h2o_evloop_socket_create(door->admin->process->control.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    door->sock->data = door;
    h2o_socket_read_start(door->sock, on_readable);
}

/* Connections of a door that moved keep it as their listener: only what it says about itself changes. */
static bool move_door(struct door *door, const struct gw_address *address, bool is_wanted, const char **why)
{
    int fd;

    if (!is_wanted) {
        close_door(door);
        return true;
    }
    if (door->sock != NULL && h2o_memis(door->text.base, door->text.len, address->text.base, address->text.len) &&
        (!address->is_unix || is_our_file(door)))
        return true;
    if ((fd = open_socket(address, why)) == -1)
        return false;
    close_door(door);
    open_door(door, address, fd);
    return true;
}

bool gw_admin_configure(struct gw_admin *admin, const struct gw_config *config, struct gw_errors *errors)
{
    const struct gw_admin_conf *conf = &config->admin;
    const struct gw_node *at = conf->at != NULL ? conf->at : config->at;
    const char *why;

    if (!move_door(&admin->doors[0], &conf->address, conf->is_enabled, &why)) {
        if (!conf->is_default)
            return gw_error_at(errors, gw_setting_at(at, "address"), "cannot listen on %s: %s", conf->address.text.base,
                               why);
        gw_warn_at(errors, at, "no admin listener: cannot listen on %s: %s (admin.address moves it)",
                   conf->address.text.base, why);
        close_door(&admin->doors[0]);
    }
    if (!move_door(&admin->doors[1], &conf->tcp, conf->is_enabled && conf->tcp.text.len != 0, &why))
        return gw_error_at(errors, gw_setting_at(at, "tcp"), "cannot listen on %s: %s", conf->tcp.text.base, why);
    return true;
}

struct gw_admin *gw_admin_create(struct gw_process *process)
{
    struct gw_admin *admin = h2o_mem_alloc(sizeof(*admin));

    memset(admin, 0, sizeof(*admin));
    admin->process = process;
    gw_server_init(&admin->server, &process->control, process->control_ctx.globalconf->hosts);
    admin->server.settings = (struct gw_http_settings){
        .limits = {.max_bytes = 16 * 1024, .max_target = 4096, .max_fields = GW_HEAD_MAX_FIELDS},
        .header_timeout_ms = 10 * 1000,
        .idle_timeout_ms = 60 * 1000,
        .body_timeout_ms = 10 * 1000,
        .send_timeout_ms = 10 * 1000,
    };
    admin->server.on_request = on_request;
    admin->server.on_bad_head = on_bad_head;
    admin->server.on_bad_body = on_bad_body;
    admin->server.on_done = on_done;
    for (size_t i = 0; i != sizeof(admin->doors) / sizeof(admin->doors[0]); ++i) {
        admin->doors[i].admin = admin;
        gw_timer_init(&admin->doors[i].resume, on_resume);
    }
    return admin;
}

void gw_admin_destroy(struct gw_admin *admin)
{
    if (admin == NULL)
        return;
    for (size_t i = 0; i != sizeof(admin->doors) / sizeof(admin->doors[0]); ++i)
        close_door(&admin->doors[i]);
    for (h2o_linklist_t *node = admin->server.conns.next, *next; node != &admin->server.conns; node = next) {
        struct gw_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_conn, link, node);
        next = node->next;
        conn->ops->close(conn, GW_END_DRAIN);
    }
    free(admin->server.scratch);
    free(admin);
}
