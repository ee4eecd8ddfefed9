"""HTTP/2 towards targets: what a hostile or broken target may send (RFC 9113, 7541, 8441, 9218), frame by frame. The tables say: the
section that forbids it, the error codes of which one must come, what is sent. Clients never see a broken message for a good one."""
import threading

import pytest
from h2.settings import SettingCodes

from client import Client, Closed, fetch
from h2client import (ACK, CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, ENABLE_CONNECT_PROTOCOL, ENABLE_PUSH, END_HEADERS, END_STREAM,
                      FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY, HAS_PRIORITY, HEADERS, INITIAL_WINDOW_SIZE,
                      MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, NAMES, NO_RFC7540_PRIORITIES, PADDED, PING, PRIORITY, PRIORITY_UPDATE,
                      PROTOCOL_ERROR, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, literal, settings, u32)
from origin import Origin
from origin_h2 import H2Origin
from test_upstream_h2 import in_parallel, last_log, start
from weir import wait_for

OK = b"\x88"  # :status 200
ALL = END_HEADERS | END_STREAM


@pytest.fixture(scope="module")
def origin():
    with H2Origin(settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1000}) as server:  # python-h2 does not see what ends with raw frames
        yield server


@pytest.fixture(scope="module")
def gateway(origin):
    with start(origin) as running:
        yield running


def begun(exchange):
    """A response whose body is still to come; its stream."""
    exchange.raw(frame(HEADERS, END_HEADERS, exchange.stream_id, OK))
    return exchange.stream_id


def ended(exchange):
    """A response that is over, on a connection that stays in use: its stream."""
    exchange.raw(frame(HEADERS, END_HEADERS, exchange.stream_id, OK) + frame(DATA, END_STREAM, exchange.stream_id, b"ok"))
    return exchange.stream_id


KINDS = {**dict(zip(NAMES, range(10))), "PRIORITY_UPDATE": PRIORITY_UPDATE, "an unknown frame": 0xbb}
OF_CONNECTION = (SETTINGS, PING, GOAWAY, PRIORITY_UPDATE)
# Each is answered by GOAWAY. name: (section, codes, what is sent for the exchange of a request)
CONNECTION_ERRORS = {
    "DATA on stream 0": ("6.1", {PROTOCOL_ERROR}, lambda e: frame(DATA, 0, 0, b"x")),
    "DATA on an idle stream": ("5.1", {PROTOCOL_ERROR}, lambda e: frame(DATA, 0, 9999, b"x")),
    "DATA on a stream of the target's": ("5.1", {PROTOCOL_ERROR}, lambda e: frame(DATA, 0, 2, b"x")),
    "DATA with padding as long as it": ("6.1", {PROTOCOL_ERROR}, lambda e: frame(DATA, PADDED, begun(e), b"\x04abc")),
    "DATA padded without a length of it": ("6.1", {PROTOCOL_ERROR, FRAME_SIZE_ERROR}, lambda e: frame(DATA, PADDED, begun(e))),
    "HEADERS on stream 0": ("6.2", {PROTOCOL_ERROR}, lambda e: frame(HEADERS, ALL, 0, OK)),
    "HEADERS on an idle stream": ("5.1.1", {PROTOCOL_ERROR}, lambda e: frame(HEADERS, ALL, 9999, OK)),
    "HEADERS on a stream of the target's": ("5.1.1", {PROTOCOL_ERROR}, lambda e: frame(HEADERS, ALL, 2, OK)),
    "HEADERS with padding longer than it": ("6.2", {PROTOCOL_ERROR}, lambda e: frame(HEADERS, ALL | PADDED, e.stream_id, b"\xff" + OK)),
    "HEADERS too short for a priority": ("6.2", {PROTOCOL_ERROR, FRAME_SIZE_ERROR},
                                         lambda e: frame(HEADERS, ALL | HAS_PRIORITY, e.stream_id, b"\0\0")),
    "CONTINUATION of another stream": ("6.10", {PROTOCOL_ERROR}, lambda e: frame(HEADERS, END_STREAM, e.stream_id, OK)
                                       + frame(CONTINUATION, END_HEADERS, e.stream_id + 2)),
    "CONTINUATION out of nothing": ("6.10", {PROTOCOL_ERROR}, lambda e: frame(CONTINUATION, END_HEADERS, e.stream_id, OK)),
    "CONTINUATION behind END_HEADERS": ("6.10", {PROTOCOL_ERROR}, lambda e: frame(CONTINUATION, END_HEADERS, begun(e))),
    "an index that is in no table": ("4.3", {COMPRESSION_ERROR}, lambda e: frame(HEADERS, ALL, e.stream_id, b"\xff\xff\xff\x7f")),
    "index 0": ("RFC 7541 6.1", {COMPRESSION_ERROR}, lambda e: frame(HEADERS, ALL, e.stream_id, b"\x80")),
    "a field section that ends within a field": ("4.3", {COMPRESSION_ERROR}, lambda e: frame(HEADERS, ALL, e.stream_id, OK + b"\0\x05abc")),
    "a table size above the setting": ("4.3", {COMPRESSION_ERROR}, lambda e: frame(HEADERS, ALL, e.stream_id, b"\x3f\xff\xff\x03" + OK)),
    "a table size behind fields": ("RFC 7541 4.2", {COMPRESSION_ERROR}, lambda e: frame(HEADERS, ALL, e.stream_id, OK + b"\x20")),
    "Huffman padding longer than 7 bits": ("RFC 7541 5.2", {COMPRESSION_ERROR},
                                           lambda e: frame(HEADERS, ALL, e.stream_id, OK + b"\0\x01a\x82\xff\xff")),
    "RST_STREAM on stream 0": ("6.4", {PROTOCOL_ERROR}, lambda e: frame(RST_STREAM, 0, 0, u32(CANCEL))),
    "RST_STREAM on an idle stream": ("6.4", {PROTOCOL_ERROR}, lambda e: frame(RST_STREAM, 0, 9999, u32(CANCEL))),
    "RST_STREAM of 3 bytes": ("6.4", {FRAME_SIZE_ERROR}, lambda e: frame(RST_STREAM, 0, e.stream_id, b"\0\0\0")),
    "RST_STREAM of 5 bytes": ("6.4", {FRAME_SIZE_ERROR}, lambda e: frame(RST_STREAM, 0, e.stream_id, b"\0" * 5)),
    "SETTINGS on a stream": ("6.5", {PROTOCOL_ERROR}, lambda e: frame(SETTINGS, 0, e.stream_id)),
    "SETTINGS of 5 bytes": ("6.5", {FRAME_SIZE_ERROR}, lambda e: frame(SETTINGS, 0, 0, b"12345")),
    "SETTINGS that acknowledge with a payload": ("6.5", {FRAME_SIZE_ERROR}, lambda e: frame(SETTINGS, ACK, 0, settings({4: 1}))),
    "ENABLE_PUSH of 1": ("6.5.2", {PROTOCOL_ERROR}, lambda e: frame(SETTINGS, 0, 0, settings({ENABLE_PUSH: 1}))),
    "ENABLE_PUSH of 2": ("6.5.2", {PROTOCOL_ERROR}, lambda e: frame(SETTINGS, 0, 0, settings({ENABLE_PUSH: 2}))),
    "INITIAL_WINDOW_SIZE of 2^31": ("6.5.2", {FLOW_CONTROL_ERROR}, lambda e: frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 1 << 31}))),
    "MAX_FRAME_SIZE of 16383": ("6.5.2", {PROTOCOL_ERROR}, lambda e: frame(SETTINGS, 0, 0, settings({MAX_FRAME_SIZE: 16383}))),
    "MAX_FRAME_SIZE of 2^24": ("6.5.2", {PROTOCOL_ERROR}, lambda e: frame(SETTINGS, 0, 0, settings({MAX_FRAME_SIZE: 1 << 24}))),
    "ENABLE_CONNECT_PROTOCOL of 2": ("RFC 8441 3", {PROTOCOL_ERROR}, lambda e: frame(SETTINGS, 0, 0, settings({ENABLE_CONNECT_PROTOCOL: 2}))),
    "ENABLE_CONNECT_PROTOCOL taken back": ("RFC 8441 3", {PROTOCOL_ERROR}, lambda e: frame(
        SETTINGS, 0, 0, settings({ENABLE_CONNECT_PROTOCOL: 1})) + frame(SETTINGS, 0, 0, settings({ENABLE_CONNECT_PROTOCOL: 0}))),
    "NO_RFC7540_PRIORITIES of 2": ("RFC 9218 2.1", {PROTOCOL_ERROR}, lambda e: frame(SETTINGS, 0, 0, settings({NO_RFC7540_PRIORITIES: 2}))),
    "PUSH_PROMISE that nobody allowed": ("6.6, 8.4", {PROTOCOL_ERROR},
                                         lambda e: frame(PUSH_PROMISE, END_HEADERS, e.stream_id, u32(2) + b"\x82\x86\x84\x01\x01a")),
    "PUSH_PROMISE on stream 0": ("6.6", {PROTOCOL_ERROR}, lambda e: frame(PUSH_PROMISE, END_HEADERS, 0, u32(2) + b"\x82")),
    "PING on a stream": ("6.7", {PROTOCOL_ERROR}, lambda e: frame(PING, 0, e.stream_id, b"12345678")),
    "PING of 7 bytes": ("6.7", {FRAME_SIZE_ERROR}, lambda e: frame(PING, 0, 0, b"1234567")),
    "GOAWAY on a stream": ("6.8", {PROTOCOL_ERROR}, lambda e: frame(GOAWAY, 0, e.stream_id, u32(0) * 2)),
    "GOAWAY of 7 bytes": ("6.8", {FRAME_SIZE_ERROR}, lambda e: frame(GOAWAY, 0, 0, b"1234567")),
    "GOAWAY that takes more streams than the one before": ("6.8", {PROTOCOL_ERROR}, lambda e: frame(
        GOAWAY, 0, 0, u32(e.stream_id) + u32(0)) + frame(GOAWAY, 0, 0, u32(e.stream_id + 2) + u32(0))),
    "WINDOW_UPDATE of 3 bytes": ("6.9", {FRAME_SIZE_ERROR}, lambda e: frame(WINDOW_UPDATE, 0, 0, b"123")),
    "WINDOW_UPDATE of 5 bytes on a stream": ("6.9", {FRAME_SIZE_ERROR}, lambda e: frame(WINDOW_UPDATE, 0, e.stream_id, b"12345")),
    "WINDOW_UPDATE by 0": ("6.9", {PROTOCOL_ERROR}, lambda e: frame(WINDOW_UPDATE, 0, 0, u32(0))),
    "WINDOW_UPDATE on an idle stream": ("6.9", {PROTOCOL_ERROR}, lambda e: frame(WINDOW_UPDATE, 0, 9999, u32(1))),
    "a window of the connection above 2^31-1": ("6.9.1", {FLOW_CONTROL_ERROR}, lambda e: frame(WINDOW_UPDATE, 0, 0, u32(2**31 - 1))),
    "a window that a setting lifts above 2^31-1": ("6.9.2", {FLOW_CONTROL_ERROR}, lambda e: frame(
        WINDOW_UPDATE, 0, e.stream_id, u32(2**31 - 1 - 65535)) + frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 65536}))),
    "PRIORITY_UPDATE": ("RFC 9218 7.1", {PROTOCOL_ERROR}, lambda e: frame(PRIORITY_UPDATE, 0, 0, u32(e.stream_id) + b"u=1")),
}
for kind_name, kind_code in KINDS.items():
    if kind_code != PRIORITY_UPDATE:
        CONNECTION_ERRORS[f"{kind_name} of 16385 bytes"] = ("4.2", {FRAME_SIZE_ERROR}, lambda e, kind=kind_code: (
            frame(HEADERS, END_STREAM, e.stream_id, OK) if kind == CONTINUATION else b"") + frame(
                kind, 0, 0 if kind in OF_CONNECTION else e.stream_id, literal("a", "b" * 16379)))
    if kind_code != CONTINUATION:
        CONNECTION_ERRORS[f"{kind_name} within a field section"] = ("6.10", {PROTOCOL_ERROR}, lambda e, kind=kind_code: frame(
            HEADERS, END_STREAM, e.stream_id, OK) + frame(CONTINUATION, 0, e.stream_id) + frame(
                kind, END_HEADERS if kind == HEADERS else 0, 0 if kind in OF_CONNECTION else e.stream_id,
                {SETTINGS: b"", WINDOW_UPDATE: u32(1), RST_STREAM: u32(CANCEL), PRIORITY: u32(0) + b"\0", GOAWAY: u32(0) * 2,
                 PUSH_PROMISE: u32(2), PING: b"12345678", PRIORITY_UPDATE: u32(1)}.get(kind, b"x")))

# Each is answered by RST_STREAM, or by GOAWAY where we are stricter; the request gets 502, or its response breaks off.
STREAM_ERRORS = {
    "DATA before HEADERS": ("8.1", {PROTOCOL_ERROR}, lambda e: frame(DATA, END_STREAM, e.stream_id, b"x")),
    "an empty DATA before HEADERS": ("8.1", {PROTOCOL_ERROR}, lambda e: frame(DATA, 0, e.stream_id) + frame(HEADERS, ALL, e.stream_id, OK)),
    "DATA behind an interim response": ("8.1", {PROTOCOL_ERROR}, lambda e: frame(HEADERS, END_HEADERS, e.stream_id, literal(":status", "103"))
                                        + frame(DATA, END_STREAM, e.stream_id, b"x")),
    "an interim response that ends the stream": ("8.1", {PROTOCOL_ERROR}, lambda e: frame(HEADERS, ALL, e.stream_id, literal(":status", "103"))),
    "an interim response of 101": ("8.6", {PROTOCOL_ERROR, 2}, lambda e: frame(HEADERS, END_HEADERS, e.stream_id, literal(":status", "101"))),
    "an interim response behind the final one": ("8.1", {PROTOCOL_ERROR},
                                                 lambda e: frame(HEADERS, END_HEADERS, begun(e), literal(":status", "103"))),
    "trailers that do not end the stream": ("8.1", {PROTOCOL_ERROR}, lambda e: frame(HEADERS, END_HEADERS, begun(e), literal("x", "y"))),
    "trailers with :status": ("8.3", {PROTOCOL_ERROR, 2}, lambda e: frame(HEADERS, ALL, begun(e), OK)),
    "trailers with capitals": ("8.2.1", {PROTOCOL_ERROR, 2}, lambda e: frame(HEADERS, ALL, begun(e), literal("X", "y"))),
    "trailers with a line break": ("8.2.1", {PROTOCOL_ERROR, 2}, lambda e: frame(HEADERS, ALL, begun(e), literal("x", "y\r\nz: 1"))),
    "trailers with connection": ("8.2.2", {PROTOCOL_ERROR, 2}, lambda e: frame(HEADERS, ALL, begun(e), literal("connection", "close"))),
    "a body longer than its length": ("8.1.1", {PROTOCOL_ERROR}, lambda e: frame(
        HEADERS, END_HEADERS, e.stream_id, OK + literal("content-length", "3")) + frame(DATA, END_STREAM, e.stream_id, b"12345")),
    "a body shorter than its length": ("8.1.1", {PROTOCOL_ERROR}, lambda e: frame(
        HEADERS, END_HEADERS, e.stream_id, OK + literal("content-length", "9")) + frame(DATA, END_STREAM, e.stream_id, b"12345")),
    "a body shorter than its length, with trailers": ("8.1.1", {PROTOCOL_ERROR}, lambda e: frame(
        HEADERS, END_HEADERS, e.stream_id, OK + literal("content-length", "9")) + frame(DATA, 0, e.stream_id, b"12345")
        + frame(HEADERS, ALL, e.stream_id, literal("x", "y"))),
    "a body for 204": ("8.1.1", {PROTOCOL_ERROR}, lambda e: frame(HEADERS, END_HEADERS, e.stream_id, b"\x89")
                       + frame(DATA, END_STREAM, e.stream_id, b"x")),
    "a body for 304": ("8.1.1", {PROTOCOL_ERROR}, lambda e: frame(HEADERS, END_HEADERS, e.stream_id, b"\x8b")
                       + frame(DATA, END_STREAM, e.stream_id, b"x")),
    "more than a window": ("6.9.1", {FLOW_CONTROL_ERROR}, lambda e: frame(HEADERS, END_HEADERS, e.stream_id, OK)
                           + frame(DATA, 0, e.stream_id, b"x" * 16384) * 17),
    "a window above 2^31-1": ("6.9.1", {FLOW_CONTROL_ERROR}, lambda e: frame(WINDOW_UPDATE, 0, e.stream_id, u32(2**31 - 1))),
    "WINDOW_UPDATE by 0 on a stream": ("6.9", {PROTOCOL_ERROR}, lambda e: frame(WINDOW_UPDATE, 0, e.stream_id, u32(0))),
    "PRIORITY of 4 bytes": ("6.3", {FRAME_SIZE_ERROR}, lambda e: frame(PRIORITY, 0, e.stream_id, b"\0" * 4)),
}
# Behind the end of a response that was whole: name: frames
BEHIND_THE_END = {
    "DATA": lambda s: frame(DATA, 0, s, b"more"),
    "DATA that ends it again": lambda s: frame(DATA, END_STREAM, s),
    "trailers": lambda s: frame(HEADERS, ALL, s, literal("x", "y")),
    "another response": lambda s: frame(HEADERS, ALL, s, OK),
}


def goaway_of(exchange):
    wait_for(lambda: exchange.connection.is_closed, "the end of the connection")
    return exchange.connection.goaway


def serve(origin, path, send):
    """Lets the target answer path so; the exchanges that come of it."""
    exchanges = []

    def answer(exchange):
        exchanges.append(exchange)
        exchange.raw(send(exchange))
    origin.on(path, answer)
    return exchanges


def outcome(gateway, path, method="GET"):
    """Status, or None when the response broke off."""
    try:
        return fetch(gateway.port("http"), path, method=method).status
    except (Closed, OSError, AssertionError):
        return None


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
def test_a_connection_error_of_a_target_ends_that_connection_and_its_request(gateway, origin, name):
    section, codes, send = CONNECTION_ERRORS[name]
    exchanges = serve(origin, "/bad", send)
    assert outcome(gateway, "/bad") in (None, 502)
    assert goaway_of(exchanges[0]) in codes, section
    assert last_log(gateway, "/bad")["reason"] != "-"
    assert fetch(gateway.port("http"), "/good").status == 200


@pytest.mark.parametrize("name", STREAM_ERRORS)
def test_a_stream_error_of_a_target_ends_its_request_and_no_other(gateway, origin, name):
    section, codes, send = STREAM_ERRORS[name]
    exchanges = serve(origin, "/bad", send)
    assert outcome(gateway, "/bad") in (None, 502)
    exchange = exchanges[0]
    wait_for(lambda: exchange.reset_code is not None or exchange.connection.is_closed, "a reset")
    assert (exchange.reset_code if exchange.reset_code is not None else exchange.connection.goaway) in codes, section
    assert last_log(gateway, "/bad")["reason"] != "-"
    assert fetch(gateway.port("http"), "/good").status == 200


@pytest.mark.parametrize("name", BEHIND_THE_END)
def test_frames_behind_the_end_of_a_response_change_no_other(gateway, origin, name):
    """RFC 9113 5.1: an error, or ignored."""
    serve(origin, "/behind", lambda e: BEHIND_THE_END[name](ended(e)))
    for _ in range(3):
        assert fetch(gateway.port("http"), "/behind").body == b"ok"
        assert fetch(gateway.port("http"), "/good").body == b"ok"


def test_a_body_for_head_is_refused(gateway, origin):
    """RFC 9113 8.1.1."""
    serve(origin, "/bad", lambda e: frame(HEADERS, END_HEADERS, e.stream_id, OK + literal("content-length", "1"))
          + frame(DATA, END_STREAM, e.stream_id, b"x"))
    assert outcome(gateway, "/bad", "HEAD") in (None, 502)
    origin.on("/head", lambda exchange: exchange.head(200, [("content-length", "1")], end=True))
    assert fetch(gateway.port("http"), "/head", method="HEAD").status == 200


# Names and values that a response must not have: RFC 9113 8.2.1, 8.2.2, and RFC 9110 5.1.
BAD_FIELDS = {
    **{f"octet {octet:02x} in a name": (b"x" + bytes([octet]) + b"y", b"a")
       for octet in [*range(0x21), *range(0x41, 0x5b), *range(0x7f, 0x100, 16), *b'"(),/:;<=>?@[\\]{}']},
    **{f"octet {octet:02x} in a value": (b"x", b"a" + bytes([octet]) + b"b") for octet in [*range(0x09), *range(0x0a, 0x20), 0x7f]},
    "a value that begins with a blank": (b"x", b" a"), "a value that ends with a tab": (b"x", b"a\t"), "an empty name": (b"", b"a"),
    **{name: (name.encode(), b"close") for name in ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")},
    "a pseudo-header field of requests": (b":path", b"/"), "an unknown pseudo-header field": (b":x", b"a"), ":status twice": (b":status", b"200"),
}


@pytest.mark.parametrize("where", ["head", "interim"])
def test_no_response_with_a_bad_field_gets_through(gateway, origin, where):
    for name, pair in BAD_FIELDS.items():
        field = literal(*pair)
        serve(origin, "/bad", lambda e, field=field: frame(HEADERS, ALL, e.stream_id, OK + field) if where == "head" else frame(
            HEADERS, END_HEADERS, e.stream_id, literal(":status", "103") + field) + frame(HEADERS, ALL, e.stream_id, OK))
        assert outcome(gateway, "/bad") in (None, 502), name
    assert fetch(gateway.port("http"), "/good").status == 200


# What must be taken without a complaint.
TAKEN = {
    "unknown frames": lambda e: frame(0xbb, 0xff, 0, b"?") + frame(0xbb, 0xff, e.stream_id, b"?") + frame(0x0c, 0, 0, b"?"),
    "unknown settings": lambda e: frame(SETTINGS, 0, 0, settings({0xbbbb: 1})),
    "flags that a frame does not have": lambda e: frame(SETTINGS, 0xfe) + frame(WINDOW_UPDATE, 0xff, 0, u32(1)) + frame(PING, 0xfe, 0, b"12345678"),
    "the reserved bit of streams": lambda e: frame(PING, 0, 1 << 31, b"12345678") + frame(WINDOW_UPDATE, 0, 1 << 31 | e.stream_id, u32(1)),
    "the reserved bit of a window": lambda e: frame(WINDOW_UPDATE, 0, e.stream_id, u32(1 << 31 | 1)),
    "PRIORITY on any stream": lambda e: frame(PRIORITY, 0, e.stream_id, u32(0) + b"\0") + frame(PRIORITY, 0, 9998, u32(0) + b"\0"),
    "ENABLE_PUSH of 0": lambda e: frame(SETTINGS, 0, 0, settings({ENABLE_PUSH: 0})),
    "an interim response": lambda e: frame(HEADERS, END_HEADERS, e.stream_id, literal(":status", "103") + literal("link", "</a>")),
    "frames for a stream that is over": lambda e: frame(WINDOW_UPDATE, 0, max(e.stream_id - 2, 1), u32(1)) + frame(
        RST_STREAM, 0, max(e.stream_id - 2, 1), u32(CANCEL)),
}


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("shape", ["whole", "padded", "in pieces", "trailers"])
def test_what_a_target_may_send_is_taken(gateway, origin, name, shape):
    body = {"whole": lambda s: frame(HEADERS, END_HEADERS, s, OK) + frame(DATA, END_STREAM, s, b"body"),
            "padded": lambda s: frame(HEADERS, END_HEADERS | PADDED, s, b"\x03" + OK + b"\0\0\0") + frame(DATA, END_STREAM | PADDED, s, b"\x01body\0"),
            "in pieces": lambda s: frame(HEADERS, 0, s) + frame(CONTINUATION, 0, s, OK[:1]) + frame(CONTINUATION, END_HEADERS, s)
            + b"".join(frame(DATA, 0, s, b"body"[i:i + 1]) for i in range(4)) + frame(DATA, END_STREAM, s),
            "trailers": lambda s: frame(HEADERS, END_HEADERS, s, OK) + frame(DATA, 0, s, b"body") + frame(HEADERS, ALL, s, literal("x", "y"))}[shape]
    serve(origin, "/taken", lambda e: TAKEN[name](e) + body(e.stream_id))
    for _ in range(2):
        assert fetch(gateway.port("http"), "/taken").body == b"body"
    assert fetch(gateway.port("http"), "/good").status == 200


def test_a_first_frame_that_is_no_settings_is_not_http2():
    """RFC 9113 3.4."""
    def first(exchange):
        exchange.send(frame(PING, 0, 0, b"12345678") + frame(SETTINGS))
        exchange.wait_peer_closed()
        exchange.close()
    with Origin(first) as origin, start(origin) as gateway:
        assert fetch(gateway.port("http"), "/x").status == 502
        assert last_log(gateway, "/x")["reason"] == "UPSTREAM_NOT_HTTP2"


def test_frames_for_a_stream_that_we_have_reset_are_ignored_and_its_fields_count_for_the_table(gateway, origin):
    """RFC 9113 5.1, 4.3."""
    gate, seen = threading.Event(), []

    def answer(exchange):
        seen.append(exchange)
        if len(seen) > 1:
            exchange.raw(frame(HEADERS, ALL, exchange.stream_id, OK + b"\xbe"))
            return
        exchange.wait_reset()
        s = exchange.stream_id
        exchange.raw(frame(HEADERS, END_HEADERS, s, OK + b"\x40" + literal("x-kept", "in the table")[1:]) + frame(DATA, 0, s, b"x" * 16384) * 3
                     + frame(WINDOW_UPDATE, 0, s, u32(1)) + frame(DATA, END_STREAM, s))
        gate.set()
    origin.on("/late", answer)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/late")
        wait_for(lambda: seen, "the request")
        client.reset()
    assert gate.wait(30)
    response = fetch(gateway.port("http"), "/late")
    assert seen[0].connection is seen[1].connection and response.get("x-kept") == "in the table"


def test_no_more_requests_run_at_a_time_than_the_target_allows_now(gateway, origin):
    """RFC 9113 5.1.2: SETTINGS may come at any time."""
    gate = threading.Event()

    def answer(exchange):
        if exchange.get(":path") == "/fewer":
            exchange.raw(frame(SETTINGS, 0, 0, settings({MAX_CONCURRENT_STREAMS: 1})))
            ended(exchange)
        else:
            gate.wait(20)
            exchange.respond()
    for path in ("/fewer", "/a"):
        origin.on(path, answer)
    assert fetch(gateway.port("http"), "/fewer").status == 200
    before = len(origin.requests)
    results = []
    thread = threading.Thread(target=lambda: results.extend(in_parallel(4, lambda i: fetch(gateway.port("http"), "/a").status)))
    thread.start()
    wait_for(lambda: len(origin.requests) == before + 4, "all requests")
    for connection in origin.connections:
        if any(exchange.get(":path") == "/fewer" for exchange in connection.exchanges.values()):
            assert sum(exchange.get(":path") == "/a" for exchange in connection.exchanges.values()) <= 1
    gate.set()
    thread.join(30)
    assert results == [200] * 4


def test_a_target_whose_windows_are_shut_gets_nothing_and_windows_below_zero_are_kept_to(gateway, origin):
    """RFC 9113 6.9.2, of a request's body."""
    got = []

    def answer(exchange):
        exchange.raw(frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 0})))
        first = len(exchange.piece() or b"")  # what was sent before the setting came
        exchange.raw(frame(PING, 0, 0, b"12345678"))
        got.append(first)
        exchange.raw(frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 65535})))
        got.append(first + len(exchange.body()))
        exchange.respond()
    origin.on("/upload", answer)
    assert fetch(gateway.port("http"), "/upload", method="POST", body=b"x" * 200_000, timeout=30).status == 200
    assert got[1] == 200_000


def test_padding_and_frames_of_dead_streams_do_not_wear_out_the_connections_window(gateway, origin):
    """RFC 9113 6.1, 6.9: 24 MiB of padding on a window of 16 MiB."""
    served = []

    def answer(exchange):
        s = exchange.stream_id
        exchange.head()
        for _ in range(400):
            exchange.raw(frame(DATA, PADDED, s, b"\xff" + b"x" + b"\0" * 255) * 10)
            served.append(1)
        exchange.raw(frame(DATA, END_STREAM, s))
    origin.on("/padded", answer)
    connections = len(origin.connections)
    for _ in range(24):
        try:
            fetch(gateway.port("http"), "/padded", timeout=30)
        except (Closed, OSError):
            pass  # it did not mind the window of its stream
    assert len(fetch(gateway.port("http"), "/good").body) == 2 and len(origin.connections) <= connections + 1
