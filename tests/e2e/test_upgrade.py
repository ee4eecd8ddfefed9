"""A new binary takes over from the one that runs: no request fails, the process keeps its number, and whatever goes wrong the old one
stays."""
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from client import Client, fetch
from load import Load
from test_supervisor import Notified, Visitors, config, ids, is_alive, needs_root, wait_new_worker
from weir import BINARY, SANITIZED, Weir, freeze, wait_for

FORWARD = """
worker_threads: {threads}
listeners:
  http: {{address: "127.0.0.1:@http@"}}
  tls: {{address: "127.0.0.1:@tls@", tls: {{certificates: self}}}}
certificates: {{self: {{self_signed: [localhost]}}}}
target_groups: {{o: {{targets: "127.0.0.1:@origin@", health_check: {{enabled: false}}}}}}
upgrade: {{drain_timeout: {drain}}}
shutdown_timeout: 30s
routes:
  - {{name: version, match: {{path: /version}}, respond: {{status: 200, body: "{version}"}}}}
  - {{name: all, forward: o}}
"""


def forward(version=1, threads=2, drain="1h"):
    return FORWARD.format(version=version, threads=threads, drain=drain)


class Upgradable(Weir):
    """Runs a copy of the binary, which can be replaced."""

    def __init__(self, text, **options):
        self.copies = 0
        self.home = None
        super().__init__(text, start=False, **{name: value for name, value in options.items() if name != "start"})
        self.cwd = self.folder
        self.binary = self.folder / "bin" / "weir"
        self.binary.parent.mkdir()
        self.install()
        if options.get("start", True):
            self.start()

    def install(self, what=BINARY):
        """By rename, as a package manager does it."""
        part = self.binary.with_suffix(".part")
        shutil.copyfile(what, part)
        part.chmod(0o755)
        part.rename(self.binary)

    def upgrade(self):
        # with the binary of the build: the installed one may be none
        return subprocess.run([BINARY, "upgrade", "-c", self.config_path], env=self.env, capture_output=True, text=True, timeout=120)

    def runs(self):
        """Inode of what the supervisor runs."""
        return os.stat(f"/proc/{self.process.pid}/exe").st_ino


@pytest.fixture
def upgradable():
    started = []

    def start(text, **options):
        started.append(Upgradable(text, **options))
        return started[-1]

    yield start
    complaints = []
    for gateway in started:
        try:
            gateway.close()
        except AssertionError as complaint:
            complaints.append(str(complaint))
    assert not complaints, "\n".join(complaints)


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def has_files_for_the_next_worker(pid):
    """The worker hands them to the supervisor soon after it is ready."""
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            return any("weir-kept-files" in os.readlink(entry.path) for entry in entries)
    except FileNotFoundError:  # closed meanwhile
        return False


# --- it works ---------------------------------------------------------------------------------------------------------
@pytest.mark.xdist_group("load")
@pytest.mark.timeout(180)
def test_20_upgrades_under_load_fail_no_request(upgradable, fast_origin):
    upgrades = 5 if SANITIZED else 20
    gateway = upgradable(forward(), origin=fast_origin.port)
    pid, seen = gateway.process.pid, set()
    wishes = [("GET", "/", None, None), ("GET", "/version", None, None), ("POST", "/up", b"x" * 100000, None),
              ("GET", "/chunked/5000", None, None), ("GET", "/size/300000", None, None), ("GET", "/delay/20", None, None)]
    with Load(gateway.port("http"), wishes, connections=8) as plain, \
            Load(gateway.port("tls"), wishes, connections=2, tls="localhost") as tls, \
            Visitors(gateway.port("http"), 2) as visitors:
        for i in range(upgrades):
            gateway.install()
            before = gateway.worker()
            done = gateway.upgrade()
            assert done.returncode == 0, done.stderr
            assert re.fullmatch(r"weir \S+ is serving\n", done.stdout)
            assert gateway.runs() == gateway.binary.stat().st_ino, "the supervisor is the new binary"
            assert gateway.worker() != before
            seen.add(gateway.worker())
            plain.wait_requests(30)
            wait_for(lambda: not is_alive(before), "the old worker to be gone")
            wait_for(lambda: before not in gateway.pids(), "the supervisor to know")
            wait_for(lambda: has_files_for_the_next_worker(pid), "the supervisor to have the configuration")
            if i == 0:
                few = descriptors(pid)
            wait_for(lambda: descriptors(pid) <= few + 1, "the descriptors that are left over to be closed")
    plain.check()
    tls.check()
    assert (visitors.refused, visitors.cut, visitors.wrong) == (0, 0, 0)
    assert len(seen) == upgrades
    assert gateway.process.poll() is None and gateway.process.pid == pid
    assert gateway.generation() == upgrades + 1


def test_a_request_in_flight_is_finished_by_the_old_worker(upgradable, origin):
    go = threading.Event()
    origin.on("/slow", lambda exchange: (go.wait(60), exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")))
    gateway = upgradable(forward(1), origin=origin.port)
    old = gateway.worker()
    with Client(gateway.port("http")) as client, Client(gateway.port("http")) as idle:
        idle.request("GET", "/version")
        assert idle.response().text == "1"
        client.request("GET", "/slow")
        wait_for(lambda: origin.requests, "the request at the origin")
        gateway.configure(forward(2))
        assert gateway.upgrade().returncode == 0
        assert fetch(gateway.port("http"), "/version").text == "2", "new connections meet the new configuration"
        assert is_alive(old)
        assert gateway.worker() != old, "the admin API is the new one's"
        go.set()
        response = client.response()
        assert response.text == "slow" and response.get("connection") == "close"
        assert idle.is_closed(), "an idle connection of the old worker ends"
    wait_for(lambda: not is_alive(old), "the old worker to be gone")


def test_what_does_not_end_is_cut_off_after_the_drain_timeout(upgradable, origin):
    origin.on("/never", lambda exchange: exchange.wait_peer_closed(60))
    gateway = upgradable(forward(drain="1s"), origin=origin.port)
    old = gateway.worker()
    with Client(gateway.port("http")) as client:
        client.request("GET", "/never")
        wait_for(lambda: origin.requests, "the request at the origin")
        assert gateway.upgrade().returncode == 0
        wait_for(lambda: not is_alive(old), "the old worker to be gone")
    wait_for(lambda: f"worker {old} has drained" in gateway.stderr(), "the word of it")


def test_sigterm_after_an_upgrade_ends_the_old_worker_too(upgradable, origin):
    go = threading.Event()
    origin.on("/slow", lambda exchange: (go.wait(60), exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")))
    gateway = upgradable(forward(), origin=origin.port)
    old = gateway.worker()
    with Client(gateway.port("http")) as client:
        client.request("GET", "/slow")
        wait_for(lambda: origin.requests, "the request at the origin")
        assert gateway.upgrade().returncode == 0
        gateway.process.send_signal(signal.SIGTERM)
        wait_for(lambda: gateway.stderr().count("process: stopped") == 1, "the new worker to be gone")
        assert gateway.process.poll() is None, "the old one has a request"
        go.set()
        assert client.response().text == "slow"
    assert gateway.process.wait(60) == 0
    assert not is_alive(old)


def test_sigusr2_is_an_upgrade(upgradable, origin):
    gateway = upgradable(forward(), origin=origin.port)
    old = gateway.worker()
    gateway.install()
    gateway.process.send_signal(signal.SIGUSR2)
    wait_new_worker(gateway, old)
    wait_for(lambda: gateway.runs() == gateway.binary.stat().st_ino, "the new binary")
    wait_for(lambda: re.search(r"notice supervisor: upgraded to weir [\d.]+: worker \d+ serves", gateway.stderr()), "the word of it")


@pytest.mark.parametrize("supervise", [True, False])
def test_sigusr2_to_a_process_that_cannot_upgrade_does_nothing_and_says_so(weir, supervise):
    gateway = weir(config(), args=[] if supervise else ["--no-supervise"])
    os.kill(gateway.workers()[0], signal.SIGUSR2)
    expected = f"it is for the supervisor, process {gateway.process.pid}" if supervise else "no upgrade without a supervisor"
    wait_for(lambda: expected in gateway.stderr(), "the answer")
    assert gateway.metric("weir_config_generation") == 1


def test_after_an_upgrade_crashes_signals_reloads_and_upgrades_work_as_before(upgradable, origin):
    gateway = upgradable(forward(1), origin=origin.port)
    gateway.may_die = True
    assert gateway.upgrade().returncode == 0
    gateway.configure(forward(2))
    gateway.reload()
    assert fetch(gateway.port("http"), "/version").text == "2"
    gateway.config_path.write_text("broken: [")
    old = gateway.worker()
    os.kill(old, signal.SIGKILL)
    wait_new_worker(gateway, old)
    assert fetch(gateway.port("http"), "/version").text == "2", "the kept files went over to the new binary"
    gateway.configure(forward(3))
    assert gateway.upgrade().returncode == 0
    assert fetch(gateway.port("http"), "/version").text == "3"
    assert gateway.metric("weir_worker_restarts_total") == 1, "the supervisor's counts too"
    assert gateway.terminate() == 0
    assert not os.path.exists(gateway.admin_socket)


def test_sessions_are_resumed_after_an_upgrade(upgradable, origin):
    gateway = upgradable(forward(), origin=origin.port)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def visit(session):
        plain = socket.create_connection(("127.0.0.1", gateway.port("tls")), timeout=10)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
            return tls.session, tls.session_reused

    session, _ = visit(None)
    for _ in range(3):
        assert gateway.upgrade().returncode == 0
        assert visit(session)[1]


@pytest.mark.parametrize("before, after", [(1, 4), (4, 1), (2, 3)])
def test_the_number_of_threads_may_change(upgradable, fast_origin, before, after):
    gateway = upgradable(forward(threads=before), origin=fast_origin.port)
    with Visitors(gateway.port("http")) as visitors:
        gateway.configure(forward(threads=after))
        assert gateway.upgrade().returncode == 0
        assert fetch(gateway.port("http"), "/version").status == 200
        count = visitors.answered
        wait_for(lambda: visitors.answered > count + 50, "more answers")
    assert (visitors.refused, visitors.cut, visitors.wrong) == (0, 0, 0)
    threads = [line for line in gateway.metrics() if line[0] == "weir_event_loop_lag_seconds"]
    assert len(threads) in (after, after + 1)


def test_a_listener_may_come_and_go_with_an_upgrade(upgradable, fast_origin):
    more = forward().replace("listeners:", 'listeners:\n  more: {address: "127.0.0.1:@more@"}')
    gateway = upgradable(more, origin=fast_origin.port)
    assert fetch(gateway.port("more"), "/version").status == 200
    gateway.configure(forward())
    assert gateway.upgrade().returncode == 0
    with pytest.raises(ConnectionRefusedError):
        fetch(gateway.port("more"))
    gateway.configure(more)
    assert gateway.upgrade().returncode == 0
    assert fetch(gateway.port("more"), "/version").status == 200


def test_the_supervisor_is_found_where_a_link_points(upgradable, origin):
    gateway = upgradable(forward(), origin=origin.port, start=False)
    releases = gateway.folder / "releases"
    for number in ("1", "2"):
        (releases / number).mkdir(parents=True)
        shutil.copy(BINARY, releases / number / "weir")
    (releases / "current").symlink_to("1")
    gateway.binary = releases / "current" / "weir"
    gateway.start()
    (releases / "current").unlink()
    (releases / "current").symlink_to("2")
    assert gateway.upgrade().returncode == 0
    assert os.readlink(f"/proc/{gateway.process.pid}/exe") == str(releases / "2" / "weir")


@needs_root
def test_the_new_worker_gives_root_away_too(upgradable, origin):
    gateway = upgradable(forward() + "user: nobody\n", origin=origin.port, start=False)
    gateway.folder.chmod(0o755)
    gateway.start()
    assert gateway.upgrade().returncode == 0
    assert ids(gateway.worker()) == {65534} and ids(gateway.process.pid) == {0}


def test_systemd_is_told_that_the_main_process_is_the_same(upgradable, origin, tmp_path):
    with Notified(str(tmp_path / "notify")) as notified:
        gateway = upgradable(forward(), origin=origin.port, env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notified.next("READY=1")
        assert gateway.upgrade().returncode == 0
        assert notified.next("READY=1")["MAINPID"] == str(gateway.process.pid)


# --- it does not work -------------------------------------------------------------------------------------------------
@pytest.fixture
def stays(upgradable, fast_origin):
    """A gateway under load that is the same one afterwards."""
    gateway = upgradable(forward(), origin=fast_origin.port)
    wait_for(lambda: has_files_for_the_next_worker(gateway.process.pid), "the supervisor to have the configuration")
    worker, inode, count = gateway.worker(), gateway.runs(), descriptors(gateway.process.pid)
    with Load(gateway.port("http"), [("GET", "/", None, None), ("GET", "/version", None, None)], connections=4) as load:
        yield gateway
        load.wait_requests(20)
    load.check()
    assert load.told_to_close == 0
    assert gateway.worker() == worker and gateway.runs() == inode
    wait_for(lambda: gateway.workers() == [worker], "the new worker to be gone")
    wait_for(lambda: descriptors(gateway.process.pid) == count, "its descriptors to be closed")
    gateway.configure(forward())
    gateway.reload()
    gateway.install()
    assert gateway.upgrade().returncode == 0, "and the next one works"


def allow(gateway, time):
    """Upgrades are given up after this time."""
    gateway.configure(forward().replace("upgrade: {", f"upgrade: {{ready_timeout: {time}, "))
    gateway.reload()


def fails(gateway, why):
    done = gateway.upgrade()
    assert done.returncode == 1, done
    assert re.search(why, done.stderr), done.stderr
    assert re.search(f"error supervisor: upgrade failed: .*{why}", gateway.stderr())


def test_a_broken_configuration_stops_an_upgrade(stays):
    stays.config_path.write_text(stays.config_path.read_text() + "nonsense: 1\n")
    fails(stays, r'its worker exited with status 1 before it served: [^ ]*weir\.yaml:\d+:1: unknown key "nonsense"')


def test_a_binary_that_cannot_be_run_stops_an_upgrade(stays):
    stays.binary.unlink()
    fails(stays, "No such file or directory")
    stays.binary.write_text("this is no program")
    stays.binary.chmod(0o755)
    fails(stays, "its worker exited with status 127 before it served: cannot be executed: Exec format error")


def test_another_program_stops_an_upgrade(stays):
    stays.install("/bin/true")
    fails(stays, "its worker exited with status 0 before it served")


def test_a_binary_that_never_serves_stops_an_upgrade(stays):
    allow(stays, "2s")
    # a shell takes the word `run` for a script, found in the working directory
    stays.install("/bin/sh")
    stays.write("run", "exec sleep 600\n")
    fails(stays, "it did not serve within upgrade.ready_timeout")


def test_a_port_that_cannot_be_had_stops_an_upgrade(stays):
    with socket.create_server(("127.0.0.1", 0)) as other:
        stays.configure(forward().replace("listeners:", f'listeners:\n  more: {{address: "127.0.0.1:{other.getsockname()[1]}"}}'))
        fails(stays, "its worker exited with status 1 before it served: .*Address already in use")


def test_a_new_listener_of_a_failed_upgrade_is_closed_again(upgradable, fast_origin):
    gateway = upgradable(forward(), origin=fast_origin.port)
    taken = gateway.write("taken", "mine")
    more = forward().replace("listeners:", 'listeners:\n  more: {address: "127.0.0.1:@more@"}')
    gateway.has_admin = False
    gateway.configure(more + f'admin: {{address: "unix:{taken}"}}\n')
    done = subprocess.run([BINARY, "upgrade", "--admin", gateway.admin_socket], env=gateway.env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "a file that is no socket is in its place" in gateway.stderr()
    with pytest.raises(ConnectionRefusedError):
        fetch(gateway.port("more"))
    assert fetch(gateway.port("http"), "/version").status == 200


def test_only_one_upgrade_at_a_time(stays):
    allow(stays, "10s")
    stays.install("/bin/sh")
    stays.write("run", "exec sleep 600\n")
    stays.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: "upgrading to" in stays.stderr(), "the first")
    done = stays.upgrade()
    assert done.returncode == 1 and "another one is running" in done.stderr
    wait_for(lambda: "it did not serve within" in stays.stderr(), "its end")


def test_a_worker_that_dies_during_an_upgrade_is_replaced_by_the_new_one(upgradable, origin):
    gateway = upgradable(forward(), origin=origin.port)
    gateway.may_die = True
    old = gateway.worker()
    gateway.process.send_signal(signal.SIGUSR2)
    os.kill(old, signal.SIGKILL)
    wait_new_worker(gateway, old)
    assert fetch(gateway.port("http"), "/version").text == "1"


def test_a_worker_that_dies_while_the_new_one_hangs_is_replaced_all_the_same(upgradable, origin):
    gateway = upgradable(forward().replace("upgrade: {", "upgrade: {ready_timeout: 10m, "), origin=origin.port)
    gateway.may_die = True
    gateway.install("/bin/sh")
    gateway.write("run", "exec sleep 600\n")
    gateway.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: "upgrading to" in gateway.stderr(), "the upgrade")
    os.kill(gateway.worker(), signal.SIGKILL)
    assert fetch(gateway.port("http"), "/version").text == "1", "nobody waits for upgrade.ready_timeout"
    assert "it did not serve within" in gateway.stderr()
    wait_for(lambda: len(gateway.workers()) == 1, "the new one to be gone")


def test_an_upgrade_is_the_way_out_of_a_crash_loop(upgradable, origin):
    gateway = upgradable(forward(), origin=origin.port)
    gateway.may_die = True
    pid = gateway.worker()
    for deaths in range(1, 100):
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: gateway.stderr().count(" died: ") == deaths, "the word of it")
        if "started in 800 ms" in gateway.stderr():
            break
        pid = wait_for(lambda: next((new for new in gateway.pids()[1:] if new != pid), None), "another worker")
    gateway.install()
    gateway.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: gateway.runs() == gateway.binary.stat().st_ino, f"the new binary; {gateway.stderr()}")
    assert fetch(gateway.port("http"), "/version").text == "1"
    assert gateway.upgrade().returncode == 0


def is_over(pid, threads):
    """The threads that serve have ended: what is left waits for its last words, or is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) <= threads
    except FileNotFoundError:
        return True


def end_and_freeze(gateway, old):
    """A worker that has nothing left to do but to hand on an answer, for which it waits for a second, stands still. False: that
    took too long."""
    threads = len(os.listdir(f"/proc/{old}/task"))
    began = time.monotonic()
    os.kill(old, signal.SIGTERM)
    wait_for(lambda: is_over(old, threads - 2), "its threads to end")
    try:
        freeze(old)
        if time.monotonic() < began + 0.5:
            return True
        os.kill(old, signal.SIGCONT)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return False


def test_a_worker_that_stands_still_at_its_end_still_says_how_the_upgrade_went(upgradable, origin):
    for _ in range(10):
        gateway = upgradable(forward(threads=2), origin=origin.port)
        old = gateway.worker()
        # the next worker, and then the supervisor, is a shell first (see above)
        gateway.write("run", f'while ! test -e go; do sleep 0.05; done; exec {BINARY} run "$@"\n')
        gateway.install("/bin/sh")
        asked = subprocess.Popen([BINARY, "upgrade", "-c", gateway.config_path], env=gateway.env, stdout=subprocess.PIPE, text=True)
        wait_for(lambda: "upgrading to" in gateway.stderr(), "the upgrade")
        if end_and_freeze(gateway, old):
            break
        gateway.write("go", "")
        wait_new_worker(gateway, old)
        asked.communicate(timeout=60)
    else:
        pytest.fail("this machine is never quick enough")
    frozen = time.monotonic()
    gateway.write("go", "")
    wait_new_worker(gateway, old)
    gateway.reload()  # what the supervisor had to say before has been said
    wait_for(lambda: time.monotonic() > frozen + 1.1, "the second to pass")
    os.kill(old, signal.SIGCONT)
    assert re.fullmatch(r"weir \S+ is serving\n", asked.communicate(timeout=60)[0])
    assert asked.returncode == 0


def test_three_binaries_at_once_each_finish_their_own(upgradable, origin):
    """An upgrade does not wait for what the one before it left."""
    go = threading.Event()
    origin.on("/slow", lambda exchange: (go.wait(60), exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")))
    gateway = upgradable(forward(), origin=origin.port)
    clients = []
    for i in range(3):
        clients.append(Client(gateway.port("http")))
        clients[-1].request("GET", "/slow")
        wait_for(lambda: len(origin.requests) == i + 1, "the request at the origin")
        gateway.install()
        assert gateway.upgrade().returncode == 0
    assert len(gateway.workers()) == 4
    go.set()
    for client in clients:
        assert client.response().text == "slow"
        client.close()
    wait_for(lambda: gateway.workers() == [gateway.worker()], "the old ones to be gone")


def test_reloads_and_upgrades_at_the_same_time_end_with_what_the_file_says(upgradable, fast_origin):
    gateway = upgradable(forward(0), origin=fast_origin.port)
    with Load(gateway.port("http"), [("GET", "/", None, None), ("GET", "/version", None, None)], connections=4) as load:
        for version in range(1, 7):
            gateway.configure(forward(version))
            gateway.process.send_signal(signal.SIGHUP)
            gateway.process.send_signal(signal.SIGUSR2)
            gateway.process.send_signal(signal.SIGHUP)
            wait_for(lambda: fetch(gateway.port("http"), "/version").text == str(version), "the new version")
            wait_for(lambda: gateway.stderr().count("upgraded to weir") + gateway.stderr().count("no upgrade: ") >= version, "the upgrade")
            gateway.process.send_signal(signal.SIGHUP)
        load.wait_requests(50)
    load.check()
    assert gateway.stderr().count("upgraded to weir") >= 2
    assert gateway.metric("weir_worker_restarts_total") == 0


def test_sigterm_during_an_upgrade_ends_everything(upgradable, origin):
    gateway = upgradable(forward(), origin=origin.port)
    for _ in range(3):
        gateway.process.send_signal(signal.SIGUSR2)
        assert gateway.terminate() == 0
        assert gateway.workers() == [gateway.process.pid]
        gateway.start()


def test_a_handover_that_is_none_is_refused(weir):
    """The variable may be left over in somebody's environment."""
    gateway = weir(config(), start=False)
    gateway.env["WEIR_HANDOVER"] = "0"
    done = gateway.run("run", "-c", str(gateway.config_path), stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert "cannot take over from the binary before this one" in done.stderr
