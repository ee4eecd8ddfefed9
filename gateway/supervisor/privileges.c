#include "gateway/supervisor/privileges.h"
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- open files ---- */

enum { WANTED_FILES = 1 << 20 };

static rlim_t kernel_limit(void)
{
    unsigned long long n = WANTED_FILES;
    FILE *file = fopen("/proc/sys/fs/nr_open", "re");
    if (file != NULL) {
        if (fscanf(file, "%llu", &n) != 1 || n > WANTED_FILES)
            n = WANTED_FILES;
        fclose(file);
    }
    return (rlim_t)n;
}

void gw_privileges_raise_file_limit(void)
{
    struct rlimit limit;
    rlim_t wanted;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    wanted = kernel_limit();
    if (limit.rlim_max < wanted) { /* needs CAP_SYS_RESOURCE; without it the line below is what there is */
        struct rlimit more = {wanted, wanted};
        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            return;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* ---- user and group ---- */

struct identity {
    uid_t uid;
    gid_t gid;
    const char *name; /* NULL: a number without an account */
};

static bool read_number(h2o_iovec_t text, unsigned long *n)
{
    char *end;
    if (text.len == 0 || text.len > 10 || text.base[0] < '0' || text.base[0] > '9')
        return false;
    *n = strtoul(text.base, &end, 10);
    return end == text.base + text.len && *n < UINT32_MAX;
}

static const char *not_found(int error) { return error != 0 ? strerror(error) : "there is no such account"; }

static bool find_user(const struct gw_config *config, struct identity *who, bool *has_gid, struct gw_errors *errors)
{
    const struct gw_node *at = gw_setting_at(config->at, "user");
    unsigned long n;

    errno = 0;
    const struct passwd *entry = read_number(config->user, &n) ? getpwuid((uid_t)n) : getpwnam(config->user.base);
    if (entry != NULL) {
        *who = (struct identity){entry->pw_uid, entry->pw_gid, entry->pw_name};
        *has_gid = true;
        return true;
    }
    if (!read_number(config->user, &n))
        return gw_error_at(errors, at, "cannot become user \"%s\": %s", config->user.base, not_found(errno));
    *who = (struct identity){.uid = (uid_t)n};
    *has_gid = false;
    return true;
}

static bool find_group(const struct gw_config *config, struct identity *who, struct gw_errors *errors)
{
    const struct gw_node *at = gw_setting_at(config->at, "group");
    unsigned long n;

    if (read_number(config->group, &n)) {
        who->gid = (gid_t)n;
        return true;
    }
    errno = 0;
    const struct group *entry = getgrnam(config->group.base);
    if (entry == NULL)
        return gw_error_at(errors, at, "cannot become group \"%s\": %s", config->group.base, not_found(errno));
    who->gid = entry->gr_gid;
    return true;
}

static bool find_identity(const struct gw_config *config, struct identity *who, struct gw_errors *errors)
{
    bool has_gid = false;

    if (!find_user(config, who, &has_gid, errors))
        return false;
    if (config->group.base != NULL)
        return find_group(config, who, errors);
    return has_gid ||
           gw_error_at(errors, gw_setting_at(config->at, "user"),
                       "user %s has no account here, so its group must be said too (group: NAME)", config->user.base);
}

static bool become(const struct identity *who)
{
    return (who->name != NULL ? initgroups(who->name, who->gid) : setgroups(1, &who->gid)) == 0 &&
           setresgid(who->gid, who->gid, who->gid) == 0 && setresuid(who->uid, who->uid, who->uid) == 0;
}

bool gw_privileges_drop(const struct gw_config *config, struct gw_errors *errors)
{
    struct identity who;

    if (config->user.base == NULL)
        return true;
    if (!find_identity(config, &who, errors))
        return false;
    if (geteuid() == who.uid && getuid() == who.uid && getegid() == who.gid)
        return true;
    if (!become(&who))
        return gw_error_at(errors, gw_setting_at(config->at, "user"), "cannot become user %s: %s%s", config->user.base,
                           strerror(errno), geteuid() != 0 ? " (only root can)" : "");
    if (who.uid != 0 && setuid(0) == 0)
        return gw_error_at(errors, gw_setting_at(config->at, "user"), "cannot give up root for good");
    prctl(PR_SET_DUMPABLE, 1); /* else /proc/self belongs to root: no metrics of the process, no core file */
    return true;
}

bool gw_privileges_become(uid_t uid, gid_t gid)
{
    const struct passwd *entry = getpwuid(uid);
    struct identity who = {uid, gid, entry != NULL ? entry->pw_name : NULL};

    if (geteuid() != 0 || (uid == 0 && gid == getegid()))
        return true;
    if (!become(&who))
        return false;
    prctl(PR_SET_DUMPABLE, 1);
    return true;
}

static bool is_same(h2o_iovec_t a, h2o_iovec_t b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.base, b.base, a.len) == 0);
}

bool gw_privileges_differ(const struct gw_config *a, const struct gw_config *b)
{
    return !is_same(a->user, b->user) || !is_same(a->group, b->group);
}

/* ---- state_dir ---- */

void gw_privileges_prepare_state_dir(const struct gw_config *config, struct gw_errors *errors)
{
    const struct gw_node *at = gw_setting_at(config->at, "state_dir");
    struct gw_errors unsaid; /* gw_privileges_drop says it */
    struct identity who;
    struct stat st;

    if (config->state_dir.base == NULL)
        return;
    if (mkdir(config->state_dir.base, 0750) == 0) {
        gw_errors_init(&unsaid);
        if (config->user.base != NULL && find_identity(config, &who, &unsaid) &&
            chown(config->state_dir.base, who.uid, who.gid) != 0)
            gw_warn_at(errors, at, "cannot give %s to user %s: %s", config->state_dir.base, config->user.base,
                       strerror(errno));
        gw_errors_dispose(&unsaid);
    } else if (errno != EEXIST) {
        gw_warn_at(errors, at, "cannot make state_dir %s: %s; nothing lives through a restart without it",
                   config->state_dir.base, strerror(errno));
    } else if (stat(config->state_dir.base, &st) == 0 && !S_ISDIR(st.st_mode)) {
        gw_warn_at(errors, at, "state_dir %s is no folder; nothing lives through a restart without it",
                   config->state_dir.base);
    } else if (access(config->state_dir.base, R_OK | W_OK | X_OK) != 0) {
        gw_warn_at(errors, at, "state_dir %s cannot be written to: %s; nothing lives through a restart without it",
                   config->state_dir.base, strerror(errno));
    }
}
