"""limits.lambda_buffers: what functions are sent and return, of all requests together."""
import json

import pytest

from client import Client, fetch
from origin import Origin, reply
from weir import Weir, wait_for

CONFIG = """
worker_threads: 1
limits: {lambda_buffers: 4MiB, send_timeout: 60s, body_timeout: 60s}
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups: {function: {lambda: hello, targets: ["127.0.0.1:@origin@"]}}
routes: [{name: all, forward: function}]
"""
INVOCATIONS = "/2015-03-31/functions/hello/invocations"
BODY = b"x" * 1_000_000
OK = reply(json.dumps({"statusCode": 200, "body": "ok"}).encode())


@pytest.fixture(scope="module")
def origin():
    with Origin(keep_bodies=False) as running:
        yield running


@pytest.fixture(scope="module")
def shared(origin):
    with Weir(CONFIG, origin=origin.port) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared, origin):
    origin.settle()
    origin.answer = OK
    yield shared
    wait_for(lambda: shared.metric("weir_lambda_buffer_bytes") == 0, "the memory to be free again")
    assert fetch(shared.port("http"), "/", "POST", body=BODY, headers=[("Content-Type", "text/plain")]).status == 200


def refused(gateway):
    return gateway.metric("weir_lambda_buffers_refused_total")


def test_bodies_that_come_in_slowly_share_the_memory(gateway):
    clients, before = [Client(gateway.port("http"), timeout=60) for _ in range(16)], refused(gateway)
    for client in clients:
        try:
            client.send(b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n" + BODY[:900_000])
        except ConnectionError:
            pass  # the answer is there already
    wait_for(lambda: refused(gateway) > before, "a refusal", timeout=30)
    assert gateway.metric("weir_lambda_buffer_bytes") <= 4 << 20
    statuses = []
    for client in clients:
        try:
            client.send(BODY[900_000:])
        except ConnectionError:
            pass
        statuses.append(client.response().status)
        client.close()
    assert set(statuses) == {200, 503}, statuses
    entries = gateway.wait_log(lambda entry: entry["path"] == "/held" and entry["status"] == 503, statuses.count(503))
    assert {entry["reason"] for entry in entries} == {"LAMBDA_MEMORY"}


def test_answers_that_nobody_reads_share_the_memory(gateway, origin):
    origin.answer = reply(json.dumps({"statusCode": 200, "body": "y" * 1_000_000}).encode())
    before = refused(gateway)
    clients = [Client(gateway.port("http"), timeout=60, receive_buffer=4096) for _ in range(16)]
    for client in clients:
        client.request("GET", "/unread")
    wait_for(lambda: refused(gateway) > before, "a refusal", timeout=30)
    statuses = []
    for client in clients:
        statuses.append(client.response().status)
        client.close()
    assert set(statuses) == {200, 503}, statuses


def test_clients_that_leave_give_it_back(gateway):
    clients = [Client(gateway.port("http")) for _ in range(3)]
    for client in clients:
        client.send(b"POST /left HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + BODY[:500_000])
    wait_for(lambda: gateway.metric("weir_lambda_buffer_bytes") >= 1_500_000, "the bodies")
    for client in clients:
        client.reset()
