"""TLS as clients see it: versions and ciphers by policy, the certificate by server name and by what the client can
verify, ALPN, resumption, reloads, and peers that do not speak TLS. Clients are Python's ssl, curl and openssl s_client."""
import datetime
import functools
import ipaddress
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from client import Client, Closed, at_once
from weir import SANITIZED, freeze, wait_for

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # ssl.TLSVersion.TLSv1 is the point here
V10, V11, V12, V13 = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


# --- certificates ----------------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=None)
def key_of(kind):
    """One key per kind and test run ("rsa", "p256", "p384", or any of them with a number behind)."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP384R1() if kind.startswith("p384") else ec.SECP256R1())


def general_name(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def certificate(names, kind="p256", days=200, issuer=None, is_ca=False):
    """issuer: (certificate, key), None for self-signed. An authority's name is not a host's."""
    now = datetime.datetime.utcnow()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    builder = (x509.CertificateBuilder().subject_name(subject)
               .issuer_name(issuer[0].subject if issuer else subject)
               .public_key(key_of(kind).public_key()).serial_number(x509.random_serial_number())
               .not_valid_before(now - datetime.timedelta(days=100)).not_valid_after(now + datetime.timedelta(days=days))
               .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True))
    if not is_ca:
        builder = builder.add_extension(x509.SubjectAlternativeName([general_name(n) for n in names]), critical=False)
    return builder.sign(issuer[1] if issuer else key_of(kind), hashes.SHA256())


def pem(*certificates):
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def key_pem(kind):
    return key_of(kind).private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption())


def der(c):
    return c.public_bytes(serialization.Encoding.DER)


def write_pair(gateway, name, cert, kind):
    gateway.write(f"{name}.pem", pem(cert) if isinstance(cert, x509.Certificate) else cert)
    gateway.write(f"{name}.key", key_pem(kind)).chmod(0o600)


def files_of(**pairs):
    """files= of a gateway: name=(certificate, kind) each."""
    files = {}
    for name, (cert, kind) in pairs.items():
        files[f"{name}.pem"] = pem(cert)
        files[f"{name}.key"] = key_pem(kind)
    return files


# --- clients ---------------------------------------------------------------------------------------------------------
def client_context(version=None, ciphers=None, alpn=None, highest=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers((ciphers or "ALL") + ":@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version = version or V10
        context.maximum_version = highest or version or V13
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def connect(port, name=None, context=None, session=None, **options):
    """A socket after the handshake."""
    context = context or client_context(**options)
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        return context.wrap_socket(plain, server_hostname=name, session=session)
    except Exception:
        plain.close()
        raise


def get(sock, target="/"):
    """One request on a connection that stays open; the answer's body."""
    sock.sendall(f"GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        if not part:
            raise Closed(repr(data))
        data += part
    head, body = data.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 "), head
    length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
    while len(body) < length:
        body += sock.recv(65536)
    return body


def shown(port, name=None, **options):
    """The certificate that a client is shown, as DER."""
    with connect(port, name, **options) as sock:
        return sock.getpeercert(binary_form=True)


def refusal(port, name=None, **options):
    """The reason of the alert that ends a handshake; fails when there is a handshake or a bare close."""
    with pytest.raises(ssl.SSLError) as caught:
        connect(port, name, **options).close()
    return caught.value.reason


def s_client(port, *args, stdin=b"Q\n"):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *args], input=stdin,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
    return done.returncode, done.stdout.decode(errors="replace")


def s_client_shown(port, *args):
    code, output = s_client(port, *args)
    block = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", output, re.S)
    assert block, output
    return ssl.PEM_cert_to_DER_cert(block[0])


ANSWER = """
routes: [{name: all, respond: {status: 200, body: "hello\\n"}}]
"""

# --- policies --------------------------------------------------------------------------------------------------------
POLICIES = {  # lowest and highest version, ciphers of TLS 1.2 that are in and that are not
    "modern": (V13, V13, None, None),
    "intermediate": (V12, V13, "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-SHA256"),
    "old": (V10, V13, "AES256-SHA", "CAMELLIA128-SHA"),
    "ELBSecurityPolicy-TLS13-1-3-2021-06": (V13, V13, None, None),
    "ELBSecurityPolicy-TLS13-1-3-PQ-2025-09": (V13, V13, None, None),
    "ELBSecurityPolicy-TLS13-1-2-Res-2021-06": (V12, V13, "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA256"),
    "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09": (V12, V13, "ECDHE-RSA-AES256-GCM-SHA384", "AES128-GCM-SHA256"),
    "ELBSecurityPolicy-TLS13-1-2-2021-06": (V12, V13, "ECDHE-RSA-AES128-SHA256", "AES128-GCM-SHA256"),
    "ELBSecurityPolicy-TLS13-1-2-PQ-2025-09": (V12, V13, "ECDHE-RSA-AES256-SHA384", "ECDHE-RSA-AES128-SHA"),
    "ELBSecurityPolicy-TLS13-1-2-Ext1-2021-06": (V12, V13, "AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA"),
    "ELBSecurityPolicy-TLS13-1-2-Ext2-2021-06": (V12, V13, "AES128-SHA", "DHE-RSA-AES128-GCM-SHA256"),
    "ELBSecurityPolicy-TLS13-1-0-2021-06": (V10, V13, "AES256-SHA", "CAMELLIA128-SHA"),
    "ELBSecurityPolicy-TLS13-1-0-PQ-2025-09": (V10, V13, "AES256-SHA", "CAMELLIA128-SHA"),
    "ELBSecurityPolicy-2016-08": (V10, V12, "ECDHE-RSA-AES256-SHA", "ECDHE-RSA-CHACHA20-POLY1305"),
    "ELBSecurityPolicy-2015-05": (V10, V12, "ECDHE-RSA-AES256-SHA", "ECDHE-RSA-CHACHA20-POLY1305"),
    "ELBSecurityPolicy-TLS-1-2-2017-01": (V12, V12, "AES256-SHA256", "AES256-SHA"),
    "ELBSecurityPolicy-FS-1-2-Res-2019-08": (V12, V12, "ECDHE-RSA-AES128-SHA256", "AES128-GCM-SHA256"),
    "ELBSecurityPolicy-FS-1-2-Res-2020-10": (V12, V12, "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256"),
}
LISTENER_OF = {policy: f"listener{i}" for i, policy in enumerate(POLICIES)}


@pytest.fixture(scope="module")
def policies(module_weir):
    listeners = "".join(f'  {name}: {{address: "127.0.0.1:@{name}@", tls: {{policy: {policy}, certificates: site}}}}\n'
                        for policy, name in LISTENER_OF.items())
    return module_weir("worker_threads: 1\nlisteners:\n" + listeners + "certificates: {site: {cert: a.pem, key: a.key}}"
                       + ANSWER, files=files_of(a=(certificate(["a.example"], "rsa"), "rsa")))


@pytest.mark.parametrize("version", [V10, V11, V12, V13], ids=lambda v: v.name)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_speaks_its_versions_and_no_other(policies, policy, version):
    lowest, highest, _, _ = POLICIES[policy]
    port = policies.port(LISTENER_OF[policy])
    if lowest <= version <= highest:
        with connect(port, "a.example", version=version) as sock:
            assert sock.version() == {V10: "TLSv1", V11: "TLSv1.1", V12: "TLSv1.2", V13: "TLSv1.3"}[version]
            assert get(sock) == b"hello\n"
    else:
        assert refusal(port, "a.example", version=version) == "TLSV1_ALERT_PROTOCOL_VERSION"


@pytest.mark.parametrize("policy", [policy for policy, row in POLICIES.items() if row[2]])
def test_a_policy_has_its_ciphers_and_no_other(policies, policy):
    _, _, good, bad = POLICIES[policy]
    port = policies.port(LISTENER_OF[policy])
    with connect(port, "a.example", version=V12, ciphers=good) as sock:
        assert sock.cipher()[0] == good
        assert get(sock) == b"hello\n"
    assert refusal(port, "a.example", version=V12, ciphers=bad) == "SSLV3_ALERT_HANDSHAKE_FAILURE"


def test_the_servers_order_decides_under_elb_policies_and_the_clients_under_intermediate(policies):
    def chosen(policy, ciphers):
        with connect(policies.port(LISTENER_OF[policy]), "a.example", version=V12, ciphers=ciphers) as sock:
            return sock.cipher()[0]
    offer = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"
    assert chosen("ELBSecurityPolicy-2016-08", offer) == "ECDHE-RSA-AES128-GCM-SHA256"
    assert chosen("intermediate", offer) == "ECDHE-RSA-AES256-GCM-SHA384"


def test_a_client_of_all_versions_gets_the_newest(policies):
    with connect(policies.port(LISTENER_OF["old"]), "a.example") as sock:
        assert sock.version() == "TLSv1.3"
    with connect(policies.port(LISTENER_OF["ELBSecurityPolicy-2016-08"]), "a.example") as sock:
        assert sock.version() == "TLSv1.2"


# --- choice of certificate -------------------------------------------------------------------------------------------
CHOICE = {
    "default": (certificate(["default.example"]), "p256"),
    "site_rsa": (certificate(["site.example", "www.site.example"], "rsa"), "rsa"),
    "site_ec": (certificate(["site.example"]), "p256"),
    "wild": (certificate(["*.wild.example"], "p256-wild"), "p256-wild"),
    "exact": (certificate(["exact.wild.example"], "p256-exact"), "p256-exact"),
    "rsa_exact": (certificate(["rsa.wild.example"], "rsa"), "rsa"),
    "big": (certificate(["big.example"], "p384"), "p384"),
    "big_rsa": (certificate(["big.example"], "rsa"), "rsa"),
}


@pytest.fixture(scope="module")
def chooser(module_weir):
    certificates = "".join(f"  {name}: {{cert: {name}.pem, key: {name}.key}}\n" for name in CHOICE)
    return module_weir(f"""
worker_threads: 1
listeners:
  https: {{address: "127.0.0.1:@https@", tls: {{certificates: [{", ".join(CHOICE)}]}}}}
  only_rsa: {{address: "127.0.0.1:@only_rsa@", tls: {{certificates: site_rsa}}}}
  apart: {{address: "127.0.0.1:@apart@", tls: {{certificates: [site_rsa, exact], default_certificate: site_ec}}}}
  listed: {{address: "127.0.0.1:@listed@", tls: {{certificates: [default, site_rsa, site_ec], default_certificate: site_ec}}}}
certificates:
{certificates}""" + ANSWER, files=files_of(**CHOICE))


def certificate_name(data):
    found = [name for name, (cert, _) in CHOICE.items() if der(cert) == data]
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize("version", [V12, V13], ids=lambda v: v.name)
@pytest.mark.parametrize("name, expected", [
    (None, "default"),
    ("default.example", "default"),
    ("nobody.example", "default"),
    ("site.example", "site_ec"),
    ("SITE.Example", "site_ec"),
    ("www.site.example", "site_rsa"),
    ("a.wild.example", "wild"),
    ("exact.wild.example", "exact"),       # exact before wildcard, all else being the same
    ("rsa.wild.example", "wild"),          # spec/alb.md, vector 27: an ECDSA wildcard beats an exact RSA name
    ("wild.example", "default"),           # a wildcard covers one label, not none
    ("a.b.wild.example", "default"),       # and not two
    ("big.example", "big"),
])
def test_the_server_name_chooses_the_certificate(chooser, name, expected, version):
    assert certificate_name(shown(chooser.port("https"), name, version=version)) == expected


def test_a_trailing_dot_does_not_change_the_name(chooser):
    assert certificate_name(s_client_shown(chooser.port("https"), "-servername", "site.example.")) == "site_ec"


def test_a_name_that_is_no_host_name_is_ignored(chooser):
    assert certificate_name(s_client_shown(chooser.port("https"), "-servername", "site example")) == "default"


RSA13 = "rsa_pss_rsae_sha256:rsa_pss_rsae_sha384"


@pytest.mark.parametrize("args, name, expected", [
    (("-tls1_3", "-sigalgs", RSA13), "site.example", "site_rsa"),
    (("-tls1_3", "-sigalgs", RSA13 + ":ecdsa_secp256r1_sha256"), "site.example", "site_ec"),
    (("-tls1_3", "-sigalgs", RSA13), "rsa.wild.example", "rsa_exact"),  # vector 27, the client that takes RSA only
    (("-tls1_3", "-sigalgs", RSA13 + ":ecdsa_secp256r1_sha256"), "big.example", "big_rsa"),  # no P-384
    (("-tls1_2", "-sigalgs", "RSA+SHA256"), "site.example", "site_rsa"),
    (("-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"), "site.example", "site_rsa"),
    (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"), "site.example", "site_ec"),
    (("-tls1_2", "-groups", "X25519:P-256"), "big.example", "big_rsa"),
    (("-tls1_2", "-groups", "P-384"), "big.example", "big"),
])
def test_the_client_gets_a_certificate_that_it_can_verify(chooser, args, name, expected):
    assert certificate_name(s_client_shown(chooser.port("https"), "-servername", name, *args)) == expected


def test_a_client_that_can_verify_no_certificate_is_told_so(chooser):
    assert refusal(chooser.port("only_rsa"), "site.example", version=V12,
                   ciphers="ECDHE-ECDSA-AES128-GCM-SHA256") == "SSLV3_ALERT_HANDSHAKE_FAILURE"


def test_a_verifying_client_accepts_chain_and_name(weir):
    root = certificate(["Root"], "p384", is_ca=True)
    middle = certificate(["Middle"], "p256-middle", is_ca=True, issuer=(root, key_of("p384")))
    leaf = certificate(["site.example", "127.0.0.1"], "rsa", issuer=(middle, key_of("p256-middle")))
    gateway = weir("""
listeners: {https: {address: "127.0.0.1:@https@", tls: {certificates: site}}}
certificates: {site: {cert: tls/site.pem, key: tls/site.key}}
""" + ANSWER, files={"tls/site.pem": pem(leaf, middle), "tls/site.key": key_pem("rsa")})
    root_path = gateway.write("root.pem", pem(root))
    context = ssl.create_default_context(cafile=root_path)
    with connect(gateway.port("https"), "site.example", context=context) as sock:
        assert get(sock) == b"hello\n"
    curl = subprocess.run(["curl", "-sS", "--cacert", root_path, f"https://127.0.0.1:{gateway.port('https')}/"],
                          capture_output=True, timeout=30)
    assert (curl.returncode, curl.stdout) == (0, b"hello\n"), curl.stderr


@pytest.mark.parametrize("name, args, expected", [
    ("site.example", (), "site_rsa"),          # the default has this name, better, but is not listed
    ("www.site.example", (), "site_rsa"),
    ("nobody.example", (), "site_ec"),
    (None, (), "site_ec"),
    ("nobody.example", ("-tls1_3", "-sigalgs", RSA13), "site_rsa"),  # this client cannot use the default
])
def test_a_default_that_is_not_listed_serves_only_those_whom_no_listed_one_serves(chooser, name, args, expected):
    """spec/alb.md 1.2: D takes part in the comparison only if it is also in L"""
    sni = ("-servername", name) if name else ("-noservername",)
    assert certificate_name(s_client_shown(chooser.port("apart"), *sni, *args)) == expected
    said = chooser.run("explain", f"https://{name or '127.0.0.1'}:{chooser.port('apart')}/", "-c", str(chooser.config_path)).stdout
    assert f'"{expected}"' in said or args, said


def test_a_listed_default_takes_part_and_need_not_be_the_first(chooser):
    port = chooser.port("listed")
    for name, expected in (("site.example", "site_ec"), ("default.example", "default"), ("nobody.example", "site_ec")):
        assert certificate_name(s_client_shown(port, "-servername", name)) == expected


# --- ALPN ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", [V12, V13], ids=lambda v: v.name)
def test_alpn_agrees_upon_http_1_1_or_says_that_it_cannot(chooser, version):
    port = chooser.port("https")
    for offer, agreed in (["http/1.1"], "http/1.1"), (["foo", "http/1.1"], "http/1.1"), (None, None):
        with connect(port, version=version, alpn=offer) as sock:
            assert sock.selected_alpn_protocol() == agreed
            assert get(sock) == b"hello\n"
    code, output = s_client(port, "-alpn", "foo", "-tls1_2" if version == V12 else "-tls1_3")
    assert code != 0 and "alert number 120" in output, output


# --- resumption ------------------------------------------------------------------------------------------------------
RESUMPTION = """
worker_threads: 2
listeners:
  https: {address: "127.0.0.1:@https@", tls: {certificates: site}}
  other: {address: "127.0.0.1:@other@", tls: {certificates: site}}
  strict: {address: "127.0.0.1:@strict@", tls: {certificates: site, session_tickets: false}}
certificates: {site: {self_signed: [a.example, b.example]}}
""" + ANSWER


def visit(port, context, session=None, name="a.example"):
    """(whether the session was resumed, the session to offer next time)"""
    with connect(port, name, context=context, session=session) as sock:
        assert get(sock) == b"hello\n"
        return sock.session_reused, sock.session


@pytest.mark.parametrize("version", [V12, V13], ids=lambda v: v.name)
def test_a_session_is_resumed_by_any_worker_until_after_a_reload(weir, version):
    gateway = weir(RESUMPTION)
    context = client_context(version=version)
    resumed, session = visit(gateway.port("https"), context)
    assert not resumed
    for _ in range(8):  # the kernel spreads connections over both workers
        resumed, session = visit(gateway.port("https"), context, session)
        assert resumed
    for _ in range(3):
        gateway.reload()
        resumed, session = visit(gateway.port("https"), context, session)
        assert resumed


@pytest.mark.parametrize("version", [V12, V13], ids=lambda v: v.name)
def test_a_session_stays_with_its_listener_and_server_name(weir, version):
    gateway = weir(RESUMPTION)
    context = client_context(version=version)
    _, session = visit(gateway.port("https"), context)
    assert not visit(gateway.port("other"), context, session)[0]
    assert not visit(gateway.port("https"), context, session, name="b.example")[0]
    _, session = visit(gateway.port("https"), context)
    assert visit(gateway.port("https"), context, session)[0]


@pytest.mark.parametrize("version", [V12, V13], ids=lambda v: v.name)
def test_without_session_tickets_nothing_is_resumed(weir, version):
    gateway = weir(RESUMPTION)
    context = client_context(version=version)
    _, session = visit(gateway.port("strict"), context)
    if session is not None and session.has_ticket:
        pytest.fail("a ticket was issued")
    if session is not None and version == V12:
        assert not visit(gateway.port("strict"), context, session)[0]


def test_a_policy_changed_by_reload_starts_sessions_afresh(weir):
    gateway = weir(RESUMPTION)
    context = client_context(version=V12)
    _, session = visit(gateway.port("https"), context)
    gateway.configure(RESUMPTION.replace("tls: {certificates: site}",
                                         "tls: {certificates: site, policy: ELBSecurityPolicy-FS-1-2-Res-2020-10}"))
    gateway.reload()
    assert not visit(gateway.port("https"), context, session)[0]


def test_openssl_resumes_five_times(weir):
    gateway = weir(RESUMPTION)
    code, output = s_client(gateway.port("https"), "-servername", "a.example", "-tls1_2", "-reconnect")
    assert code == 0 and len(re.findall(r"^Reused, TLSv1\.2", output, re.M)) == 5, output
    assert "TLS session ticket lifetime hint: 86400 (seconds)" in output


# --- reload ----------------------------------------------------------------------------------------------------------
FILES = """
worker_threads: 2
listeners: {https: {address: "127.0.0.1:@https@", tls: {certificates: site}}}
certificates: {site: {cert: site.pem, key: site.key}}
""" + ANSWER


def test_a_reload_picks_up_changed_files_and_closes_no_connection(weir):
    before, after = certificate(["a.example"]), certificate(["a.example"], "rsa")
    gateway = weir(FILES, files=files_of(site=(before, "p256")))
    port = gateway.port("https")
    with connect(port, "a.example") as kept, connect(port, "a.example", version=V12) as kept12:
        assert get(kept) == get(kept12) == b"hello\n"
        write_pair(gateway, "site", after, "rsa")
        assert shown(port, "a.example") == der(before)  # nothing happens before the reload
        gateway.reload()
        assert shown(port, "a.example") == der(after)
        assert get(kept) == get(kept12) == b"hello\n"
        assert kept.getpeercert(binary_form=True) == der(before)


def test_a_handshake_that_began_before_a_reload_ends_well_after_it(weir):
    before, after = certificate(["a.example"]), certificate(["a.example"], "rsa")
    gateway = weir(FILES, files=files_of(site=(before, "p256")))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = client_context(version=V12).wrap_bio(incoming, outgoing, server_hostname="a.example")
    with socket.create_connection(("127.0.0.1", gateway.port("https")), timeout=10) as sock:
        with pytest.raises(ssl.SSLWantReadError):
            half.do_handshake()
        sock.sendall(outgoing.read())  # ClientHello
        while True:  # up to our Finished, which is kept back
            incoming.write(sock.recv(65536))
            try:
                half.do_handshake()
            except ssl.SSLWantReadError:
                pass
            if outgoing.pending:
                break
        write_pair(gateway, "site", after, "rsa")
        gateway.reload()
        assert shown(gateway.port("https"), "a.example") == der(after)
        sock.sendall(outgoing.read())
        incoming.write(sock.recv(65536))
        half.do_handshake()
        half.write(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        sock.sendall(outgoing.read())
        incoming.write(sock.recv(65536))
        assert half.read(65536).startswith(b"HTTP/1.1 200 ")
        assert half.getpeercert(True) == der(before)


def test_a_reload_with_a_key_that_does_not_fit_keeps_the_old_certificate(weir):
    before = certificate(["a.example"])
    gateway = weir(FILES, files=files_of(site=(before, "p256")))
    generation = gateway.generation()
    write_pair(gateway, "site", certificate(["a.example"], "rsa"), "p256")
    gateway.process.send_signal(1)
    wait_for(lambda: "does not fit the certificate" in gateway.stderr(), "the error in the log")
    assert shown(gateway.port("https"), "a.example") == der(before)
    assert gateway.generation() == generation
    write_pair(gateway, "site", certificate(["a.example"], "rsa"), "rsa")
    gateway.reload()
    assert shown(gateway.port("https"), "a.example") != der(before)


def test_an_expired_certificate_is_served_with_a_warning(weir):
    old = certificate(["a.example"], days=-3)
    gateway = weir(FILES, files=files_of(site=(old, "p256")))
    assert shown(gateway.port("https"), "a.example") == der(old)
    assert re.search(r"weir\.yaml:4:\d+: warning: .* expired 3 days ago", gateway.stderr()), gateway.stderr()


def test_handshakes_never_fail_while_certificates_are_replaced(weir):
    pairs = [(certificate(["a.example"], kind), kind) for kind in ("p256", "rsa")]
    gateway = weir(FILES, files=files_of(site=pairs[0]))
    known, failures, done, count = {der(cert) for cert, _ in pairs}, [], threading.Event(), [0]

    def keep_connecting():
        while not done.is_set():
            try:
                if shown(gateway.port("https"), "a.example") not in known:
                    failures.append("an unknown certificate")
                count[0] += 1
            except (OSError, ssl.SSLError) as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=keep_connecting) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for i in range(20):
            write_pair(gateway, "site", *pairs[(i + 1) % 2])
            gateway.reload()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures and count[0] > 20


# --- self-signed -----------------------------------------------------------------------------------------------------
def test_self_signed_has_all_names_and_stays_over_reloads(weir):
    gateway = weir("""
listeners: {https: {address: "127.0.0.1:@https@", tls: {certificates: demo}}}
certificates: {demo: {self_signed: [localhost, "*.demo.example", 127.0.0.1, "::1"]}}
""" + ANSWER)
    data = shown(gateway.port("https"))
    made = x509.load_der_x509_certificate(data)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "*.demo.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    assert isinstance(made.public_key().curve, ec.SECP256R1)
    for _ in range(3):
        gateway.reload()
        assert shown(gateway.port("https")) == data

    trusted = gateway.write("demo.pem", pem(made))
    for address in ("127.0.0.1", "localhost"):
        curl = subprocess.run(["curl", "-sS", "--cacert", trusted, f"https://{address}:{gateway.port('https')}/", "-4"],
                              capture_output=True, timeout=30)
        assert (curl.returncode, curl.stdout) == (0, b"hello\n"), curl.stderr


# --- peers that misbehave --------------------------------------------------------------------------------------------
class Talk:
    """openssl s_client, spoken to step by step."""

    def __init__(self, port, *args):
        self.process = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *args], bufsize=0,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.output = b""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while data := self.process.stdout.read(4096):
            self.output += data

    def say(self, data):
        self.process.stdin.write(data)

    def hear(self, what):
        wait_for(lambda: what in self.output, f"{what!r} in {self.output[-3000:]!r}")

    def end(self):
        """The exit code, once it ends by itself."""
        code = self.process.wait(30)
        self.reader.join(10)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.reader.join(10)
        self.process.stdin.close()
        self.process.stdout.close()


REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


def test_renegotiation_is_refused(chooser):
    with Talk(chooser.port("https"), "-tls1_2", "-servername", "site.example", "-msg") as talk:
        talk.hear(b"Secure Renegotiation IS supported")
        talk.say(b"R\n")
        talk.hear(b"RENEGOTIATING")
        assert talk.end() != 0
        assert b"<<< TLS 1.2, Alert [length 0002], warning no_renegotiation" in talk.output  # RFC 5246 7.2.2
    # whoever asks loses that connection and no more
    with connect(chooser.port("https"), "site.example", version=V12) as sock:
        assert get(sock) == b"hello\n"


def broken_mac(record):
    return record[:-1] + bytes([record[-1] ^ 1])


@pytest.mark.parametrize("version, alert, spoil", [
    (V12, "BAD_RECORD_MAC", broken_mac),
    (V13, "BAD_RECORD_MAC", broken_mac),
    (V12, "RECORD_OVERFLOW", lambda record: record[:3] + b"\xff\xff"),
    (V13, "RECORD_OVERFLOW", lambda record: record[:3] + b"\xff\xff"),
    (V12, "BAD_RECORD_MAC", lambda record: b"\x63" + record[1:]),  # the type is part of what is authenticated
    (V13, "UNEXPECTED_MESSAGE", lambda record: b"\x63" + record[1:]),
])
@pytest.mark.parametrize("served", [False, True])
def test_a_broken_record_is_answered_with_its_alert(chooser, version, alert, spoil, served):
    """RFC 8446 5.1, 5.2, 6.2; RFC 5246 6.2.1, 7.2.2. As the first record behind the handshake and later."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(version=version).wrap_bio(incoming, outgoing, server_hostname="site.example")

    def step(action, *args):
        while True:
            try:
                return action(*args)
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                if not (data := sock.recv(65536)):
                    incoming.write_eof()
                incoming.write(data)
    with socket.create_connection(("127.0.0.1", chooser.port("https")), timeout=30) as sock:
        step(client.do_handshake)
        if served:
            client.write(REQUEST)
            assert b"hello" in step(client.read, 65536)
        sock.sendall(outgoing.read())
        client.write(REQUEST)
        sock.sendall(spoil(outgoing.read()))
        with pytest.raises(ssl.SSLError) as failure:
            while step(client.read, 65536):
                pass
        assert failure.value.reason.endswith("ALERT_" + alert), failure.value
    with connect(chooser.port("https"), "site.example", version=version) as sock:
        assert get(sock) == b"hello\n"


def test_tls13_key_updates_are_followed(chooser):
    with Talk(chooser.port("https"), "-tls1_3", "-servername", "site.example") as talk:
        talk.hear(b"Verify return code")
        for i in range(3):
            talk.say(b"k\n" if i % 2 else b"K\n")  # new keys of the client; of both sides
            wait_for(lambda: talk.output.count(b"KEYUPDATE") > i, f"{talk.output[-500:]!r}")
        talk.say(REQUEST)
        talk.hear(b"hello")
        talk.say(b"K\n")
        wait_for(lambda: talk.output.count(b"KEYUPDATE") > 3, f"{talk.output[-500:]!r}")
        talk.say(REQUEST)
        wait_for(lambda: talk.output.count(b"hello") == 2, "a second answer")


@pytest.mark.parametrize("data", [
    REQUEST,
    b"SSH-2.0-OpenSSH_9\r\n",
    b"\x16\x03\x01\x00\x05hello",
    b"\x16\x03\x01\xff\xff" + b"\0" * 100,
    b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10" + b"\0" * 40,  # SSLv2
    b"\x15\x03\x01\x00\x02\x02\x28",  # an alert as greeting
    b"\x17\x03\x03\x00\x10" + b"x" * 16,
    bytes(range(256)) * 40,
    b"\0",
], ids=lambda data: repr(data[:12]))
def test_what_is_not_tls_is_closed_and_hurts_nobody(chooser, data):
    with Client(chooser.port("https")) as client:
        try:
            client.send(data).half_close()
            answer = client.rest()
        except ConnectionError:
            answer = b""
        # at most an alert: nothing that a plain HTTP client could take for an answer
        assert answer == b"" or answer[0] == 0x15, answer
    with connect(chooser.port("https"), "site.example") as sock:
        assert get(sock) == b"hello\n"


@pytest.mark.parametrize("opening", ["nothing", "half a ClientHello", "a whole ClientHello"])
def test_a_handshake_has_a_time_limit(weir, opening):
    gateway = weir("""
listeners: {https: {address: "127.0.0.1:@https@", tls: {certificates: site, handshake_timeout: 400ms}}}
certificates: {site: {self_signed: localhost}}
""" + ANSWER)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client_context(version=V12).wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    data = {"nothing": b"", "half a ClientHello": hello[: len(hello) // 2], "a whole ClientHello": hello}[opening]
    began = 0

    def begin():
        nonlocal began
        began = time.monotonic()
        return Client(gateway.port("https"), timeout=20).send(data)
    with at_once(0.3, begin) as client:
        try:
            client.rest()
        except ConnectionError:
            pass
        assert time.monotonic() - began > 0.3
    with at_once(0.39, lambda: connect(gateway.port("https"), "localhost")) as sock:
        assert get(sock) == b"hello\n"


def test_a_handshake_in_small_pieces_is_fine(chooser):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = client_context().wrap_bio(incoming, outgoing, server_hostname="site.example")
    with socket.create_connection(("127.0.0.1", chooser.port("https")), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send():
            for byte in outgoing.read():
                sock.send(bytes([byte]))
        while True:
            try:
                half.do_handshake()
                break
            except ssl.SSLWantReadError:
                send()
                incoming.write(sock.recv(100))
        half.write(REQUEST)
        send()
        data = b""
        while b"hello" not in data:
            incoming.write(sock.recv(7))
            try:
                data += half.read(65536)
            except ssl.SSLWantReadError:
                pass


def test_hundreds_of_abandoned_handshakes_leave_nothing_behind(chooser):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client_context().wrap_bio(incoming, outgoing, server_hostname="site.example").do_handshake()
    hello = outgoing.read()
    for i in range(300):
        with Client(chooser.port("https")) as client:
            client.send(hello[: i % len(hello)] if i % 3 else hello)
            if i % 2:
                client.reset()
    with connect(chooser.port("https"), "site.example") as sock:
        assert get(sock) == b"hello\n"


def client_hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = client_context().wrap_bio(incoming, outgoing, server_hostname="site.example")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    return half, incoming, outgoing.read()


def in_two_records(hello):
    body = hello[5:]
    return [hello[:3] + len(part).to_bytes(2, "big") + part for part in (body[:30], body[30:])]


@pytest.mark.parametrize("cut", [lambda hello: [bytes([byte]) for byte in hello], in_two_records,
                                 lambda hello: [hello[:5], hello[5:]], lambda hello: [hello[:-1], hello[-1:]]],
                         ids=["byte by byte", "two records", "behind the record's head", "before the last byte"])
def test_a_client_hello_may_come_in_pieces(chooser, cut):
    half, incoming, hello = client_hello()
    with Client(chooser.port("https")) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in cut(hello):
            client.send(piece)
        while True:
            try:
                half.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(client.socket.recv(65536))
    assert half.version() == "TLSv1.3"


@pytest.mark.parametrize("begun", [b"", b"\x16", b"\x16\x03\x01\x02", b"\x16\x03\x01\x02\x00", b"\x16\x03\x01\x02\x00" + b"x" * 511])
def test_a_client_that_leaves_within_its_hello_is_counted_as_gone(weir, begun):
    gateway = weir(FILES, files=files_of(site=(certificate(["a.example"]), "p256")))
    with Client(gateway.port("https")) as client:
        client.send(begun)
    wait_for(lambda: gateway.metric("weir_tls_handshake_failures_total", reason="closed") == 1, "the failure to be counted")
    wait_for(lambda: gateway.metric("weir_connections") == 0, "the connection to be over")


def test_no_handshake_is_begun_with_a_client_that_has_left(weir):
    gateway = weir(FILES, files=files_of(site=(certificate(["a.example"]), "p256")))
    worker = gateway.worker()
    freeze(worker)  # so that the hello and the end of it are both there when weir looks
    with socket.create_connection(("127.0.0.1", gateway.port("https"))) as client:
        client.sendall(client_hello()[2])
        client.shutdown(socket.SHUT_WR)
        os.kill(worker, signal.SIGCONT)
        client.settimeout(20)
        assert client.recv(1) == b"", "a ServerHello"
    wait_for(lambda: gateway.metric("weir_tls_handshake_failures_total", reason="closed") == 1, "the failure to be counted")
    wait_for(lambda: gateway.metric("weir_connections") == 0, "the connection to be over")


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's memory says nothing about ours")
def test_half_a_hello_costs_no_handshake(chooser):
    held = []
    try:
        for i in range(700):
            if i == 100:  # what is allocated once is there by now
                chooser.metrics()
                before = chooser.rss()
            held.append(Client(chooser.port("https")))
            held[-1].send(b"\x16\x03\x01\x02\x00" + b"x" * 100)
        wait_for(lambda: chooser.metric("weir_connections") >= 700, "all to be accepted")
        each = (chooser.rss() - before) / 600
    finally:
        for client in held:
            client.close()
    assert each <= 16 * 1024, f"{each / 1024:.1f} KiB"


# --- cost and visibility ---------------------------------------------------------------------------------------------
@pytest.mark.skipif(SANITIZED, reason="a sanitizer's memory says nothing about ours")
def test_an_idle_connection_costs_at_most_30_kib(weir):
    gateway = weir(RESUMPTION.replace("worker_threads: 2", "worker_threads: 1"))
    context, count = client_context(), 400
    held = []
    try:
        for i in range(count + 100):
            if i == 100:  # what is allocated once is there by now
                before = gateway.rss()
            sock = connect(gateway.port("https"), "a.example", context=context)
            assert get(sock) == b"hello\n"
            held.append(sock)
        each = (gateway.rss() - before) / count
    finally:
        for sock in held:
            sock.close()
    assert each <= 30 * 1024, f"{each / 1024:.1f} KiB"


def test_expiry_is_a_metric(weir):
    cert = certificate(["a.example"], days=20)
    gateway = weir(FILES, files=files_of(site=(cert, "p256")))
    expiry = cert.not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp()
    assert gateway.metric("weir_certificate_expiry_timestamp_seconds", certificate="site") == expiry
    assert re.search(r"warning: .* expires in (19|20) days", gateway.stderr())
