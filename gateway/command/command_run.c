#include "gateway/command/command_run.h"
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
    const char *config; /* NULL: what was asked for is not understood */
    const char *worker; /* this is a worker: its ends of the channel */
    bool no_supervise;
};

static struct options parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"config", required_argument, NULL, 'c'},
        {"no-supervise", no_argument, NULL, 'n'},
        {"worker", required_argument, NULL, 'w'}, /* for ourselves: not in the usage */
        {NULL, 0, NULL, 0}};
    struct options options = {NULL, NULL, false};
    int c;

    while ((c = getopt_long(argc, argv, "c:", names, NULL)) != -1) {
        if (c == 'c')
            options.config = optarg;
        else if (c == 'n')
            options.no_supervise = true;
        else if (c == 'w')
            options.worker = optarg;
        else
            return (struct options){NULL, NULL, false};
    }
    if (options.config == NULL && optind < argc)
        options.config = argv[optind++];
    if (optind != argc)
        options.config = NULL;
    return options;
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
    struct options options = parse(argc, argv);

    if (options.config == NULL) {
        fputs("usage: weir run -c FILE [--no-supervise]\n", stderr);
        return 2;
    }
    (void)tls_memory_keep_records();
    if (options.worker != NULL)
        return work(&options);
    if (options.no_supervise)
        return gw_process_run(options.config, NULL);
    return gw_supervisor_run(argv - 1, options.config);
}
