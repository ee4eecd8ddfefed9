"""The echo action's view of request bodies, and what weir's own answers say about themselves."""
import base64
import hashlib
import json
import os

import pytest

from client import Client, fetch
from weir import wait_for

TEXT = """
worker_threads: 1
listeners:
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: self}}
certificates: {self: {self_signed: [localhost]}}
routes:
  - {name: small, match: {path: "/small*"}, max_body: 1000, echo: true}
  - {name: echo, match: {path: "/echo*"}, echo: true}
  - name: kept
    match: {path: "/kept*"}
    response_headers: {set: {cache-control: "max-age=9999", strict-transport-security: max-age=1, content-type: text/odd, etag: '"x"'}}
    files: {root: "@tmp@/site", strip_prefix: /kept}
  - {name: typed, match: {path: /typed}, response_headers: {set: {content-type: text/odd, server: other}}, respond: {status: 200, body: hi}}
"""


@pytest.fixture(scope="module")
def gateway(module_weir):
    weir = module_weir(TEXT)
    weir.write("site/x", "x")
    return weir


def body_of(gateway, data, path="/echo"):
    response = fetch(gateway.port("http"), path, "POST", body=data)
    assert response.status == 200
    return json.loads(response.body)["body"]


def test_a_text_body_is_shown(gateway):
    seen = body_of(gateway, "grün".encode())
    assert seen == {"bytes": 5, "sha256": hashlib.sha256("grün".encode()).hexdigest(), "text": "grün", "truncated": False}


@pytest.mark.parametrize("data", [bytes(range(256)), b"\xff", b"a\0b", b"\xed\xa0\x80", b"\xc3"])
def test_a_binary_body_is_shown_as_base64(gateway, data):
    seen = body_of(gateway, data)
    assert base64.b64decode(seen["base64"]) == data and "text" not in seen


@pytest.mark.parametrize("size, shown", [(65535, 65535), (65536, 65536), (65537, 65536), (3 << 20, 65536)])
def test_a_long_body_is_cut_but_counted_and_hashed_whole(gateway, size, shown):
    data = os.urandom(size)
    seen = body_of(gateway, data)
    assert base64.b64decode(seen["base64"]) == data[:shown]
    assert (seen["bytes"], seen["truncated"], seen["sha256"]) == (size, size != shown, hashlib.sha256(data).hexdigest())


def test_no_body_is_zero_bytes(gateway):
    response = fetch(gateway.port("http"), "/echo")
    assert json.loads(response.body)["body"]["bytes"] == 0


def test_a_chunked_body_is_shown_without_its_framing(gateway):
    with Client(gateway.port("http")) as client:
        client.send(b"PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        seen = json.loads(client.response().body)
        assert (seen["method"], seen["body"]["text"]) == ("PUT", "abcde")
        client.request("GET", "/echo")
        assert client.response().status == 200


def test_a_chunked_body_above_the_limit_is_413(gateway):
    with Client(gateway.port("http")) as client:
        client.send(b"POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1f4\r\n" + b"x" * 500 + b"\r\n")
        client.send(b"1f5\r\n" + b"x" * 501 + b"\r\n0\r\n\r\n")
        assert client.response().status == 413
        assert client.is_closed()
    assert gateway.wait_log(lambda entry: entry["path"] == "/small")[0]["reason"] == "BODY_TOO_LARGE"


def test_a_chunked_body_of_just_the_limit_passes(gateway):
    with Client(gateway.port("http")) as client:
        client.send(b"POST /small/fits HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n")
        assert json.loads(client.response().body)["body"]["bytes"] == 1000


def test_a_broken_chunk_is_400_and_the_gateway_goes_on(gateway):
    with Client(gateway.port("http")) as client:
        client.send(b"POST /echo/broken HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX")
        assert client.response().status == 400
    assert fetch(gateway.port("http"), "/echo").status == 200


def test_a_client_that_leaves_in_its_body_does_no_harm(gateway):
    client = Client(gateway.port("http"))
    client.send(b"POST /echo/left HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100000)
    client.reset()
    assert gateway.wait_log(lambda entry: entry["path"] == "/echo/left")[0]["reason"] == "CLIENT_CLOSED"
    wait_for(lambda: gateway.metric("weir_requests_in_flight") == 0, "no request")


def test_head_of_echo_has_its_length_and_no_body(gateway):
    response = fetch(gateway.port("http"), "/echo", "HEAD")
    assert response.status == 200 and int(response.get("content-length")) > 100 and response.body == b""


def test_echo_over_tls_shows_version_and_cipher(gateway):
    seen = json.loads(fetch(gateway.port("https"), "/echo", tls="localhost").body)
    assert seen["scheme"] == "https" and seen["tls"]["version"] == "TLSv1.3" and seen["tls"]["cipher"].startswith("TLS_")


# --- weir's own answers -------------------------------------------------------------------------------------------------
def test_an_error_does_not_inherit_what_the_route_says_of_its_pages(gateway):
    good, bad = (fetch(gateway.port("http"), path) for path in ("/kept/x", "/kept/missing"))
    assert (good.status, good.get("cache-control"), good.get("etag")) == (200, "max-age=9999", '"x"')
    assert (bad.status, bad.get("cache-control"), bad.get("etag")) == (404, None, None)
    assert bad.get("content-type") == "text/plain; charset=utf-8"
    assert bad.get("strict-transport-security") == "max-age=1"


def test_a_header_that_the_route_sets_is_sent_once(gateway):
    response = fetch(gateway.port("http"), "/typed")
    assert (response.get("content-type"), response.get("server")) == ("text/odd", "other")


@pytest.mark.parametrize("path", ["/nothing", "/kept/missing"])
def test_a_json_error_names_status_reason_and_message(gateway, path):
    response = fetch(gateway.port("http"), path, headers=[("Accept", "application/json")])
    said = json.loads(response.body)
    assert said["status"] == response.status == 404
    assert said["reason"] == ("NO_ROUTE" if path == "/nothing" else "FILE_NOT_FOUND")
    assert said["message"] and response.get("content-type") == "application/json"


def test_an_error_tells_nothing_of_the_inside(gateway):
    for accept in ("application/json", "text/html", "*/*"):
        response = fetch(gateway.port("http"), "/kept/missing", headers=[("Accept", accept)])
        for secret in (str(gateway.folder), "site", "kept", "missing"):
            assert secret.encode() not in response.body
