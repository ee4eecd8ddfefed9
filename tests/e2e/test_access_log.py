"""Where the access log goes, and what happens when that place is slow, full, rotated or gone. What a line says is in
test_admin.py."""
import json
import os
import signal
import threading
import time

import pytest

from client import Client, fetch
from origin import Origin
from weir import wait_for

TEXT = """
worker_threads: 2
access_log: {path: "@log@"}
listeners: {http: {address: "127.0.0.1:@http@"}}
routes: [{name: all, respond: {status: 200, body: ok}}]
"""


def entries(path):
    """Every line parses, or this raises."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def logged(path):
    try:
        return [entry["path"] for entry in entries(path)]
    except FileNotFoundError:
        return []


@pytest.fixture
def log(tmp_path):
    return tmp_path / "access.log"


def test_lines_go_to_the_file_that_is_named(weir, log):
    gateway = weir(TEXT, log=log)
    fetch(gateway.port("http"), "/one")
    wait_for(lambda: logged(log) == ["/one"], "the line")
    assert gateway.stdout_path.read_bytes() == b""


def test_no_line_is_written_where_the_log_is_off(weir):
    gateway = weir(TEXT.replace('{path: "@log@"}', "false"))
    fetch(gateway.port("http"), "/one")
    assert gateway.terminate() == 0
    assert gateway.stdout_path.read_bytes() == b""


def test_a_restart_appends(weir, log):
    gateway = weir(TEXT, log=log)
    for path in ("/one", "/two"):
        fetch(gateway.port("http"), path)
        gateway.terminate()
        gateway.start()
    assert logged(log) == ["/one", "/two"]


def test_a_line_of_a_quiet_server_appears_within_the_tenth_of_a_second(weir, log):
    gateway = weir(TEXT, log=log)
    for attempt in range(6):  # one is enough, unless the machine is busy
        waits = []
        for i in range(5):
            fetch(gateway.port("http"), f"/{attempt}/{i}")
            started = time.monotonic()
            wait_for(lambda: f"/{attempt}/{i}" in logged(log), "the line")
            waits.append(time.monotonic() - started)
        if sorted(waits)[2] < 0.3:
            return
    raise AssertionError(waits)


@pytest.mark.parametrize("how", ["signal", "reload"])
def test_a_rotated_file_is_opened_anew(weir, log, how):
    gateway = weir(TEXT, log=log)
    fetch(gateway.port("http"), "/before")
    wait_for(lambda: logged(log) == ["/before"], "the first line")
    log.rename(log.with_suffix(".1"))
    if how == "signal":
        gateway.process.send_signal(signal.SIGUSR1)
    else:
        gateway.reload()
    wait_for(log.exists, "the new file")
    fetch(gateway.port("http"), "/after")
    wait_for(lambda: logged(log) == ["/after"], "the second line")
    assert logged(log.with_suffix(".1")) == ["/before"]


def test_a_reload_moves_the_log(weir, log, tmp_path):
    gateway = weir(TEXT, log=log)
    fetch(gateway.port("http"), "/one")
    wait_for(lambda: logged(log) == ["/one"], "the first line")
    gateway.configure(TEXT.replace("@log@", str(tmp_path / "other.log")))
    gateway.reload()
    fetch(gateway.port("http"), "/two")
    wait_for(lambda: logged(tmp_path / "other.log") == ["/two"], "the line in the new file")
    assert logged(log) == ["/one"]


def test_a_log_that_cannot_be_opened_fails_the_start_and_says_where(weir, tmp_path):
    gateway = weir(TEXT, log=tmp_path / "missing" / "access.log", start=False)
    gateway.has_admin = False
    gateway.start()
    gateway.expected_exit = 1
    assert gateway.process.wait(60) == 1
    assert "missing/access.log" in gateway.stderr() and "weir.yaml:" in gateway.stderr()


def test_a_log_that_cannot_be_opened_fails_the_reload_and_the_old_one_goes_on(weir, log, tmp_path):
    gateway = weir(TEXT, log=log)
    gateway.configure(TEXT.replace("@log@", str(tmp_path / "missing" / "access.log")))
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: gateway.metric("weir_config_last_reload_success") == 0, "the failed reload")
    fetch(gateway.port("http"), "/still")
    wait_for(lambda: logged(log) == ["/still"], "the line in the old file")


def test_a_pipe_that_nobody_reads_fails_the_start_and_not_what_is_open(weir, tmp_path, log):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    gateway = weir(TEXT, log=str(pipe), start=False)
    gateway.has_admin = False
    gateway.start()
    gateway.expected_exit = 1
    assert gateway.process.wait(30) == 1
    assert f"cannot open the access log {pipe}: nobody reads this pipe" in gateway.stderr()
    gateway = weir(TEXT, log=log)
    log.unlink()
    os.mkfifo(log)
    gateway.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: f"cannot open {log}: nobody reads this pipe; lines go on into the one that was open" in gateway.stderr(),
             "the complaint")
    assert fetch(gateway.port("http"), "/on").status == 200


def test_a_full_disk_costs_lines_not_requests(weir, tmp_path):
    gateway = weir(TEXT, log="/dev/full")
    began = time.monotonic()
    for i in range(20):
        assert fetch(gateway.port("http"), f"/{i}").status == 200
        wait_for(lambda: gateway.metric("weir_access_log_dropped_total") == i + 1, "a line counted as dropped")
    complaints = gateway.stderr().count("No space left on device; lines lost so far: ")
    assert 1 <= complaints <= 1 + (time.monotonic() - began) / 10, "told at once, then every ten seconds"


@pytest.mark.timeout(120)
def test_that_lines_are_written_again_is_told_with_how_many_were_lost(weir, tmp_path):
    log = tmp_path / "access.log"
    log.symlink_to("/dev/full")
    gateway = weir(TEXT, log=str(log))
    fetch(gateway.port("http"), "/lost")
    wait_for(lambda: "No space left" in gateway.stderr(), "the complaint")
    log.unlink()
    gateway.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: (fetch(gateway.port("http"), "/more"), f"{log} takes lines again; lines lost: " in gateway.stderr())[1],
             "the end of the trouble", 60)


def test_a_limit_of_file_sizes_costs_lines_not_the_gateway(weir, log):
    gateway = weir(TEXT, log=str(log), start=False)
    gateway.prefix = ["prlimit", "--fsize=2000"]
    gateway.start()
    for i in range(40):
        assert fetch(gateway.port("http"), f"/{i}").status == 200
    wait_for(lambda: gateway.metric("weir_access_log_dropped_total") > 0, "lines counted as dropped")
    assert fetch(gateway.port("http"), "/last").status == 200
    wait_for(lambda: "File too large" in gateway.stderr(), "the reason")


class Pipe:
    """The gateway's standard output as a pipe that the test reads when it likes."""

    def __init__(self, gateway):
        os.mkfifo(gateway.stdout_path)
        self.end = os.open(gateway.stdout_path, os.O_RDWR)  # opening a FIFO for writing waits for a reader

    def read(self):
        return os.read(self.end, 1 << 16)

    def close(self):
        os.close(self.end)


@pytest.mark.timeout(120)
@pytest.mark.xdist_group("load")
def test_a_stuck_pipe_never_blocks_requests_and_what_it_misses_is_counted(weir):
    gateway = weir(TEXT.replace("access_log:", "#"), start=False)
    pipe = Pipe(gateway)
    gateway.start()
    agent = [("User-Agent", "x" * 8000)]
    sent = 0
    with Client(gateway.port("http")) as client:
        while sent % 200 or gateway.metric("weir_access_log_dropped_total") == 0:
            client.request("GET", f"/{sent}", agent)
            assert client.response().status == 200
            sent += 1
            assert sent < 20000, "the queue must be bounded"
    assert gateway.rss() < 400 << 20
    got, done = [], threading.Event()

    def drain():
        while not done.is_set():
            got.append(pipe.read())

    thread = threading.Thread(target=drain, daemon=True)
    thread.start()
    expected = sent - gateway.metric("weir_access_log_dropped_total")
    wait_for(lambda: b"".join(got).count(b"\n") >= expected - 300, "the queue to drain", 60)
    fetch(gateway.port("http"), "/last")
    wait_for(lambda: b'"/last"' in b"".join(got[-4:]), "logging to go on", 60)
    done.set()
    gateway.terminate()
    for line in b"".join(got).split(b"\n")[:-1]:
        json.loads(line)


def test_a_reader_that_leaves_costs_lines_not_the_gateway(weir):
    gateway = weir(TEXT.replace("access_log:", "#"), start=False)
    pipe = Pipe(gateway)
    gateway.start()
    fetch(gateway.port("http"), "/one")
    wait_for(lambda: b'"/one"' in pipe.read(), "the first line")
    pipe.close()
    fetch(gateway.port("http"), "/two")
    wait_for(lambda: gateway.metric("weir_access_log_dropped_total") == 1, "the lost line counted")
    assert fetch(gateway.port("http"), "/three").status == 200


def test_a_shutdown_does_not_wait_for_a_stuck_reader(weir):
    gateway = weir(TEXT.replace("access_log:", "#"), start=False)
    pipe = Pipe(gateway)
    gateway.start()
    with Client(gateway.port("http")) as client:
        for i in range(200):
            client.request("GET", f"/{i}", [("User-Agent", "x" * 8000)])
            assert client.response().status == 200
    assert gateway.terminate() == 0, "it would have been killed for being stuck"
    pipe.close()


def test_a_client_that_leaves_is_logged_with_460(weir, log):
    with Origin() as origin:
        hold = threading.Event()
        origin.on("/leaver", lambda exchange: hold.wait(60))
        gateway = weir(f"""
access_log: {{path: "{log}"}}
listeners: {{http: {{address: "127.0.0.1:@http@"}}}}
target_groups: {{origin: {{targets: ["{origin.address}"], health_check: {{enabled: false}}}}}}
routes: [{{name: all, forward: origin}}]
""")
        client = Client(gateway.port("http"))
        client.request("GET", "/leaver")
        wait_for(lambda: origin.requests, "the request at the origin")
        client.reset()
        entry = wait_for(lambda: [e for e in (entries(log) if log.exists() else []) if e["path"] == "/leaver"], "the line")[0]
        hold.set()
    assert (entry["status"], entry["reason"], entry["target"]) == (460, "CLIENT_CLOSED", origin.address)


@pytest.mark.parametrize("head, method, path, query, host, reason", [
    (b"GET /a?b=c HTTP/1.1\r\nHost: x y\r\n\r\n", "GET", "/a", "b=c", None, "BAD_HOST"),
    (b"GET /a HTTP/1.1\r\nHost: One\r\nHost: two\r\n\r\n", "GET", "/a", None, "One", "BAD_HOST"),
    (b'GE(T /"\\\x01\xff HTTP/1.1\r\nHost: a\r\n\r\n', "GE(T", '/"\\\x01\ufffd', None, "a", "BAD_METHOD"),
    (b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", "POST", "/up", None, "a", "BAD_LENGTH"),
    (b"GET /" + b"u" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/" + "u" * 8191, None, None, "URL_TOO_LONG"),
    (b"\x16\x03\x01\x02\x00 \x01\x00\r\n\r\n", None, None, None, None, "BAD_METHOD"),
    (b"nonsense\r\n\r\n", None, None, None, None, "BAD_METHOD"),
])
def test_a_refused_head_is_logged_with_what_it_seemed_to_say(weir, head, method, path, query, host, reason):
    gateway = weir(TEXT.replace('access_log: {path: "@log@"}\n', ""))
    with Client(gateway.port("http")) as client:
        client.send(head)
        client.response()
    entry = gateway.wait_log()[0]
    assert (entry["method"], entry["path"], entry["query"], entry["reason"]) == (method, path, query, reason)
    assert entry["host"] == host or len(head) > 8192  # its Host may not have come yet
    assert entry["route"] is None
    with open(gateway.stdout_path, "rb") as log:
        done = gateway.run("replay", "-", "-c", str(gateway.config_path), stdin=log)
    assert done.returncode == 0 and "1 without a whole request" in done.stdout, "nobody knows the rest of it"


def test_the_client_behind_a_trusted_proxy_is_logged_with_the_proxy_as_peer(weir, log):
    gateway = weir("trusted_proxies: [127.0.0.0/8]\n" + TEXT, log=log)
    fetch(gateway.port("http"), "/", headers=[("X-Forwarded-For", "192.0.2.7")])
    entry = wait_for(lambda: entries(log) if log.exists() else [], "the line")[0]
    assert (entry["client"], entry["peer"], entry["x_forwarded_for"]) == ("192.0.2.7", "127.0.0.1", "192.0.2.7")


@pytest.mark.xdist_group("load")
def test_lines_of_all_threads_stay_whole_under_load(weir, log):
    gateway = weir(TEXT, log=log)

    def ask(name):
        with Client(gateway.port("http")) as client:
            for i in range(300):
                client.request("GET", f"/{name}/{i}", [("User-Agent", name * 50)])
                assert client.response().status == 200

    threads = [threading.Thread(target=ask, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gateway.terminate()
    paths = logged(log)
    for name in "abcdefgh":
        assert [path for path in paths if path.startswith(f"/{name}/")] == [f"/{name}/{i}" for i in range(300)]
