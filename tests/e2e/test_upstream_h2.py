"""HTTP/2 towards targets: multiplexing, flow control, trailers, what is tried again, and targets that misbehave. Targets
are python-h2 and nghttpd."""
import socket
import ssl
import struct
import subprocess
import threading

import pytest
from h2.settings import SettingCodes

from client import Client, Closed, fetch
from origin import Origin
from origin_h2 import H2Origin
from test_tls import certificate, key_pem, pem
from weir import SANITIZED, Weir, wait_for

CONFIG = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  origin:
    protocol: @protocol@
    targets: "127.0.0.1:@origin@"
    @tls@
    health_check: {enabled: false}
    timeouts: {connect: 30s, first_byte: 30s, idle: 30s}
routes: [{name: all, forward: origin}]
"""


def start(origin, protocol="h2c", tls=" ", config=CONFIG, **values):
    return Weir(config, origin=origin.port, protocol=protocol, tls=tls, **values)


@pytest.fixture
def origin():
    with H2Origin() as server:
        yield server


@pytest.fixture
def gateway(origin):
    with start(origin) as running:
        yield running


def last_log(gateway, path):
    return gateway.wait_log(lambda entry: entry["path"] == path)[-1]


def in_parallel(count, action):
    """Results of action(i), each on a thread of its own."""
    results = [None] * count

    def run(i):
        try:
            results[i] = action(i)
        except Exception as error:  # pylint: disable=broad-except
            results[i] = error
    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


# --- requests --------------------------------------------------------------------------------------------------------
def test_a_request_arrives_as_http2_and_its_answer_as_http1(gateway, origin):
    origin.on("/a?b=c", lambda exchange: exchange.respond(200, b"hello", [("x-one", "1"), ("set-cookie", "a=b"), ("set-cookie", "c=d")]))
    response = fetch(gateway.port("http"), "/a?b=c", headers=[("X-Team", "Blue"), ("Connection", "x-hop"), ("x-hop", "1")])
    assert (response.status, response.body, response.get("x-one")) == (200, b"hello", "1")
    assert response.all("set-cookie") == ["a=b", "c=d"]
    request, = origin.requests
    assert request.get(":method") == "GET" and request.get(":scheme") == "http"
    assert request.get(":authority") == "example.com" and request.get("x-team") == "Blue"
    assert request.get("te") == "trailers"
    assert all(name == name.lower() for name, _ in request.headers)
    assert not {"host", "connection", "x-hop", "transfer-encoding"} & {name for name, _ in request.headers}


def test_many_requests_share_one_connection(gateway, origin):
    gate = threading.Event()
    origin.answer = lambda exchange: (gate.wait(20), exchange.respond(200, exchange.get(":path").encode()))
    fetch_all = threading.Thread(target=lambda: results.extend(
        in_parallel(20, lambda i: fetch(gateway.port("http"), f"/{i}").body)))
    results = []
    fetch_all.start()
    wait_for(lambda: len(origin.requests) == 20, "20 requests at the origin")
    assert len(origin.connections) == 1
    gate.set()
    fetch_all.join(30)
    assert results == [f"/{i}".encode() for i in range(20)]


def test_another_connection_is_opened_when_the_targets_limit_of_streams_is_reached():
    gate = threading.Event()
    with H2Origin(lambda exchange: (gate.wait(20), exchange.respond()),
                  settings={SettingCodes.MAX_CONCURRENT_STREAMS: 2}) as origin, start(origin) as gateway:
        results = []
        thread = threading.Thread(target=lambda: results.extend(
            in_parallel(6, lambda i: fetch(gateway.port("http"), f"/{i}").status)))
        thread.start()
        wait_for(lambda: len(origin.requests) == 6, "6 requests at the origin")
        assert max(len(connection.exchanges) for connection in origin.connections) <= 2
        gate.set()
        thread.join(30)
        assert results == [200] * 6


@pytest.mark.parametrize("size", [1, 65535, 65536, 3_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_bodies_pass_both_ways(gateway, origin, size, framing):
    body = bytes(range(251)) * (size // 251 + 1)
    origin.answer = lambda exchange: exchange.respond(200, exchange.body()[::-1])
    headers = [("Transfer-Encoding", "chunked")] if framing == "chunked" else []
    with Client(gateway.port("http"), timeout=30) as client:
        if framing == "chunked":
            client.request("POST", "/", headers)
            for at in range(0, size, 50_000):
                piece = body[at:min(at + 50_000, size)]
                client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            client.send(b"0\r\n\r\n")
        else:
            client.request("POST", "/", headers, body[:size])
        assert client.response("POST").body == body[:size][::-1]
    assert origin.requests[0].get("content-length") == (None if framing == "chunked" else str(size))


def test_a_slow_reader_does_not_hold_up_others_on_the_same_connection(gateway, origin):
    def endless(exchange):
        exchange.head()
        for _ in range(2000):
            exchange.data(b"x" * 16384)
    origin.on("/endless", endless)
    with Client(gateway.port("http"), receive_buffer=4096) as stalled:
        stalled.request("GET", "/endless")
        wait_for(lambda: origin.requests, "the endless response to begin")
        before = gateway.rss()
        for i in range(20):
            assert fetch(gateway.port("http"), f"/{i}").status == 200
        assert len(origin.connections) == 1
        assert SANITIZED or gateway.rss() - before < 4 << 20


def test_a_target_that_takes_no_body_holds_the_client_back_and_memory_stays_flat():
    with H2Origin(lambda exchange: None, consumes=False) as origin, start(origin) as gateway:
        with Client(gateway.port("http")) as client:
            client.request("POST", "/", [("Content-Length", "100000000")])
            wait_for(lambda: origin.requests, "the request")
            before, sent = gateway.rss(), 0
            client.socket.settimeout(1)
            with pytest.raises((socket.timeout, BrokenPipeError, ConnectionResetError)):
                while sent < 100_000_000:
                    sent += client.socket.send(b"x" * 65536)
            assert sent < 20_000_000
            assert SANITIZED or gateway.rss() - before < 4 << 20
            client.reset()
        wait_for(lambda: gateway.metric("weir_requests_in_flight") == 0, "a client that is not read is seen to have left", 20)
        wait_for(lambda: gateway.metric("weir_connections") == 0, "its connection to be over")


@pytest.mark.parametrize("method, status", [("HEAD", 200), ("GET", 204), ("GET", 304)])
@pytest.mark.parametrize("ends", ["with the head", "with an empty DATA frame"])
def test_responses_without_body(gateway, origin, method, status, ends):
    def answer(exchange):
        exchange.head(status, [("etag", '"x"')], end=ends == "with the head")
        if ends != "with the head":
            exchange.data(b"", end=True)
    origin.answer = answer
    for _ in range(2):
        response = fetch(gateway.port("http"), method=method)
        assert (response.status, response.body, response.get("etag")) == (status, b"", '"x"')
    assert len(origin.connections) == 1


def test_interim_responses_are_swallowed(gateway, origin):
    def answer(exchange):
        exchange.connection.do(lambda c: c.send_headers(exchange.stream_id, [(":status", "103"), ("link", "</a>")]))
        exchange.respond(200, b"done")
    origin.answer = answer
    response = fetch(gateway.port("http"))
    assert (response.status, response.body, response.get("link")) == (200, b"done", None)


# --- what is tried again ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refused_stream_is_tried_again_whatever_the_method(gateway, origin, method):
    def answer(exchange):
        if len(origin.requests) == 1:
            exchange.reset(7)
        else:
            exchange.respond(200, b"second")
    origin.answer = answer
    assert fetch(gateway.port("http"), "/again", method=method).body == b"second"
    assert last_log(gateway, "/again")["attempts"] == 2


def test_streams_above_the_last_one_of_a_goaway_are_tried_again_and_those_below_end_in_peace(gateway, origin):
    gate = threading.Event()

    def answer(exchange):
        if exchange.get(":path") == "/first":
            exchange.head()
            gate.wait(20)
            exchange.data(b"whole", end=True)
        elif len(origin.connections) == 1:  # GOAWAY: last stream 1
            exchange.raw(b"\0\0\x08\7\0\0\0\0\0" + struct.pack(">II", 1, 0))
        else:
            exchange.respond(200, b"elsewhere")
    origin.answer = answer
    with Client(gateway.port("http")) as first:
        first.request("GET", "/first")
        wait_for(lambda: origin.requests, "the first request")
        assert fetch(gateway.port("http"), "/second", method="POST").body == b"elsewhere"
        assert fetch(gateway.port("http"), "/third").body == b"elsewhere"
        assert len(origin.connections) == 2
        gate.set()
        assert first.response().body == b"whole"


def test_a_connection_that_is_lost_between_requests_is_replaced(gateway, origin):
    assert fetch(gateway.port("http")).status == 200
    origin.connections[0].socket.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: gateway.metric("weir_upstream_idle_connections") == 0, "the end to be seen")
    assert fetch(gateway.port("http")).status == 200


# --- ends ------------------------------------------------------------------------------------------------------------
def test_a_client_that_leaves_cancels_its_stream_and_no_other(gateway, origin):
    gate = threading.Event()

    def answer(exchange):
        exchange.head()
        gate.wait(20)
        exchange.data(b"whole", end=True)
    origin.answer = answer
    with Client(gateway.port("http")) as stays:
        stays.request("GET", "/stays")
        wait_for(lambda: len(origin.requests) == 1, "the first request")
        with Client(gateway.port("http")) as leaves:
            leaves.request("GET", "/leaves")
            leaves.head()
            leaves.reset()
        assert origin.requests[1].wait_reset() == 8  # CANCEL
        gate.set()
        assert stays.response().body == b"whole"
    assert len(origin.connections) == 1


@pytest.mark.parametrize("end, reason", [
    (lambda exchange: exchange.reset(2), "UPSTREAM_RESET"),
    (lambda exchange: exchange.reset(0), "UPSTREAM_TRUNCATED"),
    (lambda exchange: exchange.connection.socket.shutdown(socket.SHUT_RDWR), "UPSTREAM_TRUNCATED"),
], ids=["reset", "reset without error", "closed"])
def test_a_response_that_breaks_off_is_not_passed_off_as_complete(gateway, origin, end, reason):
    def answer(exchange):
        exchange.head()
        exchange.data(b"begun")
        gate.wait(20)
        end(exchange)
    gate = threading.Event()
    origin.answer = answer
    with Client(gateway.port("http")) as client:
        client.request("GET", "/broken")
        client.head()
        gate.set()
        with pytest.raises((Closed, OSError, AssertionError)):
            client.until(b"0\r\n\r\n")
    assert last_log(gateway, "/broken")["reason"] == reason


def test_a_reset_before_the_response_is_502(gateway, origin):
    origin.answer = lambda exchange: exchange.reset(2)
    assert fetch(gateway.port("http"), "/reset").status == 502
    entry = last_log(gateway, "/reset")
    assert (entry["reason"], entry["error"]) == ("UPSTREAM_CLOSED", "INTERNAL_ERROR")


def test_a_target_that_does_not_answer_is_504_and_its_stream_is_cancelled(origin):
    origin.answer = lambda exchange: None
    with start(origin, config=CONFIG.replace("first_byte: 30s", "first_byte: 200ms")) as gateway:
        assert fetch(gateway.port("http")).status == 504
        wait_for(lambda: origin.requests, "the request at the origin")
        assert origin.requests[0].wait_reset() == 8


def test_an_early_answer_ends_the_upload(gateway, origin):
    origin.answer = lambda exchange: exchange.respond(413, b"too much")
    with Client(gateway.port("http")) as client:
        client.request("POST", "/", [("Content-Length", "10000000")])
        assert client.response("POST").status == 413
    assert origin.requests[0].wait_reset() in (0, 8)


# --- targets that break the protocol -----------------------------------------------------------------------------------
def literal(name, value):
    """HPACK: literal without indexing, new name."""
    def text(s):
        assert len(s) < 127
        return bytes([len(s)]) + s
    return b"\0" + text(name) + text(value)


def headers_frame(stream_id, block, flags=4 | 1):
    return struct.pack(">I", len(block))[1:] + bytes([1, flags]) + struct.pack(">I", stream_id) + block


STATUS_200 = b"\x88"


@pytest.mark.parametrize("block", [
    literal(b"x-a", b"1"),                                    # no :status
    STATUS_200 + STATUS_200,
    literal(b":status", b"20x"),
    literal(b":status", b"099"),
    literal(b":status", b"600"),
    literal(b":status", b"101"),
    STATUS_200 + literal(b"X-Upper", b"1"),
    STATUS_200 + literal(b"x-a", b"1\r\nx-b: 2"),
    STATUS_200 + literal(b"x-a", b"1\0"),
    STATUS_200 + literal(b"x a", b"1"),
    STATUS_200 + literal(b"", b"1"),
    STATUS_200 + literal(b"x-a", b" 1"),
    STATUS_200 + literal(b"connection", b"close"),
    STATUS_200 + literal(b"transfer-encoding", b"chunked"),
    STATUS_200 + literal(b":path", b"/"),
    literal(b"x-a", b"1") + STATUS_200,
    STATUS_200 + literal(b"content-length", b"5"),            # and END_STREAM
    STATUS_200 + literal(b"content-length", b"-1"),
    STATUS_200 + literal(b"content-length", b"0") + literal(b"content-length", b"0"),
], ids=lambda block: repr(block)[:60])
def test_a_malformed_head_is_refused_and_the_connection_serves_on(gateway, origin, block):
    origin.on("/bad", lambda exchange: exchange.raw(headers_frame(exchange.stream_id, block)))
    response = fetch(gateway.port("http"), "/bad")
    assert response.status == 502 and response.get("x-b") is None
    assert last_log(gateway, "/bad")["reason"] == "UPSTREAM_BAD_RESPONSE"
    assert fetch(gateway.port("http"), "/good").status == 200
    assert gateway.process.poll() is None


def test_a_body_longer_than_its_length_is_cut_off(gateway, origin):
    def answer(exchange):
        exchange.head(200, [("content-length", "3")])
        exchange.raw(b"\0\0\5\0\1" + struct.pack(">I", exchange.stream_id) + b"12345")
    origin.on("/long", answer)
    try:
        response = fetch(gateway.port("http"), "/long")
        assert response.status == 502 or len(response.body) < 3
    except (Closed, OSError):
        pass
    assert last_log(gateway, "/long")["reason"] != "-"
    assert fetch(gateway.port("http")).status == 200


def test_a_head_without_end_is_refused_with_flat_memory(gateway, origin):
    """A field section decoded to more than 64 KiB: HPACK makes a few bytes of it."""
    def bomb(exchange):
        big = b"\x40" + b"\x01a" + b"\x7f\x81\x1e" + b"x" * 3968  # 4,000 bytes, indexed
        exchange.raw(headers_frame(exchange.stream_id, STATUS_200 + big + b"\xbe" * 12000))
    origin.on("/bomb", bomb)
    before = gateway.rss()
    for _ in range(5):
        assert fetch(gateway.port("http"), "/bomb").status == 502
    assert last_log(gateway, "/bomb")["reason"] == "UPSTREAM_HEAD_TOO_LARGE"
    assert SANITIZED or gateway.rss() - before < 8 << 20


FLOODS = {
    "PING": b"\0\0\x08\6\0\0\0\0\0" + b"12345678",
    "SETTINGS": b"\0\0\0\4\0\0\0\0\0",
    "empty DATA": b"\0\0\0\0\0\0\0\0\1",
    "PRIORITY": b"\0\0\5\2\0\0\0\0\1\0\0\0\0\1",
    "WINDOW_UPDATE": b"\0\0\4\x08\0\0\0\0\0\0\0\0\1",
    "unknown": b"\0\0\0\xbb\0\0\0\0\0",
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_frames_that_say_nothing_ends_the_connection(gateway, origin, name):
    def flood(exchange):
        if len(origin.connections) > 1:
            exchange.respond(200, b"calm")
            return
        exchange.head()
        try:
            for _ in range(3000):
                exchange.raw(FLOODS[name] * 100)
        except OSError:
            pass
    origin.answer = flood
    try:
        assert fetch(gateway.port("http")).status == 502
    except (Closed, OSError):
        pass
    wait_for(lambda: origin.connections[0].is_closed, "the end of the flooded connection")
    assert fetch(gateway.port("http")).body == b"calm"


def test_a_continuation_flood_ends_the_connection(gateway, origin):
    def flood(exchange):
        if len(origin.connections) > 1:
            exchange.respond(200, b"calm")
            return
        try:
            exchange.raw(headers_frame(exchange.stream_id, STATUS_200, flags=0))
            for i in range(100_000):
                exchange.raw(b"\0\0\x04\x09\0" + struct.pack(">I", exchange.stream_id) + literal(b"a", b""))
        except OSError:
            pass
    origin.answer = flood
    assert fetch(gateway.port("http")).status == 502
    assert fetch(gateway.port("http")).body == b"calm"


def test_a_target_of_http1_is_told_from_one_of_http2():
    def speak_http1(exchange):
        exchange.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        exchange.close()
    with Origin(speak_http1) as origin, start(origin) as gateway:
        assert fetch(gateway.port("http"), "/x").status == 502
        assert last_log(gateway, "/x")["reason"] == "UPSTREAM_NOT_HTTP2"


# --- TLS and real servers ----------------------------------------------------------------------------------------------
def tls_context(tmp_path, alpn):
    own = certificate(["127.0.0.1"])
    (tmp_path / "own.pem").write_bytes(pem(own) + key_pem("p256"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")
    if alpn:
        context.set_alpn_protocols(alpn)
    return context, pem(own)


def test_http2_over_tls_by_alpn(tmp_path):
    context, ca = tls_context(tmp_path, ["h2", "http/1.1"])
    with H2Origin(tls=context) as origin, \
            start(origin, "h2", "tls: {ca: ca.pem}", files={"ca.pem": ca}) as gateway:
        for _ in range(3):
            assert fetch(gateway.port("http")).body == b"ok"
        assert origin.requests[0].get(":scheme") == "https"
        assert len(origin.connections) == 1


@pytest.mark.parametrize("alpn", [["http/1.1"], None], ids=["http/1.1", "no ALPN"])
def test_a_tls_target_without_http2_is_told(tmp_path, alpn):
    context, ca = tls_context(tmp_path, alpn)
    with H2Origin(tls=context) as origin, \
            start(origin, "h2", "tls: {ca: ca.pem}", files={"ca.pem": ca}) as gateway:
        assert fetch(gateway.port("http"), "/x").status == 502
        entry = last_log(gateway, "/x")
        assert entry["reason"] == "UPSTREAM_NOT_HTTP2" and "ALPN" in entry["error"] or "protocol" in entry["error"]
        assert not origin.requests


class Nghttpd:
    def __init__(self, folder, port):
        self.port = port
        self.process = subprocess.Popen(["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", str(folder), str(port)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self):
        self.process.kill()
        self.process.wait()


def test_nghttpd_serves_files_through_the_gateway(tmp_path):
    content = bytes(range(256)) * 8000
    (tmp_path / "file").write_bytes(content)
    with Weir(CONFIG, protocol="h2c", tls=" ") as gateway:
        server = Nghttpd(tmp_path, gateway.port("origin"))
        try:
            wait_for(lambda: fetch(gateway.port("http"), "/file").status == 200, "nghttpd")
            results = in_parallel(8, lambda i: fetch(gateway.port("http"), "/file", timeout=30).body == content)
            assert results == [True] * 8
        finally:
            server.close()


# --- the life of connections -------------------------------------------------------------------------------------------
@pytest.mark.timeout(180)
def test_an_idle_connection_is_asked_whether_it_lives_and_closed_in_the_end():
    for idle in (2, 10, 40):  # who stands still for half of it closes without a question
        with H2Origin() as origin, \
                start(origin, config=CONFIG.replace("health_check:", f"pool: {{idle: {idle}s}}\n    health_check:")) as gateway:
            assert fetch(gateway.port("http")).status == 200
            wait_for(lambda: origin.connections[0].is_closed, "the end", idle + 30)
            assert gateway.metric("weir_upstream_idle_connections") == 0
            if origin.connections[0].pings == 1:
                return
    raise AssertionError("no PING")


def test_a_reload_that_changes_the_protocol_mixes_no_connections(origin):
    with start(origin) as gateway:
        assert fetch(gateway.port("http")).status == 200
        gateway.values["protocol"] = "http"
        gateway.configure(CONFIG)
        gateway.reload()
        assert fetch(gateway.port("http")).status in (502, 504)  # python-h2 does not take HTTP/1.1
        wait_for(lambda: origin.connections[0].is_closed, "the end of the old connection")
        gateway.values["protocol"] = "h2c"
        gateway.configure(CONFIG)
        gateway.reload()
        assert fetch(gateway.port("http")).status == 200


def test_health_checks_speak_the_groups_http2(origin):
    config = CONFIG.replace("health_check: {enabled: false}", "health_check: {interval: 300ms, timeout: 20s, path: /healthz}")
    with start(origin, config=config) as gateway:
        wait_for(lambda: gateway.metric("weir_target_group_targets", state="healthy") == 1, "a healthy target")
        assert origin.requests[0].get(":path") == "/healthz"
        origin.on("/healthz", lambda exchange: exchange.respond(500))
        wait_for(lambda: gateway.metric("weir_target_group_targets", state="unhealthy") == 1, "an unhealthy target")
