"""`weir check`, `weir schema` and `weir help` with the real binary.

tests/e2e/broken/ holds one mistake (or a few) per file: NAME.yaml and, in NAME.expected, every line that `weir check`
prints about it, run from that folder. `@word@` in an expectation stands for a value that depends on the day. Files below
generated/ are made by this module.
"""
import datetime
import fcntl
import json
import os
import re
import resource
import shutil
import subprocess
import termios
from pathlib import Path

import jsonschema
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from command import allowed
from weir import BINARY, ROOT, SANITIZED, wait_for

BROKEN = Path(__file__).parent / "broken"
CASES = sorted(path.stem for path in BROKEN.glob("*.yaml"))
SECRET = "hunter22"
ENVIRONMENT = dict({name: value for name, value in os.environ.items() if not name.startswith("WEIR_TEST_")},
                   WEIR_TEST_SECRET=SECRET)
LISTENERS = 'listeners: {http: {address: "127.0.0.1:8080"}}\n'
NOW = datetime.datetime.utcnow()
DAY = datetime.timedelta(days=1)


def weir(*arguments, cwd=None, stdin=None, env=ENVIRONMENT):
    done = subprocess.run([BINARY, *map(str, arguments)], cwd=cwd, input=stdin, env=env, capture_output=True, text=True,
                          timeout=300)
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
    return done


def certificate(key, start, end, issuer=None, name="www.example.com"):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(key, hashes.SHA256()))


def write_pem(path, *items):
    with open(path, "wb") as file:
        for item in items:
            if isinstance(item, x509.Certificate):
                file.write(item.public_bytes(serialization.Encoding.PEM))
            else:
                file.write(item.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                              serialization.NoEncryption()))
    os.chmod(path, 0o600)


def generate(folder):
    folder.mkdir()
    keys = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
    good = certificate(keys[0], NOW - DAY, NOW + 400 * DAY)
    write_pem(folder / "rsa.pem", good)
    write_pem(folder / "rsa.key", keys[0])
    write_pem(folder / "other.key", keys[1])
    write_pem(folder / "open.key", keys[0])
    os.chmod(folder / "open.key", 0o644)
    write_pem(folder / "ec.key", ec.generate_private_key(ec.SECP256R1()))
    write_pem(folder / "expired.pem", certificate(keys[0], datetime.datetime(2020, 1, 1), datetime.datetime(2021, 1, 1)))
    write_pem(folder / "soon.pem", certificate(keys[0], NOW - DAY, NOW + 10.5 * DAY))
    write_pem(folder / "future.pem", certificate(keys[0], NOW + 10 * DAY, NOW + 90 * DAY))
    write_pem(folder / "unordered.pem", good, certificate(keys[1], NOW - DAY, NOW + 90 * DAY, name="other.example.com"))


def values():
    return {"expired_days": str((datetime.datetime.utcnow() - datetime.datetime(2021, 1, 1)).days),
            "soon_date": (NOW + 10.5 * DAY).strftime("%Y-%m-%d"), "future_date": (NOW + 10 * DAY).strftime("%Y-%m-%d")}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check") / "broken"
    shutil.copytree(BROKEN, folder)
    generate(folder / "generated")
    return folder


def test_the_folder_of_broken_configurations_is_complete():
    assert len(CASES) >= 90
    assert CASES == sorted(path.stem for path in BROKEN.glob("*.expected"))


@pytest.mark.parametrize("name", CASES)
def test_broken_configuration_gives_exactly_its_findings(broken, name):
    expected = (BROKEN / f"{name}.expected").read_text()
    expected = re.sub(r"@(\w+)@", lambda found: values()[found[1]], expected)
    done = weir("check", f"{name}.yaml", cwd=broken)
    assert done.stderr == expected
    only_warnings = all(": warning: " in line for line in expected.splitlines())
    assert done.returncode == (0 if only_warnings else 1)
    assert done.stdout.startswith(f"{name}.yaml: ok (") if only_warnings else done.stdout == ""
    assert SECRET not in done.stderr


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("yaml_b")])
def test_yaml_bombs_are_refused_in_no_time(broken, name):
    started = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    weir("check", f"{name}.yaml", cwd=broken)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - started < allowed(5 if SANITIZED else 0.5)


def many_routes(count):
    yield LISTENERS + "target_groups:\n"
    for i in range(count):
        yield f"  group{i}: {{targets: '10.0.0.1:9001'}}\n"
    yield "routes:\n"
    for i in range(count):
        yield f"  - {{name: route{i}, match: {{host: h{i}.example.com, path: /{i}/*}}, forward: group{i}}}\n"


def cpu_seconds(*arguments, **options):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = weir(*arguments, **options)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_ten_thousand_routes_are_checked_within_300_ms(tmp_path):
    path = tmp_path / "many.yaml"
    path.write_text("".join(many_routes(10000)))
    readings = []
    for _ in range(3):
        done, seconds = cpu_seconds("check", path)
        assert done.stdout == f"{path}: ok (1 listener, 10000 routes, 10000 target groups)\n", done.stderr
        readings.append(seconds)
    assert min(readings) < allowed(10 if SANITIZED else 0.3)


def test_a_file_of_ten_megabytes_is_checked_within_two_seconds(tmp_path):
    path = tmp_path / "large.yaml"
    route = "  - {name: route@, match: {host: h@.example.com, path: /@/*}, respond: {status: 200, body: hello}}\n"
    with open(path, "w") as file:
        file.write(LISTENERS + "routes:\n")
        for i in range(100000):
            file.write(route.replace("@", str(i)))
    assert path.stat().st_size > 10_000_000
    done, seconds = cpu_seconds("check", path)
    assert done.stdout == f"{path}: ok (1 listener, 100000 routes, 0 target groups)\n", done.stderr
    assert seconds < allowed(60 if SANITIZED else 2)


@pytest.mark.parametrize("text", ["key{}: 1\n", "- {}\n", "{{a: {}}}\n", "a{}: &a{} [*a]\n", "# {}\n"],
                         ids=["keys", "list", "documents", "anchors", "comments"])
def test_ten_megabytes_of_anything_end_soon(tmp_path, text):
    path = tmp_path / "large.yaml"
    with open(path, "w") as file:
        for i in range(10_000_000 // len(text.format(100000, 100000))):
            file.write(text.format(i, i))
    done, seconds = cpu_seconds("check", path)
    assert done.returncode == 1 and str(path) in done.stderr
    assert seconds < allowed(60 if SANITIZED else 4)


def test_a_file_larger_than_all_bounds_is_refused(tmp_path):
    path = tmp_path / "huge.yaml"
    with open(path, "w") as file:
        file.truncate(65 << 20)
    done, seconds = cpu_seconds("check", path)
    assert done.stderr == f"{path}: cannot be read: it is too large\n" and done.returncode == 1
    assert seconds < allowed(1)


def test_several_files_are_checked_each_by_itself(tmp_path):
    (tmp_path / "good.yaml").write_text(LISTENERS)
    (tmp_path / "bad.yaml").write_text("listeners: {}\n")
    done = weir("check", "good.yaml", "-c", "bad.yaml", "good.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == "good.yaml: ok (1 listener, 0 routes, 0 target groups)\n" * 2
    assert done.stderr == "bad.yaml:1:12: listeners is empty (expected at least one)\n"


def test_standard_input_can_be_checked():
    done = weir("check", "-", stdin=LISTENERS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "-: ok (1 listener, 0 routes, 0 target groups)\n", "")
    assert weir("check", "-", stdin="a: [\n").stderr == "-:2:1: not YAML: did not find expected node content\n"


def test_a_pipe_is_read_until_its_writer_is_done():
    end, writer = os.pipe()
    with subprocess.Popen([BINARY, "check", f"/dev/fd/{end}"], pass_fds=[end], stderr=subprocess.PIPE, text=True) as process:
        os.write(writer, LISTENERS.encode())
        wait_for(lambda: fcntl.ioctl(end, termios.FIONREAD, b"\0" * 4) == b"\0" * 4, "the first half is taken")
        os.write(writer, b"worker_threads: 0\n")
        os.close(writer)
        findings = process.communicate(timeout=120)[1]
    os.close(end)
    assert findings == f"/dev/fd/{end}:2:17: worker_threads is out of bounds: \"0\" (expected a number from 1 to 256)\n"


def test_a_fifo_that_nobody_writes_is_empty(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert weir("check", "fifo", cwd=tmp_path).stderr == "fifo: the file is empty\n"


@pytest.mark.parametrize("arguments", [[], ["--print"], ["--prin", "a.yaml"], ["-x"]], ids=str)
def test_command_lines_that_make_no_sense_get_usage_and_status_2(arguments):
    done = weir("check", *arguments)
    assert done.returncode == 2 and "usage: weir check" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("arguments", [["schema"], ["reason"], ["help"], ["version"], ["check", "--print", "edge.yaml"],
                                       ["explain", "http://a/", "-c", "edge.yaml"]], ids=lambda words: words[0])
def test_a_full_disk_is_no_success(tmp_path, arguments):
    (tmp_path / "edge.yaml").write_text("listeners: {http: {address: '127.0.0.1:80'}}\nroutes: [{name: all, echo: true}]\n")
    with open("/dev/full", "w") as full:
        done = subprocess.run([BINARY, *arguments], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "No space left" in done.stderr


# --- print ----------------------------------------------------------------------------------------------------------

WITH_SECRETS = LISTENERS + """
target_groups: {users: {targets: ["10.0.0.1:9001", "${env:WEIR_TEST_TARGET}"]}}
routes:
  - name: all
    match: {header: {x-key: "${env:WEIR_TEST_SECRET}"}, method: GET}
    request_headers: {set: {authorization: "Bearer ${file:token.txt}", x-plain: visible}}
    forward: users
  - {name: other, respond: {body: "<${env:WEIR_TEST_SECRET}>", status: "${env:WEIR_TEST_STATUS}"}}
"""


def test_print_masks_what_came_from_outside(tmp_path):
    (tmp_path / "edge.yaml").write_text(WITH_SECRETS)
    (tmp_path / "token.txt").write_text("t0k3n\n")
    env = dict(ENVIRONMENT, WEIR_TEST_TARGET="10.9.8.7:6543", WEIR_TEST_STATUS="218")
    done = weir("check", "--print", "edge.yaml", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    for secret in (SECRET, "t0k3n", "10.9.8.7", "218"):
        assert secret not in done.stdout + done.stderr
    printed = yaml.safe_load(done.stdout)
    assert printed["routes"][0]["request_headers"]["set"] == {"authorization": "***", "x-plain": "visible"}
    assert printed["routes"][0]["match"] == {"header": "***", "method": ["GET"]}
    assert printed["routes"][1]["respond"]["body"] == "***"
    assert [target["address"] for target in printed["target_groups"]["users"]["targets"]] == ["10.0.0.1:9001", "***"]


def test_print_shows_defaults(tmp_path):
    done = weir("check", "-", "--print", stdin=LISTENERS)
    assert done.returncode == 0 and done.stderr == "-: ok (1 listener, 0 routes, 0 target groups)\n"
    printed = yaml.safe_load(done.stdout)
    assert printed["worker_threads"] == len(os.sched_getaffinity(0))
    assert printed["access_log"] == {"enabled": True, "format": "json", "path": "stdout"}
    assert printed["admin"]["address"] == "unix:/run/weir/admin.sock"
    assert printed["shutdown_timeout"] == "30s"
    assert printed["limits"] == {
        "header_block": "32KiB", "url": "8KiB", "headers": 100, "max_body": 0, "header_timeout": "10s",
        "body_timeout": "30s", "idle_timeout": "1m", "send_timeout": "30s", "max_connections": 0,
        "connections_per_ip": 0, "accept_rate": 0, "accept_rate_per_ip": 0, "min_body_rate": 128, "min_send_rate": 128,
        "keepalive_time": "1h", "keepalive_requests": 0, "retry_buffers": "64MiB", "lambda_buffers": "256MiB", "desync_mitigation": "defensive", "http2": {
            "max_streams": 128, "stream_window": "64KiB", "connection_window": "1MiB", "ping_interval": "30s",
            "ping_timeout": "15s", "settings_timeout": "10s", "resets": 200, "stream_errors": 100, "pings": 200, "settings": 50, "priorities": 1000,
            "empty_frames": 200, "window_updates": 1000, "continuations": 16, "field_sections": 4}}
    assert printed["listeners"] == {"http": {"address": "127.0.0.1:8080", "protocol": "http", "idle_timeout": 0,
                                             "max_connections": 0, "accept_rate": 0, "protocols": ["http/1.1"], "server_header": True}}


EVERYTHING = """
worker_threads: 3
access_log: {enabled: false, path: logs/access.log}
admin: {address: "unix:/tmp/weir admin.sock", tcp: "127.0.0.1:9900"}
state_dir: state
shutdown_timeout: 90s
limits: {header_block: 64KiB, url: 10000, headers: 50, max_body: 10MB, header_timeout: 1500ms, max_connections: 1000}
listeners:
  http: {address: ["127.0.0.1:8080", "[::1]:8080"]}
  https:
    address: "127.0.0.1:8443"
    tls: {policy: modern, certificates: [site, shop], handshake_timeout: 3s, session_tickets: false}
certificates: {site: {self_signed: [localhost, "*.example.com", 127.0.0.1]}, shop: {self_signed: shop.example.com}}
trusted_proxies: [10.0.0.0/8, "2001:db8::/32", 192.0.2.1]
forwarding: {x_forwarded: remove, client_port: true, via: false, amzn_trace_id: false}
target_groups:
  users:
    targets: ["10.0.0.1:9001", {address: "name.example.com:9001", weight: 0, zone: b}, "unix:/tmp/x y", "[::1]:80"]
    health_check: {enabled: false, path: "/health?deep=1", matcher: "200-299,301", interval: 1h, timeout: 250ms}
    timeouts: {connect: 100ms}
    pool: {max_idle: 0}
  other: {targets: "10.0.0.1:1"}
routes:
  - name: "one: two # three"
    match:
      listener: [http, https]
      host: ["*.example.com", "null"]
      path: ["/a*", '/b\\*?']
      path_prefix: /c
      path_exact: /d
      path_regex: '^/e/(\\d+)$'
      method: [GET, POST]
      header: {x-a: ["1*", "true"], x-b: "$${literal}"}
      query: {"*": "x", q: ""}
      source_ip: [10.0.0.0/8, "::1"]
    rewrite: {path: "^/e/(.*)$", to: "/v2/$1?x=$0"}
    request_headers: {set: {x-team: "a: b"}, add: {x-n: "1"}, remove: [x-debug]}
    response_headers: {remove: server}
    max_body: 1MiB
    forward: [{group: users, weight: 9}, {group: other, weight: 1}]
  - {match: {path: /r}, redirect: {scheme: https, host: "#{host}", path: "/#{path}", query: "#{query}", port: 8443, status: 302}}
  - {match: {path: /s}, respond: {status: 404, body: "line\\nother \\u00e9 \\"quoted\\" \\\\ ${env:WEIR_TEST_NONE:-default}", content_type: text/html}}
  - {match: {path: /f*}, files: {root: ., index: [a.html, b.html], strip_prefix: /f}}
  - {name: last, echo: true}
tests:
  - {request: "http://a/", expect: {route: last, status: 200, headers: {server: "a: b"}}}
  - name: all of it
    request: {url: "https://a/?b", method: PUT, headers: {x-a: "1", "on": "y"}, ip: "2001:db8::1", listener: https}
    expect: {listener: https, certificate: "-", client_ip: 192.0.2.1, path: /a, route: "-", reason: "-", target_group: users, target_url: "/a?b", location: "/x", target_headers: {a: b}}
"""


def test_what_print_shows_loads_to_the_same():
    first = weir("check", "--print", "-", stdin=EVERYTHING)
    assert first.returncode == 0, first.stderr
    again = weir("check", "--print", "-", stdin=first.stdout)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout


# --- schema ---------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def schema():
    done = weir("schema")
    assert done.returncode == 0 and done.stderr == ""
    schema = json.loads(done.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def complaints(schema, text):
    return [f"{error.json_path}: {error.message}" for error in schema.iter_errors(yaml.safe_load(text))]


def good_configurations():
    return [pytest.param(path.read_text(), id=str(path.relative_to(ROOT))) for path in sorted(ROOT.glob("conf/**/*.yaml"))] + [
        pytest.param(EVERYTHING, id="everything"), pytest.param(LISTENERS, id="smallest"),
        pytest.param(WITH_SECRETS + "include: [conf.d/*.yaml]\nworker_threads: ${env:N}\nlimits:\n", id="secrets")]


@pytest.mark.parametrize("text", good_configurations())
def test_the_schema_takes_what_weir_takes(schema, text):
    assert complaints(schema, text) == []


def test_the_schema_takes_what_print_shows(schema):
    assert complaints(schema, weir("check", "--print", "-", stdin=EVERYTHING).stdout) == []


@pytest.mark.parametrize("name", [name for name in CASES if re.match(r"unknown_key|wrong_type_(?!match_header)|bounds_(?!url|number|shutdown)|"
                                                                     r"bad_duration(?!_huge)|bad_size|bad_choice", name)])
def test_the_schema_refuses_broken_configurations(schema, name):
    # yaml.safe_load reads YAML 1.1, where `yes` is a boolean
    text = (BROKEN / f"{name}.yaml").read_text().replace("enabled: yes", "enabled: 'yes'")
    assert not schema.is_valid(yaml.safe_load(text))


# --- help -----------------------------------------------------------------------------------------------------------

def schema_settings(schema):
    """Every dotted path of the schema."""
    def walk(node, path):
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
        for name, child in node.get("properties", {}).items():
            yield path + [name]
            yield from walk(child, path + [name])
        for child in node.get("anyOf", []):
            if "description" in child:
                continue  # the short form of a section
            if child.get("type") == "array":
                child = child["items"]
            if isinstance(child.get("additionalProperties"), dict):
                child = child["additionalProperties"]
            yield from walk(child, path)
    return sorted({".".join(path) for path in walk(schema, [])})


def test_every_setting_of_the_schema_has_its_manual_page(schema):
    settings = schema_settings(schema.schema)
    assert len(settings) > 100 and "routes.match.host" in settings and "listeners.tls.policy" in settings
    done = weir("help", *settings)
    assert done.returncode == 0, done.stderr
    shown = [line for line in done.stdout.splitlines() if line and line[0] != " " and line != "Settings:"]
    assert [re.sub(r"\.NAME|\[\]", "", line) for line in shown] == settings


def test_help_shows_value_bounds_and_default():
    assert weir("help", "target_groups.health_check.interval").stdout == (
        "target_groups.NAME.health_check.interval\n\n"
        "    Time between two checks of a target.\n\n"
        "    Value:    a duration like 500ms, 30s, 5m, 1h or 7d\n"
        "    Bounds:   from 100ms to 1h\n"
        "    Default:  30s\n"
        "    Change:   taken over by a reload\n")


def test_help_without_a_setting_lists_the_sections():
    done = weir("help")
    assert done.returncode == 0 and re.search(r"^ +target_groups +\S", done.stdout, re.M)


def test_help_finds_a_setting_by_its_last_name():
    assert weir("help", "healthy_threshold").stdout.startswith("target_groups.NAME.health_check.healthy_threshold\n")


def test_help_lists_candidates_when_a_name_is_not_unique():
    done = weir("help", "path")
    assert done.returncode == 1 and done.stdout == ""
    assert "routes[].match.path\n" in done.stderr and "target_groups.NAME.health_check.path\n" in done.stderr


@pytest.mark.parametrize("typed, meant", [("listners", "listeners"), ("limits.header_blok", "header_block"),
                                          ("routes.match.hosts", "host"), ("helthy_threshold", "healthy_threshold")])
def test_help_knows_what_was_likely_meant(typed, meant):
    done = weir("help", typed)
    assert done.returncode == 1 and done.stdout == "" and f'did you mean "{meant}"?' in done.stderr
