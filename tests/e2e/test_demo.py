"""The configurations we ship work: the demo as `make demo` serves it, and every example."""
import json
import re
import shutil

import pytest

from client import fetch
from command import weir
from weir import ROOT, Weir, wait_for

PORTS = {"8080": "http", "8443": "https", "9100": "admin", "9101": "backend1", "9102": "backend2", "9103": "backend3"}


@pytest.fixture(scope="module")
def demo():
    """conf/demo.yaml on free ports, otherwise as it is."""
    text = (ROOT / "conf" / "demo.yaml").read_text()
    for port, name in PORTS.items():
        text = re.sub(rf"\b{port}\b", f"@{name}@", text)
    text = text.replace("/tmp/weir-demo.sock", "@tmp@/demo.sock")
    gateway = Weir(text, start=False)
    shutil.copytree(ROOT / "conf" / "demo" / "site", gateway.folder / "demo" / "site")
    with gateway.start():
        gateway.wait_answer("admin", "/readyz")
        yield gateway


def test_the_site(demo):
    response = fetch(demo.port("http"))
    assert response.status == 200 and response.get("content-type").startswith("text/html")
    assert "weir is running" in response.text
    assert fetch(demo.port("http"), "/style.css").get("content-type").startswith("text/css")
    assert fetch(demo.port("http"), "/nothing").status == 404


def test_every_link_of_the_page_works(demo):
    page = fetch(demo.port("http")).text
    links = re.findall(r'href="(/[^"]*)"', page)
    assert len(links) >= 5
    for link in links:
        assert fetch(demo.port("http"), link).status in (200, 301, 302), link


@pytest.mark.parametrize("listener", ["http", "https"])
def test_the_api_is_balanced_over_three_backends(demo, listener):
    tls = "localhost" if listener == "https" else None
    wait_for(lambda: len({fetch(demo.port(listener), "/api/whoami", tls=tls).text for _ in range(12)}) == 3, "all three backends")
    answers = [fetch(demo.port(listener), "/api/whoami", tls=tls) for _ in range(8)]
    assert all(answer.get("x-served-by") == "weir" for answer in answers)


def test_echo_redirects_and_fixed_responses(demo):
    assert json.loads(fetch(demo.port("http"), "/echo/x?a=b").body)["query"] == "a=b"
    assert fetch(demo.port("http"), "/old").status == 301
    response = fetch(demo.port("http"), "/secure", host="localhost")
    assert response.get("location") == f"https://localhost:{demo.port('https')}/secure"
    assert fetch(demo.port("http"), "/hello").text == "hello\n"


def test_metrics_over_tcp(demo):
    assert b"weir_requests_total" in fetch(demo.port("admin"), "/metrics", host="localhost").body


@pytest.mark.parametrize("path", sorted((ROOT / "conf").glob("*.yaml")) + sorted((ROOT / "conf" / "examples").glob("*.yaml")),
                         ids=lambda path: path.name)
def test_every_shipped_configuration_is_free_of_errors_and_warnings(demo, path):
    done = demo.run("check", path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", sorted(path for path in (ROOT / "conf").glob("**/*.yaml") if "\ntests:" in path.read_text()),
                         ids=lambda path: path.name)
def test_the_tests_of_our_configurations_hold(path):
    done = weir("test", path, "--min-coverage", "100%")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_in_the_readme_is_free_of_errors_and_warnings(demo):
    text = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    assert len(text.splitlines()) <= 24
    (demo.folder / "readme" / "www").mkdir(parents=True)
    done = demo.run("check", demo.write("readme/my.yaml", text))
    assert (done.returncode, done.stderr) == (0, "")
    said = demo.run("explain", "https://localhost:8443/users/7", "-c", demo.folder / "readme" / "my.yaml")
    assert said.returncode == 0 and "users" in said.stdout
    assert demo.run("help", "target_groups.health_check").returncode == 0
