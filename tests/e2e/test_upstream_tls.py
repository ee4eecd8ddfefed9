"""TLS towards targets: who is trusted, what is said about it when somebody is not, resumption, client certificates, and
what a reload does to connections that other settings have made."""
import json
import socket
import ssl
import threading

import pytest

from client import Client, fetch
from origin import OK, Origin, reply
from test_tls import certificate, der, key_of, key_pem, pem
from weir import CONFIG as CONFIG_FILE, Weir, wait_for

CONFIG = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  origin:
    protocol: https
    targets: "@target@"
    tls: {@tls@}
    health_check: {enabled: false}
    timeouts: {connect: 20s, first_byte: 20s, idle: 20s}
routes: [{name: all, forward: origin}]
"""
CA = certificate(["weir test authority"], kind="p256 ca", is_ca=True)
AUTHORITY = (CA, key_of("p256 ca"))
OTHER_CA = certificate(["another authority"], kind="p256 other", is_ca=True)


class TlsOrigin(Origin):
    """An origin behind TLS. hello: the server names that clients have sent, None for none."""

    def __init__(self, cert, kind="p256", folder=None, setup=None, **options):
        super().__init__(**options)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        path = folder / f"origin-{id(self)}.pem"
        path.write_bytes((cert if isinstance(cert, bytes) else pem(cert)) + key_pem(kind))
        self.context.load_cert_chain(path)
        self.context.set_alpn_protocols(["http/1.1"])
        self.context.sni_callback = lambda sock, name, context: self.hello.append(name)
        self.hello, self.resumed, self.failures, self.client_certificates = [], [], [], []
        if setup:
            setup(self.context)

    def _serve(self, sock, number):
        sock.settimeout(20)
        try:
            wrapped = self.context.wrap_socket(sock, server_side=True)
        except OSError as error:
            self.failures.append(str(error))
            self.busy.discard(number)
            sock.close()
            return
        with self.lock:
            self.sockets.discard(sock)
            self.sockets.add(wrapped)
        self.resumed.append(wrapped.session_reused)
        self.client_certificates.append(wrapped.getpeercert(True))
        super()._serve(wrapped, number)


def start(origin, tls="ca: ca.pem", target=None, config=CONFIG, **values):
    files = {"ca.pem": pem(CA), "other.pem": pem(OTHER_CA)}
    files.update(values.pop("files", {}))
    return Weir(config, files=files, tls=tls, target=target or f"127.0.0.1:{origin.port}", **values)


def last_log(gateway):
    return gateway.wait_log()[-1]


def failures(gateway):
    return {dict(labels)["reason"]: value for (name, labels), value in gateway.metrics().items()
            if name == "weir_upstream_tls_failures_total" and value}


def test_a_target_whose_certificate_is_for_its_address_is_trusted_and_gets_no_server_name(tmp_path):
    with TlsOrigin(certificate(["127.0.0.1"], issuer=AUTHORITY), folder=tmp_path) as origin, \
            start(origin) as gateway:
        assert fetch(gateway.port("http")).body == b"ok"
        assert origin.hello == [None]
        assert origin.take().get("Host") == "example.com"


def test_a_target_by_name_is_verified_by_that_name_which_it_gets_as_server_name(tmp_path):
    with TlsOrigin(certificate(["localhost"], issuer=AUTHORITY), folder=tmp_path) as origin, \
            start(origin, target=f"localhost:{origin.port}") as gateway:
        assert fetch(gateway.port("http")).body == b"ok"
        assert origin.hello == ["localhost"]


def test_server_name_stands_in_for_the_address(tmp_path):
    with TlsOrigin(certificate(["*.origin.test"], issuer=AUTHORITY), folder=tmp_path) as origin, \
            start(origin, tls="ca: ca.pem, server_name: api.origin.test") as gateway:
        assert fetch(gateway.port("http")).body == b"ok"
        assert origin.hello == ["api.origin.test"]


VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("names, days, ca, reason, error", [
    (["127.0.0.2"], 100, "ca.pem", "hostname", "IP address mismatch"),
    (["example.com"], 100, "ca.pem", "hostname", "IP address mismatch"),
    (["127.0.0.1"], -1, "ca.pem", "expired", "certificate has expired"),
    (["127.0.0.1"], 100, "other.pem", "certificate", "unable to get local issuer certificate"),
], ids=["another address", "a name only", "expired", "another authority"])
def test_a_target_that_cannot_be_trusted_gets_no_request_and_an_alert(tmp_path, version, names, days, ca, reason, error):
    def setup(context):
        context.minimum_version = context.maximum_version = VERSIONS[version]
    with TlsOrigin(certificate(names, days=days, issuer=AUTHORITY), folder=tmp_path, setup=setup) as origin, \
            start(origin, tls=f"ca: {ca}") as gateway:
        assert fetch(gateway.port("http")).status == 502
        assert last_log(gateway)["reason"] == "UPSTREAM_CERTIFICATE"
        assert last_log(gateway)["error"] == error
        assert failures(gateway) == {reason: 1}
        wait_for(lambda: origin.failures, "the end of the origin's handshake")
        assert "alert" in origin.failures[0].lower(), origin.failures
        assert not origin.requests


@pytest.mark.parametrize("version", VERSIONS)
def test_a_name_that_differs_is_refused(tmp_path, version):
    def setup(context):
        context.minimum_version = context.maximum_version = VERSIONS[version]
    with TlsOrigin(certificate(["a.test"], issuer=AUTHORITY), folder=tmp_path, setup=setup) as origin, \
            start(origin, tls="ca: ca.pem, server_name: b.test") as gateway:
        assert fetch(gateway.port("http")).status == 502
        assert last_log(gateway)["error"] == "hostname mismatch"
        assert not origin.requests


def test_without_ca_a_private_authority_is_not_trusted(tmp_path):
    with TlsOrigin(certificate(["127.0.0.1"], issuer=AUTHORITY), folder=tmp_path) as origin, \
            start(origin, tls="min_version: \"1.2\"") as gateway:
        assert fetch(gateway.port("http")).status == 502
        assert last_log(gateway)["reason"] == "UPSTREAM_CERTIFICATE"
        assert not origin.requests


def test_a_self_signed_certificate_is_trusted_when_it_is_the_ca(tmp_path):
    own = certificate(["127.0.0.1"])
    with TlsOrigin(own, folder=tmp_path) as origin, \
            start(origin, tls="ca: own.pem", files={"own.pem": pem(own)}) as gateway:
        assert fetch(gateway.port("http")).body == b"ok"


@pytest.mark.parametrize("version", VERSIONS)
def test_insecure_trusts_anybody_and_says_so_in_check_and_status(tmp_path, version):
    def setup(context):
        context.minimum_version = context.maximum_version = VERSIONS[version]
    with TlsOrigin(certificate(["another.test"], days=-1), folder=tmp_path, setup=setup) as origin, \
            start(origin, tls="insecure: true") as gateway:
        assert fetch(gateway.port("http")).body == b"ok"
        assert "NOT verified" in gateway.stderr()
        warnings = json.loads(gateway.admin("/status")[1])["warnings"]
        assert warnings[0] in gateway.run("status", "-c", CONFIG_FILE).stdout
        assert len(warnings) == 1 and "target group \"origin\"" in warnings[0] and "insecure" in warnings[0]


def test_a_target_that_speaks_no_tls_is_answered_with_the_tls_reason(tmp_path):
    def junk(listener):
        sock, _ = listener.accept()
        with sock:
            sock.recv(1 << 16)
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=junk, args=(listener,), daemon=True).start()
        with start(None, target=f"127.0.0.1:{listener.getsockname()[1]}") as gateway:
            assert fetch(gateway.port("http")).status == 502
            assert last_log(gateway)["reason"] == "UPSTREAM_TLS_FAILED"
            assert last_log(gateway)["error"] == "wrong version number"
            assert failures(gateway) == {"handshake": 1}


def test_a_handshake_that_hangs_ends_with_its_own_reason_within_its_own_time(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with start(None, tls="ca: ca.pem, handshake_timeout: 200ms",
                   target=f"127.0.0.1:{listener.getsockname()[1]}") as gateway:
            assert fetch(gateway.port("http"), timeout=30).status == 504
            assert last_log(gateway)["reason"] == "UPSTREAM_TLS_TIMEOUT"
            assert 150 <= last_log(gateway)["duration_ms"] < 15000, "not that of the connect"
            assert failures(gateway) == {"timeout": 1}


def test_connections_are_kept_and_new_ones_resume_the_session(tmp_path):
    for version in VERSIONS.values():
        def setup(context):
            context.minimum_version = context.maximum_version = version
        with TlsOrigin(certificate(["127.0.0.1"], issuer=AUTHORITY), folder=tmp_path, setup=setup) as origin, \
                start(origin) as gateway:
            for _ in range(3):
                assert fetch(gateway.port("http")).status == 200
            assert origin.num_connections == 1
            origin.close_connections()
            wait_for(lambda: gateway.metric("weir_upstream_idle_connections") == 0, "the end to be seen")
            assert fetch(gateway.port("http")).status == 200
            assert origin.resumed == [False, True]
            assert gateway.metric("weir_upstream_tls_handshakes_total", kind="full") == 1
            assert gateway.metric("weir_upstream_tls_handshakes_total", kind="resumed") == 1


def test_a_target_that_asks_for_a_certificate_gets_it(tmp_path):
    own = certificate(["weir"], kind="p256 client", issuer=AUTHORITY)

    def setup(context):
        (tmp_path / "clients.pem").write_bytes(pem(CA))
        context.load_verify_locations(tmp_path / "clients.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    with TlsOrigin(certificate(["127.0.0.1"], issuer=AUTHORITY), folder=tmp_path, setup=setup) as origin:
        files = {"own.pem": pem(own), "own.key": key_pem("p256 client")}
        with start(origin, tls="ca: ca.pem, certificate: own.pem, key: own.key", files=files) as gateway:
            assert fetch(gateway.port("http")).status == 200
            assert origin.client_certificates == [der(own)]
        with start(origin) as gateway:  # none to show
            assert fetch(gateway.port("http")).status == 502
            assert "certificate" in last_log(gateway)["error"] or last_log(gateway)["reason"] == "UPSTREAM_CLOSED"


def test_bodies_of_any_size_pass_both_ways(tmp_path):
    with TlsOrigin(certificate(["127.0.0.1"], issuer=AUTHORITY), folder=tmp_path) as origin, \
            start(origin) as gateway:
        origin.answer = lambda exchange: exchange.send(reply(exchange.read_body()[::-1]))
        for size in (1, 1000, 16384, 100_000, 3_000_000):
            body = bytes(range(256)) * (size // 256 + 1)
            assert fetch(gateway.port("http"), method="POST", body=body[:size]).body == body[:size][::-1]


def test_a_body_until_the_end_without_close_notify_is_truncated(tmp_path):
    """RFC 9112, 9.8"""
    with TlsOrigin(certificate(["127.0.0.1"], issuer=AUTHORITY), folder=tmp_path) as origin, \
            start(origin) as gateway:
        def cut(exchange):
            exchange.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
            exchange.close()  # Origin closes the socket without unwrap()
        origin.on("/cut", cut)

        def whole(exchange):
            exchange.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
            try:
                exchange.socket.unwrap()
            except OSError:
                pass
            exchange.close()
        origin.on("/whole", whole)
        assert fetch(gateway.port("http"), "/whole").body == b"hello"
        with pytest.raises(Exception):
            fetch(gateway.port("http"), "/cut")
        wait_for(lambda: any(e["path"] == "/cut" for e in gateway.access_log()), "the log")
        assert [e["reason"] for e in gateway.access_log() if e["path"] == "/cut"] == ["UPSTREAM_TRUNCATED"]


def test_a_reload_that_changes_the_trust_uses_no_connection_of_before(tmp_path):
    with TlsOrigin(certificate(["127.0.0.1"], issuer=AUTHORITY), folder=tmp_path) as origin, \
            start(origin) as gateway:
        assert fetch(gateway.port("http")).status == 200
        gateway.write("ca.pem", pem(OTHER_CA))  # the same name, other content
        gateway.reload()
        assert fetch(gateway.port("http")).status == 502
        gateway.write("ca.pem", pem(CA))
        gateway.reload()
        assert fetch(gateway.port("http")).status == 200
        connections = origin.num_connections
        gateway.reload()  # nothing has changed
        assert fetch(gateway.port("http")).status == 200
        assert origin.num_connections == connections


CHECKED = CONFIG.replace("health_check: {enabled: false}",
                         "health_check: {interval: 500ms, timeout: 20s, unhealthy_threshold: 1, path: /healthz@more@}")


def test_health_checks_of_an_https_group_speak_https_and_verify(tmp_path):
    with TlsOrigin(certificate(["127.0.0.1"], issuer=AUTHORITY), folder=tmp_path) as origin:
        with start(origin, config=CHECKED, more=" ") as gateway:
            wait_for(lambda: gateway.metric("weir_target_group_targets", state="healthy") == 1, "a healthy target")
            probe = next(r for r in origin.requests if r.target == "/healthz")
            assert probe.get("Host") == f"127.0.0.1:{origin.port}"
            assert probe.get("User-Agent").startswith("weir-health-check/")
        with start(origin, tls="ca: other.pem", config=CHECKED, more=" ") as gateway:
            wait_for(lambda: gateway.metric("weir_target_group_targets", state="unhealthy") == 1, "an unhealthy target")


def test_an_https_group_may_be_checked_in_clear_on_another_port(tmp_path):
    with TlsOrigin(certificate(["127.0.0.1"], issuer=AUTHORITY), folder=tmp_path) as origin, Origin() as plain:
        with start(origin, config=CHECKED, more=f", protocol: http, port: {plain.port}") as gateway:
            wait_for(lambda: gateway.metric("weir_target_group_targets", state="healthy") == 1, "a healthy target")
            assert plain.requests[0].target == "/healthz"
