"""HTTP/2 clients from end to end: the order of responses, trailers, and what clients made by others see."""
import subprocess

import pytest

from h2client import DATA, HEADERS, PRIORITY_UPDATE, H2Client, u32
from origin import Origin, reply
from origin_h2 import H2Origin
from weir import Weir

PIECES = 5
PIECE = 1000
TEXT = """
worker_threads: 1
limits: {http2: {stream_window: 1MiB}}
listeners:
  h2c: {address: "127.0.0.1:@h2c@", protocols: h2}
  https: {address: "127.0.0.1:@https@", tls: {certificates: self}}
certificates: {self: {self_signed: [localhost]}}
target_groups:
  origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
  target: {protocol: h2c, targets: ["127.0.0.1:@target@"], health_check: {enabled: false}}
routes:
  - {name: fixed, match: {path: /fixed}, respond: {status: 200, body: fixed}}
  - {name: pieces, match: {path: /pieces}, respond: {status: 200, body: "@pieces@"}}
  - {name: trailers, match: {path: /trailers}, forward: target}
  - {name: all, forward: origin}
"""


@pytest.fixture(scope="module")
def origin():
    with Origin(reply(b"o" * 3000)) as server:
        yield server


@pytest.fixture(scope="module")
def target():
    with H2Origin() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(module_weir, origin, target):
    return module_weir(TEXT, origin=origin.port, target=target.port, pieces="p" * PIECES * PIECE)


# ---- order of responses (RFC 9218) --------------------------------------------------------------------------------

ORDERS = {
    # name: (priority of the first request, of the second, a later PRIORITY_UPDATE of the second, who goes first)
    "urgency 0 before 7": ("u=7", "u=0", None, 1),
    "urgency 7 behind 0": ("u=0", "u=7", None, 0),
    "none is urgency 3": (None, "u=2", None, 1),
    "the first of equals": ("u=3", None, None, 0),
    "an update in flight": ("u=3", "u=5", b"u=0", 1),
    "an update without urgency": ("u=2", "u=1", b"", 0),
}


def window_spent(gateway, origin):
    """A client whose window of the connection is empty, those of its streams are not."""
    origin.on("/fill", reply(b"f" * 65535))
    client = H2Client(gateway.port("h2c"), opens_windows=False)
    assert len(client.fetch("/fill").body) == 65535
    return client


def served_in_turn(client):
    """The streams of the DATA frames that come, each for a piece of window."""
    turns = []
    for _ in range(2 * PIECES):
        client.window(0, PIECE)
        turns.append(client.wait_kind(DATA).stream)
    return turns


@pytest.mark.parametrize("name", ORDERS)
def test_who_is_more_urgent_gets_the_window_first(gateway, origin, name):
    first, second, update, winner = ORDERS[name]
    with window_spent(gateway, origin) as client:
        streams = []
        for value in (first, second):
            streams.append(client.request("/pieces", fields=[("priority", value)] if value else []))
            client.wait_kind(HEADERS, streams[-1])
        if update is not None:
            client.frame(PRIORITY_UPDATE, 0, 0, u32(streams[1]) + update)
            client.ping()
        assert served_in_turn(client) == [streams[winner]] * PIECES + [streams[1 - winner]] * PIECES


def test_incremental_responses_of_equal_urgency_share_the_window(gateway, origin):
    with window_spent(gateway, origin) as client:
        streams = [client.request("/pieces", fields=[("priority", "u=3, i")]) for _ in range(2)]
        for stream in streams:
            client.wait_kind(HEADERS, stream)
        turns = served_in_turn(client)
        assert set(turns[:2]) == set(streams) and sorted(turns) == sorted(streams * PIECES)


# ---- trailers ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("body", [b"", b"abc", b"x" * 200000], ids=len)
def test_trailers_pass_both_ways_between_http2_clients_and_targets(gateway, target, body):
    def answer(exchange):
        exchange.respond(200, exchange.body(), trailers=[("x-after", "said"), ("x-empty", "")])
    target.on("/trailers", answer)
    with H2Client(gateway.port("h2c")) as client:
        stream = client.headers([(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/trailers"),
                                 ("te", "trailers"), ("trailer", "x-before")], end=False)
        for at in range(0, len(body), 16384):
            client.data(stream, body[at:at + 16384])
        client.headers([("x-before", "asked")], stream)
        answered = client.answer(stream)
    assert (answered.status, answered.body) == (200, body)
    assert answered.trailers == [("x-after", "said"), ("x-empty", "")]
    assert target.requests[-1].trailers == [("x-before", "asked")]
    assert not target.errors


# ---- clients by others -------------------------------------------------------------------------------------------

def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def url(gateway, listener, path):
    return f"{'https' if listener == 'https' else 'http'}://127.0.0.1:{gateway.port(listener)}{path}"


@pytest.mark.parametrize("listener, option", [("https", "--http2"), ("h2c", "--http2-prior-knowledge")])
def test_curl_uploads_and_downloads_over_http2(gateway, origin, listener, option):
    origin.on("/mirror", lambda exchange: exchange.send(reply(exchange.request.body)))
    sent = gateway.write("upload", bytes(range(256)) * 4096)
    got = gateway.folder / f"download-{listener}"
    said = run("curl", "-sSk", option, "--data-binary", f"@{sent}", "-o", got, "-w", "%{http_version} %{http_code}",
               url(gateway, listener, "/mirror"))
    assert said == "2 200" and got.read_bytes() == sent.read_bytes()


@pytest.mark.parametrize("listener", ["https", "h2c"])
def test_nghttp_gets_many_responses_and_its_upload_back(gateway, origin, listener):
    origin.on("/mirror", lambda exchange: exchange.send(reply(exchange.request.body)))
    sent = gateway.write("upload", "w" * 100000)  # nghttp prints the frames of all streams as they come
    assert run("nghttp", "-m", 20, "-d", sent, url(gateway, listener, "/mirror")) == "w" * 100000 * 20
    said = run("nghttp", "-nv", url(gateway, listener, "/fixed"))
    assert ":status: 200" in said and "GOAWAY" in said  # its own, at the end
    assert "error_code=NO_ERROR(0x00)" in said


@pytest.mark.parametrize("listener", ["https", "h2c"])
@pytest.mark.parametrize("path", ["/fixed", "/ok"])
def test_h2load_finds_no_failure(gateway, listener, path):
    said = run("h2load", "-n", 3000, "-c", 10, "-m", 32, url(gateway, listener, path))
    assert "3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout" in said
    assert "status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx" in said
