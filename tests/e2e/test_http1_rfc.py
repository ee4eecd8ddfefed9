"""HTTP/1.1 as RFC 9110 and RFC 9112 want an intermediary to be, rule by rule, beyond what test_http1.py says of syntax."""
import threading
import time

import pytest

from client import Client
from h2client import H2Client
from origin import Origin
from origin_h2 import H2Origin

TEXT = """
worker_threads: 1
listeners:
  http: {address: "127.0.0.1:@http@"}
  h2c: {address: "127.0.0.1:@h2c@", protocols: h2}
target_groups:
  h1: {targets: ["127.0.0.1:@h1@"], health_check: {enabled: false}}
  h2: {protocol: h2c, targets: ["127.0.0.1:@h2@"], health_check: {enabled: false}}
routes:
  - {name: h2, match: {path: /h2*}, forward: h2}
  - {name: ruled, match: {path: /ruled}, response_headers: {remove: [x-internal]}, forward: h1}
  - {name: fixed, match: {path: /fixed}, respond: {status: 200, body: fixed}}
  - {name: h1, forward: h1}
"""


@pytest.fixture(scope="module")
def h1():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def h2():
    with H2Origin() as server:
        yield server


@pytest.fixture(scope="module")
def module_gateway(module_weir, h1, h2):
    return module_weir(TEXT, h1=h1.port, h2=h2.port)


@pytest.fixture
def gateway(module_gateway, h1):
    h1.settle()
    return module_gateway


# ---- interim responses (RFC 9110 15.2) ------------------------------------------------------------------------------

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Internal: 1\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n"
FINAL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("is_slow", [False, True], ids=["at once", "before the response"])
def test_early_hints_reach_http1_clients_before_the_response(gateway, h1, is_slow):
    client_has_them = threading.Event()

    def answer(exchange):
        exchange.send(HINTS)
        if is_slow:
            assert client_has_them.wait(10)
        exchange.send(HINTS + FINAL)
    h1.on("/x", answer)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/x")
        interim = [client.head()]
        client_has_them.set()
        answered = client.response()
        interim += answered.interim
        assert [head.status for head in interim] == [103, 103]
        for head in interim:
            assert head.get("link") == "</a.css>; rel=preload"
            assert not head.all("x-hop") and not head.all("connection") and not head.all("content-length")
            assert head.head.startswith(b"HTTP/1.1 103 Early Hints\r\n")
        assert (answered.status, answered.body) == (200, b"ok")
        assert client.is_open()


@pytest.mark.parametrize("path", ["/x", "/h2"])
def test_early_hints_reach_http2_clients(gateway, h1, h2, path):
    def answer_h2(exchange):
        exchange.head(103, [("link", "</a.css>; rel=preload")])
        exchange.head(102, [])
        exchange.respond(200, b"ok")
    h1.on("/x", HINTS + b"HTTP/1.1 102 Processing\r\n\r\n" + FINAL)
    h2.on("/h2", answer_h2)
    with H2Client(gateway.port("h2c")) as client:
        answered = client.fetch(path)
        assert (answered.status, answered.body) == (200, b"ok")
        assert answered.interim == [103, 102]
        assert dict(answered.interim_fields[0])["link"] == "</a.css>; rel=preload"
    with Client(gateway.port("http")) as client:
        client.request("GET", path)
        assert [head.status for head in client.response().interim] == [103, 102]


def test_rules_for_response_headers_hold_for_interim_responses(gateway, h1):
    h1.on("/ruled", HINTS + FINAL)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/ruled")
        hints, = client.response().interim
    assert hints.get("link") and not hints.all("x-internal")


def test_interim_responses_do_not_reach_clients_of_http10(gateway, h1):
    h1.on("/x", HINTS + FINAL)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/x", version="1.0")
        assert client.response().interim == []


def test_a_100_that_the_client_did_not_ask_for_is_not_passed_on(gateway, h1):
    h1.on("/x", b"HTTP/1.1 100 Continue\r\n\r\n" + FINAL)
    with Client(gateway.port("http")) as client:
        client.request("POST", "/x", body=b"hello")
        assert client.response().interim == []


def test_early_hints_while_the_body_is_still_coming_do_not_disturb_100_continue(gateway, h1):
    def answer(exchange):
        exchange.send(HINTS)
        exchange.read_body()
        exchange.send(FINAL)
    h1.reads_body = False
    try:
        h1.on("/x", answer)
        with Client(gateway.port("http")) as client:
            client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            assert [client.head().status for _ in range(2)] == [100, 103]
            client.send(b"hello")
            assert client.response().status == 200
            assert client.is_open()
    finally:
        h1.reads_body = True


def test_a_client_that_does_not_read_interim_responses_gets_the_final_one(gateway, h1):
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 60000 + b"\r\n\r\n"
    h1.on("/x", lambda exchange: [exchange.send(hints) for _ in range(30)] + [exchange.send(FINAL)])
    with Client(gateway.port("http"), receive_buffer=4096) as client:
        client.request("GET", "/x")
        h1.wait(1)
        time.sleep(0.2)
        answered = client.response()
        assert (answered.status, answered.body) == (200, b"ok")
        assert 0 < len(answered.interim) <= 30
        assert client.is_open()


# ---- Expect (RFC 9110 10.1.1) ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("value, status", [("100-continue, 100-Continue", 200), (" ,100-continue,", 200), (",", 417), ("", 417),
                                           ("100-continue, x", 417), ("100-continue;a", 417)])
def test_a_list_of_expectations_is_met_when_each_one_is(gateway, value, status):
    with Client(gateway.port("http")) as client:
        client.request("POST", "/x", [("Expect", value)], b"hello")
        assert client.response().status == status


# ---- Max-Forwards (RFC 9110 7.6.2) ----------------------------------------------------------------------------------

def test_options_with_max_forwards_0_is_answered_here(gateway, h1):
    with Client(gateway.port("http")) as client:
        for target in ("/x", "*"):
            client.request("OPTIONS", target, [("Max-Forwards", "0")])
            answered = client.response()
            assert (answered.status, answered.body) == (200, b"")
            assert "GET" in answered.get("allow")
        assert not [request for request in h1.requests if request.method == "OPTIONS"]
        assert client.is_open()


@pytest.mark.parametrize("value, expected", [("1", "0"), ("10", "9"), ("007", "6"), ("none", "none"), ("-1", "-1")])
def test_max_forwards_of_options_is_counted_down(gateway, h1, value, expected):
    with Client(gateway.port("http")) as client:
        client.request("OPTIONS", "/x", [("Max-Forwards", value)])
        assert client.response().status == 200
        client.request("GET", "/x", [("Max-Forwards", value)])
        assert client.response().status == 200
    assert h1.requests[0].get("max-forwards") == expected
    assert h1.requests[1].get("max-forwards") == value, "of other methods it is not our business"
