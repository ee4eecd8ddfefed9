/* The last requests that weir itself answered with an error or ended early, for operators: what, when, for whom, and
 * with the reason code. Each worker keeps what happened since it last told; four times a second that goes to the
 * control thread, which keeps the last GW_RECENT_MAX of all threads. */
#pragma once
#include "gateway/process.h"

enum { GW_RECENT_MAX = 200 };

/* Texts are cut to what fits, NUL-terminated, and may hold any other bytes. */
struct gw_recent_error {
    uint64_t wall_ms, duration_us;
    enum gw_reason reason;
    int status; /* 0: nothing was sent */
    struct gw_ip client;
    char method[17], host[65], path[129], route[65], group[65], target[65], request_id[37];
    char detail[97]; /* further detail, or "" */
};

/* Reasons that say something went wrong; a redirect is none. */
bool gw_recent_is_error(enum gw_reason);
/* The service failed, not the client: 5xx, or a response cut off on the target's side. */
bool gw_recent_is_ours(const struct gw_request *);

/* Worker's thread. */
void gw_recent_note(struct gw_worker *, const struct gw_request *);
void gw_recent_flush(struct gw_worker *);

/* Control thread. Zero to begin; entries from the newest (0) on. */
struct gw_recent {
    struct gw_recent_error *entries; /* GW_RECENT_MAX; NULL: none yet */
    uint64_t kept, total;            /* ever: written here; happened */
};
void gw_recent_dispose(struct gw_recent *);
size_t gw_recent_size(const struct gw_recent *);
const struct gw_recent_error *gw_recent_at(const struct gw_recent *, size_t i);
void gw_recent_add(struct gw_recent *, const struct gw_recent_error *);
