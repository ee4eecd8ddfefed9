/* What threads say to each other: closures that the other one's loop runs. */
#pragma once
#include <h2o.h>
#include <stdint.h>

struct gw_process;
struct gw_worker;

/* A closure that runs on the worker's (or the control thread's) loop; freed after it ran. */
struct gw_message {
    h2o_multithread_message_t super;
    void (*run)(struct gw_message *);
    struct gw_worker *worker;
    struct gw_process *process;
    void *data;
    uint64_t number;
};

/* To the thread of the worker, and to the control thread; by any thread. Messages of one thread arrive in their order.
 */
void gw_worker_tell(struct gw_worker *, void (*run)(struct gw_message *), void *data);
void gw_worker_tell_number(struct gw_worker *, void (*run)(struct gw_message *), uint64_t number);
void gw_process_tell(struct gw_process *, void (*run)(struct gw_message *), struct gw_worker *from, void *data);
void gw_process_tell_number(struct gw_process *, void (*run)(struct gw_message *), struct gw_worker *from, void *data,
                            uint64_t number);

/* The receiver of both. */
void gw_message_receive(h2o_multithread_receiver_t *, h2o_linklist_t *messages);
