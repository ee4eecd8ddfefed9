"""Everything at once: retries, hedges, queues, circuit breakers, mirrors, faults, stickiness, fallbacks and reloads, with
clients and targets that behave at random. What must hold whatever happens: no answer goes to another request, no POST
is sent twice unless the route says so, and when it is over nothing is counted as under way.

The seed is printed; WEIR_CHAOS_SEED repeats a run as far as threads allow, WEIR_CHAOS_SECONDS makes it longer."""
import collections
import os
import random
import re
import socket
import threading
import time

import pytest

from client import Client, Closed
from origin import Origin, reply
from origin_h2 import H2Origin
from test_balancing import explained
from weir import SANITIZED, Weir, wait_for

pytestmark = [pytest.mark.xdist_group("load"), pytest.mark.timeout(180)]

SECONDS = float(os.environ.get("WEIR_CHAOS_SECONDS", "8"))
CLIENTS = 10 if SANITIZED else 16
GROUPS = {
    "plain": "",
    "queued": "target_limits: {requests: 2, queue: 6, queue_timeout: 300ms}, ",
    "pooled": "target_limits: {connections: 2, queue: 6, queue_timeout: 300ms}, algorithm: least_outstanding_requests, ",
    "broken": "circuit_breaker: {connections: 4, pending: 3, requests: 8, retries: 2}, ",
    "brief": "circuit_breaker: {connections: 3}, algorithm: random_two_choices, ",
    "sticky": "stickiness: {lb_cookie: 1m}, outlier_detection: {consecutive_5xx: 3, ejection_time: 200ms}, algorithm: peak_ewma, ",
    "hashed": "algorithm: {type: consistent_hash, by: header, name: x-id}, circuit_breaker: {connections: 5, pending: 4}, ",
    "streams": "circuit_breaker: {connections: 2, pending: 10}, ",
    "adaptive": "adaptive_concurrency: {min: 2, max: 20}, slow_start: 2s, ",
    "limited_streams": "target_limits: {requests: 3, connections: 1, queue: 5, queue_timeout: 200ms}, ",
}
RETRIES = ["", "retry: {attempts: 2, on: [connect_failure, reset, timeout, 503], backoff: 2ms, budget: 100%}, ",
           "retry: {attempts: 3, on: [reset, 5xx], backoff: 1ms, budget: 50%, per_try_timeout: 150ms, buffer: 8KiB}, "]
AGAIN = "retry: {attempts: 2, on: [connect_failure, reset, timeout, 503], backoff: 2ms, non_idempotent: true}, "


def configuration(dice):
    """Other groups' settings and other routes each time, of the same names."""
    timeouts = f"timeouts: {{connect: 300ms, first_byte: {dice.choice([200, 400])}ms, idle: 300ms}}, "
    text = ["worker_threads: 2", 'listeners: {http: {address: "127.0.0.1:@http@"}}',
            f"limits: {{retry_buffers: {dice.choice([40, 64000])}KiB, body_timeout: 2s, header_timeout: 2s}}", "target_groups:"]
    for name, settings in GROUPS.items():
        is_h2 = "streams" in name
        targets = '["127.0.0.1:@h@", "127.0.0.1:@i@"]' if is_h2 else '["127.0.0.1:@a@", "127.0.0.1:@b@", "127.0.0.1:@nobody@"]'
        pool = dice.choice(["", "pool: {max_idle: 0}, ", "pool: {max_idle: 1, max_requests: 3}, ", "pool: {idle: 20ms, reuse: idempotent}, "])
        text.append(f"  {name}: {{{settings}{timeouts}{pool}{'protocol: h2c, ' if is_h2 else ''}targets: {targets}, health_check: {{enabled: false}}}}")
    text.append("routes:")
    for name in GROUPS:
        policies = dice.choice(RETRIES)
        if dice.random() < 0.4:
            policies += "hedge: 30ms, "
        if dice.random() < 0.3:
            policies += f"mirror: {{group: {dice.choice(list(GROUPS))}, percent: 50%, max_body: 4KiB}}, "
        if dice.random() < 0.3:
            policies += "fault: {delay: {percent: 20%, duration: 20ms}, abort: {percent: 5%, status: 418}}, "
        if dice.random() < 0.3:
            policies += "timeouts: {total: 700ms}, "
        forward = f"{{primary: {name}, fallback: {dice.choice([other for other in GROUPS if other != name])}}}" if dice.random() < 0.2 else name
        text.append(f'  - {{name: {name}, match: {{path: "/{name}/*"}}, {policies}forward: {forward}}}')
        text.append(f'  - {{name: {name}_again, match: {{path: "/again/{name}/*"}}, {AGAIN}forward: {name}}}')
    return "\n".join(text) + "\n"


class Targets:
    """What came, and answers drawn by chance. Each names the request that it answers."""

    def __init__(self, dice):
        self.dice, self.lock, self.posts = dice, threading.Lock(), collections.Counter()

    def note(self, method, path, name, is_shadow):
        if method == "POST" and not is_shadow and not path.startswith("/again/"):
            with self.lock:
                self.posts[name] += 1

    def forget(self, method, path, name, is_shadow):
        if method == "POST" and not is_shadow and not path.startswith("/again/"):
            with self.lock:
                self.posts[name] -= 1

    def answer(self, exchange):
        request = exchange.request
        name = request.get("x-id")
        self.note(request.method, request.target, name, request.get("x-weir-shadow"))
        body = name.encode() * self.dice.choice([1, 1, 50, 5000])
        whole = reply(b"" if request.method == "HEAD" else body, fields=[("X-Id", name)])
        what = self.dice.random()
        if what < 0.60:
            exchange.send(whole)
        elif what < 0.66:
            time.sleep(self.dice.random() * 0.1)
            exchange.send(whole)
        elif what < 0.71:
            exchange.reset()
        elif what < 0.76:
            exchange.close()
        elif what < 0.80:
            exchange.send(whole[:self.dice.randrange(1, len(whole))])
            exchange.reset() if self.dice.random() < 0.5 else exchange.close()
        elif what < 0.84:
            exchange.send(reply(name.encode(), status="503 Service Unavailable", fields=[("X-Id", name)]))
        elif what < 0.87:
            exchange.send(whole)
            exchange.close()
        elif what < 0.90:
            exchange.send(reply(name.encode(), fields=[("X-Id", name), ("Connection", "close")]))
        elif what < 0.93:
            exchange.socket.shutdown(socket.SHUT_WR)  # nothing will come
            exchange.wait_peer_closed()
        elif what < 0.96:
            exchange.send(whole[:self.dice.randrange(0, len(whole))])
            exchange.wait_peer_closed()
        else:
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc")

    def answer_stream(self, exchange):
        name, method = exchange.get("x-id"), exchange.get(":method")
        self.note(method, exchange.get(":path"), name, exchange.get("x-weir-shadow"))
        what = self.dice.random()
        fields = [("x-id", name)]
        try:
            if what < 0.65:
                exchange.respond(200, name.encode() * (0 if method == "HEAD" else 1), fields)
            elif what < 0.70:
                exchange.reset(self.dice.choice([1, 2, 8]))
            elif what < 0.75:
                self.forget(method, exchange.get(":path"), name, exchange.get("x-weir-shadow"))
                exchange.reset(7)  # REFUSED_STREAM: it may be sent again
            elif what < 0.85:
                exchange.head(200, fields)
                exchange.data(name.encode())
                exchange.reset(8)
            elif what < 0.90:
                exchange.respond(503, name.encode(), fields)
            elif what < 0.95:
                exchange.connection.socket.shutdown(socket.SHUT_RDWR)
            else:
                time.sleep(0.5)
        except Exception:
            pass  # it was reset meanwhile


def is_plausible(response, name):
    """An answer of a target is that of this request; anything else is weir's own."""
    if response.all("x-id"):
        assert response.all("x-id") == [name], (name, response)
        body = response.body.decode()
        assert body.replace(name, "") == "", (name, body[:200])
        return response.status in (200, 503)
    return response.status in (418, 502, 503, 504, 408)


class Clients:
    def __init__(self, gateway, dice, ends):
        self.gateway, self.dice, self.ends = gateway, dice, ends
        self.problems, self.statuses, self.sent, self.lock = [], collections.Counter(), collections.Counter(), threading.Lock()

    def one(self, client, number, count, dice):
        name = f"c{number}r{count}z"
        group = dice.choice(list(GROUPS))
        path = f"/again/{group}/x" if dice.random() < 0.2 else f"/{group}/x"
        method = dice.choice(["GET", "GET", "GET", "POST", "POST", "HEAD", "PUT"])
        headers = [("X-Id", name), *([("Cookie", self.cookie)] if self.cookie and dice.random() < 0.5 else [])]
        body = bytes(dice.choice([0, 10, 5000, 100_000])) if method in ("POST", "PUT") else None
        what = dice.random()
        if body is not None and what < 0.25:  # in pieces, as chunks, and sometimes never to the end
            lines = "".join(f"{key}: {value}\r\n" for key, value in headers)
            client.send(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{lines}Transfer-Encoding: chunked\r\n\r\n".encode())
            for _ in range(dice.randrange(4)):
                client.send(b"3e8\r\n" + bytes(1000) + b"\r\n")
                time.sleep(dice.random() * 0.01)
            if what < 0.05:
                return False
            client.send(b"0\r\n\r\n")
        else:
            client.request(method, path, headers, body)
        if dice.random() < 0.06:
            return False  # leaves at once
        if dice.random() < 0.03:
            client.half_close()
        response = client.response(method)
        assert is_plausible(response, name), (name, response)
        self.statuses[response.status] += 1
        for value in response.all("set-cookie"):
            self.cookie = value.split(";")[0]
        return response.get("connection") != "close"

    cookie = None

    def run(self, number, seed):
        dice, count = random.Random(seed), 0
        while not self.ends.is_set():
            client = Client(self.gateway.port("http"), timeout=60)
            try:
                while not self.ends.is_set():
                    count += 1
                    if not self.one(client, number, count, dice):
                        break
            except socket.timeout:
                self.problems.append(f"no answer within a minute: c{number}r{count}z")
                return
            except (Closed, OSError):
                self.statuses["cut off"] += 1
            except Exception as problem:  # also those of this file: a client that ends in silence proves nothing
                self.problems.append(problem)
                return
            finally:
                client.reset() if dice.random() < 0.5 else client.close()


def assert_nothing_is_under_way(gateway):
    for name in ("weir_requests_in_flight", "weir_target_queue_requests", "weir_retry_buffer_bytes"):
        wait_for(lambda: gateway.metric(name) == 0, f"{name} 0, is {gateway.metric(name)}", 30)
    wait_for(lambda: gateway.metric("weir_target_group_pending_requests") == 0, "nobody who waits for a connection", 30)
    wait_for(lambda: gateway.metric("weir_target_group_connections") == gateway.metric("weir_upstream_idle_connections"),
             "all connections idle", 30)
    for group in GROUPS:
        def is_idle():
            text = explained(gateway, f"/{group}/x")
            return not re.search(r", [1-9]\d* in flight|\b[1-9]\d* of \d+ (?:pending|requests|retries)", text)
        wait_for(is_idle, f"no use of {group}: {explained(gateway, f'/{group}/x')}", 30)


def test_whatever_clients_and_targets_do_each_request_gets_its_own_answer_and_leaves_nothing_behind():
    seed = int(os.environ.get("WEIR_CHAOS_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"WEIR_CHAOS_SEED={seed}")
    dice = random.Random(seed)
    targets = Targets(random.Random(seed + 1))
    with Origin(targets.answer) as a, Origin(targets.answer) as b, \
            H2Origin(targets.answer_stream) as h, H2Origin(targets.answer_stream) as i, \
            Weir(configuration(dice), a=a.port, b=b.port, h=h.port, i=i.port) as gateway:
        ends = threading.Event()
        clients = Clients(gateway, dice, ends)
        threads = [threading.Thread(target=clients.run, args=(n, seed + 100 + n)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        while not clients.problems and (time.monotonic() - began < SECONDS or clients.statuses[200] <= 50):
            assert time.monotonic() - began < 100, (seed, clients.statuses)  # it is no single outage
            time.sleep(0.3)  # between two reloads
            gateway.configure(configuration(dice))
            gateway.reload(60)
            if dice.random() < 0.3:
                dice.choice([a, b]).close_connections()
        ends.set()
        for thread in threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in threads), f"a client hangs; seed {seed}"
        assert not clients.problems, (seed, clients.problems)
        for origin in (a, b):
            origin.close_connections()
        assert_nothing_is_under_way(gateway)
        twice = {name: count for name, count in targets.posts.items() if count > 1}
        assert not twice, f"seed {seed}: POSTs that came more than once: {twice}"
