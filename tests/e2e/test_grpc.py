"""gRPC from end to end, with both ends made by others (npm @grpc/grpc-js): every kind of call, trailers, deadlines,
cancellation, health checks, and errors that weir makes. Raw calls come from python-h2."""
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from client import fetch
from h2client import DATA, H2Client
from origin_h2 import H2Origin
from test_tls import certificate, key_pem, pem
from test_websocket import NODE
from weir import Weir, wait_for

SCRIPT = os.path.join(os.path.dirname(__file__), "grpc.cjs")
CONFIG = """
worker_threads: 1
listeners:
  http: {address: "127.0.0.1:@http@", protocols: [h2, http/1.1]}
  https: {address: "127.0.0.1:@https@", protocols: [h2, http/1.1], tls: {certificates: [self]}}
certificates: {self: {cert: self.pem, key: self.key}}
target_groups:
  grpc:
    protocol: grpc
    targets: "127.0.0.1:@origin@"
    @tls@
    health_check: @check@
    timeouts: {connect: 20s}
  dead: {protocol: grpc, targets: "127.0.0.1:@dead@", health_check: {enabled: false}}
  plain: {protocol: h2c, targets: "127.0.0.1:@origin@", health_check: {enabled: false}, timeouts: {connect: 20s}}
routes:
  - {name: plain, match: {header: {x-group: plain}}, forward: plain}
  - {name: dead, match: {path: "/weir.Dead/*"}, forward: dead}
  - {name: grpc, match: {path: ["/weir.Test/*", "/raw/*"]}, forward: grpc}
"""
OWN = certificate(["127.0.0.1", "localhost"])
FILES = {"self.pem": pem(OWN), "self.key": key_pem("p256")}


def start(port, tls=" ", check="{enabled: false}"):
    return Weir(CONFIG, files=FILES, origin=port, tls=tls, check=check)


def need_node():
    if shutil.which("node") and (NODE / "node_modules" / "@grpc" / "grpc-js").exists():
        return
    if os.environ.get("CI") == "true":
        pytest.fail("node or the npm package @grpc/grpc-js is missing: `make browser`")
    pytest.skip("node or the npm package @grpc/grpc-js is missing: `make browser`")


class Server:
    """node grpc.cjs serve"""

    def __init__(self, *files):
        need_node()
        self.process = subprocess.Popen(["node", SCRIPT, "serve", *map(str, files)], stdout=subprocess.PIPE, text=True,
                                        env=dict(os.environ, WEIR_NODE=str(NODE)))
        self.port = int(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def talk(gateway, action="talk"):
    where = [f"127.0.0.1:{gateway.port('https')}", str(gateway.folder / "self.pem")]
    if action == "silent":
        where = [f"127.0.0.1:{gateway.port('http')}"]
    done = subprocess.run(["node", SCRIPT, action, *where],
                          env=dict(os.environ, WEIR_NODE=str(NODE)), capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=["h2c", "TLS"])
def results(request, tmp_path_factory):
    """What the node client saw, by way of either kind of target."""
    folder = tmp_path_factory.mktemp("grpc")
    files = []
    if request.param == "TLS":
        for name, content in FILES.items():
            (folder / name).write_bytes(content)
            files.append(folder / name)
    with Server(*files) as server, start(server.port, "tls: {ca: self.pem}" if files else " ") as gateway:
        yield talk(gateway)


def test_a_unary_call_brings_its_metadata_and_trailers(results):
    seen = results["unary"]
    assert (seen["code"], seen["text"], seen["head"]["x-head"]) == (0, "hello", "one")
    assert seen["trailers"]["x-trailer"] == "two" and seen["trailers"]["x-bytes-bin"]["data"] == [0, 255]


def test_messages_of_any_size(results):
    assert (results["empty"]["code"], results["empty"]["size"]) == (0, 0)
    assert (results["large"]["code"], results["large"]["size"]) == (0, 3_000_000)


def test_client_streaming(results):
    assert (results["upload"]["code"], results["upload"]["text"]) == (0, "3000000")


def test_server_streaming(results):
    assert results["download"] == {"code": 0, "size": 5_000_000, "count": 500}


def test_bidirectional_streaming_in_turns(results):
    assert results["chat"] == {"code": 0, "sizes": [1, 10, 70000, 3], "same": True}


def test_an_error_of_the_server_arrives_with_its_message(results):
    assert (results["fail"]["code"], results["fail"]["details"]) == (9, "nö: 100%")


def test_a_deadline_ends_the_call(results):
    assert results["deadline"]["code"] == 4
    assert results["deadline"]["ms"] > results["deadline"]["limit"] - 100


def test_cancellation_reaches_the_server(results):
    assert results["cancelledByDeadline"] and results["cancelled"]


def test_errors_of_weir_are_grpc_errors(results):
    assert results["nowhere"]["code"] == 12  # UNIMPLEMENTED: no route
    assert results["dead"]["code"] == 14  # UNAVAILABLE: nobody listens


# --- raw calls ---------------------------------------------------------------------------------------------------------
GRPC = [("content-type", "application/grpc"), ("te", "trailers")]


def call(gateway, path="/raw/x", headers=GRPC, method="POST"):
    with H2Client(gateway.port("http")) as client:
        return client.fetch(path, method, headers, b"\0\0\0\0\0" if method == "POST" else None)


def test_weirs_errors_are_trailers_only(tmp_path):
    with start(1) as gateway:
        response = call(gateway, "/no/route")
        assert (response.status, response.body) == (200, b"")
        assert response.get("content-type") == "application/grpc" and response.get("grpc-status") == "12"
        assert response.get("grpc-message")
        assert gateway.wait_log()[-1]["reason"] == "NO_ROUTE"
        plain = call(gateway, "/no/route", headers=[("content-type", "application/grpc-web")])
        assert plain.status == 404 and plain.get("grpc-status") is None


def test_grpc_timeout_is_a_cap_that_answers_deadline_exceeded():
    with H2Origin(lambda exchange: None) as origin, start(origin.port) as gateway:
        origin.on("/raw/first", lambda exchange: exchange.respond())
        call(gateway, "/raw/first")  # the connection is there
        response = call(gateway, headers=[*GRPC, ("grpc-timeout", "200m")])
        assert (response.status, response.get("grpc-status")) == (200, "4")
        entry = gateway.wait_log(lambda entry: entry["path"] == "/raw/x")[0]
        assert entry["reason"] == "GRPC_DEADLINE" and entry["duration_ms"] >= 190
        wait_for(lambda: len(origin.requests) == 2, "the call at the target")
        assert origin.requests[1].get("grpc-timeout") == "200m"
        assert origin.requests[1].wait_reset() == 8


def test_a_client_that_only_listens_is_not_cut_off():
    """A call of both streams: the client has said what it wants and leaves its half open."""
    def talk(exchange):
        exchange.head(200, [("content-type", "application/grpc")])
        exchange.data(b"\0\0\0\0\1b")
        exchange.piece(20)
        for _ in range(6):
            time.sleep(0.1)
            exchange.data(b"\0\0\0\0\1m")
        exchange.body(20)
        exchange.end_with([("grpc-status", "0")])
    with H2Origin(talk) as origin, start(origin.port) as gateway, H2Client(gateway.port("http"), timeout=20) as client:
        stream = client.headers([(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/raw/talk"), *GRPC], end=False)
        assert client.wait_kind(DATA, stream).payload.endswith(b"b")
        gateway.configure(CONFIG + "limits: {body_timeout: 100ms}\n")  # not before the answer has begun
        gateway.reload()
        client.data(stream, b"\0\0\0\0\0")
        for _ in range(6):
            assert client.wait_kind(DATA, stream).payload.endswith(b"m")
        client.data(stream, end=True)
        assert client.wait(lambda f: f.ends and f.stream == stream).fields == [("grpc-status", "0")]


# --- clients that are silent before the answer begins ------------------------------------------------------------------
SHORT = "limits: {body_timeout: 300ms}\n"


def begin(client, path, headers=GRPC):
    return client.headers([(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", path), *headers], end=False)


def test_silent_calls_of_a_real_client_live_until_it_speaks():
    """The server's head comes with its first message, and that after the client's. What ends calls to a group of h2c,
    body_timeout, has passed twice meanwhile."""
    with Server() as server, Weir(CONFIG + SHORT, files=FILES, origin=server.port, tls=" ", check="{enabled: false}") as gateway:
        seen = talk(gateway, "silent")
    assert seen["seen"] == 2 and [other["code"] for other in seen["others"]] == [2, 2]
    assert (seen["upload"]["code"], seen["upload"]["text"]) == (0, "1000")
    assert seen["chat"] == {"code": 0, "sizes": [4], "same": True}


@pytest.mark.parametrize("headers", [GRPC, []])
def test_a_silent_client_of_a_grpc_group_is_not_a_slow_one(headers):
    def late(exchange):
        assert exchange.piece(60) == b"\0\0\0\0\0"
        assert exchange.body(60) == b""
        exchange.respond()
    with H2Origin(lambda exchange: None) as origin, Weir(CONFIG + SHORT, files=FILES, origin=origin.port, tls=" ", check="{enabled: false}") as gateway:
        with H2Client(gateway.port("http"), timeout=60) as client:
            origin.on("/raw/late", late)
            stream = begin(client, "/raw/late", headers)
            for _ in range(2):
                assert client.answer(begin(client, "/plain/x", [("x-group", "plain")])).status == 408
            client.data(stream, b"\0\0\0\0\0")  # a byte a day is not too slow either
            for _ in range(2):
                assert client.answer(begin(client, "/plain/x", [("x-group", "plain")])).status == 408
            client.data(stream, end=True)
            assert client.answer(stream).body == b"ok"


@pytest.mark.parametrize("where", ["group", "route"])
def test_how_long_calls_may_be_silent_is_bounded_by_timeouts_idle(where):
    """An attack: as many calls as a connection may have, which say nothing. Each ends, here and at the target, and it is
    not the target's fault."""
    text = (CONFIG + SHORT).replace("    timeouts: {connect: 20s}\n", "    timeouts: {connect: 20s%s}\n    circuit_breaker: {requests: 128}\n"
                                    "    outlier_detection: {consecutive_5xx: 1, max_ejected: 100%%}\n"
                                    % (", idle: 700ms" if where == "group" else ", idle: 10m"))
    if where == "route":
        text = text.replace("forward: grpc}", "forward: grpc, timeouts: {idle: 700ms}}")
    with H2Origin(lambda exchange: None) as origin, Weir(text, files=FILES, origin=origin.port, tls=" ", check="{enabled: false}") as gateway:
        origin.on("/raw/good", lambda exchange: exchange.head(end=True))
        with H2Client(gateway.port("http"), timeout=60) as client:
            answers = [client.answer(stream) for stream in [begin(client, "/raw/silent") for _ in range(128)]]
            assert {answer.get("grpc-status") for answer in answers} == {"2"}
            assert client.fetch("/raw/good", "POST", GRPC).get("grpc-status") is None
        entries = gateway.wait_log(lambda entry: entry["path"] == "/raw/silent", 128)
        assert {entry["reason"] for entry in entries} == {"BODY_TIMEOUT"}
        assert gateway.metric("weir_outlier_ejections_total", reason="consecutive_5xx") == 0
        for request in origin.requests:
            if request.get(":path") == "/raw/silent":
                assert request.wait_reset() == 8


def test_a_target_that_resets_is_unavailable():
    with H2Origin(lambda exchange: exchange.reset(2)) as origin, start(origin.port) as gateway:
        assert call(gateway).get("grpc-status") == "14"


def test_groups_of_grpc_take_nothing_else():
    """spec/alb.md, 3.2 and test vector 14"""
    with H2Origin() as origin, start(origin.port) as gateway:
        assert fetch(gateway.port("http"), "/raw/x").status == 464
        assert call(gateway, method="GET", headers=[]).status == 464
        assert call(gateway, headers=[]).status == 200
        assert len(origin.requests) == 1


# --- health checks -----------------------------------------------------------------------------------------------------
def state(gateway, name):
    return gateway.metric("weir_target_group_targets", target_group="grpc", state=name)


def test_a_health_check_calls_the_health_service():
    with Server() as server, start(server.port, check="{interval: 300ms, timeout: 20s}") as gateway:
        wait_for(lambda: state(gateway, "healthy") == 1, "a healthy target")
        server.process.send_signal(signal.SIGUSR2)
        wait_for(lambda: state(gateway, "unhealthy") == 1, "NOT_SERVING to be seen")


@pytest.mark.parametrize("code, expected", [("12", "healthy"), ("5", "unhealthy"), ("14", "unhealthy")])
def test_a_server_without_a_health_service_is_healthy_as_long_as_it_says_so(code, expected):
    """spec/alb.md 4: UNIMPLEMENTED shows that a server is alive"""
    def answer(exchange):
        exchange.head(200, [("content-type", "application/grpc"), ("grpc-status", code)], end=True)
    with H2Origin(answer) as origin, start(origin.port, check="{interval: 300ms, timeout: 20s}") as gateway:
        wait_for(lambda: state(gateway, expected) == 1, f"a target that is {expected}")


def test_a_matcher_takes_codes_of_grpc():
    """On an ALB: a path that is not there and 12, UNIMPLEMENTED, show that a server is alive (spec/alb.md, 4)."""
    check = "{interval: 300ms, timeout: 20s, path: /AWS.ALB/healthcheck, matcher: \"%s\"}"
    with Server() as server:
        with start(server.port, check=check % "12") as gateway:
            wait_for(lambda: state(gateway, "healthy") == 1, "a healthy target")
        with start(server.port, check=check % "0-11,13-99") as gateway:
            wait_for(lambda: state(gateway, "unhealthy") == 1, "an unhealthy target")
