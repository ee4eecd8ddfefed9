#include "gateway/admin/admin_client.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <h2o.h>
#include "gateway/base/ip.h"
#include "gateway/base/yaml.h"

static const char default_address[] = "unix:/run/weir/admin.sock";

/* ---- options ---- */

bool gw_admin_client_option(struct gw_admin_client *client, int c, const char *value)
{
    if (c == 'c')
        client->config = value;
    else if (c == 'a')
        client->address = value;
    else if (c == 'k')
        client->token = value;
    else
        return false;
    return true;
}

/* ---- finding the socket ---- */

/* Only the admin section of the file is looked at: status must be there when the rest is being edited and broken. */
static bool address_of_config(h2o_mem_pool_t *pool, const char *path, h2o_iovec_t *text, h2o_iovec_t *token)
{
    struct gw_errors errors;
    gw_errors_init(&errors);
    const struct gw_node *root = gw_yaml_load_file(pool, path, NULL, &errors);
    const struct gw_node *admin = gw_node_get(root, "admin"), *address = gw_node_get(admin, "address");
    const struct gw_node *enabled = gw_node_get(admin, "enabled"), *tcp = gw_node_get(admin, "tcp");
    const struct gw_node *secret = gw_node_get(admin, "token");
    bool found = root != NULL;

    if (root == NULL)
        gw_errors_print(&errors, stderr);
    if (address != NULL && address->kind == GW_NODE_SCALAR)
        *text = h2o_strdup(pool, address->text.base, address->text.len);
    else if (tcp != NULL && tcp->kind == GW_NODE_SCALAR && tcp->text.len != 0)
        *text = h2o_strdup(pool, tcp->text.base, tcp->text.len);
    if (secret != NULL && secret->kind == GW_NODE_SCALAR)
        *token = h2o_strdup(pool, secret->text.base, secret->text.len);
    if (enabled != NULL && enabled->kind == GW_NODE_SCALAR &&
        h2o_memis(enabled->text.base, enabled->text.len, H2O_STRLIT("false"))) {
        fprintf(stderr, "%s:%u:%u: the admin listener is turned off\n", enabled->file, enabled->line, enabled->column);
        found = false;
    }
    gw_errors_dispose(&errors);
    return found;
}

/* token: receives the one to say, base NULL for none. */
static bool find_address(h2o_mem_pool_t *pool, const struct gw_admin_client *client, struct gw_address *address,
                         h2o_iovec_t *token)
{
    const char *command = client->command;
    const char *said = client->token != NULL ? client->token : getenv("WEIR_ADMIN_TOKEN");
    h2o_iovec_t text = h2o_iovec_init(default_address, sizeof(default_address) - 1);
    const char *why;

    *token = h2o_iovec_init(NULL, 0);
    if (client->address != NULL) {
        text = h2o_strdup(pool, client->address, SIZE_MAX);
        if (text.len != 0 && text.base[0] == '/') /* a bare path is meant as a Unix socket */
            text = h2o_concat(pool, h2o_iovec_init(H2O_STRLIT("unix:")), text);
    } else if (client->config != NULL && !address_of_config(pool, client->config, &text, token)) {
        return false;
    }
    if (!gw_address_parse(pool, text, false, address, &why)) {
        fprintf(stderr, "weir %s: %.*s: %s\n", command, (int)text.len, text.base, why);
        return false;
    }
    if (said != NULL)
        *token = h2o_strdup(pool, said, SIZE_MAX);
    return true;
}

/* ---- one exchange ---- */

static int connect_to(const struct gw_admin_client *client, const struct gw_address *address, unsigned timeout_s)
{
    struct timeval timeout = {.tv_sec = timeout_s};
    int fd = socket(address->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0 ||
        connect(fd, (const struct sockaddr *)&address->sa, address->sa_len) != 0) {
        int error = errno;
        if (fd != -1)
            close(fd);
        if (client->is_quiet)
            return -1;
        if (error == ENOENT || error == ECONNREFUSED)
            fprintf(stderr, "weir %s: nobody listens on %s: is weir running, and is this its admin address?\n",
                    client->command, address->text.base);
        else
            fprintf(stderr, "weir %s: cannot connect to %s: %s\n", client->command, address->text.base,
                    strerror(error));
        return -1;
    }
    return fd;
}

static bool send_all(int fd, const char *bytes, size_t len)
{
    while (len != 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n == -1 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        len -= n;
    }
    return true;
}

/* Everything until the other side closes; base NULL and errno when that fails. */
static h2o_iovec_t receive_all(int fd)
{
    size_t capacity = 64 * 1024, size = 0;
    char *bytes = h2o_mem_alloc(capacity);

    for (;;) {
        ssize_t n = recv(fd, bytes + size, capacity - size, 0);
        if (n == 0)
            return h2o_iovec_init(bytes, size);
        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1) {
            free(bytes);
            return h2o_iovec_init(NULL, 0);
        }
        if ((size += n) == capacity)
            bytes = h2o_mem_realloc(bytes, capacity *= 2);
    }
}

/* The status, 0 when this is no HTTP response; *body lies within the response. */
static int split_response(h2o_iovec_t response, h2o_iovec_t *body)
{
    const char *end = response.base != NULL ? memmem(response.base, response.len, "\r\n\r\n", 4) : NULL;
    if (end == NULL || response.len < 12 || memcmp(response.base, "HTTP/1.1 ", 9) != 0)
        return 0;
    *body = h2o_iovec_init(end + 4, response.len - (end + 4 - response.base));
    return (response.base[9] - '0') * 100 + (response.base[10] - '0') * 10 + (response.base[11] - '0');
}

/* The whole request; free its base. */
static h2o_iovec_t write_request(const char *method, const char *path, const char *body, h2o_iovec_t token,
                                 const char *version)
{
    h2o_iovec_t request = {NULL, 0};
    FILE *out = open_memstream(&request.base, &request.len);

    if (out == NULL)
        h2o_fatal("no memory");
    fprintf(out, "%s %s HTTP/%s\r\nHost: localhost\r\nConnection: close\r\n", method, path, version);
    if (token.base != NULL)
        fprintf(out, "Authorization: Bearer %.*s\r\n", (int)token.len, token.base);
    if (strcmp(method, "GET") != 0)
        fprintf(out, "Content-Length: %zu\r\n", body != NULL ? strlen(body) : 0);
    fprintf(out, "\r\n%s", body != NULL ? body : "");
    fclose(out);
    return request;
}

/* Connected and asked, or -1 after saying why. */
static int send_request(const struct gw_admin_client *client, const char *method, const char *path, const char *body,
                        const char *version, unsigned timeout_s)
{
    h2o_mem_pool_t pool;
    struct gw_address address;
    h2o_iovec_t token, request;
    int fd = -1;

    h2o_mem_init_pool(&pool);
    if (find_address(&pool, client, &address, &token) && (fd = connect_to(client, &address, timeout_s)) != -1) {
        request = write_request(method, path, body, token, version);
        if (!send_all(fd, request.base, request.len)) {
            fprintf(stderr, "weir %s: cannot ask %s: %s\n", client->command, address.text.base, strerror(errno));
            close(fd);
            fd = -1;
        }
        free(request.base);
    }
    h2o_mem_clear_pool(&pool);
    return fd;
}

json_t *gw_admin_client_ask(const struct gw_admin_client *client, const char *method, const char *path,
                            const char *body, unsigned timeout_s, int *status)
{
    h2o_iovec_t response, text = {NULL, 0};
    json_t *json = NULL;
    int fd = send_request(client, method, path, body, "1.1", timeout_s), code = 0;

    if (fd == -1)
        return NULL;
    response = receive_all(fd);
    if (response.base == NULL)
        fprintf(stderr, "weir %s: no answer: %s\n", client->command, strerror(errno));
    else if ((code = split_response(response, &text)) == 0 || (json = json_loadb(text.base, text.len, 0, NULL)) == NULL)
        fprintf(stderr, "weir %s: the answer makes no sense: is this weir's admin address?\n", client->command);
    close(fd);
    free(response.base);
    if (status != NULL)
        *status = code;
    if (json != NULL && status == NULL && code != 200) {
        fprintf(stderr, "weir %s: %s\n", client->command, gw_json_text_in(json, "message"));
        json_decref(json);
        json = NULL;
    }
    return json;
}

/* HTTP/1.0: what comes is not chunked and ends with the connection. */
FILE *gw_admin_client_open(const struct gw_admin_client *client, const char *path, unsigned timeout_s)
{
    int fd = send_request(client, "GET", path, NULL, "1.0", timeout_s), code = 0;
    FILE *stream = fd != -1 ? fdopen(fd, "r") : NULL;
    char *line = NULL;
    size_t capacity = 0;

    if (stream == NULL) {
        if (fd != -1)
            close(fd);
        return NULL;
    }
    if (getline(&line, &capacity, stream) > 12 && memcmp(line, "HTTP/1.", 7) == 0)
        code = atoi(line + 9);
    while (code != 0 && getline(&line, &capacity, stream) > 2)
        ;
    if (code == 200) {
        free(line);
        return stream;
    }
    json_t *problem = code != 0 && getline(&line, &capacity, stream) > 0 ? json_loads(line, 0, NULL) : NULL;
    if (!client->is_quiet)
        fprintf(stderr, "weir %s: %s\n", client->command,
                problem != NULL ? gw_json_text_in(problem, "message") : "the answer makes no sense");
    json_decref(problem);
    free(line);
    fclose(stream);
    return NULL;
}

/* ---- reading answers ---- */

const char *gw_json_text_in(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "-";
}

int64_t gw_json_number_in(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}
