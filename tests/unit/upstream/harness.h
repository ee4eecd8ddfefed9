/* A loop, a pool, and an origin whose every byte the test sends and reads itself, all on one thread: what the origin
 * does and what the client sees happens in the order of the lines of the test. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "gateway/upstream/client.h"

extern struct gw_thread thread; /* one for all tests of a program: loops are for ever */
extern struct gw_pool *pool;    /* a new one for each test */
extern struct gw_pool_limits limits;
extern struct gw_client_timeouts timeouts;

/* Turns the loop until the condition holds; fails after a minute. */
#define UNTIL(condition)                                                                                               \
    for (uint64_t begin_ms_ = gw_now_ms(); !(condition);) {                                                            \
        if (gw_now_ms() - begin_ms_ > 60000)                                                                           \
            fail_msg("never came true: %s", #condition);                                                               \
        turn();                                                                                                        \
    }
void turn(void);
/* Turns until nothing is left to do for the bytes that were sent so far. */
void settle(void);

/* --- the origin --- */
struct origin {
    int listener;
    struct gw_endpoint endpoint;
    char path[108]; /* AF_UNIX */
};
void origin_open(struct origin *, int family);
bool has_ipv6(void); /* containers often have none: tests of it skip() there */
void origin_close(struct origin *);
int origin_accept(struct origin *);
bool origin_has_connection(struct origin *);   /* one waits to be accepted */
void origin_expect(int fd, const char *bytes); /* exactly these come next */
void origin_expect_head(int fd);               /* something up to an empty line */
void origin_expect_end(int fd);                /* the client closed, cleanly or not */
void origin_send(int fd, const char *text);
void origin_send_bytes(int fd, const char *bytes, size_t len); /* turns the loop while the socket is full */
void origin_reset(int fd);                                     /* close with RST */
#define OK_RESPONSE "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

/* --- an attempt and what became of it --- */
enum callback { ON_NONE, ON_STARTED, ON_HEAD, ON_BODY, ON_LAST, ON_DRAINED, ON_ERROR };
struct attempt {
    struct gw_client *client;
    char events[256]; /* "started head body last", in order, repeated bodies once */
    bool is_reused, body_follows, has_ended, retry_is_safe;
    enum gw_client_error error;
    int status;
    char *body;
    size_t body_len;
    size_t held;        /* given and not consumed */
    bool holds_back;    /* does not consume */
    bool keeps_no_copy; /* body is counted, checked against pattern() and not kept */
    size_t num_drained;
    enum callback release_in;     /* the callback that releases the client */
    char reason[64], field_a[64]; /* of the head: phrase, value of the field "a" */
    const struct gw_response_head *head;
    uint64_t ended_at_ms;
};
extern const struct gw_client_callbacks attempt_callbacks;
struct gw_client_request get_request(void); /* GET / HTTP/1.1, host: origin, no fields */
void attempt_start(struct attempt *, struct origin *, const struct gw_client_request *);
void attempt_start_anew(struct attempt *, struct origin *, const struct gw_client_request *); /* no reuse */
void attempt_get(struct attempt *, struct origin *);
void attempt_release(struct attempt *); /* and forgets what was recorded */
char pattern(uint64_t offset);          /* the byte at an offset of a generated body */
/* A whole GET: starts, answers with response, waits for the end, checks that it went well. fd: -1 = accept one. Returns
 * it. */
int exchange(struct origin *, int fd, const char *response);

/* One origin (IPv4) and one attempt, which is all that most tests need. */
extern struct origin origin;
extern struct attempt a;
int setup_attempt(void **);
int teardown_attempt(void **);
uint64_t num_idle(void); /* connections in the pool */

int setup_thread(void **);
int setup_pool(void **);
int teardown_pool(void **);
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup_pool, teardown_pool)
