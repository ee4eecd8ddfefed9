"""HTTP/2 towards clients: the messages (RFC 9113, sections 7 and 8, and RFC 8441). What a client may get wrong in a request, and
what a server has to keep to in its responses. Frames are in test_http2.py."""
import pytest

from h2client import (CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, NO_ERROR, PADDED, PROTOCOL_ERROR, RST_STREAM, H2Client)
from origin import Origin, reply
from test_http2 import GET, POST, TEXT, fields, hold, opened

RULES = """
  - {name: ruled, match: {path: "/ruled/*"}, response_headers: {set: {X-Capital: "1"}}, forward: origin}
"""


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(module_weir, origin):
    return module_weir(TEXT.replace("routes:\n", "routes:" + RULES), origin=origin.port)


@pytest.fixture(autouse=True)
def paths(origin):
    origin.on("/o/hold", hold)


# ---- malformed requests: RST_STREAM, PROTOCOL_ERROR (8.1.1) ------------------------------------------------------------------------------------
MALFORMED = {
    "a name with capitals": fields(("X-Team", "a")),
    "a name with one capital": fields(("x-teaM", "a")),
    "an empty name": fields(("", "a")),
    "a name with a blank": fields(("x team", "a")),
    "a name with a colon in it": fields(("x:y", "a")),
    "a name with a control": fields(("x\1", "a")),
    "a name with a high byte": fields(("x\xe9", "a")),
    "a value with NUL": fields(("x", "a\0b")),
    "a value with LF": fields(("x", "a\nb: c")),
    "a value with CR": fields(("x", "a\rb")),
    "a value with CRLF": fields(("x", "a\r\nx-injected: 1")),
    "a value that begins with a blank": fields(("x", " a")),
    "a value that begins with a tab": fields(("x", "\ta")),
    "a value that ends with a blank": fields(("x", "a ")),
    "a value with DEL": fields(("x", "a\x7f")),
    "a value that is a blank": fields(("x", " ")),
    "a value that ends with a tab": fields(("x", "a\t")),
    "connection": fields(("connection", "close")),
    "keep-alive": fields(("keep-alive", "timeout=5")),
    "proxy-connection": fields(("proxy-connection", "close")),
    "transfer-encoding": fields(("transfer-encoding", "chunked")),
    "upgrade": fields(("upgrade", "websocket")),
    "te other than trailers": fields(("te", "gzip")),
    "te with more than trailers": fields(("te", "trailers, gzip")),
    "an empty te": fields(("te", "")),
    "an empty field section": [],
    "no pseudo-header field": [("host", "example.com")],
    "an empty pseudo-header field": [(":", "a"), *GET],
    "a pseudo-header field with capitals": [(":Method", "GET"), *GET[1:]],
    "the same :authority twice": [GET[2], *GET],
    "two of :protocol": [(":method", "CONNECT"), (":protocol", "websocket"), (":protocol", "websocket"), *GET[1:]],
    "no :method": fields(without=["method"]),
    "no :scheme": fields(without=["scheme"]),
    "no :path": fields(without=["path"]),
    "an empty :path": fields(path=""),
    "two of :method": [(":method", "GET"), *GET],
    "two of :scheme": [(":scheme", "http"), *GET],
    "two of :path": [(":path", "/"), *GET],
    "two of :authority": [(":authority", "a"), *GET],
    "an unknown pseudo-header field": [(":test", "a"), *GET],
    "a pseudo-header field of responses": [(":status", "200"), *GET],
    "a pseudo-header field behind a field": [("x", "y"), *GET],
    "a pseudo-header field among fields": [*GET[:3], ("x", "y"), GET[3]],
    ":protocol without CONNECT": [(":protocol", "websocket"), *GET],
    "CONNECT with :path": [(":method", "CONNECT"), (":authority", "a:80"), (":path", "/")],
    "CONNECT with :scheme": [(":method", "CONNECT"), (":authority", "a:80"), (":scheme", "http")],
    "CONNECT without :authority": [(":method", "CONNECT")],
    "extended CONNECT without :path": [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a")],
    "extended CONNECT without :scheme": [(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/"), (":authority", "a")],
}
NO_NAME = [*range(0x21), *range(0x41, 0x5b), *range(0x7f, 0x100), *b'"(),/:;<=>?@[\\]{}']
NO_VALUE = [*range(0x09), *range(0x0a, 0x20), 0x7f]
for octet in NO_NAME:  # 8.2.1, and RFC 9110 5.1, which has fewer characters still
    MALFORMED[f"octet {octet:02x} in a name"] = fields((b"x" + bytes([octet]) + b"y", "a"))
for octet in NO_VALUE:
    MALFORMED[f"octet {octet:02x} in a value"] = fields(("x", b"a" + bytes([octet]) + b"b"))
GOOD_VALUES = [b"", b"a b", b"a\tb", bytes(range(0x21, 0x7f)), bytes(range(0x80, 0x100))]
GOOD_NAME = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"

# ---- requests that are well-formed HTTP/2 and no good HTTP ------------------------------------------------------------
REFUSED = {
    # name: (status, reason, fields)
    "no :authority and no host": (400, "MISSING_HOST", fields(without=["authority"])),
    "an empty :authority": (400, "BAD_HOST", fields(authority="")),
    ":authority with user info": (400, "BAD_HOST", fields(authority="user@example.com")),
    ":authority with a blank": (400, "BAD_HOST", fields(authority="a b")),
    ":authority with a path": (400, "BAD_HOST", fields(authority="a/b")),
    "host that differs from :authority": (400, "BAD_HOST", fields(("host", "other.example"))),
    "two of host": (400, "BAD_HOST", fields(("host", "a"), ("host", "a"), without=["authority"])),
    "a blank in :path": (400, "BAD_TARGET", fields(path="/a b")),
    "a request line in :path": (400, "BAD_TARGET", fields(path="/ HTTP/1.1\r\nx: y")),
    "CR in :path": (400, "BAD_TARGET", fields(path="/a\rb")),
    "NUL in :path": (400, "BAD_TARGET", fields(path="/a\0b")),
    "a tab in :path": (400, "BAD_TARGET", fields(path="/a\tb")),
    "a high byte in :path": (400, "BAD_TARGET", fields(path="/\xe9")),
    "# in :path": (400, "BAD_TARGET", fields(path="/a#b")),
    "a backslash in :path": (400, "BAD_TARGET", fields(path="/a\\b")),
    "% without digits in :path": (400, "BAD_TARGET", fields(path="/%zz")),
    "an absolute :path": (400, "BAD_TARGET", fields(path="http://example.com/")),
    ":path without slash": (400, "BAD_TARGET", fields(path="fixed")),
    "* with GET": (400, "BAD_TARGET", fields(path="*")),
    "a :scheme of no use": (400, "BAD_TARGET", fields(scheme="ftp")),
    "a :scheme with a blank": (400, "BAD_TARGET", fields(scheme="http ")),
    "a :method with a blank": (400, "BAD_METHOD", fields(method="GET /")),
    "a :method with CRLF": (400, "BAD_METHOD", fields(method="GET\r\n")),
    "an empty :method": (400, "BAD_METHOD", fields(method="")),
    "a :method of 33 letters": (400, "BAD_METHOD", fields(method="A" * 33)),
    "CONNECT": (405, "METHOD_NOT_ALLOWED", [(":method", "CONNECT"), (":authority", "a:80")]),
    "content-length that is no number": (400, "BAD_LENGTH", fields(("content-length", "five"))),
    "two of content-length": (400, "BAD_LENGTH", fields(("content-length", "0"), ("content-length", "0"))),
    "an expectation": (417, "EXPECTATION_FAILED", fields(("expect", "more"))),
    "101 fields": (431, "HEAD_TOO_LARGE", fields(*((f"x-{i}", "y") for i in range(101)))),
    "a head above header_block": (431, "HEAD_TOO_LARGE", fields(*((f"x-{i}", "y" * 4000) for i in range(9)))),
    "a path above url": (414, "URL_TOO_LONG", fields(path="/" + "a" * 8192)),
}




@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_reset_and_others_go_on(gateway, name):
    with H2Client(gateway.port("h2c")) as client:
        answer = client.answer(client.headers(MALFORMED[name]))
        assert answer.reset == PROTOCOL_ERROR and answer.status is None
        assert client.fetch("/fixed").status == 200


@pytest.mark.parametrize("name", REFUSED)
def test_what_http1_would_refuse_is_refused(gateway, name):
    status, reason, head = REFUSED[name]
    with H2Client(gateway.port("h2c")) as client:
        port = client.socket.getsockname()[1]
        block = client.encode(head)
        parts = [block[at:at + 16000] for at in range(0, len(block), 16000)]
        client.frame(HEADERS, END_STREAM | (END_HEADERS if len(parts) == 1 else 0), 1, parts[0])
        for i, part in enumerate(parts[1:], 2):
            client.frame(CONTINUATION, END_HEADERS if i == len(parts) else 0, 1, part)
        client.next_stream = 3
        answer = client.answer(1)
        assert answer.status == status and answer.reset is None
        assert client.fetch("/fixed").status == 200
    gateway.wait_log(lambda entry: entry["client_port"] == port and entry["reason"] == reason)


@pytest.mark.parametrize("name, length, pieces", [
    ("too short", 10, [b"12345"]), ("too long", 3, [b"12345"]), ("too long in two", 3, [b"123", b"4"]), ("none", 3, [b""]),
    ("too long for none", 0, [b"1"])])
@pytest.mark.parametrize("end", ["DATA", "trailers", "padded"])
@pytest.mark.parametrize("path", ["/o/hold", "/o/echo", "/echo", "/fixed"])
def test_a_body_that_is_not_its_content_length_is_reset_or_was_answered_before(gateway, origin, name, length, pieces, end, path):
    """8.1.1. Padding is no body. Bytes behind a body that was complete may come when it is answered already."""
    case = f"{path}-{name}-{end}"
    with H2Client(gateway.port("h2c")) as client:
        stream = client.headers([*POST[:3], (":path", path), ("content-length", str(length)), ("x-case", case)], end=False)
        for i, piece in enumerate(pieces, 1):
            flags = END_STREAM if i == len(pieces) and end != "trailers" else 0
            client.frame(DATA, flags | PADDED, stream, b"\x0a" + piece + b"\0" * 10) if end == "padded" else client.frame(DATA, flags, stream, piece)
        if end == "trailers":
            client.headers([("x", "y")], stream)
        answer = client.answer(stream)
        was_complete = length == len(pieces[0]) or length == 0
        assert answer.reset == PROTOCOL_ERROR or (answer.status == 200 and (path == "/fixed" or (was_complete and path != "/o/hold")))
        assert client.fetch("/fixed").status == 200
    assert was_complete or not any(r.is_whole for r in origin.requests if r.get("x-case") == case)


@pytest.mark.parametrize("end", ["DATA", "trailers", "padded", "an empty frame"])
def test_a_body_that_is_its_content_length_is_taken(gateway, end):
    with H2Client(gateway.port("h2c")) as client:
        stream = client.headers([*POST[:3], (":path", "/echo"), ("content-length", "5")], end=False)
        if end == "padded":
            client.frame(DATA, END_STREAM | PADDED, stream, b"\x0212345\0\0")
        else:
            client.data(stream, b"12345", end=end == "DATA")
        if end == "an empty frame":
            client.data(stream, end=True)
        elif end == "trailers":
            client.headers([("x", "y")], stream)
        answer = client.answer(stream)
        assert answer.status == 200 and b"12345" in answer.body


def test_a_value_may_have_every_octet_that_is_not_forbidden_and_a_name_every_token_character(gateway, origin):
    with H2Client(gateway.port("h2c")) as client:
        assert client.fetch("/o/kept", fields=[(GOOD_NAME, value) for value in GOOD_VALUES]).status == 200
    assert [value.encode("latin-1") for value in origin.requests[-1].all(GOOD_NAME.decode())] == GOOD_VALUES


def test_a_content_length_without_body_is_reset(gateway):
    with H2Client(gateway.port("h2c")) as client:
        assert client.answer(client.headers(fields(("content-length", "3")))).reset == PROTOCOL_ERROR


@pytest.mark.parametrize("trailers, end", [
    ([("x", "y")], False), ([(":path", "/")], True), ([(":status", "200")], True), ([(":unknown", "/")], True), ([("x", "y"), (":path", "/")], True),
    ([("X", "y")], True), ([("x y", "z")], True), ([("", "z")], True), ([("x", "a\0b")], True), ([("x", "a\r\nb: c")], True), ([("x", " a")], True),
    ([("connection", "close")], True), ([("transfer-encoding", "chunked")], True), ([("te", "gzip")], True), ([("upgrade", "x")], True),
    ([("keep-alive", "x")], True), ([("proxy-connection", "x")], True)])
def test_malformed_trailers_are_reset(gateway, trailers, end):
    """8.1: they end the stream; 8.2, 8.3: fields as in heads, pseudo-header fields never."""
    with H2Client(gateway.port("h2c")) as client:
        stream = opened(client)
        client.data(stream, b"abc")
        client.headers(trailers, stream, end=end)
        assert client.answer(stream).reset == PROTOCOL_ERROR
        assert client.fetch("/fixed").status == 200


# ---- what a request becomes ---------------------------------------------------------------------------------------------

COOKIES = {
    "crumbs": ([("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")], "a=1; b=2; c=3"),
    "crumbs among fields": ([("cookie", "b=2"), ("x-a", "1"), ("cookie", "a=1")], "b=2; a=1"),
    "one": ([("cookie", "a=1; b=2")], "a=1; b=2"),
    "one and crumbs": ([("cookie", "a=1; b=2"), ("cookie", "c=3")], "a=1; b=2; c=3"),
    "a hundred": ([("cookie", f"c{i}={i}") for i in range(100)], "; ".join(f"c{i}={i}" for i in range(100))),
}


@pytest.mark.parametrize("name", COOKIES)
def test_cookie_crumbs_are_joined_in_their_order(gateway, origin, name):
    """8.2.3."""
    sent, joined = COOKIES[name]
    with H2Client(gateway.port("h2c")) as client:
        assert client.fetch("/o/cookie", fields=sent).status == 200
    assert origin.requests[-1].all("cookie") == [joined]


@pytest.mark.parametrize("head, host", [
    (fields(path="/o/host"), "example.com"), (fields(("host", "example.com"), path="/o/host"), "example.com"),
    (fields(("host", "other.example"), path="/o/host", without=["authority"]), "other.example"),
    (fields(path="/o/host", authority="example.com:8080"), "example.com:8080")])
def test_the_authority_becomes_the_host(gateway, origin, head, host):
    """8.3.1: exactly one Host goes on."""
    with H2Client(gateway.port("h2c")) as client:
        assert client.answer(client.headers(head)).status == 200
    request = origin.requests[-1]
    assert request.all("host") == [host] and request.version == "HTTP/1.1"
    assert not [name for name, _ in request.fields if name.startswith(":")]


def test_a_request_may_end_with_an_empty_frame_with_trailers_or_with_its_head(gateway, origin):
    """8.1."""
    with H2Client(gateway.port("h2c")) as client:
        for end in (lambda s: client.data(s, end=True), lambda s: client.headers([("x", "y")], s), None):
            stream = client.headers(fields(path="/o/end"), end=end is None)
            if end is not None:
                end(stream)
            assert client.answer(stream).status == 200


def test_a_server_wide_request_has_an_asterisk(gateway):
    """8.3.1."""
    with H2Client(gateway.port("h2c")) as client:
        assert client.answer(client.headers(fields(method="OPTIONS", path="*"))).status is not None


# ---- what a server itself has to keep to in responses -------------------------------------------------------------------

HOPS = [("Connection", "x-hop, keep-alive"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "x"), ("Upgrade", "h2c"),
        ("TE", "trailers"), ("X-Stays", "Value"), ("ETag", '"x"')]


def frames_of(client, stream):
    """Its frames, up to the one that ends it."""
    found = [f for f in client.all_frames if f.stream == stream and f.kind in (HEADERS, DATA, CONTINUATION, RST_STREAM)]
    assert [f.ends for f in found].count(True) == 1 and found[-1].ends, found
    return found


@pytest.mark.parametrize("path, framing", [("/o/hops", "length"), ("/o/hops", "chunked"), ("/ruled/hops", "length")])
def test_fields_of_a_connection_do_not_go_on_and_names_are_lowered(gateway, origin, path, framing):
    """8.2, 8.2.2. h2client checks names, values and the place of :status in every head."""
    head = "HTTP/1.1 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in HOPS)
    body = b"Content-Length: 2\r\n\r\nok" if framing == "length" else b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    origin.on(path, head.encode() + body)
    with H2Client(gateway.port("h2c")) as client:
        answer = client.fetch(path)
    assert answer.status == 200 and answer.body == b"ok" and answer.get("x-stays") == "Value" and answer.get("etag") == '"x"'
    assert answer.get("x-capital") == ("1" if path.startswith("/ruled") else None)
    assert not {name for name, _ in answer.fields} & {"x-hop", "te", "connection", "keep-alive", "proxy-connection", "upgrade"}


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_interim_responses_come_first_do_not_end_the_stream_and_bring_no_connection_fields(gateway, origin):
    """8.1, 8.2.2, RFC 9110 15.2."""
    origin.on("/o/hints", INTERIM.replace(b"Transfer-Encoding: chunked\r\n", b"") * 2 + reply(b"ok"))
    with H2Client(gateway.port("h2c")) as client:
        answer = client.fetch("/o/hints")
        assert answer.interim == [103, 103] and answer.body == b"ok"
        assert all({name for name, _ in found} == {"link"} for found in answer.interim_fields)
        assert [f.kind for f in frames_of(client, 1)] == [HEADERS, HEADERS, HEADERS, DATA]


def test_a_body_is_asked_for_with_100_where_the_client_waits_for_it(gateway, origin):
    """8.1.1 of RFC 9113's examples (8.8.6): HEADERS with 100, without END_STREAM."""
    origin.on("/o/echo", lambda exchange: exchange.send(reply(exchange.request.body)))
    with H2Client(gateway.port("h2c")) as client:
        stream = client.headers([*POST, ("expect", "100-continue"), ("content-length", "4")], end=False)
        interim = client.wait_kind(HEADERS, stream)
        assert interim.fields == [(":status", "100")] and not interim.ends
        answer = client.data(stream, b"body", end=True).answer(stream)
        assert (answer.status, answer.body, answer.interim) == (200, b"body", [])


@pytest.mark.parametrize("status", [b"101 Switching Protocols", b"099 What", b"600 What", b"999 What"])
def test_a_status_that_http2_does_not_have_is_never_passed_on(gateway, origin, status):
    """8.6: 101 does not exist there."""
    origin.on("/o/status", b"HTTP/1.1 " + status + b"\r\nUpgrade: x\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n")
    with H2Client(gateway.port("h2c")) as client:
        assert client.fetch("/o/status").status == 502


NO_BODY = {
    # name: (method, path, what the target says)
    "HEAD of a target": ("HEAD", "/o/none", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    "HEAD of a target that does not know": ("HEAD", "/o/none", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "204": ("GET", "/o/none", b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304": ("GET", "/o/none", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n"),
    "a length of 0": ("GET", "/o/none", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "HEAD of what is fixed": ("HEAD", "/fixed", None),
    "HEAD of an echo": ("HEAD", "/echo", None),
    "HEAD of nothing": ("HEAD", "/nowhere", None),
    "HEAD of a target that is malformed": ("HEAD", "/o/none", b"HTTP/1.1 what\r\n\r\n"),
}


@pytest.mark.parametrize("name", NO_BODY)
def test_a_response_without_body_is_one_frame_that_ends_the_stream(gateway, origin, name):
    """8.1: and a content-length of it says what GET would get (RFC 9110 8.6), 204 has none."""
    method, path, answer = NO_BODY[name]
    origin.on("/o/none", answer or reply())
    with H2Client(gateway.port("h2c")) as client:
        got = client.fetch(path, method)
        assert got.status is not None and got.body == b""
        assert [f.kind for f in frames_of(client, 1)] == [HEADERS]
        assert name not in ("HEAD of a target", "304") or got.get("content-length") == "5"
        assert got.status != 204 or got.get("content-length") is None
        assert client.fetch("/fixed").body == b"fixed"


def test_trailers_end_the_stream_and_nothing_comes_behind_them(gateway, origin):
    """8.1."""
    origin.on("/o/trailers", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-After\r\n\r\n2\r\nok\r\n0\r\nX-After: 1\r\n\r\n")
    with H2Client(gateway.port("h2c")) as client:
        answer = client.fetch("/o/trailers", fields=[("te", "trailers")])
        assert answer.trailers == [("x-after", "1")]
        assert [f.kind for f in frames_of(client, 1)] in ([HEADERS, DATA, HEADERS], [HEADERS, DATA, DATA, HEADERS])


def test_a_response_that_breaks_off_does_not_end_its_stream_in_peace(gateway, origin):
    """8.1: END_STREAM would make it whole."""
    origin.on("/o/broken", lambda exchange: (exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"), exchange.close()))
    with H2Client(gateway.port("h2c")) as client:
        answer = client.fetch("/o/broken")
        assert answer.reset not in (None, NO_ERROR) and answer.body in (b"", b"12345")
        assert client.fetch("/fixed").status == 200


def test_a_large_head_is_continued_and_nothing_comes_in_between(gateway, origin):
    """6.10, 8.1. h2client insists on CONTINUATION."""
    origin.on("/o/large", reply(b"x" * 100_000, fields=[(f"X-{i}", "X" * 6000) for i in range(5)]))
    with H2Client(gateway.port("h2c")) as client:
        streams = [client.request("/o/large") for _ in range(3)]
        for stream in streams:
            assert len(client.answer(stream).body) == 100_000
        assert any(f.kind == CONTINUATION for f in client.all_frames)
