/* limits.http2: what a client may ask of one HTTP/2 connection. */
#include "gateway/config/config.h"

#define FIELD(field) offsetof(struct gw_http2_conf, field)
static const struct gw_setting http2_settings[] = {
    {"max_streams", GW_NUMBER, FIELD(max_streams), "Most requests at a time on one connection.", .initial = 128,
     .min = 1, .max = 10000},
    {"stream_window", GW_SIZE, FIELD(stream_window), "Bytes of a request body that may wait for its target.",
     .initial = 64 << 10, .min = 1 << 10, .max = INT32_MAX},
    {"connection_window", GW_SIZE, FIELD(connection_window),
     "The same for all bodies of a connection together; never below 64 KiB, which is where HTTP/2 begins.",
     .initial = 1 << 20, .min = 64 << 10, .max = INT32_MAX},
    {"ping_interval", GW_DURATION, FIELD(ping_interval_ms),
     "Connections in use from which nothing came for so long are asked for a sign of life. 0: never.", .initial = 30000,
     .max = 86400000},
    {"ping_timeout", GW_DURATION, FIELD(ping_timeout_ms), "How long they may take to give it.", .initial = 15000,
     .min = 10, .max = 3600000},
    {"settings_timeout", GW_DURATION, FIELD(settings_timeout_ms),
     "How long a client may take to acknowledge our SETTINGS before GOAWAY, SETTINGS_TIMEOUT (RFC 9113 6.5.3); the "
     "clock stands still while bytes are on their way to it. 0: for ever.",
     .initial = 10000, .max = 3600000},
#define X(name, setting, initial_value, help_text)                                                                     \
    {                                                                                                                  \
        setting,                                                                                                       \
        GW_NUMBER,                                                                                                     \
        FIELD(budgets[GW_HTTP2_##name]),                                                                               \
        help_text " 0 is unlimited.",                                                                                  \
        .initial = initial_value,                                                                                      \
        .max = 1000000},
    GW_HTTP2_BUDGETS(X)
#undef X
        {0},
};

const struct gw_section gw_http2_section = {
    .name = "http2 section",
    .help = "What a client may ask of one HTTP/2 connection. Whoever spends a budget gets GOAWAY, ENHANCE_YOUR_CALM.",
    .size = sizeof(struct gw_http2_conf),
    .settings = http2_settings,
};
