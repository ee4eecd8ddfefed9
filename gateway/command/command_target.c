/* `weir target drain|enable|weight|reset|add|remove GROUP TARGET [N]`: an operator's word over a target, without a
 * reload. */
#include <ctype.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <h2o.h>
#include "gateway/admin/admin_client.h"
#include "gateway/command/commands.h"

const char gw_target_usage[] =
    "usage: weir target drain  GROUP TARGET    no new requests, whatever its health checks find\n"
    "       weir target enable GROUP TARGET    end a drain\n"
    "       weir target weight GROUP TARGET N  another weight, from 0 to 999\n"
    "       weir target reset  GROUP TARGET    forget both: as configured\n"
    "       weir target add    GROUP TARGET [N]  one more target, of weight N (1), in a group that is dynamic\n"
    "       weir target remove GROUP TARGET    take such a one out: requests under way have deregistration_delay\n"
    "       [-c FILE | --admin ADDRESS [--token TOKEN]]\n"
    "  It holds until it is reset or the process ends; reloads leave it alone. `weir status` shows it. What was\n"
    "  added is there after a restart, too, if there is a state_dir.\n";

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

static bool changes_members(const char *action) { return strcmp(action, "add") == 0 || strcmp(action, "remove") == 0; }

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
    if (strcmp(action, "add") != 0)
        put_segment(out, target);
    if (!changes_members(action))
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

/* {"address": "10.0.0.1:80", "weight": 1}; as much of it as there is. */
static char *body_of(const char *target, const char *weight)
{
    json_t *body = json_object();
    if (target != NULL)
        json_object_set_new(body, "address", json_string(target));
    if (weight != NULL)
        json_object_set_new(body, "weight", json_integer(atoi(weight)));
    char *text = json_dumps(body, 0);
    json_decref(body);
    return text;
}

static bool check_weight(const char *word)
{
    char *end;
    if (isdigit((unsigned char)word[0]) && strtoul(word, &end, 10) <= 999 && *end == '\0')
        return true;
    fprintf(stderr, "weir target: \"%s\" is no weight (expected a number from 0 to 999)\n", word);
    return false;
}

/* The words after the options: which action it is, and whether it has what it needs. */
static bool parse_words(int num_words, char **words)
{
    static const struct {
        const char *action;
        int least, most;
    } actions[] = {{"drain", 3, 3},  {"enable", 3, 3}, {"reset", 3, 3},
                   {"weight", 4, 4}, {"add", 3, 4},    {"remove", 3, 3}};

    static const char *const places[] = {"an action", "GROUP", "TARGET", "N"};
    size_t i = 0, num_actions = sizeof(actions) / sizeof(actions[0]);

    while (num_words != 0 && i != num_actions && strcmp(words[0], actions[i].action) != 0)
        ++i;
    if (i == num_actions)
        fprintf(stderr, "weir target: there is no action \"%s\"\n", words[0]);
    else if (num_words < actions[i].least)
        fprintf(stderr, "weir target: %s is missing\n", places[num_words]);
    else if (num_words > actions[i].most)
        fprintf(stderr, "weir target: unexpected argument \"%s\"\n", words[actions[i].most]);
    else
        return num_words != 4 || check_weight(words[3]);
    return false;
}

static void print_answer(const char *action, const char *name, json_t *answer)
{
    if (changes_members(action))
        printf("%s %s %s: %" PRId64 " targets by the admin API\n", name,
               strcmp(action, "add") == 0 ? "is in" : "is taken out of", gw_json_text_in(answer, "target_group"),
               gw_json_number_in(answer, "targets"));
    else
        printf("%s of %s: %s, weight %" PRId64 ", %" PRId64 " in flight\n", gw_json_text_in(answer, "target"),
               gw_json_text_in(answer, "target_group"), gw_json_text_in(answer, "state"),
               gw_json_number_in(answer, "weight"), gw_json_number_in(answer, "in_flight"));
}

int gw_command_target(int argc, char **argv)
{
    struct gw_admin_client client;
    char *path, *body;
    json_t *answer;

    if (!parse_options(argc, argv, &client) || !parse_words(argc - optind, argv + optind))
        return gw_misused(gw_target_usage);
    char **words = argv + optind;
    path = path_of(words[0], words[1], words[2]);
    body = body_of(strcmp(words[0], "add") == 0 ? words[2] : NULL, argc - optind == 4 ? words[3] : NULL);
    answer = gw_admin_client_ask(&client, strcmp(words[0], "remove") == 0 ? "DELETE" : "POST", path, body, 10, NULL);
    free(path);
    free(body);
    if (answer == NULL)
        return 1;
    print_answer(words[0], words[2], answer);
    json_decref(answer);
    return 0;
}
