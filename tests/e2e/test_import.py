"""weir import alb: what the AWS CLI prints (tests/e2e/alb has it) becomes a configuration that weir takes, and a report
that leaves nothing out."""
import json
import re
import subprocess
from pathlib import Path

import pytest

from weir import BINARY

FILES = Path(__file__).resolve().parent / "alb"
ALL = ["web=web-health.json", "canary=canary-health.json", "web=web-attributes.json", "load-balancer-attributes.json", "instances.json",
       "listeners.json", "rules.json", "target-groups.json"]


def run(*args, cwd=FILES):
    return subprocess.run([BINARY, *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=60)


def edit(tmp_path, name, change):
    """A copy of a file with something else in it."""
    document = json.loads((FILES / name).read_text())
    change(document)
    (tmp_path / name).write_text(json.dumps(document))
    return tmp_path / name


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    path = tmp_path_factory.mktemp("import") / "weir.yaml"
    done = run("import", "alb", *ALL, "-o", path)
    return path, done


def findings(done):
    return [re.fullmatch(r"(mapped|approximated|refused) +(.*?): (.*)", line).groups() for line in done.stderr.splitlines()[:-1]]


def test_the_result_passes_weir_check(imported):
    path, done = imported
    checked = run("check", path)
    assert checked.returncode == 0, checked.stderr
    assert "2 listeners, 8 routes, 2 target groups" in checked.stdout


def test_what_has_no_counterpart_makes_the_exit_status_one(imported, tmp_path):
    assert imported[1].returncode == 1
    rules = edit(tmp_path, "rules.json", lambda d: d["Rules"].pop(3))
    health = edit(tmp_path, "canary-health.json", lambda d: d["TargetHealthDescriptions"].pop())
    web = edit(tmp_path, "web-health.json", lambda d: d["TargetHealthDescriptions"].pop())
    done = run("import", "alb", *[f for f in ALL if "rules" not in f and "-health" not in f], rules, f"canary={health}", f"web={web}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].endswith(" 0 refused")


def test_nothing_is_dropped_silently(imported):
    report = imported[1].stderr
    told = findings(imported[1])
    for listener in json.loads((FILES / "listeners.json").read_text())["Listeners"]:
        name = f"{listener['Protocol'].lower()}-{listener['Port']}"
        assert any(where == name for _, where, _ in told)
        for certificate in listener.get("Certificates", []):
            assert certificate["CertificateArn"] in report
    for rule in json.loads((FILES / "rules.json").read_text())["Rules"]:
        assert any(where.endswith("-" + rule["Priority"]) for _, where, _ in told), rule["Priority"]
    for name in ("web-attributes.json", "load-balancer-attributes.json"):
        for attribute in json.loads((FILES / name).read_text())["Attributes"]:
            topic = attribute["Key"].split(".")[0 if "stickiness" in attribute["Key"] else -1]
            known = {"type": "algorithm", "anomaly_mitigation": "algorithm", "duration_seconds": "algorithm", "enabled": ""}
            assert attribute["Key"] in report or known.get(topic, topic).split("_")[0] in report, attribute
    for name in ("web-health.json", "canary-health.json"):
        for target in json.loads((FILES / name).read_text())["TargetHealthDescriptions"]:
            assert target["Target"]["Id"] in report


def test_what_would_let_everybody_in_is_refused(imported):
    assert ("refused", "https-443-40", "action authenticate-oidc: the route answers 503") in findings(imported[1])


@pytest.mark.parametrize("url, route, more", [
    ("http://shop.example/x?q=1", "http-80-default", "redirect 301 to https://shop.example/x?q=1"),
    ("http://shop.example/old/a?q=1", "http-80-5", "redirect 302 to http://new.example.com/moved/old/a"),
    ("https://shop.example/img/a.png?VERSION=V1", "https-443-10", "respond 200"),
    ("https://shop.example/img/a.png?x=my-example", "https-443-10-2", "respond 200"),
    ("https://shop.example/img/a.png?x=y", "https-443-default", "forward to 10.0."),
    ("https://mywebsite-books.com/dp/B09G3HRMW -H X-Team:Blue", "https-443-30", "as /product.php?id=B09G3HRMW"),
    ("https://mywebsite-books.com/dp/B09G3HRMW -H X-Team:Blue", "https-443-30", "internal.dev.books.myweb.com"),
    ("https://mywebsite-books.com/dp/B09G3HRMW -H X-Team:green", "https-443-default", ""),
    ("https://api.example.com/ -H User-Agent:Mozilla-Chrome", "https-443-20", ""),
    ("https://API.example.com/ -H User-Agent:Chrome", "https-443-default", ""),
    ("https://shop.example/admin/x", "https-443-40", "respond 503"),
])
def test_requests_are_decided_as_the_load_balancer_did(imported, url, route, more):
    done = run("explain", *url.split(" "), "-c", imported[0])
    assert f'route "{route}" takes the request' in done.stdout, done.stdout + done.stderr
    assert more in done.stdout, done.stdout


@pytest.mark.parametrize("protocol, version, lines", [
    ("HTTP", "HTTP2", ["protocol: h2c\n", "health_check: {protocol: h2c, "]),
    ("HTTPS", "HTTP2", ["protocol: h2\n", "tls: {insecure: true}", "health_check: {protocol: h2, "]),
    ("HTTP", "GRPC", ["protocol: grpc\n", 'health_check: {protocol: grpc, path: "/AWS.ALB/healthcheck"', 'matcher: "12"']),
    ("HTTPS", "GRPC", ["protocol: grpc\n", "tls: {insecure: true}"]),
])
def test_versions_of_the_protocol_are_mapped(protocol, version, lines, tmp_path):
    def change(document):
        group = document["TargetGroups"][0]
        group.update(Protocol=protocol, ProtocolVersion=version, HealthCheckProtocol=protocol)
        if version == "GRPC":
            group.update(Matcher={"GrpcCode": "12"}, HealthCheckPath="/AWS.ALB/healthcheck")
        del document["TargetGroups"][1]
    health = edit(tmp_path, "web-health.json", lambda d: d["TargetHealthDescriptions"].pop())
    done = run("import", "alb", "listeners.json", edit(tmp_path, "target-groups.json", change), health)
    assert done.returncode == 0, done.stderr
    for line in lines:
        assert line in done.stdout


def test_the_only_target_group_need_not_be_named(tmp_path):
    groups = edit(tmp_path, "target-groups.json", lambda d: d["TargetGroups"].pop())
    done = run("import", "alb", FILES / "web-health.json", "listeners.json", groups)
    assert 'address: "10.0.1.10:8080"' in done.stdout


@pytest.mark.parametrize("args, says", [
    (["listeners.json", "web-health.json"], "web-health.json: the target group it is about is not in it (expected NAME=FILE)"),
    (["rules.json"], "there is no listener in the files"),
    (["missing.json", "listeners.json"], "cannot read missing.json: No such file"),
    (["listeners.json", "other=web-health.json"], "other: targets of a target group that no file describes"),
    (["listeners.json", "target-groups.json", "web=web-health.json", "rules.json"], "canary: its targets are in none of the files"),
])
def test_what_is_missing_is_told(args, says):
    done = run("import", "alb", *args)
    assert done.returncode == 1 and says in done.stderr


def test_a_file_that_is_something_else_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("[1, 2]")
    (tmp_path / "b.json").write_text('{"Listeners": [')
    assert "none of what describe-listeners" in run("import", "alb", tmp_path / "a.json").stderr
    assert re.search(r"b\.json:1:\d+: ", run("import", "alb", tmp_path / "b.json").stderr)


def test_rules_of_unknown_listeners_and_conditions_are_told(tmp_path):
    def change(document):
        document["Rules"][0]["RuleArn"] = document["Rules"][0]["RuleArn"].replace("f2f7dc8efc522ab2", "0000000000000000")
        document["Rules"][1]["Conditions"].append({"Field": "moon-phase", "Values": ["full"]})
    done = run("import", "alb", *[f for f in ALL if f != "rules.json"], edit(tmp_path, "rules.json", change))
    told = findings(done)
    assert any(kind == "refused" and text == "rule of a listener that no file describes" for kind, _, text in told)
    assert ("refused", "https-443-20", "condition moon-phase: the rule is left out") in told
    assert "name: https-443-20" not in done.stdout


@pytest.mark.parametrize("args", [[], ["alb"], ["nlb", "x.json"], ["alb", "--what", "x.json"]])
def test_usage(args):
    done = run("import", *args)
    assert done.returncode == 2 and done.stderr.startswith("usage: weir import alb")
