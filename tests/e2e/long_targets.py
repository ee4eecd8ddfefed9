"""What becomes of requests while their targets fail, turn slow, leave, stand in another zone: long_runs.py for those."""
import contextlib
import datetime
import json
import random
import time

from long_runs import SteadyLoad, add_up
from origin import FastOrigin
from weir import UnixConnection, Weir, wait_for


def stamp(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def served_and_ended(gateway):
    """(began, target, status, reason, ended) of every request, in the order of their beginnings."""
    return sorted((stamp(entry["time"]) - entry["duration_ms"] / 1000, entry["target"], entry["status"], entry["reason"], stamp(entry["time"]))
                  for entry in gateway.access_log())


def served(gateway):
    return [entry[:4] for entry in served_and_ended(gateway)]


def pause(seconds):
    until = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= until, "a while", seconds + 30)


# --- targets that fail or turn slow -----------------------------------------------------------------------------------

EJECTION = """
worker_threads: 2
listeners: {{http: {{address: "127.0.0.1:@http@"}}}}
target_groups:
  many:
    targets: [{targets}]
    health_check: {{enabled: false}}
    outlier_detection: {{{settings}}}
routes: [{{name: all, forward: many}}]
"""
ALL_OFF = {"consecutive_5xx": 0, "consecutive_gateway_errors": 0, "success_rate_deviation": "0%", "minimum_requests": 20, "interval": "1s"}
# what is asked for, and what the target does
EJECTIONS = {
    "consecutive_5xx": ({"consecutive_5xx": 5}, "status/500/1"),
    "consecutive_gateway_errors": ({"consecutive_gateway_errors": 5}, "status/503/1"),
    "success_rate": ({"success_rate_deviation": "30%"}, "status/500/2"),
    "latency": ({"latency_factor": 5}, "delay/{delay_ms}/1"),
}


def ejection_config(origins, ejection_s, **settings):
    settings = {**ALL_OFF, "ejection_time": f"{ejection_s}s", **settings}
    return EJECTION.format(targets=", ".join(f'"{origin.address}"' for origin in origins),
                           settings=", ".join(f"{name}: {value}" for name, value in settings.items()))


def outages(gateway, group, target):
    """[(out, back)] of a target, by what the gateway remembers of it."""
    page = json.loads(gateway.admin(f"/api/v1/target_groups/{group}")[1])
    changes = next(t for t in page["targets"] if t["target"] == target)["changes_history"]
    times = [(stamp(change["time"]), change["state"] == "ejected") for change in reversed(changes) if change["by"] == "outlier_detection"]
    assert [is_out for _, is_out in times] == [i % 2 == 0 for i in range(len(times))], changes
    return [(times[i][0], times[i + 1][0] if i + 1 != len(times) else None) for i in range(0, len(times), 2)]


def share_is_full(began, back, rate, until, window=0.25):
    """Seconds from `back` to the end of the first window in which a target gets at least three quarters of its rate."""
    at = back
    while at < until:
        if sum(at <= when < at + window for when in began) >= rate * window * 0.75:
            return at + window - back
        at += 0.05
    return float("inf")


def run_ejection(kind, targets=5, rate=2000, ejection_s=1, times=3, delay_ms=50):
    """One of several targets fails until it has been ejected so many times, then is well while it is out."""
    settings, fault = EJECTIONS[kind]
    with contextlib.ExitStack() as stack:
        origins = [stack.enter_context(FastOrigin()) for _ in range(targets)]
        victim = origins[0]
        gateway = stack.enter_context(Weir(ejection_config(origins, ejection_s, **settings)))
        with SteadyLoad(gateway.port("http"), rate, 64) as load:
            load.settle()
            pause(1.5)  # a whole interval of good answers
            load.report()
            failed_at = time.time()
            victim.say("/fault/" + fault.format(delay_ms=delay_ms))
            wait_for(lambda: len(outages(gateway, "many", victim.address)) >= times, f"{times} ejections", 60 + 10 * times)
            victim.say("/fault/none")
            well_at = time.time()
            wait_for(lambda: outages(gateway, "many", victim.address)[-1][1] is not None, "its return", 60)
            counted = gateway.metric("weir_outlier_ejections_total", reason=kind)
            pause(2)
            back = [times for times in outages(gateway, "many", victim.address) if times[1] is not None]
            until = time.time() - 0.5
            total = load.report()
        wait_for(lambda: gateway.metric("weir_requests_in_flight") == 0, "the last request")
        gateway.terminate()
        log = served(gateway)
        its = [(began, status) for began, target, status, _ in log if target == victim.address]
        others = [status for began, target, status, _ in log if target != victim.address]
        first_out = back[0][0]
        in_first = [began for began, _ in its if failed_at <= began <= first_out + ejection_s / 2]
        return {
            "total": total, "counted": counted, "well_s": back[-1][1] - well_at,
            # from the fault to the last request that began at it before its first return
            "to_last_ms": (max(in_first) - failed_at) * 1000,
            "after_ejection_ms": max(0, (max(in_first) - first_out) * 1000),
            # some began before the fault, and were answered after it
            "failed_first": sum(began <= first_out + ejection_s / 2 and status >= 500 for began, status in its),
            "failed": sum(status >= 500 for _, status in its), "failed_elsewhere": sum(status != 200 for status in others),
            # of each ejection: how long it was, and how many requests came meanwhile (but for the moments of the change)
            "lengths_s": [end - out for out, end in back],
            "while_out": sum(out + 0.05 < began < end - 0.3 for began, _ in its for out, end in back),
            "first_ms": (min((began for began, _ in its if began > back[-1][1] - 0.3), default=float("inf")) - back[-1][1]) * 1000,
            "full_ms": share_is_full([began for began, _ in its], back[-1][1], rate / targets, until) * 1000,
        }


def run_max_ejected(targets=6, bad=4, max_ejected=50, rate=2000, seconds=6):
    """More targets fail than may be out. What the gateway says of itself all the while, and what comes to the others."""
    with contextlib.ExitStack() as stack:
        origins = [stack.enter_context(FastOrigin()) for _ in range(targets)]
        gateway = stack.enter_context(Weir(ejection_config(origins, 1, consecutive_5xx=5, max_ejected=f"{max_ejected}%")))
        seen = []
        with SteadyLoad(gateway.port("http"), rate, 64) as load:
            load.settle()
            for origin in origins[:bad]:
                origin.say("/fault/status/500/1")
            until = time.monotonic() + seconds
            while time.monotonic() < until or (max(seen) < targets * max_ejected // 100 and time.monotonic() < until + 60):
                page = json.loads(gateway.admin("/api/v1/target_groups/many")[1])
                seen.append(sum(target["state"] == "ejected" for target in page["targets"]))
            for origin in origins[:bad]:
                origin.say("/fault/none")
            wait_for(lambda: gateway.metric("weir_target_group_targets", target_group="many", state="ejected") == 0, "all are back", 60)
            for _ in range(2):  # a load maker that stood still has old answers to read
                load.report()
            pause(1)
            total = load.report()
        return {"most": max(seen), "allowed": targets * max_ejected // 100, "looks": len(seen), "failed_afterwards": total["failed"],
                "requests": total["requests"]}


# --- targets that leave while streams go on ----------------------------------------------------------------------------

DRAIN = """
worker_threads: 2
state_dir: @tmp@/state
listeners: {{http: {{address: "127.0.0.1:@http@"}}}}
limits: {{idle_timeout: 1h}}
upgrade: {{drain_timeout: 1h}}
shutdown_timeout: 1s
target_groups:
  two:
    targets: [{targets}]
    dynamic: true
    deregistration_delay: {delay_s}s
    health_check: {{enabled: false}}
routes:
  - {{name: version, match: {{path: /version}}, respond: {{status: 200, body: "{version}"}}}}
  - {{name: all, forward: two}}
"""


def run_drain(how, streams=200, rate=1000, delay_s=4):
    """Half of the streams are at a target that is taken out, by the admin API, a reload, or one before an upgrade; a third time
    it is only drained by an operator. When the first was cut, which were, what they were told, what came to the target."""
    with contextlib.ExitStack() as stack:
        leaving, staying = (stack.enter_context(FastOrigin()) for _ in range(2))
        both, one = f'"{leaving.address}", "{staying.address}"', f'"{staying.address}"'

        def config(targets, version):
            return DRAIN.format(targets=targets, delay_s=delay_s, version=version)
        gateway = stack.enter_context(Weir(config(one if how == "admin" else both, 0)))
        path = "/api/v1/target_groups/two/targets"
        if how == "admin":
            api = UnixConnection(gateway.admin_socket)
            api.request("POST", path, json.dumps(leaving.address))
            assert api.getresponse().status == 200
            wait_for(lambda: leaving.address in gateway.admin("/api/v1/target_groups/two")[1], "the target")
        with SteadyLoad(gateway.port("http"), rate, 32, new=20, streams=streams, stream_ms=200) as load:
            load.settle()
            log = gateway.access_log
            began, left_at = time.monotonic(), time.time()
            if how == "admin":
                assert gateway.admin(f"{path}/{leaving.address}", "DELETE")[0] == 200
            elif how == "operator":
                assert gateway.admin(f"{path}/{leaving.address}/drain", "POST")[0] == 200
            else:
                gateway.configure(config(one, 1))
                gateway.reload()
            done_at = time.time()
            reports = [load.report()]
            pause(0.5)  # what is there then are streams
            page = json.loads(gateway.admin("/api/v1/target_groups/two")[1])
            at_leaving = next(target["in_flight"] for target in page["targets"] if target["target"] == leaving.address)
            if how in ("reload", "upgrade"):
                gateway.configure(config(one, 2))
                if how == "reload":
                    gateway.reload()
                else:
                    done = gateway.run("upgrade", "-c", gateway.config_path)
                    assert done.returncode == 0, done.stderr
            # until just before the delay is over nobody is cut off
            wait_for(lambda: reports.append(load.report()) or time.monotonic() - began > delay_s * 0.75, "most of the delay", delay_s + 30)
            early, early_s = add_up(reports), time.monotonic() - began
            later = []
            if how == "operator":
                wait_for(lambda: later.append(load.report()) or time.monotonic() - began > delay_s + 2, "longer than the delay", delay_s + 60)
            else:
                wait_for(lambda: later.append(load.report()) or add_up(later)["closed_streams"] >= at_leaving, "the cuts", delay_s + 60)
                pause(1)
                later.append(load.report())
            there = wait_for(lambda: (seen := load.report())["streams"] == streams and seen, "the streams, those opened again too", 30)
        gateway.terminate()
        cut = [entry for entry in log() if entry["reason"] == "TARGET_DEREGISTERED"]
        new = [when for when, target, _, _ in served(gateway) if target == leaving.address and when > done_at]
        return {"how": how, "at_leaving": at_leaving, "streams": there["streams"], "early": early, "early_s": early_s, "later": add_up(later),
                "cut": len(cut), "cut_elsewhere": sum(entry["target"] != leaving.address for entry in cut),
                "first_cut_s": min((stamp(entry["time"]) for entry in cut), default=left_at) - left_at,
                "last_cut_s": max((stamp(entry["time"]) for entry in cut), default=left_at) - left_at,
                "new_ms": max((when - done_at for when in new), default=0) * 1000, "new": len(new), "delay_s": delay_s}


# --- zones, failover, panic -------------------------------------------------------------------------------------------

PLACES = """
worker_threads: 2
zone: here
listeners: {{http: {{address: "127.0.0.1:@http@"}}}}
target_groups:
  main:
    targets: [{{address: "{0}", zone: here}}, {{address: "{1}", zone: here}}, {{address: "{2}", zone: there}}, {{address: "{3}", zone: there}}]
    zones: {{mode: prefer, spill_below: 70%}}
    failover: {{to: spare, minimum_healthy: 1}}
    health_check: {{path: /health, interval: 200ms, timeout: 20s, healthy_threshold: 2, unhealthy_threshold: 2}}
  spare: {{targets: ["{4}"], health_check: {{path: /health, interval: 200ms, timeout: 20s, healthy_threshold: 2, unhealthy_threshold: 2}}}}
  panic:
    targets: ["{0}", "{1}", "{2}", "{3}"]
    minimum_healthy: {{percent: 50%}}
    health_check: {{path: /health, interval: 200ms, timeout: 20s, healthy_threshold: 2, unhealthy_threshold: 2}}
routes:
  - {{name: panic, match: {{path: /panic}}, forward: panic}}
  - {{name: all, forward: main}}
"""
LOCAL, REMOTE, MAIN, SPARE = {0, 1}, {2, 3}, {0, 1, 2, 3}, {4}


def places(healthy):
    """Where requests of `main` may go when the gateway takes these for healthy."""
    here, there = healthy & LOCAL, healthy & MAIN
    if not there:
        return SPARE if healthy & SPARE else MAIN  # the spare group; without that, all of its own
    return here if len(here) == 2 else there  # half of the zone is below 70 %


def places_in_panic(healthy):
    return healthy & MAIN if len(healthy & MAIN) >= 2 else MAIN


class Watched:
    """What the gateway takes for healthy, all the time, as numbers of origins."""

    def __init__(self, gateway, origins):
        self.gateway, self.numbers, self.polls = gateway, {origin.address: i for i, origin in enumerate(origins)}, []

    def look(self):
        before, healthy = time.time(), set()
        for name in ("main", "spare"):
            page = json.loads(self.gateway.admin(f"/api/v1/target_groups/{name}")[1])
            healthy |= {self.numbers[target["target"]] for target in page["targets"] if target["state"] == "healthy"}
        panic = json.loads(self.gateway.admin("/api/v1/target_groups/panic")[1])
        healthy_in_panic = {self.numbers[target["target"]] for target in panic["targets"] if target["state"] == "healthy"}
        self.polls.append((before, time.time(), healthy, healthy_in_panic))
        return healthy, healthy_in_panic


def still(watched, wanted, seconds):
    """The moments between which it was so, None when that changed; some room on both sides for requests under way."""
    began, until = time.time(), time.monotonic() + seconds
    while time.monotonic() < until:
        if watched.look() != wanted:
            return None
    return began + 0.3, time.time() - 0.3


def run_places(rate=1000, seconds=2):
    """One state of health after the other, though every target answers all the while: where requests go."""
    states = [set(range(5)), {0, 2, 3, 4}, {2, 3, 4}, {3, 4}, {4}, set(), {1, 4}, set(range(5))]
    with contextlib.ExitStack() as stack:
        origins = [stack.enter_context(FastOrigin()) for _ in range(5)]
        gateway = stack.enter_context(Weir(PLACES.format(*(origin.address for origin in origins))))
        watched, windows = Watched(gateway, origins), []
        with SteadyLoad(gateway.port("http"), rate, 32) as load, SteadyLoad(gateway.port("http"), rate / 2, 16, target="/panic") as other:
            load.settle()
            reports = []
            for state in states:
                for i, origin in enumerate(origins):
                    origin.say("/fault/none" if i in state else "/fault/health/503")
                wait_for(lambda: watched.look() == (state, state & MAIN), f"{sorted(state)} healthy", 60)
                windows.append(wait_for(lambda: still(watched, (state, state & MAIN), seconds), "a while without a change", 60))
                reports += [load.report(), other.report()]
        gateway.terminate()
        asked = [(stamp(entry["time"]) - entry["duration_ms"] / 1000, watched.numbers[entry["target"]], entry["route"])
                 for entry in gateway.access_log()]
        seen = []
        for state, (begin, end) in zip(states, windows):
            main, panic = ([number for began, number, route in asked if begin < began < end and route == name] for name in ("all", "panic"))
            seen.append({"healthy": sorted(state), "requests": len(main) + len(panic),
                         "misplaced": sum(number not in places(state) for number in main)
                         + sum(number not in places_in_panic(state) for number in panic),
                         "unused": len(places(state) - set(main)) + len(places_in_panic(state) - set(panic)),
                         "here": sum(number in LOCAL for number in main) / max(1, len(main))})
        return {"states": seen, "total": add_up(reports)}


def run_flapping(rate=1000, seconds=20, seed=1):
    """Targets that fail for a while, each in its own time. Every request must be where the health of that moment sends it (400 ms
    either way), and whatever fails must have been at a target that failed then."""
    draw, margin = random.Random(seed), 0.4
    with contextlib.ExitStack() as stack:
        origins = [stack.enter_context(FastOrigin()) for _ in range(5)]
        gateway = stack.enter_context(Weir(PLACES.format(*(origin.address for origin in origins))))
        watched = Watched(gateway, origins)
        bad = [[] for _ in origins]  # [from, to] of each
        with SteadyLoad(gateway.port("http"), rate, 32) as load:
            wait_for(lambda: watched.look()[0] == set(range(5)), "all healthy", 60)
            load.settle()
            end, due = time.monotonic() + seconds, [time.monotonic() + draw.uniform(0, 1.5) for _ in origins]
            while time.monotonic() < end or (sum(map(len, bad)) < 6 and time.monotonic() < end + 60):
                watched.look()
                for i, origin in enumerate(origins):
                    if time.monotonic() < due[i]:
                        continue
                    due[i] = time.monotonic() + draw.uniform(1.0, 2.5)
                    if bad[i] and bad[i][-1][1] is None:
                        origin.say("/fault/none")
                        bad[i][-1][1] = time.time()
                    else:
                        bad[i].append([time.time(), None])
                        origin.say("/fault/status/503/1")
                        origin.say("/fault/health/503")
            total = load.report()
        gateway.terminate()
        log = served_and_ended(gateway)
        begin, end = watched.polls[0][1] + margin, watched.polls[-1][0] - margin
        allowed = {}  # by hundredths of a second

        def allow(since, until, what):
            for at in range(int((since - margin) * 100), int((until + margin) * 100) + 1):
                allowed.setdefault(at, set()).update(what)
        last = watched.polls[0][1]
        for before, after, healthy, _ in watched.polls:
            allow(before, after, places(healthy))
            if after - last > margin / 2:  # nobody looked: who knows what was healthy meanwhile
                allow(last, after, MAIN | SPARE)
            last = after
        judged = [(began, watched.numbers[target], status, reason, ended) for began, target, status, reason, ended in log if begin < began < end]
        failed = [(began, number, reason, ended) for began, number, status, reason, ended in judged if status != 200]

        def is_explained(began, number, reason, ended):
            """Some of it was at a time at which the target failed."""
            return reason == "-" and any(ended >= since - margin and began <= (until or end) + margin for since, until in bad[number])
        return {"total": total, "requests": len(judged), "flips": sum(len(times) * 2 for times in bad), "failed": len(failed),
                "unexplained": [it for it in failed if not is_explained(*it)],
                "misplaced": sum(number not in allowed.get(int(began * 100), {number}) for began, number, _, _, _ in judged),
                "at": [sum(number == i for _, number, _, _, _ in judged) for i in range(5)]}
