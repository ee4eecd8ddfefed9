"""Listeners that forward bytes: tcp, tls and tls_passthrough, between real sockets. Targets are Python servers, OpenSSL,
redis, nginx and haproxy."""
import hashlib
import json
import os
import re
import select
import socket
import ssl
import subprocess
import threading
import time

import pytest

from client import Client
from stream_peer import StreamPeer, client_hello, dial, echo, exactly, greet, is_reset, is_turned_away, reset, rest
from weir import CONFIG, PORTS, SANITIZED, Disturbed, UnixConnection, undisturbed, wait_for

ONE = """
worker_threads: 2
listeners: {db: {address: "127.0.0.1:@db@", protocol: tcp, forward: db@extra@}}
target_groups: {db: {protocol: tcp, targets: ["127.0.0.1:@target@"], health_check: {enabled: false}}}
shutdown_timeout: 2s
"""


def forwarding(weir, peer, extra="", **options):
    return weir(ONE.replace("@extra@", extra), target=peer.port, **options)


def last_line(gateway, **wanted):
    return gateway.wait_log(lambda line: all(line[name] == value for name, value in wanted.items()))[0]


# --- bytes -----------------------------------------------------------------------------------------------------------
def test_bytes_go_both_ways_and_the_line_in_the_log_counts_them(weir):
    with StreamPeer() as peer:
        gateway = forwarding(weir, peer)
        with dial(gateway.port("db")) as client:
            client.sendall(b"hello")
            assert exactly(client, 5) == b"hello"
            client.shutdown(socket.SHUT_WR)
            assert rest(client) == b""
            port = client.getsockname()[1]
        line = last_line(gateway, client_port=port)
    assert (line["protocol"], line["listener"], line["target_group"]) == ("tcp", "db", "db")
    assert line["target"] == f"127.0.0.1:{peer.port}" and line["attempts"] == 1
    assert (line["bytes_in"], line["bytes_out"], line["reason"], line["status"]) == (5, 5, "-", 0)
    assert line["method"] is None and line["duration_ms"] >= line["upstream_ms"] >= 0


def test_a_target_that_speaks_first_is_heard(weir):
    with StreamPeer(greet(b"220 ready\r\n")) as peer:
        gateway = forwarding(weir, peer)
        with dial(gateway.port("db")) as client:
            assert exactly(client, 11) == b"220 ready\r\n"


def test_each_direction_ends_by_itself(weir):
    """The target answers only once it has seen the end of the request, as a hash of everything."""
    def digest(connection):
        data = rest(connection)
        connection.sendall(hashlib.sha256(data).digest())
        connection.shutdown(socket.SHUT_WR)

    with StreamPeer(digest) as peer:
        gateway = forwarding(weir, peer)
        with dial(gateway.port("db")) as client:
            client.sendall(b"x" * 300000)
            client.shutdown(socket.SHUT_WR)
            assert rest(client) == hashlib.sha256(b"x" * 300000).digest()
        assert last_line(gateway, reason="-")["bytes_in"] == 300000


def test_the_target_may_end_first_and_go_on_reading(weir):
    received = []

    def serve(connection):
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        received.append(rest(connection))

    with StreamPeer(serve) as peer:
        gateway = forwarding(weir, peer)
        with dial(gateway.port("db")) as client:
            assert rest(client) == b"bye"
            client.sendall(b"still here")
        wait_for(lambda: received, "the end at the target")
    assert received == [b"still here"]


SIZE = (8 if SANITIZED else 100) << 20


def push(connection, seed, size=SIZE):
    """Sends size bytes, whose hash it returns, then the end."""
    block, digest = hashlib.sha256(seed).digest() * 8192, hashlib.sha256()
    for _ in range(size // len(block)):
        connection.sendall(block)
        digest.update(block)
    connection.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


def pull(connection):
    digest, size = hashlib.sha256(), 0
    while data := connection.recv(1 << 20):
        digest.update(data)
        size += len(data)
    return digest.hexdigest(), size


@pytest.mark.xdist_group("load")
def test_100_mib_both_ways_at_once_arrive_whole_in_bounded_memory(weir):
    seen = {}

    def serve(connection):
        sender = threading.Thread(target=lambda: seen.update(sent=push(connection, b"down")))
        sender.start()
        seen["got"] = pull(connection)
        sender.join()

    with StreamPeer(serve) as peer:
        gateway = forwarding(weir, peer)
        before = gateway.rss()
        with dial(gateway.port("db")) as client:
            sent = {}
            sender = threading.Thread(target=lambda: sent.update(up=push(client, b"up")))
            sender.start()
            got = pull(client)
            sender.join()
        wait_for(lambda: "got" in seen and "sent" in seen, "the target's side", 30)
        grown = gateway.rss() - before
    assert seen["got"] == (sent["up"], SIZE) and got == (seen["sent"], SIZE)
    if not SANITIZED:
        assert grown < 8 << 20


@pytest.mark.timeout(300)
@pytest.mark.parametrize("header", ["off", "v2"])
def test_a_gib_arrives_as_it_was_sent_behind_its_proxy_header(weir, header):
    """Through pipes; the answer, which is small, tells the hash of all of it after the end of the one direction."""
    size = (64 if SANITIZED else 1024) << 20
    heads = []

    def digest(connection):
        found, count = hashlib.sha256(), 0
        if header == "v2":
            head = exactly(connection, 16)
            heads.append(head + exactly(connection, int.from_bytes(head[14:16], "big")))
        while data := connection.recv(1 << 20):
            found.update(data)
            count += len(data)
        connection.sendall(f"{count} {found.hexdigest()}".encode())

    with StreamPeer(digest) as peer:
        gateway = weir(ONE.replace("@extra@", "").replace("health_check", f"send_proxy_protocol: {header}, health_check"), target=peer.port)
        sent = hashlib.sha256()
        with dial(gateway.port("db"), timeout=200) as client:
            block = os.urandom((1 << 20) + 7)
            left = size
            while left:
                part = block[:left]
                client.sendall(part)
                sent.update(part)
                left -= len(part)
            client.shutdown(socket.SHUT_WR)
            assert rest(client) == f"{size} {sent.hexdigest()}".encode()
        line = last_line(gateway, reason="-")
        assert (line["bytes_in"], line["bytes_out"]) == (size, len(f"{size} {sent.hexdigest()}"))
        assert gateway.metric("weir_l4_bytes_total", direction="in") == size
    assert len(heads) == (header == "v2")


@pytest.mark.parametrize("end", ["target", "client"])
def test_a_reset_amid_much_data_ends_both_sides(weir, end):
    def take_some(connection):
        exactly(connection, 8 << 20)
        if end == "target":
            reset(connection)
        else:
            with pytest.raises(ConnectionResetError):
                while connection.recv(1 << 20):
                    pass
            seen.set()

    seen = threading.Event()
    with StreamPeer(take_some) as peer:
        gateway = forwarding(weir, peer)
        client = dial(gateway.port("db"), timeout=60)
        if end == "target":
            with pytest.raises(OSError):
                while True:
                    client.sendall(bytes(1 << 20))
            client.close()
        else:
            for _ in range(16):
                client.sendall(bytes(1 << 20))
            reset(client)
            assert seen.wait(60)
        wait_for(lambda: gateway.metric("weir_l4_connections_open") == 0, "the end of the connection", 30)
        assert gateway.wait_log()[0]["reason"] == ("UPSTREAM_RESET" if end == "target" else "CLIENT_RESET")


def test_a_slow_reader_holds_its_sender_back_and_loses_nothing(weir):
    progress = []
    go_on = threading.Event()

    def serve(connection):
        block, sent = os.urandom(65536) * 16, 0
        connection.settimeout(1)
        while sent < 64 << 20:
            try:
                sent += connection.send(block)
            except TimeoutError:
                if not go_on.is_set():
                    progress.append(sent)
                    go_on.set()
        progress.append(sent)
        connection.shutdown(socket.SHUT_WR)

    with StreamPeer(serve) as peer:
        gateway = forwarding(weir, peer)
        with dial(gateway.port("db")) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            before = gateway.rss()
            assert go_on.wait(30), "the sender was never held back"
            assert SANITIZED or gateway.rss() - before < 4 << 20
            assert len(rest(client)) == progress[-1]
    assert progress[0] < 64 << 20


# --- ends that are none ----------------------------------------------------------------------------------------------
def test_a_reset_of_the_target_reaches_the_client_as_a_reset(weir):
    def serve(connection):
        connection.recv(10)
        reset(connection)

    with StreamPeer(serve) as peer:
        gateway = forwarding(weir, peer)
        with dial(gateway.port("db")) as client:
            client.sendall(b"hello")
            assert is_reset(client)
        last_line(gateway, reason="UPSTREAM_RESET")


def test_a_reset_of_the_client_reaches_the_target_as_a_reset(weir):
    ends = []

    def serve(connection):
        connection.sendall(b"hello")
        ends.append(is_reset(connection))

    with StreamPeer(serve) as peer:
        gateway = forwarding(weir, peer)
        client = dial(gateway.port("db"))
        exactly(client, 5)
        reset(client)
        wait_for(lambda: ends, "the end at the target")
        last_line(gateway, reason="CLIENT_RESET")
    assert ends == [True]


def test_what_a_target_said_before_it_stopped_reading_arrives(weir):
    """An early refusal: the target answers and closes on bytes that it never read."""
    def serve(connection):
        connection.recv(10)
        connection.sendall(b"413 too much\r\n")

    with StreamPeer(serve) as peer:
        gateway = forwarding(weir, peer)
        with dial(gateway.port("db")) as client:
            client.sendall(b"x" * 100)
            assert exactly(client, 14) == b"413 too much\r\n"


def test_an_idle_connection_is_reset_at_both_ends(weir):
    ends = []
    with StreamPeer(lambda connection: ends.append(is_reset(connection))) as peer:
        gateway = forwarding(weir, peer, ", idle_timeout: 300ms")
        with dial(gateway.port("db")) as client:
            assert is_reset(client)
        wait_for(lambda: ends == [True], "the reset at the target")
        assert last_line(gateway, reason="CONNECTION_IDLE")["duration_ms"] >= 290


def test_a_connection_that_moves_is_not_idle(weir):
    with StreamPeer() as peer:
        gateway = forwarding(weir, peer, ", idle_timeout: 1s")

        def move():
            with dial(gateway.port("db")) as client:
                moved = time.monotonic()
                for _ in range(12):
                    time.sleep(0.2)  # far below the timeout each, more than twice of it in all
                    began = time.monotonic()
                    try:
                        client.sendall(b"x")
                        assert exactly(client, 1) == b"x"
                    except ConnectionError:
                        if time.monotonic() - moved >= 1:
                            raise Disturbed from None
                        raise
                    moved = began
        undisturbed(move)


def test_more_connections_than_the_listener_takes_are_reset(weir):
    with StreamPeer(greet(b"hi")) as peer:
        gateway = forwarding(weir, peer, ", max_connections: 2")
        clients = [dial(gateway.port("db")) for _ in range(2)]
        assert [exactly(client, 2) for client in clients] == [b"hi"] * 2
        assert is_turned_away(gateway.port("db"))
        last_line(gateway, reason="LISTENER_FULL")
        clients[0].close()
        last_line(gateway, reason="-")
        with dial(gateway.port("db")) as third:
            assert exactly(third, 2) == b"hi"
        clients[1].close()


# --- targets ---------------------------------------------------------------------------------------------------------
TWO = """
worker_threads: 1
listeners: {db: {address: "127.0.0.1:@db@", protocol: tcp, forward: db}}
target_groups:
  db:
    protocol: tcp
    targets: ["127.0.0.1:@one@", "127.0.0.1:@two@"]
    timeouts: {connect: 10s}
    health_check: @check@
"""


def name_at(gateway, listener="db"):
    with dial(gateway.port(listener)) as client:
        return exactly(client, 3)


def test_a_target_that_refuses_is_passed_over(weir):
    with StreamPeer(greet(b"two")) as two:
        gateway = weir(TWO, one=PORTS.take(), two=two.port, check="{enabled: false}")
        assert {name_at(gateway) for _ in range(6)} == {b"two"}
        lines = gateway.wait_log(count=6)
    assert {line["reason"] for line in lines} <= {"-", "CLIENT_RESET"}
    assert 2 in {line["attempts"] for line in lines}


def test_no_target_means_a_reset(weir):
    gateway = weir(TWO, one=PORTS.take(), two=PORTS.take(), check="{enabled: false}")
    assert is_turned_away(gateway.port("db"))
    assert last_line(gateway, reason="CONNECT_FAILED")["attempts"] == 2


def test_a_target_that_does_not_answer_is_given_up_after_timeouts_connect(weir):
    """A listener with a full backlog answers no SYN."""
    with socket.socket() as full, StreamPeer(greet(b"two")) as two:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        gateway = weir(TWO.replace("connect: 10s", "connect: 500ms"), one=full.getsockname()[1], two=two.port, check="{enabled: false}")
        assert {name_at(gateway) for _ in range(2)} == {b"two"}
        late = gateway.wait_log(lambda line: line["attempts"] == 2)[0]
        for filler in fillers:
            filler.close()
    assert late["upstream_ms"] >= 490


def test_health_checks_connect_and_take_a_dead_target_out(weir):
    check = "{interval: 100ms, timeout: 10s, healthy_threshold: 1, unhealthy_threshold: 1}"
    with StreamPeer(greet(b"one")) as one, StreamPeer(greet(b"two")) as two:
        gateway = weir(TWO, one=one.port, two=two.port, check=check)
        wait_for(lambda: {name_at(gateway) for _ in range(4)} == {b"one", b"two"}, "both targets")
        with dial(gateway.port("db")) as first, dial(gateway.port("db")) as second:
            names = {exactly(first, 3): first, exactly(second, 3): second}
            one.stop()
            wait_for(lambda: gateway.metric("weir_target_health", target=f"127.0.0.1:{one.port}") == 0, "unhealthy")
            before = gateway.wait_log()[-1]["attempts"]
            assert {name_at(gateway) for _ in range(4)} == {b"two"} and before == 1
            names[b"one"].sendall(b"ping")  # what is there goes on
            assert exactly(names[b"one"], 4) == b"ping"
            one.start()
            wait_for(lambda: b"one" in {name_at(gateway) for _ in range(2)}, "back again")


def test_a_drained_target_keeps_its_connections_and_gets_no_new_ones(weir):
    with StreamPeer(greet(b"one")) as one, StreamPeer(greet(b"two")) as two:
        gateway = weir(TWO, one=one.port, two=two.port, check="{enabled: false}")
        held = {}
        while len(held) < 2:
            client = dial(gateway.port("db"))
            held[exactly(client, 3)] = client
        assert gateway.admin(f"/api/v1/target_groups/db/targets/127.0.0.1:{one.port}/drain", "POST")[0] == 200
        assert {name_at(gateway) for _ in range(4)} == {b"two"}
        held[b"one"].sendall(b"ping")
        assert exactly(held[b"one"], 4) == b"ping"
        for client in held.values():
            client.close()


def test_weighted_groups_share_connections(weir):
    with StreamPeer(greet(b"one")) as one, StreamPeer(greet(b"two")) as two:
        gateway = weir("""
listeners: {db: {address: "127.0.0.1:@db@", protocol: tcp, forward: [{group: a, weight: 3}, {group: b, weight: 1}]}}
target_groups:
  a: {protocol: tcp, targets: ["127.0.0.1:@one@"], health_check: {enabled: false}}
  b: {protocol: tcp, targets: ["127.0.0.1:@two@"], health_check: {enabled: false}}
""", one=one.port, two=two.port)
        names = [name_at(gateway) for _ in range(100)]
    assert 50 < names.count(b"one") < 97 and len(set(names)) == 2


# --- reloads and the end ---------------------------------------------------------------------------------------------
def test_connections_outlive_reloads_and_the_removal_of_their_listener(weir):
    with StreamPeer() as peer:
        gateway = forwarding(weir, peer)
        client = dial(gateway.port("db"))
        client.sendall(b"before")
        assert exactly(client, 6) == b"before"
        gateway.configure('listeners: {other: {address: "127.0.0.1:@other@"}}\nroutes: [{name: all, echo: true}]')
        gateway.reload()
        with pytest.raises(OSError):
            wait_for(lambda: dial(gateway.port("db")).close())
        client.sendall(b"after!")
        assert exactly(client, 6) == b"after!"
        client.close()
        assert last_line(gateway, reason="-")["listener"] == "db"


def test_connections_end_with_shutdown_timeout(weir):
    with StreamPeer() as peer:
        gateway = weir(ONE.replace("@extra@", "").replace("shutdown_timeout: 2s", "shutdown_timeout: 6s"), target=peer.port)
        with dial(gateway.port("db")) as client:
            client.sendall(b"x")
            exactly(client, 1)
            gateway.process.terminate()
            wait_for(lambda: "draining" in gateway.stderr(), "draining")
            client.sendall(b"y")
            assert exactly(client, 1) == b"y"
            assert is_reset(client)
        assert gateway.process.wait(20) == 0
        last_line(gateway, reason="SHUTTING_DOWN")


# --- TLS -------------------------------------------------------------------------------------------------------------
TLS = """
worker_threads: 1
listeners:
  db:
    address: "127.0.0.1:@db@"
    protocol: tls
    tls: {certificates: [a, b]}
    forward: rest
    sni:
      - {host: "*.a.example", forward: a}
      - {host: [b.example, c.example], forward: b}
certificates: {a: {self_signed: [a.example, "*.a.example"]}, b: {self_signed: [b.example]}}
target_groups:
  a: {protocol: tcp, targets: ["127.0.0.1:@a@"], health_check: {enabled: false}}
  b: {protocol: tcp, targets: ["127.0.0.1:@b@"], health_check: {enabled: false}}
  rest: {protocol: tcp, targets: ["127.0.0.1:@rest@"], health_check: {enabled: false}}
"""


def trusting(alpn=()):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def tls_dial(port, name, alpn=()):
    return trusting(alpn).wrap_socket(dial(port), server_hostname=name)


@pytest.fixture
def three():
    with StreamPeer(greet(b"[a]")) as a, StreamPeer(greet(b"[b]")) as b, StreamPeer(greet(b"[r]")) as other:
        yield {"a": a.port, "b": b.port, "rest": other.port}


NAMES = [("x.a.example", b"[a]"), ("X.Y.A.Example", b"[a]"), ("b.example", b"[b]"), ("c.example", b"[b]"),
         ("a.example", b"[r]"), ("other.test", b"[r]"), (None, b"[r]")]


@pytest.mark.parametrize("name, target", NAMES)
def test_terminated_tls_goes_to_the_group_of_its_server_name(weir, three, name, target):
    gateway = weir(TLS, **three)
    with tls_dial(gateway.port("db"), name) as client:
        assert exactly(client, 3) == target
        client.sendall(b"hello")
        assert exactly(client, 5) == b"hello"
        subject = client.getpeercert(binary_form=True)
    line = gateway.wait_log()[0]
    assert line["protocol"] == "tls" and line["tls_version"] == "TLSv1.3" and line["tls_cipher"].startswith("TLS_")
    assert (line["server_name"] or "").lower() == (name or "").lower() and b"example" in subject


def test_a_tls_client_may_offer_any_alpn(weir, three):
    """What the bytes are is between the client and its target."""
    gateway = weir(TLS, **three)
    with tls_dial(gateway.port("db"), "b.example", alpn=["imap", "xmpp-client"]) as client:
        assert exactly(client, 3) == b"[b]" and client.selected_alpn_protocol() is None


@pytest.mark.parametrize("offer, agreed", [(["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"),
                                           (["imap"], None), ([], None)])
def test_a_tls_listener_agrees_upon_what_its_alpn_lists_and_else_upon_nothing(weir, three, offer, agreed):
    """spec/alb.md 1.6: HTTP2Preferred; nothing shared is no error"""
    gateway = weir(TLS.replace("{certificates: [a, b]}", '{certificates: [a, b], alpn: [h2, http/1.1]}'), **three)
    with tls_dial(gateway.port("db"), "b.example", alpn=offer) as client:
        assert exactly(client, 3) == b"[b]" and client.selected_alpn_protocol() == agreed


BLOCK = os.urandom(65536)


def both_ways(client, size):
    """Sends so many bytes and reads as many at the same time; the hash of what came. By one thread, as OpenSSL's
    connections are no matter for two."""
    client.setblocking(False)
    got, sent, received = hashlib.sha256(), 0, 0
    while received < size:
        moved = received
        try:
            while sent < size:
                sent += client.send(BLOCK[sent % len(BLOCK):])
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        try:
            while received < size:
                data = client.recv(1 << 18)
                assert data, "an early end"
                got.update(data)
                received += len(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        if moved == received:
            assert any(select.select([client], [client] if sent < size else [], [], 30)), "neither way goes on"
    return got.digest()


@pytest.mark.xdist_group("load")
def test_terminated_tls_carries_much_both_ways(weir):
    with StreamPeer() as peer:
        gateway = weir(TLS, a=peer.port, b=peer.port, rest=peer.port)
        before = gateway.rss()
        size = 4 << 20 if SANITIZED else 32 << 20
        with tls_dial(gateway.port("db"), "b.example") as client:
            got = both_ways(client, size)
        assert got == hashlib.sha256(BLOCK * (size // len(BLOCK))).digest()
        assert SANITIZED or gateway.rss() - before < 8 << 20


class HalfTls:
    """A TLS client that can close its sending side and read on, which Python's SSLSocket cannot."""

    def __init__(self, port, name, version=ssl.TLSVersion.TLSv1_3):
        context = trusting()
        context.minimum_version = context.maximum_version = version
        self.socket = dial(port)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.until(self.tls.do_handshake)

    def flush(self):
        self.socket.sendall(self.outgoing.read())

    def until(self, action):
        while True:
            try:
                result = action()
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = self.socket.recv(65536)
                self.incoming.write(data) if data else self.incoming.write_eof()

    def say_goodbye(self):
        """close_notify alone: the TCP connection stays as it is."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()


@pytest.mark.parametrize("together", [False, True])
def test_close_notify_ends_one_direction(weir, together):
    """Before it the target has not answered; after its answer comes close_notify, not a bare end. together: data and
    close_notify arrive in one piece."""
    def digest(connection):
        data = rest(connection)
        connection.sendall(hashlib.sha256(data).digest())
        connection.shutdown(socket.SHUT_WR)

    with StreamPeer(digest) as peer:
        gateway = weir(TLS, a=peer.port, b=peer.port, rest=peer.port)
        client = HalfTls(gateway.port("db"), "b.example")
        client.tls.write(b"hello")
        if not together:
            client.flush()
        client.say_goodbye()
        raw = b""
        while data := client.socket.recv(65536):
            raw += data
        client.incoming.write(raw)
        client.socket.close()
        assert gateway.wait_log()[0]["reason"] == "-"
    # OpenSSL reads nothing after its own close_notify in Python's binding; lengths tell: 32 bytes in a record of
    # 32 + 22, then an alert of 2 + 22 (TLS 1.3), after the session tickets
    records, at = [], 0
    while at < len(raw):
        length = int.from_bytes(raw[at + 3:at + 5], "big")
        records.append((raw[at], length))
        at += 5 + length
    assert records[-2:] == [(23, 32 + 17), (23, 2 + 17)]


def test_a_target_that_breaks_off_is_no_orderly_end_of_tls(weir):
    def serve(connection):
        connection.sendall(b"part")
        connection.recv(1)
        reset(connection)

    with StreamPeer(serve) as peer:
        gateway = weir(TLS, a=peer.port, b=peer.port, rest=peer.port)
        client = HalfTls(gateway.port("db"), "b.example")
        assert client.until(lambda: client.tls.read(4)) == b"part"
        client.tls.write(b"x")
        client.flush()
        with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
            client.until(lambda: client.tls.read(1))


PASS = """
worker_threads: 2
listeners:
  db:
    address: "127.0.0.1:@db@"
    protocol: tls_passthrough
    @default@
    sni: [{host: "*.a.example", forward: a}, {host: b.example, forward: b}]
target_groups:
  a: {protocol: tcp, targets: ["127.0.0.1:@a@"], health_check: {enabled: false}}
  b: {protocol: tcp, targets: ["127.0.0.1:@b@"], health_check: {enabled: false}}
limits: {header_timeout: 20s}
"""


def server_context(folder, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9",
                    "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},DNS:*.{name}", "-keyout",
                    folder / f"{name}.key", "-out", folder / f"{name}.pem"], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


@pytest.fixture
def two_tls(tmp_path):
    with StreamPeer(greet(b"[a]"), context=server_context(tmp_path, "a.example")) as a, \
            StreamPeer(greet(b"[b]"), context=server_context(tmp_path, "b.example")) as b:
        yield {"a": a.port, "b": b.port, "folder": tmp_path}


@pytest.mark.parametrize("name, target", [("x.a.example", b"[a]"), ("b.example", b"[b]")])
def test_passed_through_tls_is_the_targets_own(weir, two_tls, name, target):
    """The client verifies the target's certificate: nobody in between has terminated anything."""
    folder = two_tls.pop("folder")
    gateway = weir(PASS, default="# none", **two_tls)
    context = ssl.create_default_context(cafile=folder / f"{name[-9:]}.pem")
    with context.wrap_socket(dial(gateway.port("db")), server_hostname=name) as client:
        assert exactly(client, 3) == target
        client.sendall(b"x" * 100000)
        assert exactly(client, 100000) == b"x" * 100000
    line = gateway.wait_log()[0]
    assert (line["protocol"], line["server_name"], line["target_group"]) == ("tls_passthrough", name, name[-9:-8])
    assert line["tls_version"] is None


def test_a_name_that_no_entry_takes_gets_the_alert_for_it(weir, two_tls):
    two_tls.pop("folder")
    gateway = weir(PASS, default="# none", **two_tls)
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        tls_dial(gateway.port("db"), "c.example")
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        tls_dial(gateway.port("db"), None)
    assert len(gateway.wait_log(lambda line: line["reason"] == "SERVER_NAME_UNKNOWN", count=2)) == 2


def test_without_a_name_the_default_group_serves(weir, two_tls):
    two_tls.pop("folder")
    gateway = weir(PASS, default="forward: b", **two_tls)
    for name in (None, "c.example"):
        with tls_dial(gateway.port("db"), name) as client:
            assert exactly(client, 3) == b"[b]"


@pytest.mark.parametrize("step", [1, 7, 100])
def test_a_hello_in_pieces_is_put_together(weir, two_tls, step):
    """By segments and, since each record holds a few bytes only, by records."""
    two_tls.pop("folder")
    gateway = weir(PASS, default="# none", **two_tls)
    hello = client_hello("b.example")
    message = hello[5:]
    pieces = [b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
              for part in (message[i:i + step] for i in range(0, len(message), step))]
    with dial(gateway.port("db")) as client:
        for piece in pieces:
            client.sendall(piece[:3])
            client.sendall(piece[3:])
        answer = exactly(client, 5)
    assert answer[0] == 22  # the target's ServerHello


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x00\x00", b"\x16\x03\x01\x40\x01", b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
                                  b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"])
def test_a_broken_hello_gets_decode_error(weir, two_tls, junk):
    two_tls.pop("folder")
    gateway = weir(PASS, default="forward: b", **two_tls)
    with dial(gateway.port("db")) as client:
        client.sendall(junk)
        assert rest(client) == b"\x15\x03\x03\x00\x02\x02\x32"
    assert last_line(gateway, reason="CLIENT_HELLO_BAD")["bytes_in"] == 0


def test_plain_http_on_a_passthrough_port_is_told_at_once(weir, two_tls):
    two_tls.pop("folder")
    gateway = weir(PASS, default="forward: b", **two_tls)
    with dial(gateway.port("db")) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert is_reset(client)
    assert last_line(gateway, reason="CLIENT_HELLO_BAD")["error"] == "not TLS"


# --- explain, status ---------------------------------------------------------------------------------------------------
def test_explain_tells_group_and_target_by_port_or_by_name(weir, three):
    gateway = weir(TLS, **three)
    port = gateway.port("db")
    said = gateway.run("explain", f"tls://x.a.example:{port}", "-c", CONFIG)
    assert said.returncode == 0, said.stderr
    for part in ('"db" (tls)', '"x.a.example" is taken by "*.a.example"', '"a" (1 of 1 by weight)', f"127.0.0.1:{three['a']}"):
        assert part in said.stdout
    answer = json.loads(gateway.run("explain", "--listener", "db", "--sni", "c.example", "-c", CONFIG, "--json").stdout)
    assert (answer["target_group"], answer["target"], answer["reason"]) == ("b", f"127.0.0.1:{three['b']}", "-")
    assert any(step["stage"] == "sni" and step["line"] for step in answer["steps"])
    assert gateway.run("explain", f"tcp://127.0.0.1:{port + 1}", "-c", CONFIG).returncode == 2


def test_explain_agrees_with_traffic_about_unknown_names(weir, two_tls):
    two_tls.pop("folder")
    gateway = weir(PASS, default="# none", **two_tls)
    answer = json.loads(gateway.run("explain", "--listener", "db", "--sni", "c.example", "-c", CONFIG, "--json").stdout)
    assert (answer["target_group"], answer["reason"]) == (None, "SERVER_NAME_UNKNOWN")


def test_status_and_metrics_show_what_is_open(weir):
    with StreamPeer(greet(b"hi")) as peer:
        gateway = forwarding(weir, peer)
        with dial(gateway.port("db")) as client:
            exactly(client, 2)
            status = json.loads(gateway.admin("/api/v1/status")[1])
            assert status["listeners"][0] == {"name": "db", "addresses": [f"127.0.0.1:{gateway.port('db')}"],
                                              "protocol": "tcp", "tls": False, "connections": 1}
            assert gateway.metric("weir_l4_connections_open", listener="db", target_group="db") == 1
            assert "(tcp, 1 open)" in gateway.run("status", "-c", CONFIG).stdout
            client.sendall(b"12345")
            assert exactly(client, 5) == b"12345"
        gateway.wait_log()
        assert gateway.metric("weir_l4_connections_open") == 0
        assert gateway.metric("weir_l4_connections_total", listener="db", target_group="db", reason="-") == 1
        assert gateway.metric("weir_l4_bytes_total", direction="in") == 5
        assert gateway.metric("weir_l4_bytes_total", direction="out") == 7


def counted_groups(gateway):
    return {dict(labels)["target_group"] for name, labels in gateway.metrics() if name == "weir_l4_connections_open"}


def test_counters_of_a_group_go_with_its_last_connection_once_the_configuration_has_left_it(weir):
    with StreamPeer() as peer:
        gateway = forwarding(weir, peer)
        with dial(gateway.port("db")) as client:
            client.sendall(b"before")
            assert exactly(client, 6) == b"before"
            gateway.configure(ONE.replace("@extra@", "").replace("forward: db", "forward: new").replace("{db: {protocol: tcp, targets",
                                                                                                        "{new: {protocol: tcp, targets"))
            gateway.reload()
            with dial(gateway.port("db")) as other:
                other.sendall(b"hello")
                assert exactly(other, 5) == b"hello"
            assert gateway.metric("weir_l4_connections_open", target_group="db") == 1
            client.sendall(b"after!")
            assert exactly(client, 6) == b"after!"
        wait_for(lambda: counted_groups(gateway) == {"-", "new"}, "the group to be forgotten")
        assert last_line(gateway, bytes_in=12)["target_group"] == "db"
        gateway.configure('listeners: {other: {address: "127.0.0.1:@other@"}}\nroutes: [{name: all, echo: true}]')
        gateway.reload()
        wait_for(lambda: counted_groups(gateway) == set(), "the listener to be forgotten")


@pytest.mark.skipif(SANITIZED, reason="freed memory is kept back")
def test_groups_that_come_and_go_leave_no_memory_behind(weir):
    """100 names that were never there before with each reload: some 350 KB of counters."""
    def configuration(version):
        names = [f"g{version}-{i}" for i in range(100)]
        rules = ", ".join(f"{{host: h{i}.example, forward: {name}}}" for i, name in enumerate(names))
        groups = "\n".join(f'  {name}: {{protocol: tcp, targets: ["127.0.0.1:1"], health_check: {{enabled: false}}}}' for name in names)
        return f"""
worker_threads: 2
listeners: {{edge: {{address: "127.0.0.1:@edge@", protocol: tls_passthrough, sni: [{rules}]}}}}
target_groups:
{groups}
"""
    gateway = weir(configuration(0))

    def reloads(versions):
        for version in versions:
            gateway.configure(configuration(version))
            gateway.reload()

    reloads(range(1, 21))
    before = gateway.rss()
    reloads(range(21, 81))
    wait_for(lambda: gateway.rss() - before < 8 << 20, "memory to come back", 30)


# --- TLS towards targets -------------------------------------------------------------------------------------------------
AGAIN = """
worker_threads: 1
listeners:
  plain: {address: "127.0.0.1:@plain@", protocol: tcp, forward: secure}
  db: {address: "127.0.0.1:@db@", protocol: tls, tls: {certificates: [self]}, forward: secure}
certificates: {self: {self_signed: [localhost]}}
target_groups:
  secure:
    protocol: tls
    targets: ["127.0.0.1:@target@"]
    tls: {ca: "@ca@", server_name: @name@}
    timeouts: {connect: 20s}
    health_check: {interval: 100ms, timeout: 20s}
"""


@pytest.mark.parametrize("listener", ["plain", "db"])
def test_bytes_are_encrypted_again_for_a_tls_group(weir, tmp_path, listener):
    context = server_context(tmp_path, "a.example")
    with StreamPeer(greet(b"[a]"), context=context) as peer:
        gateway = weir(AGAIN, target=peer.port, ca=tmp_path / "a.example.pem", name="x.a.example")
        client = dial(gateway.port("plain")) if listener == "plain" else tls_dial(gateway.port("db"), "localhost")
        with client:
            assert exactly(client, 3) == b"[a]"
            client.sendall(b"x" * 200000)
            assert exactly(client, 200000) == b"x" * 200000
        assert last_line(gateway, reason="-")["target_group"] == "secure"


def test_a_target_whose_certificate_is_for_another_name_gets_no_bytes(weir, tmp_path):
    context = server_context(tmp_path, "a.example")
    with StreamPeer(greet(b"[a]"), context=context) as peer:
        gateway = weir(AGAIN, target=peer.port, ca=tmp_path / "a.example.pem", name="b.example")
        assert is_turned_away(gateway.port("plain"))
        line = last_line(gateway, reason="UPSTREAM_CERTIFICATE")
    assert line["error"] and line["bytes_out"] == 0


# --- PROXY headers for targets ---------------------------------------------------------------------------------------------
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def read_proxy(connection):
    """(command, family, addresses, {type: value}) of a version 2 header."""
    head = exactly(connection, 16)
    assert head[:12] == V2
    body = exactly(connection, int.from_bytes(head[14:16], "big"))
    addresses, tlvs = body[:12] if head[13] == 0x11 else b"", {}
    at = len(addresses)
    while at < len(body):
        length = int.from_bytes(body[at + 1:at + 3], "big")
        tlvs[body[at]] = body[at + 3:at + 3 + length]
        at += 3 + length
    return head[12] & 15, head[13], addresses, tlvs


PROXY = """
worker_threads: 1
listeners:
  db: {address: "127.0.0.1:@db@", protocol: tcp, forward: db, proxy_protocol: {from: [127.0.0.0/8], required: false}}
  tls: {address: "127.0.0.1:@tls@", protocol: tls, tls: {certificates: [self]}, forward: db}
  pass: {address: "127.0.0.1:@pass@", protocol: tls_passthrough, forward: db}
certificates: {self: {self_signed: [localhost]}}
target_groups:
  db: {protocol: tcp, targets: ["127.0.0.1:@target@"], send_proxy_protocol: @version@, health_check: {interval: 100ms, timeout: 20s}}
"""


class Receiver(StreamPeer):
    """Takes a version 2 header from every connection, health checks included."""

    def __init__(self):
        self.headers, self.first = [], []
        super().__init__(self.take)

    def take(self, connection):
        header = read_proxy(connection)
        self.headers.append(header)
        if header[0] == 1:
            self.first.append(connection.recv(5))
            connection.sendall(b"thanks")

    def named(self):
        return [header for header in self.headers if header[0] == 1]


def addresses(client, port):
    return (socket.inet_aton("127.0.0.1") * 2 + client.getsockname()[1].to_bytes(2, "big") + port.to_bytes(2, "big"))


def test_a_version_2_header_names_the_client_and_health_checks_name_nobody(weir):
    with Receiver() as peer:
        gateway = weir(PROXY, target=peer.port, version="v2")
        with dial(gateway.port("db")) as client:
            client.sendall(b"hello")
            assert rest(client) == b"thanks"
            wanted = (1, 0x11, addresses(client, gateway.port("db")), {})
        assert peer.named() == [wanted] and peer.first == [b"hello"]
        wait_for(lambda: (0, 0, b"", {}) in peer.headers, "a LOCAL header")
        assert not peer.failures


def test_the_header_tells_tls_and_server_name(weir):
    with Receiver() as peer:
        gateway = weir(PROXY, target=peer.port, version="v2")
        with tls_dial(gateway.port("tls"), "localhost") as client:
            client.sendall(b"hello")
            exactly(client, 6)
        assert peer.named()[0][3][2] == b"localhost" and peer.named()[0][3][0x20][0] & 1 and b"TLSv1.3" in peer.named()[0][3][0x20]
        with dial(gateway.port("pass")) as client:
            client.sendall(client_hello("db.example"))
            exactly(client, 6)
        assert peer.named()[1][3] == {2: b"db.example"} and peer.first[1][:3] == b"\x16\x03\x01"


def test_a_header_that_came_goes_on_to_the_target(weir):
    with Receiver() as peer:
        gateway = weir(PROXY, target=peer.port, version="v2")
        with dial(gateway.port("db")) as client:
            client.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.9 4711 5432\r\nhello")
            assert rest(client) == b"thanks"
        wanted = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.9") + b"\x12\x67\x15\x38"
        assert peer.named()[0][2] == wanted
        assert last_line(gateway, reason="-")["client"] == "192.0.2.7"


def test_a_version_1_header_is_a_line_of_text(weir):
    lines = []

    def serve(connection):
        data = b""
        while not data.endswith(b"x") and (more := connection.recv(200)):
            data += more
        lines.append(data)

    with StreamPeer(serve) as peer:
        gateway = weir(PROXY, target=peer.port, version="v1")
        with dial(gateway.port("db")) as client:
            client.sendall(b"x")
            rest(client)
            wanted = f"PROXY TCP4 127.0.0.1 127.0.0.1 {client.getsockname()[1]} {gateway.port('db')}\r\n".encode()
        wait_for(lambda: any(line.startswith(wanted) for line in lines), f"{lines}")


VERSION_1 = """
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  app: {@group@, targets: ["127.0.0.1:@target@"], send_proxy_protocol: v1, health_check: {protocol: @check@, interval: 100ms, timeout: 20s}}
routes: [{name: all, forward: app}]
"""


@pytest.mark.parametrize("protocol", ["tcp", "http", "https"])
def test_a_health_check_with_a_version_1_header_names_weir_because_apache_and_varnish_refuse_unknown(weir, protocol):
    lines = []

    def serve(connection):
        line = b""
        while not line.endswith(b"\r\n"):
            line += exactly(connection, 1)
        lines.append(line)
        if protocol == "http":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    group = "protocol: https, tls: {insecure: true}" if protocol == "https" else "protocol: http"
    with StreamPeer(serve) as peer:
        weir(VERSION_1.replace("@group@", group), target=peer.port, check=protocol)
        wait_for(lambda: len(lines) >= 2, "two checks")
        for line in lines[:2]:
            assert re.fullmatch(rb"PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 [1-9][0-9]{0,4} %d\r\n" % peer.port, line), line


HTTP_PROXY = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  app: {targets: ["127.0.0.1:@target@"], send_proxy_protocol: v2, health_check: {interval: 100ms, timeout: 20s, path: /health}}
routes: [{name: all, forward: app}]
"""


def test_http_targets_get_a_header_on_every_connection_which_no_other_client_shares(weir):
    seen = []  # of each connection: its header and the heads of its requests

    def serve(connection):
        seen.append((read_proxy(connection), heads := []))
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += exactly(connection, 1)
            heads.append(head)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def ask(client, path="/app"):
        client.request("GET", path)
        assert client.response().body == b"ok"
        return client.socket.getsockname()[1]

    with StreamPeer(serve) as peer:
        gateway = weir(HTTP_PROXY, target=peer.port)
        with Client(gateway.port("http")) as one, Client(gateway.port("http")) as other:
            ports = [ask(client) for client in (one, other, one, other, one)]
        with Client(gateway.port("http")) as later:
            ports.append(ask(later))
        wait_for(lambda: any(heads[0].startswith(b"GET /health") for _, heads in seen if heads), "a health check")
    served = [(int.from_bytes(sent[8:10], "big"), len(heads)) for (command, _, sent, _), heads in seen
              if heads and heads[0].startswith(b"GET /app") and command == 1]
    assert sum(count for _, count in served) == 6
    for port in set(ports):  # a connection may have been given up in between, but none speaks for two
        assert sum(count for of, count in served if of == port) == ports.count(port)
    assert max(count for _, count in served) > 1, "a client's next request goes on its connection"
    checks = [header for header, heads in seen if heads and heads[0].startswith(b"GET /health")]
    assert checks[0] == (0, 0, b"", {})


# --- real servers ----------------------------------------------------------------------------------------------------------
class Daemon:
    """A server from a package, in the foreground."""

    def __init__(self, command, port):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wait_for(lambda: self.answers(port), f"{command[0]} on {port}", 20)

    def answers(self, port):
        assert self.process.poll() is None, self.process.stdout.read()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)
        self.process.stdout.close()


REDIS = ONE.replace("@extra@", "").replace("{enabled: false}", "{interval: 100ms, timeout: 20s}")


def test_redis_works_through_a_tcp_listener(weir, tmp_path):
    port = PORTS.take()
    with Daemon(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path], port):
        gateway = weir(REDIS, target=port)
        say = lambda *words: subprocess.run(["redis-cli", "-p", str(gateway.port("db")), *words], capture_output=True,
                                            text=True, timeout=30, check=True).stdout.strip()
        assert say("set", "key", "value") == "OK" and say("get", "key") == "value"
        large = "x" * 100000
        assert say("set", "large", large) == "OK" and say("get", "large") == large
        done = subprocess.run(["redis-benchmark", "-p", str(gateway.port("db")), "-q", "-n", "2000", "-c", "20", "-P", "8",
                               "-t", "set,get,lpush"], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0 and "Error" not in done.stdout + done.stderr
        with dial(gateway.port("db")) as subscriber:  # a protocol in which the server speaks when it likes
            subscriber.sendall(b"SUBSCRIBE news\r\n")
            exactly(subscriber, len(b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"))
            assert say("publish", "news", "hello") == "1"
            news = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n"
            assert exactly(subscriber, len(news)) == news


def test_haproxy_accepts_the_header(weir, tmp_path):
    port = PORTS.take()
    config = tmp_path / "haproxy.cfg"
    config.write_text(f"""
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 10s
frontend f
  bind 127.0.0.1:{port} accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port] %[dst]:%[dst_port]"
""")
    with Daemon(["haproxy", "-db", "-f", config], port):
        gateway = weir(HTTP_PROXY.replace("http: {address", 'db: {address: "127.0.0.1:@db@", protocol: tcp, forward: bytes}\n'
                                          "  http: {address").replace("listeners: {db", "listeners:\n  db").replace(
            '"127.0.0.1:@http@"}}', '"127.0.0.1:@http@"}').replace("routes:", """  bytes:
    {protocol: tcp, targets: ["127.0.0.1:@target@"], send_proxy_protocol: v1, health_check: {interval: 100ms, timeout: 20s}}
routes:"""), target=port)
        for name in ("db", "http"):
            with Client(gateway.port(name)) as client:
                client.request("GET", "/x")
                mine = client.socket.getsockname()[1]
                assert client.response().text == f"127.0.0.1:{mine} 127.0.0.1:{gateway.port(name)}"


def test_nginx_accepts_the_header_before_tls(weir, tmp_path):
    port = PORTS.take()
    server_context(tmp_path, "a.example")
    config = tmp_path / "nginx.conf"
    config.write_text(f"""
daemon off; master_process off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log; worker_processes 1;
events {{}}
http {{
  access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p; fastcgi_temp_path {tmp_path}/f;
  uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
  server {{
    listen 127.0.0.1:{port} ssl proxy_protocol;
    ssl_certificate {tmp_path}/a.example.pem; ssl_certificate_key {tmp_path}/a.example.key;
    return 200 "$proxy_protocol_addr:$proxy_protocol_port";
  }}
}}
""")
    with Daemon(["nginx", "-c", config, "-e", tmp_path / "error.log"], port):
        gateway = weir(HTTP_PROXY.replace("{targets", "{protocol: https, tls: {insecure: true}, targets"), target=port)
        for _ in range(2):
            with Client(gateway.port("http")) as client:
                client.request("GET", "/x")
                mine = client.socket.getsockname()[1]
                assert client.response().text == f"127.0.0.1:{mine}"


# --- load ------------------------------------------------------------------------------------------------------------------
@pytest.mark.timeout(180)
@pytest.mark.xdist_group("load")
def test_no_connection_breaks_while_configurations_come_and_targets_go(weir):
    with StreamPeer(echo) as one, StreamPeer(echo) as two:
        check = "{interval: 100ms, timeout: 10s, healthy_threshold: 1, unhealthy_threshold: 1}"
        gateway = weir(TWO.replace("worker_threads: 1", "worker_threads: 2"), one=one.port, two=two.port, check=check)
        over, failures, rounds = threading.Event(), [], []

        def talk(number):
            block = hashlib.sha256(bytes([number])).digest() * 512
            while not over.is_set():
                try:
                    with dial(gateway.port("db")) as client:
                        for _ in range(20):
                            client.sendall(block)
                            if exactly(client, len(block)) != block:
                                raise AssertionError("other bytes came back")
                    rounds.append(number)
                except (OSError, AssertionError) as error:
                    failures.append(error)
        threads = [threading.Thread(target=talk, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for turn in range(4):
            before = len(rounds)
            gateway.reload()
            path = f"/api/v1/target_groups/db/targets/127.0.0.1:{one.port}/" + ("enable" if turn % 2 else "drain")
            assert gateway.admin(path, "POST")[0] == 200
            wait_for(lambda: len(rounds) > before + 40, "progress", 60)
        over.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[:3]


# --- what is told of what serves -----------------------------------------------------------------------------------------
def post_explain(gateway, question):
    connection = UnixConnection(gateway.admin_socket)
    connection.request("POST", "/api/v1/explain", json.dumps(question), {"content-type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def test_the_admin_api_explains_connections_with_the_health_of_now(weir):
    with StreamPeer(greet(b"one")) as one, StreamPeer(greet(b"two")) as two:
        gateway = weir(TWO.replace("@check@", "{enabled: false}"), one=one.port, two=two.port)
        port = gateway.port("db")
        status, answer = post_explain(gateway, {"url": f"tcp://127.0.0.1:{port}"})
        assert status == 200 and (answer["listener"], answer["protocol"], answer["target_group"]) == ("db", "tcp", "db")
        assert any(step["stage"] == "target group" and step["line"] for step in answer["steps"])
        gateway.admin(f"/api/v1/target_groups/db/targets/127.0.0.1:{one.port}/drain", "POST")
        for _ in range(4):
            assert post_explain(gateway, {"listener": "db"})[1]["target"] == f"127.0.0.1:{two.port}"
        assert post_explain(gateway, {"url": f"udp://127.0.0.1:{port}"})[0] == 400
        assert post_explain(gateway, {"listener": "db", "ip": "nobody"})[0] == 400


def test_the_dashboard_has_a_row_for_each_listener(weir):
    with StreamPeer(greet(b"hi")) as peer:
        gateway = weir(ONE.replace("@extra@", "") + 'admin: {address: "unix:@tmp@/admin.sock", tcp: "127.0.0.1:@page@"}\n',
                       target=peer.port, start=False)
        gateway.start()
        wait_for(gateway.is_ready, "ready")
        with dial(gateway.port("db")) as client:
            exactly(client, 2)
            page = gateway.admin("/")[1]
            row = re.search(r'<tr data-key="listener db">.*?</tr>', page)[0]
            cells = [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
            assert cells[:6] == ["db", "tcp", f"127.0.0.1:{gateway.port('db')}", "db", "1", "0"]
