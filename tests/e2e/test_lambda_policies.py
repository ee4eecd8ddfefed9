"""What groups of functions have like all others: retries, time limits, hedges, fallbacks, limits, health. The function is a
process of its own; whether it ran decides what may be asked again."""
import json
import time

import pytest

from client import Client, fetch
from function import Function
from origin import OK, Origin, reply
from weir import CONFIG, Weir, wait_for

CONFIGURATION = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  one: {lambda: one, targets: ["127.0.0.1:@first@"]}
  other: {lambda: {function: other, multi_value_headers: true, target_group_arn: "arn:of:other"}, targets: ["127.0.0.1:@second@"]}
  hashed: {lambda: hashed, algorithm: {type: consistent_hash, by: path}, targets: ["127.0.0.1:@first@", "127.0.0.1:@second@"]}
  both: {lambda: both, targets: ["127.0.0.1:@first@", "127.0.0.1:@second@"]}
  web: {targets: ["127.0.0.1:@origin@"], health_check: {enabled: false}}
  limited: {lambda: limited, circuit_breaker: {requests: 1}, targets: ["127.0.0.1:@first@"]}
  adaptive: {lambda: adaptive, adaptive_concurrency: {min: 1, max: 1}, targets: ["127.0.0.1:@first@"]}
  narrow: {lambda: narrow, target_limits: {requests: 1, queue: 5, queue_timeout: 60s}, targets: ["127.0.0.1:@first@"]}
  nobody: {lambda: nobody, targets: ["127.0.0.1:@nobody@"]}
  half: {lambda: half, targets: ["127.0.0.1:@nobody@", "127.0.0.1:@second@"]}
routes:
  - {name: throttled, match: {path: /throttled}, forward: one, retry: {on: throttled, budget: 100%, backoff: 1ms}}
  - {name: service, match: {path: /service}, forward: one, retry: {on: service_error, budget: 100%, backoff: 1ms}}
  - {name: function, match: {path: /function}, forward: one, retry: {on: function_error, budget: 100%, backoff: 1ms}}
  - {name: bad, match: {path: /bad}, forward: one, retry: {on: bad_response, budget: 100%, backoff: 1ms}}
  - {name: reset, match: {path: /reset}, forward: one, retry: {on: reset, budget: 100%, backoff: 1ms}}
  - {name: by_502, match: {path: /by502}, forward: one, retry: {on: 502, budget: 100%, backoff: 1ms}}
  - {name: by_503, match: {path: /by503}, forward: one, retry: {on: 503, budget: 100%, backoff: 1ms}}
  - {name: twice, match: {path: /twice}, forward: one, retry: {on: [5xx], budget: 100%, backoff: 1ms, non_idempotent: true}}
  - {name: slow, match: {path: /slow}, forward: both, retry: {on: timeout, per_try_timeout: 500ms, budget: 100%, backoff: 1ms}}
  - {name: slower, match: {path: /slower}, forward: both, retry: {on: timeout, per_try_timeout: 5s, budget: 100%, backoff: 1ms}}
  - {name: total, match: {path: /total}, forward: one, timeouts: {total: 500ms}}
  - {name: first, match: {path: /first}, forward: one, timeouts: {first_byte: 300ms}}
  - {name: budget, match: {path: /budget}, forward: both, retry: {attempts: 3, on: service_error, budget: 20%, backoff: 1ms}}
  - {name: hedged, match: {path: /hedged}, forward: hashed, hedge: 100ms, retry: {budget: 100%}}
  - {name: pair, match: {path: "/pair*"}, forward: {primary: one, fallback: other}}
  - {name: pair_throttled, match: {path: /when}, forward: {primary: one, fallback: other, on: [throttled]}}
  - {name: to_web, match: {path: /to_web}, forward: {primary: one, fallback: web}}
  - {name: from_web, match: {path: "/from_web*"}, forward: {primary: web, fallback: other}}
  - {name: down, match: {path: /down}, forward: {primary: nobody, fallback: other}}
  - {name: half, match: {path: "/half*"}, forward: half}
  - {name: limited, match: {path: /limited}, forward: limited}
  - {name: adaptive, match: {path: /adaptive}, forward: adaptive}
  - {name: narrow, match: {path: "/narrow*"}, forward: narrow}
  - {name: weighted, match: {path: /weighted}, forward: {groups: [{group: one, weight: 1}, {group: web, weight: 0}], stickiness: 1h}}
  - {name: copied, match: {path: /copied}, forward: one, mirror: web}
  - {name: plain, forward: one}
"""


@pytest.fixture(scope="module")
def peers():
    first, second = Function(), Function()
    with Origin() as origin:
        yield first, second, origin
    first.close()
    second.close()


@pytest.fixture(scope="module")
def shared(peers):
    with Weir(CONFIGURATION, first=peers[0].port, second=peers[1].port, origin=peers[2].port) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared, peers):
    for function in peers[:2]:
        function.settle()
    peers[2].settle()
    peers[2].answer = OK
    return shared


def last(gateway, path):
    return gateway.wait_log(lambda entry: entry["path"] == path)[-1]


def calls(*functions):
    return [len(function.seen()) for function in functions]


# --- what is tried again ----------------------------------------------------------------------------------------------
ROUTES = [("/throttled", "throttle", "LAMBDA_THROTTLED"), ("/service", "service", "LAMBDA_SERVICE_ERROR"),
          ("/function", "throw", "LAMBDA_FUNCTION_ERROR"), ("/bad", "garbage", "LAMBDA_INVALID_RESPONSE"),
          ("/reset", "reset", "UPSTREAM_CLOSED"), ("/reset", "cut", "LAMBDA_CONNECTION_ERROR")]


@pytest.mark.parametrize("path, kind, reason", ROUTES)
def test_what_the_route_lists_is_tried_again(gateway, peers, path, kind, reason):
    peers[0].behave(kind)
    assert fetch(gateway.port("http"), path).status == 404  # the function's own answer for such a path
    assert calls(peers[0]) == [2]


@pytest.mark.parametrize("path, kind, reason", ROUTES)
def test_after_the_last_try_its_reason_is_the_answer_s(gateway, peers, path, kind, reason):
    for _ in range(3):  # each pays a share into the budget
        fetch(gateway.port("http"), path)
    peers[0].settle()
    peers[0].behave(kind, -1)
    assert fetch(gateway.port("http"), path).status == 502
    entry = gateway.wait_log(lambda entry: entry["path"] == path and entry["status"] == 502 and entry["reason"] == reason)[-1]
    # a connection of the pool that was closed may have been an old one: asked once more, on a new one
    attempts = 4 if kind == "reset" else 3
    assert entry["attempts"] == attempts and calls(peers[0]) == [attempts]


@pytest.mark.parametrize("kind", ["throttle", "service", "throw", "garbage", "cut"])
def test_nothing_of_it_is_tried_again_unless_listed(gateway, peers, kind):
    peers[0].behave(kind)
    assert fetch(gateway.port("http"), "/plain").status == 502
    assert calls(peers[0]) == [1]


@pytest.mark.parametrize("path, kind", [("/service", "throw"), ("/function", "service"), ("/throttled", "service"), ("/bad", "throw"),
                                        ("/by503", "service"), ("/by502", 503)])
def test_each_condition_is_its_own(gateway, peers, path, kind):
    peers[0].behave(kind)
    assert fetch(gateway.port("http"), path).status in (502, 503)
    assert calls(peers[0]) == [1]


@pytest.mark.parametrize("kind", ["throttle", "service", "throw", "garbage"])
def test_all_of_them_are_502_for_the_client_and_for_on(gateway, peers, kind):
    peers[0].behave(kind)
    assert fetch(gateway.port("http"), "/by502").status == 404
    assert calls(peers[0]) == [2]


def test_a_status_of_the_function_s_own_is_tried_again_when_listed(gateway, peers):
    peers[0].behave(503)
    assert fetch(gateway.port("http"), "/by503").status == 404
    peers[0].behave(503, 3)
    response = fetch(gateway.port("http"), "/by503")
    assert (response.status, response.body) == (503, b"mine")


# --- methods: an invocation is no more idempotent than the request --------------------------------------------------------
@pytest.mark.parametrize("path, kind", [("/service", "service"), ("/function", "throw"), ("/bad", "garbage"), ("/reset", "reset"), ("/by502", "throw")])
def test_a_post_that_may_have_been_done_is_not_invoked_again(gateway, peers, path, kind):
    peers[0].behave(kind)
    assert fetch(gateway.port("http"), path, "POST", body=b"x").status == 502
    assert calls(peers[0]) == [1]
    peers[0].behave(kind)
    assert fetch(gateway.port("http"), path, "PUT", body=b"x").status == 404
    assert calls(peers[0]) == [3]


def test_a_throttled_post_has_not_run_and_is_invoked_again(gateway, peers):
    peers[0].behave("throttle")
    assert fetch(gateway.port("http"), "/throttled", "POST", [("Content-Type", "text/plain")], b"hello").status == 404
    first, second = peers[0].events()
    assert first == second and first["body"] == "hello" and first["httpMethod"] == "POST"


def test_non_idempotent_lets_a_post_be_invoked_again(gateway, peers):
    peers[0].behave("throw")
    assert fetch(gateway.port("http"), "/twice", "POST", body=bytes(range(256)) * 2000).status == 404
    first, second = peers[0].events()
    assert first == second and first["isBase64Encoded"] and len(first["body"]) == 682668


def test_an_endpoint_that_cannot_be_reached_is_passed_over_whatever_the_method(gateway, peers):
    for _ in range(4):
        assert fetch(gateway.port("http"), "/half", "POST", body=b"x").status == 404
    assert calls(peers[1]) == [4]


# --- time ---------------------------------------------------------------------------------------------------------------
def test_a_silent_function_is_given_up_after_per_try_timeout(gateway, peers):
    for path in ("/slow", "/slower"):
        for function in peers[:2]:
            function.settle()
            function.behave("silent")
        if fetch(gateway.port("http"), path, timeout=60).status == 404:
            break  # the last try was answered in time
    assert sum(calls(*peers[:2])) == 3 and last(gateway, path)["attempts"] == 3
    wait_for(lambda: peers[0].open() == peers[1].open() == 0, "the calls that were given up to be closed")


def test_timeouts_total_holds_for_invocations(gateway, peers):
    peers[0].behave("silent")
    assert fetch(gateway.port("http"), "/total").status == 504
    assert last(gateway, "/total")["reason"] == "TOTAL_TIMEOUT"


def test_timeouts_total_begins_with_the_request_not_with_the_event(gateway, peers):
    with Client(gateway.port("http")) as client:
        client.send(b"POST /total HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert client.response().status == 504
    assert calls(peers[0]) == [0]


def test_a_route_s_own_time_to_the_first_byte_holds(gateway, peers):
    peers[0].behave("silent")
    assert fetch(gateway.port("http"), "/first").status == 504
    assert last(gateway, "/first")["reason"] == "FIRST_BYTE_TIMEOUT"


def hedged(gateway, peers):
    """(path, the function that is asked first for it, the other)"""
    def order():
        """Known when only one was asked: the other one comes in after 100 ms."""
        for function in peers[:2]:
            function.settle()
        fetch(gateway.port("http"), "/hedged")
        found = sorted(peers[:2], key=lambda function: -len(function.seen()))
        return found if calls(*found) == [1, 0] else None
    found = wait_for(order, "a request without a hedge")
    for function in found:
        function.settle()
    return found


class Asked:
    """/hedged, while both functions hold their answers: first, then second."""

    def __init__(self, gateway, first, second):
        self.client = Client(gateway.port("http"), timeout=60)
        self.client.request("GET", "/hedged")
        wait_for(lambda: calls(first, second) == [1, 1], "both to be asked")


def test_a_hedge_takes_the_faster_function(gateway, peers):
    first, second = hedged(gateway, peers)
    before = gateway.metric("weir_hedges_total")
    first.behave("silent")
    assert fetch(gateway.port("http"), "/hedged").status == 404
    assert calls(first, second) == [1, 1] and gateway.metric("weir_hedges_total") == before + 1
    wait_for(lambda: first.open() == 0, "the loser to be let go of")


def test_a_hedge_that_fails_leaves_the_answer_to_the_first(gateway, peers):
    first, second = hedged(gateway, peers)
    first.behave("held")
    second.behave("throttle")
    asked = Asked(gateway, first, second)
    wait_for(lambda: second.open() == 0, "the hedge to have failed")
    first.release()
    assert asked.client.response().body == b"late"
    assert calls(first, second) == [1, 1]


def test_a_first_that_fails_leaves_the_answer_to_its_hedge(gateway, peers):
    first, second = hedged(gateway, peers)
    first.behave("held_throttle")
    second.behave("held")
    asked = Asked(gateway, first, second)
    first.release()
    wait_for(lambda: first.open() == 0, "the first to have failed")
    second.release()
    assert asked.client.response().body == b"late"
    assert calls(first, second) == [1, 1]


def test_the_budget_holds_while_every_endpoint_fails(gateway, peers):
    for function in peers[:2]:
        function.behave("service", -1)
    began = time.monotonic()
    for _ in range(100):
        assert fetch(gateway.port("http"), "/budget").status == 502
    least = 10 * (time.monotonic() - began + 2)  # a second, where requests are few
    assert 100 <= sum(calls(*peers[:2])) <= 100 * 1.2 + least


# --- fallbacks ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["throttle", "service", "throw", "garbage", 500])
def test_a_failed_function_has_another_one_as_fallback(gateway, peers, kind):
    peers[0].behave(kind)
    assert fetch(gateway.port("http"), "/pair?k=1&k=2").status == 404
    assert calls(*peers[:2]) == [1, 1]
    first, second = peers[0].events()[0], peers[1].events()[0]
    assert first["queryStringParameters"] == {"k": "2"} and second["multiValueQueryStringParameters"] == {"k": ["1", "2"]}
    assert second["requestContext"]["elb"]["targetGroupArn"] == "arn:of:other" and "headers" not in second
    assert peers[1].seen()[0]["url"].endswith("/functions/other/invocations")


def test_a_post_has_no_fallback(gateway, peers):
    peers[0].behave("throttle")
    assert fetch(gateway.port("http"), "/pair", "POST", body=b"x").status == 502
    assert calls(*peers[:2]) == [1, 0]


def test_a_get_with_a_body_takes_it_to_the_fallback(gateway, peers):
    peers[0].behave("throttle")
    assert fetch(gateway.port("http"), "/pair/body", "GET", [("Content-Type", "text/plain")], b"hello").status == 404
    assert peers[1].events()[0]["body"] == "hello"
    peers[0].behave("throttle")
    assert fetch(gateway.port("http"), "/to_web", "GET", [("Content-Type", "text/plain")], b"hello").status == 200
    wait_for(lambda: peers[2].requests, "the fallback's request")
    assert peers[2].requests[0].body == b"hello" and peers[2].requests[0].get("content-length") == "5"


def test_on_may_name_the_conditions_of_functions(gateway, peers):
    peers[0].behave("throttle")
    assert fetch(gateway.port("http"), "/when").status == 404
    peers[0].behave("throw")
    assert fetch(gateway.port("http"), "/when").status == 502
    assert calls(*peers[:2]) == [2, 1]


def test_a_server_has_a_function_as_fallback(gateway, peers):
    peers[2].answer = reply(b"down", status="503 x")
    response = fetch(gateway.port("http"), "/from_web/event?a=b", headers=[("X-A", "1")])
    assert response.status == 404 and calls(peers[1]) == [1]
    event = peers[1].events()[0]
    assert event["path"] == "/from_web/event" and event["multiValueHeaders"]["x-a"] == ["1"]
    assert fetch(gateway.port("http"), "/from_web", "POST", body=b"x").status == 503
    assert calls(peers[1]) == [1]


def test_the_fallback_gets_the_body_that_the_server_had(gateway, peers):
    peers[2].answer = reply(b"down", status="503 x")
    assert fetch(gateway.port("http"), "/from_web", "GET", [("Content-Type", "text/plain")], b"hello").status in (404, 503)
    assert [event["body"] for event in peers[1].events()] in (["hello"], [])


def test_what_cannot_be_an_event_stays_with_the_server(gateway, peers):
    peers[2].answer = reply(b"down", status="503 x")
    assert fetch(gateway.port("http"), "/from_web", headers=[("X-A", "\xff")]).status == 503
    assert calls(peers[1]) == [0]


def test_a_function_that_cannot_be_reached_has_a_fallback(gateway, peers):
    assert fetch(gateway.port("http"), "/down").status == 404
    assert calls(peers[1]) == [1]


# --- limits -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path, reason", [("/limited", "CIRCUIT_OPEN"), ("/adaptive", "CONCURRENCY_LIMIT")])
def test_limits_of_the_group_count_invocations(gateway, peers, path, reason):
    peers[0].behave("silent")
    with Client(gateway.port("http")) as client:
        client.request("GET", path)
        wait_for(lambda: peers[0].open() == 1, "the first to be under way")
        assert fetch(gateway.port("http"), path).status == 503
        assert last(gateway, path)["reason"] == reason
    wait_for(lambda: peers[0].open() == 0, "the first to be over")
    wait_for(lambda: fetch(gateway.port("http"), path).status == 404, "its place to be free")


def test_a_client_that_leaves_before_its_body_is_whole_takes_no_place(gateway, peers):
    client = Client(gateway.port("http"))
    client.send(b"POST /limited HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    wait_for(lambda: gateway.metric("weir_requests_in_flight") == 1, "the request to be under way")
    assert fetch(gateway.port("http"), "/limited").status == 503
    client.reset()
    wait_for(lambda: fetch(gateway.port("http"), "/limited").status == 404, "its place to be free")


def test_invocations_wait_for_a_place_at_the_target(gateway, peers):
    peers[0].behave("silent")
    blocker = Client(gateway.port("http"))
    blocker.request("GET", "/narrow/1")
    wait_for(lambda: peers[0].open() == 1, "the first to be under way")
    with Client(gateway.port("http")) as client:
        client.request("GET", "/narrow/2")
        wait_for(lambda: gateway.metric("weir_target_queue_requests") == 1, "the second to wait")
        assert calls(peers[0]) == [1]
        blocker.reset()
        assert client.response().status == 404


# --- with the rest ------------------------------------------------------------------------------------------------------
def test_group_cookies_come_with_a_function_s_answer(gateway):
    response = fetch(gateway.port("http"), "/weighted")
    assert any(cookie.startswith("AWSALBTG=") for cookie in response.all("set-cookie"))


def test_a_copy_of_what_a_function_gets_goes_to_a_server(gateway, peers):
    assert fetch(gateway.port("http"), "/copied", "POST", body=b"hello").status == 404
    wait_for(lambda: peers[2].requests, "the copy")
    assert peers[2].requests[0].body == b"hello" and peers[2].requests[0].method == "POST"


OUTLIERS = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  all:
    lambda: all
    targets: ["127.0.0.1:@first@", "127.0.0.1:@second@"]
    outlier_detection: {consecutive_5xx: 3, interval: 500ms, ejection_time: 1h, max_ejected: 50%}
routes: [{name: all, forward: all}]
"""


def states(gateway, group="all"):
    status, text = gateway.admin("/api/v1/target_groups/" + group)
    assert status == 200, text
    return [target["state"] for target in json.loads(text)["targets"]]


@pytest.mark.parametrize("kind, is_ejected", [("service", True), ("throw", True), ("garbage", True), (500, True), ("throttle", False), (400, False)])
def test_an_endpoint_whose_invocations_fail_is_ejected(weir, peers, kind, is_ejected):
    gateway = weir(OUTLIERS, first=peers[0].port, second=peers[1].port)
    peers[0].settle()
    peers[1].settle()
    peers[0].behave(kind, -1)
    for _ in range(20):
        fetch(gateway.port("http"), "/")
    if is_ejected:
        wait_for(lambda: gateway.metric("weir_outlier_ejections_total") == 1, "the ejection")
        before = calls(peers[0])
        for _ in range(4):
            assert fetch(gateway.port("http"), "/").status == 404
        assert calls(peers[0]) == before
    else:
        assert calls(*peers[:2]) == [10, 10] and gateway.metric("weir_outlier_ejections_total") == 0


# --- health -------------------------------------------------------------------------------------------------------------
CHECKED = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  all:
    lambda: {function: all, target_group_arn: "arn:of:all"}
    targets: ["127.0.0.1:@first@", "127.0.0.1:@second@"]
    health_check: {path: /health, interval: 200ms, timeout: 20s, healthy_threshold: 2, unhealthy_threshold: 2, matcher: "404"}
  multi:
    lambda:
      function: multi
      multi_value_headers: true
      sign: {region: eu-west-1, access_key: AKIDEXAMPLE, secret_key: secret}
    targets: ["127.0.0.1:@second@"]
    health_check: {path: "/multi?a=b", interval: 1h}
  unchecked: {lambda: unchecked, targets: ["127.0.0.1:@first@"]}
  off: {lambda: off, targets: ["127.0.0.1:@first@"], health_check: false}
routes: [{name: unchecked, match: {path: /unchecked}, forward: unchecked}, {name: off, match: {path: /off}, forward: off},
  {name: multi, match: {path: /multi}, forward: multi}, {name: all, forward: all}]
"""


@pytest.fixture
def checked(weir, peers):
    for function in peers[:2]:
        function.settle()
    return weir(CHECKED, first=peers[0].port, second=peers[1].port)


def test_a_check_is_the_event_of_an_alb_s_check(checked, peers):
    wait_for(lambda: any("/all/" in call["url"] for call in peers[0].seen()), "a check")
    call = next(call for call in peers[0].seen() if "/all/" in call["url"])
    assert call["method"] == "POST" and call["url"] == "/2015-03-31/functions/all/invocations"
    assert json.loads(call["body"]) == {
        "requestContext": {"elb": {"targetGroupArn": "arn:of:all"}}, "httpMethod": "GET", "path": "/health", "queryStringParameters": {},
        "headers": {"user-agent": "ELB-HealthChecker/2.0"}, "body": "", "isBase64Encoded": False}


def test_checks_are_signed_and_have_the_group_s_form(checked, peers):
    wait_for(lambda: any("/multi/" in call["url"] for call in peers[1].seen()), "a check")
    call = next(call for call in peers[1].seen() if "/multi/" in call["url"])
    event = json.loads(call["body"])
    assert event["multiValueHeaders"] == {"user-agent": ["ELB-HealthChecker/2.0"]} and event["path"] == "/multi"
    assert event["multiValueQueryStringParameters"] == {"a": ["b"]} and "headers" not in event
    assert call["headers"]["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert call["headers"]["host"] == "lambda.eu-west-1.amazonaws.com"


def test_functions_are_not_checked_unless_asked_for(checked, peers):
    wait_for(lambda: sum("/all/" in call["url"] for call in peers[0].seen()) >= 3, "checks of the others")
    assert not any("/unchecked/" in call["url"] or "/off/" in call["url"] for call in peers[0].seen())
    assert fetch(checked.port("http"), "/unchecked").status == 404


@pytest.mark.parametrize("kind, reason", [
    ("throw", "Target.FailedHealthChecks"), ("garbage", "Target.FailedHealthChecks"), (500, "Target.ResponseCodeMismatch"),
    ("service", "Target.ResponseCodeMismatch"), ("throttle", "Target.ResponseCodeMismatch"), ("silent", "Target.Timeout"),
    ("reset", "Target.FailedHealthChecks"), ("cut", "Target.FailedHealthChecks")])
def test_a_function_that_fails_its_checks_is_not_asked_and_comes_back(checked, peers, kind, reason):
    if kind == "silent":  # ten times in a row, as the other one may not fail while the machine stands still
        checked.configure(CHECKED.replace("timeout: 20s", "timeout: 400ms").replace("unhealthy_threshold: 2", "unhealthy_threshold: 10"))
        checked.reload()
    wait_for(lambda: states(checked) == ["healthy", "healthy"], "both to be healthy")
    peers[0].behave(kind, -1)
    wait_for(lambda: states(checked) == ["unhealthy", "healthy"], "the first to be found out")
    target = json.loads(checked.admin("/api/v1/target_groups/all")[1])["targets"][0]
    assert target["reason"] == reason
    before = sum(json.loads(call["body"])["path"] == "/asked" for call in peers[0].seen())
    for _ in range(4):
        assert fetch(checked.port("http"), "/asked").status == 404
    assert sum(event["path"] == "/asked" for event in peers[0].events()) == before == 0
    peers[0].behave("fine", 0)
    wait_for(lambda: states(checked) == ["healthy", "healthy"], "the first to be back")


def test_a_reload_keeps_checks_that_are_the_same_and_changes_those_that_are_not(checked, peers):
    wait_for(lambda: states(checked) == ["healthy", "healthy"], "both to be healthy")
    wait_for(lambda: any("/multi/" in call["url"] for call in peers[1].seen()), "the check of each hour")
    checked.reload()
    assert states(checked) == ["healthy", "healthy"]
    assert sum("/multi/" in call["url"] for call in peers[1].seen()) == 1  # its hour is not over
    checked.configure(CHECKED.replace("/health,", "/changed,").replace("a=b", "a=c"))
    checked.reload()
    wait_for(lambda: any(event["path"] == "/changed" for event in peers[0].events()), "the new path to be asked for")
    wait_for(lambda: sum("/multi/" in call["url"] for call in peers[1].seen()) == 2, "the other query to be asked for")


def test_intervals_are_those_of_an_alb(weir, peers):
    gateway = weir(CHECKED.replace(', interval: 1h', ""), first=peers[0].port, second=peers[1].port)
    printed = gateway.run("check", CONFIG, "--print").stdout
    part = printed[printed.index("  multi:"):]
    part = part[part.index("health_check:"):]
    values = dict(line.strip().split(": ", 1) for line in part.splitlines()[1:9])
    assert values["interval"] == "35s" and values["timeout"] == "30s" and values["protocol"] == "lambda"
    assert values["healthy_threshold"] == "5" and values["unhealthy_threshold"] == "2"


def test_an_endpoint_can_be_checked_by_a_connection_alone(weir, peers):
    gateway = weir(CHECKED.replace("path: /health, ", "protocol: tcp, ").replace(', matcher: "404"', ""), first=peers[0].port, second=peers[1].port)
    for function in peers[:2]:
        function.settle()
        function.behave("throw", -1)
    wait_for(lambda: states(gateway) == ["healthy", "healthy"], "both to be healthy")
    assert not any("/all/" in call["url"] for call in peers[0].seen())
