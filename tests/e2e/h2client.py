"""An HTTP/2 client made of single frames, right or wrong as a test wants them (RFC 9113). Only HPACK is somebody else's
(python3-hpack). Nothing is sent that a test did not ask for but the preface, SETTINGS and their acknowledgement, and
windows as long as `opens_windows` is left on."""
import socket
import ssl
import struct
import time

import hpack

from client import Closed, insecure_context

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PRIORITY_UPDATE = 16
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 1, 1, 4, 8, 32
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
 REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY) = range(13)
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)
ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES = 8, 9
NAMES = ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
         "CONTINUATION"]


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def settings(values):
    return b"".join(struct.pack(">HI", key, value) for key, value in values.items())


def u32(value):
    return struct.pack(">I", value)


class Frame:
    def __init__(self, kind, flags, stream, payload):
        self.kind, self.flags, self.stream, self.payload = kind, flags, stream, payload
        self.fields = None  # of HEADERS

    @property
    def code(self):
        """The error code of RST_STREAM and GOAWAY."""
        return struct.unpack(">I", self.payload[:4] if self.kind == RST_STREAM else self.payload[4:8])[0]

    @property
    def last_stream(self):
        return struct.unpack(">I", self.payload[:4])[0] & 0x7fffffff

    @property
    def ends(self):
        return self.kind in (DATA, HEADERS) and self.flags & END_STREAM != 0

    def __repr__(self):
        name = NAMES[self.kind] if self.kind < len(NAMES) else self.kind
        what = self.fields if self.fields is not None else self.payload[:40]
        return f"<{name} flags={self.flags} stream={self.stream} {what!r}>"


class Answer:
    """What came for one stream."""

    def __init__(self):
        self.status, self.fields, self.body, self.trailers, self.reset, self.interim = None, [], b"", None, None, []
        self.interim_fields = []  # of each of .interim, without the status

    def get(self, name, default=None):
        values = [value for key, value in self.fields if key == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else default

    def __repr__(self):
        return f"<{self.status} {self.fields} {self.body[:100]!r} reset={self.reset}>"


class H2Client:
    def __init__(self, port, host="127.0.0.1", *, tls=None, settings=None, timeout=10, source=None, start=True,
                 opens_windows=True, acknowledges=True, receive_buffer=None):
        """tls: server name to ask for, or a (context, name) pair; ALPN is h2, certificates are not verified.
        start: send preface and SETTINGS. acknowledges: SETTINGS of the server."""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect((host, port))
        if tls:
            context, name = tls if isinstance(tls, tuple) else (insecure_context(), tls)
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(self.socket, server_hostname=name)
            assert self.socket.selected_alpn_protocol() == "h2"
        self.timeout = timeout
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.buffer = b""
        self.frames = []        # received and not yet taken by anybody
        self.server_settings = None
        self.opens_windows, self.acknowledges = opens_windows, acknowledges
        self.next_stream = 1
        self.all_frames = []    # as they came
        self.block = None       # HEADERS that waits for its CONTINUATION
        if start:
            self.start(settings or {})

    def start(self, values):
        self.send(PREFACE + frame(SETTINGS, payload=settings(values)))
        while self.server_settings is None:
            self._take(self._read())

    # --- sending -------------------------------------------------------------------------------------------------
    def send(self, data):
        self.socket.sendall(data)
        return self

    def frame(self, kind, flags=0, stream=0, payload=b""):
        return self.send(frame(kind, flags, stream, payload))

    def encode(self, fields):
        """As given: neither lower-cased nor reordered; nothing goes into the dynamic table."""
        return b"".join(literal(name, value) for name, value in fields)

    def headers(self, fields, stream=None, end=True, flags=END_HEADERS):
        if stream is None:
            stream = self.next_stream
        self.next_stream = max(self.next_stream, stream + 2)
        self.frame(HEADERS, flags | (END_STREAM if end else 0), stream, self.encode(fields))
        return stream

    def request(self, path="/", method="GET", fields=(), body=None, *, authority="example.com", scheme="http", stream=None):
        """One well-formed request; its stream."""
        head = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path), *fields]
        if body is not None:
            head.append(("content-length", str(len(body))))
        stream = self.headers(head, stream, end=not body)
        if body:
            for at in range(0, len(body), 16384):
                self.data(stream, body[at:at + 16384], end=at + 16384 >= len(body))
        return stream

    def data(self, stream, data=b"", end=False):
        return self.frame(DATA, END_STREAM if end else 0, stream, data)

    def reset(self, stream, code=CANCEL):
        return self.frame(RST_STREAM, 0, stream, u32(code))

    def window(self, stream, increment):
        return self.frame(WINDOW_UPDATE, 0, stream, u32(increment))

    # --- receiving -----------------------------------------------------------------------------------------------
    def _more(self):
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLError) as error:
            raise Closed(f"reset after {self.frames[-5:]}") from error
        if not data:
            raise Closed(f"closed after {self.frames[-5:]}")
        self.buffer += data

    def _read(self):
        while len(self.buffer) < 9:
            self._more()
        length = int.from_bytes(self.buffer[:3], "big")
        kind, flags = self.buffer[3], self.buffer[4]
        stream = struct.unpack(">I", self.buffer[5:9])[0]
        while len(self.buffer) < 9 + length:
            self._more()
        payload, self.buffer = self.buffer[9:9 + length], self.buffer[9 + length:]
        return Frame(kind, flags, stream, payload)

    def _take(self, received):
        """Does what a client must do, and keeps the frame."""
        check_frame(received)
        self.all_frames.append(received)
        if self.block is not None:
            assert received.kind == CONTINUATION and received.stream == self.block.stream, received
            self.block.payload += received.payload
            self.block.flags |= received.flags & END_HEADERS
            received = self.block
        if received.kind == HEADERS:
            self.block = None if received.flags & END_HEADERS else received
            if self.block is not None:
                return
            assert not received.flags & (PADDED | HAS_PRIORITY)
            received.fields = [(name, value) for name, value in self.decoder.decode(received.payload)]
        elif received.kind == SETTINGS and not received.flags & ACK:
            at = range(0, len(received.payload), 6)
            self.server_settings = dict(struct.unpack(">HI", received.payload[i:i + 6]) for i in at)
            if self.acknowledges:
                self.frame(SETTINGS, ACK)
        elif received.kind == DATA and received.payload and self.opens_windows:
            self.window(0, len(received.payload))
            if not received.flags & END_STREAM:
                self.window(received.stream, len(received.payload))
        self.frames.append(received)

    def wait(self, condition, timeout=None):
        """The first frame, received before or now, for which condition is true; it is taken off."""
        deadline = time.monotonic() + (timeout or self.timeout)
        seen = 0
        while True:
            while seen < len(self.frames):
                if condition(self.frames[seen]):
                    return self.frames.pop(seen)
                seen += 1
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"not within {timeout or self.timeout} s; came {self.frames[-8:]}")
            self.socket.settimeout(left)
            try:
                self._take(self._read())
            except socket.timeout:
                pass
            finally:
                self.socket.settimeout(self.timeout)

    def wait_kind(self, kind, stream=None, timeout=None):
        return self.wait(lambda f: f.kind == kind and (stream is None or f.stream == stream), timeout)

    def answer(self, stream, timeout=None):
        """All of a stream: until END_STREAM or RST_STREAM."""
        answer = Answer()
        while True:
            f = self.wait(lambda f: f.stream == stream and f.kind in (HEADERS, DATA, RST_STREAM), timeout)
            if f.kind == RST_STREAM:
                answer.reset = f.code
                return answer
            if f.kind == DATA:
                assert answer.status is not None, "DATA before HEADERS"
                answer.body += f.payload
            elif answer.status is None:
                check_head(f.fields)
                status = int(f.fields[0][1])
                if status < 200:
                    assert not f.ends
                    answer.interim.append(status)
                    answer.interim_fields.append(f.fields[1:])
                    continue
                answer.status, answer.fields = status, f.fields[1:]
            else:
                assert f.ends and all(not name.startswith(":") for name, _ in f.fields)
                answer.trailers = f.fields
            if f.ends:
                return answer

    def fetch(self, path="/", method="GET", fields=(), body=None, *, timeout=None, **options):
        return self.answer(self.request(path, method, fields, body, **options), timeout)

    def ping(self, timeout=None):
        """A round trip: what was sent before has been dealt with."""
        self.frame(PING, 0, 0, b"are you?")
        self.wait(lambda f: f.kind == PING and f.flags & ACK and f.payload == b"are you?", timeout)
        return self

    def goaway(self, timeout=None):
        return self.wait_kind(GOAWAY, timeout=timeout)

    def wait_closed(self, timeout=10):
        """Frames until the end of the connection, all that came since."""
        deadline = time.monotonic() + timeout
        try:
            while time.monotonic() < deadline:
                self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
                self._take(self._read())
        except Closed:
            return self.frames
        except OSError:
            return self.frames
        raise AssertionError(f"still open after {timeout} s; came {self.frames[-8:]}")

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


OF_CONNECTION, OF_EITHER = (SETTINGS, PING, GOAWAY), (WINDOW_UPDATE,)
FLAGS = {DATA: END_STREAM | PADDED, HEADERS: END_STREAM | END_HEADERS, SETTINGS: ACK, PING: ACK, CONTINUATION: END_HEADERS}
LENGTHS = {RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}


def check_frame(received):
    """What a server may not violate in any frame (RFC 9113 4.1, 5.1.1, 6)."""
    assert received.kind in (DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION), received
    assert received.flags & ~FLAGS.get(received.kind, 0) == 0, received
    assert len(received.payload) == LENGTHS.get(received.kind, len(received.payload)), received
    assert received.kind in OF_EITHER or (received.stream == 0) == (received.kind in OF_CONNECTION), received
    assert received.stream == 0 or received.stream % 2 == 1, received
    if received.kind == WINDOW_UPDATE:
        assert 0 < struct.unpack(">I", received.payload)[0] < 1 << 31, received
    elif received.kind == SETTINGS:
        assert len(received.payload) % 6 == 0 and not (received.flags & ACK and received.payload), received
    elif received.kind == GOAWAY:
        assert len(received.payload) >= 8 and received.payload[0] < 128, received


def check_head(fields):
    """What a server may not violate in a response head (RFC 9113 8.2, 8.3.2)."""
    assert fields[0][0] == ":status" and len(fields[0][1]) == 3, fields
    for name, value in fields[1:]:
        assert name == name.lower() and not name.startswith(":") and value == value.strip(" \t"), (name, value)
        assert name not in ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"), name


def integer(value, bits, first=0):
    limit = (1 << bits) - 1
    if value < limit:
        return bytes((first | value,))
    out = bytearray((first | limit,))
    value -= limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def literal(name, value):
    """RFC 7541 6.2.2: a literal without indexing, without Huffman coding."""
    name = name.encode("latin-1") if isinstance(name, str) else name
    value = value.encode("latin-1") if isinstance(value, str) else value
    return b"\0" + integer(len(name), 7) + name + integer(len(value), 7) + value
