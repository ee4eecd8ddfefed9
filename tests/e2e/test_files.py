"""The files action: names, links, MIME types, ranges, conditions (RFC 9110 13, 14)."""
import email.utils
import os
import re
import socket
import time

import pytest

from client import Client, Closed, fetch
from weir import Weir, wait_for

LETTERS = b"abcdefghijklmnopqrstuvwxyz"
CHANGED = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT
DATE, EARLIER, LATER = (email.utils.formatdate(CHANGED + step, usegmt=True) for step in (0, -1, 1))

CONFIG = """
worker_threads: 1
limits: {desync_mitigation: monitor}  # a GET with a body keeps its connection
listeners: {http: {address: "127.0.0.1:@http@"}}
routes:
  - {name: static, match: {path: "/static*"}, files: {root: "@tmp@/site/sub", strip_prefix: /static}}
  - name: cached
    match: {path: "/cached*"}
    response_headers: {set: {cache-control: "max-age=60", content-type: text/special}}
    files: {root: "@tmp@/site", strip_prefix: /cached}
  - {name: late, match: {path: "/late*"}, files: {root: "@tmp@/late", strip_prefix: /late}}
  - {name: two, match: {path: "/two*"}, files: {root: "@tmp@/site", strip_prefix: /two, index: [none.html, letters.txt]}}
  - {name: site, files: {root: "@tmp@/site"}}
"""


@pytest.fixture(scope="module")
def gateway():
    weir = Weir(CONFIG, start=False)
    site = weir.folder / "site"
    for name, content in {
            "index.html": "<h1>home</h1>\n", "letters.txt": LETTERS, "empty.txt": b"", "a b.txt": "blank", "100%.txt": "percent",
            "ä.txt": "umlaut", "a+b.txt": "plus", "back\\slash.txt": "back", "..dots.txt": "dots", "sub/index.html": "sub home",
            "sub/deep/x.css": "x{}", "noindex/file.txt": "f", "plain": "no extension", "UPPER.HTML": "<p>", "app.js": "1",
            "mod.mjs": "1", "data.json": "{}", "pic.svg": "<svg/>", "pic.png": b"\x89PNG", "app.wasm": b"\0asm", "doc.xml": "<x/>",
            "archive.tar.gz": b"\x1f\x8b", "strange.unheardof": "?", "big.bin": os.urandom(1 << 20)}.items():
        weir.write(f"site/{name}", content)
    weir.write("secret.txt", "secret")
    os.utime(site / "letters.txt", (CHANGED, CHANGED))
    os.symlink("letters.txt", site / "inside.txt")
    os.symlink("sub", site / "subdir")
    os.symlink("../secret.txt", site / "outside.txt")
    os.symlink("/etc/passwd", site / "absolute.txt")
    os.symlink("..", site / "up")
    os.symlink("loop", site / "loop")
    os.symlink("nowhere", site / "dangling")
    os.mkfifo(site / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(site / "sock"))
    with weir.start():
        yield weir


@pytest.fixture
def get(gateway):
    def get(path, headers=(), method="GET"):
        headers = list(headers.items()) if isinstance(headers, dict) else headers
        return fetch(gateway.port("http"), path, method, headers)
    return get


# --- names ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path, body", [
    ("/letters.txt", LETTERS), ("/letters.txt?query=1", LETTERS), ("/a%20b.txt", b"blank"), ("/100%25.txt", b"percent"),
    ("/%C3%A4.txt", b"umlaut"), ("/a+b.txt", b"plus"), ("/..dots.txt", b"dots"), ("/%6cetters.txt", LETTERS),
    ("//letters.txt", LETTERS), ("/sub//deep//x.css", b"x{}"), ("/sub/../letters.txt", LETTERS), ("/./letters.txt", LETTERS),
    ("/back%5Cslash.txt", b"back"), ("/inside.txt", LETTERS), ("/subdir/deep/x.css", b"x{}"), ("/plain", b"no extension")])
def test_a_name_finds_its_file(get, path, body):
    response = get(path)
    assert (response.status, response.body) == (200, body)


@pytest.mark.parametrize("path", [
    "/nothing", "/letters.txt/", "/letters.txt/x", "/sub/nothing", "/dangling", "/a%2Fb", "/sub%2Findex.html", "/sub%2findex.html",
    "/..%2Fsecret.txt", "/sub/..%2f..%2fsecret.txt", "/..%5Csecret.txt", "/%2e%2e%2fsecret.txt", "/..;/secret.txt",
    "/%252e%252e/secret.txt", "/%c0%ae%c0%ae/secret.txt", "/noindex/", "/" + "x" * 300, "/" + "y/" * 2100])
def test_what_is_not_there_is_404(get, path):
    response = get(path)
    assert response.status == 404
    assert b"secret" not in response.body and b"/tmp" not in response.body


@pytest.mark.parametrize("path", ["/outside.txt", "/absolute.txt", "/up/secret.txt", "/loop", "/fifo", "/sock"])
def test_what_may_not_be_served_is_403(get, gateway, path):
    response = get(path)
    assert response.status == 403
    assert b"secret" not in response.body and b"root:" not in response.body
    assert gateway.wait_log(lambda entry: entry["path"] == path)[0]["reason"] == "FILE_FORBIDDEN"


@pytest.mark.parametrize("path", ["/../secret.txt", "/%2e%2e/secret.txt", "/sub/../../secret.txt", "/a%00b", "/..", "/%2E%2E/"])
def test_paths_above_the_root_are_refused_before_any_file_is_looked_for(get, path):
    response = get(path)
    assert response.status == 400 and b"secret" not in response.body


def test_a_file_that_may_not_be_read_is_403(gateway, get):
    if os.getuid() == 0:
        pytest.skip("root may read everything")
    path = gateway.write("site/unreadable.txt", "x")
    path.chmod(0)
    assert get("/unreadable.txt").status == 403


def test_a_root_that_appears_later_is_served(gateway, get):
    assert get("/late/x.txt").status == 404
    gateway.write("late/x.txt", "now")
    assert get("/late/x.txt").body == b"now"


def test_a_root_that_is_swapped_shows_its_new_content(weir):
    gateway = weir("""
listeners: {http: {address: "127.0.0.1:@http@"}}
routes: [{files: {root: "@tmp@/current"}}]
""", start=False)
    gateway.write("one/x", "1"), gateway.write("two/x", "2")
    os.symlink("one", gateway.folder / "current")
    gateway.start()
    assert fetch(gateway.port("http"), "/x").body == b"1"
    os.symlink("two", gateway.folder / "next")
    os.rename(gateway.folder / "next", gateway.folder / "current")
    assert fetch(gateway.port("http"), "/x").body == b"2"


@pytest.mark.parametrize("path, body", [("/static/deep/x.css", b"x{}"), ("/static/", b"sub home")])
def test_a_prefix_is_stripped(get, path, body):
    assert get(path).body == body


def test_a_prefix_that_does_not_end_at_a_slash_is_not_one(get):
    assert get("/statics").status == 404


# --- index and redirect -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path, body", [("/", b"<h1>home</h1>\n"), ("/?x", b"<h1>home</h1>\n"), ("/sub/", b"sub home"),
                                        ("/two/", LETTERS)])
def test_a_folder_shows_the_first_index_that_is_there(get, path, body):
    assert get(path).body == body


@pytest.mark.parametrize("path, location", [
    ("/sub", "/sub/"), ("/sub?a=b&c", "/sub/?a=b&c"), ("/sub?", "/sub/?"), ("/subdir", "/subdir/"), ("/noindex", "/noindex/"),
    ("/static", "/static/"), ("/%73ub", "/sub/"), ("//sub", "/sub/")])
def test_a_folder_without_slash_is_redirected(get, path, location):
    response = get(path)
    assert (response.status, response.get("location")) == (301, location)


# --- methods ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "get"])
def test_other_methods_are_405_with_allow(get, method):
    response = get("/letters.txt", method=method)
    assert (response.status, response.get("allow")) == (405, "GET, HEAD")


@pytest.mark.parametrize("path, status", [("/letters.txt", 200), ("/empty.txt", 200), ("/nothing", 404), ("/sub", 301),
                                          ("/big.bin", 200)])
def test_head_has_the_fields_of_get_and_no_body(gateway, get, path, status):
    with Client(gateway.port("http")) as client:
        client.request("HEAD", path)
        head = client.response("HEAD")
        client.request("GET", path)  # the connection goes on: nothing of a body was sent
        full = client.response()
    assert head.status == full.status == status
    for name in ("content-length", "content-type", "etag", "last-modified", "location", "accept-ranges"):
        assert head.get(name) == full.get(name)


def test_head_ignores_ranges(get):
    assert get("/letters.txt", {"Range": "bytes=0-1"}, "HEAD").status == 200


# --- MIME types -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path, type", [
    ("/index.html", "text/html; charset=utf-8"), ("/UPPER.HTML", "text/html; charset=utf-8"), ("/letters.txt", "text/plain; charset=utf-8"),
    ("/sub/deep/x.css", "text/css; charset=utf-8"), ("/app.js", "text/javascript; charset=utf-8"),
    ("/mod.mjs", "text/javascript; charset=utf-8"), ("/data.json", "application/json"), ("/pic.svg", "image/svg+xml; charset=utf-8"),
    ("/pic.png", "image/png"), ("/app.wasm", "application/wasm"), ("/doc.xml", "text/xml; charset=utf-8"), ("/archive.tar.gz", "application/gzip"),
    ("/strange.unheardof", "application/octet-stream"), ("/plain", "application/octet-stream"), ("/", "text/html; charset=utf-8")])
def test_a_file_has_its_mime_type(get, path, type):
    assert get(path).get("content-type") == type


def test_the_headers_of_the_route_stand(get):
    response = get("/cached/letters.txt")
    assert (response.get("cache-control"), response.get("content-type")) == ("max-age=60", "text/special")


# --- bodies -----------------------------------------------------------------------------------------------------------
def test_a_large_file_arrives_whole(gateway, get):
    content = (gateway.folder / "site" / "big.bin").read_bytes()
    response = get("/big.bin")
    assert response.body == content and response.get("content-length") == str(len(content))


def test_an_empty_file_is_200_with_length_0(get):
    response = get("/empty.txt")
    assert (response.status, response.body, response.get("content-length")) == (200, b"", "0")


def test_a_slow_reader_gets_the_whole_file(gateway):
    content = (gateway.folder / "site" / "big.bin").read_bytes()
    with Client(gateway.port("http"), receive_buffer=4096) as client:
        client.request("GET", "/big.bin")
        client.head()
        got = b""
        while len(got) < len(content):
            got += client.exactly(min(50000, len(content) - len(got)))
    assert got == content


def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection(gateway):
    path = gateway.write("site/shrinking.bin", b"x" * (64 << 20))
    with Client(gateway.port("http"), receive_buffer=4096) as client:
        client.request("GET", "/shrinking.bin")
        client.exactly(1000)
        os.truncate(path, 1000)
        with pytest.raises((Closed, OSError)):
            client.exactly(64 << 20)
    entry = gateway.wait_log(lambda entry: entry["path"] == "/shrinking.bin")[0]
    assert entry["reason"] == "INTERNAL_ERROR" and "shorter" in entry["error"]
    path.unlink()


def open_files(gateway):
    found = []
    for pid in gateway.pids():
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
            except FileNotFoundError:
                pass
    return [name for name in found if "/site" in name]


def test_no_descriptor_stays_open(gateway, get):
    for path in ("/letters.txt", "/sub", "/fifo", "/nothing", "/noindex/", "/outside.txt"):
        get(path)
    get("/letters.txt", {"If-None-Match": "*"}), get("/letters.txt", {"Range": "bytes=99-"}), get("/letters.txt", method="HEAD")
    get("/letters.txt", {"If-Match": '"x"'}), get("/letters.txt", {"Range": "bytes=0-1,5-6"})
    leaver = Client(gateway.port("http"), receive_buffer=4096)
    leaver.request("GET", "/big.bin")
    leaver.exactly(1000)
    leaver.reset()
    wait_for(lambda: open_files(gateway) == [], "all files closed")


# --- ranges -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("value, first, last", [
    ("bytes=0-4", 0, 4), ("bytes=20-", 20, 25), ("bytes=-3", 23, 25), ("bytes=-100", 0, 25), ("bytes=0-0", 0, 0), ("bytes=25-25", 25, 25),
    ("bytes=10-1000", 10, 25), ("bytes=0-", 0, 25), ("BYTES=1-2", 1, 2), ("bytes= 1-2", 1, 2), ("bytes=1-2,", 1, 2),
    ("bytes=0-10,5-20", 0, 20), ("bytes=0-4,5-9", 0, 9), ("bytes=0-4,99-", 0, 4), ("bytes=5-18446744073709551616", 5, 25)])
def test_a_range_is_206(get, value, first, last):
    response = get("/letters.txt", {"Range": value})
    assert (response.status, response.body) == (206, LETTERS[first:last + 1])
    assert response.get("content-range") == f"bytes {first}-{last}/26"
    assert response.get("content-type") == "text/plain; charset=utf-8"
    assert response.get("etag") and response.get("last-modified")


@pytest.mark.parametrize("value", ["bytes=26-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999-", "bytes=30-,40-50"])
def test_ranges_outside_the_file_are_416(get, value):
    response = get("/letters.txt", {"Range": value})
    assert (response.status, response.get("content-range")) == (416, "bytes */26")


@pytest.mark.parametrize("value", ["", "bytes", "bytes=", "bytes=x-y", "bytes=5-4", "items=0-4", "bytes 0-4", "bytes=0-4 6-8", "bytes=0-4;",
                                   "bytes=--5", "bytes=0-4,5-2", "0-4", "bytes=" + ",".join(f"{i}-{i}" for i in range(0, 600, 2))])
def test_ranges_that_are_malformed_or_too_many_are_ignored(get, value):
    response = get("/letters.txt", {"Range": value})
    assert (response.status, response.body) == (200, LETTERS)


def test_two_range_fields_are_ignored(get):
    assert get("/letters.txt", [("Range", "bytes=0-1"), ("Range", "bytes=2-3")]).status == 200


def parts_of(response):
    """[(fields, body)] of a multipart answer, read strictly."""
    boundary = re.fullmatch(r"multipart/byteranges; boundary=([0-9a-f]{32})", response.get("content-type"))[1].encode()
    pieces = (b"\r\n" + response.body).split(b"\r\n--" + boundary)
    assert pieces[0] == b"" and pieces[-1] == b"--\r\n"
    parts = []
    for piece in pieces[1:-1]:
        assert piece.startswith(b"\r\n")
        head, _, body = piece[2:].partition(b"\r\n\r\n")
        parts.append((dict(line.split(b": ", 1) for line in head.split(b"\r\n")), body))
    return parts


@pytest.mark.parametrize("value, expected", [
    ("bytes=0-2,10-12", [(0, 2), (10, 12)]), ("bytes=10-12,0-2", [(10, 12), (0, 2)]), ("bytes=0-0,-1", [(0, 0), (25, 25)]),
    ("bytes=0-1 , 4-5,\t8-9", [(0, 1), (4, 5), (8, 9)]), ("bytes=20-22,0-2,21-24", [(0, 2), (20, 24)]),
    ("bytes=" + ",".join(f"{i}-{i}" for i in range(0, 26, 2)), [(i, i) for i in range(0, 26, 2)])])
def test_several_ranges_are_a_multipart_answer(get, value, expected):
    response = get("/letters.txt", {"Range": value})
    assert response.status == 206 and response.get("content-range") is None
    assert response.get("content-length") == str(len(response.body))
    assert parts_of(response) == [({b"content-type": b"text/plain; charset=utf-8", b"content-range": b"bytes %d-%d/26" % pair},
                                   LETTERS[pair[0]:pair[1] + 1]) for pair in expected]


def test_large_parts_arrive_whole(gateway, get):
    content = (gateway.folder / "site" / "big.bin").read_bytes()
    response = get("/big.bin", {"Range": "bytes=1-300000,500000-900000,-70000"})
    assert [body for _, body in parts_of(response)] == [content[1:300001], content[500000:900001], content[-70000:]]


def test_overlapping_ranges_never_ask_for_more_than_the_file(get):
    response = get("/big.bin", {"Range": "bytes=" + ",".join(f"{i}-" for i in range(200))})
    assert response.status == 206 and len(response.body) == 1 << 20


def test_more_than_16_ranges_get_the_whole_file(get):
    response = get("/big.bin", {"Range": "bytes=" + ",".join(f"{i}-{i}" for i in range(0, 34, 2))})
    assert response.status == 200 and len(response.body) == 1 << 20


def test_ranges_of_an_empty_file(get):
    assert get("/empty.txt", {"Range": "bytes=0-"}).status == 416
    response = get("/empty.txt", {"Range": "bytes=-5"})
    assert (response.status, response.body) == (200, b"")


# --- conditions -------------------------------------------------------------------------------------------------------
def test_last_modified_and_etag_tell_the_state_of_the_file(gateway, get):
    first = get("/letters.txt")
    assert first.get("last-modified") == DATE
    assert re.fullmatch(r'"[0-9a-f]+-1a"', first.get("etag"))
    assert get("/letters.txt").get("etag") == first.get("etag")
    path = gateway.write("site/changing.txt", "1")
    before = get("/changing.txt").get("etag")
    os.utime(path, ns=(0, CHANGED * 10**9 + 1))
    assert get("/changing.txt").get("etag") != before


def test_a_file_from_the_future_is_not_modified_later_than_the_answer(gateway, get):
    path = gateway.write("site/future.txt", "1")
    os.utime(path, (time.time() + 86400,) * 2)
    response = get("/future.txt")
    assert email.utils.parsedate_to_datetime(response.get("last-modified")) <= email.utils.parsedate_to_datetime(response.get("date"))


T = object()  # the file's own tag
WEAK = object()


@pytest.mark.parametrize("fields, status", [
    ([("If-None-Match", T)], 304), ([("If-None-Match", "*")], 304), ([("If-None-Match", WEAK)], 304), ([("If-None-Match", '"x"')], 200),
    ([("If-None-Match", '"x"'), ("If-None-Match", T)], 304), ([("If-None-Match", "x")], 200), ([("If-None-Match", "")], 200),
    ([("If-Modified-Since", DATE)], 304), ([("If-Modified-Since", LATER)], 304), ([("If-Modified-Since", EARLIER)], 200),
    ([("If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT")], 304), ([("If-Modified-Since", "Sun Nov  6 08:49:37 1994")], 304),
    ([("If-Modified-Since", "garbage")], 200), ([("If-Modified-Since", DATE), ("If-Modified-Since", DATE)], 200),
    ([("If-None-Match", '"x"'), ("If-Modified-Since", DATE)], 200), ([("If-None-Match", T), ("If-Modified-Since", EARLIER)], 304),
    ([("If-Match", T)], 200), ([("If-Match", "*")], 200), ([("If-Match", '"x"')], 412), ([("If-Match", WEAK)], 412),
    ([("If-Match", "")], 412), ([("If-Unmodified-Since", DATE)], 200), ([("If-Unmodified-Since", LATER)], 200),
    ([("If-Unmodified-Since", EARLIER)], 412), ([("If-Unmodified-Since", "garbage")], 200),
    ([("If-Match", T), ("If-Unmodified-Since", EARLIER)], 200), ([("If-Match", '"x"'), ("If-None-Match", T)], 412),
    ([("If-Match", T), ("If-None-Match", T)], 304), ([("If-Unmodified-Since", EARLIER), ("If-None-Match", T)], 412)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions_count_in_their_order(get, fields, status, method):
    tag = get("/letters.txt").get("etag")
    fields = [(name, tag if value is T else "W/" + tag if value is WEAK else value) for name, value in fields]
    response = get("/letters.txt", fields, method)
    assert response.status == status
    if status == 304:
        assert response.get("etag") == tag and response.get("last-modified") == DATE
        assert response.body == b"" and response.get("content-type") is None


def test_a_304_leaves_the_connection_in_step(gateway):
    with Client(gateway.port("http")) as client:
        for _ in range(3):
            client.request("GET", "/letters.txt", [("If-None-Match", "*")])
            assert client.response().status == 304
        client.request("GET", "/letters.txt")
        assert client.response().body == LETTERS


@pytest.mark.parametrize("value, status", [(T, 206), (DATE, 206), (WEAK, 200), ('"x"', 200), (LATER, 200), (EARLIER, 200), ("*", 200),
                                           ("garbage", 200), ("", 200)])
def test_if_range_guards_the_range(get, value, status):
    tag = get("/letters.txt").get("etag")
    value = tag if value is T else "W/" + tag if value is WEAK else value
    response = get("/letters.txt", {"Range": "bytes=0-1", "If-Range": value})
    assert response.status == status and response.body == (LETTERS[:2] if status == 206 else LETTERS)


def test_the_date_of_a_file_guards_no_range_before_it_is_a_second_old(gateway, get):
    """RFC 9110 8.8.2.2: within its second, and until one has passed, the file may change again under the same date."""
    def ask(changed):
        date = email.utils.formatdate(int(changed), usegmt=True)
        os.utime(gateway.folder / "site" / "young.txt", ns=(int(changed * 1e9),) * 2)
        return get("/young.txt", {"Range": "bytes=0-1", "If-Range": date}).status
    gateway.write("site/young.txt", LETTERS)
    assert ask(time.time() - 3) == 206
    for _ in range(20):
        wait_for(lambda: time.time() % 1 < 0.3, "a second that has just begun")
        changed = int(time.time()) - 0.05  # of the second before
        status = ask(changed)
        if time.time() < changed + 0.9:
            break
    else:
        pytest.fail("the machine is too slow to ask within a second")
    assert status == 200
    tag = get("/young.txt").get("etag")
    assert get("/young.txt", {"Range": "bytes=0-1", "If-Range": tag}).status == 206


def test_conditions_go_before_ranges(get):
    assert get("/letters.txt", {"Range": "bytes=0-1", "If-None-Match": "*"}).status == 304
    assert get("/letters.txt", {"Range": "bytes=99-", "If-Match": '"x"'}).status == 412
    assert get("/letters.txt", {"Range": "bytes=99-", "If-Range": '"x"'}).status == 200


# --- what is said about it ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path, fields, status, reason", [
    ("/letters.txt?log1", {}, 200, "FILE_SERVED"), ("/letters.txt?log2", {"If-None-Match": "*"}, 304, "FILE_SERVED"),
    ("/letters.txt?log3", {"If-Match": '"x"'}, 412, "PRECONDITION_FAILED"), ("/letters.txt?log4", {"Range": "bytes=99-"}, 416, "RANGE_NOT_SATISFIABLE"),
    ("/nothing?log5", {}, 404, "FILE_NOT_FOUND"), ("/sub?log6", {}, 301, "REDIRECT"), ("/letters.txt?log7", {"Range": "bytes=0-1"}, 206, "FILE_SERVED")])
def test_each_outcome_is_logged_with_its_reason(gateway, get, path, fields, status, reason):
    assert get(path, fields).status == status
    query = path.partition("?")[2]
    entry = gateway.wait_log(lambda entry: entry["query"] == query)[0]
    assert (entry["status"], entry["reason"], entry["route"]) == (status, reason, "site")


def test_files_in_the_way_of_a_request_with_a_body_leave_the_connection_in_step(gateway):
    with Client(gateway.port("http")) as client:
        client.request("GET", "/letters.txt", body=b"unexpected but legal")
        assert client.response().body == LETTERS
        client.request("POST", "/letters.txt", body=b"x" * 1000)
        assert client.response().status == 405
        client.request("GET", "/letters.txt")
        assert client.response().body == LETTERS
