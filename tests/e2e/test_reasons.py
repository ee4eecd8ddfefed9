"""Every reason code, brought about from outside. A code that `weir reason` lists and this table does not fails the test:
whoever adds one says here how it comes about."""
import contextlib
import os
import re
import resource
import socket
import subprocess
import threading
import time

import pytest

from client import Client, Closed
from h2client import PROTOCOL_ERROR, SETTINGS_TIMEOUT, H2Client
from origin import OK, Origin
from origin_h2 import H2Origin
from stream_peer import StreamPeer, client_hello
from udp_peer import UdpPeer, ask, dial_udp
from test_http2_attacks import FLOODS, attack, malformed
from weir import BINARY, Weir, wait_for

TEXT = """
worker_threads: 1
limits: {url: 8KiB, header_timeout: 60s, body_timeout: 60s, send_timeout: 60s, max_body: 1MB}
listeners:
  http: {address: "127.0.0.1:@http@"}
  bytes: {address: "127.0.0.1:@bytes@", protocol: tcp, forward: bytes, idle_timeout: 60s, max_connections: 4}
  flows: {address: "127.0.0.1:@flows@", protocol: udp, forward: flows, idle_timeout: 60s}
  answers: {address: "127.0.0.1:@answers@", protocol: udp, forward: flows, udp: {responses: 1}}
  two_flows: {address: "127.0.0.1:@two_flows@", protocol: udp, forward: flows, idle_timeout: 60s, udp: {flows: 2}}
  two_each: {address: "127.0.0.1:@two_each@", protocol: udp, forward: flows, idle_timeout: 60s, udp: {flows_per_ip: 2}}
  names: {address: "127.0.0.1:@names@", protocol: tls_passthrough, sni: [{host: a.example, forward: bytes}]}
  h2c: {address: "127.0.0.1:@h2c@", protocols: h2}
  https: {address: "127.0.0.1:@https@", tls: {certificates: [self]}}
certificates: {self: {self_signed: [localhost]}}
target_groups:
  untrusted: {protocol: https, targets: ["127.0.0.1:@https@"], health_check: {enabled: false}}
  no_tls: {protocol: https, targets: ["127.0.0.1:@http@"], health_check: {enabled: false}}
  no_http2: {protocol: h2c, targets: ["127.0.0.1:@http@"], health_check: {enabled: false}}
  calls: {protocol: grpc, targets: ["127.0.0.1:@calls@"], health_check: {enabled: false}}
  refusing: {protocol: h2c, targets: ["127.0.0.1:@refusing@"], health_check: {enabled: false}}
  mute:
    protocol: https
    targets: ["127.0.0.1:@origin@"]
    tls: {handshake_timeout: 500ms}
    health_check: {enabled: false}
  origin:
    targets: ["127.0.0.1:@origin@"]
    health_check: {enabled: false}
    timeouts: {connect: 60s, first_byte: 60s, idle: 60s, tunnel_idle: 60s}
  patient: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
  full: {targets: ["127.0.0.1:@full@"], health_check: {enabled: false}, timeouts: {connect: 300ms}}
  nobody: {targets: ["127.0.0.1:@nobody@"], health_check: {enabled: false}}
  empty: {targets: []}
  circuit: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}, circuit_breaker: 1}
  few_connections: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}, circuit_breaker: {connections: 1}}
  few_pending: {targets: ["127.0.0.1:@full@"], health_check: {enabled: false}, timeouts: {connect: 60s}, circuit_breaker: {pending: 1}}
  function: {lambda: hello, targets: ["127.0.0.1:@origin@"]}
  lost_function: {lambda: hello, targets: ["127.0.0.1:@nobody@"]}
  full_function: {lambda: hello, targets: ["127.0.0.1:@full@"], timeouts: {connect: 300ms}}
  adaptive: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}, adaptive_concurrency: {min: 1, max: 1}}
  limited: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}, target_limits: 1}
  queued:
    targets: ["127.0.0.1:@origin@"]
    health_check: {enabled: false}
    target_limits: {requests: 1, queue: 1, queue_timeout: 60s}
  leaving: {targets: [{file: leaving.yaml}], deregistration_delay: 100ms, health_check: {enabled: false}}
  bytes: {protocol: tcp, targets: ["127.0.0.1:@echo@"], health_check: {enabled: false}}
  flows: {protocol: udp, targets: ["127.0.0.1:@datagrams@"]}
shutdown_timeout: 200ms
routes:
  - {name: fixed, match: {path: /fixed}, respond: {status: 200, body: fixed}}
  - {name: redirect, match: {path: "/redirect*"}, redirect: {path: "/#{path}#{path}", status: 301}}
  - {name: site, match: {path: "/site/*"}, files: {root: site, strip_prefix: /site}}
  - {name: echo, match: {path: /echo}, echo: true}
  - {name: function, match: {path: /function}, max_body: 2MB, forward: function}
  - {name: lost_function, match: {path: /lost_function}, forward: lost_function}
  - {name: full_function, match: {path: /full_function}, forward: full_function}
  - {name: fault, match: {path: /fault}, fault: {abort: 418}, echo: true}
  - {name: broken_rewrite, match: {path: "/rewrite/*"}, rewrite: {path: "^/rewrite/(.*)$", to: "/%$1"}, forward: origin}
  - {name: empty, match: {path: /empty}, forward: empty}
  - {name: nobody, match: {path: /nobody}, forward: nobody}
  - {name: untrusted, match: {path: /untrusted}, forward: untrusted}
  - {name: no_tls, match: {path: /no_tls}, forward: no_tls}
  - {name: no_http2, match: {path: /no_http2}, forward: no_http2}
  - {name: calls, match: {path: /calls}, forward: calls}
  - {name: refusing, match: {path: /refusing}, forward: refusing}
  - {name: mute, match: {path: /mute}, forward: mute}
  - {name: full, match: {path: /full}, forward: full}
  - {name: circuit, match: {path: /circuit}, forward: circuit}
  - {name: few_connections, match: {path: /few_connections}, forward: few_connections}
  - {name: few_pending, match: {path: /few_pending}, forward: few_pending}
  - {name: adaptive, match: {path: /adaptive}, forward: adaptive}
  - {name: limited, match: {path: "/limited*"}, forward: limited}
  - {name: queued, match: {path: "/queued*"}, forward: queued}
  - {name: hurried, match: {path: /hurried}, forward: patient, timeouts: {total: 300ms}}
  - {name: patient, match: {path: "/patient/*"}, forward: patient}
  - {name: leaving, match: {path: /leaving}, forward: leaving}
  - {name: forward, match: {path: "/o/*"}, forward: origin}
"""
# What only one of the reasons needs: times that are too short for all others. Those named here have a gateway of their own.
ALONE = {
    "HEADER_TIMEOUT": ("header_timeout: 60s", "header_timeout: 1s"),
    "CLIENT_HELLO_TIMEOUT": ("header_timeout: 60s", "header_timeout: 1s"),
    "BODY_TIMEOUT": ("body_timeout: 60s", "body_timeout: 1s"),
    "SEND_TIMEOUT": ("send_timeout: 60s", "send_timeout: 1s"),
    "FIRST_BYTE_TIMEOUT": ("first_byte: 60s", "first_byte: 1s"),
    "UPSTREAM_IDLE_TIMEOUT": (" idle: 60s", " idle: 1s"),
    "TUNNEL_IDLE_TIMEOUT": ("tunnel_idle: 60s", "tunnel_idle: 1s"),
    "TARGET_QUEUE_TIMEOUT": ("queue_timeout: 60s", "queue_timeout: 1s"),
    "CONNECTION_IDLE": ("forward: bytes, idle_timeout: 60s", "forward: bytes, idle_timeout: 300ms"),
    "FLOW_IDLE": ("forward: flows, idle_timeout: 60s}", "forward: flows, idle_timeout: 300ms}"),
    # no flows but their own
    "FLOW_EVICTED": ("", ""),
    "FLOWS_FULL": ("", ""),
    "FLOWS_PER_ADDRESS": ("", ""),
    "SHUTTING_DOWN": ("", ""),
}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun"


def listed():
    """{code: (status or None, cause)} from `weir reason`, which has the remedy in a line below."""
    text = subprocess.run([BINARY, "reason"], capture_output=True, text=True, timeout=120, check=True).stdout
    found = {}
    for line, remedy in zip(text.splitlines()[1::2], text.splitlines()[2::2], strict=True):
        code, status, cause = re.fullmatch(r"(\S+) +(\d+|-) +(\S.*)", line).groups()
        assert re.fullmatch(r" {40,}\S.*\.", remedy), f"{code} has no remedy"
        found[code] = (None if status == "-" else int(status), cause)
    return found


BEGUN = object()  # waits until the client has the head


class Case:
    """What a trigger has at hand."""

    def __init__(self, gateway, origin):
        self.gateway, self.origin = gateway, origin
        self.client = None
        self.has_begun = threading.Event()  # the client has the head of the answer

    def connect(self, name="http", **options):
        self.client = Client(self.gateway.port(name), **options)
        self.port = self.client.socket.getsockname()[1]
        return self.client

    def send(self, data):
        """Bytes as they are, then one answer."""
        return self.connect().send(data).response()

    def ask(self, path, method="GET", headers=(), body=None):
        client = self.connect()
        client.request(method, path, headers, body)
        return client.response(method)

    def until_cut_off(self, path):
        client = self.connect()
        client.request("GET", path)
        client.head()
        self.has_begun.set()
        with pytest.raises((Closed, ConnectionError)):
            while True:
                client.exactly(1)

    def origin_says(self, path, *steps):
        """steps: bytes to send, functions of the exchange, or BEGUN; then the connection closes."""
        def answer(exchange):
            for step in steps:
                if step is BEGUN:
                    self.has_begun.wait(60)
                elif callable(step):
                    step(exchange)
                else:
                    exchange.send(step)
            exchange.close()
        self.origin.on(path, answer)


def raw(head):
    return lambda case: case.send(head)


PSEUDO = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/fixed")]


def raw_h2(fields, status=None):
    """A request over HTTP/2; a malformed one's stream is reset."""
    def trigger(case):
        case.client = H2Client(case.gateway.port("h2c"))
        case.port = case.client.socket.getsockname()[1]
        answer = case.client.answer(case.client.headers(fields))
        assert (answer.status, answer.reset) == (status, None if status else PROTOCOL_ERROR)
    return trigger


def flood(data_of):
    def trigger(case):
        case.client = H2Client(case.gateway.port("h2c"))
        case.port = case.client.socket.getsockname()[1]
        attack(case.client, data_of(case.client))
    return trigger


def never_acknowledges(case):
    case.client = H2Client(case.gateway.port("h2c"), acknowledges=False)
    case.port = case.client.socket.getsockname()[1]
    assert case.client.goaway(timeout=40).code == SETTINGS_TIMEOUT


def flood_triggers():
    triggers = {reason: (data_of,) for reason, data_of in FLOODS.values()}
    triggers["TOO_MANY_STREAM_ERRORS"] = (lambda client: malformed(client, 500),)  # no other request is under way
    return triggers


def with_fields(*fields, line="GET /fixed HTTP/1.1"):
    return raw("".join(f"{field}\r\n" for field in (line, "Host: a", *fields, "")).encode())


def hold(exchange):
    """Until the gateway gives up."""
    exchange.wait_peer_closed(60)


def file_that_is_none(case):
    path = case.gateway.folder / "site" / "fifo"
    os.mkfifo(path)
    case.ask("/site/fifo")
    path.unlink()


def broken_by_origin(path, *steps):
    def trigger(case):
        case.origin_says(path, *steps)
        case.ask(path)
    return trigger


def cut_off_by_origin(path, *steps):
    def trigger(case):
        case.origin_says(path, *steps)
        case.until_cut_off(path)
    return trigger


@contextlib.contextmanager
def full_backlog(case):
    """The accept queue is full, so that the kernel drops further SYNs."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", case.gateway.port("full")))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(2)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield
        for filler in fillers:
            filler.close()


def connect_that_hangs(case, path="/full"):
    with full_backlog(case):
        case.ask(path)


class Occupied:
    """A request that holds the only place at the target until the block is left."""

    def __init__(self, case, path):
        self.case, self.path, self.let_go = case, path, threading.Event()

    def __enter__(self):
        def answer(exchange):
            self.let_go.wait(60)
            exchange.send(OK)
        self.case.origin.on(self.path, answer)
        self.client = Client(self.case.gateway.port("http"))
        self.client.request("GET", self.path)
        wait_for(lambda: any(request.target == self.path for request in self.case.origin.requests), "the request at the origin")
        return self

    def __exit__(self, *_):
        self.let_go.set()
        assert self.client.response().status == 200
        self.client.close()


def full_targets(case):
    with Occupied(case, "/limited/busy"):
        return case.ask("/limited")


def full_queue(case):
    with Occupied(case, "/queued/busy"):
        waiting = Client(case.gateway.port("http"))
        waiting.request("GET", "/queued/waits")
        wait_for(lambda: case.gateway.metric("weir_target_queue_requests") == 1, "the request in the queue")
        response = case.ask("/queued")
    assert waiting.response().status == 200
    waiting.close()
    return response


def long_queue(case):
    with Occupied(case, "/queued/slow"):
        return case.ask("/queued")


def too_many_connect(case):
    with full_backlog(case), Client(case.gateway.port("http")) as first:
        first.request("GET", "/few_pending")
        wait_for(lambda: case.gateway.metric("weir_target_group_pending_requests", target_group="few_pending") == 1,
                 "the first one connecting")
        case.ask("/few_pending")


def refused_by_target(case):
    with H2Origin(lambda exchange: exchange.reset(7), port=case.gateway.port("refusing")):
        return case.ask("/refusing")


def deadline_passes(case):
    """Without the content type of gRPC the answer is one of HTTP."""
    with H2Origin(lambda exchange: None, port=case.gateway.port("calls")):
        case.client = H2Client(case.gateway.port("h2c"))
        case.port = case.client.socket.getsockname()[1]
        return case.client.fetch("/calls", "POST", [("grpc-timeout", "100m")])


def client_leaves(case):
    case.origin_says("/patient/leaves", hold)
    case.connect().request("GET", "/patient/leaves")
    wait_for(lambda: any(request.target == "/patient/leaves" for request in case.origin.requests), "the request at the origin")
    case.client.reset()


def client_does_not_read(case):
    def answer(exchange):
        try:
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 50_000_000)
        except OSError:
            pass
        exchange.close()
    case.origin.on("/patient/big", answer)
    case.connect(receive_buffer=4096).request("GET", "/patient/big")


def idle_target(case):
    """Its head is here, its body stops."""
    case.origin_says("/o/idle", HEAD, hold)
    case.until_cut_off("/o/idle")


def no_descriptors(case):
    """The worker may open no file any more, which is what a host that is out of descriptors looks like."""
    client = case.connect()
    client.request("GET", "/fixed")
    client.response()
    worker = case.gateway.pids()[-1]
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        client.request("GET", "/site/index.html")
        assert client.response().status == 500
    finally:
        resource.prlimit(worker, resource.RLIMIT_NOFILE, before)


def second_of_two(path):
    """The first one is still under way."""
    def trigger(case):
        gate = threading.Event()
        case.origin.on(path, lambda exchange: (gate.wait(60), exchange.send(OK)))
        with Client(case.gateway.port("http")) as first:
            first.request("GET", path)
            wait_for(lambda: any(request.target == path for request in case.origin.requests), "the request at the origin")
            case.ask(path)
            gate.set()
            first.response()
    return trigger


def too_much_memory(case):
    case.gateway.configure(TEXT + "overload: {memory: 1MiB}\n")
    case.gateway.reload()
    wait_for(lambda: case.gateway.metric("weir_overload_pressure") > 2, "pressure")
    case.ask("/fixed")
    case.gateway.configure(TEXT)
    case.gateway.reload()
    wait_for(lambda: case.gateway.metric("weir_overload_pressure") < 1, "calm")


def too_little_for_functions(case):
    case.gateway.configure(TEXT.replace("limits: {", "limits: {lambda_buffers: 1KiB, ", 1))
    case.gateway.reload()
    try:
        return case.ask("/function", "POST", body=b"x" * 2000)
    finally:
        case.gateway.configure(TEXT)
        case.gateway.reload()


def raw_bytes(data):
    """On the listener that looks for a ClientHello."""
    def trigger(case):
        case.connect(name="names").send(data)
    return trigger


def full_listener(case):
    holders = [Client(case.gateway.port("bytes")) for _ in range(4)]
    try:
        wait_for(lambda: case.gateway.metric("weir_l4_connections_open", listener="bytes") == 4, "four connections")
        try:
            case.connect(name="bytes")
        except ConnectionResetError:
            case.port = None  # before it had one
    finally:
        for holder in holders:
            holder.close()


def raw_connection(case):
    """Nothing is sent."""
    assert case.connect(name="bytes").is_closed()


def client_resets(case):
    case.connect(name="bytes").send(b"x").exactly(1)
    case.client.reset()


def deregistered(case):
    """The file of targets names the origin, then nobody, while it is asked."""
    targets = case.gateway.folder / "leaving.yaml"
    case.origin_says("/leaving", hold)
    targets.write_text(f"['127.0.0.1:{case.origin.port}']")
    wait_for(lambda: case.gateway.metric("weir_target_group_targets", target_group="leaving") == 1, "the target in the group")
    case.connect().request("GET", "/leaving")
    wait_for(lambda: any(request.target == "/leaving" for request in case.origin.requests), "the request at the origin")
    targets.write_text("[]")
    return case.client.response()


def flow(listener, datagrams=1, before=0, before_datagrams=1):
    """The last of several clients is the one whose line is looked for."""
    def trigger(case):
        clients = [dial_udp(case.gateway.port(listener)) for _ in range(before + 1)]
        for client in clients[:before]:
            for _ in range(before_datagrams):
                ask(client, b"x")
        case.port = clients[0 if datagrams == 0 else -1].getsockname()[1]
        clients[-1].send(b"x")
        for client in clients:
            client.close()
    return trigger


def shutdown(case):
    case.origin_says("/patient/shutdown", hold)
    case.connect().request("GET", "/patient/shutdown")
    wait_for(lambda: any(request.target == "/patient/shutdown" for request in case.origin.requests), "the request at the origin")
    assert case.gateway.terminate() == 0


UPGRADE = ["Connection: upgrade", "Upgrade: websocket"]
HANDSHAKE = [*UPGRADE, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
          b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")


def tunnel(path, *steps):
    """A WebSocket handshake with an origin that says SWITCH and does the steps; reads until the end."""
    def trigger(case):
        case.origin_says(path, SWITCH, *steps)
        client = case.connect()
        client.send("".join(f"{line}\r\n" for line in (f"GET {path} HTTP/1.1", "Host: a", *HANDSHAKE, "")).encode())
        assert client.response().status == 101
        if not steps:
            client.half_close()
        assert client.is_closed()
    return trigger


def function_says(status, body=b"{}", fields=""):
    """The Invoke endpoint of a function answers so."""
    answer = f"HTTP/1.1 {status} X\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def trigger(case):
        case.origin_says("/2015-03-31/functions/hello/invocations", answer)
        return case.ask("/function")
    return trigger


TRIGGERS = {
    "BAD_SYNTAX": raw(b"GET /fixed\r\nHost: a\r\n\r\n"),
    "BAD_METHOD": raw(b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "BAD_TARGET": raw(b'GET /a"b HTTP/1.1\r\nHost: a\r\n\r\n'),
    "BAD_VERSION": raw(b"GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
    "BAD_LINE_END": raw(b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "FOLDED_FIELD": raw(b"GET / HTTP/1.1\r\nHost: a\r\nx: y\r\n z\r\n\r\n"),
    "BAD_FIELD": with_fields("a b: c"),
    "UPGRADE_REFUSED": raw_h2([(":method", "CONNECT"), (":protocol", "connect-udp"), (":scheme", "http"), (":authority", "a"),
                               (":path", "/o/ws")], 501),
    "BAD_PSEUDO_HEADER": raw_h2([(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
    "CONNECTION_FIELD": raw_h2([*PSEUDO, ("connection", "close")]),
    **{reason: flood(*found) for reason, found in flood_triggers().items()},
    "MISSING_HOST": raw(b"GET / HTTP/1.1\r\n\r\n"),
    "BAD_HOST": with_fields("Host: b"),
    "BAD_LENGTH": with_fields("Content-Length: five"),
    "BAD_TRANSFER_ENCODING": raw(b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "UNSUPPORTED_TRANSFER_ENCODING": with_fields("Transfer-Encoding: gzip, chunked"),
    "DESYNC": with_fields("Content-Length: 0", "Content_Length: 1", line="POST /fixed HTTP/1.1"),
    "HEAD_TOO_LARGE": with_fields(*[f"x-{i}: y" for i in range(120)]),
    "URL_TOO_LONG": lambda case: case.ask("/" + "a" * 8200),
    "EXPECTATION_FAILED": with_fields("Expect: miracles"),
    "METHOD_NOT_ALLOWED": lambda case: case.ask("/fixed", method="TRACE"),
    "BAD_PATH": lambda case: case.ask("/a/%00"),
    "HEADER_TIMEOUT": raw(b"GET / HTTP/1.1\r\nHost: a"),
    "BODY_TIMEOUT": with_fields("Content-Length: 10", line="POST /patient/body HTTP/1.1"),
    "BAD_CHUNK": raw(b"POST /patient/chunk HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\n"),
    "TRAILERS_TOO_LARGE": raw(b"POST /patient/trailers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
                              + b"x: y\r\n" * 101),
    "BODY_TOO_LARGE": with_fields("Content-Length: 1000001", line="POST /patient/large HTTP/1.1"),
    "BAD_WEBSOCKET": with_fields(*UPGRADE, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short", line="GET /o/ws HTTP/1.1"),
    "UPGRADE_VERSION": with_fields(*UPGRADE, "Sec-WebSocket-Version: 8", line="GET /o/ws HTTP/1.1"),
    "NO_ROUTE": lambda case: case.ask("/nowhere"),
    "FIXED_RESPONSE": lambda case: case.ask("/fixed"),
    "REDIRECT": lambda case: case.ask("/redirect"),
    "REDIRECT_TOO_LONG": lambda case: case.ask("/redirect" + "a" * 5000),
    "FILE_SERVED": lambda case: case.ask("/site/index.html"),
    "FILE_NOT_FOUND": lambda case: case.ask("/site/missing"),
    "FILE_FORBIDDEN": file_that_is_none,
    "PRECONDITION_FAILED": lambda case: case.ask("/site/index.html", headers=[("If-Match", '"other"')]),
    "RANGE_NOT_SATISFIABLE": lambda case: case.ask("/site/index.html", headers=[("Range", "bytes=99999-")]),
    "ECHO": lambda case: case.ask("/echo"),
    "FAULT_INJECTED": lambda case: case.ask("/fault"),
    "MAX_FORWARDS": lambda case: case.ask("/o/x", method="OPTIONS", headers=[("Max-Forwards", "0")]),
    "TOO_MANY_FORWARDED": lambda case: case.ask("/o/x", headers=[("X-Forwarded-For", ", ".join(["192.0.2.1"] * 31))]),
    "REWRITE_FAILED": lambda case: case.ask("/rewrite/zz"),
    "NO_TARGETS": lambda case: case.ask("/empty"),
    "TARGETS_BUSY": full_targets,
    "TARGET_QUEUE_FULL": full_queue,
    "TARGET_QUEUE_TIMEOUT": long_queue,
    "CONNECT_FAILED": lambda case: case.ask("/nobody"),
    "CONNECT_TIMEOUT": connect_that_hangs,
    "UPSTREAM_TLS_TIMEOUT": lambda case: case.ask("/mute"),
    "UPSTREAM_CERTIFICATE": lambda case: case.ask("/untrusted"),
    "UPSTREAM_TLS_FAILED": lambda case: case.ask("/no_tls"),
    "UPSTREAM_NOT_HTTP2": lambda case: case.ask("/no_http2"),
    "UPSTREAM_REFUSED": refused_by_target,
    "UPSTREAM_NO_UPGRADE": lambda case: case.ask("/refusing", headers=[
        ("Connection", "upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]),
    "GRPC_ONLY": lambda case: case.ask("/calls"),
    "GRPC_DEADLINE": deadline_passes,
    "UPSTREAM_CLOSED": broken_by_origin("/o/closed"),
    "FIRST_BYTE_TIMEOUT": broken_by_origin("/o/silent", hold),
    "CIRCUIT_OPEN": second_of_two("/circuit"),
    "CIRCUIT_CONNECTIONS": second_of_two("/few_connections"),
    "CIRCUIT_PENDING": too_many_connect,
    "CONCURRENCY_LIMIT": second_of_two("/adaptive"),
    "OVERLOADED": too_much_memory,
    "TOTAL_TIMEOUT": broken_by_origin("/hurried", hold),
    "UPSTREAM_BAD_RESPONSE": broken_by_origin("/o/bad", b"220 mail.example.com ESMTP\r\n", hold),
    "UPSTREAM_HEAD_TOO_LARGE": broken_by_origin("/o/huge", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70000, hold),
    "UPSTREAM_TRUNCATED": cut_off_by_origin("/o/short", HEAD, BEGUN),
    "UPSTREAM_BAD_CHUNK": cut_off_by_origin("/o/chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
                                            BEGUN, b"junk\r\n", hold),
    "UPSTREAM_TRAILERS_TOO_LARGE": cut_off_by_origin(
        "/o/trailers", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        BEGUN, b"0\r\n" + b"x: y\r\n" * 101, hold),
    "UPSTREAM_IDLE_TIMEOUT": idle_target,
    "UPSTREAM_RESET": cut_off_by_origin("/o/reset", HEAD, BEGUN, lambda exchange: exchange.reset()),
    "UPSTREAM_BAD_UPGRADE": lambda case: (case.origin_says("/o/other", SWITCH.replace(b"s3pPL", b"wrong"), hold),
                                          with_fields(*HANDSHAKE, line="GET /o/other HTTP/1.1")(case))[1],
    "TUNNEL_CLOSED": tunnel("/o/tunnel"),
    "TARGET_DEREGISTERED": deregistered,
    "TUNNEL_IDLE_TIMEOUT": tunnel("/o/still", hold),
    "CLIENT_CLOSED": client_leaves,
    "SEND_TIMEOUT": client_does_not_read,
    "SETTINGS_TIMEOUT": never_acknowledges,
    "SERVER_NAME_UNKNOWN": raw_bytes(client_hello("b.example")),
    "CLIENT_HELLO_BAD": raw_bytes(b"GET / HTTP/1.1\r\n\r\n"),
    "CLIENT_HELLO_TIMEOUT": raw_bytes(client_hello("a.example")[:-1]),
    "LISTENER_FULL": full_listener,
    "CONNECTION_IDLE": raw_connection,
    "CLIENT_RESET": client_resets,
    "FLOW_IDLE": flow("flows"),
    "FLOW_ANSWERED": flow("answers"),
    "FLOW_EVICTED": flow("two_flows", datagrams=0, before=2),
    "FLOWS_FULL": flow("two_flows", before=2, before_datagrams=2),
    "FLOWS_PER_ADDRESS": flow("two_each", before=2),
    "FLOW_IDLE": flow("flows"),
    "FLOW_ANSWERED": flow("answers"),
    "FLOW_EVICTED": flow("two_flows", datagrams=0, before=2),
    "FLOWS_FULL": flow("two_flows", before=2, before_datagrams=2),
    "FLOWS_PER_ADDRESS": flow("two_each", before=2),
    "LAMBDA_REQUEST_TOO_LARGE": lambda case: case.ask("/function", "POST", body=b"x" * ((1 << 20) + 1)),
    "LAMBDA_BAD_REQUEST": function_says(400),
    "LAMBDA_WEBSOCKET": with_fields(*HANDSHAKE, line="GET /function HTTP/1.1"),
    "LAMBDA_ACCESS_DENIED": function_says(403),
    "LAMBDA_NOT_FOUND": function_says(404),
    "LAMBDA_THROTTLED": function_says(429),
    "LAMBDA_SERVICE_ERROR": function_says(503),
    "LAMBDA_FUNCTION_ERROR": function_says(200, fields="X-Amz-Function-Error: Unhandled\r\n"),
    "LAMBDA_INVALID_RESPONSE": function_says(200),
    "LAMBDA_RESPONSE_TOO_LARGE": function_says(200, b"x" * ((1 << 20) + 1)),
    "LAMBDA_MEMORY": too_little_for_functions,
    "LAMBDA_CONNECTION_ERROR": lambda case: case.ask("/lost_function"),
    "LAMBDA_CONNECTION_TIMEOUT": lambda case: connect_that_hangs(case, "/full_function"),
    "INTERNAL_ERROR": no_descriptors,
    "SHUTTING_DOWN": shutdown,  # ends the gateway of its test
}


# Connections that are closed before there is a request to log: settings, then bytes that one connection sends and whether
# another one is open already. The metric tells.
PROXY = 'listeners: {http: {address: "127.0.0.1:@http@", proxy_protocol: {from: %s, timeout: %s}}}'
PLAIN = 'listeners: {http: {address: "127.0.0.1:@http@"}}'


def one_more(gateway):
    with Client(gateway.port("http")) as first:
        first.request("GET", "/")
        first.response()
        sends(b"")(gateway)


def several(gateway):
    """As fast as they come: the last of them before a second has passed."""
    for _ in range(20):
        with contextlib.suppress(ConnectionError):  # a reset may come while the client still connects
            Client(gateway.port("http")).close()


def sends(data):
    def connect(gateway):
        try:  # a reset may come while the client still connects
            with Client(gateway.port("http")) as client:
                client.send(data)
                assert client.is_closed(), "still open"
        except ConnectionError:
            pass
    return connect


def settled_descriptors(pid):
    """Descriptors of a process, once those of connections that have ended are closed."""
    seen = []

    def settled():
        seen.append(sorted(map(int, os.listdir(f"/proc/{pid}/fd"))))
        time.sleep(0.02)
        return len(seen) > 5 and all(one == seen[-1] for one in seen[-5:])
    wait_for(settled, "descriptors to settle")
    return set(seen[-1])


def while_no_descriptor_is_left(gateway):
    worker = gateway.worker()
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/")
        client.response()
        used = settled_descriptors(worker)
        free = next(fd for fd in range(len(used) + 1) if fd not in used)
        # what is open goes on, whoever asks next gets none
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (free, before[1]))
        try:
            with contextlib.ExitStack() as newcomers, contextlib.suppress(ConnectionError):
                # one may have got the place of something that was just closed
                while not newcomers.enter_context(Client(gateway.port("http"))).is_closed(1):
                    pass
            client.request("GET", "/")
            assert client.response().status == 200
        finally:
            resource.prlimit(worker, resource.RLIMIT_NOFILE, before)


REFUSALS = {
    "TOO_MANY_CONNECTIONS": (f"{PLAIN}\nlimits: {{max_connections: 1}}", one_more),
    "TOO_MANY_FROM_ADDRESS": (f"{PLAIN}\nlimits: {{connections_per_ip: 1}}", one_more),
    "TOO_FAST_FROM_ADDRESS": (f"{PLAIN}\nlimits: {{accept_rate_per_ip: 1}}", several),
    "OUT_OF_DESCRIPTORS": (PLAIN, while_no_descriptor_is_left),
    "PROXY_BAD": (PROXY % ("127.0.0.1", "60s"), sends(b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n")),
    "PROXY_MISSING": (PROXY % ("127.0.0.1", "60s"), sends(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
    "PROXY_NOT_LISTED": (PROXY % ("192.0.2.1, others: refuse", "60s"), sends(b"")),
    "PROXY_TIMEOUT": (PROXY % ("127.0.0.1", "300ms"), sends(b"PROXY TCP4 192.0.2.1")),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_connection_that_is_refused_is_counted_by_reason(code):
    text, trigger = REFUSALS[code]
    text += "\nworker_threads: 1\nroutes: [{name: all, respond: {status: 200, body: hello}}]"
    with Weir(text) as gateway:
        trigger(gateway)
        wait_for(lambda: gateway.metric("weir_connections_refused_total", reason=code) >= 1, f"{code} in the metrics")
        refused = gateway.metric("weir_connections_refused_total", reason=code)
        assert gateway.metric("weir_connections_refused_total") == refused, "another reason"
        wait_for(lambda: re.search(rf"warning accept: connection from \S+( \S+)? refused: {code}\b", gateway.stderr()), "a line that says so")


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def peer():
    with StreamPeer() as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def datagrams():
    with UdpPeer() as server:
        start.datagrams = server.port
        yield


def start(origin, peer, *changes):
    text = TEXT
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return Weir(text, files={"site/index.html": "index", "leaving.yaml": "[]"}, origin=origin.port, echo=peer.port,
                datagrams=start.datagrams)


def counted(gateway, code):
    return sum(gateway.metric(name, reason=code) for name in ("weir_requests_total", "weir_l4_connections_total"))


@pytest.fixture(scope="module")
def gateway(origin, peer):
    with start(origin, peer) as running:
        yield running


def test_every_reason_has_a_test_and_every_test_a_reason():
    assert set(listed()) == set(TRIGGERS) | set(REFUSALS)


@pytest.mark.parametrize("code", TRIGGERS)
def test_the_reason_comes_about_and_is_told(code, gateway, origin, peer):
    if code in ALONE:
        with start(origin, peer, ALONE[code]) as own:
            check(code, own, origin)
    else:
        check(code, gateway, origin)


def check(code, gateway, origin):
    status, _ = listed()[code]
    case = Case(gateway, origin)
    try:
        before = counted(gateway, code)
        response = TRIGGERS[code](case)
        entry = gateway.wait_log(lambda entry: case.port in (entry["client_port"], None) and entry["reason"] == code)[0]
        if gateway.process.poll() is None:
            wait_for(lambda: counted(gateway, code) > before, "its count")
            assert counted(gateway, code) == before + 1
    finally:
        if case.client is not None:
            case.client.close()
    if status is not None and code != "UPSTREAM_IDLE_TIMEOUT":  # there the response had begun
        assert entry["status"] == status
    if response is not None:
        assert response.status == entry["status"]


@pytest.mark.parametrize("code", sorted({**TRIGGERS, **REFUSALS}))
def test_weir_reason_explains_the_code(code):
    done = subprocess.run([BINARY, "reason", code.lower()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith(code + "\n")
    for word in ("status:", "cause:", "remedy:"):
        assert re.search(rf"{word} +\S", done.stdout)
