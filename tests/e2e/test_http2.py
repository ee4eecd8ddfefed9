"""HTTP/2 towards clients: RFC 9113 sections 3 to 6, with what RFC 7541, 8441 and 9218 add. Sections 7 and 8 are in
test_http2_messages.py. The tables say: what a client may do wrong, the section that forbids it, the error codes that may come of it."""
import socket
import struct
import subprocess
import threading

import pytest

from h2client import (ACK, CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, ENABLE_CONNECT_PROTOCOL, ENABLE_PUSH, END_HEADERS,
                      END_STREAM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY, HAS_PRIORITY, HEADER_TABLE_SIZE, HEADERS, INITIAL_WINDOW_SIZE,
                      MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, NAMES, NO_ERROR, NO_RFC7540_PRIORITIES, PADDED, PING,
                      PREFACE, PRIORITY, PRIORITY_UPDATE, PROTOCOL_ERROR, PUSH_PROMISE, REFUSED_STREAM, RST_STREAM,
                      SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, H2Client, frame, literal, settings, u32)
from origin import Origin, reply
from weir import wait_for

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


def with_trailers(client):
    stream = client.headers([*POST[:3], (":path", "/o/hold")], end=False)
    client.headers([("x", "y")], stream)
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
    "DATA padded without a length of it": ("6.1", {FRAME_SIZE_ERROR, PROTOCOL_ERROR}, lambda c: c.frame(DATA, PADDED, opened(c))),
    "DATA behind END_STREAM": ("5.1", {STREAM_CLOSED}, lambda c: c.frame(DATA, 0, half_closed(c), b"x")),
    "DATA behind trailers": ("5.1", {STREAM_CLOSED}, lambda c: c.frame(DATA, 0, with_trailers(c), b"x")),
    "DATA on a stream of the server's": ("5.1", {PROTOCOL_ERROR}, lambda c: c.frame(DATA, 0, 2, b"x")),
    "DATA on a stream that was skipped": ("5.1.1", {PROTOCOL_ERROR, STREAM_CLOSED},
                                          lambda c: (c.answer(c.headers(GET, 5)), c.frame(DATA, 0, 3, b"x"))),
    "DATA on a stream that is over": ("5.1", {STREAM_CLOSED}, lambda c: c.frame(DATA, 0, done(c), b"x")),
    "DATA on a stream that the client reset": ("5.1", {STREAM_CLOSED}, lambda c: c.frame(DATA, 0, cancelled(c), b"x")),
    "HEADERS on stream 0": ("6.2", {PROTOCOL_ERROR}, lambda c: c.frame(HEADERS, END_HEADERS | END_STREAM, 0, LITERAL_GET)),
    "HEADERS on an even stream": ("5.1.1", {PROTOCOL_ERROR}, lambda c: c.headers(GET, 2)),
    "HEADERS on a lower stream": ("5.1.1", {PROTOCOL_ERROR},
                                  lambda c: (c.answer(c.headers(GET, 5)), c.headers(GET, 3))),
    "HEADERS on a lower stream in one piece": ("5.1.1", {PROTOCOL_ERROR}, lambda c: c.send(
        frame(HEADERS, END_HEADERS | END_STREAM, 5, LITERAL_GET) + frame(HEADERS, END_HEADERS | END_STREAM, 3, LITERAL_GET))),
    "HEADERS behind END_STREAM": ("5.1", {STREAM_CLOSED}, lambda c: c.headers(GET, half_closed(c))),
    "HEADERS behind trailers": ("5.1", {STREAM_CLOSED}, lambda c: c.headers([("x", "y")], with_trailers(c))),
    "HEADERS on a stream that is over": ("5.1", {STREAM_CLOSED}, lambda c: c.headers(GET, done(c))),
    "HEADERS on a stream that the client reset": ("5.1", {STREAM_CLOSED}, lambda c: c.headers(GET, cancelled(c))),
    "HEADERS with padding longer than it": ("6.2", {PROTOCOL_ERROR},
                                            lambda c: c.frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b"\xff" + LITERAL_GET)),
    "HEADERS padded without a length of it": ("6.2", {FRAME_SIZE_ERROR, PROTOCOL_ERROR},
                                              lambda c: c.frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1)),
    "HEADERS with padding longer than what the priority leaves": ("6.2", {PROTOCOL_ERROR}, lambda c: c.frame(
        HEADERS, END_HEADERS | END_STREAM | PADDED | HAS_PRIORITY, 1, b"\x04" + u32(0) + b"\x10abc")),
    "HEADERS too short for a priority": ("6.2", {FRAME_SIZE_ERROR, PROTOCOL_ERROR},
                                         lambda c: c.frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, b"\0\0")),
    "HEADERS that depend on themselves": ("5.3", {PROTOCOL_ERROR}, lambda c: c.frame(
        HEADERS, END_HEADERS | END_STREAM | HAS_PRIORITY, 1, u32(1) + b"\0" + LITERAL_GET)),
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
    "RST_STREAM on a stream of the server's": ("5.1", {PROTOCOL_ERROR}, lambda c: c.reset(2)),
    "RST_STREAM of 5 bytes": ("6.4", {FRAME_SIZE_ERROR}, lambda c: c.frame(RST_STREAM, 0, half_closed(c), b"\0" * 5)),
    "RST_STREAM of 0 bytes": ("6.4", {FRAME_SIZE_ERROR}, lambda c: c.frame(RST_STREAM, 0, half_closed(c))),
    "RST_STREAM of 3 bytes": ("6.4", {FRAME_SIZE_ERROR}, lambda c: c.frame(RST_STREAM, 0, half_closed(c), b"\0\0\0")),
    "SETTINGS on a stream": ("6.5", {PROTOCOL_ERROR}, lambda c: c.frame(SETTINGS, 0, 1)),
    "SETTINGS of 5 bytes": ("6.5", {FRAME_SIZE_ERROR}, lambda c: c.frame(SETTINGS, 0, 0, b"12345")),
    "SETTINGS of 1 byte": ("6.5", {FRAME_SIZE_ERROR}, lambda c: c.frame(SETTINGS, 0, 0, b"1")),
    "SETTINGS of 7 bytes": ("6.5", {FRAME_SIZE_ERROR}, lambda c: c.frame(SETTINGS, 0, 0, settings({1: 1}) + b"1")),
    "SETTINGS that acknowledge on a stream": ("6.5", {PROTOCOL_ERROR}, lambda c: c.frame(SETTINGS, ACK, 1)),
    "SETTINGS that acknowledge with a payload": ("6.5", {FRAME_SIZE_ERROR},
                                                 lambda c: c.frame(SETTINGS, ACK, 0, settings({1: 1}))),
    "ENABLE_PUSH of 2": ("6.5.2", {PROTOCOL_ERROR}, lambda c: c.frame(SETTINGS, 0, 0, settings({ENABLE_PUSH: 2}))),
    "ENABLE_PUSH of 2^32-1": ("6.5.2", {PROTOCOL_ERROR}, lambda c: c.frame(SETTINGS, 0, 0, settings({ENABLE_PUSH: 2**32 - 1}))),
    "INITIAL_WINDOW_SIZE of 2^31": ("6.5.2", {FLOW_CONTROL_ERROR},
                                    lambda c: c.frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 1 << 31}))),
    "INITIAL_WINDOW_SIZE of 2^32-1": ("6.5.2", {FLOW_CONTROL_ERROR},
                                      lambda c: c.frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 2**32 - 1}))),
    "MAX_FRAME_SIZE of 16383": ("6.5.2", {PROTOCOL_ERROR}, lambda c: c.frame(SETTINGS, 0, 0, settings({MAX_FRAME_SIZE: 16383}))),
    "MAX_FRAME_SIZE of 2^24": ("6.5.2", {PROTOCOL_ERROR}, lambda c: c.frame(SETTINGS, 0, 0, settings({MAX_FRAME_SIZE: 1 << 24}))),
    "MAX_FRAME_SIZE of 0": ("6.5.2", {PROTOCOL_ERROR}, lambda c: c.frame(SETTINGS, 0, 0, settings({MAX_FRAME_SIZE: 0}))),
    "NO_RFC7540_PRIORITIES of 2": ("RFC 9218 2.1", {PROTOCOL_ERROR},
                                   lambda c: c.frame(SETTINGS, 0, 0, settings({NO_RFC7540_PRIORITIES: 2}))),
    "ENABLE_CONNECT_PROTOCOL of 2": ("RFC 8441 3", {PROTOCOL_ERROR},
                                     lambda c: c.frame(SETTINGS, 0, 0, settings({ENABLE_CONNECT_PROTOCOL: 2}))),
    "PUSH_PROMISE from a client": ("8.4", {PROTOCOL_ERROR},
                                   lambda c: c.frame(PUSH_PROMISE, END_HEADERS, half_closed(c), u32(2) + LITERAL_GET)),
    "PUSH_PROMISE on stream 0": ("6.6", {PROTOCOL_ERROR}, lambda c: c.frame(PUSH_PROMISE, END_HEADERS, 0, u32(2) + LITERAL_GET)),
    "PUSH_PROMISE on an idle stream": ("6.6", {PROTOCOL_ERROR},
                                       lambda c: c.frame(PUSH_PROMISE, END_HEADERS, 1, u32(2) + LITERAL_GET)),
    "PING on a stream": ("6.7", {PROTOCOL_ERROR}, lambda c: c.frame(PING, 0, 1, b"12345678")),
    "PING of 7 bytes": ("6.7", {FRAME_SIZE_ERROR}, lambda c: c.frame(PING, 0, 0, b"1234567")),
    "PING of 9 bytes": ("6.7", {FRAME_SIZE_ERROR}, lambda c: c.frame(PING, 0, 0, b"123456789")),
    "PING of 0 bytes": ("6.7", {FRAME_SIZE_ERROR}, lambda c: c.frame(PING)),
    "an answered PING of 7 bytes": ("6.7", {FRAME_SIZE_ERROR}, lambda c: c.frame(PING, ACK, 0, b"1234567")),
    "GOAWAY on a stream": ("6.8", {PROTOCOL_ERROR}, lambda c: c.frame(GOAWAY, 0, 1, u32(0) + u32(0))),
    "GOAWAY of 7 bytes": ("6.8", {FRAME_SIZE_ERROR}, lambda c: c.frame(GOAWAY, 0, 0, b"1234567")),
    "GOAWAY of 0 bytes": ("6.8", {FRAME_SIZE_ERROR}, lambda c: c.frame(GOAWAY)),
    "WINDOW_UPDATE of 3 bytes": ("6.9", {FRAME_SIZE_ERROR}, lambda c: c.frame(WINDOW_UPDATE, 0, 0, b"123")),
    "WINDOW_UPDATE of 5 bytes": ("6.9", {FRAME_SIZE_ERROR}, lambda c: c.frame(WINDOW_UPDATE, 0, 0, b"12345")),
    "WINDOW_UPDATE of 3 bytes on a stream": ("6.9", {FRAME_SIZE_ERROR},
                                             lambda c: c.frame(WINDOW_UPDATE, 0, half_closed(c), b"123")),
    "WINDOW_UPDATE by 0 with the reserved bit": ("6.9", {PROTOCOL_ERROR}, lambda c: c.window(0, 0x80000000)),
    "WINDOW_UPDATE on a stream of the server's": ("5.1", {PROTOCOL_ERROR}, lambda c: c.window(2, 1)),
    "WINDOW_UPDATE by 0": ("6.9", {PROTOCOL_ERROR}, lambda c: c.window(0, 0)),
    "WINDOW_UPDATE on an idle stream": ("6.9", {PROTOCOL_ERROR}, lambda c: c.window(1, 1)),
    "a window of the connection above 2^31-1": ("6.9.1", {FLOW_CONTROL_ERROR}, lambda c: c.window(0, 0x7fffffff)),
    "a window that a setting lifts above 2^31-1": ("6.9.2", {FLOW_CONTROL_ERROR}, lambda c: (
        c.window(half_closed(c), 0x7fffffff - 65535), c.frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 65536})))),
    "PRIORITY_UPDATE on a stream": ("RFC 9218 7.1", {PROTOCOL_ERROR}, lambda c: c.frame(PRIORITY_UPDATE, 0, 1, u32(1) + b"u=1")),
    "PRIORITY_UPDATE too short": ("RFC 9218 7.1", {FRAME_SIZE_ERROR}, lambda c: c.frame(PRIORITY_UPDATE, 0, 0, b"\0\0")),
    "PRIORITY_UPDATE of stream 0": ("RFC 9218 7.1", {PROTOCOL_ERROR}, lambda c: c.frame(PRIORITY_UPDATE, 0, 0, u32(0) + b"u=1")),
    "PRIORITY_UPDATE of a push that is idle": ("RFC 9218 7.1", {PROTOCOL_ERROR},
                                               lambda c: c.frame(PRIORITY_UPDATE, 0, 0, u32(2) + b"u=1")),
    "a 129th request at a time": ("5.1.2", {PROTOCOL_ERROR, REFUSED_STREAM}, lambda c: [half_closed(c) for _ in range(129)]),
}
KINDS = {**dict(zip(NAMES, range(10))), "PRIORITY_UPDATE": PRIORITY_UPDATE, "an unknown frame": 0xbb}
for kind_name, kind_code in KINDS.items():
    CONNECTION_ERRORS[f"{kind_name} of 16385 bytes"] = ("4.2", {FRAME_SIZE_ERROR}, lambda c, kind=kind_code: c.send(
        (frame(HEADERS, END_STREAM, 1, LITERAL_GET) if kind == CONTINUATION else b"") + frame(
            kind, 0, 0 if kind in (SETTINGS, PING, GOAWAY, PRIORITY_UPDATE) else 1, b"\0" * 16385)))
    if kind_code != CONTINUATION:
        CONNECTION_ERRORS[f"{kind_name} within a field section"] = ("6.10", {PROTOCOL_ERROR}, lambda c, kind=kind_code: c.send(
            frame(HEADERS, END_STREAM, 1, LITERAL_GET[:9]) + frame(CONTINUATION, 0, 1, LITERAL_GET[9:]) + frame(
                kind, END_HEADERS if kind == HEADERS else 0, 0 if kind in (SETTINGS, PING, GOAWAY, PRIORITY_UPDATE) else 1,
                {SETTINGS: b"", WINDOW_UPDATE: u32(1), RST_STREAM: u32(CANCEL), PRIORITY: u32(0) + b"\0", GOAWAY: u32(0) * 2,
                 PUSH_PROMISE: u32(2), PING: b"12345678", PRIORITY_UPDATE: u32(1)}.get(kind, b"x"))))
STREAM_ERRORS = {
    # name: (section, error codes, what is sent; returns the stream)
    "a window above 2^31-1": ("6.9.1", {FLOW_CONTROL_ERROR}, lambda c: (s := half_closed(c), c.window(s, 0x7fffffff))[0]),
    "PRIORITY of 4 bytes": ("6.3", {FRAME_SIZE_ERROR}, lambda c: (s := half_closed(c), c.frame(PRIORITY, 0, s, b"\0" * 4))[0]),
    "PRIORITY of 6 bytes": ("6.3", {FRAME_SIZE_ERROR}, lambda c: (s := half_closed(c), c.frame(PRIORITY, 0, s, b"\0" * 6))[0]),
    "PRIORITY of 4 bytes on an idle stream": ("6.3", {FRAME_SIZE_ERROR}, lambda c: (c.frame(PRIORITY, 0, 1, b"\0" * 4), 1)[1]),
    "WINDOW_UPDATE by 0 on a stream": ("6.9", {PROTOCOL_ERROR}, lambda c: (s := half_closed(c), c.window(s, 0))[0]),
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
    "unknown frames of many kinds, everywhere": lambda c: c.send(b"".join(
        frame(kind, 0xff, stream, b"what?") for stream in (0, opened(c), done(c), 99) for kind in (10, 11, 12, 13, 15, 17, 64, 128, 254, 255))),
    "every flag that a frame does not have": lambda c: c.send(
        frame(SETTINGS, 0xfe) + frame(PRIORITY, 0xff, 1, u32(0) + b"\0") + frame(WINDOW_UPDATE, 0xff, 0, u32(1))
        + frame(HEADERS, 0xd3 & ~END_STREAM, 1, LITERAL_GET) + frame(CONTINUATION, 0xff, 1)
        + frame(DATA, 0xf6, 1, b"x") + frame(RST_STREAM, 0xff, 1, u32(CANCEL))),
    "the reserved bit of streams": lambda c: c.send(
        frame(PING, 0, 1 << 31, b"12345678") + frame(SETTINGS, 0, 1 << 31) + frame(WINDOW_UPDATE, 0, 1 << 31, u32(1))
        + frame(HEADERS, END_HEADERS, 1 << 31 | 1, LITERAL_GET) + frame(DATA, END_STREAM, 1 << 31 | 1, b"x")).answer(1),
    "the reserved bit of a window": lambda c: c.window(0, 1 << 31 | 1).window(half_closed(c), 1 << 31 | 1),
    "the reserved bit of a GOAWAY's last stream": lambda c: (half_closed(c), c.frame(GOAWAY, 0, 0, u32(1 << 31) + u32(0))),
    "all of a window": lambda c: c.window(0, 0x7fffffff - 65535),
    "settings said twice": lambda c: c.frame(SETTINGS, 0, 0, settings({MAX_FRAME_SIZE: 16384}) + settings({MAX_FRAME_SIZE: 1 << 24 - 1})),
    "ENABLE_PUSH of 1, then 0": lambda c: c.frame(SETTINGS, 0, 0, settings({ENABLE_PUSH: 1})).frame(SETTINGS, 0, 0, settings({ENABLE_PUSH: 0})),
    "every setting at its bounds": lambda c: c.frame(SETTINGS, 0, 0, settings({
        1: 0, ENABLE_PUSH: 0, MAX_CONCURRENT_STREAMS: 0, INITIAL_WINDOW_SIZE: 2**31 - 1, MAX_FRAME_SIZE: 2**24 - 1, MAX_HEADER_LIST_SIZE: 0,
        ENABLE_CONNECT_PROTOCOL: 1})),
    "an empty DATA frame": lambda c: c.data(opened(c)),
    "padding in all of DATA": lambda c: c.frame(DATA, PADDED | END_STREAM, opened(c), b"\xff" + b"\0" * 255),
    "empty CONTINUATION": lambda c: c.send(frame(HEADERS, END_STREAM, 1) + frame(CONTINUATION, 0, 1, LITERAL_GET) + frame(CONTINUATION, END_HEADERS, 1)),
    "a priority in HEADERS": lambda c: c.frame(HEADERS, END_HEADERS | END_STREAM | HAS_PRIORITY, 1, u32(1 << 31) + b"\xff" + LITERAL_GET),
    "PRIORITY on a stream of the server's": lambda c: c.frame(PRIORITY, 0, 2, u32(0) + b"\0"),
    "PRIORITY on a half-closed stream": lambda c: c.frame(PRIORITY, 0, half_closed(c), u32(0) + b"\0"),
    "WINDOW_UPDATE on a half-closed stream": lambda c: c.window(half_closed(c), 1),
    "RST_STREAM twice": lambda c: c.reset(cancelled(c)),
    "streams that are skipped": lambda c: c.answer(c.headers(GET, 51)),
    "an unknown PRIORITY_UPDATE": lambda c: c.frame(PRIORITY_UPDATE, 0, 0, u32(99) + b"u=9, what(((")
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_allowed_is_taken(gateway, name):
    with H2Client(gateway.port("h2c")) as client:
        TAKEN[name](client)
        client.ping()
        client.next_stream = max(client.next_stream, 101)
        assert client.fetch("/fixed").body == b"fixed"


# Of each: what the client has broken, and sends on the stream until it knows that the server has reset it.
IN_FLIGHT = {
    "DATA": lambda c, s: c.data(s, b"x" * 1000),
    "DATA and its end": lambda c, s: c.data(s, b"x", end=True),
    "trailers": lambda c, s: c.headers([("x", "y")], s),
    "WINDOW_UPDATE": lambda c, s: c.window(s, 1),
    "WINDOW_UPDATE by 0": lambda c, s: c.window(s, 0),
    "RST_STREAM": lambda c, s: c.reset(s),
    "PRIORITY": lambda c, s: c.frame(PRIORITY, 0, s, u32(0) + b"\0"),
}


@pytest.mark.parametrize("name", IN_FLIGHT)
def test_what_was_in_flight_when_the_server_reset_a_stream_is_ignored(gateway, name):
    """RFC 9113 5.1, closed."""
    with H2Client(gateway.port("h2c")) as client:
        stream = client.headers([*POST, ("connection", "close")], end=False)
        assert client.answer(stream).reset == PROTOCOL_ERROR
        IN_FLIGHT[name](client, stream)
        assert client.ping().fetch("/fixed").status == 200
        assert not [f for f in client.frames if f.kind in (RST_STREAM, GOAWAY)]


# ---- what a server itself has to keep to --------------------------------------------------------------------------

def test_the_server_begins_with_settings_before_the_client_has_said_anything_or_at_the_latest_then(gateway):
    """RFC 9113 3.4. h2client checks each frame that comes in any test: its length, flags, reserved bit and stream."""
    with H2Client(gateway.port("h2c"), start=False) as client:
        client.send(PREFACE + frame(SETTINGS) + frame(HEADERS, END_HEADERS | END_STREAM, 1, LITERAL_GET) + frame(PING, 0, 0, b"12345678"))
        client.answer(1)
        first = client.all_frames[0]
        assert first.kind == SETTINGS and not first.flags & ACK


def test_settings_are_acknowledged_each_and_in_their_turn(gateway):
    """RFC 9113 6.5.3."""
    with H2Client(gateway.port("h2c")) as client:
        client.wait(lambda f: f.kind == SETTINGS and f.flags & ACK)
        client.send(frame(SETTINGS) + frame(PING, 0, 0, b"11111111") + frame(SETTINGS) + frame(SETTINGS, 0, 0, settings({0xbbbb: 1}))
                    + frame(PING, 0, 0, b"22222222"))
        client.wait(lambda f: f.kind == PING and f.payload == b"22222222")
        client.ping()
        acks = [f for f in client.all_frames if f.kind == SETTINGS and f.flags & ACK]
        assert len(acks) == 4 and all(not f.payload for f in acks)


def test_a_ping_is_answered_with_its_bytes_and_an_answer_is_not_answered(gateway):
    """RFC 9113 6.7."""
    with H2Client(gateway.port("h2c")) as client:
        client.frame(PING, 0, 0, bytes(range(248, 256)))
        assert client.wait(lambda f: f.kind == PING).payload == bytes(range(248, 256))
        client.frame(PING, ACK, 0, b"nobodys!").ping()
        assert not [f for f in client.frames if f.kind == PING]


def test_a_reset_is_not_answered_with_a_reset(gateway):
    """RFC 9113 5.4.2."""
    with H2Client(gateway.port("h2c")) as client:
        for stream in (half_closed(client), opened(client)):
            client.reset(stream)
        client.ping().ping()
        assert not [f for f in client.frames if f.kind == RST_STREAM]


def test_frames_are_not_longer_than_the_client_takes(gateway, origin):
    """RFC 9113 4.2, 6.5.2."""
    origin.on("/o/large", reply(b"x" * 300_000))
    for size in (16384, 20000, 2**24 - 1):
        with H2Client(gateway.port("h2c"), settings={MAX_FRAME_SIZE: size, INITIAL_WINDOW_SIZE: 2**31 - 1}) as client:
            client.window(0, 2**31 - 1 - 65535)
            assert len(client.fetch("/o/large").body) == 300_000
            assert max(len(f.payload) for f in client.all_frames) <= size


def test_windows_are_kept_to_byte_by_byte(gateway, origin):
    """RFC 9113 6.9.1, 6.9.2: a setting moves the windows of streams, below zero too, and never the connection's."""
    origin.on("/o/large", reply(b"x" * 300_000))

    def got():
        client.ping().ping()
        taken, client.frames = sum(len(f.payload) for f in client.frames if f.kind == DATA), []
        return taken
    with H2Client(gateway.port("h2c"), settings={INITIAL_WINDOW_SIZE: 10_000}, opens_windows=False) as client:
        stream = client.request("/o/large")
        wait_for(lambda: client.ping() and sum(len(f.payload) for f in client.frames) >= 10_000, "what the window allows")
        assert got() == 10_000
        client.frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 2_000}))  # 8,000 below zero
        client.window(stream, 8_000)
        assert got() == 0
        client.window(stream, 3_000)
        wait_for(lambda: client.ping() and [f for f in client.frames if f.kind == DATA], "the window to be used")
        assert got() == 3_000
        client.frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 1}) + settings({INITIAL_WINDOW_SIZE: 2_500}))  # the last counts
        wait_for(lambda: client.ping() and [f for f in client.frames if f.kind == DATA], "the window to be used")
        assert got() == 500
        client.frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 2**31 - 13_500 - 1}))  # all but what the connection lets through
        wait_for(lambda: client.ping() and sum(len(f.payload) for f in client.frames) >= 65535 - 13_500, "the window to be used")
        assert got() == 65535 - 13_500


def test_more_than_the_connections_window_is_a_flow_control_error(weir):
    """RFC 9113 6.9.1. Nothing takes the bodies: connecting to their target does not come to an end."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for one in (first, second):  # these fill its queue
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        own = weir(TEXT.replace("worker_threads: 1", "worker_threads: 1\nlimits: {http2: {connection_window: 128KiB}}"),
                   origin=listener.getsockname()[1])
        with H2Client(own.port("h2c")) as client:
            client.ping()
            for _ in range(2):  # all of it
                stream = opened(client)
                for _ in range(4):
                    client.data(stream, b"x" * 16384)
            client.ping()
            client.data(opened(client), b"x")
            assert client.goaway().code == FLOW_CONTROL_ERROR
            client.wait_closed()


def test_a_body_that_is_over_needs_no_window_for_its_end(gateway, origin):
    """RFC 9113 6.9.1: an empty DATA frame with END_STREAM."""
    origin.on("/o/exact", reply(b"x" * 65535))
    origin.on("/o/none", reply(b""))
    with H2Client(gateway.port("h2c"), opens_windows=False) as client:
        assert len(client.fetch("/o/exact").body) == 65535
        assert client.fetch("/o/none").status == 200


@pytest.mark.parametrize("wrap", ["plain", "padded", "of a stream that was reset"])
def test_what_data_took_of_the_connections_window_is_given_back(gateway, wrap):
    """RFC 9113 5.1, 6.1, 6.9: padding counts, and so do frames for streams that are over."""
    with H2Client(gateway.port("h2c")) as client:
        client.ping()
        payload = (b"\xff" + b"x" * 744 + b"\0" * 255) if wrap == "padded" else b"x" * 1000
        left = sum(struct.unpack(">I", f.payload)[0] for f in client.all_frames if f.kind == WINDOW_UPDATE and f.stream == 0) + 65535
        assert left == 1 << 20
        stream, total, back = client.headers([*POST[:3], (":path", "/echo")] + (
            [("te", "gzip")] if wrap == "of a stream that was reset" else []), end=False), 3 << 20, 0
        room = 65536
        for _ in range(total // len(payload)):
            while left < len(payload) or (room < len(payload) and wrap != "of a stream that was reset"):
                f = client.wait_kind(WINDOW_UPDATE)
                back = struct.unpack(">I", f.payload)[0]
                left, room = (left + back, room) if f.stream == 0 else (left, room + back)
            client.frame(DATA, PADDED if wrap == "padded" else 0, stream, payload)
            left, room = left - len(payload), room - len(payload)
        if wrap != "of a stream that was reset":
            client.data(stream, end=True)
            assert client.answer(stream).status == 200
        assert client.fetch("/fixed").status == 200


def test_an_answer_may_come_before_the_request_has_ended_and_its_rest_is_declined_without_error(gateway):
    """RFC 9113 8.1."""
    with H2Client(gateway.port("h2c")) as client:
        stream = client.headers([*POST[:3], (":path", "/fixed")], end=False)
        assert client.answer(stream).body == b"fixed"
        assert client.wait_kind(RST_STREAM, stream).code == NO_ERROR
        assert client.data(stream, b"still", end=True).fetch("/fixed").status == 200


def test_a_goaway_names_the_last_stream_that_was_served(gateway):
    """RFC 9113 6.8."""
    with H2Client(gateway.port("h2c")) as client:
        for _ in range(3):
            done(client)
        client.frame(PING, 0, 1, b"12345678")
        assert client.goaway().last_stream == 5
        client.wait_closed()
    with H2Client(gateway.port("h2c")) as client:
        client.frame(PING, 0, 1, b"12345678")
        assert client.goaway().last_stream == 0


def test_what_is_open_is_served_when_the_client_says_goaway(gateway, origin):
    """RFC 9113 6.8."""
    gate = threading.Event()
    origin.on("/o/later", lambda exchange: (gate.wait(10), exchange.send(reply(b"later"))))
    with H2Client(gateway.port("h2c")) as client:
        stream = client.request("/o/later")
        client.frame(GOAWAY, 0, 0, u32(0) + u32(NO_ERROR) + b"bye").ping()
        gate.set()
        assert client.answer(stream).body == b"later"


def test_a_client_that_acknowledges_no_settings_gets_no_more_streams_than_they_allow(gateway):
    """RFC 9113 5.1.2, 6.5.3."""
    with H2Client(gateway.port("h2c"), start=False) as client:
        client.send(PREFACE + frame(SETTINGS) + b"".join(
            frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, client.encode(fields(path="/o/hold"))) for i in range(200)))
        found = client.wait(lambda f: f.kind in (RST_STREAM, GOAWAY))
        assert found.code in (REFUSED_STREAM, PROTOCOL_ERROR) and found.stream in (0, 2 * 128 + 1)


def test_the_last_stream_number_there_is_serves(gateway):
    """RFC 9113 5.1.1."""
    with H2Client(gateway.port("h2c")) as client:
        assert client.answer(client.headers(GET, 2**31 - 1)).status == 200
        client.headers(GET, 2**31 - 3)
        assert client.goaway().code in (PROTOCOL_ERROR, STREAM_CLOSED)


# ---- the tables of HPACK (RFC 9113 4.3, RFC 7541) -------------------------------------------------------------------

STORE = b"\x40" + literal("x-kept", "in the table")[1:]
STORED = b"\xbe"  # index 62: the newest
LITERAL_ECHO = b"".join(literal(name, value) for name, value in [*GET[:3], (":path", "/echo")])


def is_kept(client):
    """A field that some earlier section has put into the table is there."""
    client.frame(HEADERS, END_HEADERS | END_STREAM, 1001, LITERAL_ECHO + STORED)
    client.next_stream = 1003
    return b"in the table" in client.answer(1001).body


KEPT = {
    "of a request": lambda c: (c.frame(HEADERS, END_HEADERS | END_STREAM, 1, LITERAL_GET + STORE), c.answer(1)),
    "of a malformed request": lambda c: (c.frame(HEADERS, END_HEADERS | END_STREAM, 1, LITERAL_GET + literal("te", "x") + STORE), c.answer(1)),
    "of a request that is too large": lambda c: (c.send(
        frame(HEADERS, END_STREAM, 1, LITERAL_GET + literal("a", "b" * 16000)) + frame(CONTINUATION, 0, 1, literal("a", "b" * 16000))
        + frame(CONTINUATION, END_HEADERS, 1, literal("a", "b" * 1000) + STORE)), c.answer(1)),
    "of a request that is one too many": lambda c: (
        [half_closed(c) for _ in range(64)], c.frame(HEADERS, END_HEADERS | END_STREAM, 301, LITERAL_GET + STORE)),
    "of trailers": lambda c: (c.frame(HEADERS, END_HEADERS | END_STREAM, opened(c), STORE), c.answer(1)),
    "of trailers for a stream that the server reset": lambda c: (
        c.answer(s := c.headers([*POST, ("te", "x")], end=False)), c.frame(HEADERS, END_HEADERS | END_STREAM, s, STORE)),
    "of trailers for a stream that was answered": lambda c: (
        c.answer(s := c.headers([*POST[:3], (":path", "/fixed")], end=False)), c.frame(HEADERS, END_HEADERS | END_STREAM, s, STORE)),
    "in pieces of one byte": lambda c: (c.send(frame(HEADERS, END_STREAM, 1, LITERAL_GET) + b"".join(
        frame(CONTINUATION, END_HEADERS if i == 11 else 0, 1, STORE[i * 2:i * 2 + 2]) for i in range(12))), c.answer(1)),
}


@pytest.mark.parametrize("name", KEPT)
def test_every_field_section_counts_for_the_table(gateway, name):
    with H2Client(gateway.port("h2c")) as client:
        KEPT[name](client)
        assert is_kept(client)


def test_the_servers_table_is_as_large_as_the_client_allows(gateway, origin):
    """RFC 7541 4.2: what a setting makes smaller is said in the next section."""
    origin.on("/o/fields", reply(b"", fields=[("X-One", "1" * 50), ("X-Two", "2" * 50)]))
    with H2Client(gateway.port("h2c")) as client:
        for size in (4096, 0, 100, 4096, 0, 65536):
            client.frame(SETTINGS, 0, 0, settings({HEADER_TABLE_SIZE: size})).ping()
            client.decoder.max_allowed_table_size = size  # hpack insists that it is told
            for _ in range(3):
                answer = client.fetch("/o/fields")
                assert answer.get("x-one") == "1" * 50 and answer.get("x-two") == "2" * 50


def test_the_settings_say_what_is_served(gateway):
    with H2Client(gateway.port("h2c")) as client:
        said = client.server_settings
    assert said[MAX_CONCURRENT_STREAMS] == 128 and said[INITIAL_WINDOW_SIZE] == 65536
    assert said[MAX_HEADER_LIST_SIZE] == 32768 and said[ENABLE_CONNECT_PROTOCOL] == 1 and said[NO_RFC7540_PRIORITIES] == 1
