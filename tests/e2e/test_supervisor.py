"""The supervisor: a worker that dies is replaced on the same sockets, signals and privileges are handled, systemd and containers
find what they expect."""
import ctypes
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from client import Client, Closed, elapsed, fetch
from load import Load
from weir import BINARY, PORTS, SANITIZED, Weir, freeze, wait_for

IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")

CONFIG = """
worker_threads: 2
listeners: {{http: {{address: "127.0.0.1:@http@"}}}}
shutdown_timeout: 30s
routes: [{{name: all, respond: {{status: 200, body: "{body}"}}}}]
{more}
"""


def config(body="hello", more=""):
    return CONFIG.format(body=body, more=more)


def kill_worker(gateway, sig=signal.SIGKILL):
    """Kills the worker that serves; returns its pid and when it was."""
    pid = gateway.worker()
    os.kill(pid, sig)
    return pid, time.monotonic()


def wait_new_worker(gateway, old, timeout=60):
    def found():
        try:
            pid = gateway.worker()
        except OSError:
            return None
        return pid if pid != old else None
    return wait_for(found, f"another worker than {old}; stderr: {gateway.stderr()}", timeout)


def children(pid):
    return [int(child) for task in os.listdir(f"/proc/{pid}/task")
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]


def name_of(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=30).close()
        return False
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it was just being closed
        return False


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Visitors:
    """One connection for each request, as fast as they come. Knows the refused ones from those that a dying worker took with it."""

    def __init__(self, port, count=4):
        self.port, self.refused, self.cut, self.wrong, self.answered = port, 0, 0, 0, 0
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        self.answers = []  # (opened, answered) of the last ones
        self.lock = threading.Lock()

    def _run(self):
        while not self.is_over.is_set():
            opened = time.monotonic()
            try:
                with Client(self.port, timeout=60) as client:
                    client.request("GET", "/", [("Connection", "close")])
                    status = client.response().status
                if status != 200:
                    self.wrong += 1
                    continue
                with self.lock:
                    self.answered += 1
                    self.answers.append((opened, time.monotonic()))
            except ConnectionRefusedError:
                self.refused += 1
            except (Closed, OSError):
                self.cut += 1

    def first_answer_after(self, at):
        """Seconds until a connection that was opened after that moment had its answer."""
        def found():
            with self.lock:
                done = [answered for opened, answered in self.answers if opened >= at]
            return min(done) if done else None
        return wait_for(found, "an answer") - at

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join(60)


# --- a worker that dies -----------------------------------------------------------------------------------------------
@pytest.mark.xdist_group("load")
@pytest.mark.timeout(120)
def test_20_killed_workers_refuse_no_connection_and_are_back_within_200_ms():
    kills = 5 if SANITIZED else 20
    with Weir(config()) as gateway:
        gateway.may_die = True
        seconds = []
        with Visitors(gateway.port("http")) as visitors:
            for _ in range(kills):
                wait_for(lambda: visitors.answered > 0, "an answer")
                served = time.monotonic()
                # a worker that lives for a second is no crash loop
                wait_for(lambda: time.monotonic() - served > 1.1, "a second of life")
                pid, at = kill_worker(gateway)
                seconds.append(visitors.first_answer_after(at))
                wait_new_worker(gateway, pid)
        assert (visitors.refused, visitors.wrong) == (0, 0)
        assert visitors.cut <= kills * 8, "only what a dying worker had in its hands is lost"
        assert gateway.metric("weir_worker_restarts_total") == kills
        assert gateway.stderr().count("was killed by signal 9 (Killed)") == kills
        assert gateway.stderr().count("another is started at once") == kills
        # 10 ms on a machine that does nothing else; the slower ones measure its other work (make bench-long has all)
        start = min(elapsed(lambda: gateway.run("check", str(gateway.config_path)))[1] for _ in range(5))
        assert sorted(seconds)[kills // 10] < max(0.2, 5 * start), (start, sorted(seconds))


def test_a_connection_that_waits_while_the_worker_dies_is_served_by_the_next(weir):
    gateway = weir(config())
    gateway.may_die = True
    pid = gateway.worker()
    freeze(pid)
    clients = [Client(gateway.port("http")) for _ in range(20)]
    for client in clients:
        client.request("GET", "/")
    os.kill(pid, signal.SIGKILL)
    for client in clients:
        assert client.response().text == "hello"
        client.close()
    assert re.search(rf"error supervisor: worker {pid} died: it was killed by signal 9 \(Killed\) after [\d.]+ s; "
                     "another is started at once", gateway.stderr())


def test_workers_that_die_young_are_started_ever_more_slowly(weir):
    gateway = weir(config())
    gateway.may_die = True

    def newest(not_this):
        found = [pid for pid in gateway.workers() if pid != gateway.process.pid and pid != not_this]
        return found[0] if found else None

    pid = gateway.worker()
    for _ in range(100):  # five are enough, unless one lives for a second because this process stands still
        os.kill(pid, signal.SIGKILL)
        pid = wait_for(lambda: newest(pid), "another worker")
        if "in 800 ms" in gateway.stderr():
            break
    wait_new_worker(gateway, 0)
    deaths = re.findall(r"after ([\d.]+) s; another is started (at once|in \d+ ms)", gateway.stderr())
    delay = 0
    for seconds, when in deaths:
        delay = 0 if float(seconds) >= 1 else delay
        assert when == ("at once" if delay == 0 else f"in {delay} ms"), deaths
        delay = 2 * delay or 100
    assert deaths[-1][1] == "in 800 ms", deaths
    assert fetch(gateway.port("http")).text == "hello"


def test_a_crash_is_named_by_its_signal(weir):
    gateway = weir(config())
    gateway.may_die = True
    pid, _ = kill_worker(gateway, signal.SIGSEGV if not SANITIZED else signal.SIGKILL)
    wait_new_worker(gateway, pid)
    assert "was killed by signal" in gateway.stderr()
    assert json.loads(gateway.admin("/status")[1])["supervisor"]["worker_restarts"] == 1


def test_after_a_crash_a_broken_file_does_not_matter(weir, tmp_path):
    gateway = weir(config(more="include: extra.yaml") + "\ncertificates: {site: {self_signed: [localhost]}}",
                   files={"extra.yaml": "target_groups: {spare: {targets: '127.0.0.1:1'}}\n"})
    gateway.may_die = True
    generation = gateway.generation()
    gateway.config_path.write_text("routes: [")
    gateway.write("extra.yaml", "nonsense: 1")
    pid, _ = kill_worker(gateway)
    pid = wait_new_worker(gateway, pid)
    assert fetch(gateway.port("http")).text == "hello"
    assert "the one that served before is used until a reload succeeds" in gateway.stderr()
    assert gateway.metric("weir_config_last_reload_success") == 0, "what serves is not what the file says"
    assert gateway.generation() > generation
    kill_worker(gateway)  # and once more: what was kept is still kept
    wait_new_worker(gateway, pid)
    assert fetch(gateway.port("http")).text == "hello"
    gateway.configure(config("mended"))
    gateway.reload()
    assert fetch(gateway.port("http")).text == "mended"
    assert gateway.metric("weir_config_last_reload_success") == 1


def test_after_a_crash_the_files_of_the_last_good_reload_serve(weir):
    gateway = weir(config("one"))
    gateway.may_die = True
    gateway.configure(config("two"))
    gateway.reload()
    gateway.config_path.unlink()
    pid, _ = kill_worker(gateway)
    wait_new_worker(gateway, pid)
    assert fetch(gateway.port("http")).text == "two"


def test_after_a_crash_a_taken_admin_path_does_not_matter(weir):
    gateway = weir(config())
    gateway.may_die = True
    pid = gateway.worker()
    os.unlink(gateway.admin_socket)
    Path(gateway.admin_socket).write_text("mine")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: "a file that is no socket is in its place" in gateway.stderr(), "the error")
    assert fetch(gateway.port("http")).text == "hello"
    assert Path(gateway.admin_socket).read_text() == "mine"
    os.unlink(gateway.admin_socket)
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(gateway.is_ready, "the admin socket")


def test_after_a_crash_a_log_that_cannot_be_opened_does_not_matter(weir):
    gateway = weir(config(more='access_log: {path: "@tmp@/logs/access.log"}'), files={"logs/keep": ""})
    gateway.may_die = True
    shutil.rmtree(gateway.folder / "logs")
    pid, _ = kill_worker(gateway)
    wait_new_worker(gateway, pid)
    assert fetch(gateway.port("http")).text == "hello"
    assert "cannot open the access log" in gateway.stderr()


def test_tls_sessions_are_resumed_after_a_crash(weir):
    import ssl
    gateway = weir(config(more="certificates: {site: {self_signed: [localhost]}}").replace(
        'address: "127.0.0.1:@http@"', 'address: "127.0.0.1:@http@", tls: {certificates: site}'))
    gateway.may_die = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the session is there when the handshake ends

    def visit(session):
        plain = socket.create_connection(("127.0.0.1", gateway.port("http")), timeout=30)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
            return tls.session, tls.session_reused

    session, _ = visit(None)
    pid, _ = kill_worker(gateway)
    wait_new_worker(gateway, pid)
    assert visit(session)[1], "the new worker has the keys of the old"


def test_the_first_worker_says_what_is_wrong_and_that_is_the_end(weir):
    gateway = weir(config(), start=False)
    gateway.config_path.write_text("listeners: {http: {address: nowhere}}\n")
    done = gateway.run("run", "-c", str(gateway.config_path))
    assert done.returncode == 1
    assert done.stderr.count("weir.yaml:1:29") == 1, done.stderr
    assert "supervisor" not in done.stderr


def test_a_taken_port_is_said_with_its_line(weir):
    with socket.create_server(("127.0.0.1", 0)) as other:
        gateway = weir(config(), start=False, http=other.getsockname()[1])
        done = gateway.run("run", "-c", str(gateway.config_path))
    assert done.returncode == 1
    assert re.search(r"weir.yaml:3:\d+: cannot listen on 127.0.0.1:\d+: Address already in use", done.stderr)


def test_a_configuration_from_standard_input_outlives_a_worker(weir):
    gateway = weir(config(), start=False)
    gateway.may_die = True
    text = gateway.config_path.read_bytes()
    with open(gateway.stderr_path, "ab") as stderr:
        gateway.process = subprocess.Popen([gateway.binary, "run", "-c", "-"], env=gateway.env, stdin=subprocess.PIPE,
                                           stdout=subprocess.DEVNULL, stderr=stderr)
    gateway.process.stdin.write(text)
    gateway.process.stdin.close()
    wait_for(gateway.is_ready, "ready")
    pid, _ = kill_worker(gateway)
    wait_new_worker(gateway, pid)
    assert fetch(gateway.port("http")).text == "hello"
    gateway.reload()


# --- a worker that hangs ----------------------------------------------------------------------------------------------
class StoppedThread:
    """One thread stands still as in a loop without end, the others go on. Whoever stops it must see it end, too."""
    SEIZE, INTERRUPT, CONT, WALL = 0x4206, 0x4207, 7, 0x40000000

    def __init__(self, tid):
        self.tid, self.libc = tid, ctypes.CDLL(None, use_errno=True)
        if self._ptrace(self.SEIZE) != 0:
            pytest.skip(f"this machine does not let us trace: {os.strerror(ctypes.get_errno())}")
        assert self._ptrace(self.INTERRUPT) == 0
        os.waitpid(tid, self.WALL)

    def _ptrace(self, request):
        return self.libc.ptrace(request, self.tid, None, None)

    def wait_end(self):
        while not os.WIFSIGNALED(os.waitpid(self.tid, self.WALL)[1]):
            self._ptrace(self.CONT)  # it is on its way out


def loop_thread(pid, number):
    return next(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()
                if (task / "comm").read_text() == f"weir-loop-{number}\n")


def test_a_worker_of_which_one_thread_hangs_is_replaced(weir):
    gateway = weir(config(more="watchdog_timeout: 3s"))
    gateway.may_die = True
    for _ in range(5):  # one is enough, unless this process stands still: the stopped thread ends with its help or is killed
        pid = gateway.worker()
        stopped = StoppedThread(loop_thread(pid, 1))
        wait_for(lambda: f"worker {pid} hangs" in gateway.stderr(), "the worker to be missed")
        stopped.wait_end()
        assert wait_new_worker(gateway, pid) != pid
        assert re.search(r"warning process: thread 1 has not turned for a second", gateway.stderr())
        assert re.search(rf"error supervisor: worker {pid} hangs: no sign of life for \d+ s; killing it \(watchdog_timeout\)",
                         gateway.stderr())
        for _ in range(20):
            assert fetch(gateway.port("http")).text == "hello"
        if f"worker {pid} died: it was killed by signal 6 (Aborted)" in gateway.stderr():
            return
    raise AssertionError(gateway.stderr())


def test_a_worker_that_hangs_as_a_whole_is_replaced(weir):
    gateway = weir(config(more="watchdog_timeout: 3s"))
    gateway.may_die = True
    pid = gateway.worker()
    freeze(pid)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/")
        assert client.response().text == "hello"
    assert gateway.worker() != pid
    assert f"worker {pid} hangs" in gateway.stderr()


def test_a_hanging_worker_is_left_alone_without_a_watchdog(weir):
    gateway = weir(config(more="watchdog_timeout: 0s"))
    pid = gateway.worker()
    freeze(pid)
    time.sleep(2.5)  # nothing happens: there is nothing to wait for
    os.kill(pid, signal.SIGCONT)
    assert gateway.worker() == pid


# --- the end ----------------------------------------------------------------------------------------------------------
def test_a_killed_supervisor_takes_its_worker_along(weir):
    gateway = weir(config())
    gateway.expected_exit = -signal.SIGKILL
    pid = gateway.worker()
    gateway.process.kill()
    gateway.process.wait(60)
    wait_for(lambda: not is_alive(pid), "the worker to be gone")
    wait_for(lambda: refuses(gateway.port("http")), "the port to be free")
    gateway.expected_exit = 0
    gateway.start()  # the port is free, the stale admin socket is no obstacle
    assert fetch(gateway.port("http")).text == "hello"


def test_a_second_sigterm_ends_it_at_once(weir, origin):
    origin.on("/never", lambda exchange: exchange.wait_peer_closed(30))
    gateway = weir(config(more='target_groups: {o: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}}}')
                   .replace('respond: {status: 200, body: "hello"}', "forward: o")
                   .replace("shutdown_timeout: 30s", "shutdown_timeout: 10m"), origin=origin.port)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/never")
        wait_for(lambda: origin.requests, "the request at the origin")
        gateway.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "draining" in gateway.stderr(), "draining")
        assert gateway.process.poll() is None
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(60) == 0, "nobody waits for shutdown_timeout"
    assert "is stuck" not in gateway.stderr()


def test_a_stuck_worker_does_not_keep_the_supervisor_for_ever(weir):
    gateway = weir(config().replace("shutdown_timeout: 30s", "shutdown_timeout: 10m"))
    gateway.may_die = True
    pid = gateway.worker()
    freeze(pid)

    def is_taken():
        status = Path(f"/proc/{gateway.process.pid}/status").read_text()
        pending = re.search(r"^ShdPnd:\s+(\w+)$", status, re.M)  # a process that has ended has none
        return pending is None or not int(pending[1], 16) & 1 << signal.SIGTERM - 1

    for _ in range(3):  # drain, at once, and then without asking
        gateway.process.send_signal(signal.SIGTERM)
        wait_for(is_taken, "the signal to be taken")
    assert gateway.process.wait(60) in (0, 1)
    assert "is stuck" not in gateway.stderr(), "it was not time that killed it"
    gateway.expected_exit = gateway.process.returncode
    assert not is_alive(pid)


def test_a_signal_for_the_whole_group_drains_once(weir, origin):
    go = threading.Event()
    origin.on("/slow", lambda exchange: (go.wait(60), exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
    gateway = weir(config(more='target_groups: {o: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}}}')
                   .replace('respond: {status: 200, body: "hello"}', "forward: o"), origin=origin.port, start=False)
    with open(gateway.stderr_path, "ab") as stderr:
        gateway.process = subprocess.Popen([gateway.binary, "run", "-c", gateway.config_path], env=gateway.env,
                                           stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True)
    wait_for(gateway.is_ready, "ready")
    with Client(gateway.port("http")) as client:
        client.request("GET", "/slow")
        wait_for(lambda: origin.requests, "the request at the origin")
        os.killpg(gateway.process.pid, signal.SIGINT)  # as a terminal does on ^C
        wait_for(lambda: "draining" in gateway.stderr(), "draining")
        go.set()
        assert client.response().text == "ok", "the request was not cut off"
    assert gateway.process.wait(60) == 0
    assert "takes its place" not in gateway.stderr()


def test_a_worker_that_is_told_to_end_finishes_its_requests_and_is_replaced(weir, origin):
    go = threading.Event()
    origin.on("/slow", lambda exchange: (go.wait(60), exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
    gateway = weir(config(more='target_groups: {o: {targets: "127.0.0.1:@origin@", health_check: {enabled: false}}}')
                   .replace('respond: {status: 200, body: "hello"}', "forward: o"), origin=origin.port)
    with Client(gateway.port("http")) as client:
        client.request("GET", "/slow")
        wait_for(lambda: origin.requests, "the request at the origin")
        pid, _ = kill_worker(gateway, signal.SIGTERM)
        new = wait_new_worker(gateway, pid)
        assert fetch(gateway.port("http")).status == 200, "the new one serves"
        assert is_alive(pid)
        go.set()
        assert client.response().text == "ok", "the old one has finished"
    wait_for(lambda: not is_alive(pid), "the old worker to be gone")
    wait_for(lambda: gateway.workers() == [new], f"the new worker alone; {gateway.stderr()}")
    assert gateway.metric("weir_worker_restarts_total") == 0


def test_the_admin_socket_is_gone_after_the_end(weir):
    gateway = weir(config())
    assert os.path.exists(gateway.admin_socket)
    assert gateway.terminate() == 0
    assert not os.path.exists(gateway.admin_socket)


def test_without_supervisor_there_is_one_process(weir):
    gateway = weir(config(), args=["--no-supervise"])
    assert gateway.pids() == [gateway.process.pid]
    assert json.loads(gateway.admin("/status")[1])["supervisor"] is None
    gateway.configure(config("again"))
    gateway.reload()
    assert fetch(gateway.port("http")).text == "again"
    done = gateway.run("upgrade", "-c", str(gateway.config_path))
    assert done.returncode == 1 and "--no-supervise" in done.stderr
    assert gateway.terminate() == 0
    assert not os.path.exists(gateway.admin_socket)


# --- reloads ----------------------------------------------------------------------------------------------------------
def test_a_renewed_certificate_is_a_change(weir):
    def make(folder):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                        folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=DNS:localhost", "-days", "90"], check=True, capture_output=True)
        os.chmod(folder / "key.pem", 0o600)

    gateway = weir(config(more="certificates: {site: {cert: cert.pem, key: key.pem}}"), start=False)
    make(gateway.folder)
    gateway.start()
    gateway.reload()
    assert "generation 2: no changes" in gateway.stderr()
    make(gateway.folder)
    gateway.reload()
    assert "generation 3: certificates ~1" in gateway.stderr()


def test_a_removed_listener_refuses_and_can_come_back(weir):
    gateway = weir(config())
    both = config().replace("listeners: {", 'listeners: {more: {address: "127.0.0.1:@more@"}, ')
    for _ in range(3):
        gateway.configure(both)
        gateway.reload()
        assert fetch(gateway.port("more")).text == "hello"
        gateway.configure(config())
        gateway.reload()
        with pytest.raises(ConnectionRefusedError):
            fetch(gateway.port("more"))
    gateway.configure(both)
    gateway.reload()
    pid, _ = kill_worker(gateway)
    gateway.may_die = True
    wait_new_worker(gateway, pid)
    assert fetch(gateway.port("more")).text == "hello", "listeners of a reload belong to the supervisor too"


def test_after_a_crash_a_listener_that_the_file_lost_is_closed(weir):
    gateway = weir(config().replace("listeners: {", 'listeners: {more: {address: "127.0.0.1:@more@"}, '))
    gateway.may_die = True
    gateway.configure(config())
    pid, _ = kill_worker(gateway)
    wait_new_worker(gateway, pid)
    wait_for(lambda: refuses(gateway.port("more")), "the listener to be closed")


def test_an_admin_path_that_is_taken_fails_the_reload_and_nothing_else(weir):
    gateway = weir(config())
    taken = gateway.write("taken", "mine")
    gateway.has_admin = False
    gateway.configure(config("other") + f'\nadmin: {{address: "unix:{taken}"}}\n')
    status, text = gateway.admin("/reload", "POST")
    assert status == 422 and "a file that is no socket is in its place" in text
    assert fetch(gateway.port("http")).text == "hello"
    assert taken.read_text() == "mine"


@needs_root
def test_a_state_dir_on_a_disk_that_may_only_be_read_is_said_and_traffic_goes_on(weir):
    gateway = weir(config(more='state_dir: "@tmp@/state"'), start=False)
    state = gateway.folder / "state"
    state.mkdir()
    gateway.prefix = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o ro none {state} && exec "$@"', "sh"]
    gateway.start()
    assert re.search(r"weir\.yaml:\d+:\d+: warning: state_dir .*/state cannot be written to: Read-only file system", gateway.stderr())
    assert fetch(gateway.port("http")).text == "hello"


def test_an_admin_path_that_is_taken_stops_the_start_and_says_where(weir):
    with socket.socket(socket.AF_UNIX) as other:
        gateway = weir(config(), start=False)
        other.bind(gateway.admin_socket)
        other.listen(1)
        done = gateway.run("run", "-c", str(gateway.config_path))
        assert done.returncode == 1
        assert re.search(r"weir\.yaml:\d+:\d+: .*admin\.sock.*: another process listens on it", done.stderr), done.stderr
        assert os.path.exists(gateway.admin_socket), "it is the other's"


def test_an_error_log_that_nobody_reads_stops_nothing(weir):
    gateway = weir(config(), start=False)
    gateway.may_die = True
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    try:
        while os.write(write_end, b"x" * 4096):
            pass
    except BlockingIOError:
        pass
    os.set_blocking(write_end, True)
    gateway.process = subprocess.Popen([gateway.binary, "run", "-c", gateway.config_path], env=gateway.env,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=write_end)
    os.close(write_end)
    wait_for(gateway.is_ready, "ready")
    gateway.config_path.write_text("routes: [" + "nonsense: 1, " * 50)
    assert gateway.admin("/reload", "POST")[0] == 422
    gateway.configure(config("again"))
    gateway.reload()
    pid, _ = kill_worker(gateway)
    wait_new_worker(gateway, pid)
    assert fetch(gateway.port("http")).text == "again"
    gateway.configure(config("and again"))
    os.read(read_end, 1 << 20)
    gateway.reload()
    assert b"lines are missing here: nobody read standard error\n" in os.read(read_end, 1 << 20)
    os.close(read_end)
    assert gateway.terminate() == 0


@pytest.mark.parametrize("path", ["/proc/weir", "@tmp@/weir.yaml"])
def test_a_state_dir_that_cannot_be_written_is_said_and_traffic_goes_on(weir, path):
    gateway = weir(config(more=f'state_dir: "{path}"'))
    assert re.search(r"weir\.yaml:\d+:\d+: warning: .*state_dir", gateway.stderr())
    assert fetch(gateway.port("http")).text == "hello"
    gateway.reload()
    assert fetch(gateway.port("http")).text == "hello"


# --- privileges -------------------------------------------------------------------------------------------------------
def ids(pid, field="Uid"):
    return {int(n) for n in re.search(rf"^{field}:\s+(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M)[1].split()}


@needs_root
def test_the_worker_gives_root_away_and_the_supervisor_opens_its_ports(weir):
    gateway = weir(config(more="user: nobody"), start=False, low=PORTS.take(600, 1024))
    gateway.folder.chmod(0o755)
    gateway.start()
    pid = gateway.worker()
    assert ids(pid) == {65534} and ids(pid, "Gid") == {65534} and ids(pid, "Groups") == {65534}
    assert ids(gateway.process.pid) == {0}
    assert "CapEff:\t0000000000000000" in Path(f"/proc/{pid}/status").read_text()
    assert os.stat(gateway.admin_socket).st_uid == 0
    assert gateway.metric("process_open_fds") > 3, "its own /proc is still readable"
    low = config(more="user: nobody").replace("listeners: {", 'listeners: {low: {address: "127.0.0.1:@low@"}, ')
    gateway.configure(low)
    gateway.reload()
    assert fetch(gateway.port("low")).text == "hello", "a port that only root may open"
    gateway.may_die = True
    os.kill(pid, signal.SIGKILL)
    assert ids(wait_new_worker(gateway, pid)) == {65534}
    assert fetch(gateway.port("low")).text == "hello"


@needs_root
def test_numbers_will_do_for_user_and_group(weir):
    gateway = weir(config(more="user: 12345\ngroup: 23456"), start=False)
    gateway.folder.chmod(0o755)
    gateway.start()
    assert ids(gateway.worker()) == {12345} and ids(gateway.worker(), "Gid") == {23456}


@needs_root
def test_a_key_that_the_user_cannot_read_stops_the_start_and_not_the_first_reload(weir):
    gateway = weir(config(more="user: nobody\ncertificates: {site: {cert: cert.pem, key: key.pem}}"), start=False)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    gateway.folder / "key.pem", "-out", gateway.folder / "cert.pem", "-subj", "/CN=localhost"], check=True,
                   capture_output=True)
    gateway.folder.chmod(0o755)
    (gateway.folder / "key.pem").chmod(0o600)
    done = gateway.run("run", "-c", str(gateway.config_path))
    assert done.returncode == 1
    assert re.search(r"weir.yaml:\d+:\d+: cannot read .*key.pem.*Permission denied", done.stderr)


@needs_root
@pytest.mark.parametrize("text, error", [
    ("user: nobody-at-all", 'cannot become user "nobody-at-all": there is no such account'),
    ("user: 12345", "user 12345 has no account here, so its group must be said too"),
    ("user: nobody\ngroup: none-at-all", 'cannot become group "none-at-all": there is no such account'),
])
def test_an_unknown_account_is_an_error_with_its_line(weir, text, error):
    gateway = weir(config(more=text), start=False)
    done = gateway.run("run", "-c", str(gateway.config_path))
    assert done.returncode == 1
    assert re.search(r"weir.yaml:\d+:\d+: " + re.escape(error), done.stderr), done.stderr


@needs_root
def test_who_is_not_root_cannot_become_somebody_else(weir):
    gateway = weir(config(more="user: daemon"), start=False)
    gateway.folder.chmod(0o777)
    done = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", BINARY, "run", "-c",
                           gateway.config_path], env=gateway.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "cannot become user daemon: Operation not permitted (only root can)" in done.stderr


def test_a_group_without_user_is_an_error(weir):
    gateway = weir(config(more="group: daemon"), start=False)
    done = gateway.run("check", str(gateway.config_path))
    assert done.returncode == 1 and "group needs a user" in done.stderr


def test_the_limit_of_open_files_is_raised(weir):
    gateway = weir(config(), start=False)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gateway.prefix = ["prlimit", f"--nofile=256:{hard}"]
    gateway.start()
    for pid in gateway.pids():
        soft = int(re.search(r"^Max open files\s+(\d+)", Path(f"/proc/{pid}/limits").read_text(), re.M)[1])
        assert soft >= hard


def links(pid):
    """What the descriptors of a process are; those that come and go meanwhile are left out."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass
    return found


def test_workers_inherit_nothing_but_what_they_need(weir, tmp_path):
    gateway = weir(config(), env={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    pid = gateway.worker()
    assert not [link for link in links(pid) if "memfd:" in link or link == str(gateway.binary)], links(pid)
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    for name in (b"NOTIFY_SOCKET=", b"LISTEN_FDS=", b"WEIR_HANDOVER="):
        assert name not in environment


# --- the first process of a container ---------------------------------------------------------------------------------
@pytest.mark.skipif(not IS_ROOT or shutil.which("unshare") is None, reason="needs a namespace of processes")
def test_as_process_1_it_reaps_orphans_serves_on_after_a_crash_and_ends_on_sigterm(weir):
    gateway = weir(config(), start=False)
    gateway.may_die = True
    # the shell leaves an orphan behind, then becomes weir
    script = f"(sleep 0.3 & echo $! > {gateway.folder}/orphan); exec {gateway.binary} run -c {gateway.config_path}"
    with open(gateway.stderr_path, "ab") as stderr:
        gateway.process = subprocess.Popen(["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script],
                                           env=gateway.env, stdout=subprocess.DEVNULL, stderr=stderr)
    wait_for(gateway.is_ready, f"ready {gateway.stderr()}")
    first = wait_for(lambda: children(gateway.process.pid), "the first process")[0]
    assert "NSpid:" in Path(f"/proc/{first}/status").read_text()
    wait_for(lambda: "sleep\n" not in map(name_of, children(first)), "the orphan to be reaped")
    [worker] = children(first)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: [pid for pid in children(first) if pid != worker], "another worker")
    assert fetch(gateway.port("http")).text == "hello"
    os.kill(first, signal.SIGTERM)
    assert gateway.process.wait(60) == 0


# --- systemd ----------------------------------------------------------------------------------------------------------
class Notified:
    """The datagram socket that systemd would have."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(30)

    def next(self, word):
        """The next message with this line; those before it are skipped."""
        while True:
            lines = self.socket.recv(4096).decode().split("\n")
            if word in lines:
                return dict(line.split("=", 1) for line in lines)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def test_systemd_hears_the_watchdog(weir, tmp_path):
    with Notified(str(tmp_path / "notify")) as notified:
        gateway = weir(config(), start=False)
        gateway.env.update({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"})
        gateway.start()
        for _ in range(5):
            notified.next("WATCHDOG=1")


@pytest.mark.parametrize("is_abstract", [False, True])
def test_systemd_is_told_of_start_reload_and_end(weir, tmp_path, is_abstract):
    name = f"weir-test-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    with Notified("\0" + name if is_abstract else name) as notified:
        gateway = weir(config(), env={"NOTIFY_SOCKET": "@" + name if is_abstract else name})
        assert "serves generation 1" in notified.next("READY=1")["STATUS"]
        gateway.process.send_signal(signal.SIGHUP)
        begun = notified.next("RELOADING=1")
        assert 0 < int(begun["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert "serves generation 2" in notified.next("READY=1")["STATUS"]
        gateway.config_path.write_text("x")
        gateway.process.send_signal(signal.SIGHUP)
        notified.next("RELOADING=1")
        assert "generation 2 stays" in notified.next("READY=1")["STATUS"]
        gateway.process.send_signal(signal.SIGTERM)
        notified.next("STOPPING=1")


def start_activated(gateway, sockets):
    """As systemd does it: descriptors from 3 on, LISTEN_PID is the process's own."""
    moves = "".join(f" {3 + i}<&{sock.fileno()}" for i, sock in enumerate(sockets))
    script = f"export LISTEN_PID=$$ LISTEN_FDS={len(sockets)}; exec {gateway.binary} run -c {gateway.config_path}{moves}"
    with open(gateway.stderr_path, "ab") as stderr, open(gateway.stdout_path, "ab") as stdout:
        gateway.process = subprocess.Popen(["bash", "-c", script], env=gateway.env, stdin=subprocess.DEVNULL, stdout=stdout,
                                           stderr=stderr, pass_fds=[sock.fileno() for sock in sockets])
    wait_for(gateway.is_ready, f"ready; {gateway.stderr()}")


def listening(address, family=socket.AF_INET):
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    sock.listen(128)
    return sock


def test_sockets_of_systemd_are_used_and_others_are_named(weir):
    gateway = weir(config(), start=False)
    gateway.may_die = True
    # descriptors that do not stand in the way of their own places
    fds = [os.dup(0) for _ in range(20)]
    used, other = listening(("127.0.0.1", gateway.port("http"))), listening(("127.0.0.1", gateway.port("other")))
    for fd in fds:
        os.close(fd)
    with used, other:
        early = Client(gateway.port("http")).request("GET", "/")
        start_activated(gateway, [used, other])
        assert early.response().text == "hello", "what came before the start was not lost"
        early.close()
        wait_for(lambda: f"no listener names 127.0.0.1:{gateway.port('other')}" in gateway.stderr(), "the warning")
        assert gateway.stderr().count("no listener names") == 1
        pid, _ = kill_worker(gateway)
        wait_new_worker(gateway, pid)
        assert fetch(gateway.port("http")).text == "hello"
        # a reload may take the other one into use, and give the first one up
        gateway.configure(config().replace("@http@", "@other@"))
        gateway.reload()
        assert fetch(gateway.port("other")).text == "hello"
        gateway.configure(config())
        gateway.reload()
        assert fetch(gateway.port("http")).text == "hello"


def test_a_socket_of_systemd_serves_all_threads(weir):
    gateway = weir(config().replace("worker_threads: 2", "worker_threads: 3"), start=False)
    fds = [os.dup(0) for _ in range(20)]
    sock = listening(("127.0.0.1", gateway.port("http")))
    for fd in fds:
        os.close(fd)
    with sock:
        start_activated(gateway, [sock])
        for _ in range(50):
            assert fetch(gateway.port("http")).text == "hello"


def test_the_unit_files_are_fine():
    folder = Path(__file__).resolve().parents[2] / "conf" / "systemd"
    service = (folder / "weir.service").read_text()
    assert "Type=notify" in service and "weir run" in service
    if shutil.which("systemd-analyze"):
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", folder / "weir.service", folder / "weir.socket"],
                              capture_output=True, text=True)
        complaints = [line for line in done.stderr.splitlines()
                      if "weir" in line and "is not executable" not in line and "not found" not in line.lower()]
        assert not complaints, done.stderr
