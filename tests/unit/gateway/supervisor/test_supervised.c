#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "gateway/supervisor/channel.h"
#include "gateway/supervisor/inventory.h"
#include "gateway/supervisor/supervised.h"

enum { QUESTIONS = 2000 };

/* The supervisor's end: answers every question for sockets with a descriptor, until the worker's end is closed. */
static void *answer_questions(void *data)
{
    int sockets = *(int *)data;
    struct gw_packet question;

    while (gw_channel_receive(sockets, true, &question) == GW_CHANNEL_PACKET) {
        struct gw_packet answer = {.type = GW_SOCKETS_HERE, .numbers = {0, question.numbers[1]}};
        if (question.type == GW_SOCKETS_OPEN) {
            answer.fds[0] = sockets;
            answer.num_fds = 1;
        }
        if (!gw_channel_send(sockets, &answer))
            break;
    }
    return NULL;
}

struct asker {
    struct gw_supervised *supervised;
    unsigned num_answered;
};

static void *open_again_and_again(void *data)
{
    struct asker *asker = data;
    struct gw_inventory_error error;
    unsigned num_fds;
    int *fds;

    for (unsigned i = 0; i != QUESTIONS; ++i) {
        if (!gw_supervised_open(asker->supervised, GW_SOCKET_UDP, "127.0.0.1:53", 1, &fds, &num_fds, &error))
            break; /* it has waited half a minute for the answer: once is enough */
        for (unsigned j = 0; j != num_fds; ++j)
            close(fds[j]);
        free(fds);
        ++asker->num_answered;
    }
    return NULL;
}

static struct gw_supervised *create(int orders[2], int sockets[2])
{
    struct gw_packet hello = {.type = GW_ORDER_HELLO};
    char ends[32];

    assert_true(gw_channel_create(orders) && gw_channel_create(sockets));
    assert_true(gw_channel_send(orders[0], &hello));
    snprintf(ends, sizeof(ends), "%d,%d", orders[1], sockets[1]);
    return gw_supervised_create(ends);
}

static void threads_that_ask_at_the_same_time_each_get_their_answer(void **state)
{
    int orders[2], sockets[2];
    struct gw_supervised *supervised = create(orders, sockets);
    struct asker load = {supervised, 0}, control = {supervised, 0};
    pthread_t supervisor, loader;

    assert_non_null(supervised);
    assert_int_equal(pthread_create(&supervisor, NULL, answer_questions, &sockets[0]), 0);
    assert_int_equal(pthread_create(&loader, NULL, open_again_and_again, &load), 0);
    open_again_and_again(&control);
    pthread_join(loader, NULL);
    assert_int_equal(control.num_answered, QUESTIONS);
    assert_int_equal(load.num_answered, QUESTIONS);
    gw_supervised_destroy(supervised);
    pthread_join(supervisor, NULL);
    close(sockets[0]);
    close(orders[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_that_ask_at_the_same_time_each_get_their_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
