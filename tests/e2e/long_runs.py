"""What is done to a gateway for years, in minutes: reloads, upgrades and crashes under steady traffic. test_long.py runs it with
small numbers, tests/bench/long with those that count. Each run returns what it saw as a dictionary; the tests judge."""
import contextlib
import datetime
import json
import os
import resource
import select
import signal
import statistics
import subprocess
import time
from pathlib import Path

from nameserver import Nameserver
from origin import FastOrigin
from weir import BINARY, UnixConnection, Weir, wait_for

CONFIG = """
worker_threads: 2
listeners: {{http: {{address: "127.0.0.1:@http@"}}}}
limits: {{idle_timeout: 1h}}
target_groups: {{origin: {{targets: "127.0.0.1:@origin@", health_check: {{path: /health, interval: 1s, timeout: 20s}}}}}}
upgrade: {{drain_timeout: 1h}}
shutdown_timeout: 1s
routes:
  - {{name: version, match: {{path: /version}}, respond: {{status: 200, body: "{version}"}}}}
  {more}
  - {{name: all, forward: origin}}
"""


def config(version=0, routes=0):
    """Every version has routes of other names, so that nothing of the one before can be reused by chance."""
    more = "".join(f'\n  - {{name: r{version}_{i}, match: {{host: h{i % 10}.example.com, path: "/r{version}/{i}/*"}}, forward: origin}}'
                   for i in range(routes))
    return CONFIG.format(version=version, more=more.lstrip("\n "))


class SteadyLoad:
    """tests/bench/load.c. .report() is what happened since the last one."""

    def __init__(self, port, rate=0, connections=32, new=0, idle=0, streams=0, stream_ms=500, target="/", post_bytes=0):
        command = [BINARY.parent / "tests" / "bench" / "load", "-p", port, "-r", rate, "-c", connections, "-n", new, "-i", idle,
                   "-s", streams, "-m", stream_ms, "-t", target, "-b", post_bytes]
        self.idle, self.streams = idle, streams
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def report(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert select.select([self.process.stdout], [], [], 60)[0], "the load maker does not answer"
        return json.loads(self.process.stdout.readline())

    def settle(self, timeout=60):
        """Until everything that shall be there is there; what happened up to then does not count."""
        def is_there():
            seen = self.report()
            assert seen["failed"] + seen["closed_idle"] + seen["closed_streams"] == 0, seen
            return seen["idle"] == self.idle and seen["streams"] == self.streams
        wait_for(is_there, "the load", timeout)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


def add_up(reports):
    """The sum of several reports, latencies left out."""
    total = {}
    for report in reports:
        for name, value in report.items():
            if isinstance(value, int) and name not in ("idle", "streams", "backlog"):
                total[name] = total.get(name, 0) + value
        if report["problem"] and not total.get("problem"):
            total["problem"] = report["problem"]
    return total


def lost(total):
    """Everything that must not happen, in one number."""
    return sum(total[name] for name in ("failed", "refused", "cut", "closed", "closed_idle", "closed_streams"))


def cpu_s(pid):
    """Of the whole process, threads that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_reloads(reloads=300, idle=2000, streams=500, rate=2000, routes=50, pause=0.1):
    with FastOrigin() as origin, Weir(config(0, routes), origin=origin.port) as gateway, \
            SteadyLoad(gateway.port("http"), rate, 64, idle=idle, streams=streams) as load:
        load.settle()
        for i in range(20):  # pools and arenas have their size then
            gateway.configure(config(i + 1, routes))
            gateway.reload()
        load.settle()
        before, reports, began = gateway.rss(), [], time.monotonic()
        for i in range(reloads):
            gateway.configure(config(i + 21, routes))
            gateway.reload()
            wait_for(lambda: time.monotonic() - began >= i * pause, "its turn")
            if i % 50 == 49:
                reports.append(load.report())
        seconds = time.monotonic() - began
        # a stream says something every half a second: all that are there have said something by then
        wait_for(lambda: reports.append(load.report()) or sum(report["stream_bytes"] for report in reports[-4:]) >= streams,
                 "the streams", 60)
        last = reports[-1]
        after = gateway.rss()
        status = json.loads(gateway.admin("/status")[1])
        return {"reloads": reloads, "seconds": seconds, "total": add_up(reports), "idle": last["idle"], "streams": last["streams"],
                "rss_before": before, "rss_after": after, "generation": status["generation"],
                "open": status["connections"]["open"],
                "p99_ms": max(report["steady"].get("p99_us", 0) for report in reports) / 1000}


def run_upgrades(upgrades=20, rate=2000, new=100, streams=50):
    with FastOrigin() as origin, Weir(config(), origin=origin.port) as gateway, \
            SteadyLoad(gateway.port("http"), rate, 64, new=new, streams=streams) as load:
        load.settle()
        reports, pids = [], set()
        for i in range(upgrades):
            gateway.configure(config(i + 1))
            done = gateway.run("upgrade", "-c", gateway.config_path)
            assert done.returncode == 0, done.stderr
            pids.add(gateway.worker())
            reports.append(load.report())
        wait_for(lambda: reports.append(load.report()) or sum(report["stream_bytes"] for report in reports[-4:]) >= streams,
                 "the streams", 60)
        return {"upgrades": upgrades, "workers": len(pids), "total": add_up(reports), "streams": reports[-1]["streams"],
                "max_ms": max(report[kind].get("max_us", 0) for report in reports for kind in ("steady", "new")) / 1000}


DNS_CONFIG = """
worker_threads: 2
listeners: {http: {address: "127.0.0.1:@http@"}}
limits: {idle_timeout: 1h}
resolver: {servers: "127.0.0.1:@dns@", timeout: 5s}
target_groups:
  origin:
    targets: {dns: origin.test, port: @origin@, type: a, min_ttl: 200ms}
    health_check: {path: /health, interval: 1s, timeout: 20s}
routes: [{name: all, forward: origin}]
"""


def run_flips(flips=30, every=2.0, rate=1000, new=50, streams=50):
    """The name stands for one of two addresses in turn. Whoever streams from the one that is gone goes on."""
    addresses = ["127.0.0.1", "127.0.0.2"]
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(FastOrigin(address=addresses[0]))
        stack.enter_context(FastOrigin(address=addresses[1], port=first.port))
        dns = stack.enter_context(Nameserver({"origin.test": addresses[:1]}))
        gateway = stack.enter_context(Weir(DNS_CONFIG, origin=first.port, dns=dns.port))
        load = stack.enter_context(SteadyLoad(gateway.port("http"), rate, 32, new=new, streams=streams))
        load.settle()
        reports, seconds, began = [], [], time.monotonic()

        def serving():
            group = json.loads(gateway.admin("/api/v1/target_groups/origin")[1])
            return [target["target"].rsplit(":", 1)[0] for target in group["targets"] if target["state"] != "draining"]
        for i in range(flips):
            address = addresses[(i + 1) % 2]
            wait_for(lambda: time.monotonic() - began >= i * every, "its turn", every + 10)
            dns.set({"origin.test": [address]})
            flipped = time.monotonic()
            wait_for(lambda: serving() == [address], f"{address} alone to serve")
            seconds.append(time.monotonic() - flipped)
            reports.append(load.report())
        wait_for(lambda: reports.append(load.report()) or sum(report["stream_bytes"] for report in reports[-4:]) >= streams,
                 "the streams", 60)
        return {"flips": flips, "total": add_up(reports), "streams": reports[-1]["streams"], "slowest_s": max(seconds),
                "queries": gateway.metric("weir_dns_queries_total")}


UPDATES_CONFIG = """
worker_threads: 2
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups: {origin: {dynamic: true, targets: [], health_check: {enabled: false}}}
routes: [{name: all, forward: origin}]
"""


def effects(gateway, added, removed):
    """How long after an update, in seconds, the last request began at a target that was taken out, and the first one at a
    target that was put in: by the access log, whose times are those of the ends."""
    first, last = {}, {}
    for entry in gateway.access_log():
        target = entry["target"]
        ended = datetime.datetime.fromisoformat(entry["time"].replace("Z", "+00:00")).timestamp()
        began = ended - entry["duration_ms"] / 1000
        first[target] = min(first.get(target, began), began)
        last[target] = max(last.get(target, began), began)
    assert set(first) <= set(added), "a target that nobody has put in"
    return ([first[target] - at for target, at in added.items() if target in first],
            [last[target] - at for target, at in removed.items() if target in last])


def run_updates(updates=10000, a_second=500, rate=2000, members=20, new=50):
    """One target more, the oldest one less, through the admin API; every one is another address of the same origin."""
    with FastOrigin(address="0.0.0.0") as origin, Weir(UPDATES_CONFIG) as gateway:
        path, added, removed, late = "/api/v1/target_groups/origin/targets", {}, {}, 0
        api = UnixConnection(gateway.admin_socket)

        def change(method, url, body, note, target):
            api.request(method, url, body)
            response = api.getresponse()
            assert response.status == 200, response.read()
            response.read()
            note[target] = time.time()
        names = [f"127.{1 + i // 65536}.{i // 256 % 256}.{i % 256}:{origin.port}" for i in range(1, updates // 2 + members + 1)]
        for name in names[:members]:
            change("POST", path, json.dumps(name), added, name)
        wait_for(lambda: gateway.metric("weir_target_group_targets", target_group="origin") == members, "the first targets")
        generation, publications = gateway.generation(), gateway.metric("weir_target_changes_total")
        with SteadyLoad(gateway.port("http"), rate, 32, new=new) as load:
            load.settle()
            reports, began = [], time.monotonic()
            for i in range(updates // 2):
                change("POST", path, json.dumps(names[members + i]), added, names[members + i])
                change("DELETE", f"{path}/{names[i]}", None, removed, names[i])
                due = began + (i + 1) * 2 / a_second
                late += time.monotonic() > due + 0.1
                wait_for(lambda: time.monotonic() >= due, "its turn")
                if i % 250 == 249:
                    reports.append(load.report())
            seconds = time.monotonic() - began
            reports.append(load.report())
        wait_for(lambda: gateway.metric("weir_endpoints") == members, "those that are gone are forgotten", 60)
        to_first, to_last = effects(gateway, added, removed)
        return {"updates": gateway.metric("weir_target_changes_total") - publications, "a_second": updates / seconds,
                "total": add_up(reports), "to_first_ms": sorted(s * 1000 for s in to_first),
                "to_last_ms": sorted(s * 1000 for s in to_last), "loads": gateway.generation() - generation}


def run_crashes(crashes=20, rate=1000, new=200):
    with FastOrigin() as origin, Weir(config(), origin=origin.port) as gateway, \
            SteadyLoad(gateway.port("http"), rate, 32, new=new) as load:
        gateway.may_die = True
        load.settle()
        reports, back_ms = [], []
        for _ in range(crashes):
            pid, began = gateway.worker(), time.monotonic()
            load.report()
            os.kill(pid, signal.SIGKILL)
            # every connection that is opened from now on waits for the next worker, and its latency says how long
            wait_for(lambda: time.monotonic() - began > 1.1, "a second: a worker that lives so long is no crash loop")
            report = load.report()
            reports.append(report)
            back_ms.append(report["new"].get("max_us", 60_000_000) / 1000)
        return {"crashes": crashes, "total": add_up(reports), "back_ms": sorted(back_ms),
                "restarts": gateway.metric("weir_worker_restarts_total")}


def run_large(routes=10000, windows=6, seconds=4, rate=1000):
    """CPU of a reload and of a check, and latencies of windows with a reload beside windows without."""
    with FastOrigin() as origin, Weir(config(0, routes), origin=origin.port) as gateway:
        gateway.configure(config(1, routes))
        gateway.reload()
        pid, cpu = gateway.worker(), []
        for i in range(5):
            gateway.configure(config(i + 2, routes))
            before = cpu_s(pid)
            gateway.reload(60)
            wait_for(lambda: gateway.metric("weir_config_routes") == routes + 2, "the routes")
            cpu.append(cpu_s(pid) - before)
        check, check_cpu = [], []
        for _ in range(7):
            began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            assert gateway.run("check", gateway.config_path).returncode == 0
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            check.append(time.monotonic() - began)
            check_cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        p99 = {"quiet": [], "reloading": []}
        with SteadyLoad(gateway.port("http"), rate, 32) as load:
            load.settle()
            for i in range(windows * 2):
                kind = ("quiet", "reloading")[i % 2]
                load.report()
                end = time.monotonic() + seconds
                if kind == "reloading":
                    gateway.configure(config(i + 10, routes))
                    gateway.reload(60)
                wait_for(lambda: time.monotonic() > end, "the end of the window", seconds + 30)
                report = load.report()
                assert lost(report) == 0, report
                p99[kind].append(report["steady"]["p99_us"] / 1000)
        return {"routes": routes, "reload_cpu_ms": statistics.median(cpu) * 1000, "check_ms": statistics.median(check) * 1000,
                "check_cpu_ms": statistics.median(check_cpu) * 1000, "p99_quiet_ms": sorted(p99["quiet"]), "p99_reloading_ms": sorted(p99["reloading"])}


# --- targets that come and go -----------------------------------------------------------------------------------------

ROLLING = """
worker_threads: 2
listeners: {{http: {{address: "127.0.0.1:@http@"}}}}
target_groups:
  four:
    targets: ["127.0.0.1:@a@", "127.0.0.1:@b@", "127.0.0.1:@c@", "127.0.0.1:@d@"]
    health_check: {{path: /health, interval: 500ms, timeout: 20s, healthy_threshold: 1}}
    {settings}
routes: [{{name: all, forward: four}}]
"""


def run_rolling_restart(rounds=3, rate=2000, new=50, pause=1.0, post_bytes=0, settings="retry: {attempts: 3, backoff: 5ms}"):
    """Four backends that close everything on SIGTERM are restarted one after the other, round by round."""
    backends = [FastOrigin() for _ in range(4)]
    ports = dict(zip("abcd", (backend.port for backend in backends)))
    restarts = 0
    try:
        with Weir(ROLLING.format(settings=settings), **ports) as gateway:
            wait_for(lambda: all(gateway.metric("weir_target_health", target=backend.address) == 1 for backend in backends), "health")
            with SteadyLoad(gateway.port("http"), rate, 64, new=new, post_bytes=post_bytes) as load:
                load.settle()
                reports = []
                for _ in range(rounds):
                    for i, backend in enumerate(backends):
                        backend.terminate()
                        down = time.monotonic()
                        wait_for(lambda: time.monotonic() - down > pause, "a while without it")
                        backends[i] = FastOrigin(port=backend.port)
                        restarts += 1
                        reports.append(load.report())
                        # until it has requests again
                        wait_for(lambda: time.monotonic() - down > 2 * pause and gateway.metric(
                            "weir_target_health", target=backend.address) == 1, "its health")
                reports.append(load.report())
                return {"restarts": restarts, "total": add_up(reports), "retries": gateway.metric("weir_upstream_retries_total", route="all"),
                        "p99_ms": max(report["steady"].get("p99_us", 0) for report in reports) / 1000}
    finally:
        for backend in backends:
            backend.close()


CLOSING = """
worker_threads: 2
listeners: {{http: {{address: "127.0.0.1:@http@"}}}}
target_groups: {{origin: {{targets: "127.0.0.1:@origin@", health_check: {{enabled: false}}, pool: {{reuse: {reuse}}}}}}}
routes: [{{name: all, forward: origin}}]
"""


def run_idle_closing(seconds=20, rate=1000, idle_ms=20, post_bytes=0, reuse="all"):
    """A target that closes idle connections at random; nothing is configured for it, unless `reuse`."""
    with FastOrigin(idle_ms=idle_ms) as origin, Weir(CLOSING.format(reuse=reuse), origin=origin.port) as gateway:
        began = time.monotonic()
        with SteadyLoad(gateway.port("http"), rate, 32, post_bytes=post_bytes) as load:
            wait_for(lambda: time.monotonic() - began > seconds, "the time", seconds + 30)
            total = load.report()
        wait_for(lambda: gateway.metric("weir_requests_in_flight") == 0, "the last request")
        return {"total": total, "asked": gateway.metric("weir_requests_total", route="all"), "connects": gateway.metric("weir_upstream_connects_total"), "retries": gateway.metric(
                    "weir_upstream_retries_total", route="all"), "closed": gateway.metric("weir_upstream_idle_closed_total"),
                "posts": posts_at(origin)}


OUTAGE = """
worker_threads: 2
listeners: {{http: {{address: "127.0.0.1:@http@"}}}}
target_groups:
  down: {{targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"], health_check: {{enabled: false}}}}
routes:
  - {{name: all, forward: down, retry: {{attempts: 3, on: [503, reset], budget: {budget}%, backoff: 1ms, non_idempotent: true}}}}
"""


def run_outage(seconds=20, rate=1000, budget=20):
    """Every answer is 503, and every request would be tried four times. What counts is what came to the targets."""
    with FastOrigin() as a, FastOrigin() as b, Weir(OUTAGE.format(budget=budget), a=a.port, b=b.port) as gateway:
        began = time.monotonic()
        with SteadyLoad(gateway.port("http"), rate, 32, target="/status/503", post_bytes=10) as load:
            wait_for(lambda: time.monotonic() - began > seconds, "the time", seconds + 30)
            load.report()
        wait_for(lambda: gateway.metric("weir_requests_in_flight") == 0, "the last request")
        requests = gateway.metric("weir_requests_total", route="all", code_class="5xx")
        seconds = time.monotonic() - began
        return {"requests": requests, "at_targets": sum(posts_at(origin) for origin in (a, b)), "seconds": seconds, "budget": budget,
                # Each of two threads may send ten again in a second with fewer requests: the first one, and those that stood still.
                "free": 2 * 10 * (2 + max(0, seconds - requests / rate))}


def posts_at(origin):
    """POST requests that came whole."""
    import http.client
    connection = http.client.HTTPConnection("127.0.0.1", origin.port, timeout=60)
    connection.request("GET", "/posts")
    count = int(connection.getresponse().read())
    connection.close()
    return count
