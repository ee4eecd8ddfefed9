"""weir explain tells what the data plane does, because it runs the same functions. Its word is compared with live
answers, request by request."""
import json

import pytest

from client import fetch
from test_routing import CONDITIONS, ROUTED
from weir import CONFIG, Weir

MIXED = """
listeners:
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: [first, second]}}
certificates:
  first: {self_signed: [first.example]}
  second: {self_signed: [second.example, "*.wild.example"]}
trusted_proxies: [10.0.0.0/8]
target_groups:
  users: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
  empty: {targets: []}
routes:
  - {name: special, match: {host: second.example, path: "/special/*", method: POST, header: {x-kind: "a*"}}, respond: {status: 202}}
  - {name: move, match: {path: "/old/*"}, redirect: {path: "/new/#{path}", status: 301}}
  - {name: rewritten, match: {path: "/users/*"}, rewrite: {path: "^/users/(.*)$", to: "/v2/$1"}, forward: users}
  - {name: office, match: {path: /office, source_ip: 192.0.2.0/24}, respond: {status: 200}}
  - {name: nobody, match: {path: /nobody}, forward: empty}
"""


@pytest.fixture(scope="module")
def conditions():
    with Weir(CONDITIONS) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def mixed():
    with Weir(MIXED, origin=9) as gateway:
        yield gateway


def explain(gateway, url, *args):
    done = gateway.run("explain", url, "-c", CONFIG, "--json", *args)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def as_arguments(gateway, listener="http", target="/", method="GET", headers=(), host="example.com", source="127.0.0.1", body=None):
    port = gateway.port(listener)
    arguments = [f"http://127.0.0.1:{port}{target}", "-X", method, "--ip", source, "-H", f"Host: {host}"]
    for name, value in headers:
        arguments += ["-H", f"{name}: {value}"]
    return arguments


@pytest.mark.parametrize("route, request_", ROUTED, ids=[f"{i}-{route}" for i, (route, _) in enumerate(ROUTED)])
def test_explain_agrees_with_the_data_plane(conditions, route, request_):
    options = dict(request_)
    live = fetch(conditions.port(options.pop("listener", "http")), **options)
    said = explain(conditions, *as_arguments(conditions, **request_))
    assert said["status"] == live.status
    assert said.get("route") == route
    assert said["reason"] == ("FIXED_RESPONSE" if route else "NO_ROUTE")


def test_explain_names_every_step(mixed):
    said = mixed.run("explain", f"https://second.example:{mixed.port('https')}/users/7?a=b", "-c", CONFIG)
    assert said.returncode == 0, said.stderr
    for word in ("https", "second", "127.0.0.1", "/users/7", "special", "rewritten", "users", "127.0.0.1:9", "/v2/7"):
        assert word in said.stdout, f"{word} is missing in:\n{said.stdout}"
    assert "weir.yaml:" in said.stdout, "steps say which setting decided"


def test_explain_says_why_routes_lost(mixed):
    said = mixed.run("explain", f"https://second.example:{mixed.port('https')}/special/x", "-c", CONFIG).stdout
    lines = [line for line in said.splitlines() if "special" in line]
    assert any("method" in line for line in lines), said


def test_explain_shows_the_certificate_by_name(mixed):
    for name, certificate in [("first.example", "first"), ("second.example", "second"), ("a.wild.example", "second"),
                              ("a.b.wild.example", "first"), ("other.example", "first")]:
        said = explain(mixed, f"https://{name}:{mixed.port('https')}/nothing")
        assert said["certificate"] == certificate, said


def test_explain_takes_method_headers_and_address(mixed):
    port = mixed.port("http")
    assert explain(mixed, f"http://second.example:{port}/special/x", "-X", "POST", "-H", "X-Kind: abc")["route"] == "special"
    assert explain(mixed, f"http://second.example:{port}/special/x", "-H", "X-Kind: abc")["status"] == 404
    assert explain(mixed, f"http://a.example:{port}/office", "--ip", "192.0.2.7")["route"] == "office"
    assert explain(mixed, f"http://a.example:{port}/office", "--ip", "198.51.100.7")["status"] == 404
    said = explain(mixed, f"http://a.example:{port}/", "--ip", "10.0.0.1", "-H", "X-Forwarded-For: 203.0.113.9")
    assert said["client_ip"] == "203.0.113.9"


def test_explain_shows_redirects_and_refusals(mixed):
    port = mixed.port("http")
    said = explain(mixed, f"http://a.example:{port}/old/x?y")
    assert (said["status"], said["reason"]) == (301, "REDIRECT")
    assert f"/new/old/x?y" in json.dumps(said)
    assert explain(mixed, f"http://a.example:{port}/nobody")["reason"] == "NO_TARGETS"
    assert explain(mixed, f"http://a.example:{port}/a/../../b")["reason"] == "BAD_PATH"


def test_explain_of_a_broken_configuration_shows_its_mistakes(mixed):
    path = mixed.write("broken.yaml", "routes: [{nonsense: 1}]\n")
    done = mixed.run("explain", "http://a.example/", "-c", path)
    assert done.returncode == 1
    assert "broken.yaml:1:" in done.stderr + done.stdout


@pytest.mark.parametrize("url", ["", "a.example", "ftp://a.example/", "http://", "http://a b/", "http://a.example:99999/"])
def test_explain_of_something_that_is_no_url(mixed, url):
    done = mixed.run("explain", url, "-c", CONFIG)
    assert done.returncode not in (0, None) and done.returncode > 0
    assert done.stderr


SPOKEN = """
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  plain: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
  https: {protocol: https, targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}, tls: {server_name: api.internal, min_version: "1.3"}}
  h2: {protocol: h2, targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}, tls: {insecure: true}}
  h2c: {protocol: h2c, targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
  grpc: {protocol: grpc, targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
routes:
  - {name: plain, match: {path: /plain}, retry: {attempts: 3, budget: 10%}, hedge: 200ms, forward: plain}
  - {name: https, match: {path: /https}, forward: https}
  - {name: h2, match: {path: /h2}, forward: h2}
  - {name: h2c, match: {path: /h2c}, forward: h2c}
  - {name: grpc, match: {path: /grpc}, forward: grpc}
"""


@pytest.fixture(scope="module")
def spoken():
    with Weir(SPOKEN, origin=9) as gateway:
        yield gateway


@pytest.mark.parametrize("name, expected", [
    ("plain", ['"plain" is spoken to in HTTP/1.1, plain', "up to 3 further tries on connect_failure, reset; budget 10%",
               "another target is asked after 200ms of silence"]),
    ("https", ['"https" is spoken to in HTTP/1.1 over TLS',
               'the certificate must be for "api.internal" and trusted by the system\'s store; TLS 1.3 or later']),
    ("h2", ['"h2" is spoken to in HTTP/2 over TLS', "the target is NOT verified (insecure); TLS 1.2 or later"]),
    ("h2c", ['"h2c" is spoken to in HTTP/2, plain (h2c)']),
    ("grpc", ['"grpc" is spoken to in gRPC: HTTP/2, plain']),
])
def test_explain_says_how_the_target_is_spoken_to(spoken, name, expected):
    from test_balancing import explained
    said = [step["text"] for step in explain(spoken, f"http://127.0.0.1:{spoken.port('http')}/{name}", "-X", "POST")["steps"]]
    assert [text for text in expected if text not in said] == [], said
    live = [step["text"] for step in json.loads(explained(spoken, f"/{name}"))["steps"]]
    assert expected[0] in live, live
