#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>
#include "harness.h"

struct gw_thread thread;
struct gw_pool *pool;
struct gw_pool_limits limits;
struct gw_client_timeouts timeouts;

static void turn_for(int32_t max_wait_ms)
{
    if (gw_thread_turn(&thread, max_wait_ms) != 0)
        assert_int_equal(errno, EINTR); /* somebody has stopped the process, and let it go on */
}

void turn(void) { turn_for(20); }

void settle(void)
{
    /* Loopback delivers within send(): each turn handles all that is there, a few follow what the first started. */
    for (int i = 0; i != 4; ++i)
        turn_for(0);
}

int setup_thread(void **state)
{
    static h2o_context_t ctx;
    signal(SIGPIPE, SIG_IGN);
    ctx.loop = h2o_evloop_create();
    gw_thread_init(&thread, 0, &ctx);
    return 0;
}

int setup_pool(void **state)
{
    pool = gw_pool_create(&thread);
    limits = (struct gw_pool_limits){.max_idle = 8, .idle_ms = 60000};
    timeouts = (struct gw_client_timeouts){.connect_ms = 60000, .first_byte_ms = 60000, .idle_ms = 60000};
    return 0;
}

int teardown_pool(void **state)
{
    gw_pool_destroy(pool);
    settle(); /* frees the closed sockets */
    return 0;
}

/* --- the origin --- */
static socklen_t fill_address(struct origin *self, int family, struct sockaddr_storage *sa)
{
    memset(sa, 0, sizeof(*sa));
    sa->ss_family = (sa_family_t)family;
    if (family == AF_UNIX) {
        struct sockaddr_un *sun = (struct sockaddr_un *)sa;
        snprintf(self->path, sizeof(self->path), "/tmp/weir-origin-%d.sock", (int)getpid());
        unlink(self->path);
        strcpy(sun->sun_path, self->path);
        return sizeof(*sun);
    }
    if (family == AF_INET6) {
        ((struct sockaddr_in6 *)sa)->sin6_addr = in6addr_loopback;
        return sizeof(struct sockaddr_in6);
    }
    ((struct sockaddr_in *)sa)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sizeof(struct sockaddr_in);
}

bool has_ipv6(void)
{
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool is_usable = fd != -1 && bind(fd, (struct sockaddr *)&loopback, sizeof(loopback)) == 0;
    if (fd != -1)
        close(fd);
    return is_usable;
}

void origin_open(struct origin *self, int family)
{
    static uint32_t next_index;
    memset(self, 0, sizeof(*self));
    struct gw_address *address = &self->endpoint.address;
    address->sa_len = fill_address(self, family, &address->sa);
    address->is_unix = family == AF_UNIX;
    address->host = family == AF_INET    ? h2o_iovec_init(H2O_STRLIT("127.0.0.1"))
                    : family == AF_INET6 ? h2o_iovec_init(H2O_STRLIT("::1"))
                                         : h2o_iovec_init(self->path, strlen(self->path));
    self->endpoint.name = h2o_iovec_init(H2O_STRLIT("origin"));
    self->endpoint.index = next_index++;
    self->listener = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_true(self->listener >= 0);
    assert_int_equal(bind(self->listener, (struct sockaddr *)&address->sa, address->sa_len), 0);
    assert_int_equal(listen(self->listener, 128), 0);
    if (family != AF_UNIX) {
        socklen_t len = sizeof(address->sa);
        assert_int_equal(getsockname(self->listener, (struct sockaddr *)&address->sa, &len), 0);
        address->port = ntohs(((struct sockaddr_in *)&address->sa)->sin_port); /* at one offset in both families */
    }
}

void origin_close(struct origin *self)
{
    close(self->listener);
    if (self->path[0] != '\0')
        unlink(self->path);
}

static int try_accept(struct origin *self) { return accept4(self->listener, NULL, NULL, SOCK_NONBLOCK); }

int origin_accept(struct origin *self)
{
    int fd;
    UNTIL((fd = try_accept(self)) >= 0);
    return fd;
}

bool origin_has_connection(struct origin *self)
{
    int fd = try_accept(self);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static size_t receive(int fd, char *buf, size_t len)
{
    ssize_t n = recv(fd, buf, len, 0);
    if (n == 0)
        fail_msg("the client closed the connection");
    return n < 0 ? 0 : (size_t)n;
}

void origin_expect(int fd, const char *bytes)
{
    size_t len = strlen(bytes), got = 0;
    char *buf = calloc(1, len + 1);
    UNTIL((got += receive(fd, buf + got, len - got)) == len);
    assert_string_equal(buf, bytes);
    free(buf);
}

void origin_expect_head(int fd)
{
    static const char end[] = "\r\n\r\n";
    size_t matched = 0;
    while (matched != 4) { /* byte by byte, as a body may follow */
        char c;
        UNTIL(receive(fd, &c, 1) == 1);
        matched = c == end[matched] ? matched + 1 : c == '\r';
    }
}

static bool has_ended(int fd)
{
    char buf[65536];
    ssize_t n;
    while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
        ;
    return n == 0 || errno != EAGAIN;
}

void origin_expect_end(int fd) { UNTIL(has_ended(fd)); }

void origin_send_bytes(int fd, const char *bytes, size_t len)
{
    for (size_t done = 0; done != len;) {
        ssize_t n;
        UNTIL((n = send(fd, bytes + done, len - done, MSG_NOSIGNAL)) > 0);
        done += (size_t)n;
    }
}

void origin_send(int fd, const char *text) { origin_send_bytes(fd, text, strlen(text)); }

void origin_reset(int fd)
{
    struct linger linger = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(fd);
}

/* --- attempts --- */
char pattern(uint64_t offset) { return (char)(offset * 2654435761u >> 13); }

static bool note(struct attempt *self, enum callback which, const char *name)
{
    size_t len = strlen(self->events), name_len = strlen(name);
    bool repeats = len >= name_len && strcmp(self->events + len - name_len, name) == 0;
    if (!repeats)
        snprintf(self->events + len, sizeof(self->events) - len, "%s%s", len == 0 ? "" : " ", name);
    if (self->has_ended)
        fail_msg("a callback after the end: %s", self->events);
    if (which == ON_LAST || which == ON_ERROR) {
        self->has_ended = true;
        self->ended_at_ms = gw_now_ms();
    }
    if (self->release_in != which)
        return false;
    gw_client_release(self->client);
    self->client = NULL;
    return true;
}

static void on_started(void *data, bool reused)
{
    struct attempt *self = data;
    self->is_reused = reused;
    note(self, ON_STARTED, "started");
}

static void on_head(void *data, const struct gw_response_head *head, bool body_follows)
{
    struct attempt *self = data;
    self->head = head;
    self->status = head->status;
    self->body_follows = body_follows;
    snprintf(self->reason, sizeof(self->reason), "%.*s", (int)head->reason.len, head->reason.base);
    for (size_t i = 0; i != head->num_fields; ++i)
        if (h2o_memis(head->fields[i].name->base, head->fields[i].name->len, H2O_STRLIT("a")))
            snprintf(self->field_a, sizeof(self->field_a), "%.*s", (int)head->fields[i].value.len,
                     head->fields[i].value.base);
    if (!note(self, ON_HEAD, "head") && !body_follows)
        self->has_ended = true;
}

static void keep(struct attempt *self, h2o_iovec_t bytes)
{
    if (self->keeps_no_copy) {
        for (size_t i = 0; i != bytes.len; ++i)
            if (bytes.base[i] != pattern(self->body_len + i))
                fail_msg("wrong byte at %zu", self->body_len + i);
    } else {
        self->body = realloc(self->body, self->body_len + bytes.len + 1);
        if (bytes.len != 0)
            memcpy(self->body + self->body_len, bytes.base, bytes.len);
        self->body[self->body_len + bytes.len] = '\0';
    }
    self->body_len += bytes.len;
}

static void on_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct attempt *self = data;
    keep(self, bytes);
    if (note(self, is_last ? ON_LAST : ON_BODY, is_last ? "last" : "body"))
        return;
    if (self->holds_back)
        self->held += bytes.len;
    else
        gw_client_consumed(self->client, bytes.len);
}

static void on_drained(void *data)
{
    struct attempt *self = data;
    ++self->num_drained;
    note(self, ON_DRAINED, "drained");
}

static void on_error(void *data, enum gw_client_error error, bool retry_is_safe)
{
    struct attempt *self = data;
    self->error = error;
    self->retry_is_safe = retry_is_safe;
    assert_int_equal(gw_client_failure(self->client)->error, error);
    assert_non_null(gw_client_failure(self->client)->detail);
    note(self, ON_ERROR, "error");
}

const struct gw_client_callbacks attempt_callbacks = {on_started, on_head, on_body, on_drained, on_error};

struct gw_client_request get_request(void)
{
    return (struct gw_client_request){
        .method = {H2O_STRLIT("GET")},
        .target = {H2O_STRLIT("/")},
        .host = {H2O_STRLIT("origin")},
        .content_length = UINT64_MAX,
    };
}

static void start(struct attempt *self, struct origin *origin, const struct gw_client_request *req, bool allow_reuse)
{
    self->client =
        gw_client_start(pool, &origin->endpoint, &limits, &timeouts, req, allow_reuse, &attempt_callbacks, self);
    assert_string_equal(self->events, ""); /* nothing is called back from inside gw_client_start */
}

void attempt_start(struct attempt *self, struct origin *origin, const struct gw_client_request *req)
{
    start(self, origin, req, true);
}

void attempt_start_anew(struct attempt *self, struct origin *origin, const struct gw_client_request *req)
{
    start(self, origin, req, false);
}

void attempt_get(struct attempt *self, struct origin *origin)
{
    struct gw_client_request req = get_request();
    attempt_start(self, origin, &req);
}

void attempt_release(struct attempt *self)
{
    gw_client_release(self->client);
    free(self->body);
    memset(self, 0, sizeof(*self));
}

int exchange(struct origin *origin, int fd, const char *response)
{
    struct attempt a = {0};
    attempt_get(&a, origin);
    if (fd < 0)
        fd = origin_accept(origin);
    origin_expect(fd, "GET / HTTP/1.1\r\nhost: origin\r\n\r\n");
    origin_send(fd, response);
    UNTIL(a.has_ended);
    assert_int_equal(a.error, GW_CLIENT_OK);
    attempt_release(&a);
    return fd;
}

struct origin origin;
struct attempt a;

int setup_attempt(void **state)
{
    memset(&a, 0, sizeof(a));
    origin_open(&origin, AF_INET);
    return setup_pool(state);
}

int teardown_attempt(void **state)
{
    attempt_release(&a);
    origin_close(&origin);
    return teardown_pool(state);
}

uint64_t num_idle(void) { return gw_counter_read(&gw_pool_stats(pool)->idle); }
