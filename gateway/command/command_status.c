/* `weir status`, `weir reload` and `weir upgrade`. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "gateway/admin/admin_client.h"
#include "gateway/command/commands.h"

#define text_in   gw_json_text_in
#define number_in gw_json_number_in

const char gw_status_usage[] = "usage: weir status [-c FILE | --admin ADDRESS [--token TOKEN]] [--json]\n"
                               "  what a running weir serves, target by target\n";
const char gw_reload_usage[] = "usage: weir reload [-c FILE | --admin ADDRESS [--token TOKEN]]\n"
                               "  a running weir loads its configuration anew; says what changed, or why it did not\n";
const char gw_upgrade_usage[] = "usage: weir upgrade [-c FILE | --admin ADDRESS [--token TOKEN]]\n"
                                "  the binary on disk takes over from the one that runs, without a lost request\n";

/* as_json NULL: the command has no --json. */
static bool parse_options(int argc, char **argv, const char *command, struct gw_admin_client *client, bool *as_json)
{
    static const struct option with_json[] = {
        {"json", no_argument, NULL, 'j'}, GW_ADMIN_CLIENT_OPTIONS, {NULL, 0, NULL, 0}};
    int c;

    *client = (struct gw_admin_client){.command = command};
    optind = 1;
    while ((c = getopt_long(argc, argv, "c:", as_json != NULL ? with_json : with_json + 1, NULL)) != -1) {
        if (c == 'j')
            *as_json = true;
        else if (!gw_admin_client_option(client, c, optarg))
            return false;
    }
    if (optind < argc && client->config == NULL)
        client->config = argv[optind++];
    return gw_no_words_left(argc, argv);
}

/* ---- weir status ---- */

static void print_uptime(int64_t s)
{
    if (s >= 86400)
        printf("%" PRId64 " d %" PRId64 " h", s / 86400, s % 86400 / 3600);
    else if (s >= 3600)
        printf("%" PRId64 " h %" PRId64 " min", s / 3600, s % 3600 / 60);
    else if (s >= 60)
        printf("%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
    else
        printf("%" PRId64 " s", s);
}

static void print_head(const json_t *status)
{
    const json_t *reload = json_object_get(status, "last_reload"), *supervisor = json_object_get(status, "supervisor");

    printf("weir %s, pid %" PRId64 ", up ", text_in(status, "version"), number_in(status, "pid"));
    print_uptime(number_in(status, "uptime_s"));
    printf(", %s\n", json_is_true(json_object_get(status, "draining")) ? "draining"
                     : json_is_true(json_object_get(status, "ready"))  ? "ready"
                                                                       : "starting");
    if (number_in(supervisor, "worker_restarts") != 0)
        printf("supervisor: pid %" PRId64 " since %s, workers that died: %" PRId64 "\n", number_in(supervisor, "pid"),
               text_in(supervisor, "started_at"), number_in(supervisor, "worker_restarts"));
    printf("configuration: %s, generation %" PRId64 ", %" PRId64 " routes\n", text_in(status, "config_path"),
           number_in(status, "generation"), number_in(status, "routes"));
    if (json_is_true(json_object_get(reload, "ok")))
        printf("last load: ok at %s\n", text_in(reload, "at"));
    else
        printf("last load: FAILED at %s: %s\n", text_in(reload, "at"), text_in(reload, "error"));
}

static void print_warnings(const json_t *warnings)
{
    size_t i;
    json_t *warning;

    json_array_foreach(warnings, i, warning) printf("WARNING: %s\n", json_string_value(warning));
}

static void print_listeners(const json_t *listeners)
{
    size_t i, j;
    json_t *listener, *address;

    printf("\nlisteners\n");
    json_array_foreach(listeners, i, listener)
    {
        printf("  %-20s", text_in(listener, "name"));
        json_array_foreach(json_object_get(listener, "addresses"), j, address)
            printf(" %s", json_string_value(address));
        if (json_is_integer(json_object_get(listener, "connections")))
            printf(" (%s, %" PRId64 " open)\n", text_in(listener, "protocol"), number_in(listener, "connections"));
        else
            printf("%s\n", json_is_true(json_object_get(listener, "tls")) ? " (TLS)" : "");
    }
}

static void print_certificates(const json_t *certificates)
{
    size_t i, j;
    json_t *certificate, *name;

    if (json_array_size(certificates) == 0)
        return;
    printf("\ncertificates\n");
    json_array_foreach(certificates, i, certificate)
    {
        printf("  %-20s ends %s (%" PRId64 " days)", text_in(certificate, "name"), text_in(certificate, "not_after"),
               number_in(certificate, "days_left"));
        json_array_foreach(json_object_get(certificate, "names"), j, name) printf(" %s", json_string_value(name));
        printf("\n");
    }
}

static void print_override(const json_t *target)
{
    const json_t *override = json_object_get(target, "override");

    if (json_is_true(json_object_get(override, "drain")))
        printf(", drained by an operator (checks: %s)", text_in(target, "checked_state"));
    if (json_is_integer(json_object_get(override, "weight")))
        printf(", weight %" PRId64 " set by an operator (configured: %" PRId64 ")", number_in(override, "weight"),
               number_in(target, "configured_weight"));
}

static void print_ejection(const json_t *target)
{
    const json_t *ejection = json_object_get(target, "ejection");

    if (json_is_object(ejection))
        printf(", ejected (%s) for another %" PRId64 " s", text_in(ejection, "reason"),
               number_in(ejection, "ends_in_ms") / 1000);
}

static void print_sources(const json_t *sources)
{
    size_t i;
    json_t *source;

    json_array_foreach(sources, i, source)
    {
        printf("  from %s %s: %" PRId64 " targets", text_in(source, "kind"), text_in(source, "from"),
               number_in(source, "targets"));
        if (json_is_string(json_object_get(source, "failure")))
            printf(", FAILED: %s", text_in(source, "failure"));
        printf("\n");
    }
}

static void print_target_groups(const json_t *groups)
{
    size_t i, j;
    json_t *group, *target;

    json_array_foreach(groups, i, group)
    {
        printf("\ntarget group %s\n", text_in(group, "name"));
        print_sources(json_object_get(group, "sources"));
        json_array_foreach(json_object_get(group, "targets"), j, target)
        {
            const json_t *status = json_object_get(target, "last_status");
            printf("  %-28s %-10s", text_in(target, "target"), text_in(target, "state"));
            if (strcmp(text_in(target, "source"), "static") != 0)
                printf(" (%s)", text_in(target, "source"));
            if (strcmp(text_in(target, "reason"), "-") != 0)
                printf(" %s", text_in(target, "reason"));
            if (json_is_integer(status))
                printf(" (last status %" PRId64 ")", (int64_t)json_integer_value(status));
            if (json_is_string(json_object_get(target, "since")))
                printf(" since %s", text_in(target, "since"));
            print_override(target);
            print_ejection(target);
            if (number_in(target, "in_flight") != 0)
                printf(", %" PRId64 " in flight", number_in(target, "in_flight"));
            printf("\n");
        }
    }
}

static void print_status(const json_t *status)
{
    const json_t *connections = json_object_get(status, "connections"), *requests = json_object_get(status, "requests");

    print_head(status);
    print_warnings(json_object_get(status, "warnings"));
    print_listeners(json_object_get(status, "listeners"));
    print_certificates(json_object_get(status, "certificates"));
    print_target_groups(json_object_get(status, "target_groups"));
    printf("\n%zu threads; connections: %" PRId64 " open, %" PRId64 " accepted; requests: %" PRId64
           " in flight, %" PRId64 " in all\n",
           json_array_size(json_object_get(status, "threads")), number_in(connections, "open"),
           number_in(connections, "accepted"), number_in(requests, "in_flight"), number_in(requests, "total"));
    printf("memory: %.1f MiB resident\n",
           (double)number_in(json_object_get(status, "memory"), "resident_bytes") / (1024 * 1024));
    if (number_in(status, "access_log_dropped") != 0)
        printf("access log: %" PRId64 " lines were dropped\n", number_in(status, "access_log_dropped"));
}

int gw_command_status(int argc, char **argv)
{
    struct gw_admin_client client;
    json_t *status;
    bool as_json = false;

    if (!parse_options(argc, argv, "status", &client, &as_json))
        return gw_misused(gw_status_usage);
    if ((status = gw_admin_client_ask(&client, "GET", "/api/v1/status", NULL, 10, NULL)) == NULL)
        return 1;
    if (as_json) {
        json_dumpf(status, stdout, JSON_INDENT(2));
        printf("\n");
    } else {
        print_status(status);
    }
    json_decref(status);
    return 0;
}

/* ---- weir reload ---- */

int gw_command_reload(int argc, char **argv)
{
    struct gw_admin_client client;
    json_t *result;
    bool ok;
    int status;

    if (!parse_options(argc, argv, "reload", &client, NULL))
        return gw_misused(gw_reload_usage);
    if ((result = gw_admin_client_ask(&client, "POST", "/api/v1/reload", NULL, 70, &status)) == NULL)
        return 1;
    ok = json_is_true(json_object_get(result, "ok"));
    if (ok)
        printf("generation %" PRId64 " is serving%s%s\n", number_in(result, "generation"),
               json_is_string(json_object_get(result, "changes")) ? ": " : "",
               json_is_string(json_object_get(result, "changes")) ? text_in(result, "changes") : "");
    else if (json_object_get(result, "error") != NULL)
        fprintf(stderr, "%s\nweir reload: failed; generation %" PRId64 " goes on serving\n", text_in(result, "error"),
                number_in(result, "generation"));
    else
        fprintf(stderr, "weir reload: %s\n", text_in(result, "message"));
    json_decref(result);
    return ok ? 0 : 1;
}

/* ---- weir upgrade ---- */

enum { UPGRADE_PATIENCE_S = 3700 }; /* beyond the longest upgrade.ready_timeout */

int gw_command_upgrade(int argc, char **argv)
{
    struct gw_admin_client client;
    json_t *result;
    int status;

    if (!parse_options(argc, argv, "upgrade", &client, NULL))
        return gw_misused(gw_upgrade_usage);
    if ((result = gw_admin_client_ask(&client, "POST", "/api/v1/upgrade", NULL, UPGRADE_PATIENCE_S, &status)) == NULL)
        return 1;
    if (status == 200)
        printf("weir %s is serving\n", text_in(result, "version"));
    else
        fprintf(stderr, "weir upgrade: failed: %s; the binary that runs goes on\n", text_in(result, "message"));
    json_decref(result);
    return status == 200 ? 0 : 1;
}
