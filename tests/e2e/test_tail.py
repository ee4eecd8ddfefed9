"""`weir tail` and the stream behind it."""
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading

import pytest

from client import Client, Closed, fetch
from origin import Origin
from stream_peer import StreamPeer, dial, exactly
from udp_peer import UdpPeer, ask, dial_udp
from weir import SANITIZED, wait_for

TEXT = """
worker_threads: 2
listeners: {http: {address: "127.0.0.1:@http@"}}
access_log: {enabled: false}
target_groups: {dead: {targets: ["127.0.0.1:@dead@"], health_check: {enabled: false}}}
routes:
  - {name: users, match: {path: "/users*"}, respond: {status: 200, body: ok}}
  - {name: gone, match: {path: "/gone*"}, respond: {status: 410, body: gone}}
  - {name: dead, match: {path: "/dead*"}, forward: dead}
"""


class Tail:
    """`weir tail --json` as a process. lines: what it has printed so far, but for requests that say `probe`."""

    def __init__(self, gateway, *args, as_json=True):
        self.lines, self.probes = [], []
        words = [str(gateway.binary), "tail", "--admin", gateway.admin_socket, *(["--json"] if as_json else []), *args]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=gateway.env)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            (self.probes if "probe" in line else self.lines).append(line.rstrip("\n"))

    def entries(self):
        return [json.loads(line) for line in self.lines]

    def wait(self, count):
        return wait_for(lambda: len(self.lines) >= count and self.lines, f"{count} lines; have {self.lines}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def ready(gateway, tail, path="/users/probe"):
    """Returns when all threads know of the tail: it has shown every one of many connections' requests, twice. So do they of all
    tails that were there before it."""
    complete = 0
    for number in range(20):
        for _ in range(8):
            fetch(gateway.port("http"), f"{path}{number}.")
        try:
            wait_for(lambda: sum(f"probe{number}." in line for line in list(tail.probes)) == 8, "all probes", 0.5 + number / 2)
            complete += 1
        except AssertionError:
            complete = 0
        if complete == 2:
            return
    raise AssertionError("the tail does not show all requests")


def test_requests_are_shown_as_they_end_though_the_access_log_is_off(weir):
    gateway = weir(TEXT)
    with Tail(gateway) as tail:
        ready(gateway, tail)
        fetch(gateway.port("http"), "/users/1?a=b", host="api.example.com")
        fetch(gateway.port("http"), "/dead")
        tail.wait(2)
        first, second = sorted(tail.entries(), key=lambda entry: entry["status"])
        assert (first["route"], first["path"], first["query"], first["host"], first["reason"]) == ("users", "/users/1", "a=b", "api.example.com", "FIXED_RESPONSE")
        assert (second["route"], second["status"], second["reason"]) == ("dead", 502, "CONNECT_FAILED")
    assert gateway.access_log() == []


def ask_for_everything(port):
    for path, host in [("/users/1", "api.example.com"), ("/gone/1", "www.example.com"), ("/gone/2", "localhost"), ("/dead/1", "a"), ("/nowhere/1", "a")]:
        fetch(port, path, host=host)
    with Client(port) as client:
        client.request("POST", "/users/2", body=b"", host="b")
        client.response("POST")


@pytest.mark.parametrize("args, expected", [
    (["--route", "gone"], {"/gone/1", "/gone/2"}),
    (["--status", "5xx"], {"/dead/1"}),
    (["--status", "404,500-599"], {"/dead/1", "/nowhere/1"}),
    (["--reason", "no_route"], {"/nowhere/1"}),
    (["--host", "*.example.com"], {"/users/1", "/gone/1"}),
    (["--path", "/*/2"], {"/users/2", "/gone/2"}),
    (["--method", "POST"], {"/users/2"}),
    (["--target-group", "dead"], {"/dead/1"}),
    (["--route", "users", "--host", "api.example.com"], {"/users/1"})])
def test_filters_let_through_what_they_say_and_nothing_else(weir, args, expected):
    gateway = weir(TEXT)
    port = gateway.port("http")
    with Tail(gateway, *args) as tail, Tail(gateway) as all_of_them:
        ready(gateway, all_of_them)
        for rounds in range(1, 20):  # one, if the tail has come first
            ask_for_everything(port)
            all_of_them.wait(6 * rounds)
            with contextlib.suppress(AssertionError):
                wait_for(lambda: len({entry["path"] for entry in tail.entries()}) >= len(expected), "the lines", rounds)
                break
        assert {entry["path"] for entry in tail.entries()} == expected


def test_a_share_of_the_lines_is_shown(weir):
    gateway = weir(TEXT)
    with contextlib.ExitStack() as tails:
        tail = tails.enter_context(Tail(gateway, "--sample", "20%", "--route", "users"))
        wait_for(lambda: (fetch(gateway.port("http"), "/users/probe"), tail.probes)[1], "the tail to begin")
        marks = tails.enter_context(Tail(gateway, "--route", "gone"))
        ready(gateway, marks, "/gone/probe")
        with Client(gateway.port("http")) as client:
            for _ in range(1000):
                client.request("GET", "/users")
                client.response()
            client.request("GET", "/gone/last")
            client.response()
        marks.wait(1)
        wait_for(lambda: len(tail.lines) > 100, "a part of the lines")
        assert 100 < len(tail.lines) < 320


def test_lines_for_people_are_short_and_free_of_control_characters(weir):
    gateway = weir(TEXT)
    with Tail(gateway, as_json=False) as tail:
        ready(gateway, tail)
        fetch(gateway.port("http"), "/users/1?x=1", host="api.example.com")
        line = tail.wait(1)[0]
        assert " 200 FIXED_RESPONSE " in line and "GET api.example.com/users/1?x=1" in line and "route=users" in line
        assert "\033" not in line, "no colours where there is no terminal"


@pytest.mark.parametrize("sent, shown", [(b"/\x00\x01\xff\x1b[31m\xc2\x9b31m", "/??\ufffd?[31m?31m"),
                                         (b"/\xc2\x9b?\xc2\x80\xc2\xa0\xc3\xa4", "/???\xa0\xe4")])
def test_what_no_terminal_should_get_is_shown_as_question_marks(weir, sent, shown):
    gateway = weir(TEXT)
    with Tail(gateway, "--reason", "BAD_TARGET", as_json=False) as tail:
        def send():
            with socket.create_connection(("127.0.0.1", gateway.port("http")), 20) as sock:
                sock.sendall(b"GET " + sent + b" HTTP/1.1\r\nHost: h\r\n\r\n")
                return sock.recv(100)
        wait_for(lambda: (send(), tail.lines)[1], "a line")
        line = tail.lines[0]
        assert "GET h" + shown + "  route=-" in line, repr(line)


def test_a_full_disk_ends_the_tail_with_an_error_and_a_reader_that_has_enough_does_not(weir):
    gateway = weir(TEXT)
    words = [str(gateway.binary), "tail", "--admin", gateway.admin_socket]
    for taker, status in ((open("/dev/full", "w"), 1), (subprocess.Popen(["true"], stdin=subprocess.PIPE).stdin, 0)):
        with taker, subprocess.Popen(words, stdout=taker, stderr=subprocess.PIPE, text=True, env=gateway.env) as tail:
            taker.close()
            wait_for(lambda: (fetch(gateway.port("http"), "/users"), tail.poll())[1] is not None, "its end")
            assert tail.returncode == status
            assert ("standard output: No space left on device" in tail.stderr.read()) == (status == 1)


@pytest.mark.parametrize("name, said", [("usres", 'no route is called "usres" now (did you mean "users"?)'),
                                        ("else", 'no route is called "else" now\n'), ("users", None)])
def test_a_route_that_is_not_there_is_told_and_waited_for(weir, name, said):
    gateway = weir(TEXT)
    with Tail(gateway, "--route", name, "-n", "1") as tail:
        if said is not None:
            while said not in (line := tail.process.stderr.readline()):
                assert line, "the tail goes on"
            gateway.configure(TEXT.replace("name: gone", f"name: {name}"))
            gateway.reload()
        wait_for(lambda: (fetch(gateway.port("http"), "/gone" if said else "/users"), tail.process.poll())[1] is not None, "its end")
        assert tail.process.returncode == 0 and not tail.process.stderr.read()


def test_a_count_ends_the_tail(weir):
    gateway = weir(TEXT)
    with Tail(gateway, "-n", "3") as tail:
        wait_for(lambda: (fetch(gateway.port("http"), "/users"), tail.process.poll())[1] is not None, "its end")
        tail.reader.join(60)
        assert tail.process.returncode == 0 and len(tail.lines) == 3


def test_the_end_of_weir_ends_the_tail_and_the_tail_does_not_hold_up_weir(weir):
    gateway = weir(TEXT + "shutdown_timeout: 10m\n")
    with Tail(gateway) as tail:
        ready(gateway, tail)
        assert gateway.terminate() == 0
        assert tail.process.wait(60) == 1
        assert "has stopped" in tail.process.stderr.read()


@pytest.mark.parametrize("how", ["a crash", "an upgrade"])
def test_a_tail_goes_on_with_the_next_worker(weir, how):
    gateway = weir(TEXT)
    gateway.may_die = True
    with Tail(gateway) as tail:
        ready(gateway, tail)
        before = gateway.worker()
        if how == "a crash":
            os.kill(before, signal.SIGKILL)
        else:
            assert gateway.run("upgrade", "--admin", gateway.admin_socket).returncode == 0
        def is_shown():
            with contextlib.suppress(Closed, OSError):  # by the one that dies
                fetch(gateway.port("http"), "/users/after")
            return any("/users/after" in line for line in tail.lines)
        wait_for(is_shown, "lines of the next worker")
        tail.process.terminate()
        assert "another worker serves" in tail.process.stderr.read()


def test_a_tail_that_leaves_is_let_go_of(weir):
    gateway = weir(TEXT)
    for _ in range(20):  # more than there may be at a time
        with Tail(gateway) as tail:
            wait_for(lambda: (fetch(gateway.port("http"), "/users"), tail.lines)[1], "a line")
    tails = [Tail(gateway) for _ in range(3)]
    try:
        for tail in tails:
            wait_for(lambda: (fetch(gateway.port("http"), "/users"), tail.lines)[1], "a line")
    finally:
        for tail in tails:
            tail.__exit__()


@pytest.mark.timeout(120)
def test_there_is_a_limit_to_the_number_of_tails(weir):
    gateway = weir(TEXT)
    tails = [Tail(gateway) for _ in range(16)]
    try:
        for tail in tails:
            wait_for(lambda: (fetch(gateway.port("http"), "/users"), tail.lines)[1], "a line")
        done = gateway.run("tail", "--admin", gateway.admin_socket)
        assert done.returncode == 1 and "16 tails" in done.stderr
    finally:
        for tail in tails:
            tail.__exit__()
    assert gateway.admin("/healthz")[0] == 200


@pytest.mark.parametrize("args", [("--status", "9xx9"), ("--status", ""), ("--sample", "2"), ("--sample", "x")])
def test_a_filter_that_makes_no_sense_is_refused(weir, args):
    gateway = weir(TEXT)
    done = gateway.run("tail", "--admin", gateway.admin_socket, *args)
    assert done.returncode == 1 and ("status must be" in done.stderr or "sample must be" in done.stderr) and done.stdout == ""


@pytest.mark.parametrize("args", [("--what",), ("a", "b"), ("-n", "0"), ("-n", "x"), ("--route",)])
def test_wrong_arguments_are_refused(weir, args):
    assert weir(TEXT, start=False).run("tail", *args).returncode == 2


@pytest.mark.timeout(120)
@pytest.mark.xdist_group("load")
def test_a_client_that_reads_nothing_loses_lines_and_holds_up_nobody(weir):
    gateway = weir(TEXT)
    with Client(0, unix=gateway.admin_socket) as stuck, Tail(gateway, "--route", "gone") as marks:
        stuck.request("GET", "/api/v1/log?route=users")
        assert stuck.head().status == 200
        ready(gateway, marks, "/gone/probe")
        before = gateway.rss()
        with Client(gateway.port("http")) as client:
            path = "/users/" + "x" * 4000
            for _ in range(2000):  # 8 MB of lines
                client.request("GET", path)
                assert client.response().status == 200
        if not SANITIZED:
            assert gateway.rss() - before < 8 << 20
        assert gateway.admin("/healthz")[0] == 200
        buffer = b""
        # once it reads again it is told what it has missed, with the next line
        def read_on():
            nonlocal buffer
            fetch(gateway.port("http"), "/users/last")
            stuck.socket.settimeout(0.2)
            try:
                while True:
                    data = stuck.socket.recv(1 << 20)
                    buffer += data
            except OSError:
                pass
            return b'"dropped":' in buffer
        wait_for(read_on, "word of dropped lines", 60)


def test_a_tail_over_a_reload_goes_on(weir):
    gateway = weir(TEXT)
    with Tail(gateway) as tail:
        ready(gateway, tail)
        gateway.configure(TEXT.replace("name: users", "name: people"))
        gateway.reload()
        fetch(gateway.port("http"), "/users/1")
        wait_for(lambda: [e for e in tail.entries() if e["route"] == "people" and e["config_generation"] == 2], "the new route")


def test_interrupting_a_tail_is_no_crash(weir):
    gateway = weir(TEXT)
    with Tail(gateway) as tail:
        ready(gateway, tail)
        tail.process.send_signal(signal.SIGINT)
        assert tail.process.wait(60) in (-signal.SIGINT, 130)
    with Origin():
        assert fetch(gateway.port("http"), "/users").status == 200


def test_connections_and_flows_that_were_forwarded_are_shown_too(weir):
    with StreamPeer() as stream, UdpPeer() as datagrams:
        gateway = weir("""
worker_threads: 1
access_log: {enabled: false}
listeners:
  http: {address: "127.0.0.1:@http@"}
  db: {address: "127.0.0.1:@db@", protocol: tcp, forward: db}
  dns: {address: "127.0.0.1:@dns@", protocol: udp, forward: dns, udp: {responses: 1}}
target_groups:
  db: {protocol: tcp, targets: ["127.0.0.1:@stream@"], health_check: false}
  dns: {protocol: udp, targets: ["127.0.0.1:@datagrams@"]}
routes: [{name: users, match: {path: "/users*"}, respond: {status: 200, body: ok}}]
""", stream=stream.port, datagrams=datagrams.port)
        with Tail(gateway) as tail, Tail(gateway, "--target-group", "dns") as filtered, Tail(gateway, as_json=False) as people:
            ready(gateway, tail)
            ready(gateway, people)
            with dial(gateway.port("db")) as client:
                client.sendall(b"hello")
                assert exactly(client, 5) == b"hello"
            with dial_udp(gateway.port("dns")) as client:
                assert ask(client, b"what") == b"what"
            tail.wait(2)
            seen = {entry["protocol"]: entry for entry in tail.entries()}
            assert (seen["tcp"]["listener"], seen["tcp"]["bytes_in"], seen["tcp"]["reason"]) == ("db", 5, "-")
            assert (seen["udp"]["listener"], seen["udp"]["bytes_out"], seen["udp"]["reason"]) == ("dns", 4, "FLOW_ANSWERED")

            def is_filtered():
                with dial_udp(gateway.port("dns")) as client:
                    ask(client, b"what")
                return filtered.lines
            assert {entry["protocol"] for entry in map(json.loads, wait_for(is_filtered, "a line"))} == {"udp"}
            wait_for(lambda: any(" udp FLOW_ANSWERED " in line and "in=4 out=4" in line and "listener=dns" in line for line in people.lines),
                     "a line for people")
