"""Listeners of protocol udp between real sockets: echo servers in Python, dnsmasq."""
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from client import Client
from stream_peer import StreamPeer
from test_upgrade import upgradable  # noqa: F401
from udp_peer import UdpPeer, ask, dial_udp, is_silent, named
from weir import CONFIG, PORTS, SANITIZED, Disturbed, needs_ipv6, undisturbed, wait_for

ONE = """
worker_threads: @threads@
listeners: {dns: {address: "@address@:@dns@", protocol: udp, forward: dns@extra@}}
target_groups: {dns: {protocol: udp, targets: ["127.0.0.1:@target@"]@group@}}
shutdown_timeout: 3s
"""


def forwarding(weir, peer, extra="", group="", address="127.0.0.1", threads=2, **options):
    return weir(ONE.replace("@extra@", extra).replace("@group@", group), target=peer.port, address=address, threads=threads,
                **options)


def flows(gateway):
    return gateway.metric("weir_l4_connections_open", listener="dns")


def last_line(gateway, **wanted):
    return gateway.wait_log(lambda line: all(line[name] == value for name, value in wanted.items()))[0]


# --- datagrams -------------------------------------------------------------------------------------------------------
def test_datagrams_go_both_ways_and_the_line_in_the_log_counts_them(weir):
    with UdpPeer(named(b"re: ")) as peer:
        gateway = forwarding(weir, peer, ", idle_timeout: 1500ms")

        def talk():
            with dial_udp(gateway.port("dns")) as client:
                began = time.monotonic()
                assert ask(client, b"hello") == b"re: hello"
                assert ask(client, b"again") == b"re: again"
                if time.monotonic() - began > 1.4:
                    raise Disturbed  # these may have been two flows
                return client.getsockname()[1]
        line = last_line(gateway, client_port=undisturbed(talk))
    assert (line["protocol"], line["listener"], line["target_group"], line["reason"]) == ("udp", "dns", "dns", "FLOW_IDLE")
    assert line["target"] == f"127.0.0.1:{peer.port}" and line["attempts"] == 1 and line["client"] == "127.0.0.1"
    assert (line["bytes_in"], line["bytes_out"], line["status"]) == (10, 18, 0)
    assert line["duration_ms"] >= 1490 and line["upstream_ms"] < line["duration_ms"]


@pytest.mark.parametrize("size", [0, 1, 1472, 1473, 9000, 65507])
def test_a_datagram_of_any_size_arrives_as_one(weir, size):
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer)
        with dial_udp(gateway.port("dns")) as client:
            data = os.urandom(size)
            assert ask(client, data) == data


def test_every_datagram_of_a_burst_is_passed_on_in_order(weir):
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer)
        with dial_udp(gateway.port("dns")) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            ask(client, b"begin")
            for burst in range(20):
                sent = [b"%d.%d" % (burst, i) for i in range(100)]
                for data in sent:
                    client.send(data)
                assert [client.recv(100) for _ in sent] == sent


def test_a_flow_keeps_its_target_and_its_port_there(weir):
    with UdpPeer(named(b"a")) as a, UdpPeer(named(b"b")) as b:
        gateway = forwarding(weir, a, group="")
        gateway.configure(ONE.replace('"127.0.0.1:@target@"', f'"127.0.0.1:{a.port}", "127.0.0.1:{b.port}"').replace("@extra@", "").replace("@group@", ""))
        gateway.reload()
        clients = [dial_udp(gateway.port("dns")) for _ in range(16)]
        names = [ask(client, b"?")[:1] for client in clients]
        assert set(names) == {b"a", b"b"}
        for _ in range(5):
            assert [ask(client, b"?")[:1] for client in clients] == names
        assert len({address for _, address in a.seen + b.seen}) == 16
        for client in clients:
            client.close()


def test_an_answer_comes_from_the_address_that_was_written_to(weir):
    """The clients are connected: answers from another address would never reach them."""
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer, address="0.0.0.0")
        for address in ("127.0.0.1", "127.0.0.2", "127.7.7.7"):
            with dial_udp(gateway.port("dns"), address) as client:
                assert ask(client, b"x") == b"x"


@needs_ipv6
def test_a_dual_stack_address_answers_both_families_from_the_right_one(weir):
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer, address="[::]")
        for address in ("127.0.0.1", "127.0.0.2", "::1"):
            with dial_udp(gateway.port("dns"), address) as client:
                assert ask(client, b"x") == b"x"
        with dial_udp(gateway.port("dns"), "127.0.0.2") as client:
            assert ask(client, b"x") == b"x"


def test_one_socket_that_writes_to_two_of_our_addresses_is_two_flows(weir):
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer, address="0.0.0.0")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            for address in ("127.0.0.1", "127.0.0.2"):
                client.sendto(b"x", (address, gateway.port("dns")))
                assert client.recvfrom(10) == (b"x", (address, gateway.port("dns")))
        assert len({address for _, address in peer.seen}) == 2


def test_tcp_and_udp_share_a_port(weir):
    with UdpPeer() as peer, StreamPeer() as stream:
        gateway = weir("""
listeners:
  udp: {address: "127.0.0.1:@port@", protocol: udp, forward: udp}
  tcp: {address: "127.0.0.1:@port@", protocol: tcp, forward: tcp}
target_groups:
  udp: {protocol: udp, targets: ["127.0.0.1:@one@"]}
  tcp: {protocol: tcp, targets: ["127.0.0.1:@two@"], health_check: false}
""", one=peer.port, two=stream.port)
        with dial_udp(gateway.port("port")) as client:
            assert ask(client, b"x") == b"x"
        with socket.create_connection(("127.0.0.1", gateway.port("port")), 10) as client:
            client.sendall(b"y")
            assert client.recv(1) == b"y"


# --- a real protocol -------------------------------------------------------------------------------------------------
def query(name, number):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)


@pytest.mark.skipif(shutil.which("dnsmasq", path="/usr/sbin:/usr/bin:/sbin") is None, reason="no dnsmasq")
def test_dns_is_served_by_dnsmasq_one_flow_for_each_question(weir, tmp_path):
    port = PORTS.take()
    server = subprocess.Popen([shutil.which("dnsmasq", path="/usr/sbin:/usr/bin:/sbin"), "--keep-in-foreground", "--conf-file=/dev/null",
                               f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--no-resolv", "--no-hosts",
                               "--address=/weir.test/192.0.2.7", f"--user={os.environ.get('USER') or 'root'}", "--pid-file="],
                              stderr=subprocess.PIPE)
    try:
        gateway = weir(ONE.replace("@extra@", ", idle_timeout: 30s, udp: {responses: 1}").replace("@group@", ""), target=port, address="127.0.0.1",
                       threads=2)

        def answers():
            with dial_udp(gateway.port("dns"), timeout=0.5) as client:
                try:
                    return ask(client, query("up.weir.test", 1))
                except OSError:
                    return None
        wait_for(answers, "dnsmasq", 30)
        before = flows(gateway)  # of questions that came too early
        for number in range(200):
            with dial_udp(gateway.port("dns")) as client:
                answer = ask(client, query(f"host{number}.weir.test", number))
                assert struct.unpack("!H", answer[:2])[0] == number and answer.endswith(bytes([192, 0, 2, 7]))
        wait_for(lambda: flows(gateway) <= before, "flows that were answered to be over")
    finally:
        server.terminate()
        server.wait(10)
        server.stderr.close()


# --- the end of flows --------------------------------------------------------------------------------------------------
def test_a_quiet_flow_ends_and_the_next_datagram_opens_another(weir):
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer, ", idle_timeout: 1500ms")
        with dial_udp(gateway.port("dns")) as client:
            ask(client, b"x")
            assert last_line(gateway, reason="FLOW_IDLE")["bytes_in"] == 1
            assert flows(gateway) == 0
            ask(client, b"xy")
            assert gateway.wait_log(count=2)[1]["bytes_in"] == 2


def test_a_flow_that_only_one_side_uses_is_not_idle(weir):
    with UdpPeer(lambda data, answer: None) as peer:
        gateway = forwarding(weir, peer, ", idle_timeout: 1s")

        def move():
            with dial_udp(gateway.port("dns")) as client:
                peer.seen.clear()
                longest, before = 0, time.monotonic()
                for number in range(12):
                    began = time.monotonic()
                    client.send(b"x")
                    wait_for(lambda: len(peer.seen) > number, "the datagram")
                    longest, before = max(longest, time.monotonic() - before), began
                    time.sleep(0.2)  # far below the timeout each, more than twice of it in all
                if longest > 0.95:
                    raise Disturbed
                assert len({address for _, address in peer.seen}) == 1
        undisturbed(move)


def test_a_flow_ends_with_the_answers_that_are_expected(weir):
    late = threading.Event()

    def serve(data, answer):
        answer(b"1")
        answer(b"2")
        late.wait(60)
        answer(b"3")

    with UdpPeer(serve) as peer:
        gateway = forwarding(weir, peer, ", udp: {responses: 2}")
        with dial_udp(gateway.port("dns")) as client:
            assert [ask(client, b"x"), client.recv(10)] == [b"1", b"2"]
            line = last_line(gateway, reason="FLOW_ANSWERED")
            assert (line["bytes_in"], line["bytes_out"]) == (1, 2)
            late.set()
            assert is_silent(client)


def test_answers_to_several_questions_are_all_waited_for(weir):
    gate = threading.Event()

    def serve(data, answer):
        gate.wait(60)
        answer(data)

    with UdpPeer(serve) as peer:
        gateway = forwarding(weir, peer, ", udp: {responses: 1}")
        with dial_udp(gateway.port("dns")) as client:
            for data in (b"1", b"2", b"3"):
                client.send(data)
            wait_for(lambda: gateway.metric("weir_udp_datagrams_total", direction="in") == 3, "the questions")
            gate.set()
            assert [client.recv(10) for _ in range(3)] == [b"1", b"2", b"3"]


# --- bounds --------------------------------------------------------------------------------------------------------------
COUNT = 2000 if SANITIZED else 10000


@pytest.mark.timeout(120)
@pytest.mark.xdist_group("load")
def test_ten_thousand_flows_get_each_its_own_answer(weir):
    with UdpPeer(named(b"re: ")) as peer:
        gateway = forwarding(weir, peer)
        clients = [dial_udp(gateway.port("dns")) for _ in range(COUNT)]
        try:
            for round_ in range(2):
                for start in range(0, COUNT, 100):
                    some = range(start, start + 100)
                    for i in some:
                        clients[i].send(b"%d/%d" % (round_, i))
                    for i in some:
                        assert clients[i].recv(100) == b"re: %d/%d" % (round_, i)
            assert flows(gateway) == COUNT
        finally:
            for client in clients:
                client.close()
    assert len({address for _, address in peer.seen}) == COUNT


class Flood:
    """Sends from one address and many ports as fast as it can, and reads nothing."""

    def __init__(self, port, source="127.0.0.9", ports=400):
        self.clients = [dial_udp(port, source=source) for _ in range(ports)]
        self.is_over, self.sent = False, 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.is_over:
            for client in self.clients:
                try:
                    client.send(b"flood")
                    self.sent += 1
                except OSError:
                    pass
            # so that the load is the gateway's: a thread that never rests starves the client of this very process
            time.sleep(0.001)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.thread.join(10)
        for client in self.clients:
            client.close()


def is_answered(client, data):
    client.settimeout(0.5)
    client.send(data)
    try:
        while client.recv(100) != data:  # one of before, that was late
            pass
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("extra", [", udp: {flows: 100}", ", udp: {flows_per_ip: 20}"])
@pytest.mark.xdist_group("load")
def test_a_flood_from_one_source_does_not_take_the_place_of_a_flow_that_is_served(weir, extra):
    def serve(data, answer):
        if data != b"flood":
            answer(data)

    with UdpPeer(serve) as peer:
        gateway = forwarding(weir, peer, extra, threads=1)
        with dial_udp(gateway.port("dns")) as client:
            ask(client, b"first")
            ask(client, b"proof")
            with Flood(gateway.port("dns")) as flood:
                wait_for(lambda: flood.sent > 2000, "a flood", 30)
                for number in range(100):  # again where the kernel's queue ran over, which is nobody's choice
                    wait_for(lambda: is_answered(client, b"%d" % number), f"answer {number} amid the flood", 30)
                with dial_udp(gateway.port("dns"), source="127.0.0.8") as newcomer:
                    # among newcomers a flood is most of them, unless its address is bounded
                    "per_ip" not in extra or wait_for(lambda: is_answered(newcomer, b"new"), "an answer for a newcomer", 30)
            assert flows(gateway) <= 101
        mine = {address for data, address in peer.seen if data != b"flood" and data != b"new"}
        assert len(mine) == 1, "the flow was moved or begun anew"


def test_the_oldest_flow_that_nobody_vouches_for_makes_room(weir):
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer, ", udp: {flows: 2}", threads=1)
        clients = [dial_udp(gateway.port("dns")) for _ in range(3)]
        for client in clients:
            ask(client, b"x")
        assert last_line(gateway, reason="FLOW_EVICTED")["client_port"] == clients[0].getsockname()[1]
        assert flows(gateway) == 2
        for client in clients:
            client.close()


def let_all_end(gateway, extra, clients):
    """By a short timeout, which they adopt with their next datagram; later flows do not end in the middle of a test."""
    for idle in ("200ms", "2m"):
        gateway.configure(ONE.replace("@extra@", f"{extra}, idle_timeout: {idle}").replace("@group@", ""))
        gateway.reload()
        if idle == "200ms":
            for client in clients:
                ask(client, b"x")
            wait_for(lambda: flows(gateway) == 0, "the ends of all flows")


def test_flows_whose_clients_are_there_are_not_pushed_out(weir):
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer, ", udp: {flows: 2}", threads=1)
        clients = [dial_udp(gateway.port("dns")) for _ in range(3)]
        for client in clients[:2]:
            ask(client, b"x")
            ask(client, b"y")
        clients[2].send(b"x")
        assert last_line(gateway, reason="FLOWS_FULL")["client_port"] == clients[2].getsockname()[1]
        wait_for(lambda: gateway.metric("weir_udp_dropped_total", reason="refused") == 1, "the datagram in the metrics")
        let_all_end(gateway, ", udp: {flows: 2}", clients[:2])
        assert ask(clients[2], b"x") == b"x"
        for client in clients:
            client.close()


def test_an_address_has_its_flows_and_no_more(weir):
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer, ", udp: {flows_per_ip: 2}")
        clients = [dial_udp(gateway.port("dns"), source="127.0.0.5") for _ in range(3)]
        for client in clients[:2]:
            ask(client, b"x")
        clients[2].send(b"x")
        assert last_line(gateway, reason="FLOWS_PER_ADDRESS")["client"] == "127.0.0.5"
        with dial_udp(gateway.port("dns"), source="127.0.0.6") as other:
            ask(other, b"x")
            let_all_end(gateway, ", udp: {flows_per_ip: 2}", [*clients[:2], other])
        assert ask(clients[2], b"x") == b"x"
        for client in clients:
            client.close()


def test_flows_beyond_the_limit_of_open_files_do_not_keep_others_out(weir):
    with UdpPeer() as peer:
        gateway = weir(ONE.replace("@extra@", "").replace("@group@", ""), target=peer.port, address="127.0.0.1", threads=1, start=False)
        gateway.prefix = ["prlimit", "--nofile=200"]
        gateway.start()
        clients = [dial_udp(gateway.port("dns")) for _ in range(400)]
        for client in clients:
            assert ask(client, b"x") == b"x"
        assert 100 <= flows(gateway) <= 150
        assert gateway.metric("weir_l4_connections_total", reason="FLOW_EVICTED") >= 250
        for client in clients:
            client.close()


def test_a_datagram_that_names_a_listener_as_its_sender_goes_nowhere(weir):
    """Else two echo services that somebody has introduced to each other would never stop."""
    with UdpPeer() as peer:
        gateway = weir("""
worker_threads: 1
listeners:
  one: {address: "127.0.0.1:@one@", protocol: udp, forward: dns}
  two: {address: "0.0.0.0:@two@", protocol: udp, forward: dns}
target_groups: {dns: {protocol: udp, targets: ["127.0.0.1:@target@"]}}
""", target=peer.port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            client.bind(("127.0.0.1", gateway.port("two")))
            client.sendto(b"x", ("127.0.0.1", gateway.port("one")))
            wait_for(lambda: gateway.metric("weir_udp_dropped_total", listener="one", reason="loop") == 1, "the loop in the metrics")
    assert peer.seen == []


# --- targets ---------------------------------------------------------------------------------------------------------------
def two_targets(weir, a, b, group="", extra=""):
    text = ONE.replace('"127.0.0.1:@target@"', '"127.0.0.1:@a@", "127.0.0.1:@b@"')
    return weir(text.replace("@extra@", extra).replace("@group@", group), a=a.port, b=b.port, address="127.0.0.1", threads=2)


def test_a_source_address_keeps_its_target_whatever_its_ports(weir):
    with UdpPeer(named(b"a")) as a, UdpPeer(named(b"b")) as b:
        gateway = two_targets(weir, a, b, ", algorithm: {type: consistent_hash, by: client_ip}")
        found = {}
        for host in range(1, 20):
            for _ in range(4):
                with dial_udp(gateway.port("dns"), source=f"127.0.1.{host}") as client:
                    found.setdefault(host, set()).add(ask(client, b"?")[:1])
    assert all(len(names) == 1 for names in found.values())
    assert set.union(*found.values()) == {b"a", b"b"}


def test_a_flow_hash_finds_the_same_target_again(weir):
    """So that several gateways, and one that has forgotten its flows, agree."""
    with UdpPeer(named(b"a")) as a, UdpPeer(named(b"b")) as b:
        gateway = two_targets(weir, a, b, ", algorithm: {type: consistent_hash, by: flow}", ", udp: {responses: 1}")
        clients = [dial_udp(gateway.port("dns")) for _ in range(20)]
        names = [ask(client, b"?")[:1] for client in clients]
        assert set(names) == {b"a", b"b"}
        for _ in range(4):
            wait_for(lambda: flows(gateway) == 0, "the flows' ends")
            assert [ask(client, b"?")[:1] for client in clients] == names
        said = [json.loads(gateway.run("explain", f"udp://127.0.0.1:{gateway.port('dns')}", "-c", CONFIG, "--json", "--ip",
                                       f"127.0.0.1:{client.getsockname()[1]}").stdout)["target"] for client in clients[:5]]
        assert said == [f"127.0.0.1:{(a if name == b'a' else b).port}" for name in names[:5]]
        for client in clients:
            client.close()


def test_a_target_that_is_not_there_loses_its_flows_to_one_that_is(weir):
    with UdpPeer(named(b"a")) as a:
        b = UdpPeer(named(b"b"), start=False)
        gateway = two_targets(weir, a, b)
        for _ in range(4):
            with dial_udp(gateway.port("dns"), timeout=1) as client:  # the first datagram may be lost
                def answered(client=client):
                    try:
                        return ask(client, b"?") == b"a?"
                    except TimeoutError:
                        return False
                wait_for(answered, "an answer of the other target", 30)
    assert gateway.metric("weir_udp_flows_moved_total") >= 1
    groups = json.loads(gateway.admin("/api/v1/target_groups/dns")[1])
    failed = {target["target"]: target["failures"] for target in groups["targets"]}
    assert failed[f"127.0.0.1:{b.port}"] >= 1 and failed[f"127.0.0.1:{a.port}"] == 0


def test_icmp_errors_eject_a_target(weir):
    with UdpPeer(named(b"a")) as a:
        b = UdpPeer(named(b"b"), start=False)
        gateway = two_targets(weir, a, b, ", outlier_detection: {consecutive_gateway_errors: 3, consecutive_5xx: 0}")

        def is_ejected():
            with dial_udp(gateway.port("dns")) as client:
                client.send(b"?")
                client.send(b"?")
            targets = json.loads(gateway.admin("/api/v1/target_groups/dns")[1])["targets"]
            return {target["target"]: target["state"] for target in targets}[f"127.0.0.1:{b.port}"] == "ejected"
        wait_for(is_ejected, "the ejection", 30)
        for _ in range(10):
            with dial_udp(gateway.port("dns")) as client:
                assert ask(client, b"?") == b"a?"


def test_a_flow_leaves_a_target_that_fails_its_checks_and_stays_where_it_went(weir):
    check = StreamPeer()
    with UdpPeer(named(b"a")) as a, UdpPeer(named(b"b")) as b:
        text = ONE.replace('"127.0.0.1:@target@"', '"127.0.0.1:@a@", "127.0.0.2:@b@"')
        text = text.replace("@group@", ", health_check: {port: @check@, interval: 100ms, timeout: 20s, unhealthy_threshold: 1, healthy_threshold: 1}")
        b.stop()
        b.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # at an address of its own, which has no check to pass
        b.sock.bind(("127.0.0.2", b.port))
        b.is_over = False
        b.thread = threading.Thread(target=b._run, args=(b.sock,), daemon=True)
        b.thread.start()
        second = socket.create_server(("127.0.0.2", check.port), backlog=512)
        gateway = weir(text.replace("@extra@", ""), a=a.port, b=b.port, check=check.port, address="127.0.0.1", threads=2)
        wait_for(lambda: gateway.metric("weir_target_group_targets", target_group="dns", state="healthy") == 2, "healthy targets")
        clients = [dial_udp(gateway.port("dns")) for _ in range(8)]
        assert {ask(client, b"?")[:1] for client in clients} == {b"a", b"b"}
        second.close()
        wait_for(lambda: gateway.metric("weir_target_group_targets", target_group="dns", state="unhealthy") == 1, "an unhealthy target")
        assert {ask(client, b"?")[:1] for client in clients} == {b"a"}
        assert gateway.metric("weir_udp_flows_moved_total", target_group="dns") >= 1
        second = socket.create_server(("127.0.0.2", check.port), backlog=512)
        wait_for(lambda: gateway.metric("weir_target_group_targets", target_group="dns", state="healthy") == 2, "healthy targets")
        assert {ask(client, b"?")[:1] for client in clients} == {b"a"}
        second.close()
        for client in clients:
            client.close()
        b.is_over = True
        with dial_udp(b.port, "127.0.0.2") as waker:
            waker.send(b"")
            b.thread.join(10)


def test_a_group_without_targets_is_told_and_counted(weir):
    gateway = weir("""
worker_threads: 1
listeners: {dns: {address: "127.0.0.1:@dns@", protocol: udp, forward: dns}}
target_groups: {dns: {protocol: udp, targets: []}}
""")
    with dial_udp(gateway.port("dns")) as client:
        client.send(b"x")
        assert last_line(gateway, reason="NO_TARGETS")["target"] is None
    assert flows(gateway) == 0


# --- PROXY headers -----------------------------------------------------------------------------------------------------------
V2 = b"\r\n\r\n\0\r\nQUIT\n"


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_each_datagram_begins_with_who_sent_it(weir, address):
    with UdpPeer(lambda data, answer: answer(data[28:])) as peer:
        gateway = forwarding(weir, peer, group=", send_proxy_protocol: v2", address=address)
        with dial_udp(gateway.port("dns"), source="127.0.0.3") as client:
            port = client.getsockname()[1]
            for data in (b"one", b"", b"three"):
                assert ask(client, data) == data
    expected = (V2 + b"\x21\x12" + struct.pack("!H", 12) + bytes([127, 0, 0, 3, 127, 0, 0, 1]) +
                struct.pack("!HH", port, gateway.port("dns")))
    assert [data for data, _ in peer.seen] == [expected + data for data in (b"one", b"", b"three")]


def test_a_datagram_that_has_no_room_for_the_header_is_counted(weir):
    with UdpPeer(lambda data, answer: answer(data[28:])) as peer:
        gateway = forwarding(weir, peer, group=", send_proxy_protocol: v2")
        with dial_udp(gateway.port("dns")) as client:
            client.send(b"x" * 65500)
            assert ask(client, b"small") == b"small"
            assert gateway.metric("weir_udp_dropped_total", reason="too_large") == 1


# --- reloads, removal, the end ---------------------------------------------------------------------------------------------
def test_flows_go_on_over_reloads(weir):
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer)
        clients = [dial_udp(gateway.port("dns")) for _ in range(20)]
        for number in range(5):
            for client in clients:
                assert ask(client, b"%d" % number) == b"%d" % number
            gateway.reload()
        assert len({address for _, address in peer.seen}) == 20
        for client in clients:
            client.close()


def test_a_reload_while_datagrams_fly_loses_none(weir):
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer)
        stop = threading.Event()
        lost = []

        def talk():
            with dial_udp(gateway.port("dns")) as client:
                number = 0
                while not stop.is_set():
                    number += 1
                    try:
                        if ask(client, b"%d" % number) != b"%d" % number:
                            lost.append(number)
                    except TimeoutError:
                        lost.append(number)
        threads = [threading.Thread(target=talk) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            gateway.reload()
        stop.set()
        for thread in threads:
            thread.join(30)
    assert lost == [] and len({address for _, address in peer.seen}) == 4


def test_settings_of_a_reload_are_those_of_flows_that_are_there(weir):
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer)
        with dial_udp(gateway.port("dns")) as client:
            ask(client, b"x")
            gateway.configure(ONE.replace("@extra@", ", idle_timeout: 200ms").replace("@group@", ""))
            gateway.reload()
            ask(client, b"x")
            wait_for(lambda: flows(gateway) == 0, "the flow's end")


def test_a_target_that_a_reload_removes_loses_its_flows(weir):
    with UdpPeer(named(b"a")) as a, UdpPeer(named(b"b")) as b:
        gateway = forwarding(weir, a)
        with dial_udp(gateway.port("dns")) as client:
            assert ask(client, b"?") == b"a?"
            gateway.values["target"] = str(b.port)
            gateway.configure(ONE.replace("@extra@", "").replace("@group@", ""))
            gateway.reload()
            assert ask(client, b"?") == b"b?"
        assert gateway.metric("weir_udp_flows_moved_total") == 1


def test_a_flow_moves_with_its_listener_to_another_group(weir):
    with UdpPeer(named(b"a")) as a, UdpPeer(named(b"b")) as b:
        text = ONE.replace("@extra@", "").replace("@group@", "").replace("forward: dns", "forward: @group@")
        text = text.replace("target_groups: {", 'target_groups: {other: {protocol: udp, targets: ["127.0.0.1:@b@"]}, ')
        gateway = weir(text, target=a.port, b=b.port, address="127.0.0.1", threads=2, group="dns")
        with dial_udp(gateway.port("dns")) as client:
            assert ask(client, b"?") == b"a?"
            gateway.values["group"] = "other"
            gateway.configure(text)
            gateway.reload()
            assert ask(client, b"?") == b"b?"
            assert gateway.metric("weir_l4_connections_open", target_group="other") == 1
            assert gateway.metric("weir_l4_connections_open", target_group="dns") == 0


OTHER = '\nlisteners: {other: {address: "127.0.0.1:@other@", protocol: udp, forward: dns}}' \
        '\ntarget_groups: {dns: {protocol: udp, targets: ["127.0.0.1:@target@"]}}\nshutdown_timeout: 20s\n'


def test_a_flow_is_counted_by_the_name_that_its_listener_has_now(weir):
    def connections(gateway):
        return [(one["name"], one["connections"]) for one in json.loads(gateway.admin("/api/v1/status")[1])["listeners"]]

    with UdpPeer() as peer:
        gateway = forwarding(weir, peer, ", udp: {flows_per_ip: 5}")
        with dial_udp(gateway.port("dns")) as client:
            ask(client, b"1")
            assert connections(gateway) == [("dns", 1)]
            gateway.configure(ONE.replace("@extra@", ", udp: {flows_per_ip: 5}, idle_timeout: 1s").replace("@group@", "")
                              .replace("{dns: {address", "{new: {address").replace("forward: dns", "forward: g").replace("{dns: {protocol", "{g: {protocol"))
            gateway.reload()
            ask(client, b"2")
            assert connections(gateway) == [("new", 1)]
            wait_for(lambda: connections(gateway) == [("new", 0)], "the end of the flow")
            wait_for(lambda: gateway.metric("weir_l4_connections_total", listener="new", target_group="g", reason="FLOW_IDLE") == 1, "its count")
            assert gateway.metric("weir_l4_connections_open", listener="dns") == 0


def can_bind(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def test_a_listener_that_is_removed_serves_its_flows_and_no_new_ones_then_closes(weir):
    def serve(data, answer):
        for _ in range(3 if data == b"z" else 1):  # with those of z all that are expected have come
            answer(data)

    with UdpPeer(serve) as peer:
        gateway = forwarding(weir, peer, ", udp: {responses: 2}", threads=1)
        with dial_udp(gateway.port("dns")) as client, dial_udp(gateway.port("dns")) as late:
            ask(client, b"x")
            gateway.configure(OTHER)
            gateway.reload()
            late.send(b"y")
            wait_for(lambda: gateway.metric("weir_udp_dropped_total", listener="dns", reason="no_flow") == 1, "the drop")
            assert not can_bind(gateway.port("dns"))
            assert [ask(client, b"z"), client.recv(10), client.recv(10)] == [b"z"] * 3
            wait_for(lambda: can_bind(gateway.port("dns")), "the port to be free")
        assert [data for data, _ in peer.seen] == [b"x", b"z"]
        assert last_line(gateway, reason="FLOW_ANSWERED")["bytes_in"] == 2


def test_a_listener_comes_back_while_its_flows_still_end(weir):
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer)
        text = gateway.config_path.read_text()
        with dial_udp(gateway.port("dns")) as client:
            ask(client, b"x")
            for _ in range(3):
                gateway.configure(OTHER)
                gateway.reload()
                assert ask(client, b"y") == b"y"
                gateway.configure(text.replace("admin:", "# admin:"))
                gateway.reload()
                assert ask(client, b"z") == b"z"
                with dial_udp(gateway.port("dns")) as another:
                    assert ask(another, b"a") == b"a"
        assert len({address for data, address in peer.seen if data != b"a"}) == 1


def test_metrics_are_read_while_listeners_come_and_go(weir):
    """They name every address that is listened on, and are written by another thread than the one that closes them."""
    def text(number):
        return "worker_threads: 2\nlisteners:\n" + "".join(
            f'  l{n}: {{address: "127.0.0.1:@l{n}@", protocol: udp, forward: dns}}\n' for n in range(number)) + \
            'target_groups: {dns: {protocol: udp, targets: ["127.0.0.1:@target@"]}}\n'

    few, many = text(1), text(20)
    gateway = weir(few, target=PORTS.take())
    over, failures, read = threading.Event(), [], []

    def scrape():
        try:
            with Client(None, unix=gateway.admin_socket, timeout=30) as client:
                client.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 8)  # so many are under way all the time
                while not over.is_set():
                    assert b"\nweir_udp_overflows_total" in client.response().body
                    read.append(1)
                    client.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        except Exception as error:
            failures.append(error)
    threads = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in threads:
        thread.start()
    for turn in range(12):
        gateway.configure(few if turn % 2 else many)
        gateway.reload()
    over.set()
    for thread in threads:
        thread.join(40)
    assert not failures and read


def test_removed_listeners_are_cut_off_after_shutdown_timeout(weir):
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer)
        with dial_udp(gateway.port("dns")) as client:
            ask(client, b"x")
            gateway.configure(OTHER.replace("20s", "500ms"))
            gateway.reload()
            last_line(gateway, reason="SHUTTING_DOWN")
            wait_for(lambda: can_bind(gateway.port("dns")), "the port to be free")


def test_a_question_under_way_at_the_shutdown_is_answered(weir):
    asked, go_on = threading.Event(), threading.Event()

    def serve(data, answer):
        asked.set()
        go_on.wait(60)
        answer(data)

    with UdpPeer(serve) as peer:
        gateway = weir(ONE.replace("@extra@", ", udp: {responses: 1}").replace("@group@", "").replace(": 3s", ": 30s"), threads=2,
                       target=peer.port, address="127.0.0.1")
        with dial_udp(gateway.port("dns")) as client:
            client.send(b"x")
            assert asked.wait(10)
            gateway.process.send_signal(signal.SIGTERM)
            wait_for(lambda: "draining" in gateway.stderr(), "the drain")
            go_on.set()
            assert client.recv(10) == b"x"
        assert gateway.process.wait(20) == 0


# --- what is told --------------------------------------------------------------------------------------------------------------
def test_explain_status_and_metrics_tell_of_flows(weir):
    with UdpPeer() as peer:
        gateway = forwarding(weir, peer, ", udp: {responses: 7}", ", send_proxy_protocol: v2")
        port = gateway.port("dns")
        said = gateway.run("explain", f"udp://127.0.0.1:{port}", "-c", CONFIG)
        assert said.returncode == 0, said.stderr
        for part in ('"dns" (udp)', "one of at most 65536", "7 answers", f"127.0.0.1:{peer.port}", "in each datagram"):
            assert part in said.stdout
        assert gateway.run("explain", f"tcp://127.0.0.1:{port}", "-c", CONFIG).returncode == 2
        with dial_udp(port) as client:
            client.send(b"x")
            wait_for(lambda: flows(gateway) == 1, "a flow")
            listener = json.loads(gateway.admin("/api/v1/status")[1])["listeners"][0]
            assert (listener["protocol"], listener["connections"]) == ("udp", 1)
            assert "(udp, 1 open)" in gateway.run("status", "-c", CONFIG).stdout
            for name in ("weir_udp_datagrams_total", "weir_l4_bytes_total"):
                wait_for(lambda: gateway.metric(name, listener="dns", target_group="dns", direction="in") == 1, name)
            assert ("weir_udp_overflows_total", (("address", f"127.0.0.1:{port}"),)) in gateway.metrics()


def test_only_so_many_evictions_a_second_are_logged(weir):
    with UdpPeer(lambda data, answer: None) as peer:
        gateway = forwarding(weir, peer, ", udp: {flows: 10}", threads=1)
        started = time.monotonic()
        clients = [dial_udp(gateway.port("dns")) for _ in range(1000)]

        def are_evicted():
            for client in clients:
                client.send(b"x")
            return gateway.metric("weir_l4_connections_total", reason="FLOW_EVICTED") >= 1000
        wait_for(are_evicted, "evictions", 30)
        seconds = int(time.monotonic() - started) + 2
        for client in clients:
            client.close()
        assert gateway.terminate() == 0
    assert 1 <= len([line for line in gateway.access_log() if line["reason"] == "FLOW_EVICTED"]) <= 100 * seconds


def test_flows_follow_targets_that_come_and_go_without_a_reload(weir):
    with UdpPeer(named(b"a")) as a, UdpPeer(named(b"b")) as b:
        gateway = weir("""
worker_threads: 2
listeners: {dns: {address: "127.0.0.1:@dns@", protocol: udp, forward: dns}}
target_groups: {dns: {protocol: udp, targets: [{file: targets.yaml}]}}
""", files={"targets.yaml": f"['127.0.0.1:{a.port}']"})
        wait_for(lambda: gateway.metric("weir_target_group_targets", target_group="dns") == 1, "the target in the group")
        with dial_udp(gateway.port("dns")) as client:
            assert ask(client, b"?") == b"a?"
            part = gateway.write("targets.part", f"['127.0.0.1:{b.port}']")
            part.rename(gateway.folder / "targets.yaml")  # never half a file, nor an empty one
            wait_for(lambda: ask(client, b"?") == b"b?", "an answer of the new target")
        assert gateway.metric("weir_udp_flows_moved_total") == 1


def test_an_upgrade_answers_what_is_under_way_and_hashes_flows_to_their_targets_again(upgradable):  # noqa: F811
    asked, go_on = threading.Event(), threading.Event()

    def serve(name):
        def answer_later(data, answer):
            if data == b"slow":
                asked.set()
                go_on.wait(60)
            answer(name + data)
        return answer_later

    with UdpPeer(serve(b"a")) as a, UdpPeer(serve(b"b")) as b:
        gateway = upgradable("""
worker_threads: 2
listeners: {dns: {address: "127.0.0.1:@dns@", protocol: udp, forward: dns}}
target_groups: {dns: {protocol: udp, targets: ["127.0.0.1:@a@", "127.0.0.1:@b@"], algorithm: {type: consistent_hash, by: flow}}}
""", a=a.port, b=b.port)
        clients = [dial_udp(gateway.port("dns")) for _ in range(12)]
        names = [ask(client, b"?") for client in clients]
        assert set(names) == {b"a?", b"b?"}
        clients[0].send(b"slow")
        assert asked.wait(10)
        upgrade = []
        thread = threading.Thread(target=lambda: upgrade.append(gateway.upgrade()))
        thread.start()
        wait_for(lambda: "another worker serves" in gateway.stderr(), "the old worker's drain", 60)
        go_on.set()
        assert clients[0].recv(10) == names[0][:1] + b"slow"
        thread.join(60)
        assert upgrade[0].returncode == 0, upgrade[0].stderr
        assert [ask(client, b"?") for client in clients] == names
        for client in clients:
            client.close()
