"""How connections of HTTP/2 clients go on and end, and who is served over them."""
import signal
import threading
import time

import pytest

from client import at_once, insecure_context
from h2client import (ACK, END_HEADERS, END_STREAM, GOAWAY, HEADERS, NO_ERROR, PING, PREFACE, SETTINGS, SETTINGS_TIMEOUT, H2Client,
                      frame)
from origin import Origin, reply
from weir import Weir, wait_for

TEXT = """
worker_threads: 1
limits: {%s}
listeners:
  h2c: {address: "127.0.0.1:@h2c@", protocols: h2}
  stays: {address: "127.0.0.1:@stays@", protocols: h2}
  https: {address: "127.0.0.1:@https@", tls: {certificates: self}}
certificates: {self: {self_signed: [localhost]}}
target_groups: {origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}}
routes:
  - {name: fixed, match: {path: /fixed}, respond: {status: 200, body: fixed}}
  - {name: large, match: {path: /large}, respond: {status: 200, body: "%s"}}
  - {name: all, forward: origin}
"""
ALL_STREAMS = 2**31 - 1


@pytest.fixture
def gate(origin):
    """Opens the target's /slow, which answers when that is done."""
    opened = threading.Event()

    def answer(exchange):
        opened.wait(60)
        exchange.send(reply(b"late"))
    origin.on("/slow", answer)
    yield opened
    opened.set()


def start(origin, limits="idle_timeout: 60s"):
    return Weir(TEXT % (limits, "x" * 60000), origin=origin.port)


def see_drain(client):
    """Both GOAWAYs; the last stream that the second one names."""
    first = client.goaway()
    assert first.code == NO_ERROR and first.last_stream == ALL_STREAMS
    second = client.goaway()
    assert second.code == NO_ERROR
    return second.last_stream


# ---- the end: by age, by number of requests, with the process, with the listener -----------------------------------

def test_a_busy_connection_above_its_age_serves_what_is_open_and_ends(origin, gate):
    def begin():
        client = H2Client(gateway.port("h2c"))
        client.request("/slow")
        return client
    stream = 1
    with start(origin, "keepalive_time: 300ms") as gateway, at_once(0.2, begin) as client:
        assert see_drain(client) == stream
        client.request("/fixed")  # too late for this connection
        gate.set()
        assert client.answer(stream).body == b"late"
        assert not [f for f in client.wait_closed() if f.kind == HEADERS]


def test_an_idle_connection_above_its_age_ends(origin):
    def begin():
        client = H2Client(gateway.port("h2c"))
        client.request("/fixed")
        return client
    with start(origin, "keepalive_time: 300ms") as gateway, at_once(0.2, begin) as client:
        assert client.answer(1).status == 200
        assert see_drain(client) == 1
        client.wait_closed()


def test_without_an_age_a_connection_goes_on(origin):
    with start(origin, "keepalive_time: 0") as gateway, H2Client(gateway.port("h2c")) as client:
        with pytest.raises(TimeoutError):
            client.goaway(timeout=1)
        assert client.fetch("/fixed").status == 200


def test_a_connection_ends_after_its_number_of_requests_and_those_are_served(origin, gate):
    with start(origin, "keepalive_requests: 3") as gateway, H2Client(gateway.port("h2c")) as client:
        slow = client.request("/slow")
        assert client.fetch("/fixed").status == 200
        client.ping()
        assert not [f for f in client.frames if f.kind == GOAWAY]
        assert client.fetch("/fixed").status == 200
        assert see_drain(client) == 5
        gate.set()
        assert client.answer(slow).body == b"late"
        client.wait_closed()


def test_a_process_that_ends_lets_streams_finish(origin, gate):
    with start(origin) as gateway, H2Client(gateway.port("h2c")) as client, H2Client(gateway.port("h2c")) as idle:
        slow = client.request("/slow")
        wait_for(lambda: origin.requests, "the request at the target")
        gateway.process.send_signal(signal.SIGTERM)
        assert client.goaway().last_stream == ALL_STREAMS
        between = client.request("/fixed")  # on its way when the GOAWAY was sent
        last = client.goaway().last_stream
        assert last in (slow, between)
        if last == between:
            assert client.answer(between).body == b"fixed"
        idle.wait_closed()
        assert gateway.process.poll() is None
        gate.set()
        assert client.answer(slow).body == b"late"
        client.wait_closed()
        assert gateway.process.wait(40) == 0


def test_a_listener_that_a_reload_removes_lets_streams_finish_and_others_stay(origin, gate):
    with start(origin) as gateway, H2Client(gateway.port("h2c")) as client, H2Client(gateway.port("stays")) as stays:
        slow = client.request("/slow")
        wait_for(lambda: origin.requests, "the request at the target")
        text = TEXT % ("idle_timeout: 60s", "")
        gateway.configure("".join(line + "\n" for line in text.split("\n") if not line.startswith("  h2c:")))
        gateway.reload()
        assert see_drain(client) == slow
        gate.set()
        assert client.answer(slow).body == b"late"
        client.wait_closed()
        assert stays.fetch("/fixed").status == 200
        assert not [f for f in stays.frames if f.kind == GOAWAY]


class AfterSigterm:
    """A TLS context whose handshake begins when the gateway, which has accepted the connection, is told to end."""

    def __init__(self, gateway):
        self.gateway, self.context = gateway, insecure_context(["h2"])

    def set_alpn_protocols(self, names):
        self.context.set_alpn_protocols(names)

    def wrap_socket(self, sock, server_hostname):
        with H2Client(self.gateway.port("https"), tls="localhost"):  # accepted later: ours is
            pass
        self.gateway.process.send_signal(signal.SIGTERM)
        wait_for(lambda: self.gateway.admin("/readyz")[0] == 503, "the drain")
        return self.context.wrap_socket(sock, server_hostname=server_hostname)


def test_a_connection_whose_handshake_ends_while_the_process_drains_is_drained_too(origin):
    with start(origin) as gateway, H2Client(gateway.port("https"), tls=(AfterSigterm(gateway), "localhost")) as client:
        assert client.fetch("/fixed").body == b"fixed"
        assert see_drain(client) == 1
        client.wait_closed()
        assert gateway.process.wait(40) == 0


# ---- is anybody there? -------------------------------------------------------------------------------------------

PINGS = "http2: {ping_interval: 1s, ping_timeout: 1s}"


def is_question(frame):
    return frame.kind == PING and not frame.flags & ACK


def test_a_busy_connection_whose_client_answers_pings_goes_on(origin, gate):
    with start(origin, PINGS.replace("timeout: 1s", "timeout: 5s")) as gateway, H2Client(gateway.port("h2c"), timeout=20) as client:
        stream = client.request("/slow")
        for _ in range(2):
            client.frame(PING, ACK, 0, client.wait(is_question).payload)
        gate.set()
        assert client.answer(stream).body == b"late"


def test_a_busy_connection_whose_client_answers_no_ping_is_closed(origin, gate):
    with start(origin, PINGS) as gateway, H2Client(gateway.port("h2c")) as client:
        client.request("/slow")
        client.wait(is_question)
        client.wait_closed()
        assert gateway.wait_log()[0]["reason"] == "CLIENT_CLOSED"


def test_an_idle_connection_is_asked_nothing(origin):
    with start(origin, PINGS) as gateway, H2Client(gateway.port("h2c")) as client:
        assert client.fetch("/fixed").status == 200
        with pytest.raises(TimeoutError):
            client.wait(is_question, timeout=2.5)


# ---- RFC 9113 6.5.3: SETTINGS are acknowledged --------------------------------------------------------------------

SOON = "idle_timeout: 60s, http2: {settings_timeout: 1s}"


def begin(client, path):
    """Preface, SETTINGS and a request at once: the clock runs from the first byte on."""
    head = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)]
    client.send(PREFACE + frame(SETTINGS) + frame(HEADERS, END_STREAM | END_HEADERS, 1, client.encode(head)))
    return client


def mute(gateway, listener="h2c", start=True):
    return H2Client(gateway.port(listener), tls="localhost" if listener == "https" else None, start=start, acknowledges=False,
                    timeout=40)


@pytest.mark.parametrize("listener", ["h2c", "https"])
def test_a_client_that_never_acknowledges_settings_loses_its_connection_and_its_requests(origin, gate, listener):
    with start(origin, SOON) as gateway, mute(gateway, listener, start=False) as client:
        assert begin(client, "/slow").goaway().code == SETTINGS_TIMEOUT
        client.wait_closed(40)
        assert [(entry["path"], entry["reason"]) for entry in gateway.wait_log()] == [("/slow", "SETTINGS_TIMEOUT")]
        assert gateway.metric("weir_http2_settings_timeouts_total") == 1


def test_a_client_that_acknowledges_no_settings_and_asks_nothing_has_a_line_in_the_log(origin):
    with start(origin, SOON) as gateway, mute(gateway) as client:
        assert client.goaway().code == SETTINGS_TIMEOUT
        client.wait_closed(40)
        assert gateway.wait_log()[0]["reason"] == "SETTINGS_TIMEOUT"


def test_a_client_that_has_acknowledged_settings_goes_on_when_the_time_for_that_is_over(origin, gate):
    with start(origin) as gateway, H2Client(gateway.port("h2c")) as client:
        stream, began = client.request("/slow"), time.monotonic()
        with mute(gateway) as other:
            assert other.goaway().code == SETTINGS_TIMEOUT
        assert time.monotonic() - began > 9  # the default is 10 s
        gate.set()
        assert client.answer(stream, timeout=40).body == b"late"
        assert gateway.metric("weir_http2_settings_timeouts_total") == 1


def test_a_client_that_cannot_be_reached_yet_is_not_told_that_it_acknowledged_nothing(origin):
    later = SOON.replace("timeout: 1s", "timeout: 3s")
    with start(origin, later) as gateway, H2Client(gateway.port("h2c"), start=False, receive_buffer=4096, timeout=40) as slow:
        begin(slow, "/large")
        for _ in range(2):  # time passes, and bytes wait in the network for the first one
            with mute(gateway) as other:
                assert other.goaway().code == SETTINGS_TIMEOUT
        assert len(slow.answer(1).body) == 60000
        assert gateway.metric("weir_http2_settings_timeouts_total") == 2
