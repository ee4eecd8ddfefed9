#include "gateway/admin/admin.h"
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/admin/admin_request.h"
#include "gateway/base/log.h"
#include "gateway/admin/health_log.h"
#include "gateway/supervisor/sockets.h"
#include "gateway/supervisor/supervised.h"

enum {
    MAX_CONNECTIONS = 64, /* of each door */
    COMPLAIN_MS = 10000,
    ACCEPTS_A_TURN = 16,
    PAUSE_MS = 100, /* out of descriptors: a level-triggered listener would spin */
};

/* A socket the admin API listens on. */
struct door {
    struct gw_admin *admin;
    h2o_iovec_t text;   /* the address as written; base NULL: closed */
    h2o_socket_t *sock; /* NULL: closed */
    struct gw_timer resume;
    uint64_t complain_ms; /* loop time: no word before it about connections that were refused */
    char *unix_path;      /* NULL: TCP */
    dev_t dev;            /* of the socket file we made: another one in its place is not ours to remove */
    ino_t ino;
};

struct gw_admin { /* control thread */
    struct gw_process *process;
    struct gw_server server;
    struct door doors[2]; /* admin.address, admin.tcp */
    bool has_successor;
    size_t num_requests; /* in flight */
    h2o_iovec_t token;   /* owned; base NULL: none */
    struct gw_recent recent;
    struct gw_reloads reloads;
    struct gw_traffic *traffic;
    int num_tails;
};

struct gw_recent *gw_admin_recent(struct gw_admin *admin) { return &admin->recent; }
struct gw_reloads *gw_admin_reloads(struct gw_admin *admin) { return &admin->reloads; }
int gw_admin_count_tails(struct gw_admin *admin, int n) { return admin->num_tails += n; }
struct gw_traffic *gw_admin_traffic(struct gw_admin *admin) { return admin->traffic; }

/* ---- requests ---- */

static struct gw_admin_request *create_request(struct gw_stream *stream)
{
    struct gw_admin *admin = H2O_STRUCT_FROM_MEMBER(struct gw_admin, server, stream->conn->server);
    struct gw_admin_request *self = h2o_mem_alloc_pool(&stream->req.pool, sizeof(*self));

    memset(self, 0, sizeof(*self));
    self->request.pool = &stream->req.pool;
    self->request.stream = stream;
    self->request.facts.headers = stream->head.fields;
    self->request.facts.num_headers = stream->head.num_fields;
    self->admin = admin;
    self->process = admin->process;
    ++admin->num_requests;
    gw_timer_init(&self->timer, NULL);
    stream->user = self;
    return self;
}

static void on_request(struct gw_stream *stream)
{
    struct gw_admin_request *self = create_request(stream);

    self->path = stream->head.path;
    if (stream->head.query_at != SIZE_MAX) {
        self->path.len = stream->head.query_at;
        self->query = h2o_iovec_init(stream->head.path.base + stream->head.query_at + 1,
                                     stream->head.path.len - stream->head.query_at - 1);
    }
    if (gw_admin_may_enter(self, self->admin->token))
        gw_admin_dispatch(self);
}

static void on_bad_head(struct gw_stream *stream, enum gw_head_result result)
{
    struct gw_admin_request *self = create_request(stream);
    if (result == GW_HEAD_INCOMPLETE)
        gw_admin_problem(self, 408, "the request head did not arrive in time");
    else
        gw_admin_problem(self, gw_head_status(result), "%s", gw_head_problem(result));
}

static void clean_up(struct gw_admin_request *self)
{
    gw_timer_disarm(&self->timer);
    if (self->on_over != NULL)
        self->on_over(self);
    self->on_over = NULL;
}

static void on_bad_body(struct gw_stream *stream)
{
    struct gw_admin_request *self = stream->user;
    clean_up(self);
    if (!self->is_answered)
        gw_admin_problem(self, 400, "the request body is broken");
}

static void on_done(struct gw_stream *stream)
{
    struct gw_admin_request *self = stream->user;
    clean_up(self);
    --self->admin->num_requests;
}

/* ---- accepting ---- */

static void on_readable(h2o_socket_t *listener, const char *err);

static void on_resume(struct gw_timer *timer)
{
    struct door *door = H2O_STRUCT_FROM_MEMBER(struct door, resume, timer);
    if (door->sock != NULL)
        h2o_socket_read_start(door->sock, on_readable);
}

static void see_stream(struct gw_stream *stream, void *is_busy) { *(bool *)is_busy = true; }

static bool is_busy(struct gw_conn *conn)
{
    bool is_busy = false;
    conn->ops->each_stream(conn, see_stream, &is_busy);
    return is_busy;
}

/* Each door has places of its own, so that whoever reaches the TCP one cannot keep the owner from the Unix socket. When
 * all are taken, the oldest connection without a request makes place: to send none takes no token, and must not keep
 * those out who have one. */
static bool has_place(struct door *door)
{
    struct gw_server *server = &door->admin->server;
    struct gw_conn *oldest = NULL;
    unsigned count = 0;

    if (server->num_conns < MAX_CONNECTIONS)
        return true;
    for (h2o_linklist_t *node = server->conns.next; node != &server->conns; node = node->next) {
        struct gw_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_conn, link, node);
        if (conn->listener != door)
            continue;
        ++count;
        if (oldest == NULL && !is_busy(conn))
            oldest = conn;
    }
    if (count < MAX_CONNECTIONS)
        return true;
    if (oldest != NULL)
        oldest->ops->close(oldest, GW_END_ABORTED);
    return oldest != NULL;
}

static void complain(struct door *door)
{
    uint64_t now_ms = gw_thread_now(&door->admin->process->control);

    if (now_ms < door->complain_ms)
        return;
    door->complain_ms = now_ms + COMPLAIN_MS;
    gw_log(GW_LOG_WARNING, "admin", "%.*s: connections are refused: %d others have requests under way",
           (int)door->text.len, door->text.base, MAX_CONNECTIONS);
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
        if (!has_place(door)) {
            complain(door);
            h2o_socket_close(sock);
            continue;
        }
        struct gw_peer peer;
        gw_peer_of_socket(&peer, sock, door, 0);
        gw_http1_serve(&admin->server, sock, &peer, false);
    }
}

/* ---- opening and closing ---- */

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
    h2o_socket_close(door->sock);
    door->sock = NULL;
    free(door->unix_path);
    door->unix_path = NULL;
    free(door->text.base);
    door->text = h2o_iovec_init(NULL, 0);
}

/* The same, and nobody will find it any more. */
static void remove_door(struct door *door)
{
    struct gw_supervised *supervised = door->admin->process->supervised;
    if (door->sock == NULL)
        return;
    if (supervised != NULL)
        gw_supervised_close(supervised, GW_SOCKET_ADMIN, door->text.base);
    else if (is_our_file(door))
        unlink(door->unix_path);
    close_door(door);
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

static bool is_same_socket(const struct door *door, int fd)
{
    struct stat a, b;
    return door->sock != NULL && fstat(h2o_socket_get_fd(door->sock), &a) == 0 && fstat(fd, &b) == 0 &&
           a.st_ino == b.st_ino;
}

static bool is_at(const struct door *door, const struct gw_address *address)
{
    return door->sock != NULL && h2o_memis(door->text.base, door->text.len, address->text.base, address->text.len);
}

/* The supervisor knows whether its socket can still be reached, and gives another one if not. */
static bool move_supervised_door(struct door *door, const struct gw_address *address, struct gw_inventory_error *error)
{
    unsigned num_fds;
    int *fds, fd;

    if (!gw_supervised_open(door->admin->process->supervised, GW_SOCKET_ADMIN, address->text.base, 1, &fds, &num_fds,
                            error))
        return false;
    fd = fds[0];
    for (unsigned i = 1; i != num_fds; ++i) /* socket activation may give more than are needed */
        close(fds[i]);
    free(fds);
    if (is_at(door, address) && is_same_socket(door, fd)) {
        close(fd);
        return true;
    }
    if (is_at(door, address))
        close_door(door);
    else
        remove_door(door);
    open_door(door, address, fd);
    return true;
}

/* Connections of a door that moved keep it as their listener: only what it says about itself changes. */
static bool move_door(struct door *door, const struct gw_address *address, bool is_wanted,
                      struct gw_inventory_error *error)
{
    const char *why;
    int fd;

    if (!is_wanted) {
        remove_door(door);
        return true;
    }
    if (door->admin->process->supervised != NULL)
        return move_supervised_door(door, address, error);
    if (is_at(door, address) && (!address->is_unix || is_our_file(door)))
        return true;
    if ((fd = gw_sockets_listen_admin(address, &why)) == -1) {
        snprintf(error->text, sizeof(error->text), "%s", why);
        return false;
    }
    remove_door(door);
    open_door(door, address, fd);
    return true;
}

static void set_token(struct gw_admin *admin, h2o_iovec_t token)
{
    free(admin->token.base);
    admin->token = token.base != NULL ? h2o_strdup(NULL, token.base, token.len) : token;
}

bool gw_admin_configure(struct gw_admin *admin, const struct gw_config *config, struct gw_errors *errors)
{
    const struct gw_admin_conf *conf = &config->admin;
    const struct gw_node *at = conf->at != NULL ? conf->at : config->at;
    struct gw_inventory_error error;

    if (!move_door(&admin->doors[0], &conf->address, conf->is_enabled, &error)) {
        if (!conf->is_default)
            return gw_error_at(errors, gw_setting_at(at, "address"), "cannot listen on %s: %s", conf->address.text.base,
                               error.text);
        gw_warn_at(errors, at, "no admin listener: cannot listen on %s: %s (admin.address moves it)",
                   conf->address.text.base, error.text);
        remove_door(&admin->doors[0]);
    }
    if (!move_door(&admin->doors[1], &conf->tcp, conf->is_enabled && conf->tcp.text.len != 0, &error))
        return gw_error_at(errors, gw_setting_at(at, "tcp"), "cannot listen on %s: %s", conf->tcp.text.base,
                           error.text);
    set_token(admin, conf->token);
    return true;
}

static void on_check(void *data, const struct gw_endpoint *endpoint, const struct routing_health *health,
                     enum routing_probe result, int status, uint64_t elapsed_us, uint64_t wall_ms)
{
    gw_health_log_check(H2O_STRUCT_FROM_MEMBER(struct gw_endpoint_entry, endpoint, (struct gw_endpoint *)endpoint),
                        result, status, elapsed_us, wall_ms);
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
        .send_timeout_ms = 60 * 1000, /* a terminal that stands still */
    };
    admin->server.on_request = on_request;
    admin->server.on_bad_head = on_bad_head;
    admin->server.on_bad_body = on_bad_body;
    admin->server.on_done = on_done;
    for (size_t i = 0; i != sizeof(admin->doors) / sizeof(admin->doors[0]); ++i) {
        admin->doors[i].admin = admin;
        gw_timer_init(&admin->doors[i].resume, on_resume);
    }
    admin->traffic = gw_traffic_create(process);
    gw_prober_watch(process->prober, on_check, NULL);
    return admin;
}

bool gw_admin_is_idle(const struct gw_admin *admin) { return admin->num_requests == 0; }

bool gw_admin_has_successor(const struct gw_admin *admin) { return admin->has_successor; }

void gw_admin_close_doors(struct gw_admin *admin)
{
    admin->has_successor = true;
    for (size_t i = 0; i != sizeof(admin->doors) / sizeof(admin->doors[0]); ++i)
        close_door(&admin->doors[i]);
}

void gw_admin_destroy(struct gw_admin *admin)
{
    if (admin == NULL)
        return;
    for (size_t i = 0; i != sizeof(admin->doors) / sizeof(admin->doors[0]); ++i)
        if (admin->process->supervised != NULL)
            close_door(&admin->doors[i]); /* its file is the supervisor's */
        else
            remove_door(&admin->doors[i]);
    for (h2o_linklist_t *node = admin->server.conns.next, *next; node != &admin->server.conns; node = next) {
        struct gw_conn *conn = H2O_STRUCT_FROM_MEMBER(struct gw_conn, link, node);
        next = node->next;
        conn->ops->close(conn, GW_END_DRAIN);
    }
    free(admin->server.scratch);
    gw_usage_table_destroy(admin->server.addresses);
    free(admin->token.base);
    gw_traffic_destroy(admin->traffic);
    gw_recent_dispose(&admin->recent);
    gw_reloads_dispose(&admin->reloads);
    free(admin);
}
