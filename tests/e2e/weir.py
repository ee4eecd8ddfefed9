"""Runs the real gateway for a test.

    gateway = Weir('''
    listeners: {http: {address: "127.0.0.1:@http@"}}
    routes: [{name: all, respond: {status: 200, body: hello}}]
    ''')
    gateway.port("http")

`@name@` in a configuration becomes a value given as keyword argument, `@tmp@` the test's own folder, and any other name a
free port that stays the same for the life of the object. Unless the text has an `admin:` section, one with a Unix socket
is added, because readiness, reloads and metrics are watched through it. Leaving a test stops the gateway and fails it
when the gateway exited badly, a worker died, or a sanitizer had something to say.
"""
import fcntl
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("WEIR_BIN") or ROOT / "build" / "weir").resolve()
SANITIZED = os.environ.get("WEIR_SANITIZE") == "1"
SANITIZER_SAYS = re.compile(r"AddressSanitizer|LeakSanitizer|UndefinedBehaviorSanitizer|runtime error:|ThreadSanitizer")
ASSERTION_SAYS = re.compile(r"Assertion .* failed|assertion failed")


def has_ipv6():
    """Containers often have no IPv6; tests that need it are skipped there (needs_ipv6)."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


HAS_IPV6 = has_ipv6()
needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")


def wait_for(condition, what="condition", timeout=30.0):
    """Polls until condition() is true and returns its value. For things only visible from outside, like a log line. The limit is
    for what never comes: a long one costs nothing, and a machine may stand still for seconds."""
    deadline = time.monotonic() + timeout
    while True:
        is_late = time.monotonic() > deadline  # the condition is asked after that once more
        value = condition()
        if value:
            return value
        if is_late:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.01)


class Disturbed(Exception):
    """The machine stood still for so long that what was looked at says nothing."""


def undisturbed(attempt, most=10):
    """The value of attempt(), which is made again as long as it raises Disturbed."""
    for _ in range(most - 1):
        try:
            return attempt()
        except Disturbed:
            pass
    return attempt()


class Ports:
    """Free TCP ports below the ephemeral range, locked so that test processes (of any checkout) never share one."""

    def __init__(self):
        self.locks = []
        self.folder = Path(tempfile.gettempdir()) / f"weir-test-ports-{os.getuid()}"
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def take(self, first=11000, end=31000):
        """The system gives connections numbers from ip_local_port_range, which usually begins above."""
        # Random start: a port that was just given back may linger in TIME_WAIT states.
        start = int.from_bytes(os.urandom(2), "big")
        for i in range(end - first):
            port = first + (start + i) % (end - first)
            lock = open(self.folder / str(port), "w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                addresses = [(socket.AF_INET, "127.0.0.1")] + ([(socket.AF_INET6, "::")] if HAS_IPV6 else [])
                for family, address in addresses:
                    with socket.socket(family, socket.SOCK_STREAM) as probe:
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        probe.bind((address, port))
            except OSError:
                lock.close()
                continue
            self.locks.append(lock)
            return port
        raise RuntimeError("no free port")


PORTS = Ports()


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=30):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def parse_metrics(text):
    """What Prometheus's own client library reads: {(name, ((label, value), ...)): number}. Raises on what a scraper would
    refuse, or take for something else: a family or sample that comes twice, one without a type, a last line cut short."""
    assert text.endswith("\n"), "the last line must end"
    samples, families = {}, set()
    for family in text_string_to_metric_families(text):
        assert family.name not in families, f"family twice: {family.name}"
        assert family.type in ("counter", "gauge", "histogram"), f"{family.name} is {family.type}"
        assert family.documentation, f"no HELP: {family.name}"
        families.add(family.name)
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, f"sample twice: {sample}"
            samples[key] = float(sample.value)
    return samples


class Weir:
    def __init__(self, config, *, binary=BINARY, env=None, args=(), start=True, files=None, **values):
        self.folder = Path(tempfile.mkdtemp(prefix="weir-"))  # short: a Unix socket's path has 107 bytes
        self.values = {"tmp": str(self.folder), **{name: str(value) for name, value in values.items()}}
        self.binary, self.args = Path(binary), tuple(args)
        self.env = dict(os.environ, **(env or {}))
        self.env.setdefault("ASAN_OPTIONS", "detect_stack_use_after_return=1:exitcode=86")
        self.env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        self.has_admin = re.search(r"^admin:", config, re.M) is None
        self.admin_socket = str(self.folder / "admin.sock")
        self.config_path = self.folder / "weir.yaml"
        for name, content in (files or {}).items():
            self.write(name, content)
        self.configure(config)
        self.stdout_path, self.stderr_path = self.folder / "stdout", self.folder / "stderr"
        self.process = None
        self.cwd = None  # the test's own
        self.prefix = []  # a command that becomes the gateway, such as prlimit
        self.expected_exit = 0
        self.may_die = False  # set by tests that kill a worker on purpose
        if start:
            self.start()

    # --- configuration -------------------------------------------------------------------------------------------
    def port(self, name):
        if name not in self.values:
            self.values[name] = str(PORTS.take())
        return int(self.values[name])

    def expand(self, text):
        return re.sub(r"@([a-z_0-9]+)@", lambda found: self.values.get(found[1]) or str(self.port(found[1])), text)

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(self.expand(content))
        return path

    def configure(self, config):
        text = self.expand(config)
        if self.has_admin:
            text += f'\nadmin: {{address: "unix:{self.admin_socket}"}}\n'
        # By rename, as an operator's tool would do it: a reload never sees half a file.
        part = self.folder / "weir.yaml.part"
        part.write_text(text)
        part.rename(self.config_path)

    # --- life ----------------------------------------------------------------------------------------------------
    def start(self, timeout=60):
        with open(self.stdout_path, "ab") as stdout, open(self.stderr_path, "ab") as stderr:
            self.process = subprocess.Popen([*self.prefix, self.binary, "run", "-c", self.config_path, *self.args], env=self.env,
                                            stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=self.cwd)
        if self.has_admin:
            wait_for(self.is_ready, f"ready; stderr: {self.stderr()}", timeout)
        return self

    def is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"weir exited with {self.process.returncode}:\n{self.stderr()}")
        try:
            return self.admin("/readyz")[0] == 200
        except OSError:
            return False

    def wait_answer(self, name, path="/", timeout=60):
        """For configurations with an admin section of their own: waits for a 200 on one of its TCP ports."""
        def answers():
            if self.process.poll() is not None:
                raise AssertionError(f"weir exited with {self.process.returncode}:\n{self.stderr()}")
            connection = http.client.HTTPConnection("127.0.0.1", self.port(name), timeout=30)
            try:
                connection.request("GET", path)
                return connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False
            finally:
                connection.close()
        wait_for(answers, f"{path} on {name}; stderr: {self.stderr()}", timeout)

    def reload(self, timeout=60):
        """SIGHUP, then waits until the new snapshot serves."""
        before = self.generation()
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.generation() > before, f"a new generation; stderr: {self.stderr()}", timeout)

    def generation(self):
        return self.metric("weir_config_generation")

    def terminate(self, timeout=60):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def close(self):
        """Stops the gateway and reports what is wrong with its life as a whole."""
        complaints = []
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(60)
                except subprocess.TimeoutExpired:
                    complaints.append("did not end within 60 s of SIGTERM")
                    for pid in self.pids():
                        os.kill(pid, signal.SIGKILL)
                    self.process.wait()
            if self.process.returncode != self.expected_exit and not complaints:
                complaints.append(f"exit code {self.process.returncode}, expected {self.expected_exit}")
            text = self.stderr()
            if SANITIZER_SAYS.search(text):
                complaints.append("a sanitizer reported")
            if ASSERTION_SAYS.search(text):
                complaints.append("an assertion failed")
            if not self.may_die and re.search(r"worker .*(died|killed|restart)", text):
                complaints.append("a worker died")
            if complaints:
                complaints.append("stderr:\n" + text[-20000:])
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not complaints, "; ".join(complaints)

    def pids(self):
        """The supervisor and its descendants."""
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    todo += [int(child) for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
                found.append(pid)
            except (FileNotFoundError, ProcessLookupError):
                pass
        return found

    def workers(self):
        """Every worker process, the draining ones too; the process itself with --no-supervise."""
        return self.pids()[1:] or [self.process.pid]

    def worker(self):
        """The worker that serves."""
        return json.loads(self.admin("/status")[1])["pid"]

    # --- what it shows -------------------------------------------------------------------------------------------
    def rss(self):
        """Resident bytes of the whole gateway."""
        total = 0
        for pid in self.pids():
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except (FileNotFoundError, ProcessLookupError):  # a worker that has drained
                continue
            total += 1024 * sum(int(n) for n in re.findall(r"^VmRSS:\s+(\d+) kB", status, re.M))
        return total

    def stderr(self):
        return self.stderr_path.read_text(errors="replace") if self.stderr_path.exists() else ""

    def admin(self, path, method="GET"):
        """(status, text) of the admin API."""
        connection = UnixConnection(self.admin_socket)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def metrics(self):
        status, text = self.admin("/metrics")
        assert status == 200, text
        return parse_metrics(text)

    def metric(self, name, **labels):
        """Sum of a family's samples that carry these labels."""
        wanted = set(labels.items())
        return sum(value for (family, pairs), value in self.metrics().items() if family == name and wanted <= set(pairs))

    def access_log(self):
        """Every complete line of the access log so far."""
        lines = self.stdout_path.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line]

    def wait_log(self, condition=lambda entry: True, count=1, timeout=30):
        """The first `count` access log entries for which condition holds; waits until they are there."""
        def enough():
            entries = [entry for entry in self.access_log() if condition(entry)]
            return entries if len(entries) >= count else None
        return wait_for(enough, f"{count} access log lines; have {self.access_log()[-3:]}", timeout)[:count]

    def run(self, *args, **kwargs):
        """Another command of the same binary with this configuration in place of CONFIG: run("check", CONFIG)."""
        words = [str(self.config_path) if arg is CONFIG else str(arg) for arg in args]
        return subprocess.run([self.binary, *words], env=self.env, capture_output=True, text=True, timeout=120, **kwargs)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.close()
        else:
            try:  # the test's own failure is the news; do not hide it
                self.close()
            except AssertionError as complaint:
                print(complaint)


CONFIG = object()


def freeze(pid):
    """SIGSTOP, and every thread has followed it."""
    os.kill(pid, signal.SIGSTOP)

    def is_still():
        return all(Path(f"/proc/{pid}/task/{task}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"
                   for task in os.listdir(f"/proc/{pid}/task"))
    wait_for(is_still, "all threads to stand still")
