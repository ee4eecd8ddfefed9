#include "gateway/upstream/transport.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/sha.h>

static uint64_t identify(const struct gw_transport *self)
{
    unsigned char bytes[16 + 256] = {0}, hash[SHA256_DIGEST_LENGTH];
    uint64_t tls_id = self->tls != NULL ? tls_origin_id(self->tls) : 0, id;
    size_t name_len = self->name != NULL ? strlen(self->name) : 0;

    assert(name_len <= 256);
    memcpy(bytes, &tls_id, sizeof(tls_id));
    bytes[8] = self->is_http2;
    if (name_len != 0)
        memcpy(bytes + 16, self->name, name_len);
    SHA256(bytes, 16 + name_len, hash);
    memcpy(&id, hash, sizeof(id));
    return id | 1;
}

struct gw_transport *gw_transport_create(bool is_http2, struct tls_origin *tls, h2o_iovec_t name, uint32_t handshake_ms)
{
    struct gw_transport *self = h2o_mem_alloc(sizeof(*self));
    *self = (struct gw_transport){.refs = 1, .is_http2 = is_http2, .handshake_ms = handshake_ms};
    if (tls != NULL) {
        self->tls = tls_origin_hold(tls);
        self->name = h2o_strdup(NULL, name.base, name.len).base;
    }
    self->id = identify(self);
    return self;
}

const struct gw_transport *gw_transport_hold(const struct gw_transport *self)
{
    if (self != NULL)
        __atomic_fetch_add((unsigned *)&self->refs, 1, __ATOMIC_RELAXED);
    return self;
}

void gw_transport_release(const struct gw_transport *self)
{
    struct gw_transport *mine = (struct gw_transport *)self;
    if (mine == NULL || __atomic_fetch_sub((unsigned *)&mine->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    tls_origin_release(mine->tls);
    free(mine->name);
    free(mine);
}
