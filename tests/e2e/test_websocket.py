"""WebSocket between real peers: python3-websockets and the npm package ws, each as client and as server, plain and with
TLS. Bytes and edge cases are in test_tunnels.py."""
import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
import websockets
import websockets.exceptions

from client import insecure_context
from weir import ROOT, SANITIZED, Weir, wait_for

NODE = ROOT / os.environ.get("WEIR_NODE", "build/node")
SCRIPT = Path(__file__).parent / "websocket.cjs"
CONFIG = """
worker_threads: 2
listeners:
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: own}}
certificates: {own: {self_signed: [localhost]}}
target_groups:
  python: {targets: "127.0.0.1:@python@", health_check: {enabled: false}}
  node: {targets: "127.0.0.1:@node@", health_check: {enabled: false}}
routes:
  - {name: python, match: {path: "/python/*"}, rewrite: {path: "^/python(.*)$", to: "$1"}, forward: python}
  - {name: node, match: {path: "/node/*"}, rewrite: {path: "^/node(.*)$", to: "$1"}, forward: node}
"""


class PythonServer:
    """An echo server of python3-websockets, on a loop and thread of its own."""

    def __init__(self):
        ready = threading.Event()
        self.loop = asyncio.new_event_loop()

        async def begin():
            server = await websockets.serve(self.serve, "127.0.0.1", 0, max_size=64 << 20, subprotocols=["chat"], ping_interval=None,
                                            close_timeout=60)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()

        def run():
            asyncio.set_event_loop(self.loop)
            self.loop.run_until_complete(begin())
            self.loop.run_forever()

        threading.Thread(target=run, daemon=True).start()
        assert ready.wait(10)

    async def serve(self, socket, path):
        name, _, query = path.partition("?")
        if name == "/close":
            values = dict(pair.split("=") for pair in query.split("&"))
            await socket.close(int(values["code"]), values["why"])
        elif name == "/terminate":
            socket.transport.abort()
        elif name == "/burst":
            for i in range(1000):
                await socket.send(str(i))
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            async for message in socket:
                await socket.send(message)


def needs_ws():
    if shutil.which("node") and (NODE / "node_modules" / "ws").exists():
        return
    if os.environ.get("CI") == "true":
        pytest.fail("node or the npm package ws is missing: `make browser`")
    pytest.skip("node or the npm package ws is missing: `make browser`")


@pytest.fixture(scope="module")
def node_port():
    if not (shutil.which("node") and (NODE / "node_modules" / "ws").exists()):
        yield 1
        return
    process = subprocess.Popen(["node", SCRIPT, "serve"], stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "WEIR_NODE": str(NODE)})
    yield int(process.stdout.readline())
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def gateway(node_port):
    with Weir(CONFIG, python=PythonServer().port, node=node_port) as running:
        yield running


def url(gateway, path, tls=False):
    return f"wss://localhost:{gateway.port('https')}{path}" if tls else f"ws://127.0.0.1:{gateway.port('http')}{path}"


def connect(gateway, path, tls=False, **options):
    return websockets.connect(url(gateway, path, tls), max_size=64 << 20, ssl=insecure_context() if tls else None,
                              open_timeout=60, close_timeout=60, ping_interval=None, **options)


# --- ws as the client -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("server", ["node", "python"])
@pytest.mark.parametrize("tls", [False, True])
def test_a_client_of_ws_is_content(gateway, server, tls):
    needs_ws()
    done = subprocess.run(["node", SCRIPT, "talk", url(gateway, f"/{server}", tls)], capture_output=True, text=True, timeout=55,
                          env={**os.environ, "WEIR_NODE": str(NODE)})
    outcome = json.loads(done.stdout)
    assert set(outcome.values()) == {"ok"} and len(outcome) == 8, outcome


# --- python3-websockets as the client ---------------------------------------------------------------------------------
@pytest.mark.parametrize("server", ["node", "python"])
@pytest.mark.parametrize("tls", [False, True])
def test_a_client_of_python_websockets_is_content(gateway, server, tls):
    if server == "node":
        needs_ws()

    async def talk():
        async with connect(gateway, f"/{server}/", tls, subprotocols=["mqtt", "chat"]) as socket:
            assert socket.subprotocol == "chat"
            assert [type(e).__name__ for e in socket.extensions] == ["PerMessageDeflate"], "it passes through"
            for size in (0, 1, 125, 126, 65535, 65536, 1 << 20):
                for message in ("x" * size, os.urandom(size)):
                    await socket.send(message)
                    assert await socket.recv() == message
            await socket.send(["frag", "men", "ted"])
            assert await socket.recv() == "fragmented"
            await (await socket.ping(b"payload"))
            for i in range(1000):
                await socket.send(str(i))
            for i in range(1000):
                assert await socket.recv() == str(i)
            await socket.close(4001, "enough")
            assert (socket.close_code, socket.close_reason) == (4001, "enough")
        async with connect(gateway, f"/{server}/close?code=3999&why=gone", tls) as socket:
            with pytest.raises(websockets.exceptions.ConnectionClosedError):
                await socket.recv()
            assert (socket.close_code, socket.close_reason) == (3999, "gone")
    asyncio.run(talk())
    entry = gateway.wait_log(lambda entry: entry["route"] == server and entry["query"])[-1]
    assert (entry["status"], entry["reason"]) == (101, "TUNNEL_CLOSED")


def test_many_conversations_at_once_are_kept_apart(gateway):
    """Each hears its own messages, and nobody else's."""
    async def talk(number):
        async with connect(gateway, f"/python/?{number}", number % 2 == 0) as socket:
            for i in range(20):
                message = f"{number} {i} " + "x" * (number * 37 % 5000)
                await socket.send(message)
                assert await socket.recv() == message

    async def all_of_them():
        await asyncio.gather(*(talk(i) for i in range(20 if SANITIZED else 60)))
    asyncio.run(all_of_them())
    wait_for(lambda: gateway.metric("weir_tunnels_open") == 0, "all closed")


def test_a_reload_does_not_disturb_a_conversation(gateway):
    async def talk():
        async with connect(gateway, "/python/") as socket:
            for i in range(5):
                await asyncio.get_event_loop().run_in_executor(None, gateway.reload)
                await socket.send(str(i))
                assert await socket.recv() == str(i)
    asyncio.run(talk())


def test_a_handshake_that_a_target_refuses_reaches_the_client_as_it_is(gateway):
    async def talk():
        with pytest.raises(websockets.exceptions.InvalidStatusCode) as refused:
            async with connect(gateway, "/nowhere"):
                pass
        assert refused.value.status_code == 404
    asyncio.run(talk())
