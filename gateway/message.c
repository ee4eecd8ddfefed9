#include "gateway/message.h"
#include <stdlib.h>
#include "gateway/process.h"

static struct gw_message *create_message(void (*run)(struct gw_message *), struct gw_worker *worker,
                                         struct gw_process *process, void *data)
{
    struct gw_message *message = h2o_mem_alloc(sizeof(*message));
    *message = (struct gw_message){{{NULL}}, run, worker, process, data, 0};
    return message;
}

void gw_worker_tell(struct gw_worker *worker, void (*run)(struct gw_message *), void *data)
{
    h2o_multithread_send_message(&worker->receiver, &create_message(run, worker, worker->process, data)->super);
}

void gw_worker_tell_number(struct gw_worker *worker, void (*run)(struct gw_message *), uint64_t number)
{
    struct gw_message *message = create_message(run, worker, worker->process, NULL);
    message->number = number;
    h2o_multithread_send_message(&worker->receiver, &message->super);
}

void gw_process_tell(struct gw_process *process, void (*run)(struct gw_message *), struct gw_worker *from, void *data)
{
    h2o_multithread_send_message(&process->control_receiver, &create_message(run, from, process, data)->super);
}

void gw_process_tell_number(struct gw_process *process, void (*run)(struct gw_message *), struct gw_worker *from,
                            void *data, uint64_t number)
{
    struct gw_message *message = create_message(run, from, process, data);
    message->number = number;
    h2o_multithread_send_message(&process->control_receiver, &message->super);
}

void gw_message_receive(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    while (!h2o_linklist_is_empty(messages)) {
        struct gw_message *message = H2O_STRUCT_FROM_MEMBER(struct gw_message, super.link, messages->next);
        h2o_linklist_unlink(&message->super.link);
        message->run(message);
        free(message);
    }
}
