"""An HTTP/2 target for tests, on python-h2: scripted per path, with its hands on every frame.

    with H2Origin() as origin:
        origin.on("/slow", lambda exchange: exchange.respond(200, b"late"))
        origin.requests[0].get(":path")

An answer function runs when the request head is here, on a thread of its own; exchange.body() waits for the whole body."""
import queue
import socket
import threading

import h2.config
import h2.connection
import h2.events
import h2.settings

from weir import wait_for


class Exchange:
    def __init__(self, connection, stream_id, headers):
        self.connection, self.stream_id, self.headers = connection, stream_id, headers
        self.pieces, self.trailers, self.reset_code, self.is_whole = queue.Queue(), None, None, False

    def get(self, name, default=None):
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, (name, values)
        return values[0] if values else default

    def body(self, timeout=30):
        data = b""
        while (piece := self.pieces.get(timeout=timeout)) is not None:
            data += piece
        return data

    def piece(self, timeout=30):
        """The next piece of the body, None at its end."""
        return self.pieces.get(timeout=timeout)

    def head(self, status=200, fields=(), end=False):
        self.connection.do(lambda c: c.send_headers(self.stream_id, [(":status", str(status)), *fields], end_stream=end))

    def data(self, data, end=False):
        """Waits for windows."""
        while True:
            with self.connection.lock:
                window = min(self.connection.h2.local_flow_control_window(self.stream_id), 16384)
                part = data[:window]
                if part or not data:
                    self.connection.h2.send_data(self.stream_id, part, end_stream=end and len(part) == len(data))
                    self.connection.flush()
            data = data[len(part):]
            if not data:
                return
            if not part:
                self.connection.opened.wait(0.05)
                self.connection.opened.clear()

    def end_with(self, trailers):
        self.connection.do(lambda c: c.send_headers(self.stream_id, trailers, end_stream=True))

    def respond(self, status=200, body=b"ok", fields=(), trailers=()):
        self.head(status, fields, end=not body and not trailers)
        if body:
            self.data(body, end=not trailers)
        if trailers:
            self.end_with(trailers)

    def reset(self, code=2):
        self.connection.do(lambda c: c.reset_stream(self.stream_id, code))

    def raw(self, frame):
        self.connection.raw(frame)

    def wait_reset(self, timeout=30):
        return wait_for(lambda: self.reset_code is not None and (self.reset_code,), "a reset of the stream", timeout)[0]


class Connection:
    def __init__(self, origin, sock):
        self.origin, self.socket, self.lock = origin, sock, threading.RLock()
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
        self.exchanges, self.opened, self.pings, self.goaway = {}, threading.Event(), 0, None
        self.is_closed = False

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.socket.sendall(data)

    def do(self, action):
        with self.lock:
            action(self.h2)
            self.flush()

    def raw(self, data):
        with self.lock:
            self.flush()
            self.socket.sendall(data)

    def serve(self):
        try:
            with self.lock:
                self.h2.local_settings = h2.settings.Settings(client=False, initial_values=self.origin.settings)
                self.h2.initiate_connection()
                self.flush()
            while data := self.socket.recv(1 << 16):
                with self.lock:
                    for event in self.h2.receive_data(data):
                        self.on_event(event)
                    self.flush()
        except (OSError, h2.exceptions.ProtocolError) as error:
            self.origin.errors.append(str(error))
        finally:
            self.is_closed = True
            self.socket.close()

    def on_event(self, event):
        exchange = self.exchanges.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.RequestReceived):
            exchange = self.exchanges[event.stream_id] = Exchange(self, event.stream_id, event.headers)
            self.origin.requests.append(exchange)
            answer = self.origin.paths.get(exchange.get(":path"), self.origin.answer)
            threading.Thread(target=self.answer, args=(answer, exchange), daemon=True).start()
        elif isinstance(event, h2.events.DataReceived):
            exchange.pieces.put(event.data)
            if self.origin.consumes:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            exchange.trailers = event.headers
        elif isinstance(event, h2.events.StreamEnded):
            exchange.is_whole = True
            exchange.pieces.put(None)
        elif isinstance(event, h2.events.StreamReset):
            exchange.reset_code = event.error_code
            exchange.pieces.put(None)
        elif isinstance(event, h2.events.WindowUpdated):
            self.opened.set()
        elif isinstance(event, h2.events.PingReceived):
            self.pings += 1
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event.error_code

    def answer(self, answer, exchange):
        try:
            answer(exchange)
        except (OSError, h2.exceptions.ProtocolError, queue.Empty) as error:
            self.origin.errors.append(str(error))


class H2Origin:
    def __init__(self, answer=lambda exchange: exchange.respond(), *, settings=None, tls=None, consumes=True, port=0):
        self.answer, self.tls, self.consumes, self.paths = answer, tls, consumes, {}
        self.settings = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100, **(settings or {})}
        self.requests, self.connections, self.errors = [], [], []
        self.listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def on(self, path, answer):
        self.paths[path] = answer
        return self

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        if self.tls is not None:
            try:
                sock = self.tls.wrap_socket(sock, server_side=True)
            except OSError as error:
                self.errors.append(str(error))
                return
        connection = Connection(self, sock)
        self.connections.append(connection)
        connection.serve()

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for connection in self.connections:
            try:
                connection.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
