/* From a URL path to a file below a root. No path leaves the root, whatever dots, escapes and links say: the kernel's
 * openat2(RESOLVE_BENEATH) decides, and where that is missing (before Linux 5.6, or under a sandbox that filters it)
 * a walk that follows no symbolic link at all. */
#pragma once
#include <stdbool.h>
#include <h2o/memory.h>

/* The path of a file relative to the root ("" for the root itself), percent-decoded, NUL-terminated, from the pool.
 * url_path is canonical (routing/path.h); strip_prefix (base NULL: none) is removed first. base NULL when no file can
 * have that name: the prefix does not fit, an encoded slash or NUL, a "." or ".." that decoding brought to light, too
 * long. */
h2o_iovec_t gw_file_path(h2o_mem_pool_t *, h2o_iovec_t url_path, h2o_iovec_t strip_prefix);

/* Where a directory without its slash is redirected to: a relative reference that no client takes for another host's
 * ("//evil.example/x" would be one). */
h2o_iovec_t gw_file_redirect(h2o_mem_pool_t *, h2o_iovec_t url_path, h2o_iovec_t query);

bool gw_file_has_openat2(void);
/* Opens for reading below root_fd without blocking on FIFOs; -1 and errno. EXDEV, ELOOP: links lead outside or in
 * circles. path: as gw_file_path gives it. */
int gw_file_open(int root_fd, const char *path, bool use_openat2);
