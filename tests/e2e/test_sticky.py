"""Stickiness as on an Application Load Balancer (spec/alb.md 2.3, 3.4): which cookies are set, what they are good for,
and when they are not."""
import email.utils
import json
import re
import time

import pytest

from client import Client, fetch
from origin import OK, Origin, reply
from weir import Weir, wait_for

CONFIG = """
worker_threads: 2
state_dir: @tmp@/state
listeners:
  http: {address: "127.0.0.1:@http@"}
  https: {address: "127.0.0.1:@https@", tls: {certificates: self}}
certificates: {self: {self_signed: [localhost]}}
target_groups:
  lb: {targets: ["127.0.0.1:@a@", "127.0.0.1:@b@", "127.0.0.1:@c@"], health_check: {enabled: false}, stickiness: {lb_cookie: 1d}}
  brief: {targets: ["127.0.0.1:@a@", "127.0.0.1:@b@", "127.0.0.1:@c@"], health_check: {enabled: false}, stickiness: {lb_cookie: 1s}}
  app: {targets: ["127.0.0.1:@a@", "127.0.0.1:@b@", "127.0.0.1:@c@"], health_check: {enabled: false}, stickiness: {app_cookie: SID}}
  one: {targets: "127.0.0.1:@a@", health_check: {enabled: false}}
  two: {targets: "127.0.0.1:@b@", health_check: {enabled: false}}
routes:
  - {name: lb, match: {path: "/lb*"}, forward: lb}
  - {name: brief, match: {path: "/brief*"}, forward: brief}
  - {name: app, match: {path: "/app*"}, forward: app}
  - {name: groups, match: {path: "/groups*"}, forward: {groups: [one, two], stickiness: 1h}}
  - {name: fixed, match: {path: /fixed}, respond: 200}
"""
EXPIRES = r"Expires=\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"


@pytest.fixture(scope="module")
def origins():
    with Origin() as a, Origin() as b, Origin() as c:
        yield {"a": a, "b": b, "c": c}


def start(origins, config=CONFIG):
    return Weir(config, **{name: origin.port for name, origin in origins.items()})


@pytest.fixture(scope="module")
def shared(origins):
    with start(origins) as running:
        yield running


@pytest.fixture
def gateway(shared, origins):
    for name, origin in origins.items():
        origin.settle()
        origin.answer = reply(name.encode())
    return shared


def ask(gateway, path, cookies=None, headers=(), **options):
    headers = list(headers)
    if cookies:
        headers.append(("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items())))
    return fetch(gateway.port("http"), path, headers=headers, **options)


def cookies_of(response):
    return dict(re.match(r"([^=]+)=([^;]*)", line).groups() for line in response.all("set-cookie"))


def spread(gateway, path, cookies=None, times=12):
    return {ask(gateway, path, cookies).body for _ in range(times)}


# --- AWSALB ----------------------------------------------------------------------------------------------------------


def test_without_a_cookie_requests_are_spread(gateway):
    assert spread(gateway, "/lb") == {b"a", b"b", b"c"}


def test_a_client_with_its_cookie_stays_with_its_target(gateway):
    for _ in range(6):
        first = ask(gateway, "/lb")
        assert spread(gateway, "/lb", cookies_of(first)) == {first.body}


def test_the_cookies_have_the_attributes_of_an_alb(gateway):
    for response, secure in ((ask(gateway, "/lb"), ""),
                             (fetch(gateway.port("https"), "/lb", tls="localhost"), "; Secure")):
        plain, cors = response.all("set-cookie")
        assert re.fullmatch(rf"AWSALB=[A-Za-z0-9+/]{{60}}; {EXPIRES}; Path=/", plain), plain
        assert re.fullmatch(rf"AWSALBCORS=[A-Za-z0-9+/]{{60}}; {EXPIRES}; Path=/; SameSite=None{secure}", cors), cors
        assert cookies_of(response)["AWSALB"] == cookies_of(response)["AWSALBCORS"]
        expires = email.utils.parsedate_to_datetime(re.search(r"Expires=([^;]*)", plain)[1])
        assert abs(expires.timestamp() - time.time() - 7 * 86400) < 60


def test_every_response_gets_a_fresh_cookie(gateway):
    first = cookies_of(ask(gateway, "/lb"))
    again = cookies_of(ask(gateway, "/lb", first))
    assert set(again) == {"AWSALB", "AWSALBCORS"} and again["AWSALB"] != first["AWSALB"]


def test_either_cookie_is_enough_and_awsalbcors_wins(gateway):
    first = ask(gateway, "/lb")
    other = next(r for r in (ask(gateway, "/lb") for _ in range(20)) if r.body != first.body)
    one, two = cookies_of(first)["AWSALB"], cookies_of(other)["AWSALB"]
    assert spread(gateway, "/lb", {"AWSALB": one}) == {first.body}
    assert spread(gateway, "/lb", {"AWSALBCORS": one}) == {first.body}
    assert spread(gateway, "/lb", {"AWSALB": one, "AWSALBCORS": two}) == {other.body}


def test_a_tampered_or_foreign_cookie_is_ignored(gateway):
    value = cookies_of(ask(gateway, "/lb"))["AWSALB"]
    tampered = value[:20] + ("A" if value[20] != "A" else "B") + value[21:]
    for bad in (tampered, value[:-1], value + "A", value.replace("+", "%2B") + "%3D", "x", "", "A" * 60,
                cookies_of(ask(gateway, "/brief"))["AWSALB"]):
        assert spread(gateway, "/lb", {"AWSALB": bad}) == {b"a", b"b", b"c"}
        assert "AWSALB" in cookies_of(ask(gateway, "/lb", {"AWSALB": bad}))


def test_the_duration_is_inside_of_the_cookie(gateway):
    """spec/alb.md 10, vector 18"""
    first = cookies_of(ask(gateway, "/brief"))
    wait_for(lambda: len(spread(gateway, "/brief", first)) == 3, "the session over")


def test_the_target_sees_the_cookies_and_errors_get_none(gateway, origins):
    cookies = cookies_of(ask(gateway, "/lb"))
    for origin in origins.values():
        origin.settle()
    ask(gateway, "/lb/seen", cookies)
    seen = [r for o in origins.values() for r in o.requests if r.target == "/lb/seen"]
    assert cookies["AWSALB"] in seen[0].get("Cookie")
    assert not ask(gateway, "/fixed", cookies).all("set-cookie")


def test_a_session_moves_when_its_target_is_drained_and_stays_there(gateway):
    first = ask(gateway, "/lb")
    status, body = gateway.admin("/api/v1/target_groups/lb")
    port = {"a": "a", "b": "b", "c": "c"}[first.text]
    name = f"127.0.0.1:{gateway.values[port]}"
    assert any(t["target"] == name for t in json.loads(body)["targets"])
    assert gateway.admin(f"/api/v1/target_groups/lb/targets/{name}/drain", "POST")[0] == 200
    try:
        moved = ask(gateway, "/lb", cookies_of(first))
        assert moved.body != first.body
        assert spread(gateway, "/lb", cookies_of(moved)) == {moved.body}
    finally:
        gateway.admin(f"/api/v1/target_groups/lb/targets/{name}/enable", "POST")
    assert spread(gateway, "/lb", cookies_of(moved)) == {moved.body}


def test_a_session_moves_when_its_target_is_down(gateway, origins):
    with Origin() as dying:
        dying.answer = reply(b"dying")
        with start({**origins, "a": dying}) as own:
            first = next(r for r in (ask(own, "/lb") for _ in range(20)) if r.body == b"dying")
            dying.close()
            moved = ask(own, "/lb", cookies_of(first))
            assert moved.status == 200 and moved.body in (b"b", b"c")
            assert spread(own, "/lb", cookies_of(moved)) == {moved.body}


def test_sessions_live_through_reloads_and_restarts(origins):
    for name, origin in origins.items():
        origin.answer = reply(name.encode())
    with start(origins) as own:
        sessions = [ask(own, "/lb") for _ in range(6)]
        own.reload()
        for session in sessions:
            assert spread(own, "/lb", cookies_of(session), 4) == {session.body}
        key = (own.folder / "state" / "stickiness.key")
        assert len(key.read_bytes()) == 32 and key.stat().st_mode & 0o777 == 0o600
        assert own.terminate() == 0
        own.start()
        for session in sessions:
            assert spread(own, "/lb", cookies_of(session), 4) == {session.body}


def test_nodes_with_the_same_key_know_each_others_sessions(origins):
    for name, origin in origins.items():
        origin.answer = reply(name.encode())
    keyed = 'stickiness_keys: ["a secret of both nodes", "the secret before it"]\n' + CONFIG
    with start(origins, keyed) as one, start(origins, keyed) as two, start(origins) as stranger:
        session = ask(one, "/lb")
        assert spread(two, "/lb", cookies_of(session)) == {session.body}
        assert len(spread(stranger, "/lb", cookies_of(session))) == 3


# --- AWSALBAPP -------------------------------------------------------------------------------------------------------


def app_sets_cookie(origins):
    for name, origin in origins.items():
        origin.on("/app/login", reply(name.encode(), fields=[("Set-Cookie", "SID=42; HttpOnly"), ("Set-Cookie", "other=1")]))


def test_the_application_makes_the_session(gateway, origins):
    app_sets_cookie(origins)
    assert not ask(gateway, "/app").all("set-cookie")
    login = ask(gateway, "/app/login")
    assert login.all("set-cookie")[:2] == ["SID=42; HttpOnly", "other=1"]  # untouched
    assert re.fullmatch(rf"AWSALBAPP-0=[A-Za-z0-9+/]{{60}}; {EXPIRES}; Path=/", login.all("set-cookie")[2])
    assert spread(gateway, "/app", cookies_of(login)) == {login.body}
    assert "AWSALBAPP-0" in cookies_of(ask(gateway, "/app", cookies_of(login)))


def test_both_cookies_must_come_back(gateway, origins):
    app_sets_cookie(origins)
    cookies = cookies_of(ask(gateway, "/app/login"))
    assert len(spread(gateway, "/app", {"SID": "42"})) == 3
    assert len(spread(gateway, "/app", {"AWSALBAPP-0": cookies["AWSALBAPP-0"]})) == 3
    # only the name of the application's counts
    assert len(spread(gateway, "/app", {"SID": "another", "AWSALBAPP-0": cookies["AWSALBAPP-0"]})) == 1


def test_cross_site_requests_over_tls_get_a_cookie_for_them(gateway, origins):
    app_sets_cookie(origins)
    response = fetch(gateway.port("https"), "/app/login", headers=[("Origin", "https://other.example")], tls="localhost")
    assert response.all("set-cookie")[2].endswith("; Path=/; SameSite=None; Secure")


# --- AWSALBTG --------------------------------------------------------------------------------------------------------


def test_a_client_stays_with_the_group_drawn_for_it(gateway):
    assert spread(gateway, "/groups", times=40) == {b"a", b"b"}
    for _ in range(6):
        first = ask(gateway, "/groups")
        plain, cors = first.all("set-cookie")
        assert re.fullmatch(rf"AWSALBTG=[A-Za-z0-9+/]{{60}}; {EXPIRES}; Path=/", plain)
        assert re.fullmatch(rf"AWSALBTGCORS=[A-Za-z0-9+/]{{60}}; {EXPIRES}; Path=/; SameSite=None", cors)
        assert spread(gateway, "/groups", cookies_of(first)) == {first.body}


def test_a_url_encoded_group_cookie_is_not_understood_and_logged(gateway):
    """spec/alb.md 2.3"""
    assert spread(gateway, "/groups", {"AWSALBTG": "abc%3D"}, times=40) == {b"a", b"b"}
    gateway.wait_log(lambda entry: entry["error"] == "AWSALBTGCookieInvalid")
