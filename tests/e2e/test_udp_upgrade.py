"""Flows of listeners of protocol udp go from worker to worker: nothing is lost, and targets see no difference."""
import contextlib
import os
import select
import signal
import socket
import struct
import threading

import pytest

from test_supervisor import wait_new_worker
from test_upgrade import upgradable  # noqa: F401
from udp_peer import UdpPeer, ask, dial_udp, named
from weir import SANITIZED, freeze, needs_ipv6, wait_for

CONFIG = """
worker_threads: @threads@
listeners: {dns: {address: "@address@:@dns@", protocol: udp, forward: dns@extra@}}
target_groups:
  dns: {protocol: udp, algorithm: least_outstanding_requests, targets: [@targets@]@group@}
"""


def configure(text=CONFIG, address="127.0.0.1", threads=2, extra="", group="", targets="abc"):
    listed = ", ".join(f'"127.0.0.1:@{name}@"' for name in targets)
    for name, value in {"address": address, "threads": threads, "extra": extra, "group": group, "targets": listed}.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def upgrade(gateway):
    """Returns when the new worker serves all flows."""
    before = gateway.stderr().count("flows taken over")
    gateway.install()
    done = gateway.upgrade()
    assert done.returncode == 0, done.stderr
    wait_for(lambda: gateway.stderr().count("flows taken over") == before + 1, "the flows in the new worker", 60)


def sources(*peers):
    """client's datagrams -> the targets and the ports there that they came by"""
    found = {}
    for peer in peers:
        for data, address in peer.seen:
            found.setdefault(data.split(b" ")[0], set()).add((peer.port, address))
    return found


class Streams:
    """Clients that always have some datagrams on their way, each of which is answered twice; counts what comes back."""
    WINDOW = 4  # so that all of them fit into any buffer while somebody stands still

    def __init__(self, port, clients):
        self.clients = [dial_udp(port) for _ in range(clients)]
        self.sent = [0] * clients
        self.answers = [[] for _ in range(clients)]
        self.is_ending = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_ending.set()
        self.thread.join(60)
        for client in self.clients:
            client.close()

    def _fill(self, i):
        while not self.is_ending.is_set() and self.sent[i] - len(self.answers[i]) // 2 < self.WINDOW:
            self.clients[i].send(b"%d %d" % (i, self.sent[i]))
            self.sent[i] += 1

    def _run(self):
        numbers = {client: i for i, client in enumerate(self.clients)}
        for i in numbers.values():
            self._fill(i)
        while not self.is_ending.is_set() or sum(map(len, self.answers)) < 2 * sum(self.sent):
            readable = select.select(self.clients, [], [], 30)[0]
            if not readable:
                return  # what is missing does not come any more
            for client in readable:
                self.answers[numbers[client]].append(client.recv(100))
                self._fill(numbers[client])

    def wait_more(self, count=2000):
        until = sum(map(len, self.answers)) + count
        wait_for(lambda: sum(map(len, self.answers)) >= until, "answers", 60)


def twice(data, answer):
    answer(data + b" 1")
    answer(data + b" 2")


@pytest.mark.timeout(240)
def test_five_upgrades_lose_no_datagram_of_a_stream_and_move_no_flow(upgradable):  # noqa: F811
    with UdpPeer(twice) as a, UdpPeer(twice) as b, UdpPeer(twice) as c:
        gateway = upgradable(configure(), a=a.port, b=b.port, c=c.port)
        with Streams(gateway.port("dns"), 20) as streams:
            streams.wait_more(100 if SANITIZED else 2000)
            for _ in range(5):
                upgrade(gateway)
                streams.wait_more(100 if SANITIZED else 2000)
            assert gateway.metric("weir_udp_flows_moved_total", target_group="dns") == 0
            assert gateway.metric("weir_l4_connections_open", target_group="dns") == 20
        for i, answers in enumerate(streams.answers):
            assert answers == [b"%d %d %d" % (i, n, m) for n in range(streams.sent[i]) for m in (1, 2)]
        seen = sources(a, b, c)
        assert len(seen) == 20 and all(len(ways) == 1 for ways in seen.values()), seen
        for peer in (a, b, c):
            for i in range(20):
                numbers = [int(data.split()[1]) for data, _ in peer.seen if data.split()[0] == b"%d" % i]
                assert numbers == sorted(set(numbers))
    assert gateway.metric("weir_worker_restarts_total") == 0


@pytest.mark.parametrize("before, after", [(1, 3), (3, 1), (2, 3)])
def test_flows_find_the_thread_that_reads_their_socket(upgradable, before, after):  # noqa: F811
    with UdpPeer() as a, UdpPeer() as b, UdpPeer() as c:
        gateway = upgradable(configure(threads=before), a=a.port, b=b.port, c=c.port)
        clients = [dial_udp(gateway.port("dns")) for _ in range(30)]
        for i, client in enumerate(clients):
            ask(client, b"%d" % i)
        gateway.configure(configure(threads=after))
        upgrade(gateway)
        for _ in range(2):
            assert [ask(client, b"%d" % i) for i, client in enumerate(clients)] == [b"%d" % i for i in range(30)]
        assert all(len(ways) == 1 for ways in sources(a, b, c).values())
        assert gateway.metric("weir_l4_connections_open", target_group="dns") == 30
        for client in clients:
            client.close()


def test_the_line_in_the_log_is_that_of_the_whole_flow(upgradable):  # noqa: F811
    with UdpPeer() as a, UdpPeer() as b, UdpPeer() as c:
        gateway = upgradable(configure(), a=a.port, b=b.port, c=c.port)
        with dial_udp(gateway.port("dns")) as client:
            for data in (b"one", b"three"):
                assert ask(client, data) == data
                upgrade(gateway)
            assert ask(client, b"two") == b"two"
            gateway.configure(configure(extra=", idle_timeout: 1s"))
            gateway.reload()
            assert ask(client, b"") == b""  # the new time counts from the next datagram on
            port = client.getsockname()[1]
            lines = gateway.wait_log(lambda line: line["client_port"] == port)
        assert [(line["bytes_in"], line["bytes_out"], line["reason"], line["attempts"]) for line in lines] == [(11, 11, "FLOW_IDLE", 1)]


@pytest.mark.parametrize("responses", [1, 2])
def test_a_flow_ends_with_the_last_answer_wherever_the_first_came(upgradable, responses):  # noqa: F811
    asked, go_on = threading.Event(), threading.Event()

    def serve(data, answer):
        if responses == 2:
            answer(b"first")
        asked.set()
        go_on.wait(60)
        answer(b"last")

    with UdpPeer(serve) as a:
        gateway = upgradable(configure(extra=f", udp: {{responses: {responses}}}", targets="a"), a=a.port)
        with dial_udp(gateway.port("dns"), timeout=60) as client:
            client.send(b"?")
            assert asked.wait(60)
            if responses == 2:
                assert client.recv(10) == b"first"
            upgrade(gateway)
            assert gateway.metric("weir_l4_connections_open", target_group="dns") == 1
            go_on.set()
            assert client.recv(10) == b"last"
            wait_for(lambda: gateway.metric("weir_l4_connections_open", target_group="dns") == 0, "the end of the flow")
            assert gateway.wait_log()[0]["reason"] == "FLOW_ANSWERED"


V2 = b"\r\n\r\n\0\r\nQUIT\n\x21"


@pytest.mark.parametrize("address, family", [("127.0.0.1", 4), ("0.0.0.0", 4), pytest.param("*", 6, marks=needs_ipv6)])
def test_addresses_and_proxy_headers_stay_what_they_were(upgradable, address, family):  # noqa: F811
    with UdpPeer(lambda data, answer: answer(data[-1:])) as a:
        gateway = upgradable(configure(address=address, group=", send_proxy_protocol: v2", targets="a"), a=a.port)
        with dial_udp(gateway.port("dns"), "::1" if family == 6 else "127.0.0.1") as client, dial_udp(gateway.port("dns")) as other:
            for data in (b"1", b"2"):
                assert ask(client, data) == data and ask(other, data) == data  # from where it was sent to: it is connected
                upgrade(gateway)
            assert ask(client, b"3") == b"3" and ask(other, b"3") == b"3"
            ports = {client.getsockname()[1], other.getsockname()[1]}
    headers = {data[:-1] for data, _ in a.seen}
    assert len(headers) == 2 and len({source for _, source in a.seen}) == 2
    for header in headers:
        assert header.startswith(V2) and struct.unpack_from("!H", header, len(header) - 4)[0] in ports


def test_a_flow_whose_target_the_new_configuration_does_not_have_goes_to_another(upgradable):  # noqa: F811
    with UdpPeer(named(b"a")) as a, UdpPeer(named(b"b")) as b:
        gateway = upgradable(configure(targets="a"), a=a.port, b=b.port)
        with dial_udp(gateway.port("dns")) as client:
            assert ask(client, b"?") == b"a?"
            gateway.configure(configure(targets="b"))
            upgrade(gateway)
            assert ask(client, b"?") == b"b?"
        assert gateway.metric("weir_udp_flows_moved_total", target_group="dns") == 1


def test_flows_of_a_listener_that_the_new_configuration_does_not_have_are_told(upgradable):  # noqa: F811
    with UdpPeer() as a:
        gateway = upgradable(configure(targets="a"), a=a.port)
        with dial_udp(gateway.port("dns")) as client:
            ask(client, b"?")
            gateway.configure(configure(targets="a").replace("@dns@", "@next@"))
            upgrade(gateway)
        wait_for(lambda: "1 flows have ended: the configuration has their listener no more" in gateway.stderr(), "a word of it")
        with dial_udp(gateway.port("next")) as client:
            assert ask(client, b"?") == b"?"


def test_flows_of_found_targets_stay_with_them(upgradable):  # noqa: F811
    with UdpPeer(named(b"a")) as a, UdpPeer(named(b"b")) as b:
        gateway = upgradable(configure(targets="a").replace('"127.0.0.1:@a@"', "{file: targets.yaml}"),
                             files={"targets.yaml": f"['127.0.0.1:{a.port}', '127.0.0.1:{b.port}']"})
        wait_for(lambda: gateway.metric("weir_target_group_targets", target_group="dns") == 2, "the targets in the group")
        clients = [dial_udp(gateway.port("dns")) for _ in range(10)]
        names = [ask(client, b"?") for client in clients]
        assert set(names) == {b"a?", b"b?"}
        upgrade(gateway)
        assert [ask(client, b"?") for client in clients] == names
        assert gateway.metric("weir_udp_flows_moved_total") == 0
        for client in clients:
            client.close()


def test_a_worker_that_ends_by_itself_leaves_its_flows_to_the_next(upgradable):  # noqa: F811
    with UdpPeer() as a, UdpPeer() as b, UdpPeer() as c:
        gateway = upgradable(configure(), a=a.port, b=b.port, c=c.port)
        clients = [dial_udp(gateway.port("dns")) for _ in range(9)]
        for i, client in enumerate(clients):
            ask(client, b"%d" % i)
        worker = gateway.worker()
        os.kill(worker, signal.SIGTERM)
        for i, client in enumerate(clients):
            client.settimeout(60)
            ask(client, b"%d" % i)
        wait_new_worker(gateway, worker, 60)
        assert all(len(ways) == 1 for ways in sources(a, b, c).values())
        for client in clients:
            client.close()


@contextlib.contextmanager
def upgrading_from_one_that_stands_still(upgradable):
    """The gateway, its old worker and a client with a flow, once the new worker serves; for the old one see freeze()."""
    with UdpPeer() as a:
        gateway = upgradable(configure(targets="a"), a=a.port)
        worker = gateway.worker()
        with dial_udp(gateway.port("dns"), timeout=60) as client:
            ask(client, b"1")
            gateway.install()
            freeze(worker)
            gateway.process.send_signal(signal.SIGUSR2)
            wait_for(lambda: "upgraded to weir" in gateway.stderr(), "the upgrade", 60)
            yield gateway, worker, client


def test_an_old_worker_that_hangs_does_not_keep_the_new_one_from_serving(upgradable):  # noqa: F811
    with upgrading_from_one_that_stands_still(upgradable) as (_, worker, client):
        try:
            assert ask(client, b"2") == b"2"
        finally:
            os.kill(worker, signal.SIGCONT)
        assert ask(client, b"3") == b"3"


def test_an_old_worker_that_dies_does_not_keep_the_new_one_from_serving(upgradable):  # noqa: F811
    with upgrading_from_one_that_stands_still(upgradable) as (gateway, worker, client):
        gateway.may_die = True
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: f"worker {worker} died while it drained" in gateway.stderr(), "its end", 60)
        assert ask(client, b"2") == b"2"
