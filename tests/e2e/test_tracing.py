"""Tracing: W3C trace context in and out, and spans as a real collector gets them."""
import os
import socket
import threading
import time

import pytest

from client import Client, elapsed, fetch
from collector import Collector
from origin import Origin, reply
from weir import CONFIG, SANITIZED, Weir, wait_for

TEXT = """
worker_threads: 2
tracing: {otlp: "http://127.0.0.1:@collector@/v1/traces", sample: 100%%, interval: 20ms, timeout: 60s%s}
listeners: {http: {address: "127.0.0.1:@http@"}}
trusted_proxies: [127.0.0.9]
target_groups:
  origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
  nobody: {targets: ["127.0.0.1:@nobody@"], health_check: {enabled: false}}
  both: {targets: ["127.0.0.1:@nobody@", "127.0.0.1:@origin@"], health_check: {enabled: false}}
routes:
  - {name: refused, match: {path: /refused}, forward: nobody}
  - {name: retried, match: {path: /retried}, forward: both}
  - {name: fixed, match: {path: /fixed}, respond: {status: 200}}
  - {name: rewritten, match: {path: "/rewritten/*"}, rewrite: {path: "^/rewritten/(.*)$", to: "/new/$1"}, forward: origin}
  - {name: all, match: {path: "/o/*"}, forward: origin}
"""


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def collector():
    with Collector() as server:
        yield server


@pytest.fixture(scope="module")
def traced(origin, collector):
    with Weir(TEXT % "", origin=origin.port, collector=collector.port) as gateway:
        yield gateway


def new_parent(flags="01"):
    return f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-{flags}"


def parts(traceparent):
    version, trace_id, parent, flags = traceparent.split("-")
    assert version == "00"
    return trace_id, parent, flags


def ask(gateway, origin, path="/o/x", **options):
    """The answer and what the origin got."""
    origin.requests.clear()
    answer = fetch(gateway.port("http"), path, **options)
    return answer, origin.requests[-1] if origin.requests else None


# --- what a trace looks like ---------------------------------------------------------------------------------------

def test_a_forwarded_request_is_a_server_span_with_a_client_span_in_it(traced, origin, collector):
    before = time.time_ns()
    answer, sent = ask(traced, origin, "/o/a?b=c", headers=[("User-Agent", "agent/1")], host="www.example.com:81")
    assert answer.status == 200
    trace_id, parent, flags = parts(sent.get("traceparent"))
    server, (client,) = collector.trace(trace_id, 2)
    assert flags == "01" and server.parent is None
    assert client.parent == server.id and parent == client.id
    assert before - 10**9 < server.start <= client.start <= client.end <= server.end < time.time_ns() + 10**9
    assert (server.name, client.name) == ("GET all", "GET")
    assert not server.is_error and not client.is_error
    request_id = sent.get("x-request-id")
    peer = server.attributes.pop("network.peer.port")
    assert 0 < peer < 65536
    assert server.attributes == {
        "http.request.method": "GET", "url.scheme": "http", "url.path": "/o/a", "url.query": "b=c",
        "server.address": "www.example.com", "server.port": 81, "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1", "network.protocol.version": "1.1", "user_agent.original": "agent/1",
        "http.request.body.size": 0, "weir.request_id": request_id, "weir.listener": "http", "weir.route": "all",
        "weir.target_group": "origin", "http.response.status_code": 200}
    assert client.attributes == {
        "http.request.method": "GET", "url.full": f"http://127.0.0.1:{origin.port}/o/a?b=c", "server.address": "127.0.0.1",
        "server.port": origin.port, "network.peer.address": "127.0.0.1", "network.peer.port": origin.port,
        "network.protocol.version": "1.1", "http.response.status_code": 200}
    assert collector.resource["service.name"] == "weir" and collector.resource["host.name"] == socket.gethostname()


def test_the_log_and_the_spans_tell_of_the_same_trace(traced, origin, collector):
    _, sent = ask(traced, origin, "/o/logged")
    trace_id = parts(sent.get("traceparent"))[0]
    assert traced.wait_log(lambda entry: entry["path"] == "/o/logged")[0]["trace_id"] == trace_id
    collector.trace(trace_id, 2)


def test_a_local_answer_is_a_server_span_alone(traced, collector):
    parent = new_parent()
    assert fetch(traced.port("http"), "/fixed", headers=[("traceparent", parent)]).status == 200
    server, clients = collector.trace(parts(parent)[0], 1)
    assert not clients and server.attributes["weir.reason"] == "FIXED_RESPONSE" and not server.is_error


def test_times_are_those_of_the_request(traced, origin, collector):
    origin.on("/o/slow", lambda exchange: (time.sleep(0.3), exchange.send(reply(b"late"))))
    (_, sent), seconds = elapsed(lambda: ask(traced, origin, "/o/slow"))
    server, (client,) = collector.trace(parts(sent.get("traceparent"))[0], 2)
    assert 0.28e9 < client.end - client.start <= server.end - server.start < (seconds + 10) * 1e9


def test_every_attempt_is_a_client_span_and_the_target_is_a_child_of_its_own(traced, origin, collector):
    for _ in range(4):  # one of two begins at the target that refuses
        parent = new_parent()
        answer, sent = ask(traced, origin, "/retried", headers=[("traceparent", parent)])
        assert answer.status == 200
        entry = traced.wait_log(lambda entry: entry["trace_id"] == parts(parent)[0])[0]
        server, clients = collector.trace(parts(parent)[0], 1 + entry["attempts"])
        assert parts(sent.get("traceparent"))[1] == clients[-1].id
        assert len({span.id for span in clients}) == len(clients) and all(span.parent == server.id for span in clients)
        if len(clients) == 2:
            first, second = clients
            assert (first.is_error, first.attributes["error.type"]) == (True, "CONNECT_FAILED")
            assert first.attributes["server.port"] == traced.port("nobody") and first.end <= second.start
            assert "http.request.resend_count" not in first.attributes
            assert second.attributes["http.request.resend_count"] == 1 and not second.is_error
            assert not server.is_error
            return
    raise AssertionError("no request was tried twice")


def test_a_failure_is_an_error_with_its_reason(traced, collector):
    parent = new_parent()
    assert fetch(traced.port("http"), "/refused", headers=[("traceparent", parent)]).status == 502
    entry = traced.wait_log(lambda entry: entry["trace_id"] == parts(parent)[0])[0]
    server, clients = collector.trace(parts(parent)[0], 1 + entry["attempts"])
    assert (server.is_error, server.attributes["error.type"], server.attributes["weir.reason"]) == (
        True, "CONNECT_FAILED", "CONNECT_FAILED")
    assert clients and all(span.is_error for span in clients)


def test_an_origins_errors_are_errors_by_the_conventions(traced, origin, collector):
    origin.on("/o/500", reply(b"x", "500 Oops")).on("/o/404", reply(b"x", "404 No"))
    _, sent = ask(traced, origin, "/o/500")
    server, (client,) = collector.trace(parts(sent.get("traceparent"))[0], 2)
    assert server.is_error and client.is_error
    assert server.attributes["error.type"] == client.attributes["error.type"] == "500"
    _, sent = ask(traced, origin, "/o/404")
    server, (client,) = collector.trace(parts(sent.get("traceparent"))[0], 2)
    assert not server.is_error and client.is_error  # the conventions: 4xx is the fault of the client, which weir is here


def test_a_client_that_leaves_ends_its_spans(traced, origin, collector):
    parent, hold = new_parent(), threading.Event()
    origin.on("/o/hold", lambda exchange: hold.wait(60))
    client = Client(traced.port("http"))
    origin.requests.clear()
    client.request("GET", "/o/hold", [("traceparent", parent)])
    wait_for(lambda: origin.requests, "the request at the origin")
    client.reset()
    server, (attempt,) = collector.trace(parts(parent)[0], 2)
    hold.set()
    assert server.attributes["weir.reason"] == "CLIENT_CLOSED"
    assert attempt.is_error and attempt.attributes["error.type"] == "CLIENT_CLOSED"


def test_the_url_of_an_attempt_is_the_rewritten_one(traced, origin, collector):
    _, sent = ask(traced, origin, "/rewritten/a?b=1")
    server, (client,) = collector.trace(parts(sent.get("traceparent"))[0], 2)
    assert server.attributes["url.path"] == "/rewritten/a"
    assert client.attributes["url.full"] == f"http://127.0.0.1:{origin.port}{sent.target}"


def test_secrets_of_signed_urls_stay_out_of_spans(traced, origin, collector):
    query = "a=1&X-Goog-Signature=SECRET&sig=SECRET&signature=kept&Signature=SECRET&AWSAccessKeyId=SECRET&b"
    _, sent = ask(traced, origin, f"/o/signed?{query}")
    assert sent.target.endswith(query)
    server, (client,) = collector.trace(parts(sent.get("traceparent"))[0], 2)
    expected = query.replace("SECRET", "REDACTED")
    assert server.attributes["url.query"] == expected and client.attributes["url.full"].endswith("?" + expected)


@pytest.mark.parametrize("method, shown", [("POST", "POST"), ("BREW", "HTTP")])
def test_names_of_spans_are_few(traced, origin, collector, method, shown):
    _, sent = ask(traced, origin, "/o/x", method=method)
    server, (client,) = collector.trace(parts(sent.get("traceparent"))[0], 2)
    assert (server.name, client.name) == (f"{shown} all", shown)
    assert server.attributes["http.request.method"] == ("POST" if shown == "POST" else "_OTHER")
    assert server.attributes.get("http.request.method_original") == (None if shown == "POST" else "BREW")


def test_any_bytes_leave_the_export_parsable(traced, origin, collector):
    _, sent = ask(traced, origin, "/o/odd", headers=[("User-Agent", "\x80\xff\"\\\tx")])
    server, _ = collector.trace(parts(sent.get("traceparent"))[0], 2)
    assert server.attributes["user_agent.original"] == "\ufffd\ufffd\"\\\tx"


def test_the_client_behind_a_trusted_proxy_is_the_client_of_the_span(traced, collector):
    parent = new_parent()
    fetch(traced.port("http"), "/fixed", headers=[("traceparent", parent), ("X-Forwarded-For", "192.0.2.7")],
          source="127.0.0.9")
    server, _ = collector.trace(parts(parent)[0], 1)
    assert (server.attributes["client.address"], server.attributes["network.peer.address"]) == ("192.0.2.7", "127.0.0.9")


# --- trace context -------------------------------------------------------------------------------------------------

def test_a_callers_trace_goes_on_with_our_span_as_parent(traced, origin, collector):
    parent = new_parent()
    _, sent = ask(traced, origin, headers=[("traceparent", parent), ("tracestate", "vendor=1,other=2")])
    trace_id, span_id, flags = parts(sent.get("traceparent"))
    assert (trace_id, flags) == (parts(parent)[0], "01") and span_id != parts(parent)[1]
    assert sent.get("tracestate") == "vendor=1,other=2"
    server, (client,) = collector.trace(trace_id, 2)
    assert server.parent == parts(parent)[1] and span_id == client.id
    assert server.state == "vendor=1,other=2"


def test_a_trace_that_its_caller_does_not_record_is_not_recorded(traced, origin, collector):
    parent, marker = new_parent("00"), new_parent()
    _, sent = ask(traced, origin, headers=[("traceparent", parent)])
    trace_id, span_id, flags = parts(sent.get("traceparent"))
    assert (trace_id, flags) == (parts(parent)[0], "00") and span_id != parts(parent)[1]
    ask(traced, origin, headers=[("traceparent", marker)])
    collector.trace(parts(marker)[0], 2)
    assert not [span for span in collector.spans if span.trace_id == trace_id]


@pytest.mark.parametrize("bad", ["00-" + "0" * 32 + "-00f067aa0ba902b7-01", "ff-" + "a" * 32 + "-00f067aa0ba902b7-01",
                                 "00-" + "A" * 32 + "-00f067aa0ba902b7-01", "00-" + "a" * 32 + "-" + "0" * 16 + "-01", "x"])
def test_a_bad_traceparent_begins_another_trace_without_the_tracestate(traced, origin, collector, bad):
    _, sent = ask(traced, origin, headers=[("traceparent", bad), ("tracestate", "vendor=1")])
    trace_id, _, flags = parts(sent.get("traceparent"))
    assert trace_id not in bad and flags == "01" and sent.get("tracestate") is None
    assert collector.trace(trace_id, 2)[0].parent is None


def test_a_later_version_is_answered_with_ours(traced, origin, collector):
    later = "01-" + os.urandom(16).hex() + "-00f067aa0ba902b7-09-what-comes-behind"
    _, sent = ask(traced, origin, headers=[("traceparent", later)])
    trace_id, _, flags = parts(sent.get("traceparent"))
    assert (trace_id, flags) == (later[3:35], "01")
    collector.trace(trace_id, 2)


def test_the_ratio_decides_by_the_trace_id_as_other_tracers_do(weir, origin):
    with Collector() as collector:
        gateway = weir(TEXT.replace("100%%", "30%%") % ", parent_based: false", origin=origin.port, collector=collector.port)
        parents = [new_parent(flags) for flags in ("00", "01") for _ in range(60)]
        expected = {parts(parent)[0] for parent in parents if int(parts(parent)[0][18:], 16) < 0.3 * 2**56}
        with Client(gateway.port("http")) as client:
            for parent in parents:
                client.request("GET", "/fixed", [("traceparent", parent)])
                client.response()
        collector.wait(len(expected))
        gateway.terminate()
        assert {span.trace_id for span in collector.spans} == expected


@pytest.mark.parametrize("sample, flags", [("0%%", "00"), ("100%%", "01")])
def test_a_trace_that_begins_here_says_whether_it_is_recorded(weir, origin, collector, sample, flags):
    gateway = weir(TEXT.replace("100%%", sample) % "", origin=origin.port, collector=collector.port)
    _, sent = ask(gateway, origin)
    assert parts(sent.get("traceparent"))[2] == flags


def test_without_tracing_a_traceparent_is_passed_on_as_it_is(weir, origin):
    gateway = weir(TEXT.replace("tracing:", "x:").replace("\nx:", "\n#") % "", origin=origin.port, collector=1)
    parent = new_parent("00")
    _, sent = ask(gateway, origin, headers=[("traceparent", parent), ("tracestate", "a=b")])
    assert (sent.get("traceparent"), sent.get("tracestate")) == (parent, "a=b")


# --- the export ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path, asked", [("", "/v1/traces"), ("/", "/v1/traces"), ("/otlp", "/otlp"), ("/?a=/b", "/?a=/b")])
def test_a_collector_without_a_path_is_asked_at_the_default_one(weir, origin, path, asked):
    with Collector() as collector:
        gateway = weir((TEXT % "").replace("@/v1/traces", "@" + path), origin=origin.port, collector=collector.port)
        ask(gateway, origin)
        collector.wait(2)
        assert collector.requests[0][0] == asked


def test_an_export_carries_the_headers_and_the_name_of_the_configuration(weir, origin):
    with Collector() as collector:
        gateway = weir(TEXT % ', service_name: edge-1, headers: {authorization: "Bearer hunter22"}', origin=origin.port,
                       collector=collector.port)
        ask(gateway, origin)
        collector.wait(2)
        path, fields = collector.requests[0]
        assert path == "/v1/traces" and fields["authorization"] == "Bearer hunter22"
        assert collector.resource["service.name"] == "edge-1"
        assert "hunter22" not in gateway.run("check", CONFIG, "--print").stdout


def test_no_batch_is_larger_than_it_may_be(weir, origin):
    with Collector() as collector:
        gateway = weir(TEXT.replace("20ms", "60s") % ", batch: 10", origin=origin.port, collector=collector.port)
        with Client(gateway.port("http")) as client:
            for _ in range(45):
                client.request("GET", "/fixed")
                client.response()
        collector.wait(40)  # nobody waits for the interval where there is enough for a batch
        wait_for(lambda: gateway.metric("weir_trace_spans_exported_total") >= 40, "40 spans counted")
        assert gateway.metric("weir_trace_spans_dropped_total") == 0
        assert gateway.terminate() == 0
        assert len(collector.wait(45)) == 45 and max(collector.batches) <= 10 and len(collector.batches) < 20


def test_a_collector_that_is_away_costs_a_counter_and_nothing_else(weir, origin):
    gateway = weir(TEXT % ", queue: 16", origin=origin.port)
    gateway.port("collector")
    kept = 32  # at most the queue and the batch in hand
    assert all(ask(gateway, origin)[0].status == 200 for _ in range(100))
    wait_for(lambda: gateway.metric("weir_trace_spans_dropped_total") >= 200 - kept, "the counter")
    wait_for(lambda: "cannot export spans" in gateway.stderr(), "the log line")
    assert gateway.stderr().count("cannot export spans") == 1
    rss = gateway.rss()
    for _ in range(300):
        ask(gateway, origin)
    assert SANITIZED or gateway.rss() - rss < 8 << 20  # a sanitizer keeps what was freed
    wait_for(lambda: gateway.metric("weir_trace_spans_dropped_total") >= 800 - kept, "the counter")
    assert gateway.metric("weir_trace_spans_exported_total") == 0
    with Collector(gateway.port("collector")) as collector:  # it comes
        ask(gateway, origin)
        collector.wait(1, 90)
        wait_for(lambda: "spans are exported again" in gateway.stderr(), "the log line", 90)


def test_a_collector_that_hangs_holds_up_neither_requests_nor_the_shutdown(weir, origin):
    with Collector() as collector:
        collector.hold = threading.Event()
        gateway = weir(TEXT % "", origin=origin.port, collector=collector.port)
        ask(gateway, origin)
        wait_for(lambda: collector.requests, "an export")
        _, seconds = elapsed(lambda: [ask(gateway, origin) for _ in range(50)])
        assert seconds < 60, "no request waits for the export to fail"
        code, seconds = elapsed(gateway.terminate)
        assert code == 0 and seconds < 30, "nor does the end"


def test_what_is_queued_is_sent_before_the_process_ends(weir, origin):
    with Collector() as collector:
        gateway = weir(TEXT.replace("20ms", "60s") % ", batch: 7", origin=origin.port, collector=collector.port)
        for _ in range(3):
            ask(gateway, origin)
        assert not collector.spans
        assert gateway.terminate() == 0
        assert len(collector.wait(6)) == 6


def test_a_collector_that_is_busy_is_asked_again(weir, origin):
    with Collector() as collector:
        collector.answer = lambda number: (503, "", {"Retry-After": 1}) if number == 0 else (200, "{}", {})
        gateway = weir(TEXT % "", origin=origin.port, collector=collector.port)
        ask(gateway, origin)
        collector.wait(2)
        assert len(collector.requests) >= 2
        wait_for(lambda: gateway.metric("weir_trace_spans_exported_total") == 2, "2 spans counted")
        assert gateway.metric("weir_trace_spans_dropped_total") == 0


def test_a_collector_that_refuses_is_not_asked_again(weir, origin):
    with Collector() as collector:
        collector.answer = (400, "no", {})
        gateway = weir(TEXT % "", origin=origin.port, collector=collector.port)
        ask(gateway, origin)
        wait_for(lambda: gateway.metric("weir_trace_spans_dropped_total") == 2, "2 spans dropped")
        wait_for(lambda: "the collector answers 400" in gateway.stderr(), "the log line")
        assert len(collector.requests) in (1, 2)  # the two spans are one record


def test_spans_that_a_collector_rejects_are_counted(weir, origin):
    with Collector() as collector:
        collector.answer = (200, '{"partialSuccess":{"rejectedSpans":"1","errorMessage":"too old"}}', {})
        gateway = weir(TEXT % "", origin=origin.port, collector=collector.port)
        ask(gateway, origin)
        wait_for(lambda: gateway.metric("weir_trace_spans_dropped_total") == 1, "1 span dropped")
        wait_for(lambda: gateway.metric("weir_trace_spans_exported_total") == 1, "the other one counted")


def test_a_reload_turns_tracing_on_moves_it_and_turns_it_off(weir, origin):
    with Collector() as first, Collector() as second:
        off = TEXT.replace("\ntracing:", "\n#") % ""
        gateway = weir(off, origin=origin.port, collector=first.port)
        ask(gateway, origin)
        gateway.configure(TEXT % "")
        gateway.reload()
        ask(gateway, origin)
        first.wait(2)
        gateway.values["collector"] = str(second.port)
        gateway.configure(TEXT % ", service_name: moved")
        gateway.reload()
        ask(gateway, origin)
        second.wait(2)
        assert second.resource["service.name"] == "moved"
        gateway.configure(off)
        gateway.reload()
        parent = new_parent()
        _, sent = ask(gateway, origin, headers=[("traceparent", parent)])
        assert sent.get("traceparent") == parent
        gateway.terminate()
        assert (len(first.spans), len(second.spans)) == (2, 2)
