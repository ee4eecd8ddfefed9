"""Which target gets a request: algorithms, limits with their queue, outliers, too few healthy targets, failover."""
import collections
import json
import threading
import time

import pytest

from client import Client, fetch
from load import Load
from origin import OK, Origin, reply
from weir import UnixConnection, Weir, wait_for

CONFIG = """
worker_threads: 2
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  least: {targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"], health_check: {enabled: false}, algorithm: least_outstanding_requests}
  hashed:
    targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"]
    health_check: {enabled: false}
    algorithm: {type: consistent_hash, by: header, name: x-user}
  by_ip: {targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"], health_check: {enabled: false}, stickiness: {source_ip: true}}
  limited:
    targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"]
    health_check: {enabled: false}
    target_limits: {requests: 1, queue: 20, queue_timeout: 60s}
  fragile:
    targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"]
    health_check: {enabled: false}
    outlier_detection: {consecutive_5xx: 3, ejection_time: 3s}
    retry: 0
  gateway_errors:
    targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"]
    health_check: {enabled: false}
    outlier_detection: {consecutive_5xx: 0, consecutive_gateway_errors: 2, ejection_time: 60s}
  compared:
    targets: ["127.0.0.1:@a@", "127.0.0.1:@b@", "127.0.0.1:@c@"]
    health_check: {enabled: false}
    outlier_detection: {consecutive_5xx: 0, consecutive_gateway_errors: 0, interval: 2s, minimum_requests: 5, ejection_time: 5s}
  slow:
    targets: ["127.0.0.1:@a@", "127.0.0.1:@b@", "127.0.0.1:@c@"]
    health_check: {enabled: false}
    outlier_detection: {latency_factor: 5, interval: 2s, minimum_requests: 5, ejection_time: 5s}
  main: {targets: ["127.0.0.1:@a@"], health_check: {path: /healthz, interval: 100ms, timeout: 20s, unhealthy_threshold: 1, healthy_threshold: 1}, failover: spare}
  warming:
    targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"]
    slow_start: 15m
    health_check: {path: /warm, interval: 200ms, timeout: 20s, unhealthy_threshold: 3, healthy_threshold: 1}
  random:
    targets: ["127.0.0.1:@a@", "127.0.0.1:@b@", "127.0.0.1:@c@"]
    health_check: {enabled: false}
    algorithm: {type: weighted_random, anomaly_mitigation: true}
  spare: {targets: ["127.0.0.1:@b@"], health_check: {enabled: false}}
routes:
  - {name: least, match: {path: "/least*"}, forward: least}
  - {name: hashed, match: {path: "/hashed*"}, forward: hashed}
  - {name: by_ip, match: {path: "/by_ip*"}, forward: by_ip}
  - {name: limited, match: {path: "/limited*"}, forward: limited}
  - {name: fragile, match: {path: "/fragile*"}, forward: fragile}
  - {name: gateway_errors, match: {path: "/gateway*"}, forward: gateway_errors}
  - {name: compared, match: {path: "/compared*"}, forward: compared}
  - {name: slow, match: {path: "/slow*"}, forward: slow}
  - {name: warming, match: {path: "/warming*"}, forward: warming}
  - {name: random, match: {path: "/random*"}, forward: random}
  - {name: failover, match: {path: "/failover*"}, forward: main}
"""


@pytest.fixture(scope="module")
def origins():
    with Origin() as a, Origin() as b, Origin() as c:
        yield {"a": a, "b": b, "c": c}


@pytest.fixture(scope="module")
def shared(origins):
    with Weir(CONFIG, **{name: origin.port for name, origin in origins.items()}) as running:
        yield running


@pytest.fixture
def gateway(shared, origins):
    for name, origin in origins.items():
        origin.settle()
        origin.on("/healthz", OK)
        origin.on("/warm", OK)
        origin.answer = reply(name.encode())
    return shared


def ask(gateway, path, **options):
    return fetch(gateway.port("http"), path, **options)


def targets(gateway, group):
    status, body = gateway.admin(f"/api/v1/target_groups/{group}")
    assert status == 200
    return json.loads(body)["targets"]


def target(gateway, origins, group, name):
    return next(t for t in targets(gateway, group) if t["target"].endswith(f":{origins[name].port}"))


def when_ejected(gateway, origins, group, name):
    """The target as it was told while it was out; it may be back since."""
    def look():
        found = target(gateway, origins, group, name)
        return found if found["state"] == "ejected" else None
    return wait_for(look, "the target ejected", 100)


class Busy:
    """Requests that hold their place at whichever target they come to, until the block is left."""

    def __init__(self, gateway, origins, path, count, one_by_one=False):
        self.gateway, self.origins, self.path, self.count = gateway, origins, path, count
        self.let_go, self.clients, self.one_by_one = threading.Event(), [], one_by_one

    def __enter__(self):
        for name, origin in self.origins.items():
            def answer(exchange, name=name):
                self.let_go.wait(60)
                exchange.send(reply(name.encode()))
            origin.on(self.path, answer)
        for i in range(self.count):
            client = Client(self.gateway.port("http"), timeout=60)
            client.request("GET", self.path)
            self.clients.append(client)
            if self.one_by_one:  # two threads that choose at the same moment may choose the same
                wait_for(lambda: self.at("a") + self.at("b") == i + 1, "the request at a target")
        return self

    def at(self, name):
        return sum(request.target == self.path for request in self.origins[name].requests)

    def responses(self):
        self.let_go.set()
        return [client.response() for client in self.clients]

    def __exit__(self, *_):
        self.let_go.set()
        for client in self.clients:
            client.close()


# --- algorithms ------------------------------------------------------------------------------------------------------


def test_requests_under_way_are_counted_over_all_threads(gateway, origins):
    with Busy(gateway, origins, "/least/busy", 6, one_by_one=True) as busy:
        assert (busy.at("a"), busy.at("b")) == (3, 3)  # whichever thread took them
        assert [r.status for r in busy.responses()] == [200] * 6


def test_the_idle_target_gets_what_a_busy_one_does_not(gateway, origins):
    with Busy(gateway, origins, "/least/one", 1) as busy:
        wait_for(lambda: busy.at("a") + busy.at("b") == 1, "the request at a target")
        idle = b"b" if busy.at("a") else b"a"
        assert {ask(gateway, "/least/x").body for _ in range(20)} == {idle}


def test_a_header_keeps_its_target(gateway):
    seen = {user: {ask(gateway, "/hashed", headers=[("X-User", user)]).body for _ in range(4)} for user in map(str, range(40))}
    assert all(len(bodies) == 1 for bodies in seen.values())
    assert len({next(iter(bodies)) for bodies in seen.values()}) == 2


def test_an_address_keeps_its_target(gateway):
    assert len({ask(gateway, "/by_ip").body for _ in range(20)}) == 1


def test_explain_shows_algorithm_candidates_and_choice(gateway):
    text = gateway.run("explain", f"http://x:{gateway.port('http')}/least", "-c", str(gateway.config_path)).stdout
    assert "least_outstanding_requests among 2 of 2 targets" in text
    assert "is a candidate (weight 1, unchecked, 0 in flight)" in text
    assert "is chosen from \"least\" (weight 1, unchecked, 0 in flight)" in text


# --- limits and the queue --------------------------------------------------------------------------------------------


def test_no_target_ever_has_more_requests_than_its_limit(gateway, origins):
    at_once, most, lock = collections.Counter(), collections.Counter(), threading.Lock()
    for name in "ab":
        def answer(exchange, name=name):
            with lock:
                at_once[name] += 1
                most[name] = max(most[name], at_once[name])
            time.sleep(0.01)
            with lock:
                at_once[name] -= 1
            exchange.send(reply(name.encode()))
        origins[name].answer = answer
    statuses = []

    def client():
        for _ in range(10):
            statuses.append(ask(gateway, "/limited/x").status)
    threads = [threading.Thread(target=client) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert statuses == [200] * 120
    assert dict(most) == {"a": 1, "b": 1}


def test_waiting_requests_are_served_in_turn_when_a_place_is_free(gateway, origins):
    with Busy(gateway, origins, "/limited/busy", 6) as busy:
        wait_for(lambda: gateway.metric("weir_target_queue_requests") == 4, "four requests in the queue")
        wait_for(lambda: (busy.at("a"), busy.at("b")) == (1, 1), "one request at each target")
        assert [r.status for r in busy.responses()] == [200] * 6
    wait_for(lambda: gateway.metric("weir_target_queue_requests") == 0, "nobody in the queue")


def test_a_client_that_leaves_the_queue_takes_no_place(gateway, origins):
    with Busy(gateway, origins, "/limited/left", 4) as busy:
        wait_for(lambda: gateway.metric("weir_target_queue_requests") == 2, "two requests in the queue")
        gone = [c for c in busy.clients]
        waiting = Client(gateway.port("http"))
        waiting.request("GET", "/limited/gone")
        wait_for(lambda: gateway.metric("weir_target_queue_requests") == 3, "three requests in the queue")
        waiting.reset()
        wait_for(lambda: gateway.metric("weir_target_queue_requests") == 2, "two requests in the queue again")
        assert [r.status for r in busy.responses()] == [200] * len(gone)
    assert not any(r.target == "/limited/gone" for o in origins.values() for r in o.requests)
    assert ask(gateway, "/limited/after").status == 200


# --- outliers --------------------------------------------------------------------------------------------------------


def test_a_target_that_answers_5xx_is_ejected_and_comes_back(gateway, origins):
    origins["a"].answer = reply(b"bad", status="500 Internal Server Error")
    with Load(gateway.port("http"), [("GET", "/fragile", None, lambda response: None)], connections=1, pause=0.01):
        ejected = when_ejected(gateway, origins, "fragile", "a")
        assert ejected["ejection"]["reason"] == "consecutive_5xx" and ejected["reason"] == "Target.OutlierEjected"
        assert ejected["changes_history"][0]["by"] == "outlier_detection"
        assert gateway.metric("weir_outlier_ejections_total", reason="consecutive_5xx") >= 1
        wait_for(lambda: gateway.metric("weir_target_group_targets", target_group="fragile", state="ejected") == 1, "the metric")
        origins["a"].answer = reply(b"a")
    wait_for(lambda: ask(gateway, "/fragile").body == b"a", "the target back")
    wait_for(lambda: target(gateway, origins, "fragile", "a")["state"] == "unchecked", "its state")


def test_an_ejected_target_gets_nothing(gateway, origins):
    origins["b"].answer = reply(b"bad", status="503 Service Unavailable")
    wait_for(lambda: ask(gateway, "/gateway").status and target(gateway, origins, "gateway_errors", "b")["state"] == "ejected",
             "the target ejected")
    assert target(gateway, origins, "gateway_errors", "b")["ejection"]["reason"] == "consecutive_gateway_errors"
    origins["b"].settle()
    assert {ask(gateway, "/gateway").body for _ in range(20)} == {b"a"}
    assert not any(request.target == "/gateway" for request in origins["b"].requests)
    # one more would be more than half of the targets
    origins["a"].answer = reply(b"bad", status="503 Service Unavailable")
    assert {ask(gateway, "/gateway").status for _ in range(10)} == {503}
    assert target(gateway, origins, "gateway_errors", "a")["state"] == "unchecked"
    # an operator wants it back before its time
    origins["b"].answer = reply(b"b")
    name = target(gateway, origins, "gateway_errors", "b")["target"]
    assert gateway.admin(f"/api/v1/target_groups/gateway_errors/targets/{name}/enable", "POST")[0] == 200
    assert target(gateway, origins, "gateway_errors", "b")["state"] == "unchecked"
    wait_for(lambda: ask(gateway, "/gateway").body == b"b", "the target back")


def test_500_is_no_gateway_error(gateway, origins):
    for name in "ab":
        origins[name].answer = reply(b"bad", status="500 Internal Server Error")
    for _ in range(20):
        ask(gateway, "/gateway")
    assert {t["state"] for t in targets(gateway, "gateway_errors")} == {"unchecked"}


def test_a_target_that_fails_more_often_than_the_others_is_ejected(gateway, origins):
    turn = [0]

    def half_bad(exchange):
        turn[0] += 1
        exchange.send(reply(b"bad", status="500 Oops") if turn[0] % 2 else reply(b"c"))
    origins["c"].answer = half_bad
    with Load(gateway.port("http"), [("GET", "/compared", None, lambda response: None)], connections=2, pause=0.01) as load:
        def has_gone_without():
            """In the time of an ejection, by what the gateway says before and after."""
            seen = when_ejected(gateway, origins, "compared", "c")
            assert seen["ejection"]["reason"] == "success_rate"
            load.wait_turn()  # what was chosen before
            before = {name: sum(r.target == "/compared" for r in origin.requests) for name, origin in origins.items()}
            load.wait_requests(20)
            after = {name: sum(r.target == "/compared" for r in origin.requests) for name, origin in origins.items()}
            now = target(gateway, origins, "compared", "c")
            if now["state"] != "ejected" or now["ejection"]["ends_in_ms"] > seen["ejection"]["ends_in_ms"]:
                return False  # too late: the next time
            return after["a"] > before["a"] and after["b"] > before["b"] and after["c"] == before["c"]
        wait_for(has_gone_without, "requests go to the others while it is out", 100)


def test_a_target_that_turns_slow_is_ejected(gateway, origins):
    def slowly(exchange):
        time.sleep(0.4)
        exchange.send(reply(b"b"))
    origins["b"].answer = slowly
    with Load(gateway.port("http"), [("GET", "/slow", None, lambda response: None)], connections=4, pause=0.02):
        assert when_ejected(gateway, origins, "slow", "b")["ejection"]["reason"] == "latency"


# --- failover --------------------------------------------------------------------------------------------------------


def test_another_group_takes_over_while_too_few_targets_are_healthy(gateway, origins):
    wait_for(lambda: ask(gateway, "/failover").body == b"a", "the main group healthy")
    origins["a"].on("/healthz", reply(status="503 Service Unavailable"))
    wait_for(lambda: ask(gateway, "/failover").body == b"b", "the spare group")
    assert {ask(gateway, "/failover").body for _ in range(10)} == {b"b"}
    origins["a"].on("/healthz", OK)
    wait_for(lambda: ask(gateway, "/failover").body == b"a", "the main group again")


# --- shares that change ----------------------------------------------------------------------------------------------


def explained(gateway, path):
    """The running gateway's own word: its targets, their health and shares."""
    body = json.dumps({"url": f"http://x:{gateway.port('http')}{path}"}).encode()
    connection = UnixConnection(gateway.admin_socket)
    connection.request("POST", "/api/v1/explain", body, {"Content-Type": "application/json"})
    return connection.getresponse().read().decode()


def test_a_target_that_became_healthy_begins_with_a_small_share(gateway, origins):
    healthy = lambda: [t["state"] for t in targets(gateway, "warming")] == ["healthy"] * 2
    wait_for(healthy, "both healthy")
    assert "of it" not in explained(gateway, "/warming")  # the first batch is warm
    origins["b"].on("/warm", reply(status="503 Service Unavailable"))
    wait_for(lambda: target(gateway, origins, "warming", "b")["state"] == "unhealthy", "the target unhealthy")
    origins["b"].on("/warm", OK)
    wait_for(healthy, "both healthy again")
    wait_for(lambda: "healthy, at 10% of it" in explained(gateway, "/warming"), "a tenth of its share")
    assert collections.Counter(ask(gateway, "/warming").body for _ in range(44))[b"b"] <= 12


@pytest.mark.timeout(240)
def test_an_anomalous_target_keeps_a_small_share_until_it_does_better(gateway, origins):
    origins["b"].answer = reply(b"bad", status="500 Oops")
    wait_for(lambda: ask(gateway, "/random").status and "at 6% of it" in explained(gateway, "/random"), "the weight cut",
             timeout=100)
    assert collections.Counter(ask(gateway, "/random").status for _ in range(60))[500] <= 15
    origins["b"].answer = reply(b"b")
    wait_for(lambda: "at 6% of it" not in explained(gateway, "/random") and "at 19% of it" in explained(gateway, "/random"),
             "some of the weight back", timeout=100)
