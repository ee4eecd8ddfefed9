"""One HTTP/2 connection, several names (RFC 9113 9.1.1): what TLS agreed on for one holds for all of a listener's."""
import ssl

import pytest

from client import Closed
from h2client import H2Client
from test_client_auth import AUTHORITY, EVE, STRANGER, context_of, leaf
from test_tls import certificate, key_pem, pem
from weir import Weir

TEXT = """
worker_threads: 1
certificates:
  one: {cert: one.pem, key: one.key}
  two: {cert: two.pem, key: two.key}
listeners:
  open: {address: "127.0.0.1:@open@", tls: {certificates: [one, two]}}
  closed:
    address: "127.0.0.1:@closed@"
    tls: {certificates: [one, two], client_auth: {mode: verify, trust_store: ca.pem}}
routes:
  - {name: secret, match: {listener: closed, host: two.example}, respond: {status: 200, body: secret}}
  - {name: one, match: {host: one.example}, respond: {status: 200, body: one}}
  - {name: two, match: {host: two.example}, respond: {status: 200, body: two}}
"""
ONE, TWO = certificate(["one.example"]), certificate(["two.example"], kind="rsa2048")


@pytest.fixture(scope="module")
def gateway():
    files = {"one.pem": pem(ONE), "one.key": key_pem("p256"), "two.pem": pem(TWO), "two.key": key_pem("rsa2048"),
             "ca.pem": pem(AUTHORITY)}
    with Weir(TEXT, files=files) as running:
        yield running


@pytest.mark.parametrize("asked, certificate_of", [("one.example", ONE), ("two.example", TWO)])
def test_a_connection_made_for_one_name_serves_the_listeners_others(gateway, asked, certificate_of):
    with H2Client(gateway.port("open"), tls=asked) as client:
        assert ssl.DER_cert_to_PEM_cert(client.socket.getpeercert(True)).encode() == pem(certificate_of)
        for _ in range(2):
            for name in ("one", "two"):
                answer = client.fetch(scheme="https", authority=f"{name}.example")
                assert (answer.status, answer.body) == (200, name.encode())
        port = client.socket.getsockname()[1]
    lines = gateway.wait_log(lambda entry: entry["client_port"] == port, count=4)
    assert [(line["server_name"], line["host"]) for line in lines[:2]] == [(asked, "one.example"), (asked, "two.example")]


@pytest.mark.parametrize("asked", ["one.example", "two.example", "three.example"])
@pytest.mark.parametrize("cert", [None, leaf("stranger", issuer=STRANGER)], ids=["none", "stranger"])
def test_no_server_name_leads_around_the_certificate_a_listener_asks_for(gateway, asked, cert):
    with pytest.raises((Closed, OSError)):  # TLS 1.3: the refusal comes behind the client's handshake
        with H2Client(gateway.port("closed"), tls=(context_of(gateway, cert), asked)) as client:
            client.fetch(scheme="https", authority="two.example")


@pytest.mark.parametrize("asked", ["one.example", "two.example"])
def test_a_client_with_a_certificate_has_shown_it_for_all_names(gateway, asked):
    with H2Client(gateway.port("closed"), tls=(context_of(gateway, EVE), asked)) as client:
        assert client.fetch(scheme="https", authority="two.example").body == b"secret"
        assert client.fetch(scheme="https", authority="one.example").body == b"one"


def test_what_only_a_listener_with_client_certificates_serves_is_not_to_be_had_on_another(gateway):
    with H2Client(gateway.port("open"), tls="one.example") as client:
        for authority in ("two.example", f"two.example:{gateway.port('closed')}"):
            assert client.fetch(scheme="https", authority=authority).body == b"two"
