/* `weir target drain|enable|weight|reset GROUP TARGET [N]`: an operator's word over a target, without a reload. */
#include <ctype.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <h2o.h>
#include "gateway/admin/admin.h"
#include "gateway/admin/admin_client.h"

static int usage(void)
{
    fputs("usage: weir target drain  GROUP TARGET    no new requests, whatever its health checks find\n"
          "       weir target enable GROUP TARGET    end a drain\n"
          "       weir target weight GROUP TARGET N  another weight, from 0 to 999\n"
          "       weir target reset  GROUP TARGET    forget both: as configured\n"
          "       [-c FILE | --admin ADDRESS [--token TOKEN]]\n"
          "  It holds until it is reset or the process ends; reloads leave it alone. `weir status` shows it.\n",
          stderr);
    return 2;
}

/* Percent-encodes what is not plain. */
static void put_segment(FILE *out, const char *text)
{
    fputc('/', out);
    for (; *text != '\0'; ++text) {
        if (isalnum((unsigned char)*text) || strchr("-._~:", *text) != NULL)
            fputc(*text, out);
        else
            fprintf(out, "%%%02X", (unsigned char)*text);
    }
}

static char *path_of(const char *action, const char *group, const char *target)
{
    char *path;
    size_t len;
    FILE *out = open_memstream(&path, &len);

    if (out == NULL)
        h2o_fatal("no memory");
    fputs("/api/v1/target_groups", out);
    put_segment(out, group);
    fputs("/targets", out);
    put_segment(out, target);
    fprintf(out, "/%s", action);
    fclose(out);
    return path;
}

static bool parse_options(int argc, char **argv, struct gw_admin_client *client)
{
    static const struct option names[] = {GW_ADMIN_CLIENT_OPTIONS, {NULL, 0, NULL, 0}};
    int c;

    *client = (struct gw_admin_client){.command = "target"};
    optind = 1;
    while ((c = getopt_long(argc, argv, "c:", names, NULL)) != -1)
        if (!gw_admin_client_option(client, c, optarg))
            return false;
    return true;
}

/* The words after the options; body (64 bytes) receives the request's. */
static bool parse_words(int num_words, char **words, char *body)
{
    static const char *const actions[] = {"drain", "enable", "reset", "weight"};
    bool is_known = false, has_weight = num_words == 4;
    char *end;

    for (size_t i = 0; num_words != 0 && i != sizeof(actions) / sizeof(actions[0]); ++i)
        is_known |= strcmp(words[0], actions[i]) == 0;
    body[0] = '\0';
    if (!is_known || has_weight != (strcmp(words[0], "weight") == 0) || num_words < 3 || num_words > 4)
        return false;
    if (!has_weight)
        return true;
    unsigned long weight = isdigit((unsigned char)words[3][0]) ? strtoul(words[3], &end, 10) : 1000;
    if (weight > 999 || *end != '\0')
        return false;
    sprintf(body, "{\"weight\": %lu}", weight);
    return true;
}

int gw_command_target(int argc, char **argv)
{
    struct gw_admin_client client;
    char body[64], *path;
    json_t *target;

    if (!parse_options(argc, argv, &client) || !parse_words(argc - optind, argv + optind, body))
        return usage();
    path = path_of(argv[optind], argv[optind + 1], argv[optind + 2]);
    target = gw_admin_client_ask(&client, "POST", path, body, 10, NULL);
    free(path);
    if (target == NULL)
        return 1;
    printf("%s of %s: %s, weight %" PRId64 ", %" PRId64 " in flight\n", gw_json_text_in(target, "target"),
           gw_json_text_in(target, "target_group"), gw_json_text_in(target, "state"),
           gw_json_number_in(target, "weight"), gw_json_number_in(target, "in_flight"));
    json_decref(target);
    return 0;
}
