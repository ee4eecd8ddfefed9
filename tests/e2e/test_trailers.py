"""Trailers (RFC 9110 6.5, RFC 9112 7.1.2) between clients and targets of HTTP/1.1 and HTTP/2: what passes, to whom, and
what is never passed on."""
import gzip
import time

import pytest

from client import Client, Closed
from h2client import H2Client
from origin import Origin
from origin_h2 import H2Origin

TEXT = """
worker_threads: 1
limits: {headers: 40}
listeners:
  http: {address: "127.0.0.1:@http@"}
  h2c: {address: "127.0.0.1:@h2c@", protocols: h2}
target_groups:
  h1: {targets: ["127.0.0.1:@h1@"], health_check: {enabled: false}}
  h2: {protocol: h2c, targets: ["127.0.0.1:@h2@"], health_check: {enabled: false}}
routes:
  - {name: h1, match: {path: /h1*}, forward: h1}
  - {name: h2, match: {path: /h2*}, forward: h2}
  - name: ruled
    match: {path: /ruled}
    request_headers: {remove: [x-hidden], set: {x-user: nobody}}
    response_headers: {remove: [x-internal], add: {x-served: weir}}
    forward: h1
  - {name: again, match: {path: /again}, retry: {attempts: 2, on: [503], non_idempotent: true}, forward: h1}
  - {name: mirrored, match: {path: /mirrored}, mirror: {group: h2}, forward: h1}
  - name: compressed
    match: {path: /compressed}
    compression: {types: [text/plain], min_size: 10B}
    forward: h1
  - {name: fixed, respond: {status: 200, body: fixed}}
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
def gateway(module_gateway, h1, h2):
    h1.settle()
    h2.requests.clear()
    return module_gateway


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n"


def chunks(body, *trailers):
    """A chunked body of two pieces."""
    half = len(body) // 2
    framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part)
    return framed + b"0\r\n" + b"".join(line.encode() + b"\r\n" for line in trailers) + b"\r\n"


def post(path, body, *trailers, fields=()):
    head = [f"POST {path} HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + chunks(body, *trailers)


def ask_h1(gateway, path, fields=(("TE", "trailers"), ("Connection", "TE")), **options):
    with Client(gateway.port("http")) as client:
        client.request("GET", path, fields, **options)
        return client.response()


# ---- requests -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("body", [b"", b"hello", b"x" * 200000], ids=len)
def test_trailers_of_an_http1_request_reach_an_http1_target(gateway, h1, body):
    with Client(gateway.port("http")) as client:
        client.send(post("/h1", body, "X-Sum: 12 34", "x-empty:", fields=["Trailer: X-Sum, x-empty"]))
        assert client.response().status == 200
        assert client.is_open()
    request = h1.requests[0]
    assert request.body == body
    assert request.trailers == ["x-sum: 12 34", "x-empty: "]
    assert request.get("trailer") == "X-Sum, x-empty"


@pytest.mark.parametrize("body", [b"", b"hello", b"x" * 200000], ids=len)
def test_trailers_of_an_http1_request_reach_an_http2_target(gateway, h2, body):
    h2.on("/h2", lambda exchange: exchange.respond(200, exchange.body()))
    with Client(gateway.port("http")) as client:
        client.send(post("/h2", body, "X-Sum: 12 34", fields=["Trailer: X-Sum"]))
        assert client.response().body == body
        assert client.is_open()
    assert h2.requests[0].trailers == [("x-sum", "12 34")]
    assert h2.requests[0].get("trailer") == "X-Sum"
    assert not h2.errors


@pytest.mark.parametrize("length", [[], [("content-length", "5"), ("trailer", "x-sum")]], ids=["unknown", "announced"])
def test_trailers_of_an_http2_request_reach_an_http1_target(gateway, h1, length):
    with H2Client(gateway.port("h2c")) as client:
        stream = client.headers([(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/h1"), *length],
                                end=False)
        client.data(stream, b"hello")
        client.headers([("x-sum", "12")], stream)
        assert client.answer(stream).status == 200
    request = h1.requests[0]
    assert (request.body, request.trailers) == (b"hello", ["x-sum: 12"])
    assert request.get("trailer") == ("x-sum" if length else None)


def test_trailers_arrive_whole_however_their_bytes_come(gateway, h1):
    message = post("/h1", b"hi", "X-One: 1", "X-Two: 2")
    with Client(gateway.port("http")) as client:
        for at in range(len(message)):
            client.send(message[at:at + 1])
        assert client.response().status == 200
        client.send(message + message)
        assert [client.response().status for _ in range(2)] == [200, 200], "pipelined requests with trailers"
    assert [request.trailers for request in h1.requests] == [["x-one: 1", "x-two: 2"]] * 3


def test_a_request_that_is_tried_again_keeps_its_trailers(gateway, h1):
    answers = [b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
    h1.on("/again", lambda exchange: exchange.send(answers.pop(0)))
    with Client(gateway.port("http")) as client:
        client.send(post("/again", b"hello", "X-Sum: 12"))
        assert client.response().status == 200
    assert [(r.body, r.trailers) for r in h1.requests] == [(b"hello", ["x-sum: 12"])] * 2


def test_a_mirrored_request_with_trailers_is_copied_without_them(gateway, h1, h2):
    with Client(gateway.port("http")) as client:
        client.send(post("/mirrored", b"hello", "X-Sum: 12", fields=["Trailer: X-Sum"]))
        assert client.response().status == 200
    assert h1.take().trailers == ["x-sum: 12"]


FORBIDDEN = ["Content-Length: 5", "Transfer-Encoding: chunked", "Host: b.example", "Connection: close", "Trailer: x",
             "TE: trailers", "Upgrade: h2c", "Keep-Alive: 5", "Proxy-Connection: close", "Content-Type: text/html",
             "Content-Encoding: gzip", "Content-Range: bytes 0-1/2", "Content-Location: /x", "Set-Cookie: a=b",
             "Cookie: a=b", "Authorization: Basic x", "Proxy-Authorization: x", "WWW-Authenticate: x", "Location: /x",
             "Cache-Control: no-store", "Expires: 0", "Age: 1", "Date: x", "Vary: *", "Expect: 100-continue",
             "Max-Forwards: 1", "Pragma: x", "Range: bytes=0-1", "If-Match: x", "If-None-Match: x", "If-Range: x",
             "X-Forwarded-For: 1.2.3.4", "x_forwarded_for: 1.2.3.4", "Forwarded: for=1.2.3.4", "X-Real-IP: 1.2.3.4",
             "X-Amzn-Mtls-Clientcert: x", "X_Amzn_Mtls-Clientcert: x", "X-Request-Id: x", "traceparent: x", "Via: x"]


def test_trailers_that_belong_into_heads_are_never_passed_on(gateway, h1, h2):
    h2.on("/h2", lambda exchange: exchange.respond(200, exchange.body()))
    for at in range(0, len(FORBIDDEN), 20):
        for path in ("/h1", "/h2"):
            with Client(gateway.port("http")) as client:
                client.send(post(path, b"hello", *FORBIDDEN[at:at + 20], "X-Sum: 12",
                                 fields=["Trailer: Content-Length, host,, a b,X-Sum , set-cookie"]))
                assert client.response().status == 200
    assert [request.trailers for request in h1.requests] == [["x-sum: 12"]] * 2
    assert [request.trailers for request in h2.requests] == [[("x-sum", "12")]] * 2
    assert h1.requests[0].get("trailer") == h2.requests[0].get("trailer") == "X-Sum"


def test_trailers_of_responses_that_belong_into_heads_are_never_passed_on(gateway, h1):
    for at in range(0, len(FORBIDDEN), 20):
        h1.on("/h1", CHUNKED + b"\r\n" + chunks(b"hello", *FORBIDDEN[at:at + 20], "X-Sum: 12"))
        assert ask_h1(gateway, "/h1").trailers == [("x-sum", "12")]
        with H2Client(gateway.port("h2c")) as client:
            assert client.fetch("/h1").trailers == [("x-sum", "12")]


def test_trailers_that_connection_names_are_dropped(gateway, h1):
    h1.on("/h1", CHUNKED + b"Connection: x-hop, x-other\r\n\r\n" + chunks(b"hello", "X-Hop: 1", "X-Sum: 12"))
    with Client(gateway.port("http")) as client:
        client.send(post("/h1", b"hello", "X-Gone: 1", "X-Sum: 12", "x-also: 2",
                         fields=["Connection: TE, X-Gone", "TE: trailers", "connection: x-other,x-also"]))
        assert client.response().trailers == [("x-sum", "12")]
    assert h1.requests[0].trailers == ["x-sum: 12"]


def test_header_rules_of_a_route_hold_for_trailers_too(gateway, h1):
    h1.on("/ruled", CHUNKED + b"\r\n" + chunks(b"hello", "X-Internal: 1", "X-Served: me", "X-Sum: 12"))
    with Client(gateway.port("http")) as client:
        client.send(post("/ruled", b"hello", "X-Hidden: 1", "X-User: root", "X-Sum: 12", fields=["TE: trailers"]))
        answer = client.response()
    assert answer.trailers == [("x-sum", "12")]
    assert answer.get("x-served") == "weir"
    assert h1.requests[0].trailers == ["x-sum: 12"]
    assert h1.requests[0].get("x-user") == "nobody"


@pytest.mark.parametrize("what, trailers", [("bytes", ["X-Sum: " + "1" * 9000]), ("fields", ["X-Sum: 12"] * 41),
                                            ("bytes of many", [f"X-{i}: {'1' * 300}" for i in range(30)])])
def test_trailers_above_the_limits_are_refused_and_logged(gateway, h1, what, trailers):
    with Client(gateway.port("http")) as client:
        client.send(post("/h1", b"hello", *trailers))
        assert client.response().status == 431
        assert client.is_closed()
    entry = gateway.wait_log(lambda entry: entry["reason"] == "TRAILERS_TOO_LARGE", 1)[-1]
    assert entry["status"] == 431


def test_trailers_above_the_limits_are_refused_over_http2(gateway, h1):
    with H2Client(gateway.port("h2c")) as client:
        stream = client.headers([(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/h1")], end=False)
        client.data(stream, b"hello")
        client.headers([("x-sum", "12")] * 41, stream)
        assert client.answer(stream).status == 431


def test_trailers_of_a_body_that_nobody_wants_are_read_over(gateway):
    with Client(gateway.port("http")) as client:
        client.send(post("/fixed", b"hello", "X-Sum: 12") + post("/fixed", b"x" * 1000, "X-Sum: 12"))
        assert [client.response().body for _ in range(2)] == [b"fixed"] * 2
        assert client.is_open()


# ---- responses ----------------------------------------------------------------------------------------------------

def after(pieces):
    """An answer whose pieces come in reads of their own."""
    def answer(exchange):
        for piece in pieces:
            exchange.send(piece)
            time.sleep(0.05)
    return answer


@pytest.mark.parametrize("is_slow", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("body", [b"", b"hello", b"x" * 200000], ids=len)
def test_trailers_of_an_http1_target_reach_clients(gateway, h1, body, is_slow):
    pieces = [CHUNKED + b"Trailer: X-Sum\r\n\r\n", chunks(body, "X-Sum: 12 34", "x-empty:")]
    h1.on("/h1", after(pieces) if is_slow else b"".join(pieces))
    answer = ask_h1(gateway, "/h1")
    assert (answer.body, answer.trailers) == (body, [("x-sum", "12 34"), ("x-empty", "")])
    assert "x-sum" in answer.get("trailer").lower()
    assert (h1.requests[0].get("te"), h1.requests[0].get("connection")) == ("trailers", "te")
    with H2Client(gateway.port("h2c")) as client:
        answer = client.fetch("/h1", fields=[("te", "trailers")])
        assert (answer.body, answer.trailers) == (body, [("x-sum", "12 34"), ("x-empty", "")])
        assert answer.get("trailer") == "X-Sum"
        assert answer.get("content-length") is None, "a proxy in front that speaks HTTP/1.1 could not pass the trailers on"


@pytest.mark.parametrize("is_slow", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("fields", [[], [("content-length", "5")], [("content-length", "5"), ("trailer", "x-sum")]],
                         ids=["unknown", "length", "announced"])
def test_trailers_of_an_http2_target_reach_http1_clients(gateway, h2, h1, fields, is_slow):
    def answer(exchange):
        exchange.head(200, fields)
        time.sleep(0.05 if is_slow else 0)
        exchange.data(b"hello")
        time.sleep(0.05 if is_slow else 0)
        exchange.end_with([("x-sum", "12"), ("x-more", "34")])
    h2.on("/h2", answer)
    answered = ask_h1(gateway, "/h2")
    assert answered.body == b"hello"
    if fields == [("content-length", "5")] and answered.get("content-length"):
        return  # nothing was known of trailers when the head went out
    assert answered.trailers == [("x-sum", "12"), ("x-more", "34")]
    assert answered.get("trailer", "x-sum").startswith("x-sum")
    assert "trailer" not in dict(fields) or answered.get("trailer")


@pytest.mark.parametrize("fields, version", [([], "1.1"), ([("TE", "deflate")], "1.1"), ([("TE", "trailers")], "1.0")])
def test_http1_clients_that_did_not_ask_for_trailers_get_none(gateway, h1, h2, fields, version):
    h1.on("/h1", CHUNKED + b"Trailer: X-Sum\r\n\r\n" + chunks(b"hello", "X-Sum: 12"))
    h2.on("/h2", lambda exchange: exchange.respond(200, b"hello", [("trailer", "x-sum")], trailers=[("x-sum", "12")]))
    for path in ("/h1", "/h2"):
        answer = ask_h1(gateway, path, fields, version=version)
        assert (answer.body, answer.trailers, answer.all("trailer")) == (b"hello", [], [])
    assert h1.requests[0].all("te") == h1.requests[0].all("trailer") == []


def test_responses_without_a_body_have_no_trailers(gateway, h1):
    h1.on("/h1", lambda exchange: exchange.send(CHUNKED + b"Trailer: X-Sum\r\n\r\n"))
    with Client(gateway.port("http")) as client:
        client.request("HEAD", "/h1", [("TE", "trailers")])
        answer = client.response("HEAD")
        assert (answer.status, answer.all("trailer")) == (200, [])
        for status in ("204 No Content", "304 Not Modified"):
            h1.on("/h1", f"HTTP/1.1 {status}\r\nTrailer: X-Sum\r\n\r\n".encode())
            client.request("GET", "/h1", [("TE", "trailers")])
            assert client.response().all("trailer") == []
        assert client.is_open()


def test_a_compressed_response_has_no_trailers_about_other_bytes(gateway, h1):
    text = b"hello " * 1000
    h1.on("/compressed", CHUNKED + b"\r\n" + chunks(text, "Content-Digest: sha-256=:x:", "Digest: sha-256=x", 'ETag: "x"',
                                                    "Content-MD5: x", "Repr-Digest: sha-256=:x:", "X-Sum: 12"))
    answer = ask_h1(gateway, "/compressed", [("TE", "trailers"), ("Accept-Encoding", "gzip")])
    assert gzip.decompress(answer.body) == text
    assert answer.trailers == [("x-sum", "12")]
    answer = ask_h1(gateway, "/compressed")
    assert answer.body == text
    assert [name for name, _ in answer.trailers] == ["content-digest", "digest", "etag", "content-md5", "repr-digest", "x-sum"]


def check_broken(client):
    """Cut off, or, when the trailers were there before the head had left, answered instead."""
    try:
        assert client.response().status == 502
    except Closed:
        pass


@pytest.mark.parametrize("trailers", [["X-Sum: " + "1" * 9000], ["X-Sum: 12"] * 101], ids=["bytes", "fields"])
def test_target_trailers_above_the_limits_never_look_whole(gateway, h1, trailers):
    h1.on("/h1", after([CHUNKED + b"\r\n5\r\nhello\r\n", chunks(b"", *trailers)]))
    with Client(gateway.port("http")) as client:
        client.request("GET", "/h1")
        check_broken(client)
    assert gateway.wait_log(lambda entry: entry["reason"] == "UPSTREAM_TRAILERS_TOO_LARGE", 1)


BROKEN = ["X-T", "X-T : 1", ": 1", " X-T: 1", "X-T: \0", "X-T: a\rb", "X-T: 1\n", "X-T: 1\r\n folded", "X\xe9: 1"]


@pytest.mark.parametrize("line", BROKEN)
def test_a_malformed_trailer_of_a_target_never_looks_whole(gateway, h1, line):
    h1.on("/h1", after([CHUNKED + b"\r\n5\r\nhello\r\n", b"0\r\n" + line.encode("latin-1") + b"\r\n\r\n"]))
    with Client(gateway.port("http")) as client:
        client.request("GET", "/h1", [("TE", "trailers")])
        check_broken(client)


def test_a_grpc_like_answer_of_an_http2_target_keeps_its_status_for_http1_clients(gateway, h2):
    h2.on("/h2", lambda exchange: exchange.respond(200, b"\0\0\0\0\0", [("content-type", "application/grpc")],
                                                   trailers=[("grpc-status", "0"), ("grpc-message", "fine")]))
    answer = ask_h1(gateway, "/h2")
    assert answer.trailers == [("grpc-status", "0"), ("grpc-message", "fine")]
