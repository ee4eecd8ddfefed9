"""WebSocket over HTTP/2 (RFC 8441) towards targets that speak HTTP/1.1: the handshake that weir makes of an extended CONNECT,
frame by frame, and node's own HTTP/2 client with real WebSocket frames."""
import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time

import pytest

from h2client import CANCEL, DATA, ENABLE_CONNECT_PROTOCOL, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, RST_STREAM, H2Client
from origin import Origin, reply
from test_websocket import PythonServer
from weir import SANITIZED, Weir, wait_for

CONFIG = """
worker_threads: 1
shutdown_timeout: 2s
listeners:
  h2c: {address: "127.0.0.1:@h2c@", protocols: [h2, http/1.1]}
  https: {address: "127.0.0.1:@https@", tls: {certificates: own}}
certificates: {own: {self_signed: [localhost]}}
target_groups:
  origin: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}, timeouts: {tunnel_idle: 30s}}
  peer: {targets: "127.0.0.1:@peer@", health_check: {enabled: false}}
routes:
  - {name: other, match: {path: "/other/*"}, upgrade: [tcp], forward: origin}
  - {name: off, match: {path: "/off/*"}, upgrade: off, forward: origin}
  - {name: idle, match: {path: "/idle/*"}, timeouts: {tunnel_idle: 400ms}, forward: origin}
  - {name: get, match: {path: "/get/*", method: GET}, forward: origin}
  - {name: fixed, match: {path: /fixed}, respond: {status: 200, body: fixed}}
  - {name: peer, match: {path: "/peer/*"}, forward: peer}
  - {name: all, forward: origin}
"""


def accept_of(key):
    return base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def shared(origin):
    with Weir(CONFIG, origin=origin.port, peer=PythonServer().port) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared, origin):
    yield shared
    origin.close_connections()
    origin.settle()


def connect_fields(path, fields=(("sec-websocket-version", "13"),), protocol="websocket"):
    return [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "http"), (":authority", "example.com"), (":path", path),
            *fields]


def switching(handle):
    """An answer that accepts the key it got, gives the socket to handle(socket, bytes that came early), and waits."""
    def answer(exchange):
        accept = accept_of(exchange.request.get("sec-websocket-key"))
        exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
                      + accept.encode() + b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n")
        early, exchange.stream.buffer = exchange.stream.buffer, b""
        exchange.is_closed = True
        handle(exchange.socket, early)
    return answer


class Tunnel:
    def __init__(self, gateway, origin, path="/ws", client=None, early=b"", fields=(("sec-websocket-version", "13"),)):
        ready, self.over = threading.Event(), threading.Event()

        def handle(sock, early):
            self.target, self.early = sock, early
            sock.settimeout(10)
            ready.set()
            self.over.wait(60)

        origin.on(path, switching(handle))
        self.client = client or H2Client(gateway.port("h2c"))
        self.stream = self.client.headers(connect_fields(path, fields), end=False)
        if early:
            self.client.data(self.stream, early)
        self.head = self.client.wait_kind(HEADERS, self.stream)
        assert self.head.fields[0] == (":status", "200") and not self.head.ends, self.head
        assert ready.wait(10)

    def to_target(self, data):
        for at in range(0, len(data), 16384):
            self.client.data(self.stream, data[at:at + 16384])
        return self.target_gets(len(data))

    def target_gets(self, count):
        got, self.early = self.early, b""
        while len(got) < count and (part := self.target.recv(65536)):
            got += part
        return got

    def to_client(self, data):
        self.target.sendall(data)
        return self.client_gets(len(data))

    def client_gets(self, count):
        got = b""
        while len(got) < count:
            got += self.client.wait_kind(DATA, self.stream).payload
        return got

    def client_sees_end(self):
        last = self.client.wait(lambda f: f.stream == self.stream and f.kind in (DATA, RST_STREAM))
        return last.kind == DATA and last.flags & END_STREAM != 0 and last.payload == b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.client.close()


def last(gateway, path, **wanted):
    return gateway.wait_log(lambda entry: entry["path"] == path and all(entry[k] == v for k, v in wanted.items()))[-1]


def test_an_extended_connect_becomes_an_upgrade_with_a_key_of_weirs_own(gateway, origin):
    with Tunnel(gateway, origin, fields=[("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat"),
                                         ("sec-websocket-key", "notused"), ("origin", "http://a")]) as t:
        assert t.client.server_settings[ENABLE_CONNECT_PROTOCOL] == 1
        sent = origin.requests[-1]
        assert sent.line == "GET /ws HTTP/1.1" and sent.get("host") == "example.com"
        assert sent.get("connection").lower() == "upgrade" and sent.get("upgrade") == "websocket"
        assert len(base64.b64decode(sent.get("sec-websocket-key"))) == 16 and sent.get("sec-websocket-version") == "13"
        assert sent.get("sec-websocket-protocol") == "chat" and sent.get("origin") == "http://a"
        assert sent.all("transfer-encoding") == sent.all("content-length") == []
        names = [name for name, _ in t.head.fields]
        assert "sec-websocket-accept" not in names and ("sec-websocket-protocol", "chat") in t.head.fields
        assert not {"connection", "upgrade", "content-length"} & set(names)
        wait_for(lambda: gateway.metric("weir_tunnels_open") == 1, "one tunnel")


def test_each_tunnel_has_another_key(gateway, origin):
    with Tunnel(gateway, origin, "/a"), Tunnel(gateway, origin, "/b", fields=()):
        keys = {request.get("sec-websocket-key") for request in origin.requests[-2:]}
        assert len(keys) == 2
        assert all(request.get("sec-websocket-version") == "13" for request in origin.requests[-2:])


@pytest.mark.parametrize("tls", [False, True])
def test_bytes_flow_both_ways_untouched(gateway, origin, tls):
    client = H2Client(gateway.port("https"), tls="localhost") if tls else None
    data = bytes(range(256)) * 200
    with Tunnel(gateway, origin, client=client) as t:
        for piece in (b"\0", data, b"GET / HTTP/1.1\r\n\r\n", data[:999]):
            assert t.to_target(piece) == piece
            assert t.to_client(piece) == piece


def test_bytes_sent_before_the_answer_are_not_lost(gateway, origin):
    with Tunnel(gateway, origin, early=b"early frames") as t:
        assert t.target_gets(12) == b"early frames"


def test_tunnels_and_requests_share_a_connection(gateway, origin):
    with Tunnel(gateway, origin) as t, Tunnel(gateway, origin, "/second", client=t.client) as second:
        assert t.client.fetch("/plain").body == b"ok"
        assert t.to_target(b"a") == b"a" and second.to_target(b"b") == b"b"
        assert second.to_client(b"c") == b"c" and t.to_client(b"d") == b"d"


def test_the_client_may_end_its_half_and_still_read(gateway, origin):
    with Tunnel(gateway, origin, "/client-ends") as t:
        t.client.data(t.stream, b"last words", end=True)
        assert t.target_gets(10) == b"last words" and t.target.recv(1) == b""
        assert t.to_client(b"x" * 200_000) == b"x" * 200_000
        t.target.shutdown(socket.SHUT_WR)
        assert t.client_sees_end()
        entry = last(gateway, "/client-ends", error="the client ended first")
        assert (entry["status"], entry["reason"], entry["protocol"]) == (101, "TUNNEL_CLOSED", "HTTP/2.0")
        t.client.ping()


def test_the_target_may_end_its_half_and_still_read(gateway, origin):
    with Tunnel(gateway, origin, "/target-ends") as t:
        t.target.sendall(b"last words")
        t.target.shutdown(socket.SHUT_WR)
        assert t.client_gets(10) == b"last words" and t.client_sees_end()
        assert t.to_target(b"x" * 40_000) == b"x" * 40_000
        t.client.data(t.stream, b"bye", end=True)
        assert t.target_gets(3) == b"bye" and t.target.recv(1) == b""
        assert last(gateway, "/target-ends", error="the target ended first")["reason"] == "TUNNEL_CLOSED"
        t.client.ping()


def test_what_the_client_said_last_reaches_a_slow_target_after_the_stream_is_closed(gateway, origin):
    """Both have ended, but the target has not read yet: more is on its way than sockets hold."""
    with Tunnel(gateway, origin, "/slow-end") as t:
        t.target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        t.target.shutdown(socket.SHUT_WR)
        assert t.client_sees_end()
        data = os.urandom(60_000)
        for at in range(0, len(data), 16384):
            t.client.data(t.stream, data[at:at + 16384], end=at + 16384 >= len(data))
        t.client.ping()
        assert t.target_gets(len(data)) == data and t.target.recv(1) == b""
        assert last(gateway, "/slow-end")["reason"] == "TUNNEL_CLOSED"


def test_a_reset_of_the_stream_ends_the_tunnel_at_the_target(gateway, origin):
    with Tunnel(gateway, origin, "/reset") as t:
        t.client.reset(t.stream)
        try:
            assert t.target.recv(1) == b""
        except ConnectionError:
            pass
        assert last(gateway, "/reset", reason="CLIENT_CLOSED")["status"] == 101


def test_a_target_that_resets_resets_the_stream(gateway, origin):
    with Tunnel(gateway, origin, "/target-resets") as t:
        t.target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        t.target.close()
        assert t.client.wait_kind(RST_STREAM, t.stream).code == CANCEL  # RFC 8441 5
        assert last(gateway, "/target-resets", reason="UPSTREAM_RESET")["status"] == 101
        t.client.ping()


def test_an_idle_tunnel_is_closed_and_the_connection_lives(gateway, origin):
    with Tunnel(gateway, origin, "/idle/x") as t:
        assert t.client.wait_kind(RST_STREAM, t.stream).code == CANCEL
        assert last(gateway, "/idle/x")["reason"] == "TUNNEL_IDLE_TIMEOUT"
        assert t.client.fetch("/plain").body == b"ok"


def test_a_client_that_opens_no_window_holds_the_target_back(gateway, origin):
    with Tunnel(gateway, origin, client=H2Client(gateway.port("h2c"), opens_windows=False)) as t:
        before = gateway.rss()
        t.target.settimeout(0.5)
        sent = 0
        try:
            while sent < 1 << 28:
                sent += t.target.send(b"x" * 65536)
        except socket.timeout:
            pass
        assert sent < 1 << 26
        if not SANITIZED:
            assert gateway.rss() - before < 4 << 20


def test_a_tunnel_whose_client_opens_no_window_lasts_until_its_idle_timeout(origin):
    """send_timeout is for responses; over HTTP/1.1 a tunnel has no such limit either."""
    text = CONFIG.replace("shutdown_timeout: 2s", "shutdown_timeout: 2s\nlimits: {send_timeout: 200ms}").replace(
        "tunnel_idle: 400ms", "tunnel_idle: 4s")
    with Weir(text, origin=origin.port, peer=1) as gateway:
        client = H2Client(gateway.port("h2c"), settings={INITIAL_WINDOW_SIZE: 4}, opens_windows=False)
        with Tunnel(gateway, origin, "/idle/shut", client=client) as t:
            began = time.monotonic()
            t.target.sendall(b"held back")
            assert t.client_gets(4) == b"held"
            assert t.client.wait_kind(RST_STREAM, t.stream).code == CANCEL
            assert time.monotonic() - began > 3
            assert last(gateway, "/idle/shut")["reason"] == "TUNNEL_IDLE_TIMEOUT"
    origin.close_connections()
    origin.settle()


def test_a_route_for_get_takes_the_extended_connect(gateway, origin):
    with Tunnel(gateway, origin, "/get/x"):
        pass
    entry = last(gateway, "/get/x")
    assert (entry["route"], entry["method"]) == ("get", "GET")


@pytest.mark.parametrize("path, protocol, fields, status, reason", [
    ("/fixed", "websocket", (), 501, "UPGRADE_REFUSED"),
    ("/off/x", "websocket", (), 501, "UPGRADE_REFUSED"),
    ("/x", "connect-udp", (), 501, "UPGRADE_REFUSED"),
    ("/other/x", "tcp", (), 501, "UPGRADE_REFUSED"),
    ("/x", "websocket", (("sec-websocket-version", "8"),), 426, "UPGRADE_VERSION"),
])
def test_what_cannot_be_carried_is_refused_and_never_answered_2xx(gateway, origin, path, protocol, fields, status, reason):
    with H2Client(gateway.port("h2c")) as client:
        stream = client.headers(connect_fields(path, fields, protocol), end=False)
        assert client.answer(stream).status == status
        assert last(gateway, path, reason=reason)["status"] == status
        client.ping()
    assert not origin.requests


@pytest.mark.parametrize("answer, status", [(reply(b"no", "403 Forbidden"), 403), (reply(b"fine"), 502),
                                            (b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                                             b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", 502)])
def test_a_target_that_does_not_switch_is_no_tunnel(gateway, origin, answer, status):
    """To a client of HTTP/2 any 2xx would be an agreement."""
    origin.on("/ws", answer)
    with H2Client(gateway.port("h2c")) as client:
        stream = client.headers(connect_fields("/ws"), end=False)
        client.data(stream, b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.answer(stream).status == status
        client.ping()
    assert [request.target for request in origin.requests] == ["/ws"] and origin.garbage == []


def test_reloads_do_not_touch_tunnels_and_a_shutdown_ends_them_in_time(origin):
    text = CONFIG.replace("shutdown_timeout: 2s", "shutdown_timeout: 6s")
    with Weir(text, origin=origin.port, peer=1) as gateway, Tunnel(gateway, origin) as t:
        gateway.reload()
        assert t.to_target(b"a") == b"a" and t.to_client(b"b") == b"b"
        gateway.process.send_signal(15)
        t.client.goaway()
        assert t.to_target(b"a") == b"a" and t.to_client(b"b") == b"b"
        assert gateway.process.wait(20) == 0
        assert gateway.access_log()[-1]["reason"] == "SHUTTING_DOWN"


NODE_SCRIPT = """
const http2 = require('http2'), crypto = require('crypto');
const client = http2.connect(process.argv[1], {rejectUnauthorized: false});
client.on('remoteSettings', settings => {
    if (!settings.enableConnectProtocol) throw new Error('extended CONNECT is not offered');
    const stream = client.request({':method': 'CONNECT', ':protocol': 'websocket', ':path': '/peer/', 'sec-websocket-version': '13'});
    let status, inbox = Buffer.alloc(0);
    const text = 'x'.repeat(70000);
    const frame = (opcode, payload) => {   // masked, as a client's are
        const mask = crypto.randomBytes(4), head = payload.length < 126 ? Buffer.from([0x80 | opcode, 0x80 | payload.length])
            : Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | 127]), Buffer.from([0, 0, 0, 0, 0, payload.length >> 16,
                             payload.length >> 8 & 255, payload.length & 255])]);
        return Buffer.concat([head, mask, payload.map((byte, i) => byte ^ mask[i % 4])]);
    };
    stream.on('response', headers => {
        status = headers[':status'];
        stream.write(frame(1, Buffer.from(text)));
        stream.write(frame(9, Buffer.from('ping')));
    });
    let closes = false;
    stream.on('data', data => {
        inbox = Buffer.concat([inbox, data]);
        if (inbox.length >= 10 + text.length + 6 && !closes) {
            closes = true;
            stream.write(frame(8, Buffer.from([0x0f, 0xa1, 0x21])));   // close 4001 "!"
        }
    });
    stream.on('end', () => {
        const pong = inbox.indexOf(Buffer.from([0x8a, 4, 0x70, 0x69, 0x6e, 0x67])) !== -1;
        const echo = inbox.indexOf(Buffer.concat([Buffer.from([0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]), Buffer.from(text)])) !== -1;
        const close = inbox.subarray(-5).equals(Buffer.from([0x88, 3, 0x0f, 0xa1, 0x21]));
        console.log(JSON.stringify({status, pong, echo, close}));
        stream.end();
        client.close();
    });
});
"""


@pytest.mark.parametrize("tls", [False, True])
def test_a_client_of_node_talks_websocket_over_http_2_with_a_server_of_python(gateway, tls):
    if not shutil.which("node"):
        pytest.skip("node is missing")
    url = f"https://localhost:{gateway.port('https')}" if tls else f"http://127.0.0.1:{gateway.port('h2c')}"
    done = subprocess.run(["node", "-e", NODE_SCRIPT, url], capture_output=True, text=True, timeout=50)
    assert done.stdout, done.stderr
    assert json.loads(done.stdout) == {"status": 200, "pong": True, "echo": True, "close": True}
    wait_for(lambda: gateway.metric("weir_tunnels_open") == 0, "the tunnel to end")
