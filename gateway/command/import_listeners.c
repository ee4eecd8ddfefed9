/* Listeners: addresses, TLS, and what every response of one says. */
#include <ctype.h>
#include <string.h>
#include <strings.h>
#include "gateway/command/import_alb.h"
#include "tls/policy.h"

/* ---- files that the command line names ---- */

static const char *file_of(const struct gw_import *self, const char *arn, const char *what)
{
    json_t *entry = json_object_get(self->files, arn);

    if (*gw_import_string(entry, what) != '\0')
        json_object_set_new(entry, "used", json_true());
    return gw_import_string(entry, what);
}

/* "cert-" and the last part of its ARN. */
static void put_certificate_name(FILE *out, const char *arn)
{
    const char *p = strrchr(arn, '/');

    fputs("cert-", out);
    for (p = p != NULL ? p + 1 : arn; *p != '\0'; ++p)
        fputc(isalnum((unsigned char)*p) || *p == '_' ? *p : '-', out);
}

static void note_unused(struct gw_import *self)
{
    const char *arn;
    json_t *entry;

    json_object_foreach(self->files, arn, entry)
    {
        if (json_object_get(entry, "used") == NULL)
            gw_import_note(self, GW_IMPORT_REFUSED, "input", "%s is given a file, and no listener uses it", arn);
    }
}

/* ---- attributes of a listener ---- */

static const char *const mtls_fields[][3] = {
    {"x_amzn_mtls_clientcert_serial_number", "serial_number", "X-Amzn-Mtls-Clientcert-Serial-Number"},
    {"x_amzn_mtls_clientcert_issuer", "issuer", "X-Amzn-Mtls-Clientcert-Issuer"},
    {"x_amzn_mtls_clientcert_subject", "subject", "X-Amzn-Mtls-Clientcert-Subject"},
    {"x_amzn_mtls_clientcert_validity", "validity", "X-Amzn-Mtls-Clientcert-Validity"},
    {"x_amzn_mtls_clientcert_leaf", "leaf", "X-Amzn-Mtls-Clientcert-Leaf"},
    {"x_amzn_mtls_clientcert", "chain", "X-Amzn-Mtls-Clientcert"},
};
enum { NUM_MTLS_FIELDS = sizeof(mtls_fields) / sizeof(mtls_fields[0]) };

/* The name between "routing.http.KIND." and the end; false: it is none of that kind. */
static bool cut_key(const char *key, const char *prefix, const char *suffix, char *name, size_t name_len)
{
    size_t len = strlen(key), before = strlen(prefix), after = strlen(suffix);

    if (len <= before + after || strncmp(key, prefix, before) != 0 || strcmp(key + len - after, suffix) != 0)
        return false;
    snprintf(name, name_len, "%.*s", (int)(len - before - after), key + before);
    return true;
}

static const json_t *attributes_of(const struct gw_import *self, const char *name)
{
    return json_object_get(self->listener_attributes, name);
}

/* Other names for the fields of client certificates; usual ones need no word. */
static void write_mtls_names(struct gw_import *self, const char *name)
{
    const char *separator = ", headers: {";
    size_t i;
    json_t *entry;

    json_array_foreach(attributes_of(self, name), i, entry)
    {
        const char *value = gw_import_string(entry, "Value");
        char field[64];
        if (!cut_key(gw_import_string(entry, "Key"), "routing.http.request.", ".header_name", field, sizeof(field)))
            continue;
        for (size_t j = 0; j != NUM_MTLS_FIELDS; ++j) {
            if (strcmp(field, mtls_fields[j][0]) != 0 || *value == '\0' || strcasecmp(value, mtls_fields[j][2]) == 0)
                continue;
            fprintf(self->out, "%s%s: ", separator, mtls_fields[j][1]);
            gw_import_text(self->out, value);
            separator = ", ";
        }
    }
    if (separator[2] == '\0')
        fputc('}', self->out);
}

static bool has_mtls_names(const struct gw_import *self, const char *name)
{
    struct gw_import copy = *self;
    char *text = NULL;
    size_t len = 0;

    copy.out = open_memstream(&text, &len);
    write_mtls_names(&copy, name);
    fclose(copy.out);
    free(text);
    return len != 0;
}

static void note_attribute(struct gw_import *self, const char *name, const char *key, const char *value)
{
    char part[64];

    if (*value == '\0') {
        gw_import_note(self, GW_IMPORT_MAPPED, name, "%s is off", key);
    } else if (strcmp(key, "routing.http.response.server.enabled") == 0 ||
               cut_key(key, "routing.http.response.", ".header_value", part, sizeof(part))) {
        gw_import_note(self, GW_IMPORT_MAPPED, name, "%s=%s", key, value);
    } else if (cut_key(key, "routing.http.request.", ".header_name", part, sizeof(part))) {
        bool is_known = false;
        for (size_t i = 0; i != NUM_MTLS_FIELDS; ++i)
            is_known = is_known || strcmp(part, mtls_fields[i][0]) == 0;
        is_known = is_known ||
                   (strcmp(part, "x_amzn_tls_version") == 0 && strcasecmp(value, "X-Amzn-Tls-Version") == 0) ||
                   (strcmp(part, "x_amzn_tls_cipher_suite") == 0 && strcasecmp(value, "X-Amzn-Tls-Cipher-Suite") == 0);
        gw_import_note(self, is_known ? GW_IMPORT_MAPPED : GW_IMPORT_REFUSED, name, "%s=%s%s", key, value,
                       is_known ? "" : ": the field keeps its usual name");
    } else {
        gw_import_note(self, GW_IMPORT_REFUSED, name, "%s=%s", key, value);
    }
}

/* Fields that every response gets. */
static void write_attributes(struct gw_import *self, const char *name)
{
    const char *separator = ", response_headers: {set: {";
    bool hides_server = false;
    size_t i;
    json_t *entry;

    json_array_foreach(attributes_of(self, name), i, entry)
    {
        const char *key = gw_import_string(entry, "Key"), *value = gw_import_string(entry, "Value");
        char field[64];
        note_attribute(self, name, key, value);
        hides_server =
            hides_server || (strcmp(key, "routing.http.response.server.enabled") == 0 && strcmp(value, "false") == 0);
        if (!cut_key(key, "routing.http.response.", ".header_value", field, sizeof(field)) || *value == '\0')
            continue;
        for (char *p = field; *p != '\0'; ++p)
            *p = *p == '_' ? '-' : *p;
        fputs(separator, self->out);
        gw_import_text(self->out, field);
        fputs(": ", self->out);
        gw_import_text(self->out, value);
        separator = ", ";
    }
    if (separator[2] == '\0')
        fputs("}}", self->out);
    if (hides_server)
        fputs(", server_header: false", self->out);
}

/* ---- TLS ---- */

static void write_verify(struct gw_import *self, const json_t *mtls, const char *name)
{
    const char *arn = gw_import_string(mtls, "TrustStoreArn"), *file = file_of(self, arn, "store");
    bool ignores = json_is_true(json_object_get(mtls, "IgnoreClientCertificateExpiry")),
         advertises = strcmp(gw_import_string(mtls, "AdvertiseTrustStoreCaNames"), "on") == 0;

    fputs(", client_auth: {mode: verify, trust_store: ", self->out);
    if (*file != '\0')
        gw_import_text(self->out, file);
    else
        fprintf(self->out, "%s-trust-store.pem", name);
    fprintf(self->out, ", ignore_expiry: %s, advertise_ca_names: %s", ignores ? "true" : "false",
            advertises ? "true" : "false");
    write_mtls_names(self, name);
    fputc('}', self->out);
    if (*file != '\0')
        gw_import_note(self, GW_IMPORT_MAPPED, name, "MutualAuthentication verify: the trust store %s is %s", arn,
                       file);
    else /* rather nothing than everybody */
        gw_import_note(
            self, GW_IMPORT_REFUSED, name,
            "MutualAuthentication verify: the trust store %s cannot be read (expected --trust-store %s=FILE, or "
            "its PEM bundle as %s-trust-store.pem beside the configuration, which does not load without it)",
            arn, arn, name);
}

static void write_client_auth(struct gw_import *self, const json_t *mtls, const char *name)
{
    const char *mode = gw_import_string(mtls, "Mode");

    if (strcmp(mode, "passthrough") == 0) {
        bool has_names = has_mtls_names(self, name);
        fputs(has_names ? ", client_auth: {mode: passthrough" : ", client_auth: passthrough", self->out);
        write_mtls_names(self, name);
        fputs(has_names ? "}" : "", self->out);
        gw_import_note(self, GW_IMPORT_MAPPED, name, "MutualAuthentication passthrough");
    } else if (strcmp(mode, "verify") == 0) {
        write_verify(self, mtls, name);
    } else if (*mode != '\0' && strcmp(mode, "off") != 0) {
        gw_import_note(self, GW_IMPORT_REFUSED, name, "MutualAuthentication %s: clients are not asked for certificates",
                       mode);
    }
}

/* The default one: of the listener itself. */
static const char *default_arn(const json_t *listener)
{
    return gw_import_string(json_array_get(json_object_get(listener, "Certificates"), 0), "CertificateArn");
}

/* The others, which server names choose: as far as their files are given. True: there was one. */
static bool write_listed(struct gw_import *self, const json_t *listener, const char *name)
{
    const char *separator = "certificates: [";
    size_t i;
    json_t *certificate;

    json_array_foreach(json_object_get(self->listener_certificates, name), i, certificate)
    {
        const char *arn = gw_import_string(certificate, "CertificateArn"), *file = file_of(self, arn, "cert");
        if (json_is_true(json_object_get(certificate, "IsDefault")))
            continue;
        if (*file == '\0') {
            gw_import_note(self, GW_IMPORT_REFUSED, name,
                           "certificate %s: left out (expected --certificate %s=FILE[,KEYFILE])", arn, arn);
            continue;
        }
        fputs(separator, self->out);
        put_certificate_name(self->out, arn);
        separator = ", ";
        if (strcmp(arn, default_arn(listener)) != 0)
            gw_import_note(self, GW_IMPORT_MAPPED, name, "certificate %s is %s", arn, file);
    }
    if (separator[1] == ' ')
        fputc(']', self->out);
    return separator[1] == ' ';
}

static void write_tls(struct gw_import *self, const json_t *listener, const char *name)
{
    const char *policy = gw_import_string(listener, "SslPolicy"), *arn = default_arn(listener),
               *file = file_of(self, arn, "cert");

    fputs(", tls: {", self->out);
    bool has_list = write_listed(self, listener, name);
    fputs(has_list ? ", default_certificate: " : "certificates: [", self->out);
    if (*file != '\0')
        put_certificate_name(self->out, arn);
    else
        fputs(name, self->out);
    fputs(has_list ? "" : "]", self->out);
    if (*file != '\0')
        gw_import_note(self, GW_IMPORT_MAPPED, name, "certificate %s is %s", arn, file);
    else if (*arn != '\0')
        gw_import_note(
            self, GW_IMPORT_APPROXIMATED, name,
            "certificate %s: a self-signed one stands in for it (expected --certificate %s=FILE[,KEYFILE], or "
            "cert and key instead of self_signed at certificates.%s)",
            arn, arn, name);
    if (tls_policy_find(policy) != NULL) {
        fputs(", policy: ", self->out);
        gw_import_text(self->out, policy);
        gw_import_note(self, GW_IMPORT_MAPPED, name, "SslPolicy %s", policy);
    } else if (*policy != '\0') {
        gw_import_note(self, GW_IMPORT_APPROXIMATED, name, "SslPolicy %s: weir's default policy (intermediate)",
                       policy);
    }
    write_client_auth(self, json_object_get(listener, "MutualAuthentication"), name);
    fputc('}', self->out);
}

/* ---- all of them ---- */

static void write_listener(struct gw_import *self, const json_t *listener)
{
    const char *protocol = gw_import_string(listener, "Protocol");
    long long port = json_integer_value(json_object_get(listener, "Port"));
    char name[64];

    gw_import_listener_name(self, listener, name, sizeof(name));
    if (strcmp(protocol, "HTTP") != 0 && strcmp(protocol, "HTTPS") != 0) {
        gw_import_note(self, GW_IMPORT_REFUSED, name, "listeners of protocol %s are none of an ALB", protocol);
        return;
    }
    fprintf(self->out, "  %s: {address: \"0.0.0.0:%lld\"", name, port);
    gw_import_note(self, GW_IMPORT_MAPPED, name, "listener on port %lld of every IPv4 address", port);
    if (strcmp(protocol, "HTTPS") == 0) {
        write_tls(self, listener, name);
        if (strcmp(gw_import_balancer_value(self, "routing.http2.enabled"), "false") == 0)
            fputs(", protocols: [http/1.1]", self->out);
    }
    write_attributes(self, name);
    fputs("}\n", self->out);
}

static void write_certificates(struct gw_import *self)
{
    const char *separator = "certificates:\n", *arn;
    size_t i;
    json_t *listener, *entry;

    json_array_foreach(self->listeners, i, listener)
    {
        char name[64];
        if (strcmp(gw_import_string(listener, "Protocol"), "HTTPS") != 0 ||
            *file_of(self, default_arn(listener), "cert") != '\0')
            continue;
        gw_import_listener_name(self, listener, name, sizeof(name));
        fprintf(self->out, "%s  %s: {self_signed: [localhost]} # in place of %s\n", separator, name,
                default_arn(listener));
        separator = "";
    }
    json_object_foreach(self->files, arn, entry)
    {
        if (json_object_get(entry, "used") == NULL || json_object_get(entry, "cert") == NULL)
            continue;
        fprintf(self->out, "%s  ", separator);
        put_certificate_name(self->out, arn);
        fputs(": {cert: ", self->out);
        gw_import_text(self->out, gw_import_string(entry, "cert"));
        fputs(", key: ", self->out);
        gw_import_text(self->out, gw_import_string(entry, "key"));
        fputs("}\n", self->out);
        separator = "";
    }
}

void gw_import_listeners(struct gw_import *self)
{
    size_t i;
    json_t *listener;

    fputs("listeners:\n", self->out);
    json_array_foreach(self->listeners, i, listener) { write_listener(self, listener); }
    write_certificates(self);
    note_unused(self);
}
