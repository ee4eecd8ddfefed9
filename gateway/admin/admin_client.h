/* The client side of the admin API for the command line: finds the address, asks, reads the answer. Whatever goes wrong
 * is said on standard error. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct gw_admin_client {
    const char *command;                  /* for messages */
    const char *config, *address, *token; /* as given; NULL: not */
    bool is_quiet;                        /* what goes wrong is expected */
};
/* Rows for getopt_long(); what it returns for them goes to gw_admin_client_option(). -c is the short form of --config.
 */
#define GW_ADMIN_CLIENT_OPTIONS                                                                                        \
    {"config", required_argument, NULL, 'c'}, {"admin", required_argument, NULL, 'a'},                                 \
    {                                                                                                                  \
        "token", required_argument, NULL, 'k'                                                                          \
    }
bool gw_admin_client_option(struct gw_admin_client *, int c, const char *value);

/* The JSON of the answer; NULL after an error. status NULL: other answers than 200 are errors; else it receives the
 * status and the caller looks at it. body NULL: none. */
json_t *gw_admin_client_ask(const struct gw_admin_client *, const char *method, const char *path, const char *body,
                            unsigned timeout_s, int *status);
/* The lines of an answer without end; NULL after an error. timeout_s: silence for so long is an error of reading. */
FILE *gw_admin_client_open(const struct gw_admin_client *, const char *path, unsigned timeout_s);

/* "-" where there is no text; 0 where there is no number. */
const char *gw_json_text_in(const json_t *object, const char *key);
int64_t gw_json_number_in(const json_t *object, const char *key);
