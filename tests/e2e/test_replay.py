"""`weir replay`: logged requests decided by a configuration anew."""
import json
import os
import resource
import subprocess
import threading

import pytest

from client import Client, fetch
from command import allowed, log_line, weir
from origin import Origin
from test_routing import CONDITIONS, ROUTED
from weir import BINARY, SANITIZED, Weir, wait_for

CONFIG = """
listeners: {http: {address: "127.0.0.1:8080"}, https: {address: "127.0.0.1:8443", tls: {certificates: site}}}
certificates: {site: {self_signed: [a.example]}}
target_groups:
  users: {targets: ["127.0.0.1:9001"]}
  canary: {targets: ["127.0.0.1:9002"]}
  off: {targets: ["127.0.0.1:9003"]}
routes:
  - {name: secure, match: {listener: https, path: /s}, respond: {status: 200}}
  - {name: users, match: {path: "/users/*"}, forward: [{group: users, weight: 9}, {group: canary, weight: 1}, {group: off, weight: 0}]}
  - {name: move, match: {path: /old}, redirect: {path: /new, status: 301}}
  - {name: site, match: {path: "/site/*"}, files: {root: /nonexistent}}
  - {name: beta, match: {path: /beta, header: {x-beta: "1"}}, respond: {status: 200}}
  - {name: bots, match: {path: /robots, header: {user-agent: "*bot*"}}, respond: {status: 403}}
  - {name: office, match: {path: /office, source_ip: 192.0.2.0/24}, respond: {status: 200}}
"""
AS_LOGGED = [
    log_line(path="/users/1", route="users", target_group="users", target="127.0.0.1:9001"),
    log_line(path="/users/2", route="users", target_group="canary", status=503),
    log_line(path="/users/3", route="users", target_group="users", status=502, reason="CONNECT_FAILED"),
    log_line(path="/users/4", route="users", target_group="users", status=460, reason="CLIENT_CLOSED"),
    log_line(path="/users/5", route="users", status=413, reason="BODY_TOO_LARGE"),
    log_line(path="/users/6", route="users", target_group="users", status=200, reason="OF_ANOTHER_VERSION"),
    log_line(path="/old", query="", route="move", status=301, reason="REDIRECT"),
    log_line(path="/site/x", route="site", status=200, reason="FILE_SERVED"),
    log_line(path="/site/y", route="site", status=404, reason="FILE_NOT_FOUND"),
    log_line(path="/site/d", route="site", status=301, reason="REDIRECT"),
    log_line(path="/site/x", method="POST", route="site", status=405, reason="METHOD_NOT_ALLOWED"),
    log_line(path="/s", listener="https", scheme="https", route="secure", reason="FIXED_RESPONSE"),
    log_line(path="/s", status=404, reason="NO_ROUTE"),
    log_line(path="/s", listener="gone", scheme="https", route="secure", reason="FIXED_RESPONSE"),
    log_line(path="/robots", user_agent="a bot", route="bots", status=403, reason="FIXED_RESPONSE"),
    log_line(path="/robots", user_agent=None, status=404, reason="NO_ROUTE"),
    log_line(path="/office", peer="192.0.2.7", route="office", reason="FIXED_RESPONSE"),
    log_line(path="/office", peer="192.0.2.7", client="203.0.113.1", route="office", reason="FIXED_RESPONSE"),
    log_line(path="/a/../../b", status=400, reason="BAD_PATH"),
    log_line(method="TRACE", path="/", status=405, reason="METHOD_NOT_ALLOWED"),
    log_line(method="OPTIONS", path="*", status=404, reason="NO_ROUTE"),
    log_line(host="", path="/old", protocol="HTTP/1.0", route="move", status=301, reason="REDIRECT"),
]


@pytest.fixture
def replay(tmp_path):
    def run(lines, *arguments, config=CONFIG, **options):
        (tmp_path / "edge.yaml").write_text(config)
        (tmp_path / "access.jsonl").write_text("".join(lines))
        return weir("replay", "access.jsonl", "-c", "edge.yaml", *arguments, cwd=tmp_path, **options)
    return run


def test_what_was_logged_by_the_same_configuration_does_not_differ(replay):
    done = replay(AS_LOGGED, "--json")
    said = json.loads(done.stdout)
    assert said["different"] == 0 and not any(said["differences"].values()), done.stdout
    assert done.returncode == 0 and (said["lines"], said["decided"]) == (22, 22)
    counts = {(row["route"], row["answer"]): row["requests"] for row in said["outcomes"]}
    assert counts == {("users", "forwarded"): 6, ("move", "301 REDIRECT"): 2, ("site", "file"): 4,
                      ("secure", "200 FIXED_RESPONSE"): 2, ("bots", "403 FIXED_RESPONSE"): 1,
                      ("office", "200 FIXED_RESPONSE"): 2, ("-", "404 NO_ROUTE"): 3, ("-", "400 BAD_PATH"): 1,
                      ("-", "405 METHOD_NOT_ALLOWED"): 1}


@pytest.mark.parametrize("aspects, fields", [
    ({"route": ("site", "users")}, dict(path="/users/1", route="site", target_group="users")),
    ({"route": ("-", "users")}, dict(path="/users/1", route=None, target_group="users")),
    ({"route": ("users", "-"), "answer": ("forwarded", "404 NO_ROUTE"), "target_group": ("users", "-")},
     dict(path="/user/1", route="users", target_group="users")),
    ({"answer": ("404 NO_ROUTE", "forwarded"), "route": ("-", "users")}, dict(path="/users/1", status=404, reason="NO_ROUTE")),
    ({"answer": ("302 REDIRECT", "301 REDIRECT")}, dict(path="/old", route="move", status=302, reason="REDIRECT")),
    ({"answer": ("file", "301 REDIRECT")}, dict(path="/old", route="move", status=200, reason="FILE_SERVED")),
    ({"answer": ("200 FIXED_RESPONSE", "file")}, dict(path="/site/x", route="site", status=200, reason="FIXED_RESPONSE")),
    ({"target_group": ("off", "users")}, dict(path="/users/1", route="users", target_group="off")),
    ({"target_group": ("gone", "users")}, dict(path="/users/1", route="users", target_group="gone")),
], ids=str)
def test_differences_are_told_by_aspect(replay, aspects, fields):
    done = replay([log_line(**fields)], "--json")
    said = json.loads(done.stdout)
    found = {aspect: [(row["from"], row["to"], row["requests"]) for row in rows] for aspect, rows in said["differences"].items()}
    if "target_group" in aspects and aspects["target_group"][1] == "users":
        assert found["target_group"][0][1] in ("users", "canary")  # drawn by weight
        found["target_group"] = [(found["target_group"][0][0], "users", 1)]
    assert found == {aspect: [(*aspects[aspect], 1)] if aspect in aspects else [] for aspect in ("route", "answer", "target_group")}
    assert (done.returncode, said["different"]) == (1, 1)


def test_the_report_counts_and_shows_examples(replay):
    lines = AS_LOGGED + [log_line(path=f"/x/{i}", query=f"i={i}", route="users", target_group="users") for i in range(5)]
    done = replay(lines, "--examples", "2")
    text = done.stdout
    assert text.startswith("access.jsonl: 27 requests decided by edge.yaml\n")
    assert "\n5 requests (18.5 %) are decided otherwise than logged:\n" in text
    assert "\n  route: 5 requests\n           5  users -> -\n              line 23: GET http://a.example/x/0?i=0 from 203.0.113.9\n" in text
    assert text.count("line 24:") == 3 and "line 25:" not in text
    assert "\nnote: the log does not hold the headers that these routes of edge.yaml match on: beta\n" in text
    assert done.returncode == 1
    assert "line " not in replay(lines, "--examples", "0").stdout


def test_equal_logs_say_so(replay):
    done = replay(AS_LOGGED[:1])
    assert done.returncode == 0 and "access.jsonl: 1 request decided by" in done.stdout
    assert "nothing differs from what was logged" in done.stdout


def test_bad_lines_are_skipped_and_counted(replay):
    bad = ["nonsense\n", "{\n", log_line(path="/users/1")[:40] + "\n", "[1]\n", '{"a":1}\n', "\x00\x01\n"]
    headless = [log_line(method=None, host=None, path=None, status=400, reason="BAD_REQUEST_LINE"),
                log_line(path="/" + "x" * 8191, route="users")]
    done = replay([bad[0], "\n"] + AS_LOGGED + bad[1:] + headless + [AS_LOGGED[0].rstrip("\n")], "--json")
    said = json.loads(done.stdout)
    assert (said["decided"], said["skipped"]) == (23, {"bad": 6, "no_request": 2})
    assert (said["lines"], done.returncode) == (31, 0)
    text = replay(bad + AS_LOGGED + headless).stdout
    assert "(skipped: 6 that are no access log lines, 2 without a whole request)" in text


def test_a_file_that_is_no_access_log_is_an_error(replay):
    done = replay(["127.0.0.1 - - [x] \"GET / HTTP/1.1\" 200 1\n"] * 3)
    assert done.returncode == 2 and done.stdout == "" and "access.jsonl: no line of it is" in done.stderr


def test_an_empty_log_has_no_differences(replay):
    done = replay([])
    assert done.returncode == 0 and "0 requests decided" in done.stdout


def test_a_log_comes_from_standard_input_too(replay, tmp_path):
    (tmp_path / "other.yaml").write_text(CONFIG)
    done = weir("replay", "-", "-c", "other.yaml", cwd=tmp_path, stdin="".join(AS_LOGGED))
    assert done.returncode == 0 and done.stdout.startswith("-: 22 requests decided by other.yaml\n")


def test_errors_are_told_from_differences(tmp_path):
    good = tmp_path / "good.yaml"
    good.write_text(CONFIG)
    bad = tmp_path / "bad.yaml"
    bad.write_text("nonsense: 1\n")
    log = tmp_path / "log"
    log.write_text(AS_LOGGED[0])
    for arguments, word in [((log, "-c", bad), "bad.yaml:1:1:"), ((tmp_path / "no", "-c", good), "No such file"),
                            ((tmp_path, "-c", good), "Is a directory"), ((log,), "usage:"), (("-c", good), "usage:"),
                            ((log, log, "-c", good), "usage:"), ((log, "-c", good, "--examples", "x"), "usage:"),
                            ((log, "-c", good, "--examples", "101"), "usage:"), ((log, "-c", good, "--nonsense"), "usage:")]:
        done = weir("replay", *arguments)
        assert done.returncode == 2 and word in done.stderr and done.stdout == "", (arguments, done)
    assert weir("replay", "--help").returncode == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_report_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "edge.yaml").write_text(CONFIG)
    (tmp_path / "log").write_text(AS_LOGGED[0])
    with open("/dev/full", "w") as full:
        done = subprocess.run([BINARY, "replay", "log", "-c", "edge.yaml"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2 and b"standard output" in done.stderr


def test_what_a_log_says_cannot_break_the_report(replay):
    evil = 'x"\n\x1b[2J\r\\'
    lines = [log_line(route=evil, target_group=evil, reason="NO_ROUTE", status=404)]
    done = replay(lines, "--json")
    assert json.loads(done.stdout)["differences"]["route"][0]["from"] == evil
    text = replay(lines).stdout
    assert "\x1b" not in text and "\r" not in text and 'x"\\x0a\\x1b[2J\\x0d\\ -> -' in text


# --- with the log of a running gateway ------------------------------------------------------------------------------

LIVE = """
listeners: {http: {address: "127.0.0.1:@http@"}, https: {address: "127.0.0.1:@https@", tls: {certificates: site}}}
access_log: {path: "@log@"}
certificates: {site: {self_signed: [a.example]}}
trusted_proxies: [127.0.0.1]
target_groups:
  users: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
  down: {targets: ["127.0.0.1:9"], health_check: {enabled: false}}
  empty: {targets: []}
routes:
  - {name: secure, match: {listener: https, path: /s}, respond: {status: 200}}
  - {name: users, match: {path: "/users/*"}, rewrite: {path: "^/users/(.*)$", to: "/$1"}, forward: users}
  - {name: down, match: {path: /down}, forward: down}
  - {name: empty, match: {path: /empty}, forward: empty}
  - {name: small, match: {path: /small}, max_body: 4, echo: true}
  - {name: move, match: {path: "/old/*"}, redirect: {path: "/new/#{path}"}}
  - {name: site, match: {path: "/site*"}, files: {root: "@tmp@/www", strip_prefix: /site}}
  - {name: proxied, match: {path: /proxied, source_ip: 127.0.0.0/8, header: {x-forwarded-for: "203.*"}}, respond: {status: 200}}
"""


def test_the_log_of_a_gateway_replays_without_differences(tmp_path):
    log = tmp_path / "access.jsonl"
    sent = 0
    with Origin() as origin, Weir(LIVE, origin=origin.port, log=log, files={"www/index.html": "x", "www/d/a": "x"}) as gateway:
        http, https = gateway.port("http"), gateway.port("https")
        for target in ["/users/1", "/users/%7ea?b=%20c", "/down", "/empty", "/old/x?y=z", "/site/", "/site/none", "/site/d",
                       "/nothing", "/a/../../b", "//x", "/proxied", "/s", "/?"]:
            for port, tls in ((http, None), (https, True)):
                for headers in ((), [("X-Forwarded-For", "203.0.113.9, 198.51.100.1"), ("User-Agent", 'x"\\y')]):
                    with Client(port, tls="a.example" if tls else None) as client:
                        client.request("GET", target, headers=headers)
                        client.response()
                    sent += 1
        for method, target, body in [("POST", "/small", b"12345"), ("POST", "/small", b"1"), ("TRACE", "/", None),
                                     ("POST", "/site/", b""), ("HEAD", "/users/1", None), ("OPTIONS", "*", None)]:
            with Client(http) as client:
                client.request(method, target, body=body)
                client.response(method)
            sent += 1
        with Client(http) as client:  # no request to ask again
            client.send(b"nonsense\r\n\r\n")
            client.response()
        wait_for(lambda: log.read_bytes().count(b"\n") == sent + 1, "the whole log")
        done = weir("replay", log, "-c", gateway.config_path, "--json")
        said = json.loads(done.stdout)
        assert (said["decided"], said["skipped"]) == (sent, {"bad": 0, "no_request": 1})
        assert said["different"] == 0 and done.returncode == 0, json.dumps(said["differences"], indent=1)


def test_every_routed_request_without_unlogged_headers_replays(tmp_path):
    log = tmp_path / "access.jsonl"
    with Weir(CONDITIONS + 'access_log: {path: "@log@"}\n', log=log) as gateway:
        routed = [(route, dict(request)) for route, request in ROUTED if not request.get("headers")]
        for _, request in routed:
            fetch(gateway.port(request.pop("listener", "http")), **request)
        wait_for(lambda: log.read_bytes().count(b"\n") == len(routed), "the whole log")
        done = weir("replay", log, "-c", gateway.config_path, "--json")
    said = json.loads(done.stdout)
    assert said["different"] == 0 and said["decided"] == len(routed) > 60, done.stdout


# --- size -----------------------------------------------------------------------------------------------------------

def measure(arguments, feed):
    """(seconds of CPU, highest resident bytes) of a command that reads what feed writes."""
    process = subprocess.Popen([BINARY, *arguments], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    thread = threading.Thread(target=lambda: (feed(process.stdin), process.stdin.close()))
    thread.start()
    _, status, usage = os.wait4(process.pid, 0)
    thread.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


@pytest.mark.xdist_group("load")
@pytest.mark.timeout(120)
def test_a_hundred_thousand_lines_take_seconds_and_memory_stays(tmp_path):
    config = tmp_path / "edge.yaml"
    config.write_text(CONFIG)
    block = "".join(log_line(path=f"/users/{i}", query=f"q={i}" * 8, route="users", target_group="users",
                             user_agent="Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36") if i % 10 else
                    log_line(path=f"/nothing/{i}", route=f"gone{i}", target_group="users") for i in range(1000)).encode()
    rounds = 10 if SANITIZED else 100

    def feed(times):
        return lambda pipe: [pipe.write(block) for _ in range(times)]

    _, _, small = measure(["replay", "-", "-c", config], feed(1))
    status, seconds, large = measure(["replay", "-", "-c", config], feed(rounds))
    assert status == 1
    assert seconds < allowed(30 if SANITIZED else 3)
    if not SANITIZED:
        assert large < small + (8 << 20), f"{small} bytes for 1,000 lines, {large} for {rounds},000"
