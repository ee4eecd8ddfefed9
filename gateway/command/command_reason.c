/* `weir reason`: the manual of reason codes. */
#include "gateway/command/commands.h"
#include <getopt.h>
#include <stdio.h>
#include <h2o.h>
#include "gateway/base/error.h"
#include "gateway/reason.h"

const char gw_reason_usage[] =
    "usage: weir reason [CODE]\n"
    "  cause and remedy of a reason code, or of all of them; codes are in the access log and\n"
    "  in weir_requests_total\n";

/* A reason without a status of its own shows "-". */
static const char *status_text(const struct gw_reason_info *info, char *buf, size_t len)
{
    if (info->status == 0)
        return "-";
    snprintf(buf, len, "%d", info->status);
    return buf;
}

static void print_all(void)
{
    char status[16];
    printf("%-31s %-6s %s\n", "code", "status", "cause, and below it the remedy");
    for (int i = 1; i != GW_REASON_COUNT; ++i) {
        const struct gw_reason_info *info = gw_reason_info(i);
        printf("%-31s %-6s %s\n%-38s   %s\n", info->code, status_text(info, status, sizeof(status)), info->cause, "",
               info->remedy);
    }
}

static int print_unknown(const char *code)
{
    const char *codes[GW_REASON_COUNT];
    char upper[64];
    size_t len;

    for (int i = 0; i != GW_REASON_COUNT; ++i)
        codes[i] = gw_reason_info(i)->code;
    for (len = 0; code[len] != '\0' && len != sizeof(upper) - 1; ++len)
        upper[len] = h2o_toupper(code[len]);
    upper[len] = '\0';
    const char *nearest = gw_nearest(upper, codes, GW_REASON_COUNT);
    if (nearest != NULL)
        fprintf(stderr, "weir reason: unknown code \"%s\" (did you mean \"%s\"?)\n", code, nearest);
    else
        fprintf(stderr, "weir reason: unknown code \"%s\"; `weir reason` lists them all\n", code);
    return 1;
}

int gw_command_reason(int argc, char **argv)
{
    char status[16];

    if (argc < 2) {
        print_all();
        return 0;
    }
    optind = 2;
    if (!gw_no_words_left(argc, argv))
        return gw_misused(gw_reason_usage);
    enum gw_reason reason = gw_reason_find(argv[1]);
    if (reason == GW_REASON_COUNT)
        return print_unknown(argv[1]);
    const struct gw_reason_info *info = gw_reason_info(reason);
    printf("%s\n  status: %s\n  cause:  %s\n  remedy: %s\n", info->code, status_text(info, status, sizeof(status)),
           info->cause, info->remedy);
    return 0;
}
