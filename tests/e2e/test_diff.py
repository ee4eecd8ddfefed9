"""`weir diff`: what changes between two configurations, and for which logged requests."""
import datetime
import json
import os

import pytest

from command import allowed, log_line, weir
from test_check import certificate, write_pem
from cryptography.hazmat.primitives.asymmetric import rsa
from weir import SANITIZED

OLD = """
listeners:
  http: {address: "127.0.0.1:8080"}
  https: {address: "127.0.0.1:8443", tls: {certificates: site}}
certificates: {site: {self_signed: [a.example]}}
target_groups:
  users: {targets: ["127.0.0.1:9001", {address: "127.0.0.1:9002", weight: 2}]}
  shop: {targets: ["127.0.0.1:9003"]}
routes:
  - {name: users, match: {path: "/users/*"}, forward: users}
  - {name: shop, match: {path: "/shop/*"}, forward: [{group: shop, weight: 1}, {group: users, weight: 1}]}
  - {name: move, match: {path: /old}, redirect: {path: /new}}
  - {name: site, match: {path: "/site/*"}, files: {root: www}}
  - {name: hello, match: {path: /hello}, respond: {status: 200, body: hello}}
"""


@pytest.fixture
def diff(tmp_path):
    """diff(new, ..., old=..., log=...) runs it in a folder; edits of OLD as (from, to) pairs make a new one."""
    def run(new, *arguments, old=OLD, log=None, **options):
        if isinstance(new, list):
            text = old
            for before, after in new:
                assert before in text, before
                text = text.replace(before, after)
            new = text
        (tmp_path / "old.yaml").write_text(old)
        (tmp_path / "new.yaml").write_text(new)
        if log is not None:
            (tmp_path / "access.jsonl").write_text("".join(log))
            arguments += ("--log", "access.jsonl")
        return weir("diff", "old.yaml", "new.yaml", *arguments, cwd=tmp_path, **options)
    return run


def structure(done):
    """{"routes": {"added": [names] ...}} of what is not empty."""
    assert done.returncode in (0, 1), done.stderr
    said = json.loads(done.stdout)
    found = {}
    for name, part in said["structure"].items():
        if name == "settings":
            if part:
                found[name] = {change["path"]: (change["from"], change["to"]) for change in part}
            continue
        for kind, entries in part.items():
            if entries and kind == "changed":
                found.setdefault(name, {})[kind] = {
                    entry["name"]: {change["path"]: (change["from"], change["to"]) for change in entry["settings"]}
                    for entry in entries}
            elif entries and kind == "moved":
                found.setdefault(name, {})[kind] = {entry["name"]: (entry["from_place"], entry["to_place"]) for entry in entries}
            elif entries:
                found.setdefault(name, {})[kind] = [entry["name"] for entry in entries]
    assert said["changed"] is (done.returncode == 1)
    return found


def requests(done):
    """{aspect: {(from, to): count}} of what is not empty."""
    said = json.loads(done.stdout)["requests"]
    found = {aspect: {(row["from"], row["to"]): row["requests"] for row in rows} for aspect, rows in said["changes"].items()}
    return {aspect: rows for aspect, rows in found.items() if rows}


# --- structure ------------------------------------------------------------------------------------------------------

def test_equal_files_do_not_differ(diff):
    done = diff(OLD)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no setting changes\n", "")
    assert structure(diff(OLD, "--json")) == {}


@pytest.mark.parametrize("edits", [
    [("  shop: {targets:", "  shop: {algorithm: round_robin, targets:")], [("forward: users}", "forward: {group: users}}")],
    [("forward: users}", "forward: [{group: users, weight: 1}]}")], [("certificates: site}", "certificates: [site]}")],
    [("redirect: {path: /new}", "redirect: {path: /new, status: 302}")], [("listeners:", "limits: {url: 8192}\nlisteners:")],
    [("name: hello, ", "priority: 0, name: hello, ")],
], ids=lambda edits: edits[0][1])
def test_another_way_to_write_the_same_is_no_change(diff, edits):
    new = OLD
    for before, after in edits:
        new = new.replace(before, after)
    if "status: 302" in new:
        assert structure(diff(new, "--json", old=OLD.replace("path: /new}", "path: /new, status: 302}"))) == {}
    else:
        assert structure(diff(new, "--json")) == {}


@pytest.mark.parametrize("edits, expected", [
    ([("  http: {", "  admin: {address: '127.0.0.1:8081'}\n  http: {")], {"listeners": {"added": ["admin"]}}),
    ([("  shop: {targets", "  old: {targets: []}\n  shop: {targets")], {"target_groups": {"added": ["old"]}}),
    ([("  - {name: hello, match: {path: /hello}, respond: {status: 200, body: hello}}\n", "")], {"routes": {"removed": ["hello"]}}),
    ([("name: hello", "name: hi")], {"routes": {"added": ["hi"], "removed": ["hello"]}}),
    ([("/users/*", "/u/*")], {"routes": {"changed": {"users": {"match.path": ("[/users/*]", "[/u/*]")}}}}),
    ([("weight: 2", "weight: 3")],
     {"target_groups": {"changed": {"users": {"targets[127.0.0.1:9002].weight": ("2", "3")}}}}),
    ([('"127.0.0.1:9001", ', "")],
     {"target_groups": {"changed": {"users": {"targets[127.0.0.1:9001]": ("{address: 127.0.0.1:9001, weight: 1}", None)}}}}),
    ([("{group: users, weight: 1}", "{group: users, weight: 9}")],
     {"routes": {"changed": {"shop": {"forward.groups[users].weight": ("1", "9")}}}}),
    ([("respond: {status: 200, body: hello}", "echo: true")],
     {"routes": {"changed": {"hello": {"respond": ("{status: 200, body: hello, content_type: text/plain; charset=utf-8}", None),
                                       "echo": ("false", "true")}}}}),
    ([("listeners:", "limits: {url: 4KiB}\ntrusted_proxies: [10.0.0.0/8]\nlisteners:")],
     {"settings": {"limits.url": ("8KiB", "4KiB"), "trusted_proxies": (None, "[10.0.0.0/8]")}}),
    ([("tls: {certificates: site}", "tls: {certificates: site, policy: modern}")],
     {"listeners": {"changed": {"https": {"tls.policy": ("intermediate", "modern")}}}}),
    ([("self_signed: [a.example]", "self_signed: [b.example]")],
     {"certificates": {"changed": {"site": {"self_signed": ("[a.example]", "[b.example]")}}}}),
    ([("root: www", "root: web")], {"routes": {"changed": {"site": {"files.root": ("www", "web")}}}}),
], ids=lambda value: "" if isinstance(value, dict) else value[0][1][:40])
def test_changes_are_told_by_name_and_dotted_path(diff, edits, expected):
    done = diff(edits, "--json")
    assert structure(done) == expected
    assert done.returncode == 1


def test_moves_are_as_few_as_possible(diff):
    lines = OLD.splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if "name: users," in line)
    moved = lines[:first] + lines[first + 1:] + [lines[first]]
    assert structure(diff("".join(moved), "--json")) == {"routes": {"moved": {"users": (1, 5)}}}
    text = diff("".join(moved)).stdout
    assert "routes: +0 -0 ~0, 1 moved\n  ~ users  [new.yaml:14]\n      (order): place 1 -> 5\n" in text


def test_priority_moves_routes_too(diff):
    found = structure(diff([("name: hello", "priority: 1, name: hello")], "--json"))
    assert found == {"routes": {"changed": {"hello": {"priority": ("0", "1")}}, "moved": {"hello": (5, 1)}}}


def test_added_and_removed_routes_move_nobody(diff):
    found = structure(diff([("  - {name: users,", "  - {name: x, match: {path: /x}, echo: true}\n  - {name: users,"),
                            ("  - {name: move, match: {path: /old}, redirect: {path: /new}}\n", "")], "--json"))
    assert found == {"routes": {"added": ["x"], "removed": ["move"]}}


def test_the_report_shows_names_positions_and_values(diff):
    done = diff([("name: hello", "name: hi"), ("/users/*", "/u/*"), ("listeners:", "limits: {url: 4KiB}\nlisteners:")])
    assert done.stdout == (
        "routes: +1 -1 ~1\n"
        "  - hello  [old.yaml:14]\n"
        "  ~ users  [new.yaml:11]\n"
        "      match.path: [/users/*] -> [/u/*]\n"
        "  + hi  [new.yaml:15]\n"
        "settings: ~1\n"
        "  ~ limits.url: 8KiB -> 4KiB\n")
    assert done.returncode == 1


def test_files_may_lie_in_different_folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "edge.yaml").write_text("state_dir: state\n" + OLD)
    done = weir("diff", "a/edge.yaml", "b/edge.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "no setting changes\n")


def test_another_certificate_in_the_same_file_is_a_change(tmp_path):
    now = datetime.datetime.utcnow()
    key = rsa.generate_private_key(65537, 2048)
    for name, days in (("a", 100), ("b", 200)):
        (tmp_path / name).mkdir()
        write_pem(tmp_path / name / "site.pem", certificate(key, now - datetime.timedelta(days=1), now + datetime.timedelta(days=days)))
        write_pem(tmp_path / name / "site.key", key)
        (tmp_path / name / "edge.yaml").write_text(OLD.replace("{self_signed: [a.example]}", "{cert: site.pem, key: site.key}"))
    done = weir("diff", "a/edge.yaml", "b/edge.yaml", cwd=tmp_path)
    until = (now + datetime.timedelta(days=200)).strftime("%Y-%m-%d")
    assert done.returncode == 1 and f"(content): valid until " in done.stdout and f"-> valid until {until}" in done.stdout
    (tmp_path / "b" / "site.pem").write_bytes((tmp_path / "a" / "site.pem").read_bytes())
    assert weir("diff", "a/edge.yaml", "b/edge.yaml", cwd=tmp_path).returncode == 0


def test_secrets_are_compared_but_not_shown(diff, tmp_path):
    config = OLD.replace("body: hello", "body: '${file:secret}'")
    (tmp_path / "secret").write_text("hunter22")
    assert diff(config, old=config).returncode == 0
    (tmp_path / "other").write_text("swordfish")
    done = diff([("${file:secret}", "${file:other}")], old=config)
    assert done.returncode == 1
    assert "respond.body: *** -> (another secret)\n" in done.stdout
    said = diff([("${file:secret}", "${file:other}")], "--json", old=config).stdout
    assert not any(word in text for word in ("hunter22", "swordfish") for text in (done.stdout, said))
    assert structure(diff([("${file:secret}", "${file:other}")], "--json", old=config)) == {
        "routes": {"changed": {"hello": {"respond.body": ("***", "***")}}}}


def test_tests_are_no_part_of_what_is_compared(diff):
    assert diff(OLD + "tests: [{request: http://a/, expect: {route: x}}]\n").returncode == 0


def test_what_came_from_includes_is_compared_as_one(diff, tmp_path):
    (tmp_path / "more.yaml").write_text("target_groups: {shop: {targets: ['127.0.0.1:9003']}}\n")
    done = diff([("  shop: {targets: [\"127.0.0.1:9003\"]}\n", ""), ("listeners:", "include: more.yaml\nlisteners:")], "--json")
    assert structure(done) == {}


# --- requests -------------------------------------------------------------------------------------------------------

LOG = [log_line(path=f"/users/{i}", route="users") for i in range(10)] + [
    log_line(path="/old"), log_line(path="/site/x"), log_line(path="/hello"), log_line(path="/none"),
    log_line(path="/hello", listener="https", scheme="https"), log_line(method=None, path=None, status=400, reason="BAD"), "bad\n"]


def test_requests_that_stay_are_no_change(diff):
    done = diff(OLD, "--json", log=LOG)
    said = json.loads(done.stdout)["requests"]
    assert (done.returncode, said["decided"], said["changed"]) == (0, 15, 0)
    assert said["skipped"] == {"bad": 1, "no_request": 1}
    text = diff(OLD, log=LOG).stdout
    assert text.endswith("access.jsonl: 15 requests decided by both (skipped: 1 that is no access log line, 1 without a "
                         "whole request)\nno request changes\n")


def test_a_change_that_no_logged_request_meets_is_still_one(diff):
    done = diff([("/shop/*", "/store/*")], log=LOG)
    assert done.returncode == 1 and "no request changes" in done.stdout


@pytest.mark.parametrize("edits, expected", [
    ([("/users/*", "/users/?")], {}),
    ([("/users/*", "/users/1*")],
     {"route": {("users", "-"): 9}, "answer": {("forwarded", "404 NO_ROUTE"): 9}, "target_group": {("users", "-"): 9}}),
    ([("name: users", "name: people")], {"route": {("users", "people"): 10}}),
    ([("forward: users}", "forward: shop}")], {"target_group": {("users", "shop"): 10}}),
    ([("forward: users}", "rewrite: {path: ^/users, to: /v2}, forward: users}")], {"url": {("users", "users"): 10}}),
    ([("redirect: {path: /new}", "redirect: {path: /newer}")], {"url": {("move", "move"): 1}}),
    ([("respond: {status: 200", "respond: {status: 410")], {"answer": {("200 FIXED_RESPONSE", "410 FIXED_RESPONSE"): 2}}),
    ([("files: {root: www}", "echo: true")], {"answer": {("file", "200 ECHO"): 1}}),
    ([("listeners:", "limits: {url: 4KiB}\nlisteners:")], {}),
    # a listener that goes takes its requests with it; one that is renamed does not
    ([('  https: {address: "127.0.0.1:8443", tls: {certificates: site}}\n', "")],
     {"route": {("hello", "-"): 1}, "answer": {("200 FIXED_RESPONSE", "no listener"): 1}}),
    ([("  https: {address", "  tls: {address")], {}),
    ([("  - {name: users,", "  - {name: all, match: {listener: https}, respond: {status: 200}}\n  - {name: users,")],
     {"route": {("hello", "all"): 1}}),
], ids=lambda value: "" if isinstance(value, dict) else value[0][1][:60])
def test_changed_requests_are_counted_by_aspect(diff, edits, expected):
    assert requests(diff(edits, "--json", log=LOG)) == expected


def test_examples_show_requests_and_where_they_go(diff):
    done = diff([("forward: users}", "rewrite: {path: ^/users, to: /v2}, forward: users}")], "--examples", "1", log=LOG)
    assert "\n10 requests (66.7 %) change:\n\n  url: 10 requests\n          10  users -> users\n" \
           "              line 1: GET http://a.example/users/0 from 203.0.113.9\n" \
           "                /users/0 -> /v2/0\n" in done.stdout
    assert "line 2:" not in done.stdout
    said = json.loads(diff([("name: users", "name: people")], "--json", "--examples", "2", log=LOG).stdout)
    assert said["requests"]["changes"]["route"][0]["examples"] == [
        {"line": 1, "request": "GET http://a.example/users/0", "client": "203.0.113.9"},
        {"line": 2, "request": "GET http://a.example/users/1", "client": "203.0.113.9"}]


def test_a_change_of_weights_moves_its_share_of_requests(diff):
    log = [log_line(path=f"/shop/{i}") for i in range(2000)]
    assert requests(diff([("weight: 2", "weight: 7")], "--json", log=log)) == {}
    found = requests(diff([("{group: shop, weight: 1}", "{group: shop, weight: 3}")], "--json", log=log))
    assert list(found) == ["target_group"] and list(found["target_group"]) == [("users", "shop")]
    assert 400 < found["target_group"][("users", "shop")] < 600  # from a half to a quarter


def test_trusted_proxies_decide_again(diff):
    log = [log_line(path="/x", peer="10.0.0.1", client="203.0.113.9", x_forwarded_for="203.0.113.9")]
    old = OLD.replace("routes:\n", "routes:\n  - {name: proxied, match: {path: /x, header: {x-forwarded-for: '203.*'}}, echo: true}\n"
                                   "  - {name: near, match: {path: /x}, respond: {status: 200}}\n")
    assert requests(diff([("'203.*'", "'204.*'")], "--json", old=old, log=log)) == {
        "route": {("proxied", "near"): 1}, "answer": {("200 ECHO", "200 FIXED_RESPONSE"): 1}}


def test_routes_that_match_on_headers_are_pointed_out(diff):
    done = diff([("path: /hello}", "path: /hello, header: {x-beta: '1'}}")], log=LOG)
    assert "note: the log does not hold the headers that these routes of new.yaml match on: hello\n" in done.stdout
    assert "of old.yaml match on" not in done.stdout


# --- errors ---------------------------------------------------------------------------------------------------------

def test_errors_are_told_from_changes(diff, tmp_path):
    done = diff("nonsense: 1\n", old="nonsense: 2\n")
    assert done.returncode == 2 and done.stdout == ""
    assert "old.yaml:1:1:" in done.stderr and "new.yaml:1:1:" in done.stderr, "one run shows every mistake"
    done = diff(OLD, "--log", "none.jsonl")
    assert done.returncode == 2 and "none.jsonl: No such file" in done.stderr and done.stdout == ""
    done = diff(OLD, log=["bad\n"])
    assert done.returncode == 2 and done.stdout == ""
    for arguments in ([], ["old.yaml"], ["a", "b", "c"], ["old.yaml", "new.yaml", "--examples", "x"], ["--nonsense", "a", "b"]):
        done = weir("diff", *arguments, cwd=tmp_path)
        assert done.returncode == 2 and "usage: weir diff" in done.stderr
    assert weir("diff", "--help").returncode == 0


# --- size -----------------------------------------------------------------------------------------------------------

@pytest.mark.xdist_group("load")
@pytest.mark.timeout(120)
def test_ten_thousand_routes_and_a_hundred_thousand_requests_take_seconds(tmp_path):
    routes, lines = (1000, 10000) if SANITIZED else (10000, 100000)

    def config(order):
        yield 'listeners: {http: {address: "127.0.0.1:8080"}}\ntarget_groups: {g: {targets: "127.0.0.1:1"}}\nroutes:\n'
        for i in order:
            yield f"  - {{name: r{i}, match: {{host: h{i}.example, path: /{i % 7}/*}}, forward: g}}\n"

    (tmp_path / "old.yaml").write_text("".join(config(range(routes))))
    (tmp_path / "new.yaml").write_text("".join(config(reversed(range(routes)))))
    with open(tmp_path / "log", "w") as log:
        for i in range(lines):
            log.write(log_line(host=f"h{i % routes}.example", path=f"/{i % routes % 7}/x", target_group="g"))
    before = os.times()
    done = weir("diff", "old.yaml", "new.yaml", "--log", "log", "--json", cwd=tmp_path)
    after = os.times()
    said = json.loads(done.stdout)
    assert said["requests"]["changed"] == 0 and said["requests"]["decided"] == lines
    assert len(said["structure"]["routes"]["moved"]) == routes - 1
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert seconds < allowed(60 if SANITIZED else 6)
