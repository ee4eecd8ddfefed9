#include "tls/client.h"
#include <stdbool.h>
#include <openssl/objects.h>
#include "tls/certificate.h"

/* What the signature_algorithms extension admits. */
static unsigned kinds_by_signature_tls13(SSL *ssl)
{
    unsigned kinds = 0;
    unsigned char low, high;
    for (int i = 0, n = SSL_get_sigalgs(ssl, 0, NULL, NULL, NULL, NULL, NULL); i < n; i++) {
        if (SSL_get_sigalgs(ssl, i, NULL, NULL, NULL, &low, &high) <= 0)
            break;
        switch (high << 8 | low) {
        case 0x0403: /* ecdsa_secp256r1_sha256 */
            kinds |= TLS_KEY_P256;
            break;
        case 0x0503:
            kinds |= TLS_KEY_P384;
            break;
        case 0x0603:
            kinds |= TLS_KEY_P521;
            break;
        case 0x0804: /* rsa_pss_rsae_sha256, 384, 512 */
        case 0x0805:
        case 0x0806:
            kinds |= TLS_KEY_RSA;
            break;
        }
    }
    return kinds;
}

static unsigned kinds_by_signature_tls12(SSL *ssl)
{
    enum { SHA1 = 2, RSA = 1, ECDSA = 3 }; /* RFC 5246 7.4.1.4.1 */
    unsigned kinds = 0;
    unsigned char low, high;
    int n = SSL_get_sigalgs(ssl, 0, NULL, NULL, NULL, NULL, NULL);
    if (n <= 0)
        return TLS_KEY_ANY; /* said nothing: SHA-1 with everything; OpenSSL refuses it where the policy does */
    for (int i = 0; i < n; i++) {
        if (SSL_get_sigalgs(ssl, i, NULL, NULL, NULL, &low, &high) <= 0)
            break;
        if (high == 8 && low >= 4 && low <= 6) /* rsa_pss_rsae */
            kinds |= TLS_KEY_RSA;
        if (high < SHA1 || high > 6 || (high == SHA1 && SSL_get_security_level(ssl) > 0))
            continue;
        if (low == RSA)
            kinds |= TLS_KEY_RSA;
        else if (low == ECDSA)
            kinds |= TLS_KEY_P256 | TLS_KEY_P384 | TLS_KEY_P521;
    }
    return kinds;
}

static unsigned kinds_by_curve(SSL *ssl)
{
    int groups[64];
    int n = SSL_get1_groups(ssl, NULL);
    if (n <= 0)
        return TLS_KEY_ANY; /* RFC 8422 4: a client that says nothing takes any */
    if (n > (int)(sizeof(groups) / sizeof(groups[0])))
        return TLS_KEY_ANY;
    unsigned kinds = TLS_KEY_RSA;
    SSL_get1_groups(ssl, groups);
    for (int i = 0; i < n; i++)
        kinds |= groups[i] == NID_X9_62_prime256v1 ? TLS_KEY_P256
                 : groups[i] == NID_secp384r1      ? TLS_KEY_P384
                 : groups[i] == NID_secp521r1      ? TLS_KEY_P521
                                                   : 0;
    return kinds;
}

static unsigned kinds_by_cipher(SSL *ssl)
{
    const STACK_OF(SSL_CIPHER) *theirs = SSL_get_client_ciphers(ssl), *ours = SSL_get_ciphers(ssl);
    unsigned kinds = 0;
    for (int i = 0; i < sk_SSL_CIPHER_num(ours); i++) {
        const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(ours, i);
        int auth = SSL_CIPHER_get_auth_nid(cipher);
        unsigned adds = auth == NID_auth_rsa     ? TLS_KEY_RSA
                        : auth == NID_auth_ecdsa ? TLS_KEY_P256 | TLS_KEY_P384 | TLS_KEY_P521
                                                 : 0;
        if ((kinds & adds) != adds && sk_SSL_CIPHER_find((STACK_OF(SSL_CIPHER) *)theirs, (SSL_CIPHER *)cipher) >= 0)
            kinds |= adds;
    }
    return kinds;
}

unsigned tls_client_key_kinds(SSL *ssl)
{
    int version = SSL_version(ssl);
    if (version >= TLS1_3_VERSION)
        return kinds_by_signature_tls13(ssl);
    unsigned kinds = kinds_by_cipher(ssl) & kinds_by_curve(ssl);
    return version == TLS1_2_VERSION ? kinds & kinds_by_signature_tls12(ssl) : kinds;
}
