"""Responses that come bit by bit: server-sent events, long polls. What the target has said is at the client at once, and a
client that goes away is gone for the target too."""
import socket
import statistics
import struct
import threading
import time
import zlib

import brotli
import pytest

from client import Client
from h2client import DATA, HEADERS, H2Client
from origin import Origin
from weir import Disturbed, Weir, undisturbed, wait_for

CONFIG = """
worker_threads: 1
listeners:
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: own}}
  h2c: {address: "127.0.0.1:@h2c@", protocols: h2}
  h2: {address: "127.0.0.1:@h2@", protocols: h2, tls: {certificates: own}}
certificates: {own: {self_signed: [localhost]}}
compression: true
target_groups: {origin: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}}}
routes: [{name: all, forward: origin}]
"""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
PERIOD = 0.1  # of the events, seconds


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def shared(origin):
    with Weir(CONFIG, origin=origin.port) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared, origin):
    yield shared
    origin.close_connections()
    origin.settle()


def events(count, framing, period=PERIOD):
    """An answer of events, each with the time at which it was sent."""
    def answer(exchange):
        chunked = framing == "chunked"
        exchange.send(HEAD + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Connection: close\r\n\r\n"))
        for _ in range(count):
            time.sleep(period)
            event = b"data: %d\n\n" % time.monotonic_ns()
            exchange.send(b"%x\r\n%s\r\n" % (len(event), event) if chunked else event)
        if chunked:
            exchange.send(b"0\r\n\r\n")
        else:
            exchange.close()
    return answer


class Identity:
    def decompress(self, data):
        return data


class Brotli:
    def __init__(self):
        self.decoder = brotli.Decompressor()

    def decompress(self, data):
        return self.decoder.process(data)


DECODERS = {None: Identity, "gzip": lambda: zlib.decompressobj(31), "br": Brotli}


def pieces_of_http1(client, coding):
    """What the response brings, piece by piece, once its head is there."""
    client.request("GET", "/events", [("Accept-Encoding", coding)] if coding else [])
    response = client.head()
    assert response.status == 200 and response.get("content-encoding") == coding
    while size := int(client.until(b"\r\n"), 16):
        yield client.exactly(size)
        client.exactly(2)


def pieces_of_http2(client, coding):
    stream = client.request("/events", fields=[("accept-encoding", coding)] if coding else [])
    head = client.wait_kind(HEADERS, stream)
    fields = dict(head.fields)
    assert fields[":status"] == "200" and fields.get("content-encoding") == coding
    ended = head.ends
    while not ended:
        piece = client.wait_kind(DATA, stream)
        ended = piece.ends
        yield piece.payload


def delays(pieces, coding):
    """How old each event was when it came, in seconds."""
    decoder, text, found = DECODERS[coding](), b"", []
    for piece in pieces:
        text += decoder.decompress(piece)
        now = time.monotonic_ns()
        while b"\n\n" in text:
            event, text = text.split(b"\n\n", 1)
            found.append((now - int(event.removeprefix(b"data: "))) / 1e9)
    assert text == b""
    return found


@pytest.mark.xdist_group("load")
@pytest.mark.parametrize("coding", [None, "gzip", "br"])
@pytest.mark.parametrize("listener", ["http", "https", "h2c", "h2"])
@pytest.mark.parametrize("framing", ["chunked", "until close"])
def test_an_event_is_at_the_client_at_once(gateway, origin, framing, listener, coding):
    origin.on("/events", events(8, framing))
    is_http2 = listener in ("h2c", "h2")
    tls = "localhost" if listener in ("https", "h2") else None
    for _ in range(10):  # what else the machine does can only add to what is read
        with (H2Client if is_http2 else Client)(gateway.port(listener), tls=tls) as client:
            found = delays((pieces_of_http2 if is_http2 else pieces_of_http1)(client, coding), coding)
        assert len(found) == 8
        print(f"{framing}, {listener}, {coding}: median {statistics.median(found) * 1000:.2f} ms, worst {max(found) * 1000:.2f} ms")
        # The goal is 5 ms on a quiet machine. On a busy one the quickest below a tenth of the period still tells "at once"
        # from "with the next event", or with a timer; the last is out, as it may come with the end.
        if min(found[:-1]) < PERIOD / 10:
            return
    pytest.fail(f"no event of ten responses came within {PERIOD / 10} s")


@pytest.mark.parametrize("coding", [None, "gzip", "br"])
def test_the_head_does_not_wait_for_the_first_byte_of_the_body(gateway, origin, coding):
    told = threading.Event()

    def answer(exchange):
        exchange.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        told.wait(20)
        exchange.send(b"7\r\ndata: x\r\n0\r\n\r\n")
    origin.on("/poll", answer)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/poll", [("Accept-Encoding", coding)] if coding else [])
        assert client.head().status == 200
        told.set()
        decoder, text = DECODERS[coding](), b""
        while size := int(client.until(b"\r\n"), 16):
            text += decoder.decompress(client.exactly(size))
            client.exactly(2)
        assert text == b"data: x"


def test_a_long_poll_is_answered_when_the_target_answers(gateway, origin):
    def answer(exchange):
        time.sleep(1.5)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n%020d" % time.monotonic_ns())
    origin.on("/poll", answer)

    def poll():
        with Client(gateway.port("http")) as client:
            client.request("GET", "/poll")
            late = time.monotonic_ns() - int(client.response().body)
        if late / 1e9 > 0.5:
            raise Disturbed(f"{late} ns late")
    undisturbed(poll)


def leave_by_reset(client):
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("leave", [Client.close, leave_by_reset], ids=["close", "reset"])
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("begun", [False, True], ids=["before the response", "within the response"])
def test_a_client_that_goes_away_is_gone_for_the_target_too(gateway, origin, begun, tls, leave):
    """Even when nothing is sent that would meet a reset: at once, or after the second that a half-closed connection of
    a client that still reads is given."""
    gone = []

    def answer(exchange):
        if begun:
            exchange.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        if exchange.wait_peer_closed(30):
            gone.append(time.monotonic())
        exchange.close()
    origin.on("/left", answer)
    client = Client(gateway.port("https" if tls else "http"), tls="localhost" if tls else None)
    client.request("GET", "/left")
    if begun:
        client.until(b"hello")
    else:
        wait_for(lambda: origin.requests, "the request at the origin")
    left = time.monotonic()
    leave(client)
    wait_for(lambda: gone, "the end of the request at the target", 40)
    assert gone[0] - left < 10
    assert gateway.wait_log(lambda entry: entry["path"] == "/left")[-1]["reason"] == "CLIENT_CLOSED"


def test_a_client_that_ends_its_side_early_still_gets_all_of_a_response_that_goes_on(gateway, origin):
    origin.on("/slow", events(25, "chunked"))  # 2.5 s
    with Client(gateway.port("http")) as client:
        client.request("GET", "/slow").half_close()
        assert client.response().body.count(b"data: ") == 25
