/* `weir explain` for listeners that forward bytes: which target group and target a connection would get. */
#pragma once
#include <stdbool.h>

struct gw_l4_question {
    const char *url;      /* tcp://HOST:PORT or tls://HOST:PORT; NULL: the listener says it all */
    const char *listener; /* a name; NULL: by the URL's port */
    const char *sni;      /* NULL: the URL's host, if that is a name and the listener looks at it */
    bool as_json;
};
bool gw_l4_is_question(const char *url);
/* Loads the configuration, prints the answer; the exit status. */
int gw_l4_explain(const struct gw_l4_question *, const char *config_path);
