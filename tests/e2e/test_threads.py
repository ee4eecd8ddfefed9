"""Four threads under load while configurations, metrics and status are asked for: nothing is lost. `make tsan` runs this under
ThreadSanitizer, which has the last word (Weir.close looks for what it says)."""
import json
import subprocess
import threading
import time

import pytest

from client import Client
from origin import FastOrigin, Origin
from weir import BINARY, UnixConnection, Weir

pytestmark = pytest.mark.xdist_group("load")
TEXT = """
worker_threads: 4
limits: {connections_per_ip: 100000, accept_rate_per_ip: 100000, accept_rate: 100000}
certificates: {site: {self_signed: [localhost]}}
listeners:
  http: {address: "127.0.0.1:@http@", protocols: [h2, http/1.1]}
  https: {address: "127.0.0.1:@https@", tls: {certificates: site}}
target_groups:
  origin: {targets: ["127.0.0.1:@origin@"], health_check: {path: /health, interval: 1s, timeout: 10s}}
  moving: {dynamic: true, targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
routes:
  - {name: moving, match: {path: /moving}, forward: moving}
  - {name: fixed, match: {path: /fixed}, respond: {status: 200, body: fixed}}
  - {name: all, forward: origin}
"""


class Load:
    def __init__(self, port, target):
        command = [BINARY.parent / "tests" / "bench" / "load", "-p", str(port), "-r", "200", "-c", "16", "-n", "40", "-t", target]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def end(self):
        out, _ = self.process.communicate("\n", timeout=120)
        return json.loads(out.splitlines()[0])


def handshakes(port, stop):
    while not stop.is_set():
        with Client(port, tls="localhost") as client:
            client.request("GET", "/fixed")
            client.response()


def change_targets(gateway, others, stop):
    """All the time, 127.0.0.2 and so on beside the one of the configuration."""
    n = 0
    while not stop.is_set():
        n += 1
        connection = UnixConnection(gateway.admin_socket)
        body = json.dumps([f"127.0.0.{2 + (n + i) % 8}:{others.port}" for i in range(4)])
        connection.request("PUT", "/api/v1/target_groups/moving/targets", body)
        assert connection.getresponse().status == 200
        connection.close()


def test_threads_share_what_they_must_and_nothing_is_lost():
    options = {"TSAN_OPTIONS": "exitcode=66:history_size=4"}
    with Origin() as origin, FastOrigin(address="0.0.0.0") as others, Weir(TEXT, origin=origin.port, env=options) as gateway:
        loads = [Load(gateway.port("http"), target) for target in ("/fixed", "/forwarded", "/moving")]
        stop = threading.Event()
        threads = [threading.Thread(target=handshakes, args=(gateway.port("https"), stop)),
                   threading.Thread(target=change_targets, args=(gateway, others, stop))]
        for thread in threads:
            thread.start()
        try:
            until = time.monotonic() + 6
            while time.monotonic() < until:
                gateway.reload(timeout=60)
                for page in ("/metrics", "/status", "/api/v1/target_groups", "/api/v1/connections", "/api/v1/traffic", "/api/v1/errors"):
                    assert gateway.admin(page)[0] == 200
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            seen = [load.end() for load in loads]
        for one in seen:
            assert one["requests"] > 0 and one["failed"] == one["refused"] == one["closed"] == one["cut"] == 0, one
