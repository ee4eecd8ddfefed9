"""Tunnels byte by byte: what an upgrade needs, who is refused and how, half-close, back-pressure, idle time, drain, and
that nothing can be smuggled through an upgrade that did not come about. Real WebSocket peers are in test_websocket.py."""
import os
import select
import socket
import ssl
import threading
import time

import pytest

from client import Client, Closed, insecure_context
from origin import Origin, reply
from weir import SANITIZED, Disturbed, Weir, undisturbed, wait_for

CONFIG = """
worker_threads: 1
shutdown_timeout: 2s
listeners:
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: own}}
certificates: {own: {self_signed: [localhost]}}
target_groups:
  origin: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}, timeouts: {tunnel_idle: 60s}}
  hasty: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}, timeouts: {idle: 200ms, tunnel_idle: 60s}}
  brief: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}, timeouts: {tunnel_idle: 60s, total: 300ms}}
  h2: {protocol: h2c, targets: "127.0.0.1:@origin@", health_check: {enabled: false}}
routes:
  - {name: h2, match: {path: "/h2/*"}, forward: h2}
  - {name: other, match: {path: "/other/*"}, upgrade: [tcp, SPDY/3.1, websocket], forward: origin}
  - {name: off, match: {path: "/off/*"}, upgrade: off, forward: origin}
  - {name: none, match: {path: "/none/*"}, upgrade: [], forward: origin}
  - {name: idle, match: {path: "/idle/*"}, timeouts: {tunnel_idle: 500ms}, forward: origin}
  - {name: hasty, match: {path: "/hasty/*"}, forward: hasty}
  - {name: brief, match: {path: "/brief/*"}, forward: brief}
  - {name: fixed, match: {path: /fixed}, respond: {status: 200, body: fixed}}
  - {name: all, forward: origin}
"""
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the example of RFC 6455 1.3
UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
HANDSHAKE = [*UPGRADE, ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", KEY)]
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
          + ACCEPT.encode() + b"\r\nSec-WebSocket-Protocol: chat\r\nx-own: Kept\r\n\r\n")
SWITCH_TCP = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


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


class Tunnel:
    """Both ends of one tunnel: .client (a Client) and .target (the origin's socket)."""

    def __init__(self, gateway, origin, path="/ws", *, fields=HANDSHAKE, switch=SWITCH, ahead=b"", tls=False, method="GET",
                 receive_buffer=None):
        ready, over = threading.Event(), threading.Event()
        self.over = over

        def answer(exchange):
            exchange.send(switch)
            self.target, self.early = exchange.socket, exchange.stream.buffer
            exchange.stream.buffer = b""
            exchange.is_closed = True
            ready.set()
            over.wait(60)

        origin.on(path, answer)
        port = gateway.port("https" if tls else "http")
        self.client = Client(port, tls="localhost" if tls else None, receive_buffer=receive_buffer)
        head = f"{method} {path} HTTP/1.1\r\nHost: example.com\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields)
        self.client.send(head.encode() + b"\r\n" + ahead)
        self.response = self.client.response(method)
        assert self.response.status == 101, self.response
        assert ready.wait(10)
        self.target.settimeout(10)

    def to_target(self, data):
        self.client.send(data)
        return self.target_gets(len(data))

    def target_gets(self, count):
        got = self.early
        self.early = b""
        while len(got) < count and (part := self.target.recv(65536)):
            got += part
        return got

    def to_client(self, data):
        self.target.sendall(data)
        return self.client.exactly(len(data))

    def target_sees_end(self):
        return self.target.recv(1) == b""

    def close(self):
        self.client.close()
        self.over.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def tunnels(gateway):
    return gateway.metric("weir_tunnels_open")


def last(gateway, path, **wanted):
    return gateway.wait_log(lambda entry: entry["path"] == path and all(entry[k] == v for k, v in wanted.items()))[-1]


# --- the handshake ----------------------------------------------------------------------------------------------------
def test_the_target_is_asked_for_the_upgrade_and_the_client_gets_its_101(gateway, origin):
    with Tunnel(gateway, origin, "/ws?x=1".split("?")[0], fields=[*HANDSHAKE, ("Sec-WebSocket-Protocol", "chat, x"),
                                                                  ("Origin", "http://a"), ("X-Own", "y")]) as t:
        sent = origin.requests[-1]
        assert sent.line == "GET /ws HTTP/1.1"
        assert sent.get("connection").lower() == "upgrade" and sent.get("upgrade") == "websocket"
        assert sent.get("sec-websocket-key") == KEY and sent.get("sec-websocket-version") == "13"
        assert sent.get("sec-websocket-protocol") == "chat, x" and sent.get("origin") == "http://a"
        assert sent.all("transfer-encoding") == sent.all("content-length") == []
        assert t.response.get("connection").lower() == "upgrade" and t.response.get("upgrade") == "websocket"
        assert t.response.get("sec-websocket-accept") == ACCEPT and t.response.get("sec-websocket-protocol") == "chat"
        assert t.response.get("x-own") == "Kept"
        assert t.response.all("transfer-encoding") == t.response.all("content-length") == []


def test_a_connection_field_with_other_options_still_upgrades(gateway, origin):
    fields = [("Connection", "keep-alive, UPGRADE, x-private"), ("Upgrade", "WebSocket"), ("x-private", "y"), *HANDSHAKE[2:]]
    with Tunnel(gateway, origin, fields=fields) as t:
        assert t.to_target(b"abc") == b"abc"
        assert origin.requests[-1].all("x-private") == []


@pytest.mark.parametrize("tls", [False, True])
def test_bytes_flow_both_ways_untouched(gateway, origin, tls):
    data = bytes(range(256)) * 41 + b"\r\n\r\nGET / HTTP/1.1\r\n\r\n0\r\n\r\n"
    with Tunnel(gateway, origin, tls=tls) as t:
        for piece in (b"\0", data, b"\r\n", data[:77]):
            assert t.to_target(piece) == piece
            assert t.to_client(piece) == piece


def test_bytes_that_follow_the_head_at_once_are_not_lost(gateway, origin):
    with Tunnel(gateway, origin, ahead=b"early frames") as t:
        assert t.target_gets(12) == b"early frames"
        assert t.to_target(b"more") == b"more"


def test_many_bytes_that_follow_the_head_at_once_are_not_lost(gateway, origin):
    ahead = os.urandom(300_000)
    with Tunnel(gateway, origin, ahead=ahead) as t:
        assert t.target_gets(len(ahead)) == ahead


def test_bytes_that_follow_the_101_at_once_are_not_lost(gateway, origin):
    with Tunnel(gateway, origin, switch=SWITCH + b"hello from the target") as t:
        assert t.client.exactly(21) == b"hello from the target"
        assert t.to_client(b"more") == b"more"
        assert t.to_target(b"more") == b"more"


def test_interim_responses_before_the_101_do_no_harm(gateway, origin):
    with Tunnel(gateway, origin, switch=b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + SWITCH) as t:
        assert t.to_target(b"abc") == b"abc"


def test_a_tunnel_takes_a_kept_connection_and_never_gives_it_back(gateway, origin):
    origin.on("/plain", reply(b"x"))
    with Client(gateway.port("http")) as client:
        client.request("GET", "/plain")
        assert client.response().body == b"x"
    with Tunnel(gateway, origin) as t:
        assert origin.requests[-1].connection == origin.requests[-2].connection, "the idle one was there"
        taken = origin.requests[-1].connection
        t.client.half_close()
        assert t.target_sees_end()
        t.target.close()
        assert t.client.is_closed()
    with Client(gateway.port("http")) as client:
        client.request("GET", "/plain")
        assert client.response().body == b"x"
    assert origin.requests[-1].connection != taken


@pytest.mark.parametrize("fields, status, reason", [
    ([*UPGRADE, ("Sec-WebSocket-Version", "13")], 400, "BAD_WEBSOCKET"),
    ([*HANDSHAKE, ("Sec-WebSocket-Key", KEY)], 400, "BAD_WEBSOCKET"),
    ([*HANDSHAKE[:3], ("Sec-WebSocket-Key", "")], 400, "BAD_WEBSOCKET"),
    ([*HANDSHAKE[:3], ("Sec-WebSocket-Key", KEY[:-2])], 400, "BAD_WEBSOCKET"),
    ([*HANDSHAKE[:3], ("Sec-WebSocket-Key", KEY + "AA==")], 400, "BAD_WEBSOCKET"),
    ([*HANDSHAKE[:3], ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZ*==")], 400, "BAD_WEBSOCKET"),
    ([*HANDSHAKE[:3], ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQAA")], 400, "BAD_WEBSOCKET"),
    ([*UPGRADE, HANDSHAKE[3]], 426, "UPGRADE_VERSION"),
    ([*UPGRADE, HANDSHAKE[3], ("Sec-WebSocket-Version", "8")], 426, "UPGRADE_VERSION"),
    ([*UPGRADE, HANDSHAKE[3], ("Sec-WebSocket-Version", "13, 8")], 426, "UPGRADE_VERSION"),
    ([*HANDSHAKE, ("Sec-WebSocket-Version", "13")], 426, "UPGRADE_VERSION"),
    ([*HANDSHAKE, ("Content-Length", "5")], 400, "BAD_WEBSOCKET"),
    ([*HANDSHAKE, ("Transfer-Encoding", "chunked")], 400, "BAD_WEBSOCKET"),
])
def test_a_handshake_that_breaks_rfc_6455_never_reaches_the_target(gateway, origin, fields, status, reason):
    with Client(gateway.port("http")) as client:
        client.request("GET", "/bad", fields)
        client.send(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        response = client.response()
        assert response.status == status and "close" in response.all("connection")
        if status == 426:  # RFC 9110 15.5.22, RFC 6455 4.4
            assert response.all("upgrade") == ["websocket"] and response.get("sec-websocket-version") == "13"
            assert "upgrade" in ", ".join(response.all("connection")).lower()
        assert client.is_closed(), "what was sent ahead is no request"
    assert last(gateway, "/bad", reason=reason)["status"] == status
    assert not any(request.target in ("/bad", "/smuggled") for request in origin.requests)


def test_a_websocket_handshake_by_post_is_refused(gateway, origin):
    with Client(gateway.port("http")) as client:
        client.request("POST", "/post", HANDSHAKE)
        assert client.response().status == 400
    assert last(gateway, "/post")["error"] == "the method is not GET"


# --- offers that are ignored ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/off/x", "/none/x"])
def test_a_route_that_takes_no_upgrade_forwards_an_ordinary_request(gateway, origin, path):
    with Client(gateway.port("http")) as client:
        client.request("GET", path, HANDSHAKE)
        assert client.response().body == b"ok"
        sent = origin.take()
        assert sent.all("upgrade") == sent.all("connection") == []
        assert client.is_open()


@pytest.mark.parametrize("offer", ["h2c", "TLS/1.0", "HTTP/2.0", "h2c, TLS/1.0", "web socket", ",", "websocket/13", "x" * 300,
                                   "websocket;q=1"])
def test_an_upgrade_to_anything_else_is_ignored_and_the_request_goes_on(gateway, origin, offer):
    with Client(gateway.port("http")) as client:
        client.request("POST", "/plain", [("Connection", "Upgrade, HTTP2-Settings"), ("HTTP2-Settings", "AAMAAABkAAQ"),
                                          ("Upgrade", offer)], b"body")
        client.request("GET", "/second")
        assert client.response().body == b"ok" and client.response().body == b"ok"
    first, second = origin.wait(2)
    assert first.all("upgrade") == first.all("connection") == first.all("http2-settings") == [] and first.body == b"body"
    assert second.target == "/second"


def test_upgrade_that_connection_does_not_list_or_that_http_1_0_offers_is_no_upgrade(gateway, origin):
    with Client(gateway.port("http")) as client:
        client.request("GET", "/plain", HANDSHAKE[1:])
        assert client.response().body == b"ok"
        assert origin.take().all("upgrade") == []
    with Client(gateway.port("http")) as client:
        client.request("GET", "/plain", HANDSHAKE, version="1.0")
        assert client.response().body == b"ok"
        assert origin.take().all("upgrade") == []


def test_a_route_that_does_not_forward_ignores_the_upgrade(gateway):
    with Client(gateway.port("http")) as client:
        client.request("GET", "/fixed", HANDSHAKE)
        assert client.response().body == b"fixed" and client.is_open()


def test_other_protocols_pass_where_the_route_lists_them(gateway, origin):
    with Tunnel(gateway, origin, "/other/x", fields=[("Connection", "Upgrade"), ("Upgrade", "nothing, TCP, websocket")],
                switch=SWITCH_TCP, method="POST") as t:
        assert origin.requests[-1].get("upgrade") == "TCP" and origin.requests[-1].method == "POST"
        assert t.response.get("upgrade") == "TCP"
        assert t.to_target(b"\1\2") == b"\1\2" and t.to_client(b"\3") == b"\3"
    assert gateway.metric("weir_tunnels_total", protocol="other") >= 1


def test_a_request_with_a_body_is_no_upgrade(gateway, origin):
    with Client(gateway.port("http")) as client:
        client.request("POST", "/other/body", [("Connection", "Upgrade"), ("Upgrade", "tcp")], b"payload")
        assert client.response().body == b"ok"
    sent = origin.take()
    assert sent.body == b"payload" and sent.all("upgrade") == []


def test_a_target_group_that_speaks_http_2_cannot_carry_it_and_the_client_is_told(gateway, origin):
    with Client(gateway.port("http")) as client:
        client.request("GET", "/h2/x", HANDSHAKE)
        assert client.response().status == 464 and client.is_closed()
    entry = last(gateway, "/h2/x", reason="UPSTREAM_NO_UPGRADE")
    assert (entry["status"], entry["error"], entry["target_group"]) == (464, "the targets speak HTTP/2", "h2")
    assert not origin.requests and origin.garbage == []


# --- targets that do not do what was asked ----------------------------------------------------------------------------
@pytest.mark.parametrize("answer", [reply(b"no", "403 Forbidden"), reply(b"fine"), reply(b"", "426 Upgrade Required"),
                                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"])
def test_another_status_is_an_ordinary_answer_and_bytes_sent_ahead_are_nobodys(gateway, origin, answer):
    """The classic: a gateway that takes any answer for a tunnel lets the client speak HTTP to the target past all rules."""
    origin.on("/ws", answer)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/ws", HANDSHAKE)
        client.send(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        response = client.response()
        assert response.status == int(answer[9:12]) and response.get("connection") == "close"
        assert client.is_closed()
    assert [request.target for request in origin.wait(1)] == ["/ws"]
    used = origin.requests[0].connection
    with Client(gateway.port("http")) as client:
        client.request("GET", "/next")
        assert client.response().body == b"ok"
    assert origin.requests[-1].connection != used, "the two may not agree about what that connection speaks now"
    assert origin.garbage == []


WRONG = {
    "accept of another key": SWITCH.replace(ACCEPT.encode(), b"x" * 27 + b"="),
    "accept missing": SWITCH.replace(b"Sec-WebSocket-Accept", b"x"),
    "accept twice": SWITCH.replace(b"x-own: Kept", b"Sec-WebSocket-Accept: " + ACCEPT.encode()),
    "another protocol": SWITCH.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
    "no protocol": SWITCH.replace(b"Upgrade: websocket\r\n", b""),
    "not in Connection": SWITCH.replace(b"Connection: Upgrade", b"Connection: keep-alive"),
    "with a length": SWITCH.replace(b"x-own: Kept", b"Content-Length: 5"),
    "chunked": SWITCH.replace(b"x-own: Kept", b"Transfer-Encoding: chunked"),
    "HTTP/1.0": SWITCH.replace(b"HTTP/1.1", b"HTTP/1.0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_101_that_breaks_the_handshake_is_a_502(gateway, origin, case):
    origin.on("/wrong", lambda exchange: (exchange.send(WRONG[case] + b"frames"), exchange.wait_peer_closed(), exchange.close()))
    before = len(gateway.access_log())
    with Client(gateway.port("http")) as client:
        client.request("GET", "/wrong", HANDSHAKE)
        assert client.response().status == 502 and client.is_closed()
    entry = wait_for(lambda: [e for e in gateway.access_log()[before:] if e["path"] == "/wrong"], "the log")[0]
    assert entry["reason"] in ("UPSTREAM_BAD_UPGRADE", "UPSTREAM_BAD_RESPONSE") and entry["error"]
    wait_for(lambda: tunnels(gateway) == 0, "no tunnel")


def test_a_101_nobody_asked_for_is_a_502(gateway, origin):
    origin.on("/off/x", lambda exchange: (exchange.send(SWITCH), exchange.wait_peer_closed(), exchange.close()))
    with Client(gateway.port("http")) as client:
        client.request("GET", "/off/x", HANDSHAKE)
        assert client.response().status == 502


# --- ends -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tls", [False, True])
def test_the_client_may_end_its_half_and_still_read(gateway, origin, tls):
    with Tunnel(gateway, origin, f"/client-ends-{tls}", tls=tls) as t:
        t.client.send(b"last words")
        if tls:
            send_close_notify(t.client.socket)
        else:
            t.client.half_close()
        assert t.target_gets(10) == b"last words" and t.target_sees_end()
        assert t.to_client(b"x" * 300_000) == b"x" * 300_000, "the other half lives"
        t.target.close()
        if not tls:
            assert t.client.is_closed()
    entry = last(gateway, f"/client-ends-{tls}", error="the client ended first")
    assert (entry["status"], entry["reason"]) == (101, "TUNNEL_CLOSED")


def send_close_notify(sock):
    """Our half of a TLS shutdown, without waiting for the other one."""
    sock.settimeout(0)
    try:
        sock.unwrap()
    except (ssl.SSLWantReadError, BlockingIOError):
        pass
    except ssl.SSLError:
        pass
    sock.settimeout(10)


@pytest.mark.parametrize("tls", [False, True])
def test_the_target_may_end_its_half_and_still_read(gateway, origin, tls):
    with Tunnel(gateway, origin, f"/target-ends-{tls}", tls=tls) as t:
        t.target.sendall(b"last words")
        t.target.shutdown(socket.SHUT_WR)
        assert t.client.exactly(10) == b"last words"
        assert t.client.socket.recv(1) == b"", "an orderly end: close_notify with TLS"
        assert t.to_target(b"x" * 300_000) == b"x" * 300_000, "the other half lives"
        t.client.close()
        assert t.target_sees_end()
    entry = last(gateway, f"/target-ends-{tls}", error="the target ended first")
    assert (entry["status"], entry["reason"]) == (101, "TUNNEL_CLOSED")


def test_what_a_tls_client_said_before_it_closed_without_a_word_arrives(gateway, origin):
    with Tunnel(gateway, origin, tls=True) as t:
        t.client.send(b"last words")
        t.client.socket.shutdown(socket.SHUT_RDWR)
        assert t.target_gets(10) == b"last words" and t.target_sees_end()


def test_a_client_that_resets_ends_the_tunnel_at_the_target(gateway, origin):
    with Tunnel(gateway, origin, "/client-resets") as t:
        t.client.reset()
        assert ends(t.target)
    assert last(gateway, "/client-resets", reason="CLIENT_CLOSED")["status"] == 101


def test_a_target_that_resets_ends_the_tunnel_at_the_client(gateway, origin):
    with Tunnel(gateway, origin, "/target-resets") as t:
        t.target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        t.target.close()
        with pytest.raises(ConnectionResetError):
            t.client.socket.recv(1)
    assert last(gateway, "/target-resets", reason="UPSTREAM_RESET")["status"] == 101


def ends(sock, timeout=10):
    sock.settimeout(timeout)
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


def test_the_log_tells_both_byte_counts_and_the_duration(gateway, origin):
    with Tunnel(gateway, origin, "/counted") as t:
        t.to_target(b"x" * 1000)
        t.to_client(b"y" * 70_000)
        time.sleep(0.2)  # what is measured, after the 101
        t.client.half_close()
        t.target.close()
        assert t.client.is_closed()
    entry = last(gateway, "/counted")
    head = len(origin.requests[-1].head)
    assert 1000 < entry["bytes_in"] < 1000 + 2 * head and 70_000 < entry["bytes_out"] < 71_000
    assert entry["duration_ms"] - entry["upstream_ms"] > 195
    assert gateway.metric("weir_tunnel_bytes_total", direction="in") >= 1000
    assert gateway.metric("weir_tunnel_bytes_total", direction="out") >= 70_000


# --- time -------------------------------------------------------------------------------------------------------------
def test_an_idle_tunnel_is_closed_and_bytes_of_either_side_keep_it_open(gateway, origin):
    def move():
        longest, before, started = 0, time.monotonic(), time.monotonic()
        with Tunnel(gateway, origin, "/idle/x") as t:
            try:
                while time.monotonic() < started + 1.2:  # more than twice the limit
                    began = time.monotonic()
                    assert (t.to_target if int(began * 10) % 2 else t.to_client)(b"x") == b"x"
                    longest, before = max(longest, time.monotonic() - before), began
                    time.sleep(0.1)
            except (AssertionError, OSError, Closed):
                if max(longest, time.monotonic() - before) > 0.45:
                    raise Disturbed from None
                raise
            assert t.client.is_closed() and ends(t.target, 20)
            assert time.monotonic() - before > 0.45
    undisturbed(move)
    entry = last(gateway, "/idle/x")
    assert (entry["status"], entry["reason"]) == (101, "TUNNEL_IDLE_TIMEOUT")


def test_other_timeouts_of_the_target_do_not_cut_tunnels(gateway, origin):
    def begin():
        began = time.monotonic()
        try:
            return Tunnel(gateway, origin, "/brief/x")
        except AssertionError:  # the 101 itself must come in time
            if time.monotonic() - began > 0.28:
                raise Disturbed from None
            raise
    with Tunnel(gateway, origin, "/hasty/x") as t, undisturbed(begin) as brief:  # idle: 200ms, total: 300ms
        time.sleep(0.7)
        assert t.to_target(b"a") == b"a" and t.to_client(b"b") == b"b"
        assert brief.to_target(b"a") == b"a" and brief.to_client(b"b") == b"b"


# --- back-pressure ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("direction", ["to a client that does not read", "to a target that does not read"])
def test_a_slow_reader_holds_the_other_side_back(gateway, origin, direction, tls):
    with Tunnel(gateway, origin, tls=tls) as t:
        sender, reader = t.target, t.client.socket
        if "target" in direction:
            sender, reader = reader, sender
        before = gateway.rss()
        sender.settimeout(0.5)
        sent, chunk = 0, os.urandom(1 << 16)
        try:
            while sent < 1 << 28:
                sent += sender.send(chunk)
        except (socket.timeout, ssl.SSLWantWriteError):
            pass
        assert sent < 1 << 26, "the kernel's buffers are full, and the gateway takes no more"
        if not SANITIZED:
            assert gateway.rss() - before < 4 << 20
        reader.settimeout(10)
        got = 0
        while got < sent - len(chunk):  # a TLS record may have been sent in part
            part = reader.recv(1 << 20)
            assert part
            got += len(part)


# --- the life of the gateway ------------------------------------------------------------------------------------------
def test_reloads_do_not_touch_tunnels_even_if_their_route_and_listener_go(origin):
    with Weir(CONFIG, origin=origin.port) as gateway, Tunnel(gateway, origin) as t, Tunnel(gateway, origin, tls=True) as tls:
        gateway.reload()
        assert t.to_target(b"a") == b"a" and tls.to_client(b"b") == b"b"
        gateway.configure("worker_threads: 1\nlisteners: {new: {address: '127.0.0.1:@new@'}}\n"
                          "routes: [{name: only, respond: {status: 200}}]")
        gateway.reload()
        for tunnel in (t, tls):
            assert tunnel.to_target(b"a") == b"a" and tunnel.to_client(b"b") == b"b"
        t.client.half_close()
        t.target.close()
        assert t.client.is_closed()
        assert gateway.wait_log(lambda entry: entry["reason"] == "TUNNEL_CLOSED")[0]["route"] == "all"


def test_a_shutdown_lets_tunnels_end_by_themselves(origin):
    with Weir(CONFIG.replace("shutdown_timeout: 2s", "shutdown_timeout: 30s"), origin=origin.port) as gateway:
        with Tunnel(gateway, origin) as t:
            gateway.process.send_signal(15)
            wait_for(lambda: "draining" in gateway.stderr(), "the drain")
            assert t.to_target(b"a") == b"a" and t.to_client(b"b") == b"b"
            t.client.half_close()
            t.target.close()
            assert t.client.is_closed()
        assert gateway.process.wait(20) == 0


def test_a_shutdown_cuts_tunnels_off_after_shutdown_timeout(origin):
    with Weir(CONFIG, origin=origin.port) as gateway:
        with Tunnel(gateway, origin) as t:
            gateway.process.send_signal(15)
            assert t.client.is_closed(20) and ends(t.target)
        assert gateway.process.wait(20) == 0
        assert gateway.access_log()[-1]["reason"] == "SHUTTING_DOWN"


def test_explain_shows_what_becomes_of_an_upgrade(gateway):
    def explain(path, *fields):
        return gateway.run("explain", f"http://a:{gateway.port('http')}{path}", "-c", str(gateway.config_path),
                           *[word for name, value in fields for word in ("-H", f"{name}: {value}")]).stdout
    assert 'the target is asked for "websocket"' in explain("/x", *HANDSHAKE)
    assert "upgrade does not list it" in explain("/off/x", *HANDSHAKE)
    assert "464 UPSTREAM_NO_UPGRADE: the targets speak HTTP/2" in explain("/h2/x", *HANDSHAKE)
    assert "426 UPGRADE_VERSION" in explain("/x", *UPGRADE)


# --- many of them -----------------------------------------------------------------------------------------------------
@pytest.mark.xdist_group("load")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("tls", [False, True])
def test_an_idle_tunnel_costs_little_memory(origin, tls):
    count = 200 if SANITIZED else 1000
    limit = (64 if tls else 24) << 10
    with Weir(CONFIG, origin=origin.port) as gateway:
        tunnel = [Tunnel(gateway, origin, tls=tls)]
        before = gateway.rss()
        tunnel += [Tunnel(gateway, origin, tls=tls) for _ in range(count)]
        for t in tunnel:
            assert t.to_target(b"x" * 3000) == b"x" * 3000 and t.to_client(b"y" * 3000) == b"y" * 3000
        each = (gateway.rss() - before) // count
        print(f"{each} bytes for an idle tunnel, tls {tls}")
        assert tunnels(gateway) == count + 1
        for t in tunnel:
            t.close()
        if not SANITIZED:
            assert each < limit, f"{each} bytes for each idle tunnel"
        wait_for(lambda: tunnels(gateway) == 0, "all closed")
