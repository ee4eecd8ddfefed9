"""`weir test`: the tests that a configuration holds, on the decision path of live traffic."""
import json

import pytest

from client import fetch
from command import weir
from test_routing import CONDITIONS, ROUTED
from weir import SANITIZED, Weir

CONFIG = """
listeners:
  http: {address: "127.0.0.1:8080"}
  https: {address: "127.0.0.1:8443", tls: {certificates: [first, second]}}
certificates:
  first: {self_signed: [first.example]}
  second: {self_signed: [second.example]}
trusted_proxies: [10.0.0.0/8]
target_groups:
  users: {targets: ["127.0.0.1:9001"]}
  canary: {targets: ["127.0.0.1:9002"]}
  unused: {targets: ["127.0.0.1:9003"]}
  empty: {targets: []}
routes:
  - {name: users, match: {path: "/users/*"}, rewrite: {path: "^/users/(.*)$", to: "/v2/$1"}, request_headers: {set: {x-team: users}, remove: [x-debug]}, response_headers: {set: {x-from: weir}}, forward: [{group: users, weight: 9}, {group: canary, weight: 1}]}
  - {name: move, match: {path: "/old/*"}, redirect: {path: "/new/#{path}", status: 308}}
  - {name: office, match: {path: /office, source_ip: 192.0.2.0/24}, respond: {status: 204}}
  - {name: site, match: {path: "/site/*"}, files: {root: www, strip_prefix: /site}}
  - {name: nobody, match: {path: /nobody}, forward: empty}
  - {name: secret, match: {path: /secret, header: {x-key: open}, method: POST}, respond: {status: 202, body: hi, content_type: text/x}, response_headers: {add: {set-cookie: "a=1"}}}
"""

GOOD = """
tests:
  - name: users are rewritten, by whichever group
    request: {url: "http://a.example:8080/users/7?x=%20y", headers: {X-Debug: "1", X-Keep: "2"}}
    expect: {listener: http, route: users, target_group: canary, target_url: "/v2/7?x=%20y", reason: "-", headers: {X-From: weir}, target_headers: {x-team: users, x-keep: "2"}}
  - name: the first group will do as well
    request: http://a.example:8080/users/7
    expect: {target_group: users}
  - name: moved for good
    request: http://a.example/old/x?y
    expect: {route: move, status: 308, reason: REDIRECT, location: "http://a.example:8080/new/old/x?y", headers: {location: "http://a.example:8080/new/old/x?y", server: weir}}
  - request: {url: http://a.example/office, ip: 192.0.2.7}
    expect: {route: office, status: 204}
  - request: {url: http://a.example/office, ip: 198.51.100.7}
    expect: {route: "-", status: 404, reason: no_route, target_group: "-"}
  - name: a file that is there
    request: http://a.example/site/x.html
    expect: {route: site, reason: FILE_SERVED, status: 200}
  - name: one that is not
    request: http://a.example/site/y.html
    expect: {route: site, reason: FILE_NOT_FOUND, status: 404}
  - name: a folder
    request: http://a.example/site/d
    expect: {status: 301, location: "/site/d/"}
  - request: {url: http://a.example/nobody}
    expect: {reason: NO_TARGETS, status: 503, target_group: empty}
  - request: {url: http://a.example/secret, method: POST, headers: {X-Key: open}}
    expect: {route: secret, status: 202, headers: {content-type: text/x, set-cookie: a=1}}
  - name: SNI chooses, and port and scheme choose the listener
    request: https://SECOND.example:8443/
    expect: {listener: https, certificate: second}
  - request: {url: "https://other.example/", listener: https}
    expect: {certificate: first}
  - request: {url: http://a.example/, ip: 10.0.0.1, headers: {X-Forwarded-For: 203.0.113.9}}
    expect: {client_ip: 203.0.113.9, certificate: "-"}
  - request: http://a.example/%61/./b/../c
    expect: {path: /a/c}
  - request: http://a.example/a/../../b
    expect: {reason: BAD_PATH, status: 400}
  - request: {url: http://a.example/, headers: {Content-Length: x}}
    expect: {status: 400, route: "-"}
  - request: {url: http://a.example/, headers: {Host: "a b"}}
    expect: {status: 400}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "www" / "d").mkdir(parents=True)
    (tmp_path / "www" / "x.html").write_text("x")
    return tmp_path


def run(folder, tests, *arguments, config=CONFIG):
    (folder / "edge.yaml").write_text(config + tests)
    return weir("test", "edge.yaml", *arguments, cwd=folder)


def one(folder, request, expect, *arguments):
    """The only failure's message behind its position."""
    done = run(folder, f"tests:\n  - {{name: n, request: {request}, expect: {expect}}}\n", *arguments)
    line, *rest = done.stdout.splitlines()
    assert done.returncode == 1 and line.startswith("edge.yaml:"), done.stdout + done.stderr
    return line.split(": n: ", 1)[1]


def test_tests_that_hold_pass(folder):
    done = run(folder, GOOD)
    assert done.stdout == "edge.yaml: 17 tests, 17 passed, 0 failed; 6 of 6 routes reached (100 %)\n"
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("request_, expect, message", [
    ("http://a/users/1", "{route: usrs}", 'route is "users" (expected "usrs", which there is not; did you mean "users"?)'),
    ("http://a/users/1", "{route: zzzzzzzzzz}", 'route is "users" (expected "zzzzzzzzzz", which there is not)'),
    ("http://a/users/1", "{route: move}", 'route is "users" (expected "move")'),
    ("http://a/nothing", "{route: move}", 'route is "-" (expected "move")'),
    ("http://a/users/1", '{route: "-"}', 'route is "users" (expected "-")'),
    ("http://a/users/1", "{status: 200}", 'status is "up to the target" (expected "200")'),
    ("http://a/old/x", "{status: 301}", 'status is "308" (expected "301")'),
    ("http://a/old/x", "{reason: NO_ROUTE}", 'reason is "REDIRECT" (expected "NO_ROUTE")'),
    ("http://a/users/1", "{target_group: unused}", 'target_group is "users" (expected "unused")'),
    ("http://a/users/1", "{target_group: canari}",
     'target_group is "users" (expected "canari", which there is not; did you mean "canary"?)'),
    ("http://a/old/x", "{target_group: users}", 'target_group is "-" (expected "users")'),
    ("http://a/users/1", "{target_url: /users/1}", 'target_url is "/v2/1" (expected "/users/1")'),
    ("http://a/old/x", "{target_url: /old/x}", 'target_url is "-" (expected "/old/x")'),
    ("http://a/old/x", "{location: /x}", 'location is "http://a:8080/new/old/x" (expected "/x")'),
    ("http://a/users/1", "{location: /x}", 'location is "-" (expected "/x")'),
    ("http://a/users/1", "{headers: {X-From: other}}", 'headers.X-From is "weir" (expected "other")'),
    ("http://a/users/1", "{headers: {x-none: a}}", 'headers.x-none is "-" (expected "a")'),
    ("{url: 'http://a/users/1', headers: {x-debug: 1}}", "{target_headers: {x-debug: 1}}",
     'target_headers.x-debug is "-" (expected "1")'),
    ("http://a/users/1", "{listener: https}", 'listener is "http" (expected "https")'),
    ("http://a/users/1", "{listener: htp}", 'listener is "http" (expected "htp", which there is not; did you mean "http"?)'),
    ("https://first.example/", "{certificate: second}", 'certificate is "first" (expected "second")'),
    ("http://a/", "{client_ip: 10.0.0.1}", 'client_ip is "127.0.0.1" (expected "10.0.0.1")'),
    ("http://a/x/../y", "{path: /x}", 'path is "/y" (expected "/x")'),
    ("{url: 'http://a/', listener: htps}", "{route: '-'}",
     'listener is "-" (expected "htps", which there is not; did you mean "https"?)'),
], ids=lambda value: value if value.startswith("{") else "")
def test_a_failure_says_what_was_expected_and_what_came(folder, request_, expect, message):
    assert one(folder, request_, expect) == message


def test_a_failure_points_at_its_expectation(folder):
    done = run(folder, """tests:
  - name: several
    request: http://a/old/x
    expect:
      route: users
      status: 308
      headers:
        x-a: b
  - request: http://a/nothing
    expect: {route: "-", reason: REDIRECT}
""")
    start = CONFIG.count("\n")
    assert done.stdout.splitlines() == [
        f'edge.yaml:{start + 5}:14: several: route is "move" (expected "users")',
        f'edge.yaml:{start + 8}:14: several: headers.x-a is "-" (expected "b")',
        f'edge.yaml:{start + 10}:34: GET http://a/nothing: reason is "NO_ROUTE" (expected "REDIRECT")',
        "edge.yaml: 2 tests, 0 passed, 2 failed; 1 of 6 routes reached (16.7 %)",
        f"  no test reaches users [edge.yaml:{start - 5}]", f"  no test reaches office [edge.yaml:{start - 3}]",
        f"  no test reaches site [edge.yaml:{start - 2}]", f"  no test reaches nobody [edge.yaml:{start - 1}]",
        f"  no test reaches secret [edge.yaml:{start}]"]
    assert done.returncode == 1


def test_tests_of_included_files_point_there(folder):
    (folder / "more.yaml").write_text("tests: [{name: n, request: http://a/old/x, expect: {route: users}}]\n")
    done = run(folder, GOOD + "include: more.yaml\n")
    assert done.stdout.startswith('more.yaml:1:60: n: route is "move" (expected "users")\nedge.yaml: 18 tests, 17 passed,')


def test_verbose_shows_the_steps_of_failed_tests_only(folder):
    tests = "tests: [{request: http://a/old/x, expect: {route: users}}, {request: http://a/office, expect: {route: '-'}}]\n"
    plain, verbose = run(folder, tests).stdout, run(folder, tests, "--verbose").stdout
    assert "redirect 308" in verbose and "redirect 308" not in plain
    assert "/office" not in verbose.replace("http://a/office", "")
    assert [line for line in verbose.splitlines() if not line.startswith("    ")] == plain.splitlines()


def test_a_missing_listener_is_a_failure(folder):
    done = run(folder, "tests: [{request: https://a/, expect: {route: x}}]\n",
               config='listeners: {http: {address: "127.0.0.1:8080"}}\nroutes: [{name: x, echo: true}]\n')
    assert done.stdout.splitlines()[0] == (
        'edge.yaml:3:19: GET https://a/: listener is "-" (expected "one with tls")')
    assert done.returncode == 1


@pytest.mark.parametrize("wanted, status", [("100%", 1), ("50.1", 1), ("50%", 0), ("50", 0), ("0%", 0)])
def test_coverage_of_routes_can_be_demanded(folder, wanted, status):
    tests = "".join(f"  - {{request: 'http://a{path}', expect: {{route: {route}}}}}\n"
                    for path, route in [("/old/x", "move"), ("/users/1", "users"), ("/users/2", "users"), ("/site/x", "site")])
    done = run(folder, "tests:\n" + tests, "--min-coverage", wanted)
    assert done.returncode == status, done.stdout
    assert "3 of 6 routes reached (50 %)" in done.stdout
    assert ("fewer than" in done.stdout) == (status == 1)


def test_json_says_the_same(folder):
    good = json.loads(run(folder, GOOD, "--json").stdout)
    assert (good["tests"], good["failed"]) == (17, 0) and all(result["passed"] for result in good["results"])
    assert good["coverage"] == {"routes": 6, "reached": 6, "percent": 100.0, "enough": True, "missed": []}
    assert good["results"][0]["decision"] == {"listener": "http", "route": "users", "status": None, "reason": "-",
                                              "target_group": "users", "target_url": "/v2/7?x=%20y"}
    done = run(folder, "tests: [{name: n, request: http://a/old/x, expect: {route: users}}]\n", "--json", "--min-coverage", "90%")
    bad = json.loads(done.stdout)
    line = CONFIG.count("\n") + 1
    assert done.returncode == 1 and bad["failed"] == 1 and bad["coverage"]["enough"] is False
    assert bad["results"][0]["failures"] == [{"file": "edge.yaml", "line": line, "column": 60, "setting": "route",
                                              "expected": "users", "got": "move", "did_you_mean": None}]
    assert [missed["route"] for missed in bad["coverage"]["missed"]] == ["users", "office", "site", "nobody", "secret"]


def test_no_tests_are_no_success(folder):
    done = run(folder, "")
    assert (done.returncode, done.stdout) == (1, "") and "edge.yaml has no tests" in done.stderr


def test_mistakes_of_the_configuration_come_first(folder):
    done = run(folder, "tests: [{request: nonsense, expect: {route: x}}]\nlimit: {}\n")
    start = CONFIG.count("\n")
    assert done.returncode == 1 and done.stdout == ""
    assert f"edge.yaml:{start + 1}:19: " in done.stderr and f'edge.yaml:{start + 2}:1: unknown key "limit"' in done.stderr


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--min-coverage", "x", "a"], ["--min-coverage", "101%", "a"], ["--nonsense", "a"]])
def test_a_command_line_that_makes_no_sense_is_explained(arguments):
    done = weir("test", *arguments)
    assert done.returncode == 2 and "usage: weir test" in done.stderr


def test_help_tells_the_options():
    done = weir("test", "--help")
    assert done.returncode == 0 and "--min-coverage" in done.stdout


def test_a_test_and_live_traffic_agree(tmp_path):
    """Every request of the routing tests as a test of the configuration: what it expects is what live traffic got."""
    tests = []
    with Weir(CONDITIONS) as gateway:
        for route, request in ROUTED:
            options = dict(request)
            listener, source = options.pop("listener", "http"), options.pop("source", None)
            live = fetch(gateway.port(listener), source=source, **options)
            headers = {"Host": options.get("host", "example.com")}
            for name, value in options.get("headers", ()):
                headers[name] = value
            if len(headers) != len(options.get("headers", ())) + 1:
                continue  # a field that comes twice cannot be written in a test
            tests.append({"request": {"url": f"http://x:{gateway.port(listener)}{options.get('target', '/')}",
                                      "method": options.get("method", "GET"), "headers": headers,
                                      "ip": source or "127.0.0.1"},
                          "expect": {"status": live.status, "route": route or "-", "listener": listener}})
        path = tmp_path / "tests.yaml"
        path.write_text(gateway.config_path.read_text() + "\ntests: " + json.dumps(tests) + "\n")
    assert len(tests) > 70
    done = weir("test", path)
    assert done.returncode == 0 and f"{len(tests)} passed, 0 failed" in done.stdout, done.stdout + done.stderr


def test_serving_takes_no_notice_of_tests():
    with Weir('listeners: {http: {address: "127.0.0.1:@http@"}}\nroutes: [{name: all, respond: {status: 200, body: ok}}]\n'
              'tests: [{request: "http://a/", expect: {route: gone}}]\n') as gateway:
        assert fetch(gateway.port("http")).status == 200


def test_a_thousand_tests_of_a_thousand_routes_take_no_time(folder):
    count = 200 if SANITIZED else 1000
    routes = "".join(f"  - {{name: r{i}, match: {{path: /{i}/*}}, respond: {{status: 200}}}}\n" for i in range(count))
    tests = "".join(f"  - {{request: 'http://a/{i}/x', expect: {{route: r{i}}}}}\n" for i in range(count))
    done = run(folder, "tests:\n" + tests, config='listeners: {http: {address: "127.0.0.1:8080"}}\nroutes:\n' + routes)
    assert done.stdout == f"edge.yaml: {count} tests, {count} passed, 0 failed; {count} of {count} routes reached (100 %)\n"
