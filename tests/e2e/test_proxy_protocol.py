"""The PROXY protocol on listeners: who may send it, what it changes, what is refused; with raw bytes and with haproxy as
a real sender."""
import shutil
import socket
import struct
import subprocess
import time

import pytest

from client import Client, insecure_context
from origin import Origin
from weir import PORTS, Weir, wait_for

TEXT = """
worker_threads: 1
trusted_proxies: [203.0.113.0/24]
certificates: {site: {self_signed: [localhost]}}
listeners:
  strict: {address: "127.0.0.1:@strict@", proxy_protocol: {from: 127.0.0.1, timeout: 60s}}
  hurried: {address: "127.0.0.1:@hurried@", proxy_protocol: {from: 127.0.0.1, timeout: 500ms}}
  secure: {address: "127.0.0.1:@secure@", proxy_protocol: 127.0.0.1, tls: {certificates: site}}
  closed: {address: "127.0.0.1:@closed@", proxy_protocol: {from: [127.0.0.1], others: refuse}}
  either: {address: "127.0.0.1:@either@", proxy_protocol: {from: [127.0.0.1], required: false}}
  plain: {address: "127.0.0.1:@plain@"}
target_groups: {origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}}
routes:
  - {name: inside, match: {path: /where, source_ip: 192.0.2.0/24}, respond: {status: 200, body: inside}}
  - {name: outside, match: {path: /where}, respond: {status: 200, body: outside}}
  - {name: port, match: {path: /port}, redirect: {path: "/#{port}"}}
  - {name: all, forward: origin}
"""
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.2 4711 443\r\n"


def tlv(kind, value):
    return bytes([kind]) + struct.pack("!H", len(value)) + value


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def v2(*tlvs, source="192.0.2.7", destination="198.51.100.2", command=0x21, family=None, with_crc=False, block=None):
    kind = socket.AF_INET6 if ":" in source else socket.AF_INET
    if block is None:
        block = socket.inet_pton(kind, source) + socket.inet_pton(kind, destination) + struct.pack("!HH", 4711, 443)
    block += b"".join(tlvs)
    if with_crc:
        block += tlv(3, b"\0\0\0\0")
    header = SIGNATURE + bytes([command, family or (0x21 if ":" in source else 0x11)]) + struct.pack("!H", len(block)) + block
    return header[:-4] + struct.pack("!I", crc32c(header)) if with_crc else header


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(origin):
    with Weir(TEXT, origin=origin.port) as running:
        yield running


def ask(gateway, header, target="/where", listener="strict", **options):
    """The answer to a request behind a header."""
    with Client(gateway.port(listener), **options) as client:
        client.send(header)
        client.request("GET", target)
        return client.response()


def refused(gateway, data, code, listener="strict"):
    before = gateway.metric("weir_connections_refused_total", reason=code)
    try:
        with Client(gateway.port(listener)) as client:
            client.send(data)
            assert client.is_closed()
    except ConnectionError:
        pass
    wait_for(lambda: gateway.metric("weir_connections_refused_total", reason=code) == before + 1, f"{code} counted")


# --- what a header changes -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("header", [V1, v2(), v2(with_crc=True)], ids=["v1", "v2", "v2 with a checksum"])
def test_routes_see_the_client_of_the_header(gateway, header):
    assert ask(gateway, header).text == "inside"
    assert ask(gateway, header.replace(b"192.0.2.7", b"192.0.3.7")).text == "outside" if header is V1 else True


def test_targets_and_the_log_see_the_client_of_the_header(gateway, origin):
    with Client(gateway.port("strict")) as client:
        client.send(v2(tlv(1, b"h2"), tlv(2, b"shop.example"), tlv(5, b"\x01\x02\xff"), tlv(0xEA, b"\x01vpce-08d2bf"),
                       tlv(0x20, b"\x03\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"eve") + tlv(0x23, b"AES")),
                       tlv(0x99, b"whatever"), tlv(4, b""), source="2001:db8::7", destination="2001:db8::2"))
        client.request("GET", "/tlvs", [("X-Forwarded-For", "10.0.0.1")])
        assert client.response().status == 200
    seen = [request for request in origin.requests if request.target == "/tlvs"][-1]
    assert seen.get("x-forwarded-for") == "10.0.0.1, 2001:db8::7"
    assert seen.get("x-forwarded-port") == "443"
    entry = gateway.wait_log(lambda entry: entry["path"] == "/tlvs")[0]
    assert (entry["client"], entry["peer"], entry["client_port"]) == ("2001:db8::7", "2001:db8::7", 4711)
    told = {name: value for name, value in entry.items() if name.startswith("proxy_")}
    assert told == {"proxy_peer": "127.0.0.1", "proxy_alpn": "h2", "proxy_authority": "shop.example",
                    "proxy_unique_id": "0102ff", "proxy_vpc_endpoint": "vpce-08d2bf", "proxy_tls_version": "TLSv1.3",
                    "proxy_tls_cipher": "AES", "proxy_tls_name": "eve"}


def test_redirects_use_the_port_that_the_client_connected_to(gateway):
    assert ask(gateway, V1, "/port").get("location").endswith("/443")


def test_x_forwarded_for_is_believed_when_the_client_of_the_header_is_a_trusted_proxy(gateway):
    with Client(gateway.port("strict")) as client:
        client.send(v2(source="203.0.113.9"))
        client.request("GET", "/behind-two", [("X-Forwarded-For", "198.51.100.77")])
        client.response()
    entry = gateway.wait_log(lambda entry: entry["path"] == "/behind-two")[0]
    assert (entry["client"], entry["peer"], entry["proxy_peer"]) == ("198.51.100.77", "203.0.113.9", "127.0.0.1")


@pytest.mark.parametrize("header", [
    b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", v2(command=0x20), v2(command=0x20, block=b""),
    v2(family=0x31, block=b"\0" * 216), v2(family=0x12)], ids=repr)
def test_without_an_address_the_connection_s_own_stands(gateway, header):
    with Client(gateway.port("strict")) as client:
        port = client.socket.getsockname()[1]
        client.send(header)
        client.request("GET", "/own")
        assert client.response().status == 200
    entry = gateway.wait_log(lambda entry: entry["client_port"] == port)[0]
    assert (entry["client"], entry["peer"], entry["proxy_peer"]) == ("127.0.0.1", "127.0.0.1", "127.0.0.1")


def test_a_header_counts_for_all_requests_of_its_connection_and_only_those(gateway):
    with Client(gateway.port("strict")) as client:
        client.send(V1)
        for _ in range(3):
            client.request("GET", "/where")
            assert client.response().text == "inside"
    with Client(gateway.port("plain")) as client:
        client.request("GET", "/where")
        assert client.response().text == "outside"


# --- TLS behind a header ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("pieces", [1, 7, 4096])
def test_the_header_stands_in_front_of_tls(gateway, pieces):
    header = v2(with_crc=True)
    plain = socket.create_connection(("127.0.0.1", gateway.port("secure")), timeout=10)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(header), pieces):
        plain.sendall(header[at:at + pieces])
    with insecure_context().wrap_socket(plain, server_hostname="localhost") as secure:
        secure.sendall(b"GET /where HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        data = b""
        while part := secure.recv(65536):
            data += part
    assert data.startswith(b"HTTP/1.1 200 ") and data.endswith(b"inside")


def test_header_and_client_hello_may_come_in_one_segment(gateway):
    import ssl
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = insecure_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    plain = socket.create_connection(("127.0.0.1", gateway.port("secure")), timeout=10)
    plain.sendall(V1 + outgoing.read())
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            data = plain.recv(65536)
            assert data, "closed"
            incoming.write(data)
    tls.write(b"GET /where HTTP/1.1\r\nHost: a\r\n\r\n")
    plain.sendall(outgoing.read())
    data = b""
    while not data.endswith(b"inside"):
        got = plain.recv(65536)
        assert got, f"closed after {data}"
        incoming.write(got)
        try:
            while part := tls.read(65536):
                data += part
        except ssl.SSLWantReadError:
            pass
    plain.close()


def test_a_header_inside_tls_is_none(gateway):
    with Client(gateway.port("secure"), timeout=10) as client:
        client.send(V1)
        client.socket = insecure_context().wrap_socket(client.socket, server_hostname="localhost")
        client.send(V1 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.response().status in (400, 505)


# --- who may send one ------------------------------------------------------------------------------------------------
def test_from_networks_that_are_not_listed_a_header_is_a_broken_request(gateway):
    assert ask(gateway, V1, source="127.0.0.2").status in (400, 505)
    assert ask(gateway, b"", source="127.0.0.2").text == "outside"


def test_others_are_refused_where_the_listener_says_so(gateway):
    before = gateway.metric("weir_connections_refused_total", reason="PROXY_NOT_LISTED")
    try:
        with Client(gateway.port("closed"), source="127.0.0.2") as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.is_closed()
    except ConnectionError:
        pass
    wait_for(lambda: gateway.metric("weir_connections_refused_total", reason="PROXY_NOT_LISTED") == before + 1, "counted")
    assert ask(gateway, V1, listener="closed").text == "inside"


def test_a_header_may_be_left_out_where_it_is_not_required(gateway):
    assert ask(gateway, b"", listener="either").text == "outside"
    assert ask(gateway, V1, listener="either").text == "inside"
    refused(gateway, b"PROXY TCP4 garbage\r\n", "PROXY_BAD", "either")


def test_a_required_header_that_is_missing_ends_the_connection(gateway):
    refused(gateway, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY_MISSING")
    refused(gateway, b"\x16\x03\x01\x02\0", "PROXY_MISSING", "secure")


# --- bytes as they come ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("header", [V1, v2(tlv(2, b"a.example"), with_crc=True)], ids=["v1", "v2"])
def test_a_header_may_come_byte_by_byte(gateway, header):
    with Client(gateway.port("strict")) as client:
        for byte in header + b"GET /where HTTP/1.1\r\nHost: a\r\n\r\n":
            client.send(bytes([byte]))
        assert client.response().text == "inside"


def test_header_and_request_may_come_in_one_segment(gateway):
    assert ask(gateway, V1 + b"GET /where HTTP/1.1\r\nHost: a\r\n\r\n").text == "inside"


@pytest.mark.parametrize("data", [
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", b"PROXY TCP4 1.2.3 192.0.2.2 1 2\r\n", b"PROXY " + b"x" * 120,
    v2(tlv(3, b"\1\2\3\4")), SIGNATURE + b"\x31\x11\0\x0c", SIGNATURE + b"\x21\x11\xff\xff", SIGNATURE + b"\x21\x99\0\0",
    v2(b"\1\xff\xffx")], ids=repr)
def test_headers_that_break_a_rule_end_the_connection_at_once(gateway, data):
    refused(gateway, data, "PROXY_BAD")


@pytest.mark.parametrize("data", [b"", b"PROXY TCP4 192.0.2.1", v2()[:20]], ids=["nothing", "half a line", "half a block"])
def test_a_header_that_does_not_come_ends_the_connection(gateway, data):
    refused(gateway, data, "PROXY_TIMEOUT", "hurried")


def test_a_header_one_byte_at_a_time_does_not_extend_its_time(gateway):
    before = gateway.metric("weir_connections_refused_total", reason="PROXY_TIMEOUT")
    began = time.monotonic()
    with Client(gateway.port("hurried")) as client:
        try:
            for byte in b"PROXY UNKNOWN " + b"x" * 80:
                client.send(bytes([byte]))
                time.sleep(0.3)  # what the attacker does, for half a minute if it is let
        except ConnectionError:
            pass
    assert time.monotonic() - began < 20
    wait_for(lambda: gateway.metric("weir_connections_refused_total", reason="PROXY_TIMEOUT") == before + 1, "counted")


def test_clients_that_leave_before_their_header_leave_nothing_behind(gateway):
    for _ in range(50):
        with Client(gateway.port("strict")) as client:
            client.send(b"PROXY TC")
    wait_for(lambda: gateway.metric("weir_connections") == 0, "no connection left")


def test_the_cap_per_address_counts_clients_and_not_the_balancer():
    with Weir(TEXT + "limits: {connections_per_ip: 1}", origin=1) as gateway:
        with Client(gateway.port("strict")) as first, Client(gateway.port("strict")) as second:
            for number, client in enumerate((first, second), 1):
                client.send(v2(source=f"192.0.2.{number}"))
                client.request("GET", "/where")
                assert client.response().text == "inside"
            refused(gateway, v2(source="192.0.2.2") + b"GET /where HTTP/1.1\r\nHost: a\r\n\r\n", "TOO_MANY_FROM_ADDRESS")
        wait_for(lambda: gateway.metric("weir_connections") == 0, "both gone")
        assert ask(gateway, v2(source="192.0.2.2")).text == "inside"


# --- a real sender ---------------------------------------------------------------------------------------------------
@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority"])
def test_haproxy_s_headers_are_understood(gateway, how, tmp_path):
    port = PORTS.take()
    (tmp_path / "haproxy.cfg").write_text(f"""
global
    master-worker no-exit-on-failure
defaults
    mode tcp
    timeout connect 30s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:{port}
    unique-id-format %{{+X}}o%ci-%cp
    default_backend weir
backend weir
    option tcp-check
    server one 127.0.0.1:{gateway.port("strict")} {how} check inter 200ms
""".replace("    master-worker no-exit-on-failure\n", ""))
    proxy = subprocess.Popen(["haproxy", "-db", "-f", tmp_path / "haproxy.cfg"], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        def answered():
            try:
                with Client(port, source="127.0.0.5") as client:
                    client.request("GET", "/by-haproxy")
                    response = client.response()
                    return client.socket.getsockname()[1] if response.status == 200 else None
            except Exception:  # not listening yet
                return None
        client_port = wait_for(answered, "an answer through haproxy", 30)
        entry = gateway.wait_log(lambda entry: entry["client_port"] == client_port and entry["path"] == "/by-haproxy")[0]
        assert (entry["client"], entry["peer"], entry["proxy_peer"]) == ("127.0.0.5", "127.0.0.5", "127.0.0.1")
        if "unique-id" in how:
            assert entry["proxy_unique_id"]
    finally:
        proxy.terminate()
        proxy.wait(10)
