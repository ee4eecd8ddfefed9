"""HTTP/1.1 as spoken with clients: RFC 9112, seen from both sides.

The table sends raw bytes and says three things of each: the status, whether the connection stays, and what the origin
saw. Requests are never passed through: what reaches the origin is compared line by line, so a request that two parsers
could read in two ways shows itself."""
import itertools
import re
import time
from typing import NamedTuple, Optional

import pytest

from client import Client, Closed, at_once, fetch
from origin import Origin, reply
from weir import SANITIZED, Disturbed, Weir, undisturbed, wait_for

CONFIG = """
worker_threads: 1
limits: {header_timeout: 60s}
listeners:
  http: {address: "127.0.0.1:@http@"}
target_groups:
  origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
routes:
  - {name: limited, match: {path: "/limited/*"}, max_body: 10, forward: origin}
  - {name: local, match: {path: "/local"}, respond: {status: 200, body: "local\\n"}}
  - {name: all, forward: origin}
"""

# Fields that the gateway itself adds; test_routing.py is about their values.
OWN_FIELDS = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-host", "x-amzn-trace-id",
              "traceparent", "x-request-id", "via"}
FRAMING = {"host", "content-length", "transfer-encoding", "connection"}

OPEN, CLOSED = "open", "closed"
NOTHING, UNFINISHED = "nothing", "unfinished"  # no request at all; a request that never became whole


class Seen(NamedTuple):
    line: str = "GET / HTTP/1.1"
    fields: tuple = ()  # end-to-end fields but the gateway's own, in order, names in lower case
    body: Optional[bytes] = None  # None: the message has no body
    host: str = "a.example"
    trailers: bytes = b""


class Case(NamedTuple):
    name: str
    raw: bytes
    status: int
    connection: str
    origin: object


def head(line="GET / HTTP/1.1", *fields, host="a.example"):
    lines = [line] + ([f"Host: {host}"] if host is not None else []) + list(fields)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def good(name, raw, seen=None, connection=OPEN, status=200):
    return Case(name, raw, status, connection, Seen() if seen is None else seen)


def refused(name, raw, status=400, origin=NOTHING):
    return Case(name, raw, status, CLOSED, origin)


def chunked(body, *fields, line="POST / HTTP/1.1"):
    return head(line, "Transfer-Encoding: chunked", *fields) + body


def posted(body, *fields, line="POST / HTTP/1.1", trailers=b""):
    return Seen(line, tuple(fields), body, trailers=trailers)


REQUEST_LINES = [
    good("plain GET", head()),
    good("GET with a query", head("GET /a?b=c&d HTTP/1.1"), Seen("GET /a?b=c&d HTTP/1.1")),
    good("an empty query stays an empty query", head("GET /a? HTTP/1.1"), Seen("GET /a? HTTP/1.1")),
    good("the raw path is passed on as it came", head("GET /%7Ea/./b/../c//d HTTP/1.1"),
         Seen("GET /%7Ea/./b/../c//d HTTP/1.1")),
    good("an encoded slash stays encoded", head("GET /a%2Fb HTTP/1.1"), Seen("GET /a%2Fb HTTP/1.1")),
    good("HEAD", head("HEAD / HTTP/1.1"), Seen("HEAD / HTTP/1.1")),
    good("DELETE", head("DELETE /x HTTP/1.1"), Seen("DELETE /x HTTP/1.1")),
    good("PATCH with a body", head("PATCH / HTTP/1.1", "Content-Length: 2") + b"hi", posted(b"hi", line="PATCH / HTTP/1.1")),
    good("OPTIONS with a path", head("OPTIONS /x HTTP/1.1"), Seen("OPTIONS /x HTTP/1.1")),
    good("an extension method", head("PROPFIND / HTTP/1.1"), Seen("PROPFIND / HTTP/1.1")),
    good("methods are case-sensitive tokens", head("get / HTTP/1.1"), Seen("get / HTTP/1.1")),
    good("every token character in a method", head("A!#$%&'*+-.^_`|~9 / HTTP/1.1"),
         Seen("A!#$%&'*+-.^_`|~9 / HTTP/1.1")),
    good("one empty line before the request line", b"\r\n" + head()),
    good("sub-delims and pchar in a path", head("GET /a;b=c,d@e:f!$&'()*+~._- HTTP/1.1"),
         Seen("GET /a;b=c,d@e:f!$&'()*+~._- HTTP/1.1")),
    good("a slash and a question mark in a query", head("GET /?a/b?c HTTP/1.1"), Seen("GET /?a/b?c HTTP/1.1")),
    good("a target of 8 KiB less a little", head("GET /" + "a" * 8100 + " HTTP/1.1"),
         Seen("GET /" + "a" * 8100 + " HTTP/1.1")),
    refused("a target above 8 KiB", head("GET /" + "a" * 8300 + " HTTP/1.1"), 414),
    refused("a target of 30 KiB", head("GET /" + "a" * 30000 + " HTTP/1.1"), 414),
    refused("a bare LF before the request line", b"\n" + head()),
    refused("an empty method", head(" / HTTP/1.1")),
    refused("a method with a bracket", head("GE(T / HTTP/1.1")),
    refused("a method with a brace", head("G{T / HTTP/1.1")),
    refused("a method with an at sign", head("G@T / HTTP/1.1")),
    refused("a method with a slash", head("G/T / HTTP/1.1")),
    refused("a method with a colon", head("GET: / HTTP/1.1")),
    refused("a method with a control", head("G\x01T / HTTP/1.1")),
    refused("a method with a byte above 127", head("G\xe9T / HTTP/1.1")),
    refused("no target", head("GET HTTP/1.1")),
    refused("an empty target", head("GET  HTTP/1.1")),
    refused("two spaces after the method", head("GET  / HTTP/1.1")),
    refused("two spaces before the version", head("GET /  HTTP/1.1")),
    refused("a tab after the method", head("GET\t/ HTTP/1.1")),
    refused("a tab before the version", head("GET /\tHTTP/1.1")),
    refused("a space within the target", head("GET /a b HTTP/1.1")),
    refused("a tab within the target", head("GET /a\tb HTTP/1.1")),
    refused("a fragment in the target", head("GET /a#b HTTP/1.1")),
    refused("a control in the target", head("GET /a\x02b HTTP/1.1")),
    refused("DEL in the target", head("GET /a\x7fb HTTP/1.1")),
    refused("a NUL in the target", head("GET /a\x00b HTTP/1.1")),
    refused("a byte above 127 in the target", head("GET /\xc3\xa9 HTTP/1.1")),
    refused("a path without a slash", head("GET a HTTP/1.1")),
    refused("authority-form with GET", head("GET a.example:80 HTTP/1.1")),
    refused("asterisk-form with GET", head("GET * HTTP/1.1")),
    refused("a query without a path", head("GET ?a HTTP/1.1")),
    refused("a space after the version", head("GET / HTTP/1.1 ")),
    refused("a character after the version", head("GET / HTTP/1.1x")),
    refused("no version (HTTP/0.9)", b"GET /\r\n\r\n"),
    refused("a version without its minor number", head("GET / HTTP/1.")),
    refused("a version without a dot", head("GET / HTTP/11")),
    refused("a two-digit minor version", head("GET / HTTP/1.10")),
    refused("a version in lower case", head("GET / http/1.1")),
    refused("another protocol's name", head("GET / ICY/1.1")),
    refused("HTTP/2.0 in a request line", head("GET / HTTP/2.0"), 505),
    refused("HTTP/0.9 in a request line", head("GET / HTTP/0.9"), 505),
    refused("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    refused("a TLS client hello on a plain port", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\x11" * 40 + b"\r\n\r\n"),
    refused("a bare CR in the request line", b"GET /\r HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    refused("a bare LF after the request line", b"GET / HTTP/1.1\nHost: a.example\r\n\r\n"),
    refused("two empty lines before the request line", b"\r\n\r\n\r\n" + head()),
]

ABSOLUTE_FORM = [
    good("absolute-form equal to Host", head("GET http://a.example/x?y HTTP/1.1"), Seen("GET /x?y HTTP/1.1")),
    good("absolute-form without a path", head("GET http://a.example HTTP/1.1"), Seen("GET / HTTP/1.1")),
    good("absolute-form with only a query", head("GET http://a.example?q=1 HTTP/1.1"), Seen("GET /?q=1 HTTP/1.1")),
    good("a scheme in upper case", head("GET HTTP://a.example/ HTTP/1.1"), Seen("GET / HTTP/1.1")),
    good("absolute-form with the port that Host has", head("GET http://a.example:81/ HTTP/1.1", host="a.example:81"),
         Seen("GET / HTTP/1.1", host="a.example:81")),
    refused("absolute-form with another host than Host", head("GET http://b.example/ HTTP/1.1")),
    refused("absolute-form with another port than Host", head("GET http://a.example:81/ HTTP/1.1", host="a.example:82")),
    refused("absolute-form without Host in 1.1", head("GET http://a.example/ HTTP/1.1", host=None)),
    refused("absolute-form with user information", head("GET http://u@a.example/ HTTP/1.1")),
    refused("absolute-form with a password", head("GET http://u:p@a.example/ HTTP/1.1")),
    refused("absolute-form without an authority", head("GET http:///x HTTP/1.1")),
    refused("absolute-form of another scheme", head("GET ftp://a.example/ HTTP/1.1")),
    refused("absolute-form with one slash", head("GET http:/a.example/ HTTP/1.1")),
    refused("absolute-form with a bad port", head("GET http://a.example:9x/ HTTP/1.1")),
    refused("absolute-form with a fragment", head("GET http://a.example/#f HTTP/1.1")),
    refused("absolute-form with a backslash for the path", head("GET http://a.example\\x HTTP/1.1")),
]

HOST = [
    good("Host with a port", head(host="a.example:8080"), Seen(host="a.example:8080")),
    good("Host as an IPv6 address", head(host="[::1]"), Seen(host="[::1]")),
    good("Host as an IPv6 address and port", head(host="[2001:db8::1]:443"), Seen(host="[2001:db8::1]:443")),
    good("Host with an underscore", head(host="a_b.example"), Seen(host="a_b.example")),
    good("Host in upper case stays as sent", head(host="A.Example"), Seen(host="A.Example")),
    good("blanks around the value of Host", head("GET / HTTP/1.1", "Host: \t a.example \t", host=None)),
    good("the name of Host in any case", head("GET / HTTP/1.1", "hOST: a.example", host=None)),
    refused("no Host in 1.1", head(host=None)),
    refused("two equal Hosts", head("GET / HTTP/1.1", "Host: a.example")),
    refused("two different Hosts", head("GET / HTTP/1.1", "Host: b.example")),
    refused("two Hosts, one in another case", head("GET / HTTP/1.1", "host: a.example")),
    refused("two Hosts in 1.0", head("GET / HTTP/1.0", "Host: b.example")),
    refused("Host with a path", head(host="a.example/b")),
    refused("Host with a space", head(host="a.example b")),
    refused("Host with a tab", head(host="a.example\tb")),
    refused("Host with user information", head(host="u@a.example")),
    refused("Host as a list", head(host="a.example, b.example")),
    refused("Host with a word for a port", head(host="a.example:http")),
    refused("Host with two ports", head(host="a.example:80:80")),
    refused("Host with a port above 65535", head(host="a.example:65536")),
    refused("Host with a negative port", head(host="a.example:-1")),
    refused("Host as an open bracket", head(host="[::1")),
    refused("Host as bare IPv6", head(host="::1")),
    refused("Host with text after the bracket", head(host="[::1]x")),
    refused("Host with a query", head(host="a.example?b")),
    refused("Host with a fragment", head(host="a.example#b")),
    refused("Host with a backslash", head(host="a.example\\b")),
    refused("Host with a quote", head(host='"a.example"')),
    refused("Host with a byte above 127", head(host="\xe9.example")),
    refused("Host with a control", head(host="a\x01.example")),
    refused("Host as a URL", head(host="http://a.example")),
]

FIELDS = [
    good("a field is passed on with its value", head("GET / HTTP/1.1", "X-A: 1"), Seen(fields=("x-a: 1",))),
    good("fields keep their order", head("GET / HTTP/1.1", "X-B: 1", "X-A: 2", "X-B: 3"),
         Seen(fields=("x-b: 1", "x-a: 2", "x-b: 3"))),
    good("blanks around a value are dropped", head("GET / HTTP/1.1", "X-A: \t 1 2 \t"), Seen(fields=("x-a: 1 2",))),
    good("no blank after the colon", head("GET / HTTP/1.1", "X-A:1"), Seen(fields=("x-a: 1",))),
    good("an empty value", head("GET / HTTP/1.1", "X-A:"), Seen(fields=("x-a: ",))),
    good("a value of blanks only", head("GET / HTTP/1.1", "X-A:  \t "), Seen(fields=("x-a: ",))),
    good("a tab within a value", head("GET / HTTP/1.1", "X-A: 1\t2"), Seen(fields=("x-a: 1\t2",))),
    good("obs-text in a value", head("GET / HTTP/1.1", "X-A: \xe9\xff"), Seen(fields=("x-a: \xe9\xff",))),
    good("a colon within a value", head("GET / HTTP/1.1", "X-A: b: c"), Seen(fields=("x-a: b: c",))),
    good("an underscore in a name", head("GET / HTTP/1.1", "X_A: 1"), Seen(fields=("x_a: 1",))),
    good("every token character in a name", head("GET / HTTP/1.1", "x!#$%&'*+-.^_`|~9: 1"),
         Seen(fields=("x!#$%&'*+-.^_`|~9: 1",))),
    good("a field that looks like framing is only a field", head("GET / HTTP/1.1", "Transfer_Encoding: chunked"),
         Seen(fields=("transfer_encoding: chunked",)), connection=CLOSED),  # test_desync.py
    good("90 fields", head("GET / HTTP/1.1", *(f"X-{i}: {i}" for i in range(90))),
         Seen(fields=tuple(f"x-{i}: {i}" for i in range(90)))),
    good("a value of 30 KB", head("GET / HTTP/1.1", "X-A: " + "v" * 30000), Seen(fields=("x-a: " + "v" * 30000,))),
    refused("120 fields", head("GET / HTTP/1.1", *(f"X-{i}: {i}" for i in range(120))), 431),
    refused("1,000 fields", head("GET / HTTP/1.1", *(f"X-{i}: {i}" for i in range(1000))), 431),
    refused("a value of 40 KB", head("GET / HTTP/1.1", "X-A: " + "v" * 40000), 431),
    refused("fields of 40 KB together", head("GET / HTTP/1.1", *(f"X-{i}: " + "v" * 1000 for i in range(40))), 431),
    refused("a head that never ends", b"GET / HTTP/1.1\r\nHost: a.example\r\nX-A: " + b"v" * 60000, 431),
    refused("a name of 40 KB", head("GET / HTTP/1.1", "x" * 40000 + ": 1"), 431),
    refused("a space before the colon", head("GET / HTTP/1.1", "X-A : 1")),
    refused("a tab before the colon", head("GET / HTTP/1.1", "X-A\t: 1")),
    refused("a space before the colon of Content-Length", head("POST / HTTP/1.1", "Content-Length : 5") + b"hello"),
    refused("a space before the colon of Transfer-Encoding", chunked(b"", "X: y").replace(b"Encoding:", b"Encoding :")),
    refused("an empty name", head("GET / HTTP/1.1", ": 1")),
    refused("a space within a name", head("GET / HTTP/1.1", "X A: 1")),
    refused("a bracket in a name", head("GET / HTTP/1.1", "X(A): 1")),
    refused("a control in a name", head("GET / HTTP/1.1", "X\x01A: 1")),
    refused("a byte above 127 in a name", head("GET / HTTP/1.1", "X\xe9: 1")),
    refused("a NUL in a name", head("GET / HTTP/1.1", "X\x00A: 1")),
    refused("a quote in a name", head("GET / HTTP/1.1", 'X"A: 1')),
    refused("a NUL in a value", head("GET / HTTP/1.1", "X-A: 1\x002")),
    refused("a control in a value", head("GET / HTTP/1.1", "X-A: 1\x022")),
    refused("DEL in a value", head("GET / HTTP/1.1", "X-A: 1\x7f2")),
    refused("a bare CR in a value", b"GET / HTTP/1.1\r\nHost: a.example\r\nX-A: 1\r2\r\n\r\n"),
    refused("a CR at the end of a value", b"GET / HTTP/1.1\r\nHost: a.example\r\nX-A: 1\r\r\n\r\n"),
    refused("a bare LF after a field", b"GET / HTTP/1.1\r\nHost: a.example\nX-A: 1\r\n\r\n"),
    refused("a bare LF in a value", b"GET / HTTP/1.1\r\nHost: a.example\r\nX-A: 1\nX-B: 2\r\n\r\n"),
    refused("a bare LF for the last line end", b"GET / HTTP/1.1\r\nHost: a.example\r\n\n"),
    refused("bare LFs throughout", b"GET / HTTP/1.1\nHost: a.example\n\n"),
    refused("a field folded by a space", head("GET / HTTP/1.1", "X-A: 1", " 2")),
    refused("a field folded by a tab", head("GET / HTTP/1.1", "X-A: 1", "\t2")),
    refused("a folded field right after the request line", b"GET / HTTP/1.1\r\n X-A: 1\r\nHost: a.example\r\n\r\n"),
    refused("Host folded", b"GET / HTTP/1.1\r\nHost:\r\n a.example\r\n\r\n"),
    refused("Transfer-Encoding folded", b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    refused("a line without a colon", head("GET / HTTP/1.1", "X-A")),
]

LENGTHS = [
    good("Content-Length frames the body", head("POST / HTTP/1.1", "Content-Length: 5") + b"hello", posted(b"hello")),
    good("Content-Length 0", head("POST / HTTP/1.1", "Content-Length: 0"), posted(b"")),
    good("a body of CRLFs is no request", head("POST / HTTP/1.1", "Content-Length: 4") + b"\r\n\r\n", posted(b"\r\n\r\n")),
    good("a body that looks like a request is a body",
         head("POST / HTTP/1.1", "Content-Length: %d" % len(head("GET /smuggled HTTP/1.1"))) + head("GET /smuggled HTTP/1.1"),
         posted(head("GET /smuggled HTTP/1.1"))),
    good("GET may carry a body", head("GET / HTTP/1.1", "Content-Length: 2") + b"hi", posted(b"hi", line="GET / HTTP/1.1"), connection=CLOSED),
    good("blanks around Content-Length", head("POST / HTTP/1.1", "Content-Length: \t2 ") + b"hi", posted(b"hi")),
    refused("Content-Length twice, equal", head("POST / HTTP/1.1", "Content-Length: 5", "Content-Length: 5") + b"hello"),
    refused("Content-Length twice, different", head("POST / HTTP/1.1", "Content-Length: 5", "Content-Length: 6") + b"hello!"),
    refused("Content-Length twice, names in different case",
            head("POST / HTTP/1.1", "Content-Length: 5", "content-length: 5") + b"hello"),
    refused("Content-Length as a list", head("POST / HTTP/1.1", "Content-Length: 5, 5") + b"hello"),
    refused("Content-Length as a list without blanks", head("POST / HTTP/1.1", "Content-Length: 5,5") + b"hello"),
    refused("Content-Length with a plus", head("POST / HTTP/1.1", "Content-Length: +5") + b"hello"),
    refused("Content-Length with a minus", head("POST / HTTP/1.1", "Content-Length: -5") + b"hello"),
    refused("Content-Length -0", head("POST / HTTP/1.1", "Content-Length: -0")),
    refused("Content-Length in hex", head("POST / HTTP/1.1", "Content-Length: 0x5") + b"hello"),
    refused("Content-Length with a word after it", head("POST / HTTP/1.1", "Content-Length: 5 bytes") + b"hello"),
    refused("Content-Length as two numbers", head("POST / HTTP/1.1", "Content-Length: 5 5") + b"hello"),
    refused("Content-Length with a point", head("POST / HTTP/1.1", "Content-Length: 5.0") + b"hello"),
    refused("Content-Length with an exponent", head("POST / HTTP/1.1", "Content-Length: 1e1") + b"hello"),
    refused("Content-Length in quotes", head("POST / HTTP/1.1", 'Content-Length: "5"') + b"hello"),
    refused("an empty Content-Length", head("POST / HTTP/1.1", "Content-Length:")),
    refused("Content-Length as a word", head("POST / HTTP/1.1", "Content-Length: five")),
    refused("Content-Length 2^63", head("POST / HTTP/1.1", "Content-Length: 9223372036854775808")),
    refused("Content-Length 2^64", head("POST / HTTP/1.1", "Content-Length: 18446744073709551616")),
    refused("Content-Length 2^64 + 5", head("POST / HTTP/1.1", "Content-Length: 18446744073709551621") + b"hello"),
    refused("Content-Length of 30 digits", head("POST / HTTP/1.1", "Content-Length: " + "9" * 30)),
    refused("Content-Length and Transfer-Encoding",
            head("POST / HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    refused("Transfer-Encoding and Content-Length",
            head("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 5") + b"0\r\n\r\n"),
    refused("Content-Length 0 and Transfer-Encoding",
            head("POST / HTTP/1.1", "Content-Length: 0", "Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    refused("Content-Length and an unknown Transfer-Encoding",
            head("POST / HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: x") + b"hello"),
    Case("max_body is checked before the origin is asked", head("POST /limited/x HTTP/1.1", "Content-Length: 11") + b"hello world",
         413, CLOSED, NOTHING),
    good("a body of exactly max_body", head("POST /limited/x HTTP/1.1", "Content-Length: 10") + b"hello worl",
         posted(b"hello worl", line="POST /limited/x HTTP/1.1")),
    refused("a chunked body above max_body", chunked(b"b\r\nhello world\r\n0\r\n\r\n", line="POST /limited/x HTTP/1.1"), 413,
            UNFINISHED),
]

TRANSFER_ENCODING = [
    good("chunked", chunked(b"5\r\nhello\r\n0\r\n\r\n"), posted(b"hello")),
    good("Chunked in any case", chunked(b"5\r\nhello\r\n0\r\n\r\n").replace(b": chunked", b": cHuNkEd"), posted(b"hello")),
    good("blanks around chunked", chunked(b"5\r\nhello\r\n0\r\n\r\n").replace(b": chunked", b":\t chunked \t"), posted(b"hello")),
    refused("chunked twice in two fields", chunked(b"0\r\n\r\n", "Transfer-Encoding: chunked")),
    refused("chunked twice in one field", head("POST / HTTP/1.1", "Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n"),
    refused("chunked before another coding", head("POST / HTTP/1.1", "Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n", (400, 501)),
    refused("chunked and identity", head("POST / HTTP/1.1", "Transfer-Encoding: chunked, identity") + b"0\r\n\r\n", (400, 501)),
    refused("gzip", head("POST / HTTP/1.1", "Transfer-Encoding: gzip") + b"x", 501),
    refused("gzip and chunked", head("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501),
    refused("gzip and chunked in two fields",
            head("POST / HTTP/1.1", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked") + b"0\r\n\r\n", (400, 501)),
    refused("identity", head("POST / HTTP/1.1", "Transfer-Encoding: identity") + b"", (400, 501)),
    refused("an unknown coding", head("POST / HTTP/1.1", "Transfer-Encoding: xchunked") + b"0\r\n\r\n", (400, 501)),
    refused("chunked with a letter after it", head("POST / HTTP/1.1", "Transfer-Encoding: chunkedx") + b"0\r\n\r\n", (400, 501)),
    refused("chunked with a parameter", head("POST / HTTP/1.1", "Transfer-Encoding: chunked;a=b") + b"0\r\n\r\n", (400, 501)),
    refused("chunked in quotes", head("POST / HTTP/1.1", 'Transfer-Encoding: "chunked"') + b"0\r\n\r\n", (400, 501)),
    refused("chunked after a vertical tab", head("POST / HTTP/1.1", "Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n"),
    refused("chunked with a space inside", head("POST / HTTP/1.1", "Transfer-Encoding: chun ked") + b"0\r\n\r\n", (400, 501)),
    refused("an empty Transfer-Encoding", head("POST / HTTP/1.1", "Transfer-Encoding:") + b"0\r\n\r\n", (400, 501)),
    refused("an empty list element before chunked", head("POST / HTTP/1.1", "Transfer-Encoding: ,chunked") + b"0\r\n\r\n", (400, 501)),
    refused("a list of two with no comma", head("POST / HTTP/1.1", "Transfer-Encoding: gzip chunked") + b"0\r\n\r\n", (400, 501)),
    refused("chunked in 1.0", chunked(b"0\r\n\r\n", line="POST / HTTP/1.0")),
    refused("chunked in 1.0 with keep-alive", chunked(b"0\r\n\r\n", "Connection: keep-alive", line="POST / HTTP/1.0")),
]

CHUNKS = [
    good("several chunks", chunked(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), posted(b"hello")),
    good("an empty chunked body", chunked(b"0\r\n\r\n"), posted(b"")),
    good("hex digits in both cases", chunked(b"a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n"), posted(b"01234567890123456789a")),
    good("leading zeros in a chunk size", chunked(b"0005\r\nhello\r\n000\r\n\r\n"), posted(b"hello")),
    good("a chunk extension is dropped", chunked(b"5;a=b\r\nhello\r\n0\r\n\r\n"), posted(b"hello")),
    good("a chunk extension without a value", chunked(b"5;a;b\r\nhello\r\n0;c\r\n\r\n"), posted(b"hello")),
    good("a chunk extension in quotes", chunked(b'5;a="b;c\\"d"\r\nhello\r\n0\r\n\r\n'), posted(b"hello")),
    good("chunk data that looks like framing", chunked(b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"), posted(b"\r\n0\r\n\r\n")),
    good("trailers are passed on", chunked(b"5\r\nhello\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n"),
         posted(b"hello", trailers=b"x-t: 1\r\nx-u: 2\r\n")),
    good("framing fields in trailers change nothing",
         chunked(b"5\r\nhello\r\n0\r\nContent-Length: 100\r\nHost: b.example\r\n\r\n"), posted(b"hello")),
    *(refused(name, chunked(body), 400, UNFINISHED) for name, body in [
        ("a chunk without a size", b"\r\nhello\r\n0\r\n\r\n"),
        ("a chunk size that is a word", b"five\r\nhello\r\n0\r\n\r\n"),
        ("a chunk size with a letter that is no digit", b"5g\r\nhello\r\n0\r\n\r\n"),
        ("a chunk size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("a chunk size with a minus", b"-5\r\nhello\r\n0\r\n\r\n"),
        ("a chunk size with a plus", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("a space before a chunk size", b" 5\r\nhello\r\n0\r\n\r\n"),
        ("a space after a chunk size", b"5 \r\nhello\r\n0\r\n\r\n"),
        ("a tab after a chunk size", b"5\t\r\nhello\r\n0\r\n\r\n"),
        ("text after a chunk size", b"5 junk\r\nhello\r\n0\r\n\r\n"),
        ("a comma after a chunk size", b"5,a\r\nhello\r\n0\r\n\r\n"),
        ("a chunk size of 17 digits", b"00000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a chunk size of 2^64", b"10000000000000000\r\nhello\r\n0\r\n\r\n"),
        ("a chunk size of 2^64 - 1", b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("a bare LF after a chunk size", b"5\nhello\r\n0\r\n\r\n"),
        ("a CR CR LF after a chunk size", b"5\r\r\nhello\r\n0\r\n\r\n"),
        ("a bare CR after a chunk size", b"5\rhello\r\n0\r\n\r\n"),
        ("a bare LF after chunk data", b"5\r\nhello\n0\r\n\r\n"),
        ("no line end after chunk data", b"5\r\nhello0\r\n\r\n"),
        ("more data than the chunk size says", b"3\r\nhello\r\n0\r\n\r\n"),
        ("a CR CR LF after chunk data", b"5\r\nhello\r\r\n0\r\n\r\n"),
        ("an extension with a bare LF", b"5;a\nhello\r\n0\r\n\r\n"),
        ("an extension with a bare CR", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("an extension with a NUL", b"5;a=\x00\r\nhello\r\n0\r\n\r\n"),
        ("an extension without a name", b"5;=b\r\nhello\r\n0\r\n\r\n"),
        ("an extension with an open quote", b'5;a="b\r\nhello\r\n0\r\n\r\n'),
        ("an extension of 8 KB", b"5;a=" + b"b" * 8000 + b"\r\nhello\r\n0\r\n\r\n"),
        ("a bare LF after the last chunk", b"5\r\nhello\r\n0\n\r\n"),
        ("a bare LF for the end", b"5\r\nhello\r\n0\r\n\n"),
        ("a trailer without a colon", b"0\r\nX-T\r\n\r\n"),
        ("a trailer with a space before the colon", b"0\r\nX-T : 1\r\n\r\n"),
        ("a folded trailer", b"0\r\nX-T: 1\r\n 2\r\n\r\n"),
        ("a trailer with a NUL", b"0\r\nX-T: \x00\r\n\r\n"),
        ("a trailer with a bare CR", b"0\r\nX-T: a\rb\r\n\r\n"),
        ("a trailer with a bare LF", b"0\r\nX-T: 1\n\r\n"),
        ("a trailer with an empty name", b"0\r\n: 1\r\n\r\n"),
        ("a stream of 1-byte chunks with fat extensions", (b"1;" + b"e" * 900 + b"\r\nx\r\n") * 300 + b"0\r\n\r\n"),
    ]),
]

CHUNKS.append(refused("trailers of 100 KB", chunked(b"0\r\n" + b"X-T: 1234567890\r\n" * 6000 + b"\r\n"), 431, UNFINISHED))

CONNECTION = [
    good("Connection: close", head("GET / HTTP/1.1", "Connection: close"), connection=CLOSED),
    good("Connection: Close in any case", head("GET / HTTP/1.1", "Connection: CLOSE"), connection=CLOSED),
    good("close among other options", head("GET / HTTP/1.1", "Connection: x, close ,y"), connection=CLOSED),
    good("close in a second field", head("GET / HTTP/1.1", "Connection: x", "Connection: close"), connection=CLOSED),
    good("Connection: keep-alive is not passed on", head("GET / HTTP/1.1", "Connection: keep-alive", "Keep-Alive: timeout=5")),
    good("close wins over keep-alive", head("GET / HTTP/1.1", "Connection: keep-alive, close"), connection=CLOSED),
    good("fields named by Connection are dropped", head("GET / HTTP/1.1", "Connection: x-a", "X-A: 1", "X-B: 2"),
         Seen(fields=("x-b: 2",))),
    good("Proxy-Connection is dropped", head("GET / HTTP/1.1", "Proxy-Connection: keep-alive")),
    good("TE: trailers is asked for anew", head("GET / HTTP/1.1", "Connection: TE", "TE: trailers"),
         Seen(fields=("te: trailers",))),
    good("TE is dropped", head("GET / HTTP/1.1", "Connection: TE", "TE: gzip;q=0.5")),
    good("Upgrade to something unknown is ignored", head("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: h2c")),
    good("HTTP2-Settings is dropped", head("GET / HTTP/1.1", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
                                           "HTTP2-Settings: AAMAAABkAAQAAP__")),
    good("Trailer goes with a chunked body", chunked(b"2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n", "Trailer: X-T"),
         posted(b"hi", "trailer: X-T", trailers=b"x-t: 1\r\n")),
    good("Trailer is dropped without a chunked body",
         head("POST / HTTP/1.1", "Trailer: X-T", "Content-Length: 2") + b"hi", posted(b"hi")),
    good("1.0 closes by default", head("GET / HTTP/1.0"), connection=CLOSED),
    good("1.0 stays with keep-alive", head("GET / HTTP/1.0", "Connection: keep-alive")),
    good("1.0 with a body", head("POST / HTTP/1.0", "Content-Length: 2") + b"hi", posted(b"hi"), connection=CLOSED),
    good("1.0 may come without Host", head("GET / HTTP/1.0", host=None), Seen(host=None), connection=CLOSED),
    refused("an expectation that is not known", head("GET / HTTP/1.1", "Expect: 200-ok"), 417),
    good("Expect in 1.0 is ignored", head("POST / HTTP/1.0", "Expect: 100-continue", "Content-Length: 2") + b"hi", posted(b"hi"),
         connection=CLOSED),
    good("Expect: 100-continue with the body at hand", head("POST / HTTP/1.1", "Expect: 100-continue", "Content-Length: 2") + b"hi",
         posted(b"hi")),
]

CASES = REQUEST_LINES + ABSOLUTE_FORM + HOST + FIELDS + LENGTHS + TRANSFER_ENCODING + CHUNKS + CONNECTION


SOURCES = itertools.count(1)


@pytest.fixture(scope="module")
def gateway():
    with Origin() as origin:
        with Weir(CONFIG, origin=origin.port) as weir:
            weir.origin = origin
            yield weir


@pytest.fixture
def origin(gateway):
    """The module's origin with nothing left of earlier tests."""
    server = gateway.origin
    # Connections are accepted in order: once this request is answered, those of earlier tests have been, too.
    assert fetch(gateway.port("http"), "/barrier").status == 200
    server.settle()
    return server


@pytest.fixture
def source():
    """A client address that no other test uses: what arrives late from an earlier one is told apart by it."""
    number = next(SOURCES)
    return f"127.1.{number >> 8}.{number & 255}"


def requests_from(origin, source):
    return [request for request in list(origin.requests) if request.get("x-forwarded-for") == source]


def is_strictly_chunked(framed, body, trailers):
    at, data = 0, b""
    while found := re.compile(rb"([0-9a-fA-F]{1,16})\r\n").match(framed, at):
        size, at = int(found[1], 16), found.end()
        if size == 0:
            return framed[at:] == trailers + b"\r\n" and data == body
        data += framed[at:at + size]
        at += size
        if framed[at:at + 2] != b"\r\n":
            return False
        at += 2
    return False


def check_seen(request, seen, port):
    assert request.line == seen.line
    assert request.head.count(b"\r\n") == request.head.count(b"\n") == request.head.count(b"\r"), request.head
    own = [name.lower() for name, _ in request.fields if name.lower() in OWN_FIELDS]
    assert len(own) == len(set(own)), own
    fields = [f"{name.lower()}: {value}" for name, value in request.fields if name.lower() not in OWN_FIELDS | FRAMING]
    assert tuple(fields) == seen.fields
    if seen.host is not None:
        assert request.get("host") == seen.host
    else:
        assert len(request.all("host")) == 1, "HTTP/1.1 to the origin needs a Host"
    if seen.body is None:
        assert not request.all("content-length") and not request.all("transfer-encoding")
        assert request.framed == b""
    elif request.all("transfer-encoding"):
        assert request.all("transfer-encoding") == ["chunked"] and not request.all("content-length")
        assert is_strictly_chunked(request.framed, seen.body, seen.trailers), request.framed
    else:
        assert request.get("content-length") == str(len(seen.body))
        assert request.framed == seen.body


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_raw_request(gateway, origin, source, case):
    with Client(gateway.port("http"), source=source) as client:
        client.send(case.raw)
        method = case.raw.lstrip(b"\r\n").split(b" ")[0].decode("latin-1")
        response = client.response(method)
        statuses = case.status if isinstance(case.status, tuple) else (case.status,)
        assert response.status in statuses, response
        assert response.version == "HTTP/1.1"
        if case.connection == CLOSED:
            assert response.get("connection", "").lower() == "close"
            assert client.is_closed()
        seen = requests_from(origin, source)
        if isinstance(case.origin, Seen):
            assert len(seen) == 1, seen
            assert seen[0].is_whole
            check_seen(seen[0], case.origin, gateway.port("http"))
        elif case.origin == NOTHING:
            assert seen == []
        else:
            assert not any(request.is_whole for request in seen), seen
        if case.connection == OPEN:
            assert "close" not in response.get("connection", "").lower()
            client.request("GET", "/again")
            assert client.response().status == 200
            assert [request.target for request in requests_from(origin, source)[1:]] == ["/again"]


def test_the_table_has_at_least_160_cases_with_different_names():
    assert len(CASES) >= 160
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_1_0_request_without_host_reaches_the_target_with_the_targets_own_name(gateway, origin):
    with Client(gateway.port("http")) as client:
        client.send(b"GET /nameless HTTP/1.0\r\n\r\n")
        assert client.response().status == 200
    request = wait_for(lambda: [r for r in origin.requests if r.target == "/nameless"], "the request")[0]
    assert request.get("host") == f"127.0.0.1:{origin.port}"


# --- local answers obey the same framing --------------------------------------------------------------------------
@pytest.mark.parametrize("case", [case for case in CASES if case.connection == CLOSED and case.status == 400][:20],
                         ids=lambda case: case.name)
def test_a_refusal_is_logged_with_its_reason(gateway, source, case):
    with Client(gateway.port("http"), source=source) as client:
        client.send(case.raw)
        assert client.response().status == 400
    entry = gateway.wait_log(lambda entry: entry["client"] == source)[0]
    assert entry["status"] == 400
    assert re.fullmatch(r"[A-Z][A-Z0-9_]+", entry["reason"]), entry


# --- the same requests in any cut ---------------------------------------------------------------------------------
CUT_CASES = [case for case in (REQUEST_LINES[:3] + HOST[:2] + FIELDS[:3] + LENGTHS[:3] + CHUNKS[:10]) if len(case.raw) < 400]


@pytest.mark.parametrize("case", CUT_CASES, ids=lambda case: case.name)
def test_a_request_that_comes_byte_by_byte_is_read_the_same(gateway, origin, source, case):
    with Client(gateway.port("http"), source=source) as client:
        for at in range(len(case.raw)):
            client.send(case.raw[at:at + 1])
            time.sleep(0.0005)  # so that most bytes travel alone; correctness does not depend on it
        method = case.raw.lstrip(b"\r\n").split(b" ")[0].decode("latin-1")
        assert client.response(method).status == case.status
        check_seen(requests_from(origin, source)[0], case.origin, gateway.port("http"))


# --- pipelining and keep-alive ------------------------------------------------------------------------------------
def test_pipelined_requests_are_answered_in_order(gateway, origin):
    origin.answer = lambda exchange: exchange.send(reply(exchange.request.target.encode()))
    try:
        with Client(gateway.port("http")) as client:
            client.send(b"".join(head(f"GET /{i} HTTP/1.1") for i in range(100)))
            assert [client.response().text for _ in range(100)] == [f"/{i}" for i in range(100)]
        assert [request.target for request in origin.requests] == [f"/{i}" for i in range(100)]
    finally:
        origin.answer = reply()


def test_pipelined_bodies_do_not_run_into_each_other(gateway, origin):
    with Client(gateway.port("http")) as client:
        client.send(head("POST /1 HTTP/1.1", "Content-Length: 3") + b"abc" + chunked(b"3\r\ndef\r\n0\r\nX: y\r\n\r\n") +
                    head("HEAD /3 HTTP/1.1") + head("GET /4 HTTP/1.1"))
        assert client.response().status == 200
        assert client.response().status == 200
        assert client.response("HEAD").status == 200
        assert client.response().status == 200
    assert [request.body for request in origin.requests] == [b"abc", b"def", b"", b""]


def test_a_bad_request_in_a_pipeline_is_answered_after_those_before_it(gateway, origin):
    with Client(gateway.port("http")) as client:
        client.send(head("GET /1 HTTP/1.1") + head("GET /2 HTTP/1.1") + b"BAD\r\n\r\n" + head("GET /4 HTTP/1.1"))
        assert [client.response().status for _ in range(3)] == [200, 200, 400]
        assert client.is_closed()
    assert [request.target for request in origin.requests] == ["/1", "/2"]


def test_what_follows_connection_close_is_not_a_request(gateway, origin):
    with Client(gateway.port("http")) as client:
        client.send(head("GET /1 HTTP/1.1", "Connection: close") + head("GET /2 HTTP/1.1"))
        assert client.response().status == 200
        assert client.is_closed()
    assert [request.target for request in origin.requests] == ["/1"]


def test_many_requests_on_one_connection(gateway, origin):
    with Client(gateway.port("http")) as client:
        for i in range(300):
            client.request("GET", f"/{i}")
            assert client.response().status == 200
    assert len(origin.requests) == 300
    assert len({request.connection for request in origin.requests}) == 1, "the upstream connection is reused"


def test_a_client_may_close_its_sending_side_after_the_request(gateway, origin):
    with Client(gateway.port("http")) as client:
        client.request("GET", "/half").half_close()
        assert client.response().status == 200
        assert client.is_closed()


# --- HTTP/1.0 -----------------------------------------------------------------------------------------------------
def test_a_1_0_client_never_gets_chunked(gateway, origin):
    more = []

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        wait_for(lambda: more, "the client's word", 20)
        exchange.send(b"6\r\n world\r\n0\r\n\r\n")

    origin.on("/stream", answer)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/stream", [("Connection", "keep-alive")], version="1.0")
        response = client.head()
        assert not response.all("transfer-encoding") and not response.all("content-length")
        assert response.get("connection") == "close", "without a length only the close can end the body"
        more.append(True)
        assert client.rest() == b"hello world"


def test_a_1_0_client_with_keep_alive_is_told_that_it_stays(gateway, origin):
    with Client(gateway.port("http")) as client:
        for _ in range(3):
            client.request("GET", "/", [("Connection", "Keep-Alive")], version="1.0")
            response = client.response()
            assert response.get("connection").lower() == "keep-alive"


# --- HEAD and bodiless statuses -----------------------------------------------------------------------------------
def test_head_has_the_fields_of_get_and_no_body(gateway, origin):
    origin.on("/h", lambda exchange: exchange.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nX-A: b\r\n\r\n"))
    with Client(gateway.port("http")) as client:
        client.request("HEAD", "/h")
        response = client.response("HEAD")
        assert (response.get("content-length"), response.get("x-a")) == ("12345", "b")
        client.request("HEAD", "/local")
        assert client.response("HEAD").get("content-length") == "6"
        client.request("GET", "/local")
        assert client.response().text == "local\n", "no body byte of the HEAD answers is left on the connection"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_bodiless_statuses_keep_the_connection_in_step(gateway, origin, status):
    origin.on("/none", f"HTTP/1.1 {status}\r\nETag: \"x\"\r\n\r\n".encode())
    with Client(gateway.port("http")) as client:
        for _ in range(3):
            client.request("GET", "/none")
            response = client.response()
            assert response.status == int(status[:3])
            assert not response.all("transfer-encoding")
            assert response.body == b""
            client.request("GET", "/")
            assert client.response().body == b"ok"


# --- chunked in both directions -----------------------------------------------------------------------------------
def test_an_upload_is_re_framed_while_it_comes(gateway, origin):
    """The origin gets the first chunk before the client has sent the last: nothing is buffered whole."""
    first = []
    origin.reads_body = False

    def answer(exchange):
        stream = exchange.stream
        while b"first" not in stream.buffer:
            stream.more()
        first.append(stream.buffer)
        exchange.read_body()
        exchange.send(reply())

    origin.on("/up", answer)
    try:
        with Client(gateway.port("http")) as client:
            client.send(chunked(b"5;x=y\r\nfirst\r\n", line="POST /up HTTP/1.1"))
            wait_for(lambda: first, "the first chunk at the origin")
            client.send(b"6\r\nsecond\r\n0\r\n\r\n")
            assert client.response().status == 200
        assert origin.requests[0].body == b"firstsecond"
        assert b";" not in origin.requests[0].framed
    finally:
        origin.reads_body = True


def test_a_chunked_response_is_re_framed_while_it_comes(gateway, origin):
    more = []

    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nfirst\r\n")
        wait_for(lambda: more, "the client's word", 20)
        exchange.send(b"6\r\nsecond\r\n0\r\nX-T: 1\r\n\r\n")

    origin.on("/down", answer)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/down")
        response = client.head()
        assert response.get("transfer-encoding") == "chunked"
        assert client.until(b"first\r\n") == b"5\r\nfirst\r\n", "the extension is dropped"
        more.append(True)
        assert client.until(b"second\r\n") == b"6\r\nsecond\r\n"
        assert client.until(b"0\r\n") == b"0\r\n"


def test_a_response_that_ends_by_close_becomes_chunked(gateway, origin):
    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\n\r\nuntil the close")
        exchange.close()

    origin.on("/close", answer)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/close")
        response = client.response()
        assert response.body == b"until the close"
        assert response.chunks
        client.request("GET", "/")
        assert client.response().status == 200


# --- Expect: 100-continue -----------------------------------------------------------------------------------------
def test_100_continue_is_sent_when_the_body_is_wanted(gateway, origin):
    with Client(gateway.port("http")) as client:
        client.send(head("POST /up HTTP/1.1", "Content-Length: 5", "Expect: 100-continue"))
        interim = client.head()
        assert interim.status == 100
        client.send(b"hello")
        assert client.response().status == 200
    request = origin.take()
    assert request.body == b"hello"
    assert not request.all("expect"), "the gateway has answered the expectation itself"


def test_100_continue_is_sent_for_a_chunked_body(gateway, origin):
    with Client(gateway.port("http")) as client:
        client.send(head("POST /up HTTP/1.1", "Transfer-Encoding: chunked", "Expect: 100-Continue"))
        assert client.head().status == 100
        client.send(b"5\r\nhello\r\n0\r\n\r\n")
        assert client.response().status == 200
    assert origin.take().body == b"hello"


def test_no_100_continue_when_the_answer_needs_no_body(gateway, origin):
    with Client(gateway.port("http")) as client:
        client.send(head("POST /limited/x HTTP/1.1", "Content-Length: 1000", "Expect: 100-continue"))
        response = client.response()
        assert response.status == 413 and response.interim == []
        assert client.is_closed(), "nobody knows whether the body comes after all"


def test_100_continue_without_a_body_is_not_sent(gateway, origin):
    with Client(gateway.port("http")) as client:
        client.send(head("GET / HTTP/1.1", "Expect: 100-continue"))
        response = client.response()
        assert response.status == 200 and response.interim == []


# --- closing ------------------------------------------------------------------------------------------------------
def test_a_refusal_reaches_a_client_that_is_still_sending(gateway, origin):
    """Lingering close: closing at once would reset the connection and destroy the answer on its way (RFC 9112 9.6)."""
    with Client(gateway.port("http")) as client:
        client.send(head("POST /limited/x HTTP/1.1", "Content-Length: 3000000"))
        try:
            for _ in range(30):
                client.send(b"x" * 100000)
                time.sleep(0.002)
        except ConnectionError:
            pass
        assert client.response().status == 413


def test_a_client_that_reads_nothing_before_it_has_sent_all_gets_the_refusal(gateway):
    """So do http.client, browsers and many others; a slow one has seconds of upload before it."""
    def attempt():
        last = time.monotonic()
        with Client(gateway.port("http")) as client:
            client.send(head("POST /limited/x HTTP/1.1", "Content-Length: 1000000"))
            for _ in range(20):  # for longer than the connection would stay without a byte
                try:
                    client.send(b"x" * 50000)
                except ConnectionError:
                    if time.monotonic() - last < 2:
                        raise
                    raise Disturbed from None
                last = time.monotonic()
                time.sleep(0.3)
            return client.response()
    response = undisturbed(attempt)
    assert (response.status, response.get("connection")) == (413, "close")


def early(exchange):
    pieces = [b"HTTP/1.1 %s X\r\nContent-Length: 2\r\n\r\n" % exchange.request.get("x-status").encode(), b"no"]
    for piece in pieces if exchange.request.get("x-in") == "pieces" else [b"".join(pieces)]:
        exchange.send(piece)
        time.sleep(0.05)
    exchange.close()


@pytest.mark.parametrize("status, pieces", [(200, "one"), (413, "one"), (413, "pieces")])
@pytest.mark.parametrize("body", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_a_target_that_answers_before_a_long_body_ends_the_connection_and_the_client_is_told(gateway, origin, body, status, pieces):
    """Told nothing it would send its next request on a connection that is about to be closed."""
    origin.reads_body = False
    origin.on("/early", early)
    try:
        with Client(gateway.port("http")) as client:
            client.send(head("POST /early HTTP/1.1", body, f"X-Status: {status}", f"X-In: {pieces}") +
                        (b"x" * 1000 if "Length" in body else b"5\r\nhello\r\n"))
            response = client.response()
            assert (response.status, response.body, response.get("connection")) == (status, b"no", "close")
    finally:
        origin.reads_body = True


def test_a_target_that_answers_before_a_short_body_costs_the_client_no_connection(gateway, origin):
    origin.reads_body = False
    origin.on("/early", early)
    try:
        with Client(gateway.port("http")) as client:
            client.send(head("POST /early HTTP/1.1", "Content-Length: 5000", "X-Status: 413", "X-In: one") + b"x" * 1000)
            response = client.response()
            assert (response.status, response.get("connection")) == (413, None)
            client.send(b"x" * 4000 + head("GET /local HTTP/1.1"))
            assert client.response().text == "local\n"
    finally:
        origin.reads_body = True


def test_a_local_answer_reads_a_small_body_and_keeps_the_connection(gateway, origin):
    with Client(gateway.port("http")) as client:
        client.send(head("POST /local HTTP/1.1", "Content-Length: 5") + b"hello")
        assert client.response().text == "local\n"
        client.send(chunked(b"5\r\nhello\r\n0\r\n\r\n", line="POST /local HTTP/1.1"))
        response = client.response()
        assert response.text == "local\n"
        if response.get("connection", "") != "close":
            client.request("GET", "/local")
            assert client.response().text == "local\n"


def test_the_rest_of_an_upload_that_was_answered_early_is_never_a_request(gateway, origin):
    origin.reads_body = False
    origin.on("/early", lambda exchange: (exchange.send(reply(b"no", "403 Forbidden", [("Connection", "close")])),
                                          exchange.close()))
    rest = head("GET /smuggled HTTP/1.1") * 200
    try:
        with Client(gateway.port("http")) as client:
            client.send(head("POST /early HTTP/1.1", "Content-Length: %d" % (1000 + 1000 * len(rest))) + b"x" * 1000)
            response = client.response()
            assert response.status == 403
            try:
                for _ in range(1000):
                    client.send(rest)
            except ConnectionError:
                pass
            assert client.is_closed() or client.is_open()
    finally:
        origin.reads_body = True
    assert all(request.target != "/smuggled" for request in origin.requests)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_the_origin_sees_that_the_client_went_away(gateway, origin, how):
    seen = []
    origin.on("/wait", lambda exchange: (seen.append(exchange.wait_peer_closed(20)), exchange.close()))
    client = Client(gateway.port("http"))
    client.request("GET", "/wait")
    origin.wait(1)
    getattr(client, how)()
    wait_for(lambda: seen, "the origin's verdict", 25)
    assert seen == [True], "the upstream connection is closed at once, not when the origin answers"
    entry = gateway.wait_log(lambda entry: entry["path"] == "/wait" and entry["reason"] == "CLIENT_CLOSED")[0]
    assert entry["status"] in (0, 460, 499), entry


def test_an_upload_cut_short_is_not_taken_for_a_whole_one(gateway, origin):
    client = Client(gateway.port("http"))
    client.send(head("POST /cut HTTP/1.1", "Content-Length: 100") + b"x" * 50)
    wait_for(lambda: origin.requests, "the head at the origin")
    client.close()
    gateway.wait_log(lambda entry: entry["path"] == "/cut")
    client = Client(gateway.port("http"))
    client.send(chunked(b"5\r\nhello\r\n", line="POST /cut2 HTTP/1.1"))
    wait_for(lambda: len(origin.requests) == 2, "the head at the origin")
    client.close()
    gateway.wait_log(lambda entry: entry["path"] == "/cut2")
    assert not any(request.is_whole for request in origin.requests if request.target in ("/cut", "/cut2"))


# --- timeouts -----------------------------------------------------------------------------------------------------
SLOW = """
worker_threads: 1
listeners:
  http: {address: "127.0.0.1:@http@"}
limits: {header_timeout: 400ms, idle_timeout: 700ms, body_timeout: 400ms, send_timeout: 600ms}
target_groups:
  origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
routes: [{name: all, forward: origin}]
"""


@pytest.fixture(scope="module")
def impatient():
    with Origin() as origin:
        with Weir(SLOW, origin=origin.port) as weir:
            weir.origin = origin
            yield weir


def test_a_head_that_does_not_come_is_answered_408(impatient):
    def begin():
        nonlocal began
        began = time.monotonic()
        return Client(impatient.port("http")).send(b"GET / HTTP/1.1\r\nHost: a")
    began = 0
    with at_once(0.3, begin) as client:
        assert client.response().status == 408
        assert time.monotonic() - began > 0.3
        assert client.is_closed()
    assert impatient.wait_log(lambda entry: entry["status"] == 408)[0]["reason"] == "HEADER_TIMEOUT"


def test_a_dripping_head_does_not_extend_its_time(impatient):
    with Client(impatient.port("http")) as client:
        started = time.monotonic()
        try:
            for byte in b"GET / HTTP/1.1\r\nHost: a.example\r\nX-A: " + b"b" * 1000:
                client.send(bytes([byte]))
                time.sleep(0.05)
                if time.monotonic() - started > 20:
                    break
        except ConnectionError:
            pass
        assert time.monotonic() - started < 15
        try:
            assert client.response().status == 408
        except Closed:
            pass  # bytes that crossed the close may have destroyed the answer


def test_an_idle_connection_is_closed_silently(impatient):
    def begin():
        nonlocal began
        began = time.monotonic()
        return Client(impatient.port("http")).request("GET", "/")
    began = 0
    with at_once(0.3, begin) as client:
        assert client.response().status == 200
        assert client.is_closed() and client.buffer == b""
        assert time.monotonic() - began > 0.5


def test_a_connection_without_any_byte_is_closed_silently(impatient):
    with Client(impatient.port("http")) as client:
        assert client.is_closed()
        assert client.buffer == b""


def test_a_body_that_stops_is_answered_408(impatient):
    stuck = head("POST /stuck HTTP/1.1", "Content-Length: 10") + b"12345"
    with at_once(0.3, lambda: Client(impatient.port("http")).send(stuck)) as client:
        assert client.response().status == 408
        assert client.is_closed()
    assert impatient.wait_log(lambda entry: entry["path"] == "/stuck")[0]["reason"] == "BODY_TIMEOUT"


def test_a_slow_body_that_makes_progress_is_taken(impatient):
    def talk():
        longest, before = 0, time.monotonic()
        with Client(impatient.port("http")) as client:
            try:
                client.send(head("POST /slow HTTP/1.1", "Content-Length: 1000"))
                for _ in range(10):  # together longer than body_timeout, each step shorter, and above min_body_rate
                    time.sleep(0.1)
                    began = time.monotonic()
                    client.send(b"x" * 100)
                    longest, before = max(longest, time.monotonic() - before), began
                assert client.response().status == 200
            except (AssertionError, OSError, Closed):
                if max(longest, time.monotonic() - before) > 0.38:
                    raise Disturbed from None
                raise
    undisturbed(talk)


def test_a_client_that_never_reads_is_dropped(impatient):
    size = 50_000_000
    impatient.origin.on("/big", lambda exchange: exchange.send(reply(b"x" * size)))
    with at_once(0.3, lambda: Client(impatient.port("http"), receive_buffer=4096).request("GET", "/big")):
        entry = impatient.wait_log(lambda entry: entry["path"] == "/big", timeout=30)[0]
        assert entry["reason"] == "SEND_TIMEOUT"
        assert entry["bytes_out"] < size


# --- load of many connections -------------------------------------------------------------------------------------
def test_a_thousand_idle_connections_do_not_disturb_others(gateway, origin):
    count = 200 if SANITIZED else 1000
    clients = [Client(gateway.port("http")) for _ in range(count)]
    try:
        for client in clients[::10]:
            client.request("GET", "/local")
            assert client.response().text == "local\n"
        assert fetch(gateway.port("http"), "/local").status == 200
    finally:
        for client in clients:
            client.close()


def test_half_open_and_garbage_connections_leave_nothing_behind(gateway, origin):
    def connections():
        return gateway.metric("weir_connections")

    before = connections()
    for i in range(100):
        client = Client(gateway.port("http"))
        client.send([b"", b"GET", b"GET / HTTP/1.1\r\n", b"\x00\xff" * 20][i % 4])
        client.reset() if i % 2 else client.close()
    wait_for(lambda: connections() <= before, "the connections to be gone")
