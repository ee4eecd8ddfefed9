#include "gateway/answer/files.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/compression/accept_encoding.h"
#include "gateway/base/log.h"
#include "gateway/compression/compression_fields.h"
#include "gateway/answer/conditional.h"
#include "gateway/answer/content_type.h"
#include "gateway/answer/file_path.h"
#include "gateway/http/response.h"
#include "gateway/answer/ranges.h"

/* A file is read in pieces as large as the client's window, within bounds; a short one goes out with the head. */
enum { PIECE_BYTES = 64 * 1024, LEAST_PIECE = 4096, SHORT_BYTES = 4096, NUM_BOUNDARY_CHARS = 32 };

struct gw_files {
    const struct routing_files_conf *conf;
};

/* A file found for a request. */
struct found {
    int fd;
    struct stat st;
    h2o_iovec_t type;
    enum gw_coding coding; /* of a copy that was compressed beforehand */
    bool has_copies;       /* other clients may get another one */
    char etag[GW_ETAG_SIZE];
    size_t etag_len;
};

/* A response on its way: text (part headers) and stretches of the file in turn. In the request's pool. */
struct part {
    h2o_iovec_t before; /* boundary and header of a multipart part; empty for a single body */
    struct gw_range range;
};
struct sender {
    h2o_generator_t generator;
    struct gw_request *request;
    int fd;
    const struct part *parts;
    size_t num_parts, at_part;
    uint64_t offset;   /* next byte of the current part; UINT64_MAX: the part has not begun */
    h2o_iovec_t after; /* closing boundary */
    uint64_t total;    /* of the body */
    char *buffer;
    size_t buffer_size;
};

/* ---- set-up ---- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool has_openat2; /* frozen: by `once` */

static void init(void) { has_openat2 = gw_file_has_openat2(); }

static bool is_file_name(h2o_iovec_t name)
{
    return name.len != 0 && memchr(name.base, '/', name.len) == NULL &&
           !h2o_memis(name.base, name.len, H2O_STRLIT(".")) && !h2o_memis(name.base, name.len, H2O_STRLIT(".."));
}

struct gw_files *gw_files_create(const struct routing_files_conf *conf, struct gw_errors *errors)
{
    struct gw_files *files = h2o_mem_alloc(sizeof(*files));
    struct stat st;

    pthread_once(&once, init);
    *files = (struct gw_files){conf};
    if (stat(conf->root.base, &st) != 0)
        gw_warn_at(errors, gw_setting_at(conf->at, "root"), "cannot open %s: %s", conf->root.base, strerror(errno));
    else if (!S_ISDIR(st.st_mode))
        gw_warn_at(errors, gw_setting_at(conf->at, "root"), "%s is not a directory", conf->root.base);
    for (size_t i = 0; i != conf->index.size; ++i)
        if (!is_file_name(conf->index.entries[i])) {
            gw_error_at(errors, conf->index.at != NULL ? conf->index.at[i] : conf->at,
                        "an index is the name of a file, without slashes");
            gw_files_destroy(files);
            return NULL;
        }
    return files;
}

void gw_files_destroy(struct gw_files *files) { free(files); }

/* ---- finding ---- */

static enum gw_reason reason_of_errno(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
    case EINVAL:
        return GW_REASON_FILE_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EXDEV: /* a link leads out of the root */
    case ELOOP:
    case ENXIO: /* a socket, a device without driver */
    case ENODEV:
    case EOPNOTSUPP:
        return GW_REASON_FILE_FORBIDDEN;
    default:
        return GW_REASON_INTERNAL_ERROR;
    }
}

static enum gw_reason open_and_stat(const struct gw_files *files, int root, const char *path, struct found *found)
{
    if ((found->fd = gw_file_open(root, path, has_openat2)) == -1 || fstat(found->fd, &found->st) != 0) {
        enum gw_reason reason = reason_of_errno(errno);
        if (reason == GW_REASON_INTERNAL_ERROR)
            gw_log(GW_LOG_ERROR, "files", "cannot open %s below %s: %s", path, files->conf->root.base, strerror(errno));
        if (found->fd != -1)
            close(found->fd);
        found->fd = -1;
        return reason;
    }
    return GW_REASON_FILE_SERVED;
}

/* The first index file that is there. One that may not be read is an answer too. */
static enum gw_reason open_index(const struct gw_files *files, struct gw_request *request, int root, h2o_iovec_t *path,
                                 struct found *found)
{
    enum gw_reason reason = GW_REASON_FILE_NOT_FOUND;
    h2o_iovec_t directory = *path;

    for (size_t i = 0; i != files->conf->index.size && reason == GW_REASON_FILE_NOT_FOUND; ++i) {
        *path = h2o_concat(request->pool, directory, files->conf->index.entries[i]);
        reason = open_and_stat(files, root, path->base, found);
    }
    return reason;
}

/* Takes the place of the file, if the client likes it better than what it would get so far. */
static void consider_copy(int root, h2o_iovec_t path, enum gw_coding coding, const struct gw_accept_encoding *accept,
                          struct found *found)
{
    unsigned both = 1u << coding | 1u << found->coding;
    struct stat st;
    int fd = gw_file_open(root, path.base, has_openat2);

    if (fd == -1)
        return;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_mtime < found->st.st_mtime) {
        close(fd);
        return;
    }
    found->has_copies = true;
    if (gw_accept_encoding_choose(accept, both) != coding) {
        close(fd);
        return;
    }
    close(found->fd);
    found->fd = fd;
    found->st = st;
    found->coding = coding;
}

/* Copies beside the file, as nginx's gzip_static has them. Each is a representation of its own, with its own ETag. */
static void look_for_copies(const struct gw_files *files, struct gw_request *request, int root, h2o_iovec_t path,
                            struct found *found)
{
    static const struct {
        enum gw_coding coding;
        h2o_iovec_t suffix;
    } copies[] = {{GW_CODING_GZIP, {H2O_STRLIT(".gz")}}, {GW_CODING_BROTLI, {H2O_STRLIT(".br")}}};
    struct gw_accept_encoding accept;

    gw_accept_encoding_read(request->facts.headers, request->facts.num_headers, &accept);
    for (size_t i = 0; i != sizeof(copies) / sizeof(copies[0]); ++i)
        if ((files->conf->precompressed << 1 & 1u << copies[i].coding) != 0)
            consider_copy(root, h2o_concat(request->pool, path, copies[i].suffix), copies[i].coding, &accept, found);
}

/* FILE_SERVED: found holds an open file or, when the URL lacks the slash, a directory. */
static enum gw_reason find(const struct gw_files *files, struct gw_request *request, struct found *found)
{
    h2o_iovec_t url = request->facts.path, path = gw_file_path(request->pool, url, files->conf->strip_prefix);
    enum gw_reason reason;
    int root;

    found->fd = -1;
    found->coding = GW_CODING_IDENTITY;
    found->has_copies = false;
    if (path.base == NULL)
        return GW_REASON_FILE_NOT_FOUND;
    /* opened anew each time: a deployment may swap the directory or a link to it */
    if ((root = open(files->conf->root.base, O_PATH | O_DIRECTORY | O_CLOEXEC)) == -1)
        return reason_of_errno(errno);
    if (url.base[url.len - 1] == '/')
        reason = open_index(files, request, root, &path, found);
    else
        reason = open_and_stat(files, root, path.base, found);
    if (reason == GW_REASON_FILE_SERVED && files->conf->precompressed != 0 && S_ISREG(found->st.st_mode))
        look_for_copies(files, request, root, path, found);
    close(root);
    if (reason != GW_REASON_FILE_SERVED)
        return reason;
    if (S_ISREG(found->st.st_mode)) {
        found->type = gw_media_type_of(path);
        return GW_REASON_FILE_SERVED;
    }
    if (S_ISDIR(found->st.st_mode) && url.base[url.len - 1] != '/')
        return GW_REASON_FILE_SERVED;
    close(found->fd);
    found->fd = -1;
    return GW_REASON_FILE_FORBIDDEN;
}

/* ---- headers ---- */

static void add(h2o_req_t *req, const h2o_token_t *name, h2o_iovec_t value)
{
    /* what the route's response_headers have set stands */
    h2o_set_header(&req->pool, &req->res.headers, name, value.base, value.len, 0);
}

static h2o_iovec_t printed(h2o_mem_pool_t *pool, const char *format, unsigned long long a, unsigned long long b,
                           unsigned long long c)
{
    char buf[128];
    int len = snprintf(buf, sizeof(buf), format, a, b, c);
    return h2o_strdup(pool, buf, len);
}

/* RFC 9110 8.8.2.1: never later than the answer itself. */
static time_t modified_s(const struct found *found)
{
    time_t now = time(NULL);
    return found->st.st_mtime < now ? found->st.st_mtime : now;
}

static void add_validators(h2o_req_t *req, const struct found *found)
{
    char *date = h2o_mem_alloc_pool(&req->pool, H2O_TIMESTR_RFC1123_LEN + 1);
    time_t modified = modified_s(found);
    struct tm tm;

    if (gmtime_r(&modified, &tm) != NULL && tm.tm_year + 1900 >= 1000 && tm.tm_year + 1900 <= 9999) {
        h2o_time2str_rfc1123(date, &tm);
        add(req, H2O_TOKEN_LAST_MODIFIED, h2o_iovec_init(date, H2O_TIMESTR_RFC1123_LEN));
    }
    add(req, H2O_TOKEN_ETAG, h2o_strdup(&req->pool, found->etag, found->etag_len));
    if (found->has_copies)
        gw_compression_add_vary(&req->pool, &req->res.headers);
}

static void add_coding(h2o_req_t *req, const struct found *found)
{
    if (found->coding != GW_CODING_IDENTITY)
        add(req, H2O_TOKEN_CONTENT_ENCODING, gw_coding_name(found->coding));
}

/* ---- sending ---- */

static void close_file(struct sender *self)
{
    if (self->fd != -1)
        close(self->fd);
    self->fd = -1;
}

static void on_stop(h2o_generator_t *generator, h2o_req_t *req)
{
    close_file(H2O_STRUCT_FROM_MEMBER(struct sender, generator, generator));
}

/* Exactly len bytes, or false: the file has become shorter, or the disk fails. */
static bool read_exactly(int fd, char *dst, size_t len, uint64_t offset)
{
    while (len != 0) {
        ssize_t n = pread(fd, dst, len, (off_t)offset);
        if (n == -1 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        dst += n;
        len -= n;
        offset += n;
    }
    return true;
}

/* Fills the buffer with the next bytes of the response, across parts. Returns the number, SIZE_MAX when the file fails.
 */
static size_t fill(struct sender *self)
{
    size_t used = 0;

    while (self->at_part != self->num_parts && used != self->buffer_size) {
        const struct part *part = &self->parts[self->at_part];
        if (self->offset == UINT64_MAX) {
            if (part->before.len > self->buffer_size - used)
                break;
            h2o_memcpy(self->buffer + used, part->before.base, part->before.len);
            used += part->before.len;
            self->offset = part->range.first;
        }
        uint64_t left = part->range.end - self->offset;
        size_t len = left < self->buffer_size - used ? left : self->buffer_size - used;
        if (!read_exactly(self->fd, self->buffer + used, len, self->offset))
            return SIZE_MAX;
        used += len;
        self->offset += len;
        if (self->offset == part->range.end) {
            ++self->at_part;
            self->offset = UINT64_MAX;
        }
    }
    return used;
}

static void send_piece(struct sender *self, size_t size)
{
    h2o_req_t *req = &self->request->stream->req;
    h2o_iovec_t bufs[2] = {{self->buffer, size}};
    size_t num_bufs = size != 0;
    bool is_last = self->at_part == self->num_parts;

    if (is_last) {
        close_file(self); /* no callback comes after the last piece; the buffer is in the request's pool */
        if (self->after.len != 0)
            bufs[num_bufs++] = self->after;
    }
    h2o_send(req, bufs, num_bufs, is_last ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

/* As large as what the client takes now. The one before is in the request's pool for as long: it grows in large steps.
 */
static void size_buffer(struct sender *self)
{
    size_t room = gw_stream_room(self->request->stream), size = LEAST_PIECE;

    while (size < room && size < PIECE_BYTES)
        size *= 4;
    if (size > self->total)
        size = (size_t)self->total;
    if (size <= self->buffer_size)
        return;
    self->buffer_size = size;
    self->buffer = h2o_mem_alloc_pool(self->request->pool, size);
}

static void on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    struct sender *self = H2O_STRUCT_FROM_MEMBER(struct sender, generator, generator);
    size_buffer(self);
    size_t size = fill(self);

    if (size == SIZE_MAX) {
        self->request->reason = GW_REASON_INTERNAL_ERROR;
        self->request->error = "the file became shorter while it was sent, or could not be read";
        close_file(self);
        gw_stream_abort(self->request->stream);
        return;
    }
    send_piece(self, size);
}

static void begin(struct gw_request *request, int status)
{
    h2o_req_t *req = &request->stream->req;

    request->reason = GW_REASON_FILE_SERVED;
    request->status = req->res.status = status;
    req->res.reason = gw_reason_phrase(status);
    gw_answer_add_server(request);
}

/* Takes the fd. */
static void send_parts(struct gw_request *request, int fd, int status, const struct part *parts, size_t num_parts,
                       h2o_iovec_t after)
{
    h2o_req_t *req = &request->stream->req;
    struct sender *self = h2o_mem_alloc_pool(&req->pool, sizeof(*self));
    size_t size = 0;

    *self = (struct sender){{on_proceed, on_stop}, request, fd, parts, num_parts, 0, UINT64_MAX, after, after.len};
    for (size_t i = 0; i != num_parts; ++i)
        self->total += parts[i].before.len + (parts[i].range.end - parts[i].range.first);
    if (request->stream->is_head_request || self->total == 0) {
        self->at_part = num_parts;
        self->after.len = 0;
    } else if (self->total <= SHORT_BYTES || gw_stream_room(request->stream) == SIZE_MAX) {
        size_buffer(self);
        if ((size = fill(self)) == SIZE_MAX) { /* nothing is out yet: this can still be said */
            close_file(self);
            req->res.headers.size = 0;
            request->error = "the file could not be read";
            gw_answer_error(request, GW_REASON_INTERNAL_ERROR, 0);
            return;
        }
    }
    begin(request, status);
    req->res.content_length = self->total;
    gw_answer_start(request, &self->generator);
    send_piece(self, size);
}

static void send_whole(struct gw_request *request, const struct found *found)
{
    struct part *part = h2o_mem_alloc_pool(request->pool, sizeof(*part));

    *part = (struct part){.range = {0, (uint64_t)found->st.st_size}};
    add(&request->stream->req, H2O_TOKEN_CONTENT_TYPE, gw_content_type_of(request->pool, found->type));
    send_parts(request, found->fd, 200, part, 1, h2o_iovec_init(NULL, 0));
}

static void send_range(struct gw_request *request, const struct found *found, const struct gw_range *range)
{
    h2o_req_t *req = &request->stream->req;
    struct part *part = h2o_mem_alloc_pool(request->pool, sizeof(*part));

    *part = (struct part){.range = *range};
    add(req, H2O_TOKEN_CONTENT_TYPE, gw_content_type_of(request->pool, found->type));
    add(req, H2O_TOKEN_CONTENT_RANGE,
        printed(request->pool, "bytes %llu-%llu/%llu", range->first, range->end - 1, found->st.st_size));
    send_parts(request, found->fd, 206, part, 1, h2o_iovec_init(NULL, 0));
}

/* RFC 9110 14.6. The boundary is random: no content can hold it but by chance in 2^128. */
static void send_multipart(struct gw_request *request, const struct found *found, const struct gw_ranges *ranges)
{
    struct part *parts = h2o_mem_alloc_pool(request->pool, sizeof(*parts) * ranges->size);
    h2o_iovec_t type = gw_content_type_of(request->pool, found->type);
    uint8_t random[NUM_BOUNDARY_CHARS / 2];
    char boundary_text[NUM_BOUNDARY_CHARS + 1];

    if (RAND_bytes(random, sizeof(random)) != 1) {
        send_whole(request, found);
        return;
    }
    h2o_hex_encode(boundary_text, random, sizeof(random));
    h2o_iovec_t boundary = h2o_iovec_init(boundary_text, NUM_BOUNDARY_CHARS);
    for (size_t i = 0; i != ranges->size; ++i) {
        const struct gw_range *range = &ranges->entries[i];
        h2o_iovec_t content_range =
            printed(request->pool, "bytes %llu-%llu/%llu", range->first, range->end - 1, found->st.st_size);
        parts[i] = (struct part){h2o_concat(request->pool, h2o_iovec_init("\r\n--", i == 0 ? 0 : 4),
                                            h2o_iovec_init("--", i == 0 ? 2 : 0), boundary,
                                            h2o_iovec_init(H2O_STRLIT("\r\ncontent-type: ")), type,
                                            h2o_iovec_init(H2O_STRLIT("\r\ncontent-range: ")), content_range,
                                            h2o_iovec_init(H2O_STRLIT("\r\n\r\n"))),
                                 *range};
    }
    h2o_iovec_t after =
        h2o_concat(request->pool, h2o_iovec_init(H2O_STRLIT("\r\n--")), boundary, h2o_iovec_init(H2O_STRLIT("--\r\n")));
    h2o_req_t *req = &request->stream->req;
    type = h2o_concat(request->pool, h2o_iovec_init(H2O_STRLIT("multipart/byteranges; boundary=")), boundary);
    h2o_set_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, type.base, type.len, 1);
    send_parts(request, found->fd, 206, parts, ranges->size, after);
}

/* ---- answering ---- */

static void redirect_to_slash(struct gw_request *request)
{
    h2o_iovec_t location = gw_file_redirect(request->pool, request->facts.path, request->facts.query);

    h2o_add_header(request->pool, gw_answer_fields(request), H2O_TOKEN_LOCATION, NULL, location.base, location.len);
    gw_answer(request, GW_REASON_REDIRECT, 301, h2o_iovec_init(NULL, 0), h2o_iovec_init(NULL, 0), true);
}

/* The Range field to follow: only on GET (RFC 9110 14.2), only one, only when If-Range agrees. */
static enum gw_range_result choose_ranges(const struct gw_request *request, const struct found *found,
                                          const struct gw_validators *validators, struct gw_ranges *ranges)
{
    const struct routing_facts *facts = &request->facts;
    const h2o_header_t *range = NULL;

    if (request->stream->is_head_request)
        return GW_RANGE_WHOLE;
    for (size_t i = 0; i != facts->num_headers; ++i) {
        if (facts->headers[i].name != &H2O_TOKEN_RANGE->buf)
            continue;
        if (range != NULL)
            return GW_RANGE_WHOLE;
        range = &facts->headers[i];
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (range == NULL || !gw_precondition_allows_range(facts->headers, facts->num_headers, validators, &now))
        return GW_RANGE_WHOLE;
    return gw_ranges_parse(range->value, (uint64_t)found->st.st_size, ranges);
}

/* Takes the open file. */
static void answer_with(struct gw_request *request, struct found *found)
{
    h2o_req_t *req = &request->stream->req;
    struct gw_ranges ranges;

    found->etag_len = gw_etag_format(found->etag, &found->st.st_mtim, (uint64_t)found->st.st_size);
    struct gw_validators validators = {h2o_iovec_init(found->etag, found->etag_len), modified_s(found),
                                       found->st.st_mtim.tv_nsec};
    switch (gw_precondition_check(request->facts.headers, request->facts.num_headers, &validators)) {
    case GW_PRECONDITION_FAILED:
        close(found->fd);
        gw_answer_error(request, GW_REASON_PRECONDITION_FAILED, 0);
        return;
    case GW_PRECONDITION_NOT_MODIFIED:
        close(found->fd);
        add_validators(req, found);
        gw_answer(request, GW_REASON_FILE_SERVED, 304, h2o_iovec_init(NULL, 0), h2o_iovec_init(NULL, 0), true);
        return;
    case GW_PRECONDITION_HOLDS:
        break;
    }
    add(req, H2O_TOKEN_ACCEPT_RANGES, h2o_iovec_init(H2O_STRLIT("bytes")));
    switch (choose_ranges(request, found, &validators, &ranges)) {
    case GW_RANGE_UNSATISFIABLE:
        close(found->fd);
        add(req, H2O_TOKEN_CONTENT_RANGE, printed(request->pool, "bytes */%llu", found->st.st_size, 0, 0));
        gw_answer_error(request, GW_REASON_RANGE_NOT_SATISFIABLE, 0);
        break;
    case GW_RANGE_WHOLE:
        add_validators(req, found);
        add_coding(req, found);
        send_whole(request, found);
        break;
    case GW_RANGE_PARTIAL:
        add_validators(req, found);
        add_coding(req, found);
        if (ranges.size == 1)
            send_range(request, found, &ranges.entries[0]);
        else
            send_multipart(request, found, &ranges);
        break;
    }
}

void gw_files_serve(struct gw_files *files, struct gw_request *request)
{
    h2o_iovec_t method = request->facts.method;
    struct found found;
    enum gw_reason reason;

    if (!h2o_memis(method.base, method.len, H2O_STRLIT("GET")) &&
        !h2o_memis(method.base, method.len, H2O_STRLIT("HEAD"))) {
        if (request->stream != NULL)
            add(&request->stream->req, H2O_TOKEN_ALLOW, h2o_iovec_init(H2O_STRLIT("GET, HEAD")));
        gw_answer_error(request, GW_REASON_METHOD_NOT_ALLOWED, 0);
        return;
    }
    if ((reason = find(files, request, &found)) != GW_REASON_FILE_SERVED) {
        gw_answer_error(request, reason, 0);
    } else if (S_ISDIR(found.st.st_mode)) {
        close(found.fd);
        redirect_to_slash(request);
    } else if (request->stream == NULL) { /* explain */
        request->reason = reason;
        request->status = 200;
        if (found.has_copies)
            gw_trace(request->trace, "files", gw_setting_at(files->conf->at, "precompressed"), "copy: %s",
                     gw_coding_name(found.coding).base);
        close(found.fd);
    } else {
        answer_with(request, &found);
    }
}
