"""The admin API: what gateway/admin/openapi.json promises is what the server does, and what an operator does through it."""
import base64
import json
import os
import socket
import threading

import pytest

jsonschema = pytest.importorskip("jsonschema")
import yaml  # noqa: E402

from client import Client, fetch  # noqa: E402
from origin import Origin, reply  # noqa: E402
from weir import CONFIG, ROOT, SANITIZED, UnixConnection, Weir, wait_for  # noqa: E402

API = json.loads((ROOT / "gateway" / "admin" / "openapi.json").read_text())
TEXT = """
worker_threads: 2
shutdown_timeout: 1s
listeners:
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: self}}
certificates: {self: {self_signed: [localhost]}}
target_groups:
  users:
    targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"]
    health_check: {path: /health, interval: 100ms, timeout: 20s, healthy_threshold: 1, unhealthy_threshold: 1}
  dead: {targets: ["127.0.0.1:@dead@"], health_check: {enabled: false}}
  some: {dynamic: true, targets: [], health_check: {enabled: false}}
routes:
  - {name: hello, match: {path: /hello}, respond: {status: 200, body: hello}}
  - {name: dead, match: {path: "/dead*"}, forward: dead}
  - {name: secret, match: {path: /secret}, respond: {status: 200, body: "${env:WEIR_TEST_SECRET}"}}
  - {name: api, match: {host: [api.example.com], path_prefix: /api}, forward: users}
"""


def request(gateway, method, path, body=None):
    connection = UnixConnection(gateway.admin_socket)
    try:
        connection.request(method, path, None if body is None else body if isinstance(body, (bytes, str)) else json.dumps(body))
        response = connection.getresponse()
        return response.status, response.getheader("content-type"), response.read().decode()
    finally:
        connection.close()


def ask(gateway, method, path, body=None, status=200):
    got, _, text = request(gateway, method, path, body)
    assert got == status, text
    return json.loads(text)


def get(gateway, path):
    return ask(gateway, "GET", path)


@pytest.fixture(scope="module")
def origins():
    with Origin() as a, Origin() as b:
        yield a, b


@pytest.fixture
def gateway(weir, origins):
    a, b = origins
    started = weir(TEXT, a=a.port, b=b.port, env={"WEIR_TEST_SECRET": "not-for-your-eyes"})
    wait_for(lambda: states(started) == {a.address: "healthy", b.address: "healthy"}, "healthy targets")
    return started


def target_of(gateway, address):
    return next(target for target in get(gateway, "/api/v1/target_groups/users")["targets"] if target["target"] == address)


def states(gateway):
    return {target["target"]: target["state"] for target in get(gateway, "/api/v1/target_groups/users")["targets"]}


def act(gateway, address, action, body=None, status=200):
    return ask(gateway, "POST", f"/api/v1/target_groups/users/targets/{address}/{action}", body, status)


def served_by(gateway, count=40):
    """How many of `count` requests each target answered, by the access log of this moment on."""
    before = {t["target"]: t["attempts"] for t in get(gateway, "/api/v1/target_groups/users")["targets"]}
    with Client(gateway.port("http")) as client:
        for _ in range(count):
            client.request("GET", "/api", host="api.example.com")
            assert client.response().status in (200, 503)
    return {t["target"]: t["attempts"] - before[t["target"]] for t in get(gateway, "/api/v1/target_groups/users")["targets"]}


# --- the description ----------------------------------------------------------------------------------------------
def schema_of(response, content_type):
    content = response["content"]
    kind = content_type.split(";")[0]
    assert kind in content, f"{kind} is not described"
    return content[kind]["schema"]


def validate(schema, value):
    whole = {**schema, "components": API["components"]}
    jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker()).validate(value)


def resolve(node):
    while "$ref" in node:
        target = API
        for part in node["$ref"][2:].split("/"):
            target = target[part]
        node = target
    return node


def check_answer(operation, status, content_type, text):
    assert str(status) in operation["responses"], f"{status} is not described: {text}"
    schema = schema_of(resolve(operation["responses"][str(status)]), content_type)
    if content_type.startswith("application/json"):
        validate(schema, json.loads(text))
    else:
        assert schema == {"type": "string"}


OPERATIONS = [(path, method) for path, item in API["paths"].items() for method in item if path != "/api/v1/log"]
MEMBERS = "/api/v1/target_groups/{group}/targets"  # of groups that are dynamic
BODIES = {"/api/v1/target_groups/{group}/targets/{target}/weight": {"weight": 3}, MEMBERS: ["127.0.0.1:1"], "/api/v1/explain": {"url": "http://api.example.com/api"}}


def traffic(gateway):
    for path in ("/hello", "/dead", "/nowhere", "/api"):
        fetch(gateway.port("http"), path, host="api.example.com")
    wait_for(lambda: get(gateway, "/api/v1/errors")["total"] >= 2, "the recent errors")


@pytest.mark.timeout(120)
def test_every_operation_of_the_description_answers_as_described(gateway, origins):
    traffic(gateway)
    act(gateway, origins[0].address, "drain")
    act(gateway, origins[0].address, "enable")
    gateway.configure(TEXT.replace("body: hello", "body: hallo"))
    ask(gateway, "POST", "/api/v1/reload")
    gateway.configure(TEXT + "nonsense: 1\n")
    ask(gateway, "POST", "/api/v1/reload", status=422)
    gateway.configure(TEXT)
    for path, method in OPERATIONS:
        operation = API["paths"][path][method]
        of_members = path in (MEMBERS, MEMBERS + "/{target}")
        url = path.replace("{group}", "some" if of_members else "users")
        url = url.replace("{target}", "127.0.0.1:1" if of_members else origins[1].address)
        status, content_type, text = request(gateway, method.upper(), url, BODIES.get(path))
        assert status == 200, (method, path, text)
        check_answer(operation, status, content_type, text)


@pytest.mark.parametrize("method, url, path, body, status", [
    ("get", "/api/v1/target_groups/nobody", "/api/v1/target_groups/{group}", None, 404),
    ("post", "/api/v1/target_groups/nobody/targets/x/drain", "/api/v1/target_groups/{group}/targets/{target}/drain", None, 404),
    ("post", "/api/v1/target_groups/users/targets/x/enable", "/api/v1/target_groups/{group}/targets/{target}/enable", None, 404),
    ("post", "/api/v1/target_groups/users/targets", "/api/v1/target_groups/{group}/targets", ["127.0.0.1:1"], 409),
    ("put", "/api/v1/target_groups/some/targets", "/api/v1/target_groups/{group}/targets", [{"weight": 1}], 400),
    ("delete", "/api/v1/target_groups/some/targets/x", "/api/v1/target_groups/{group}/targets/{target}", None, 404),
    ("get", "/api/v1/routes?limit=many", "/api/v1/routes", None, 400),
    ("get", "/api/v1/routes?offset=-1", "/api/v1/routes", None, 400),
    ("get", "/api/v1/routes?limit=99999999999999999999", "/api/v1/routes", None, 400),
    ("get", "/api/v1/errors?limit=201", "/api/v1/errors", None, 400),
    ("get", "/api/v1/traffic?seconds=", "/api/v1/traffic", None, 400),
    ("get", "/api/v1/config?format=xml", "/api/v1/config", None, 400),
    ("get", "/api/v1/log?status=9", "/api/v1/log", None, 400),
    ("get", "/api/v1/log?sample=2", "/api/v1/log", None, 400),
    ("post", "/api/v1/explain", "/api/v1/explain", "", 400),
    ("post", "/api/v1/explain", "/api/v1/explain", "[]", 400),
    ("post", "/api/v1/explain", "/api/v1/explain", {"url": "nonsense"}, 400),
    ("post", "/api/v1/explain", "/api/v1/explain", {"url": "http://a/", "ip": "here"}, 400),
    ("post", "/api/v1/explain", "/api/v1/explain", {"url": "http://a/", "method": "GET / HTTP/1.1\r\nX: y"}, 400),
    ("post", "/api/v1/explain", "/api/v1/explain", {"url": "http://a/", "headers": {"a": "b\r\nc: d"}}, 400),
    ("post", "/api/v1/explain", "/api/v1/explain", {"url": "http://a/", "headers": {"a": 1}}, 400),
    ("post", "/api/v1/explain", "/api/v1/explain", {"url": "http://a/", "headers": {f"h{i}": "x" for i in range(2000)}}, 400),
    ("post", "/api/v1/explain", "/api/v1/explain", {"url": "http://a/", "listener": "nobody"}, 400)])
def test_refusals_are_described_too(module_gateway, method, url, path, body, status):
    got, content_type, text = request(module_gateway, method.upper(), url, body)
    assert got == status, text
    check_answer(API["paths"][path][method], got, content_type, text)


@pytest.fixture(scope="module")
def module_gateway(module_weir, origins):
    a, b = origins
    return module_weir(TEXT, a=a.port, b=b.port, env={"WEIR_TEST_SECRET": "not-for-your-eyes"})


def test_the_server_serves_its_own_description(module_gateway):
    assert get(module_gateway, "/api/v1/openapi.json") == API


def test_the_description_names_every_page_of_the_server(module_gateway):
    source = (ROOT / "gateway" / "admin" / "admin_api.c").read_text()
    table = source[source.index("} endpoints[] = {"):]
    paths = {line.split('"')[1] for line in table[:table.index("};")].split("\n") if '{"/' in line}
    assert paths, "the table was not found"
    described = {path.rsplit("/", 1)[0] + "/{action}" if "{target}/" in path else path for path in API["paths"]}
    assert paths == described


@pytest.mark.parametrize("path, method, status, allow", [
    ("/api/v1/status", "POST", 405, "GET, HEAD"), ("/api/v1/reload", "GET", 405, "POST"), ("/api/v1", "GET", 404, None),
    ("/api/v1/", "GET", 404, None), ("/api/v1/status/", "GET", 404, None), ("/api/v1/target_groups/", "GET", 404, None),
    ("/api/v1/target_groups/users/targets/x/explode", "POST", 404, None), ("/api/v1/target_groups/%zz", "GET", 400, None),
    ("/api/v1/target_groups/%00", "GET", 404, None), ("/api/v1/status", "DELETE", 405, "GET, HEAD")])
def test_other_paths_and_methods_are_refused(module_gateway, path, method, status, allow):
    with Client(0, unix=module_gateway.admin_socket) as client:
        client.request(method, path, body=b"" if method == "POST" else None)
        response = client.response(method)
    assert (response.status, response.get("allow")) == (status, allow)
    validate(API["components"]["schemas"]["Problem"], json.loads(response.body))


def test_a_body_that_is_too_large_is_refused(module_gateway):
    with Client(0, unix=module_gateway.admin_socket) as client:
        client.request("POST", "/api/v1/explain", body=b"x" * 70000)
        assert client.response("POST").status == 413


# --- configuration ------------------------------------------------------------------------------------------------
def test_the_configuration_is_shown_with_defaults_and_without_secrets(module_gateway):
    _, kind, as_yaml = request(module_gateway, "GET", "/api/v1/config?format=yaml")
    assert kind == "application/yaml"
    as_json = get(module_gateway, "/api/v1/config")
    for text in (as_yaml, json.dumps(as_json)):
        assert "not-for-your-eyes" not in text
    assert as_json["routes"][2]["respond"]["body"] == "***"
    assert as_json["routes"][0]["respond"] == {"status": 200, "body": "hello", "content_type": "text/plain; charset=utf-8"}
    assert as_json["limits"]["header_timeout"] == "10s" and as_json["state_dir"] is None
    loaded = yaml.safe_load(as_yaml)
    assert loaded["target_groups"]["users"]["health_check"]["interval"] == "100ms"

    def agree(a, b, where=""):
        """What YAML says JSON says too; JSON may say more, where YAML leaves out what is absent."""
        if isinstance(a, dict):
            for key, value in a.items():
                agree(value, b[key], f"{where}.{key}")
        elif isinstance(a, list):
            assert len(a) == len(b), where
            for i, value in enumerate(a):
                agree(value, b[i], f"{where}[{i}]")
        else:
            assert b in (a, [a]) or str(a) == str(b), (where, a, b)
    agree(loaded, as_json)


# --- counters -----------------------------------------------------------------------------------------------------
def test_routes_are_in_order_with_counters_and_latency(gateway):
    traffic(gateway)
    page = get(gateway, "/api/v1/routes")
    assert [route["name"] for route in page["routes"]] == ["hello", "dead", "secret", "api"] and page["total"] == 4
    by_name = {route["name"]: route for route in page["routes"]}
    assert by_name["hello"]["by_class"]["2xx"] == 1 and by_name["hello"]["by_reason"] == {"FIXED_RESPONSE": 1}
    assert by_name["dead"]["by_class"]["5xx"] == 1 and by_name["dead"]["by_reason"] == {"CONNECT_FAILED": 1}
    assert by_name["api"]["by_class"]["2xx"] == 1 and by_name["api"]["hosts"] == ["api.example.com"]
    assert by_name["api"]["paths"] == ["/api"] and by_name["api"]["line"] == 18
    assert page["unrouted"]["by_reason"] == {"NO_ROUTE": 1}
    for route in by_name.values():
        latency = route["latency"]
        assert latency["count"] == route["requests"] == sum(latency["buckets"])
        if latency["count"]:
            assert 0 < latency["p50_ms"] <= latency["p99_ms"]
    part = get(gateway, "/api/v1/routes?offset=1&limit=2")
    assert [route["name"] for route in part["routes"]] == ["dead", "secret"] and part["total"] == 4
    assert get(gateway, "/api/v1/routes?offset=9")["routes"] == []


def test_requests_in_flight_are_counted_by_target_and_let_go_of(gateway, origins):
    a, b = origins
    release = threading.Event()

    def slow(exchange):
        release.wait(60)
        exchange.send(reply())
    held = [origin.on("/api/slow", slow) for origin in origins]
    clients = [Client(gateway.port("http")) for _ in range(4)]
    try:
        for client in clients:
            client.request("GET", "/api/slow", host="api.example.com")
        wait_for(lambda: sum(t["in_flight"] for t in get(gateway, "/api/v1/connections")["targets"]) == 4, "four in flight")
        page = get(gateway, "/api/v1/connections")
        assert page["in_flight"] == 4 and page["open"] == 4
        assert {t["target"]: t["in_flight"] for t in page["targets"]} == {a.address: 2, b.address: 2, f"127.0.0.1:{gateway.port('dead')}": 0}
        clients.pop().close()
        wait_for(lambda: get(gateway, "/api/v1/connections")["in_flight"] == 3, "one has left")
        wait_for(lambda: sum(t["in_flight"] for t in get(gateway, "/api/v1/connections")["targets"]) == 3, "at its target too")
    finally:
        release.set()
        for client in clients:
            client.response()
            client.close()
    wait_for(lambda: sum(t["in_flight"] for t in get(gateway, "/api/v1/connections")["targets"]) == 0, "none in flight")
    del held


def test_traffic_is_sampled_every_second(gateway):
    def look():
        page = get(gateway, "/api/v1/traffic")
        return page, [sum(page[name]) for name in ("responses_2xx", "responses_4xx")]
    for _ in range(8):
        first, before = look()
        for _ in range(20):
            fetch(gateway.port("http"), "/hello")
            fetch(gateway.port("http"), "/nowhere")
        done = look()[0]["samples"]
        wait_for(lambda: look()[0]["samples"] >= done + 2, "the samples")
        page, after = look()
        seen = [b - a for a, b in zip(before, after)]
        # rates are per second, and a sample may cover a little more than one; more of it where the machine stands still
        assert 0 < max(seen) <= 21
        if seen == pytest.approx([20, 20], rel=0.2):
            break
    assert seen == pytest.approx([20, 20], rel=0.2)
    assert any(p99 is not None and p99 > 0 for p99 in page["p99_ms"])
    assert page["time"] == sorted(page["time"]) and len(page["time"]) == page["samples"]
    assert len(get(gateway, "/api/v1/traffic?seconds=1")["time"]) == 1


def test_recent_errors_say_what_happened_and_what_to_do(gateway):
    fetch(gateway.port("http"), "/hello")
    fetch(gateway.port("http"), "/nowhere?x=1", host="lost.example")
    fetch(gateway.port("http"), "/dead")
    page = wait_for(lambda: (p := get(gateway, "/api/v1/errors"))["total"] == 2 and p, "two errors")
    dead, lost = sorted(page["errors"], key=lambda error: error["reason"])
    assert (lost["reason"], lost["status"], lost["host"], lost["path"], lost["client"]) == ("NO_ROUTE", 404, "lost.example", "/nowhere", "127.0.0.1")
    assert "explain" in lost["remedy"] and lost["route"] is None and lost["request_id"]
    assert (dead["reason"], dead["status"], dead["route"], dead["target_group"]) == ("CONNECT_FAILED", 502, "dead", "dead")
    assert dead["target"] == f"127.0.0.1:{gateway.port('dead')}"
    assert len(get(gateway, "/api/v1/errors?limit=1")["errors"]) == 1


def test_the_last_200_errors_are_kept_and_all_are_counted(gateway):
    with Client(gateway.port("http")) as client:
        for i in range(450):
            client.request("GET", f"/nowhere/{i}")
            client.response()
    page = wait_for(lambda: (p := get(gateway, "/api/v1/errors"))["total"] == 450 and p, "all errors")
    assert [error["path"] for error in page["errors"]] == [f"/nowhere/{i}" for i in range(449, 249, -1)]


def test_hostile_bytes_in_a_request_leave_the_page_whole(gateway):
    for raw in (b"GET /\xff\xfe\"<script>\\ HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"):
        with Client(gateway.port("http")) as client:
            client.send(raw)
            client.response()
    wait_for(lambda: get(gateway, "/api/v1/errors")["total"] == 2, "both errors")


# --- targets ------------------------------------------------------------------------------------------------------
def test_a_drained_target_gets_no_new_requests_until_it_is_enabled(gateway, origins):
    a, b = origins
    answer = act(gateway, a.address, "drain")
    assert (answer["state"], answer["checked_state"], answer["override"]) == ("draining", "healthy", {"drain": True, "weight": None})
    assert served_by(gateway) == {a.address: 0, b.address: 40}
    assert "drained by an operator" in json.dumps(ask(gateway, "POST", "/api/v1/explain", {"url": "http://api.example.com/api"}))
    assert get(gateway, "/api/v1/status")["target_groups"][0]["targets"][0]["state"] == "draining"
    assert act(gateway, a.address, "enable")["override"] is None
    assert served_by(gateway) == {a.address: 20, b.address: 20}


def test_drain_and_weight_live_through_a_reload_until_they_are_reset(gateway, origins):
    a, b = origins
    act(gateway, b.address, "weight", {"weight": 3})
    gateway.configure(TEXT.replace("body: hello", "body: hallo"))
    gateway.reload()
    assert (target_of(gateway, b.address)["weight"], target_of(gateway, b.address)["configured_weight"]) == (3, 1)
    served_by(gateway, 8)
    served = served_by(gateway, 80)
    assert served[b.address] in range(57, 64) and served[a.address] + served[b.address] == 80
    act(gateway, a.address, "drain")
    gateway.configure(TEXT)
    gateway.reload()
    assert states(gateway) == {a.address: "draining", b.address: "healthy"}
    assert act(gateway, a.address, "reset")["override"] is None
    assert act(gateway, b.address, "reset")["override"] is None
    served_by(gateway, 8)
    assert served_by(gateway)[a.address] in range(18, 23)


def test_requests_under_way_go_on_while_their_target_is_drained(gateway, origins):
    a, b = origins
    release, begun = threading.Event(), threading.Event()

    def slow(exchange):
        begun.set()
        release.wait(60)
        exchange.send(reply(body=b"late"))
    for origin in origins:
        origin.on("/api/held", slow)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/api/held", host="api.example.com")
        assert begun.wait(30)
        act(gateway, a.address, "drain")
        act(gateway, b.address, "drain")
        assert fetch(gateway.port("http"), "/api", host="api.example.com").status == 503
        release.set()
        assert client.response().body == b"late"


@pytest.mark.parametrize("body", ["", "{}", "[1]", '{"weight": -1}', '{"weight": 1000}', '{"weight": "3"}', '{"weight": 1.5}', '{"weight": true}'])
def test_a_weight_must_be_one(gateway, origins, body):
    before = target_of(gateway, origins[0].address)["weight"]
    act(gateway, origins[0].address, "weight", body, status=400)
    assert target_of(gateway, origins[0].address)["weight"] == before


def test_the_history_of_a_target_shows_checks_and_changes(gateway, origins):
    a, b = origins
    a.on("/health", reply(status="500 Broken"))
    try:
        wait_for(lambda: states(gateway)[a.address] == "unhealthy", "the failure")
    finally:
        a.on("/health", reply())
    wait_for(lambda: states(gateway)[a.address] == "healthy", "the recovery")
    act(gateway, a.address, "drain")
    target = target_of(gateway, a.address)
    changes = [(change["state"], change["by"]) for change in target["changes_history"]]
    assert changes == [("draining", "operator"), ("healthy", "check"), ("unhealthy", "check"), ("healthy", "check")]
    assert target["changes_history"][2]["reason"] == "Target.ResponseCodeMismatch"
    times = [check["time"] for check in target["checks_history"]]
    assert times == sorted(times, reverse=True)
    assert {(check["result"], check["status"]) for check in target["checks_history"]} >= {("pass", 200), ("code_mismatch", 500)}
    wait_for(lambda: target_of(gateway, a.address)["checks"] > 60, "more checks than are kept")
    assert len(target_of(gateway, a.address)["checks_history"]) == 50


def test_checks_that_are_turned_off_and_on_again_keep_an_operator_s_word(gateway, origins):
    a, b = origins
    act(gateway, a.address, "drain")
    gateway.configure(TEXT.replace("path: /health, interval", "enabled: false, path: /health, interval"))
    gateway.reload()
    assert states(gateway) == {a.address: "draining", b.address: "unchecked"}
    assert act(gateway, a.address, "enable")["state"] == "unchecked"


# --- reloads ------------------------------------------------------------------------------------------------------
def test_the_history_of_reloads_counts_changes_and_keeps_errors(gateway):
    changed = TEXT.replace("body: hello", "body: hallo").replace("  - {name: secret, match: {path: /secret}, respond: {status: 200, body: \"${env:WEIR_TEST_SECRET}\"}}\n", "")
    gateway.configure(changed + "  - {name: more, match: {path: /more}, echo: true}\n  - {name: most, match: {path: /most}, echo: true}\n")
    answer = ask(gateway, "POST", "/api/v1/reload")
    assert answer["changes"] == "routes +2 -1 ~1"
    assert "routes +2 -1 ~1" in gateway.stderr()
    gateway.configure(TEXT.replace("forward: users", "forward: usres"))
    assert ask(gateway, "POST", "/api/v1/reload", status=422)["changes"] is None
    failed, good, first = get(gateway, "/api/v1/reloads")["reloads"]
    assert (first["ok"], first["generation"], first["changes"]) == (True, 1, None)
    assert (good["ok"], good["generation"]) == (True, 2) and good["changes"]["routes"] == {"added": 2, "removed": 1, "changed": 1}
    assert good["changes"]["target_groups"] == {"added": 0, "removed": 0, "changed": 0} and good["changes"]["other_settings"] == 0
    assert (failed["ok"], failed["generation"], failed["errors"]) == (False, None, 1) and "usres" in failed["error"]
    gateway.configure(TEXT)
    for _ in range(21):
        ask(gateway, "POST", "/api/v1/reload")
    page = get(gateway, "/api/v1/reloads")
    assert len(page["reloads"]) == 20 and page["total"] == 24 and page["reloads"][0]["changes"]["text"] == "no changes"


# --- explain ------------------------------------------------------------------------------------------------------
def test_explain_says_what_the_command_says(gateway):
    question = {"url": "http://api.example.com/api/x?y=1", "method": "POST", "headers": {"x-a": "1", "x-b": ["2", "3"]}, "ip": "10.1.2.3"}
    said = ask(gateway, "POST", "/api/v1/explain", question)
    done = gateway.run("explain", question["url"], "-c", CONFIG, "-X", "POST", "-H", "x-a: 1", "--ip", "10.1.2.3", "--json")
    command = json.loads(done.stdout)
    for key in ("listener", "route", "target_group", "status", "reason", "client_ip", "canonical_path"):
        assert said[key] == command[key], key
    assert said["route"] == "api" and said["client_ip"] == "10.1.2.3"
    assert [step["stage"] for step in said["steps"]] == [step["stage"] for step in command["steps"]]
    assert ask(gateway, "POST", "/api/v1/explain", {"url": "http://a/nowhere"})["reason"] == "NO_ROUTE"
    assert ask(gateway, "POST", "/api/v1/explain", {"url": "https://localhost/hello"})["certificate"] == "self"
    assert ask(gateway, "POST", "/api/v1/explain", {"url": "https://localhost/hello", "listener": "http"})["listener"] == "http"


def test_explain_knows_the_health_of_this_moment(gateway, origins):
    a, b = origins
    act(gateway, a.address, "drain")
    for _ in range(4):
        assert ask(gateway, "POST", "/api/v1/explain", {"url": "http://api.example.com/api"})["target"] == b.address


@pytest.mark.xdist_group("load")
def test_explain_and_actions_beside_traffic_do_no_harm(gateway, origins):
    stop = threading.Event()
    failures = []

    def load():
        with Client(gateway.port("http")) as client:
            while not stop.is_set():
                client.request("GET", "/api", host="api.example.com")
                response = client.response()
                if response.status != 200:
                    failures.append(response.status)
    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for i in range(50 if SANITIZED else 150):
            ask(gateway, "POST", "/api/v1/explain", {"url": "http://api.example.com/api"})
            act(gateway, origins[i % 2].address, ("drain", "enable", "weight", "reset")[i // 2 % 4 if i % 2 == 0 else 3], {"weight": i % 10 + 1})
            get(gateway, "/api/v1/target_groups")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


# --- access -------------------------------------------------------------------------------------------------------
TOKEN = "0123456789abcdef0123"
WITH_TCP = TEXT + 'admin: {address: "unix:@tmp@/admin.sock", tcp: "@tcp@:@admin@"%s}\n'


@pytest.fixture
def tcp_gateway(weir, origins):
    gateway = weir(WITH_TCP % ', token: "${file:token}"', tcp="127.0.0.1", a=origins[0].port, b=origins[1].port, start=False,
                   env={"WEIR_TEST_SECRET": "x" * 8}, files={"token": TOKEN + "\n"})
    gateway.admin_socket = str(gateway.folder / "admin.sock")
    gateway.start()
    wait_for(gateway.is_ready, "ready")
    return gateway


def over_tcp(gateway, path="/api/v1/status", headers=(), host="localhost", method="GET", body=None):
    with Client(gateway.port("admin")) as client:
        client.request(method, path, headers, body, host=host)
        return client.response(method)


def test_over_tcp_a_token_is_needed(tcp_gateway):
    gateway = tcp_gateway
    refused = over_tcp(gateway)
    assert refused.status == 401 and refused.get("www-authenticate").startswith("Basic")
    check_answer(API["paths"]["/api/v1/status"]["get"], 401, refused.get("content-type"), refused.text)
    basic = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    for header in (f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Basic {basic}"):
        assert over_tcp(gateway, headers=[("Authorization", header)]).status == 200, header
    wrong = base64.b64encode(f"{TOKEN}:x".encode()).decode()
    for header in ("Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Basic", "Basic ====", "Basic !!!!", f"Basic {wrong}", TOKEN):
        assert over_tcp(gateway, headers=[("Authorization", header)]).status == 401, header
    for path in ("/metrics", "/status", "/nowhere"):
        assert over_tcp(gateway, path).status == 401, path
    for path in ("/healthz", "/readyz"):
        assert over_tcp(gateway, path).status == 200, "probes have no token"
    assert gateway.admin("/api/v1/status")[0] == 200, "the Unix socket asks nobody"
    assert TOKEN not in gateway.admin("/api/v1/config")[1] and TOKEN not in gateway.run("check", "--print", CONFIG).stdout


def test_connections_that_ask_nothing_keep_nobody_out(tcp_gateway):
    gateway, kept = tcp_gateway, []
    try:
        for _ in range(100):
            sock = socket.create_connection(("127.0.0.1", gateway.port("admin")), 20)
            sock.sendall(b"GET /status HTTP/1.1\r\nHost: x")
            kept.append(sock)
        assert gateway.admin("/api/v1/status")[0] == 200, "the Unix socket has places of its own"
        assert over_tcp(gateway, headers=[("Authorization", f"Bearer {TOKEN}")]).status == 200
        try:
            assert kept[0].recv(1) == b"", "the oldest made place"
        except ConnectionResetError:
            pass  # the same, before its bytes were read
    finally:
        for sock in kept:
            sock.close()


def test_a_token_may_change_with_a_reload(tcp_gateway):
    tcp_gateway.write("token", "another-token-of-20-bytes")
    assert ask(tcp_gateway, "POST", "/api/v1/reload")["ok"]
    assert over_tcp(tcp_gateway, headers=[("Authorization", f"Bearer {TOKEN}")]).status == 401
    assert over_tcp(tcp_gateway, headers=[("Authorization", "Bearer another-token-of-20-bytes")]).status == 200


def test_pages_of_others_are_kept_out_and_our_own_let_in(tcp_gateway):
    gateway, token = tcp_gateway, ("Authorization", f"Bearer {TOKEN}")
    own = f"localhost:{gateway.port('admin')}"
    body = b'{"url": "http://a/hello"}'
    assert over_tcp(gateway, "/api/v1/explain", [token, ("Origin", f"http://{own}")], own, "POST", body).status == 200
    for origin in ("http://evil.example", "null", f"https://{own}", "http://localhost", f"http://{own}.evil.example"):
        assert over_tcp(gateway, "/api/v1/explain", [token, ("Origin", origin)], own, "POST", body).status == 403, origin
    assert over_tcp(gateway, host="evil.example").status == 403
    assert over_tcp(gateway, headers=[token], host="weir.internal:9900").status == 200, "who knows the token may use a name"


@pytest.mark.parametrize("tcp, token, fine", [("0.0.0.0", "", False), ("127.0.0.1", "", True), ("[::]", "", False), ("10.0.0.1", "", False),
                                              ("0.0.0.0", f', token: "{TOKEN}"', True), ("127.0.0.1", ', token: "short"', False),
                                              ("127.0.0.1", ', token: "0123456789 0123456789"', False)])
def test_a_public_address_without_a_token_is_refused(weir, tcp, token, fine):
    gateway = weir(WITH_TCP % token, tcp=tcp, start=False, env={"WEIR_TEST_SECRET": "x" * 8})
    done = gateway.run("check", CONFIG)
    assert (done.returncode == 0) == fine, done.stderr
    if not fine:
        assert "token" in done.stderr and f"{gateway.config_path}:" in done.stderr and "0123456789 0123456789" not in done.stderr


def test_the_socket_is_for_its_owner(module_gateway):
    assert os.stat(module_gateway.admin_socket).st_mode & 0o777 == 0o600


# --- handshakes ---------------------------------------------------------------------------------------------------
def test_failed_handshakes_are_counted_by_reason(gateway):
    import ssl
    import socket

    def counts():
        return {dict(labels)["reason"]: value for (name, labels), value in gateway.metrics().items()
                if name == "weir_tls_handshake_failures_total" and value}

    def handshake(**settings):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = settings.pop("verify", ssl.CERT_NONE)
        if "alpn" in settings:
            context.set_alpn_protocols(settings["alpn"])
        if "ciphers" in settings:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(settings["ciphers"])
        with socket.create_connection(("127.0.0.1", gateway.port("https")), 20) as sock:
            try:
                context.wrap_socket(sock, server_hostname="localhost").close()
            except (ssl.SSLError, OSError):
                pass
    handshake(verify=ssl.CERT_REQUIRED)
    wait_for(lambda: counts() == {"certificate_refused": 1}, f"distrust; have {counts()}")
    handshake(alpn=["nonsense/1"])
    wait_for(lambda: counts().get("alpn") == 1, f"no protocol in common; have {counts()}")
    handshake(ciphers="AES128-SHA")
    wait_for(lambda: counts().get("cipher") == 1, f"no cipher in common; have {counts()}")
    with socket.create_connection(("127.0.0.1", gateway.port("https")), 20) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        sock.recv(100)
    wait_for(lambda: counts().get("not_tls") == 1, f"plain HTTP; have {counts()}")
    socket.create_connection(("127.0.0.1", gateway.port("https")), 20).close()
    wait_for(lambda: counts().get("closed") == 1, f"a client that left; have {counts()}")
    assert gateway.metric("weir_tls_handshakes_total", result="failed") == sum(counts().values()) == 5
    handshake()
    wait_for(lambda: gateway.metric("weir_tls_handshakes_total", result="ok") == 1, "a good one")


def test_the_lag_of_every_loop_is_a_metric(module_gateway):
    def threads():
        return {dict(labels)["thread"] for (name, labels), _ in module_gateway.metrics().items() if name == "weir_event_loop_lag_max_seconds"}
    assert threads() == {"0", "1", "control"}
