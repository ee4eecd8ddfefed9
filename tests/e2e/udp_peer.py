"""UDP servers and clients for tests of listeners of protocol udp.

    with UdpPeer() as peer: peer.port            # echoes
    UdpPeer(lambda data, answer: answer(b"a"))   # what it does with each datagram
    client = dial_udp(port); ask(client, b"hello")
"""
import socket
import threading

from weir import PORTS


class UdpPeer:
    def __init__(self, serve=lambda data, answer: answer(data), port=None, start=True):
        self.serve, self.port = serve, port or PORTS.take()
        self.seen = []  # (data, address of the sender), as they come
        self.sock = None
        if start:
            self.start()

    def start(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.sock.bind(("127.0.0.1", self.port))
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
            waker.sendto(b"", ("127.0.0.1", self.port))
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
