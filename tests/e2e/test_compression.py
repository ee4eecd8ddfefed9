"""Compression of responses, decoded with the decoders that clients have: zlib and python's brotli."""
import gzip
import json
import os
import random
import threading
import time
import zlib

import brotli
import pytest

from client import Client, fetch
from h2client import H2Client
from origin import Origin, reply
from weir import CONFIG, Disturbed, Weir, undisturbed, wait_for

PAGE = b"".join(b"<p>line %d of a page that is worth to be compressed</p>\n" % i for i in range(4000))  # 220 KB
NOISE = os.urandom(200_000)

CONFIGURATION = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}, h2c: {address: "127.0.0.1:@h2c@", protocols: h2}}
compression: true
target_groups: {all: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}}
routes:
  - {name: off, match: {path: "/off/*"}, compression: false, forward: all}
  - {name: gzip_only, match: {path: "/gzip-only/*"}, compression: {algorithms: gzip, min_size: 10, types: "image/*"}, forward: all}
  - {name: fixed, match: {path: /fixed}, respond: {body: "@text@", content_type: "application/json"}}
  - {name: tagged, match: {path: /tagged}, response_headers: {set: {ETag: '"v1"', Vary: Origin, Accept-Ranges: bytes}},
     respond: {body: "@text@"}}
  - {name: opaque, match: {path: /opaque}, response_headers: {set: {Cache-Control: "public, no-transform"}}, respond: {body: "@text@"}}
  - {name: moved, match: {path: /moved}, redirect: {path: /fixed}}
  - {name: site, match: {path_prefix: /site}, files: {root: "@tmp@/site", strip_prefix: /site, precompressed: [br, gzip]}}
  - {name: live, match: {path_prefix: /live}, files: {root: "@tmp@/site", strip_prefix: /live}}
  - {name: all, forward: all}
error_pages: {"404": {body: "@text@"}}
"""
TEXT = "all work and no play makes a dull page. " * 60


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(origin, tmp_path_factory):
    with Weir(CONFIGURATION, origin=origin.port, text=TEXT) as gateway:
        site = gateway.folder / "site"
        site.mkdir()
        (site / "page.html").write_bytes(PAGE)
        (site / "noise.png").write_bytes(NOISE)
        (site / "small.txt").write_bytes(b"x" * 999)
        (site / "app.js").write_bytes(PAGE)
        (site / "app.js.br").write_bytes(brotli.compress(PAGE, quality=11))
        (site / "app.js.gz").write_bytes(gzip.compress(PAGE, 9))
        (site / "old.js").write_bytes(PAGE)
        (site / "old.js.gz").write_bytes(gzip.compress(b"stale", 9))
        os.utime(site / "old.js.gz", (1_000_000_000, 1_000_000_000))
        yield gateway


@pytest.fixture
def get(gateway, origin):
    origin.paths.clear()

    def get(path, accept="gzip, deflate, br", method="GET", headers=(), **options):
        fields = [("Accept-Encoding", accept)] if accept is not None else []
        return fetch(gateway.port("http"), path, method, fields + list(headers), **options)
    return get


def decoded(response):
    coding = response.get("content-encoding")
    if coding == "br":
        return brotli.decompress(response.body)
    if coding == "gzip":
        return gzip.decompress(response.body)
    assert coding is None, coding
    return response.body


def page(origin, path="/page", body=PAGE, status="200 OK", kind="text/html; charset=utf-8", **fields):
    all_fields = [("Content-Type", kind)] if kind else []
    origin.on(path, reply(body, status, all_fields + [(name.replace("_", "-"), value) for name, value in fields.items()]))


def assert_plain(response, body=PAGE):
    assert response.get("content-encoding") is None
    assert response.body == body


# --- negotiation -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("accept, coding", [
    ("gzip", "gzip"), ("br", "br"), ("gzip, deflate, br, zstd", "br"), ("gzip;q=1.0, br;q=0.5", "gzip"), ("*", "br"),
    ("GZIP ; q=0.1", "gzip"), ("br;q=0, *", "gzip"), ("gzip, identity;q=0", "gzip"), (None, None), ("", None),
    ("identity", None), ("gzip;q=0", None), ("*;q=0", None), ("identity, gzip;q=0.5", None), ("deflate", None),
    ("gzip;q=2", None)])
def test_the_coding_that_the_client_likes_best_is_sent(get, origin, accept, coding):
    page(origin)
    response = get("/page", accept)
    assert response.status == 200
    assert response.get("content-encoding") == coding
    assert decoded(response) == PAGE
    assert response.get("vary") == "Accept-Encoding"
    assert response.get("content-length") == (None if coding else str(len(PAGE)))
    if coding:
        assert len(response.body) < len(PAGE) / 4


def test_several_fields_are_one_list(get, origin):
    page(origin)
    assert get("/page", None, headers=[("Accept-Encoding", "br;q=0"), ("Accept-Encoding", "gzip")]).get("content-encoding") == "gzip"


# --- which responses ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["text/css", "text/event-stream", "application/json", "application/vnd.api+json",
                                  "APPLICATION/XML", "image/svg+xml", "application/wasm", "font/ttf", "text/plain;charset=x"])
def test_listed_types_are_compressed(get, origin, kind):
    page(origin, kind=kind)
    response = get("/page")
    assert response.get("content-encoding") in ("br", "gzip") and decoded(response) == PAGE


@pytest.mark.parametrize("kind", ["image/png", "application/zip", "font/woff2", "video/mp4", "application/grpc+proto",
                                  "application/octet-stream", "texthtml", None])
def test_other_types_are_left_alone_and_do_not_vary(get, origin, kind):
    page(origin, kind=kind)
    response = get("/page")
    assert_plain(response)
    assert response.get("vary") is None


@pytest.mark.parametrize("size, is_compressed", [(999, False), (1000, True), (10_000_000, True), (10_000_001, False)])
def test_sizes_are_bounded_on_both_sides(get, origin, size, is_compressed):
    body = (b"0123456789abcde\n" * (size // 16 + 1))[:size]
    page(origin, body=body)
    response = get("/page")
    assert (response.get("content-encoding") is not None) == is_compressed
    assert (response.get("vary") is not None) == is_compressed
    assert decoded(response) == body


def test_who_refuses_identity_gets_small_responses_compressed(get, origin):
    page(origin, body=b"tiny")
    response = get("/page", "gzip, identity;q=0")
    assert response.get("content-encoding") == "gzip" and decoded(response) == b"tiny"


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "403 Forbidden", "404 Not Found", "500 Internal Server Error"])
def test_any_status_with_content_is_compressed(get, origin, status):
    page(origin, status=status)
    response = get("/page")
    assert response.status == int(status[:3]) and decoded(response) == PAGE and response.get("content-encoding") == "br"


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_content_stays_without(get, origin, status):
    origin.on("/none", f"HTTP/1.1 {status} None\r\nETag: \"a\"\r\nContent-Type: text/html\r\n\r\n".encode())
    response = get("/none")
    assert response.status == status and response.body == b""
    assert response.get("content-encoding") is None and response.get("content-length") is None
    assert response.get("etag") == '"a"'


def test_a_304_repeats_the_weak_tag_that_the_client_sent(get, origin):
    origin.on("/none", b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n')
    response = get("/none", headers=[("If-None-Match", '"b", W/"a"')])
    assert response.get("etag") == 'W/"a"' and response.get("vary") == "Accept-Encoding"
    assert get("/none", headers=[("If-None-Match", '"a"')]).get("etag") == '"a"'


def test_a_304_tells_no_length_of_what_might_be_compressed(get, origin):
    origin.on("/none", b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 6000\r\n\r\n')
    response = get("/none", headers=[("If-None-Match", 'W/"a"')])
    assert response.status == 304 and response.get("content-length") is None and not response.all("transfer-encoding")


def test_parts_are_left_alone(get, origin):
    page(origin, status="206 Partial Content", Content_Range=f"bytes 0-{len(PAGE) - 1}/999999", ETag='"a"')
    response = get("/page", headers=[("Range", f"bytes=0-{len(PAGE) - 1}")])
    assert_plain(response)
    assert response.status == 206 and response.get("etag") == '"a"' and response.get("content-length") == str(len(PAGE))


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "identity"])
def test_what_is_encoded_stays_as_it_is(get, origin, coding):
    page(origin, Content_Encoding=coding)
    response = get("/page")
    assert response.all("content-encoding") == [coding] and response.body == PAGE


@pytest.mark.parametrize("value", ["no-transform", "public,max-age=9, No-Transform"])
def test_no_transform_is_respected_on_both_sides(get, origin, value):
    page(origin, Cache_Control=value)
    assert_plain(get("/page"))
    page(origin)
    response = get("/page", headers=[("Cache-Control", value)])
    assert_plain(response)
    assert response.get("vary") == "Accept-Encoding"


def test_http_1_0_gets_no_coding(gateway, get, origin):
    page(origin)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/page", {"Accept-Encoding": "gzip"}, version="1.0")
        assert_plain(client.response())


# --- fields ------------------------------------------------------------------------------------------------------------
def test_fields_speak_of_the_new_bytes(get, origin):
    page(origin, ETag='"v"', Accept_Ranges="bytes", Vary="Origin", Content_MD5="x", Repr_Digest="sha-256=:x:",
         Last_Modified="Sun, 06 Nov 1994 08:49:37 GMT")
    response = get("/page")
    assert response.get("etag") == 'W/"v"'
    assert response.get("vary") == "Origin, Accept-Encoding"
    for name in ("accept-ranges", "content-md5", "repr-digest", "content-length"):
        assert response.get(name) is None
    assert response.get("last-modified") == "Sun, 06 Nov 1994 08:49:37 GMT"
    plain = get("/page", "identity")
    assert plain.get("etag") == '"v"' and plain.get("accept-ranges") == "bytes" and plain.get("content-md5") == "x"


@pytest.mark.parametrize("tag, sent", [('W/"v"', 'W/"v"'), ("v", None)])
def test_weak_tags_stay_and_bad_ones_go(get, origin, tag, sent):
    page(origin, ETag=tag)
    assert get("/page").get("etag") == sent


@pytest.mark.parametrize("path", ["/page", "/fixed", "/tagged", "/live/page.html", "/site/app.js", "/site/page.html"])
@pytest.mark.parametrize("accept", ["br", "gzip", "identity"])
def test_head_has_the_fields_of_get(get, origin, path, accept):
    origin.on("/page", lambda exchange: exchange.send(
        reply(PAGE, fields=[("Content-Type", "text/html"), ("ETag", '"v"')])[:-len(PAGE) if exchange.request.method == "HEAD" else None]))
    got, head = get(path, accept), get(path, accept, "HEAD")

    def fields(response):
        return [(name, value) for name, value in response.fields
                if name not in ("date", "transfer-encoding", "content-length") and name.lower() != "x-request-id"]
    assert fields(head) == fields(got) and head.body == b""
    if got.get("content-encoding") is None or path == "/site/app.js":
        assert head.get("content-length") == got.get("content-length") is not None
    else:  # not known before it is made
        assert head.get("content-length") is None


# --- framing -----------------------------------------------------------------------------------------------------------
def test_bodies_of_unknown_size_are_compressed_unless_they_turn_out_small(get, origin):
    def chunked(body):
        return (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n" +
                b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    origin.on("/big", chunked(PAGE)).on("/small", chunked(b"small"))
    response = get("/big")
    assert response.get("content-encoding") == "br" and decoded(response) == PAGE
    assert_plain(get("/small"), b"small")
    assert get("/small").get("vary") == "Accept-Encoding"


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_events_pass_at_once(gateway, origin, coding):
    """The origin sends an event only after the client has read the one before: held back ones would never come."""
    seen = threading.Semaphore(0)

    def events(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for i in range(50):
            exchange.send(b"data: event %d\n\n" % i)
            assert seen.acquire(timeout=20)
        exchange.close()
    origin.on("/events", events)
    decoder = brotli.Decompressor() if coding == "br" else zlib.decompressobj(31)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/events", {"Accept-Encoding": coding})
        response = client.head()
        assert response.get("content-encoding") == coding
        text = b""
        for i in range(50):
            expected = b"data: event %d\n\n" % i
            while not text.endswith(expected):
                size = int(client.until(b"\r\n"), 16)
                data = client.exactly(size)
                assert client.exactly(2) == b"\r\n"
                text += decoder.process(data) if coding == "br" else decoder.decompress(data)
            seen.release()
    assert text.count(b"data:") == 50


def test_a_truncated_body_stays_visibly_truncated(gateway, origin):
    def cut(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 999999\r\n\r\n" + PAGE)
        exchange.close()
    origin.on("/cut", cut)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/cut", {"Accept-Encoding": "gzip"})
        assert client.head().status == 200
        assert not client.rest().endswith(b"0\r\n\r\n")
    assert gateway.wait_log(lambda entry: entry["path"] == "/cut")[0]["reason"] == "UPSTREAM_TRUNCATED"


def test_clients_that_leave_leave_no_encoder_behind(gateway, origin):
    page(origin, "/huge", body=PAGE * 40)
    for _ in range(20):
        client = Client(gateway.port("http"), receive_buffer=4096)
        client.request("GET", "/huge", {"Accept-Encoding": "gzip"})
        client.head()
        client.reset()
    wait_for(lambda: gateway.metric("weir_compression_memory_bytes") == 0, "encoders to be freed")


def test_pipelined_responses_are_each_whole(gateway, origin):
    page(origin)
    with Client(gateway.port("http")) as client:
        for accept in ("gzip", "br", "identity", "gzip") * 5:
            client.request("GET", "/page", {"Accept-Encoding": accept})
        for accept in ("gzip", "br", "identity", "gzip") * 5:
            response = client.response()
            assert response.get("content-encoding") == (None if accept == "identity" else accept)
            assert decoded(response) == PAGE


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_streams_of_http2_are_compressed_side_by_side(gateway, get, origin, coding):
    page(origin, ETag='"v"')
    with H2Client(gateway.port("h2c")) as client:
        head = client.fetch("/page", "HEAD", [("accept-encoding", coding)])
        assert head.get("content-encoding") == coding and head.body == b""
        for path, body in (("/page", PAGE), ("/live/page.html", PAGE), ("/fixed", TEXT.encode())):
            streams = [client.request(path, fields=[("accept-encoding", coding)]) for _ in range(10)]
            for stream in streams:
                answer = client.answer(stream)
                assert answer.reset is None and answer.get("content-encoding") == coding
                assert (brotli.decompress if coding == "br" else gzip.decompress)(answer.body) == body
        assert client.fetch("/page").body == PAGE


# --- what weir makes itself --------------------------------------------------------------------------------------------
def test_answers_of_weir_itself_are_compressed(get):
    response = get("/fixed")
    assert response.get("content-encoding") == "br" and decoded(response).decode() == TEXT
    assert response.get("content-length") == str(len(response.body))
    tagged = get("/tagged")
    assert tagged.get("etag") == 'W/"v1"' and tagged.get("vary") == "Origin, Accept-Encoding"
    assert tagged.get("accept-ranges") is None
    assert_plain(get("/opaque"), TEXT.encode())
    missing = get("/live/nothing")
    assert missing.status == 404 and missing.get("content-encoding") == "br" and decoded(missing).decode() == TEXT
    assert get("/moved").get("content-encoding") is None


def test_files_are_compressed_but_for_ranges(get):
    response = get("/live/page.html")
    assert response.get("content-encoding") == "br" and decoded(response) == PAGE
    assert response.get("accept-ranges") is None and response.get("etag").startswith('W/"')
    assert_plain(get("/live/noise.png"), NOISE)
    assert_plain(get("/live/small.txt"), b"x" * 999)
    part = get("/live/page.html", headers=[("Range", "bytes=0-4999")])
    assert part.status == 206 and part.body == PAGE[:5000] and part.get("content-encoding") is None
    again = get("/live/page.html", headers=[("If-None-Match", response.get("etag"))])
    assert again.status == 304 and again.get("etag") == response.get("etag")


def test_copies_made_beforehand_are_sent(get, gateway):
    tags = set()
    for accept, name, coding in (("gzip, br", "app.js.br", "br"), ("gzip", "app.js.gz", "gzip"), ("identity", "app.js", None),
                                 ("gzip;q=1, br;q=0.1", "app.js.gz", "gzip")):
        response = get("/site/app.js", accept)
        assert response.body == (gateway.folder / "site" / name).read_bytes()
        assert response.get("content-encoding") == coding
        assert response.get("content-type") == "text/javascript; charset=utf-8"
        assert response.get("content-length") == str(len(response.body))
        assert response.get("vary") == "Accept-Encoding"
        assert not response.get("etag").startswith("W/")
        tags.add(response.get("etag"))
        known = get("/site/app.js", accept, headers=[("If-None-Match", response.get("etag"))])
        assert known.status == 304 and known.get("vary") == "Accept-Encoding" and known.get("content-encoding") is None
    assert len(tags) == 3
    part = get("/site/app.js", "gzip", headers=[("Range", "bytes=10-19")])
    assert part.status == 206 and part.get("content-encoding") == "gzip"
    assert part.body == (gateway.folder / "site" / "app.js.gz").read_bytes()[10:20]


def test_a_copy_older_than_its_file_is_not_used(get):
    assert decoded(get("/site/old.js", "gzip")) == PAGE


# --- settings ----------------------------------------------------------------------------------------------------------
def test_a_route_may_say_otherwise(get, origin):
    page(origin, "/off/page")
    response = get("/off/page")
    assert_plain(response)
    assert response.get("vary") is None
    page(origin, "/gzip-only/a", kind="image/png")
    assert get("/gzip-only/a").get("content-encoding") == "gzip"
    page(origin, "/gzip-only/b")
    assert_plain(get("/gzip-only/b"))


def test_nothing_is_compressed_without_the_setting(weir, origin):
    page(origin)
    gateway = weir('listeners: {http: {address: "127.0.0.1:@http@"}}\n'
                   'target_groups: {all: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}}\n'
                   'routes:\n  - {match: {path: "/on*"}, compression: true, forward: all}\n  - {forward: all}\n', origin=origin.port)
    response = fetch(gateway.port("http"), "/page", headers={"Accept-Encoding": "gzip, br"})
    assert_plain(response)
    assert response.get("vary") is None
    page(origin, "/on")
    assert fetch(gateway.port("http"), "/on", headers={"Accept-Encoding": "gzip"}).get("content-encoding") == "gzip"


def explain(gateway, path, *args):
    done = gateway.run("explain", f"http://127.0.0.1:{gateway.port('http')}{path}", "-c", CONFIG, "--json", *args)
    assert done.returncode == 0, done.stderr
    return [step["text"] for step in json.loads(done.stdout)["steps"] if step["stage"] == "compression"], json.loads(done.stdout)["steps"]


def test_explain_says_what_is_compressed_and_why(gateway):
    texts, steps = explain(gateway, "/page", "-H", "Accept-Encoding: gzip, br;q=0.5")
    assert len(texts) == 1 and texts[0].startswith("gzip, if the response has one of ")
    step = next(step for step in steps if step["stage"] == "compression")
    assert step["line"] == CONFIGURATION.splitlines().index("compression: true") + 1
    assert explain(gateway, "/page")[0] == ["none: the client's Accept-Encoding has no coding of ours"]
    texts, _ = explain(gateway, "/fixed", "-H", "Accept-Encoding: br")
    assert texts[1] == "the answer is compressed: br"
    assert explain(gateway, "/off/page", "-H", "Accept-Encoding: br")[0] == []


def test_metrics_count_bytes_by_coding(get, gateway, origin):
    page(origin)
    names = [f"weir_compression_{name}_total" for name in ("responses", "bytes_in", "bytes_out")]
    before = [gateway.metric(name, coding="gzip") for name in names]
    response = get("/page", "gzip")
    after = [gateway.metric(name, coding="gzip") for name in names]
    assert [b - a for a, b in zip(before, after)] == [1, len(PAGE), len(response.body)]


# --- load --------------------------------------------------------------------------------------------------------------
def test_memory_has_a_bound_that_slow_clients_do_not_lift(weir, origin):
    """300 clients that read nothing: all get their response, but only as many of them compressed as memory allows."""
    gateway = weir('worker_threads: 1\nlisteners: {http: {address: "127.0.0.1:@http@"}}\n'
                   'compression: {memory: 8MiB}\n'
                   'target_groups: {all: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}}\n'
                   'routes: [{forward: all}]\n', origin=origin.port)
    # half of it when compressed, which no socket takes: whoever got an encoder keeps it
    page(origin, "/huge", body=random.Random(4).randbytes(4_400_000).hex().encode())
    clients = [Client(gateway.port("http"), receive_buffer=4096, timeout=60) for _ in range(300)]
    codings = []
    for client in clients:
        client.request("GET", "/huge", {"Accept-Encoding": "gzip, br"})
    for client in clients:
        codings.append(client.head().get("content-encoding"))
    assert gateway.metric("weir_compression_memory_bytes") <= 8 << 20
    assert codings.count("br") >= 2 and codings.count("gzip") >= 20 and codings.count(None) >= 100
    assert gateway.metric("weir_compression_skipped_total") == codings.count(None)
    for client in clients:
        client.reset()
    wait_for(lambda: gateway.metric("weir_compression_memory_bytes") == 0, "encoders to be freed")


@pytest.mark.timeout(180)
def test_the_loop_stays_responsive_while_much_is_compressed(weir, tmp_path):
    """Work waits for later turns instead of holding up everybody: 64 downloads of large files at once, on one thread."""
    undisturbed(lambda: compress_much(weir, tmp_path), 5)


def compress_much(weir, tmp_path):
    body = PAGE * 30
    (tmp_path / "huge.html").write_bytes(body)
    gateway = weir('worker_threads: 1\nlisteners: {http: {address: "127.0.0.1:@http@"}}\n'
                   'compression: {gzip_level: 9}\n'
                   'routes: [{match: {path: /huge.html}, files: "@root@"}, {respond: {body: hello}}]\n', root=str(tmp_path))
    done, alone = [], []

    def download():
        done.append(decoded(fetch(gateway.port("http"), "/huge.html", headers={"Accept-Encoding": "gzip"}, timeout=60)) == body)

    def download_alone():
        began = time.monotonic()
        download()
        alone.append(time.monotonic() - began)
    download_alone()
    threads = [threading.Thread(target=download) for _ in range(64)]
    for thread in threads:
        thread.start()
    wait_for(lambda: gateway.metric("weir_compression_deferred_total") > 0, "work to be put off")
    answers = 0
    with Client(gateway.port("http")) as client:
        while any(thread.is_alive() for thread in threads) and answers < 50:
            client.request("GET", "/")
            assert client.response().body == b"hello"
            answers += 1
    for thread in threads:
        thread.join()
    download_alone()
    assert done == [True] * 66
    # on a machine that does nothing else 20 ms; where it is busy, one download tells how much slower it makes everything
    lag = gateway.metric("weir_event_loop_lag_max_seconds", thread="0")
    if lag >= max(0.25, 8 * max(alone)):
        raise Disturbed(f"the loop was {lag} s late; alone a download takes {alone} s")
