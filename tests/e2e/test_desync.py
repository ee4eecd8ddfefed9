"""Requests that two readers may take for different ones: limits.desync_mitigation (spec/alb.md 5.8, vectors 10 to 13)."""
import pytest

from client import Client, fetch
from h2client import H2Client
from origin import Origin
from test_log_formats import ALB, NAMES
from weir import Weir, wait_for

CONFIG = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@", protocols: [h2, http/1.1]}}
limits: {desync_mitigation: %s}
access_log: {format: %s}
target_groups: {origin: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}}}
routes:
  - {name: fixed, match: {path: /fixed}, respond: {status: 200, body: fixed}}
  - {name: all, forward: origin}
"""
HOST = "Host: a.example"
# What the rules of RFC 9112 let pass: (request line, fields, body, class, reason)
TAKEN = {
    "a GET with a body": ("GET / HTTP/1.1", "Content-Length: 5", b"hello", "Ambiguous", "UndefinedContentLengthSemantics"),
    "a HEAD with a body": ("HEAD / HTTP/1.1", "Content-Length: 5", b"hello", "Ambiguous", "UndefinedContentLengthSemantics"),
    "a GET with chunks": ("GET / HTTP/1.1", "Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n", "Ambiguous",
                          "UndefinedTransferEncodingSemantics"),
    "a name like Transfer-Encoding": ("POST / HTTP/1.1", "Transfer_Encoding: chunked", b"", "Ambiguous", "SuspiciousHeader"),
    "a name like Content-Length": ("POST / HTTP/1.1", "Content-Length: 5\r\nContent_Length: 5", b"hello", "Ambiguous", "SuspiciousHeader"),
    "a GET with an empty body": ("GET / HTTP/1.1", "Content-Length: 0", b"", "Acceptable", "GetHeadZeroContentLength"),
    "a later version": ("GET / HTTP/1.2", "X-A: 1", b"", "Acceptable", "NonCompliantVersion"),
    "two lengths by likeness": ("POST / HTTP/1.1", "Content-Length: 5\r\nContent_Length: 6", b"hello", "Severe", "MultipleContentLength"),
    "chunks by likeness and a length": ("POST / HTTP/1.1", "Content-Length: 5\r\nTransfer_Encoding: chunked", b"hello", "Severe",
                                        "SuspiciousTeClPresent"),
    "an unknown coding by likeness": ("POST / HTTP/1.1", "Transfer_Encoding: x", b"", "Severe", "BadTransferEncoding"),
}
COMPLIANT = {
    "a POST": ("POST / HTTP/1.1", "Content-Length: 5", b"hello"),
    "a POST with chunks": ("POST / HTTP/1.1", "Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
    "a DELETE with a body": ("DELETE / HTTP/1.1", "Content-Length: 5", b"hello"),
    "a GET": ("GET / HTTP/1.1", "X-Content-Length: 5", b""),
}
BLOCKED = {"defensive": {"Severe"}, "strictest": {"Acceptable", "Ambiguous", "Severe"}, "monitor": set()}
# Refused in every mode, by the rules of RFC 9112: (bytes, status, class, reason)
REFUSED = {
    "different lengths": (f"POST / HTTP/1.1\r\n{HOST}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, "Severe", "MultipleContentLength"),
    "equal lengths": (f"POST / HTTP/1.1\r\n{HOST}\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 400, "Ambiguous", "DuplicateContentLength"),
    "length and chunks": (f"POST / HTTP/1.1\r\n{HOST}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "Ambiguous", "BothTeClPresent"),
    "no length": (f"POST / HTTP/1.1\r\n{HOST}\r\nContent-Length: x\r\n\r\n", 400, "Severe", "BadContentLength"),
    "no coding": (f"POST / HTTP/1.1\r\n{HOST}\r\nTransfer-Encoding: xchunked\r\n\r\n", 400, "Severe", "BadTransferEncoding"),
    "chunked twice": (f"POST / HTTP/1.1\r\n{HOST}\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400, "Severe", "MultipleTransferEncodingChunked"),
    "another coding": (f"POST / HTTP/1.1\r\n{HOST}\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "-", "-"),
    "chunks in HTTP/1.0": (f"POST / HTTP/1.0\r\n{HOST}\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "Ambiguous", "UndefinedTransferEncodingSemantics"),
    "a nameless field": (f"GET / HTTP/1.1\r\n{HOST}\r\n: x\r\n\r\n", 400, "Ambiguous", "EmptyHeader"),
    "a name that is none": (f"GET / HTTP/1.1\r\n{HOST}\r\nX(A: x\r\n\r\n", 400, "Acceptable", "NonCompliantHeader"),
    "NUL in a value": (f"GET / HTTP/1.1\r\n{HOST}\r\nX-A: \0\r\n\r\n", 400, "Severe", "BadHeader"),
    "a method that is none": (f"G(T / HTTP/1.1\r\n{HOST}\r\n\r\n", 400, "Severe", "BadMethod"),
    "a control in the URL": (f"GET /\x01 HTTP/1.1\r\n{HOST}\r\n\r\n", 400, "Ambiguous", "AmbiguousUri"),
    "NUL in the URL": (f"GET /\0 HTTP/1.1\r\n{HOST}\r\n\r\n", 400, "Severe", "BadUri"),
    "a blank in the URL": (f"GET /a b HTTP/1.1\r\n{HOST}\r\n\r\n", 400, "Acceptable", "SpaceInUri"),
    "another protocol": (f"GET / HTTP/3.0\r\n{HOST}\r\n\r\n", 505, "Severe", "BadVersion"),
    "no version": (f"GET /\r\n{HOST}\r\n\r\n", 400, "Acceptable", "NonCompliantVersion"),
}


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def gateways(origin):
    running = {mode: Weir(CONFIG % (mode, "json"), origin=origin.port) for mode in BLOCKED}
    yield running
    for gateway in running.values():
        gateway.close()


@pytest.fixture(scope="module")
def monitoring(origin):
    with Weir(CONFIG % ("monitor", "alb"), origin=origin.port) as gateway:
        yield gateway


def send(gateway, line, fields, body, path):
    client = Client(gateway.port("http"))
    client.send(f"{line.replace(' / ', f' {path} ')}\r\n{HOST}\r\n{fields}\r\n\r\n".encode() + body)
    return client


def entry_of(gateway, path):
    return gateway.wait_log(lambda entry: entry["path"] == path)[0]


@pytest.mark.parametrize("mode", BLOCKED)
@pytest.mark.parametrize("name", TAKEN)
def test_the_mode_says_what_happens_to_each_class(gateways, origin, mode, name):
    line, fields, body, kind, reason = TAKEN[name]
    gateway, is_blocked, path = gateways[mode], kind in BLOCKED[mode], f"/{mode}/{name.replace(' ', '-')}"
    closes = mode == "defensive" and kind == "Ambiguous"
    before = gateway.metric("weir_desync_requests_total", classification=kind)
    with send(gateway, line, fields, body, path) as client:
        response = client.response("HEAD" if line.startswith("HEAD") and not is_blocked else "GET")
        assert response.status == (400 if is_blocked else 200)
        assert client.is_closed() if is_blocked or closes else client.is_open()
        assert response.get("connection") == ("close" if is_blocked or closes else None)
    seen = [request.get("connection") for request in origin.requests if request.target == path]
    assert seen == ([] if is_blocked else ["close" if closes else None])
    entry = entry_of(gateway, path)
    assert (entry["classification"], entry["classification_reason"]) == (kind, reason)
    assert entry["reason"] == ("DESYNC" if is_blocked else "-")
    assert gateway.metric("weir_desync_requests_total", classification=kind) == before + 1


@pytest.mark.parametrize("mode", BLOCKED)
@pytest.mark.parametrize("name", COMPLIANT)
def test_compliant_requests_are_served_in_every_mode(gateways, mode, name):
    gateway, path = gateways[mode], f"/{mode}/{name.replace(' ', '-')}"
    with send(gateway, *COMPLIANT[name], path) as client:
        assert client.response().status == 200
        assert client.is_open()
    assert "classification" not in entry_of(gateway, path)


def test_the_connection_of_the_target_serves_no_further_request(gateways, origin):
    """Whatever the target does about it."""
    numbers = []
    for fields, path in ("Content-Length: 0", "/kept"), ("Transfer-Encoding: chunked", "/closed"), ("X-A: 1", "/after"):
        with send(gateways["defensive"], "GET / HTTP/1.1", fields, b"0\r\n\r\n" if "chunked" in fields else b"", path) as client:
            assert client.response().status == 200
        numbers += [request.connection for request in origin.requests if request.target == path]
    assert numbers[0] == numbers[1] != numbers[2]


def test_local_answers_close_the_client_s_connection_too(gateways):
    with send(gateways["defensive"], "GET / HTTP/1.1", "Content-Length: 5", b"hello", "/fixed") as client:
        assert client.response().get("connection") == "close"
        assert client.is_closed()


def test_http2_requests_are_compliant(gateways):
    gateway = gateways["strictest"]
    client = H2Client(gateway.port("http"))
    assert client.fetch("/h2", "GET", [("content-length", "0"), ("transfer_encoding", "chunked")]).status == 200
    client.close()
    assert "classification" not in entry_of(gateway, "/h2")


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_mode_serves_is_told_in_the_words_of_an_alb(monitoring, name):
    data, status, kind, reason = REFUSED[name]
    before = monitoring.stdout_path.read_text().count("\n")
    with Client(monitoring.port("http")) as client:
        client.send(data.encode("latin-1"))
        assert client.response().status == status
        assert client.is_closed()
    line = wait_for(lambda: monitoring.stdout_path.read_text().split("\n")[:-1][before:], "the line")[0]
    found = dict(zip(NAMES, ALB.fullmatch(line).groups()))
    assert (found["classification"], found["classification_reason"]) == (kind, reason)


def test_explain_knows_the_mode(gateways):
    for mode, says in ("strictest", "two readers may take it"), ("defensive", "action         forward"):
        done = gateways[mode].run("explain", "http://a.example/", "-H", "Content-Length: 0", "-c", gateways[mode].config_path)
        assert says in done.stdout, done.stdout


def test_templates_may_say_it(origin):
    text = (CONFIG % ("defensive", "template")).replace("format: template", "format: template, template: '${path} ${classification} ${classification_reason}'")
    with Weir(text, origin=origin.port) as gateway:
        fetch(gateway.port("http"), "/fixed", headers=[("Content-Length", "0")])
        wait_for(lambda: "/fixed Acceptable GetHeadZeroContentLength\n" in gateway.stdout_path.read_text(), "the line")
