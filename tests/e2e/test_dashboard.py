"""The dashboard: what it says without a browser, and what a real one makes of it."""
import html.parser
import json
import os
import re
import shutil
import signal
import subprocess
import threading

import pytest

from client import Client, fetch
from origin import Origin, reply
from weir import ROOT, wait_for

NODE = ROOT / os.environ.get("WEIR_NODE", "build/node")
CHROMIUM = os.environ.get("WEIR_CHROMIUM", "/usr/bin/chromium")
ARTIFACTS = ROOT / "build" / "artifacts"
TOKEN = "a-token-of-20-bytes-"
TEXT = """
worker_threads: 1
shutdown_timeout: 1s
listeners:
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: site}}
certificates: {site: {self_signed: [localhost, shop.example.com]}}
target_groups:
  users:
    targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"]
    health_check: {path: /health, interval: 100ms, timeout: 20s, healthy_threshold: 1, unhealthy_threshold: 1}
  LONGEST: {targets: ["127.0.0.1:@dead@"], health_check: {enabled: false}}
routes:
  - {name: users, match: {host: api.example.com, path: "/users*"}, forward: users}
  - {name: dead, match: {path: "/dead*"}, forward: LONGEST}
  - {name: hello, match: {path: /hello}, respond: {status: 200, body: "${env:WEIR_TEST_SECRET}"}}
admin: {address: "unix:@tmp@/admin.sock", tcp: "127.0.0.1:@admin@"%s}
""".replace("LONGEST", "dead" * 16)


@pytest.fixture
def start(weir):
    with Origin() as a, Origin() as b:
        b.on("/health", reply(status="500 Broken"))

        def begin(token=""):
            gateway = weir(TEXT % token, a=a.port, b=b.port, start=False, env={"WEIR_TEST_SECRET": "not-for-your-eyes"})
            gateway.admin_socket = str(gateway.folder / "admin.sock")
            gateway.start()
            wait_for(gateway.is_ready, "ready")
            return gateway
        yield begin


def page(gateway, path="/"):
    return fetch(gateway.port("admin"), path, host="localhost")


class Reader(html.parser.HTMLParser):
    """Elements that are closed as they were opened, and the text."""
    VOID = {"meta", "link", "br", "input"}
    OPTIONAL = {"th", "option"}  # their end may be left out

    def __init__(self, text):
        super().__init__()
        self.stack, self.ids, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.stack == [], self.stack

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        while self.stack and self.stack[-1] in self.OPTIONAL and tag in (self.stack[-1], "td"):
            self.stack.pop()
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        while self.stack and self.stack[-1] in self.OPTIONAL and self.stack[-1] != tag:
            self.stack.pop()
        assert self.stack and self.stack.pop() == tag, (tag, self.stack)

    def handle_data(self, data):
        self.text += data


# --- without a browser --------------------------------------------------------------------------------------------
def test_the_page_is_complete_without_scripts_and_strict_about_where_things_come_from(start):
    gateway = start()
    fetch(gateway.port("http"), "/dead")
    wait_for(lambda: "CONNECT_FAILED" in page(gateway).text, "the error")
    answer = page(gateway)
    assert answer.status == 200 and answer.get("content-type") == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in answer.get("content-security-policy").split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert answer.get("x-content-type-options") == "nosniff" and answer.get("referrer-policy") == "no-referrer"
    assert answer.get("cache-control") == "no-store" and answer.get("x-frame-options") == "DENY"
    reader = Reader(answer.text)
    assert len(reader.ids) == len(set(reader.ids)), "an id is there once"
    for word in ("ready", "users", "api.example.com", "/users*", f"127.0.0.1:{gateway.port('a')}", "healthy", "unhealthy", "dead", "CONNECT_FAILED",
                 "Check that the targets run and listen.", "shop.example.com", " days", "generation", "first load", "interval: 100ms"):
        assert word in reader.text, word
    assert "not-for-your-eyes" not in answer.text and "http://" not in answer.text and "https://" not in answer.text.replace("https://example.com/path", "")


@pytest.mark.parametrize("path, kind", [("/dashboard.css", "text/css; charset=utf-8"), ("/dashboard.js", "text/javascript; charset=utf-8"), ("/favicon.svg", "image/svg+xml")])
def test_its_files_are_served_from_the_binary(start, path, kind):
    answer = page(start(), path)
    assert answer.status == 200 and answer.get("content-type") == kind
    assert answer.body == next((ROOT / "gateway" / "admin" / "dashboard").glob(path[1:])).read_bytes()


def test_what_clients_send_and_names_say_stays_text(start):
    gateway = start()
    evil = "/<script>smuggled=1</script>\"'&amp;"
    with Client(gateway.port("http")) as client:
        client.send(f"GET {evil} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.response()
    fetch(gateway.port("http"), "/%3Cscript%3Esmuggled=1%3C/script%3E")
    wait_for(lambda: page(gateway).text.count("smuggled") + page(gateway).text.count("BAD_TARGET") >= 2, "both requests")
    text = page(gateway).text
    Reader(text)
    assert text.count("<script") == 1, "the page's own"


def test_a_large_configuration_is_shown_in_part(weir):
    routes = "".join(f'  - {{name: r{i}, match: {{path: "/p{i}/*"}}, respond: {{status: 200}}}}\n' for i in range(3000))
    groups = "".join(f'  g{i}: {{targets: ["127.0.0.1:{1000 + i}"], health_check: {{enabled: false}}}}\n' for i in range(300))
    gateway = weir(f'listeners: {{http: {{address: "127.0.0.1:@http@"}}}}\nroutes:\n{routes}target_groups:\n{groups}')
    status, text = gateway.admin("/")
    assert status == 200 and len(text) < 400_000
    Reader(text)
    assert "2,800 more" in text and "200 more" in text and "only the beginning is shown" in text


def test_a_worker_that_died_and_a_reload_that_failed_are_news(start):
    gateway = start()
    gateway.may_die = True
    assert "died" not in page(gateway).text
    before = gateway.worker()
    os.kill(before, signal.SIGKILL)

    def is_another():
        try:
            return gateway.worker() != before
        except OSError:
            return False
    wait_for(is_another, "another worker")
    gateway.config_path.write_text(gateway.config_path.read_text() + "nonsense: 1\n")
    assert gateway.admin("/reload", "POST")[0] == 422
    text = Reader(page(gateway).text).text
    assert "the worker before this one died" in text and "workers that died: 1" in text
    assert "last reload failed" in text and 'unknown key "nonsense"' in text


# --- with a browser -----------------------------------------------------------------------------------------------
class Traffic:
    """Requests of all kinds until the block ends."""

    def __init__(self, gateway):
        self.port, self.stop = gateway.port("http"), threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        with Client(self.port) as client:
            while not self.stop.wait(0.02):
                for path in ("/users/1", "/dead", "/%3Cscript%3Ewindow.smuggled=1%3C/script%3E", "/hello"):
                    client.request("GET", path, host="api.example.com")
                    client.response()

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


@pytest.fixture(scope="session")
def browser():
    """Node with playwright-core, which `make check-e2e` installs, and Debian's chromium."""
    missing = [what for what, is_there in [("chromium", os.path.exists(CHROMIUM)), ("node", shutil.which("node")),
                                           ("playwright-core (make browser)", (NODE / "node_modules" / "playwright-core").exists())] if not is_there]
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"not installed: {', '.join(missing)}")
    assert not missing, missing


def look(gateway, *args):
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    with Traffic(gateway):
        done = subprocess.run(["node", str(ROOT / "tests" / "e2e" / "dashboard.cjs"), f"http://127.0.0.1:{gateway.port('admin')}/", str(ARTIFACTS), *args],
                              capture_output=True, text=True, timeout=240, env={**os.environ, "WEIR_NODE": str(NODE), "WEIR_CHROMIUM": CHROMIUM})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_whole(seen, gateway):
    """No complaint on the console, nothing from elsewhere, nothing smuggled in."""
    assert seen["console"] == [] and seen["errors"] == []
    outside = [url for url in seen["requests"] if not url.startswith(f"http://127.0.0.1:{gateway.port('admin')}/")]
    assert seen["requests"] and outside == []
    assert seen["desktop"]["smuggled"] is None
    assert len(seen["desktop"]["refusal"]) == 1 and "400" in seen["desktop"]["refusal"][0]
    assert all("ERR_INTERNET_DISCONNECTED" in line for line in seen["desktop"]["offline"])


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("load")
def test_a_browser_shows_charts_that_move_tables_that_grow_and_explains(start, browser):
    gateway = start()
    gateway.configure(TEXT.replace("status: 200", "status: 201") % "")
    gateway.reload()
    seen = look(gateway)
    check_whole(seen, gateway)
    desktop = seen["desktop"]
    assert desktop["title"] == "weir" and desktop["state"].strip() == "ready"
    assert desktop["charts"] == [3, 3, 2, 2] and desktop["laterCurve"] != desktop["firstCurve"]
    assert float(desktop["rate"]) > 0 and desktop["tile"].endswith("/s")
    routes = {row[0]: row for row in desktop["routes"]}
    assert list(routes)[1:] == ["users", "dead", "hello", "none"]
    assert "api.example.com" in routes["users"][1] and routes["users"][2] == "users" and int(routes["dead"][6].replace(",", "")) > 0
    states = {row[0]: row[1] for row in desktop["targets"]}
    assert states[f"127.0.0.1:{gateway.port('a')}"] == "healthy" and states[f"127.0.0.1:{gateway.port('b')}"] == "unhealthy"
    assert {"good", "bad"} <= set(desktop["strips"])
    assert ["site", "localhost shop.example.com", "ECDSA 256"] == desktop["certificates"][1][:3] and re.fullmatch("39[67] days", desktop["certificates"][1][4])
    reasons = {row[2].split("\n")[0]: row for row in desktop["errors"][1:]}
    assert "Check that the targets run and listen." in reasons["CONNECT_FAILED"][4] and "502" == reasons["CONNECT_FAILED"][1]
    assert "%3Cscript%3E" in reasons["NO_ROUTE"][3]
    assert [row[2] for row in desktop["reloads"][1:]] == ["ok routes ~1", "ok first load"]
    assert desktop["staysOpen"] and desktop["staysFocused"] == "SUMMARY"
    assert "route users" in desktop["verdict"] and "target group users" in desktop["verdict"]
    assert any("takes the request" in step for step in desktop["steps"])
    assert "nonsense" in desktop["problem"] and not desktop["complainsWhileUp"]

    assert luminance(desktop["light"][0]) > 0.8 and luminance(desktop["dark"][0]) < 0.05
    for back, text in (desktop["light"], desktop["dark"]):
        assert contrast(back, text) > 7

    for width in ("320", "390"):
        scroll, inner = seen["phone"][width]
        assert scroll <= inner == int(width), f"{width} px wide: scrolls to {scroll}"
    assert seen["phone"]["menu"]

    plain = seen["plain"]
    assert not plain["form"] and not plain["charts"] and "weir explain" in plain["text"]
    for word in ("users", "healthy", "CONNECT_FAILED", "shop.example.com", "routes ~1"):
        assert word in plain["text"], word
    assert "worker_threads: 1" in plain["config"] and "not-for-your-eyes" not in plain["config"]
    assert all((ARTIFACTS / f"dashboard-{name}.png").stat().st_size > 10000 for name in ("light", "dark", "phone-390"))


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("load")
def test_a_browser_is_let_in_by_the_token_as_its_password(start, browser):
    gateway = start(f', token: "{TOKEN}"')
    assert page(gateway).status == 401
    seen = look(gateway, TOKEN)
    # the first request of a page has no password yet
    seen["console"] = [line for line in seen["console"] if "401" not in line]
    check_whole(seen, gateway)
    assert "route users" in seen["desktop"]["verdict"], "its own page may ask"


def luminance(color):
    channels = [int(part) / 255 for part in color[4:-1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
