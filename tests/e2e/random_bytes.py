"""Bytes for random attacks: the beginning of a valid conversation in one of the protocols, as units (frames, lines, pieces) that
break() then damages. All of it comes out of the random.Random that is handed in."""
import base64
import struct

from h2client import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HAS_PRIORITY, HEADERS, PADDED, PING, PREFACE, PRIORITY,
                      PRIORITY_UPDATE, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, literal, settings, u32)

PATHS = ["/fixed", "/site/page", "/site/none", "/h1/x", "/h1/y?a=b", "/h2/x", "/lambda/x", "/ws/x", "/echo", "/nowhere"]
METHODS = ["GET", "GET", "HEAD", "POST", "POST", "PUT", "OPTIONS", "DELETE"]


def some(r, size=40):
    return r.randbytes(r.randrange(size))


def text(r, size=20):
    return "".join(r.choice("abcxyz09-_.~%/ ;,=\"\t") for _ in range(r.randrange(size))).strip()


# ---- clients ---------------------------------------------------------------------------------------------------------

def websocket_frames(r):
    for _ in range(r.randrange(6)):
        payload = some(r, 200)
        length = bytes([128 | len(payload)]) if len(payload) < 126 else bytes([254]) + struct.pack(">H", len(payload))
        yield bytes([r.choice([0x81, 0x82, 0x01, 0x80, 0x88, 0x89, 0x8a, 0xff])]) + length + some(r, 5).ljust(4, b"m") + payload


def http1_body(r):
    """Fields, units."""
    kind = r.randrange(4)
    if kind == 0:
        return [], []
    pieces = [some(r, 3000) for _ in range(r.randrange(1, 5))]
    if kind == 1:
        return [f"Content-Length: {sum(map(len, pieces)) + r.choice([0, 0, 0, 1, -1])}"], pieces
    units = [b"%x%s\r\n" % (len(p), r.choice([b"", b"", b";a=b", b";x=\"y\""])) + p + b"\r\n" for p in pieces if p]
    return ["Transfer-Encoding: chunked"] + r.choice([[], ["Trailer: x"]]), units + [b"0\r\n" + r.choice([b"", b"x: y\r\n"]) + b"\r\n"]


def http1_requests(r):
    units = []
    for _ in range(r.randrange(1, 6)):
        method, path = r.choice(METHODS), r.choice(PATHS)
        fields, body = http1_body(r)
        if path.startswith("/ws") and r.random() < 0.8:
            method, body = "GET", list(websocket_frames(r))
            fields = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                      "Sec-WebSocket-Key: " + base64.b64encode(r.randbytes(16)).decode()]
        fields += r.sample(["Accept-Encoding: gzip, br", "Expect: 100-continue", "Range: bytes=0-9,5-", "Connection: close", "TE: trailers",
                            "If-None-Match: *", "Cookie: " + text(r), "X-" + str(r.randrange(9)) + ": " + text(r), "Connection: x-0"],
                           r.randrange(4))
        units += [f"{method} {path} HTTP/1.{r.choice('1110')}\r\n".encode(), b"Host: example.com\r\n"]
        units += [field.encode() + b"\r\n" for field in fields] + [b"\r\n"] + body
    return units


def request_block(r):
    path = r.choice(PATHS)
    if path.startswith("/ws") and r.random() < 0.7:
        pairs = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a"), (":path", path),
                 ("sec-websocket-version", "13")]
    else:
        pairs = [(":method", r.choice(METHODS)), (":scheme", "http"), (":authority", "a"), (":path", path)]
    pairs += [(f"x-{r.randrange(9)}", text(r)) for _ in range(r.randrange(4))] + r.choice([[], [("cookie", "a=b"), ("cookie", "c=d")]])
    pairs += r.choice([[], [], [("te", "trailers")], [("expect", "100-continue")], [("content-length", str(r.randrange(300)))]])
    return b"".join(r.choice([literal(n, v), b"\x40" + literal(n, v)[1:]]) for n, v in pairs) + r.choice([b"", b"\xbe", b"\xbf\xbe"])


def http2_frames(r, stream_of, block_of, count):
    """Frames that make sense, in an order that may not."""
    open_streams = [stream_of()]
    for _ in range(count):
        stream, kind = r.choice(open_streams), r.randrange(14)
        if kind < 4:
            stream = stream_of()
            open_streams = [*open_streams[-6:], stream]
            block, end = block_of(), r.choice([0, END_STREAM])
            if r.random() < 0.2:
                at = r.randrange(len(block))
                yield frame(HEADERS, end, stream, block[:at])
                yield frame(CONTINUATION, END_HEADERS, stream, block[at:])
            elif r.random() < 0.2:
                yield frame(HEADERS, end | END_HEADERS | HAS_PRIORITY | PADDED, stream, b"\3" + u32(r.randrange(9)) + b"\x10" + block + b"\0\0\0")
            else:
                yield frame(HEADERS, end | END_HEADERS, stream, block)
        elif kind < 7:
            yield frame(DATA, r.choice([0, 0, END_STREAM]), stream, some(r, r.choice([1, 100, 16384])))
        elif kind == 7:
            yield frame(DATA, PADDED, stream, b"\5" + some(r, 100) + b"\0" * 5)
        elif kind == 8:
            yield frame(HEADERS, END_HEADERS | END_STREAM, stream, literal("x-t", text(r)))
        elif kind == 9:
            yield frame(RST_STREAM, 0, stream, u32(r.choice([0, 2, 5, 7, 8])))
        elif kind == 10:
            yield frame(WINDOW_UPDATE, 0, r.choice([0, stream]), u32(r.choice([1, 100, 65535, 2**31 - 1 - 65535])))
        elif kind == 11:
            yield frame(SETTINGS, 0, 0, settings({r.choice([1, 3, 4, 5, 6]): r.choice([0, 1, 100, 16384, 65535, 2**24 - 1])}))
        elif kind == 12:
            yield r.choice([frame(PING, r.choice([0, ACK]), 0, b"12345678"), frame(PRIORITY, 0, stream, u32(0) + b"\1"), frame(SETTINGS, ACK),
                            frame(PRIORITY_UPDATE, 0, 0, u32(stream) + b"u=1, i")])
        else:
            yield r.choice([frame(0xbb, r.randrange(256), stream, some(r)), frame(GOAWAY, 0, 0, u32(0) + u32(r.randrange(14)) + some(r))])


def counter(start, step):
    state = [start - step]

    def take():
        state[0] += step
        return state[0]
    return take


def http2_requests(r):
    return [PREFACE, frame(SETTINGS, 0, 0, settings({4: r.choice([0, 1, 65535, 1 << 20])}) if r.random() < 0.5 else b""),
            *http2_frames(r, counter(1, 2), lambda: request_block(r), r.randrange(1, 60))]


def proxy_header(r):
    if r.random() < 0.4:
        return r.choice([b"PROXY TCP4 192.0.2.7 198.51.100.2 4711 443\r\n", b"PROXY UNKNOWN\r\n", b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"])
    block = {0x11: r.randbytes(12), 0x21: r.randbytes(36), 0x31: r.randbytes(216), 0: b""}
    family = r.choice(list(block))
    rest = block[family] + b"".join(bytes([r.choice([1, 2, 3, 4, 5, 0x20, 0xea])]) + struct.pack(">H", len(v)) + v for v in [some(r)] * r.randrange(3))
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([r.choice([0x20, 0x21, 0x21]), family]) + struct.pack(">H", len(rest)) + rest


# ---- targets ---------------------------------------------------------------------------------------------------------

def http1_response(r):
    units = [r.choice([b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]),
             f"HTTP/1.{r.choice('1110')} {r.choice([200, 200, 200, 204, 206, 301, 304, 404, 500, 503])} X\r\n".encode()]
    fields, body = http1_body(r)
    fields += r.sample(["Content-Type: text/plain", "Content-Type: text/html", "Set-Cookie: a=b", "Connection: close", "ETag: \"x\"", "Vary: *",
                        "Cache-Control: no-transform", "X-Long: " + "y" * r.randrange(9000), "Content-Encoding: gzip"], r.randrange(4))
    return units + [field.encode() + b"\r\n" for field in fields] + [b"\r\n"] + body


def websocket_answer(r, accept):
    return [b"HTTP/1.1 101 Switching Protocols\r\n", b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n",
            *websocket_frames(r)]


def lambda_response(r):
    """Of the Invoke API."""
    body = ('{"statusCode": %s, "headers": {"content-type": "text/plain", "x": "%s"}, "isBase64Encoded": %s, "body": "%s"}' % (
        r.choice(["200", "200", "\"404\"", "99", "null"]), r.choice(["y", "\\u0000", "\\r\\n"]), r.choice(["false", "true"]),
        base64.b64encode(some(r, 300)).decode())).encode()
    return [b"HTTP/1.1 200 OK\r\n", f"Content-Length: {len(body)}\r\n\r\n".encode(), *(body[i:i + 60] for i in range(0, len(body), 60))]


def response_block(r):
    status = r.choice(["200", "200", "204", "304", "404", "103"])
    return literal(":status", status) + b"".join(literal(f"x-{r.randrange(9)}", text(r)) for _ in range(r.randrange(4))) + r.choice(
        [b"", b"", literal("content-length", str(r.randrange(200)))])


def http2_response(r):
    stream = counter(1, 2)
    return [frame(SETTINGS, 0, 0, settings({3: r.choice([1, 100, 1000])}) if r.random() < 0.5 else b""), frame(SETTINGS, ACK),
            *http2_frames(r, stream, lambda: response_block(r), r.randrange(2, 40))]


# ---- damage ----------------------------------------------------------------------------------------------------------

def flip(r, unit):
    if not unit:
        return unit
    unit = bytearray(unit)
    for _ in range(r.choice([1, 1, 1, 3, 20])):
        unit[r.randrange(len(unit))] ^= 1 << r.randrange(8)
    return bytes(unit)


def break_up(r, units):
    """What is left of a conversation; a third of them stay whole."""
    units = list(units)
    for _ in range(r.choice([0, 0, 1, 1, 2, 4])):
        at, other = r.randrange(len(units)), r.randrange(len(units))
        damage = r.randrange(9)
        if damage < 3:
            units[at] = flip(r, units[at])
        elif damage == 3:
            units[at], units[other] = units[other], units[at]
        elif damage == 4:
            units[at:at] = [units[other]] * r.choice([1, 2, 30, 300])
        elif damage == 5:
            del units[at]
        elif damage == 6:
            units[at] = units[at][:r.randrange(len(units[at]) + 1)]
        elif damage == 7:
            units.insert(at, some(r, 300))
        else:
            units[at] += units[other][r.randrange(len(units[other]) + 1):]
        if not units:
            return [b""]
    return units
