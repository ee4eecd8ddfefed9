"""HTTP/2 towards clients (RFC 9113)."""
import subprocess

import pytest

from h2client import (ACK, CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, ENABLE_CONNECT_PROTOCOL, ENABLE_PUSH, END_HEADERS,
                      END_STREAM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY, HAS_PRIORITY, HEADERS, INITIAL_WINDOW_SIZE,
                      MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, NO_RFC7540_PRIORITIES, PADDED, PING,
                      PREFACE, PRIORITY, PRIORITY_UPDATE, PROTOCOL_ERROR, PUSH_PROMISE, REFUSED_STREAM, RST_STREAM,
                      SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, H2Client, frame, literal, settings, u32)
from origin import Origin

TEXT = """
worker_threads: 1
listeners:
  both: {address: "127.0.0.1:@both@", protocols: [h2, http/1.1]}
  h2c: {address: "127.0.0.1:@h2c@", protocols: h2}
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: [self]}}
certificates: {self: {self_signed: [localhost]}}
target_groups: {origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}}
routes:
  - {name: fixed, match: {path: /fixed}, respond: {status: 200, body: fixed}}
  - {name: echo, match: {path: "/echo*"}, echo: true}
  - {name: forward, match: {path: "/o/*"}, forward: origin}
"""


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(module_weir, origin):
    return module_weir(TEXT, origin=origin.port)


@pytest.mark.parametrize("arguments, protocol", [
    (["-k", "--http2", "https://127.0.0.1:{https}/fixed"], "2"),
    (["-k", "--http1.1", "https://127.0.0.1:{https}/fixed"], "1.1"),
    (["--http2-prior-knowledge", "http://127.0.0.1:{both}/fixed"], "2"),
    (["--http2-prior-knowledge", "http://127.0.0.1:{h2c}/fixed"], "2"),
    (["--http1.1", "http://127.0.0.1:{both}/fixed"], "1.1"),
    (["http://127.0.0.1:{http}/fixed"], "1.1"),
])
def test_curl_gets_the_protocol_that_listener_and_client_share(gateway, arguments, protocol):
    ports = {name: gateway.port(name) for name in ("both", "h2c", "http", "https")}
    arguments = [argument.format(**ports) for argument in arguments]
    done = subprocess.run(["curl", "-sS", "-w", " %{http_version}", *arguments], capture_output=True, text=True, timeout=20)
    assert done.stdout == f"fixed {protocol}", done.stderr


# ---- RFC 9113, sections 3 to 6: what a server must take for an error --------------------------------------------------

GET = [(":method", "GET"), (":scheme", "http"), (":authority", "example.com"), (":path", "/fixed")]
POST = [(":method", "POST"), (":scheme", "http"), (":authority", "example.com"), (":path", "/o/echo")]


def fields(*more, without=(), **changed):
    """GET with pseudo-header fields changed or left out, and more fields."""
    head = [(name, changed.get(name[1:], value)) for name, value in GET if name[1:] not in without]
    return head + list(more)


def opened(client):
    """A request whose body is still to come."""
    return client.headers(POST, end=False)


def half_closed(client):
    """A stream on which the client has said all and the server nothing: the target holds it."""
    return client.request("/o/hold")


def done(client):
    stream = client.request("/fixed")
    assert client.answer(stream).status == 200
    return stream


def cancelled(client):
    stream = client.request("/o/hold")
    client.reset(stream)
    client.ping()
    return stream


HPACK_BAD_INDEX = b"\xff\xff\xff\x7f"
LITERAL_GET = b"".join(literal(name, value) for name, value in GET)
CONNECTION_ERRORS = {
    # name: (section, error codes, what is sent)
    "DATA on stream 0": ("6.1", {PROTOCOL_ERROR}, lambda c: c.frame(DATA, 0, 0, b"x")),
    "DATA on an idle stream": ("5.1", {PROTOCOL_ERROR}, lambda c: c.frame(DATA, 0, 1, b"x")),
    "DATA with padding longer than it": ("6.1", {PROTOCOL_ERROR}, lambda c: c.frame(DATA, PADDED, opened(c), b"\x08abc")),
    "DATA with padding as long as it": ("6.1", {PROTOCOL_ERROR}, lambda c: c.frame(DATA, PADDED, opened(c), b"\x04abc")),
    "DATA behind END_STREAM": ("5.1", {STREAM_CLOSED}, lambda c: c.frame(DATA, 0, half_closed(c), b"x")),
    "DATA on a stream that is over": ("5.1", {STREAM_CLOSED}, lambda c: c.frame(DATA, 0, done(c), b"x")),
    "DATA on a stream that the client reset": ("5.1", {STREAM_CLOSED}, lambda c: c.frame(DATA, 0, cancelled(c), b"x")),
    "HEADERS on stream 0": ("6.2", {PROTOCOL_ERROR}, lambda c: c.frame(HEADERS, END_HEADERS | END_STREAM, 0, LITERAL_GET)),
    "HEADERS on an even stream": ("5.1.1", {PROTOCOL_ERROR}, lambda c: c.headers(GET, 2)),
    "HEADERS on a lower stream": ("5.1.1", {PROTOCOL_ERROR},
                                  lambda c: (c.answer(c.headers(GET, 5)), c.headers(GET, 3))),
    "HEADERS on a lower stream in one piece": ("5.1.1", {PROTOCOL_ERROR}, lambda c: c.send(
        frame(HEADERS, END_HEADERS | END_STREAM, 5, LITERAL_GET) + frame(HEADERS, END_HEADERS | END_STREAM, 3, LITERAL_GET))),
    "HEADERS behind END_STREAM": ("5.1", {STREAM_CLOSED}, lambda c: c.headers(GET, half_closed(c))),
    "HEADERS on a stream that is over": ("5.1", {STREAM_CLOSED}, lambda c: c.headers(GET, done(c))),
    "HEADERS on a stream that the client reset": ("5.1", {STREAM_CLOSED}, lambda c: c.headers(GET, cancelled(c))),
    "HEADERS with padding longer than it": ("6.2", {PROTOCOL_ERROR},
                                            lambda c: c.frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\xff" + LITERAL_GET)),
    "HEADERS too short for a priority": ("6.2", {FRAME_SIZE_ERROR, PROTOCOL_ERROR},
                                         lambda c: c.frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, b"\0\0")),
    "HEADERS that depend on themselves": ("5.3", {PROTOCOL_ERROR}, lambda c: c.frame(
        HEADERS, END_HEADERS | END_STREAM | HAS_PRIORITY, 1, u32(1) + b"\0" + LITERAL_GET)),
    "a frame of another kind within a field section": ("6.2", {PROTOCOL_ERROR}, lambda c: c.send(
        frame(HEADERS, END_STREAM, 1, LITERAL_GET) + frame(PING, 0, 0, b"12345678"))),
    "a frame of an unknown kind within a field section": ("5.5", {PROTOCOL_ERROR}, lambda c: c.send(
        frame(HEADERS, END_STREAM, 1, LITERAL_GET) + frame(0xbb, 0, 1, b"x"))),
    "CONTINUATION of another stream": ("6.10", {PROTOCOL_ERROR}, lambda c: c.send(
        frame(HEADERS, END_STREAM, 1, LITERAL_GET) + frame(CONTINUATION, END_HEADERS, 3))),
    "CONTINUATION on stream 0": ("6.10", {PROTOCOL_ERROR}, lambda c: c.send(
        frame(HEADERS, END_STREAM, 1, LITERAL_GET) + frame(CONTINUATION, END_HEADERS, 0))),
    "CONTINUATION out of nothing": ("6.10", {PROTOCOL_ERROR}, lambda c: c.frame(CONTINUATION, END_HEADERS, 1, LITERAL_GET)),
    "CONTINUATION behind END_HEADERS": ("6.10", {PROTOCOL_ERROR},
                                        lambda c: c.frame(CONTINUATION, END_HEADERS, half_closed(c), b"")),
    "an index that is in no table": ("4.3", {COMPRESSION_ERROR},
                                     lambda c: c.frame(HEADERS, END_HEADERS | END_STREAM, 1, HPACK_BAD_INDEX)),
    "a field section that ends within a field": ("4.3", {COMPRESSION_ERROR},
                                                 lambda c: c.frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\x05abc")),
    "a table size above the setting": ("4.3", {COMPRESSION_ERROR},
                                       lambda c: c.frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x3f\xff\xff\x03" + LITERAL_GET)),
    "a table size behind fields": ("RFC 7541 4.2", {COMPRESSION_ERROR},
                                   lambda c: c.frame(HEADERS, END_HEADERS | END_STREAM, 1, LITERAL_GET + b"\x20")),
    "Huffman padding longer than 7 bits": ("RFC 7541 5.2", {COMPRESSION_ERROR},
                                           lambda c: c.frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\x01a\x82\xff\xff")),
    "index 0": ("RFC 7541 6.1", {COMPRESSION_ERROR}, lambda c: c.frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x80")),
    "PRIORITY on stream 0": ("6.3", {PROTOCOL_ERROR}, lambda c: c.frame(PRIORITY, 0, 0, u32(1) + b"\0")),
    "RST_STREAM on stream 0": ("6.4", {PROTOCOL_ERROR}, lambda c: c.frame(RST_STREAM, 0, 0, u32(CANCEL))),
    "RST_STREAM on an idle stream": ("6.4", {PROTOCOL_ERROR}, lambda c: c.reset(1)),
    "RST_STREAM of 3 bytes": ("6.4", {FRAME_SIZE_ERROR}, lambda c: c.frame(RST_STREAM, 0, half_closed(c), b"\0\0\0")),
    "SETTINGS on a stream": ("6.5", {PROTOCOL_ERROR}, lambda c: c.frame(SETTINGS, 0, 1)),
    "SETTINGS of 5 bytes": ("6.5", {FRAME_SIZE_ERROR}, lambda c: c.frame(SETTINGS, 0, 0, b"12345")),
    "SETTINGS that acknowledge with a payload": ("6.5", {FRAME_SIZE_ERROR},
                                                 lambda c: c.frame(SETTINGS, ACK, 0, settings({1: 1}))),
    "ENABLE_PUSH of 2": ("6.5.2", {PROTOCOL_ERROR}, lambda c: c.frame(SETTINGS, 0, 0, settings({ENABLE_PUSH: 2}))),
    "INITIAL_WINDOW_SIZE of 2^31": ("6.5.2", {FLOW_CONTROL_ERROR},
                                    lambda c: c.frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 1 << 31}))),
    "MAX_FRAME_SIZE of 16383": ("6.5.2", {PROTOCOL_ERROR}, lambda c: c.frame(SETTINGS, 0, 0, settings({MAX_FRAME_SIZE: 16383}))),
    "MAX_FRAME_SIZE of 2^24": ("6.5.2", {PROTOCOL_ERROR}, lambda c: c.frame(SETTINGS, 0, 0, settings({MAX_FRAME_SIZE: 1 << 24}))),
    "ENABLE_CONNECT_PROTOCOL of 2": ("RFC 8441 3", {PROTOCOL_ERROR},
                                     lambda c: c.frame(SETTINGS, 0, 0, settings({ENABLE_CONNECT_PROTOCOL: 2}))),
    "PUSH_PROMISE from a client": ("8.4", {PROTOCOL_ERROR},
                                   lambda c: c.frame(PUSH_PROMISE, END_HEADERS, half_closed(c), u32(2) + LITERAL_GET)),
    "PING on a stream": ("6.7", {PROTOCOL_ERROR}, lambda c: c.frame(PING, 0, 1, b"12345678")),
    "PING of 7 bytes": ("6.7", {FRAME_SIZE_ERROR}, lambda c: c.frame(PING, 0, 0, b"1234567")),
    "GOAWAY on a stream": ("6.8", {PROTOCOL_ERROR}, lambda c: c.frame(GOAWAY, 0, 1, u32(0) + u32(0))),
    "GOAWAY of 7 bytes": ("6.8", {FRAME_SIZE_ERROR}, lambda c: c.frame(GOAWAY, 0, 0, b"1234567")),
    "WINDOW_UPDATE of 3 bytes": ("6.9", {FRAME_SIZE_ERROR}, lambda c: c.frame(WINDOW_UPDATE, 0, 0, b"123")),
    "WINDOW_UPDATE by 0": ("6.9", {PROTOCOL_ERROR}, lambda c: c.window(0, 0)),
    "WINDOW_UPDATE on an idle stream": ("6.9", {PROTOCOL_ERROR}, lambda c: c.window(1, 1)),
    "a window of the connection above 2^31-1": ("6.9.1", {FLOW_CONTROL_ERROR}, lambda c: c.window(0, 0x7fffffff)),
    "a frame longer than 16384": ("4.2", {FRAME_SIZE_ERROR}, lambda c: c.frame(DATA, 0, opened(c), b"x" * 16385)),
    "HEADERS longer than 16384": ("4.2", {FRAME_SIZE_ERROR}, lambda c: c.frame(HEADERS, END_HEADERS, 1, b"\0" * 16385)),
    "SETTINGS longer than 16384": ("4.2", {FRAME_SIZE_ERROR}, lambda c: c.frame(SETTINGS, 0, 0, b"\0" * 16386)),
    "PRIORITY_UPDATE on a stream": ("RFC 9218 7.1", {PROTOCOL_ERROR}, lambda c: c.frame(PRIORITY_UPDATE, 0, 1, u32(1) + b"u=1")),
    "PRIORITY_UPDATE too short": ("RFC 9218 7.1", {FRAME_SIZE_ERROR}, lambda c: c.frame(PRIORITY_UPDATE, 0, 0, b"\0\0")),
    "a 129th request at a time": ("5.1.2", {PROTOCOL_ERROR, REFUSED_STREAM}, lambda c: [half_closed(c) for _ in range(129)]),
}
STREAM_ERRORS = {
    # name: (section, error codes, what is sent; returns the stream)
    "a window that a setting lifts above 2^31-1": ("6.9.2", {FLOW_CONTROL_ERROR}, lambda c: (
        s := half_closed(c), c.window(s, 0x7fffffff - 65535),
        c.frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 65536})))[0]),
    "a window above 2^31-1": ("6.9.1", {FLOW_CONTROL_ERROR}, lambda c: (s := half_closed(c), c.window(s, 0x7fffffff))[0]),
    "PRIORITY of 4 bytes": ("6.3", {FRAME_SIZE_ERROR}, lambda c: (s := half_closed(c), c.frame(PRIORITY, 0, s, b"\0" * 4))[0]),
    "WINDOW_UPDATE by 0 on a stream": ("6.9", {PROTOCOL_ERROR}, lambda c: (s := half_closed(c), c.window(s, 0))[0]),
}
# ---- section 8: malformed requests ------------------------------------------------------------------------------------
MALFORMED = {
    "a name with capitals": fields(("X-Team", "a")),
    "a name with one capital": fields(("x-teaM", "a")),
    "an empty name": fields(("", "a")),
    "a name with a blank": fields(("x team", "a")),
    "a name with a colon in it": fields(("x:y", "a")),
    "a name with a control": fields(("x\1", "a")),
    "a name with a high byte": fields(("x\xe9", "a")),
    "a value with NUL": fields(("x", "a\0b")),
    "a value with LF": fields(("x", "a\nb: c")),
    "a value with CR": fields(("x", "a\rb")),
    "a value with CRLF": fields(("x", "a\r\nx-injected: 1")),
    "a value that begins with a blank": fields(("x", " a")),
    "a value that begins with a tab": fields(("x", "\ta")),
    "a value that ends with a blank": fields(("x", "a ")),
    "a value with DEL": fields(("x", "a\x7f")),
    "connection": fields(("connection", "close")),
    "keep-alive": fields(("keep-alive", "timeout=5")),
    "proxy-connection": fields(("proxy-connection", "close")),
    "transfer-encoding": fields(("transfer-encoding", "chunked")),
    "upgrade": fields(("upgrade", "websocket")),
    "te other than trailers": fields(("te", "gzip")),
    "te with more than trailers": fields(("te", "trailers, gzip")),
    "no :method": fields(without=["method"]),
    "no :scheme": fields(without=["scheme"]),
    "no :path": fields(without=["path"]),
    "an empty :path": fields(path=""),
    "two of :method": [(":method", "GET"), *GET],
    "two of :scheme": [(":scheme", "http"), *GET],
    "two of :path": [(":path", "/"), *GET],
    "two of :authority": [(":authority", "a"), *GET],
    "an unknown pseudo-header field": [(":test", "a"), *GET],
    "a pseudo-header field of responses": [(":status", "200"), *GET],
    "a pseudo-header field behind a field": [("x", "y"), *GET],
    "a pseudo-header field among fields": [*GET[:3], ("x", "y"), GET[3]],
    ":protocol without CONNECT": [(":protocol", "websocket"), *GET],
    "CONNECT with :path": [(":method", "CONNECT"), (":authority", "a:80"), (":path", "/")],
    "CONNECT with :scheme": [(":method", "CONNECT"), (":authority", "a:80"), (":scheme", "http")],
    "CONNECT without :authority": [(":method", "CONNECT")],
    "extended CONNECT without :path": [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a")],
    "extended CONNECT without :scheme": [(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/"), (":authority", "a")],
}
REFUSED = {
    # name: (status, reason, fields)
    "no :authority and no host": (400, "MISSING_HOST", fields(without=["authority"])),
    "an empty :authority": (400, "BAD_HOST", fields(authority="")),
    ":authority with user info": (400, "BAD_HOST", fields(authority="user@example.com")),
    ":authority with a blank": (400, "BAD_HOST", fields(authority="a b")),
    ":authority with a path": (400, "BAD_HOST", fields(authority="a/b")),
    "host that differs from :authority": (400, "BAD_HOST", fields(("host", "other.example"))),
    "two of host": (400, "BAD_HOST", fields(("host", "a"), ("host", "a"), without=["authority"])),
    "a blank in :path": (400, "BAD_TARGET", fields(path="/a b")),
    "a request line in :path": (400, "BAD_TARGET", fields(path="/ HTTP/1.1\r\nx: y")),
    "CR in :path": (400, "BAD_TARGET", fields(path="/a\rb")),
    "NUL in :path": (400, "BAD_TARGET", fields(path="/a\0b")),
    "a tab in :path": (400, "BAD_TARGET", fields(path="/a\tb")),
    "a high byte in :path": (400, "BAD_TARGET", fields(path="/\xe9")),
    "# in :path": (400, "BAD_TARGET", fields(path="/a#b")),
    "a backslash in :path": (400, "BAD_TARGET", fields(path="/a\\b")),
    "% without digits in :path": (400, "BAD_TARGET", fields(path="/%zz")),
    "an absolute :path": (400, "BAD_TARGET", fields(path="http://example.com/")),
    ":path without slash": (400, "BAD_TARGET", fields(path="fixed")),
    "* with GET": (400, "BAD_TARGET", fields(path="*")),
    "a :scheme of no use": (400, "BAD_TARGET", fields(scheme="ftp")),
    "a :scheme with a blank": (400, "BAD_TARGET", fields(scheme="http ")),
    "a :method with a blank": (400, "BAD_METHOD", fields(method="GET /")),
    "a :method with CRLF": (400, "BAD_METHOD", fields(method="GET\r\n")),
    "an empty :method": (400, "BAD_METHOD", fields(method="")),
    "a :method of 33 letters": (400, "BAD_METHOD", fields(method="A" * 33)),
    "CONNECT": (405, "METHOD_NOT_ALLOWED", [(":method", "CONNECT"), (":authority", "a:80")]),
    "content-length that is no number": (400, "BAD_LENGTH", fields(("content-length", "five"))),
    "two of content-length": (400, "BAD_LENGTH", fields(("content-length", "0"), ("content-length", "0"))),
    "an expectation": (417, "EXPECTATION_FAILED", fields(("expect", "more"))),
    "101 fields": (431, "HEAD_TOO_LARGE", fields(*((f"x-{i}", "y") for i in range(101)))),
    "a head above header_block": (431, "HEAD_TOO_LARGE", fields(*((f"x-{i}", "y" * 4000) for i in range(9)))),
    "a path above url": (414, "URL_TOO_LONG", fields(path="/" + "a" * 8192)),
}


def hold(exchange):
    exchange.wait_peer_closed(30)


@pytest.fixture(autouse=True)
def paths(origin):
    origin.on("/o/hold", hold)


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
def test_a_connection_error_is_told_and_ends_the_connection(gateway, name):
    section, codes, send = CONNECTION_ERRORS[name]
    with H2Client(gateway.port("h2c")) as client:
        send(client)
        last = client.goaway()
        assert last.code in codes, section
        client.wait_closed()


@pytest.mark.parametrize("name", STREAM_ERRORS)
def test_a_stream_error_is_told_at_least_by_the_stream(gateway, name):
    section, codes, send = STREAM_ERRORS[name]
    with H2Client(gateway.port("h2c")) as client:
        stream = send(client)
        found = client.wait(lambda f: (f.kind == RST_STREAM and f.stream == stream) or f.kind == GOAWAY)
        assert found.code in codes, section
        if found.kind == RST_STREAM:
            assert client.fetch("/fixed").status == 200


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_reset_and_others_go_on(gateway, name):
    with H2Client(gateway.port("h2c")) as client:
        answer = client.answer(client.headers(MALFORMED[name]))
        assert answer.reset == PROTOCOL_ERROR and answer.status is None
        assert client.fetch("/fixed").status == 200


@pytest.mark.parametrize("name", REFUSED)
def test_what_http1_would_refuse_is_refused(gateway, name):
    status, reason, head = REFUSED[name]
    with H2Client(gateway.port("h2c")) as client:
        port = client.socket.getsockname()[1]
        block = client.encode(head)
        parts = [block[at:at + 16000] for at in range(0, len(block), 16000)]
        client.frame(HEADERS, END_STREAM | (END_HEADERS if len(parts) == 1 else 0), 1, parts[0])
        for i, part in enumerate(parts[1:], 2):
            client.frame(CONTINUATION, END_HEADERS if i == len(parts) else 0, 1, part)
        client.next_stream = 3
        answer = client.answer(1)
        assert answer.status == status and answer.reset is None
        assert client.fetch("/fixed").status == 200
    gateway.wait_log(lambda entry: entry["client_port"] == port and entry["reason"] == reason)


@pytest.mark.parametrize("name, length, pieces", [
    ("too short", 10, [b"12345"]), ("too long", 3, [b"12345"]), ("too long in two", 3, [b"123", b"4"]), ("none", 3, [b""])])
def test_a_body_that_is_not_its_content_length_is_reset(gateway, name, length, pieces):
    with H2Client(gateway.port("h2c")) as client:
        head = [*POST[:3], (":path", "/o/hold"), ("content-length", str(length))]
        stream = client.headers(head, end=False)
        for i, piece in enumerate(pieces, 1):
            client.data(stream, piece, end=i == len(pieces))
        assert client.answer(stream).reset == PROTOCOL_ERROR
        assert client.fetch("/fixed").status == 200


def test_a_content_length_without_body_is_reset(gateway):
    with H2Client(gateway.port("h2c")) as client:
        assert client.answer(client.headers(fields(("content-length", "3")))).reset == PROTOCOL_ERROR


@pytest.mark.parametrize("trailers, end", [([("x", "y")], False), ([(":path", "/")], True), ([("X", "y")], True),
                                           ([("connection", "close")], True)])
def test_malformed_trailers_are_reset(gateway, trailers, end):
    with H2Client(gateway.port("h2c")) as client:
        stream = opened(client)
        client.data(stream, b"abc")
        client.headers(trailers, stream, end=end)
        assert client.answer(stream).reset == PROTOCOL_ERROR
        assert client.fetch("/fixed").status == 200


@pytest.mark.parametrize("begun", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX" + b"\0" * 20])
def test_a_preface_that_is_none_ends_the_connection(gateway, begun):
    with H2Client(gateway.port("h2c"), start=False) as client:
        client.send(begun)
        client.wait_closed()


def test_a_preface_without_settings_is_a_protocol_error(gateway):
    with H2Client(gateway.port("h2c"), start=False) as client:
        client.send(PREFACE + frame(PING, 0, 0, b"12345678"))
        assert client.goaway().code == PROTOCOL_ERROR


# ---- what must be taken ---------------------------------------------------------------------------------------------

TAKEN = {
    "unknown frames": lambda c: c.frame(0xbb, 0xff, 0, b"what?"),
    "unknown settings": lambda c: c.frame(SETTINGS, 0, 0, settings({0xbbbb: 1})),
    "unknown flags": lambda c: c.frame(PING, 0xfe, 0, b"12345678"),
    "PRIORITY on an idle stream": lambda c: c.frame(PRIORITY, 0, 99, u32(0) + b"\0"),
    "PRIORITY on a stream that is over": lambda c: c.frame(PRIORITY, 0, done(c), u32(0) + b"\0"),
    "WINDOW_UPDATE on a stream that is over": lambda c: c.window(done(c), 1),
    "RST_STREAM on a stream that is over": lambda c: c.reset(done(c)),
    "an empty SETTINGS": lambda c: c.frame(SETTINGS),
    "the largest frame": lambda c: c.frame(DATA, 0, opened(c), b"x" * 16384),
    "padding": lambda c: c.frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\x08" + LITERAL_GET + b"\0" * 8),
    "a field section in pieces": lambda c: c.send(frame(HEADERS, END_STREAM, 1, LITERAL_GET[:5]) + frame(CONTINUATION, 0, 1, LITERAL_GET[5:9])
                                                  + frame(CONTINUATION, END_HEADERS, 1, LITERAL_GET[9:])),
    "te: trailers": lambda c: c.headers(fields(("te", "trailers"))),
    "a window that a setting makes negative": lambda c: c.frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 0})).frame(
        SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 65535})),
    "an unknown PRIORITY_UPDATE": lambda c: c.frame(PRIORITY_UPDATE, 0, 0, u32(99) + b"u=9, what(((")
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_allowed_is_taken(gateway, name):
    with H2Client(gateway.port("h2c")) as client:
        TAKEN[name](client)
        client.ping()
        client.next_stream = max(client.next_stream, 101)
        assert client.fetch("/fixed").body == b"fixed"


def test_settings_are_acknowledged(gateway):
    with H2Client(gateway.port("h2c")) as client:
        client.wait(lambda f: f.kind == SETTINGS and f.flags & ACK)


def test_the_settings_say_what_is_served(gateway):
    with H2Client(gateway.port("h2c")) as client:
        said = client.server_settings
    assert said[MAX_CONCURRENT_STREAMS] == 128 and said[INITIAL_WINDOW_SIZE] == 65536
    assert said[MAX_HEADER_LIST_SIZE] == 32768 and said[ENABLE_CONNECT_PROTOCOL] == 1 and said[NO_RFC7540_PRIORITIES] == 1
