#include "gateway/exchange/client_identity.h"
#include <string.h>
#include "tls/client_auth.h"

#define PREFIX "x-amzn-mtls-clientcert"
static const h2o_iovec_t name_chain = {H2O_STRLIT(PREFIX)}, name_serial = {H2O_STRLIT(PREFIX "-serial-number")},
                         name_issuer = {H2O_STRLIT(PREFIX "-issuer")}, name_subject = {H2O_STRLIT(PREFIX "-subject")},
                         name_validity = {H2O_STRLIT(PREFIX "-validity")}, name_leaf = {H2O_STRLIT(PREFIX "-leaf")};

enum { PREFIX_LEN = sizeof(PREFIX) - 1, MAX_ADDED = 5 };

/* `_` counts as `-`: what comes behind us may see no difference (CGI, WSGI). */
static inline bool is_ours(const h2o_iovec_t *name)
{
    if (__builtin_expect(name->len < PREFIX_LEN || name->base[0] != 'x', 1))
        return false;
    for (size_t i = 0; i != PREFIX_LEN; ++i)
        if (name->base[i] != PREFIX[i] && !(name->base[i] == '_' && PREFIX[i] == '-'))
            return false;
    return true;
}

size_t gw_client_identity_strip(h2o_header_t *fields, size_t num_fields)
{
    size_t n = 0;

    while (n != num_fields && !is_ours(fields[n].name))
        ++n;
    for (size_t i = n; i < num_fields; ++i)
        if (!is_ours(fields[i].name))
            fields[n++] = fields[i];
    return n;
}

static void add(struct gw_stream *stream, const h2o_iovec_t *name, h2o_iovec_t value)
{
    stream->head.fields[stream->head.num_fields++] = (h2o_header_t){.name = (h2o_iovec_t *)name, .value = value};
}

/* The values live as long as the connection, which is longer than any of its requests. */
static void add_fields(struct gw_stream *stream, const struct tls_client_certificate *certificate)
{
    size_t n = stream->head.num_fields;
    h2o_header_t *fields = h2o_mem_alloc_pool(&stream->req.pool, sizeof(*fields) * (n + MAX_ADDED));

    if (n != 0)
        memcpy(fields, stream->head.fields, sizeof(*fields) * n);
    stream->head.fields = fields;
    if (!certificate->is_verified) {
        add(stream, &name_chain, certificate->chain);
        return;
    }
    add(stream, &name_serial, certificate->serial);
    add(stream, &name_issuer, certificate->issuer);
    add(stream, &name_subject, certificate->subject);
    add(stream, &name_validity, certificate->validity);
    add(stream, &name_leaf, certificate->leaf);
}

void gw_client_identity_apply(struct gw_stream *stream)
{
    const struct gw_peer_facts *facts = stream->conn->facts;

    if (gw_may_have_field(stream->head.absent_initials, 'x'))
        stream->head.num_fields = gw_client_identity_strip(stream->head.fields, stream->head.num_fields);
    if (__builtin_expect(facts != NULL && facts->certificate != NULL, 0)) {
        add_fields(stream, facts->certificate);
        stream->head.absent_initials = 0;
    }
    stream->req.headers.entries = stream->head.fields;
    stream->req.headers.size = stream->req.headers.capacity = stream->head.num_fields;
}
