/* Sends bytes that somebody else made up, as fast as it can or slowly on purpose, over many connections
 * (tests/bench/attack).
 *
 *     attacker -p PORT [-c CONNECTIONS] [-a FILE] [-b FILE] [-n REPEATS] [-s BYTES] [-d MS] [-r] [-k] [-w BYTES] [-t
 * SECONDS]
 *
 * Each connection sends FILE a once, then FILE b REPEATS times (0: without end), at most BYTES at a time (64 KiB, which
 * is one segment of the loopback: a system call of a megabyte holds the core that other clients share) and not before
 * MS milliseconds after the last ones; then it closes and begins anew, at once, as it does when the peer closes. -r:
 * reads and drops what comes back, else nothing is read. -k: stays when all is sent, until the peer closes. -w: size of
 * the receive buffer. From 127.0.0.66. Prints as JSON what it did. */
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
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct text {
    char *bytes;
    size_t len;
};

struct connection {
    int fd;          /* -1: to be opened */
    size_t sent;     /* of the text it is in */
    uint64_t rounds; /* 0: in a; then how many times b has begun */
    uint64_t due_ms;
    bool is_blocked; /* waits for room */
    bool is_done;    /* waits for the peer's end */
};

static struct {
    int port, connections, receive_buffer;
    struct text a, b;
    uint64_t repeats, step, delay_ms, seconds;
    bool reads, stays;
} o = {.connections = 1, .step = 1 << 16, .seconds = 5};

static struct {
    uint64_t opened, refused, closed_by_peer, bytes_out, bytes_in;
} seen;

static int epoll_fd;

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct text read_text(const char *path)
{
    struct text text = {NULL, 0};
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        exit(2);
    }
    text.len = (size_t)ftell(file);
    text.bytes = malloc(text.len + 1);
    rewind(file);
    if (fread(text.bytes, 1, text.len, file) != text.len)
        exit(2);
    fclose(file);
    return text;
}

static void end(struct connection *c)
{
    struct linger reset = {1, 0}; /* no TIME_WAIT: ports would run out */
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(c->fd);
    c->fd = -1;
}

static void begin(struct connection *c)
{
    struct sockaddr_in self = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000042)};
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001), .sin_port = htons(o.port)};
    int one = 1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};

    *c = (struct connection){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (c->fd == -1)
        return;
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (o.receive_buffer != 0)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &o.receive_buffer, sizeof(o.receive_buffer));
    if (bind(c->fd, (struct sockaddr *)&self, sizeof(self)) != 0 ||
        (connect(c->fd, (struct sockaddr *)&peer, sizeof(peer)) != 0 && errno != EINPROGRESS)) {
        ++seen.refused;
        end(c);
        return;
    }
    c->is_blocked = true;
    ++seen.opened;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
}

/* One portion; false when it cannot go on now. */
static bool send_some(struct connection *c, uint64_t now)
{
    const struct text *text = c->rounds == 0 ? &o.a : &o.b;

    if (c->sent == text->len) {
        bool is_last = o.b.len == 0 ? c->rounds != 0 : o.repeats != 0 && c->rounds == o.repeats;
        if (is_last && o.stays)
            c->is_done = true; /* until the peer ends it */
        else if (is_last)
            end(c);
        else
            ++c->rounds;
        c->sent = 0;
        c->is_blocked |= c->is_done;
        return !is_last;
    }
    size_t left = text->len - c->sent;
    ssize_t n = send(c->fd, text->bytes + c->sent, left < o.step ? left : o.step, MSG_NOSIGNAL);
    if (n < 0) {
        if (errno == EAGAIN) {
            c->is_blocked = true;
        } else {
            ++seen.closed_by_peer;
            end(c);
        }
        return false;
    }
    c->sent += (size_t)n;
    seen.bytes_out += (uint64_t)n;
    c->due_ms = now + o.delay_ms;
    return o.delay_ms == 0;
}

static void read_some(struct connection *c)
{
    static char sink[1 << 16];
    ssize_t n;
    while ((n = recv(c->fd, sink, sizeof(sink), 0)) > 0)
        seen.bytes_in += (uint64_t)n;
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        ++seen.closed_by_peer;
        end(c);
    }
}

static void on_event(struct connection *c, uint32_t events)
{
    if (events & EPOLLOUT)
        c->is_blocked = c->is_done;
    if (o.reads && (events & EPOLLIN))
        read_some(c);
    if (c->fd != -1 && (events & (EPOLLERR | EPOLLHUP))) {
        ++seen.closed_by_peer;
        end(c);
    }
}

static void run(struct connection *all)
{
    struct epoll_event events[256];
    uint64_t stop = now_ms() + o.seconds * 1000, now;

    while ((now = now_ms()) < stop) {
        bool is_idle = true;
        for (int i = 0; i != o.connections; ++i) {
            struct connection *c = &all[i];
            if (c->fd == -1) {
                begin(c);
                is_idle = false;
            }
            for (int k = 0; k != 16 && c->fd != -1 && !c->is_blocked && c->due_ms <= now; ++k) {
                is_idle = false;
                if (!send_some(c, now))
                    break;
            }
        }
        int n = epoll_wait(epoll_fd, events, 256, is_idle ? 1 : 0);
        for (int i = 0; i < n; ++i)
            if (((struct connection *)events[i].data.ptr)->fd != -1)
                on_event(events[i].data.ptr, events[i].events);
    }
}

int main(int argc, char **argv)
{
    struct rlimit files = {65536, 65536};
    for (int opt; (opt = getopt(argc, argv, "p:c:a:b:n:s:d:rkw:t:")) != -1;) {
        switch (opt) {
        case 'p':
            o.port = atoi(optarg);
            break;
        case 'c':
            o.connections = atoi(optarg);
            break;
        case 'a':
            o.a = read_text(optarg);
            break;
        case 'b':
            o.b = read_text(optarg);
            break;
        case 'n':
            o.repeats = strtoull(optarg, NULL, 10);
            break;
        case 's':
            o.step = strtoull(optarg, NULL, 10);
            break;
        case 'd':
            o.delay_ms = strtoull(optarg, NULL, 10);
            break;
        case 'r':
            o.reads = true;
            break;
        case 'k':
            o.stays = true;
            break;
        case 'w':
            o.receive_buffer = atoi(optarg);
            break;
        case 't':
            o.seconds = strtoull(optarg, NULL, 10);
            break;
        default:
            return 2;
        }
    }
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = calloc((size_t)o.connections, sizeof(*all));
    for (int i = 0; i != o.connections; ++i)
        all[i].fd = -1;
    run(all);
    printf("{\"opened\": %llu, \"refused\": %llu, \"closed_by_peer\": %llu, \"bytes_out\": %llu, \"bytes_in\": %llu}\n",
           (unsigned long long)seen.opened, (unsigned long long)seen.refused, (unsigned long long)seen.closed_by_peer,
           (unsigned long long)seen.bytes_out, (unsigned long long)seen.bytes_in);
    return 0;
}
