"""What weir tells about itself: admin API, metrics, access log, and the small commands."""
import json
import os
import re
import socket
import stat
import time

import pytest

from client import Client, fetch
from origin import Origin, reply
from weir import CONFIG, Weir, wait_for

TEXT = """
worker_threads: 1
listeners:
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: self}}
certificates: {self: {self_signed: [localhost]}}
target_groups:
  origin: {targets: ["127.0.0.1:@origin@"], health_check: {path: /health, interval: 200ms, timeout: 20s, healthy_threshold: 2, unhealthy_threshold: 2}}
  dead: {targets: ["127.0.0.1:@dead@"], health_check: {enabled: false}}
  empty: {targets: [{address: "127.0.0.1:9", weight: 0}], health_check: {enabled: false}}
routes:
  - {name: local, match: {path: "/local*"}, respond: {status: 200, body: "local"}}
  - {name: dead, match: {path: "/dead*"}, forward: dead}
  - {name: empty, match: {path: "/empty*"}, forward: empty}
  - {name: all, match: {path: "/o*"}, forward: origin}
"""


@pytest.fixture(scope="module")
def gateway():
    with Origin() as origin:
        with Weir(TEXT, origin=origin.port) as weir:
            weir.origin = origin
            yield weir


# --- admin API ----------------------------------------------------------------------------------------------------
def test_health_and_readiness(gateway):
    assert gateway.admin("/healthz")[0] == 200
    assert gateway.admin("/readyz")[0] == 200
    assert gateway.admin("/nothing")[0] == 404
    assert gateway.admin("/healthz", "HEAD")[0] == 200
    assert gateway.admin("/healthz", "DELETE")[0] == 405


def test_the_admin_socket_is_for_its_owner(gateway):
    mode = stat.S_IMODE(os.stat(gateway.admin_socket).st_mode)
    assert mode & 0o007 == 0, oct(mode)


def test_a_client_that_says_nothing_does_not_block_the_admin_api(gateway):
    idle = socket.socket(socket.AF_UNIX)
    idle.connect(gateway.admin_socket)
    try:
        for _ in range(5):
            assert gateway.admin("/healthz")[0] == 200
    finally:
        idle.close()


@pytest.mark.parametrize("raw", [b"GARBAGE\r\n\r\n", b"GET /healthz HTTP/1.1\r\n\r\n", b"\x00" * 100000, b"GET /" + b"a" * 100000],
                         ids=["no request", "no host", "100,000 NULs", "an endless target"])
def test_garbage_does_not_hurt_the_admin_api(gateway, raw):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(gateway.admin_socket)
        try:
            sock.sendall(raw)
            sock.recv(1000)
        except OSError:
            pass
    assert gateway.admin("/healthz")[0] == 200


def test_admin_over_tcp(weir):
    gateway = weir("""
listeners: {http: {address: "127.0.0.1:@http@"}}
routes: [{respond: {status: 200}}]
admin: {address: "unix:@tmp@/a.sock", tcp: "127.0.0.1:@admin@"}
""")
    gateway.wait_answer("admin", "/readyz")
    assert b"weir_" in fetch(gateway.port("admin"), "/metrics", host="localhost").body
    for headers, host in [([("Origin", "http://evil.example")], "localhost"), ([], "evil.example")]:
        assert fetch(gateway.port("admin"), "/metrics", headers=headers, host=host).status == 403, "a web page could read it"


def test_a_left_over_socket_file_does_not_stop_a_start(weir):
    gateway = weir("""
listeners: {http: {address: "127.0.0.1:@http@"}}
routes: [{respond: {status: 200, body: ok}}]
""", start=False)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(gateway.admin_socket)
    gateway.start()
    assert fetch(gateway.port("http")).text == "ok"


def test_status(gateway):
    status, text = gateway.admin("/status")
    assert status == 200
    said = json.loads(text)
    assert said["version"]
    assert said["generation"] == gateway.generation()
    assert "origin" in json.dumps(said), "target groups with their health"
    done = gateway.run("status", "-c", CONFIG)
    assert done.returncode == 0, done.stderr
    assert "origin" in done.stdout


# --- metrics ------------------------------------------------------------------------------------------------------
def test_requests_are_counted_by_route_class_and_reason(gateway):
    def count(**labels):
        return gateway.metric("weir_requests_total", **labels)

    before = count(route="local"), count(route="all", code_class="2xx"), count(reason="NO_ROUTE"), count(reason="CONNECT_FAILED")
    for target in ("/local", "/o", "/o", "/nowhere", "/dead"):
        fetch(gateway.port("http"), target)
    wait_for(lambda: count(reason="CONNECT_FAILED") == before[3] + 1, "the counters")
    assert count(route="local") == before[0] + 1
    assert count(route="all", code_class="2xx") == before[1] + 2
    assert count(reason="NO_ROUTE") == before[2] + 1


def test_histograms_add_up(gateway):
    fetch(gateway.port("http"), "/local")
    samples = gateway.metrics()
    counts = {labels: value for (name, labels), value in samples.items() if name == "weir_request_seconds_count"}
    assert counts
    for labels, count in counts.items():
        buckets = [(float(dict(pairs)["le"]), value) for (name, pairs), value in samples.items()
                   if name == "weir_request_seconds_bucket" and set(labels) <= set(pairs)]
        buckets.sort()
        assert buckets[-1] == (float("inf"), count)
        assert [value for _, value in buckets] == sorted(value for _, value in buckets), "cumulative"
        assert ("weir_request_seconds_sum", labels) in samples


def test_number_of_series_does_not_follow_the_traffic(gateway):
    before = len(gateway.metrics())
    for i in range(200):
        fetch(gateway.port("http"), f"/random/{i}", host=f"h{i}.example", headers=[("X-Request-Id", str(i))])
    assert len(gateway.metrics()) <= before + 5


def test_series_stay_below_2000_with_10_000_routes(weir):
    routes = "".join(f'  - {{match: {{path: "/p{i}/*"}}, respond: {{status: 200}}}}\n' for i in range(10000))
    gateway = weir(f'listeners: {{http: {{address: "127.0.0.1:@http@"}}}}\nroutes:\n{routes}')
    with Client(gateway.port("http")) as client:
        for i in range(0, 10000, 5):
            client.request("GET", f"/p{i}/x")
            assert client.response().status == 200
    assert len(gateway.metrics()) < 2000


def test_gauges_return_to_where_they_were(gateway):
    wait_for(lambda: gateway.metric("weir_requests_in_flight") == 0, "no request")
    clients = [Client(gateway.port("http")) for _ in range(10)]
    for client in clients:
        client.request("GET", "/local")
        client.response()
    assert gateway.metric("weir_connections") >= 10
    for client in clients:
        client.close()
    wait_for(lambda: gateway.metric("weir_connections") == 0, "no connection")


def test_certificate_expiry_is_a_metric(gateway):
    expiry = [value for (name, _), value in gateway.metrics().items() if name.startswith("weir_certificate") and "expir" in name]
    assert expiry and all(value > 86400 for value in expiry)


# --- health -------------------------------------------------------------------------------------------------------
def test_health_changes_show_in_metrics_and_status(weir):
    with Origin() as a, Origin() as b:
        a.on("/health", reply(status="500 Broken"))
        gateway = weir(TEXT.replace('["127.0.0.1:@origin@"]', '["127.0.0.1:@a@", "127.0.0.1:@b@"]'), a=a.port, b=b.port)

        def healthy():
            return {dict(labels)["target"]: value for (name, labels), value in gateway.metrics().items()
                    if name == "weir_target_health" and dict(labels)["target_group"] == "origin"}

        wait_for(lambda: healthy() == {a.address: 0, b.address: 1}, "the first verdicts")
        for _ in range(10):
            assert fetch(gateway.port("http"), "/o").status == 200
        assert all(request.target == "/health" for request in a.requests)
        a.on("/health", reply())
        wait_for(lambda: healthy() == {a.address: 1, b.address: 1}, "the recovery")
        b.close()
        wait_for(lambda: healthy() == {a.address: 1, b.address: 0}, "the failure of b")
        for _ in range(10):
            assert fetch(gateway.port("http"), "/o").status == 200


# --- access log -----------------------------------------------------------------------------------------------------
FIELDS = {"time", "request_id", "client", "method", "host", "path", "query", "status", "reason", "route", "target_group", "target",
          "bytes_in", "bytes_out", "duration_ms", "upstream_ms", "protocol", "tls_version", "listener", "user_agent", "trace_id"}


def log_of(gateway, path):
    return gateway.wait_log(lambda entry: entry["path"] == path)[0]


def test_a_log_line_tells_the_whole_story(gateway):
    response = fetch(gateway.port("http"), "/o-story?a=b", "POST", [("User-Agent", "test/1.0")], b"hello", host="Log.Example:81")
    entry = log_of(gateway, "/o-story")
    assert FIELDS <= set(entry), FIELDS - set(entry)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,6}Z", entry["time"])
    assert entry["client"].startswith("127.0.0.1")
    assert (entry["method"], entry["host"], entry["query"]) == ("POST", "log.example", "a=b")
    assert (entry["status"], entry["reason"], entry["route"], entry["target_group"]) == (200, "-", "all", "origin")
    assert entry["target"] == gateway.origin.address
    assert (entry["protocol"], entry["listener"], entry["user_agent"]) == ("HTTP/1.1", "http", "test/1.0")
    assert entry["bytes_in"] >= 5 and entry["bytes_out"] >= len(response.head) + len(response.body)
    assert 0 <= entry["upstream_ms"] <= entry["duration_ms"] < 10000
    assert re.fullmatch(r"[0-9a-f]{32}", entry["trace_id"])
    assert len(entry["request_id"]) >= 32


def test_a_tls_request_logs_its_version(gateway):
    fetch(gateway.port("https"), "/o-tls", tls="localhost")
    entry = log_of(gateway, "/o-tls")
    assert (entry["tls_version"], entry["listener"]) == ("TLSv1.3", "https")


@pytest.mark.parametrize("target, status, reason", [
    ("/local-x", 200, "FIXED_RESPONSE"), ("/nowhere", 404, "NO_ROUTE"), ("/dead-x", 502, "CONNECT_FAILED"),
    ("/empty-x", 503, "NO_TARGETS"), ("/o-up/../../x", 400, "BAD_PATH"), ("/o-fine", 200, "-")])
def test_every_local_answer_has_its_reason(gateway, target, status, reason):
    assert fetch(gateway.port("http"), target).status == status
    entry = log_of(gateway, target)
    assert (entry["status"], entry["reason"]) == (status, reason)


def test_hostile_bytes_do_not_break_the_log(gateway):
    fetch(gateway.port("http"), "/local/%22%0a%5c?\\}", headers=[("User-Agent", '"}\t\xff\xc3\x28\\'), ("X-Request-Id", 'a"b')])
    entry = gateway.wait_log(lambda entry: entry["user_agent"] and entry["user_agent"].startswith('"}'))[0]
    assert entry["query"] == "\\}"
    assert "\n" not in entry["request_id"]


def test_requests_that_break_before_routing_are_logged(gateway):
    with Client(gateway.port("http")) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Marker : 1\r\n\r\n")
        assert client.response().status == 400
    entry = gateway.wait_log(lambda entry: entry["reason"] == "BAD_FIELD")[0]
    assert entry["status"] == 400
    assert not entry["route"] or entry["route"] == "-"


def test_logging_can_be_turned_off(weir):
    gateway = weir("""
access_log: {enabled: false}
listeners: {http: {address: "127.0.0.1:@http@"}}
routes: [{respond: {status: 200}}]
""")
    fetch(gateway.port("http"))
    gateway.terminate()
    assert gateway.stdout_path.read_bytes() == b""


def test_nothing_is_lost_from_the_log_at_the_end(weir):
    gateway = weir("""
listeners: {http: {address: "127.0.0.1:@http@"}}
routes: [{respond: {status: 200}}]
""")
    with Client(gateway.port("http")) as client:
        for i in range(500):
            client.request("GET", f"/{i}")
            client.response()
    gateway.terminate()
    assert [entry["path"] for entry in gateway.access_log()] == [f"/{i}" for i in range(500)]


# --- commands -------------------------------------------------------------------------------------------------------
def test_version(gateway):
    done = gateway.run("version")
    assert done.returncode == 0
    assert re.search(r"\b\d+\.\d+\.\d+", done.stdout)


def test_no_command_and_an_unknown_one_show_the_usage(gateway):
    for arguments in ((), ("nonsense",), ("run", "--nonsense")):
        done = gateway.run(*arguments)
        assert done.returncode == 2, done
        assert "weir" in done.stderr + done.stdout
    assert gateway.run("--help").returncode == 0


def test_reason_explains_every_code(gateway):
    listing = gateway.run("reason")
    assert listing.returncode == 0
    codes = re.findall(r"^([A-Z][A-Z0-9_]+)\b", listing.stdout, re.M)
    assert len(codes) > 30
    for code in ("NO_ROUTE", "CONNECT_FAILED", "no_targets"):
        done = gateway.run("reason", code)
        assert done.returncode == 0 and len(done.stdout.splitlines()) >= 2
    done = gateway.run("reason", "NO_ROUTES")
    assert done.returncode != 0
    assert "NO_ROUTE" in done.stderr


def test_run_with_a_broken_configuration_says_so_and_exits_1(weir):
    gateway = weir("routes: [{nonsense: 1}]", start=False)
    gateway.has_admin = False
    gateway.start()
    assert gateway.process.wait(60) == 1
    gateway.expected_exit = 1
    assert re.search(r"weir\.yaml:\d+:\d+: .*nonsense", gateway.stderr())


def test_run_on_a_port_that_is_taken_says_so_and_exits_1(weir):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        gateway = weir(f"""
listeners: {{http: {{address: "127.0.0.1:{taken.getsockname()[1]}"}}}}
routes: [{{respond: {{status: 200}}}}]
""", start=False)
        gateway.has_admin = False
        gateway.start()
        gateway.expected_exit = 1
        assert gateway.process.wait(60) == 1
        assert str(taken.getsockname()[1]) in gateway.stderr()


def test_an_idle_gateway_burns_no_cpu(weir):
    gateway = weir("""
listeners: {http: {address: "127.0.0.1:@http@"}}
routes: [{respond: {status: 200}}]
""")
    clients = [Client(gateway.port("http")) for _ in range(20)]

    def cpu_ns():
        total = 0
        for pid in gateway.pids():
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                    total += int(file.read().split()[0])
        return total

    before = cpu_ns()
    time.sleep(2)
    used_ms = (cpu_ns() - before) / 1e6
    for client in clients:
        client.close()
    assert used_ms < 60, f"{used_ms:.0f} ms of CPU in 2 s"
