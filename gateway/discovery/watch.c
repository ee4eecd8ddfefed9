#include "gateway/discovery/watch.h"
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

enum {
    WHOLE = IN_CLOSE_WRITE | IN_MOVED_TO,
    EVENTS = WHOLE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF,
};

struct gw_watch {
    h2o_linklist_t link; /* in the watcher's list */
    struct gw_watcher *watcher;
    int wd; /* shared by all watches of a directory; -1: the directory is gone */
    void (*on_event)(void *data, bool is_whole);
    void *data;
    bool has_event, is_whole;
};

struct gw_watcher {
    struct gw_thread *thread;
    h2o_socket_t *sock; /* NULL: not open yet */
    int fd;
    h2o_linklist_t watches;
};

static struct gw_watch *watch_from(h2o_linklist_t *link) { return H2O_STRUCT_FROM_MEMBER(struct gw_watch, link, link); }

static void note(struct gw_watcher *self, const struct inotify_event *event)
{
    for (h2o_linklist_t *n = self->watches.next; n != &self->watches; n = n->next) {
        struct gw_watch *watch = watch_from(n);
        if (watch->wd != event->wd && (event->mask & IN_Q_OVERFLOW) == 0)
            continue;
        watch->has_event = true;
        watch->is_whole |= (event->mask & (WHOLE | IN_Q_OVERFLOW)) != 0;
        if ((event->mask & IN_IGNORED) != 0)
            watch->wd = -1;
    }
}

static struct gw_watch *next_with_event(struct gw_watcher *self)
{
    for (h2o_linklist_t *n = self->watches.next; n != &self->watches; n = n->next)
        if (watch_from(n)->has_event)
            return watch_from(n);
    return NULL;
}

static void on_readable(h2o_socket_t *sock, const char *err)
{
    struct gw_watcher *self = sock->data;
    char bytes[16 * 1024] __attribute__((aligned(__alignof__(struct inotify_event))));
    struct gw_watch *watch;
    ssize_t n;

    while ((n = read(self->fd, bytes, sizeof(bytes))) > 0)
        for (char *at = bytes; at < bytes + n; at += sizeof(struct inotify_event) + ((struct inotify_event *)at)->len)
            note(self, (struct inotify_event *)at);
    while ((watch = next_with_event(self)) != NULL) {
        bool is_whole = watch->is_whole;
        watch->has_event = watch->is_whole = false;
        watch->on_event(watch->data, is_whole);
    }
}

static bool is_open(struct gw_watcher *self)
{
    if (self->sock != NULL)
        return true;
    if ((self->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) < 0)
        return false;
    self->sock = h2o_evloop_socket_create(self->thread->loop, self->fd, H2O_SOCKET_FLAG_DONT_READ);
    self->sock->data = self;
    h2o_socket_read_start(self->sock, on_readable);
    return true;
}

struct gw_watcher *gw_watcher_create(struct gw_thread *thread)
{
    struct gw_watcher *self = h2o_mem_alloc(sizeof(*self));
    *self = (struct gw_watcher){.thread = thread};
    h2o_linklist_init_anchor(&self->watches);
    return self;
}

void gw_watcher_destroy(struct gw_watcher *self)
{
    if (self == NULL)
        return;
    if (self->sock != NULL)
        h2o_socket_close(self->sock);
    free(self);
}

struct gw_watch *gw_watcher_add(struct gw_watcher *self, const char *directory,
                                void (*on_event)(void *data, bool is_whole), void *data)
{
    int wd = is_open(self) ? inotify_add_watch(self->fd, directory, EVENTS | IN_ONLYDIR) : -1;
    if (wd < 0)
        return NULL;
    struct gw_watch *watch = h2o_mem_alloc(sizeof(*watch));
    *watch = (struct gw_watch){.watcher = self, .wd = wd, .on_event = on_event, .data = data};
    h2o_linklist_insert(&self->watches, &watch->link);
    return watch;
}

bool gw_watch_is_over(const struct gw_watch *watch) { return watch->wd < 0; }

void gw_watch_remove(struct gw_watch *watch)
{
    if (watch == NULL)
        return;
    struct gw_watcher *self = watch->watcher;
    bool is_shared = false;

    h2o_linklist_unlink(&watch->link);
    for (h2o_linklist_t *n = self->watches.next; n != &self->watches; n = n->next)
        is_shared |= watch_from(n)->wd == watch->wd;
    if (!is_shared && watch->wd >= 0)
        inotify_rm_watch(self->fd, watch->wd);
    free(watch);
}
