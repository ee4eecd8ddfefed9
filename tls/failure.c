#include "tls/failure.h"
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

const char *tls_failure_name(enum tls_failure failure)
{
    static const char *const names[] = {
#define X(code, name, text) name,
        TLS_FAILURES(X)
#undef X
    };
    return names[failure];
}

/* Alerts that a client sends are reasons from SSL_AD_REASON_OFFSET on (RFC 8446 6). */
static enum tls_failure of_alert(int alert)
{
    switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_BAD_CERTIFICATE_STATUS_RESPONSE:
        return TLS_FAILURE_CERTIFICATE_REFUSED;
    case SSL_AD_PROTOCOL_VERSION:
        return TLS_FAILURE_VERSION;
    default:
        return TLS_FAILURE_CLIENT_ALERT;
    }
}

enum tls_failure tls_failure_of(unsigned long error)
{
    int reason = ERR_GET_REASON(error);

    if (error == 0)
        return TLS_FAILURE_CLOSED;
    if (ERR_GET_LIB(error) != ERR_LIB_SSL)
        return TLS_FAILURE_OTHER;
    if (reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + 255)
        return of_alert(reason - SSL_AD_REASON_OFFSET);
    switch (reason) {
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER: /* of the record, where plain text has letters */
    case SSL_R_BAD_RECORD_TYPE:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_RECORD_LENGTH_MISMATCH:
        return TLS_FAILURE_NOT_TLS;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_VERSION_TOO_HIGH:
    case SSL_R_INAPPROPRIATE_FALLBACK:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
        return TLS_FAILURE_VERSION;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
        return TLS_FAILURE_CIPHER;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return TLS_FAILURE_CLIENT_CERT_MISSING;
    case SSL_R_CERTIFICATE_VERIFY_FAILED: /* why: tls_failure_of_verification */
    case SSL_R_EXCESSIVE_MESSAGE_SIZE:    /* only certificates are that large */
    case SSL_R_UNKNOWN_CERTIFICATE_TYPE:
    case SSL_R_CA_MD_TOO_WEAK:
    case SSL_R_CA_KEY_TOO_SMALL:
    case SSL_R_EE_KEY_TOO_SMALL:
        return TLS_FAILURE_CLIENT_CERT_INVALID;
    case SSL_R_NO_APPLICATION_PROTOCOL:
        return TLS_FAILURE_ALPN;
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
        return TLS_FAILURE_CLOSED;
    default:
        return TLS_FAILURE_OTHER;
    }
}

enum tls_failure tls_failure_of_verification(long result)
{
    switch (result) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return TLS_FAILURE_CLIENT_CERT_EXPIRED;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return TLS_FAILURE_CLIENT_CERT_NOT_YET_VALID;
    case X509_V_ERR_CERT_REVOKED:
        return TLS_FAILURE_CLIENT_CERT_REVOKED;
    case X509_V_ERR_CRL_HAS_EXPIRED:
    case X509_V_ERR_CRL_NOT_YET_VALID:
    case X509_V_ERR_CRL_SIGNATURE_FAILURE:
    case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
    case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
    case X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD:
    case X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD:
    case X509_V_ERR_DIFFERENT_CRL_SCOPE:
        return TLS_FAILURE_CLIENT_CERT_CRL;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_UNTRUSTED:
    case X509_V_ERR_INVALID_CA:
        return TLS_FAILURE_CLIENT_CERT_UNTRUSTED;
    case X509_V_ERR_INVALID_PURPOSE:
    case X509_V_ERR_CERT_REJECTED:
        return TLS_FAILURE_CLIENT_CERT_PURPOSE;
    case X509_V_ERR_CERT_CHAIN_TOO_LONG:
    case X509_V_ERR_PATH_LENGTH_EXCEEDED:
        return TLS_FAILURE_CLIENT_CERT_DEPTH;
    default:
        return TLS_FAILURE_CLIENT_CERT_INVALID;
    }
}
