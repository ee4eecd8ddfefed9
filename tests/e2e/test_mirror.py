"""Copies of requests for a shadow group: they are equal, and whatever becomes of them is no matter of the request."""
import json
import threading

import pytest

from client import Client, fetch
from origin import Origin, reply
from weir import CONFIG, Weir, wait_for

CONFIGURATION = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  main: {targets: ["127.0.0.1:@main@"], health_check: {enabled: false}}
  shadow: {targets: ["127.0.0.1:@shadow@"], health_check: {enabled: false}, timeouts: {first_byte: 60s, connect: 20s}}
  hasty: {targets: ["127.0.0.1:@shadow@"], health_check: {enabled: false}, timeouts: {first_byte: 300ms, connect: 20s}}
  dead: {targets: ["127.0.0.1:@dead@"], health_check: {enabled: false}}
  nobody: {targets: []}
routes:
  - {name: some, match: {path: /some}, mirror: {group: shadow, percent: 30%}, forward: main}
  - {name: small, match: {path: /small}, mirror: {group: shadow, max_body: 1000}, forward: main}
  - {name: renamed, match: {path: "/renamed/*"}, mirror: {group: shadow, host_suffix: -shadow},
     rewrite: {path: "^/renamed/(.*)$", to: "/v2/$1"}, request_headers: {set: {x-team: a}}, forward: main}
  - {name: few, match: {path: /few}, mirror: {group: shadow, max_requests: 2}, forward: main}
  - {name: dead, match: {path: /dead}, mirror: dead, forward: main}
  - {name: nobody, match: {path: /nobody}, mirror: nobody, forward: main}
  - {name: down, match: {path: /down}, mirror: shadow, forward: dead}
  - {name: hasty, match: {path: /hasty}, mirror: hasty, forward: main}
  - {name: all, match: {path: "/m*"}, mirror: shadow, forward: main}
  - {name: plain, forward: main}
"""


@pytest.fixture(scope="module")
def origins():
    with Origin() as main, Origin() as shadow:
        yield main, shadow


@pytest.fixture(scope="module")
def gateway(origins):
    with Weir(CONFIGURATION, main=origins[0].port, shadow=origins[1].port) as gateway:
        yield gateway


@pytest.fixture
def both(origins):
    for origin in origins:
        origin.settle()
    return origins


def counts(gateway):
    return [gateway.metric("weir_mirror_requests_total", result="answered"),
            gateway.metric("weir_mirror_requests_total", result="failed"), gateway.metric("weir_mirror_dropped_total")]


def wait_counts(gateway, before, answered=0, failed=0, dropped=0):
    wanted = [a + b for a, b in zip(before, (answered, failed, dropped))]
    wait_for(lambda: counts(gateway) == wanted, f"counts {wanted}, have {counts(gateway)}")


@pytest.mark.parametrize("method, body", [("GET", None), ("HEAD", None), ("POST", b"hello"), ("PUT", b"x" * 200_000), ("POST", b"")],
                         ids=["get", "head", "post", "large", "empty"])
def test_the_copy_equals_what_the_target_gets(gateway, both, method, body):
    before = counts(gateway)
    response = fetch(gateway.port("http"), "/m?a=%41", method, [("X-A", "1"), ("x-a", "2"), ("Cookie", "c=d")], body)
    assert response.status == 200
    main, shadow = both[0].take(), both[1].take()
    assert shadow.line == main.line and shadow.body == main.body == (body or b"")
    assert shadow.get("x-weir-shadow") == "true"
    assert [field for field in shadow.fields if field[0] != "x-weir-shadow"] == main.fields
    wait_counts(gateway, before, answered=1)


def test_a_chunked_body_is_copied_whole(gateway, both):
    with Client(gateway.port("http")) as client:
        client.send(b"POST /m HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(50):
            client.send(b"5\r\nab%03d\r\n" % i)
        client.send(b"0\r\n\r\n")
        assert client.response().status == 200
    assert both[1].take().body == both[0].take().body == b"".join(b"ab%03d" % i for i in range(50))


def test_what_the_route_changes_is_changed_in_the_copy_too(gateway, both):
    fetch(gateway.port("http"), "/renamed/x", host="shop.example:8080")
    main, shadow = both[0].take(), both[1].take()
    assert main.target == shadow.target == "/v2/x" and shadow.get("x-team") == "a"
    assert main.get("host") == "shop.example:8080" and shadow.get("host") == "shop.example-shadow:8080"


def test_a_percentage_is_a_share_of_the_requests(gateway, both):
    before = counts(gateway)
    with Client(gateway.port("http")) as client:
        for _ in range(500):
            client.request("GET", "/some")
            assert client.response().status == 200
    wait_for(lambda: not gateway.metric("weir_requests_in_flight"), "all to be done")
    wait_for(lambda: counts(gateway)[0] - before[0] == len(both[1].requests) > 0, "the copies to be answered")
    copies = counts(gateway)[0] - before[0]
    assert 88 < copies < 212  # 30 %, six standard deviations


def test_routes_without_the_policy_copy_nothing(gateway, both):
    fetch(gateway.port("http"), "/other")
    both[0].take()
    assert not both[1].requests


def test_a_shadow_that_does_not_answer_delays_nobody(gateway, both):
    before = counts(gateway)
    release = threading.Event()
    both[1].on("/m", lambda exchange: (release.wait(60), exchange.send(reply(b"at last"))))
    both[1].on("/hasty", lambda exchange: release.wait(60))
    for path in ("/m", "/hasty"):
        assert fetch(gateway.port("http"), path).status == 200
    both[1].wait(2)
    wait_counts(gateway, before, failed=1)  # first_byte of its group
    release.set()
    wait_counts(gateway, before, failed=1, answered=1)


@pytest.mark.parametrize("path", ["/dead", "/nobody"])
def test_a_shadow_that_is_away_fails_nobody(gateway, both, path):
    before = counts(gateway)
    assert fetch(gateway.port("http"), path, "POST", body=b"abc").status == 200
    wait_counts(gateway, before, failed=1)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", reply(b"x" * 5_000_000),
                                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"], ids=["500", "large", "chunked"])
def test_what_the_shadow_answers_is_thrown_away(gateway, both, answer):
    before = counts(gateway)
    both[1].on("/m", answer)
    response = fetch(gateway.port("http"), "/m")
    assert response.status == 200 and response.body == b"ok"
    wait_counts(gateway, before, answered=1)


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort"], ids=["no HTTP", "truncated"])
def test_a_broken_answer_of_the_shadow_is_only_counted(gateway, both, answer):
    before = counts(gateway)
    both[1].on("/m", lambda exchange: (exchange.send(answer), exchange.close()))
    assert fetch(gateway.port("http"), "/m").status == 200
    wait_counts(gateway, before, failed=1)


def test_a_connection_that_had_died_costs_no_copy(gateway, both):
    fetch(gateway.port("http"), "/m")
    both[1].wait(1)
    before = counts(gateway)
    for _ in range(5):
        both[1].on("/m", lambda exchange: (exchange.send(reply(b"bye")), exchange.close()))
        fetch(gateway.port("http"), "/m", "POST", body=b"body")
    wait_counts(gateway, before, answered=5)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_above_the_limit_is_not_copied(gateway, both, is_chunked):
    before = counts(gateway)
    for size, dropped in ((1000, 0), (1001, 1)):
        body = b"x" * size
        if is_chunked:
            with Client(gateway.port("http")) as client:
                client.send(b"POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (size, body))
                assert client.response().status == 200
        else:
            assert fetch(gateway.port("http"), "/small", "POST", body=body).status == 200
        wait_counts(gateway, before, answered=1, dropped=dropped)
    assert [len(request.body) for request in both[1].requests] == [1000]


def test_copies_under_way_are_bounded(gateway, both):
    before = counts(gateway)
    release = threading.Event()
    both[1].on("/few", lambda exchange: (release.wait(60), exchange.send(reply(b"late"))))
    for _ in range(6):
        assert fetch(gateway.port("http"), "/few").status == 200
    wait_counts(gateway, before, dropped=4)
    release.set()
    wait_counts(gateway, before, answered=2, dropped=4)


def test_a_request_that_breaks_off_leaves_no_copy(gateway, both):
    before = counts(gateway)
    with Client(gateway.port("http")) as client:
        client.send(b"POST /m HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nonly this")
        wait_for(lambda: both[0].requests, "the request to reach its target")
        client.reset()
    wait_counts(gateway, before, dropped=1)
    assert not both[1].requests


def test_the_copy_is_sent_though_the_target_is_down(gateway, both):
    before = counts(gateway)
    assert fetch(gateway.port("http"), "/down").status == 502
    wait_counts(gateway, before, answered=1)


def test_a_process_that_ends_gives_its_copies_up(weir, origins):
    main, shadow = origins
    shadow.settle()
    hold = threading.Event()
    shadow.on("/m", lambda exchange: hold.wait(60))
    gateway = weir(CONFIGURATION.replace("first_byte: 60s", "first_byte: 1h"), main=main.port, shadow=shadow.port)
    assert fetch(gateway.port("http"), "/m").status == 200
    shadow.wait(1)
    gateway.reload()
    assert gateway.terminate() == 0
    hold.set()


def test_explain_names_the_shadow(gateway):
    done = gateway.run("explain", f"http://127.0.0.1:{gateway.port('http')}/some", "-c", CONFIG, "--json")
    step = next(step for step in json.loads(done.stdout)["steps"] if step["stage"] == "mirror")
    assert step["text"] == '30% of the requests are copied to "shadow"'
    assert step["line"] == next(i for i, text in enumerate(CONFIGURATION.splitlines(), 1) if "name: some" in text)
