/* What a target sends over HTTP/2: the bytes go through a real socket into a session with two requests on it, one with
 * a body. Whatever comes, every request ends once, heads are clean, and nothing is left when the pool goes. */
#include <assert.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "gateway/upstream/client.h"

static struct gw_thread thread;
static struct gw_endpoint endpoint;
static struct gw_transport *transport;
static int listener;

struct attempt {
    struct gw_client *client;
    bool has_head, has_ended;
};

static void on_head(void *data, const struct gw_response_head *head, bool body_follows)
{
    struct attempt *self = data;
    assert(!self->has_head && !self->has_ended);
    self->has_head = true;
    self->has_ended = !body_follows;
    assert(head->status >= 200 && head->status <= 599);
    for (size_t i = 0; i != head->num_fields; ++i)
        assert(gw_is_token(*head->fields[i].name) && gw_is_field_value(head->fields[i].value));
}

static void on_body(void *data, h2o_iovec_t bytes, bool is_last)
{
    struct attempt *self = data;
    assert(self->has_head && !self->has_ended);
    self->has_ended = is_last;
    if (is_last && gw_client_trailers(self->client) != NULL)
        for (size_t i = 0; i != gw_client_trailers(self->client)->size; ++i)
            assert(gw_is_field_value(gw_client_trailers(self->client)->entries[i].value));
    gw_client_consumed(self->client, bytes.len);
}

static void on_error(void *data, enum gw_client_error error, bool retry_is_safe)
{
    struct attempt *self = data;
    assert(!self->has_ended && !(retry_is_safe && self->has_head));
    self->has_ended = true;
}

static const struct gw_client_callbacks callbacks = {NULL, on_head, on_body, NULL, on_error};

static void set_up(void)
{
    static h2o_globalconf_t config;
    static h2o_context_t context;
    struct sockaddr_un *address = (struct sockaddr_un *)&endpoint.address.sa;
    h2o_config_init(&config);
    h2o_config_register_host(&config, h2o_iovec_init(H2O_STRLIT("default")), 65535); /* libh2o wants one */
    h2o_context_init(&context, h2o_evloop_create(), &config);
    gw_thread_init(&thread, 0, &context);
    address->sun_family = AF_UNIX; /* an abstract name: the kernel chooses it */
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    socklen_t len = sizeof(address->sun_family);
    assert(bind(listener, (struct sockaddr *)address, len) == 0 && listen(listener, 16) == 0);
    len = sizeof(endpoint.address.sa);
    assert(getsockname(listener, (struct sockaddr *)address, &len) == 0);
    endpoint.address.sa_len = len;
    endpoint.name = h2o_iovec_init(H2O_STRLIT("target"));
    transport = gw_transport_create(true, NULL, h2o_iovec_init(NULL, 0), 0);
}

static void turn(unsigned count)
{
    while (count-- != 0)
        gw_thread_turn(&thread, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct gw_pool_limits limits = {4, 1000, 0};
    static const struct gw_client_timeouts timeouts = {0};
    struct attempt attempts[2] = {{NULL}};
    if (listener == 0)
        set_up();
    struct gw_pool *pool = gw_pool_create(&thread);
    for (int i = 0; i != 2; ++i) {
        const struct gw_client_request request = {
            .method = i == 0 ? h2o_iovec_init(H2O_STRLIT("GET")) : h2o_iovec_init(H2O_STRLIT("POST")),
            .target = {H2O_STRLIT("/")},
            .host = {H2O_STRLIT("a")},
            .content_length = UINT64_MAX,
            .has_body = i == 1,
            .body = {i == 1 ? "body" : NULL, i == 1 ? 4 : 0},
            .body_is_whole = i == 1,
            .transport = transport,
        };
        attempts[i].client =
            gw_client_start(pool, &endpoint, &limits, &timeouts, &request, true, &callbacks, &attempts[i]);
    }
    turn(3);
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd >= 0) {
        size_t half = size / 2; /* in two pieces, so that states between reads are met */
        (void)!send(fd, data, half, MSG_NOSIGNAL);
        turn(3);
        (void)!send(fd, data + half, size - half, MSG_NOSIGNAL);
        turn(3);
        close(fd);
    }
    turn(3);
    gw_client_release(attempts[0].client);
    gw_client_release(attempts[1].client);
    turn(2);
    gw_pool_destroy(pool);
    for (int i; (i = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;)
        close(i);
    turn(1);
    return 0;
}
