"""What one HTTP/2 connection to a target may hold in memory, and that nobody on it waits for somebody else's slow reader. Slow
readers are streams of HTTP/2 clients that open no window: then the gateway holds what the target may send."""
import threading

import pytest
from h2.settings import SettingCodes

from client import fetch
from h2client import DATA, END_HEADERS, HEADERS, INITIAL_WINDOW_SIZE, H2Client, frame
from origin_h2 import H2Origin
from test_upstream_h2 import CONFIG, in_parallel, start
from weir import SANITIZED, wait_for

WINDOW, WIDE, OF_CONNECTION = 64 << 10, 256 << 10, 16 << 20
OK = b"\x88"
BOTH = CONFIG.replace('@http@"}', '@http@", protocols: [h2, http/1.1]}').replace(
    "worker_threads: 1", "worker_threads: 1\nlimits: {send_timeout: 60s, http2: {max_streams: 1000}}").replace("idle: 30s", "idle: 60s")


def shut_client(gateway, paths):
    """Requests whose responses it lets nobody send; their heads are here."""
    client = H2Client(gateway.port("http"), settings={INITIAL_WINDOW_SIZE: 0}, opens_windows=False, timeout=30)
    for stream in [client.request(path) for path in paths]:
        client.wait_kind(HEADERS, stream)
    return client


def answer_at_length(exchange):
    """As much as windows allow: python-h2 keeps to them."""
    exchange.sent = 0
    exchange.head()
    for _ in range(4000):
        exchange.data(b"x" * 16384)
        exchange.sent += 16384


@pytest.mark.xdist_group("load")
def test_many_slow_readers_hold_up_nobody_and_little_memory():
    """160 of them: 256 KiB each would be 40 MiB, and all of a connection's window of 16 MiB long before."""
    count = 160
    with H2Origin(settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1000}) as origin, start(origin, config=BOTH) as gateway:
        origin.on("/long", answer_at_length).on("/large", lambda exchange: exchange.respond(200, b"l" * 500_000))
        assert len(fetch(gateway.port("http"), "/large").body) == 500_000
        before = gateway.rss()
        with shut_client(gateway, ["/long"] * count):
            slow = [exchange for exchange in origin.requests if exchange.get(":path") == "/long"]
            wait_for(lambda: all(getattr(exchange, "sent", 0) == WINDOW for exchange in slow), "full windows", 30)
            grown = gateway.rss() - before
            results = in_parallel(4, lambda i: [len(fetch(gateway.port("http"), "/large", timeout=30).body) for _ in range(5)])
            assert results == [[500_000] * 5] * 4
            assert len(origin.connections) == 1 and all(exchange.sent == WINDOW for exchange in slow)
            assert SANITIZED or grown < OF_CONNECTION + count * (32 << 10), f"{grown} bytes"


def test_a_connection_takes_no_more_streams_than_its_window_has_room_for():
    gate = threading.Event()
    with H2Origin(lambda exchange: (gate.wait(30), exchange.respond()), settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1000}) as origin, \
            start(origin, config=BOTH) as gateway, H2Client(gateway.port("http"), timeout=30) as client:
        origin.on("/first", lambda exchange: exchange.respond())
        assert client.fetch("/first").status == 200  # how many the target takes is known from here on
        streams = [client.request("/") for _ in range(300)]
        wait_for(lambda: len(origin.requests) == 301, "all requests", 30)
        most = max(sum(exchange.get(":path") == "/" for exchange in connection.exchanges.values()) for connection in origin.connections)
        gate.set()
        assert [client.answer(stream).status for stream in streams] == [200] * 300
        assert most == OF_CONNECTION // WINDOW and len(origin.connections) == 2


def test_a_stream_that_is_read_fast_gets_a_wide_window():
    windows = []

    def answer(exchange):
        exchange.head()
        for _ in range(100):
            windows.append(exchange.connection.h2.local_flow_control_window(exchange.stream_id))
            exchange.data(b"x" * 16384)
        wait_for(lambda: windows.append(exchange.connection.h2.local_flow_control_window(exchange.stream_id)) or windows[-1] > WINDOW,
                 "a wide window")
        exchange.data(b"", end=True)
    with H2Origin(answer) as origin, start(origin) as gateway:
        assert len(fetch(gateway.port("http"), timeout=30).body) == 100 * 16384
        assert windows[0] == WINDOW and max(windows) <= WIDE


@pytest.mark.parametrize("size", [1, 100, 2500])
def test_small_frames_for_a_slow_reader_take_little_more_memory_than_their_bytes(size):
    """A block of its own for each byte would be 3 MB for each of 20 streams."""
    count, full = 20, []

    def answer(exchange):
        exchange.raw(frame(HEADERS, END_HEADERS, exchange.stream_id, OK))
        frames = WINDOW // size
        for at in range(0, frames, 100):
            exchange.raw(frame(DATA, 0, exchange.stream_id, b"x" * size) * min(100, frames - at))
        exchange.raw(frame(6, 0, 0, b"12345678"))
        full.append(exchange)
    with H2Origin() as origin, start(origin, config=BOTH) as gateway:
        assert fetch(gateway.port("http")).status == 200
        origin.on("/small", answer)
        before = gateway.rss()
        with shut_client(gateway, ["/small"] * count) as client:
            wait_for(lambda: len(full) == count and len(origin.connections[0].exchanges) == count + 1, "all frames", 30)
            assert fetch(gateway.port("http")).status == 200
            grown = gateway.rss() - before
            client.frame(4, 0, 0, b"\0\4\0\1\0\0")
            client.window(0, 1 << 28)
            for stream in range(1, 2 * count, 2):  # and all of it arrives
                got = 0
                while got < WINDOW // size * size:
                    got += len(client.wait_kind(DATA, stream).payload)
        assert SANITIZED or grown < count * 3 * WINDOW, f"{grown} bytes"
