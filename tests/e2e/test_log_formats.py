"""Formats of the access log other than JSON, routes that are logged differently, and syslog. The JSON line is in
test_admin.py, files and pipes are in test_access_log.py."""
import contextlib
import datetime
import json
import re
import signal
import socket
import ssl
import threading

import pytest

from client import Client, fetch, insecure_context
from h2client import H2Client
from origin import Origin, reply
from weir import CONFIG, SANITIZED, Weir, wait_for

# What users of Athena rely on (spec/alb.md 8.1, from the manual of the service).
ALB = re.compile(
    r'([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*):([0-9]*) ([^ ]*)[:-]([0-9]*) ([-.0-9]*) ([-.0-9]*) ([-.0-9]*) (|[-0-9]*) '
    r'(-|[-0-9]*) ([-0-9]*) ([-0-9]*) "([^ ]*) (.*) (- |[^ ]*)" "([^"]*)" ([A-Z0-9-_]+) ([A-Za-z0-9.-]*) ([^ ]*) '
    r'"([^"]*)" "([^"]*)" "([^"]*)" ([-.0-9]*) ([^ ]*) "([^"]*)" "([^"]*)" "([^ ]*)" "([^\s]+?)" "([^\s]+)" "([^ ]*)" '
    r'"([^ ]*)" ?([^ ]*)? ?( .*)?')
NAMES = ["type", "time", "elb", "client_ip", "client_port", "target_ip", "target_port", "request_processing_time",
         "target_processing_time", "response_processing_time", "elb_status_code", "target_status_code", "received_bytes",
         "sent_bytes", "request_verb", "request_url", "request_proto", "user_agent", "ssl_cipher", "ssl_protocol",
         "target_group_arn", "trace_id", "domain_name", "chosen_cert_arn", "matched_rule_priority",
         "request_creation_time", "actions_executed", "redirect_url", "lambda_error_reason", "target_port_list",
         "target_status_code_list", "classification", "classification_reason", "conn_trace_id", "rest"]
COMBINED = re.compile(r'(?P<client>\S+) - - \[(?P<time>[^]]+)\] "(?P<request>[^"]*)" (?P<status>\d+) (?P<bytes>\d+) '
                      r'"(?P<referer>[^"]*)" "(?P<agent>[^"]*)"')

TEXT = """
worker_threads: 2
access_log: {%s}
listeners:
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: local}}
certificates: {local: {self_signed: [www.example.com]}}
trusted_proxies: [127.0.0.9]
target_groups:
  origin: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
  nobody: {targets: ["127.0.0.1:@nobody@"], health_check: {enabled: false}}
routes:
  - {name: forwarded, match: {path: "/forward/*"}, priority: 17, forward: origin}
  - {name: rewritten, match: {path: "/rewrite/*"}, rewrite: {path: "^/rewrite/(.*)$", to: "/new/$1?x=1", host: other.example}, forward: origin}
  - {name: refused, match: {path: "/refused"}, forward: nobody}
  - {name: moved, match: {path: "/moved"}, redirect: {path: "/to", status: 301}}
  - {name: fixed, match: {path: "/fixed*"}, respond: {status: 200, body: "12345"}}
"""


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        server.answer = reply(b"hello", "201 Created")
        yield server


def lines(gateway):
    return gateway.stdout_path.read_bytes().decode("ascii").split("\n")[:-1]


def line_with(gateway, text, timeout=30):
    """The line of the request whose User-Agent or URL holds the text."""
    return wait_for(lambda: [line for line in lines(gateway) if text in line], f"the line with {text}", timeout)[0]


def alb_entry(gateway, text):
    line = line_with(gateway, text)
    found = ALB.fullmatch(line)
    assert found, line
    entry = dict(zip(NAMES, found.groups()))
    entry["line"] = line
    return entry


@pytest.fixture(scope="module")
def alb(origin):
    with Weir(TEXT % "format: alb, load_balancer: app/edge/1234", origin=origin.port) as gateway:
        yield gateway


def ask(gateway, path, agent, listener="http", **options):
    headers = [("User-Agent", agent), *options.pop("headers", ())]
    return fetch(gateway.port(listener), path, headers=headers, **options)


def test_a_forwarded_request_fills_an_alb_line(alb, origin):
    assert ask(alb, "/forward/a?b=c", "agent-forward", host="www.example.com").status == 201
    entry = alb_entry(alb, "agent-forward")
    sent = origin.requests[-1]
    assert entry["type"] == "http" and entry["elb"] == "app/edge/1234"
    assert (entry["client_ip"], entry["target_ip"], entry["target_port"]) == ("127.0.0.1", "127.0.0.1", str(origin.port))
    assert (entry["elb_status_code"], entry["target_status_code"]) == ("201", "201")
    assert (entry["request_verb"], entry["request_proto"]) == ("GET", "HTTP/1.1")
    assert entry["request_url"] == f"http://www.example.com:{alb.port('http')}/forward/a?b=c"
    assert (entry["target_group_arn"], entry["matched_rule_priority"], entry["actions_executed"]) == ("origin", "17", "forward")
    assert entry["trace_id"] == sent.get("x-amzn-trace-id")
    assert (entry["target_port_list"], entry["target_status_code_list"]) == (f"127.0.0.1:{origin.port}", "201")
    assert (entry["ssl_cipher"], entry["ssl_protocol"], entry["domain_name"], entry["chosen_cert_arn"]) == ("-", "-", "-", "-")
    for name in ("request_processing_time", "target_processing_time", "response_processing_time"):
        assert re.fullmatch(r"\d+\.\d{3}", entry[name]) and float(entry[name]) < 60, entry["line"]
    assert re.fullmatch(r"TID_[0-9a-f]{32}", entry["conn_trace_id"])
    assert entry["line"].endswith(' "-" "-" "-" 127.0.0.1')


def test_times_of_an_alb_line_are_those_of_the_request(alb, origin):
    origin.on("/forward/slow", lambda exchange: (threading.Event().wait(0.3), exchange.send(reply(b"late"))))
    for attempt in range(10):  # the first will do, unless the gateway stands still just then
        ask(alb, "/forward/slow", f"agent-slow-{attempt}.")
        entry = alb_entry(alb, f"agent-slow-{attempt}.")
        assert 0.25 < float(entry["target_processing_time"]) < 60
        begun, ended = (datetime.datetime.strptime(entry[name], "%Y-%m-%dT%H:%M:%S.%fZ")
                        for name in ("request_creation_time", "time"))
        assert 0.25 < (ended - begun).total_seconds() < 60
        assert abs((datetime.datetime.utcnow() - ended).total_seconds()) < 60
        if float(entry["request_processing_time"]) < 0.2 and float(entry["response_processing_time"]) < 0.2:
            break
    assert float(entry["request_processing_time"]) < 0.2 and float(entry["response_processing_time"]) < 0.2
    assert re.search(r"\.\d{6}Z ", entry["line"])


def test_requests_of_one_connection_share_its_id_and_no_other_has_it(alb):
    with Client(alb.port("http")) as client:
        for i in range(2):
            client.request("GET", "/fixed", [("User-Agent", f"agent-conn-{i}")])
            client.response()
    ask(alb, "/fixed", "agent-conn-2")
    ids = [alb_entry(alb, f"agent-conn-{i}")["conn_trace_id"] for i in range(3)]
    assert ids[0] == ids[1] != ids[2]


def test_a_rewrite_is_told_by_an_alb_line(alb):
    ask(alb, "/rewrite/a", "agent-rewrite")
    entry = alb_entry(alb, "agent-rewrite")
    assert entry["actions_executed"] == "rewrite,forward"
    assert entry["line"].endswith(' "other.example" "/new/a?x=1" "TransformSuccess" 127.0.0.1')


def test_a_redirect_is_told_by_an_alb_line(alb):
    answer = ask(alb, "/moved", "agent-moved")
    entry = alb_entry(alb, "agent-moved")
    assert (entry["elb_status_code"], entry["target_status_code"], entry["actions_executed"]) == ("301", "-", "redirect")
    assert entry["redirect_url"] == answer.get("location")
    assert (entry["target_ip"], entry["request_processing_time"], entry["target_processing_time"],
            entry["response_processing_time"]) == ("", "-1", "-1", "-1")
    assert entry["trace_id"].startswith("Root=1-")


def test_a_target_that_refuses_leaves_its_times_open(alb):
    ask(alb, "/refused", "agent-refused")
    entry = alb_entry(alb, "agent-refused")
    assert (entry["elb_status_code"], entry["target_status_code"]) == ("502", "-")
    assert (entry["request_processing_time"], entry["target_processing_time"]) == ("-1", "-1")
    assert entry["lambda_error_reason"] == "CONNECT_FAILED"
    assert (entry["target_ip"], entry["target_port"]) == ("127.0.0.1", str(alb.port("nobody")))


def test_no_route_is_told_by_an_alb_line(alb):
    ask(alb, "/nowhere", "agent-nowhere")
    entry = alb_entry(alb, "agent-nowhere")
    assert (entry["matched_rule_priority"], entry["actions_executed"], entry["lambda_error_reason"]) == ("-", "-", "NO_ROUTE")


def test_tls_fills_its_fields_of_an_alb_line(alb):
    with Client(alb.port("https"), tls="www.example.com") as client:
        client.request("GET", "/fixed", [("User-Agent", "agent-tls")], host="www.example.com")
        client.response()
        cipher, version = client.socket.cipher()[0], client.socket.version()
    entry = alb_entry(alb, "agent-tls")
    assert entry["type"] == "https" and entry["request_url"].startswith("https://www.example.com:")
    assert (entry["ssl_cipher"], entry["ssl_protocol"]) == (cipher, version)
    assert (entry["domain_name"], entry["chosen_cert_arn"]) == ("www.example.com", "local")


def test_a_name_that_no_certificate_is_for_is_no_domain_of_an_alb_line(alb):
    with Client(alb.port("https"), tls="other.example.com") as client:
        client.request("GET", "/fixed", [("User-Agent", "agent-other")], host="www.example.com")
        client.response()
    entry = alb_entry(alb, "agent-other")
    assert (entry["domain_name"], entry["chosen_cert_arn"]) == ("-", "local")


@pytest.mark.parametrize("content, kind", [("application/grpc", "grpcs"), ("application/grpc+proto", "grpcs"), ("text/plain", "h2")])
def test_calls_of_grpc_have_a_type_of_their_own_in_an_alb_line(alb, content, kind):
    agent = "agent-" + content.replace("/", "-").replace("+", "-")
    with H2Client(alb.port("https"), tls="www.example.com") as client:
        assert client.fetch("/fixed", "POST", [("content-type", content), ("user-agent", agent)]).status == 200
    entry = alb_entry(alb, f'"{agent}"')
    assert entry["type"] == kind and entry["domain_name"] == "www.example.com"


@pytest.mark.parametrize("listener, kind", [("http", "ws"), ("https", "wss")])
def test_a_websocket_is_one_alb_line_with_all_its_bytes(alb, origin, listener, kind):
    def switch(exchange):
        exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                      b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n" + b"y" * 3000)
        while len(exchange.stream.buffer) < 2000:
            exchange.stream.more()
        exchange.stream.buffer = b""
        exchange.close()
    origin.on("/forward/" + kind, switch)
    with Client(alb.port(listener), tls="www.example.com" if kind == "wss" else None) as client:
        client.send(f"GET /forward/{kind} HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: agent-{kind}\r\nConnection: upgrade\r\n"
                    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        assert client.response().status == 101
        assert client.exactly(3000) == b"y" * 3000
        assert f"agent-{kind}" not in alb.stdout_path.read_text(), "not before it is over"
        client.send(b"z" * 2000)
        assert client.is_closed(), "the target has"
    entry = alb_entry(alb, f'"agent-{kind}"')
    assert (entry["type"], entry["elb_status_code"], entry["target_status_code"]) == (kind, "101", "101")
    assert int(entry["received_bytes"]) > 2000 and int(entry["sent_bytes"]) > 3000
    assert len([line for line in lines(alb) if f'"agent-{kind}"' in line]) == 1


def test_a_resumed_session_is_told_by_an_alb_line(alb):
    context = insecure_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the session is there when the handshake ends
    with Client(alb.port("https"), tls=(context, "www.example.com")) as client:
        client.request("GET", "/fixed")
        client.response()
        session = client.socket.session
    raw = socket.create_connection(("127.0.0.1", alb.port("https")), 30)
    with context.wrap_socket(raw, server_hostname="www.example.com", session=session) as sock:
        assert sock.session_reused
        sock.sendall(b"GET /fixed HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: agent-resumed\r\n\r\n")
        assert sock.recv(1000)
    assert alb_entry(alb, "agent-resumed")["chosen_cert_arn"] == "session-reused"


def test_a_head_that_cannot_be_read_gives_a_line_all_the_same(alb):
    with Client(alb.port("http")) as client:
        client.send(b"nonsense\r\n\r\n")
        assert client.response().status == 400
    entry = alb_entry(alb, '"- - - "')
    assert (entry["elb_status_code"], entry["request_verb"], entry["request_url"]) == ("400", "-", "- -")


@pytest.mark.parametrize("agent", ['quo"te', "back\\slash", "tab\there", "sp ace", "\xe4\xf6\xfc", '" 200 - "', "\\x22"])
def test_no_byte_of_a_client_breaks_a_line(alb, agent):
    mark = f"agent-odd-{abs(hash(agent))}"
    ask(alb, f"/fixed?{mark}", agent)
    entry = alb_entry(alb, mark)
    shown = "".join(c if " " <= c <= "~" and c not in '"\\' else f"\\x{ord(c):02X}" for c in agent)
    assert entry["user_agent"] == shown
    assert entry["elb_status_code"] == "200"


def test_combined_is_what_apache_writes(weir, origin):
    gateway = weir(TEXT % "format: combined", origin=origin.port)
    ask(gateway, "/fixed?a=b", 'agent "one"', headers=[("Referer", "http://from/")])
    entry = COMBINED.fullmatch(line_with(gateway, "/fixed?a=b"))
    assert entry["client"] == "127.0.0.1" and entry["request"] == "GET /fixed?a=b HTTP/1.1"
    assert (entry["status"], entry["bytes"], entry["referer"]) == ("200", "5", "http://from/")
    assert entry["agent"] == r"agent \x22one\x22"
    when = datetime.datetime.strptime(entry["time"], "%d/%b/%Y:%H:%M:%S %z")
    assert abs((datetime.datetime.now(datetime.timezone.utc) - when).total_seconds()) < 60
    with Client(gateway.port("http")) as client:
        client.send(b"nonsense\r\n\r\n")
        client.response()
    assert COMBINED.fullmatch(line_with(gateway, '"-" 400'))
    ask(gateway, "/fixed?c", "-", source="127.0.0.9", headers=[("X-Forwarded-For", "192.0.2.77")])
    assert COMBINED.fullmatch(line_with(gateway, "/fixed?c"))["client"] == "192.0.2.77"


def test_a_template_says_what_it_is_told_to_say(weir, origin):
    fields = ["method", "scheme", "authority", "host", "path", "query", "status", "reason", "route", "target_group", "target",
              "target_status", "attempts", "body_bytes_out", "client", "local_address", "local_port", "location",
              "request_line", "server_name", "config_generation"]
    template = "|".join(f"${{{field}}}" for field in fields) + " at ${time} [${time_local}] in ${duration_ms}/${upstream_ms}"
    gateway = weir(TEXT % f"format: template, template: '{template}'", origin=origin.port)
    ask(gateway, "/forward/t?q=1", "x", host="WWW.example.com:81")
    line = line_with(gateway, "/forward/t")
    head, tail = line.split(" at ")
    assert dict(zip(fields, head.split("|"))) == {
        "method": "GET", "scheme": "http", "authority": "WWW.example.com:81", "host": "www.example.com",
        "path": "/forward/t", "query": "q=1", "status": "201", "reason": "-", "route": "forwarded",
        "target_group": "origin", "target": f"127.0.0.1:{origin.port}", "target_status": "201", "attempts": "1",
        "body_bytes_out": "5", "client": "127.0.0.1", "local_address": "127.0.0.1",
        "local_port": str(gateway.port("http")), "location": "-", "request_line": "GET /forward/t?q=1 HTTP/1.1",
        "server_name": "-", "config_generation": "1"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] in "
                        r"\d+\.\d{3}/\d+\.\d{3}", tail), tail
    ask(gateway, "/moved", "x")
    moved = line_with(gateway, "/moved")
    assert "|http://example.com:" in moved and moved.endswith("/-")


def test_a_template_may_take_the_environment_and_is_printed_so_that_it_loads_again(weir):
    gateway = weir(TEXT % "format: template, template: '${env:WEIR_TEST_SITE:-here} ${path}'", env={}, origin=1)
    ask(gateway, "/fixed", "x")
    assert line_with(gateway, "/fixed") == "here /fixed"
    printed = gateway.run("check", CONFIG, "--print")
    assert printed.returncode == 0, printed.stderr
    again = gateway.run("check", "--print", "-", input=printed.stdout)
    assert again.returncode == 0, again.stderr
    assert again.stdout == printed.stdout


def test_a_reload_changes_the_format(weir):
    gateway = weir(TEXT % "format: combined", origin=1)
    ask(gateway, "/fixed?one", "x")
    line_with(gateway, "/fixed?one")
    gateway.configure(TEXT % "format: json")
    gateway.reload()
    ask(gateway, "/fixed?two", "x")
    assert json.loads(line_with(gateway, '"two"'))["query"] == "two"


# --- routes --------------------------------------------------------------------------------------------------------

SAMPLED = """
worker_threads: 2
access_log: {enabled: %s}
listeners: {http: {address: "127.0.0.1:@http@"}}
routes:
  - {name: never, match: {path: /never}, access_log: false, respond: {status: 200}}
  - {name: always, match: {path: /always}, access_log: true, respond: {status: 200}}
  - {name: some, match: {path: "/some/*"}, access_log: {sample: 10%%}, respond: {status: 200}}
  - {name: none, match: {path: "/none"}, access_log: {sample: 0%%}, respond: {status: 200}}
  - {name: default, match: {path: "/default"}, respond: {status: 200}}
"""


@pytest.mark.parametrize("enabled, expected", [("true", {"/always", "/default", "/nowhere"}), ("false", {"/always"})])
def test_a_route_says_for_itself_whether_it_is_logged(weir, enabled, expected):
    gateway = weir(SAMPLED % enabled)
    for path in ("/never", "/none", "/default", "/nowhere", "/always"):
        fetch(gateway.port("http"), path)
    gateway.terminate()
    assert {entry["path"] for entry in gateway.access_log()} == expected


def test_a_sample_of_a_route_is_about_its_share(weir):
    gateway = weir(SAMPLED % "true")
    with Client(gateway.port("http")) as client:
        for i in range(2000):
            client.request("GET", f"/some/{i}")
            assert client.response().status == 200
    gateway.terminate()
    assert 100 < len(gateway.access_log()) < 320  # 200 expected; seven standard deviations and more


# --- files ---------------------------------------------------------------------------------------------------------

@pytest.mark.xdist_group("load")
def test_rotation_under_load_loses_no_line_and_cuts_none(weir, tmp_path):
    log = tmp_path / "access.log"
    gateway = weir("worker_threads: 2\naccess_log: {path: '@log@', format: template, template: '${path} ${user_agent}'}\n"
                   'listeners: {http: {address: "127.0.0.1:@http@"}}\nroutes: [{name: all, respond: {status: 200}}]\n', log=log)
    agent, done, sent = "a" * 300, threading.Event(), [0] * 4

    def load(number):
        with Client(gateway.port("http")) as client:
            while not done.is_set():
                client.request("GET", f"/{number}/{sent[number]}", [("User-Agent", agent)])
                assert client.response().status == 200
                sent[number] += 1

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for i in range(5 if SANITIZED else 20):
        wait_for(lambda: log.exists() and log.stat().st_size > 0, "lines in the file")
        log.rename(tmp_path / f"access.log.{i}")
        gateway.process.send_signal(signal.SIGUSR1)
    done.set()
    for thread in threads:
        thread.join()
    gateway.terminate()
    seen = [line for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert sorted(seen) == sorted(f"/{number}/{i} {agent}" for number in range(4) for i in range(sent[number]))
    assert sum(sent) > 100


# --- syslog --------------------------------------------------------------------------------------------------------

RFC5424 = re.compile(rb"<(?P<priority>\d{1,3})>1 (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (?P<host>[!-~]{1,255}) "
                     rb"(?P<app>[!-~]{1,48}) (?P<pid>\d+) (?P<id>[!-~]{1,32}) - (?P<message>.*)", re.S)


@pytest.fixture
def collector():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(30)
        yield sock


def test_each_line_is_a_syslog_message(weir, collector):
    gateway = weir(TEXT % f'syslog: "udp://127.0.0.1:{collector.getsockname()[1]}"', origin=1)
    for i in range(50):
        ask(gateway, f"/fixed?{i}", "x" * i)
    for i in range(50):
        found = RFC5424.fullmatch(collector.recv(65536))
        assert found, i
        assert (found["priority"], found["app"], found["id"]) == (b"134", b"weir", b"access")
        assert found["host"].decode() == socket.gethostname() and int(found["pid"]) in gateway.pids()
        when = datetime.datetime.strptime(found["time"].decode(), "%Y-%m-%dT%H:%M:%S.%fZ")
        assert abs((datetime.datetime.utcnow() - when).total_seconds()) < 60
        entry = json.loads(found["message"])
        assert not found["message"].endswith(b"\n") and entry["status"] == 200
        assert {"query", "user_agent"} <= set(entry)
    assert gateway.stdout_path.read_bytes() == b""


def test_syslog_carries_any_format(weir, collector):
    gateway = weir(TEXT % f'format: alb, syslog: "udp://127.0.0.1:{collector.getsockname()[1]}"', origin=1)
    ask(gateway, "/fixed", "x")
    assert ALB.fullmatch(RFC5424.fullmatch(collector.recv(65536))["message"].decode())


def test_a_syslog_collector_that_is_away_costs_lines_that_are_counted_and_no_request(weir):
    gateway = weir(TEXT % 'syslog: "udp://127.0.0.1:@collector@"', origin=1)

    def dropped():
        assert ask(gateway, "/fixed", "x").status == 200
        return gateway.metric("weir_access_log_dropped_total") >= 5
    wait_for(dropped, "lines counted as dropped")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:  # it comes
        sock.bind(("127.0.0.1", gateway.port("collector")))
        sock.setblocking(False)

        def is_heard():
            ask(gateway, "/fixed?back", "x")
            with contextlib.suppress(BlockingIOError):
                return b'"back"' in sock.recv(65536)
        wait_for(is_heard, "a line")


def test_a_line_that_no_datagram_holds_is_dropped_and_the_next_one_comes(weir, collector):
    gateway = weir(("limits: {header_block: 256KiB}\n" + TEXT) %
                   f'syslog: "udp://127.0.0.1:{collector.getsockname()[1]}"', origin=1)
    huge = [("X-Forwarded-For", "\x80" * 8000), ("Referer", "\x80" * 8000), ("User-Agent", "\x80" * 8000)]
    fetch(gateway.port("http"), "/fixed?huge", headers=huge)
    fetch(gateway.port("http"), "/fixed?small")
    assert json.loads(RFC5424.fullmatch(collector.recv(1 << 17))["message"])["query"] == "small"
    wait_for(lambda: gateway.metric("weir_access_log_dropped_total") == 1, "the line counted")


def test_a_reload_moves_the_log_to_syslog_and_back(weir, collector):
    gateway = weir(TEXT % "enabled: true", origin=1)
    ask(gateway, "/fixed?one", "x")
    line_with(gateway, '"one"')
    gateway.configure(TEXT % f'syslog: "udp://127.0.0.1:{collector.getsockname()[1]}"')
    gateway.reload()
    ask(gateway, "/fixed?two", "x")
    assert b'"two"' in collector.recv(65536)
    gateway.process.send_signal(signal.SIGUSR1)  # nothing to open again
    gateway.configure(TEXT % "enabled: true")
    gateway.reload()
    ask(gateway, "/fixed?three", "x")
    line_with(gateway, '"three"')
    assert '"two"' not in "".join(lines(gateway))
