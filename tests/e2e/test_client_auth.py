"""Client certificates: who is let in, what targets, routes and logs are told, what becomes of forged fields."""
import datetime
import re
import socket
import ssl
import subprocess
import urllib.parse

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from client import Client, Closed
from h2client import H2Client
from origin import Origin
from test_tls import V12, V13, certificate, key_of, key_pem, pem
from weir import Weir, wait_for

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
NOW = datetime.datetime.utcnow().replace(microsecond=0)
DAY = datetime.timedelta(days=1)
AUTHORITY = certificate(["Authority One"], kind="p256-ca", is_ca=True)
STRANGER = certificate(["Authority One"], kind="p256-stranger", is_ca=True)  # the same name, another key
TEXT = """
worker_threads: 1
certificates: {site: {self_signed: [localhost, other.example]}}
listeners:
  verify:
    address: "127.0.0.1:@verify@"
    tls: {certificates: site, client_auth: {mode: verify, trust_store: ca.pem, crl: [crl.pem]}}
  passed: {address: "127.0.0.1:@passed@", tls: {certificates: site, client_auth: passthrough}}
  off: {address: "127.0.0.1:@off@", tls: {certificates: site}}
  lax: {address: "127.0.0.1:@lax@", tls: {certificates: site, client_auth: {mode: verify, trust_store: ca.pem, ignore_expiry: true, advertise_ca_names: true, depth: 1}}}
  plain: {address: "127.0.0.1:@plain@"}
target_groups: {origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}}
routes:
  - {name: eve, match: {path: /who, header: {x-amzn-mtls-clientcert-subject: "*CN=eve*"}}, respond: {status: 200, body: eve}}
  - {name: nobody, match: {path: /who}, respond: {status: 200, body: nobody}}
  - {name: all, forward: origin}
"""
NAMES = ["", "-serial-number", "-issuer", "-subject", "-validity", "-leaf"]


def leaf(name, issuer=None, key="p256-client", serial=None, begin=-DAY, end=30 * DAY, usage=ExtendedKeyUsageOID.CLIENT_AUTH,
         subject=None, signed_with=None, is_ca=False):
    issuer = issuer or AUTHORITY
    builder = (x509.CertificateBuilder()
               .subject_name(subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
               .issuer_name(issuer.subject).public_key(key_of(key).public_key())
               .serial_number(serial or x509.random_serial_number())
               .not_valid_before(NOW + begin).not_valid_after(NOW + end))
    if is_ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    else:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(key_of(signed_with or ("p256-stranger" if issuer is STRANGER else "p256-ca")), hashes.SHA256())


def crl(*serials, issuer=AUTHORITY, key="p256-ca", end=30 * DAY):
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject).last_update(NOW - 2 * DAY).next_update(NOW + end)
    for serial in serials:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY).build())
    return builder.sign(key_of(key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


EVE = leaf("eve", serial=0x03A5B1, subject=x509.Name([
    x509.NameAttribute(NameOID.COUNTRY_NAME, "US"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, 'J\u00f6rg, "Sons"'),
    x509.NameAttribute(NameOID.COMMON_NAME, "eve")]))


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


def start(origin):
    return Weir(TEXT, origin=origin.port, files={"ca.pem": pem(AUTHORITY), "crl.pem": crl(666)})


@pytest.fixture(scope="module")
def gateway(origin):
    with start(origin) as running:
        yield running


def context_of(gateway, cert=None, key="p256-client", chain=(), version=V13):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    if cert is not None:
        files = gateway.folder / "client.pem"
        files.write_bytes(pem(cert, *chain) + (key if isinstance(key, bytes) else key_pem(key)))
        context.load_cert_chain(files)
    return context


def ask(gateway, cert=None, target="/", listener="verify", headers=(), name="localhost", **options):
    context = context_of(gateway, cert, **options)
    with Client(gateway.port(listener), tls=(context, name)) as client:
        client.request("GET", target, headers)
        return client.response()


def failures(gateway):
    return {dict(labels)["reason"]: value for (name, labels), value in gateway.metrics().items()
            if name == "weir_tls_handshake_failures_total" and value}


def refused(gateway, reason, cert=None, listener="verify", alert=None, **options):
    """The handshake fails, is counted under exactly this reason, and the client is told by an alert."""
    before = failures(gateway)
    with pytest.raises((ssl.SSLError, ConnectionError, Closed)) as caught:
        ask(gateway, cert, listener=listener, **options)
    wait_for(lambda: failures(gateway) != before, "a counted failure")
    after = failures(gateway)
    assert {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)} == {reason: 1}
    if alert:
        said = f"{caught.value} {caught.value.__cause__}".replace("_", " ")
        assert re.search(alert, said, re.I), said


def told(request):
    return {name: value for name, value in request.fields if name.lower().startswith("x-amzn-mtls")}


def at_origin(origin, target):
    return [request for request in origin.requests if request.target == target][-1]


# --- verify ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", [V12, V13], ids=["TLS 1.2", "TLS 1.3"])
def test_a_good_certificate_is_let_in_and_the_target_is_told_whose_it_is(gateway, origin, version):
    assert ask(gateway, EVE, f"/verify-{version}", version=version).status == 200
    fields = told(at_origin(origin, f"/verify-{version}"))
    leaf_pem = fields.pop("x-amzn-mtls-clientcert-leaf")
    assert fields == {
        "x-amzn-mtls-clientcert-serial-number": "03A5B1",
        "x-amzn-mtls-clientcert-issuer": "CN=Authority One",
        "x-amzn-mtls-clientcert-subject": r"CN=eve,O=J\C3\B6rg\, \"Sons\",C=US",
        "x-amzn-mtls-clientcert-validity": f"NotBefore={(NOW - DAY).isoformat()}Z;NotAfter={(NOW + 30 * DAY).isoformat()}Z",
    }
    assert re.fullmatch(r"-----BEGIN%20CERTIFICATE-----%0A([A-Za-z0-9+/=]+%0A)+-----END%20CERTIFICATE-----%0A", leaf_pem)
    assert urllib.parse.unquote(leaf_pem).encode() == pem(EVE)


def test_a_plus_in_the_certificate_stays_a_plus(gateway, origin):
    cert = next(c for c in (leaf(f"plus {i}") for i in range(100)) if b"+" in pem(c) and b"/" in pem(c))
    assert ask(gateway, cert, "/plus").status == 200
    value = told(at_origin(origin, "/plus"))["x-amzn-mtls-clientcert-leaf"]
    assert "+" in value and "/" in value and "%2" not in value.replace("%20", "")


def test_routes_see_the_fields(gateway):
    assert ask(gateway, EVE, "/who").text == "eve"
    assert ask(gateway, leaf("mallory"), "/who").text == "nobody"


def test_the_access_log_has_the_certificate(gateway):
    ask(gateway, EVE, "/logged")
    entry = gateway.wait_log(lambda entry: entry["path"] == "/logged")[0]
    assert entry["client_cert_subject"] == r"CN=eve,O=J\C3\B6rg\, \"Sons\",C=US"
    assert (entry["client_cert_issuer"], entry["client_cert_serial"]) == ("CN=Authority One", "03A5B1")
    assert entry["client_cert_fingerprint"] == EVE.fingerprint(hashes.SHA256()).hex()
    ask(gateway, None, "/logged-without", listener="off")
    assert not any(name.startswith("client_cert") for name in
                   gateway.wait_log(lambda entry: entry["path"] == "/logged-without")[0])


def test_it_holds_for_every_server_name(gateway):
    assert ask(gateway, EVE, name="other.example").status == 200
    refused(gateway, "client_cert_missing", name="other.example")
    refused(gateway, "client_cert_missing", name="unknown.example")
    refused(gateway, "client_cert_missing", name=None)


def test_every_request_of_a_connection_carries_the_fields(gateway, origin):
    with Client(gateway.port("verify"), tls=(context_of(gateway, EVE), "localhost")) as client:
        for i in range(3):
            client.request("GET", f"/kept-{i}")
            assert client.response().status == 200
            assert "x-amzn-mtls-clientcert-leaf" in told(at_origin(origin, f"/kept-{i}"))


@pytest.mark.parametrize("version", [V12, V13], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("reason, alert, make", [
    ("client_cert_missing", "alert (certificate required|handshake failure)", lambda: None),
    ("client_cert_expired", "certificate expired", lambda: leaf("old", begin=-9 * DAY, end=-DAY)),
    ("client_cert_not_yet_valid", "bad certificate|certificate expired", lambda: leaf("young", begin=DAY)),
    ("client_cert_untrusted", "unknown ca", lambda: leaf("stranger", issuer=certificate(["Nobody"], kind="p256-nobody", is_ca=True),
                                                          signed_with="p256-nobody")),
    ("client_cert_untrusted", "", lambda: leaf("forged", issuer=STRANGER)),
    ("client_cert_untrusted", "unknown ca", lambda: certificate(["self"], kind="p256-client")),
    ("client_cert_revoked", "certificate revoked", lambda: leaf("revoked", serial=666)),
    ("client_cert_purpose", "unsupported certificate", lambda: leaf("server", usage=ExtendedKeyUsageOID.SERVER_AUTH)),
], ids=["missing", "expired", "not yet valid", "untrusted", "forged", "self-signed", "revoked", "purpose"])
def test_a_client_that_is_not_good_enough_is_refused_with_its_reason(gateway, version, reason, alert, make):
    refused(gateway, reason, make(), alert=alert, version=version)


def test_a_refusal_is_in_the_error_log_with_the_subject(gateway):
    def told_of_carol():  # the log has at most ten such lines a second
        refused(gateway, "client_cert_expired", leaf("carol", begin=-9 * DAY, end=-DAY))
        return re.search(r"warning tls: client certificate of 127\.0\.0\.1 refused: client_cert_expired: certificate has "
                         r"expired; subject CN=carol, issuer CN=Authority One", gateway.stderr())
    wait_for(told_of_carol, "a line about carol")


def test_a_weak_key_is_refused(gateway):
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    builder = (x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")]))
               .issuer_name(AUTHORITY.subject).public_key(key.public_key()).serial_number(7)
               .not_valid_before(NOW - DAY).not_valid_after(NOW + DAY))
    weak = builder.sign(key_of("p256-ca"), hashes.SHA256())
    refused(gateway, "client_cert_invalid", weak, key=key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


@pytest.mark.parametrize("version", [V12, V13], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()], ids=lambda d: d.name)
@pytest.mark.parametrize("make", [
    lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048), lambda: ec.generate_private_key(ec.SECP256R1()),
    lambda: ec.generate_private_key(ec.SECP384R1()), lambda: ec.generate_private_key(ec.SECP521R1()),
], ids=["RSA", "P-256", "P-384", "P-521"])
def test_every_kind_of_key_and_digest_that_an_alb_takes_is_taken(gateway, make, digest, version):
    """spec/alb.md 1.4"""
    key = make()
    presented = (x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kind")]))
                 .issuer_name(AUTHORITY.subject).public_key(key.public_key()).serial_number(7)
                 .not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
                 .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
                 .sign(key_of("p256-ca"), digest))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    assert ask(gateway, presented, key=private, version=version).status == 200
    assert ask(gateway, presented, key=private, version=version, listener="passed").status == 200


@pytest.mark.parametrize("listener, names", [("lax", b"Authority One"), ("verify", None)])
def test_the_names_of_authorities_are_told_where_the_configuration_says_so(gateway, listener, names):
    told = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.port(listener)}"], stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=30).stdout
    if names:
        assert re.search(rb"Acceptable client certificate CA names\n.*CN = " + names, told), told
    else:
        assert b"No client certificate CA names sent" in told, told


def test_a_certificate_shown_over_http2_reaches_the_target(gateway, origin):
    context = context_of(gateway, leaf("two", serial=0x22))
    context.set_alpn_protocols(["h2"])
    with H2Client(gateway.port("verify"), tls=(context, "localhost")) as client:
        assert client.fetch("/over-two").status == 200
    assert at_origin(origin, "/over-two").get("X-Amzn-Mtls-Clientcert-Serial-Number") == "22"


def test_intermediates_count_up_to_the_depth(gateway):
    first = leaf("First", key="p256-i1", is_ca=True)
    second = leaf("Second", key="p256-i2", issuer=first, signed_with="p256-i1", is_ca=True)
    under_first = leaf("one", issuer=first, signed_with="p256-i1")
    under_second = leaf("two", issuer=second, signed_with="p256-i2")
    assert ask(gateway, under_first, chain=[first], listener="lax").status == 200
    refused(gateway, "client_cert_depth", under_second, chain=[second, first], listener="lax")
    assert ask(gateway, under_second, chain=[second, first]).status == 200
    refused(gateway, "client_cert_untrusted", under_first)  # the chain is not whole


def test_expiry_may_be_ignored(gateway):
    old = leaf("old", begin=-9 * DAY, end=-DAY)
    assert ask(gateway, old, listener="lax").status == 200
    refused(gateway, "client_cert_untrusted", leaf("old", issuer=STRANGER, begin=-9 * DAY, end=-DAY), listener="lax")


# --- the other modes -------------------------------------------------------------------------------------------------
def test_passthrough_sends_the_whole_chain_whatever_it_is(gateway, origin):
    stranger = leaf("stranger", issuer=STRANGER, begin=-9 * DAY, end=-DAY)
    assert ask(gateway, stranger, "/passed", listener="passed", chain=[STRANGER]).status == 200
    fields = told(at_origin(origin, "/passed"))
    assert list(fields) == ["x-amzn-mtls-clientcert"]
    assert urllib.parse.unquote(fields["x-amzn-mtls-clientcert"]).encode() == pem(stranger, STRANGER)


def test_passthrough_serves_clients_without_a_certificate(gateway, origin):
    assert ask(gateway, None, "/passed-none", listener="passed").status == 200
    assert told(at_origin(origin, "/passed-none")) == {}


def test_passthrough_needs_the_key_of_the_certificate(gateway):
    """A copied certificate proves nothing: the handshake's signature is checked all the same."""
    with pytest.raises(ssl.SSLError):
        context_of(gateway, EVE, key="p256-other")


@pytest.mark.parametrize("listener, cert", [("plain", None), ("off", None), ("passed", None), ("passed", EVE), ("verify", EVE)])
def test_forged_fields_never_arrive(gateway, origin, listener, cert):
    forged = [(f"X-Amzn-Mtls-Clientcert{name}", "forged") for name in NAMES]
    forged += [("x-amzn-mtls-clientcert-future", "forged"), ("x_amzn_mtls_clientcert_subject", "CN=eve"), ("X-Amzn_Mtls-Clientcert-Leaf", "forged")]
    target = f"/forged-{listener}-{cert is None}"
    if listener == "plain":
        with Client(gateway.port("plain")) as client:
            client.request("GET", target, forged)
            assert client.response().status == 200
    else:
        assert ask(gateway, cert, target, listener=listener, headers=forged).status == 200
    request = at_origin(origin, target)
    assert not [value for name, value in request.fields if "forged" in value or ("mtls" in name.lower() and cert is None)]
    names = [name for name, _ in request.fields if "mtls" in name.lower()]
    assert len(names) == len(set(names)) == {"verify": 5, "passed": 1 if cert else 0}.get(listener, 0)


OWN_NAMES = {"serial_number": "X-Client-Serial", "issuer": "x-client-issuer", "subject": "X-Client_Subject", "validity": "x-client-validity",
             "leaf": "x-client-leaf", "chain": "x-client-chain"}


@pytest.fixture(scope="module")
def renamed(origin):
    headers = "headers: {%s}" % ", ".join(f"{key}: {name}" for key, name in OWN_NAMES.items())
    text = TEXT.replace("crl: [crl.pem]}", "crl: [crl.pem], %s}" % headers).replace(
        "client_auth: passthrough", "client_auth: {mode: passthrough, headers: {chain: X-Client-Chain}}")
    with Weir(text, origin=origin.port, files={"ca.pem": pem(AUTHORITY), "crl.pem": crl(666)}) as running:
        yield running


def fields_at(origin, target):
    return {name.lower(): value for name, value in at_origin(origin, target).fields}


def test_fields_have_the_names_that_a_listener_gives_them(renamed, origin):
    assert ask(renamed, EVE, "/renamed").status == 200
    seen = fields_at(origin, "/renamed")
    assert seen["x-client-serial"] == "03A5B1" and "CN=eve" in seen["x-client_subject"] and seen["x-client-issuer"] == "CN=Authority One"
    assert seen["x-client-validity"].startswith("NotBefore=") and seen["x-client-leaf"].startswith("-----BEGIN%20")
    assert "x-client-chain" not in seen and not [name for name in seen if name.startswith("x-amzn-mtls")]


def test_a_listener_that_gives_one_name_or_none_keeps_the_others(renamed, origin):
    assert ask(renamed, EVE, "/renamed-chain", listener="passed").status == 200
    assert fields_at(origin, "/renamed-chain")["x-client-chain"].startswith("-----BEGIN%20")
    assert ask(renamed, EVE, "/not-renamed", listener="lax").status == 200
    assert fields_at(origin, "/not-renamed")["x-amzn-mtls-clientcert-serial-number"] == "03A5B1"


@pytest.mark.parametrize("listener, cert", [("plain", None), ("off", None), ("passed", None), ("verify", EVE), ("lax", EVE)])
def test_forged_fields_of_configured_names_never_arrive_on_any_listener(renamed, origin, listener, cert):
    forged, target = [], f"/forged-own-{listener}"
    for name in list(OWN_NAMES.values()) + ["x-amzn-mtls-clientcert-subject", "x-amzn-mtls-clientcert"]:
        forged += [(name, "forged"), (name.upper(), "forged"), (name.replace("-", "_"), "forged"), (name.replace("_", "-"), "forged")]
    forged.append(("x-client-other", "kept"))
    if listener == "plain":
        with Client(renamed.port("plain")) as client:
            client.request("GET", target, forged)
            assert client.response().status == 200
    else:
        assert ask(renamed, cert, target, listener=listener, headers=forged).status == 200
    assert not [name for name, value in at_origin(origin, target).fields if value == "forged"]
    assert fields_at(origin, target)["x-client-other"] == "kept"


def test_forged_trailers_of_configured_names_never_arrive(renamed, origin):
    with Client(renamed.port("plain")) as client:
        client.send(b"POST /forged-trailers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n1\r\nx\r\n0\r\n"
                    b"x-client-serial: forged\r\nX_Client_Serial: forged\r\nx-amzn-mtls-clientcert: forged\r\nx-sum: 1\r\n\r\n")
        assert client.response().status == 200
    trailers = at_origin(origin, "/forged-trailers").trailers
    assert [line.strip() for line in trailers] == ["x-sum: 1"]


def test_forged_fields_do_not_choose_a_route(gateway):
    header = [("x-amzn-mtls-clientcert-subject", "CN=eve")]
    assert ask(gateway, leaf("mallory"), "/who", headers=header).text == "nobody"
    assert ask(gateway, None, "/who", listener="off", headers=header).text == "nobody"


# --- sessions and reloads --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", [V12, V13], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("listener", ["verify", "passed"])
def test_sessions_are_not_resumed(gateway, listener, version):
    context = context_of(gateway, EVE, version=version)

    def connect(session=None):
        plain = socket.create_connection(("127.0.0.1", gateway.port(listener)), timeout=10)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as secure:
            secure.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert secure.recv(100).startswith(b"HTTP/1.1 200")
            return secure.session, secure.session_reused
    session, _ = connect()
    assert session is None or not session.has_ticket
    if session is not None:
        assert not connect(session)[1]


def test_a_session_from_before_verification_was_turned_on_does_not_get_around_it(origin):
    with start(origin) as gateway:
        context = context_of(gateway, version=V12)
        plain = socket.create_connection(("127.0.0.1", gateway.port("off")), timeout=10)
        with context.wrap_socket(plain, server_hostname="localhost") as secure:
            session = secure.session
            assert session.has_ticket
        gateway.configure(TEXT.replace("  off: {address: \"127.0.0.1:@off@\", tls: {certificates: site}}",
                                       "  off: {address: \"127.0.0.1:@off@\", tls: {certificates: site, client_auth: {mode: verify, trust_store: ca.pem}}}"))
        gateway.reload()
        plain = socket.create_connection(("127.0.0.1", gateway.port("off")), timeout=10)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(plain, server_hostname="localhost", session=session)


def test_a_reload_brings_new_trust_and_new_revocations(origin):
    with start(origin) as gateway:
        good, other = leaf("good", serial=4711), leaf("other", issuer=STRANGER)
        assert ask(gateway, good).status == 200
        with Client(gateway.port("verify"), tls=(context_of(gateway, good), "localhost")) as before:
            gateway.write("crl.pem", crl(666, 4711))
            gateway.reload()
            refused(gateway, "client_cert_revoked", good)
            assert before.is_open(), "a reload closed a connection"
        gateway.write("ca.pem", pem(STRANGER))
        gateway.write("crl.pem", crl(1, issuer=STRANGER, key="p256-stranger"))
        gateway.reload()
        refused(gateway, "client_cert_untrusted", leaf("good", serial=4712))
        assert ask(gateway, other).status == 200


def test_an_expired_revocation_list_revokes_all_and_the_load_warns(origin):
    with start(origin) as gateway:
        gateway.write("crl.pem", crl(666, end=-DAY))
        gateway.reload()
        assert "has expired: every certificate it is about is refused" in gateway.stderr()
        refused(gateway, "client_cert_crl", EVE)


def test_a_forged_revocation_list_is_refused(origin):
    with start(origin) as gateway:
        gateway.write("crl.pem", crl(666, key="p256-stranger"))
        gateway.reload()
        refused(gateway, "client_cert_crl", EVE)


def test_a_broken_trust_store_is_refused_and_the_old_one_stays(origin):
    with start(origin) as gateway:
        for name, content, word in [("ca.pem", b"", "no certificate in"), ("ca.pem", pem(EVE), "no authority in"),
                                    ("crl.pem", b"x", "no revocation list in")]:
            before = (gateway.folder / name).read_bytes()
            gateway.write(name, content)
            status, text = gateway.admin("/reload", "POST")
            assert status == 422 and word in text
            assert ask(gateway, EVE).status == 200
            gateway.write(name, before)
