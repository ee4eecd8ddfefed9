"""Origin servers for tests.

Origin is scripted and records every byte it gets: what the gateway sends on is compared exactly, never as some library
understood it. FastOrigin runs tests/bench/origin.c for load.

    origin = Origin()
    origin.answer = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"      # for every request, or
    origin.on("/slow", lambda exchange: exchange.send(...))                    # by path
    origin.requests[0].raw
"""
import ctypes
import http.client
import re
import select
import socket
import struct
import subprocess
import threading

from weir import BINARY, wait_for

SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python does not name it
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"


def reply(body=b"ok", status="200 OK", fields=()):
    """A well-formed response with Content-Length."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in fields)
    return head.encode("latin-1") + b"\r\n" + body


class Request:
    def __init__(self, head, connection):
        self.head = head  # with the empty line
        self.connection = connection  # number of the connection, from 0
        line, *fields = head[:-4].split(b"\r\n")
        self.line = line.decode("latin-1")
        self.method, self.target, self.version = self.line.split(" ")
        self.fields = [(name.decode("latin-1"), value.strip(b" \t").decode("latin-1"))
                       for name, _, value in (field.partition(b":") for field in fields)]
        self.framed = b""  # body bytes as they came, chunk framing included
        self.body = b""
        self.trailers = []
        self.is_whole = False

    @property
    def raw(self):
        return self.head + self.framed

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else default

    def __repr__(self):
        return f"<{self.raw[:2000]!r}>"


class Exchange:
    """One request in an answer function: request.head is read; the body is read by read_body() (called for the
    function unless the origin's reads_body is off)."""

    def __init__(self, origin, sock, stream, request):
        self.origin, self.socket, self.stream, self.request = origin, sock, stream, request
        self.is_closed = False

    def send(self, data):
        self.socket.sendall(data)

    def read_body(self):
        self.stream.read_body(self.request)
        return self.request.body

    def close(self):
        self.is_closed = True

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        self.is_closed = True

    def wait_peer_closed(self, timeout=30):
        """True when the gateway closes its side within the time."""
        self.socket.settimeout(timeout)
        try:
            return self.socket.recv(1) == b""
        except socket.timeout:
            return False
        except ConnectionError:
            return True


class Stream:
    def __init__(self, sock, origin):
        self.socket, self.buffer, self.origin = sock, b"", origin

    def more(self):
        data = self.socket.recv(1 << 18)
        if not data:
            raise EOFError
        self.buffer += data

    def head(self):
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        return head + b"\r\n\r\n"

    def take(self, request, count, is_data):
        while count > 0:
            if not self.buffer:
                self.more()
            part, self.buffer = self.buffer[:count], self.buffer[count:]
            count -= len(part)
            request.size = getattr(request, "size", 0) + (len(part) if is_data else 0)
            if self.origin.keep_bodies:
                request.framed += part
                if is_data:
                    request.body += part

    def line(self, request):
        while b"\r\n" not in self.buffer:
            self.more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        request.framed += line + b"\r\n"
        return line

    def read_body(self, request):
        if request.is_whole:
            return
        request.size = 0
        if request.all("transfer-encoding"):
            while (size := int(self.line(request), 16)) > 0:
                self.take(request, size, True)
                self.take(request, 2, False)
            while line := self.line(request):
                request.trailers.append(line.decode("latin-1"))
        elif request.all("content-length"):
            self.take(request, int(request.get("content-length")), True)
        request.is_whole = True


class Origin:
    def __init__(self, answer=OK, *, keep_bodies=True, reads_body=True, unix=None, family=socket.AF_INET):
        self.answer, self.keep_bodies, self.reads_body = answer, keep_bodies, reads_body
        self.paths = {}
        self.requests, self.num_connections, self.lock = [], 0, threading.Lock()
        self.garbage = []  # bytes left on a connection that were no whole request
        self.sockets = set()
        self.busy = set()  # numbers of connections with a request begun and not answered
        if unix:
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.bind(unix)
            self.address, self.port = f"unix:{unix}", None
        else:
            self.listener = socket.socket(family, socket.SOCK_STREAM)
            self.listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
            self.port = self.listener.getsockname()[1]
            self.address = f"[::1]:{self.port}" if family == socket.AF_INET6 else f"127.0.0.1:{self.port}"
        self.listener.listen(512)
        threading.Thread(target=self._accept, daemon=True).start()

    def on(self, path, answer):
        """path: without query. answer: bytes, or a function of an Exchange."""
        self.paths[path] = answer
        return self

    def wait(self, count=1, timeout=30):
        """Waits until `count` requests came whole; returns them all."""
        wait_for(lambda: sum(r.is_whole for r in self.requests) >= count,
                 f"{count} requests at the origin, have {self.requests}", timeout)
        return self.requests

    def take(self, timeout=30):
        """The only request so far, and forgets it."""
        self.wait(1, timeout)
        assert len(self.requests) == 1, self.requests
        return self.requests.pop()

    def settle(self):
        """Waits until no request is being read or answered, then forgets all of them."""
        wait_for(lambda: not self.busy, "the origin's connections to be idle or closed")
        self.requests.clear()
        self.garbage.clear()
        self.paths.clear()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                number = self.num_connections
                self.num_connections += 1
                self.sockets.add(sock)
                self.busy.add(number)  # a connection is made for a request
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock, number):
        stream = Stream(sock, self)
        try:
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                head = stream.head()
                request = Request(head, number)
                with self.lock:
                    self.busy.add(number)
                    self.requests.append(request)
                exchange = Exchange(self, sock, stream, request)
                if self.reads_body:
                    stream.read_body(request)
                answer = self.paths.get(request.target.split("?")[0], self.answer)
                if callable(answer):
                    answer(exchange)
                else:
                    exchange.send(answer)
                if exchange.is_closed:
                    return
                stream.read_body(request)
                self.busy.discard(number)
        except (EOFError, OSError):
            pass
        finally:
            if stream.buffer:
                self.garbage.append(stream.buffer)
            with self.lock:
                self.sockets.discard(sock)
            self.busy.discard(number)
            sock.close()

    def refuse(self):
        """From now on new connections are refused, and none that was made before gets lost: the kernel drops what comes
        (a filter that lets nothing in) until the last of those that wait is taken, and refuses when the port is closed."""
        drop = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
        self.listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(drop)))
        wait_for(lambda: not select.select([self.listener], [], [], 0)[0], "the last connection to be taken")
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def close_connections(self):
        with self.lock:
            sockets = list(self.sockets)
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        # shutdown wakes the thread in accept(); close alone would leave the port open under it.
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.close_connections()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class FastOrigin:
    """tests/bench/origin.c as a process."""

    def __init__(self, size=128, port=0, core=None, address="127.0.0.1", idle_ms=0):
        binary = BINARY.parent / "tests" / "bench" / "origin"
        command = [str(binary), "-s", str(size), "-p", str(port), "-a", address, "-i", str(idle_ms)]
        if core is not None:
            command = ["taskset", "-c", str(core), *command]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(re.match(r"listening (\d+)", self.process.stdout.readline())[1])
        self.address = f"{address}:{self.port}"

    def say(self, path):
        """Asks it for something, as /fault/... of origin.c."""
        connection = http.client.HTTPConnection(*self.address.rsplit(":", 1), timeout=30)
        connection.request("GET", path)
        assert connection.getresponse().status == 200
        connection.close()

    def terminate(self):
        """SIGTERM: it closes everything at once, whatever it is doing. The port is free when this returns."""
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
