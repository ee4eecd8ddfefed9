#include "gateway/l4/l4_pipe.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    IN_USE_MAX = 32, /* of a thread: 64 descriptors, and 8 MiB in them when nobody reads; others copy */
    IDLE_MAX = 4,
};

struct gw_l4_pipes {
    struct gw_l4_pipe *idle;
    unsigned num_idle, num_in_use;
};

static struct gw_l4_pipe *open_pipe(void)
{
    struct gw_l4_pipe *pipe;
    int fds[2];

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return NULL;
    fcntl(fds[1], F_SETPIPE_SZ, GW_L4_PIPE_SIZE); /* users have so much in all; then it has its usual 64 KiB */
    pipe = h2o_mem_alloc(sizeof(*pipe));
    *pipe = (struct gw_l4_pipe){fds[0], fds[1], NULL};
    return pipe;
}

static void close_pipe(struct gw_l4_pipe *pipe)
{
    close(pipe->from);
    close(pipe->to);
    free(pipe);
}

struct gw_l4_pipe *gw_l4_pipe_take(struct gw_worker *worker)
{
    struct gw_l4_pipes *pipes = worker->l4_pipes;
    struct gw_l4_pipe *pipe;

    if (pipes == NULL) {
        pipes = worker->l4_pipes = h2o_mem_alloc(sizeof(*pipes));
        memset(pipes, 0, sizeof(*pipes));
    }
    if (pipes->num_in_use == IN_USE_MAX)
        return NULL;
    if ((pipe = pipes->idle) != NULL) {
        pipes->idle = pipe->next;
        --pipes->num_idle;
    } else if ((pipe = open_pipe()) == NULL) {
        return NULL;
    }
    ++pipes->num_in_use;
    return pipe;
}

void gw_l4_pipe_give_back(struct gw_worker *worker, struct gw_l4_pipe *pipe, bool is_empty)
{
    struct gw_l4_pipes *pipes = worker->l4_pipes;

    if (pipe == NULL)
        return;
    --pipes->num_in_use;
    if (!is_empty || pipes->num_idle == IDLE_MAX) {
        close_pipe(pipe);
        return;
    }
    pipe->next = pipes->idle;
    pipes->idle = pipe;
    ++pipes->num_idle;
}
