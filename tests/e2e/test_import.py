"""weir import alb: what the AWS CLI prints (tests/e2e/alb has it) becomes a configuration that weir takes, and a report
that leaves nothing out."""
import json
import random
import re
import subprocess
from pathlib import Path

import pytest

from weir import BINARY

FILES = Path(__file__).resolve().parent / "alb"
ALL = ["web=web-health.json", "canary=canary-health.json", "web=web-attributes.json", "load-balancer-attributes.json", "instances.json",
       "listeners.json", "rules.json", "target-groups.json"]


def run(*args, cwd=FILES):
    return subprocess.run([BINARY, *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=300)


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
    found = [re.fullmatch(r"(mapped|approximated|refused) +(.*?): (.*)", line) for line in done.stderr.splitlines()]
    return [match.groups() for match in found if match]


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
    ("http://shop.example/x?q=1", "http-80-default", "redirect 301 to https://shop.example:443/x?q=1"),
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
    (["web=web-health.json"], "there is no listener in the files"),
    (["missing.json", "listeners.json"], "cannot read missing.json: No such file"),
    (["listeners.json", "other=web-health.json"], "other: targets of a target group that no file describes"),
    (["listeners.json", "target-groups.json", "web=web-health.json", "rules.json"], "canary: its targets are in none of the files"),
])
def test_what_is_missing_is_told(args, says):
    done = run("import", "alb", *args)
    assert done.returncode == 1 and says in done.stderr


def test_rules_alone_become_routes_and_the_report_says_what_to_fill_in(tmp_path):
    def change(document):
        document["Rules"] = [rule for rule in document["Rules"] if not any("Oidc" in key or "Cognito" in key or "Jwt" in key
                                                                           for action in rule["Actions"] for key in action)]
    done = run("import", "alb", edit(tmp_path, "rules.json", change))
    told = findings(done)
    assert any(kind == "approximated" and "listener" in where and text.startswith("no file describes the listener: HTTP on port 80")
               for kind, where, text in told)
    assert any(kind == "approximated" and text.startswith("no file describes the target group: ") for kind, _, text in told)
    assert not [text for _, _, text in told if text.startswith("rule of a listener") or "which no file describes" in text]
    (tmp_path / "weir.yaml").write_text(done.stdout)
    assert run("check", tmp_path / "weir.yaml").returncode == 0
    assert "forward: {groups: [{group: web" in done.stdout and 'http-80: {address: "0.0.0.0:80"}' in done.stdout


def test_three_descriptions_without_targets_have_a_counterpart_for_everything(tmp_path):
    group = "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/web/6d0ecf831eec9f09"
    listener = "arn:aws:elasticloadbalancing:us-east-1:1:listener/app/lb/50dc6c495c0c9188/f2f7dc8efc522ab2"
    forward = [{"Type": "forward", "TargetGroupArn": group}]
    for name, document in {
        "listeners": {"Listeners": [{"ListenerArn": listener, "Protocol": "HTTP", "Port": 80, "DefaultActions": forward}]},
        "groups": {"TargetGroups": [{"TargetGroupArn": group, "TargetGroupName": "web", "Protocol": "HTTP", "Port": 80}]},
        "rules": {"Rules": [{"RuleArn": listener.replace(":listener/", ":listener-rule/") + "/9683b2d02a6cabee", "Priority": "1",
                             "Conditions": [{"Field": "path-pattern", "Values": ["/a/*"]}], "Actions": forward}]}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    done = run("import", "alb", *[tmp_path / f"{name}.json" for name in ("rules", "groups", "listeners")])
    assert done.returncode == 0, done.stderr
    assert any(where == "web" and text.startswith("its targets are in none of the files") for _, where, text in findings(done))


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
    assert done.returncode == 2 and "usage: weir import alb" in done.stderr


# --- every key of the input is told -----------------------------------------------------------------------------------
NAMES = {"Listeners": "ListenerArn", "Rules": "RuleArn", "TargetGroups": "TargetGroupName", "LoadBalancers": "LoadBalancerName"}
BALANCERS = {"LoadBalancers": [{"LoadBalancerArn": "arn:lb", "DNSName": "shop.elb.amazonaws.com", "LoadBalancerName": "shop", "Scheme": "internal",
                                "State": {"Code": "active"}, "Type": "application", "SecurityGroups": ["sg-1"], "IpAddressType": "ipv4",
                                "AvailabilityZones": [{"ZoneName": "a", "SubnetId": "s-1", "LoadBalancerAddresses": []}]}]}


def paths(value, path=""):
    if isinstance(value, dict) and value:
        return {found for key, part in value.items() for found in paths(part, f"{path}.{key}" if path else key)}
    if isinstance(value, list) and value:
        return {found for part in value for found in paths(part, path)}
    return {path}


def maps(value):
    """Every map within, itself included."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from maps(part)


@pytest.mark.parametrize("seed", range(20))
def test_every_key_of_the_input_is_in_the_report(tmp_path, seed):
    chance = random.Random(seed)
    documents = {name: json.loads((FILES / name.split("=")[-1]).read_text()) for name in ALL if name != "instances.json"}
    documents["balancers.json"] = json.loads(json.dumps(BALANCERS))
    added = set()
    for document in documents.values():
        for kind, objects in document.items():
            if kind == "Attributes":
                objects.append({"Key": f"new.attribute{chance.random()}", "Value": chance.choice(["on", "false", "1"])})
                continue
            for _ in range(chance.randrange(4)):
                key = f"New{chance.randrange(10 ** 6)}"
                chance.choice(list(maps(chance.choice(objects))))[key] = chance.choice([1, "x", True, {"Deep": ["y"]}, [{"A": 1}]])
                added.add(key)
    args = []
    for name, document in documents.items():
        (tmp_path / name.replace("=", "-")).write_text(json.dumps(document))
        args.append((name.split("=")[0] + "=" if "=" in name else "") + str(tmp_path / name.replace("=", "-")))
    done = run("import", "alb", *args, "instances.json")
    told = {}
    for kind, where, text in findings(done):
        if text.startswith("keys"):
            for key in text.split(": ")[1].split(" "):
                told.setdefault((where, key), kind)
    for name, document in documents.items():
        for kind, objects in document.items():
            for each in objects:
                if kind == "Attributes":
                    assert any(each["Key"] in text for _, _, text in findings(done)), each
                    continue
                where = each[NAMES[kind]] if kind in NAMES else name.split("=")[0]
                missing = {path for path in paths(each) if (where, path) not in told}
                assert not missing, (where, missing)
                assert all(told[where, path] != "mapped" for path in paths(each) if set(path.split(".")) & added)


def test_what_is_not_the_whole_list_is_told(tmp_path):
    rules = edit(tmp_path, "rules.json", lambda d: d.update(NextMarker="more"))
    assert ("refused", "input", "NextMarker: not read") in findings(run("import", "alb", "listeners.json", rules))


# --- what is mapped ---------------------------------------------------------------------------------------------------
def test_a_group_of_a_function_is_one(tmp_path):
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:hello:live"

    def change(document):
        group = document["TargetGroups"][0]
        for key in ("Protocol", "Port", "VpcId", "ProtocolVersion", "HealthCheckProtocol", "HealthCheckPort"):
            del group[key]
        group.update(TargetType="lambda", HealthCheckEnabled=True, HealthCheckIntervalSeconds=35, HealthCheckTimeoutSeconds=30)
        del document["TargetGroups"][1]
    (tmp_path / "health.json").write_text(json.dumps({"TargetHealthDescriptions": [{"Target": {"Id": arn}, "TargetHealth": {"State": "healthy"}}]}))
    (tmp_path / "attributes.json").write_text(json.dumps({"Attributes": [{"Key": "lambda.multi_value_headers.enabled", "Value": "true"}]}))
    out = tmp_path / "weir.yaml"
    done = run("import", "alb", "listeners.json", edit(tmp_path, "target-groups.json", change), f"web={tmp_path}/health.json",
               f"web={tmp_path}/attributes.json", "-o", out)
    assert done.returncode == 0, done.stderr
    shown = run("check", out, "--print").stdout
    for line in (f'function: "{arn}"', "multi_value_headers: true", "region: eu-west-1", "interval: 35s", "protocol: lambda"):
        assert line.replace('"', "") in shown.replace('"', ""), line
    (tmp_path / "health.json").write_text('{"TargetHealthDescriptions": []}')
    done = run("import", "alb", "listeners.json", edit(tmp_path, "target-groups.json", change), f"web={tmp_path}/health.json")
    assert done.returncode == 1 and "its ARN is not known" in done.stderr


def test_times_of_the_balancer_and_its_groups_are_mapped(tmp_path):
    def change(document):
        document["Attributes"] += [{"Key": "client_keep_alive.seconds", "Value": "1800"}]
        document["Attributes"][1]["Value"] = "90"
        document["Attributes"][4]["Value"] = "false"
    done = run("import", "alb", *[f for f in ALL if "load-balancer" not in f], edit(tmp_path, "load-balancer-attributes.json", change))
    assert "limits: {idle_timeout: 90s, keepalive_time: 1800s, desync_mitigation: defensive}" in done.stdout
    assert "timeouts: {connect: 10s, first_byte: 90s, idle: 90s, tunnel_idle: 90s}" in done.stdout
    assert "deregistration_delay: 300s" in done.stdout and "protocols: [http/1.1]" in done.stdout
    assert ("mapped", "web", "deregistration_delay.timeout_seconds=300") in findings(done)


@pytest.mark.parametrize("mtls, kind, line", [
    ({"Mode": "passthrough"}, "mapped", "client_auth: passthrough}"),
    ({"Mode": "verify", "TrustStoreArn": "arn:store", "IgnoreClientCertificateExpiry": True, "AdvertiseTrustStoreCaNames": "on"}, "refused",
     "client_auth: {mode: verify, trust_store: https-443-trust-store.pem, ignore_expiry: true, advertise_ca_names: true}"),
])
def test_client_certificates_are_asked_for_as_before(tmp_path, mtls, kind, line):
    done = run("import", "alb", *[f for f in ALL if f != "listeners.json"],
               edit(tmp_path, "listeners.json", lambda d: d["Listeners"][1].update(MutualAuthentication=mtls)))
    assert line in done.stdout
    assert any(k == kind and where == "https-443" and text.startswith("MutualAuthentication " + mtls["Mode"]) for k, where, text in findings(done))
    if kind == "refused":  # rather nothing than everybody
        (tmp_path / "weir.yaml").write_text(done.stdout)
        checked = run("check", tmp_path / "weir.yaml")
        assert checked.returncode == 1 and "https-443-trust-store.pem" in checked.stderr


@pytest.mark.parametrize("action", ["authenticate-oidc", "authenticate-cognito", "jwt-validation"])
def test_rules_that_authenticate_let_nobody_in(tmp_path, action):
    done = run("import", "alb", *[f for f in ALL if f != "rules.json"],
               edit(tmp_path, "rules.json", lambda d: d["Rules"][3]["Actions"][0].update(Type=action)))
    assert ("refused", "https-443-40", f"action {action}: the route answers 503") in findings(done)


def test_checks_by_tls_of_plain_targets_become_connections(tmp_path):
    def change(document):
        document["TargetGroups"][0]["HealthCheckProtocol"] = "HTTPS"
    done = run("import", "alb", *[f for f in ALL if f != "target-groups.json"], edit(tmp_path, "target-groups.json", change), "-o", tmp_path / "weir.yaml")
    assert "health check of protocol HTTPS in a group of protocol HTTP: only connects" in done.stderr
    assert run("check", tmp_path / "weir.yaml").returncode == 0


# --- what the command line says of files, and what belongs to one listener ---------------------------------------------
CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/68b353f3-53f3-4e14-a6d1-3b4f9b6e1a2c"
OTHER = "arn:aws:iam::123456789012:server-certificate/shop.v2"
STORE = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:truststore/ca/1"
LISTENER = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/shop/50dc6c495c0c9188/f2f7dc8efc522ab2"
REST = [f for f in ALL if f != "listeners.json"]


@pytest.fixture(scope="module")
def pems(tmp_path_factory):
    """A pair in two files, a pair in one, and a bundle."""
    folder = tmp_path_factory.mktemp("pems")
    for name in ("site", "shop"):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                        folder / f"{name}.key", "-out", folder / f"{name}.pem", "-days", "90", "-subj", f"/CN={name}.example",
                        "-addext", f"subjectAltName=DNS:{name}.example"], check=True, capture_output=True)
    (folder / "shop-both.pem").write_text((folder / "shop.pem").read_text() + (folder / "shop.key").read_text())
    return folder


def with_mtls(tmp_path):
    mtls = {"Mode": "verify", "TrustStoreArn": STORE, "IgnoreClientCertificateExpiry": False}
    return edit(tmp_path, "listeners.json", lambda d: d["Listeners"][1].update(MutualAuthentication=mtls))


def attributes(tmp_path, *pairs):
    (tmp_path / "attributes.json").write_text(json.dumps({"Attributes": [{"Key": key, "Value": value} for key, value in pairs]}))
    return tmp_path / "attributes.json"


def test_files_for_arns_make_a_configuration_that_needs_no_hand(tmp_path, pems):
    (tmp_path / "extra.json").write_text(json.dumps({"Certificates": [{"CertificateArn": CERTIFICATE, "IsDefault": True},
                                                                      {"CertificateArn": OTHER, "IsDefault": False}]}))
    out = tmp_path / "etc" / "weir.yaml"
    out.parent.mkdir()
    done = run("import", "alb", *[FILES / f if "=" not in f else f"{f.split('=')[0]}={FILES / f.split('=')[1]}" for f in REST],
               with_mtls(tmp_path), f"{LISTENER}={tmp_path}/extra.json", "--certificate", f"{CERTIFICATE}=site.pem,site.key", "--certificate",
               f"{OTHER}={pems}/shop-both.pem", "--trust-store", f"{STORE}=site.pem", "-o", out, cwd=pems)
    checked = run("check", out, "--print")
    assert checked.returncode == 0, checked.stderr
    told = findings(done)
    assert not any(kind != "mapped" and ("certificate" in text or "TrustStore" in text) for kind, where, text in told if where == "https-443"), told
    assert ("mapped", "https-443", f"certificate {CERTIFICATE} is {pems}/site.pem") in told
    explained = run("explain", "https://shop.example/", "-c", out).stdout
    assert "cert-shop-v2" in explained, explained
    assert "cert-68b353f3-53f3-4e14-a6d1-3b4f9b6e1a2c" in run("explain", "https://other.example/", "-c", out).stdout


def test_without_files_the_report_says_what_to_fill_in_where(tmp_path):
    (tmp_path / "extra.json").write_text(json.dumps({"Certificates": [{"CertificateArn": OTHER, "IsDefault": False}]}))
    told = findings(run("import", "alb", *REST, with_mtls(tmp_path), f"https-443={tmp_path}/extra.json"))
    assert ("approximated", "https-443", f"certificate {CERTIFICATE}: a self-signed one stands in for it (expected --certificate "
            f"{CERTIFICATE}=FILE[,KEYFILE], or cert and key instead of self_signed at certificates.https-443)") in told
    assert ("refused", "https-443", f"certificate {OTHER}: left out (expected --certificate {OTHER}=FILE[,KEYFILE])") in told
    assert ("refused", "https-443", f"MutualAuthentication verify: the trust store {STORE} cannot be read (expected --trust-store {STORE}=FILE, "
            "or its PEM bundle as https-443-trust-store.pem beside the configuration, which does not load without it)") in told


def test_a_file_for_an_arn_that_no_listener_has_is_told(pems):
    done = run("import", "alb", *ALL, "--trust-store", f"{STORE}={pems}/site.pem")
    assert done.returncode == 1 and ("refused", "input", f"{STORE} is given a file, and no listener uses it") in findings(done)


@pytest.mark.parametrize("name", [LISTENER, "https-443"])
def test_attributes_belong_to_their_listener(tmp_path, name):
    path = attributes(tmp_path, ("routing.http.response.strict_transport_security.header_value", "max-age=31536000; includeSubDomains"),
                      ("routing.http.response.x_frame_options.header_value", "DENY"), ("routing.http.response.server.enabled", "false"),
                      ("routing.http.response.content_security_policy.header_value", ""),
                      ("routing.http.request.x_amzn_mtls_clientcert_subject.header_name", "X-Client-Dn"),
                      ("routing.http.request.x_amzn_mtls_clientcert_leaf.header_name", "X-Amzn-Mtls-Clientcert-Leaf"),
                      ("routing.http.request.x_amzn_tls_version.header_name", "X-Tls"))
    listeners = edit(tmp_path, "listeners.json", lambda d: d["Listeners"][1].update(MutualAuthentication={"Mode": "passthrough"}))
    done = run("import", "alb", *REST, listeners, f"{name}={path}", "-o", tmp_path / "weir.yaml")
    assert run("check", tmp_path / "weir.yaml").returncode == 0, done.stderr
    https, = [line for line in (tmp_path / "weir.yaml").read_text().splitlines() if line.startswith("  https-443: {address")]
    http, = [line for line in (tmp_path / "weir.yaml").read_text().splitlines() if line.startswith("  http-80: {address")]
    assert ('response_headers: {set: {"strict-transport-security": "max-age=31536000; includeSubDomains", "x-frame-options": "DENY"}}, '
            "server_header: false") in https
    assert 'client_auth: {mode: passthrough, headers: {subject: "X-Client-Dn"}}' in https
    assert "response_headers" not in http and "server_header" not in http
    told = findings(done)
    assert ("mapped", "https-443", "routing.http.response.x_frame_options.header_value=DENY") in told
    assert ("refused", "https-443", "routing.http.request.x_amzn_tls_version.header_name=X-Tls: the field keeps its usual name") in told
    assert all(any(key in text for _, where, text in told if where == "https-443") for key in
               (each["Key"] for each in json.loads(path.read_text())["Attributes"]))


def test_attributes_of_no_known_listener_are_told(tmp_path):
    path = attributes(tmp_path, ("routing.http.response.x_frame_options.header_value", "DENY"))
    done = run("import", "alb", *ALL, path)
    assert done.returncode == 1 and "the listener it is about is not in it (expected NAME=FILE, its ARN or one of http-80 https-443)" in done.stderr
    (tmp_path / "extra.json").write_text(json.dumps({"Certificates": []}))
    done = run("import", "alb", *ALL, f"https-8443={tmp_path}/extra.json")
    assert done.returncode == 1 and "no file describes the listener https-8443 (expected one of http-80 https-443)" in done.stderr


def test_the_only_listener_need_not_be_named(tmp_path):
    path = attributes(tmp_path, ("routing.http.response.x_frame_options.header_value", "DENY"))
    listeners = edit(tmp_path, "listeners.json", lambda d: d["Listeners"].pop())
    assert 'response_headers: {set: {"x-frame-options": "DENY"}}' in run("import", "alb", path, listeners).stdout


def test_hosts_are_sent_as_the_balancer_sends_them(tmp_path):
    for value, line in ("false", "preserve_host: false"), ("true", "preserve_host: true"):
        path = edit(tmp_path, "load-balancer-attributes.json", lambda d: d["Attributes"].append(
            {"Key": "routing.http.preserve_host_header.enabled", "Value": value}))
        assert line in run("import", "alb", path, *[f for f in ALL if "load-balancer" not in f]).stdout
