#include "gateway/exchange/group_load.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <h2o.h>
#include "gateway/base/alloc.h"

struct entry {
    struct routing_load load;
    struct entry *next;
    unsigned uses;
    h2o_iovec_t name;
} __attribute__((aligned(64)));

/* Groups with limits are few, and looked up by loads only: a list will do. */
struct gw_group_loads {
    pthread_mutex_t lock;
    struct entry *first;
};

struct gw_group_loads *gw_group_loads_create(void)
{
    struct gw_group_loads *self = h2o_mem_alloc(sizeof(*self));
    *self = (struct gw_group_loads){.first = NULL};
    pthread_mutex_init(&self->lock, NULL);
    return self;
}

void gw_group_loads_destroy(struct gw_group_loads *self)
{
    if (self == NULL)
        return;
    pthread_mutex_destroy(&self->lock);
    free(self);
}

struct routing_load *gw_group_load_hold(struct gw_group_loads *self, h2o_iovec_t group)
{
    struct entry *entry;

    pthread_mutex_lock(&self->lock);
    for (entry = self->first; entry != NULL; entry = entry->next)
        if (h2o_memis(entry->name.base, entry->name.len, group.base, group.len))
            break;
    if (entry == NULL) {
        entry = gw_alloc_lines(sizeof(*entry));
        entry->name = h2o_strdup(NULL, group.base, group.len);
        entry->next = self->first;
        self->first = entry;
    }
    ++entry->uses;
    pthread_mutex_unlock(&self->lock);
    return &entry->load;
}

void gw_group_load_release(struct gw_group_loads *self, struct routing_load *load)
{
    struct entry *entry = (struct entry *)load, **link;

    if (load == NULL)
        return;
    pthread_mutex_lock(&self->lock);
    if (--entry->uses == 0) {
        for (link = &self->first; *link != entry; link = &(*link)->next)
            ;
        *link = entry->next;
        free(entry->name.base);
        free(entry);
    }
    pthread_mutex_unlock(&self->lock);
}
