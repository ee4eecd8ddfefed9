#include "gateway/supervisor/supervised.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <unistd.h>
#include "gateway/base/kept_files.h"
#include "gateway/base/log.h"
#include "gateway/l4/udp_handover.h"
#include "gateway/supervisor/handover.h"
#include "gateway/process.h"

enum { ANSWER_TIMEOUT_S = 30 };

struct gw_supervised {
    int orders, sockets;
    pthread_mutex_t sockets_lock; /* one question and its answer at a time: a load asks in a thread of its own */
    uint64_t asked;               /* under sockets_lock: questions for sockets */
    struct gw_hello hello;
    int kept; /* memory file; -1: none */
    char tickets[GW_PACKET_TEXT];
    struct gw_process *process;
    h2o_socket_t *watched; /* orders */
};

/* ---- the first word ---- */

static bool take_end(int fd) { return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0; }

/* For an upgrade there is a sample of what this binary will have to take over: better to find out now that it cannot.
 */
static bool understands(int orders, int fd)
{
    struct gw_supervisor supervisor = {0};
    const char *why = NULL;
    bool ok = gw_handover_read(fd, GW_HANDOVER_SAMPLE, &supervisor, &why);

    if (!ok) {
        char text[160];
        snprintf(text, sizeof(text), "this version cannot take over from the one that runs: %s", why);
        gw_log(GW_LOG_ERROR, "process", "%s", text);
        gw_channel_tell(orders, GW_REPORT_FAILED, 0, 0, text);
    }
    gw_handover_dispose(&supervisor);
    return ok;
}

/* The descriptor that comes with the first word: kept files for a replacement, else a sample of the handover. */
static bool take_descriptor(struct gw_supervised *self, struct gw_packet *packet)
{
    bool ok = true;

    if (packet->num_fds == 1 && self->hello.is_replacement) {
        self->kept = packet->fds[0];
        return true;
    }
    if (packet->num_fds != 0)
        ok = understands(self->orders, packet->fds[0]);
    gw_packet_close_fds(packet);
    return ok;
}

struct gw_supervised *gw_supervised_create(const char *ends)
{
    struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
    struct gw_packet packet;
    int orders, sockets;
    char end;

    if (sscanf(ends, "%d,%d%c", &orders, &sockets, &end) != 2 || !take_end(orders) || !take_end(sockets))
        return NULL;
    setsockopt(orders, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(sockets, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    if (gw_channel_receive(orders, true, &packet) != GW_CHANNEL_PACKET || packet.type != GW_ORDER_HELLO)
        return NULL;
    struct gw_supervised *self = h2o_mem_alloc(sizeof(*self));
    *self = (struct gw_supervised){.orders = orders, .sockets = sockets, .kept = -1};
    pthread_mutex_init(&self->sockets_lock, NULL);
    memcpy(&self->hello, packet.numbers, sizeof(self->hello));
    memcpy(self->tickets, packet.text, sizeof(self->tickets));
    explicit_bzero(packet.text, sizeof(packet.text));
    if (take_descriptor(self, &packet))
        return self;
    gw_supervised_destroy(self);
    return NULL;
}

void gw_supervised_destroy(struct gw_supervised *self)
{
    if (self == NULL)
        return;
    if (self->watched != NULL)
        h2o_socket_close(self->watched); /* and with it orders */
    else
        close(self->orders);
    close(self->sockets);
    pthread_mutex_destroy(&self->sockets_lock);
    if (self->kept != -1)
        close(self->kept);
    explicit_bzero(self->tickets, sizeof(self->tickets));
    free(self);
}

const struct gw_hello *gw_supervised_hello(const struct gw_supervised *self) { return &self->hello; }

struct gw_kept_files *gw_supervised_kept(const struct gw_supervised *self)
{
    return self->kept != -1 ? gw_kept_files_read(self->kept) : NULL;
}

const char *gw_supervised_tickets(const struct gw_supervised *self) { return self->tickets; }

bool gw_supervised_die_with_it(const struct gw_supervised *self)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && (uint64_t)getppid() == self->hello.supervisor_pid;
}

/* ---- sockets ---- */

/* The next packet of the answer to the last question. What comes of earlier ones was waited for in vain. */
static bool hear(struct gw_supervised *self, struct gw_packet *answer)
{
    while (gw_channel_receive(self->sockets, true, answer) == GW_CHANNEL_PACKET) {
        if (answer->numbers[1] == self->asked)
            return true;
        gw_packet_close_fds(answer);
    }
    return false;
}

static bool ask(struct gw_supervised *self, enum gw_packet_type type, enum gw_socket_kind kind, const char *address,
                unsigned count, struct gw_packet *answer)
{
    struct gw_packet question = {.type = type, .numbers = {count, ++self->asked}};

    snprintf(question.text, sizeof(question.text), "%s %s", gw_socket_kind_name(kind), address);
    return gw_channel_send(self->sockets, &question) && hear(self, answer);
}

static void append(int **fds, unsigned *num_fds, const struct gw_packet *answer)
{
    *fds = h2o_mem_realloc(*fds, sizeof(**fds) * (*num_fds + answer->num_fds + 1));
    memcpy(*fds + *num_fds, answer->fds, sizeof(**fds) * answer->num_fds);
    *num_fds += answer->num_fds;
}

static bool open_sockets(struct gw_supervised *self, enum gw_socket_kind kind, const char *address, unsigned count,
                         int **fds, unsigned *num_fds, struct gw_inventory_error *error)
{
    struct gw_packet answer;
    bool is_there = ask(self, GW_SOCKETS_OPEN, kind, address, count, &answer);

    *fds = NULL;
    *num_fds = 0;
    *error = (struct gw_inventory_error){0};
    while (is_there && answer.type == GW_SOCKETS_HERE) {
        append(fds, num_fds, &answer);
        if (answer.numbers[0] == 0 && *num_fds != 0)
            return true;
        is_there = hear(self, &answer);
    }
    for (unsigned i = 0; i != *num_fds; ++i)
        close((*fds)[i]);
    free(*fds);
    *fds = NULL;
    if (is_there && answer.type == GW_SOCKETS_FAILED) {
        error->number = (int)answer.numbers[0];
        snprintf(error->text, sizeof(error->text), "%.*s", (int)sizeof(error->text) - 1, answer.text);
    } else {
        snprintf(error->text, sizeof(error->text), "the supervisor does not answer");
    }
    return false;
}

bool gw_supervised_open(struct gw_supervised *self, enum gw_socket_kind kind, const char *address, unsigned count,
                        int **fds, unsigned *num_fds, struct gw_inventory_error *error)
{
    pthread_mutex_lock(&self->sockets_lock);
    bool is_open = open_sockets(self, kind, address, count, fds, num_fds, error);
    pthread_mutex_unlock(&self->sockets_lock);
    return is_open;
}

void gw_supervised_close(struct gw_supervised *self, enum gw_socket_kind kind, const char *address)
{
    struct gw_packet answer;

    pthread_mutex_lock(&self->sockets_lock);
    bool is_closed = ask(self, GW_SOCKETS_CLOSE, kind, address, 0, &answer);
    pthread_mutex_unlock(&self->sockets_lock);
    if (!is_closed)
        gw_log(GW_LOG_ERROR, "process", "the supervisor does not answer: %s may stay open", address);
}

/* ---- orders ---- */

static int take_fd(struct gw_packet *order) { return order->num_fds != 0 ? order->fds[--order->num_fds] : -1; }

static void follow(struct gw_process *process, struct gw_packet *order)
{
    switch (order->type) {
    case GW_ORDER_DRAIN:
        gw_process_drain(process, order->numbers[0], order->numbers[1] != 0);
        break;
    case GW_ORDER_STOP:
        gw_process_stop(process);
        break;
    case GW_ORDER_RELOAD:
        gw_process_reload(process);
        break;
    case GW_ORDER_REOPEN:
        gw_access_log_reopen(process->access_log);
        break;
    case GW_ORDER_UPGRADED:
        gw_process_upgraded(process, order->numbers[0] != 0, order->text);
        break;
    case GW_ORDER_GIVE_FLOWS:
        if (order->num_fds != 0)
            gw_udp_hand_over(process, take_fd(order), order->numbers[0] != 0);
        break;
    case GW_ORDER_TAKE_FLOWS:
        gw_udp_take_over(process, take_fd(order));
        break;
    default:
        gw_log(GW_LOG_WARNING, "process", "the supervisor gave an order that this version does not know: %d",
               (int)order->type);
    }
}

static void on_order(h2o_socket_t *sock, const char *err)
{
    struct gw_supervised *self = sock->data;
    struct gw_packet order;
    enum gw_channel_result result;

    while ((result = gw_channel_receive(self->orders, false, &order)) == GW_CHANNEL_PACKET) {
        follow(self->process, &order);
        gw_packet_close_fds(&order);
    }
    if (result == GW_CHANNEL_CLOSED) {
        gw_log(GW_LOG_ERROR, "process", "the supervisor is gone: closing");
        h2o_socket_read_stop(sock);
        gw_process_stop(self->process);
    }
}

void gw_supervised_watch(struct gw_supervised *self, struct gw_process *process)
{
    self->process = process;
    self->watched = h2o_evloop_socket_create(process->control.loop, self->orders, H2O_SOCKET_FLAG_DONT_READ);
    self->watched->data = self;
    h2o_socket_read_start(self->watched, on_order);
}

void gw_supervised_report(struct gw_supervised *self, enum gw_packet_type type)
{
    if (self != NULL && !gw_channel_tell(self->orders, type, 0, 0, NULL))
        gw_log(GW_LOG_ERROR, "process", "cannot tell the supervisor: %s", strerror(errno));
}

void gw_supervised_report_failed(struct gw_supervised *self, const char *why)
{
    if (self != NULL && !gw_channel_tell(self->orders, GW_REPORT_FAILED, 0, 0, why))
        gw_log(GW_LOG_ERROR, "process", "cannot tell the supervisor: %s", strerror(errno));
}

static void report(struct gw_supervised *self, const struct gw_packet *packet)
{
    if (!gw_channel_send(self->orders, packet))
        gw_log(GW_LOG_ERROR, "process", "cannot tell the supervisor: %s", strerror(errno));
}

void gw_supervised_report_ready(struct gw_supervised *self, const struct gw_ready *ready,
                                const struct gw_kept_files *kept)
{
    struct gw_packet packet = {.type = GW_REPORT_READY};

    if (self == NULL)
        return;
    memcpy(packet.numbers, ready, sizeof(*ready));
    snprintf(packet.text, sizeof(packet.text), "%s", WEIR_VERSION);
    if (kept != NULL) {
        if ((packet.fds[0] = gw_kept_files_write(kept)) != -1)
            packet.num_fds = 1;
        else
            gw_log(GW_LOG_WARNING, "process", "cannot keep the configuration for a restart: %s", strerror(errno));
    }
    report(self, &packet);
    gw_packet_close_fds(&packet);
}

void gw_supervised_report_tickets(struct gw_supervised *self, const char *text)
{
    struct gw_packet packet = {.type = GW_REPORT_TICKETS};

    if (self == NULL)
        return;
    snprintf(packet.text, sizeof(packet.text), "%s", text);
    report(self, &packet);
    explicit_bzero(packet.text, sizeof(packet.text));
}
