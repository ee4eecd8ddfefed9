"""Faults made on purpose: delays and errors by chance, by certainty and by header."""
import json

import pytest

from client import Client, elapsed, fetch
from origin import Origin
from weir import CONFIG, Weir, wait_for

CONFIGURATION = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
trusted_proxies: [127.0.0.2]
target_groups: {all: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}}
routes:
  - {name: slow, match: {path: "/slow*"}, fault: {delay: 300ms}, forward: all}
  - {name: slow_error, match: {path: /both}, fault: {delay: {duration: 200ms}, abort: {status: 429}}, forward: all}
  - {name: some, match: {path: /some}, fault: {abort: {percent: 30%, status: 500}}, respond: {body: fine}}
  - {name: none, match: {path: /none}, fault: {abort: {percent: 0%}, delay: {percent: 0%, duration: 1h}}, respond: {body: fine}}
  - {name: asked, match: {path: /asked}, fault: {by_header: everybody, max_delay: 300ms}, respond: {body: fine}}
  - {name: trusted, match: {path: /trusted}, fault: {by_header: trusted}, respond: {body: fine}}
  - {name: long, match: {path: /long}, fault: {delay: 1h}, forward: all}
  - {name: all, forward: all}
error_pages: {"429": {body: "too much"}}
"""


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(origin):
    with Weir(CONFIGURATION, origin=origin.port) as gateway:
        yield gateway


def ask(gateway, path, headers=(), **options):
    return elapsed(lambda: fetch(gateway.port("http"), path, headers=headers, **options))


def test_a_delay_holds_the_request_back_and_then_serves_it(gateway, origin):
    before = gateway.metric("weir_faults_total", kind="delay")
    response, seconds = ask(gateway, "/slow")
    assert response.status == 200 and response.body == b"ok"
    assert seconds > 0.29
    assert gateway.metric("weir_faults_total", kind="delay") == before + 1


def test_a_body_waits_with_its_request(gateway, origin):
    origin.settle()
    body = b"x" * 300_000
    response, seconds = elapsed(lambda: fetch(gateway.port("http"), "/slow", "POST", body=body))
    assert response.status == 200 and seconds > 0.29
    assert origin.take().body == body


def test_an_error_follows_its_delay(gateway, origin):
    origin.settle()
    response, seconds = ask(gateway, "/both")
    assert response.status == 429 and response.body == b"too much" and seconds > 0.19
    assert not origin.requests
    entry = gateway.wait_log(lambda entry: entry["path"] == "/both")[0]
    assert entry["reason"] == "FAULT_INJECTED" and entry["status"] == 429 and entry["target"] is None


def test_a_percentage_is_a_share_of_the_requests(gateway):
    count = 1000
    with Client(gateway.port("http")) as client:
        statuses = []
        for _ in range(count):
            client.request("GET", "/some")
            statuses.append(client.response().status)
    errors = statuses.count(500)
    assert errors + statuses.count(200) == count
    assert 215 < errors < 385  # 30 %, six standard deviations
    response, _ = ask(gateway, "/none")
    assert response.body == b"fine"


def test_headers_make_faults_of_their_own(gateway):
    response, seconds = ask(gateway, "/asked", {"x-weir-fault-abort": "418"})
    assert response.status == 418
    response, seconds = ask(gateway, "/asked", {"X-Weir-Fault-Delay": "200"})
    assert response.body == b"fine" and seconds > 0.19
    response, seconds = ask(gateway, "/asked", {"x-weir-fault-delay": "200", "x-weir-fault-abort": "502"})
    assert response.status == 502 and seconds > 0.19
    response, seconds = ask(gateway, "/asked", {"x-weir-fault-delay": "600000"})  # max_delay
    assert response.body == b"fine" and seconds > 0.29


@pytest.mark.parametrize("headers", [
    {}, {"x-weir-fault-abort": "200"}, {"x-weir-fault-abort": "abc"}, {"x-weir-fault-abort": "99999999999999999999"},
    {"x-weir-fault-abort": ""}, {"x-weir-fault-delay": "-1"}, [("x-weir-fault-abort", "500"), ("x-weir-fault-abort", "501")]])
def test_what_is_no_fault_is_served(gateway, headers):
    response, _ = ask(gateway, "/asked", headers)
    assert response.body == b"fine"


def test_only_those_who_may_make_faults_by_header(gateway):
    assert ask(gateway, "/trusted", {"x-weir-fault-abort": "500"})[0].status == 200
    assert ask(gateway, "/trusted", {"x-weir-fault-abort": "500"}, source="127.0.0.2")[0].status == 500
    assert ask(gateway, "/some?", {"x-weir-fault-abort": "504"}, source="127.0.0.2")[0].status in (200, 500)


def test_a_client_that_leaves_ends_its_delay(gateway, origin):
    origin.settle()
    before = gateway.metric("weir_requests_in_flight")
    for body in (None, b"x" * 1000):
        client = Client(gateway.port("http"))
        client.request("POST", "/long", body=body)
        wait_for(lambda: gateway.metric("weir_requests_in_flight") > before, "the request to wait")
        client.reset()
        wait_for(lambda: gateway.metric("weir_requests_in_flight") == before, "the request to be gone")
    assert not origin.requests


def test_a_delay_survives_a_reload_and_a_shutdown_cuts_it_off(weir, origin):
    origin.settle()
    gateway = weir(CONFIGURATION.replace("300ms}, forward", "1500ms}, forward") + "shutdown_timeout: 200ms\n", origin=origin.port)
    with Client(gateway.port("http")) as client, Client(gateway.port("http")) as waiting:
        client.request("GET", "/slow")
        waiting.request("GET", "/long")
        gateway.reload()
        assert client.response().body == b"ok"
        assert gateway.terminate() == 0
        assert waiting.is_closed()


def explain(gateway, path, *args):
    done = gateway.run("explain", f"http://127.0.0.1:{gateway.port('http')}{path}", "-c", CONFIG, "--json", *args)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer, [(step["text"], step["line"]) for step in answer["steps"] if step["stage"] == "fault"]


def test_explain_tells_what_may_happen_and_draws_nothing(gateway):
    def line(name):
        return next(i for i, text in enumerate(CONFIGURATION.splitlines(), 1) if f"name: {name}," in text)
    answer, steps = explain(gateway, "/slow")
    assert steps == [("100% of the requests wait 300ms", line("slow"))] and answer["target_group"] == "all"
    answer, steps = explain(gateway, "/some")
    assert steps == [("30% of the requests are answered 500", line("some"))] and answer["status"] == 200
    answer, steps = explain(gateway, "/both")
    assert answer["reason"] == "FAULT_INJECTED" and answer["status"] == 429
    answer, steps = explain(gateway, "/asked", "-H", "x-weir-fault-delay: 20")
    assert steps == [("waits 20ms (x-weir-fault-delay)", line("asked"))]
