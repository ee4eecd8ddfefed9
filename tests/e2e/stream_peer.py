"""TCP servers for tests of listeners that forward bytes.

    with StreamPeer(echo) as peer: peer.port
    StreamPeer(lambda connection: ...)       # runs in a thread of its own for each connection; closed when it returns
"""
import socket
import ssl
import struct
import threading

from weir import PORTS, wait_for


def reset(connection):
    """Closes with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def echo(connection):
    """Everything back, then the end of it too."""
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def greet(name):
    """Says its name, then echoes: tells targets apart."""
    def serve(connection):
        connection.sendall(name)
        echo(connection)
    return serve


class StreamPeer:
    def __init__(self, serve=echo, port=None, context=None, listen=True):
        self.serve, self.context = serve, context
        self.port = port or PORTS.take()
        self.connections, self.failures = [], []
        self.listener = None
        if listen:
            self.start()

    def start(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(512)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()
        return self

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection):
        try:
            connection.settimeout(60)
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            self.serve(connection)
        except OSError as error:
            self.failures.append(error)
        finally:
            connection.close()

    def wait_connections(self, count):
        wait_for(lambda: len(self.connections) >= count, f"{count} connections at the target")
        return self.connections

    def stop(self):
        """No more connections; those that are there go on."""
        if self.listener is not None:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
        self.listener = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        for connection in self.connections:
            connection.close()


def dial(port, timeout=30, **options):
    connection = socket.create_connection(("127.0.0.1", port), timeout=timeout, **options)
    connection.settimeout(timeout)
    return connection


def exactly(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        assert more, f"ended after {len(data)} of {count} bytes"
        data += more
    return data


def rest(connection):
    data = bytearray()
    while more := connection.recv(1 << 20):
        data += more
    return bytes(data)


def is_reset(connection):
    """True: RST; False: an orderly end."""
    try:
        while connection.recv(65536):
            pass
        return False
    except ConnectionResetError:
        return True


def is_turned_away(port):
    """True: the connection is reset, be it before connect() has returned."""
    try:
        with dial(port) as connection:
            return is_reset(connection)
    except ConnectionResetError:
        return True


def client_hello(name, context=None):
    """The first bytes of a TLS client that asks for a name."""
    context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without a server")
