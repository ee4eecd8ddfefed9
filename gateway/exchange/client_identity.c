#include "gateway/exchange/client_identity.h"
#include <stdlib.h>
#include <string.h>
#include "gateway/snapshot.h"
#include "tls/client_auth.h"

#define PREFIX "x-amzn-mtls-clientcert"
static const h2o_iovec_t usual_names[TLS_IDENTITIES] = {
    [TLS_IDENTITY_CHAIN] = {H2O_STRLIT(PREFIX)},
    [TLS_IDENTITY_SERIAL_NUMBER] = {H2O_STRLIT(PREFIX "-serial-number")},
    [TLS_IDENTITY_ISSUER] = {H2O_STRLIT(PREFIX "-issuer")},
    [TLS_IDENTITY_SUBJECT] = {H2O_STRLIT(PREFIX "-subject")},
    [TLS_IDENTITY_VALIDITY] = {H2O_STRLIT(PREFIX "-validity")},
    [TLS_IDENTITY_LEAF] = {H2O_STRLIT(PREFIX "-leaf")},
};

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

/* ---- the names of a configuration ---- */

struct gw_identity {
    size_t num_listeners, num_names;
    h2o_iovec_t *names; /* all that are configured, lower case */
    struct {
        const h2o_iovec_t *names[TLS_IDENTITIES];
    } listeners[];
};

static const struct tls_client_auth_names *names_of(const struct gw_snapshot *snapshot, size_t listener)
{
    const struct tls_listener_conf *tls = snapshot->listeners[listener].conf->tls;
    return tls != NULL ? tls->client_auth.headers : NULL;
}

static const h2o_iovec_t *add_name(struct gw_identity *self, h2o_iovec_t name)
{
    h2o_iovec_t *kept = &self->names[self->num_names++];
    *kept = h2o_strdup(NULL, name.base, name.len);
    h2o_strtolower(kept->base, kept->len);
    const h2o_token_t *token = h2o_lookup_token(kept->base, kept->len);
    return token != NULL ? &token->buf : kept;
}

struct gw_identity *gw_identity_create(const struct gw_snapshot *snapshot)
{
    size_t n = snapshot->num_listeners, num_sections = 0;

    for (size_t i = 0; i != n; ++i)
        num_sections += names_of(snapshot, i) != NULL;
    if (num_sections == 0)
        return NULL;
    struct gw_identity *self = h2o_mem_alloc(sizeof(*self) + n * sizeof(self->listeners[0]));
    self->num_listeners = n;
    self->num_names = 0;
    self->names = h2o_mem_alloc(num_sections * TLS_IDENTITIES * sizeof(*self->names));
    for (size_t i = 0; i != n; ++i) {
        const struct tls_client_auth_names *conf = names_of(snapshot, i);
        for (size_t k = 0; k != TLS_IDENTITIES; ++k)
            self->listeners[i].names[k] =
                conf != NULL && conf->names[k].base != NULL ? add_name(self, conf->names[k]) : &usual_names[k];
    }
    return self;
}

void gw_identity_destroy(struct gw_identity *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i != self->num_names; ++i)
        free(self->names[i].base);
    free(self->names);
    free(self);
}

/* ---- of a request ---- */

static bool is_configured(const struct gw_identity *identity, const h2o_iovec_t *name)
{
    for (size_t i = 0; i != identity->num_names; ++i)
        if (tls_identity_name_is(identity->names[i], *name))
            return true;
    return false;
}

size_t gw_client_identity_strip(const struct gw_identity *identity, h2o_header_t *fields, size_t num_fields)
{
    size_t n = 0;

    for (size_t i = 0; i != num_fields; ++i) {
        if (is_ours(fields[i].name) ||
            (__builtin_expect(identity != NULL, 0) && is_configured(identity, fields[i].name)))
            continue;
        if (n != i)
            fields[n] = fields[i];
        ++n;
    }
    return n;
}

static void add(struct gw_stream *stream, const h2o_iovec_t *name, h2o_iovec_t value)
{
    stream->head.fields[stream->head.num_fields++] = (h2o_header_t){.name = (h2o_iovec_t *)name, .value = value};
}

/* The values live as long as the connection, which is longer than any of its requests. */
static void add_fields(struct gw_stream *stream, const struct tls_client_certificate *certificate,
                       const struct gw_identity *identity, uint32_t listener)
{
    const h2o_iovec_t values[TLS_IDENTITIES] = {
        [TLS_IDENTITY_CHAIN] = certificate->chain,       [TLS_IDENTITY_SERIAL_NUMBER] = certificate->serial,
        [TLS_IDENTITY_ISSUER] = certificate->issuer,     [TLS_IDENTITY_SUBJECT] = certificate->subject,
        [TLS_IDENTITY_VALIDITY] = certificate->validity, [TLS_IDENTITY_LEAF] = certificate->leaf,
    };
    size_t n = stream->head.num_fields;
    h2o_header_t *fields = h2o_mem_alloc_pool(&stream->req.pool, sizeof(*fields) * (n + MAX_ADDED));

    if (n != 0)
        memcpy(fields, stream->head.fields, sizeof(*fields) * n);
    stream->head.fields = fields;
    for (int k = 0; k != TLS_IDENTITIES; ++k)
        if ((k == TLS_IDENTITY_CHAIN) == !certificate->is_verified)
            add(stream,
                identity != NULL && listener < identity->num_listeners ? identity->listeners[listener].names[k]
                                                                       : &usual_names[k],
                values[k]);
}

void gw_client_identity_apply(struct gw_stream *stream, const struct gw_identity *identity, uint32_t listener)
{
    const struct gw_peer_facts *facts = stream->conn->facts;

    stream->head.num_fields = gw_client_identity_strip(identity, stream->head.fields, stream->head.num_fields);
    if (__builtin_expect(facts != NULL && facts->certificate != NULL, 0))
        add_fields(stream, facts->certificate, identity, listener);
    stream->req.headers.entries = stream->head.fields;
    stream->req.headers.size = stream->req.headers.capacity = stream->head.num_fields;
}
