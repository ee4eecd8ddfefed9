"""Which route takes a request, what each action answers, and which headers reach the target."""
import email.utils
import hashlib
import json
import os
import re
import socket

import pytest

from client import Client, fetch
from origin import Origin, reply
from weir import Weir, needs_ipv6

# --- conditions -----------------------------------------------------------------------------------------------------
CONDITIONS = """
worker_threads: 1
listeners:
  http: {address: "127.0.0.1:@http@"}
  other: {address: "127.0.0.1:@other@"}
trusted_proxies: [127.0.0.9]
routes:
  - {name: by-listener, match: {listener: other}, respond: {status: 200, body: by-listener}}
  - {name: host-exact, match: {host: exact.example}, respond: {status: 200, body: host-exact}}
  - {name: host-wild, match: {host: "*.wild.example"}, respond: {status: 200, body: host-wild}}
  - {name: host-one, match: {host: "?.one.example"}, respond: {status: 200, body: host-one}}
  - {name: host-list, match: {host: [a.list.example, b.list.example]}, respond: {status: 200, body: host-list}}
  - {name: path-glob, match: {host: p.example, path: "/img/*/pics"}, respond: {status: 200, body: path-glob}}
  - {name: path-one, match: {host: p.example, path: "/?"}, respond: {status: 200, body: path-one}}
  - {name: path-star, match: {host: p.example, path: '/lit\\*'}, respond: {status: 200, body: path-star}}
  - {name: path-prefix, match: {host: p.example, path_prefix: /pre}, respond: {status: 200, body: path-prefix}}
  - {name: path-exact, match: {host: p.example, path_exact: /exact}, respond: {status: 200, body: path-exact}}
  - {name: path-regex, match: {host: p.example, path_regex: "^/v[0-9]+/[a-z]+$"}, respond: {status: 200, body: path-regex}}
  - {name: path-list, match: {host: p.example, path: ["/l1", "/l2/*"]}, respond: {status: 200, body: path-list}}
  - {name: method, match: {host: m.example, method: [PUT, PURGE]}, respond: {status: 200, body: method}}
  - {name: header, match: {host: h.example, header: {x-version: "2*"}}, respond: {status: 200, body: header}}
  - {name: header-list, match: {host: h.example, header: {x-color: [red, blue]}}, respond: {status: 200, body: header-list}}
  - {name: header-two, match: {host: h.example, header: {x-a: "1", x-b: "2"}}, respond: {status: 200, body: header-two}}
  - {name: query, match: {host: q.example, query: {debug: "*"}}, respond: {status: 200, body: query}}
  - {name: query-value, match: {host: q.example, query: {version: ["v1", "v2"]}}, respond: {status: 200, body: query-value}}
  - {name: query-any, match: {host: q.example, query: {"*": "needle*"}}, respond: {status: 200, body: query-any}}
  - {name: source, match: {host: s.example, source_ip: 127.0.0.8/29}, respond: {status: 200, body: source}}
  - {name: both, match: {host: both.example, path: "/x*", method: POST, header: {x-k: v}}, respond: {status: 200, body: both}}
  - {name: last, priority: 20, match: {host: prio.example}, respond: {status: 200, body: last}}
  - {name: first, priority: 10, match: {host: prio.example, path: "/p*"}, respond: {status: 200, body: first}}
  - {name: file-order-1, match: {host: order.example, path: "/a*"}, respond: {status: 200, body: file-order-1}}
  - {name: file-order-2, match: {host: order.example, path: "/ab*"}, respond: {status: 200, body: file-order-2}}
  - {name: catch, match: {path: "/catch/*"}, respond: {status: 200, body: catch}}
"""

ROUTED = [  # name of the route (None: 404), then the request
    ("by-listener", dict(listener="other")),
    ("by-listener", dict(listener="other", host="exact.example")),
    ("host-exact", dict(host="exact.example")),
    ("host-exact", dict(host="EXACT.Example")),
    ("host-exact", dict(host="exact.example:8080")),
    ("host-exact", dict(host="exact.example.")),
    (None, dict(host="xexact.example")),
    (None, dict(host="exact.example.org")),
    ("host-wild", dict(host="a.wild.example")),
    ("host-wild", dict(host="a.b.wild.example")),
    ("host-wild", dict(host="A.WILD.example")),
    (None, dict(host="wild.example")),
    (None, dict(host="wild.example.org")),
    ("host-one", dict(host="a.one.example")),
    (None, dict(host="ab.one.example")),
    ("host-list", dict(host="a.list.example")),
    ("host-list", dict(host="b.list.example")),
    (None, dict(host="c.list.example")),
    ("path-glob", dict(host="p.example", target="/img/a/pics")),
    ("path-glob", dict(host="p.example", target="/img/a/b/pics")),
    ("path-glob", dict(host="p.example", target="/img//pics")),
    (None, dict(host="p.example", target="/img/pics")),
    (None, dict(host="p.example", target="/IMG/a/pics")),
    (None, dict(host="p.example", target="/img/a/pics/")),
    ("path-glob", dict(host="p.example", target="/img/a/pics?x=/y")),
    ("path-glob", dict(host="p.example", target="/x/../img/./a/pics")),
    ("path-glob", dict(host="p.example", target="/%69mg/a/pics")),
    ("path-one", dict(host="p.example", target="/z")),
    (None, dict(host="p.example", target="/")),
    ("path-star", dict(host="p.example", target="/lit*")),
    (None, dict(host="p.example", target="/literal")),
    ("path-prefix", dict(host="p.example", target="/pre")),
    ("path-prefix", dict(host="p.example", target="/pre/x")),
    (None, dict(host="p.example", target="/prefix")),
    ("path-exact", dict(host="p.example", target="/exact")),
    ("path-exact", dict(host="p.example", target="/exact?q")),
    (None, dict(host="p.example", target="/exact/")),
    ("path-exact", dict(host="p.example", target="/a/../exact")),
    (None, dict(host="p.example", target="/a%2F..%2Fexact")),
    ("path-regex", dict(host="p.example", target="/v12/abc")),
    (None, dict(host="p.example", target="/v12/abc1")),
    (None, dict(host="p.example", target="/v/abc")),
    ("path-list", dict(host="p.example", target="/l1")),
    ("path-list", dict(host="p.example", target="/l2/x")),
    ("method", dict(host="m.example", method="PUT")),
    ("method", dict(host="m.example", method="PURGE")),
    (None, dict(host="m.example", method="put")),
    (None, dict(host="m.example", method="GET")),
    ("header", dict(host="h.example", headers=[("X-Version", "2.1")])),
    ("header", dict(host="h.example", headers=[("X-Version", "1"), ("X-Version", "2")])),
    (None, dict(host="h.example", headers=[("X-Version", "12")])),
    (None, dict(host="h.example")),
    ("header-list", dict(host="h.example", headers=[("x-color", "BLUE")])),
    (None, dict(host="h.example", headers=[("x-color", "green")])),
    ("header-two", dict(host="h.example", headers=[("x-a", "1"), ("x-b", "2")])),
    (None, dict(host="h.example", headers=[("x-a", "1")])),
    ("query", dict(host="q.example", target="/?debug=1")),
    ("query", dict(host="q.example", target="/?x=1&debug=")),
    (None, dict(host="q.example", target="/?debugger=1")),
    (None, dict(host="q.example", target="/debug=1")),
    ("query-value", dict(host="q.example", target="/?version=v1")),
    ("query-value", dict(host="q.example", target="/?a=b&VERSION=V2&c")),
    (None, dict(host="q.example", target="/?version=v3")),
    ("query-any", dict(host="q.example", target="/?a=b&c=needle7")),
    (None, dict(host="q.example", target="/?needle=a")),
    ("source", dict(host="s.example", source="127.0.0.10")),
    (None, dict(host="s.example", source="127.0.0.16")),
    (None, dict(host="s.example", headers=[("X-Forwarded-For", "127.0.0.10")])),
    ("both", dict(host="both.example", target="/xy", method="POST", headers=[("x-k", "v")], body=b"")),
    (None, dict(host="both.example", target="/y", method="POST", headers=[("x-k", "v")], body=b"")),
    (None, dict(host="both.example", target="/xy", headers=[("x-k", "v")])),
    (None, dict(host="both.example", target="/xy", method="POST", headers=[("x-k", "w")], body=b"")),
    ("first", dict(host="prio.example", target="/p")),
    ("last", dict(host="prio.example", target="/q")),
    ("file-order-1", dict(host="order.example", target="/ab")),
    ("catch", dict(host="whatever.example", target="/catch/x")),
    ("catch", dict(host="exact.example.org", target="/catch/")),
    (None, dict(host="whatever.example")),
]


@pytest.fixture(scope="module")
def conditions():
    with Weir(CONDITIONS) as gateway:
        yield gateway


@pytest.mark.parametrize("route, request_", ROUTED, ids=[f"{i}-{route}" for i, (route, _) in enumerate(ROUTED)])
def test_the_first_route_whose_conditions_all_hold_wins(conditions, route, request_):
    options = dict(request_)
    port = conditions.port(options.pop("listener", "http"))
    response = fetch(port, **options)
    if route is None:
        assert response.status == 404, response
    else:
        assert (response.status, response.text) == (200, route)


def test_the_log_names_the_route_that_won(conditions):
    fetch(conditions.port("http"), "/log-route", host="exact.example")
    entry = conditions.wait_log(lambda entry: entry["path"] == "/log-route")[0]
    assert (entry["route"], entry["reason"], entry["status"]) == ("host-exact", "FIXED_RESPONSE", 200)
    fetch(conditions.port("http"), "/log-none", host="nobody.example")
    assert conditions.wait_log(lambda entry: entry["path"] == "/log-none")[0]["reason"] == "NO_ROUTE"


BAD_PATHS = ["/%", "/%4", "/%zz", "/a%00b", "/..", "/../etc/passwd", "/a/../../b", "/%2e%2e/x", "/a/%2E%2e/%2e./b"]


@pytest.mark.parametrize("target", BAD_PATHS)
def test_a_path_without_a_canonical_form_is_refused(conditions, target):
    assert fetch(conditions.port("http"), target, host="exact.example").status == 400


def test_10_000_routes_all_work(weir):
    routes = "".join(f'  - {{match: {{host: "h{i % 100}.example", path: "/p{i}/*"}}, respond: {{status: 200, body: "{i}"}}}}\n'
                     for i in range(10000))
    gateway = weir(f'listeners: {{http: {{address: "127.0.0.1:@http@"}}}}\nroutes:\n{routes}')
    with Client(gateway.port("http")) as client:
        for i in list(range(0, 10000, 97)) + [9999]:
            client.request("GET", f"/p{i}/x", host=f"h{i % 100}.example")
            assert client.response().text == str(i)
            client.request("GET", f"/p{i}/x", host=f"h{(i + 1) % 100}.example")
            assert client.response().status == 404


# --- redirect -------------------------------------------------------------------------------------------------------
REDIRECTS = """
worker_threads: 1
listeners:
  http: {address: "127.0.0.1:@http@"}
routes:
  - {match: {path: "/https"}, redirect: {scheme: https, port: 443, status: 301}}
  - {match: {path: "/https8443"}, redirect: {scheme: https, port: 8443, status: 308}}
  - {match: {path: "/host"}, redirect: {host: "www.#{host}", status: 302}}
  - {match: {path: "/path/*"}, redirect: {path: "/new/#{path}", status: 307}}
  - {match: {path: "/query"}, redirect: {path: "/q", query: "a=b&#{query}", status: 302}}
  - {match: {path: "/noquery"}, redirect: {path: "/q", query: "", status: 302}}
  - {match: {path: "/all"}, redirect: {scheme: "#{protocol}", host: "#{host}", port: "#{port}", path: "/x/#{host}/#{port}", query: "p=#{protocol}", status: 303}}
"""

REDIRECTED = [  # target, Host, status, Location (PORT = the listener's)
    ("/https", "a.example", 301, "https://a.example:443/https"),
    ("/https?x=1", "a.example", 301, "https://a.example:443/https?x=1"),
    ("/https", "a.example:8080", 301, "https://a.example:443/https"),
    ("/https8443", "a.example", 308, "https://a.example:8443/https8443"),
    ("/host", "a.example:PORT", 302, "http://www.a.example:PORT/host"),
    ("/path/a/b?c=d", "a.example:PORT", 307, "http://a.example:PORT/new/path/a/b?c=d"),
    ("/query?z", "a.example:PORT", 302, "http://a.example:PORT/q?a=b&z"),
    ("/noquery?z", "a.example:PORT", 302, "http://a.example:PORT/q"),
    ("/all?z", "a.example:PORT", 303, "http://a.example:PORT/x/a.example/PORT?p=http"),
]


@pytest.fixture(scope="module")
def redirects():
    with Weir(REDIRECTS) as gateway:
        yield gateway


@pytest.mark.parametrize("target, host, status, location", REDIRECTED)
def test_redirect(redirects, target, host, status, location):
    port = str(redirects.port("http"))
    response = fetch(int(port), target, host=host.replace("PORT", port))
    assert response.status == status
    assert response.get("location") == location.replace("PORT", port)


def test_a_redirect_cannot_be_split_into_two_answers(redirects):
    """Percent-encoded line ends stay encoded in Location."""
    response = fetch(redirects.port("http"), "/path/%0d%0aSet-Cookie:%20a=b")
    assert response.status == 307
    assert "%0d%0a" in response.get("location").lower()
    assert not response.all("set-cookie")


def test_a_redirect_of_a_very_long_url_is_refused(redirects):
    assert fetch(redirects.port("http"), "/path/" + "a" * 8170).status in (414, 507)


# --- respond, echo ------------------------------------------------------------------------------------------------
ACTIONS = """
worker_threads: 1
listeners:
  http: {address: "127.0.0.1:@http@"}
trusted_proxies: [127.0.0.9]
routes:
  - {name: plain, match: {path: /plain}, respond: {status: 200, body: "plain\\n"}}
  - {name: json, match: {path: /json}, respond: {status: 201, content_type: application/json, body: '{"a":1}'}}
  - {name: empty, match: {path: /empty}, respond: {status: 204}}
  - {name: error, match: {path: /error}, respond: {status: 503, body: "later"}, response_headers: {set: {retry-after: "5"}}}
  - {name: echo, match: {path: "/echo*"}, echo: true}
"""


@pytest.fixture(scope="module")
def actions():
    with Weir(ACTIONS) as gateway:
        yield gateway


def test_respond(actions):
    response = fetch(actions.port("http"), "/plain")
    assert (response.status, response.body) == (200, b"plain\n")
    assert response.get("content-type") == "text/plain; charset=utf-8"
    assert response.get("content-length") == "6"
    assert email.utils.parsedate_to_datetime(response.get("date"))
    response = fetch(actions.port("http"), "/json")
    assert (response.status, response.get("content-type"), json.loads(response.body)) == (201, "application/json", {"a": 1})
    response = fetch(actions.port("http"), "/error")
    assert (response.status, response.text, response.get("retry-after")) == (503, "later", "5")


def test_respond_204_has_no_body_and_no_length(actions):
    with Client(actions.port("http")) as client:
        client.request("GET", "/empty")
        response = client.response()
        assert response.status == 204 and not response.all("content-length")
        client.request("GET", "/plain")
        assert client.response().body == b"plain\n"


def test_respond_to_head_has_no_body(actions):
    response = fetch(actions.port("http"), "/plain", "HEAD")
    assert (response.status, response.get("content-length"), response.body) == (200, "6", b"")


def test_echo_shows_what_weir_saw(actions):
    response = fetch(actions.port("http"), "/echo/%7Ea?b=c", "POST", [("X-Thing", "1")], b"hello", host="Echo.Example")
    assert response.status == 200
    assert response.get("content-type").startswith("application/json")
    seen = json.loads(response.body)
    assert seen["method"] == "POST"
    assert seen["path"] == "/echo/~a"
    assert seen["query"] == "b=c"
    assert seen["host"] == "echo.example"
    assert seen["route"] == "echo"
    assert seen["raw_path"] == "/echo/%7Ea"
    assert (seen["client"]["ip"], seen["listener"], seen["protocol"]) == ("127.0.0.1", "http", "HTTP/1.1")
    assert ["x-thing", "1"] in seen["headers"]
    assert (seen["body"]["bytes"], seen["body"]["text"]) == (5, "hello")
    assert seen["body"]["sha256"] == hashlib.sha256(b"hello").hexdigest()


def test_echo_of_hostile_headers_is_still_json(actions):
    response = fetch(actions.port("http"), "/echo?\\}|", headers=[("X-A", '"\\\t\xff\x80</script>')])
    seen = json.loads(response.body)
    assert seen["query"] == "\\}|"
    assert ["x-a", '"\\\t\ufffd\ufffd</script>'] in seen["headers"]


def test_the_reason_is_shown_to_trusted_clients_only(actions):
    assert fetch(actions.port("http"), "/nothing").get("x-weir-reason") is None
    assert fetch(actions.port("http"), "/nothing", source="127.0.0.9").get("x-weir-reason") == "NO_ROUTE"


@pytest.mark.parametrize("source, reason", [("127.0.0.9", "BAD_HOST"), ("127.0.0.1", None)])
def test_a_head_that_is_refused_names_its_reason_to_trusted_clients_too(actions, source, reason):
    with Client(actions.port("http"), source=source) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a b\r\nX-Forwarded-For: 127.0.0.9\r\n\r\n")
        response = client.response()
    assert (response.status, response.get("x-weir-reason")) == (400, reason)


@pytest.mark.parametrize("accept, content_type", [("application/json", "application/json"), ("text/html,*/*;q=0.8", "text/html"),
                                                  (None, "text/plain")])
def test_error_pages_speak_the_language_of_accept(actions, accept, content_type):
    response = fetch(actions.port("http"), "/nothing", headers=[("Accept", accept)] if accept else [])
    assert response.status == 404
    assert response.get("content-type").split(";")[0] == content_type
    if content_type == "application/json":
        json.loads(response.body)


def test_error_pages_reflect_nothing_of_the_request(actions):
    response = fetch(actions.port("http"), "/<script>alert(1)</script>".replace("<", "%3C").replace(">", "%3E"),
                     headers=[("Accept", "text/html"), ("X-A", "<script>")])
    assert b"<script>" not in response.body and b"alert" not in response.body


# --- files ----------------------------------------------------------------------------------------------------------
FILES = """
worker_threads: 1
listeners:
  http: {address: "127.0.0.1:@http@"}
routes:
  - {name: stripped, match: {path: "/static/*"}, files: {root: "@tmp@/site", strip_prefix: /static}}
  - {name: site, files: {root: "@tmp@/site", index: [index.html, index.txt]}}
"""
BIG = bytes(i * 7 % 251 for i in range(300000))


@pytest.fixture(scope="module")
def files():
    contents = {
        "site/index.html": "<p>home\n", "site/a.txt": "0123456789", "site/a.css": "p{}", "site/a.js": "1", "site/a.json": "{}",
        "site/a.png": b"\x89PNG", "site/a.svg": "<svg/>", "site/a.woff2": b"x", "site/noextension": "x", "site/empty.txt": "",
        "site/with space.txt": "space", "site/sub/index.txt": "sub index", "site/noindex/file.txt": "x",
        "site/big.bin": BIG, "site/\u00fcml.txt": "umlaut", "site/.hidden": "hidden", "secret.txt": "SECRET",
        "site-evil/x.txt": "SECRET",
    }
    gateway = Weir(FILES, start=False, files=contents)
    site = gateway.folder / "site"
    (site / "link-out.txt").symlink_to(gateway.folder / "secret.txt")
    (site / "link-dir").symlink_to(gateway.folder)
    (site / "link-in.txt").symlink_to("a.txt")
    os.mkfifo(site / "fifo")
    with gateway.start():
        yield gateway


@pytest.mark.parametrize("target, content_type", [
    ("/a.txt", "text/plain"), ("/a.css", "text/css"), ("/a.js", "javascript"), ("/a.json", "application/json"),
    ("/a.png", "image/png"), ("/a.svg", "image/svg+xml"), ("/index.html", "text/html"), ("/noextension", "application/octet-stream")])
def test_files_have_their_mime_type(files, target, content_type):
    response = fetch(files.port("http"), target)
    assert response.status == 200
    assert content_type in response.get("content-type")


def test_file_has_length_validators_and_body(files):
    response = fetch(files.port("http"), "/a.txt")
    assert (response.body, response.get("content-length")) == (b"0123456789", "10")
    assert email.utils.parsedate_to_datetime(response.get("last-modified"))
    assert re.fullmatch(r'(W/)?"[^"]+"', response.get("etag"))
    assert response.get("accept-ranges") == "bytes"
    assert fetch(files.port("http"), "/big.bin").body == BIG
    assert fetch(files.port("http"), "/empty.txt").body == b""


def test_index_files(files):
    assert fetch(files.port("http"), "/").text == "<p>home\n"
    assert fetch(files.port("http"), "/sub/").text == "sub index"
    response = fetch(files.port("http"), "/sub?x=1")
    assert response.status in (301, 308)
    assert response.get("location").endswith("/sub/?x=1")
    assert fetch(files.port("http"), "/noindex/").status in (403, 404)


def test_names_are_percent_decoded_once(files):
    assert fetch(files.port("http"), "/with%20space.txt").text == "space"
    assert fetch(files.port("http"), "/%C3%BCml.txt").text == "umlaut"
    assert fetch(files.port("http"), "/%61.txt").text == "0123456789"
    assert fetch(files.port("http"), "/%2561.txt").status == 404


def test_strip_prefix(files):
    assert fetch(files.port("http"), "/static/a.txt").text == "0123456789"
    assert fetch(files.port("http"), "/static/static/a.txt").status == 404


def test_head_of_a_file(files):
    response = fetch(files.port("http"), "/a.txt", "HEAD")
    assert (response.status, response.get("content-length"), response.body) == (200, "10", b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_files_take_get_and_head_only(files, method):
    response = fetch(files.port("http"), "/a.txt", method, body=b"x")
    assert response.status == 405
    assert response.get("allow") == "GET, HEAD"


@pytest.mark.parametrize("value, status, body, content_range", [
    ("bytes=0-3", 206, b"0123", "bytes 0-3/10"), ("bytes=5-", 206, b"56789", "bytes 5-9/10"),
    ("bytes=-3", 206, b"789", "bytes 7-9/10"), ("bytes=9-9", 206, b"9", "bytes 9-9/10"),
    ("bytes=0-", 206, b"0123456789", "bytes 0-9/10"), ("bytes=5-100", 206, b"56789", "bytes 5-9/10"),
    ("bytes=-100", 206, b"0123456789", "bytes 0-9/10"), ("bytes=10-", 416, None, "bytes */10"),
    ("bytes=100-200", 416, None, "bytes */10"), ("bytes=-0", 416, None, "bytes */10"),
    ("bytes=5-4", 200, b"0123456789", None), ("bytes=a-b", 200, b"0123456789", None), ("items=0-3", 200, b"0123456789", None),
    ("bytes=", 200, b"0123456789", None), ("bytes=99999999999999999999999-", (200, 416), None, None),
])
def test_range(files, value, status, body, content_range):
    response = fetch(files.port("http"), "/a.txt", headers=[("Range", value)])
    assert response.status in (status if isinstance(status, tuple) else (status,))
    if body is not None:
        assert response.body == body
    if content_range:
        assert response.get("content-range") == content_range


def test_several_ranges(files):
    response = fetch(files.port("http"), "/a.txt", headers=[("Range", "bytes=0-1,8-9")])
    if response.status == 206:
        boundary = re.fullmatch(r'multipart/byteranges; boundary="?([^"]+)"?', response.get("content-type"))[1]
        parts = response.body.split(b"--" + boundary.encode())
        assert [part.split(b"\r\n\r\n")[1][:2] for part in parts[1:3]] == [b"01", b"89"]
        assert parts[-1].startswith(b"--")
    else:
        assert (response.status, response.body) == (200, b"0123456789"), "ignoring Range is allowed (RFC 9110 14.2)"


def test_many_ranges_cost_little(files):
    many = ",".join(f"{i}-{i + 200000}" for i in range(1000))
    response = fetch(files.port("http"), "/big.bin", headers=[("Range", f"bytes={many}")])
    assert response.status in (200, 206, 416, 431)
    assert len(response.body) < 3 * len(BIG), "overlapping ranges multiply nothing (RFC 9110 17.15)"


def test_conditional_requests(files):
    first = fetch(files.port("http"), "/a.txt")
    etag, modified = first.get("etag"), first.get("last-modified")

    def status(*headers, method="GET"):
        return fetch(files.port("http"), "/a.txt", method, headers).status

    assert status(("If-None-Match", etag)) == 304
    assert status(("If-None-Match", f'"other", {etag}')) == 304
    assert status(("If-None-Match", "*")) == 304
    assert status(("If-None-Match", '"other"')) == 200
    assert status(("If-Modified-Since", modified)) == 304
    assert status(("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")) == 200
    assert status(("If-Modified-Since", "yesterday")) == 200
    assert status(("If-None-Match", '"other"'), ("If-Modified-Since", modified)) == 200, "If-None-Match wins (RFC 9110 13.2.2)"
    assert status(("If-None-Match", etag), method="HEAD") == 304
    response = fetch(files.port("http"), "/a.txt", headers=[("If-None-Match", etag)])
    assert (response.body, response.get("etag")) == (b"", etag)


def test_if_range(files):
    first = fetch(files.port("http"), "/a.txt")
    for value, status in [(first.get("last-modified"), (206, 200)), ('"other"', (200,)),
                          ("Thu, 01 Jan 1970 00:00:00 GMT", (200,))]:
        assert fetch(files.port("http"), "/a.txt", headers=[("Range", "bytes=0-1"), ("If-Range", value)]).status in status
    if not first.get("etag").startswith("W/"):
        assert fetch(files.port("http"), "/a.txt", headers=[("Range", "bytes=0-1"), ("If-Range", first.get("etag"))]).status == 206


ESCAPES = ["/../secret.txt", "/..%2fsecret.txt", "/%2e%2e/secret.txt", "/%2e%2e%2fsecret.txt", "/..%5csecret.txt", "/..\\secret.txt",
           "/sub/../../secret.txt", "/sub/..%2f..%2fsecret.txt", "/%252e%252e/secret.txt", "/static/../../secret.txt",
           "/static/..%2fsecret.txt", "/static/%2e%2e/secret.txt", "/static../secret.txt", "/link-out.txt", "/link-dir/secret.txt",
           "//secret.txt", "/a.txt/../../secret.txt", "/..;/secret.txt", "/.%00./secret.txt", "/a.txt%00.html", "/../site-evil/x.txt",
           "/static/../site-evil/x.txt", "/..%c0%afsecret.txt", "/fifo", "/%2fetc/passwd", "//etc/passwd", "/static//etc/passwd",
           "/a.txt/", "/a.txt/x", "/nothing", "/static"]


@pytest.mark.parametrize("target", ESCAPES)
def test_nothing_outside_the_root_is_served(files, target):
    response = fetch(files.port("http"), target)
    assert response.status in (400, 403, 404, 301, 308), response
    assert b"SECRET" not in response.body and b"root:" not in response.body
    if response.status in (301, 308):
        assert not response.get("location").startswith("//"), "would lead to another host"


def test_a_directory_redirect_stays_on_this_host(files):
    (files.folder / "site" / "evil.example").mkdir()
    response = fetch(files.port("http"), "//evil.example")
    assert not (response.get("location") or "").startswith("//")
    assert not (response.get("location") or "").startswith("/\\")


def test_links_within_the_root_are_followed_or_not_found(files):
    assert fetch(files.port("http"), "/link-in.txt").status in (200, 403, 404)


# --- what reaches the target ----------------------------------------------------------------------------------------
FORWARD = """
worker_threads: 1
listeners:
  http: {address: "127.0.0.1:@http@"}
  tls: {address: "127.0.0.1:@tls@", tls: {certificates: self}}
certificates:
  self: {self_signed: [localhost]}
trusted_proxies: [127.0.0.9, 10.0.0.0/8]
target_groups:
  origin: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}}
routes:
  - name: rules
    match: {path: "/rules*"}
    request_headers: {set: {x-team: users, x-replaced: new}, add: {x-added: two}, remove: [x-debug, cookie]}
    response_headers: {set: {x-frame-options: DENY, x-old: changed}, add: {x-more: "2"}, remove: [server]}
    forward: origin
  - name: rewrite
    match: {path: "/users/*"}
    rewrite: {path: "^/users/(.*)$", to: "/v2/$1"}
    forward: origin
  - name: rewrite-query
    match: {path: "/dp/*"}
    rewrite: {path: "^/dp/([A-Za-z0-9]+)/?$", to: "/product.php?id=$1"}
    forward: origin
  - name: rewrite-host
    match: {path: "/host/*"}
    rewrite: {path: "^/host", to: "", host: internal.example}
    forward: origin
  - {name: all, forward: origin}
"""


@pytest.fixture(scope="module")
def forward_gateway():
    with Origin() as origin:
        with Weir(FORWARD, origin=origin.port) as gateway:
            gateway.origin = origin
            yield gateway


@pytest.fixture
def sent(forward_gateway):
    """sent(...) makes a request and returns what the origin saw of it."""
    def send(target="/", listener="http", **options):
        forward_gateway.origin.requests.clear()
        response = fetch(forward_gateway.port(listener), target, **options)
        assert response.status == 200, response
        return forward_gateway.origin.take()
    return send


@pytest.mark.parametrize("incoming, expected", [
    ([], "127.0.0.1"), (["127.0.0.4"], "127.0.0.4, 127.0.0.1"), (["127.0.0.4, 127.0.0.8"], "127.0.0.4, 127.0.0.8, 127.0.0.1"),
    (["a", "b"], "a, b, 127.0.0.1"), (["unknown"], "unknown, 127.0.0.1"), ([""], "127.0.0.1"),
])
def test_x_forwarded_for_is_appended(sent, incoming, expected):
    assert sent(headers=[("X-Forwarded-For", value) for value in incoming]).get("x-forwarded-for") == expected


@needs_ipv6
def test_x_forwarded_for_of_an_ipv6_client(weir, origin):
    gateway = weir(FORWARD.replace("listeners:", 'listeners:\n  v6: {address: "[::1]:@v6@"}'), origin=origin.port)
    with Client(gateway.port("v6"), "::1") as client:
        assert client.request("GET", "/").response().status == 200
    assert origin.take().get("x-forwarded-for") == "::1"


def test_x_forwarded_proto_port_and_host(forward_gateway, sent):
    request = sent(host="www.example:99")
    assert request.get("x-forwarded-proto") == "http"
    assert request.get("x-forwarded-port") == str(forward_gateway.port("http"))
    assert request.get("x-forwarded-host") == "www.example:99"
    request = sent(listener="tls", tls="localhost")
    assert request.get("x-forwarded-proto") == "https"
    assert request.get("x-forwarded-port") == str(forward_gateway.port("tls"))


def test_what_strangers_claim_about_the_connection_is_replaced(sent):
    claims = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "443"), ("X-Forwarded-Host", "evil.example")]
    request = sent(headers=claims, host="a.example")
    assert request.get("x-forwarded-proto") == "http"
    assert request.get("x-forwarded-port") != "443"
    assert request.get("x-forwarded-host") == "a.example"


def test_what_trusted_proxies_claim_is_kept(sent):
    claims = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "443"), ("X-Forwarded-Host", "public.example")]
    request = sent(headers=claims, source="127.0.0.9")
    assert request.get("x-forwarded-proto") == "https"
    assert request.get("x-forwarded-port") == "443"
    assert request.get("x-forwarded-host") == "public.example"


@pytest.mark.parametrize("source, xff, client", [
    ("127.0.0.1", None, "127.0.0.1"), ("127.0.0.1", "1.2.3.4", "127.0.0.1"), ("127.0.0.9", "1.2.3.4", "1.2.3.4"),
    ("127.0.0.9", "6.6.6.6, 1.2.3.4", "1.2.3.4"), ("127.0.0.9", "6.6.6.6, 1.2.3.4, 10.1.2.3", "1.2.3.4"),
    ("127.0.0.9", "10.1.1.1, 10.1.2.3", "10.1.1.1"), ("127.0.0.9", "1.2.3.4:5678", "1.2.3.4"), ("127.0.0.9", "2001:db8::1", "2001:db8::1"),
    ("127.0.0.9", "[2001:db8::1]:77, 10.0.0.1", "2001:db8::1"), ("127.0.0.9", "1.2.3.4, garbage", "127.0.0.9"),
    ("127.0.0.9", None, "127.0.0.9"),
])
def test_client_ip_is_the_right_most_untrusted_address(forward_gateway, sent, source, xff, client):
    path = f"/client-{source}-{xff or ''}".replace(" ", "").replace("[", "").replace("]", "")
    sent(path, source=source, headers=[("X-Forwarded-For", xff)] if xff else [])
    assert forward_gateway.wait_log(lambda entry: entry["path"] == path)[0]["client"].split(":")[0] == client.split(":")[0]


def test_more_than_30_forwarded_addresses_are_refused(forward_gateway):
    many = ", ".join(["1.1.1.1"] * 31)
    assert fetch(forward_gateway.port("http"), "/", headers=[("X-Forwarded-For", many)]).status == 463
    assert fetch(forward_gateway.port("http"), "/", headers=[("X-Forwarded-For", ", ".join(["1.1.1.1"] * 30))]).status == 200


ROOT = r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}"
SELF = ROOT.replace("Root", "Self")


@pytest.mark.parametrize("incoming, expected", [
    (None, ROOT),
    ("Root=1-67891233-abcdef012345678912345678", SELF + ";Root=1-67891233-abcdef012345678912345678"),
    ("Root=1-67891233-abcdef012345678912345678;CalledFrom=app", SELF + ";Root=1-67891233-abcdef012345678912345678;CalledFrom=app"),
    ("Self=1-67891233-12456789abcdef012345678;Root=1-67891233-abcdef012345678912345678", SELF + ";Root=1-67891233-abcdef012345678912345678"),
    ("CalledFrom=app", ROOT + ";CalledFrom=app"),
])
def test_x_amzn_trace_id(sent, incoming, expected):
    value = sent(headers=[("X-Amzn-Trace-Id", incoming)] if incoming else []).get("x-amzn-trace-id")
    assert re.fullmatch(expected, value), value
    if incoming:
        assert "12456789abcdef012345678" not in value, "the old Self is replaced"


@pytest.mark.parametrize("incoming, expected", [
    ("CalledFrom=" + "a" * 7200, ROOT),
    ("Self=1-67891233-12456789abcdef012345678;Root=1-67891233-abcdef012345678912345678;CalledFrom=" + "a" * 7200,
     "Root=1-67891233-abcdef012345678912345678"),
    ("Root=" + "a" * 7200, ROOT),
])
def test_of_a_trace_id_in_a_very_large_head_only_the_root_is_left(sent, incoming, expected):
    assert re.fullmatch(expected, sent(headers=[("X-Amzn-Trace-Id", incoming)]).get("x-amzn-trace-id"))


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_valid_traceparent_is_passed_on_with_its_tracestate(sent):
    request = sent(headers=[("traceparent", TRACEPARENT), ("tracestate", "a=b,c=d")])
    assert request.get("traceparent") == TRACEPARENT
    assert request.get("tracestate") == "a=b,c=d"


@pytest.mark.parametrize("incoming", [None, "", "garbage", TRACEPARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
                                      TRACEPARENT.replace("b7ad6b7169203331", "0" * 16), "ff" + TRACEPARENT[2:], TRACEPARENT.upper(),
                                      TRACEPARENT + "-x"])
def test_a_missing_or_invalid_traceparent_is_made_anew(sent, incoming):
    value = sent(headers=[("traceparent", incoming)] if incoming is not None else []).get("traceparent")
    assert re.fullmatch(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]", value), value
    assert value != incoming


def test_request_id_is_made_or_kept_and_logged(forward_gateway, sent):
    made = sent("/id1").get("x-request-id")
    assert re.fullmatch(r"[0-9a-f-]{32,36}", made)
    assert sent("/id2").get("x-request-id") != made
    assert sent("/id3", headers=[("X-Request-Id", "abc-123")]).get("x-request-id") == "abc-123"
    assert forward_gateway.wait_log(lambda entry: entry["path"] == "/id1")[0]["request_id"] == made
    assert forward_gateway.wait_log(lambda entry: entry["path"] == "/id3")[0]["request_id"] == "abc-123"
    assert len(sent("/id4", headers=[("X-Request-Id", "x" * 5000)]).get("x-request-id")) <= 128


def test_via_names_the_gateway_after_those_before_it(sent):
    assert re.fullmatch(r"1\.1 \S+", sent().get("via"))
    assert re.fullmatch(r"1\.0 fred, 1\.1 \S+", sent(headers=[("Via", "1.0 fred")]).get("via"))


def test_host_is_preserved(sent):
    assert sent(host="WWW.Example:8080").get("host") == "WWW.Example:8080"


@pytest.mark.parametrize("name", ["Keep-Alive", "Proxy-Connection", "TE", "Upgrade", "HTTP2-Settings", "Trailer"])
def test_hop_by_hop_fields_do_not_reach_the_target(sent, name):
    request = sent(headers=[(name, "x"), ("X-Stays", "1")])
    assert request.all(name) == []
    assert request.get("x-stays") == "1"


@pytest.mark.parametrize("listed", ["x-forwarded-for", "x-request-id", "host", "content-length", "x-amzn-trace-id", "via"])
def test_connection_cannot_remove_what_the_gateway_adds(sent, listed):
    request = sent(method="POST", body=b"hello", headers=[("Connection", f"close, {listed}")])
    assert request.get("x-forwarded-for") == "127.0.0.1"
    assert request.get("host") == "example.com"
    assert request.get("x-request-id") and request.get("x-amzn-trace-id") and request.get("via")
    assert request.body == b"hello"


def test_request_header_rules(sent):
    request = sent("/rules", headers=[("X-Team", "spoofed"), ("x-team", "again"), ("X-Debug", "1"), ("Cookie", "a=b"), ("Cookie", "c=d"),
                                      ("X-Added", "one"), ("X-Replaced", "old")])
    assert request.get("x-team") == "users"
    assert request.get("x-replaced") == "new"
    assert request.all("x-added") == ["one", "two"]
    assert request.all("x-debug") == request.all("cookie") == []


def test_response_header_rules(forward_gateway):
    forward_gateway.origin.on("/rules", reply(b"ok", fields=[("Server", "Apache"), ("X-Old", "1"), ("X-Old", "2"), ("X-More", "1"),
                                                              ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]))
    response = fetch(forward_gateway.port("http"), "/rules")
    assert response.get("x-frame-options") == "DENY"
    assert response.get("x-old") == "changed"
    assert response.all("x-more") == ["1", "2"]
    assert "Apache" not in response.all("server")
    assert response.all("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize("target, expected", [
    ("/users/7", "/v2/7"), ("/users/7?a=b", "/v2/7?a=b"), ("/users/a/b/c", "/v2/a/b/c"), ("/users/", "/v2/"),
    ("/dp/B09G3HRMW", "/product.php?id=B09G3HRMW"), ("/dp/B09G3HRMW/", "/product.php?id=B09G3HRMW"), ("/dp/a-b", "/dp/a-b"),
])
def test_rewrite(sent, target, expected):
    assert sent(target).target == expected


def test_rewrite_of_the_host(sent):
    request = sent("/host/x")
    assert (request.target, request.get("host")) == ("/x", "internal.example")


def test_the_log_keeps_what_the_client_asked_for(forward_gateway, sent):
    sent("/users/log-me?q=1")
    entry = forward_gateway.wait_log(lambda entry: entry["path"] == "/users/log-me")[0]
    assert (entry["route"], entry["target_group"], entry["query"]) == ("rewrite", "origin", "q=1")
    assert entry["target"] == f"127.0.0.1:{forward_gateway.origin.port}"
    assert (entry["status"], entry["reason"]) == (200, "-")


# --- modes of forwarding --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode, incoming, expected", [
    ("preserve", "127.0.0.4", "127.0.0.4"), ("preserve", None, None), ("preserve", "127.0.0.4, 127.0.0.8", "127.0.0.4, 127.0.0.8"),
    ("remove", "127.0.0.4", None), ("remove", None, None), ("append", "127.0.0.4", "127.0.0.4, 127.0.0.1"),
])
def test_x_forwarded_modes(weir, origin, mode, incoming, expected):
    gateway = weir(f"""
listeners: {{http: {{address: "127.0.0.1:@http@"}}}}
forwarding: {{x_forwarded: {mode}}}
target_groups: {{origin: {{targets: "127.0.0.1:@origin@", health_check: {{enabled: false}}}}}}
routes: [{{name: all, forward: origin}}]
""", origin=origin.port)
    fetch(gateway.port("http"), headers=[("X-Forwarded-For", incoming)] if incoming else [])
    request = origin.take()
    assert request.get("x-forwarded-for") == expected
    if mode != "append":
        assert request.all("x-forwarded-proto") == []


# --- several targets ------------------------------------------------------------------------------------------------
def test_weights_between_targets_and_groups_are_kept(weir):
    with Origin(reply(b"a")) as a, Origin(reply(b"b")) as b, Origin(reply(b"c")) as c:
        gateway = weir("""
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  ab: {targets: [{address: "127.0.0.1:@a@", weight: 3}, {address: "127.0.0.1:@b@", weight: 1}], health_check: {enabled: false}}
  c: {targets: "127.0.0.1:@c@", health_check: {enabled: false}}
routes:
  - {name: groups, match: {path: "/groups"}, forward: [{group: ab, weight: 1}, {group: c, weight: 3}]}
  - {name: targets, forward: ab}
""", a=a.port, b=b.port, c=c.port)
        with Client(gateway.port("http")) as client:
            def count(target, n):
                answers = []
                for _ in range(n):
                    client.request("GET", target)
                    answers.append(client.response().text)
                return {name: answers.count(name) for name in "abc"}

            assert count("/", 40) == {"a": 30, "b": 10, "c": 0}
            drawn = count("/groups", 400)
            assert 240 <= drawn["c"] <= 360, drawn


@needs_ipv6
def test_a_unix_socket_and_an_ipv6_target(weir, tmp_path):
    path = f"/tmp/weir-test-{os.getpid()}.sock"
    try:
        with Origin(reply(b"unix"), unix=path), Origin(reply(b"six"), family=socket.AF_INET6) as six:
            gateway = weir("""
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  unix: {targets: "unix:@path@", health_check: {enabled: false}}
  six: {targets: "[::1]:@six@", health_check: {enabled: false}}
routes:
  - {match: {path: /unix}, forward: unix}
  - {match: {path: /six}, forward: six}
""", six=six.port, path=path)
            assert fetch(gateway.port("http"), "/unix").text == "unix"
            assert fetch(gateway.port("http"), "/six").text == "six"
    finally:
        os.unlink(path)


@needs_ipv6
def test_an_ipv6_and_a_dual_stack_listener(weir):
    gateway = weir("""
listeners:
  six: {address: "[::1]:@six@"}
  any: {address: "*:@any@"}
routes: [{respond: {status: 200, body: ok}}]
""")
    with Client(gateway.port("six"), "::1") as client:
        assert client.request("GET", "/").response().text == "ok"
    for host in ("127.0.0.1", "::1"):
        with Client(gateway.port("any"), host) as client:
            assert client.request("GET", "/").response().text == "ok"
