"""Targets that are names: what a real DNS server says becomes targets while the gateway serves, and what a broken one says
does not."""
import json
import threading
import time

import pytest

from client import Client, fetch
from nameserver import Nameserver, RudeNameserver, a, reply
from origin import Origin, reply as http_reply
from test_tls import certificate, pem
from test_upstream_tls import AUTHORITY, CA, TlsOrigin
from weir import CONFIG, SANITIZED, UnixConnection, Weir, wait_for

HEAD = """
worker_threads: 2
listeners: {http: {address: "127.0.0.1:@http@"}}
resolver: {servers: "127.0.0.1:@dns@", timeout: 5s, attempts: 1, retry: 100ms, max_retry: 200ms, wait: 30s}
routes: [{name: all, forward: users}]
"""
A = HEAD + """
target_groups:
  users:
    targets: {dns: users.test, port: @origin@, type: a, min_ttl: 50ms, grace: 1s}
    health_check: {enabled: false}
"""
SRV = HEAD + """
target_groups:
  users:
    targets: {dns: _http._tcp.users.test, type: srv, min_ttl: 50ms, grace: 1s}
    health_check: {enabled: false}
"""


def members(gateway, group="users"):
    """{address: weight} of the targets that take requests."""
    seen = json.loads(gateway.admin(f"/api/v1/target_groups/{group}")[1])
    return {target["target"]: target["weight"] for target in seen["targets"] if target["state"] != "draining"}


def wait_members(gateway, expected, **options):
    wait_for(lambda: members(gateway, **options) == expected, f"{expected}; has {members(gateway, **options)}", 60)


def question(gateway, name="users.test", kind="A"):
    """What the status says of a name."""
    names = json.loads(gateway.admin("/status")[1])["resolver"]["names"]
    return next(entry for entry in names if (entry["name"], entry["type"]) == (name, kind))


def explain(gateway, url):
    connection = UnixConnection(gateway.admin_socket)
    connection.request("POST", "/api/v1/explain", json.dumps({"url": url}), {"content-type": "application/json"})
    response = connection.getresponse()
    told = json.loads(response.read())
    connection.close()
    assert response.status == 200, told
    return told


def failures(gateway, kind):
    return gateway.metric("weir_dns_failures_total", kind=kind)


def say(text):
    return http_reply(text.encode())


# --- a server that works ----------------------------------------------------------------------------------------------
def test_the_first_request_after_the_start_already_has_targets():
    for _ in range(3):
        with Origin() as origin, Nameserver({"users.test": ["127.0.0.1"]}) as dns, Weir(A, origin=origin.port, dns=dns.port) as gateway:
            assert fetch(gateway.port("http"), "/").status == 200
            assert members(gateway) == {f"127.0.0.1:{origin.port}": 1}


def test_a_name_is_followed_wherever_it_leads():
    with Origin() as origin, Nameserver({"users.test": ["127.0.0.1"]}) as dns, Weir(A, origin=origin.port, dns=dns.port) as gateway:
        port = origin.port
        dns.set({"users.test": ["127.0.0.1", "127.0.0.2"]})
        wait_members(gateway, {f"127.0.0.1:{port}": 1, f"127.0.0.2:{port}": 1})
        dns.set({"users.test": ["127.0.0.3"]})
        wait_members(gateway, {f"127.0.0.3:{port}": 1})


def test_both_families_are_asked_for_unless_told_otherwise():
    text = A.replace("type: a, ", "")
    with Origin() as origin, Nameserver({"users.test": ["127.0.0.1", "::ffff:127.0.0.2"]}) as dns, \
            Weir(text, origin=origin.port, dns=dns.port) as gateway:
        wait_members(gateway, {f"127.0.0.1:{origin.port}": 1, f"127.0.0.2:{origin.port}": 1})
        assert gateway.metric("weir_dns_queries_total") >= 2


def test_requests_to_an_address_that_leaves_are_finished():
    let_go = threading.Event()

    def slow(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        let_go.wait(30)
        exchange.send(b"cd")
    with Origin() as origin, Nameserver({"users.test": ["127.0.0.1"]}) as dns, Weir(A, origin=origin.port, dns=dns.port) as gateway:
        origin.on("/slow", slow)
        with Client(gateway.port("http")) as client:
            client.request("GET", "/slow")
            origin.wait(1)
            dns.set({"users.test": ["127.0.0.9"]})
            wait_members(gateway, {f"127.0.0.9:{origin.port}": 1})
            let_go.set()
            assert client.response("GET").body == b"abcd"


def test_services_bring_their_ports_weights_and_priorities():
    with Origin(say("one")) as one, Origin(say("two")) as two, \
            Nameserver({"a.test": ["127.0.0.1"], "b.test": ["127.0.0.1"]},
                       {"_http._tcp.users.test": [(10, 3, one.port, "a.test"), (20, 1, two.port, "b.test")]}) as dns, \
            Weir(SRV, dns=dns.port) as gateway:
        assert {fetch(gateway.port("http"), "/").body for _ in range(8)} == {b"one"}
        assert members(gateway) == {f"127.0.0.1:{one.port}": 3}
        dns.serve({"_http._tcp.users.test": [(10, 3, one.port, "a.test"), (10, 1, two.port, "b.test")]})
        wait_members(gateway, {f"127.0.0.1:{one.port}": 3, f"127.0.0.1:{two.port}": 1})
        bodies = [fetch(gateway.port("http"), "/").body for _ in range(40)]
        assert 20 < bodies.count(b"one") < 40
        dns.serve({"_http._tcp.users.test": [(20, 1, two.port, "b.test")]})
        wait_members(gateway, {f"127.0.0.1:{two.port}": 1})
        dns.set({"b.test": ["127.0.0.7"]})  # the service stays, its server moves
        wait_members(gateway, {f"127.0.0.7:{two.port}": 1})


def test_certificates_must_be_for_the_name_that_was_asked_for(tmp_path):
    text = A.replace("  users:\n", "  users:\n    protocol: https\n    tls: {ca: ca.pem}\n")
    for name, status in (("users.test", 200), ("others.test", 502)):
        with TlsOrigin(certificate([name], issuer=AUTHORITY), folder=tmp_path) as origin, Nameserver({"users.test": ["127.0.0.1"]}) as dns, \
                Weir(text, origin=origin.port, dns=dns.port, files={"ca.pem": pem(CA)}) as gateway:
            assert fetch(gateway.port("http"), "/").status == status
            assert set(origin.hello) == {"users.test"}


def test_an_answer_that_udp_has_no_room_for_comes_over_tcp():
    addresses = [f"127.0.1.{i}" for i in range(1, 121)]
    with Origin() as origin, Nameserver({"users.test": addresses}) as dns, Weir(A, origin=origin.port, dns=dns.port) as gateway:
        wait_members(gateway, {f"{address}:{origin.port}": 1 for address in addresses})


def test_many_groups_that_ask_for_one_name_ask_once():
    groups = "".join(f"\n  g{i}: {{targets: {{dns: users.test, port: {1000 + i}, type: a}}, health_check: {{enabled: false}}}}" for i in range(50))
    text = HEAD.replace("forward: users", "forward: g0").replace("timeout: 5s", "timeout: 10s") + f"target_groups:{groups}\n"
    with Nameserver({"users.test": ["127.0.0.1"]}, ttl=300) as dns, Weir(text, dns=dns.port) as gateway:
        assert all(members(gateway, f"g{i}") == {f"127.0.0.1:{1000 + i}": 1} for i in (0, 49))
        assert gateway.metric("weir_dns_queries_total") == 1


def test_a_reload_keeps_what_is_known_and_asks_nothing():
    with Origin() as origin, Nameserver({"users.test": ["127.0.0.1"]}, ttl=300) as dns, \
            Weir(A.replace("timeout: 5s", "timeout: 10s").replace("wait: 30s", "wait: 60s"), origin=origin.port, dns=dns.port) as gateway:
        dns.stop()  # nobody could be asked
        began = time.monotonic()
        for _ in range(3):
            gateway.reload()
            assert fetch(gateway.port("http"), "/").status == 200
        assert time.monotonic() - began < 50, "a reload waited for DNS"
        assert gateway.metric("weir_dns_queries_total") == 1


def test_an_upgrade_serves_names_at_once():
    with Origin() as origin, Nameserver({"users.test": ["127.0.0.1"]}) as dns, Weir(A, origin=origin.port, dns=dns.port) as gateway:
        done = gateway.run("upgrade", "-c", gateway.config_path)
        assert done.returncode == 0, done.stderr
        assert [fetch(gateway.port("http"), "/").status for _ in range(5)] == [200] * 5


def test_addresses_and_localhost_in_the_place_of_a_name_need_no_server():
    text = HEAD + """
target_groups:
  users: {targets: [{dns: 127.0.0.1, port: @origin@, required: true}], health_check: {enabled: false}}
  local: {targets: [{dns: localhost, port: @origin@, type: a, required: true}], health_check: {enabled: false}}
"""
    with Origin() as origin, RudeNameserver(lambda query: b"") as dns, Weir(text, origin=origin.port, dns=dns.port) as gateway:
        assert fetch(gateway.port("http"), "/").status == 200
        assert members(gateway, "local") == {f"127.0.0.1:{origin.port}": 1}
        assert dns.questions == []


# --- a server that fails ----------------------------------------------------------------------------------------------
def test_addresses_stay_when_the_server_is_gone():
    with Origin() as origin, Nameserver({"users.test": ["127.0.0.1"]}) as dns, Weir(A, origin=origin.port, dns=dns.port) as gateway:
        dns.stop()
        wait_for(lambda: failures(gateway, "unreachable") >= 3, "three failures")
        assert fetch(gateway.port("http"), "/").status == 200
        wait_for(lambda: question(gateway)["outcome"] == "unreachable", "its latest outcome")
        seen = question(gateway)
        assert seen["values"] == ["127.0.0.1"] and seen["failures"] >= 3, seen
        assert gateway.metrics()[("weir_dns_answer_age_seconds", (("name", "users.test"), ("type", "A")))] > 0
        dns.names = {"users.test": ["127.0.0.2"]}
        dns.start()
        wait_members(gateway, {f"127.0.0.2:{origin.port}": 1})
        wait_for(lambda: question(gateway)["outcome"] == "ok", "no error any more")


def test_addresses_of_a_name_that_is_gone_leave_after_their_grace_and_come_back():
    with Origin() as origin, Nameserver({"users.test": ["127.0.0.1"]}) as dns, Weir(A, origin=origin.port, dns=dns.port) as gateway:
        began = time.monotonic()
        dns.set({"users.test": []})
        wait_members(gateway, {})
        assert time.monotonic() - began > 0.9, "the grace of 1 s"
        assert fetch(gateway.port("http"), "/").status == 503
        wait_for(lambda: question(gateway)["outcome"] in ("nxdomain", "empty"), "its outcome")
        dns.set({"users.test": ["127.0.0.1"]})
        wait_members(gateway, {f"127.0.0.1:{origin.port}": 1})
        assert fetch(gateway.port("http"), "/").status == 200


def test_a_name_that_comes_back_within_its_grace_was_never_away():
    with Origin() as origin, Nameserver({"users.test": ["127.0.0.1"]}) as dns, \
            Weir(A.replace("grace: 1s", "grace: 1h"), origin=origin.port, dns=dns.port) as gateway:
        dns.set({"users.test": []})
        wait_for(lambda: question(gateway)["outcome"] != "ok", "the error")
        assert fetch(gateway.port("http"), "/").status == 200
        dns.set({"users.test": ["127.0.0.1"]})
        wait_for(lambda: question(gateway)["outcome"] == "ok", "no error any more")
        assert fetch(gateway.port("http"), "/").status == 200


def test_a_start_without_dns_serves_what_needs_none_and_the_rest_when_it_comes():
    text = A.replace("wait: 30s", "wait: 100ms").replace("routes: [", "routes: [{name: hello, match: {path: /hello}, respond: {status: 200}}, ")
    with Origin() as origin, Nameserver({"users.test": ["127.0.0.1"]}) as dns:
        dns.stop()
        with Weir(text, origin=origin.port, dns=dns.port) as gateway:
            assert fetch(gateway.port("http"), "/hello").status == 200
            assert fetch(gateway.port("http"), "/").status == 503
            assert question(gateway)["answer_age_seconds"] is None
            dns.start()
            wait_members(gateway, {f"127.0.0.1:{origin.port}": 1})
            assert fetch(gateway.port("http"), "/").status == 200


def test_a_required_name_that_has_no_address_refuses_the_load():
    text = A.replace("grace: 1s", "grace: 1s, required: true")
    with Origin() as origin, Nameserver({}) as dns:
        gateway = Weir(text, origin=origin.port, dns=dns.port, start=False)
        gateway.expected_exit = 1
        gateway.has_admin = False
        gateway.start()
        assert gateway.process.wait(60) == 1
        line = 1 + gateway.config_path.read_text().split("\n").index(next(
            line for line in gateway.config_path.read_text().split("\n") if "dns: users.test" in line))
        assert f'weir.yaml:{line}:20: "users.test" is required' in gateway.stderr(), gateway.stderr()
        assert "NXDOMAIN" in gateway.stderr()
        gateway.close()
        dns.set({"users.test": ["127.0.0.1"]})
        with Weir(text, origin=origin.port, dns=dns.port) as gateway:
            assert fetch(gateway.port("http"), "/").status == 200
            gateway.configure(text.replace("users.test", "others.test"))
            status, answer = gateway.admin("/reload", "POST")
            assert status == 422 and "others.test" in answer, answer
            assert fetch(gateway.port("http"), "/").status == 200


# --- a server that is worse than none ---------------------------------------------------------------------------------
HUGE = 65000
WORSE = {
    "another id": (lambda query: reply(query, a("127.0.0.66"), number=1), "timeout"),
    "another name": (lambda query: reply(query[:12] + query[12:].replace(b"users", b"admin"), a("127.0.0.66")), "timeout"),
    "another type": (lambda query: reply(query[:-3] + b"\x1c" + query[-2:], a("127.0.0.66")), "timeout"),
    "the question itself": (lambda query: query, "malformed"),
    "less than a header": (lambda query: query[:7], "timeout"),
    "a header alone": (lambda query: reply(query)[:12], "timeout"),
    "records that are not there": (lambda query: reply(query)[:6] + b"\0\x09" + reply(query)[8:], "malformed"),
    "a cut address": (lambda query: reply(query, a("127.0.0.66"))[:-1], "malformed"),
    "an address of five bytes": (lambda query: reply(query, ("A", 0, b"\x7f\0\0\0\x42")), "malformed"),
    "a pointer to itself": (lambda query: reply(query, a("127.0.0.66")).replace(b"\xc0\x0c\0\1\0\1", bytes([0xc0, len(query)]) + b"\0\1\0\1"),
                            "malformed"),
    "noise": (lambda query: query[:2] + b"\xff" * 300, "timeout"),
    "servfail": (lambda query: reply(query, rcode=2), "servfail"),
    "refused": (lambda query: reply(query, rcode=5), "refused"),
    "not implemented": (lambda query: reply(query, rcode=4), "error"),
    "nothing": (lambda query: b"", "timeout"),
    "an answer too late": (None, "timeout"),
}


class Turncoat:
    """Says 127.0.0.1 until .worse is set."""

    def __init__(self):
        self.worse, self.asked, self.is_asked = None, 0, threading.Condition()

    def too_late(self, query):
        """An answer that comes when the next question has been asked, and that one was given up."""
        with self.is_asked:
            self.asked += 1
            self.is_asked.notify_all()
            mine = self.asked
            self.is_asked.wait_for(lambda: self.asked > mine, 60)
        return reply(query, a("127.0.0.66"))

    def __call__(self, query):
        return (self.worse or (lambda query: reply(query, a("127.0.0.1"))))(query)


@pytest.mark.timeout(120)
def test_no_answer_that_is_none_moves_a_target():
    turncoat = Turncoat()
    with Origin() as origin, RudeNameserver(turncoat) as dns, \
            Weir(A.replace("timeout: 5s", "timeout: 500ms"), origin=origin.port, dns=dns.port) as gateway:
        wait_members(gateway, {f"127.0.0.1:{origin.port}": 1})
        for what, (worse, kind) in WORSE.items():
            before = failures(gateway, kind)
            turncoat.worse = worse or turncoat.too_late
            wait_for(lambda: failures(gateway, kind) > before + (worse is None), f"{what}: one more {kind}; {gateway.admin('/metrics')[1]}", 60)
            assert members(gateway) == {f"127.0.0.1:{origin.port}": 1}, what
            assert fetch(gateway.port("http"), "/").status == 200, what
            turncoat.worse = None
            wait_for(lambda: question(gateway)["outcome"] == "ok", f"{what}: back to normal")


def test_a_forged_answer_before_the_true_one_is_passed_over():
    def both(query):
        return [reply(query, a("127.0.0.66"), number=(query[0] << 8 | query[1]) ^ 1), reply(query, a("127.0.0.1"))]
    with Origin() as origin, RudeNameserver(both) as dns, Weir(A, origin=origin.port, dns=dns.port) as gateway:
        assert members(gateway) == {f"127.0.0.1:{origin.port}": 1}


def test_an_answer_as_large_as_they_come_is_taken_whole():
    addresses = [f"127.{1 + i // 250}.0.{1 + i % 250}" for i in range(200 if SANITIZED else 2000)]

    def whole(query):
        return (lambda message: len(message).to_bytes(2, "big") + message)(reply(query, *[a(address, 300) for address in addresses]))
    with RudeNameserver(lambda query: reply(query, flags=0x8380), over_tcp=whole) as dns, Weir(A.replace("timeout: 5s", "timeout: 10s"), origin=9, dns=dns.port) as gateway:
        wait_members(gateway, {f"{address}:9": 1 for address in addresses})
        assert dns.questions == [("users.test", False), ("users.test", True)]


def test_slow_answers_hold_up_neither_requests_nor_reloads():
    turncoat = Turncoat()
    text = A.replace("timeout: 5s", "timeout: 60s")
    with Origin() as origin, RudeNameserver(turncoat) as dns, Weir(text, origin=origin.port, dns=dns.port) as gateway:
        turncoat.worse = lambda query: b""
        asked = len(dns.questions)
        wait_for(lambda: len(dns.questions) > asked, "a question that nobody answers")
        began = time.monotonic()
        gateway.reload()
        assert fetch(gateway.port("http"), "/").status == 200
        assert time.monotonic() - began < 50


def test_the_next_server_is_asked_when_the_first_is_silent():
    text = A.replace('servers: "127.0.0.1:@dns@", timeout: 5s', 'servers: ["127.0.0.1:@silent@", "127.0.0.1:@dns@"], timeout: 4s')
    with Origin() as origin, RudeNameserver(lambda query: b"") as silent, Nameserver({"users.test": ["127.0.0.1"]}) as dns, \
            Weir(text, origin=origin.port, silent=silent.port, dns=dns.port) as gateway:
        assert members(gateway) == {f"127.0.0.1:{origin.port}": 1}
        assert len(silent.questions) == 1
        wait_for(lambda: gateway.metric("weir_dns_queries_total") > 5, "more questions")
        assert len(silent.questions) == 1, "the one that answers is asked first"


# --- what is shown ----------------------------------------------------------------------------------------------------
def test_names_addresses_and_ages_are_shown():
    with Origin() as origin, Nameserver({"users.test": ["127.0.0.1"]}, ttl=100) as dns, \
            Weir(A.replace("timeout: 5s", "timeout: 10s"), origin=origin.port, dns=dns.port) as gateway:
        one = question(gateway)
        assert (one["name"], one["type"], one["outcome"], one["values"]) == ("users.test", "A", "ok", ["127.0.0.1"])
        assert 80 < one["next_seconds"] <= 107 and one["answer_age_seconds"] < 60
        assert one["server"] == f"127.0.0.1:{dns.port}"
        status = json.loads(gateway.admin("/status")[1])
        assert status["resolver"]["servers"] == [f"127.0.0.1:{dns.port}"]
        assert status["resolver"]["queries"] == 1
        page = gateway.admin("/")[1]
        assert "users.test" in page
        told = explain(gateway, "http://x/")
        [found] = [step for step in told["steps"] if step["stage"] == "source"]
        assert found["text"] == f'"127.0.0.1:{origin.port}" was found by dns users.test:{origin.port} A as users.test', found
        assert found["file"].endswith("weir.yaml") and found["line"] > 1


def test_check_finds_names_that_cannot_be_and_asks_nobody():
    with RudeNameserver(lambda query: b"") as dns:
        gateway = Weir(A.replace("users.test", "users_-.test"), origin=1, dns=dns.port, start=False)
        done = gateway.run("check", CONFIG)
        assert done.returncode == 1
        assert '"users_-.test" is not a host name' in done.stdout + done.stderr
        gateway.configure(A.replace("grace: 1s", "grace: 1s, required: true"))
        done = gateway.run("check", CONFIG)
        assert done.returncode == 0, done.stdout + done.stderr
        done = gateway.run("explain", "-c", gateway.config_path, "http://x/")
        assert "users.test" in done.stdout + done.stderr
        assert dns.questions == []
        gateway.close()
