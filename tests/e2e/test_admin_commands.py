"""`weir status` and `weir reload`, and the life of the admin socket."""
import json
import os
import socket
import threading

import pytest

from weir import CONFIG, wait_for

TEXT = """
listeners: {http: {address: "127.0.0.1:@http@"}}
certificates: {self: {self_signed: [a.example]}}
target_groups: {users: {targets: ["127.0.0.1:@users@"], health_check: {enabled: false}}}
routes: [{name: all, forward: users}]
"""
WITH_ADMIN = TEXT + 'admin: {address: "unix:@tmp@/@name@"}\n'


def test_status_prints_what_serves(weir):
    gateway = weir(TEXT)
    done = gateway.run("status", "-c", CONFIG)
    assert done.returncode == 0 and done.stderr == ""
    for word in ("ready", "generation 1", f"127.0.0.1:{gateway.port('http')}", "a.example", "users", f"127.0.0.1:{gateway.port('users')}"):
        assert word in done.stdout, word


def test_status_as_json_is_the_admin_page(weir):
    gateway = weir(TEXT)
    said = json.loads(gateway.run("status", "--json", "-c", CONFIG).stdout)
    assert said["generation"] == 1 and said["last_reload"]["ok"] is True and said["last_reload"]["error"] is None
    assert said["listeners"] == [{"name": "http", "addresses": [f"127.0.0.1:{gateway.port('http')}"], "protocol": "http",
                                  "tls": False, "connections": None}]
    assert [(c["name"], c["names"]) for c in said["certificates"]] == [("self", ["a.example"])]
    assert [(t["target"], t["state"]) for t in said["target_groups"][0]["targets"]] == [(f"127.0.0.1:{gateway.port('users')}", "unchecked")]
    assert set(said) == set(json.loads(gateway.admin("/status")[1]))


@pytest.mark.parametrize("address", ["unix:{0}", "{0}"])
def test_the_socket_may_be_named_directly(weir, address):
    gateway = weir(TEXT)
    assert gateway.run("status", "--admin", address.format(gateway.admin_socket)).returncode == 0


def test_status_works_while_the_file_is_being_edited(weir):
    gateway = weir(TEXT)
    gateway.configure(TEXT + "nonsense: 1\n")
    assert gateway.run("status", "-c", CONFIG).returncode == 0


@pytest.mark.parametrize("command", ["status", "reload"])
def test_nobody_listening_is_said_clearly(weir, command):
    gateway = weir(TEXT, start=False)
    done = gateway.run(command, "-c", CONFIG)
    assert done.returncode == 1 and done.stdout == ""
    assert "nobody listens" in done.stderr and gateway.admin_socket in done.stderr


@pytest.mark.parametrize("arguments", [("status", "--what"), ("status", "a", "b"), ("reload", "--json"), ("status", "--admin", "nonsense"),
                                       ("status", "-c", "/nonexistent.yaml")])
def test_wrong_arguments_are_refused(weir, arguments):
    done = weir(TEXT, start=False).run(*arguments)
    assert done.returncode in (1, 2) and done.stderr and done.stdout == ""


def test_reload_waits_for_the_new_generation(weir):
    gateway = weir(TEXT)
    for generation in (2, 3):
        done = gateway.run("reload", "-c", CONFIG)
        assert (done.returncode, done.stdout) == (0, f"generation {generation} is serving: no changes\n")
        assert gateway.generation() == generation


def test_a_failed_reload_shows_the_mistake_and_the_old_generation_stays(weir):
    gateway = weir(TEXT)
    gateway.configure(TEXT.replace("forward: users", "forward: usres"))
    done = gateway.run("reload", "-c", CONFIG)
    assert done.returncode == 1 and "usres" in done.stderr and "weir.yaml:" in done.stderr
    status, text = gateway.admin("/reload", "POST")
    assert status == 422 and "usres" in json.loads(text)["error"]
    said = json.loads(gateway.admin("/status")[1])
    assert said["generation"] == 1 and said["last_reload"]["ok"] is False and "usres" in said["last_reload"]["error"]
    assert gateway.metric("weir_config_last_reload_success") == 0
    assert "FAILED" in gateway.run("status", "-c", CONFIG).stdout
    gateway.configure(TEXT)
    assert gateway.run("reload", "-c", CONFIG).returncode == 0
    assert gateway.metric("weir_config_last_reload_success") == 1


def test_reloads_at_the_same_time_all_get_an_answer(weir):
    gateway = weir(TEXT)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(gateway.admin("/reload", "POST")[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 8


def test_a_client_that_leaves_during_its_reload_does_no_harm(weir):
    gateway = weir(TEXT)
    for _ in range(5):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(gateway.admin_socket)
            sock.sendall(b"POST /reload HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    wait_for(lambda: gateway.admin("/reload", "POST")[0] == 200, "another reload")


@pytest.mark.parametrize("path, method, status, allow", [
    ("/reload", "GET", 405, "POST"), ("/status", "POST", 405, "GET, HEAD"), ("/metrics", "PUT", 405, "GET, HEAD"), ("/nothing", "GET", 404, None),
    ("/status/", "GET", 404, None), ("/status?x=1", "GET", 200, None), ("/metrics", "HEAD", 200, None)])
def test_other_paths_and_methods_are_refused_in_json(weir, path, method, status, allow):
    from client import Client
    gateway = weir(TEXT)
    with Client(0, unix=gateway.admin_socket) as client:
        client.request(method, path)
        response = client.response(method)
    assert (response.status, response.get("allow")) == (status, allow)
    if status >= 400:
        assert json.loads(response.body)["status"] == status


def test_the_socket_goes_with_the_process(weir):
    gateway = weir(TEXT)
    assert os.path.exists(gateway.admin_socket)
    gateway.terminate()
    assert not os.path.exists(gateway.admin_socket)


def test_a_folder_for_the_socket_is_made(weir):
    gateway = weir(WITH_ADMIN, name="new/admin.sock", start=False)
    gateway.admin_socket = str(gateway.folder / "new" / "admin.sock")
    gateway.start()
    wait_for(gateway.is_ready, "the admin socket in a new folder")


@pytest.mark.parametrize("kind", ["file", "folder", "live"])
def test_what_is_in_the_socket_s_place_and_not_ours_is_left_alone(weir, kind):
    gateway = weir(WITH_ADMIN, name="taken", start=False)
    path = gateway.folder / "taken"
    with socket.socket(socket.AF_UNIX) as live:
        if kind == "file":
            path.write_text("precious")
        elif kind == "folder":
            path.mkdir()
        else:
            live.bind(str(path))
            live.listen()
        gateway.start()
        gateway.expected_exit = 1
        assert gateway.process.wait(60) == 1
    assert str(path) in gateway.stderr()
    assert path.exists() and (kind != "file" or path.read_text() == "precious")


def test_a_reload_moves_the_socket(weir):
    gateway = weir(TEXT)
    old, gateway.admin_socket = gateway.admin_socket, str(gateway.folder / "moved.sock")
    gateway.configure(TEXT)
    gateway.process.send_signal(1)
    wait_for(gateway.is_ready, "the new socket")
    wait_for(lambda: not os.path.exists(old), "the old one to be gone")


def test_a_socket_that_was_deleted_comes_back_with_a_reload(weir):
    gateway = weir(TEXT)
    os.unlink(gateway.admin_socket)
    gateway.process.send_signal(1)
    wait_for(gateway.is_ready, "the socket")


def test_a_default_socket_that_cannot_be_opened_is_a_warning(weir):
    gateway = weir(TEXT, start=False)
    if os.getuid() == 0:
        pytest.skip("root may write to /run")
    gateway.has_admin = False
    gateway.configure(TEXT)
    gateway.start()
    wait_for(lambda: "no admin listener" in gateway.stderr(), "the warning")
