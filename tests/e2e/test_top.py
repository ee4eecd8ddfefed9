"""`weir top` and `weir target`."""
import codecs
import os
import pty
import re
import select
import signal
import struct
import subprocess
import fcntl
import termios
import threading
import time

import pytest

from client import Client, fetch
from origin import Origin
from weir import CONFIG, wait_for

TEXT = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  users: {targets: ["127.0.0.1:@a@", {address: "127.0.0.1:@b@", weight: 3}], health_check: {enabled: false}}
  dead: {targets: ["127.0.0.1:@dead@"], health_check: {enabled: false}}
routes:
  - {name: idle, match: {path: "/idle*"}, respond: {status: 200, body: ok}}
  - {name: users, match: {path: "/users*"}, forward: users}
  - {name: dead, match: {path: "/dead*"}, forward: dead}
"""


@pytest.fixture
def gateway(weir):
    with Origin() as a, Origin() as b:
        started = weir(TEXT, a=a.port, b=b.port)
        started.targets = (a.address, b.address)
        yield started


class Load:
    """Requests without pause until the block ends."""

    def __init__(self, gateway):
        self.port, self.stop = gateway.port("http"), threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        with Client(self.port) as client:
            while not self.stop.is_set():
                for path in ("/users", "/users", "/users", "/dead", "/nowhere"):
                    client.request("GET", path)
                    client.response()

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def rows(text):
    """{first column(s): the rest as words}"""
    found = {}
    for line in text.split("\n"):
        match = re.match(r"(\S.{31}) (.*)", line)
        if match:
            found[match[1].strip()] = match[2].split()
    return found


def test_one_picture_where_there_is_no_terminal(gateway):
    a, b = gateway.targets
    with Load(gateway):
        for interval in (0.5, 1, 2, 4, 8, 16):  # as long as it takes for some requests
            done = gateway.run("top", "-c", CONFIG, "--interval", str(interval))
            assert done.returncode == 0 and done.stderr == "" and "\033" not in done.stdout
            table = rows(done.stdout)
            if float(table["users"][0]) * interval > 60:
                break
    users, dead, none = table["users"], table["dead"], table["(no route)"]
    assert float(users[0]) > 0 and users[1:3] == ["0.0", "0.0"] and float(users[3]) <= float(users[4])
    assert float(dead[0]) > 0 and float(dead[2]) == pytest.approx(float(dead[0]), rel=0.05), "all of them are 502"
    assert float(none[1]) > 0
    assert table["idle"] == ["0.0", "0.0", "0.0", "-", "-"]
    assert list(table).index("users") < list(table).index("idle"), "the busiest first"
    light, heavy = float(table[f"users {a}"][0]), float(table[f"users {b}"][0])
    assert heavy == pytest.approx(3 * light, rel=0.3)
    assert table[f"users {b}"][6] == "3" and table[f"users {b}"][7] == "unchecked"
    broken = table[f"dead 127.0.0.1:{gateway.port('dead')}"]
    assert float(broken[1]) == pytest.approx(float(broken[0]), rel=0.05), "attempts that failed"
    total = float(re.search(r"([0-9.]+) requests/s", done.stdout)[1])
    assert total == pytest.approx(float(users[0]) + float(dead[0]) + float(none[0]), rel=0.3)


class Terminal:
    """A command in a terminal of 24 lines."""

    def __init__(self, gateway, *words):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen([str(gateway.binary), *words], stdin=slave, stdout=slave, stderr=slave, env=gateway.env,
                                        start_new_session=True)
        self.output, self.decoder = "", codecs.getincrementaldecoder("utf-8")()

    def read_until(self, condition, timeout=60):
        deadline = time.monotonic() + timeout
        while not condition(self.output):
            assert time.monotonic() < deadline, self.output[-3000:]
            if select.select([self.master], [], [], 0.1)[0]:
                self.output += self.decoder.decode(os.read(self.master, 65536))
        return self.output

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def frames(output):
    return output.split("\033[H")[2:]


@pytest.mark.parametrize("way_out", ["q", "SIGTERM"])
def test_in_a_terminal_it_is_refreshed_in_place_and_cleans_up(gateway, way_out):
    terminal = Terminal(gateway, "top", "-c", str(gateway.config_path), "--interval", "0.2")
    try:
        with Load(gateway):
            terminal.read_until(lambda output: len(frames(output)) >= 5)
        output = terminal.output
        assert output.startswith("\033[?1049h"), "the screen before is kept"
        last = re.sub(r"\033\[[0-9?]*[a-zA-Z]", "", frames(output)[-2])
        assert "requests/s" in last and "users" in last
        assert all(frame.count("\n") <= 24 for frame in frames(output)), "no more lines than the terminal has"
        if way_out == "q":
            os.write(terminal.master, b"q")
        else:
            terminal.process.send_signal(signal.SIGTERM)
        terminal.read_until(lambda text: text.endswith("\033[?1049l"))
        assert terminal.process.wait(60) == 0
        assert "\033[?25h" in terminal.output, "the cursor is back"
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()


def test_a_restart_of_weir_does_not_end_it(gateway):
    terminal = Terminal(gateway, "top", "-c", str(gateway.config_path), "--interval", "0.2")
    try:
        terminal.read_until(lambda output: f"pid {gateway.worker()} " in output)
        gateway.terminate()
        terminal.read_until(lambda output: "nobody listens" in output)
        gateway.start()
        terminal.read_until(lambda output: f"pid {gateway.worker()} " in output)
    finally:
        terminal.close()


def test_nobody_listening_is_said_clearly(weir):
    gateway = weir(TEXT, start=False)
    for command in (("top",), ("tail",), ("target", "drain", "users", "x")):
        done = gateway.run(*command, "--admin", gateway.admin_socket)
        assert done.returncode == 1 and done.stdout == "" and "nobody listens" in done.stderr


@pytest.mark.parametrize("args", [("--what",), ("a",), ("--interval", "0"), ("--interval", "x"), ("--interval",)])
def test_wrong_arguments_are_refused(weir, args):
    assert weir(TEXT, start=False).run("top", *args).returncode == 2


# --- weir target --------------------------------------------------------------------------------------------------
def test_a_target_is_drained_weighed_and_reset_from_the_command_line(gateway):
    a, b = gateway.targets

    def target(*words):
        done = gateway.run("target", *words, "-c", CONFIG)
        assert done.returncode == 0, done.stderr
        return done.stdout
    assert target("drain", "users", a) == f"{a} of users: draining, weight 1, 0 in flight\n"
    assert f"{a}" in gateway.run("status", "-c", CONFIG).stdout and "drained by an operator (checks: unchecked)" in gateway.run("status", "-c", CONFIG).stdout
    for _ in range(8):
        assert fetch(gateway.port("http"), "/users").status == 200
    wait_for(lambda: all(t["in_flight"] == 0 for t in targets(gateway)), "the last of them to be over")
    assert [t["attempts"] for t in targets(gateway)] == [0, 8]
    assert target("enable", "users", a) == f"{a} of users: unchecked, weight 1, 0 in flight\n"
    assert target("weight", "users", b, "0") == f"{b} of users: unchecked, weight 0, 0 in flight\n"
    assert "weight 0 set by an operator (configured: 3)" in gateway.run("status", "-c", CONFIG).stdout
    for _ in range(8):
        assert fetch(gateway.port("http"), "/users").status == 200
    wait_for(lambda: all(t["in_flight"] == 0 for t in targets(gateway)), "the last of them to be over")
    assert [t["attempts"] for t in targets(gateway)] == [8, 8]
    assert target("reset", "users", b) == f"{b} of users: unchecked, weight 3, 0 in flight\n"
    assert "operator" not in gateway.run("status", "-c", CONFIG).stdout


def targets(gateway):
    import json
    status, text = gateway.admin("/api/v1/target_groups/users")
    assert status == 200
    return json.loads(text)["targets"]


@pytest.mark.parametrize("words, code, say", [
    (("drain", "nobody", "x"), 1, "no target group"), (("drain", "users", "1.2.3.4:5"), 1, "no target"), (("drain", "users", "a/b c"), 1, "no target"),
    (("explode", "users", "x"), 2, 'no action "explode"'), (("drain", "users"), 2, "usage"), (("weight", "users", "x"), 2, "usage"), (("drain", "users", "x", "3"), 2, "usage"),
    (("weight", "users", "x", "1000"), 2, '"1000" is no weight'), (("weight", "users", "x", "-1"), 2, "usage"), (("weight", "users", "x", "1x"), 2, "usage"), ((), 2, "usage")])
def test_what_makes_no_sense_is_refused(gateway, words, code, say):
    done = gateway.run("target", "-c", CONFIG, *words)
    assert done.returncode == code and say in done.stderr and done.stdout == ""


def test_a_token_is_said_over_tcp(weir):
    gateway = weir(TEXT + 'admin: {address: "127.0.0.1:@admin@", token: "${file:token}"}\n', start=False, files={"token": "a-token-of-20-bytes-"}, a=1, b=2)
    gateway.start()
    gateway.wait_answer("admin", "/readyz")
    address = f"127.0.0.1:{gateway.port('admin')}"
    refused = gateway.run("status", "--admin", address)
    assert refused.returncode == 1 and "admin.token" in refused.stderr
    assert gateway.run("status", "--admin", address, "--token", "a-token-of-20-bytes-").returncode == 0
    assert gateway.run("status", "-c", CONFIG).returncode == 0, "the configuration names address and token"
    gateway.env["WEIR_ADMIN_TOKEN"] = "a-token-of-20-bytes-"
    assert gateway.run("top", "--admin", address, "--interval", "0.1").returncode == 0
    assert gateway.run("target", "drain", "users", "127.0.0.1:1", "--admin", address).returncode == 0
