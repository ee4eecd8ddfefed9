#include "gateway/supervisor/first_load.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "gateway/base/kept_files.h"
#include "gateway/base/log.h"
#include "gateway/load.h"
#include "gateway/supervisor/privileges.h"

/* A privileged worker reads the configuration twice: reloads will be the user's, so what the user cannot read must not
 * be found out by the first reload. */
static struct gw_config *load(struct gw_first_load *self, const char *path, const struct gw_supervised *supervised)
{
    struct gw_config *config = gw_load_config(path, &self->errors);
    bool is_dropped;

    if (config == NULL)
        return NULL;
    gw_privileges_prepare_state_dir(config, &self->errors);
    if (supervised == NULL || config->user.base == NULL)
        return config;
    is_dropped = gw_privileges_drop(config, &self->errors);
    gw_config_destroy(config);
    if (!is_dropped || (config = gw_load_config(path, &self->errors)) == NULL)
        return NULL;
    gw_privileges_prepare_state_dir(config, &self->errors);
    return config;
}

/* The files have failed. What was kept comes from a worker that gave root away: nothing of it is believed as root. */
static struct gw_config *load_kept(struct gw_first_load *self, const char *path, const struct gw_supervised *supervised)
{
    const struct gw_hello *hello = supervised != NULL ? gw_supervised_hello(supervised) : NULL;
    struct gw_kept_files *kept = hello != NULL && !self->is_from_kept ? gw_supervised_kept(supervised) : NULL;

    if (kept == NULL)
        return NULL;
    gw_errors_log(&self->errors);
    gw_log(GW_LOG_ERROR, "process",
           "the configuration cannot be loaded any more; the one that served before is used until a reload succeeds");
    gw_kept_files_destroy(self->kept);
    self->disk_errors = self->errors;
    self->kept = kept;
    self->is_from_kept = true;
    gw_errors_init(&self->errors);
    self->errors.kept = kept;
    if (!gw_privileges_become((uid_t)hello->kept_uid, (gid_t)hello->kept_gid)) {
        gw_log(GW_LOG_ERROR, "process", "cannot become user %u: %s", (unsigned)hello->kept_uid, strerror(errno));
        return NULL;
    }
    return load(self, path, supervised);
}

static void end(struct gw_first_load *self, struct gw_supervised *failed_under)
{
    gw_errors_log(&self->errors);
    if (failed_under != NULL) {
        char why[512];
        gw_errors_first(&self->errors, why, sizeof(why));
        gw_supervised_report_failed(failed_under, why);
    }
    gw_errors_dispose(&self->errors);
    gw_errors_dispose(&self->disk_errors);
    gw_kept_files_destroy(self->kept);
}

struct gw_config *gw_first_load_begin(struct gw_first_load *self, const char *path, struct gw_supervised *supervised)
{
    struct gw_config *config;

    memset(self, 0, sizeof(*self));
    gw_errors_init(&self->errors);
    gw_errors_init(&self->disk_errors);
    if (supervised != NULL)
        self->errors.kept = self->kept = gw_kept_files_create();
    if ((config = load(self, path, supervised)) == NULL)
        config = load_kept(self, path, supervised);
    if (config == NULL)
        end(self, supervised);
    return config;
}

bool gw_first_load_finish(struct gw_first_load *self, struct gw_process *process, struct gw_config *config)
{
    bool ok = gw_load_first(process, config, &self->errors);

    if (!ok && (config = load_kept(self, process->config_path, process->supervised)) != NULL)
        ok = gw_load_first(process, config, &self->errors);
    if (ok && process->supervised == NULL)
        ok = gw_privileges_drop(process->active->config, &self->errors);
    if (ok && self->is_from_kept) {
        gw_load_note_failure(process, &self->disk_errors);
    } else if (ok) {
        process->kept = self->kept; /* told with the first generation */
        self->kept = NULL;
    }
    end(self, ok ? NULL : process->supervised);
    return ok;
}
