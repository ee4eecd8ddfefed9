/* ${env:NAME}, ${env:NAME:-default}, ${file:PATH} and $${ in scalars. What comes from outside is secret: it is shown in
 * no message and no --print. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "gateway/base/kept_files.h"
#include "gateway/base/yaml_internal.h"

enum { MAX_SUBSTITUTED_FILE = 1 << 20 };

static bool read_from_disk(h2o_mem_pool_t *pool, const char *path, size_t max_len, h2o_iovec_t *text, const char **why)
{
    struct stat st;
    int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    *why = NULL;
    if (fd == -1) {
        *why = strerror(errno);
        return false;
    }
    size_t capacity = 65536, len = 0;
    /* opening must not wait for a writer that never comes, reading waits for the one that is there: <(command) */
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    if (fstat(fd, &st) != 0)
        *why = strerror(errno);
    else if (S_ISDIR(st.st_mode))
        *why = "it is a directory";
    else if (S_ISREG(st.st_mode) && (uintmax_t)st.st_size > max_len)
        *why = "it is too large";
    else if (S_ISREG(st.st_mode) && st.st_size > 0)
        capacity = (size_t)st.st_size + 1;
    char *buf = *why == NULL ? h2o_mem_alloc(capacity) : NULL;
    while (*why == NULL) {
        ssize_t n = read(fd, buf + len, capacity - len);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            *why = strerror(errno);
        len += n > 0 ? (size_t)n : 0;
        if (len > max_len)
            *why = "it is too large";
        if (len == capacity)
            buf = h2o_mem_realloc(buf, capacity *= 2);
    }
    close(fd);
    if (*why == NULL)
        *text = h2o_strdup(pool, buf, len);
    free(buf);
    return *why == NULL;
}

static bool read_from_kept(h2o_mem_pool_t *pool, const struct gw_kept_files *kept, const char *path, h2o_iovec_t *text,
                           const char **why)
{
    const h2o_iovec_t *bytes = gw_kept_files_get(kept, path);
    if (bytes != NULL)
        *text = h2o_strdup(pool, bytes->base, bytes->len);
    *why = bytes != NULL ? NULL : "it was not kept";
    return bytes != NULL;
}

bool gw_read_file(struct gw_yaml_reader *reader, const char *path, size_t max_len, h2o_iovec_t *text, const char **why)
{
    struct gw_kept_files *kept = reader->errors->kept;

    if (gw_kept_files_is_source(kept))
        return read_from_kept(reader->pool, kept, path, text, why);
    if (!read_from_disk(reader->pool, path, max_len, text, why))
        return false;
    if (kept != NULL)
        gw_kept_files_add(kept, path, *text);
    return true;
}

/* The value of what stands between ${ and }; false after an error. */
static bool look_up(struct gw_yaml_reader *reader, struct gw_node *node, h2o_iovec_t expression, h2o_iovec_t *value,
                    bool *is_secret)
{
    char *text = h2o_strdup(reader->pool, expression.base, expression.len).base;
    if (strncmp(text, "env:", 4) == 0 && text[4] != '\0') {
        char *name = text + 4, *fallback = strstr(name, ":-");
        if (fallback != NULL) {
            *fallback = '\0';
            fallback += 2;
        }
        for (const char *c = name; *c != '\0'; ++c)
            if (!isalnum((unsigned char)*c) && *c != '_')
                return gw_error_at(reader->errors, node, "\"%.60s\" is no name of an environment variable", name);
        const char *found = getenv(name);
        if (fallback != NULL && (found == NULL || *found == '\0')) /* as in the shell: :- takes empty for unset */
            found = fallback;
        else
            *is_secret = true;
        if (found == NULL)
            return gw_error_at(reader->errors, node,
                               "environment variable %.60s is not set (${env:%.60s:-text} gives a default)", name,
                               name);
        *value = h2o_strdup(reader->pool, found, SIZE_MAX);
        return true;
    }
    if (strncmp(text, "file:", 5) == 0 && text[5] != '\0') {
        const char *why;
        *is_secret = true;
        if (!reader->allow_files)
            return gw_error_at(reader->errors, node, "${file:} is not allowed here");
        h2o_iovec_t path = gw_node_path(reader->pool, node, h2o_iovec_init(text + 5, strlen(text + 5)));
        if (!gw_read_file(reader, path.base, MAX_SUBSTITUTED_FILE, value, &why))
            return gw_error_at(reader->errors, node, "cannot read %s: %s", path.base, why);
        if (value->len != 0 && value->base[value->len - 1] == '\n')
            value->base[--value->len] = '\0';
        if (value->len != 0 && value->base[value->len - 1] == '\r')
            value->base[--value->len] = '\0';
        if (memchr(value->base, '\0', value->len) != NULL)
            return gw_error_at(reader->errors, node, "%s holds a NUL character", path.base);
        return true;
    }
    return gw_error_at(reader->errors, node,
                       "unknown substitution \"${%.60s}\" (expected ${env:NAME} or ${file:PATH}; $${ is a literal ${)",
                       text);
}

static void append(char **buf, size_t *len, size_t *capacity, h2o_iovec_t piece)
{
    if (*len + piece.len + 1 > *capacity)
        *buf = h2o_mem_realloc(*buf, *capacity = (*len + piece.len + 1) * 2);
    memcpy(*buf + *len, piece.base, piece.len);
    *len += piece.len;
}

static bool substitute(struct gw_yaml_reader *reader, struct gw_node *node, h2o_iovec_t expression, h2o_iovec_t *value)
{
    bool is_secret = false;
    if (!look_up(reader, node, expression, value, &is_secret))
        return false;
    if (value->len > reader->limits.max_bytes - reader->num_bytes)
        return gw_error_at(reader->errors, node, "the configuration is larger than %zu bytes",
                           reader->limits.max_bytes);
    reader->num_bytes += value->len;
    node->is_substituted = true;
    if (is_secret) {
        gw_errors_add_secret(reader->errors, value->base, value->len);
        node->is_secret = true;
    }
    return true;
}

/* Takes the first piece off the text, as what it stands for. */
static bool expand(struct gw_yaml_reader *reader, struct gw_node *node, h2o_iovec_t *text, h2o_iovec_t *piece)
{
    size_t len;
    if (text->len >= 3 && memcmp(text->base, "$${", 3) == 0) {
        *piece = h2o_iovec_init(H2O_STRLIT("${"));
        len = 3;
    } else if (text->len >= 2 && memcmp(text->base, "${", 2) == 0) {
        const char *end = memchr(text->base, '}', text->len);
        if (end == NULL)
            return gw_error_at(reader->errors, node, "\"${\" without \"}\" ($${ is a literal ${)");
        len = end + 1 - text->base;
        if (reader->keeps_fields && memchr(text->base, ':', len) == NULL)
            *piece = h2o_iovec_init(text->base, len);
        else if (!substitute(reader, node, h2o_iovec_init(text->base + 2, end - text->base - 2), piece))
            return false;
    } else {
        const char *dollar = memchr(text->base + 1, '$', text->len - 1);
        len = dollar != NULL ? (size_t)(dollar - text->base) : text->len;
        *piece = h2o_iovec_init(text->base, len);
    }
    text->base += len;
    text->len -= len;
    return true;
}

void gw_yaml_substitute(struct gw_yaml_reader *reader, struct gw_node *node)
{
    if (reader->is_data || strstr(node->text.base, "${") == NULL)
        return;
    char *buf = NULL;
    size_t len = 0, capacity = 0;
    for (h2o_iovec_t text = node->text, piece; text.len != 0 && !node->is_broken;) {
        if (expand(reader, node, &text, &piece))
            append(&buf, &len, &capacity, piece);
        else
            node->is_broken = true;
    }
    if (!node->is_broken)
        node->text = h2o_strdup(reader->pool, buf != NULL ? buf : "", len);
    if (buf != NULL)
        explicit_bzero(buf, len);
    free(buf);
}
