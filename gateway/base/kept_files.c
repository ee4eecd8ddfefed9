#include "gateway/base/kept_files.h"
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <h2o.h>
#include "gateway/base/names.h"

enum { MAX_TOTAL_BYTES = 256 << 20 };

struct file {
    h2o_iovec_t path, bytes; /* owned; the path is NUL-terminated */
};

struct gw_kept_files {
    struct file *entries;
    size_t size, capacity;
    struct gw_names names; /* path -> index */
    bool is_source;
};

/* In the memory file: this, the path, the bytes; again and again. */
struct header {
    uint32_t magic, path_len;
    uint64_t size;
};
static const uint32_t magic = 0x4b455054;

struct gw_kept_files *gw_kept_files_create(void)
{
    struct gw_kept_files *self = h2o_mem_alloc(sizeof(*self));
    memset(self, 0, sizeof(*self));
    gw_names_init(&self->names, NULL);
    return self;
}

void gw_kept_files_destroy(struct gw_kept_files *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i != self->size; ++i) {
        explicit_bzero(self->entries[i].bytes.base, self->entries[i].bytes.len);
        free(self->entries[i].bytes.base);
        free(self->entries[i].path.base);
    }
    free(self->entries);
    gw_names_dispose(&self->names);
    free(self);
}

static const struct file *find(const struct gw_kept_files *self, const char *path)
{
    const size_t *index = gw_names_get(&self->names, h2o_iovec_init(path, strlen(path)));
    return index != NULL ? &self->entries[*index] : NULL;
}

void gw_kept_files_add(struct gw_kept_files *self, const char *path, h2o_iovec_t bytes)
{
    bool is_new;

    if (find(self, path) != NULL)
        return;
    if (self->size == self->capacity) {
        self->capacity = self->capacity != 0 ? self->capacity * 2 : 8;
        self->entries = h2o_mem_realloc(self->entries, sizeof(*self->entries) * self->capacity);
    }
    struct file *file = &self->entries[self->size++];
    file->path = h2o_strdup(NULL, path, SIZE_MAX);
    file->bytes = h2o_strdup(NULL, bytes.base != NULL ? bytes.base : "", bytes.len);
    *gw_names_put(&self->names, file->path, &is_new) = self->size - 1;
}

bool gw_kept_files_is_source(const struct gw_kept_files *self) { return self != NULL && self->is_source; }

const h2o_iovec_t *gw_kept_files_get(const struct gw_kept_files *self, const char *path)
{
    const struct file *file = find(self, path);
    return file != NULL ? &file->bytes : NULL;
}

/* ---- as a file ---- */

static bool write_all(int fd, const void *bytes, size_t len)
{
    for (size_t done = 0; done != len;) {
        ssize_t n = write(fd, (const char *)bytes + done, len - done);
        if (n == -1 && errno != EINTR)
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

int gw_kept_files_write(const struct gw_kept_files *self)
{
    int fd = memfd_create("weir-kept-files", MFD_CLOEXEC);
    bool ok = fd != -1;

    for (size_t i = 0; ok && i != self->size; ++i) {
        const struct file *file = &self->entries[i];
        struct header header = {magic, (uint32_t)file->path.len, file->bytes.len};
        ok = write_all(fd, &header, sizeof(header)) && write_all(fd, file->path.base, file->path.len) &&
             write_all(fd, file->bytes.base, file->bytes.len);
    }
    if (ok)
        return fd;
    if (fd != -1)
        close(fd);
    return -1;
}

static bool parse(struct gw_kept_files *self, const char *at, size_t left)
{
    struct header header;

    while (left != 0) {
        if (left < sizeof(header))
            return false;
        memcpy(&header, at, sizeof(header));
        at += sizeof(header);
        left -= sizeof(header);
        if (header.magic != magic || header.path_len > left || header.size > left - header.path_len)
            return false;
        char *path = h2o_strdup(NULL, at, header.path_len).base;
        gw_kept_files_add(self, path, h2o_iovec_init(at + header.path_len, header.size));
        free(path);
        at += header.path_len + header.size;
        left -= header.path_len + header.size;
    }
    return true;
}

/* Not mapped: whoever else has the file may cut it. */
static bool read_all(int fd, char *bytes, size_t len)
{
    for (size_t done = 0; done != len;) {
        ssize_t n = pread(fd, bytes + done, len - done, (off_t)done);
        if (n == 0 || (n == -1 && errno != EINTR))
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

struct gw_kept_files *gw_kept_files_read(int fd)
{
    struct gw_kept_files *self;
    struct stat st;
    char *bytes;
    bool ok;

    if (fstat(fd, &st) != 0 || st.st_size <= 0 || st.st_size > MAX_TOTAL_BYTES)
        return NULL;
    self = gw_kept_files_create();
    self->is_source = true;
    bytes = h2o_mem_alloc((size_t)st.st_size);
    ok = read_all(fd, bytes, (size_t)st.st_size) && parse(self, bytes, (size_t)st.st_size);
    explicit_bzero(bytes, (size_t)st.st_size);
    free(bytes);
    if (ok)
        return self;
    gw_kept_files_destroy(self);
    return NULL;
}
