#include "gateway/discovery/resolver.h"
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>
#include "gateway/discovery/dns_target.h"

enum { MAX_PAUSE_MS = 60000 };

struct gw_resolver {
    struct gw_thread *thread;
    struct gw_dns *dns;
    h2o_socket_t *sock; /* NULL: nothing was ever asked */
    struct gw_timer timer;
};

static void run(struct gw_resolver *self)
{
    uint64_t now_ms = gw_now_ms();
    gw_dns_run(self->dns, now_ms);
    gw_timer_arm(self->thread->wheel, &self->timer, now_ms + (uint64_t)gw_dns_wait(self->dns, now_ms, MAX_PAUSE_MS));
}

static void on_timer(struct gw_timer *timer) { run(H2O_STRUCT_FROM_MEMBER(struct gw_resolver, timer, timer)); }

static void on_readable(h2o_socket_t *sock, const char *err) { run(sock->data); }

struct gw_resolver *gw_resolver_create(struct gw_thread *control)
{
    struct gw_resolver *self = h2o_mem_alloc(sizeof(*self));

    *self = (struct gw_resolver){.thread = control, .dns = gw_dns_create(gw_now_ms())};
    gw_timer_init(&self->timer, on_timer);
    return self;
}

void gw_resolver_destroy(struct gw_resolver *self)
{
    if (self == NULL)
        return;
    gw_timer_disarm(&self->timer);
    if (self->sock != NULL)
        h2o_socket_close(self->sock);
    gw_dns_destroy(self->dns);
    free(self);
}

struct gw_dns *gw_resolver_dns(struct gw_resolver *self) { return self->dns; }

/* The socket is the library's to close; the resolver keeps its own. */
void gw_resolver_wake(struct gw_resolver *self)
{
    if (self->sock == NULL) {
        self->sock = h2o_evloop_socket_create(self->thread->loop, dup(gw_dns_fd(self->dns)), H2O_SOCKET_FLAG_DONT_READ);
        self->sock->data = self;
        h2o_socket_read_start(self->sock, on_readable);
    }
    gw_timer_arm(self->thread->wheel, &self->timer, gw_now_ms());
}

/* ---- loads ---- */

struct gw_dns *gw_resolver_begin_load(struct gw_resolver *self) { return gw_dns_clone(self->dns, gw_now_ms()); }

struct wanted {
    struct wanted *next;
    const struct routing_target_conf *conf;
    struct gw_dns_target *target;
};

static void on_news(void *data) {}

static struct wanted *want_all(struct gw_dns *dns, const struct gw_config *config)
{
    struct wanted *list = NULL;
    struct gw_dns_target_conf conf;

    for (size_t i = 0; i != config->target_groups.size; ++i) {
        const struct routing_target_group_conf *group = config->target_groups.entries[i].conf;
        for (size_t j = 0; j != group->targets.size; ++j) {
            const struct routing_target_conf *target = group->targets.entries[j];
            if (target->dns.name.base == NULL)
                continue;
            struct wanted *wanted = h2o_mem_alloc(sizeof(*wanted));
            gw_resolver_target_conf(target, &conf);
            *wanted = (struct wanted){list, target, gw_dns_target_create(dns, &conf, gw_now_ms(), on_news, NULL)};
            list = wanted;
        }
    }
    return list;
}

static bool is_pending(const struct wanted *list, bool only_required)
{
    for (; list != NULL; list = list->next)
        if ((list->conf->is_required || !only_required) && !gw_dns_target_has_ended(list->target))
            return true;
    return false;
}

/* Each question ends by itself, but it may be one of many to many servers. */
static uint64_t most_ms(const struct gw_dns *dns, const struct gw_resolver_conf *conf)
{
    uint64_t num_servers = 0;
    while (gw_dns_server_name(dns, num_servers) != NULL)
        ++num_servers;
    return conf->wait_ms + 2 * conf->timeout_ms * conf->attempts * num_servers; /* SRV, then addresses */
}

static void wait_for(struct gw_dns *dns, const struct wanted *list, const struct gw_resolver_conf *conf)
{
    uint64_t began_ms = gw_now_ms(), most = most_ms(dns, conf), now_ms = began_ms;

    while (is_pending(list, now_ms >= began_ms + conf->wait_ms) && now_ms < began_ms + most) {
        struct pollfd fd = {.fd = gw_dns_fd(dns), .events = POLLIN};
        uint64_t left_ms = began_ms + (now_ms < began_ms + conf->wait_ms ? conf->wait_ms : most) - now_ms;
        gw_dns_run(dns, now_ms);
        poll(&fd, 1, gw_dns_wait(dns, now_ms, left_ms < 1000 ? (int32_t)left_ms : 1000));
        now_ms = gw_now_ms();
        gw_dns_run(dns, now_ms);
    }
}

static bool has_what_it_needs(const struct wanted *wanted, struct gw_errors *errors)
{
    char why[512] = "no DNS server answered in time";
    size_t size;

    gw_dns_target_addresses(wanted->target, &size);
    if (!wanted->conf->is_required || size != 0)
        return true;
    gw_dns_target_error(wanted->target, why, sizeof(why));
    return gw_error_at(errors, gw_setting_at(wanted->conf->at, "dns"), "\"%s\" is required: %s",
                       wanted->conf->dns.name.base, why);
}

bool gw_resolver_look_up(struct gw_dns *dns, const struct gw_config *config, struct gw_errors *errors)
{
    gw_dns_configure(dns, &config->resolver);
    struct wanted *list = want_all(dns, config), *next;
    bool is_good = true;

    wait_for(dns, list, &config->resolver);
    for (; list != NULL; list = next) {
        next = list->next;
        is_good &= has_what_it_needs(list, errors);
        gw_dns_target_destroy(list->target);
        free(list);
    }
    return is_good;
}

void gw_resolver_end_load(struct gw_resolver *self, const struct gw_config *config, struct gw_dns *found)
{
    gw_dns_configure(self->dns, &config->resolver);
    if (found != NULL)
        gw_dns_adopt(self->dns, found, gw_now_ms());
    gw_dns_destroy(found);
    gw_resolver_wake(self);
}
