"""Clients and targets that speak every protocol there is, and then damage it: frames, bytes, order, timing and ends are all left to
chance. Whatever happens, an honest client is served between the rounds, nothing stays counted as under way, and the sanitizers
(make check runs this under them) have nothing to say.

The seed is printed; WEIR_ATTACK_SEED repeats the bytes of a run, WEIR_ATTACK_SECONDS makes it longer."""
import base64
import hashlib
import os
import random
import re
import socket
import ssl
import struct
import threading
import time

import pytest

import random_bytes as make
from client import Closed, fetch, insecure_context
from h2client import H2Client
from origin import reply
from stream_peer import StreamPeer
from weir import SANITIZED, Disturbed, Weir, undisturbed, wait_for

pytestmark = [pytest.mark.xdist_group("load"), pytest.mark.timeout(300)]

SECONDS = float(os.environ.get("WEIR_ATTACK_SECONDS", "8" if SANITIZED else "4"))
ROUND = 2.0
ATTACKERS = 12
TEXT = """
worker_threads: 2
limits: {idle_timeout: 500ms, header_timeout: 500ms, body_timeout: 500ms, send_timeout: 600ms}
certificates: {own: {self_signed: [localhost]}}
listeners:
  both: {address: "127.0.0.1:@both@", protocols: [h2, http/1.1]}
  tls: {address: "127.0.0.1:@tls@", tls: {certificates: own, handshake_timeout: 500ms}}
  proxied: {address: "127.0.0.1:@proxied@", protocols: [h2, http/1.1], proxy_protocol: {from: 127.0.0.1, timeout: 500ms}}
  bytes: {address: "127.0.0.1:@bytes@", protocol: tcp, forward: bytes, idle_timeout: 500ms}
  names: {address: "127.0.0.1:@names@", protocol: tls_passthrough, sni: [{host: localhost, forward: bytes}], idle_timeout: 500ms}
target_groups:
  h1: {targets: "127.0.0.1:@h1@", health_check: {enabled: false}, timeouts: &short {first_byte: 500ms, idle: 500ms, tunnel_idle: 500ms}}
  h2: {protocol: h2c, targets: "127.0.0.1:@h2@", health_check: {enabled: false}, timeouts: *short}
  function: {lambda: hello, targets: "127.0.0.1:@lambda@", timeouts: {first_byte: 500ms, idle: 500ms}}
  bytes: {protocol: tcp, targets: "127.0.0.1:@h1@", health_check: {enabled: false}}
  honest: {targets: "127.0.0.1:@honest@", health_check: {enabled: false}}
routes:
  - {name: fixed, match: {path: /fixed}, respond: {status: 200, body: fixed}}
  - {name: site, match: {path: "/site/*"}, files: {root: site, strip_prefix: /site}}
  - {name: h1, match: {path: "/h1/*"}, compression: true, retry: {attempts: 2, on: [reset, 503], buffer: 8KiB}, forward: h1}
  - {name: h2, match: {path: "/h2/*"}, forward: h2}
  - {name: lambda, match: {path: "/lambda/*"}, forward: function}
  - {name: ws, match: {path: "/ws/*"}, forward: h1}
  - {name: echo, match: {path: /echo}, echo: true}
  - {name: honest, match: {path: /honest}, forward: honest}
"""


def deliver(r, sock, units):
    """In pieces, at its own pace, to an end of its own; or to the peer's."""
    data = b"".join(units)
    ends = r.randrange(8)
    while data:
        piece, data = (data[:n], data[n:]) if (n := r.choice([1, 9, 100, 5000, 1 << 20])) else (b"", b"")
        sock.sendall(piece)
        if r.random() < 0.05:
            time.sleep(r.random() / 50)
        if r.random() < 0.02 or (ends == 0 and r.random() < 0.3):
            break
    if ends == 1:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif ends == 2 and not isinstance(sock, ssl.SSLSocket):
        sock.shutdown(socket.SHUT_WR)
    if ends > 1:
        sock.settimeout(r.choice([0.005, 0.02, 0.02, 0.1, 0.6]))
        for _ in range(r.choice([1, 20, 1000])):
            if not sock.recv(65536):
                return


def attack(r, gateway):
    listener = r.choice(["both", "both", "both", "tls", "proxied", "bytes", "names"])
    units = make.http2_requests(r) if r.random() < 0.5 else make.http1_requests(r)
    if listener == "proxied":
        units = [make.proxy_header(r), *units]
    units = make.break_up(r, units)
    with socket.create_connection(("127.0.0.1", gateway.port(listener)), timeout=2) as sock:
        if r.random() < 0.1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if listener in ("tls", "names") and r.random() < 0.8:
            context = insecure_context()
            context.set_alpn_protocols(["h2"] if units[0].startswith(b"PRI") else ["http/1.1"])
            with context.wrap_socket(sock, server_hostname="localhost") as secure:
                deliver(r, secure, units)
        else:
            deliver(r, sock, units)


class RandomTarget(StreamPeer):
    """Answers every request with something of its own."""

    def __init__(self, seed, make_response):
        self.count, self.seed, self.lock, self.make_response = 0, seed, threading.Lock(), make_response
        super().__init__(self.serve)

    def serve(self, connection):
        with self.lock:
            self.count += 1
            r = random.Random(f"{self.seed}-{self.count}")
        connection.settimeout(2)
        try:
            while head := connection.recv(65536):
                deliver(r, connection, make.break_up(r, self.make_response(r, head)))
                connection.settimeout(2)
        except (OSError, ValueError):
            pass


def http1_target(r, head):
    key = re.search(rb"(?i)sec-websocket-key: (\S+)", head)
    if key and r.random() < 0.8:
        return make.websocket_answer(r, base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()))
    return make.http1_response(r)


def answer_honestly(connection):
    while connection.recv(65536):
        connection.sendall(reply(b"honest"))


def in_time(action):
    """The limits are short for honest clients, too: who stood still for as long asks again."""
    def attempt():
        began = time.monotonic()
        try:
            action()
        except (AssertionError, OSError, Closed):
            if time.monotonic() - began > 0.4:
                raise Disturbed from None
            raise
    undisturbed(attempt)


def check_alive(gateway):
    for path, body in ("/fixed", b"fixed"), ("/honest", b"honest"), ("/site/page", b"page" * 1000):
        def ask():
            assert fetch(gateway.port("both"), path).body == body

        def ask_securely():
            with H2Client(gateway.port("tls"), tls="localhost") as client:
                assert client.fetch(path).body == body
        in_time(ask)
        in_time(ask_securely)


GAUGES = ["weir_requests_in_flight", "weir_connections", "weir_tunnels_open", "weir_l4_connections_open", "weir_target_group_pending_requests"]


def left_over(gateway):
    metrics = gateway.metrics()
    return {name: value for name, value in metrics.items() if name[0] in GAUGES and value != 0}


def test_random_attacks_break_nothing_and_leave_nothing_behind():
    seed = os.environ.get("WEIR_ATTACK_SEED") or str(random.SystemRandom().randrange(1 << 32))
    print(f"WEIR_ATTACK_SEED={seed} WEIR_ATTACK_SECONDS={SECONDS}")
    with RandomTarget(seed + "h1", http1_target) as h1, RandomTarget(seed + "h2", lambda r, _: make.http2_response(r)) as h2, \
            RandomTarget(seed + "f", lambda r, _: make.lambda_response(r)) as function, StreamPeer(answer_honestly) as honest, \
            Weir(TEXT.replace("@lambda@", str(function.port)), h1=h1.port, h2=h2.port, honest=honest.port,
                 files={"site/page": "page" * 1000}) as gateway:
        check_alive(gateway)
        deadline, number, made = time.monotonic() + SECONDS, 0, 0
        while time.monotonic() < deadline:
            number += 1
            ends, counts = min(time.monotonic() + ROUND, deadline), [0] * ATTACKERS

            def run(thread, number=number, ends=ends, counts=counts):
                while time.monotonic() < ends:
                    counts[thread] += 1
                    try:
                        attack(random.Random(f"{seed}-{number}-{thread}-{counts[thread]}"), gateway)
                    except OSError:  # among them: refused, reset, a timeout, TLS
                        pass
            threads = [threading.Thread(target=run, args=(i,)) for i in range(ATTACKERS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            made += sum(counts)
            assert gateway.process.poll() is None, f"seed {seed}: the gateway ended"
            check_alive(gateway)
        print(f"{made} conversations in {number} rounds; targets had {h1.count}, {h2.count} and {function.count} connections")
        worker = gateway.worker()
        wait_for(lambda: not left_over(gateway), f"seed {seed}: nothing under way", 30)
        assert gateway.worker() == worker and "Sanitizer" not in gateway.stderr(), f"seed {seed}"
        assert gateway.metric("weir_requests_total") > 0
