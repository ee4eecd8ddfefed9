"""How much a target group may have under way, and what happens when the gateway itself has too much to do."""
import os
import signal
import threading
import time

import pytest

from client import Client, fetch
from origin import OK, Origin, reply
from weir import Weir, wait_for

CONFIG = """
worker_threads: 2
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  bounded: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}, circuit_breaker: {requests: 3}}
  retried:
    targets: ["127.0.0.1:@origin@", "127.0.0.1:@second@"]
    health_check: {enabled: false}
    circuit_breaker: {retries: 1}
    retry: {attempts: 1, on: 503, budget: 100%, backoff: 1ms}
  adaptive: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}, adaptive_concurrency: {min: 2}}
  unlimited: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}}
routes:
  - {name: unlimited, match: {path: /unlimited}, forward: unlimited}
  - {name: retried, match: {path: /retried}, forward: retried}
  - {name: adaptive, match: {path: /adaptive}, forward: adaptive}
  - {name: bounded, forward: bounded}
"""


class Gate:
    """An answer that waits until it is opened."""

    def __init__(self, answer=OK):
        self.opened, self.answer, self.waiting = threading.Event(), answer, 0
        self.lock = threading.Lock()

    def __call__(self, exchange):
        with self.lock:
            self.waiting += 1
        assert self.opened.wait(60)
        exchange.send(self.answer)


def ask(port, path, count):
    """`count` clients that have asked."""
    clients = [Client(port) for _ in range(count)]
    for client in clients:
        client.request("GET", path)
    return clients


@pytest.fixture(scope="module")
def origins():
    with Origin() as first, Origin() as second:
        yield first, second


@pytest.fixture(scope="module")
def gateway(origins):
    with Weir(CONFIG, origin=origins[0].port, second=origins[1].port) as gateway:
        yield gateway


def test_requests_above_the_bound_are_refused_at_once_over_all_threads(gateway, origins):
    gate = origins[0].answer = Gate()
    clients = ask(gateway.port("http"), "/", 3)
    wait_for(lambda: gate.waiting == 3, "three requests at the origin")
    for _ in range(8):  # new connections: both threads get some
        response = fetch(gateway.port("http"), "/refused")
        assert response.status == 503
    assert gateway.wait_log(lambda entry: entry["path"] == "/refused", 8)[7]["reason"] == "CIRCUIT_OPEN"
    gate.opened.set()
    assert [client.response().status for client in clients] == [200] * 3
    wait_for(lambda: fetch(gateway.port("http"), "/").status == 200, "room again")
    for client in clients:
        client.close()


def test_a_request_whose_client_left_makes_room(gateway, origins):
    gate = origins[0].answer = Gate()
    clients = ask(gateway.port("http"), "/left", 3)
    wait_for(lambda: gate.waiting == 3, "three requests at the origin")
    for client in clients:
        client.reset()
    gateway.wait_log(lambda entry: entry["path"] == "/left", 3)
    gate.opened.set()
    origins[0].answer = OK
    assert fetch(gateway.port("http"), "/").status == 200


def test_a_reload_keeps_what_is_counted(gateway, origins):
    gate = origins[0].answer = Gate()
    clients = ask(gateway.port("http"), "/", 3)
    wait_for(lambda: gate.waiting == 3, "three requests at the origin")
    gateway.reload()
    assert fetch(gateway.port("http"), "/").status == 503
    gate.opened.set()
    assert [client.response().status for client in clients] == [200] * 3
    for client in clients:
        client.close()


def test_retries_have_a_bound_of_their_own(gateway, origins):
    origins[0].answer = origins[1].answer = OK
    first, lock, gate = [], threading.Lock(), Gate(reply(b"late"))

    def answer(exchange):
        with lock:
            is_first = exchange.request.get("x-n") not in first
            first.append(exchange.request.get("x-n"))
        if is_first:
            exchange.send(reply(status="503 x"))
        else:
            gate(exchange)
    origins[0].answer = origins[1].answer = answer
    with Client(gateway.port("http")) as one:
        one.request("GET", "/retried", [("X-N", "1")])
        wait_for(lambda: gate.waiting == 1, "the second try of the first request")
        assert fetch(gateway.port("http"), "/retried", headers=[("X-N", "2")]).status == 503
        gate.opened.set()
        assert one.response().body == b"late"
    origins[0].answer = origins[1].answer = OK


class Crowd:
    """Forty clients that want something all the time."""

    def __init__(self, gateway, path):
        self.port, self.path, self.stop = gateway.port("http"), path, threading.Event()
        self.good, self.refused = [], []  # (when, seconds)
        self.threads = [threading.Thread(target=self.ask) for _ in range(40)]

    def ask(self):
        with Client(self.port) as client:
            while not self.stop.is_set():
                began = time.monotonic()
                client.request("GET", self.path)
                status = client.response().status
                (self.good if status == 200 else self.refused).append((time.monotonic(), time.monotonic() - began))
                if status != 200:
                    time.sleep(0.01)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(20)

    def ask_for(self, seconds):
        until = time.monotonic() + seconds
        wait_for(lambda: time.monotonic() > until, "a while", seconds + 30)

    def median_after(self, seconds):
        """Of a hundred answers that came later than that from now."""
        since = time.monotonic() + seconds
        wait_for(lambda: sum(at > since for at, _ in self.good) > 100, f"answers after {seconds} s", 60)
        late = sorted(took for at, took in self.good if at > since)
        return late[len(late) // 2]


@pytest.mark.timeout(240)
def test_the_adaptive_limit_keeps_a_service_of_four_from_being_buried(origins):
    """Four at a time, 20 ms each: forty at once take 200 ms each; the limit lets in some ten."""
    seats = threading.Semaphore(4)

    def answer(exchange):
        with seats:
            time.sleep(0.02)
        exchange.send(OK)
    origins[0].answer = answer
    try:
        for _ in range(4):  # a machine that stands still changes what is measured, here and by the gateway
            with Weir(CONFIG, origin=origins[0].port, second=origins[1].port) as own:
                with Crowd(own, "/unlimited") as crowd:
                    unlimited = crowd.median_after(0.5)
                    assert not crowd.refused
                with Crowd(own, "/adaptive") as crowd:
                    crowd.ask_for(3)
                    limited = crowd.median_after(0.5)
                reasons = {entry["reason"] for entry in own.access_log() if entry["path"] == "/adaptive" and entry["status"] == 503}
                if limited < 0.7 * unlimited and len(crowd.refused) > 200:
                    break
    finally:
        origins[0].answer = OK
    assert limited < 0.7 * unlimited and len(crowd.refused) > 200, (limited, unlimited, len(crowd.refused))
    assert reasons == {"CONCURRENCY_LIMIT"}


# --- the gateway itself -----------------------------------------------------------------------------------------------
OVERLOAD = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
overload: {%s}
routes:
  - {match: {path: /critical}, criticality: critical, respond: {status: 200}}
  - {match: {path: /normal}, respond: {status: 200}}
  - {match: {path: /sheddable}, criticality: sheddable, respond: {status: 200}}
"""


def test_above_its_memory_bound_the_gateway_keeps_only_critical_work():
    with Weir(OVERLOAD % "memory: 1MiB") as gateway:
        wait_for(lambda: gateway.metric("weir_overload_pressure") > 2, "pressure")
        assert fetch(gateway.port("http"), "/critical").status == 200
        for path in "/normal", "/sheddable":
            response = fetch(gateway.port("http"), path)
            assert (response.status, response.get("retry-after")) == (503, "1")
        assert gateway.wait_log(lambda entry: entry["path"] == "/sheddable")[0]["reason"] == "OVERLOADED"
        gateway.configure(OVERLOAD % "memory: 100GB")
        gateway.reload()
        wait_for(lambda: fetch(gateway.port("http"), "/normal").status == 200, "pressure to go")


def test_a_thread_that_is_late_refuses_sheddable_work_first():
    with Weir(OVERLOAD % "loop_lag: 100ms", args=("--no-supervise",)) as gateway:
        stop = threading.Event()

        def stall():
            while not stop.is_set():  # held for 0.4 s, let go for 0.1 s: its timers are late
                os.kill(gateway.process.pid, signal.SIGSTOP)
                time.sleep(0.4)
                os.kill(gateway.process.pid, signal.SIGCONT)
                stop.wait(0.1)
        thread = threading.Thread(target=stall)
        thread.start()
        try:
            wait_for(lambda: fetch(gateway.port("http"), "/sheddable").status == 503, "a refusal", 30)
            assert all(fetch(gateway.port("http"), "/critical").status == 200 for _ in range(5))
        finally:
            stop.set()
            thread.join(10)
        wait_for(lambda: fetch(gateway.port("http"), "/sheddable").status == 200, "calm again", 30)
