"""Sentences of spec/alb.md sections 1 to 4 that no other test proves: each test says which."""
import pytest

from client import fetch
from h2client import H2Client
from origin import Origin
from weir import Weir

TEXT = """
listeners:
  http: {address: "127.0.0.1:@http@"}
  h2c: {address: "127.0.0.1:@h2c@", protocols: h2}
target_groups:
  origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
routes:
  - {name: all, forward: origin}
"""


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(origin):
    with Weir(TEXT, origin=origin.port) as running:
        yield running


# --- 1. Listeners ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "MY-OWN_1"])
def test_every_method_but_trace_and_connect_reaches_the_target(gateway, origin, method):
    """1.1"""
    assert fetch(gateway.port("http"), f"/{method}", method=method).status == 200
    with H2Client(gateway.port("h2c")) as client:
        assert client.fetch(f"/{method}", method).status == 200
    assert [r.method for r in origin.requests if r.target == f"/{method}"] == [method] * 2


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_trace_and_connect_are_not_served(gateway, origin, method):
    """1.1"""
    target = "a:80" if method == "CONNECT" else "/not-served"
    assert fetch(gateway.port("http"), target, method=method).status == 405
    assert not [r for r in origin.requests if r.method == method]


def test_an_expectation_over_http2_is_not_passed_on(gateway, origin):
    """1.5; the 100 that an ALB leaves out is sent (RFC 9110 10.1.1)"""
    with H2Client(gateway.port("h2c")) as client:
        stream = client.headers([(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/expect"),
                                 ("expect", "100-continue")], end=False)
        client.data(stream, b"body", end=True)
        answer = client.answer(stream)
        assert answer.status == 200
    (seen,) = [r for r in origin.requests if r.target == "/expect"]
    assert seen.body == b"body" and not seen.all("Expect")
