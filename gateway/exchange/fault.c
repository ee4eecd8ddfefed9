#include "gateway/exchange/fault.h"
#include <inttypes.h>
#include <string.h>
#include "gateway/answer/answer.h"
#include "gateway/base/hash.h"
#include "gateway/process.h"

struct gw_fault {
    struct gw_request *request;
    unsigned status; /* of the error that follows the delay; 0: none does */
    struct gw_timer timer;
};

static bool draw(struct gw_request *request, double percent)
{
    return percent >= 100 ||
           (percent > 0 && gw_unit_interval(gw_thread_random(&request->worker->thread)) * 100 < percent);
}

/* The value of the only field of that name, a decimal number of at most six digits; -1 if it is anything else. */
static long read_number(const struct gw_request *request, const char *name, size_t len)
{
    const h2o_header_t *found = NULL;
    long n = 0;

    for (size_t i = 0; i != request->facts.num_headers; ++i) {
        const h2o_header_t *header = &request->facts.headers[i];
        if (!h2o_lcstris(header->name->base, header->name->len, name, len))
            continue;
        if (found != NULL)
            return -1;
        found = header;
    }
    if (found == NULL || found->value.len == 0 || found->value.len > 6)
        return -1;
    for (size_t i = 0; i != found->value.len; ++i) {
        if (found->value.base[i] < '0' || found->value.base[i] > '9')
            return -1;
        n = n * 10 + (found->value.base[i] - '0');
    }
    return n;
}

/* What the client asks for stands above the settings, and is no matter of chance. */
static void read_headers(const struct gw_request *request, const struct routing_fault_conf *conf, uint64_t *delay_ms,
                         unsigned *status)
{
    if (conf->by_header == ROUTING_FAULT_BY_NOBODY ||
        (conf->by_header == ROUTING_FAULT_BY_TRUSTED && !request->client_is_trusted))
        return;
    long wanted = read_number(request, H2O_STRLIT("x-weir-fault-delay"));
    if (wanted >= 0)
        *delay_ms = (uint64_t)wanted < conf->max_delay_ms ? (uint64_t)wanted : conf->max_delay_ms;
    wanted = read_number(request, H2O_STRLIT("x-weir-fault-abort"));
    if (wanted >= 400 && wanted <= 599)
        *status = (unsigned)wanted;
}

static enum gw_step refuse(struct gw_request *request, unsigned status)
{
    gw_count(&request->worker->stats.fault_aborts, 1);
    gw_answer_error(request, GW_REASON_FAULT_INJECTED, (int)status);
    return GW_ANSWERED;
}

static void on_delay_over(struct gw_timer *timer)
{
    struct gw_fault *fault = H2O_STRUCT_FROM_MEMBER(struct gw_fault, timer, timer);

    if (fault->status != 0)
        refuse(fault->request, fault->status);
    else
        gw_pipeline_resume(fault->request);
}

static enum gw_step wait(struct gw_request *request, uint64_t delay_ms, unsigned status)
{
    struct gw_thread *thread = &request->worker->thread;
    struct gw_fault *fault = h2o_mem_alloc_pool(request->pool, sizeof(*fault));

    gw_count(&request->worker->stats.fault_delays, 1);
    *fault = (struct gw_fault){request, status};
    request->fault = fault;
    gw_timer_init(&fault->timer, on_delay_over);
    gw_timer_arm(thread->wheel, &fault->timer, gw_thread_now(thread) + delay_ms);
    return GW_PARKED;
}

/* What a header asks for is certain, so explain may end with it; what is drawn may be or not. */
static enum gw_step tell(struct gw_request *request, const struct routing_fault_conf *conf)
{
    uint64_t delay_ms = 0;
    unsigned status = 0;

    read_headers(request, conf, &delay_ms, &status);
    if (delay_ms != 0)
        gw_trace(request->trace, "fault", conf->at, "waits %" PRIu64 "ms (x-weir-fault-delay)", delay_ms);
    else if (conf->delay != NULL)
        gw_trace(request->trace, "fault", conf->delay->at, "%g%% of the requests wait %" PRIu64 "ms",
                 conf->delay->percent, conf->delay->duration_ms);
    if (status == 0 && conf->abort != NULL && conf->abort->percent >= 100)
        status = (unsigned)conf->abort->status;
    if (status != 0) {
        request->reason = GW_REASON_FAULT_INJECTED;
        request->status = (int)status;
        gw_trace(request->trace, "answer", conf->at, "%u %s", status, gw_reason_info(GW_REASON_FAULT_INJECTED)->code);
        return GW_ANSWERED;
    }
    if (conf->abort != NULL)
        gw_trace(request->trace, "fault", conf->abort->at, "%g%% of the requests are answered %" PRIu64,
                 conf->abort->percent, conf->abort->status);
    return GW_NEXT;
}

enum gw_step gw_fault_stage(struct gw_request *request)
{
    const struct routing_fault_conf *conf = GW_ROUTE_MORE(request->route, fault);
    uint64_t delay_ms = 0;
    unsigned status = 0;

    if (__builtin_expect(conf == NULL, 1))
        return GW_NEXT;
    if (request->stream == NULL)
        return tell(request, conf);
    if (conf->delay != NULL && draw(request, conf->delay->percent))
        delay_ms = conf->delay->duration_ms;
    if (conf->abort != NULL && draw(request, conf->abort->percent))
        status = (unsigned)conf->abort->status;
    read_headers(request, conf, &delay_ms, &status);
    if (delay_ms != 0)
        return wait(request, delay_ms, status);
    return status != 0 ? refuse(request, status) : GW_NEXT;
}

void gw_fault_release(struct gw_request *request)
{
    if (request->fault != NULL)
        gw_timer_disarm(&request->fault->timer);
    request->fault = NULL;
}
