"""error_pages: bodies of the operator's own for errors that weir answers itself."""
import pytest

from client import Client, fetch
from origin import Origin, reply
from weir import CONFIG, Weir, wait_for

TEXT = """
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
  nobody: {targets: ["127.0.0.1:@nobody@"], health_check: {enabled: false}, timeouts: {connect: 60s}}
error_pages:
  404: {file: pages/404.html}
  4xx: {body: '{"error":"client"}', content_type: application/json}
  5xx: {file: pages/5xx.txt}
routes:
  - {name: sites, match: {path: "/site/*"}, files: {root: site, strip_prefix: /site}}
  - name: own
    match: {path: "/own/*"}
    error_pages: {502: {body: "own 502"}, 5xx: {body: "own 5xx", content_type: text/plain}, 405: {body: ""}}
    forward: nobody
  - {name: other, match: {path: "/other/*"}, forward: nobody}
  - {name: fixed, match: {path: /fixed}, respond: {status: 404, body: "said by the route"}}
  - {name: origin, match: {path: "/origin/*"}, forward: origin}
  - name: class
    match: {path: "/class/*"}
    error_pages: {4xx: {body: "class of the route"}}
    files: {root: site, strip_prefix: /class}
"""
PAGES = {"pages/404.html": "<h1>Nicht da \u2013 lost</h1>\n", "pages/5xx.txt": "later\n", "site/index.html": "index"}


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        server.answer = reply(b"the origin's own", "404 Not Found", [("Content-Type", "text/x-origin")])
        yield server


@pytest.fixture(scope="module")
def pages(origin):
    with Weir(TEXT, files=PAGES, origin=origin.port) as gateway:
        yield gateway


def test_a_page_of_a_status_is_sent_with_the_type_of_its_file(pages):
    answer = fetch(pages.port("http"), "/nowhere")
    assert (answer.status, answer.text) == (404, PAGES["pages/404.html"])
    assert answer.get("content-type") == "text/html; charset=utf-8"


def test_the_page_is_sent_whatever_the_client_accepts(pages):
    for accept in ("application/json", "text/html", "*/*"):
        assert fetch(pages.port("http"), "/nowhere", headers={"Accept": accept}).text == PAGES["pages/404.html"]


def test_files_that_are_not_there_get_the_page_too(pages):
    assert fetch(pages.port("http"), "/site/missing").text == PAGES["pages/404.html"]


def test_a_class_stands_for_statuses_without_a_page_of_their_own(pages):
    answer = fetch(pages.port("http"), "/site/", method="DELETE")
    assert (answer.status, answer.text, answer.get("content-type")) == (405, '{"error":"client"}', "application/json")
    assert answer.get("allow") == "GET, HEAD"
    answer = fetch(pages.port("http"), "/other/x")
    assert (answer.status, answer.text, answer.get("content-type")) == (502, "later\n", "text/plain; charset=utf-8")


def test_pages_of_a_route_come_before_those_of_the_gateway(pages):
    answer = fetch(pages.port("http"), "/own/x")
    assert (answer.status, answer.text, answer.get("content-type")) == (502, "own 502", "text/html; charset=utf-8")


def test_a_class_of_a_route_comes_before_a_status_of_the_gateway(pages):
    answer = fetch(pages.port("http"), "/class/missing")
    assert (answer.status, answer.text) == (404, "class of the route")


def test_a_route_without_a_page_for_the_status_falls_back_to_the_gateways(pages):
    answer = fetch(pages.port("http"), "/own/%00")
    assert (answer.status, answer.text) == (400, '{"error":"client"}')


def test_what_a_route_or_an_origin_answers_is_left_alone(pages):
    assert fetch(pages.port("http"), "/fixed").text == "said by the route"
    answer = fetch(pages.port("http"), "/origin/x")
    assert (answer.status, answer.text, answer.get("content-type")) == (404, "the origin's own", "text/x-origin")


def test_a_refused_head_gets_the_gateways_page_and_the_connection_closes(pages):
    with Client(pages.port("http")) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        answer = client.response()
        assert (answer.status, answer.text) == (400, '{"error":"client"}')
        assert client.is_closed()


def test_head_gets_the_length_of_the_page_and_no_byte_of_it(pages):
    with Client(pages.port("http")) as client:
        client.request("HEAD", "/nowhere")
        answer = client.response("HEAD")
        assert (answer.status, answer.body) == (404, b"")
        assert int(answer.get("content-length")) == len(PAGES["pages/404.html"].encode())
        assert client.is_open()


def test_the_log_still_names_the_reason(pages):
    fetch(pages.port("http"), "/nowhere?logged")
    assert pages.wait_log(lambda entry: entry["query"] == "logged")[0]["reason"] == "NO_ROUTE"


def test_nothing_of_how_the_gateway_is_built_is_in_an_error_body(weir):
    """The built-in bodies: no address of a target, no name of the configuration, no path of a file, no version."""
    gateway = weir("""
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups: {nobody: {targets: ["127.0.0.1:@nobody@"], health_check: {enabled: false}, timeouts: {connect: 60s}}}
routes:
  - {name: secretroute, match: {path: "/own/*"}, forward: nobody}
  - {name: secretsite, match: {path: "/site/*"}, files: {root: site, strip_prefix: /site}}
""", files=PAGES)
    for accept in ("application/json", "text/html", "text/plain"):
        for path, status in (("/own/x", 502), ("/site/missing", 404), ("/nowhere", 404)):
            answer = fetch(gateway.port("http"), path, headers={"Accept": accept})
            assert answer.status == status
            for secret in ("secretroute", "secretsite", "nobody", "127.0.0.1", str(gateway.port("nobody")),
                           str(gateway.folder), "site/", "0.1"):
                assert secret not in answer.text, (secret, answer.text)


def test_a_changed_file_is_taken_over_by_a_reload_and_a_missing_one_changes_nothing(weir, origin):
    gateway = weir(TEXT, files=PAGES, origin=origin.port)
    gateway.write("pages/404.html", "new page")
    assert fetch(gateway.port("http"), "/nowhere").text == PAGES["pages/404.html"]
    gateway.reload()
    assert fetch(gateway.port("http"), "/nowhere").text == "new page"
    (gateway.folder / "pages/404.html").unlink()
    before = gateway.generation()
    gateway.process.send_signal(1)
    wait_for(lambda: gateway.metric("weir_config_last_reload_success") == 0, "the failed reload")
    assert gateway.generation() == before
    assert fetch(gateway.port("http"), "/nowhere").text == "new page"


def test_print_shows_pages_that_load_again(weir, origin):
    gateway = weir(TEXT, files=PAGES, origin=origin.port)
    printed = gateway.run("check", CONFIG, "--print")
    assert printed.returncode == 0, printed.stderr
    again = gateway.run("check", "--print", "-", input=printed.stdout)
    assert again.returncode == 0, again.stderr
    assert "own 5xx" in again.stdout and again.stdout == printed.stdout
