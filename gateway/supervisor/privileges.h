/* Who serves: the worker gives root away for `user:` and `group:`; and how many descriptors it may have. */
#pragma once
#include "gateway/config/config.h"

/* As many open files as the kernel lets this process have; root may ask for more than it was given. */
void gw_privileges_raise_file_limit(void);

/* Makes state_dir (one level, for the user of the configuration). What is wrong with it is a warning: traffic does not
 * depend on it. Called as root when there is root. */
void gw_privileges_prepare_state_dir(const struct gw_config *, struct gw_errors *);

/* Becomes the configuration's user and group for good, in all threads. True when there is nothing to do. False after an
 * error: then the process must not go on. Check of names only at run time: a configuration may be checked where its
 * user does not exist. */
bool gw_privileges_drop(const struct gw_config *, struct gw_errors *);
/* Becomes an account by number, if this is root. False and errno. */
bool gw_privileges_become(uid_t, gid_t);
/* Whether a reload asks for another user or group than the one that serves. */
bool gw_privileges_differ(const struct gw_config *, const struct gw_config *);
