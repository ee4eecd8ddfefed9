"""UDP servers and clients for tests of listeners of protocol udp.

    with UdpPeer() as peer: peer.port            # echoes
    UdpPeer(lambda data, answer: answer(b"a"))   # what it does with each datagram
    client = dial_udp(port); ask(client, b"hello")
"""
import socket
import struct
import threading

from weir import PORTS


class UdpPeer:
    def __init__(self, serve=lambda data, answer: answer(data), port=None, start=True):
        self.serve, self.port = serve, port or PORTS.take()
        self.seen = []  # (data, address of the sender), as they come
        self.sock = None
        if start:
            self.start()

    def start(self, address="127.0.0.1"):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.sock.bind((address, self.port))
        self.is_over = False
        self.thread = threading.Thread(target=self._run, args=(self.sock,), daemon=True)
        self.thread.start()
        return self

    def _run(self, sock):
        while True:
            data, address = sock.recvfrom(65536)
            if self.is_over:
                return
            self.seen.append((data, address))

            def answer(reply, address=address):
                try:
                    sock.sendto(reply, address)
                except OSError:
                    pass  # the test is over
            self.serve(data, answer)

    def stop(self):
        """The port is closed when this returns: what comes later is refused."""
        if self.sock is None:
            return
        self.is_over = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:  # close() alone does not wake recvfrom()
            waker.sendto(b"", self.sock.getsockname())
        self.thread.join(10)
        self.sock.close()
        self.sock = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def named(name):
    """Answers with its name before the datagram: tells targets apart."""
    return lambda data, answer: answer(name + data)


def dial_udp(port, address="127.0.0.1", source=None, timeout=10):
    client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(timeout)
    if source is not None:
        client.bind((source, 0))
    client.connect((address, port))
    return client


def ask(client, data):
    client.send(data)
    return client.recv(65536)


def is_silent(client, seconds=0.3):
    """Nothing comes: what is to be seen must have had every chance to come before."""
    before = client.gettimeout()
    client.settimeout(seconds)
    try:
        client.recv(65536)
        return False
    except TimeoutError:
        return True
    finally:
        client.settimeout(before)


# --- bundles: datagrams of one size (the last may be shorter) that the kernel takes and gives as one -------------------------
UDP_SEGMENT, UDP_GRO = 103, 104


def has_bundles():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.getsockopt(socket.IPPROTO_UDP, UDP_SEGMENT)
            probe.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
            return True
        except OSError:
            return False


def bundles_of(datagrams):
    """As few bundles as there can be."""
    found = []
    for data in datagrams:
        last = found[-1] if found else None
        if last and data and len(data) <= len(last[0]) == len(last[-1]) and len(last) < 64 and len(last[0]) * len(last) + len(data) <= 65507:
            last.append(data)
        else:
            found.append([data])
    return found


def send_bundles(sock, datagrams, *to):
    for bundle in bundles_of(datagrams):
        size = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", len(bundle[0])))] if len(bundle) > 1 else []
        sock.sendmsg([b"".join(bundle)], size, 0, *to)


def receive_bundle(sock):
    """(datagrams, address of the sender); more than one datagram only for sockets with UDP_GRO."""
    data, control, _, address = sock.recvmsg(65536, 256)
    size = next((struct.unpack("i", value)[0] for level, kind, value in control if (level, kind) == (socket.IPPROTO_UDP, UDP_GRO)), None)
    if size is None or size >= len(data):
        return [data], address
    return [data[i:i + size] for i in range(0, len(data), size)], address


class BundlePeer(UdpPeer):
    """Echoes bundles as bundles; `seen` has lists of datagrams."""

    def _run(self, sock):
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        while True:
            datagrams, address = receive_bundle(sock)
            if self.is_over:
                return
            self.seen.append((datagrams, address))
            try:
                send_bundles(sock, datagrams, address)
            except OSError:
                pass  # the test is over


def dial_bundles(port, address="127.0.0.1", **options):
    """A client whose bundles arrive as such."""
    client = dial_udp(port, address, **options)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    client.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    return client


def ask_bundles(client, datagrams):
    """Sends them bundled; as many as that come back, as a list of bundles."""
    send_bundles(client, datagrams)
    found = []
    while sum(map(len, found)) < len(datagrams):
        found.append(receive_bundle(client)[0])
    return found
