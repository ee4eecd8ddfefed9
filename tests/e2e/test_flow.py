"""Bodies: any size at constant memory, and back-pressure from the slower side to the faster one."""
import hashlib
import threading
import time

import pytest

from client import Client, fetch
from origin import reply
from weir import SANITIZED, Weir, wait_for

MIB = 1 << 20
BIG = (64 if SANITIZED else 1024) * MIB
CONFIG = """
worker_threads: 1
limits: {send_timeout: 5m, body_timeout: 5m}
listeners:
  http: {address: "127.0.0.1:@http@"}
  tls: {address: "127.0.0.1:@tls@", tls: {certificates: self}}
certificates: {self: {self_signed: [localhost]}}
target_groups:
  origin: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}}
routes: [{name: all, forward: origin}]
"""
pytestmark = [pytest.mark.xdist_group("load"), pytest.mark.timeout(180)]


@pytest.fixture
def fast(fast_origin):
    with Weir(CONFIG, origin=fast_origin.port) as gateway:
        fetch(gateway.port("http"))  # what is allocated once is allocated now
        yield gateway


@pytest.fixture
def scripted(origin):
    with Weir(CONFIG, origin=origin.port) as gateway:
        fetch(gateway.port("http"))
        origin.take()
        yield gateway


class Watch:
    """The highest resident memory while the block runs, relative to its start."""

    def __init__(self, gateway):
        self.gateway = gateway

    def __enter__(self):
        self.start = self.peak = self.gateway.rss()
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def _run(self):
        while not self.is_over.wait(0.02):
            self.peak = max(self.peak, self.gateway.rss())

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()
        self.growth = max(self.peak, self.gateway.rss()) - self.start

    def assert_below(self, limit):
        # The sanitizer's quarantine keeps freed memory, so that its numbers say nothing about the gateway.
        assert SANITIZED or self.growth < limit, f"grew by {self.growth / MIB:.1f} MiB"


def send_pattern(client, size, framed=False):
    block = bytes(range(256)) * 4096  # 1 MiB
    left = size
    while left > 0:
        part = block[:min(left, MIB)]
        client.send(b"%x\r\n%s\r\n" % (len(part), part) if framed else part)
        left -= len(part)
    if framed:
        client.send(b"0\r\n\r\n")


def fnv(size):
    """What origin.c calculates of send_pattern; only for small sizes."""
    value = 0xcbf29ce484222325
    for i in range(size):
        value = ((value ^ (i & 255)) * 0x100000001b3) & 0xffffffffffffffff
    return f"{value:016x}"


# --- size -----------------------------------------------------------------------------------------------------------
@pytest.mark.timeout(180)
@pytest.mark.parametrize("framed", [False, True], ids=["content-length", "chunked"])
def test_an_upload_of_1_gib_needs_constant_memory(fast, framed):
    framing = "Transfer-Encoding: chunked" if framed else f"Content-Length: {BIG}"
    with Watch(fast) as watch, Client(fast.port("http"), timeout=60) as client:
        client.send(f"POST /up HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
        send_pattern(client, BIG, framed)
        response = client.response()
    assert response.status == 200
    assert int(response.get("x-body-bytes")) == BIG
    watch.assert_below(16 * MIB)
    entry = fast.wait_log(lambda entry: entry["path"] == "/up")[0]
    assert entry["bytes_in"] >= BIG


@pytest.mark.parametrize("framed", [False, True], ids=["content-length", "chunked"])
def test_an_upload_arrives_unchanged(fast, framed):
    size = 300001
    with Client(fast.port("http")) as client:
        client.send(f"POST /up HTTP/1.1\r\nHost: a\r\n{'Transfer-Encoding: chunked' if framed else f'Content-Length: {size}'}\r\n\r\n".encode())
        send_pattern(client, size, framed)
        response = client.response()
    assert (response.get("x-body-bytes"), response.get("x-body-sum")) == (str(size), fnv(size))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["size", "chunked"])
def test_a_download_of_1_gib_needs_constant_memory(fast, kind):
    # The C origin sends one chunk of the whole size, the hardest case for a decoder that would buffer chunks.
    with Watch(fast) as watch, Client(fast.port("http"), timeout=60) as client:
        client.request("GET", f"/{kind}/{BIG}", [("Connection", "close")])
        head = client.head()
        assert head.status == 200
        count, buffer, last = len(client.buffer), memoryview(bytearray(MIB)), b""
        while n := client.socket.recv_into(buffer):
            count += n
            last = (last + bytes(buffer[max(0, n - 7):n]))[-7:]
    if kind == "size":
        assert count == BIG
    else:
        assert last == b"\r\n0\r\n\r\n" and count > BIG
    watch.assert_below(16 * MIB)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("listener", ["http", "tls"])
def test_both_directions_at_once_on_many_connections(fast, listener):
    size, failures = (4 if SANITIZED else 32) * MIB, []

    def work():
        try:
            with Client(fast.port(listener), tls="localhost" if listener == "tls" else None, timeout=60) as client:
                client.send(f"POST /size/{size} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
                send_pattern(client, size)
                response = client.response()
                assert int(response.get("x-body-bytes")) == size
                assert hashlib.sha256(response.body).digest() == hashlib.sha256(b"0123456789abcdef" * (size // 16)).digest()
        except Exception as error:
            failures.append(repr(error))

    with Watch(fast) as watch:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    watch.assert_below(24 * MIB)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 16383, 16384, 16385, 65535, 65536, 65537, 262144, 1000003])
def test_sizes_around_every_buffer_boundary(fast, size):
    with Client(fast.port("http")) as client:
        for kind in ("size", "chunked"):
            client.request("POST", f"/{kind}/{size}", body=b"x" * size)
            response = client.response()
            assert response.body == (b"0123456789abcdef" * (size // 16 + 1))[:size]
            assert int(response.get("x-body-bytes")) == size


# --- back-pressure --------------------------------------------------------------------------------------------------
# What two pairs of socket buffers may hold at most with the kernel's automatic sizes, and a good margin.
KERNEL_BUFFERS = 40 * MIB


def test_a_client_that_does_not_read_stops_the_origin(scripted, origin):
    size, sent = 200 * MIB, [0]

    def answer(exchange):
        exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        block = b"y" * 65536
        while sent[0] < size:
            exchange.send(block)
            sent[0] += len(block)

    origin.on("/big", answer)
    with Watch(scripted) as watch, Client(scripted.port("http"), timeout=30) as client:
        client.request("GET", "/big")
        assert client.head().status == 200

        def is_stuck():
            before = sent[0]
            time.sleep(0.3)
            return sent[0] == before

        wait_for(is_stuck, "the origin to be stopped", 30)
        assert sent[0] < KERNEL_BUFFERS
        rest = size - len(client.buffer)
        while rest > 0:
            rest -= len(client.socket.recv(MIB))
    assert rest == 0
    wait_for(lambda: sent[0] == size, "the origin to have sent all")
    watch.assert_below(4 * MIB)


def test_an_origin_that_does_not_read_stops_the_client(scripted, origin):
    size, go = 200 * MIB, threading.Event()
    origin.reads_body = False
    origin.keep_bodies = False
    origin.on("/up", lambda exchange: (go.wait(60), exchange.read_body(), exchange.send(reply())))
    sent, response = [0], []

    def upload():
        with Client(scripted.port("http"), timeout=60) as client:
            client.send(f"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
            block = b"z" * 65536
            while sent[0] < size:
                client.send(block)
                sent[0] += len(block)
            response.append(client.response())

    with Watch(scripted) as watch:
        thread = threading.Thread(target=upload)
        thread.start()

        def is_stuck():
            before = sent[0]
            time.sleep(0.3)
            return sent[0] == before and before > 0

        wait_for(is_stuck, "the client to be stopped", 30)
        assert sent[0] < KERNEL_BUFFERS
        go.set()
        thread.join(60)
    assert response and response[0].status == 200
    assert origin.requests[-1].size == size
    watch.assert_below(4 * MIB)


@pytest.mark.timeout(120)
def test_many_clients_that_do_not_read_cost_little_memory(fast):
    count = 50 if SANITIZED else 200
    clients = []
    try:
        with Watch(fast) as watch:
            for _ in range(count):
                client = Client(fast.port("http"), receive_buffer=4096)
                client.request("GET", f"/size/{100 * MIB}")
                assert client.head().status == 200
                clients.append(client)
            wait_for(lambda: fast.metric("weir_requests_in_flight") >= count, "all responses to be under way")
        watch.assert_below(count * 256 * 1024)  # 64 KiB that wait and a read of as much, in buffers that double
        assert fetch(fast.port("http")).status == 200, "the others are served meanwhile"
    finally:
        for client in clients:
            client.reset()
    wait_for(lambda: fast.metric("weir_requests_in_flight") == 0, "the stuck requests to be gone")


# --- slowness is passed on, not gathered --------------------------------------------------------------------------
def test_each_byte_of_a_slow_response_arrives_when_it_is_sent(scripted, origin):
    seen = threading.Semaphore(0)

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
        for i in range(20):
            exchange.send(b"%c" % (65 + i))
            assert seen.acquire(timeout=30), "the client did not get the byte before the next one"

    origin.on("/drip", answer)
    with Client(scripted.port("http")) as client:
        client.request("GET", "/drip")
        assert client.head().status == 200
        for i in range(20):
            assert client.exactly(1) == b"%c" % (65 + i)
            seen.release()


def test_each_byte_of_a_slow_upload_arrives_when_it_is_sent(scripted, origin):
    origin.reads_body = False
    got = []

    def answer(exchange):
        for _ in range(20):
            while not exchange.stream.buffer:
                exchange.stream.more()
            got.append(exchange.stream.buffer[:1])
            exchange.stream.buffer = exchange.stream.buffer[1:]
        exchange.request.is_whole = True
        exchange.send(reply())

    origin.on("/drip", answer)
    with Client(scripted.port("http")) as client:
        client.send(b"POST /drip HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n")
        for i in range(20):
            client.send(b"%c" % (65 + i))
            wait_for(lambda: len(got) == i + 1, f"byte {i} at the origin")
        assert client.response().status == 200
    assert b"".join(got) == bytes(range(65, 85))


def test_server_sent_events_flow_for_as_long_as_they_come(scripted, origin):
    seen = threading.Semaphore(0)

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(10):
            event = b"data: %d\n\n" % i
            exchange.send(b"%x\r\n%s\r\n" % (len(event), event))
            assert seen.acquire(timeout=30)
        exchange.send(b"0\r\n\r\n")

    origin.on("/events", answer)
    with Client(scripted.port("http")) as client:
        client.request("GET", "/events")
        assert client.head().get("content-type") == "text/event-stream"
        for i in range(10):
            event = b"data: %d\n\n" % i
            assert client.until(b"\n\n\r\n") == b"%x\r\n%s\r\n" % (len(event), event)
            seen.release()
        assert client.until(b"\r\n\r\n") == b"0\r\n\r\n"


def test_a_fast_origin_behind_a_drinking_client_gets_it_all_through(fast):
    """A client that reads in small sips for a while, then at once."""
    size = 8 * MIB
    with Client(fast.port("http"), receive_buffer=8192, timeout=30) as client:
        client.request("GET", f"/size/{size}", [("Connection", "close")])
        client.head()
        body = hashlib.sha256(client.buffer)
        count = len(client.buffer)
        for _ in range(200):
            data = client.socket.recv(512)
            body.update(data)
            count += len(data)
        while data := client.socket.recv(65536):
            body.update(data)
            count += len(data)
    assert count == size
    assert body.digest() == hashlib.sha256(b"0123456789abcdef" * (size // 16)).digest()
