"""Clients that hold on, flood or dole out bytes, over HTTP/1.1 and TLS: what they get, and that others are served. How
much others feel of it at full speed is measured by tests/bench/attack."""
import os
import resource
import socket
import ssl
import threading
import time

import pytest

from client import Client, Closed, at_once, insecure_context
from origin import Origin
from weir import SANITIZED, Disturbed, Weir, undisturbed, wait_for

TEXT = """
worker_threads: 2
limits: {header_timeout: 60s, idle_timeout: 60s}
certificates: {site: {self_signed: [localhost]}}
listeners:
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: site, handshake_timeout: 60s}}
target_groups: {origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}}
routes:
  - {name: fixed, match: {path: /fixed}, respond: {status: 200, body: fixed}}
  - {name: site, match: {path: "/site/*"}, files: {root: site, strip_prefix: /site}}
  - {name: all, forward: origin}
"""


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(origin):
    with Weir(TEXT, origin=origin.port, files={"site/big": b"x" * 8_000_000, "site/page": b"0123456789" * 100}) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(origin):
    text = TEXT.replace("header_timeout: 60s", "header_timeout: 600ms, body_timeout: 600ms, send_timeout: 600ms")
    with Weir(text.replace("handshake_timeout: 60s", "handshake_timeout: 600ms"), origin=origin.port,
              files={"site/big": b"x" * 8_000_000, "site/page": b"0123456789" * 100}) as running:
        yield running


def trickle(client, data, seconds, pause=0.1):
    """Sends byte by byte until the peer ends it; how long that took, or None when it never did."""
    began = time.monotonic()
    for byte in data:
        try:
            client.send(bytes([byte]))
            client.socket.settimeout(pause)  # what the attacker waits between two bytes
            if not client.socket.recv(65536):
                return time.monotonic() - began
        except (socket.timeout, ssl.SSLWantReadError):
            pass
        except OSError:
            return time.monotonic() - began
        if time.monotonic() - began > seconds:
            return None
    return None


def is_served(gateway):
    with Client(gateway.port("http")) as client:
        client.request("GET", "/fixed")
        return client.response().text == "fixed"


def are_served(clients):
    """Of connections that came together; closes them."""
    def is_one(client):
        try:
            with client:
                return client.request("GET", "/fixed").response().text == "fixed"
        except (Closed, ConnectionError):
            return False
    return [client is not None and is_one(client) for client in clients]


# --- holding on ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("listener", ["http", "https"])
def test_a_head_byte_by_byte_ends_with_its_time(impatient, listener):
    with at_once(0.5, lambda: Client(impatient.port(listener), tls="localhost" if listener == "https" else None)) as client:
        assert trickle(client, b"GET /fixed HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 1000, 20) is not None


def test_empty_lines_before_a_head_do_not_buy_time(impatient):
    with Client(impatient.port("http")) as client:
        assert trickle(client, b"\r\n" * 500, 20) is not None


@pytest.mark.parametrize("head, unit", [
    (b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n", b"x"),
    (b"POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    (b"POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a=b;"),
    (b"POST /fixed HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n", b"x"),
], ids=["length", "chunks", "chunk extensions", "a body that nobody wants"])
def test_a_body_byte_by_byte_ends_although_it_never_pauses_for_long(impatient, head, unit):
    """Each byte comes well within body_timeout; the rate is what is wrong."""
    with at_once(0.5, lambda: Client(impatient.port("http")).send(head)) as client:
        assert trickle(client, unit * 1000, 20) is not None


def test_a_slow_but_honest_body_is_taken(impatient, origin):
    """1 KiB a second is above min_body_rate, and pauses shorter than body_timeout are allowed."""
    def talk():
        longest, before = 0, time.monotonic()
        with Client(impatient.port("http")) as client:
            try:
                client.send(b"POST /honest HTTP/1.1\r\nHost: a\r\nContent-Length: 2560\r\n\r\n")
                for _ in range(10):
                    began = time.monotonic()
                    client.send(b"x" * 256)
                    longest, before = max(longest, time.monotonic() - before), began
                    time.sleep(0.25)
                assert client.response().status == 200
            except (AssertionError, OSError, Closed):
                if max(longest, time.monotonic() - before) > 0.55:
                    raise Disturbed from None
                raise
    undisturbed(talk)


def test_a_slow_body_is_answered_and_logged(impatient):
    gateway, slow = impatient, b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n"
    with at_once(0.5, lambda: Client(gateway.port("http")).send(slow)) as client:
        port = client.socket.getsockname()[1]
        stop = threading.Event()

        def drip():
            while not stop.wait(0.1):
                try:
                    client.socket.send(b"x")
                except OSError:
                    return
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert client.response().status == 408
        finally:
            stop.set()
            thread.join()
        entry = gateway.wait_log(lambda entry: entry["client_port"] == port)[0]
        assert (entry["status"], entry["reason"]) == (408, "BODY_TIMEOUT")


@pytest.mark.parametrize("listener", ["http", "https"])
def test_a_reader_that_takes_a_few_bytes_now_and_then_is_cut_off(impatient, listener):
    gateway, tls = impatient, "localhost" if listener == "https" else None
    with at_once(0.5, lambda: Client(gateway.port(listener), tls=tls, receive_buffer=4096).request("GET", "/site/big")) as client:
        port = client.socket.getsockname()[1]
        client.socket.settimeout(0.1)
        stop = time.monotonic() + 40

        def is_logged():
            return [e for e in gateway.access_log() if e["client_port"] == port]
        while not is_logged():
            assert time.monotonic() < stop, "still served"
            try:
                client.socket.recv(3)
            except (socket.timeout, ssl.SSLError, ssl.SSLWantReadError):
                pass
            time.sleep(0.1)
        assert is_logged()[0]["reason"] == "SEND_TIMEOUT"


def test_a_slow_but_honest_reader_gets_everything(impatient):
    def read():
        began = before = time.monotonic()
        got, longest = 0, 0
        with Client(impatient.port("http"), receive_buffer=4096) as client:
            try:
                client.request("GET", "/site/big")
                while time.monotonic() - began < 3:  # several times send_timeout at some ten kilobytes a second
                    longest, before = max(longest, time.monotonic() - before), time.monotonic()
                    got += len(client.socket.recv(2048))
                    time.sleep(0.05)
                while got < 8_000_000:
                    longest, before = max(longest, time.monotonic() - before), time.monotonic()
                    data = client.socket.recv(1 << 20)
                    assert data, f"cut off after {got}"
                    got += len(data)
            except (AssertionError, OSError):
                if max(longest, time.monotonic() - before) > 0.4:
                    raise Disturbed from None
                raise
    undisturbed(read)


@pytest.mark.parametrize("opening", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"], ids=["nothing", "a byte", "half a record"])
def test_half_handshakes_end_with_their_time(impatient, opening):
    gateway = impatient
    before = gateway.metric("weir_tls_handshake_failures_total", reason="timeout")
    clients = [at_once(0.5, lambda: Client(gateway.port("https")).send(opening)) for _ in range(50)]
    assert all(client.is_closed() for client in clients)
    wait_for(lambda: gateway.metric("weir_tls_handshake_failures_total", reason="timeout") >= before + 50, "the failures counted")
    for client in clients:
        client.close()
    assert is_served(gateway)


# --- floods ----------------------------------------------------------------------------------------------------------
def test_a_rate_of_all_makes_connections_wait_and_refuses_none(origin):
    with Weir(TEXT.replace("limits: {", "limits: {accept_rate: 20, "), origin=origin.port, files={"site/x": "x"}) as gateway:
        began = time.monotonic()
        assert are_served([Client(gateway.port("http"), timeout=30) for _ in range(45)]) == [True] * 45
        assert time.monotonic() - began > 0.9  # 20 at once, 25 more at 20 a second
        assert gateway.metric("weir_accept_pauses_total") > 0
        assert gateway.metric("weir_connections_refused_total") == 0


def test_the_rate_of_a_listener_is_its_own_and_holds_over_all_threads(origin):
    text = TEXT.replace('http: {address: "127.0.0.1:@http@"}',
                        'http: {address: "127.0.0.1:@http@"}\n  slow: {address: ["127.0.0.1:@slow@", "127.0.0.1:@other@"], accept_rate: 20}')

    with Weir(text, origin=origin.port, files={"site/x": "x"}) as gateway:
        began = time.monotonic()
        assert are_served([Client(gateway.port(("slow", "other")[i % 2]), timeout=30) for i in range(45)]) == [True] * 45
        assert time.monotonic() - began > 0.9  # 20 at once, 25 more at 20 a second, of both addresses together
        paused = gateway.metric("weir_accept_pauses_total")
        assert paused > 0
        for _ in range(45):
            assert is_served(gateway)
        assert gateway.metric("weir_accept_pauses_total") == paused, "another listener waited"
        assert gateway.metric("weir_connections_refused_total") == 0


def test_an_address_over_its_rate_is_refused_and_others_are_not(origin):
    with Weir(TEXT.replace("limits: {", "limits: {accept_rate_per_ip: 5, "), origin=origin.port, files={"site/x": "x"}) as gateway:
        assert all(is_served(gateway) for _ in range(5))

        def connection():
            try:
                return Client(gateway.port("http"))
            except ConnectionError:  # as quickly was it refused
                return None
        results = are_served([connection() for _ in range(40)])
        assert results.count(False) > 0
        with Client(gateway.port("http"), source="127.0.0.9") as other:
            other.request("GET", "/fixed")
            assert other.response().text == "fixed"
        wait_for(lambda: gateway.metric("weir_connections_refused_total", reason="TOO_FAST_FROM_ADDRESS") == results.count(False),
                 "those refused to be counted")


def test_the_cap_per_address_holds_over_all_threads_and_ends_with_the_connections(origin):
    with Weir(TEXT.replace("limits: {", "limits: {connections_per_ip: 10, "), origin=origin.port, files={"site/x": "x"}) as gateway:
        held, refused = [], 0
        for _ in range(40):
            try:
                client = Client(gateway.port("http"))
                client.request("GET", "/fixed")
                client.response()
                held.append(client)
            except (Closed, ConnectionError):
                refused += 1
        assert (len(held), refused) == (10, 30)
        with Client(gateway.port("http"), source="127.0.0.9") as other:
            other.request("GET", "/fixed")
            assert other.response().status == 200
        for client in held:
            client.close()
        wait_for(lambda: gateway.metric("weir_connections") == 0, "all gone")
        assert is_served(gateway)


def test_the_cap_per_address_outlives_reloads(origin):
    text = TEXT.replace("limits: {", "limits: {connections_per_ip: 1, ")
    with Weir(text, origin=origin.port, files={"site/x": "x"}) as gateway:
        with Client(gateway.port("http")) as first:
            first.request("GET", "/fixed")
            first.response()
            gateway.configure(TEXT)
            gateway.reload()
            assert is_served(gateway)
            gateway.configure(text)
            gateway.reload()
            with pytest.raises((Closed, ConnectionError)):
                is_served(gateway)
            assert first.is_open()
        wait_for(lambda: gateway.metric("weir_connections") == 0, "all gone")
        assert is_served(gateway)


def test_out_of_descriptors_the_queue_is_emptied_without_spinning_and_service_comes_back(origin):
    text = TEXT.replace("worker_threads: 2", "worker_threads: 1")
    with Weir(text, origin=origin.port, files={"site/x": "x"}) as gateway:
        worker = gateway.worker()

        def cpu():
            fields = open(f"/proc/{worker}/stat").read().rsplit(") ", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        with Client(gateway.port("http")) as kept:
            kept.request("GET", "/fixed")
            kept.response()
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{worker}/fd")) + 5, before[1]))
            try:
                held = []
                for _ in range(100):  # none of them hangs: served or closed
                    try:
                        client = Client(gateway.port("http"), timeout=10)
                        held.append(client)
                        client.request("GET", "/fixed")
                        client.response()
                    except (Closed, ConnectionError):
                        pass
                kept.request("GET", "/fixed")
                assert kept.response().text == "fixed"
                used = cpu()
                time.sleep(1)  # what is measured
                assert cpu() - used < 0.3, "it spins"
            finally:
                resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
            for client in held:
                client.close()
        wait_for(lambda: is_served_quietly(gateway), "service after the shortage")
        assert gateway.metric("weir_connections_refused_total", reason="OUT_OF_DESCRIPTORS") > 0
        wait_for(lambda: gateway.metric("weir_connections") == 0, "all gone")


def is_served_quietly(gateway):
    try:
        return is_served(gateway)
    except (Closed, ConnectionError):
        return False


def test_huge_heads_take_no_memory_that_stays(gateway):
    wait_for(lambda: gateway.metric("weir_connections") == 0, "quiet")
    before = gateway.rss()
    clients = []
    for _ in range(200):
        client = Client(gateway.port("http"))
        client.send(b"GET /fixed HTTP/1.1\r\nHost: a\r\n" + b"".join(b"x-%d: %s\r\n" % (i, b"y" * 500) for i in range(60)))
        clients.append(client)
    during = gateway.rss()
    for client in clients:
        client.close()
    if not SANITIZED:
        assert during - before < 64 << 20
    assert is_served(gateway)


def test_a_pipeline_flood_is_answered_in_order_with_bounded_memory(gateway):
    """The client sends on and on and reads nothing: the gateway stops reading."""
    before = gateway.rss()
    with Client(gateway.port("http"), receive_buffer=4096, timeout=1) as client:
        sent, request = 0, b"GET /fixed HTTP/1.1\r\nHost: a\r\n\r\n"
        try:
            while sent < 100_000_000:
                sent += client.socket.send((request * 1000)[sent % len(request):])  # goes on where the last one stopped
        except (socket.timeout, ConnectionError):
            pass
        assert sent < 100_000_000
        if not SANITIZED:
            assert gateway.rss() - before < 64 << 20
    assert is_served(gateway)


def test_a_long_pipeline_is_answered_to_its_end(gateway):
    """More than is read ahead, and not in whole requests."""
    request, count = b"GET /fixed HTTP/1.1\r\nHost: a\r\n\r\n", 20_000
    with Client(gateway.port("http"), timeout=20) as client:
        sender = threading.Thread(target=client.socket.sendall, args=(request * count,))
        sender.start()
        try:
            for _ in range(count):
                assert client.response().text == "fixed"
        finally:
            sender.join()


def test_many_ranges_cost_no_more_than_the_file(gateway):
    with Client(gateway.port("http")) as client:
        ranges = ",".join(f"{i % 500}-{i % 500 + 1}" for i in range(900))
        client.request("GET", "/site/page", [("Range", f"bytes={ranges}")])
        response = client.response()
    assert response.status in (200, 206, 416) and len(response.body) <= 2000


def test_chunks_whose_extensions_outweigh_them_are_refused(gateway):
    with Client(gateway.port("http")) as client:
        client.send(b"POST /ext HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(2000):
                client.send(b"1;" + b"a=b;" * 200 + b"c\r\nx\r\n")
        except OSError:
            pass
        try:
            assert client.response().status == 400
        except (Closed, ConnectionError):
            pass  # the rest of the flood met a closed connection
    wait_for(lambda: gateway.metric("weir_requests_total", reason="BAD_CHUNK") > 0, "counted")


def test_handshakes_abandoned_by_the_hundred_leave_nothing_behind(gateway):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        insecure_context().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    for _ in range(300):
        with Client(gateway.port("https")) as client:
            client.send(hello)
    wait_for(lambda: gateway.metric("weir_connections") == 0, "no connection left")
    assert is_served(gateway)
