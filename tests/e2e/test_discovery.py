"""Target groups whose targets come and go while the gateway serves: files, the admin API, drains."""
import json
import os
import socket
import textwrap
import threading
import time

import pytest

from client import Client, Closed
from origin import Origin, reply
from weir import CONFIG, SANITIZED, UnixConnection, Weir, wait_for

TEXT = """
worker_threads: 2
state_dir: @tmp@/state
listeners:
  http: {address: "127.0.0.1:@http@"}
  bytes: {address: "127.0.0.1:@bytes@", protocol: tcp, forward: bytes}
target_groups:
  api: {dynamic: true, targets: [], deregistration_delay: 30s, health_check: {enabled: false}}
  brief: {dynamic: true, targets: [], deregistration_delay: 1500ms, health_check: {enabled: false}}
  file: {targets: [{file: targets/list.yaml, weight: 3}], deregistration_delay: 30s, health_check: {enabled: false}}
  bytes: {protocol: tcp, dynamic: true, targets: [], deregistration_delay: 300ms, health_check: {enabled: false}}
  mixed: {targets: ["127.0.0.1:@one@", {file: targets/more.json}], health_check: {enabled: false}}
  fixed: {targets: ["127.0.0.1:@one@"], health_check: {enabled: false}}
routes:
  - {name: brief, match: {path: "/brief*"}, forward: brief}
  - {name: file, match: {path: "/file*"}, forward: file}
  - {name: mixed, match: {path: "/mixed*"}, forward: mixed}
  - {name: sticky, match: {path: "/fixed*"}, forward: fixed}
  - {name: api, forward: api}
"""


def named(name):
    origin = Origin()
    origin.answer = reply(name.encode())
    return origin


@pytest.fixture(scope="module")
def origins():
    servers = [named("one"), named("two"), named("three")]
    yield servers
    for server in servers:
        server.close()


@pytest.fixture
def gateway(origins):
    files = {"targets/list.yaml": "[]", "targets/more.json": "[]"}
    with Weir(TEXT, files=files, one=origins[0].port, two=origins[1].port, three=origins[2].port) as running:
        yield running


def address(origin):
    return f"127.0.0.1:{origin.port}"


def call(gateway, method, path, body=None):
    """(status, answer) of the admin API."""
    connection = UnixConnection(gateway.admin_socket)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def members(gateway, group, body, method="PUT"):
    status, answer = call(gateway, method, f"/api/v1/target_groups/{group}/targets", body)
    assert status == 200, answer
    return answer


def ask(gateway, path="/"):
    with Client(gateway.port("http")) as client:
        client.request("GET", path)
        return client.response()


def group_of(gateway, name):
    return call(gateway, "GET", f"/api/v1/target_groups/{name}")[1]


def states(gateway, group):
    return {target["target"]: (target["state"], target["source"]) for target in group_of(gateway, group)["targets"]}


def who_answers(gateway, path, count=8):
    return {ask(gateway, path).body.decode() for _ in range(count)}


def until_answered_by(gateway, path, names, timeout=30):
    wait_for(lambda: who_answers(gateway, path) == set(names), f"{names} answer {path}", timeout)


class Held:
    """A request that the origin answers when it is told to."""

    def __init__(self, gateway, origin, path):
        self.go_on, self.path = threading.Event(), path
        origin.on(path, self.answer)
        self.client = Client(gateway.port("http"), timeout=60)
        self.client.request("GET", path)
        wait_for(lambda: any(request.target == path for request in origin.requests), f"{path} at the origin")

    def answer(self, exchange):
        self.go_on.wait(60)
        exchange.send(reply(b"at last"))

    def response(self):
        self.go_on.set()
        return self.client.response()


def test_targets_of_the_admin_api_take_requests_and_give_them_up(gateway, origins):
    one, two, _ = map(address, origins)
    assert ask(gateway).status == 503
    members(gateway, "api", {"address": one}, "POST")
    until_answered_by(gateway, "/", ["one"])
    members(gateway, "api", [{"address": two, "weight": 5}], "POST")
    until_answered_by(gateway, "/", ["one", "two"])
    assert states(gateway, "api") == {one: ("unchecked", "admin"), two: ("unchecked", "admin")}
    assert {target["weight"] for target in group_of(gateway, "api")["targets"]} == {1, 5}
    assert call(gateway, "DELETE", f"/api/v1/target_groups/api/targets/{one}")[1]["targets"] == 1
    until_answered_by(gateway, "/", ["two"])
    members(gateway, "api", [one])
    until_answered_by(gateway, "/", ["one"])
    assert gateway.generation() == 1  # no load took place


def test_the_command_adds_and_removes_a_target(gateway, origins):
    one = address(origins[0])
    added = gateway.run("target", "add", "api", one, "7", "-c", CONFIG)
    assert added.returncode == 0 and "1 targets" in added.stdout, added
    until_answered_by(gateway, "/", ["one"])
    status = gateway.run("status", "-c", CONFIG).stdout
    assert "from admin" in status and "(admin)" in status
    assert gateway.run("target", "remove", "api", one, "-c", CONFIG).returncode == 0
    wait_for(lambda: ask(gateway).status == 503, "nobody left")
    again = gateway.run("target", "remove", "api", one, "-c", CONFIG)
    assert again.returncode == 1 and "has no target" in again.stderr


@pytest.mark.parametrize("method, path, body, status, says", [
    ("POST", "/api/v1/target_groups/fixed/targets", ["127.0.0.1:1"], 409, "dynamic: true"),
    ("POST", "/api/v1/target_groups/none/targets", ["127.0.0.1:1"], 404, "no target group"),
    ("POST", "/api/v1/target_groups/api/targets", [{"address": "127.0.0.1:1"}, {"weight": 1}], 400, "body:1:30: address is missing"),
    ("POST", "/api/v1/target_groups/api/targets", [{"address": "a.example:80"}], 400, "is no address"),
    ("POST", "/api/v1/target_groups/api/targets", [{"address": "127.0.0.1:1", "wieght": 1}], 400, 'did you mean "weight"'),
    ("PUT", "/api/v1/target_groups/api/targets", [{"file": "/etc/passwd"}], 400, "addresses only"),
    ("POST", "/api/v1/target_groups/api/targets", None, 400, "empty"),
    ("DELETE", "/api/v1/target_groups/api/targets/127.0.0.1:1", None, 404, "has no target"),
    ("GET", "/api/v1/target_groups/api/targets", None, 405, "not allowed"),
])
def test_what_the_admin_api_cannot_do_it_says(gateway, method, path, body, status, says):
    answer = call(gateway, method, path, body)
    assert answer[0] == status and says in answer[1]["message"], answer
    assert group_of(gateway, "api")["targets"] == []


def test_a_target_of_the_configuration_is_not_the_admin_apis_to_remove(gateway, origins):
    status, answer = call(gateway, "DELETE", f"/api/v1/target_groups/mixed/targets/{address(origins[0])}")
    assert status == 409 and "static" in answer["message"]
    assert who_answers(gateway, "/mixed") == {"one"}


def test_what_the_admin_api_added_survives_reloads_and_restarts(gateway, origins):
    members(gateway, "api", [{"address": address(origins[1]), "weight": 4, "zone": "b"}])
    until_answered_by(gateway, "/", ["two"])
    gateway.reload()
    assert who_answers(gateway, "/") == {"two"}
    kept = gateway.folder / "state" / "targets.json"
    wait_for(lambda: kept.exists() and "127" in kept.read_text(), "the file in state_dir")
    assert gateway.terminate() == 0
    gateway.start()
    assert who_answers(gateway, "/") == {"two"}
    assert states(gateway, "api") == {address(origins[1]): ("unchecked", "admin")}
    assert group_of(gateway, "api")["targets"][0]["weight"] == 4


def write(gateway, name, text):
    """As a careful writer does it."""
    part = gateway.folder / "targets" / "part"
    part.write_text(gateway.expand(text))
    part.rename(gateway.folder / "targets" / name)


def test_a_file_that_is_replaced_takes_effect(gateway, origins):
    one, two, _ = map(address, origins)
    assert ask(gateway, "/file").status == 503
    write(gateway, "list.yaml", '- 127.0.0.1:@one@\n- {address: "127.0.0.1:@two@", weight: 9}\n')
    until_answered_by(gateway, "/file", ["one", "two"])
    assert states(gateway, "file") == {one: ("unchecked", "file"), two: ("unchecked", "file")}
    weights = {target["target"]: target["weight"] for target in group_of(gateway, "file")["targets"]}
    assert weights == {one: 3, two: 9}  # 3 as the entry of the configuration says
    write(gateway, "list.yaml", '{"targets": [{"address": "127.0.0.1:@two@"}]}')
    until_answered_by(gateway, "/file", ["two"])
    assert gateway.generation() == 1


def test_a_file_that_is_written_in_place_takes_effect(gateway, origins):
    (gateway.folder / "targets" / "list.yaml").write_text(f"['{address(origins[0])}']")
    until_answered_by(gateway, "/file", ["one"])


def test_a_bad_file_keeps_the_last_good_list_and_is_told(gateway, origins):
    write(gateway, "list.yaml", '["127.0.0.1:@one@"]')
    until_answered_by(gateway, "/file", ["one"])
    write(gateway, "list.yaml", '- 127.0.0.1:@two@\n- {address: nonsense}\n')
    wait_for(lambda: gateway.metric("weir_target_source_failures_total") >= 1, "the failure is counted")
    assert who_answers(gateway, "/file") == {"one"}
    assert "list.yaml:2:13: address is \"nonsense\"" in gateway.stderr()
    source = group_of(gateway, "file")["sources"][0]
    assert source["failures"] >= 1 and "list.yaml:2:13" in source["failure"]
    before = gateway.metric("weir_target_source_failures_total")
    (gateway.folder / "targets" / "list.yaml").unlink()
    wait_for(lambda: gateway.metric("weir_target_source_failures_total") > before, "a file that is gone is a failure")
    assert who_answers(gateway, "/file") == {"one"}
    write(gateway, "list.yaml", '["127.0.0.1:@two@"]')
    until_answered_by(gateway, "/file", ["two"])
    assert group_of(gateway, "file")["sources"][0]["failure"] is None


def test_a_swapped_link_as_of_a_kubernetes_volume_takes_effect(origins):
    text = """
    listeners: {http: {address: "127.0.0.1:@http@"}}
    target_groups: {file: {targets: [{file: volume/targets.yaml}], health_check: {enabled: false}}}
    routes: [{name: all, forward: file}]
    """
    with Weir(textwrap.dedent(text), start=False) as gateway:
        volume = gateway.folder / "volume"
        for version, origin in enumerate(origins[:2]):
            folder = volume / f"..{version}"
            folder.mkdir(parents=True)
            (folder / "targets.yaml").write_text(f"['{address(origin)}']")
        (volume / "..data").symlink_to("..0")
        (volume / "targets.yaml").symlink_to("..data/targets.yaml")
        gateway.start()
        assert who_answers(gateway, "/") == {"one"}
        (volume / "..data_tmp").symlink_to("..1")
        (volume / "..data_tmp").rename(volume / "..data")
        until_answered_by(gateway, "/", ["two"])


def test_a_missing_file_is_fatal_only_when_it_is_required(gateway):
    broken = TEXT.replace("{file: targets/more.json}", "{file: targets/none.json, required: true}")
    gateway.configure(broken)
    checked = gateway.run("check", CONFIG)
    assert checked.returncode == 1 and "cannot read" in checked.stderr + checked.stdout
    gateway.configure(broken.replace(", required: true", ""))
    assert gateway.run("check", CONFIG).returncode == 0
    gateway.reload()
    assert ask(gateway, "/mixed").status == 200


def test_a_group_mixes_static_targets_files_and_the_admin_api(gateway, origins):
    one, two, three = map(address, origins)
    write(gateway, "more.json", '["127.0.0.1:@two@", "127.0.0.1:@one@"]')
    members(gateway, "mixed", [three, two])
    until_answered_by(gateway, "/mixed", ["one", "two", "three"])
    assert states(gateway, "mixed") == {one: ("unchecked", "static"), two: ("unchecked", "file"), three: ("unchecked", "admin")}
    write(gateway, "more.json", "[]")
    wait_for(lambda: states(gateway, "mixed").get(two) == ("unchecked", "admin"), "the second source still has it")
    members(gateway, "mixed", [])
    until_answered_by(gateway, "/mixed", ["one"])


def test_a_removed_target_finishes_what_it_has_and_gets_nothing_new(gateway, origins):
    one, two, _ = map(address, origins)
    members(gateway, "api", [one])
    until_answered_by(gateway, "/", ["one"])
    held = Held(gateway, origins[0], "/held/finishes")
    members(gateway, "api", [two])
    until_answered_by(gateway, "/", ["two"])
    assert states(gateway, "api")[one] == ("draining", "-")
    assert gateway.metric("weir_target_group_targets", target_group="api", state="draining") == 1
    assert one in gateway.run("status", "-c", CONFIG).stdout
    assert held.response().body == b"at last"
    wait_for(lambda: one not in states(gateway, "api"), "it is gone when its last request is")


def test_a_target_that_comes_back_while_it_drains_is_taken_back(gateway, origins):
    one = address(origins[0])
    for delay in (1.5, 8):
        gateway.configure(TEXT.replace("1500ms", f"{delay * 1000:.0f}ms"))
        gateway.reload()
        members(gateway, "brief", [one])
        until_answered_by(gateway, "/brief", ["one"])
        held = Held(gateway, origins[0], "/brief/back")
        began = time.monotonic()
        members(gateway, "brief", [])
        drains = wait_for(lambda: one not in states(gateway, "brief") or states(gateway, "brief")[one][0] == "draining", "it drains")
        members(gateway, "brief", [one])
        until_answered_by(gateway, "/brief", ["one"])
        if drains and time.monotonic() - began < delay * 0.9:
            break
        held.client.close()  # not back in time
    time.sleep(delay + 0.5)  # nothing may happen
    assert held.response().body == b"at last"
    assert gateway.metric("weir_targets_cut_total") == 0


def test_requests_are_cut_off_when_the_delay_is_over(gateway, origins):
    members(gateway, "brief", [address(origins[0])])
    until_answered_by(gateway, "/brief", ["one"])
    waiting = Held(gateway, origins[0], "/brief/waits")  # until its delay is over
    begun = threading.Event()

    def begin(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
        begun.set()
        exchange.wait_peer_closed(30)
    origins[0].on("/brief/streams", begin)
    streaming = Client(gateway.port("http"))
    streaming.request("GET", "/brief/streams")
    assert begun.wait(30)
    members(gateway, "brief", [])
    assert waiting.client.response().status == 502
    with pytest.raises((Closed, OSError)):
        streaming.response()
    for path in ("/brief/waits", "/brief/streams"):
        entry = gateway.wait_log(lambda entry: entry["path"] == path)[0]
        assert entry["reason"] == "TARGET_DEREGISTERED" and entry["target"] == address(origins[0])
    assert gateway.metric("weir_targets_cut_total") == 1
    waiting.go_on.set()


def test_functions_and_copies_are_cut_off_when_the_delay_is_over(origins):
    """A call of a function under way is answered with the reason; a copy for a shadow group is given up."""
    text = """
worker_threads: 2
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  main: {targets: ["127.0.0.1:@one@"], health_check: {enabled: false}}
  function: {lambda: hello, targets: ["127.0.0.1:@held@"], deregistration_delay: 300ms}
  shadow: {targets: ["127.0.0.1:@held@"], deregistration_delay: 300ms, health_check: {enabled: false}}
routes:
  - {name: function, match: {path: /function}, forward: function}
  - {name: copied, mirror: shadow, forward: main}
"""
    held, go_on = threading.Semaphore(0), threading.Event()

    def hold(exchange):
        exchange.read_body()
        held.release()
        assert exchange.wait_peer_closed(30) or go_on.is_set()
    with Origin(hold) as origin, Weir(text, one=origins[0].port, held=origin.port) as gateway:
        with Client(gateway.port("http")) as client:
            client.request("POST", "/function", body=b"event")
            assert ask(gateway, "/copied").body == b"one"
            assert held.acquire(timeout=20) and held.acquire(timeout=20), "both are under way"
            gateway.configure(text.replace("@held@", "@one@"))
            gateway.reload()
            assert client.response().status == 502
        entry = gateway.wait_log(lambda entry: entry["path"] == "/function")[0]
        assert (entry["reason"], entry["target"]) == ("TARGET_DEREGISTERED", address(origin))
        wait_for(lambda: gateway.metric("weir_mirror_requests_total", result="failed") == 1, "the copy is given up")
        assert gateway.metric("weir_targets_cut_total") == 2
        wait_for(lambda: not origin.busy, "the connections are closed")
        go_on.set()


def test_connections_that_forward_bytes_drain_too(gateway):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        members(gateway, "bytes", [f"127.0.0.1:{listening.getsockname()[1]}"])
        wait_for(lambda: group_of(gateway, "bytes")["targets"], "the target")
        with socket.create_connection(("127.0.0.1", gateway.port("bytes")), timeout=20) as client:
            peer, _ = listening.accept()
            with peer:
                peer.sendall(b"hello")
                assert client.recv(10) == b"hello"
                members(gateway, "bytes", [])
                with pytest.raises(ConnectionResetError):
                    client.recv(10)
    gateway.wait_log(lambda entry: entry["reason"] == "TARGET_DEREGISTERED")


def test_a_target_that_a_reload_takes_away_drains(gateway, origins):
    one = address(origins[0])
    for delay in (1, 8):
        gateway.configure(TEXT)
        gateway.reload()
        until_answered_by(gateway, "/fixed", ["one"])
        held = Held(gateway, origins[0], "/fixed/held")
        long = Held(gateway, origins[0], "/fixed/long")
        without = TEXT.replace('fixed: {targets: ["127.0.0.1:@one@"]', f'fixed: {{deregistration_delay: {delay}s, targets: ["127.0.0.1:@two@"]')
        gateway.configure(without)
        began = time.monotonic()
        gateway.reload()
        assert who_answers(gateway, "/fixed") == {"two"}
        seen, response = states(gateway, "fixed"), held.response()
        if time.monotonic() - began < delay * 0.9:
            assert seen[one][0] == "draining" and response.body == b"at last"
            break
    else:
        raise AssertionError("not done in time")
    assert long.client.response().status == 502
    wait_for(lambda: one not in states(gateway, "fixed"), "it is forgotten")
    long.go_on.set()


def test_a_new_target_is_checked_before_it_takes_requests(origins):
    text = """
    listeners: {http: {address: "127.0.0.1:@http@"}}
    target_groups:
      api: {dynamic: true, targets: [], health_check: {path: /health, interval: 200ms, timeout: 20s}}
    routes: [{name: all, forward: api}]
    """
    sick = named("sick")
    sick.on("/health", lambda exchange: exchange.send(reply(b"", "500 Sick")))
    try:
        with Weir(textwrap.dedent(text)) as gateway:
            members(gateway, "api", [address(origins[0])])
            until_answered_by(gateway, "/", ["one"])
            wait_for(lambda: states(gateway, "api")[address(origins[0])][0] == "healthy", "it is healthy")
            members(gateway, "api", [address(sick)], "POST")
            wait_for(lambda: states(gateway, "api").get(address(sick), [""])[0] == "unhealthy", "it is checked")
            assert who_answers(gateway, "/", 20) == {"one"}
    finally:
        sick.close()


def test_explain_by_the_admin_api_sees_the_targets_of_now(gateway, origins):
    members(gateway, "api", [address(origins[2])])
    until_answered_by(gateway, "/", ["three"])
    status, answer = call(gateway, "POST", "/api/v1/explain", {"url": f"http://127.0.0.1:{gateway.port('http')}/"})
    assert status == 200 and answer["target"] == address(origins[2]), answer


def test_sessions_stay_with_their_target_while_others_come_and_go(origins):
    text = """
    listeners: {http: {address: "127.0.0.1:@http@"}}
    target_groups: {api: {dynamic: true, targets: [], stickiness: {lb_cookie: 1h}, health_check: {enabled: false}}}
    routes: [{name: all, forward: api}]
    """
    with Weir(textwrap.dedent(text)) as gateway:
        members(gateway, "api", [address(origins[1])])
        until_answered_by(gateway, "/", ["two"])
        cookie = ask(gateway).all("set-cookie")[0].split(";")[0]
        for others in ([0], [2], [0, 2], []):
            members(gateway, "api", [address(origins[i]) for i in others] + [address(origins[1])])
            wait_for(lambda: len(group_of(gateway, "api")["targets"]) == len(others) + 1, "the new list")
            for _ in range(6):
                with Client(gateway.port("http")) as client:
                    client.request("GET", "/", [("Cookie", cookie)])
                    assert client.response().body == b"two"


def different(start, count):
    return [f"127.{1 + i // 65536 % 250}.{i // 256 % 256}.{i % 256}:9" for i in range(start, start + count)]


def test_memory_is_flat_after_many_endpoints_came_and_went(gateway):
    """100,000 different ones, 1,000 at a time, in lists that replace each other."""
    def run(first, last):
        for start in range(first, last, 1000):
            members(gateway, "api", different(start, 1000))
            wait_for(lambda: gateway.metric("weir_endpoints") < 8000, "those before are forgotten", 60)
        members(gateway, "api", [])
        wait_for(lambda: gateway.metric("weir_endpoints") < 10, "all are forgotten", 60)
        return gateway.rss()

    before = run(0, 20000)
    after = run(20000, 100000)
    if not SANITIZED:  # there freed memory is kept for a while
        assert after < before + 8 * 1024 * 1024, (before, after)
    assert gateway.metric("weir_targets_removed_total") >= 90000
    assert ask(gateway).status == 503 and os.path.exists(gateway.folder / "state" / "targets.json")


GROUPS = """
worker_threads: 2
access_log: {{enabled: false}}
listeners: {{http: {{address: "127.0.0.1:@http@"}}}}
target_groups:
  stays: {{targets: ["127.0.0.1:@one@"], health_check: {{enabled: false}}}}
{groups}
routes:
{routes}
  - {{name: stays, forward: stays}}
"""
KINDS = ["outlier_detection: {consecutive_5xx: 3}", "target_limits: {requests: 1, queue: 10}", "dynamic: true", "circuit_breaker: {connections: 5}"]


def other_groups(first, count):
    """A configuration of groups that no other one has, each with something that is kept about it."""
    groups = "".join(f'  g{i}: {{targets: ["127.0.0.1:@one@"], health_check: {{enabled: false}}, {KINDS[i % len(KINDS)]}}}\n'
                     for i in range(first, first + count))
    routes = "".join(f'  - {{name: r{i % count}, match: {{path: "/g{i}*"}}, forward: g{i}}}\n' for i in range(first, first + count))
    return GROUPS.format(groups=groups.rstrip("\n"), routes=routes.rstrip("\n"))


def test_groups_that_no_configuration_has_any_more_are_forgotten(origins):
    """6,000 different ones, 500 at a time, each asked now and then; those that requests still use are forgotten after them."""
    at_a_time = 100 if SANITIZED else 500
    with Weir(other_groups(0, at_a_time), one=origins[0].port) as gateway:
        def run(first, times):
            for start in range(first * at_a_time, (first + times) * at_a_time, at_a_time):
                gateway.configure(other_groups(start, at_a_time))
                gateway.reload()
                for i in range(start, start + at_a_time, at_a_time // 8 - 1):
                    assert ask(gateway, f"/g{i}").body == b"one"
                wait_for(lambda: gateway.metric("weir_target_groups") == at_a_time + 1, "those before are forgotten", 30)
            return gateway.rss()
        before = run(1, 5)
        after = run(6, 7)
        if not SANITIZED:  # there freed memory is kept for a while
            assert after < before + 2 * 1024 * 1024, (before, after)

        held = Held(gateway, origins[0], f"/g{12 * at_a_time}/held")
        gateway.configure(other_groups(0, 4))
        gateway.reload()
        wait_for(lambda: gateway.metric("weir_target_groups") == 5 + at_a_time, "the groups of the snapshot that is held, too")
        held.go_on.set()
        assert held.response().status == 200
        wait_for(lambda: gateway.metric("weir_target_groups") == 5, "all but the present ones are forgotten", 30)


def test_a_group_that_comes_back_works_as_before(origins):
    """Over and over, while it is being forgotten: whatever the moment, its requests and its queue go on."""
    with Weir(other_groups(0, 4), one=origins[0].port) as gateway:
        for round in range(12):
            gateway.configure(other_groups(4, 4))
            gateway.reload()
            if round % 3 == 2:
                wait_for(lambda: gateway.metric("weir_target_groups") == 5, "they are forgotten", 30)
            gateway.configure(other_groups(0, 4))
            gateway.reload()
            held = Held(gateway, origins[0], f"/g1/held{round}")  # target_limits: one at a time
            queued = Client(gateway.port("http"))
            queued.request("GET", "/g1")
            wait_for(lambda: gateway.metric("weir_target_queue_requests") == 1, "the next one waits")
            held.go_on.set()
            assert held.response().status == 200 and queued.response().body == b"one"
            queued.close()
            assert {ask(gateway, f"/g{i}").body for i in range(4)} == {b"one"}
