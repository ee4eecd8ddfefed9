"""Datagrams that come bundled (UDP_GRO) and go on bundled (UDP_SEGMENT): what arrives is what was sent, one by one."""
import contextlib
import ctypes
import os
import shutil
import struct
import subprocess
import threading

import pytest

from test_udp import ONE, flows, forwarding
from test_udp_upgrade import configure, upgradable, upgrade  # noqa: F401
from udp_peer import BundlePeer, UdpPeer, ask_bundles, dial_bundles, has_bundles, named, receive_bundle, send_bundles
from weir import needs_ipv6, wait_for

pytestmark = pytest.mark.skipif(not has_bundles(), reason="this kernel has no UDP_SEGMENT")

SHAPES = {
    "of one size": [1200] * 40,
    "with a shorter last one": [1200] * 39 + [1],
    "as many as fit": [1000] * 64,
    "more than fit": [1000] * 65,
    "of one byte": [1] * 64,
    "of all sizes": [1, 2, 3, 2, 1, 1200, 1200, 1201, 1200, 7, 7, 7, 9000, 9000, 100],
    "empty ones among others": [1200, 1200, 0, 1200, 7, 0, 0, 7, 7, 0],
    "too large for a frame": [9000] * 7,
    "alone": [65507],
}


def made(sizes):
    return [os.urandom(size) for size in sizes]


def flat(bundles):
    return [data for bundle in bundles for data in bundle]


@pytest.mark.parametrize("peer_type", [UdpPeer, BundlePeer])
def test_datagrams_arrive_in_order_and_with_their_sizes(weir, peer_type):
    with peer_type() as peer:
        gateway = forwarding(weir, peer)
        for shape, sizes in SHAPES.items():
            with dial_bundles(gateway.port("dns")) as client:
                for _ in range(5):  # with the first ones the gateway learns that there are bundles
                    sent = made(sizes)
                    assert flat(ask_bundles(client, sent)) == sent, shape
                    seen = [data for data, _ in peer.seen] if peer_type is UdpPeer else flat(bundle for bundle, _ in peer.seen)
                    assert seen == sent, shape
                    peer.seen.clear()
        assert gateway.metric("weir_udp_dropped_total") == 0


@pytest.mark.parametrize("address, via", [("0.0.0.0", "127.0.0.2"), pytest.param("[::]", "127.0.0.2", marks=needs_ipv6),
                                          pytest.param("[::]", "::1", marks=needs_ipv6), pytest.param("[::1]", "::1", marks=needs_ipv6)])
def test_bundles_come_back_from_the_address_that_they_went_to(weir, address, via):
    with BundlePeer() as peer:
        gateway = forwarding(weir, peer, address=address)
        with dial_bundles(gateway.port("dns"), via) as client:
            for _ in range(5):
                sent = made([1200] * 39 + [5])
                assert flat(ask_bundles(client, sent)) == sent


def longest(client, sent, peer):
    """Of the bundles that came to the target and back."""
    peer.seen.clear()
    back = ask_bundles(client, sent)
    return max(len(bundle) for bundle, _ in peer.seen), max(map(len, back))


def test_a_bundle_goes_on_as_one_both_ways(weir):
    with BundlePeer() as peer:
        gateway = forwarding(weir, peer)
        with dial_bundles(gateway.port("dns")) as client:
            wait_for(lambda: longest(client, made([1200] * 50), peer) == (50, 50), "a bundle as one", 60)


def test_datagrams_of_a_bundle_are_counted_one_by_one(weir):
    with BundlePeer() as peer:
        gateway = forwarding(weir, peer)
        with dial_bundles(gateway.port("dns")) as client:
            for _ in range(10):
                ask_bundles(client, made([1200] * 39 + [1]))
            port = client.getsockname()[1]
        for direction in ("in", "out"):
            assert gateway.metric("weir_udp_datagrams_total", direction=direction) == 400
        gateway.terminate()
        [line] = [line for line in gateway.access_log() if line["client_port"] == port]
        assert line["bytes_in"] == line["bytes_out"] == 10 * (39 * 1200 + 1)


def test_each_datagram_of_a_bundle_begins_with_who_sent_it(weir):
    with BundlePeer() as peer:
        gateway = forwarding(weir, peer, group=", send_proxy_protocol: v2")
        with dial_bundles(gateway.port("dns")) as client:
            header = (b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c" + bytes([127, 0, 0, 1] * 2) +
                      struct.pack("!HH", client.getsockname()[1], gateway.port("dns")))
            for sizes in ([1200] * 40 + [3], [0, 0, 1, 1, 0], [1000] * 65, [1] * 64, [1200] * 54):
                for _ in range(5):
                    sent = made(sizes)
                    assert flat(ask_bundles(client, sent)) == [header + data for data in sent]


def test_a_flow_ends_with_the_answer_to_the_last_datagram_of_a_bundle(weir):
    come, go_on = [], threading.Event()

    def serve(data, answer):
        come.append(data)
        if len(come) == 40:
            for data in come[:-1]:
                answer(data)
            go_on.wait(60)
            answer(come[-1])

    with UdpPeer(serve) as peer:
        gateway = forwarding(weir, peer, ", udp: {responses: 1}")
        with dial_bundles(gateway.port("dns"), timeout=60) as client:
            sent = made([1200] * 40)
            send_bundles(client, sent)
            back = []
            while len(back) != 39:
                back += receive_bundle(client)[0]
            assert flows(gateway) == 1
            go_on.set()
            back += receive_bundle(client)[0]
            assert back == sent == come
            [line] = gateway.wait_log()
            assert (line["reason"], line["bytes_in"], line["bytes_out"]) == ("FLOW_ANSWERED", 48000, 48000)


def test_a_bundle_that_its_target_refuses_goes_to_another_one(weir):
    with UdpPeer(named(b"a")) as a:
        b = UdpPeer(named(b"b"), start=False)
        text = ONE.replace('"127.0.0.1:@target@"', '"127.0.0.1:@a@", "127.0.0.1:@b@"').replace("@extra@", "").replace("@group@", "")
        gateway = weir(text, a=a.port, b=b.port, address="127.0.0.1", threads=1)
        for _ in range(4):
            with dial_bundles(gateway.port("dns"), timeout=1) as client:
                number = 0

                def is_answered(client=client):
                    nonlocal number
                    number += 1
                    send_bundles(client, [b"%d.%d" % (number, i) for i in range(10, 50)])  # the first ones may be lost
                    try:
                        return receive_bundle(client)[0][0].startswith(b"a")
                    except TimeoutError:
                        return False
                wait_for(is_answered, "an answer of the other target", 60)
        for port in {address for _, address in a.seen}:
            numbers = [tuple(map(int, data.split(b"."))) for data, address in a.seen if address == port]
            assert numbers == sorted(set(numbers))


def numbered(client, first):
    return [b"%d %06d" % (client, first + i) + bytes(90) for i in range(12)]


@pytest.mark.timeout(240)
def test_upgrades_lose_no_datagram_of_a_bundle_and_move_no_flow(upgradable):  # noqa: F811
    is_ending, rounds, wrong = threading.Event(), [], []

    def talk(clients):
        while not is_ending.is_set():
            for i, client in enumerate(clients):
                send_bundles(client, numbered(i, 12 * len(rounds)))
            for i, client in enumerate(clients):
                back = []
                while len(back) < 12:
                    back += receive_bundle(client)[0]
                if back != numbered(i, 12 * len(rounds)):
                    wrong.append((i, len(rounds), back))
            rounds.append(None)

    with BundlePeer() as peer:
        gateway = upgradable(configure(targets="a"), a=peer.port)
        clients = [dial_bundles(gateway.port("dns"), timeout=60) for _ in range(6)]
        thread = threading.Thread(target=talk, args=(clients,))
        thread.start()
        for _ in range(3):
            before = len(rounds)
            wait_for(lambda: not thread.is_alive() or len(rounds) > before + 20, "answers", 60)
            upgrade(gateway)
        is_ending.set()
        thread.join(120)
        assert wrong == [] and len(rounds) > 60
        assert gateway.metric("weir_l4_connections_open", target_group="dns") == 6
        for client in clients:
            client.close()
    assert len({address for _, address in peer.seen}) == 6
    for address in {address for _, address in peer.seen}:
        seen = flat(bundle for bundle, source in peer.seen if source == address)
        assert seen == sorted(set(seen)) and len(seen) == 12 * len(rounds)


# --- a network where bundles are refused -------------------------------------------------------------------------------------
def has_networks():
    return os.getuid() == 0 and shutil.which("ip") is not None and subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL).returncode == 0


@contextlib.contextmanager
def network_of(pid):
    """Sockets that are made in here are of that process's network."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as home, open(f"/proc/{pid}/ns/net") as there:
        assert libc.setns(there.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(home.fileno(), 0) == 0


@pytest.mark.skipif(not has_networks(), reason="needs a network of its own")
@pytest.mark.parametrize("narrow", ["target", "client"])
def test_datagrams_longer_than_a_frame_of_the_way_are_sent_one_by_one(weir, narrow):
    """A bundle of them is EMSGSIZE; alone they are cut into fragments. Shorter ones still go together."""
    peer = BundlePeer(start=False)
    gateway = weir(ONE.replace("127.0.0.1:@target@", "127.0.0.2:@target@").replace("@extra@", "").replace("@group@", ""),
                   target=peer.port, address="0.0.0.0", threads=1, start=False)
    gateway.prefix = ["unshare", "--net", "sh", "-c", 'ip link set lo up && ip route replace local 127.0.0.%d dev lo mtu 1000 && exec "$@"'
                      % (2 if narrow == "target" else 3), "sh"]
    gateway.start()
    with network_of(gateway.process.pid):
        peer.start("127.0.0.2")
        client = dial_bundles(gateway.port("dns"), "127.0.0.1", source="127.0.0.3")
    with client:
        for sizes in ([1200] * 40, [1200] * 40, [900] * 40):
            for _ in range(5):
                sent = made(sizes)
                assert flat(ask_bundles(client, sent)) == sent
        wait_for(lambda: min(longest(client, made([900] * 40), peer)) == 40, "shorter ones as one", 60)
        assert gateway.metric("weir_udp_dropped_total") == 0
    with network_of(gateway.process.pid):
        peer.stop()
