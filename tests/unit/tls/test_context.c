#include "fixture.h"

enum { WILDCARD, SITE_RSA, SITE_P256, OTHER_P384, OTHER_RSA, DEFAULT, NUM_CERTIFICATES };
static struct tls_certificate *certificates[NUM_CERTIFICATES];

static int load_certificates(void **state)
{
    make_folder(state);
    certificates[WILDCARD] =
        test_certificate("wildcard", (struct recipe){.names = "DNS:*.example.com", .key = "RSA2048"});
    certificates[SITE_RSA] =
        test_certificate("site_rsa", (struct recipe){.names = "DNS:site.example.com", .key = "RSA2048"});
    certificates[SITE_P256] = test_certificate("site_p256", (struct recipe){.names = "DNS:site.example.com"});
    certificates[OTHER_P384] =
        test_certificate("other_p384", (struct recipe){.names = "DNS:other.example.com", .key = "P-384"});
    certificates[OTHER_RSA] =
        test_certificate("other_rsa", (struct recipe){.names = "DNS:other.example.com", .key = "RSA2048"});
    certificates[DEFAULT] =
        test_certificate("default", (struct recipe){.names = "DNS:default.example.org", .key = "P-521"});
    return 0;
}

static int destroy_certificates(void **state)
{
    for (size_t i = 0; i < NUM_CERTIFICATES; i++)
        tls_certificate_destroy(certificates[i]);
    return remove_folder(state);
}

/* The listener of most tests: the default and all the others. */
static struct tls_context *listener(const char *policy)
{
    struct tls_certificate *all[] = {certificates[DEFAULT],   certificates[WILDCARD],   certificates[SITE_RSA],
                                     certificates[SITE_P256], certificates[OTHER_P384], certificates[OTHER_RSA]};
    return test_context(policy, "https", NULL, all, NUM_CERTIFICATES);
}

struct client {
    const char *name;
    int version;            /* 0: whatever they agree upon */
    const char *ciphers;    /* up to TLS 1.2 */
    const char *signatures; /* signature algorithms */
    const char *groups;
};

static SSL_CTX *context_for(const struct client *as)
{
    SSL_CTX *ctx = client_context(as->version, as->version);
    if (as->ciphers != NULL)
        assert_int_equal(SSL_CTX_set_cipher_list(ctx, as->ciphers), 1);
    if (as->signatures != NULL)
        assert_int_equal(SSL_CTX_set1_sigalgs_list(ctx, as->signatures), 1);
    if (as->groups != NULL)
        assert_int_equal(SSL_CTX_set1_groups_list(ctx, as->groups), 1);
    return ctx;
}

/* Which certificate this client was shown; NUM_CERTIFICATES when there was no handshake. */
static int shown(struct tls_context *context, struct client as)
{
    struct pair pair;
    int found = NUM_CERTIFICATES;
    SSL_CTX *client = context_for(&as);
    pair_init(&pair, client, tls_context_ssl(context), as.name, NULL);
    if (pair_handshake(&pair)) {
        X509 *leaf = SSL_get0_peer_certificate(pair.client);
        for (found = 0; found < NUM_CERTIFICATES && X509_cmp(certificates[found]->leaf, leaf) != 0;)
            found++;
        assert_int_not_equal(found, NUM_CERTIFICATES);
        pair_talk(&pair);
    }
    pair_dispose(&pair);
    SSL_CTX_free(client);
    return found;
}

static void assert_shown(struct tls_context *context, struct client as, int expected)
{
    int got = shown(context, as);
    if (got != expected)
        fail_msg("name %s, version %x, ciphers %s, signatures %s, groups %s: certificate %d, not %d",
                 as.name != NULL ? as.name : "-", as.version, as.ciphers != NULL ? as.ciphers : "-",
                 as.signatures != NULL ? as.signatures : "-", as.groups != NULL ? as.groups : "-", got, expected);
}

/* --- choice of certificate ---------------------------------------------------------------------------------------- */
static void the_server_name_chooses_the_certificate(void **state)
{
    struct tls_context *context = listener("old");
    static const int versions[] = {0, TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION};
    for (size_t v = 0; v < 5; v++) {
        assert_shown(context, (struct client){NULL, versions[v]}, DEFAULT);
        assert_shown(context, (struct client){"default.example.org", versions[v]}, DEFAULT);
        assert_shown(context, (struct client){"unknown.example.org", versions[v]}, DEFAULT);
        assert_shown(context, (struct client){"example.com", versions[v]}, DEFAULT);
        assert_shown(context, (struct client){"a.b.example.com", versions[v]}, DEFAULT);
        assert_shown(context, (struct client){"site.example.com", versions[v]}, SITE_P256);
        assert_shown(context, (struct client){"SITE.Example.com.", versions[v]}, SITE_P256);
        assert_shown(context, (struct client){"other.example.com", versions[v]}, OTHER_P384);
        assert_shown(context, (struct client){"any.example.com", versions[v]}, WILDCARD);
    }
    tls_context_destroy(context);
}

#define RSA_PSS "RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512"

static void tls13_clients_are_understood_by_their_signatures(void **state)
{
    struct tls_context *context = listener("intermediate");
    struct client as = {"site.example.com", TLS1_3_VERSION};
    as.signatures = RSA_PSS;
    assert_shown(context, as, SITE_RSA);
    as.signatures = RSA_PSS ":ECDSA+SHA256";
    assert_shown(context, as, SITE_P256);
    as.signatures = RSA_PSS ":ECDSA+SHA384"; /* binds to P-384 in TLS 1.3 */
    assert_shown(context, as, SITE_RSA);
    as.name = "other.example.com";
    assert_shown(context, as, OTHER_P384);
    as.signatures = "ECDSA+SHA256:RSA-PSS+SHA256";
    assert_shown(context, as, OTHER_RSA);
    as.signatures = "RSA-PSS+SHA512";
    assert_shown(context, as, OTHER_RSA);
    tls_context_destroy(context);
}

static void tls12_clients_are_understood_by_ciphers_signatures_and_curves(void **state)
{
    struct tls_context *context = listener("intermediate");
    struct client as = {"site.example.com", TLS1_2_VERSION};
    as.ciphers = "ECDHE-RSA-AES128-GCM-SHA256";
    assert_shown(context, as, SITE_RSA);
    as.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256";
    assert_shown(context, as, SITE_P256);
    as.ciphers = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256";
    assert_shown(context, as, SITE_P256);
    as.ciphers = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA"; /* ECDSA only with what the policy refuses */
    assert_shown(context, as, SITE_RSA);
    as.ciphers = "DHE-RSA-AES128-GCM-SHA256";
    assert_shown(context, as, SITE_RSA);

    as.ciphers = NULL;
    as.signatures = "RSA+SHA256";
    assert_shown(context, as, SITE_RSA);
    as.signatures = "RSA-PSS+SHA256";
    assert_shown(context, as, SITE_RSA);
    as.signatures = "ECDSA+SHA256:RSA+SHA256";
    assert_shown(context, as, SITE_P256);
    as.signatures = "ECDSA+SHA384:RSA+SHA256"; /* does not bind to a curve in TLS 1.2 */
    assert_shown(context, as, SITE_P256);
    as.signatures = "ECDSA+SHA1:RSA+SHA256"; /* the policy does not sign with SHA-1 */
    assert_shown(context, as, SITE_RSA);

    as.signatures = NULL;
    as.name = "other.example.com";
    as.groups = "X25519:P-256";
    assert_shown(context, as, OTHER_RSA);
    as.groups = "X25519:P-384";
    assert_shown(context, as, OTHER_P384);
    tls_context_destroy(context);
}

static void old_clients_are_understood_by_their_ciphers(void **state)
{
    struct tls_context *context = listener("old");
    struct client as = {"site.example.com", TLS1_VERSION};
    as.ciphers = "AES128-SHA"; /* RSA key exchange */
    assert_shown(context, as, SITE_RSA);
    as.ciphers = "ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA";
    assert_shown(context, as, SITE_P256);
    as.version = TLS1_2_VERSION;
    as.signatures = "ECDSA+SHA1:RSA+SHA1"; /* this policy does sign with SHA-1 */
    assert_shown(context, as, SITE_P256);
    tls_context_destroy(context);
}

/* spec/alb.md, test vector 27 */
static void an_ecdsa_wildcard_beats_an_exact_rsa_name(void **state)
{
    struct tls_certificate *wildcard = test_certificate("w", (struct recipe){.names = "DNS:*.example.com"});
    struct tls_certificate *all[] = {certificates[DEFAULT], certificates[SITE_RSA], wildcard};
    struct tls_context *context = test_context("intermediate", "https", NULL, all, 3);
    struct pair pair;
    SSL_CTX *client = client_context(0, 0);
    pair_init(&pair, client, tls_context_ssl(context), "site.example.com", NULL);
    assert_true(pair_handshake(&pair));
    assert_int_equal(X509_cmp(SSL_get0_peer_certificate(pair.client), wildcard->leaf), 0);
    pair_dispose(&pair);
    SSL_CTX_free(client);
    assert_shown(context, (struct client){"site.example.com", TLS1_3_VERSION, .signatures = RSA_PSS}, SITE_RSA);
    tls_context_destroy(context);
    tls_certificate_destroy(wildcard);
}

static void a_client_that_can_use_no_certificate_hears_handshake_failure(void **state)
{
    struct tls_context *context = test_context("intermediate", "https", NULL, &certificates[SITE_P256], 1);
    static const struct client clients[] = {
        {"site.example.com", TLS1_3_VERSION, .signatures = RSA_PSS},
        {"site.example.com", TLS1_2_VERSION, .ciphers = "ECDHE-RSA-AES128-GCM-SHA256"},
        {NULL, TLS1_2_VERSION, .ciphers = "ECDHE-RSA-AES128-GCM-SHA256"},
    };
    for (size_t i = 0; i < 3; i++) {
        struct pair pair;
        SSL_CTX *client = context_for(&clients[i]);
        pair_init(&pair, client, tls_context_ssl(context), clients[i].name, NULL);
        assert_false(pair_handshake(&pair));
        assert_int_equal(pair.client_alert, SSL_AD_HANDSHAKE_FAILURE);
        pair_dispose(&pair);
        SSL_CTX_free(client);
    }
    tls_context_destroy(context);
}

static void the_whole_chain_is_sent(void **state)
{
    struct gw_errors errors;
    gw_errors_init(&errors);
    EVP_PKEY *root_key = test_key("P-384");
    X509 *root = test_x509(&(struct recipe){.cn = "Root", .key = "P-384", .is_ca = true}, NULL, NULL);
    X509 *leaf = test_x509(&(struct recipe){.names = "DNS:a.example.com"}, root, root_key);
    write_chain("chain.pem", leaf, root, NULL);
    write_key("chain.key", "P-256", 0600);
    struct tls_certificate *certificate = load_named("chain", "chain.pem", "chain.key", &errors);
    struct tls_context *context = test_context("intermediate", "https", NULL, &certificate, 1);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct pair pair;
        SSL_CTX *client = client_context(version, version);
        X509_STORE_add_cert(SSL_CTX_get_cert_store(client), root);
        pair_init(&pair, client, tls_context_ssl(context), "a.example.com", NULL);
        SSL_set_verify(pair.client, SSL_VERIFY_PEER, NULL);
        SSL_set1_host(pair.client, "a.example.com");
        assert_true(pair_handshake(&pair));
        assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(pair.client)), 2);
        pair_dispose(&pair);
        SSL_CTX_free(client);
    }
    tls_context_destroy(context);
    tls_certificate_destroy(certificate);
    X509_free(root);
    X509_free(leaf);
    EVP_PKEY_free(root_key);
    gw_errors_dispose(&errors);
}

/* --- protocol ----------------------------------------------------------------------------------------------------- */
static struct tls_context *alpn_context(const char *const *alpn, size_t num_alpn, struct tls_tickets *tickets)
{
    static const struct tls_listener_conf conf = {.policy = 1, .session_tickets = true};
    struct gw_errors errors;
    gw_errors_init(&errors);
    struct tls_context *context = tls_context_create(&conf, h2o_iovec_init(H2O_STRLIT("https")),
                                                     &certificates[SITE_P256], 1, alpn, num_alpn, tickets, &errors);
    assert_non_null(context);
    gw_errors_dispose(&errors);
    return context;
}

/* "" when none was agreed upon, NULL when the handshake failed. */
static const char *alpn_with(struct tls_context *context, int version, const char *offer)
{
    static char agreed[32];
    struct pair pair;
    const unsigned char *name;
    unsigned len;
    SSL_CTX *client = client_context(version, version);
    if (offer != NULL)
        assert_int_equal(SSL_CTX_set_alpn_protos(client, (const unsigned char *)offer, strlen(offer)), 0);
    pair_init(&pair, client, tls_context_ssl(context), NULL, NULL);
    bool is_good = pair_handshake(&pair);
    if (is_good) {
        SSL_get0_alpn_selected(pair.client, &name, &len);
        snprintf(agreed, sizeof(agreed), "%.*s", (int)len, (const char *)name);
    } else {
        assert_int_equal(pair.client_alert, SSL_AD_NO_APPLICATION_PROTOCOL);
    }
    pair_dispose(&pair);
    SSL_CTX_free(client);
    return is_good ? agreed : NULL;
}

static void alpn_follows_the_listeners_preference(void **state)
{
    struct tls_context *both = alpn_context((const char *const[]){"h2", "http/1.1"}, 2, NULL);
    struct tls_context *one = alpn_context((const char *const[]){"http/1.1"}, 1, NULL);
    struct tls_context *none = alpn_context(NULL, 0, NULL);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        assert_string_equal(alpn_with(both, version, "\x08http/1.1\x02h2"), "h2");
        assert_string_equal(alpn_with(both, version, "\x08http/1.1"), "http/1.1");
        assert_string_equal(alpn_with(one, version, "\x02h2\x08http/1.1"), "http/1.1");
        assert_string_equal(alpn_with(one, version, NULL), "");
        assert_string_equal(alpn_with(none, version, "\x02h2"), "");
        /* RFC 7301 3.2 */
        assert_null(alpn_with(one, version, "\x02h2"));
        assert_null(alpn_with(one, version, "\x08HTTP/1.1"));
        assert_null(alpn_with(both, version,
                              "\x03"
                              "foo"));
    }
    tls_context_destroy(both);
    tls_context_destroy(one);
    tls_context_destroy(none);
}

static void renegotiation_is_refused_and_the_connection_goes_on(void **state)
{
    struct tls_context *context = listener("intermediate");
    struct pair pair;
    SSL_CTX *client = client_context(TLS1_2_VERSION, TLS1_2_VERSION);
    pair_init(&pair, client, tls_context_ssl(context), "site.example.com", NULL);
    assert_true(pair_handshake(&pair));
    assert_int_equal(SSL_get_secure_renegotiation_support(pair.client), 1); /* RFC 5746 is answered */
    pair_talk(&pair);
    char byte;
    assert_int_equal(SSL_renegotiate(pair.client), 1);
    SSL_do_handshake(pair.client); /* sends the ClientHello */
    ERR_clear_error();
    assert_int_equal(SSL_read(pair.server, &byte, 1), -1);
    assert_int_equal(SSL_get_error(pair.server, -1), SSL_ERROR_WANT_READ); /* answered with a warning */
    ERR_clear_error();
    assert_true(SSL_do_handshake(pair.client) <= 0);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
    assert_int_equal(SSL_num_renegotiations(pair.server), 0);
    pair_dispose(&pair);
    SSL_CTX_free(client);
    tls_context_destroy(context);
}

static void early_data_is_not_offered(void **state)
{
    struct tls_tickets *tickets = tls_tickets_create(0);
    struct tls_context *context = alpn_context((const char *const[]){"http/1.1"}, 1, tickets);
    struct pair pair;
    SSL_CTX *client = client_context(TLS1_3_VERSION, TLS1_3_VERSION);
    pair_init(&pair, client, tls_context_ssl(context), NULL, NULL);
    assert_true(pair_handshake(&pair));
    pair_talk(&pair);
    SSL_SESSION *session = SSL_get1_session(pair.client);
    assert_true(SSL_SESSION_has_ticket(session));
    assert_int_equal(SSL_SESSION_get_max_early_data(session), 0);
    SSL_SESSION_free(session);
    pair_dispose(&pair);
    SSL_CTX_free(client);
    tls_context_destroy(context);
    tls_tickets_destroy(tickets);
}

static void garbage_and_plain_http_are_refused(void **state)
{
    static const char *const openings[] = {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\x16\x03\x01\xff\xff\x01",
                                           "SSH-2.0-x\r\n", "\x16\x03\x01\x00\x05hello", "\x80\x2e\x01\x03\x01"};
    struct tls_context *context = listener("intermediate");
    for (size_t i = 0; i < sizeof(openings) / sizeof(openings[0]); i++) {
        SSL *server = SSL_new(tls_context_ssl(context));
        BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
        SSL_set_bio(server, in, out);
        SSL_set_accept_state(server);
        char bytes[4096] = {0};
        strcpy(bytes, openings[i]);
        BIO_write(in, bytes, sizeof(bytes));
        assert_int_equal(shake(server), -1);
        SSL_free(server);
        ERR_clear_error();
    }
    tls_context_destroy(context);
}

/* --- life --------------------------------------------------------------------------------------------------------- */
static void a_handshake_outlives_context_and_certificates(void **state)
{
    struct tls_certificate *certificate = test_certificate("short", (struct recipe){.names = "DNS:a.example.com"});
    struct tls_context *context = test_context("intermediate", "https", NULL, &certificate, 1);
    struct pair pair;
    SSL_CTX *client = client_context(0, 0);
    pair_init(&pair, client, tls_context_ssl(context), "a.example.com", NULL);
    tls_context_destroy(context); /* a reload, before the ClientHello arrives */
    tls_certificate_destroy(certificate);
    assert_true(pair_handshake(&pair));
    pair_talk(&pair);
    assert_int_equal(SSL_version(pair.server), TLS1_3_VERSION);
    pair_dispose(&pair);
    SSL_CTX_free(client);
}

static void idle_connections_give_their_record_buffers_back(void **state)
{
    struct tls_context *context = listener("intermediate");
    assert_true(SSL_CTX_get_mode(tls_context_ssl(context)) & SSL_MODE_RELEASE_BUFFERS);
    tls_context_destroy(context);
}

/* --- errors and settings ------------------------------------------------------------------------------------------ */
static void a_certificate_too_weak_for_the_policy_is_refused_at_the_start(void **state)
{
    struct gw_errors errors;
    gw_errors_init(&errors);
    EVP_PKEY *root_key = test_key("P-384");
    X509 *root = test_x509(&(struct recipe){.cn = "Root", .key = "P-384", .is_ca = true}, NULL, NULL);
    X509 *leaf = test_x509(&(struct recipe){.names = "DNS:a.example.com", .digest = "SHA1"}, root, root_key);
    write_chain("weak.pem", leaf, NULL);
    write_key("weak.key", "P-256", 0600);
    struct tls_certificate *certificate = load_named("weak", "weak.pem", "weak.key", &errors);
    assert_non_null(certificate);
    struct tls_listener_conf conf = {.policy = 1};
    assert_null(
        tls_context_create(&conf, h2o_iovec_init(H2O_STRLIT("https")), &certificate, 1, NULL, 0, NULL, &errors));
    assert_int_equal(errors.num_errors, 1);
    assert_finding(&errors, GW_ERROR, "certificate \"weak\" cannot serve under policy intermediate: ");
    gw_errors_dispose(&errors);

    tls_context_destroy(test_context("old", "https", NULL, &certificate, 1)); /* takes it */
    tls_certificate_destroy(certificate);
    X509_free(root);
    X509_free(leaf);
    EVP_PKEY_free(root_key);
}

static bool load_settings(const char *text, struct tls_listener_conf *conf, const char *message)
{
    static h2o_mem_pool_t pool;
    struct gw_errors errors;
    gw_errors_init(&errors);
    h2o_mem_init_pool(&pool);
    struct gw_loader loader = {.pool = &pool, .errors = &errors};
    struct gw_node *node =
        gw_yaml_load_text(&pool, "weir.yaml", h2o_iovec_init(text, strlen(text)), false, NULL, &errors);
    bool is_good = gw_settings_load(&loader, &tls_listener_section, node, conf);
    if (message != NULL)
        assert_finding(&errors, GW_ERROR, message);
    assert_int_equal(errors.size, message != NULL ? 1 : 0);
    gw_errors_dispose(&errors);
    h2o_mem_clear_pool(&pool);
    return is_good;
}

static void settings_have_their_defaults(void **state)
{
    struct tls_listener_conf conf;
    assert_true(load_settings("{certificates: site}", &conf, NULL));
    assert_string_equal(tls_policy_names[conf.policy], "intermediate");
    assert_int_equal(conf.handshake_timeout_ms, 10000);
    assert_true(conf.session_tickets);
    assert_int_equal(conf.certificates.size, 1);
}

static void wrong_settings_are_refused(void **state)
{
    struct tls_listener_conf conf;
    assert_false(load_settings("{certificates: [a, b, a]}", &conf, "certificate \"a\" is listed twice"));
    assert_false(load_settings("{certificates: []}", &conf, "at least one certificate"));
    assert_false(load_settings("{certificates: a, policy: intermediat}", &conf, "intermediate"));
    assert_true(load_settings("{certificates: a, policy: ELBSecurityPolicy-2015-05}", &conf, NULL));
}

static void explain_says_which_certificate_and_why(void **state)
{
    static const struct {
        const char *name, *certificate, *text;
    } cases[] = {
        {NULL, "default", "\"default\" (ECDSA, 521 bits): the default, as the client names no host"},
        {"nobody.example", "default", "\"default\" (ECDSA, 521 bits): the default, as no certificate has this name"},
        {"SITE.example.com", "site_p256", "\"site_p256\" (ECDSA, 256 bits): has exactly this name"},
        {"x.example.com", "wildcard", "\"wildcard\" (RSA, 2048 bits): has a wildcard for this name"},
    };
    struct tls_context *context = listener("intermediate");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct gw_trace trace;
        gw_trace_init(&trace);
        h2o_iovec_t name = h2o_iovec_init(cases[i].name, cases[i].name != NULL ? strlen(cases[i].name) : 0);
        const struct tls_certificate *chosen = tls_context_select(context, name, &trace);
        assert_string_equal(chosen->name.base, cases[i].certificate);
        assert_ptr_equal(tls_context_select(context, name, NULL), chosen);
        assert_int_equal(trace.size, 1);
        assert_string_equal(trace.entries[0].stage, "certificate");
        assert_string_equal(trace.entries[0].text, cases[i].text);
        gw_trace_dispose(&trace);
    }
    tls_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_server_name_chooses_the_certificate),
        cmocka_unit_test(tls13_clients_are_understood_by_their_signatures),
        cmocka_unit_test(tls12_clients_are_understood_by_ciphers_signatures_and_curves),
        cmocka_unit_test(old_clients_are_understood_by_their_ciphers),
        cmocka_unit_test(an_ecdsa_wildcard_beats_an_exact_rsa_name),
        cmocka_unit_test(a_client_that_can_use_no_certificate_hears_handshake_failure),
        cmocka_unit_test(the_whole_chain_is_sent),
        cmocka_unit_test(alpn_follows_the_listeners_preference),
        cmocka_unit_test(renegotiation_is_refused_and_the_connection_goes_on),
        cmocka_unit_test(early_data_is_not_offered),
        cmocka_unit_test(garbage_and_plain_http_are_refused),
        cmocka_unit_test(a_handshake_outlives_context_and_certificates),
        cmocka_unit_test(idle_connections_give_their_record_buffers_back),
        cmocka_unit_test(a_certificate_too_weak_for_the_policy_is_refused_at_the_start),
        cmocka_unit_test(settings_have_their_defaults),
        cmocka_unit_test(wrong_settings_are_refused),
        cmocka_unit_test(explain_says_which_certificate_and_why),
    };
    return cmocka_run_group_tests(tests, load_certificates, destroy_certificates);
}
