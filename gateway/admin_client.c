/* `weir status` and `weir reload`: one request to the admin socket of a running weir. */
#include "gateway/admin.h"
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "gateway/base/yaml.h"

static const char default_address[] = "unix:/run/weir/admin.sock";

struct options {
    const char *config, *admin; /* NULL: not given */
    bool json;
};

static int usage(const char *command)
{
    fprintf(stderr, "usage: weir %s [-c FILE | --admin ADDRESS]%s\n", command,
            strcmp(command, "status") == 0 ? " [--json]" : "");
    return 2;
}

static bool parse_options(int argc, char **argv, struct options *options)
{
    static const struct option names[] = {{"config", required_argument, NULL, 'c'},
                                          {"admin", required_argument, NULL, 'a'},
                                          {"json", no_argument, NULL, 'j'},
                                          {NULL, 0, NULL, 0}};
    int c;

    *options = (struct options){NULL};
    optind = 1;
    while ((c = getopt_long(argc, argv, "c:", names, NULL)) != -1) {
        if (c == 'c')
            options->config = optarg;
        else if (c == 'a')
            options->admin = optarg;
        else if (c == 'j')
            options->json = true;
        else
            return false;
    }
    if (optind < argc && options->config == NULL)
        options->config = argv[optind++];
    return optind == argc;
}

/* ---- finding the socket ---- */

/* Only the admin section of the file is looked at: status must be there when the rest is being edited and broken. */
static bool address_of_config(h2o_mem_pool_t *pool, const char *path, h2o_iovec_t *text)
{
    struct gw_errors errors;
    gw_errors_init(&errors);
    const struct gw_node *root = gw_yaml_load_file(pool, path, NULL, &errors);
    const struct gw_node *admin = gw_node_get(root, "admin"), *address = gw_node_get(admin, "address");
    const struct gw_node *enabled = gw_node_get(admin, "enabled"), *tcp = gw_node_get(admin, "tcp");
    bool found = root != NULL;

    if (root == NULL)
        gw_errors_print(&errors, stderr);
    if (address != NULL && address->kind == GW_NODE_SCALAR)
        *text = h2o_strdup(pool, address->text.base, address->text.len);
    else if (tcp != NULL && tcp->kind == GW_NODE_SCALAR && tcp->text.len != 0)
        *text = h2o_strdup(pool, tcp->text.base, tcp->text.len);
    if (enabled != NULL && enabled->kind == GW_NODE_SCALAR &&
        h2o_memis(enabled->text.base, enabled->text.len, H2O_STRLIT("false"))) {
        fprintf(stderr, "%s:%u:%u: the admin listener is turned off\n", enabled->file, enabled->line, enabled->column);
        found = false;
    }
    gw_errors_dispose(&errors);
    return found;
}

static bool find_address(h2o_mem_pool_t *pool, const char *command, const struct options *options,
                         struct gw_address *address)
{
    h2o_iovec_t text = h2o_iovec_init(default_address, sizeof(default_address) - 1);
    const char *why;

    if (options->admin != NULL) {
        text = h2o_strdup(pool, options->admin, SIZE_MAX);
        if (text.len != 0 && text.base[0] == '/') /* a bare path is meant as a Unix socket */
            text = h2o_concat(pool, h2o_iovec_init(H2O_STRLIT("unix:")), text);
    } else if (options->config != NULL && !address_of_config(pool, options->config, &text)) {
        return false;
    }
    if (!gw_address_parse(pool, text, false, address, &why)) {
        fprintf(stderr, "weir %s: %.*s: %s\n", command, (int)text.len, text.base, why);
        return false;
    }
    return true;
}

/* ---- one exchange ---- */

static int connect_to(const char *command, const struct gw_address *address, unsigned timeout_s)
{
    struct timeval timeout = {.tv_sec = timeout_s};
    int fd = socket(address->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0 ||
        connect(fd, (const struct sockaddr *)&address->sa, address->sa_len) != 0) {
        int error = errno;
        if (fd != -1)
            close(fd);
        if (error == ENOENT || error == ECONNREFUSED)
            fprintf(stderr, "weir %s: nobody listens on %s: is weir running, and is this its admin address?\n", command,
                    address->text.base);
        else
            fprintf(stderr, "weir %s: cannot connect to %s: %s\n", command, address->text.base, strerror(error));
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

/* The JSON that the admin API answers with, NULL after saying why on stderr. */
static json_t *ask(const char *command, const struct options *options, const char *request, unsigned timeout_s)
{
    h2o_mem_pool_t pool;
    struct gw_address address;
    h2o_iovec_t response = {NULL, 0}, body = {NULL, 0};
    json_t *json = NULL;
    int fd = -1;

    h2o_mem_init_pool(&pool);
    if (find_address(&pool, command, options, &address) && (fd = connect_to(command, &address, timeout_s)) != -1) {
        if (send_all(fd, request, strlen(request)))
            response = receive_all(fd);
        if (split_response(response, &body) != 0)
            json = json_loadb(body.base, body.len, 0, NULL);
        if (json == NULL)
            fprintf(stderr, "weir %s: %s gave no answer that makes sense%s%s\n", command, address.text.base,
                    response.base == NULL ? ": " : "", response.base == NULL ? strerror(errno) : "");
        close(fd);
    }
    free(response.base);
    h2o_mem_clear_pool(&pool);
    return json;
}

/* ---- weir status ---- */

static const char *text_in(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "-";
}

static int64_t number_in(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_uptime(int64_t s)
{
    if (s >= 86400)
        printf("%" PRId64 " d %" PRId64 " h", s / 86400, s % 86400 / 3600);
    else if (s >= 3600)
        printf("%" PRId64 " h %" PRId64 " min", s / 3600, s % 3600 / 60);
    else if (s >= 60)
        printf("%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
    else
        printf("%" PRId64 " s", s);
}

static void print_head(const json_t *status)
{
    const json_t *reload = json_object_get(status, "last_reload");

    printf("weir %s, pid %" PRId64 ", up ", text_in(status, "version"), number_in(status, "pid"));
    print_uptime(number_in(status, "uptime_s"));
    printf(", %s\n", json_is_true(json_object_get(status, "draining")) ? "draining"
                     : json_is_true(json_object_get(status, "ready"))  ? "ready"
                                                                       : "starting");
    printf("configuration: %s, generation %" PRId64 ", %" PRId64 " routes\n", text_in(status, "config_path"),
           number_in(status, "generation"), number_in(status, "routes"));
    if (json_is_true(json_object_get(reload, "ok")))
        printf("last load: ok at %s\n", text_in(reload, "at"));
    else
        printf("last load: FAILED at %s: %s\n", text_in(reload, "at"), text_in(reload, "error"));
}

static void print_listeners(const json_t *listeners)
{
    size_t i, j;
    json_t *listener, *address;

    printf("\nlisteners\n");
    json_array_foreach(listeners, i, listener)
    {
        printf("  %-20s", text_in(listener, "name"));
        json_array_foreach(json_object_get(listener, "addresses"), j, address)
            printf(" %s", json_string_value(address));
        printf("%s\n", json_is_true(json_object_get(listener, "tls")) ? " (TLS)" : "");
    }
}

static void print_certificates(const json_t *certificates)
{
    size_t i, j;
    json_t *certificate, *name;

    if (json_array_size(certificates) == 0)
        return;
    printf("\ncertificates\n");
    json_array_foreach(certificates, i, certificate)
    {
        printf("  %-20s ends %s (%" PRId64 " days)", text_in(certificate, "name"), text_in(certificate, "not_after"),
               number_in(certificate, "days_left"));
        json_array_foreach(json_object_get(certificate, "names"), j, name) printf(" %s", json_string_value(name));
        printf("\n");
    }
}

static void print_target_groups(const json_t *groups)
{
    size_t i, j;
    json_t *group, *target;

    json_array_foreach(groups, i, group)
    {
        printf("\ntarget group %s\n", text_in(group, "name"));
        json_array_foreach(json_object_get(group, "targets"), j, target)
        {
            const json_t *status = json_object_get(target, "last_status");
            printf("  %-28s %-10s", text_in(target, "target"), text_in(target, "state"));
            if (strcmp(text_in(target, "reason"), "-") != 0)
                printf(" %s", text_in(target, "reason"));
            if (json_is_integer(status))
                printf(" (last status %" PRId64 ")", (int64_t)json_integer_value(status));
            if (json_is_string(json_object_get(target, "since")))
                printf(" since %s", text_in(target, "since"));
            printf("\n");
        }
    }
}

static void print_status(const json_t *status)
{
    const json_t *connections = json_object_get(status, "connections"), *requests = json_object_get(status, "requests");

    print_head(status);
    print_listeners(json_object_get(status, "listeners"));
    print_certificates(json_object_get(status, "certificates"));
    print_target_groups(json_object_get(status, "target_groups"));
    printf("\n%zu threads; connections: %" PRId64 " open, %" PRId64 " accepted; requests: %" PRId64
           " in flight, %" PRId64 " in all\n",
           json_array_size(json_object_get(status, "threads")), number_in(connections, "open"),
           number_in(connections, "accepted"), number_in(requests, "in_flight"), number_in(requests, "total"));
    if (number_in(status, "access_log_dropped") != 0)
        printf("access log: %" PRId64 " lines were dropped\n", number_in(status, "access_log_dropped"));
}

int gw_command_status(int argc, char **argv)
{
    struct options options;
    json_t *status;

    if (!parse_options(argc, argv, &options))
        return usage("status");
    if ((status = ask("status", &options, "GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                      10)) == NULL)
        return 1;
    if (options.json) {
        json_dumpf(status, stdout, JSON_INDENT(2));
        printf("\n");
    } else {
        print_status(status);
    }
    json_decref(status);
    return 0;
}

/* ---- weir reload ---- */

int gw_command_reload(int argc, char **argv)
{
    struct options options;
    json_t *result;
    bool ok;

    if (!parse_options(argc, argv, &options) || options.json)
        return usage("reload");
    result = ask("reload", &options,
                 "POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 70);
    if (result == NULL)
        return 1;
    ok = json_is_true(json_object_get(result, "ok"));
    if (ok)
        printf("generation %" PRId64 " is serving\n", number_in(result, "generation"));
    else if (json_object_get(result, "error") != NULL)
        fprintf(stderr, "%s\nweir reload: failed; generation %" PRId64 " goes on serving\n", text_in(result, "error"),
                number_in(result, "generation"));
    else
        fprintf(stderr, "weir reload: %s\n", text_in(result, "message"));
    json_decref(result);
    return ok ? 0 : 1;
}
