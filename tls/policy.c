#include "tls/policy.h"
#include <assert.h>
#include <string.h>

/* Mozilla guidelines 5.7, intermediate. Names that this OpenSSL lacks (3DES in old) are skipped by it. */
#define MOZILLA_AEAD                                                                                                   \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"                         \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"                           \
    "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"
#define MOZILLA_OLD                                                                                                    \
    MOZILLA_AEAD ":ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:"     \
                 "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:"      \
                 "DHE-RSA-AES128-SHA256:DHE-RSA-AES256-SHA256:AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA256:"      \
                 "AES256-SHA256:AES128-SHA:AES256-SHA:DES-CBC3-SHA"

/* The rows of spec/alb.md 1.3, named by its letters and key length; a policy joins those it contains in that order. */
#define A128      "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
#define B128      ":ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256"
#define C128      ":ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"
#define A256      ":ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
#define B256      ":ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384"
#define C256      ":ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA"
#define D128      ":AES128-GCM-SHA256:AES128-SHA256"
#define E128      ":AES128-SHA"
#define D256      ":AES256-GCM-SHA384:AES256-SHA256"
#define E256      ":AES256-SHA"
#define ELB_A     A128 A256
#define ELB_AB    A128 B128 A256 B256
#define ELB_ABC   A128 B128 C128 A256 B256 C256
#define ELB_ABD   A128 B128 A256 B256 D128 D256
#define ELB_ABCDE A128 B128 C128 A256 B256 C256 D128 E128 D256 E256

#define T      "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS "X25519:P-256:P-384"

/* One list gives the table and the names, so that an index means the same in both. */
#define POLICIES(MOZILLA, ELB)                                                                                         \
    MOZILLA("modern", TLS1_3_VERSION, NULL, false)                                                                     \
    MOZILLA("intermediate", TLS1_2_VERSION, MOZILLA_AEAD, false)                                                       \
    MOZILLA("old", TLS1_VERSION, MOZILLA_OLD, true)                                                                    \
    ELB("TLS13-1-3-2021-06", TLS1_3_VERSION, TLS1_3_VERSION, NULL, T)                                                  \
    ELB("TLS13-1-3-PQ-2025-09", TLS1_3_VERSION, TLS1_3_VERSION, NULL, T)                                               \
    ELB("TLS13-1-2-Res-2021-06", TLS1_2_VERSION, TLS1_3_VERSION, ELB_A, T)                                             \
    ELB("TLS13-1-2-Res-PQ-2025-09", TLS1_2_VERSION, TLS1_3_VERSION, ELB_A, T)                                          \
    ELB("TLS13-1-2-2021-06", TLS1_2_VERSION, TLS1_3_VERSION, ELB_AB, T)                                                \
    ELB("TLS13-1-2-PQ-2025-09", TLS1_2_VERSION, TLS1_3_VERSION, ELB_AB, T)                                             \
    ELB("TLS13-1-2-Ext1-2021-06", TLS1_2_VERSION, TLS1_3_VERSION, ELB_ABD, T)                                          \
    ELB("TLS13-1-2-Ext1-PQ-2025-09", TLS1_2_VERSION, TLS1_3_VERSION, ELB_ABD, T)                                       \
    ELB("TLS13-1-2-Ext2-2021-06", TLS1_2_VERSION, TLS1_3_VERSION, ELB_ABCDE, T)                                        \
    ELB("TLS13-1-2-Ext2-PQ-2025-09", TLS1_2_VERSION, TLS1_3_VERSION, ELB_ABCDE, T)                                     \
    ELB("TLS13-1-1-2021-06", TLS1_1_VERSION, TLS1_3_VERSION, ELB_ABCDE, T)                                             \
    ELB("TLS13-1-0-2021-06", TLS1_VERSION, TLS1_3_VERSION, ELB_ABCDE, T)                                               \
    ELB("TLS13-1-0-PQ-2025-09", TLS1_VERSION, TLS1_3_VERSION, ELB_ABCDE, T)                                            \
    ELB("2016-08", TLS1_VERSION, TLS1_2_VERSION, ELB_ABCDE, NULL)                                                      \
    ELB("2015-05", TLS1_VERSION, TLS1_2_VERSION, ELB_ABCDE, NULL)                                                      \
    ELB("TLS-1-1-2017-01", TLS1_1_VERSION, TLS1_2_VERSION, ELB_ABCDE, NULL)                                            \
    ELB("TLS-1-2-2017-01", TLS1_2_VERSION, TLS1_2_VERSION, ELB_ABD, NULL)                                              \
    ELB("TLS-1-2-Ext-2018-06", TLS1_2_VERSION, TLS1_2_VERSION, ELB_ABCDE, NULL)                                        \
    ELB("FS-2018-06", TLS1_VERSION, TLS1_2_VERSION, ELB_ABC, NULL)                                                     \
    ELB("FS-1-1-2019-08", TLS1_1_VERSION, TLS1_2_VERSION, ELB_ABC, NULL)                                               \
    ELB("FS-1-2-2019-08", TLS1_2_VERSION, TLS1_2_VERSION, ELB_ABC, NULL)                                               \
    ELB("FS-1-2-Res-2019-08", TLS1_2_VERSION, TLS1_2_VERSION, ELB_AB, NULL)                                            \
    ELB("FS-1-2-Res-2020-10", TLS1_2_VERSION, TLS1_2_VERSION, ELB_A, NULL)

#define MOZILLA_ROW(name, min, ciphers, prefer) {name, min, TLS1_3_VERSION, ciphers, T, GROUPS, prefer, true},
#define ELB_ROW(name, min, max, ciphers, suites)                                                                       \
    {"ELBSecurityPolicy-" name, min, max, ciphers, suites, GROUPS, true, false},
#define MOZILLA_NAME(name, ...) name,
#define ELB_NAME(name, ...)     "ELBSecurityPolicy-" name,

static const struct tls_policy policies[] = {POLICIES(MOZILLA_ROW, ELB_ROW)};
const char *const tls_policy_names[] = {POLICIES(MOZILLA_NAME, ELB_NAME) NULL};

const struct tls_policy *tls_policy_find(const char *name)
{
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++)
        if (strcmp(policies[i].name, name) == 0)
            return &policies[i];
    return NULL;
}

const struct tls_policy *tls_policy_at(int index)
{
    assert(index >= 0 && (size_t)index < sizeof(policies) / sizeof(policies[0]));
    return &policies[index];
}

bool tls_policy_apply(const struct tls_policy *policy, SSL_CTX *ctx)
{
    /* TLS 1.0 and 1.1 sign with MD5 and SHA-1 together, which OpenSSL 3 does only at level 0. The explicit cipher list
     * keeps everything else out that this level would let in. */
    SSL_CTX_set_security_level(ctx, policy->min_version < TLS1_2_VERSION ? 0 : 2);

    uint64_t options = SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION;
    if (policy->server_preference)
        options |= SSL_OP_CIPHER_SERVER_PREFERENCE;
    if (policy->chacha_for_phones)
        options |= SSL_OP_PRIORITIZE_CHACHA;
    SSL_CTX_clear_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                   SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION | SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
    SSL_CTX_set_options(ctx, options);
    SSL_CTX_set_dh_auto(ctx, 1); /* a group as strong as the key of the certificate */

    return SSL_CTX_set_min_proto_version(ctx, policy->min_version) == 1 &&
           SSL_CTX_set_max_proto_version(ctx, policy->max_version) == 1 &&
           (policy->ciphers == NULL || SSL_CTX_set_cipher_list(ctx, policy->ciphers) == 1) &&
           (policy->ciphersuites == NULL || SSL_CTX_set_ciphersuites(ctx, policy->ciphersuites) == 1) &&
           SSL_CTX_set1_groups_list(ctx, policy->groups) == 1 && SSL_CTX_set_max_early_data(ctx, 0) == 1 &&
           SSL_CTX_set_recv_max_early_data(ctx, 0) == 1;
}
