"""Lambda functions as targets: a function in Node behind the Invoke API gets the events of an Application Load Balancer."""
import base64
import datetime
import gzip
import hashlib
import hmac
import json
import threading
import urllib.parse

import pytest

from client import Client, fetch
from function import Function
from origin import Origin, reply
from weir import CONFIG, Weir, wait_for

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
CONFIGURATION = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  single: {lambda: hello, targets: ["127.0.0.1:@function@"]}
  multi: {lambda: {function: "hello:live", multi_value_headers: true, target_group_arn: "arn:aws:x:y"}, targets: ["127.0.0.1:@function@"]}
  signed:
    lambda:
      function: "arn:aws:lambda:eu-west-1:123456789012:function:hello"
      sign: {region: eu-west-1, access_key: AKIDEXAMPLE, secret_key: "@secret@", session_token: "tok/en=="}
    targets: ["127.0.0.1:@function@"]
  scripted: {lambda: scripted, targets: ["127.0.0.1:@origin@"], timeouts: {connect: 20s, first_byte: 60s}}
  hasty: {lambda: scripted, targets: ["127.0.0.1:@origin@"], timeouts: {connect: 20s, first_byte: 500ms}}
  away: {lambda: hello, targets: ["127.0.0.1:@nobody@"]}
  s400: {lambda: {function: hello, host: status-400}, targets: ["127.0.0.1:@function@"]}
  s403: {lambda: {function: hello, host: status-403}, targets: ["127.0.0.1:@function@"]}
  s404: {lambda: {function: hello, host: status-404}, targets: ["127.0.0.1:@function@"]}
  s429: {lambda: {function: hello, host: status-429}, targets: ["127.0.0.1:@function@"]}
  s500: {lambda: {function: hello, host: status-500}, targets: ["127.0.0.1:@function@"]}
routes:
  - {name: multi, match: {path_prefix: /multi}, rewrite: {path: "^/multi(.*)$", to: "$1"}, forward: multi}
  - {name: signed, match: {path_prefix: /signed}, rewrite: {path: "^/signed(.*)$", to: "$1"}, forward: signed}
  - {name: scripted, match: {path_prefix: /scripted}, forward: scripted}
  - {name: hasty, match: {path_prefix: /hasty}, forward: hasty}
  - {name: away, match: {path_prefix: /away}, forward: away}
  - {name: s400, match: {path: /s400}, forward: s400}
  - {name: s403, match: {path: /s403}, forward: s403}
  - {name: s404, match: {path: /s404}, forward: s404}
  - {name: s429, match: {path: /s429}, forward: s429}
  - {name: s500, match: {path: /s500}, forward: s500}
  - {name: ruled, match: {path_prefix: /ruled}, rewrite: {path: "^/ruled(.*)$", to: "$1?added=1"}, request_headers: {set: {x-team: a}},
     response_headers: {set: {x-from: weir}, remove: [x-function]}, forward: single}
  - {name: small, match: {path: /small}, max_body: 10, forward: single}
  - {name: single, forward: single}
"""


@pytest.fixture(scope="module")
def function():
    function = Function()
    yield function
    function.close()


@pytest.fixture(scope="module")
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(function, origin):
    with Weir(CONFIGURATION, function=function.port, origin=origin.port, secret=SECRET) as gateway:
        yield gateway


@pytest.fixture
def ask(gateway, function):
    function.settle()
    return lambda *args, **options: fetch(gateway.port("http"), *args, **options)


def raw(value):
    """A request whose answer the function returns word for word."""
    return "/raw?raw=" + urllib.parse.quote(value if isinstance(value, str) else json.dumps(value), safe="")


def reason_of(gateway, path):
    return gateway.wait_log(lambda entry: entry["path"] == path.partition("?")[0])[-1]


# --- events ------------------------------------------------------------------------------------------------------------
def test_a_request_becomes_the_event_of_an_alb(ask, gateway, function):
    response = ask("/event?k=a%20b&k=c%2Fd&empty=&none", headers=[("X-A", "1"), ("x-a", "2"), ("User-Agent", "test")], host="Shop.example:81")
    assert response.status == 200 and response.get("content-type") == "application/json"
    assert response.get("x-function") == "yes" and response.get("content-length") == str(len(response.body))
    event = json.loads(response.body)
    headers = event.pop("headers")
    assert event == {"requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/single/0000000000000000"}},
                     "httpMethod": "GET", "path": "/event", "queryStringParameters": {"k": "c%2Fd", "empty": "", "none": ""},
                     "body": "", "isBase64Encoded": False}
    assert headers["host"] == "Shop.example:81" and headers["x-a"] == "2" and headers["user-agent"] == "test"
    assert headers["x-forwarded-for"] == "127.0.0.1" and headers["x-forwarded-proto"] == "http" and headers["x-forwarded-port"] == str(gateway.port("http"))
    assert headers["x-amzn-trace-id"].startswith("Root=1-") and "content-length" not in headers
    call = function.take()
    assert call["method"] == "POST" and call["url"] == "/2015-03-31/functions/hello/invocations"
    assert call["headers"]["content-type"] == "application/json" and call["headers"]["x-amz-invocation-type"] == "RequestResponse"
    assert "authorization" not in call["headers"] and "transfer-encoding" not in call["headers"]


def test_multi_value_events_keep_every_value(ask, function):
    event = json.loads(ask("/multi/event?k=1&l=x&k=2", headers=[("X-A", "1"), ("x-a", "2")]).body)
    assert event["multiValueQueryStringParameters"] == {"k": ["1", "2"], "l": ["x"]}
    assert event["multiValueHeaders"]["x-a"] == ["1", "2"] and event["multiValueHeaders"]["host"] == ["example.com"]
    assert "headers" not in event and "queryStringParameters" not in event and event["path"] == "/event"
    assert event["requestContext"]["elb"]["targetGroupArn"] == "arn:aws:x:y"
    assert function.take()["url"] == "/2015-03-31/functions/hello%3Alive/invocations"


def test_no_query_is_an_empty_object(ask):
    assert json.loads(ask("/event").body)["queryStringParameters"] == {}
    assert json.loads(ask("/multi/event?").body)["multiValueQueryStringParameters"] == {}


@pytest.mark.parametrize("kind, coding, is_base64", [
    ("text/plain; charset=utf-8", None, False), ("application/json", None, False), ("Application/JSON ;x=y", None, False),
    ("application/xml", None, False), ("application/javascript", None, False), ("image/png", None, True),
    ("application/x-www-form-urlencoded", None, True), ("application/jsonx", None, True), (None, None, True),
    ("application/json", "gzip", True), ("text/plain", "identity", True)])
def test_bodies_are_text_or_base64(ask, function, kind, coding, is_base64):
    headers = [("Content-Type", kind)] if kind else []
    headers += [("Content-Encoding", coding)] if coding else []
    body = 'a "b" \\ ü'.encode()
    response = ask("/body", "POST", headers, body)
    assert response.status == 200 and response.body == body
    event = json.loads(function.take()["body"])
    assert event["isBase64Encoded"] is is_base64
    assert event["body"] == (base64.b64encode(body).decode() if is_base64 else body.decode())
    assert event["headers"]["content-length"] == str(len(body))


@pytest.mark.parametrize("size", [1, 2, 3, 65536, 1 << 20])
def test_binary_bodies_come_back_as_they_were(ask, size):
    body = bytes(range(256)) * (size // 256 + 1)
    response = ask("/body", "PUT", body=body[:700_000][:size])
    assert response.status == 200 and response.body == body[:700_000][:size]


def test_chunked_bodies_are_events_too(gateway, function):
    with Client(gateway.port("http")) as client:
        client.send(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            client.send(b"5\r\nhello\r\n")
        client.send(b"0\r\n\r\n")
        assert client.response().body == b"hello" * 100


def test_rules_of_the_route_hold(ask, function):
    response = ask("/ruled/event")
    event = json.loads(response.body)
    assert event["path"] == "/event" and event["queryStringParameters"] == {"added": "1"} and event["headers"]["x-team"] == "a"
    assert response.get("x-from") == "weir" and response.get("x-function") is None


# --- responses ---------------------------------------------------------------------------------------------------------
def test_several_cookies_need_multi_value_headers(ask):
    response = ask("/multi/cookies")
    assert response.status == 201 and response.all("set-cookie") == ["a=1", "b=2"] and response.body == b"made"
    assert ask("/cookies").all("set-cookie") == ["only=this"]


def test_the_other_form_of_headers_will_do(ask):
    assert ask(raw({"statusCode": 200, "multiValueHeaders": {"x-a": ["1", "2"]}})).all("x-a") == ["1", "2"]


def test_base64_is_decoded(ask):
    response = ask("/binary")
    assert response.get("content-encoding") == "gzip"
    assert gzip.decompress(response.body) == b"binary \0 content"


def test_fields_of_the_connection_are_ours(ask):
    response = ask("/hop")
    assert response.body == b"hop" and response.get("content-length") == "3"
    assert response.get("connection") is None and response.get("transfer-encoding") is None and response.get("keep-alive") is None
    assert response.get("x-a") == "5"


def test_head_has_no_body(ask):
    response = ask("/event", "HEAD")
    assert response.status == 200 and response.body == b"" and int(response.get("content-length")) > 100


@pytest.mark.parametrize("value, status, reason, body", [
    ({"statusCode": 200}, 200, "OK", b""),
    ({"statusCode": 418, "statusDescription": "418 Short and stout", "body": "tea"}, 418, "Short and stout", b"tea"),
    ({"statusCode": 204, "body": "never"}, 204, "No Content", b""),
    ({"statusCode": 500, "headers": {}, "body": "mine", "isBase64Encoded": False}, 500, "Internal Server Error", b"mine"),
    ({"statusCode": 200, "isBase64Encoded": True, "body": ""}, 200, "OK", b""),
    ({"statusCode": 200, "isBase64Encoded": True, "body": "YQ=="}, 200, "OK", b"a"),
    ({"statusCode": 200, "extra": [1, {"deep": None}], "body": "\u0000\u00fc"}, 200, "OK", b"\0\xc3\xbc"),
], ids=lambda value: None)
def test_what_the_function_returns_is_the_response(ask, gateway, value, status, reason, body):
    response = ask(raw(value))
    assert (response.status, response.reason, response.body) == (status, reason, body)
    assert gateway.wait_log(lambda entry: entry["path"] == "/raw")[-1]["reason"] == "-"


GOOD = {"statusCode": 200, "headers": {}, "isBase64Encoded": False, "body": "x"}


@pytest.mark.parametrize("value", [
    "", "null", "[]", '"text"', "{", '{"statusCode":200}x', "{}", '{"statusCode":"200"}', '{"statusCode":99}', '{"statusCode":600}',
    '{"statusCode":2e2}', '{"statusCode":null}', {**GOOD, "body": None}, {**GOOD, "headers": None}, {**GOOD, "isBase64Encoded": None},
    {**GOOD, "isBase64Encoded": "true"}, {**GOOD, "statusDescription": None}, {**GOOD, "statusDescription": "OK"},
    {**GOOD, "statusDescription": "200  OK"}, {**GOOD, "statusDescription": "200"}, {**GOOD, "statusDescription": "200 a\r\nb: c"},
    {**GOOD, "body": 5}, {**GOOD, "isBase64Encoded": True, "body": "not base64!"}, {**GOOD, "isBase64Encoded": True, "body": "YQ"},
    {**GOOD, "headers": {"a b": "c"}}, {**GOOD, "headers": {"a": "b\r\nc: d"}}, {**GOOD, "headers": {"a": None}},
    {**GOOD, "headers": {"a": ["b"]}}, {**GOOD, "headers": []}, {**GOOD, "headers": {"a": "\u0000"}}, {**GOOD, "headers": {"": "b"}},
    {"statusCode": 200, "multiValueHeaders": {"a": "b"}}, {"statusCode": 200, "multiValueHeaders": {"a": [None]}}, "[" * 2000],
    ids=range(34))
def test_what_is_no_response_is_a_502(ask, gateway, value):
    before = gateway.metric("weir_requests_total", reason="LAMBDA_INVALID_RESPONSE")
    response = ask(raw(value))
    assert response.status == 502
    wait_for(lambda: gateway.metric("weir_requests_total", reason="LAMBDA_INVALID_RESPONSE") == before + 1, "the reason to be counted")


# --- errors ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path, status, reason", [
    ("/throw", 502, "LAMBDA_FUNCTION_ERROR"), ("/large", 502, "LAMBDA_RESPONSE_TOO_LARGE"), ("/s400", 502, "LAMBDA_BAD_REQUEST"),
    ("/s403", 502, "LAMBDA_ACCESS_DENIED"), ("/s404", 502, "LAMBDA_NOT_FOUND"), ("/s429", 502, "LAMBDA_THROTTLED"),
    ("/s500", 502, "LAMBDA_SERVICE_ERROR"), ("/away/a", 502, "LAMBDA_CONNECTION_ERROR")])
def test_failures_have_their_reasons(ask, gateway, path, status, reason):
    response = ask(path)
    assert response.status == status
    entry = reason_of(gateway, path)
    assert entry["reason"] == reason and entry["status"] == status and entry["target_group"]


def test_a_response_of_nearly_a_mebibyte_passes(ask):
    assert ask("/almost").body == b"x" * 1_000_000


def test_a_body_above_a_mebibyte_is_413(gateway, ask):
    response = ask("/body", "POST", body=b"x" * ((1 << 20) + 1))
    assert response.status == 413
    with Client(gateway.port("http")) as client:
        client.send(b"POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(20):
                client.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        except OSError:
            pass
        assert client.response().status == 413
    assert reason_of(gateway, "/chunked")["reason"] == "LAMBDA_REQUEST_TOO_LARGE"
    assert ask("/small", "POST", body=b"x" * 11).status == 413
    assert reason_of(gateway, "/small")["reason"] == "BODY_TOO_LARGE"


@pytest.mark.parametrize("headers, body", [([("X-A", "\xff")], None), ([("Content-Type", "text/plain")], b"\xff\xfe")], ids=["header", "body"])
def test_what_json_cannot_say_is_refused(ask, gateway, headers, body):
    assert ask("/utf8", "POST", headers, body).status == 502
    assert reason_of(gateway, "/utf8")["reason"] == "LAMBDA_BAD_REQUEST"


def test_functions_speak_no_websocket(ask, gateway):
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
    assert ask("/socket", headers=headers).status == 400
    assert reason_of(gateway, "/socket")["reason"] == "LAMBDA_WEBSOCKET"


def test_an_endpoint_that_does_not_answer_is_a_504(ask, gateway, origin):
    origin.answer = lambda exchange: exchange.wait_peer_closed(60)
    assert ask("/hasty/slow").status == 504
    assert reason_of(gateway, "/hasty/slow")["reason"] == "FIRST_BYTE_TIMEOUT"


def test_an_endpoint_that_breaks_off_is_a_502(ask, gateway, origin):
    origin.answer = lambda exchange: (exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), exchange.close())
    assert ask("/scripted/cut").status == 502
    assert reason_of(gateway, "/scripted/cut")["reason"] == "LAMBDA_CONNECTION_ERROR"


def test_a_connection_that_had_died_is_no_error(ask, origin):
    good = json.dumps({"statusCode": 200, "body": "again"}).encode()
    for _ in range(5):
        origin.answer = lambda exchange: (exchange.send(reply(good)), exchange.close())
        assert ask("/scripted/again", "PUT", body=b"x").body == b"again"


def test_a_client_that_leaves_ends_the_call(gateway, origin):
    seen = threading.Event()

    def hold(exchange):
        if exchange.wait_peer_closed(60):
            seen.set()
    origin.answer = hold
    client = Client(gateway.port("http"))
    client.request("GET", "/scripted/left")
    wait_for(lambda: gateway.metric("weir_requests_in_flight") > 0, "the request to be under way")
    client.reset()
    assert seen.wait(60)


# --- signatures --------------------------------------------------------------------------------------------------------
def signature(call, region, service):
    """The signature that AWS would compute of the call, by the published algorithm and nothing of weir."""
    names = call["headers"]["authorization"].split("SignedHeaders=")[1].split(",")[0]
    fields = "".join(f"{name}:{call['headers'][name]}\n" for name in names.split(";"))
    path = "/".join(urllib.parse.quote(part, safe="-_.~") for part in call["url"].split("/"))
    request = "\n".join([call["method"], path, "", fields, names, hashlib.sha256(call["body"].encode()).hexdigest()])
    date = call["headers"]["x-amz-date"]
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = ("AWS4" + SECRET).encode()
    for word in (date[:8], region, service, "aws4_request"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return scope, names, hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def test_calls_are_signed(ask, function):
    assert ask("/signed/event", "POST", {"Content-Type": "text/plain"}, b"hello").status == 200
    call = function.take()
    assert call["url"] == "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Ahello/invocations"
    assert call["headers"]["host"] == "lambda.eu-west-1.amazonaws.com" and call["headers"]["x-amz-security-token"] == "tok/en=="
    scope, names, expected = signature(call, "eu-west-1", "lambda")
    assert {"host", "x-amz-date", "x-amz-security-token"} <= set(names.split(";"))
    assert call["headers"]["authorization"] == (f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders={names}, "
                                                f"Signature={expected}")
    at = datetime.datetime.strptime(call["headers"]["x-amz-date"], "%Y%m%dT%H%M%SZ")
    assert abs((datetime.datetime.utcnow() - at).total_seconds()) < 60


def test_secrets_are_not_shown(gateway):
    text = gateway.run("check", CONFIG, "--print").stdout
    assert "AKIDEXAMPLE" in text and SECRET not in text and "tok/en" not in text


# --- around ------------------------------------------------------------------------------------------------------------
def test_explain_names_the_function(gateway):
    done = gateway.run("explain", f"http://127.0.0.1:{gateway.port('http')}/event", "-c", CONFIG, "--json")
    answer = json.loads(done.stdout)
    step = next(step for step in answer["steps"] if step["stage"] == "lambda")
    assert step["text"] == 'as an event for function "hello"' and answer["target_group"] == "single"
    assert step["line"] == next(i for i, text in enumerate(CONFIGURATION.splitlines(), 1) if "single: {lambda" in text)


def test_the_log_of_an_alb_has_its_names(weir, function):
    gateway = weir(CONFIGURATION + 'access_log: {format: alb, path: "@tmp@/alb.log"}\n', function=function.port, origin=9, secret=SECRET)
    for path, name in (("/s429", "LambdaThrottling"), ("/throw", "LambdaUnhandled"), ("/raw?raw=x", "LambdaInvalidResponse")):
        fetch(gateway.port("http"), path)
        wait_for(lambda: (gateway.folder / "alb.log").exists() and f'"{name}"' in (gateway.folder / "alb.log").read_text(), name)


def test_compression_and_reloads_work_with_functions(weir, function):
    gateway = weir(CONFIGURATION + "compression: true\n", function=function.port, origin=9, secret=SECRET)
    response = fetch(gateway.port("http"), "/almost", headers={"Accept-Encoding": "gzip"})
    assert response.get("content-encoding") == "gzip" and gzip.decompress(response.body) == b"x" * 1_000_000
    gateway.reload()
    assert fetch(gateway.port("http"), "/event").status == 200
