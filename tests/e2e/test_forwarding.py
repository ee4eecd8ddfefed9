"""Header edits of an Application Load Balancer (spec/alb.md 5.5) and the life of client connections (5.7)."""
import ssl
import time

import pytest

from client import Client, fetch, insecure_context
from origin import OK, Origin
from weir import Weir

CONFIG = """
worker_threads: 1
listeners:
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: [own]}}
certificates: {own: {self_signed: [localhost]}}
forwarding: {%s}
limits: {keepalive_time: %s}
target_groups: {origin: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}}}
routes: [{name: all, forward: origin}]
"""


@pytest.fixture(scope="module")
def server():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def strict(server):
    with Weir(CONFIG % ("tls_headers: true, drop_invalid_headers: true", "300ms"), origin=server.port) as gateway:
        yield gateway


@pytest.mark.parametrize("name, is_kept", [("x-a", True), ("X-A9", True), ("x_a", False), ("x.a", False), ("x!", False),
                                           ("~", False), ("9", True), ("-", True)])
def test_fields_with_other_characters_than_letters_digits_and_dashes_are_left_out(strict, server, name, is_kept):
    fetch(strict.port("http"), headers=[(name, "1")])
    assert (server.take().get(name) == "1") == is_kept


def test_by_default_they_are_passed_on(server):
    with Weir(CONFIG % ("via: true", "1h"), origin=server.port) as gateway:
        fetch(gateway.port("http"), headers=[("x_a", "1"), ("X-Amzn-Tls-Version", "mine")])
        request = server.take()
        assert request.get("x_a") == "1" and request.get("x-amzn-tls-version") == "mine"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_target_learns_what_tls_the_client_speaks(strict, server, version):
    context = insecure_context()
    context.minimum_version, context.maximum_version = version, version
    with Client(strict.port("https"), tls=(context, "localhost")) as client:
        client.request("GET", "/", [("X-Amzn-Tls-Version", "SSLv2"), ("X-Amzn-Tls-Cipher-Suite", "none")])
        assert client.response().status == 200
        used = client.socket.cipher()[0]
    request = server.take()
    assert request.get("x-amzn-tls-version") == ("TLSv1.2" if version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
    assert request.get("x-amzn-tls-cipher-suite") == used


def test_a_plain_client_cannot_say_that_it_speaks_tls(strict, server):
    fetch(strict.port("http"), headers=[("X-Amzn-Tls-Version", "TLSv1.3"), ("x-amzn-tls-cipher-suite", "x")])
    request = server.take()
    assert request.get("x-amzn-tls-version") is None and request.get("x-amzn-tls-cipher-suite") is None


def test_a_connection_above_its_age_serves_one_more_request(strict, server):
    with Client(strict.port("http")) as client:
        client.request("GET", "/")
        assert client.response().get("connection") is None
        time.sleep(0.35)  # the age itself
        client.request("GET", "/")
        response = client.response()
        assert response.status == 200 and response.get("connection") == "close"
        assert client.is_closed()
    server.settle()
