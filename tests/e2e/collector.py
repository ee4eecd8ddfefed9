"""A collector of traces: takes OTLP over HTTP in JSON (OpenTelemetry protocol 1.x) and is strict about it."""
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from weir import wait_for

KINDS = {2: "server", 3: "client"}


def check_value(value):
    assert isinstance(value, dict) and len(value) == 1, value
    (kind, content), = value.items()
    if kind == "stringValue":
        assert isinstance(content, str)
        return content
    assert kind == "intValue", value  # 64 bits: a text in protobuf's JSON
    assert isinstance(content, str) and re.fullmatch(r"-?\d+", content), value
    return int(content)


def check_attributes(attributes):
    found = {}
    for attribute in attributes:
        assert set(attribute) == {"key", "value"}, attribute
        assert attribute["key"] not in found, attribute
        found[attribute["key"]] = check_value(attribute["value"])
    return found


class Span:
    def __init__(self, span):
        known = {"traceId", "spanId", "parentSpanId", "traceState", "name", "kind", "startTimeUnixNano", "endTimeUnixNano",
                 "attributes", "status"}
        assert set(span) <= known, span
        self.trace_id, self.id, self.parent = span["traceId"], span["spanId"], span.get("parentSpanId")
        assert re.fullmatch("[0-9a-f]{32}", self.trace_id) and self.trace_id != "0" * 32
        assert re.fullmatch("[0-9a-f]{16}", self.id) and self.id != "0" * 16
        assert self.parent is None or re.fullmatch("[0-9a-f]{16}", self.parent)
        self.state = span.get("traceState")
        self.name, self.kind = span["name"], KINDS[span["kind"]]
        for name in ("startTimeUnixNano", "endTimeUnixNano"):
            assert isinstance(span[name], str) and re.fullmatch(r"\d{19}", span[name]), span
        self.start, self.end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
        assert self.start <= self.end
        self.attributes = check_attributes(span["attributes"])
        assert span["status"] in ({}, {"code": 2}), span
        self.is_error = span["status"] != {}

    def __repr__(self):
        return f"<{self.kind} {self.name} {self.attributes}>"


class Collector:
    def __init__(self, port=0):
        self.spans, self.batches, self.requests, self.problems = [], [], [], []
        self.answer = (200, "{}", {})  # or a function of the number of the request, from 0
        self.hold = None               # an Event that answers wait for
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                number = len(outer.requests)
                outer.requests.append((self.path, dict(self.headers.items())))
                if outer.hold:
                    outer.hold.wait(300)
                status, text, fields = outer.answer(number) if callable(outer.answer) else outer.answer
                if status == 200:
                    outer.take(self.headers, body)
                try:
                    self.send_response(status)
                    for name, value in {"Content-Type": "application/json", "Content-Length": len(text), **fields}.items():
                        self.send_header(name, str(value))
                    self.end_headers()
                    self.wfile.write(text.encode())
                except OSError:
                    pass

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):  # connections that the gateway breaks off
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def take(self, headers, body):
        try:
            assert headers["Content-Type"] == "application/json"
            message = json.loads(body)
            assert set(message) == {"resourceSpans"} and len(message["resourceSpans"]) == 1
            resource = message["resourceSpans"][0]
            assert set(resource) == {"resource", "scopeSpans"} and len(resource["scopeSpans"]) == 1
            scope = resource["scopeSpans"][0]
            assert set(scope) == {"scope", "spans"} and scope["scope"]["name"] == "weir"
            self.resource = check_attributes(resource["resource"]["attributes"])
            spans = [Span(span) for span in scope["spans"]]
            assert spans
            self.batches.append(len(spans))
            self.spans += spans
        except (AssertionError, KeyError, ValueError, TypeError) as problem:
            self.problems.append((repr(problem), body[:2000]))

    def wait(self, count, timeout=30):
        wait_for(lambda: len(self.spans) >= count or self.problems, f"{count} spans, have {self.spans}", timeout)
        assert not self.problems, self.problems
        return self.spans

    def trace(self, trace_id, count):
        """(server span, client spans in order of time) of one trace, when count spans are there."""
        wait_for(lambda: sum(span.trace_id == trace_id for span in self.spans) >= count or self.problems,
                 f"{count} spans of {trace_id}, have {self.spans}")
        assert not self.problems, self.problems
        spans = [span for span in self.spans if span.trace_id == trace_id]
        servers = [span for span in spans if span.kind == "server"]
        assert len(servers) == 1 and len(spans) == count, spans
        return servers[0], sorted((span for span in spans if span.kind == "client"), key=lambda span: span.start)

    def close(self):
        if self.hold:
            self.hold.set()
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
