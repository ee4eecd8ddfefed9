"""Targets that fail: what the client gets, what the log says, what is tried again, and how health checks keep requests
away from them."""
import contextlib
import json
import random
import socket
import threading
import time

import pytest

from client import Client, Closed, elapsed, fetch
from load import Load
from origin import OK, Origin, reply
from weir import Weir, wait_for, needs_ipv6

CONFIG = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  origin:
    targets: "127.0.0.1:@origin@"
    health_check: {enabled: false}
    timeouts: {connect: 20s, first_byte: 20s, idle: 20s}
routes: [{name: all, forward: origin}]
"""
# For what is given up: the limit under test is short, the others are far away.
HASTY = {name: CONFIG.replace(f"{name}: 20s", f"{name}: 300ms") for name in ("connect", "first_byte", "idle")}
TWO_TARGETS = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  origin:
    targets: ["127.0.0.1:@first@", "127.0.0.1:@second@"]
    health_check: {enabled: false}
    timeouts: {connect: @connect@, first_byte: 20s, idle: 20s}
routes: [{name: all, forward: origin}]
"""


@pytest.fixture
def gateway(origin):
    with Weir(CONFIG, origin=origin.port) as gateway:
        yield gateway


@pytest.fixture
def hasty(origin):
    """hasty("idle") waits 300 ms for that, and long for anything else."""
    with contextlib.ExitStack() as stack:
        yield lambda what: stack.enter_context(Weir(HASTY[what], origin=origin.port))


def last_log(gateway, path, count=1):
    return gateway.wait_log(lambda entry: entry["path"] == path, count)[-1]


# --- a target that dies before it has answered ------------------------------------------------------------------------
def after(data, end):
    """An answer that sends data and, most often apart from it, the end of the connection."""
    def answer(exchange):
        if data:
            exchange.send(data)
            time.sleep(0.05)
        end(exchange)
    return answer


def once_seen(data, end):
    """An answer that sends data and ends the connection when the client has something of it."""
    def answer(exchange):
        exchange.send(data)
        assert exchange.origin.is_seen.wait(20)
        end(exchange)
    return answer


def close(exchange):
    exchange.close()


def reset(exchange):
    exchange.reset()


def hold(exchange):
    exchange.wait_peer_closed()
    exchange.close()


BEFORE_THE_HEAD = {
    "closed at once": (after(b"", close), "UPSTREAM_CLOSED"),
    "reset at once": (after(b"", reset), "UPSTREAM_CLOSED"),
    "closed behind 100": (after(b"HTTP/1.1 100 Continue\r\n\r\n", close), "UPSTREAM_CLOSED"),
    "closed in the status line": (after(b"HTTP/1.1 2", close), "UPSTREAM_BAD_RESPONSE"),
    "closed in the fields": (after(b"HTTP/1.1 200 OK\r\ncontent-le", close), "UPSTREAM_BAD_RESPONSE"),
    "reset in the fields": (after(b"HTTP/1.1 200 OK\r\ncontent-le", reset), "UPSTREAM_BAD_RESPONSE"),
    "another protocol": (after(b"220 mail.example.com ESMTP\r\n", hold), "UPSTREAM_BAD_RESPONSE"),
    "both lengths": (after(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", hold),
                     "UPSTREAM_BAD_RESPONSE"),
    "two lengths": (after(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", hold),
                    "UPSTREAM_BAD_RESPONSE"),
    "unknown coding": (after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", hold), "UPSTREAM_BAD_RESPONSE"),
    "folded field": (after(b"HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", hold), "UPSTREAM_BAD_RESPONSE"),
    "upgrade nobody asked for": (after(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
                                       hold), "UPSTREAM_BAD_RESPONSE"),
    "endless 1xx": (after(b"HTTP/1.1 102 Processing\r\n\r\n" * 40, hold), "UPSTREAM_BAD_RESPONSE"),
    "head above 64 KiB": (after(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70000, hold), "UPSTREAM_HEAD_TOO_LARGE"),
    "101 fields": (after(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 101 + b"\r\n", hold), "UPSTREAM_HEAD_TOO_LARGE"),
}


@pytest.mark.parametrize("case", BEFORE_THE_HEAD)
def test_a_target_that_fails_before_its_head_is_a_502_with_its_reason(gateway, origin, case):
    answer, reason = BEFORE_THE_HEAD[case]
    origin.on("/x", answer)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/x")
        assert client.response().status == 502
        entry = last_log(gateway, "/x")
        assert (entry["status"], entry["reason"], entry["target"]) == (502, reason, origin.address)
        assert entry["error"], "the log says what was wrong"
        assert client.is_open(), "it is not the client's fault"
    assert len([r for r in origin.requests if r.target == "/x"]) == 1, "it may have been processed: not asked again"


# --- a target that dies within its body -------------------------------------------------------------------------------
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
WITHIN_THE_BODY = {
    "sized, closed": (once_seen(SIZED, close), "UPSTREAM_TRUNCATED"),
    "sized, reset": (once_seen(SIZED, reset), "UPSTREAM_RESET"),
    "sized, stalls": (once_seen(SIZED, hold), "UPSTREAM_IDLE_TIMEOUT"),
    "chunked, closed behind a chunk": (once_seen(CHUNKED, close), "UPSTREAM_TRUNCATED"),
    "chunked, closed in a chunk": (once_seen(CHUNKED + b"5\r\nwo", close), "UPSTREAM_TRUNCATED"),
    "chunked, closed before the last line": (once_seen(CHUNKED + b"0\r\n", close), "UPSTREAM_TRUNCATED"),
    "chunked, reset": (once_seen(CHUNKED, reset), "UPSTREAM_RESET"),
    "chunked, stalls": (once_seen(CHUNKED, hold), "UPSTREAM_IDLE_TIMEOUT"),
    "chunked, junk": (once_seen(CHUNKED, lambda exchange: (exchange.send(b"junk\r\n"), hold(exchange))), "UPSTREAM_BAD_CHUNK"),
    "until the end, reset": (once_seen(b"HTTP/1.1 200 OK\r\n\r\nhello", reset), "UPSTREAM_RESET"),
}


STALLS = [answer for answer, reason in WITHIN_THE_BODY.values() if reason == "UPSTREAM_IDLE_TIMEOUT"]


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("case", WITHIN_THE_BODY)
def test_a_response_that_breaks_off_never_looks_whole(weir, origin, case, version):
    answer, reason = WITHIN_THE_BODY[case]
    origin.on("/x", answer)
    origin.is_seen = threading.Event()
    gateway = weir(HASTY["idle"] if answer in STALLS else CONFIG, origin=origin.port)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/x", version=version)
        head = client.head()
        assert head.status == 200
        while b"hello" not in client.buffer:
            client._more()  # what came is passed on
        origin.is_seen.set()
        if head.all("content-length") or version == "1.1":
            with pytest.raises(Closed):  # before the length, or without the last chunk
                client.until(b"0\r\n\r\n") if head.all("transfer-encoding") else client.exactly(10)
        else:  # an HTTP/1.0 client has only the reset to tell
            with pytest.raises(ConnectionResetError):
                while client.socket.recv(65536):
                    pass
    entry = last_log(gateway, "/x")
    assert (entry["status"], entry["reason"]) == (200, reason)
    assert fetch(gateway.port("http")).status == 200


def test_a_response_that_breaks_off_together_with_its_head_never_looks_whole(gateway, origin):
    origin.on("/x", lambda exchange: (exchange.send(SIZED), exchange.close()))
    for i in range(20):
        try:
            assert fetch(gateway.port("http"), "/x").status == 502
        except Closed:
            pass
    entries = gateway.wait_log(lambda entry: entry["path"] == "/x", 20)
    assert {entry["reason"] for entry in entries} == {"UPSTREAM_TRUNCATED"}


# --- timeouts -----------------------------------------------------------------------------------------------------------
def full_listener():
    """A port whose connects hang: the accept queue is full, so that the kernel drops further SYNs."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(2):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    return listener, fillers


def test_a_connect_that_hangs_is_a_504(weir):
    listener, fillers = full_listener()
    gateway = weir(HASTY["connect"], origin=listener.getsockname()[1])
    response, seconds = elapsed(lambda: fetch(gateway.port("http"), "/x"))
    assert response.status == 504
    assert seconds > 0.28
    assert last_log(gateway, "/x")["reason"] == "CONNECT_TIMEOUT"
    for sock in (listener, *fillers):
        sock.close()


def test_a_target_that_does_not_answer_is_a_504_and_not_asked_again(hasty, origin):
    gateway = hasty("first_byte")
    origin.on("/x", hold)
    response, seconds = elapsed(lambda: fetch(gateway.port("http"), "/x"))
    assert response.status == 504
    assert seconds > 0.28
    entry = last_log(gateway, "/x")
    assert (entry["reason"], entry["attempts"]) == ("FIRST_BYTE_TIMEOUT", 1)
    assert len(origin.wait()) == 1


def test_a_head_that_drips_is_a_504(hasty, origin):
    gateway = hasty("first_byte")

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nx: ")
        try:
            for _ in range(1000):  # 20 s
                exchange.send(b"y")
                time.sleep(0.02)
        except OSError:
            pass
        exchange.close()
    origin.on("/x", answer)
    assert fetch(gateway.port("http"), "/x").status == 504
    assert last_log(gateway, "/x")["reason"] == "FIRST_BYTE_TIMEOUT"


def with_limits(weir, origin, attempt, names):
    """attempt(gateway, seconds) with time limits of 300 ms; where it fails, once more with 3 s and with 20 s: a machine that
    stands still may break one, but what is wrong is wrong with each."""
    for limit in (0.3, 3, 20):
        config = CONFIG
        for name in names:
            config = config.replace(f"{name}: 20s", f"{name}: {limit * 1000:.0f}ms")
        gateway = weir(config, origin=origin.port)
        try:
            return attempt(gateway, limit)
        except (AssertionError, Closed, OSError):
            if limit == 20:
                raise


def test_a_body_that_drips_slower_than_no_timeout_comes_whole(weir, origin):
    def attempt(gateway, limit):
        def answer(exchange):
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
            for _ in range(6):  # twice the limit in all, each pause a third of it
                time.sleep(limit / 3)
                exchange.send(b"x")
        origin.on("/x", answer)
        response, seconds = elapsed(lambda: fetch(gateway.port("http"), "/x", timeout=60))
        assert response.body == b"x" * 6 and seconds > limit
    with_limits(weir, origin, attempt, ["first_byte", "idle"])


def test_a_target_that_does_not_read_its_request_is_a_504(hasty, origin):
    gateway = hasty("idle")
    is_over = threading.Event()
    origin.reads_body = False
    origin.on("/x", lambda exchange: (is_over.wait(20), exchange.close()))
    size = 64 << 20
    with Client(gateway.port("http"), timeout=20) as client:
        client.send(f"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        sent = threading.Thread(target=lambda: send_all(client, size), daemon=True)
        sent.start()
        assert client.response().status == 504
    is_over.set()
    assert last_log(gateway, "/x")["reason"] == "UPSTREAM_IDLE_TIMEOUT"


def send_all(client, size):
    try:
        for _ in range(size >> 16):
            client.send(b"z" * 65536)
    except OSError:
        pass


def test_a_client_that_sends_its_body_slowly_is_not_the_targets_fault(weir, origin):
    def attempt(gateway, limit):
        origin.requests.clear()
        with Client(gateway.port("http"), timeout=60) as client:
            client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
            for byte in (b"h", b"e", b"l", b"l", b"o"):
                time.sleep(limit / 2)
                client.send(byte)
            assert client.response().status == 200
        assert origin.take().body == b"hello"
    with_limits(weir, origin, attempt, ["first_byte", "idle"])


# --- what is tried again ------------------------------------------------------------------------------------------------
class Stale:
    """Answers the first request of each connection; the next one on it ends with a close and no answer."""

    def __init__(self, end=close):
        self.seen, self.end = set(), end

    def __call__(self, exchange):
        if exchange.request.connection in self.seen:
            self.end(exchange)
        else:
            self.seen.add(exchange.request.connection)
            exchange.send(reply(exchange.request.body))


@pytest.mark.parametrize("end", [close, reset])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_an_idempotent_request_survives_a_stale_connection(gateway, origin, method, end):
    origin.answer = Stale(end)
    for i in range(5):
        assert fetch(gateway.port("http"), "/x", method).status == 200
    log = gateway.wait_log(lambda entry: entry["path"] == "/x", 5)
    assert log[0]["attempts"] == 1 and log[1]["attempts"] == 2 and {entry["attempts"] for entry in log} == {1, 2}
    assert {entry["reason"] for entry in log} == {"-"}


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_a_put_is_sent_again_with_its_body(gateway, origin, framing):
    origin.answer = Stale()
    for i in range(4):
        with Client(gateway.port("http")) as client:
            if framing == "chunked":
                client.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            else:
                client.request("PUT", "/x", body=b"hello")
            response = client.response()
            assert (response.status, response.body) == (200, b"hello")


@pytest.mark.parametrize("pause", [0, 0.02, 0.1])
def test_a_put_whose_body_is_late_survives_a_stale_connection(gateway, origin, pause):
    """The connection dies while the gateway waits for the body: the second attempt sends all of it."""
    seen = set()

    def answer(exchange):  # before the body is read
        if exchange.request.connection in seen:
            exchange.close()
            return
        seen.add(exchange.request.connection)
        exchange.send(reply(exchange.read_body()))

    origin.reads_body = False
    origin.answer = answer
    for i in range(6):
        with Client(gateway.port("http")) as client:
            client.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
            time.sleep(pause)
            client.send(b"hello")
            response = client.response()
            assert (response.status, response.body) == (200, b"hello")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_request_that_may_have_been_processed_is_not_sent_twice(gateway, origin, method):
    origin.answer = Stale()
    assert fetch(gateway.port("http"), "/first").status == 200
    assert fetch(gateway.port("http"), "/x", method, body=b"pay").status == 502
    entry = last_log(gateway, "/x")
    assert (entry["reason"], entry["attempts"]) == ("UPSTREAM_CLOSED", 1)
    assert [request.target for request in origin.requests] == ["/first", "/x"]


def test_a_request_on_a_new_connection_that_closes_is_not_sent_twice(gateway, origin):
    origin.answer = after(b"", close)
    assert fetch(gateway.port("http"), "/x").status == 502
    assert len(origin.requests) == 1


def test_a_target_that_refuses_costs_no_request_while_another_one_serves(weir, origin):
    gateway = weir(TWO_TARGETS, connect="20s", first=origin.port)  # nobody listens on the second
    for i in range(10):
        assert fetch(gateway.port("http"), "/x").status == 200
        assert fetch(gateway.port("http"), "/x", "POST", body=b"never processed, so safe").status == 200
    log = gateway.wait_log(lambda entry: entry["path"] == "/x", 20)
    assert {entry["target"] for entry in log} == {origin.address}
    assert {entry["attempts"] for entry in log} == {1, 2}


def test_a_target_whose_connect_hangs_costs_no_request_while_another_one_serves(weir, origin):
    listener, fillers = full_listener()
    gateway = weir(TWO_TARGETS, connect="300ms", first=origin.port, second=listener.getsockname()[1])
    for i in range(4):
        assert fetch(gateway.port("http"), "/x").status == 200
    for sock in (listener, *fillers):
        sock.close()


def test_targets_that_all_refuse_are_a_502(weir):
    gateway = weir(TWO_TARGETS, connect="20s")
    assert fetch(gateway.port("http"), "/x").status == 502
    entry = last_log(gateway, "/x")
    assert (entry["reason"], entry["attempts"]) == ("CONNECT_FAILED", 2)
    assert gateway.metric("weir_upstream_connect_failures_total") == 2


def test_a_group_whose_targets_have_no_weight_is_a_503(weir, origin):
    gateway = weir(CONFIG.replace('"127.0.0.1:@origin@"', '[{address: "127.0.0.1:@origin@", weight: 0}]'),
                   origin=origin.port)
    assert fetch(gateway.port("http"), "/x").status == 503
    assert last_log(gateway, "/x")["reason"] == "NO_TARGETS"
    assert not origin.requests


# --- answers that are odd but fine --------------------------------------------------------------------------------------
def test_an_answer_before_the_end_of_the_request_reaches_the_client(gateway, origin):
    origin.reads_body = False
    origin.on("/up", lambda exchange: (exchange.send(reply(b"too big", "413 Content Too Large")), exchange.close()))
    size = 64 << 20
    with Client(gateway.port("http"), timeout=20) as client:
        client.send(f"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        client.send(b"z" * 1000)
        response = client.response()
        assert (response.status, response.body) == (413, b"too big")
    entry = last_log(gateway, "/up")
    assert (entry["status"], entry["reason"]) == (413, "-")
    assert fetch(gateway.port("http")).status == 200


def test_interim_responses_stay_between_gateway_and_target(gateway, origin):
    origin.on("/x", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
    assert fetch(gateway.port("http"), "/x").body == b"ok"


def test_bytes_behind_a_response_reach_nobody(gateway, origin):
    origin.on("/x", OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    origin.on("/head", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")  # a body where none may be
    origin.on("/304", b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    with Client(gateway.port("http")) as client:
        for i in range(5):
            for method, path in (("GET", "/x"), ("HEAD", "/head"), ("GET", "/304")):
                client.request(method, path)
                client.response(method)
                client.request("GET", "/good")
                assert client.response().body == b"ok"


def test_an_idle_notice_is_no_answer_to_the_next_request(gateway, origin):
    """Some origins say 408 before they close an idle connection."""
    notice = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    delays = iter([0, 0.001, 0.002, 0.005, 0.02] * 8)

    def answer(exchange):
        exchange.send(OK)
        time.sleep(next(delays, 0))
        exchange.send(notice)
        exchange.close()

    origin.on("/x", answer)
    with Client(gateway.port("http")) as client:
        for i in range(40):
            client.request("GET", "/x")
            assert client.response().status == 200


@needs_ipv6
def test_every_kind_of_address_is_connected_to(weir, tmp_path):
    with Origin(family=socket.AF_INET6) as v6, Origin(unix=str(tmp_path / "o.sock")) as unix:
        gateway = weir("""
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  v6: {targets: "[::1]:@v6@", health_check: {interval: 100ms}}
  unix: {targets: "unix:@path@", health_check: {interval: 100ms}}
  name: {targets: "localhost:@v6@", health_check: {enabled: false}}
routes:
  - {name: v6, match: {path_prefix: /v6}, forward: v6}
  - {name: unix, match: {path_prefix: /unix}, forward: unix}
""", v6=v6.port, path=tmp_path / "o.sock")
        wait_for(lambda: gateway.metric("weir_target_group_targets", state="healthy") == 2, "two healthy targets")
        with Client(gateway.port("http")) as client:
            for i in range(3):
                for path in ("/v6", "/unix"):
                    client.request("GET", path)
                    assert client.response().status == 200
        assert [r.target for r in v6.requests if r.target != "/"] == ["/v6"] * 3
        assert [r.target for r in unix.requests if r.target != "/"] == ["/unix"] * 3
        assert gateway.metric("weir_upstream_reuses_total") == 4


# --- keep-alive ---------------------------------------------------------------------------------------------------------
def test_one_connection_serves_requests_of_many_clients(gateway, origin):
    for i in range(10):
        assert fetch(gateway.port("http")).status == 200
    assert origin.num_connections == 1


def test_an_origin_that_closes_idle_connections_at_random_costs_no_request(weir, origin):
    rng = random.Random(7)

    def answer(exchange):
        exchange.send(OK)
        what = rng.random()
        if what < 0.2:
            exchange.close()
        elif what < 0.6:  # at any time, also while the next request is on its way
            sock = exchange.socket

            def shut():
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            threading.Timer(rng.random() * 0.01, shut).start()

    origin.answer = answer
    gateway = weir(CONFIG, origin=origin.port)
    with Load(gateway.port("http"), [("GET", "/", None, None)], connections=8) as load:
        load.wait_requests(3000, 100)
    load.check()
    assert gateway.metric("weir_upstream_reuses_total") > 100
    assert origin.num_connections > 100


# --- health checks ------------------------------------------------------------------------------------------------------
HEALTH = """
worker_threads: 2
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  origin:
    targets: ["127.0.0.1:@first@", "127.0.0.1:@second@"]
    health_check: {path: /healthz, interval: 100ms, timeout: 20s, healthy_threshold: 2, unhealthy_threshold: 2}
routes: [{name: all, forward: origin}]
"""


def health(gateway, origin):
    groups = json.loads(gateway.admin("/status")[1])["target_groups"]
    return next(t for group in groups for t in group["targets"] if t["target"] == origin.address)


def served(origin):
    return sum(request.target != "/healthz" for request in origin.requests)


@pytest.fixture
def pair(weir):
    with Origin(keep_bodies=False) as first, Origin(keep_bodies=False) as second:
        gateway = weir(HEALTH, first=first.port, second=second.port)
        for origin in (first, second):
            wait_for(lambda: health(gateway, origin)["state"] == "healthy", "a healthy target")
        yield gateway, first, second


def test_a_target_out_of_health_gets_no_request_and_comes_back(pair):
    gateway, first, second = pair
    with Load(gateway.port("http"), [("GET", "/", None, None)], connections=8) as load:
        for flip in range(3):
            first.on("/healthz", reply(b"", "500 Oops"))
            wait_for(lambda: health(gateway, first)["state"] == "unhealthy", "the first to be unhealthy")
            assert health(gateway, first)["reason"] == "Target.ResponseCodeMismatch"
            load.wait_turn()  # what was chosen before
            before = served(first)
            load.wait_requests(300)
            assert served(first) == before, "requests to a target that is known to be unhealthy"
            first.on("/healthz", OK)
            wait_for(lambda: health(gateway, first)["state"] == "healthy", "the first to be healthy again")
            before = served(first)
            load.wait_requests(100)
            assert served(first) - before > 20, "its share of the requests"
    load.check()


def test_a_target_that_dies_under_load_costs_no_request(pair):
    gateway, first, second = pair
    port = first.port
    with Load(gateway.port("http"), [("GET", "/", None, None)], connections=8) as load:
        load.wait_requests(100)
        first.refuse()  # what is under way ends well
        wait_for(lambda: health(gateway, first)["state"] == "unhealthy", "the first to be unhealthy")
        assert health(gateway, first)["reason"] == "Target.FailedHealthChecks"
        load.wait_turn()
        first.close_connections()
        load.wait_requests(300)
    load.check()


def test_a_target_that_hangs_is_found_by_the_timeout(pair):
    """Ten times in a row, as the other one may not fail while the machine stands still."""
    gateway, first, second = pair
    gateway.configure(HEALTH.replace("timeout: 20s", "timeout: 400ms").replace("unhealthy_threshold: 2", "unhealthy_threshold: 10"))
    gateway.reload()
    first.on("/healthz", hold)
    wait_for(lambda: health(gateway, first)["state"] == "unhealthy", "the first to be unhealthy")
    assert health(gateway, first)["reason"] == "Target.Timeout"
    before = served(first)
    for i in range(10):
        assert fetch(gateway.port("http")).status == 200
    assert served(first) == before


def test_a_check_may_take_longer_than_the_interval_and_the_next_one_waits_for_it(pair):
    gateway, first, second = pair
    at_once, most, lock = [0], [0], threading.Lock()

    def slowly(exchange):
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.35)
        with lock:
            at_once[0] -= 1
        exchange.send(OK)
    first.on("/healthz", slowly)
    wait_for(lambda: at_once[0] == 1, "a slow check")
    before = health(gateway, first)["checks"]
    wait_for(lambda: health(gateway, first)["checks"] >= before + 4, "more checks")
    assert most[0] == 1 and health(gateway, first)["state"] == "healthy"


def test_when_all_are_out_of_health_all_are_tried(pair):
    gateway, first, second = pair
    for origin in (first, second):
        origin.on("/healthz", reply(b"", "503 Down"))
    for origin in (first, second):
        wait_for(lambda: health(gateway, origin)["state"] == "unhealthy", "both to be unhealthy")
    before = served(first), served(second)
    for i in range(10):
        assert fetch(gateway.port("http")).status == 200
    assert served(first) > before[0] and served(second) > before[1]


def test_health_survives_a_reload(pair):
    gateway, first, second = pair
    first.on("/healthz", reply(b"", "500 Oops"))
    wait_for(lambda: health(gateway, first)["state"] == "unhealthy", "the first to be unhealthy")
    checks = health(gateway, first)["checks"]
    gateway.configure(HEALTH.replace("routes:", "access_log: {enabled: true}\nroutes:"))
    gateway.reload()
    assert health(gateway, first)["state"] == "unhealthy"
    assert health(gateway, first)["checks"] >= checks
    before = served(first)
    for i in range(10):
        assert fetch(gateway.port("http")).status == 200
    assert served(first) == before


def test_a_health_check_asks_as_itself(pair):
    gateway, first, second = pair
    check = next(request for request in first.requests if request.target == "/healthz")
    assert check.method == "GET"
    assert check.get("host") == first.address
    assert check.get("user-agent").startswith("weir-health-check/")
    assert check.get("connection") == "close"
