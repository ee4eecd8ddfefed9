#include "gateway/command/commands.h"
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/prctl.h>
#include "gateway/base/log.h"
#include "gateway/process.h"
#include "gateway/supervisor/supervised.h"
#include "gateway/supervisor/supervisor.h"
#include "tls/memory.h"

struct options {
    const char *config;
    const char *worker; /* this is a worker: its ends of the channel */
    bool no_supervise;
};

const char gw_run_usage[] =
    "usage: weir run -c FILE [--no-supervise]\n"
    "  serves; SIGHUP loads the configuration anew, SIGUSR1 opens the log files anew, SIGUSR2 upgrades the binary,\n"
    "  SIGTERM and SIGINT end it when the requests under way are done, the second one at once\n"
    "  --no-supervise  without the process that starts a worker again when it dies: for debugging\n"
    "  exit status: 0 it has ended as it was told to, 1 it could not serve, 2 usage\n";

static bool parse_options(int argc, char **argv, struct options *options)
{
    static const struct option names[] = {
        {"config", required_argument, NULL, 'c'},
        {"no-supervise", no_argument, NULL, 'n'},
        {"worker", required_argument, NULL, 'w'}, /* for ourselves: not in the usage */
        {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "c:", names, NULL)) != -1) {
        if (c == 'c')
            options->config = optarg;
        else if (c == 'n')
            options->no_supervise = true;
        else if (c == 'w')
            options->worker = optarg;
        else
            return false;
    }
    if (options->config == NULL && optind < argc)
        options->config = argv[optind++];
    return gw_is_given(options->config, "-c FILE", argv) && gw_no_words_left(argc, argv);
}

static int work(const struct options *options)
{
    struct gw_supervised *supervised = gw_supervised_create(options->worker);
    int status;

    prctl(PR_SET_NAME, "weir-worker");
    if (supervised == NULL) {
        gw_log(GW_LOG_ERROR, "process", "there is no supervisor at the other end of --worker %s", options->worker);
        return 1;
    }
    status = gw_process_run(options->config, supervised);
    gw_supervised_destroy(supervised);
    return status;
}

int gw_command_run(int argc, char **argv)
{
    struct options options = {NULL, NULL, false};

    if (!parse_options(argc, argv, &options))
        return gw_misused(gw_run_usage);
    (void)tls_memory_keep_records();
    if (options.worker != NULL)
        return work(&options);
    if (options.no_supervise)
        return gw_process_run(options.config, NULL);
    argv[0] = (char *)"run"; /* an upgrade starts the new binary with these words */
    return gw_supervisor_run(argv - 1, options.config);
}
