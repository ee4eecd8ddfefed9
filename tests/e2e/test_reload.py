"""Changes to a running gateway: reload closes nothing and fails nothing, a bad file changes nothing, SIGTERM drains."""
import os
import signal
import socket
import threading
import time

import pytest

from client import Client, Closed, fetch
from load import Load
from origin import Origin, reply
from test_supervisor import freeze
from weir import SANITIZED, Weir, wait_for

pytestmark = pytest.mark.xdist_group("load")
MIB = 1 << 20

CONFIG = """
listeners:
  http: {{address: "127.0.0.1:@http@"}}
  tls: {{address: "127.0.0.1:@tls@", tls: {{certificates: self}}}}
certificates: {{self: {{self_signed: [localhost]}}}}
shutdown_timeout: 30s
target_groups:
  origin: {{targets: "127.0.0.1:@origin@", health_check: {{path: /health, interval: 1s, timeout: 10s}}}}
routes:
  - {{name: version, match: {{path: /version}}, respond: {{status: 200, body: "{version}"}}}}
  {more}
  - {{name: all, forward: origin}}
"""


def config(version=1, more=""):
    return CONFIG.format(version=version, more=more)


@pytest.mark.timeout(240)
def test_300_reloads_under_load_fail_no_request_and_close_no_connection(fast_origin):
    reloads = 60 if SANITIZED else 300
    with Weir(config(), origin=fast_origin.port) as gateway:
        wishes = [("GET", "/", None, None), ("GET", "/version", None, None), ("POST", "/up", b"x" * 10000, None),
                  ("GET", "/chunked/5000", None, None)]
        with Load(gateway.port("http"), wishes, connections=6) as plain, \
                Load(gateway.port("tls"), wishes, connections=2, tls="localhost") as tls:
            memory = []
            for i in range(reloads):
                extra = "".join(f'\n  - {{name: r{i}_{j}, match: {{path: "/r{i}/{j}/*"}}, forward: origin}}' for j in range(50))
                gateway.configure(config(i, extra.lstrip("\n ")))
                gateway.reload()
                memory.append(gateway.rss())
                assert fetch(gateway.port("http"), "/version").text == str(i)
            plain.wait_requests(50)
        for load, connections in ((plain, 6), (tls, 2)):
            load.check()
            assert load.opened == connections, "no connection was closed"
            assert load.told_to_close == 0
        if not SANITIZED:
            early, late = max(memory[20:60]), max(memory[-40:])
            assert late - early < 4 * MIB, f"{early / MIB:.1f} MiB after 60 reloads, {late / MIB:.1f} MiB after 300"


def test_an_idle_connection_lives_through_a_reload_and_sees_the_new_routes(weir, origin):
    gateway = weir(config(1), origin=origin.port)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/version")
        assert client.response().text == "1"
        gateway.configure(config(2))
        gateway.reload()
        client.request("GET", "/version")
        assert client.response().text == "2"


def test_connections_to_targets_live_through_a_reload(weir, origin):
    gateway = weir(config(1).replace("path: /health, interval: 1s, timeout: 10s", "enabled: false") + "worker_threads: 1\n", origin=origin.port)
    with Client(gateway.port("http")) as client:
        for version in (2, 3, 4):
            client.request("GET", "/")
            assert client.response().status == 200
            gateway.configure(config(version).replace("path: /health, interval: 1s, timeout: 10s", "enabled: false") + "worker_threads: 1\n")
            gateway.reload()
    assert len(origin.requests) == 3
    assert {request.connection for request in origin.requests} == {0}, "one connection carried them all"


def test_a_request_keeps_the_configuration_it_started_with(weir, origin):
    go = threading.Event()
    origin.on("/slow", lambda exchange: (go.wait(60), exchange.send(reply(b"done"))))
    header = 'response_headers: {set: {x-generation: "%s"}}'
    gateway = weir(config(1, "- {name: slow, match: {path: /slow}, forward: origin, " + header % "old" + "}"), origin=origin.port)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/slow")
        wait_for(lambda: any(request.target == "/slow" for request in origin.requests), "the request at the origin")
        gateway.configure(config(2, "- {name: slow, match: {path: /slow}, respond: {status: 404}, " + header % "new" + "}"))
        gateway.reload()
        assert fetch(gateway.port("http"), "/slow").get("x-generation") == "new"
        go.set()
        response = client.response()
        assert (response.text, response.get("x-generation")) == ("done", "old")


BROKEN = [("unknown key", "routes: [{nonsense: 1}]"), ("bad YAML", "routes: [}"), ("dangling group", config(9).replace("forward: origin", "forward: nobody")),
          ("no file", None), ("empty", "")]


@pytest.mark.parametrize("what, text", BROKEN, ids=[what for what, _ in BROKEN])
def test_a_reload_of_a_broken_file_keeps_serving_and_says_why(weir, origin, what, text):
    gateway = weir(config(1), origin=origin.port)
    generation = gateway.generation()
    if text is None:
        gateway.config_path.unlink()
    else:
        gateway.has_admin = False
        gateway.configure(text)
    with Client(gateway.port("http")) as client:
        gateway.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "reload failed" in gateway.stderr(), "the error in the log")
        assert "/weir.yaml" in gateway.stderr()
        client.request("GET", "/version")
        assert client.response().text == "1"
    assert gateway.generation() == generation
    gateway.has_admin = True
    gateway.configure(config(2))
    gateway.reload()
    assert fetch(gateway.port("http"), "/version").text == "2"


def test_listeners_come_and_go_with_reloads(weir, origin):
    gateway = weir(config(1), origin=origin.port)
    third = gateway.port("third")
    with pytest.raises(OSError):
        fetch(third)
    gateway.configure(config(1).replace("listeners:", f'listeners:\n  third: {{address: "127.0.0.1:{third}"}}'))
    gateway.reload()
    assert fetch(third, "/version").status == 200
    with Client(third) as client:
        client.request("GET", "/version")
        assert client.response().status == 200
        gateway.configure(config(1))
        gateway.reload()

        def refuses():
            try:
                fetch(third)
                return False
            except Closed:
                return False
            except OSError:
                return True

        wait_for(refuses, "the listener to be closed")
    assert fetch(gateway.port("http"), "/version").status == 200


def test_a_target_group_changes_under_load(weir):
    with Origin(reply(b"old")) as old, Origin(reply(b"new")) as new:
        gateway = weir(config(1).replace("path: /health, interval: 1s, timeout: 10s", "enabled: false"), origin=old.port)
        with Load(gateway.port("http"), [("GET", "/", None, None)], connections=4) as load:
            load.wait_requests(50)
            gateway.values["origin"] = str(new.port)
            gateway.configure(config(2).replace("path: /health, interval: 1s, timeout: 10s", "enabled: false"))
            gateway.reload()
            load.wait_requests(50)
            assert fetch(gateway.port("http")).text == "new"
        load.check()


def test_weir_reload_does_what_sighup_does(weir, origin):
    gateway = weir(config(1), origin=origin.port)
    gateway.configure(config(2))
    before = gateway.generation()
    done = gateway.run("reload", "-c", str(gateway.config_path))
    assert done.returncode == 0, done.stderr
    wait_for(lambda: gateway.generation() > before, "a new generation")
    assert fetch(gateway.port("http"), "/version").text == "2"


# --- the end ------------------------------------------------------------------------------------------------------
@pytest.mark.timeout(120)
@pytest.mark.parametrize("attempt", range(1 if SANITIZED else 5))
def test_sigterm_drains_without_a_failed_request(fast_origin, attempt):
    with Weir(config(), origin=fast_origin.port) as gateway:
        wishes = [("GET", "/", None, None), ("GET", "/delay/50", None, None), ("POST", "/up", b"x" * 100000, None),
                  ("GET", "/size/300000", None, None)]
        with Load(gateway.port("http"), wishes, connections=12, stops_when_told=True) as load:
            wait_for(lambda: all(load.counts), "an answer for every client")
            load.wait_requests(100)
            assert gateway.terminate() == 0
            load.wait_ended()
        load.check()
        assert load.told_to_close + load.let_go == 12, "every client was told before its connection closed, if it did not sleep"


def test_a_long_request_is_finished_after_sigterm(weir, origin):
    go = threading.Event()

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        go.wait(60)
        exchange.send(b"67890")

    origin.on("/long", answer)
    gateway = weir(config(), origin=origin.port)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/long")
        client.head()
        gateway.process.send_signal(signal.SIGTERM)

        def refuses():
            try:
                socket.create_connection(("127.0.0.1", gateway.port("http")), timeout=30).close()
                return False
            except OSError:
                return True

        wait_for(refuses, "the listener to be closed")
        assert gateway.process.poll() is None, "the request is still being served"
        go.set()
        assert client.exactly(10) == b"1234567890"
        assert client.is_closed()
    assert gateway.process.wait(60) == 0


def test_not_ready_while_draining(weir, origin):
    go = threading.Event()
    origin.on("/long", lambda exchange: (go.wait(60), exchange.send(reply())))
    gateway = weir(config(), origin=origin.port)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/long")
        wait_for(lambda: any(request.target == "/long" for request in origin.requests), "the request at the origin")
        gateway.process.send_signal(signal.SIGTERM)
        wait_for(lambda: gateway.admin("/readyz")[0] == 503, "not ready")
        assert gateway.admin("/healthz")[0] == 200
        go.set()
        assert client.response().status == 200


def test_shutdown_timeout_ends_what_does_not_end(weir, origin):
    gateway = weir(config().replace("shutdown_timeout: 30s", "shutdown_timeout: 1s"), origin=origin.port)
    origin.on("/never", lambda exchange: exchange.wait_peer_closed(60))
    with Client(gateway.port("http")) as client:
        client.request("GET", "/never")
        wait_for(lambda: any(request.target == "/never" for request in origin.requests), "the request at the origin")
        assert gateway.terminate() == 0, "it would have been killed if it had not ended by itself"
        assert "shutdown_timeout passed: closing what is left" in gateway.stderr()
        with pytest.raises((Closed, OSError)):
            client.response()
            raise Closed
    entries = [entry for entry in gateway.access_log() if entry["path"] == "/never"]
    assert entries and entries[0]["reason"] in ("SHUTTING_DOWN", "CLIENT_CLOSED"), entries


def test_sigterm_closes_idle_connections_soon(weir, origin):
    gateway = weir(config().replace("shutdown_timeout: 30s", "shutdown_timeout: 10m"), origin=origin.port)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/version")
        assert client.response().status == 200
        assert gateway.terminate() == 0, "idle connections do not use up shutdown_timeout"
        assert client.is_closed()


def test_sigint_ends_it_too(weir, origin):
    gateway = weir(config(), origin=origin.port)
    gateway.process.send_signal(signal.SIGINT)
    assert gateway.process.wait(60) == 0


def test_a_restart_gets_the_same_ports_at_once(weir, origin):
    gateway = weir(config(), origin=origin.port)
    for _ in range(3):
        with Client(gateway.port("http")) as client:
            client.request("GET", "/version", [("Connection", "close")])
            client.response()
        assert gateway.terminate() == 0
        gateway.start()
        assert fetch(gateway.port("http"), "/version").status == 200


def test_requests_that_came_while_the_worker_stood_still_are_served_although_idle_timeout_has_passed(weir):
    gateway = weir("""
worker_threads: 1
limits: {idle_timeout: 3s}
watchdog_timeout: 0s
listeners: {http: {address: "127.0.0.1:@http@"}}
routes: [{name: all, respond: {status: 200, body: hello}}]
""")
    worker = gateway.worker()
    for _ in range(20):  # once, unless it takes us too long to send them in time
        began = time.monotonic()
        clients = [Client(gateway.port("http")).request("GET", "/") for _ in range(600)]  # more than one look finds
        for client in clients:
            assert client.response().text == "hello"
        freeze(worker)
        for client in clients:
            client.request("GET", "/")
        were_in_time = time.monotonic() - began < 3
        wait_for(lambda: time.monotonic() - began > 6.1, "all timers to be due")
        os.kill(worker, signal.SIGCONT)
        if were_in_time:
            break
        for client in clients:
            client.close()
    assert were_in_time
    for client in clients:
        assert client.response().text == "hello"
        client.close()
