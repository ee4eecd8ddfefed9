"""How many connections to targets there may be: circuit_breaker.connections and .pending, target_limits.connections."""
import json
import threading
import time

import pytest

from client import Client, Closed, fetch
from origin import OK, Origin, reply
from origin_h2 import H2Origin
from weir import Weir, wait_for

CONFIG = """
worker_threads: 2
listeners:
  http: {address: "127.0.0.1:@http@"}
  bytes: {address: "127.0.0.1:@bytes@", protocol: tcp, forward: bytes}
  bytes_each: {address: "127.0.0.1:@bytes_each@", protocol: tcp, forward: bytes_each}
target_groups:
  each:
    targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"]
    health_check: {enabled: false}
    target_limits: {connections: 2, queue: 100, queue_timeout: 30s}
  all:
    targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"]
    health_check: {enabled: false}
    circuit_breaker: {connections: 3, pending: 100}
    target_limits: {queue_timeout: 30s}
  strict: {targets: ["127.0.0.1:@a@"], health_check: {enabled: false}, circuit_breaker: {connections: 2}}
  few_wait:
    targets: ["127.0.0.1:@a@"]
    health_check: {enabled: false}
    circuit_breaker: {connections: 1, pending: 2}
    target_limits: {queue_timeout: 30s}
  unreachable: {targets: ["127.0.0.1:@full@"], health_check: {enabled: false}, circuit_breaker: {pending: 2}, timeouts: {connect: 20s}}
  streams: {protocol: h2c, targets: ["127.0.0.1:@h2@"], health_check: {enabled: false}, circuit_breaker: {connections: 2, pending: 100}, target_limits: {queue_timeout: 30s}}
  plain: {targets: ["127.0.0.1:@a@"], health_check: {enabled: false}}
  bytes: {protocol: tcp, targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"], health_check: {enabled: false}, circuit_breaker: {connections: 2}}
  bytes_each: {protocol: tcp, targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"], health_check: {enabled: false}, target_limits: {connections: 1}}
routes:
  - {name: each, match: {path: "/each*"}, forward: each}
  - {name: all, match: {path: "/all*"}, forward: all}
  - {name: strict, match: {path: "/strict*"}, forward: strict}
  - {name: few_wait, match: {path: "/few*"}, forward: few_wait}
  - {name: unreachable, match: {path: "/unreachable*"}, forward: unreachable}
  - {name: streams, match: {path: "/streams*"}, forward: streams}
  - {name: plain, match: {path: "/plain*"}, forward: plain}
"""


def established():
    """{(own port, target's port)} of connections, as the kernel knows them from the connecting side."""
    with open("/proc/net/tcp") as table:
        lines = [line.split() for line in table.readlines()[1:]]
    return {(line[1], int(line[2].split(":")[1], 16)) for line in lines if line[3] == "01"}


class Watch:
    """The most connections to each origin, and to all, that were open at a time: those that two looks in a row saw."""

    def __init__(self, *ports):
        self.ports, self.most, self.most_of_all = ports, {port: 0 for port in ports}, 0
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        before = established()
        while not self.ends.wait(0.002):
            now = established()
            counts = {port: sum(key[1] == port for key in now & before) for port in self.ports}
            self.most = {port: max(n, self.most[port]) for port, n in counts.items()}
            self.most_of_all = max(self.most_of_all, sum(counts.values()))
            before = now

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join()


@pytest.fixture(scope="module")
def origins():
    with Origin() as a, Origin() as b:
        yield {"a": a, "b": b}


@pytest.fixture(scope="module")
def h2_origin():
    with H2Origin() as origin:
        yield origin


@pytest.fixture(scope="module")
def full():
    """A port whose queue is full: connecting to it hangs."""
    import socket
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        holders = []
        for _ in range(3):
            holder = socket.socket()
            holder.setblocking(False)
            holder.connect_ex(("127.0.0.1", port))
            holders.append(holder)
        yield port
        for holder in holders:
            holder.close()


@pytest.fixture(scope="module")
def shared(origins, h2_origin, full):
    with Weir(CONFIG, a=origins["a"].port, b=origins["b"].port, h2=h2_origin.port, full=full) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared, origins):
    for origin in origins.values():
        origin.close_connections()
        origin.settle()
        origin.answer = OK
    wait_for(lambda: all(shared.metric("weir_target_group_connections", target_group=group) == 0
                         for group in ("each", "all", "strict", "few_wait", "bytes", "bytes_each")), "no connection left")
    return shared


def slowly(exchange):
    time.sleep(0.01)
    exchange.send(OK)


def ask_at_once(gateway, path, clients, requests, method="GET", body=None):
    """Statuses of all requests; each client keeps its connection."""
    statuses, lock = [], threading.Lock()

    def client():
        mine = []
        with Client(gateway.port("http"), timeout=60) as connection:
            for _ in range(requests):
                connection.request(method, path, body=body)
                mine.append(connection.response(method).status)
        with lock:
            statuses.extend(mine)
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return statuses


def hold(origins, path):
    """Requests of the path are answered when the event is set."""
    gate = threading.Event()

    def answer(exchange):
        gate.wait(60)
        exchange.send(OK)
    for origin in origins.values():
        origin.on(path, answer)
    return gate


def begin(gateway, path, n):
    clients = [Client(gateway.port("http"), timeout=60) for _ in range(n)]
    for client in clients:
        client.request("GET", path)
    return clients


def pending(gateway, group):
    return gateway.metric("weir_target_group_pending_requests", target_group=group)


# --- requests wait, and nobody gets more than allowed ----------------------------------------------------------------


@pytest.mark.parametrize("method, body", [("GET", None), ("POST", b"x" * 100)])
def test_a_target_never_has_more_connections_than_its_limit(gateway, origins, method, body):
    for origin in origins.values():
        origin.answer = slowly
    ports = [origin.port for origin in origins.values()]
    with Watch(*ports) as watch:
        statuses = ask_at_once(gateway, "/each/x", 12, 20, method, body)
    assert statuses == [200] * 240
    assert all(most <= 2 for most in watch.most.values()), watch.most


def test_a_group_never_has_more_connections_than_its_limit(gateway, origins):
    for origin in origins.values():
        origin.answer = slowly
    ports = [origin.port for origin in origins.values()]
    with Watch(*ports) as watch:
        statuses = ask_at_once(gateway, "/all/x", 12, 20)
    assert statuses == [200] * 240
    assert watch.most_of_all <= 3, watch.most_of_all
    wait_for(lambda: pending(gateway, "all") == 0, "nobody who waits")


def test_connections_that_the_target_closes_make_room(gateway, origins):
    for origin in origins.values():
        origin.answer = lambda exchange: exchange.send(OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    assert ask_at_once(gateway, "/all/close", 8, 20) == [200] * 160
    assert ask_at_once(gateway, "/each/close", 8, 20) == [200] * 160
    wait_for(lambda: gateway.metric("weir_target_group_connections", target_group="all") == 0, "all of them closed")


def test_a_connection_that_another_thread_keeps_idle_makes_room_without_a_queue(gateway, origins):
    # 64 connections one after the other: whichever thread has them, at most two connections are kept by both together
    assert [fetch(gateway.port("http"), "/strict/x").status for _ in range(64)] == [200] * 64
    assert 1 <= gateway.metric("weir_target_group_connections", target_group="strict") <= 2


def test_without_a_place_to_wait_a_request_above_the_limit_is_refused(gateway, origins):
    gate = hold(origins, "/strict/held")
    before = gateway.metric("weir_circuit_breaker_refused_total", bound="connections")
    holders = begin(gateway, "/strict/held", 2)
    wait_for(lambda: len(origins["a"].requests) == 2, "two requests at the target")
    assert [fetch(gateway.port("http"), "/strict/more").status for _ in range(10)] == [503] * 10
    assert gateway.wait_log(lambda entry: entry["path"] == "/strict/more", 10)[0]["reason"] == "CIRCUIT_CONNECTIONS"
    assert gateway.metric("weir_circuit_breaker_refused_total", bound="connections") == before + 10
    gate.set()
    assert [client.response().status for client in holders] == [200, 200]
    assert fetch(gateway.port("http"), "/strict/after").status == 200


# --- pending ----------------------------------------------------------------------------------------------------------


def test_only_so_many_requests_wait_for_a_place(gateway, origins):
    gate = hold(origins, "/few/held")
    first = begin(gateway, "/few/held", 1)
    wait_for(lambda: len(origins["a"].requests) == 1, "the request at the target")
    waiting = begin(gateway, "/few/wait", 2)
    wait_for(lambda: pending(gateway, "few_wait") == 2, "two that wait")
    assert fetch(gateway.port("http"), "/few/more").status == 503
    assert gateway.wait_log(lambda entry: entry["path"] == "/few/more")[0]["reason"] == "CIRCUIT_PENDING"
    gate.set()
    assert [client.response().status for client in first + waiting] == [200] * 3
    wait_for(lambda: pending(gateway, "few_wait") == 0, "nobody who waits")


def test_requests_whose_connection_is_being_made_are_pending(gateway):
    connecting = begin(gateway, "/unreachable/a", 2)
    wait_for(lambda: pending(gateway, "unreachable") == 2, "two that connect")
    before = gateway.metric("weir_circuit_breaker_refused_total", bound="pending")
    assert fetch(gateway.port("http"), "/unreachable/b").status == 503
    assert gateway.wait_log(lambda entry: entry["path"] == "/unreachable/b")[0]["reason"] == "CIRCUIT_PENDING"
    assert gateway.metric("weir_circuit_breaker_refused_total", bound="pending") == before + 1
    for client in connecting:
        client.reset()
    wait_for(lambda: pending(gateway, "unreachable") == 0, "nobody who connects")


def test_a_client_that_leaves_while_it_waits_gives_its_place_back(gateway, origins):
    gate = hold(origins, "/few/held")
    first = begin(gateway, "/few/held", 1)
    wait_for(lambda: len(origins["a"].requests) == 1, "the request at the target")
    for client in begin(gateway, "/few/gone", 2):
        wait_for(lambda: pending(gateway, "few_wait") > 0, "somebody who waits")
        client.reset()
    wait_for(lambda: pending(gateway, "few_wait") == 0, "nobody who waits")
    gate.set()
    assert first[0].response().status == 200


# --- HTTP/2 -----------------------------------------------------------------------------------------------------------


def test_streams_share_the_connections_that_http2_may_have(gateway, h2_origin):
    with Watch(h2_origin.port) as watch:
        statuses = ask_at_once(gateway, "/streams/x", 12, 20)
    assert statuses == [200] * 240
    assert watch.most_of_all <= 2


# --- listeners that forward bytes ------------------------------------------------------------------------------------


def is_served(gateway, listener):
    client = None
    try:
        client = Client(gateway.port(listener))
        client.request("GET", "/bytes")
        return client if client.response().status == 200 else None
    except (Closed, OSError):
        if client:
            client.close()
        return None


@pytest.mark.parametrize("listener, reason", [("bytes", "CIRCUIT_CONNECTIONS"), ("bytes_each", "TARGETS_BUSY")])
def test_forwarded_connections_respect_the_limit(gateway, origins, listener, reason):
    served = [is_served(gateway, listener) for _ in range(2)]
    assert None not in served
    assert [is_served(gateway, listener) for _ in range(5)] == [None] * 5
    wait_for(lambda: gateway.metric("weir_l4_connections_total", listener=listener, target_group=listener, reason=reason) == 5,
             "the five in the metrics")
    assert gateway.metric("weir_target_group_connections", target_group=listener) == 2
    for client in served:
        client.close()
    wait_for(lambda: gateway.metric("weir_target_group_connections", target_group=listener) == 0, "both closed")
    client = is_served(gateway, listener)
    assert client is not None
    client.close()


# --- what operators see ----------------------------------------------------------------------------------------------


def test_connections_are_counted_where_nothing_limits_them(gateway, origins):
    assert fetch(gateway.port("http"), "/plain").status == 200
    assert gateway.metric("weir_target_group_connections", target_group="plain") >= 1
    group = json.loads(gateway.admin("/api/v1/target_groups/plain")[1])
    assert group["connections"] == group["targets"][0]["connections"] >= 1
    assert group["pending"] == 0
    origins["a"].close_connections()
    wait_for(lambda: gateway.metric("weir_target_group_connections", target_group="plain") == 0, "the connection closed")


def test_explain_shows_the_bounds(gateway):
    text = gateway.run("explain", f"http://x:{gateway.port('http')}/all", "-c", str(gateway.config_path)).stdout
    assert "circuit breaker: 0 of 3 connections, 0 of 100 pending" in text


def test_a_reload_with_another_limit_holds_at_once(gateway, origins):
    gate = hold(origins, "/strict/held")
    holders = begin(gateway, "/strict/held", 2)
    wait_for(lambda: len(origins["a"].requests) == 2, "two requests at the target")
    gateway.configure(CONFIG.replace("circuit_breaker: {connections: 2}}\n  few", "circuit_breaker: {connections: 3}}\n  few"))
    gateway.reload()
    try:
        assert fetch(gateway.port("http"), "/strict/third").status == 200
    finally:
        gateway.configure(CONFIG)
        gateway.reload()
        gate.set()
    assert [client.response().status for client in holders] == [200, 200]
