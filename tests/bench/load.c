/* Steady load that notices everything: for operations under traffic (tests/bench/long, tests/e2e/test_long.py), where
 * what counts is not how fast but whether anything was lost.
 *
 *     load -p PORT [-r RATE] [-c CONNECTIONS] [-n NEW] [-i IDLE] [-s STREAMS] [-m STREAM_MS] [-t TARGET] [-b BYTES] [-w
 * PID]
 *
 * RATE requests a second over CONNECTIONS kept alive, NEW requests a second on a connection of their own, IDLE
 * connections that answered one request and then say nothing, STREAMS responses without end that bring a byte every
 * STREAM_MS. With -b the requests are POSTs with a body of BYTES, with -w the CPU time that process PID spends while
 * each of them is under way is told, too: what is the gateway's of a latency, whatever else the machine does. Each line
 * on standard input is answered with a line of JSON about what happened since the line before; the end of input ends
 * it. A latency counts from the moment the request was due, not from when a connection was free for it, so that a pause
 * is seen by every request that it held up. A gateway that drains waits half a second for a request on an idle
 * connection: when this process was kept from sending for nearly as long, the end of the connection is nobody's fault,
 * and the request is sent on another one. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { INPUT_BYTES = 4096, MAX_EVENTS = 512, MAX_LATENCIES = 1 << 22, RETRY_MS = 50, LATE_US = 400000 };
enum kind { STEADY, NEW, IDLE, STREAM, KINDS };
enum state { FREE, CONNECTING, WAITING, READY };

struct connection {
    int fd;
    enum kind kind;
    enum state state;
    uint64_t due_us;            /* of the request on it; CONNECTING without one: 0 */
    uint64_t sent_cpu_us;       /* the CPU time of the watched process then */
    uint64_t ready_us, idle_us; /* when it had nothing to do, and for how long until its request was sent */
    char input[INPUT_BYTES];
    size_t input_len;
    uint64_t body_left;
    bool in_body, told_to_close, counts; /* counts: of a stream or an idle one, once it is there */
    struct connection *next;             /* of what is READY, or of what is to be opened again */
};

/* Since the last report. */
static struct {
    uint64_t requests, failed, refused, cut, told_to_close;
    uint64_t closed[KINDS]; /* although nobody said so */
    uint64_t stream_bytes;
    char first_problem[160];
} seen;

struct latencies {
    uint32_t *us;
    size_t size;
};
static struct latencies steady_us = {NULL, 0}, new_us = {NULL, 0}, cpu_us = {NULL, 0};
static clockid_t watched_clock;
static bool is_watching;

static int epoll_fd;
static struct sockaddr_in server = {.sin_family = AF_INET};
static const char *target = "/";
static unsigned post_bytes; /* 0: GET */
static unsigned stream_ms = 500, num_there[KINDS];
static struct connection *ready, **last_ready = &ready; /* in turn, so that each is used */
static struct connection *broken;
static uint64_t *backlog; /* due times of steady requests that no connection was free for: a ring */
static size_t backlog_first, backlog_size;
enum { BACKLOG = 1 << 20 };

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t watched_us(void)
{
    struct timespec t = {0};
    if (is_watching)
        clock_gettime(watched_clock, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void note_problem(const char *what, const char *detail)
{
    if (seen.first_problem[0] == '\0')
        snprintf(seen.first_problem, sizeof(seen.first_problem), "%s: %.100s", what, detail);
}

static void note_latency(struct latencies *to, uint64_t us)
{
    if (to->size != MAX_LATENCIES)
        to->us[to->size++] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

/* ---- connections ---- */

static void send_request(struct connection *c)
{
    char text[2048];
    int n;

    if (c->kind != STREAM && post_bytes != 0)
        n = snprintf(text, sizeof(text), "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %u\r\n%s\r\n%0*d",
                     target, post_bytes, c->kind == NEW ? "Connection: close\r\n" : "", (int)post_bytes, 0);
    else if (c->kind == STREAM)
        n = snprintf(text, sizeof(text), "GET /trickle/%u HTTP/1.1\r\nHost: localhost\r\n\r\n", stream_ms);
    else
        n = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", target,
                     c->kind == NEW ? "Connection: close\r\n" : "");
    c->idle_us = c->state == READY ? now_us() - c->ready_us : 0;
    c->state = WAITING;
    c->input_len = 0;
    c->in_body = c->told_to_close = false;
    c->sent_cpu_us = watched_us();
    if (send(c->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
        note_problem("send", strerror(errno)); /* reading will tell, too */
}

static void start(struct connection *c)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd == -1) {
        perror("load: socket");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    c->state = CONNECTING;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
    if (connect(c->fd, (struct sockaddr *)&server, sizeof(server)) != 0 && errno != EINPROGRESS)
        note_problem("connect", strerror(errno));
}

/* A request that failed is gone; a connection that is kept is opened again. */
static void lose(struct connection *c)
{
    close(c->fd);
    c->state = FREE;
    if (c->counts)
        --num_there[c->kind];
    c->counts = false;
    if (c->kind == NEW) {
        free(c);
        return;
    }
    c->due_us = 0;
    c->next = broken;
    broken = c;
}

/* This process was late, and the gateway has not begun to answer. */
static bool is_excused(const struct connection *c)
{
    if (c->kind != STEADY || c->in_body || c->input_len != 0)
        return false;
    return (c->state == READY ? now_us() - c->ready_us : c->state == WAITING ? c->idle_us : 0) >= LATE_US;
}

static void owe(uint64_t due_us)
{
    if (backlog_size != BACKLOG)
        backlog[(backlog_first + backlog_size++) % BACKLOG] = due_us;
}

static void on_end(struct connection *c, const char *why)
{
    bool is_ours = is_excused(c);

    if (is_ours && c->state == WAITING)
        owe(c->due_us);
    if (!is_ours) {
        if (c->state == CONNECTING)
            ++seen.refused;
        else if (c->counts || c->state == READY)
            ++seen.closed[c->kind];
        else
            ++seen.cut;
        note_problem(c->state == CONNECTING ? "connecting" : c->state == READY ? "closed" : "cut", why);
    }
    if (c->state == READY) /* it is in the list, which is walked when a connection is needed */
        for (struct connection **at = &ready; *at != NULL; at = &(*at)->next)
            if (*at == c) {
                if ((*at = c->next) == NULL)
                    last_ready = at;
                break;
            }
    lose(c);
}

static void assign(void)
{
    while (ready != NULL && backlog_size != 0) {
        struct connection *c = ready;
        if ((ready = c->next) == NULL)
            last_ready = &ready;
        c->due_us = backlog[backlog_first];
        backlog_first = (backlog_first + 1) % BACKLOG;
        --backlog_size;
        send_request(c);
    }
}

static void be_ready(struct connection *c)
{
    c->state = READY;
    c->ready_us = now_us();
    c->in_body = false;
    c->next = NULL;
    *last_ready = c;
    last_ready = &c->next;
}

static void finish(struct connection *c)
{
    ++seen.requests;
    if (c->due_us != 0)
        note_latency(c->kind == NEW ? &new_us : &steady_us, now_us() - c->due_us);
    if (is_watching && c->kind == STEADY)
        note_latency(&cpu_us, watched_us() - c->sent_cpu_us);
    c->due_us = 0;
    if (c->kind == NEW) {
        lose(c);
    } else if (c->told_to_close) {
        ++seen.told_to_close;
        lose(c);
    } else if (c->kind == IDLE) {
        c->state = WAITING;
        if (!c->counts)
            ++num_there[IDLE];
        c->counts = true;
    } else {
        be_ready(c);
    }
}

/* ---- responses ---- */

/* False: it is not whole yet, or the connection is gone. */
static bool read_head(struct connection *c)
{
    char *end = memmem(c->input, c->input_len, "\r\n\r\n", 4), *field;
    size_t head_len;

    if (end == NULL) {
        if (c->input_len == INPUT_BYTES)
            on_end(c, "the head is too long");
        return false;
    }
    *end = '\0';
    head_len = (size_t)(end + 4 - c->input);
    if (strncmp(c->input, "HTTP/1.1 200", 12) != 0) {
        ++seen.failed;
        note_problem("status", c->input);
    }
    c->told_to_close = strcasestr(c->input, "\r\nconnection: close") != NULL;
    field = strcasestr(c->input, "\r\ncontent-length:");
    c->body_left = field != NULL ? strtoull(field + 17, NULL, 10) : c->kind == STREAM ? UINT64_MAX : 0;
    c->in_body = true;
    memmove(c->input, c->input + head_len, c->input_len - head_len);
    c->input_len -= head_len;
    if (c->kind == STREAM) {
        ++num_there[STREAM];
        c->counts = true;
    }
    return true;
}

static void take(struct connection *c)
{
    if (!c->in_body && !read_head(c))
        return;
    if (c->kind == STREAM)
        seen.stream_bytes += c->input_len;
    c->body_left -= c->input_len < c->body_left ? c->input_len : c->body_left;
    c->input_len = 0;
    if (c->body_left == 0)
        finish(c);
}

static void on_event(struct connection *c, uint32_t events)
{
    struct epoll_event reading = {.events = EPOLLIN, .data.ptr = c};
    int error = 0;
    socklen_t len = sizeof(error);

    if (c->state == CONNECTING) {
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error != 0) {
            on_end(c, strerror(error));
            return;
        }
        if ((events & EPOLLOUT) == 0)
            return;
        epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &reading);
        if (c->kind == STEADY)
            be_ready(c);
        else
            send_request(c);
        return;
    }
    ssize_t n = recv(c->fd, c->input + c->input_len, INPUT_BYTES - c->input_len, 0);
    if (n > 0) {
        c->input_len += (size_t)n;
        if (c->state == READY)
            on_end(c, "bytes that nobody asked for");
        else
            take(c);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        on_end(c, n == 0 ? "end" : strerror(errno));
    }
}

/* ---- the clock ---- */

struct pace {
    double per_s;
    uint64_t began_us, made;
};

static uint64_t owed(struct pace *pace, uint64_t now)
{
    uint64_t all = (uint64_t)((double)(now - pace->began_us) * pace->per_s / 1e6);
    uint64_t n = all - pace->made;
    pace->made = all;
    return n;
}

static struct connection *create(enum kind kind)
{
    struct connection *c = calloc(1, sizeof(*c));
    if (c == NULL)
        abort();
    c->kind = kind;
    return c;
}

static void turn_clock(struct pace *steady, struct pace *new)
{
    static uint64_t mended_us;
    uint64_t now = now_us();

    for (uint64_t n = owed(steady, now); n != 0; --n)
        owe(now);
    for (uint64_t n = owed(new, now); n != 0; --n) {
        struct connection *c = create(NEW);
        c->due_us = now;
        start(c);
    }
    if (now - mended_us >= RETRY_MS * 1000) {
        struct connection *c = broken;
        broken = NULL;
        mended_us = now;
        while (c != NULL) {
            struct connection *next = c->next;
            start(c);
            c = next;
        }
    }
    assign();
}

/* ---- reports ---- */

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void print_latencies(const char *name, struct latencies *of)
{
    qsort(of->us, of->size, sizeof(*of->us), compare);
    printf(", \"%s\": {\"count\": %zu", name, of->size);
    if (of->size != 0)
        printf(", \"p50_us\": %u, \"p90_us\": %u, \"p99_us\": %u, \"max_us\": %u", of->us[of->size / 2],
               of->us[of->size * 9 / 10], of->us[of->size * 99 / 100], of->us[of->size - 1]);
    printf("}");
    of->size = 0;
}

static void report(void)
{
    for (char *p = seen.first_problem; *p != '\0'; ++p)
        if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ')
            *p = ' ';
    printf("{\"requests\": %llu, \"failed\": %llu, \"refused\": %llu, \"cut\": %llu, \"told_to_close\": %llu, "
           "\"closed\": %llu, \"closed_idle\": %llu, \"closed_streams\": %llu, \"idle\": %u, \"streams\": %u, "
           "\"stream_bytes\": %llu, \"backlog\": %zu, \"problem\": \"%s\"",
           (unsigned long long)seen.requests, (unsigned long long)seen.failed, (unsigned long long)seen.refused,
           (unsigned long long)seen.cut, (unsigned long long)seen.told_to_close,
           (unsigned long long)seen.closed[STEADY], (unsigned long long)seen.closed[IDLE],
           (unsigned long long)seen.closed[STREAM], num_there[IDLE], num_there[STREAM],
           (unsigned long long)seen.stream_bytes, backlog_size, seen.first_problem);
    print_latencies("steady", &steady_us);
    print_latencies("new", &new_us);
    if (is_watching)
        print_latencies("cpu", &cpu_us);
    printf("}\n");
    fflush(stdout);
    memset(&seen, 0, sizeof(seen));
}

/* False at the end of input. */
static bool read_commands(void)
{
    char text[256];
    ssize_t n = read(STDIN_FILENO, text, sizeof(text));

    for (ssize_t i = 0; i < n; ++i)
        if (text[i] == '\n')
            report();
    return n > 0 || (n == -1 && errno == EAGAIN);
}

static void raise_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
    struct pace steady = {0}, new = {0};
    unsigned counts[KINDS] = {[STEADY] = 16};
    struct epoll_event events[MAX_EVENTS], input = {.events = EPOLLIN, .data.ptr = NULL};

    inet_pton(AF_INET, "127.0.0.1", &server.sin_addr);
    for (int opt; (opt = getopt(argc, argv, "p:r:c:n:i:s:m:t:b:w:")) != -1;) {
        if (opt == 'p')
            server.sin_port = htons((uint16_t)atoi(optarg));
        else if (opt == 'r')
            steady.per_s = atof(optarg);
        else if (opt == 'c')
            counts[STEADY] = (unsigned)atoi(optarg);
        else if (opt == 'n')
            new.per_s = atof(optarg);
        else if (opt == 'i')
            counts[IDLE] = (unsigned)atoi(optarg);
        else if (opt == 's')
            counts[STREAM] = (unsigned)atoi(optarg);
        else if (opt == 'm')
            stream_ms = (unsigned)atoi(optarg);
        else if (opt == 'b' && atoi(optarg) <= 1024)
            post_bytes = (unsigned)atoi(optarg);
        else if (opt == 't')
            target = optarg;
        else if (opt == 'w')
            is_watching = clock_getcpuclockid(atoi(optarg), &watched_clock) == 0;
        else
            return 2;
    }
    raise_limit();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &input);
    backlog = malloc(sizeof(*backlog) * BACKLOG);
    steady_us.us = malloc(sizeof(*steady_us.us) * MAX_LATENCIES);
    new_us.us = malloc(sizeof(*new_us.us) * MAX_LATENCIES);
    cpu_us.us = malloc(sizeof(*cpu_us.us) * MAX_LATENCIES);
    if (backlog == NULL || steady_us.us == NULL || new_us.us == NULL || cpu_us.us == NULL)
        abort();
    for (int kind = 0; kind != KINDS; ++kind)
        for (unsigned i = 0; i != counts[kind]; ++i)
            start(create((enum kind)kind));
    steady.began_us = new.began_us = now_us();
    for (;;) {
        int n = epoll_wait(epoll_fd, events, MAX_EVENTS, 1);
        for (int i = 0; i < n; ++i) {
            if (events[i].data.ptr != NULL)
                on_event(events[i].data.ptr, events[i].events);
            else if (!read_commands())
                return 0;
        }
        turn_clock(&steady, &new);
    }
}
