"""Sentences of spec/alb.md sections 1 to 4 that no other test proves: each test says which."""
import json
import threading

import pytest

from client import Client, fetch
from h2client import H2Client
from origin import Origin, reply
from weir import Weir, wait_for

TEXT = """
listeners:
  http: {address: "127.0.0.1:@http@"}
  h2c: {address: "127.0.0.1:@h2c@", protocols: h2}
target_groups:
  origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
routes:
  - {name: all, forward: origin}
"""


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(origin):
    with Weir(TEXT, origin=origin.port) as running:
        yield running


# --- 1. Listeners ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "MY-OWN_1"])
def test_every_method_but_trace_and_connect_reaches_the_target(gateway, origin, method):
    """1.1"""
    assert fetch(gateway.port("http"), f"/{method}", method=method).status == 200
    with H2Client(gateway.port("h2c")) as client:
        assert client.fetch(f"/{method}", method).status == 200
    assert [r.method for r in origin.requests if r.target == f"/{method}"] == [method] * 2


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_trace_and_connect_are_not_served(gateway, origin, method):
    """1.1"""
    target = "a:80" if method == "CONNECT" else "/not-served"
    assert fetch(gateway.port("http"), target, method=method).status == 405
    assert not [r for r in origin.requests if r.method == method]


def test_an_expectation_over_http2_is_not_passed_on(gateway, origin):
    """1.5; the 100 that an ALB leaves out is sent (RFC 9110 10.1.1)"""
    with H2Client(gateway.port("h2c")) as client:
        stream = client.headers([(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/expect"),
                                 ("expect", "100-continue")], end=False)
        client.data(stream, b"body", end=True)
        answer = client.answer(stream)
        assert answer.status == 200
    (seen,) = [r for r in origin.requests if r.target == "/expect"]
    assert seen.body == b"body" and not seen.all("Expect")


# --- 2. Rules --------------------------------------------------------------------------------------------------------
RULES = """
listeners:
  http: {address: "127.0.0.1:@http@"}
target_groups:
  none: {targets: []}
  a: {targets: ["127.0.0.1:@a@"], health_check: {enabled: false}}
  b: {targets: ["127.0.0.1:@b@"], health_check: {enabled: false}}
  sick: {targets: ["127.0.0.1:@dead1@", "127.0.0.1:@dead2@", "127.0.0.1:@dead3@"], health_check: {interval: 100ms, timeout: 20s, unhealthy_threshold: 1}}
  sticky_a: {targets: ["127.0.0.1:@a@"], health_check: {enabled: false}, stickiness: {lb_cookie: 1h}}
  sticky_b: {targets: ["127.0.0.1:@b@"], health_check: {enabled: false}, stickiness: {lb_cookie: 1h}}
routes:
  - {name: images, match: {path: "/img/*"}, respond: {status: 200, body: images}}
  - {name: deep, match: {path: "/deep/*/pics"}, respond: {status: 200, body: deep}}
  - {name: one, match: {path: "/one/?"}, respond: {status: 200, body: one}}
  - {name: two_values, match: {path: /two, header: [{x-tag: "*red*"}, {x-tag: "*blue*"}]}, respond: {status: 200, body: two}}
  - {name: hosts, match: {path: /host, host: "*.example.com"}, respond: {status: 200, body: hosts}}
  - {name: chrome, match: {path: /agent, header: {User-Agent: "*chrome*"}}, respond: {status: 200, body: chrome}}
  - {name: star, match: {path: /query, query: {"*": 'a\\*b'}}, respond: {status: 200, body: star}}
  - {name: version, match: {path: /query, query: {"ver*": "v?"}}, respond: {status: 200, body: version}}
  - {name: any_key, match: {path: /query, query: {"*": "*example*"}}, respond: {status: 200, body: any key}}
  - {name: method, match: {path: /method, method: [PUT, MY-OWN]}, respond: {status: 200, body: method}}
  - {name: redirect, match: {path: "/x/*"}, redirect: {scheme: https, port: 443, path: "/new/#{path}", query: "#{query}", status: 301}}
  - {name: weight_zero, match: {path: /weight_zero}, forward: {groups: [{group: none, weight: 1}, {group: a, weight: 0}]}}
  - {name: only_b, match: {path: /only_b}, forward: {groups: [{group: a, weight: 0}, {group: b, weight: 999}]}}
  - {name: sick_group, match: {path: /sick}, forward: {groups: [{group: sick, weight: 1}, {group: a, weight: 0}]}}
  - {name: both_cookies, match: {path: /both}, forward: {groups: [sticky_a, sticky_b], stickiness: 1h}}
  - {name: product, match: {path: "/dp/*"}, rewrite: {url: "^/dp/([A-Za-z0-9]+)/?$", to: "/product.php?id=$1"}, forward: a}
  - {name: dev, match: {host: "mywebsite-*"}, rewrite: {host_regex: "^mywebsite-(.+).com$", host: "internal.dev.$1.myweb.com"}, forward: a}
  - {name: broken, match: {path: "/broken/*"}, rewrite: {url: "^/broken/(.*)$", to: "$1"}, forward: a}
  - {name: default, match: {listener: http}, respond: {status: 404, body: default}}
"""


@pytest.fixture(scope="module")
def origins():
    with Origin(reply(b"a")) as a, Origin(reply(b"b")) as b:
        yield {"a": a, "b": b}


@pytest.fixture(scope="module")
def rules(origins):
    with Weir(RULES, a=origins["a"].port, b=origins["b"].port) as running:
        yield running


@pytest.mark.parametrize("target, options, expected", [
    ("/img/a.png?x=1", {}, "images"), ("/IMG/a.png", {}, "default"), ("/img", {}, "default"),  # vector 1
    ("/img/", {}, "images"), ("/img/%61/../b", {}, "images"),                                 # unreserved, dot segments
    ("/deep/a/b/pics", {}, "deep"), ("/one/x", {}, "one"), ("/one/", {}, "default"), ("/one/xy", {}, "default"),
    ("/host", {"host": "A.Example.COM"}, "hosts"), ("/host", {"host": "example.com"}, "default"),  # vector 2
    ("/host", {"host": "a.b.example.com"}, "hosts"), ("/host", {"host": "a.example.com:8080"}, "hosts"),
    ("/agent", {"headers": [("User-Agent", "Mozilla Chrome/1")]}, "chrome"),                   # vector 3
    ("/agent", {"headers": [("User-Agent", "lynx"), ("user-agent", "CHROME")]}, "chrome"),     # each occurrence
    ("/agent", {"headers": [("User-Agent", "chrom")]}, "default"),
    ("/query?k=a*b", {}, "star"), ("/query?k=axb", {}, "default"), ("/query?k=A*B", {}, "star"),  # vector 4
    ("/query?VERSION=V1", {}, "version"), ("/query?version=v10", {}, "default"), ("/query?my=1&x=an+example", {}, "any key"),
    ("/query?x=%65xample", {}, "default"),                                                     # compared as sent
    ("/two", {"headers": [("X-Tag", "red"), ("X-Tag", "blue")]}, "two"), ("/two", {"headers": [("X-Tag", "red")]}, "default"),
    ("/method", {"method": "MY-OWN"}, "method"), ("/method", {"method": "put"}, "default"),
])
def test_a_condition_takes_what_an_alb_takes(rules, target, options, expected):
    """2.1, 2.2 and vectors 1 to 4"""
    assert fetch(rules.port("http"), target, **options).text == expected


def test_redirect_of_vector_5(rules):
    response = fetch(rules.port("http"), "/x/y?q=1", host="h")
    assert (response.status, response.get("location")) == (301, "https://h:443/new/x/y?q=1")


def test_a_request_stays_with_the_group_that_was_drawn(rules):
    """2.3 and vector 16: an empty group is 503 whatever the others have; weight 0 gets nothing"""
    assert {fetch(rules.port("http"), "/weight_zero").status for _ in range(10)} == {503}
    assert {fetch(rules.port("http"), "/only_b").body for _ in range(20)} == {b"b"}
    assert fetch(rules.port("http"), "/sick").status == 502  # one of the sick ones was asked, not the other group


def test_a_request_may_carry_the_session_of_its_group_and_of_its_target(rules):
    """2.3"""
    first = fetch(rules.port("http"), "/both")
    names = [cookie.split("=")[0] for cookie in first.all("set-cookie")]
    assert sorted(names) == ["AWSALB", "AWSALBCORS", "AWSALBTG", "AWSALBTGCORS"]
    cookies = "; ".join(cookie.split(";")[0] for cookie in first.all("set-cookie"))
    assert {fetch(rules.port("http"), "/both", headers=[("Cookie", cookies)]).body for _ in range(20)} == {first.body}


def test_transforms_of_the_examples(rules, origins):
    """2.7"""
    assert fetch(rules.port("http"), "/dp/B09G3HRMW").status == 200
    assert origins["a"].requests[-1].target == "/product.php?id=B09G3HRMW"
    assert fetch(rules.port("http"), "/dp/a-b?x=/y").status == 200  # no match: unchanged
    assert origins["a"].requests[-1].target == "/dp/a-b?x=/y"
    assert fetch(rules.port("http"), "/anything?q", host="mywebsite-shop.com").status == 200
    assert origins["a"].requests[-1].get("Host") == "internal.dev.shop.myweb.com"
    assert fetch(rules.port("http"), "/broken/nowhere").status == 500  # matched, but the result is no path


# --- 3. Target groups ------------------------------------------------------------------------------------------------
GROUPS = """
zone: here
listeners:
  http: {address: "127.0.0.1:@http@"}
target_groups:
  none: {targets: []}
  three_sick: {targets: ["127.0.0.1:@a@", "127.0.0.1:@b@", "127.0.0.1:@c@"], health_check: {path: /sick, interval: 100ms, timeout: 20s, unhealthy_threshold: 1}}
  initial: {targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"], health_check: {path: /never, interval: 1h, timeout: 2m}}
  percent: {targets: ["127.0.0.1:@a@", "127.0.0.1:@b@", "127.0.0.1:@c@"], minimum_healthy: {percent: 50%}, health_check: {path: /only_c, interval: 100ms, timeout: 20s, unhealthy_threshold: 1}}
  enough: {targets: ["127.0.0.1:@a@", "127.0.0.1:@b@", "127.0.0.1:@c@"], minimum_healthy: {percent: 33%}, health_check: {path: /only_c, interval: 100ms, timeout: 20s, unhealthy_threshold: 1}}
  by_zone:
    targets: [{address: "127.0.0.1:@a@", zone: here}, {address: "127.0.0.1:@b@", zone: here}, {address: "127.0.0.1:@c@", zone: there}]
    zones: only
    minimum_healthy: {percent: 60%}
    health_check: {path: /not_b, interval: 100ms, timeout: 20s, unhealthy_threshold: 1}
  other_zone: {targets: [{address: "127.0.0.1:@a@", zone: there}], zones: only, health_check: {enabled: false}}
  drained: {targets: ["127.0.0.1:@a@"], health_check: {enabled: false}}
  fresh: {targets: ["127.0.0.1:@a@"], health_check: {path: /fresh, interval: 200ms, timeout: 20s, healthy_threshold: 5}}
routes:
  - {name: none, match: {path: /none}, forward: none}
  - {name: three_sick, match: {path: /three_sick}, forward: three_sick}
  - {name: initial, match: {path: /initial}, forward: initial}
  - {name: percent, match: {path: /percent}, forward: percent}
  - {name: enough, match: {path: /enough}, forward: enough}
  - {name: by_zone, match: {path: /by_zone}, forward: by_zone}
  - {name: other_zone, match: {path: /other_zone}, forward: other_zone}
  - {name: drained, match: {path: "/drained*"}, forward: drained}
  - {name: fresh, match: {path: /fresh}, forward: fresh}
"""


@pytest.fixture(scope="module")
def three():
    with Origin(reply(b"a")) as a, Origin(reply(b"b")) as b, Origin(reply(b"c")) as c:
        held = threading.Event()
        for name, server in (("a", a), ("b", b), ("c", c)):
            sick = reply(b"sick", status="500 Internal Server Error")
            server.on("/sick", sick)
            server.on("/never", lambda exchange: held.wait(110))
            server.on("/only_c", reply(b"well") if name == "c" else sick)
            server.on("/not_b", reply(b"well") if name != "b" else sick)
        yield {"a": a, "b": b, "c": c}
        held.set()


@pytest.fixture(scope="module")
def groups(three):
    with Weir(GROUPS, **{name: server.port for name, server in three.items()}) as running:
        wait_for(lambda: states(running, "percent") == states(running, "enough") == ["unhealthy", "unhealthy", "healthy"]
                 and states(running, "three_sick") == ["unhealthy"] * 3
                 and states(running, "by_zone") == ["healthy", "unhealthy", "healthy"], "every state known")
        yield running


def states(gateway, group):
    return [target["state"] for target in json.loads(gateway.admin(f"/api/v1/target_groups/{group}")[1])["targets"]]


def answers(gateway, group, times=24):
    return {response.text if response.status == 200 else response.status
            for response in (fetch(gateway.port("http"), f"/{group}") for _ in range(times))}


@pytest.mark.parametrize("group, expected", [
    ("none", {503}), ("three_sick", {"a", "b", "c"}),   # vector 15
    ("initial", {"a", "b"}),                            # initial targets take part in fail-open
    ("percent", {"a", "b", "c"}),                       # one of three is below 50 %: all registered
    ("enough", {"c"}),                                  # but not below 33 %
    ("by_zone", {"a", "b"}),                            # one of two in the zone is below 60 %: all of the zone
    ("other_zone", {503}),                              # nobody in the zone
])
def test_too_few_healthy_targets_open_the_group_and_none_is_503(groups, group, expected):
    """3.6 and vector 15"""
    assert answers(groups, group) == expected


def test_a_drained_target_ends_what_it_has_and_gets_nothing_new(groups, three):
    """3.5"""
    let_go = threading.Event()

    def slow(exchange):
        let_go.wait(60)
        exchange.send(reply(b"late"))
    three["a"].on("/drained/slow", slow)
    path = f"/api/v1/target_groups/drained/targets/127.0.0.1:{three['a'].port}/"
    with Client(groups.port("http"), timeout=60) as client:
        client.request("GET", "/drained/slow")
        wait_for(lambda: any(r.target == "/drained/slow" for r in three["a"].requests), "the request at its target")
        assert groups.admin(path + "drain", "POST")[0] == 200
        assert states(groups, "drained") == ["draining"] and answers(groups, "drained", 4) == {503}
        let_go.set()
        assert client.response().text == "late"
    assert groups.admin(path + "enable", "POST")[0] == 200
    assert answers(groups, "drained", 4) == {"a"}


# --- 4. Health checks ------------------------------------------------------------------------------------------------


def test_a_new_target_is_healthy_after_one_check_and_a_sick_one_after_the_threshold(groups, three):
    """4 and vector 17"""
    def target():
        return json.loads(groups.admin("/api/v1/target_groups/fresh")[1])["targets"][0]
    wait_for(lambda: target()["state"] == "healthy", "a healthy target")
    assert target()["changes_history"][-1]["state"] == "healthy" and target()["checks_history"][-1]["result"] == "pass"
    three["a"].on("/fresh", reply(b"", status="404 Not Found"))
    wait_for(lambda: target()["state"] == "unhealthy", "an unhealthy one")
    assert target()["reason"] == "Target.ResponseCodeMismatch"
    before = target()["checks"]
    three["a"].on("/fresh", reply(b"well"))
    wait_for(lambda: target()["state"] == "healthy", "a healthy target again")
    assert target()["checks"] - before >= 5
