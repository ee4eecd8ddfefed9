"""limits.retry_buffers: all request bodies together that are kept to be sent again."""
import threading

import pytest

from client import Client, fetch
from origin import OK, Origin, reply
from weir import Weir, wait_for

CONFIG = """
worker_threads: 2
limits: {retry_buffers: 240kB}  # 120,000 bytes for each of the threads: two bodies of 50,000
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups: {origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}, timeouts: {first_byte: 60s}}}
routes:
  - name: all
    forward: origin
    retry: {on: 503, non_idempotent: true, budget: 100%, backoff: 1ms, buffer: 64KiB}
"""
BODY = bytes(i % 251 for i in range(50_000))


@pytest.fixture(scope="module")
def origin():
    with Origin() as running:
        yield running


@pytest.fixture(scope="module")
def shared(origin):
    with Weir(CONFIG, origin=origin.port) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared, origin):
    origin.settle()
    origin.answer = OK
    return shared


def once_down(exchange):
    """503 to the first try of a path."""
    tries = [r for r in exchange.origin.requests if r.target == exchange.request.target]
    exchange.send(reply(status="503 x") if len(tries) == 1 else reply(exchange.request.body))


def post(gateway, origin, path):
    """In two pieces: a body that is here in one needs no memory of its own."""
    client = Client(gateway.port("http"), timeout=60)
    before = len(origin.requests)
    client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:100])
    wait_for(lambda: len(origin.requests) > before, "the first piece at the target")
    client.send(BODY[100:])
    return client


def test_bodies_beyond_the_memory_are_sent_once_and_those_after_them_are_kept_again(gateway, origin):
    gate = threading.Event()
    origin.on("/held", lambda exchange: (gate.wait(60), exchange.send(OK)))
    origin.on("/more", reply(status="503 x"))
    origin.on("/again", once_down)
    holders = []

    def hold_another():
        holders.append(post(gateway, origin, "/held"))
        origin.wait(len(holders))
        return gateway.metric("weir_retry_buffer_bytes") >= 200_000
    try:
        wait_for(hold_another, "two bodies of each thread")
        assert gateway.metric("weir_retry_buffer_bytes") <= 240_000
        before, refused = len(origin.requests), gateway.metric("weir_retry_buffers_refused_total")
        for _ in range(8):
            with post(gateway, origin, "/more") as client:
                assert client.response("POST").status == 503
        assert len(origin.requests) - before == 8
        assert gateway.metric("weir_retry_buffers_refused_total") == refused + 8
    finally:
        gate.set()
    assert {holder.response("POST").status for holder in holders} == {200}
    wait_for(lambda: gateway.metric("weir_retry_buffer_bytes") == 0, "no body kept")
    with post(gateway, origin, "/again") as client:
        assert client.response("POST").body == BODY
    for holder in holders:
        holder.close()


def test_a_body_is_given_up_when_the_response_has_begun(gateway, origin):
    gate = threading.Event()
    origin.on("/slow", lambda exchange: (exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"), gate.wait(60),
                                         exchange.send(b"done")))
    with Client(gateway.port("http")) as client:
        client.request("POST", "/slow", body=BODY)
        assert client.head().status == 200
        wait_for(lambda: gateway.metric("weir_retry_buffer_bytes") == 0, "no body kept")
        gate.set()
        assert client.exactly(4) == b"done"
