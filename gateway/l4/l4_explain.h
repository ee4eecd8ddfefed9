/* `weir explain` for listeners that forward bytes: which target group and target a connection would get. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "gateway/base/ip.h"

struct gw_json;
struct gw_snapshot;
struct gw_l4_question {
    const char *url;      /* tcp://HOST:PORT, tls://HOST:PORT or udp://HOST:PORT; NULL: the listener says it all */
    const char *listener; /* a name; NULL: by the URL's port */
    const char *sni;      /* NULL: the URL's host, if that is a name and the listener looks at it */
    const char *ip;       /* of the client, perhaps with a port behind it; NULL: 127.0.0.1 */
    bool as_json;
};
bool gw_l4_is_question(const char *url);
/* Of this configuration, with the health of its targets as it is: one object. False: problem says why not. On the
 * thread that decides without a worker (gateway/snapshot.h). */
bool gw_l4_explain_json(const struct gw_snapshot *, const struct gw_l4_question *, struct gw_json *, char *problem,
                        size_t problem_size);
/* Loads the configuration, prints the answer; the exit status. */
int gw_l4_explain(const struct gw_l4_question *, const char *config_path);
