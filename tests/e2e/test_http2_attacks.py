"""What a hostile HTTP/2 client may not get away with, and what an honest one must be able to go on doing."""
import socket
import threading
import time

import pytest

from client import Closed, at_once
from h2client import (ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, GOAWAY, HEADERS,
                      INITIAL_WINDOW_SIZE, PADDED, PING, PRIORITY, PRIORITY_UPDATE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
                      H2Client, frame, literal, settings, u32)
from origin import Origin, reply
from weir import SANITIZED, wait_for

LONG = 300_000
TEXT = """
worker_threads: 1
limits: {header_timeout: 60s}
listeners: {h2c: {address: "127.0.0.1:@h2c@", protocols: h2}}
target_groups: {origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}}
routes:
  - {name: fixed, match: {path: /fixed}, respond: {status: 200, body: fixed}}
  - {name: long, match: {path: /long}, respond: {status: 200, body: "@long@"}}
  - {name: site, match: {path: "/site/*"}, files: {root: site, strip_prefix: /site}}
  - {name: forward, match: {path: "/o/*"}, forward: origin}
"""


def hold(exchange):
    exchange.wait_peer_closed(20)


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        server.on("/o/hold", hold)
        yield server


def limited(module_weir, origin, limits):
    return module_weir(TEXT.replace("header_timeout: 60s", limits), origin=origin.port, long="l" * LONG, files={"site/large": "x" * (4 << 20)})


@pytest.fixture(scope="module")
def gateway(module_weir, origin):
    return limited(module_weir, origin, "header_timeout: 60s")


@pytest.fixture(scope="module")
def slow_streams_end(module_weir, origin):
    return limited(module_weir, origin, "header_timeout: 60s, send_timeout: 600ms, body_timeout: 600ms")


@pytest.fixture(scope="module")
def idle_ones_end(module_weir, origin):
    return limited(module_weir, origin, "idle_timeout: 700ms, header_timeout: 500ms")


def head(client, path="/fixed"):
    return client.encode([(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)])


def requests_and_resets(client, count, path="/o/hold"):
    block = head(client, path)
    return b"".join(frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, block) + frame(RST_STREAM, 0, 2 * i + 1, u32(CANCEL))
                    for i in range(count))


def provoked_resets(client, count, path="/fixed"):
    """MadeYouReset: requests that are served, and then a frame for which the server must reset the stream itself."""
    block = head(client, path)
    return b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, block) + frame(WINDOW_UPDATE, 0, 2 * i + 1, u32(0x7fffffff))
                    for i in range(count))


def malformed(client, count):
    block = head(client) + literal("connection", "close")
    return b"".join(frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, block) for i in range(count))


def bomb(client):
    """HPACK: one long field goes into the table, then each byte is a copy of it."""
    entry = b"\x40" + literal("x-bomb", "b" * 3900)[1:]
    return frame(HEADERS, END_HEADERS | END_STREAM, 1, head(client) + entry + b"\xbe" * 10000)


def continuations(client):
    block = b"".join(literal(f"x-{i}", "y") for i in range(3))
    return frame(HEADERS, END_STREAM, 1, head(client)) + b"".join(frame(CONTINUATION, 0, 1, block) for _ in range(1000))


# budget: (reason, what is sent)
FLOODS = {
    "resets": ("TOO_MANY_RESETS", lambda client: requests_and_resets(client, 1000)),
    "stream_errors": ("TOO_MANY_STREAM_ERRORS", lambda client: provoked_resets(client, 500)),
    "pings": ("TOO_MANY_PINGS", lambda client: frame(PING, 0, 0, b"12345678") * 1000),
    "settings": ("TOO_MANY_SETTINGS", lambda client: frame(SETTINGS) * 1000),
    "priorities": ("TOO_MANY_PRIORITIES", lambda client: frame(PRIORITY, 0, 1, u32(0) + b"\0") * 5000),
    "empty_frames": ("TOO_MANY_EMPTY_FRAMES",
                     lambda client: frame(HEADERS, END_HEADERS, 1, head(client, "/o/hold")) + frame(DATA, 0, 1) * 1000),
    "window_updates": ("TOO_MANY_WINDOW_UPDATES", lambda client: frame(WINDOW_UPDATE, 0, 0, u32(1)) * 5000),
    "continuations": ("TOO_MANY_CONTINUATIONS", continuations),
    "field_sections": ("HEADER_BOMB", bomb),
}
VARIANTS = {
    "malformed requests": ("stream_errors", lambda client: malformed(client, 500)),
    "PING answers nobody asked for": ("pings", lambda client: frame(PING, ACK, 0, b"12345678") * 1000),
    "SETTINGS with entries": ("settings", lambda client: frame(SETTINGS, 0, 0, settings({INITIAL_WINDOW_SIZE: 100})) * 1000),
    "PRIORITY_UPDATE": ("priorities", lambda client: frame(PRIORITY_UPDATE, 0, 0, u32(1) + b"u=1") * 5000),
    "padding without data": ("empty_frames", lambda client: frame(HEADERS, END_HEADERS, 1, head(client, "/o/hold"))
                             + frame(DATA, PADDED, 1, b"\xc8" + b"\0" * 200) * 1000),
    "unknown frames": ("empty_frames", lambda client: frame(0xbb, 0, 0, b"what?") * 1000),
    "DATA for a stream that was answered": ("empty_frames", lambda client: frame(HEADERS, END_HEADERS, 1, head(client))
                                            + frame(DATA, 0, 1, b"x") * 30000),
    "empty CONTINUATION": ("continuations", lambda client: frame(HEADERS, END_STREAM, 1, head(client))
                           + frame(CONTINUATION, 0, 1) * 1000),
    "a bomb in trailers": ("field_sections", lambda client: frame(HEADERS, END_HEADERS, 1, head(client, "/o/hold"))
                           + frame(HEADERS, END_HEADERS | END_STREAM, 1,
                                   b"\x40" + literal("x-bomb", "b" * 3900)[1:] + b"\xbe" * 10000)),
}


def attack(client, data):
    """All of it, unless the gateway is quicker."""
    try:
        client.send(data)
    except OSError:
        pass
    try:
        return client.goaway()
    except Closed:
        return None


def check_flood(gateway, budget, data_of):
    reason = FLOODS[budget][0]
    before = gateway.metric("weir_http2_floods_total", budget=budget)
    with H2Client(gateway.port("h2c")) as client:
        port = client.socket.getsockname()[1]
        last = attack(client, data_of(client))
        assert last is not None and last.code == ENHANCE_YOUR_CALM
        client.wait_closed()
    gateway.wait_log(lambda entry: entry["client_port"] == port and entry["reason"] == reason)
    assert gateway.metric("weir_http2_floods_total", budget=budget) == before + 1


@pytest.mark.parametrize("budget", FLOODS)
def test_a_flood_ends_its_connection_and_is_told(gateway, budget):
    check_flood(gateway, budget, FLOODS[budget][1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_flood_in_another_dress_ends_its_connection_too(gateway, variant):
    check_flood(gateway, *VARIANTS[variant])


@pytest.mark.parametrize("budget", FLOODS)
def test_a_budget_of_zero_is_none(weir, origin, budget):
    own = weir(TEXT.replace("limits: {", f"limits: {{http2: {{{budget}: 0}}, "), origin=origin.port, files={"site/large": "x"})
    with H2Client(own.port("h2c")) as client:
        attack_thread = threading.Thread(target=lambda: attack_quietly(client, FLOODS[budget][1](client)))
        attack_thread.start()
        attack_thread.join()
    with H2Client(own.port("h2c")) as client:
        assert client.fetch("/fixed").status == 200
    assert own.metric("weir_http2_floods_total", budget=budget) == 0


def attack_quietly(client, data):
    try:
        client.send(data)
    except OSError:
        pass


def test_upstream_work_ends_with_the_stream_that_asked_for_it(gateway, origin):
    gone = threading.Event()

    def answer(exchange):
        exchange.wait_peer_closed(20)
        gone.set()
    origin.on("/o/gone", answer)
    with H2Client(gateway.port("h2c")) as client:
        stream = client.request("/o/gone")
        wait_for(lambda: any(r.target == "/o/gone" for r in origin.requests), "the request at the origin")
        client.reset(stream)
        assert gone.wait(10)
        assert client.fetch("/fixed").status == 200


def test_cancelling_as_many_as_are_let_complete_is_no_flood(gateway):
    with H2Client(gateway.port("h2c")) as client:
        for _ in range(600):
            client.reset(client.request("/o/hold"))
            assert client.fetch("/fixed").status == 200


def test_a_ping_for_each_piece_of_a_response_is_no_flood(gateway):
    """gRPC clients of Go and Java measure the way to the server like this."""
    with H2Client(gateway.port("h2c")) as client:
        for _ in range(600):
            assert client.fetch("/fixed").body == b"fixed"
            client.ping()


def test_an_unknown_frame_with_each_request_is_no_flood(gateway):
    """Browsers send frames of reserved types, so that nobody comes to rely on there being none (RFC 8701)."""
    with H2Client(gateway.port("h2c")) as client:
        for _ in range(600):
            stream = client.request("/fixed")
            client.frame(0x0b + 0x1f * (stream % 8), 0, stream, b"grease")
            assert client.answer(stream).body == b"fixed"


def test_a_client_that_opens_its_window_frame_by_frame_is_no_flood(gateway):
    with H2Client(gateway.port("h2c")) as client:
        for _ in range(4):
            assert len(client.fetch("/site/large", timeout=30).body) == 4 << 20


def test_opening_the_window_frame_by_frame_does_not_make_the_frames_ever_smaller(gateway):
    """The silly window syndrome: 65,535 bytes of window leave slivers, which must not go round for ever."""
    small = 0
    with H2Client(gateway.port("h2c")) as client:
        for _ in range(8):
            stream = client.request("/site/large")
            got = 0
            while got < 4 << 20:
                part = len(client.wait_kind(DATA, stream, 30).payload)
                got += part
                small += part < 1000 and got % 65536 != 0  # files are read so many at a time
    assert small < 60  # without a guard: hundreds to thousands


def test_a_sliver_of_window_is_used_in_the_end(gateway):
    with H2Client(gateway.port("h2c"), opens_windows=False) as client:
        stream = client.request("/long")
        left = 65535
        while left != 0:
            left -= len(client.wait_kind(DATA, stream).payload)
        client.window(0, 1 << 20)
        client.window(stream, 7)
        assert len(client.wait_kind(DATA, stream).payload) == 7
        client.window(stream, 1 << 20)
        left = LONG - 65535 - 7
        while left != 0:
            left -= len(client.wait_kind(DATA, stream).payload)


def test_small_pieces_are_worth_the_updates_that_answer_them(gateway, origin):
    count, next_one = 1000, threading.Semaphore(1)

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(count):
            next_one.acquire()
            exchange.send(b"1\r\n.\r\n")
        exchange.send(b"0\r\n\r\n")
    origin.on("/o/pieces", answer)
    with H2Client(gateway.port("h2c")) as client:
        stream = client.request("/o/pieces")
        for _ in range(count):
            assert client.wait_kind(DATA, stream).payload == b"."
            next_one.release()


def test_a_stream_whose_window_stays_shut_is_ended_and_others_go_on(slow_streams_end):
    gateway = slow_streams_end
    with H2Client(gateway.port("h2c"), settings={INITIAL_WINDOW_SIZE: 0}, opens_windows=False) as client:
        began = time.monotonic()
        stream = client.request("/site/large")
        assert client.wait_kind(RST_STREAM, stream, 20).code == CANCEL and time.monotonic() - began > 0.5
        other = client.request("/fixed")
        client.window(other, 100)
        assert client.answer(other).body == b"fixed"
    gateway.wait_log(lambda entry: entry["path"] == "/site/large" and entry["reason"] == "SEND_TIMEOUT")


@pytest.mark.skipif(SANITIZED, reason="measures memory")
@pytest.mark.parametrize("path", ["/site/large", "/o/large"])
def test_bodies_that_no_window_lets_go_are_not_held_in_memory(weir, origin, path):
    origin.on("/o/large", reply(b"x" * (1 << 20)))
    own = weir(TEXT.replace("header_timeout: 60s", "send_timeout: 60s"), origin=origin.port, files={"site/large": "x" * (4 << 20)})
    with H2Client(own.port("h2c")) as client:
        assert len(client.fetch(path).body) >= 1 << 20
    before, clients = own.rss(), []
    for _ in range(5):
        client = H2Client(own.port("h2c"), settings={INITIAL_WINDOW_SIZE: 0}, opens_windows=False)
        clients.append(client)
        streams = [client.request(path) for _ in range(100)]
        for stream in streams:
            client.wait_kind(HEADERS, stream, timeout=30)
    grown = own.rss() - before
    for client in clients:
        client.close()
    assert grown < 500 * (32 << 10), f"{grown} bytes for 500 streams"


def test_a_window_opened_byte_by_byte_does_not_hold_a_stream(slow_streams_end):
    with H2Client(slow_streams_end.port("h2c"), settings={INITIAL_WINDOW_SIZE: 1}, opens_windows=False) as client:
        stream = client.request("/site/large")
        client.socket.settimeout(0.05)
        deadline = time.monotonic() + 30
        while not any(f.kind == RST_STREAM for f in client.frames):
            assert time.monotonic() < deadline
            client.window(stream, 1)
            try:
                client._take(client._read())
                time.sleep(0.01)
            except socket.timeout:
                pass


def test_a_client_that_reads_nothing_is_closed(slow_streams_end):
    gateway = slow_streams_end
    client = H2Client(gateway.port("h2c"), settings={INITIAL_WINDOW_SIZE: 0x7fffffff}, receive_buffer=4096)
    client.window(0, 0x7fffffff - 65535)
    for _ in range(20):
        client.request("/site/large")
    port = client.socket.getsockname()[1]
    entries = gateway.wait_log(lambda entry: entry["client_port"] == port and entry["reason"] == "SEND_TIMEOUT", 20)
    assert len(entries) == 20
    client.close()


def test_a_body_that_stops_is_answered(slow_streams_end):
    with H2Client(slow_streams_end.port("h2c")) as client:
        stream = client.headers([(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/o/hold"),
                                 ("content-length", "10")], end=False)
        client.data(stream, b"12345")
        assert client.answer(stream).status == 408
        assert client.fetch("/fixed").status == 200


@pytest.mark.parametrize("begun", [
    b"", b"PRI * HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"])
def test_a_connection_that_does_not_begin_is_closed(idle_ones_end, begun):
    with at_once(0.4, lambda: H2Client(idle_ones_end.port("h2c"), start=False).send(begun)) as client:
        client.wait_closed(20)


def test_a_field_section_that_does_not_end_is_answered_and_the_connection_closed(idle_ones_end):
    def begin():
        client = H2Client(idle_ones_end.port("h2c"))
        return client.frame(HEADERS, END_STREAM, 1, head(client))
    with at_once(0.4, begin) as client:
        assert client.answer(1).status == 408
        client.wait_closed(20)


def test_bytes_that_make_no_request_do_not_keep_a_connection(idle_ones_end):
    with at_once(0.4, lambda: H2Client(idle_ones_end.port("h2c"))) as client:
        deadline = time.monotonic() + 20
        try:
            while time.monotonic() < deadline:
                client.ping(timeout=15)
                time.sleep(0.1)
        except (Closed, OSError):
            return
        raise AssertionError("PINGs alone kept it open")


def test_more_than_a_window_is_a_flow_control_error(weir, origin):
    own = weir(TEXT.replace("limits: {", "limits: {http2: {stream_window: 1KiB}, "), origin=origin.port, files={"site/large": "x"})
    with H2Client(own.port("h2c")) as client:
        stream = client.ping().headers([(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/o/hold")], end=False)
        client.data(stream, b"x" * 1025)
        assert client.wait(lambda f: f.kind in (RST_STREAM, GOAWAY)).code == FLOW_CONTROL_ERROR


@pytest.mark.skipif(SANITIZED, reason="memory is not what it is")
@pytest.mark.xdist_group("load")
def test_floods_leave_no_memory_behind(weir, origin):
    own = weir(TEXT, origin=origin.port, files={"site/large": "x" * (4 << 20)})
    with H2Client(own.port("h2c")) as client:
        assert client.fetch("/fixed").status == 200
    before = own.rss()
    for _ in range(10):
        for budget in FLOODS:
            with H2Client(own.port("h2c")) as client:
                attack(client, FLOODS[budget][1](client))
    assert own.rss() < before + (64 << 20)
    wait_for(lambda: own.metric("weir_requests_in_flight") == 0, "no request left")
