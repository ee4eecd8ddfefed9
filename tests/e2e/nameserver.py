"""DNS servers for tests: Debian's dnsmasq, whose names change at once, and one that answers whatever bytes a test wants.

    with Nameserver({"users.test": ["127.0.0.1"]}) as dns:
        dns.set({"users.test": ["127.0.0.2"]})

dnsmasq comes from the package dnsmasq-base, which brings no service: nothing runs but what a test starts, on a free port.
"""
import getpass
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

from weir import PORTS, wait_for

TYPES = {"A": 1, "AAAA": 28, "SRV": 33}


def encode_name(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split(".") if label) + b"\0"


def question(name, kind, number=0x1234):
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + encode_name(name) + struct.pack(">2H", TYPES[kind], 1)


def ask(port, name, kind="A", timeout=2.0):
    """(rcode, number of answers), or None when nobody answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(("127.0.0.1", port))
            sock.send(question(name, kind))
            answer = sock.recv(65535)
        except OSError:
            return None
        return answer[3] & 15, struct.unpack(">H", answer[6:8])[0]


class Nameserver:
    """names: {"users.test": ["127.0.0.1", "::1"]}; services: {"_http._tcp.test": [(priority, weight, port, "a.test")]}.
    Names below .test that are not there do not exist."""

    def __init__(self, names=None, services=None, ttl=0):
        self.folder = Path(tempfile.mkdtemp(prefix="weir-dns-"))
        self.port, self.ttl = PORTS.take(), ttl
        self.names, self.services = dict(names or {}), dict(services or {})
        self.process = None
        self.start()

    def start(self):
        self._write()
        command = ["dnsmasq", "--keep-in-foreground", f"--port={self.port}", "--listen-address=127.0.0.1", "--bind-interfaces",
                   f"--conf-file={self.folder}/services", "--no-resolv", "--no-hosts", f"--addn-hosts={self.folder}/hosts",
                   f"--local-ttl={self.ttl}", "--local=/test/", f"--user={getpass.getuser()}", "--pid-file", "--log-facility=-",
                   "--max-cache-ttl=0"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=open(self.folder / "log", "ab"))
        wait_for(lambda: ask(self.port, "never.test", timeout=0.2) == (3, 0), f"dnsmasq: {(self.folder / 'log').read_text()}")

    def _write(self):
        hosts = [f"{address} {name}\n" for name, addresses in self.names.items() for address in addresses]
        services = [f"srv-host={name},{target},{port},{priority},{weight}\n"
                    for name, entries in self.services.items() for priority, weight, port, target in entries]
        for name, lines in (("hosts", hosts), ("services", services)):
            part = self.folder / f"{name}.part"
            part.write_text("".join(lines))
            part.rename(self.folder / name)

    def set(self, names):
        """These names are changed when this returns: dnsmasq answers with as many addresses as there are."""
        self.names.update(names)
        self._write()
        self.process.send_signal(signal.SIGHUP)
        wait_for(self._says_so, "dnsmasq to read its names")

    def _says_so(self):
        for name, addresses in self.names.items():
            expected = [address for address in addresses if ":" not in address]
            if self.addresses(name) != sorted(expected):
                return False
        return True

    def addresses(self, name):
        """What dnsmasq says, over TCP."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as sock:
            message = question(name, "A")
            sock.sendall(struct.pack(">H", len(message)) + message)
            data = b""
            while len(data) < 2 or len(data) < 2 + struct.unpack(">H", data[:2])[0]:
                piece = sock.recv(65535)
                if not piece:
                    return None
                data += piece
        count, at = struct.unpack(">H", data[8:10])[0], 2 + len(message)
        found = []
        for _ in range(count):  # owners are pointers: 2 bytes
            kind, _, _, size = struct.unpack(">HHIH", data[at + 2:at + 12])
            if kind == 1:
                found.append(socket.inet_ntoa(data[at + 12:at + 16]))
            at += 12 + size
        return sorted(found)

    def serve(self, services):
        """SRV records are read at the start only: for a moment nobody answers."""
        self.stop()
        self.services.update(services)
        self.start()

    def stop(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class RudeNameserver:
    """answer(query) returns the bytes of the datagrams to send, in order; b"" sends none. Over TCP, over_tcp(query) does.
    Each question is answered by a thread of its own, so that an answer may take its time."""

    def __init__(self, answer, over_tcp=None):
        self.answer, self.over_tcp = answer, over_tcp
        self.questions = []
        self.lock = threading.Lock()
        self.is_over = False
        self.udp, self.tcp, self.port = self._open()
        threading.Thread(target=self._serve_udp, daemon=True).start()
        threading.Thread(target=self._serve_tcp, daemon=True).start()

    @staticmethod
    def _open():
        for _ in range(100):
            udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            udp.bind(("127.0.0.1", 0))
            try:
                tcp.bind(udp.getsockname())
                tcp.listen(16)
                return udp, tcp, udp.getsockname()[1]
            except OSError:
                udp.close()
                tcp.close()
        raise RuntimeError("no port that is free for both")

    def _note(self, query, is_tcp):
        with self.lock:
            self.questions.append((name_of(query), is_tcp))

    def _serve_udp(self):
        while True:
            try:
                query, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            if not query:  # the end
                return
            self._note(query, False)
            threading.Thread(target=self._answer, args=(query, peer), daemon=True).start()

    def _answer(self, query, peer):
        pieces = self.answer(query)
        try:
            for piece in [pieces] if isinstance(pieces, bytes) else pieces:
                if piece:
                    self.udp.sendto(piece, peer)
        except OSError:
            pass

    def _serve_tcp(self):
        while True:
            try:
                sock, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(sock,), daemon=True).start()

    def _converse(self, sock):
        with sock:
            data = b""
            try:
                while piece := sock.recv(4096):
                    data += piece
                    while len(data) >= 2 and len(data) >= 2 + struct.unpack(">H", data[:2])[0]:
                        size = struct.unpack(">H", data[:2])[0]
                        query, data = data[2:2 + size], data[2 + size:]
                        self._note(query, True)
                        sock.sendall(self.over_tcp(query))
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sock in (self.udp, self.tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()


def name_of(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("latin1"))
        at += 1 + query[at]
    return ".".join(labels).lower()


def reply(query, *records, rcode=0, flags=0x8180, number=None):
    """An answer to a query. A record: (type, ttl, data as bytes), of the name that was asked for."""
    end = query.index(b"\0", 12) + 5
    head = struct.pack(">6H", struct.unpack(">H", query[:2])[0] if number is None else number, flags | rcode, 1, len(records), 0, 0)
    return head + query[12:end] + b"".join(b"\xc0\x0c" + struct.pack(">HHIH", TYPES[kind], 1, ttl, len(data)) + data
                                           for kind, ttl, data in records)


def a(address, ttl=0):
    return "A", ttl, socket.inet_aton(address)
