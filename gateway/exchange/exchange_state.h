/* Inside of an exchange, shared by exchange.c (the bodies and the life), exchange_try.c (one target being asked),
 * exchange_retry.c (who is asked after it), kept_body.c and lambda/. For nobody else. */
#pragma once
#include "gateway/exchange/exchange.h"
#include "gateway/process.h"
#include "gateway/observe/timeline.h"
#include "gateway/exchange/tunnel.h"

enum {
    GW_EXCHANGE_TRIES = 2, /* at a time: the second one is a hedge */
    GW_STALE_TRIES = 3,    /* in all, before requests on connections that turn out to be dead are given up */
};

/* One target being asked. */
struct gw_try {
    struct gw_exchange *exchange;
    struct gw_client *client;    /* NULL: nothing is under way */
    struct gw_target_slot *slot; /* of the target */
    struct gw_attempt *noted;    /* NULL: no timeline */
    const struct routing_target_group *group;
    struct routing_target_load *load; /* a place at the target; NULL: the group does not count */
    uint64_t started_us;              /* where the group asks for latencies */
    uint32_t target;                  /* index in the group */
    bool is_started;                  /* its head was sent: body may be written */
    struct gw_timer timer;            /* retry.per_try_timeout */
    struct gw_invocation *invocation; /* of a function, lambda/lambda.c's; NULL: none so far */
};

struct gw_exchange {
    h2o_generator_t generator; /* of the response */
    struct gw_request *request;
    struct gw_try tries[GW_EXCHANGE_TRIES];
    struct gw_try *now; /* whose response is, or will be, the client's; the body goes to it */
    struct gw_client_request out;
    const struct routing_retry_conf *policy; /* of the route, the group, or the default; never NULL */
    uint64_t tried;                          /* bit set of target indexes of tried_of */
    const struct routing_target_group *tried_of;
    uint32_t tries_in_group;  /* begun with the group */
    struct gw_mirror *mirror; /* collects the body; NULL: no copy is made, or it is on its way */
    /* request body */
    h2o_iovec_t piece;   /* what the stream gave last and has not been told consumed */
    uint64_t body_bytes; /* so far */
    bool piece_is_last;
    bool body_began;   /* the stream has been asked for it */
    bool body_is_lost; /* bytes were consumed and not kept: no other try can send them again */
    bool is_writing;   /* the client holds `piece` */
    bool is_gathering; /* the body is taken in whole before the first try: a function gets it in an event */
    bool is_gathered;  /* `kept` counts as limits.lambda_buffers, not as limits.retry_buffers */
    char *kept;        /* the body so far, to be sent again; NULL: it is not kept (any more). Owned */
    size_t kept_size, kept_room;
    /* response body */
    H2O_VECTOR(h2o_iovec_t) pending; /* not yet handed to h2o_send; few_pending to begin with */
    size_t in_flight;                /* bytes handed to h2o_send, not yet consumed */
    bool head_is_ready;              /* status and headers are set, the response has not begun */
    bool is_sending;
    bool is_last; /* the last body bytes are pending or sent */
    struct gw_deferred flush;
    const struct routing_target_group *entered[2]; /* groups with limits that count this request */
    struct routing_load *retrying;                 /* that counts its retries; NULL: none */
    struct gw_timer pause;                         /* before the next try */
    struct gw_timer hedge;                         /* hedge.after */
    struct gw_timer total;                         /* timeouts.total */
    struct gw_tunnel *tunnel;                      /* after a 101; NULL: none */
    struct gw_lambda *lambda;                      /* the request as an event, lambda/lambda.c's; NULL: it is none */
    h2o_iovec_t few_pending[2];
};

#define GW_NOTE(exchange, call)                                                                                        \
    do {                                                                                                               \
        if (__builtin_expect((exchange)->request->timeline != NULL, 0))                                                \
            call;                                                                                                      \
    } while (0)

/* exchange.c: what the client reports of a try. */
extern const struct gw_client_callbacks gw_exchange_callbacks;
/* The exchange failed for good: answers, or cuts the response off. Every try is let go of. */
void gw_exchange_fail(struct gw_exchange *, enum gw_reason, const char *detail);
/* Asks the client for the body; on_request_body gets it. */
void gw_exchange_take_body(struct gw_exchange *);
/* Answers with a response that is there as a whole and all in the request's pool. Every try has ended. */
struct gw_whole_response {
    int status;
    const char *reason; /* phrase; NULL: the usual one */
    h2o_headers_t fields;
    h2o_iovec_t body;
};
void gw_exchange_answer(struct gw_exchange *, struct gw_whole_response *);

/* exchange_try.c */
/* The time of its target is over: it ends within this turn or the next. */
void gw_exchange_cut(struct gw_exchange *);
/* What holds for the request's route and group; never NULL. */
const struct routing_retry_conf *gw_exchange_policy(const struct gw_request *);
/* The policies and the time limits of the exchange as a whole. */
void gw_exchange_begin(struct gw_exchange *);
/* Asks the target chosen by gw_exchange_choose. */
void gw_exchange_first_try(struct gw_exchange *);
void gw_exchange_start_try(struct gw_try *, uint32_t target, bool allow_reuse);
void gw_exchange_arm(struct gw_exchange *, struct gw_timer *, void (*on_due)(struct gw_timer *), uint64_t ms);
/* `tried` is about request->group from here on. */
void gw_exchange_begin_tried(struct gw_exchange *);
void gw_exchange_note_head(struct gw_try *, int status);
/* Its response is there as a whole. The places at the target and in the group's limits are free before the client gets
 * the last byte: however slowly it reads, and whichever thread takes its next request. */
void gw_exchange_target_is_done(struct gw_try *);
void gw_exchange_end_try(struct gw_try *);
void gw_exchange_end_tries(struct gw_exchange *); /* with every timer of theirs */
void gw_exchange_note_end(struct gw_try *, enum gw_client_error);
/* Counts the request at its group. False: the group takes no more; the reason is set. */
bool gw_exchange_enter(struct gw_exchange *, enum gw_reason *);
void gw_exchange_leave_limits(struct gw_exchange *);
static inline void gw_exchange_leave(struct gw_exchange *exchange)
{
    if (__builtin_expect(exchange->entered[0] != NULL || exchange->retrying != NULL, 0))
        gw_exchange_leave_limits(exchange);
}

/* exchange_retry.c */
/* Hedges, and the share of the budget that the request pays in. */
void gw_exchange_begin_policies(struct gw_exchange *);
/* The try failed. True: another one goes on or will be made, the exchange needs nothing more. False: its error is the
 * exchange's; the try still holds its client. */
bool gw_exchange_try_failed(struct gw_try *, enum gw_client_error, bool is_safe);
/* The try has a response head. True: the head is not passed on, another try will be made. */
bool gw_exchange_try_answered(struct gw_try *, int status);
/* What came back is nothing that can be passed on. */
struct gw_refusal {
    uint32_t failure;  /* ROUTING_FAILURE_*, 0: none that has a name */
    int status;        /* that the client would get, to be looked for in `on` */
    int target_status; /* of the target, as far as it is to blame; 0: it gave no proper answer */
    bool is_untouched; /* nothing was done with the request, whatever its method */
};
bool gw_exchange_try_refused(struct gw_try *, const struct gw_refusal *);
/* The try's response is the client's: a rival is let go of. */
void gw_exchange_win(struct gw_try *);

/* kept_body.c */
/* Keeps a piece of the body for further tries, as far as the policy and limits.retry_buffers allow. */
void gw_exchange_keep(struct gw_exchange *, h2o_iovec_t piece);
/* Keeps it whatever these say, for a group that needs all of it; false: limits.lambda_buffers is used up. */
bool gw_exchange_gather(struct gw_exchange *, h2o_iovec_t piece);
void gw_exchange_forget_body(struct gw_exchange *);
