"""explain of a running gateway, swept over everything that decides which target a request goes to: what it shows, and
that a real request goes where it says wherever that is not left to chance."""
import json
import re
import threading

import pytest

from client import Client, fetch
from origin import Origin, reply
from weir import UnixConnection, Weir, wait_for

ALL = '["127.0.0.1:@a@", "127.0.0.1:@b@", "127.0.0.1:@c@"]'
UNCHECKED = "health_check: {enabled: false}"
SICK = "health_check: {path: /sick, interval: 100ms, timeout: 20s, unhealthy_threshold: 1}"
BY_PORT = "health_check: {path: /only_b, interval: 100ms, timeout: 20s, unhealthy_threshold: 1, healthy_threshold: 1}"
GROUPS = {
    "round_robin": f"targets: {ALL}, {UNCHECKED}",
    "least": f"targets: {ALL}, {UNCHECKED}, algorithm: least_outstanding_requests",
    "two": f"targets: {ALL}, {UNCHECKED}, algorithm: random_two_choices",
    "random": f"targets: {ALL}, {UNCHECKED}, algorithm: weighted_random",
    "ewma": f"targets: {ALL}, {UNCHECKED}, algorithm: peak_ewma",
    "by_header": f"targets: {ALL}, {UNCHECKED}, algorithm: {{type: consistent_hash, by: header, name: x-user}}",
    "by_cookie": f"targets: {ALL}, {UNCHECKED}, algorithm: {{type: consistent_hash, by: cookie, name: user}}",
    "by_path": f"targets: {ALL}, {UNCHECKED}, algorithm: {{type: consistent_hash, by: path}}",
    "by_ip": f"targets: {ALL}, {UNCHECKED}, algorithm: {{type: consistent_hash, by: client_ip}}",
    "source_ip": f"targets: {ALL}, {UNCHECKED}, stickiness: {{source_ip: true}}",
    "weights": f'targets: [{{address: "127.0.0.1:@a@", weight: 0}}, {{address: "127.0.0.1:@b@", weight: 7}}], {UNCHECKED}',
    "operator": f"targets: {ALL}, {UNCHECKED}",
    "draining": f"targets: {ALL}, {UNCHECKED}",
    "ejected": f'targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"], {UNCHECKED}, retry: 0, '
               "outlier_detection: {consecutive_5xx: 1, consecutive_gateway_errors: 0, ejection_time: 60s, max_ejected: 100%}",
    "checked": f"targets: {ALL}, {BY_PORT}",
    "initial": f'targets: ["127.0.0.1:@a@"], health_check: {{path: /never, interval: 1h, timeout: 2m}}',
    "panic": f'targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"], {SICK}, algorithm: {{type: consistent_hash, by: path}}',
    "too_few": f"targets: {ALL}, {BY_PORT}, minimum_healthy: 2",
    "zone_prefer": f'targets: [{{address: "127.0.0.1:@a@", zone: there}}, {{address: "127.0.0.1:@b@", zone: here}}], {UNCHECKED}, zones: prefer',
    "zone_spill": f'targets: [{{address: "127.0.0.1:@a@", zone: here}}, {{address: "127.0.0.1:@b@", zone: here}}, '
                  f'{{address: "127.0.0.1:@c@", zone: there}}], zones: {{mode: prefer, spill_below: 100%}}, '
                  "health_check: {path: /not_a, interval: 100ms, timeout: 20s, unhealthy_threshold: 1}",
    "zone_only": f'targets: [{{address: "127.0.0.1:@a@", zone: there}}, {{address: "127.0.0.1:@b@", zone: here}}], {UNCHECKED}, zones: only',
    "fails_over": f'targets: ["127.0.0.1:@a@"], {SICK}, failover: step',
    "step": f'targets: ["127.0.0.1:@b@"], {SICK}, failover: weights',
    "no_way_out": f'targets: ["127.0.0.1:@a@"], {SICK}, failover: down',
    "down": f'targets: ["127.0.0.1:@b@"], {SICK}',
    "empty": "targets: []",
    "slow_start": 'targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"], slow_start: 15m, '
                  "health_check: {path: /warm, interval: 300ms, timeout: 20s, unhealthy_threshold: 1, healthy_threshold: 1}",
    "lb_cookie": f"targets: {ALL}, {UNCHECKED}, stickiness: {{lb_cookie: 1h}}",
    "app_cookie": f"targets: {ALL}, {UNCHECKED}, stickiness: {{app_cookie: SID}}",
    "full": f'targets: ["127.0.0.1:@a@"], {UNCHECKED}, target_limits: {{requests: 1}}',
    "one_full": f'targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"], {UNCHECKED}, target_limits: {{requests: 1}}',
    "sticky_full": f'targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"], {UNCHECKED}, target_limits: {{requests: 1}}, stickiness: {{lb_cookie: 1h}}',
    "queued": f'targets: ["127.0.0.1:@a@"], {UNCHECKED}, target_limits: {{requests: 1, queue: 1, queue_timeout: 60s}}',
    "circuit": f'targets: ["127.0.0.1:@a@"], {UNCHECKED}, circuit_breaker: {{requests: 1, connections: 10, pending: 3, retries: 2}}',
    "adaptive": f'targets: ["127.0.0.1:@a@"], {UNCHECKED}, adaptive_concurrency: {{min: 1, max: 1}}',
}
NEWLINE = "\n"
CONFIG = f"""
zone: here
worker_threads: 2
stickiness_keys: ["a secret of the sweep"]
listeners: {{http: {{address: "127.0.0.1:@http@"}}}}
target_groups:
{NEWLINE.join(f"  {name}: {{{settings}}}" for name, settings in GROUPS.items())}
routes:
{NEWLINE.join(f'  - {{name: {name}, match: {{path_prefix: /{name}}}, forward: {name}}}' for name in GROUPS)}
  - {{name: drawn, match: {{path_prefix: /drawn}}, forward: {{groups: [{{group: weights, weight: 3}}, {{group: empty, weight: 0}}]}}}}
  - {{name: sticky_group, match: {{path_prefix: /sticky_group}}, forward: {{groups: [full, weights], stickiness: 1h}}}}
"""
FAILED = reply(b"", status="500 Internal Server Error")


@pytest.fixture(scope="module")
def origins():
    over = threading.Event()
    with Origin(reply(b"a")) as a, Origin(reply(b"b")) as b, Origin(reply(b"c")) as c:
        servers = {"a": a, "b": b, "c": c}
        for name, server in servers.items():
            server.on("/sick", FAILED)
            server.on("/never", lambda exchange: over.wait(100))
            server.on("/only_b", reply(b"") if name == "b" else FAILED)
            server.on("/not_a", reply(b"") if name != "a" else FAILED)
            server.on("/app_cookie/login", reply(name.encode(), fields=[("Set-Cookie", "SID=1")]))
        yield servers
        over.set()


@pytest.fixture(scope="module")
def gateway(origins):
    with Weir(CONFIG, **{name: server.port for name, server in origins.items()}) as running:
        expected = {"checked": ["unhealthy", "healthy", "unhealthy"], "panic": ["unhealthy"] * 2, "fails_over": ["unhealthy"],
                    "too_few": ["unhealthy", "healthy", "unhealthy"], "step": ["unhealthy"], "no_way_out": ["unhealthy"],
                    "down": ["unhealthy"], "zone_spill": ["unhealthy", "healthy", "healthy"], "slow_start": ["healthy"] * 2}
        wait_for(lambda: {name: states(running, name) for name in expected} == expected, "every state known")
        yield running


def states(gateway, group):
    return [target["state"] for target in json.loads(gateway.admin(f"/api/v1/target_groups/{group}")[1])["targets"]]


def tell(gateway, group, target, action, **fields):
    path = f"/api/v1/target_groups/{group}/targets/127.0.0.1:{gateway.values[target]}/{action}"
    connection = UnixConnection(gateway.admin_socket)
    connection.request("POST", path, json.dumps(fields).encode() if fields else None, {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200


class Said:
    """What explain answered: fields as they are, and the steps as lines of `STAGE: TEXT` with targets as letters."""

    def __init__(self, gateway, answer):
        names = {f"127.0.0.1:{gateway.values[letter]}": letter for letter in "abc"}
        self.target, self.group = names.get(answer["target"]), answer["target_group"]
        self.status, self.reason = answer["status"], answer["reason"]
        text = NEWLINE.join(f"{step['stage']}: {step['text']}" for step in answer["steps"])
        for address, letter in names.items():
            text = text.replace(address, letter)
        self.text, self.steps = text, answer["steps"]

    def has(self, *lines):
        missing = [line for line in lines if not re.search(line, self.text, re.M)]
        assert not missing, f"{missing} missing in\n{self.text}"
        return self


def explain(gateway, path, headers=(), ip="127.0.0.1"):
    question = {"url": f"http://x:{gateway.port('http')}{path}", "headers": dict(headers), "ip": ip}
    connection = UnixConnection(gateway.admin_socket)
    connection.request("POST", "/api/v1/explain", json.dumps(question).encode(), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200
    return Said(gateway, json.loads(response.read()))


def explain_file(gateway, path, headers=()):
    fields = [argument for name, value in headers for argument in ("-H", f"{name}: {value}")]
    done = gateway.run("explain", f"http://x:{gateway.port('http')}{path}", "-c", str(gateway.config_path), "--json", *fields)
    assert done.returncode == 0, done.stderr
    return Said(gateway, json.loads(done.stdout))


def goes_to(gateway, path, headers=(), **options):
    return fetch(gateway.port("http"), path, headers=list(headers), **options).text


def cookies_of(response):
    return [("Cookie", "; ".join(cookie.split(";")[0] for cookie in response.all("set-cookie")))]


# --- what is not left to chance --------------------------------------------------------------------------------------
SINGLE = [  # path, what explain says beside the choice
    ("/weights", "algorithm: round_robin among 1 of 2 targets", 'target: target "a" lost: it has weight 0',
     'target: target "b" takes its turn of "weights" .weight 7, unchecked.'),
    ("/zone_prefer", "algorithm: round_robin among 1 of 2 targets",
     'target: target "a" lost: it stands in another zone, and all requests stay in this one'),
    ("/zone_only", "algorithm: round_robin among 1 of 2 targets", 'target: target "a" lost: it stands in another zone$'),
    ("/checked", "algorithm: round_robin among 1 of 3 targets", 'target "a" lost: it is unhealthy', 'target "c" lost: it is unhealthy',
     'target "b" takes its turn of "checked" .weight 1, healthy.'),
    ("/fails_over", 'target group: "fails_over" has too few healthy targets: "step" is asked instead',
     'target group: "step" has too few healthy targets: "weights" is asked instead', 'takes its turn of "weights"'),
    ("/no_way_out", '"no_way_out" has too few healthy targets: "down" is asked instead',
     '"down" has none either: back to "no_way_out"', "unhealthy; no target is healthy, so all take part"),
    ("/drawn", r'target group: "weights" \(1 of 2 by weight 3\)'),
    ("/panic/1", "consistent_hash among 2 of 2 targets, by the request's key", "unhealthy; no target is healthy, so all take part"),
    ("/panic/2", "is a candidate .weight 1, unhealthy."),
    ("/circuit", "limits: circuit breaker: 0 of 10 connections, 0 of 3 pending, 0 of 1 requests, 0 of 2 retries|1 of 10 connections"),
    ("/adaptive", "limits: adaptive concurrency: 0 of 1 requests at present"),
]


@pytest.mark.parametrize("path, lines", [(path, lines) for path, *lines in SINGLE], ids=[case[0] for case in SINGLE])
def test_the_only_choice_is_the_one_that_requests_get(gateway, path, lines):
    said = explain(gateway, path).has(*lines, "action: forward to [abc] ")
    assert said.target is not None and {goes_to(gateway, path) for _ in range(6)} == {said.target}
    assert all(step["file"] and step["line"] for step in said.steps if step["stage"] in ("algorithm", "target", "limits"))


@pytest.mark.parametrize("group, header", [("by_header", "X-User"), ("by_cookie", "Cookie"), ("by_path", None)])
def test_a_key_has_the_target_that_explain_names_here_and_offline(gateway, group, header):
    seen = set()
    for i in range(60):  # ports are drawn, and with them who has which key: with twelve, one time in forty a target has none
        path = f"/{group}/{i}"
        headers = [(header, f"user={i}" if header == "Cookie" else str(i))] if header else []
        said = explain(gateway, path, headers).has("algorithm: consistent_hash among 3 of 3 targets, by the request's key",
                                                   f'target: target "[abc]" is chosen from "{group}" .weight 1, unchecked.')
        assert goes_to(gateway, path, headers) == said.target
        if i < 8:
            assert explain_file(gateway, path, headers).target == said.target
        seen.add(said.target)
    assert seen == {"a", "b", "c"}


def test_a_request_without_a_key_is_said_to_be_spread(gateway):
    explain(gateway, "/by_header").has("consistent_hash among 3 of 3 targets, at random: the request has no key")


@pytest.mark.parametrize("group, line", [("by_ip", "consistent_hash among 3 of 3 targets, by the request's key"),
                                         ("source_ip", "consistent_hash among 3 of 3 targets, by the client's address .stickiness.")])
def test_an_address_has_the_target_that_explain_names(gateway, group, line):
    seen = set()
    for i in range(1, 61):
        said = explain(gateway, f"/{group}", ip=f"127.0.0.{i}").has(line)
        assert goes_to(gateway, f"/{group}", source=f"127.0.0.{i}") == said.target
        seen.add(said.target)
    assert seen == {"a", "b", "c"}


# --- what is left to chance: algorithm, candidates, weights, health --------------------------------------------------


@pytest.mark.parametrize("group, algorithm, details", [
    ("round_robin", "round_robin", ""), ("least", "least_outstanding_requests", ", 0 in flight"),
    ("two", "random_two_choices", ", 0 in flight"), ("random", "weighted_random", ""), ("ewma", "peak_ewma", ", 0 in flight"),
])
def test_candidates_are_shown_with_weight_and_health(gateway, group, algorithm, details):
    wait_for(lambda: "1 in flight" not in explain(gateway, f"/{group}").text, "requests over")
    said = explain(gateway, f"/{group}").has(rf"algorithm: {algorithm} among 3 of 3 targets$")
    others = sorted({"a", "b", "c"} - {said.target})
    assert len(others) == 2 and said.group == group
    for other in others:
        said.has(rf'target: target "{other}" is a candidate \(weight 1, unchecked{details}\)')
    said.has(rf'target: target "{said.target}" (takes its turn of|is chosen from) "{group}" \(weight 1, unchecked{details}\)')


def test_targets_before_their_first_check_are_said_to_be_unknown(gateway):
    said = explain(gateway, "/initial").has("initial; no target has been checked yet, so all take part")
    assert goes_to(gateway, "/initial") == said.target == "a"
    explain_file(gateway, "/initial").has("weight 1, unchecked")  # nobody checks for a file


def test_too_few_healthy_targets_are_said_to_open_the_group(gateway):
    explain(gateway, "/too_few").has("round_robin among 3 of 3 targets", "too few targets are healthy, so all take part")
    assert {goes_to(gateway, "/too_few") for _ in range(12)} == {"a", "b", "c"}


def test_a_zone_that_has_lost_targets_spills(gateway):
    explain(gateway, "/zone_spill").has("round_robin among 2 of 3 targets", "algorithm: 50% of the requests stay in the zone",
                                        'target "a" lost: it is unhealthy', 'target "c" .*in another zone')
    assert {goes_to(gateway, "/zone_spill") for _ in range(60)} == {"b", "c"}


def test_an_operators_weight_and_drain_are_told(gateway):
    tell(gateway, "operator", "a", "weight", weight=9)
    tell(gateway, "operator", "b", "weight", weight=0)
    explain(gateway, "/operator").has("among 2 of 3 targets", 'target "a" .*weight 9 set by an operator, unchecked',
                                      'target "b" lost: it has weight 0, set by an operator')
    tell(gateway, "draining", "a", "drain")
    tell(gateway, "draining", "b", "drain")
    said = explain(gateway, "/draining").has("among 1 of 3 targets", 'target "a" lost: it is drained by an operator')
    assert said.target == "c" and {goes_to(gateway, "/draining") for _ in range(6)} == {"c"}
    tell(gateway, "draining", "c", "drain")
    said = explain(gateway, "/draining").has('target group "draining" has no target for the request')
    live = fetch(gateway.port("http"), "/draining")
    assert (said.status, said.reason, live.status) == (503, "NO_TARGETS", 503)


def test_an_ejected_target_is_told(gateway, origins):
    origins["a"].on("/ejected/x", FAILED)
    wait_for(lambda: goes_to(gateway, "/ejected/x") is not None and "ejected" in states(gateway, "ejected"), "a ejected")
    said = explain(gateway, "/ejected").has("among 1 of 2 targets", 'target "a" lost: it is ejected as an outlier')
    assert said.target == "b" and {goes_to(gateway, "/ejected") for _ in range(6)} == {"b"}


def test_a_slow_start_is_told_with_its_share(gateway, origins):
    assert "of it" not in explain(gateway, "/slow_start").text  # the first batch is warm
    origins["b"].on("/warm", FAILED)
    wait_for(lambda: states(gateway, "slow_start") == ["healthy", "unhealthy"], "b unhealthy")
    explain(gateway, "/slow_start").has('target "b" lost: it is unhealthy')
    origins["b"].on("/warm", reply(b""))
    wait_for(lambda: states(gateway, "slow_start") == ["healthy"] * 2, "b healthy again")
    explain(gateway, "/slow_start").has(r'target "b" .*weight 1, healthy, at 1\d% of it \(slow start\)')


# --- stickiness ------------------------------------------------------------------------------------------------------


def test_a_session_is_told_and_followed(gateway):
    explain(gateway, "/lb_cookie").has("stickiness: no session: the client has no cookie AWSALB or AWSALBCORS",
                                       "round_robin among 3 of 3 targets")
    seen = set()
    for _ in range(6):
        first = fetch(gateway.port("http"), "/lb_cookie")
        session = cookies_of(first)
        said = explain(gateway, "/lb_cookie", session).has(f'target: target "{first.text}" has the client\'s session .unchecked.')
        assert said.target == first.text == goes_to(gateway, "/lb_cookie", session)
        assert explain_file(gateway, "/lb_cookie", session).target == first.text  # the file has the keys
        seen.add(first.text)
    assert len(seen) > 1
    explain(gateway, "/lb_cookie", [("Cookie", "AWSALB=AAAA")]).has("no session: the client's cookie has expired, is of another group")


def test_a_session_that_is_lost_is_told(gateway):
    first = next(r for r in iter(lambda: fetch(gateway.port("http"), "/lb_cookie"), None) if r.text == "a")
    tell(gateway, "lb_cookie", "a", "drain")
    said = explain(gateway, "/lb_cookie", cookies_of(first)).has(
        'stickiness: target "a" loses the client\'s session: it takes no requests .draining.', "round_robin among 2 of 3 targets")
    assert said.target in ("b", "c") and goes_to(gateway, "/lb_cookie", cookies_of(first)) in ("b", "c")
    tell(gateway, "lb_cookie", "a", "enable")


def test_a_session_of_the_application_is_told_and_followed(gateway):
    explain(gateway, "/app_cookie").has("no session: the client has no cookie SID")
    explain(gateway, "/app_cookie", [("Cookie", "SID=1")]).has("no session: the client has no cookie AWSALBAPP-0")
    for _ in range(4):
        login = fetch(gateway.port("http"), "/app_cookie/login")
        said = explain(gateway, "/app_cookie", cookies_of(login)).has("has the client's session")
        assert said.target == login.text == goes_to(gateway, "/app_cookie", cookies_of(login))


def test_a_session_with_a_group_is_told_and_followed(gateway):
    for _ in range(6):
        first = fetch(gateway.port("http"), "/sticky_group")
        group = {"a": "full", "b": "weights"}[first.text]
        said = explain(gateway, "/sticky_group", cookies_of(first)).has(f'target group: "{group}" has the client\'s session')
        assert (said.group, said.target) == (group, first.text)
        assert goes_to(gateway, "/sticky_group", cookies_of(first)) == first.text


# --- limits ----------------------------------------------------------------------------------------------------------


class Held:
    """One request under way at a target of the group, until the block is left."""

    def __init__(self, gateway, origins, path, headers=()):
        self.gateway, self.origins, self.path, self.headers = gateway, origins, path, list(headers)
        self.over = threading.Event()

    def __enter__(self):
        for name, server in self.origins.items():
            def answer(exchange, name=name):
                self.over.wait(60)
                exchange.send(reply(name.encode()))
            server.on(self.path, answer)
        self.client = Client(self.gateway.port("http"), timeout=60)
        self.client.request("GET", self.path, self.headers)
        wait_for(lambda: self.at() is not None, f"{self.path} at a target")
        return self

    def at(self):
        return next((name for name, server in self.origins.items()
                     if any(request.target == self.path for request in server.requests)), None)

    def __exit__(self, *_):
        self.over.set()
        self.client.response()
        self.client.close()


@pytest.mark.parametrize("group, reason, lines", [
    ("full", "TARGETS_BUSY", ['target "a" lost: it has as many requests as it may', 'has no target with room for the request']),
    ("circuit", "CIRCUIT_OPEN", ["limits: circuit breaker: .*, 1 of 1 requests, 0 of 2 retries"]),
    ("adaptive", "CONCURRENCY_LIMIT", ["limits: adaptive concurrency: 1 of 1 requests at present"]),
])
def test_a_limit_that_is_reached_is_told_and_refuses(gateway, origins, group, reason, lines):
    assert explain(gateway, f"/{group}").status is None
    with Held(gateway, origins, f"/{group}/held"):
        said = explain(gateway, f"/{group}/now").has(*lines, f"answer: 503 {reason}")
        assert (said.status, said.reason) == (503, reason)
        assert fetch(gateway.port("http"), f"/{group}/now").status == 503
        gateway.wait_log(lambda entry: entry["path"] == f"/{group}/now" and entry["reason"] == reason)
    wait_for(lambda: explain(gateway, f"/{group}").status is None, "room again")


def test_a_full_target_is_passed_over(gateway, origins):
    with Held(gateway, origins, "/one_full/held") as held:
        said = explain(gateway, "/one_full").has(f'target "{held.at()}" lost: it has as many requests as it may')
        assert said.target == ({"a", "b"} - {held.at()}).pop() == goes_to(gateway, "/one_full")


def test_a_session_whose_target_is_full_goes_elsewhere_once(gateway, origins):
    first = fetch(gateway.port("http"), "/sticky_full")
    session = cookies_of(first)
    with Held(gateway, origins, "/sticky_full/held", session) as held:
        assert held.at() == first.text
        said = explain(gateway, "/sticky_full", session).has(
            f'stickiness: target "{first.text}" keeps the client\'s session, but has as many requests as it may')
        assert said.target == ({"a", "b"} - {first.text}).pop() == goes_to(gateway, "/sticky_full", session)
    wait_for(lambda: explain(gateway, "/sticky_full", session).target == first.text, "the session where it was")


def test_a_request_that_would_wait_is_told_so_and_one_without_a_place_is_refused(gateway, origins):
    with Client(gateway.port("http"), timeout=60) as waiting:
        with Held(gateway, origins, "/queued/held"):
            said = explain(gateway, "/queued").has("queue: the request waits for a place: 0 of 1 do, each for up to 60000ms")
            assert (said.status, said.target, said.reason) == (None, None, "-")
            waiting.request("GET", "/queued/waits")
            wait_for(lambda: gateway.metric("weir_target_queue_requests") == 1, "a request in the queue")
            said = explain(gateway, "/queued").has("answer: 503 TARGET_QUEUE_FULL")
            assert fetch(gateway.port("http"), "/queued").status == said.status == 503
        assert waiting.response().text == "a"
