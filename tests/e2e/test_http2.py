"""HTTP/2 towards clients (RFC 9113)."""
import subprocess

import pytest

from h2client import H2Client
from origin import Origin

TEXT = """
worker_threads: 1
listeners:
  both: {address: "127.0.0.1:@both@", protocols: [h2, http/1.1]}
  h2c: {address: "127.0.0.1:@h2c@", protocols: h2}
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: [self]}}
certificates: {self: {self_signed: [localhost]}}
target_groups: {origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}}
routes:
  - {name: fixed, match: {path: /fixed}, respond: {status: 200, body: fixed}}
  - {name: echo, match: {path: "/echo*"}, echo: true}
  - {name: forward, match: {path: "/o/*"}, forward: origin}
"""


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(module_weir, origin):
    return module_weir(TEXT, origin=origin.port)


@pytest.mark.parametrize("arguments, protocol", [
    (["-k", "--http2", "https://127.0.0.1:{https}/fixed"], "2"),
    (["-k", "--http1.1", "https://127.0.0.1:{https}/fixed"], "1.1"),
    (["--http2-prior-knowledge", "http://127.0.0.1:{both}/fixed"], "2"),
    (["--http2-prior-knowledge", "http://127.0.0.1:{h2c}/fixed"], "2"),
    (["--http1.1", "http://127.0.0.1:{both}/fixed"], "1.1"),
    (["http://127.0.0.1:{http}/fixed"], "1.1"),
])
def test_curl_gets_the_protocol_that_listener_and_client_share(gateway, arguments, protocol):
    ports = {name: gateway.port(name) for name in ("both", "h2c", "http", "https")}
    arguments = [argument.format(**ports) for argument in arguments]
    done = subprocess.run(["curl", "-sS", "-w", " %{http_version}", *arguments], capture_output=True, text=True, timeout=20)
    assert done.stdout == f"fixed {protocol}", done.stderr
