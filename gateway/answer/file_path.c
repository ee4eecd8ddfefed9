#include "gateway/answer/file_path.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <h2o/string_.h>

static const h2o_iovec_t none = {NULL, 0};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Whole segments: "/app" fits "/app" and "/app/x", not "/apple". */
static bool strip(h2o_iovec_t *path, h2o_iovec_t prefix)
{
    if (prefix.len != 0 && prefix.base[prefix.len - 1] == '/')
        --prefix.len;
    if (prefix.len == 0)
        return true;
    if (path->len < prefix.len || memcmp(path->base, prefix.base, prefix.len) != 0 ||
        (path->len != prefix.len && path->base[prefix.len] != '/'))
        return false;
    *path = h2o_iovec_init(path->base + prefix.len, path->len - prefix.len);
    return true;
}

static bool is_dots(const char *segment, size_t len)
{
    return (len == 1 && segment[0] == '.') || (len == 2 && segment[0] == '.' && segment[1] == '.');
}

static bool has_dot_segment(const char *s, size_t len)
{
    const char *end = s + len;
    while (s != end) {
        const char *slash = memchr(s, '/', end - s);
        if (is_dots(s, (slash != NULL ? slash : end) - s))
            return true;
        s = slash != NULL ? slash + 1 : end;
    }
    return false;
}

h2o_iovec_t gw_file_path(h2o_mem_pool_t *pool, h2o_iovec_t path, h2o_iovec_t strip_prefix)
{
    char *out;
    size_t len = 0;

    if (!strip(&path, strip_prefix) || path.len >= PATH_MAX)
        return none;
    while (path.len != 0 && *path.base == '/')
        path = h2o_iovec_init(path.base + 1, path.len - 1);
    out = h2o_mem_alloc_pool(pool, path.len + 1);
    for (size_t i = 0; i != path.len; ++i) {
        char c = path.base[i];
        if (c == '%') {
            int high = i + 2 < path.len ? hex_digit(path.base[i + 1]) : -1;
            int low = i + 2 < path.len ? hex_digit(path.base[i + 2]) : -1;
            c = high >= 0 && low >= 0 ? (char)(high << 4 | low) : '\0';
            if (c == '/')
                return none;
            i += 2;
        }
        if (c == '\0')
            return none;
        out[len++] = c;
    }
    out[len] = '\0';
    return has_dot_segment(out, len) ? none : h2o_iovec_init(out, len);
}

h2o_iovec_t gw_file_redirect(h2o_mem_pool_t *pool, h2o_iovec_t path, h2o_iovec_t query)
{
    char *out, *dst;
    size_t i = 0;

    while (i + 1 < path.len && path.base[i] == '/' && path.base[i + 1] == '/')
        ++i;
    dst = out = h2o_mem_alloc_pool(pool, path.len * 3 + query.len + 3);
    for (; i != path.len; ++i) {
        if (path.base[i] == '\\') { /* browsers read a backslash as a slash */
            memcpy(dst, "%5C", 3);
            dst += 3;
        } else {
            *dst++ = path.base[i];
        }
    }
    *dst++ = '/';
    if (query.base != NULL) {
        *dst++ = '?';
        h2o_memcpy(dst, query.base, query.len);
        dst += query.len;
    }
    return h2o_iovec_init(out, dst - out);
}

static int openat2_beneath(int root_fd, const char *path)
{
    /* O_NONBLOCK: a FIFO without writer opens at once; O_NOCTTY: a terminal does not become ours */
    struct open_how how = {.flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int fd, tries = 0;

    do
        fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
    while (fd == -1 &&
           (errno == EINTR || (errno == EAGAIN && ++tries < 8))); /* EAGAIN: a rename raced with ".." in a link */
    return fd;
}

bool gw_file_has_openat2(void)
{
    int fd = openat2_beneath(AT_FDCWD, ".");
    if (fd != -1)
        close(fd);
    return fd != -1 || (errno != ENOSYS && errno != EPERM); /* EPERM: older container sandboxes */
}

/* Component by component, none of them a link. */
static int walk(int root_fd, const char *path)
{
    int dir = fcntl(root_fd, F_DUPFD_CLOEXEC, 0), next, saved_errno;
    char name[NAME_MAX + 1];

    while (dir != -1) {
        size_t len = strcspn(path, "/");
        const char *rest = path + len + strspn(path + len, "/");
        if (len > NAME_MAX) {
            close(dir);
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(name, path, len);
        name[len] = '\0';
        bool is_last = path[len] == '\0', is_dir = *rest == '\0' && !is_last;
        int flags = O_NOFOLLOW | O_CLOEXEC;
        flags |=
            is_last || is_dir ? O_RDONLY | O_NONBLOCK | O_NOCTTY | (is_dir ? O_DIRECTORY : 0) : O_PATH | O_DIRECTORY;
        next = openat(dir, len != 0 ? name : ".", flags);
        saved_errno = errno;
        close(dir);
        errno = saved_errno;
        if (is_last || is_dir)
            return next;
        dir = next;
        path = rest;
    }
    return -1;
}

int gw_file_open(int root_fd, const char *path, bool use_openat2)
{
    return use_openat2 ? openat2_beneath(root_fd, *path != '\0' ? path : ".") : walk(root_fd, path);
}
