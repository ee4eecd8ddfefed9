"""A Lambda function in Node behind an Invoke endpoint, as a process of its own (function.cjs)."""
import http.client
import json
import subprocess
from pathlib import Path

from weir import wait_for


class Function:
    def __init__(self):
        self.process = subprocess.Popen(["node", str(Path(__file__).parent / "function.cjs")], stdout=subprocess.PIPE, text=True)
        self.port = json.loads(self.process.stdout.readline())["port"]

    def take(self):
        """The call of the last request; what came before is forgotten."""
        call = wait_for(self.seen, "a call of the function")[-1]
        self.settle()
        return call

    def behave(self, kind, times=1):
        """What becomes of the next invocations (function.cjs)."""
        self._control("PUT", {"kind": kind, "times": times})

    def release(self):
        """Invocations that are held go on."""
        self._control("PUT", {"kind": "fine", "times": 0, "release": True})

    def settle(self):
        """Back to a function that works and has seen nothing."""
        self._control("PUT", {"kind": "fine", "times": 0, "forget": True})

    def open(self):
        """Invocations under way."""
        return self._control("GET", None)["open"]

    def _control(self, method, value):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, "/behave", json.dumps(value))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def seen(self):
        """The calls since settle(), each of which was there before its answer."""
        return self._control("GET", None)["seen"]

    def events(self):
        return [json.loads(call["body"]) for call in self.seen()]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
