#include "gateway/observe/log_writer.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <h2o/string_.h>
#include "gateway/base/log.h"
#include "gateway/base/metrics.h"
#include "gateway/base/wheel.h"
#include "gateway/observe/syslog.h"

enum {
    MAX_FREE_CHUNKS = 32,
    LAST_WORDS_MS = 2000, /* how long destroy lets a slow reader hold the process */
    LAST_WRITE_S = 10,    /* and a dead disk, which a busy machine must not be taken for */
    PIPE_PIECE = 4096,    /* PIPE_BUF: what poll() promises to take at once */
    COMPLAIN_MS = 10000,  /* between two complaints, and without failure before all counts as well */
};

struct gw_log_writer {
    pthread_t tid;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct gw_log_chunk *head, **tail; /* under lock */
    struct gw_log_chunk *free_chunks;  /* under lock */
    unsigned num_free_chunks;          /* under lock */
    size_t queued_bytes;               /* under lock: with what is being written */
    bool is_stopping, wants_reopen;    /* under lock */
    bool has_redirect;                 /* under lock: the next two are valid */
    char *next_path;                   /* under lock */
    int next_fd;                       /* under lock */
    bool next_is_syslog;               /* under lock */
    uint64_t give_up_ms;               /* under lock; CLOCK_MONOTONIC; 0: not stopping */
    _Atomic uint64_t dropped;          /* atomic: statistics only */
    /* writer thread only */
    char *path;
    int fd; /* STDOUT_FILENO is not ours to close */
    bool is_regular, is_syslog;
    bool is_inside_line; /* an error cut a line off: the next one starts on its own */
    struct {
        uint64_t complained_ms, failed_ms; /* CLOCK_MONOTONIC; 0: all is well */
        uint64_t dropped_before;
    } trouble;
};

static void drop(struct gw_log_writer *writer, uint32_t num_lines)
{
    __atomic_fetch_add((uint64_t *)&writer->dropped, num_lines, __ATOMIC_RELAXED);
}

/* ---- writer thread: what is said of failures ---- */

static const char *name_of(const struct gw_log_writer *writer)
{
    return writer->path != NULL ? writer->path : "standard output";
}

static unsigned long long lost_so_far(const struct gw_log_writer *writer)
{
    return gw_log_writer_dropped(writer) - writer->trouble.dropped_before;
}

/* After num_lines have been dropped. A full disk or a missing collector may last for days and fails every line: it is
 * told every ten seconds, not every time. */
static void complain(struct gw_log_writer *writer, uint32_t num_lines, const char *what, const char *why)
{
    uint64_t now_ms = gw_now_ms();

    if (writer->trouble.failed_ms == 0)
        writer->trouble.dropped_before = gw_log_writer_dropped(writer) - num_lines;
    writer->trouble.failed_ms = now_ms;
    if (writer->trouble.complained_ms != 0 && now_ms - writer->trouble.complained_ms < COMPLAIN_MS)
        return;
    writer->trouble.complained_ms = now_ms;
    gw_log(GW_LOG_ERROR, "access_log", "%s %s%s%s; lines lost so far: %llu", what, name_of(writer),
           why != NULL ? ": " : "", why != NULL ? why : "", lost_so_far(writer));
}

/* A collector that is away takes every other datagram: one that went well proves little. */
static void went_well(struct gw_log_writer *writer)
{
    if (writer->trouble.failed_ms == 0 || gw_now_ms() - writer->trouble.failed_ms < COMPLAIN_MS)
        return;
    gw_log(GW_LOG_NOTICE, "access_log", "%s takes lines again; lines lost: %llu", name_of(writer), lost_so_far(writer));
    writer->trouble.failed_ms = writer->trouble.complained_ms = 0;
}

/* ---- writer thread ---- */

static void use(struct gw_log_writer *writer, int fd)
{
    struct stat st;
    if (writer->fd != STDOUT_FILENO && writer->fd != -1)
        close(writer->fd);
    writer->fd = fd;
    writer->is_regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    writer->is_inside_line = false;
}

static uint64_t deadline_of(struct gw_log_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    uint64_t give_up_ms = writer->give_up_ms;
    pthread_mutex_unlock(&writer->lock);
    return give_up_ms;
}

/* Waits until the descriptor takes bytes; false when the process must end first. */
static bool wait_writable(struct gw_log_writer *writer)
{
    for (;;) {
        struct pollfd poller = {.fd = writer->fd, .events = POLLOUT};
        int n = poll(&poller, 1, 100); /* short: destroy may begin meanwhile */
        if (n > 0 || (n == -1 && errno != EINTR))
            return true; /* errors show themselves in write() */
        uint64_t give_up_ms = deadline_of(writer);
        if (give_up_ms != 0 && gw_now_ms() >= give_up_ms)
            return false;
    }
}

/* All bytes, or false. A pipe may be a blocking one that we share with others: no more than what poll() promises. */
static bool write_bytes(struct gw_log_writer *writer, const char *bytes, size_t len)
{
    while (len != 0) {
        size_t piece = writer->is_regular || len < PIPE_PIECE ? len : PIPE_PIECE;
        if (!writer->is_regular && !wait_writable(writer)) {
            errno = EAGAIN;
            return false;
        }
        ssize_t n = write(writer->fd, bytes, piece);
        if (n == -1 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return false;
        writer->is_inside_line = bytes[n - 1] != '\n';
        bytes += n;
        len -= n;
    }
    return true;
}

static uint32_t count_lines(const char *bytes, size_t len)
{
    uint32_t lines = 0;
    for (const char *end = bytes + len; (bytes = memchr(bytes, '\n', end - bytes)) != NULL; ++bytes)
        ++lines;
    return lines;
}

/* On an error (disk full, reader gone) the line it strikes is lost, and with it the rest of the chunk. */
static void write_chunk(struct gw_log_writer *writer, const struct gw_log_chunk *chunk)
{
    const char *at = chunk->bytes, *end = at + chunk->size;

    if (writer->is_inside_line && !write_bytes(writer, "\n", 1)) {
        int error = errno;
        drop(writer, chunk->num_lines);
        complain(writer, chunk->num_lines, "cannot write to", strerror(error));
        return;
    }
    while (at != end) {
        /* in steps of whole lines, so that the loss can be counted */
        size_t step = (size_t)(end - at) < PIPE_PIECE ? (size_t)(end - at) : PIPE_PIECE;
        if (writer->is_regular)
            step = end - at;
        else
            while (at + step != end && at[step - 1] != '\n')
                ++step;
        if (!write_bytes(writer, at, step)) {
            int error = errno;
            uint32_t num_lines = count_lines(at, end - at);
            drop(writer, num_lines);
            complain(writer, num_lines, "cannot write to", strerror(error));
            return;
        }
        at += step;
    }
    went_well(writer);
}

/* The line goes, or it is lost and counted: the next one may fare better. */
static void send_line(struct gw_log_writer *writer, const char *header, size_t header_len, const char *line, size_t len)
{
    bool was_refused = false;

    while (!gw_syslog_send(writer->fd, header, header_len, line, len)) {
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN && wait_writable(writer))
            continue;
        int error = errno;
        drop(writer, 1);
        if (error == ECONNREFUSED && !was_refused) { /* nobody heard the one before; this one has not been sent yet */
            was_refused = true;
            continue;
        }
        complain(writer, 1, "cannot send to", strerror(error));
        return;
    }
    if (was_refused)
        complain(writer, 1, "nobody listens at", NULL);
    else
        went_well(writer);
}

static void send_chunk(struct gw_log_writer *writer, const struct gw_log_chunk *chunk)
{
    const char *at = chunk->bytes, *end = at + chunk->size;
    char header[GW_SYSLOG_HEADER_MAX], host[256] = "";
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    gethostname(host, sizeof(host) - 1);
    size_t header_len = gw_syslog_header(header, &now, host, (int)getpid());
    while (at != end) {
        const char *line_end = memchr(at, '\n', end - at);
        send_line(writer, header, header_len, at, line_end - at);
        at = line_end + 1;
    }
}

static void reopen(struct gw_log_writer *writer)
{
    int fd;
    if (writer->path == NULL || writer->is_syslog)
        return;
    if ((fd = gw_log_writer_open(writer->path)) == -1) {
        gw_log(GW_LOG_ERROR, "access_log", "cannot open %s: %s; lines go on into the one that was open", writer->path,
               gw_log_writer_why_not_open(errno));
        return;
    }
    use(writer, fd);
}

/* Under lock, released around the system calls. */
static void apply_orders(struct gw_log_writer *writer)
{
    if (writer->has_redirect) {
        int fd = writer->next_path != NULL ? writer->next_fd : STDOUT_FILENO;
        free(writer->path);
        writer->path = writer->next_path;
        writer->is_syslog = writer->next_is_syslog;
        writer->next_path = NULL;
        writer->has_redirect = false;
        pthread_mutex_unlock(&writer->lock);
        use(writer, fd);
        writer->trouble.failed_ms = writer->trouble.complained_ms = 0; /* of another place */
        pthread_mutex_lock(&writer->lock);
    }
    if (writer->wants_reopen) {
        writer->wants_reopen = false;
        pthread_mutex_unlock(&writer->lock);
        reopen(writer);
        pthread_mutex_lock(&writer->lock);
    }
}

/* Under lock. */
static void recycle(struct gw_log_writer *writer, struct gw_log_chunk *chunk)
{
    if (writer->num_free_chunks == MAX_FREE_CHUNKS || chunk->capacity != GW_LOG_CHUNK_BYTES) {
        free(chunk);
        return;
    }
    chunk->next = writer->free_chunks;
    writer->free_chunks = chunk;
    ++writer->num_free_chunks;
}

static void *run(void *data)
{
    struct gw_log_writer *writer = data;

    pthread_mutex_lock(&writer->lock);
    for (;;) {
        while (writer->head == NULL && !writer->is_stopping && !writer->has_redirect && !writer->wants_reopen)
            pthread_cond_wait(&writer->wake, &writer->lock);
        apply_orders(writer);
        struct gw_log_chunk *chunk = writer->head;
        if (chunk == NULL) {
            if (writer->is_stopping)
                break;
            continue;
        }
        if ((writer->head = chunk->next) == NULL)
            writer->tail = &writer->head;
        bool is_late = !writer->is_regular && writer->give_up_ms != 0 && gw_now_ms() >= writer->give_up_ms;
        pthread_mutex_unlock(&writer->lock);
        if (is_late)
            drop(writer, chunk->num_lines);
        else if (writer->is_syslog)
            send_chunk(writer, chunk);
        else
            write_chunk(writer, chunk);
        pthread_mutex_lock(&writer->lock);
        writer->queued_bytes -= chunk->size;
        recycle(writer, chunk);
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

/* ---- callers ---- */

struct gw_log_writer *gw_log_writer_create(void)
{
    struct gw_log_writer *writer = h2o_mem_alloc(sizeof(*writer));
    sigset_t all, before;

    *writer = (struct gw_log_writer){.fd = -1};
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->wake, NULL);
    writer->tail = &writer->head;
    use(writer, STDOUT_FILENO);
    /* Signals belong to the control thread; a closed pipe is EPIPE here, never SIGPIPE. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&writer->tid, NULL, run, writer) != 0)
        h2o_fatal("cannot create the access log's thread");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return writer;
}

void gw_log_writer_destroy(struct gw_log_writer *writer)
{
    struct timespec until;

    if (writer == NULL)
        return;
    pthread_mutex_lock(&writer->lock);
    writer->is_stopping = true;
    writer->give_up_ms = gw_now_ms() + LAST_WORDS_MS;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->lock);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LAST_WRITE_S;
    if (pthread_timedjoin_np(writer->tid, NULL, &until) != 0)
        return; /* stuck inside a write (a dead network disk): the process ends without it */
    for (struct gw_log_chunk *chunk = writer->free_chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    if (writer->fd != STDOUT_FILENO)
        close(writer->fd);
    free(writer->path);
    pthread_cond_destroy(&writer->wake);
    pthread_mutex_destroy(&writer->lock);
    free(writer);
}

static void redirect(struct gw_log_writer *writer, const char *path, int fd, bool is_syslog)
{
    pthread_mutex_lock(&writer->lock);
    if (writer->has_redirect) { /* an order nobody has followed yet */
        if (writer->next_path != NULL)
            close(writer->next_fd);
        free(writer->next_path);
    }
    writer->has_redirect = true;
    writer->next_path = path != NULL ? h2o_strdup(NULL, path, SIZE_MAX).base : NULL;
    writer->next_fd = fd;
    writer->next_is_syslog = is_syslog;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->lock);
}

void gw_log_writer_redirect(struct gw_log_writer *writer, const char *path, int fd)
{
    redirect(writer, path, fd, false);
}

void gw_log_writer_redirect_to_syslog(struct gw_log_writer *writer, const char *name, int fd)
{
    redirect(writer, name, fd, true);
}

void gw_log_writer_reopen(struct gw_log_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->wants_reopen = true;
    pthread_cond_signal(&writer->wake);
    pthread_mutex_unlock(&writer->lock);
}

int gw_log_writer_open(const char *path)
{
    /* O_NONBLOCK: a FIFO without reader is an error, not a wait */
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
}

const char *gw_log_writer_why_not_open(int error)
{
    return error == ENXIO ? "nobody reads this pipe" : strerror(error);
}

struct gw_log_chunk *gw_log_writer_chunk(struct gw_log_writer *writer, size_t min_capacity)
{
    struct gw_log_chunk *chunk = NULL;
    size_t capacity = min_capacity > GW_LOG_CHUNK_BYTES ? min_capacity : GW_LOG_CHUNK_BYTES;

    if (capacity == GW_LOG_CHUNK_BYTES) {
        pthread_mutex_lock(&writer->lock);
        if ((chunk = writer->free_chunks) != NULL) {
            writer->free_chunks = chunk->next;
            --writer->num_free_chunks;
        }
        pthread_mutex_unlock(&writer->lock);
    }
    if (chunk == NULL)
        chunk = h2o_mem_alloc(sizeof(*chunk) + capacity);
    *chunk = (struct gw_log_chunk){.capacity = capacity};
    return chunk;
}

void gw_log_writer_take(struct gw_log_writer *writer, struct gw_log_chunk *chunk)
{
    pthread_mutex_lock(&writer->lock);
    if (writer->queued_bytes + chunk->size > GW_LOG_QUEUE_BYTES) {
        drop(writer, chunk->num_lines);
        recycle(writer, chunk);
    } else {
        chunk->next = NULL;
        *writer->tail = chunk;
        writer->tail = &chunk->next;
        writer->queued_bytes += chunk->size;
        pthread_cond_signal(&writer->wake);
    }
    pthread_mutex_unlock(&writer->lock);
}

uint64_t gw_log_writer_dropped(const struct gw_log_writer *writer)
{
    return __atomic_load_n((const uint64_t *)&writer->dropped, __ATOMIC_RELAXED);
}
