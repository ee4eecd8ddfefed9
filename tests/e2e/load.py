"""Steady load from keep-alive clients that notice everything: a failed request, a wrong answer, a connection closed
although nobody said so."""
import threading
import time

from client import Client, Closed
from weir import wait_for


class Load:
    """
    with Load(port, [("GET", "/", None, check)], connections=8) as load:
        ...
    load.requests, load.failures

    Each client takes the wishes in turn. A wish is (method, target, body, check); check(response) returns an error text
    or None. A client that is told `Connection: close` counts in .told_to_close and opens a new connection, unless
    stops_when_told. A connection that ends without that word is a failure, unless it may have been idle for nearly as
    long as a gateway waits that drains: it may close those, and the request is sent again on a new one. How long it was
    idle for the gateway only the gateway knows; at most since the request before was sent. With stops_when_told it counts
    in .let_go instead, as the gateway may be about to end.
    """
    IDLE = 0.4

    def __init__(self, port, wishes, connections=8, stops_when_told=False, pause=0.0, **client):
        self.port, self.wishes, self.stops_when_told, self.pause, self.client = port, wishes, stops_when_told, pause, client
        self.failures, self.told_to_close, self.let_go, self.opened = [], 0, 0, 0
        self.latest = [0.0] * connections
        self.counts = [0] * connections
        self.seconds = [0.0] * connections  # the longest answer of each client
        self.lock = threading.Lock()
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(connections)]

    @property
    def requests(self):
        return sum(self.counts)

    def _run(self, number):
        connection, at, idle_since = None, number, 0.0
        while not self.is_over.is_set():
            method, target, body, check = self.wishes[at % len(self.wishes)]
            at += 1
            try:
                if connection is None:
                    idle_since = time.monotonic()
                    connection = Client(self.port, **self.client)
                    with self.lock:
                        self.opened += 1
                started = time.monotonic()
                sent = None
                try:
                    connection.request(method, target, body=body)
                    sent = time.monotonic()
                    response = connection.response(method)
                except (Closed, ConnectionError) as error:
                    idle = (sent or time.monotonic()) - idle_since
                    if idle < self.IDLE or (isinstance(error, Closed) and "b''" not in str(error)):
                        raise
                    if self.stops_when_told:
                        with self.lock:
                            self.let_go += 1
                        return
                    connection, at = None, at - 1
                    continue
                idle_since = sent
                self.seconds[number] = max(self.seconds[number], time.monotonic() - started)
                error = check(response) if check else (None if response.status == 200 else f"status {response.status}")
                if error:
                    self._fail(f"{method} {target}: {error}: {response}")
                self.counts[number] += 1
                if response.get("connection", "").lower() == "close":
                    with self.lock:
                        self.told_to_close += 1
                    connection.close()
                    connection = None
                    if self.stops_when_told:
                        return
            except (Closed, OSError, AssertionError) as error:
                self._fail(f"{method} {target}: {type(error).__name__} {error}")
                connection = None
                time.sleep(0.05)
            if self.pause:
                time.sleep(self.pause)
        if connection is not None:
            connection.close()

    def _fail(self, text):
        with self.lock:
            self.failures.append(text)

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def wait_requests(self, more, timeout=60):
        """Until so many further requests were answered."""
        goal, deadline = self.requests + more, time.monotonic() + timeout
        while self.requests < goal:
            assert time.monotonic() < deadline, f"only {self.requests} of {goal} requests; {self.failures[:3]}"
            time.sleep(0.005)

    def wait_turn(self, timeout=30):
        """Until every client was answered once more: what they ask for after that was asked for after the call."""
        before = list(self.counts)
        wait_for(lambda: all(now > then for now, then in zip(self.counts, before)), f"every client's next answer; {self.failures[:3]}", timeout)

    def wait_ended(self, timeout=60):
        """Until every client has stopped by itself."""
        for thread in self.threads:
            thread.join(timeout)
            assert not thread.is_alive()

    def stop(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join(60)

    def check(self):
        assert not self.failures, f"{len(self.failures)} of {self.requests} failed: {self.failures[:5]}"

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
