/* Pipes through which splice(2) moves bytes from socket to socket without copying them. A connection has one only while
 * bytes fill its reads; few are kept for the next. All of it on the loop of the worker. */
#pragma once
#include "gateway/worker.h"

enum { GW_L4_PIPE_SIZE = 256 * 1024 };

struct gw_l4_pipe {
    int from, to; /* read, written */
    struct gw_l4_pipe *next;
};

/* Empty. NULL: enough are in use in this thread, or the system has none. */
struct gw_l4_pipe *gw_l4_pipe_take(struct gw_worker *);
/* One with bytes in it is closed. NULL is fine. */
void gw_l4_pipe_give_back(struct gw_worker *, struct gw_l4_pipe *, bool is_empty);
