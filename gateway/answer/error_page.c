#include "gateway/answer/error_page.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <h2o.h>
#include "gateway/base/kept_files.h"
#include "gateway/answer/content_type.h"
#include "routing/config.h"

enum { MAX_BODY = 1 << 20 };

struct gw_error_pages {
    size_t size;
    struct gw_error_page entries[];
};

/* ---- files ---- */

static const char *read_all(int fd, h2o_iovec_t *body)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return strerror(errno);
    if (!S_ISREG(st.st_mode))
        return "it is no regular file";
    if (st.st_size > MAX_BODY)
        return "it is larger than 1 MiB";
    *body = h2o_iovec_init(h2o_mem_alloc((size_t)st.st_size + 1), 0);
    while (body->len != (size_t)st.st_size) {
        ssize_t n = read(fd, body->base + body->len, (size_t)st.st_size - body->len);
        if (n == 0)
            break; /* it became shorter: this is what it is now */
        if (n < 0 && errno != EINTR)
            return strerror(errno);
        body->len += n > 0 ? (size_t)n : 0;
    }
    return NULL;
}

/* What an earlier load has read. */
static bool read_kept(const struct routing_error_page_conf *conf, h2o_iovec_t *body, struct gw_errors *errors)
{
    const h2o_iovec_t *kept = gw_kept_files_get(errors->kept, conf->file.base);

    if (kept == NULL)
        return gw_error_at(errors, gw_setting_at(conf->at, "file"), "cannot read the error page %s: it was not kept",
                           conf->file.base);
    *body = h2o_strdup(NULL, kept->base, kept->len);
    return true;
}

static bool read_file(const struct routing_error_page_conf *conf, h2o_iovec_t *body, struct gw_errors *errors)
{
    if (gw_kept_files_is_source(errors->kept))
        return read_kept(conf, body, errors);

    int fd = open(conf->file.base, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    const char *why = fd == -1 ? strerror(errno) : read_all(fd, body);

    if (fd != -1)
        close(fd);
    if (why == NULL && errors->kept != NULL)
        gw_kept_files_add(errors->kept, conf->file.base, *body);
    if (why == NULL)
        return true;
    return gw_error_at(errors, gw_setting_at(conf->at, "file"), "cannot read the error page %s: %s", conf->file.base,
                       why);
}

/* ---- life ---- */

/* The caller's to free. */
static h2o_iovec_t type_of(const struct routing_error_page_conf *conf)
{
    if (conf->content_type.base != NULL)
        return h2o_strdup(NULL, conf->content_type.base, conf->content_type.len);
    if (conf->file.base != NULL)
        return gw_content_type_of(NULL, gw_media_type_of(conf->file));
    return h2o_strdup(NULL, H2O_STRLIT("text/html; charset=utf-8"));
}

static bool add(struct gw_error_pages *pages, const struct gw_named *named, struct gw_errors *errors)
{
    const struct routing_error_page_conf *conf = named->conf;
    struct gw_error_page *page = &pages->entries[pages->size++];
    unsigned first, last;

    routing_error_page_statuses(named->name, &first, &last);
    *page = (struct gw_error_page){.first = (uint16_t)first, .last = (uint16_t)last};
    if (conf->file.base != NULL) {
        if (!read_file(conf, &page->body, errors))
            return false;
    } else {
        page->body = h2o_strdup(NULL, conf->body.base, conf->body.len);
    }
    page->content_type = type_of(conf);
    return true;
}

bool gw_error_pages_create(const struct gw_map *conf, struct gw_error_pages **pages, struct gw_errors *errors)
{
    bool ok = true;

    *pages = NULL;
    if (conf->size == 0)
        return true;
    *pages = h2o_mem_alloc(sizeof(**pages) + sizeof((*pages)->entries[0]) * conf->size);
    (*pages)->size = 0;
    for (size_t i = 0; i != conf->size; ++i)
        if (!conf->entries[i].is_bad)
            ok &= add(*pages, &conf->entries[i], errors);
    if (!ok) {
        gw_error_pages_destroy(*pages);
        *pages = NULL;
    }
    return ok;
}

void gw_error_pages_destroy(struct gw_error_pages *pages)
{
    if (pages == NULL)
        return;
    for (size_t i = 0; i != pages->size; ++i) {
        free(pages->entries[i].body.base);
        free(pages->entries[i].content_type.base);
    }
    free(pages);
}

const struct gw_error_page *gw_error_pages_find(const struct gw_error_pages *pages, int status)
{
    const struct gw_error_page *of_class = NULL;

    for (size_t i = 0; pages != NULL && i != pages->size; ++i) {
        const struct gw_error_page *page = &pages->entries[i];
        if (status < page->first || status > page->last)
            continue;
        if (page->first == page->last)
            return page;
        of_class = page;
    }
    return of_class;
}
