"""A raw HTTP/1.1 client: sends the bytes it is told to and reads answers strictly, so that a test sees the gateway's
framing and nobody's opinion of it."""
import socket
import ssl
import time

from weir import Disturbed, undisturbed


class Closed(Exception):
    """The peer closed or reset the connection before the answer was whole."""


class Response:
    def __init__(self, version, status, reason, fields, head):
        self.version, self.status, self.reason, self.fields, self.head = version, status, reason, fields, head
        self.body = b""
        self.chunks = []    # sizes of the chunks, None when not chunked
        self.trailers = []

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else default

    @property
    def text(self):
        return self.body.decode()

    def __repr__(self):
        return f"<{self.status} {self.fields} {self.body[:200]!r}>"


class Client:
    def __init__(self, port, host="127.0.0.1", *, tls=None, source=None, timeout=30, unix=None, receive_buffer=None):
        """tls: server name to ask for (certificates are not verified), or a (context, name) pair. source: local
        address, as any 127.x.y.z."""
        if unix:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(timeout)
            self.socket.connect(unix)
        else:
            self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_buffer:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if source:
                self.socket.bind((source, 0))
            self.socket.settimeout(timeout)
            self.socket.connect((host, port))
        if tls:
            context, name = tls if isinstance(tls, tuple) else (insecure_context(), tls)
            self.socket = context.wrap_socket(self.socket, server_hostname=name)
        self.buffer = b""

    # --- sending -------------------------------------------------------------------------------------------------
    def send(self, data):
        self.socket.sendall(data)
        return self

    def request(self, method, target, headers=(), body=None, *, host="example.com", version="1.1"):
        """Sends one well-formed request. body: bytes (Content-Length is added)."""
        fields = [("Host", host)] if host is not None else []
        fields += headers.items() if isinstance(headers, dict) else headers
        if body is not None:
            fields.append(("Content-Length", str(len(body))))
        head = f"{method} {target} HTTP/{version}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields)
        return self.send(head.encode("latin-1") + b"\r\n" + (body or b""))

    # --- receiving -----------------------------------------------------------------------------------------------
    def _more(self):
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLError) as error:
            raise Closed(f"reset with {self.buffer[:200]!r} unread") from error
        if not data:
            raise Closed(f"closed with {self.buffer[:200]!r} unread")
        self.buffer += data

    def until(self, mark):
        while mark not in self.buffer:
            self._more()
        taken, self.buffer = self.buffer.split(mark, 1)
        return taken + mark

    def exactly(self, count):
        if count > 1 << 20:  # large bodies: avoid copying the buffer over and over
            parts, have = [self.buffer], len(self.buffer)
            self.buffer = b""
            while have < count:
                data = self.socket.recv(min(1 << 20, count - have))
                if not data:
                    raise Closed(f"closed after {have} of {count} bytes")
                parts.append(data)
                have += len(data)
            data = b"".join(parts)
            taken, self.buffer = data[:count], data[count:]
            return taken
        while len(self.buffer) < count:
            self._more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def head(self):
        """One response head, interim ones included."""
        head = self.until(b"\r\n\r\n")
        lines = head[:-4].split(b"\r\n")
        version, status, *reason = lines[0].decode("latin-1").split(" ", 2)
        assert version in ("HTTP/1.1", "HTTP/1.0") and len(status) == 3, lines[0]
        fields = []
        for line in lines[1:]:
            name, colon, value = line.decode("latin-1").partition(":")
            assert colon and name and name == name.strip() and "\n" not in value and "\r" not in value, line
            fields.append((name, value.strip(" \t")))
        return Response(version, int(status), reason[0] if reason else "", fields, head)

    def response(self, method="GET"):
        """One final response with its body, framed as RFC 9112 6.3 says. Interim responses are collected in .interim."""
        interim = []
        while True:
            response = self.head()
            if response.status >= 200 or response.status == 101:
                break
            interim.append(response)
        response.interim = interim
        codings, lengths = response.all("transfer-encoding"), response.all("content-length")
        assert not (codings and lengths), f"both framings: {response.head!r}"
        assert len(codings) <= 1 and len(lengths) <= 1, response.head
        if method == "HEAD" or response.status in (101, 204, 304):
            pass
        elif codings:
            assert codings == ["chunked"], codings
            self._chunked(response)
        elif lengths:
            assert lengths[0].isdigit(), lengths
            response.body = self.exactly(int(lengths[0]))
        else:
            response.body = self.rest()
        return response

    def _chunked(self, response):
        parts = []
        while True:
            size = self.until(b"\r\n")[:-2]
            assert size and all(c in b"0123456789abcdefABCDEF" for c in size), f"chunk size {size!r}"
            size = int(size, 16)
            if size == 0:
                break
            response.chunks.append(size)
            parts.append(self.exactly(size))
            assert self.exactly(2) == b"\r\n"
        response.body = b"".join(parts)
        while (line := self.until(b"\r\n")) != b"\r\n":
            name, _, value = line[:-2].decode("latin-1").partition(":")
            response.trailers.append((name, value.strip()))

    def rest(self):
        """Everything up to an orderly close."""
        parts = [self.buffer]
        self.buffer = b""
        while data := self.socket.recv(1 << 16):
            parts.append(data)
        return b"".join(parts)

    def is_closed(self, timeout=20.0):
        """True when the peer closes (or resets) within the time; False when it sends anything instead or stays."""
        if self.buffer:
            return False
        before = self.socket.gettimeout()
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(1)
            self.buffer += data
            return data == b""
        except (socket.timeout, ssl.SSLWantReadError):
            return False
        except (ConnectionError, ssl.SSLError):
            return True
        finally:
            self.socket.settimeout(before)

    def is_open(self):
        """True when another request on this connection is answered."""
        try:
            self.request("GET", "/probe-of-an-open-connection")
            self.response()
            return True
        except (Closed, ConnectionError, socket.timeout):
            return False

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self):
        """Ends the connection with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def at_once(within, begin):
    """The connection that begin() has made and written to in less than `within` seconds: no time limit of the gateway has
    passed before it had what was sent."""
    def attempt():
        began, made = time.monotonic(), None
        try:
            made = begin()
        except (OSError, Closed):
            if time.monotonic() - began < within:
                raise
        if time.monotonic() - began >= within:
            if made is not None:
                made.close()
            raise Disturbed
        return made
    return undisturbed(attempt, 30)


def insecure_context(alpn=("http/1.1",)):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def fetch(port, target="/", method="GET", headers=(), body=None, host="example.com", **connection):
    """One request on a connection of its own."""
    with Client(port, **connection) as client:
        client.request(method, target, headers, body, host=host)
        return client.response(method)


def elapsed(action):
    """(result, seconds)"""
    started = time.monotonic()
    result = action()
    return result, time.monotonic() - started
