"""How long weir waits for a target: every timeout, of a group and of a route, each with its own reason code. For each
there are three routes: the group's is short; the route's is, and the group's long; the other way round."""
import socket
import threading

import pytest

from client import Client, Closed
from origin import OK, Origin, reply
from origin_h2 import H2Origin
from weir import Weir

SHORT, LONG = "300ms", "60s"
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
          b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
HANDSHAKE = [("Connection", "upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
             ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]
# name: setting, how the group is spoken to, port of its target, status at the client (200: cut off behind it), reason
KINDS = {
    "connect": ("connect", "protocol: http", "full", 504, "CONNECT_TIMEOUT"),
    "connect_h2": ("connect", "protocol: h2c", "full", 504, "CONNECT_TIMEOUT"),
    "tls": ("tls_handshake", "protocol: https", "mute", 504, "UPSTREAM_TLS_TIMEOUT"),
    "tls_h2": ("tls_handshake", "protocol: h2", "mute", 504, "UPSTREAM_TLS_TIMEOUT"),
    "first_byte": ("first_byte", "protocol: http", "origin", 504, "FIRST_BYTE_TIMEOUT"),
    "first_byte_h2": ("first_byte", "protocol: h2c", "h2", 504, "FIRST_BYTE_TIMEOUT"),
    "idle": ("idle", "protocol: http", "origin", 200, "UPSTREAM_IDLE_TIMEOUT"),
    "idle_stream": ("idle", "protocol: h2c", "h2", 200, "UPSTREAM_IDLE_TIMEOUT"),
    "total": ("total", "protocol: http", "origin", 504, "TOTAL_TIMEOUT"),
    "total_h2": ("total", "protocol: h2c", "h2", 504, "TOTAL_TIMEOUT"),
    "total_body": ("total", "protocol: http", "origin", 200, "TOTAL_TIMEOUT"),
    "tunnel": ("tunnel_idle", "protocol: http", "origin", 101, "TUNNEL_IDLE_TIMEOUT"),
}


def group(name, kind, value):
    setting, protocol, port = KINDS[kind][:3]
    connect = "" if setting == "connect" else "connect: 30s, "  # with HTTP/2 that includes the target's SETTINGS
    tls = ", tls: {insecure: true}" if protocol in ("protocol: https", "protocol: h2") else ""
    return (f'  {kind}_{name}: {{{protocol}{tls}, targets: ["127.0.0.1:@{port}@"], health_check: {{enabled: false}}, '
            f'retry: 0, timeouts: {{{connect}{setting}: {value}}}}}\n')


def route(name, kind, group_name, value):
    timeouts = f", timeouts: {{{KINDS[kind][0]}: {value}}}" if value else ""
    return f'  - {{name: {kind}_{name}, match: {{path: /{kind}/{name}}}, forward: {kind}_{group_name}{timeouts}}}\n'


CONFIG = ('worker_threads: 1\nlisteners: {http: {address: "127.0.0.1:@http@"}}\ntarget_groups:\n'
          + "".join(group("quick", kind, SHORT) + group("patient", kind, LONG) for kind in KINDS) + "routes:\n"
          + "".join(route("group", kind, "quick", None) + route("route", kind, "patient", SHORT)
                    + route("longer", kind, "quick", LONG) for kind in KINDS))


@pytest.fixture(scope="module")
def full():
    """A port whose accept queue is full: the kernel drops further SYNs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


@pytest.fixture(scope="module")
def mute():
    """A port where connections come about and nobody says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def over():
    """Set at the end, for answers that wait."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(scope="module")
def gateway(full, mute, over):
    with Origin() as origin, H2Origin() as h2:
        for name in ("group", "route", "longer"):
            for kind in ("first_byte", "total"):
                origin.on(f"/{kind}/{name}", lambda exchange: exchange.wait_peer_closed())
                h2.on(f"/{kind}_h2/{name}", lambda exchange: over.wait(60))
            for kind in ("idle", "total_body"):
                origin.on(f"/{kind}/{name}", lambda exchange: (
                    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), exchange.wait_peer_closed()))
            h2.on(f"/idle_stream/{name}", lambda exchange: (exchange.head(200), exchange.data(b"half"), over.wait(60)))
            origin.on(f"/tunnel/{name}", lambda exchange: (exchange.send(SWITCH), exchange.wait_peer_closed()))
        with Weir(CONFIG, full=full, mute=mute, origin=origin.port, h2=h2.port) as running:
            yield running
            over.set()


def ask(gateway, kind, name, timeout=30):
    client = Client(gateway.port("http"), timeout=timeout)
    client.request("GET", f"/{kind}/{name}", HANDSHAKE if kind == "tunnel" else ())
    return client


@pytest.mark.parametrize("where", ["group", "route"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_timeout_of_a_group_or_route_ends_the_request_with_its_reason(gateway, kind, where):
    status, reason = KINDS[kind][3:]
    for time in range(1, 20):
        with ask(gateway, kind, where) as client:
            if status == 504:
                seen = client.response().status
            else:
                seen = client.head().status
                if seen == status:
                    with pytest.raises(Closed):
                        while True:
                            client.exactly(1)
        entry = gateway.wait_log(lambda entry: entry["path"] == f"/{kind}/{where}", time)[-1]
        assert (entry["reason"], entry["status"]) == (reason, seen)
        assert 290 <= entry["duration_ms"] < 20000
        if seen == status:
            return
        assert kind == "total_body" and seen == 504  # the target was not quick enough with its head: once more
    raise AssertionError("no response has begun in time")


@pytest.mark.parametrize("kind", KINDS)
def test_a_longer_timeout_of_the_route_stands_above_the_group_s(gateway, kind):
    with ask(gateway, kind, "longer") as client:
        if KINDS[kind][3] != 504:
            head = client.head()
            assert head.status == KINDS[kind][3]
        client.socket.settimeout(1)  # three times the group's
        with pytest.raises(socket.timeout):
            while True:
                client.exactly(1)
        client.reset()
    entry = gateway.wait_log(lambda entry: entry["path"] == f"/{kind}/longer")[0]
    assert entry["reason"] == "CLIENT_CLOSED"


def test_explain_shows_which_timeouts_hold(gateway):
    def explained(path):
        return gateway.run("explain", f"http://x:{gateway.port('http')}{path}", "-c", str(gateway.config_path)).stdout
    assert "TLS handshake 300ms, first byte 30s" in explained("/tls/group")
    assert "TLS handshake 300ms (the route's)" in explained("/tls/route")
    assert "connect 60s (the route's), first byte 30s, between bytes 60s, total unlimited" in explained("/connect/longer")
