#include "gateway/command/commands.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/config/config.h"
#include "gateway/command/import_alb.h"
#include "gateway/snapshot.h"

const char gw_import_usage[] =
    "usage: weir import alb [NAME=]FILE... [--certificate ARN=FILE[,KEYFILE]] [--trust-store ARN=FILE] [-o OUT]\n"
    "  FILEs hold what `aws elbv2 describe-listeners`, describe-rules, describe-target-groups, "
    "describe-target-health,\n"
    "  describe-target-group-attributes, describe-listener-attributes, describe-listener-certificates,\n"
    "  describe-load-balancer-attributes and `aws ec2 describe-instances` print as JSON; - is standard input.\n"
    "  NAME= says which target group (by name) or listener (by ARN, or as http-80) a file is about that does not say "
    "it.\n"
    "  --certificate and --trust-store name the PEM files that hold what an ARN stands for, as often as there are "
    "some.\n"
    "  The configuration goes to standard output or OUT, the report to standard error.\n"
    "  exit status: 0 everything has a counterpart, 1 something has none (the report says what), 2 usage\n";

struct document {
    json_t *json; /* NULL: it cannot be read */
    char *group;  /* owned; NULL: not given */
    const char *path;
};

static void read_document(struct document *self, const char *argument)
{
    const char *equals = strchr(argument, '='), *slash = strchr(argument, '/');
    bool has_name = equals != NULL && (slash == NULL || equals < slash || strncmp(argument, "arn:", 4) == 0);
    json_error_t error;

    self->path = has_name ? equals + 1 : argument;
    self->group = has_name ? strndup(argument, equals - argument) : NULL;
    FILE *file = strcmp(self->path, "-") == 0 ? stdin : fopen(self->path, "r");
    self->json = file != NULL ? json_loadf(file, JSON_REJECT_DUPLICATES, &error) : NULL;
    if (file == NULL)
        fprintf(stderr, "weir import: cannot read %s: %s\n", self->path, strerror(errno));
    else if (self->json == NULL)
        fprintf(stderr, "%s:%d:%d: %s\n", self->path, error.line, error.column, error.text);
    if (file != NULL && file != stdin)
        fclose(file);
}

static bool add(struct gw_import *import, const struct document *document)
{
    char why[512];
    bool ok = gw_import_add(import, document->json, document->group, why, sizeof(why));
    if (!ok)
        fprintf(stderr, "%s: %s\n", document->path, why);
    return ok;
}

/* What other files are about. */
static bool is_first(const struct document *document)
{
    return json_object_get(document->json, "TargetGroups") != NULL ||
           json_object_get(document->json, "Listeners") != NULL;
}

/* Groups and listeners first: what is about the only one need not name it, wherever it stands. */
static bool read_files(struct gw_import *import, int num_files, char **files)
{
    struct document *documents = h2o_mem_alloc(sizeof(*documents) * num_files);
    bool ok = true;

    for (int i = 0; i != num_files; ++i) {
        read_document(&documents[i], files[i]);
        ok &= documents[i].json != NULL;
    }
    for (int pass = 0; pass != 2; ++pass)
        for (int i = 0; i != num_files; ++i)
            if (documents[i].json != NULL && is_first(&documents[i]) == (pass == 0))
                ok &= add(import, &documents[i]);
    for (int i = 0; i != num_files; ++i) {
        json_decref(documents[i].json);
        free(documents[i].group);
    }
    free(documents);
    if (ok && json_array_size(import->listeners) + json_array_size(import->rules) == 0) {
        fprintf(stderr, "weir import: there is no listener in the files (expected what describe-listeners or "
                        "describe-rules prints)\n");
        ok = false;
    }
    return ok;
}

static size_t report(const struct gw_import *import)
{
    static const char *const words[] = {"mapped", "approximated", "refused"};
    size_t counts[3] = {0};

    for (size_t i = 0; i != import->num_findings; ++i) {
        const struct gw_import_finding *finding = &import->findings[i];
        fprintf(stderr, "%-12s  %s: %s\n", words[finding->kind], finding->where, finding->text);
        ++counts[finding->kind];
    }
    fprintf(stderr, "%zu mapped, %zu approximated, %zu refused\n", counts[GW_IMPORT_MAPPED],
            counts[GW_IMPORT_APPROXIMATED], counts[GW_IMPORT_REFUSED]);
    return counts[GW_IMPORT_REFUSED];
}

/* What `weir check` will say of it, before anybody relies on it. */
static bool check(const char *text, size_t len)
{
    struct gw_errors errors;
    gw_errors_init(&errors);
    struct gw_config *config = gw_config_load_text("import", h2o_iovec_init(text, len), false, &errors);
    struct gw_snapshot *snapshot = config != NULL ? gw_snapshot_create(NULL, config, &errors) : NULL;
    bool ok = snapshot != NULL && errors.num_errors == 0;
    if (!ok)
        gw_errors_print(&errors, stderr);
    gw_snapshot_release(snapshot);
    gw_errors_dispose(&errors);
    return ok;
}

static bool put(const char *path, const char *text, size_t len)
{
    FILE *file = path != NULL ? fopen(path, "w") : stdout;
    bool ok = file != NULL && fwrite(text, 1, len, file) == len && fflush(file) == 0;
    if (!ok)
        fprintf(stderr, "weir import: cannot write %s: %s\n", path != NULL ? path : "standard output", strerror(errno));
    if (file != NULL && file != stdout)
        ok &= fclose(file) == 0;
    return ok;
}

/* As the configuration will have to say it: relative to where that lies. */
static json_t *path_from(const char *path, const char *out)
{
    char *absolute = *path != '/' && out != NULL && strchr(out, '/') != NULL ? realpath(path, NULL) : NULL;
    json_t *text = json_string(absolute != NULL ? absolute : path);

    free(absolute);
    return text;
}

/* ARN=FILE[,KEYFILE] */
static bool take_file(json_t *files, const char *option, const char *value, const char *out)
{
    const char *equals = strchr(value, '='), *comma;
    char *arn, *first;
    json_t *entry;

    if (equals == NULL || equals == value || equals[1] == '\0') {
        fprintf(stderr, "weir import: %s %s: which file? (expected ARN=FILE)\n", option, value);
        return false;
    }
    comma = strcmp(option, "--certificate") == 0 ? strchr(equals, ',') : NULL;
    arn = strndup(value, (size_t)(equals - value));
    first = comma != NULL ? strndup(equals + 1, (size_t)(comma - equals - 1)) : strdup(equals + 1);
    entry = json_object();
    if (strcmp(option, "--certificate") == 0) {
        json_object_set_new(entry, "cert", path_from(first, out));
        json_object_set_new(entry, "key", path_from(comma != NULL ? comma + 1 : first, out));
    } else {
        json_object_set_new(entry, "store", path_from(first, out));
    }
    json_object_set_new(files, arn, entry);
    free(arn);
    free(first);
    return true;
}

static int import_alb(int num_files, char **files, json_t *given, const char *out)
{
    struct gw_import import;
    char *text = NULL;
    size_t len = 0;
    bool ok;

    gw_import_init(&import);
    json_object_update(import.files, given);
    if ((ok = read_files(&import, num_files, files))) {
        FILE *memory = open_memstream(&text, &len);
        gw_import_alb_write(&import, memory);
        fclose(memory);
        ok = report(&import) == 0;
        ok &= check(text, len);
        ok &= put(out, text, len);
    }
    free(text);
    gw_import_dispose(&import);
    return ok ? 0 : 1;
}

/* What the words ask for. Owned: the arrays and `given`. */
struct request {
    const char *out; /* NULL: standard output */
    char **files;
    int num_files;
    json_t *given; /* --certificate and --trust-store: {ARN: files} */
};

static bool parse_words(int argc, char **argv, struct request *request)
{
    int *pairs = h2o_mem_alloc(sizeof(*pairs) * argc), num_pairs = 0; /* options with ARN=FILE: where they stand */
    bool is_good = gw_is_given(argc >= 2 ? argv[1] : NULL, "alb", argv);

    if (is_good && !(is_good = strcmp(argv[1], "alb") == 0))
        fprintf(stderr, "%s: \"%s\" cannot be imported (expected alb)\n", argv[0], argv[1]);
    for (int i = 2; i < argc && is_good; ++i) {
        bool is_pair = strcmp(argv[i], "--certificate") == 0 || strcmp(argv[i], "--trust-store") == 0;
        if (argv[i][0] != '-' || strcmp(argv[i], "-") == 0) {
            request->files[request->num_files++] = argv[i];
        } else if (!is_pair && strcmp(argv[i], "-o") != 0) {
            fprintf(stderr, "%s: unrecognized option '%s'\n", argv[0], argv[i]);
            is_good = false;
        } else if ((is_good = gw_is_given(argv[i + 1], is_pair ? "ARN=FILE" : "OUT", argv))) {
            if (is_pair)
                pairs[num_pairs++] = i++;
            else
                request->out = argv[++i];
        }
    }
    for (int i = 0; i != num_pairs && is_good; ++i) /* when it is known where the configuration goes */
        is_good = take_file(request->given, argv[pairs[i]], argv[pairs[i] + 1], request->out);
    free(pairs);
    return is_good && gw_is_given(request->num_files != 0 ? request->files[0] : NULL, "FILE", argv);
}

int gw_command_import(int argc, char **argv)
{
    struct request request = {.files = h2o_mem_alloc(sizeof(*request.files) * argc), .given = json_object()};
    int status = parse_words(argc, argv, &request)
                     ? import_alb(request.num_files, request.files, request.given, request.out)
                     : gw_misused(gw_import_usage);

    json_decref(request.given);
    free(request.files);
    return status;
}
