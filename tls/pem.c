#include "tls/pem.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include "gateway/base/kept_files.h"

enum { MAX_FILE_BYTES = 1 << 20, MAX_CRL_BYTES = 50 << 20 }; /* a chain of ten takes 20 KB; spec/alb.md 1.4 */

char *tls_pem_path(const struct gw_node *at, h2o_iovec_t path)
{
    const char *slash = at != NULL && at->file != NULL ? strrchr(at->file, '/') : NULL;
    size_t dir_len = slash != NULL && (path.len == 0 || path.base[0] != '/') ? (size_t)(slash - at->file + 1) : 0;
    char *full = h2o_mem_alloc(dir_len + path.len + 1);
    if (dir_len != 0)
        memcpy(full, at->file, dir_len);
    memcpy(full + dir_len, path.base, path.len);
    full[dir_len + path.len] = '\0';
    return full;
}

/* Wiped before it is freed: may hold a private key. */
struct file {
    char *bytes;
    size_t size, capacity;
    mode_t mode;
};

static void dispose_file(struct file *file)
{
    if (file->bytes != NULL)
        OPENSSL_cleanse(file->bytes, file->capacity);
    free(file->bytes);
}

/* Reads to the end or until the capacity is full. */
static bool read_all(int fd, struct file *file)
{
    while (file->size < file->capacity) {
        ssize_t n = read(fd, file->bytes + file->size, file->capacity - file->size);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            return false;
        file->size += n > 0 ? n : 0;
    }
    return true;
}

/* What an earlier load has read. Whether everybody may read it was said then. */
static bool read_kept(const struct gw_node *at, const char *path, struct file *file, struct gw_errors *errors)
{
    const h2o_iovec_t *kept = gw_kept_files_get(errors->kept, path);
    if (kept == NULL)
        return gw_error_at(errors, at, "cannot read \"%s\": it was not kept", path);
    file->size = kept->len;
    file->capacity = kept->len + 1;
    file->bytes = h2o_mem_alloc(file->capacity);
    memcpy(file->bytes, kept->base, kept->len);
    return true;
}

static bool read_file(const struct gw_node *at, const char *path, off_t max_bytes, struct file *file,
                      struct gw_errors *errors)
{
    struct stat st;

    if (gw_kept_files_is_source(errors->kept))
        return read_kept(at, path, file, errors);
    /* Non-blocking: opening a named pipe must not stop the load. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd == -1)
        return gw_error_at(errors, at, "cannot read \"%s\": %s", path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return gw_error_at(errors, at, "cannot read \"%s\": not a regular file", path);
    }
    if (st.st_size > max_bytes) {
        close(fd);
        return gw_error_at(errors, at, "\"%s\" is larger than %d MiB", path, (int)(max_bytes >> 20));
    }
    file->mode = st.st_mode;
    file->capacity = st.st_size + 1; /* one more: whether it grew meanwhile */
    file->bytes = h2o_mem_alloc(file->capacity);
    bool is_good = read_all(fd, file);
    int read_errno = errno;
    close(fd);
    if (!is_good)
        return gw_error_at(errors, at, "cannot read \"%s\": %s", path, strerror(read_errno));
    if (file->size == file->capacity)
        return gw_error_at(errors, at, "\"%s\" changed while it was read", path);
    if (errors->kept != NULL)
        gw_kept_files_add(errors->kept, path, h2o_iovec_init(file->bytes, file->size));
    return true;
}

static bool is_certificate(const char *block)
{
    return strcmp(block, PEM_STRING_X509) == 0 || strcmp(block, PEM_STRING_X509_OLD) == 0;
}

static bool add_block(STACK_OF(X509) * chain, const char *block, const unsigned char *data, long len)
{
    if (!is_certificate(block))
        return true; /* keys and parameters may stand in the same file */
    const unsigned char *end = data;
    X509 *x = d2i_X509(NULL, &end, len);
    if (x == NULL || end != data + len || sk_X509_push(chain, x) == 0) {
        X509_free(x);
        return false;
    }
    return true;
}

static bool parse_chain(const struct gw_node *at, const char *path, BIO *bio, STACK_OF(X509) * chain,
                        struct gw_errors *errors)
{
    char *block, *header;
    unsigned char *data;
    long len;
    ERR_clear_error();
    while (PEM_read_bio(bio, &block, &header, &data, &len)) {
        bool is_good = add_block(chain, block, data, len);
        OPENSSL_free(block);
        OPENSSL_free(header);
        OPENSSL_clear_free(data, len);
        if (!is_good)
            return gw_error_at(errors, at, "certificate %d in \"%s\" is damaged", sk_X509_num(chain) + 1, path);
    }
    bool is_at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    if (!is_at_end)
        return gw_error_at(errors, at, "the PEM block after certificate %d in \"%s\" is damaged", sk_X509_num(chain),
                           path);
    if (sk_X509_num(chain) == 0)
        return gw_error_at(errors, at, "no certificate in \"%s\" (expected PEM: \"-----BEGIN CERTIFICATE-----\")",
                           path);
    return true;
}

STACK_OF(X509) * tls_pem_read_chain(const struct gw_node *at, const char *path, struct gw_errors *errors)
{
    struct file file = {0};
    STACK_OF(X509) *chain = sk_X509_new_null();
    bool is_good = false;
    if (read_file(at, path, MAX_FILE_BYTES, &file, errors)) {
        BIO *bio = BIO_new_mem_buf(file.bytes, (int)file.size);
        is_good = parse_chain(at, path, bio, chain, errors);
        BIO_free(bio);
    }
    dispose_file(&file);
    if (is_good)
        return chain;
    sk_X509_pop_free(chain, X509_free);
    return NULL;
}

static bool parse_crls(const struct gw_node *at, const char *path, BIO *bio, STACK_OF(X509_CRL) * crls,
                       struct gw_errors *errors)
{
    X509_CRL *crl;
    ERR_clear_error();
    while ((crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)) != NULL)
        sk_X509_CRL_push(crls, crl);
    bool is_at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    if (!is_at_end)
        return gw_error_at(errors, at, "revocation list %d in \"%s\" is damaged", sk_X509_CRL_num(crls) + 1, path);
    if (sk_X509_CRL_num(crls) == 0)
        return gw_error_at(errors, at, "no revocation list in \"%s\" (expected PEM: \"-----BEGIN X509 CRL-----\")",
                           path);
    return true;
}

STACK_OF(X509_CRL) * tls_pem_read_crls(const struct gw_node *at, const char *path, struct gw_errors *errors)
{
    struct file file = {0};
    STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();
    bool is_good = false;
    if (read_file(at, path, MAX_CRL_BYTES, &file, errors)) {
        BIO *bio = BIO_new_mem_buf(file.bytes, (int)file.size);
        is_good = parse_crls(at, path, bio, crls, errors);
        BIO_free(bio);
    }
    dispose_file(&file);
    if (is_good)
        return crls;
    sk_X509_CRL_pop_free(crls, X509_CRL_free);
    return NULL;
}

static int on_password(char *to, int size, int is_writing, void *was_asked)
{
    *(bool *)was_asked = true;
    return -1;
}

EVP_PKEY *tls_pem_read_key(const struct gw_node *at, const char *path, struct gw_errors *errors)
{
    struct file file = {0};
    EVP_PKEY *key = NULL;
    if (read_file(at, path, MAX_FILE_BYTES, &file, errors)) {
        bool was_asked = false;
        BIO *bio = BIO_new_mem_buf(file.bytes, (int)file.size);
        key = PEM_read_bio_PrivateKey(bio, NULL, on_password, &was_asked);
        BIO_free(bio);
        ERR_clear_error();
        if (was_asked)
            gw_error_at(errors, at, "the private key in \"%s\" is encrypted: give it without a passphrase", path);
        else if (key == NULL)
            gw_error_at(errors, at, "no private key in \"%s\" (expected PEM: \"-----BEGIN PRIVATE KEY-----\")", path);
        else if (file.mode & S_IROTH)
            gw_warn_at(errors, at, "everybody may read the private key in \"%s\" (mode %04o): make it 0600", path,
                       (unsigned)(file.mode & 07777));
        if (was_asked) {
            EVP_PKEY_free(key);
            key = NULL;
        }
    }
    dispose_file(&file);
    return key;
}
