"""Headers that an Application Load Balancer writes (spec/alb.md 5.2, 5.4 to 5.6) and the life of client connections (5.7)."""
import ssl
import time

import pytest

from client import Client, at_once, fetch, insecure_context
from h2client import H2Client
from origin import OK, Origin, reply
from test_proxy_protocol import v2
from weir import Weir

CONFIG = """
worker_threads: 1
listeners:
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: [own]}}
certificates: {own: {self_signed: [localhost]}}
forwarding: {%s}
limits: {keepalive_time: %s}
target_groups: {origin: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}}}
routes: [{name: all, forward: origin}]
"""


@pytest.fixture(scope="module")
def server():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def strict(server):
    with Weir(CONFIG % ("tls_headers: true, drop_invalid_headers: true", "1h"), origin=server.port) as gateway:
        yield gateway


@pytest.mark.parametrize("name, is_kept", [("x-a", True), ("X-A9", True), ("x_a", False), ("x.a", False), ("x!", False),
                                           ("~", False), ("9", True), ("-", True)])
def test_fields_with_other_characters_than_letters_digits_and_dashes_are_left_out(strict, server, name, is_kept):
    fetch(strict.port("http"), headers=[(name, "1")])
    assert (server.take().get(name) == "1") == is_kept


def test_by_default_they_are_passed_on(server):
    with Weir(CONFIG % ("via: true", "1h"), origin=server.port) as gateway:
        fetch(gateway.port("http"), headers=[("x_a", "1"), ("X-Amzn-Tls-Version", "mine")])
        request = server.take()
        assert request.get("x_a") == "1" and request.get("x-amzn-tls-version") == "mine"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_target_learns_what_tls_the_client_speaks(strict, server, version):
    context = insecure_context()
    context.minimum_version, context.maximum_version = version, version
    with Client(strict.port("https"), tls=(context, "localhost")) as client:
        client.request("GET", "/", [("X-Amzn-Tls-Version", "SSLv2"), ("X-Amzn-Tls-Cipher-Suite", "none")])
        assert client.response().status == 200
        used = client.socket.cipher()[0]
    request = server.take()
    assert request.get("x-amzn-tls-version") == ("TLSv1.2" if version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
    assert request.get("x-amzn-tls-cipher-suite") == used


def test_a_plain_client_cannot_say_that_it_speaks_tls(strict, server):
    fetch(strict.port("http"), headers=[("X-Amzn-Tls-Version", "TLSv1.3"), ("x-amzn-tls-cipher-suite", "x")])
    request = server.take()
    assert request.get("x-amzn-tls-version") is None and request.get("x-amzn-tls-cipher-suite") is None


def test_a_connection_above_its_age_serves_one_more_request(server):
    with Weir(CONFIG % ("via: true", "400ms"), origin=server.port) as gateway:
        def begin():
            client = Client(gateway.port("http")).request("GET", "/")
            client.first = client.response()
            return client
        with at_once(0.35, begin) as client:
            assert client.first.get("connection") is None
            time.sleep(0.45)  # the age itself
            client.request("GET", "/")
            response = client.response()
            assert response.status == 200 and response.get("connection") == "close"
            assert client.is_closed()
    server.settle()


# --- X-Forwarded-For (5.2) ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def proxied(server):
    """Gateways for each mode, whose clients say by a PROXY header who they are."""
    def start(mode, port):
        text = CONFIG % (f"x_forwarded: {mode}, client_port: {port}", "1h")
        return Weir(text.replace('@http@"', '@http@", proxy_protocol: {from: [127.0.0.1]}'), origin=server.port)
    running = {(mode, port): start(mode, port) for mode in ("append", "preserve", "remove") for port in ("false", "true")}
    yield running
    for gateway in running.values():
        gateway.close()


@pytest.mark.parametrize("mode, port, source, incoming, expected", [
    ("append", "false", "127.0.0.1", None, "127.0.0.1"),
    ("append", "false", "127.0.0.1", "127.0.0.4", "127.0.0.4, 127.0.0.1"),
    ("append", "false", "127.0.0.1", "127.0.0.4, 127.0.0.8", "127.0.0.4, 127.0.0.8, 127.0.0.1"),
    ("append", "false", "2001:db8::1", None, "2001:db8::1"),
    ("append", "true", "12.34.56.78", None, "12.34.56.78:4711"),
    ("append", "true", "2001:db8::1", None, "[2001:db8::1]:4711"),
    ("append", "true", "2001:db8::1", "127.0.0.4", "127.0.0.4, [2001:db8::1]:4711"),
    ("preserve", "false", "127.0.0.1", None, None),
    ("preserve", "false", "127.0.0.1", "127.0.0.4", "127.0.0.4"),
    ("preserve", "true", "127.0.0.1", "127.0.0.4, 127.0.0.8", "127.0.0.4, 127.0.0.8"),
    ("remove", "false", "127.0.0.1", None, None),
    ("remove", "false", "127.0.0.1", "127.0.0.4", None),
    ("remove", "true", "127.0.0.1", "127.0.0.4, 127.0.0.8", None),
])
def test_x_forwarded_for_follows_the_table_of_an_alb(proxied, server, mode, port, source, incoming, expected):
    server.settle()
    with Client(proxied[mode, port].port("http")) as client:
        client.send(v2(source=source, destination="2001:db8::2" if ":" in source else "198.51.100.2"))
        client.request("GET", "/", [("X-Forwarded-For", incoming)] if incoming else [])
        assert client.response().status == 200
    assert server.take().get("x-forwarded-for") == expected


def test_only_append_counts_the_addresses(proxied, server):
    many = ", ".join(["1.1.1.1"] * 31)
    for mode, status in ("append", 463), ("preserve", 200), ("remove", 200):
        server.settle()
        with Client(proxied[mode, "false"].port("http")) as client:
            client.send(v2())
            client.request("GET", "/", [("X-Forwarded-For", many)])
            assert client.response().status == status
    server.settle()


# --- Host (5.4) ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("listens, host, expected", [
    (8080, "example.com", "example.com:8080"), (8080, "Example.com", "example.com:8080"), (8080, "example.com:81", "example.com:81"),
    (80, "example.com", "example.com"), (80, "example.com:80", "example.com"), (443, "example.com:8443", "example.com"),
    (8080, "[2001:db8::1]", "[2001:db8::1]:8080"), (80, "[2001:db8::1]:80", "[2001:db8::1]"), (443, "192.0.2.1", "192.0.2.1"),
])
def test_host_without_preserve_is_that_of_an_alb(server, altered, listens, host, expected):
    """The port that the client connected to is that of its PROXY header."""
    block = bytes([192, 0, 2, 7, 198, 51, 100, 2]) + (4711).to_bytes(2, "big") + listens.to_bytes(2, "big")
    server.settle()
    with Client(altered.port("http")) as client:
        client.send(v2(block=block))
        client.request("GET", "/", host=host)
        assert client.response().status == 200
    assert server.take().get("host") == expected


def test_host_of_an_absolute_target_counts(server, altered):
    server.settle()
    with Client(altered.port("http")) as client:
        client.send(v2())  # to port 443
        client.send(b"GET http://Dns.Example:80/x HTTP/1.1\r\nHost: dns.example\r\n\r\n")
        assert client.response().status == 200
    assert server.take().get("host") == "dns.example"


@pytest.fixture(scope="module")
def altered(server):
    text = (CONFIG % ("preserve_host: false", "1h")).replace('@http@"', '@http@", proxy_protocol: {from: [127.0.0.1]}')
    with Weir(text, origin=server.port) as gateway:
        yield gateway


# --- fields of every response (5.6) -------------------------------------------------------------------------------------
EVERY = """
worker_threads: 1
limits: {url: 64}
listeners:
  http: {address: "127.0.0.1:@http@", response_headers: {set: {strict-transport-security: max-age=5, x-frame-options: DENY}, remove: [x-secret]}, server_header: false}
  h2c: {address: "127.0.0.1:@h2c@", protocols: h2, response_headers: {set: {strict-transport-security: max-age=5, x-frame-options: DENY}}}
  plain: {address: "127.0.0.1:@plain@"}
target_groups:
  origin: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}}
  late: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}, timeouts: {first_byte: 200ms}}
  nobody: {targets: "127.0.0.1:@nobody@", health_check: {enabled: false}}
routes:
  - {name: fixed, match: {path: /fixed}, respond: {status: 200, body: fixed}, response_headers: {set: {x-frame-options: SAMEORIGIN}}}
  - {name: moved, match: {path: /moved}, redirect: {path: /fixed}}
  - {name: files, match: {path: "/site/*"}, files: {root: site, strip_prefix: /site}}
  - {name: echo, match: {path: /echo}, echo: true}
  - {name: nobody, match: {path: /nobody}, forward: nobody}
  - {name: late, match: {path: /origin/slow}, forward: late}
  - {name: origin, match: {path: "/origin*"}, forward: origin}
"""


@pytest.fixture(scope="module")
def every(server):
    with Weir(EVERY, origin=server.port, files={"site/a.txt": "a"}) as gateway:
        yield gateway


@pytest.mark.parametrize("path, status", [
    ("/fixed", 200), ("/moved", 302), ("/site/a.txt", 200), ("/site/none", 404), ("/echo", 200), ("/nobody", 502), ("/none", 404),
    ("/origin", 200), ("/origin/slow", 504), ("/" + "a" * 100, 414),
])
def test_every_response_has_the_fields_of_its_listener(every, server, path, status):
    server.settle()
    server.on("/origin", reply(fields=[("X-Frame-Options", "ALLOWALL"), ("X-Secret", "1"), ("Server", "own")]))
    server.on("/origin/slow", lambda exchange: exchange.wait_peer_closed())
    response = fetch(every.port("http"), path)
    assert response.status == status
    assert response.get("strict-transport-security") == "max-age=5" and response.get("x-frame-options") == "DENY"
    assert response.get("x-secret") is None
    assert response.get("server") == ("own" if path == "/origin" else None), "a target's own stays"
    response = fetch(every.port("plain"), path)
    assert response.get("strict-transport-security") is None
    assert response.get("server") == ("own" if path == "/origin" else None if status == 200 and path.startswith("/origin") else "weir")
    server.settle()


def test_responses_over_http2_have_them_too(every):
    with H2Client(every.port("h2c")) as client:
        for path, status in ("/fixed", 200), ("/none", 404), ("/nobody", 502):
            answer = client.fetch(path)
            assert answer.status == status and answer.get("x-frame-options") == "DENY"


def test_a_refused_head_is_answered_with_them(every):
    with Client(every.port("http")) as client:
        response = client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").response()
        assert response.status == 400 and response.get("strict-transport-security") == "max-age=5"


def test_weir_test_knows_them(every):
    every.write("tests.yaml", every.config_path.read_text() + """
tests: [{request: "http://a/fixed", expect: {headers: {x-frame-options: DENY}}}]
""")
    done = every.run("test", every.folder / "tests.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


# --- Expect (5.5, vector 21) --------------------------------------------------------------------------------------------
def test_expect_is_answered_at_once_and_not_passed_on(strict, server):
    with Client(strict.port("http")) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 Continue\r\n"), "before a byte of the body"
        assert client.send(b"hello").response().status == 200
    assert server.take().get("expect") is None
