/* The `tests:` of a configuration: requests, and what is expected of them. Read with the rest and otherwise left alone
 * by serving; `weir test` asks them (command_test.c). */
#pragma once
#include "gateway/base/settings.h"

struct gw_test_request_conf {
    const struct gw_node *at;
    h2o_iovec_t url;         /* http or https, NUL-terminated */
    h2o_iovec_t method;      /* default GET */
    struct gw_pairs headers; /* a Host among them replaces the URL's */
    h2o_iovec_t ip;          /* of the TCP peer, default 127.0.0.1 */
    h2o_iovec_t listener;    /* base NULL: by port and scheme of the URL */
};

/* Texts with base NULL are not looked at. */
struct gw_test_expect_conf {
    const struct gw_node *at;
    h2o_iovec_t listener, certificate, client_ip, path;
    h2o_iovec_t route;  /* "-": none */
    uint64_t status;    /* UINT64_MAX: not looked at */
    h2o_iovec_t reason; /* "-": the target's own answer */
    h2o_iovec_t target_group, target_url, location;
    struct gw_pairs headers, target_headers;
};

struct gw_test_conf {
    const struct gw_node *at;
    h2o_iovec_t name; /* base NULL: none */
    struct gw_test_request_conf request;
    struct gw_test_expect_conf expect;
};

extern const struct gw_section gw_test_section; /* struct gw_test_conf */
