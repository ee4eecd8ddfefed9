"""Requests whose target failed: what is sent again, to whom, how often, and what the budget, a fallback and a hedge do."""
import re
import socket
import threading
import time

import pytest

from client import Client, Closed, fetch
from origin import OK, Origin, reply
from weir import PORTS, Weir, wait_for

CONFIG = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  two: {targets: ["127.0.0.1:@first@", "127.0.0.1:@second@"], health_check: {enabled: false}, timeouts: {first_byte: 60s}}
  one: {targets: "127.0.0.1:@first@", health_check: {enabled: false}, retry: {attempts: 2, on: 503, budget: 100%, backoff: 1ms}}
  second: {targets: "127.0.0.1:@second@", health_check: {enabled: false}}
  budgeted: {targets: ["127.0.0.1:@first@", "127.0.0.1:@second@"], health_check: {enabled: false}}
  few: {targets: ["127.0.0.1:@first@", "127.0.0.1:@second@"], health_check: {enabled: false}}
  hedged: {targets: ["127.0.0.1:@first@", "127.0.0.1:@second@"], health_check: {enabled: false}}
  nobody: {targets: "127.0.0.1:@nobody@", health_check: {enabled: false}}
  empty: {targets: []}
routes:
  - {name: statuses, match: {path: "/statuses*"}, forward: two, retry: {on: [502, 503-504], budget: 100%, backoff: 1ms}}
  - {name: once, match: {path: /once}, forward: two, retry: {attempts: 0, on: 503}}
  - {name: group, match: {path: /group}, forward: one}
  - {name: unset, match: {path: /unset}, forward: two}
  - {name: reset, match: {path: /reset}, forward: two, retry: {on: reset, budget: 100%, backoff: 1ms}}
  - {name: anything, match: {path: /anything}, forward: two, retry: {on: [reset, 5xx], budget: 100%, backoff: 1ms, non_idempotent: true, buffer: 64KiB}}
  - {name: slow, match: {path: /slow}, forward: two, retry: {on: timeout, per_try_timeout: 300ms, budget: 100%, backoff: 1ms}}
  - {name: slower, match: {path: /slower}, forward: two, retry: {on: timeout, per_try_timeout: 5s, budget: 100%, backoff: 1ms}}
  - {name: bad, match: {path: /bad}, forward: two, retry: {on: bad_response, budget: 100%, backoff: 1ms}}
  - {name: total, match: {path: "/total/*"}, forward: two, timeouts: {total: 1s}}
  - {name: budget, match: {path: /budget}, forward: budgeted, retry: {attempts: 3, on: 503, budget: 20%, backoff: 1ms}}
  - {name: few, match: {path: /few}, forward: few, retry: {attempts: 2, on: 503}}
  - {name: no_budget, match: {path: /no_budget}, forward: few, retry: {attempts: 2, on: 503, budget: 0%}}
  - {name: left, match: {path: /left}, forward: two, retry: {attempts: 2, on: 503, budget: 100%, backoff: 60s, max_backoff: 60s}}
  - {name: paused, match: {path: /paused}, forward: two, retry: {attempts: 2, on: 503, budget: 100%, backoff: 400ms, max_backoff: 400ms}}
  - {name: pair, match: {path: "/pair*"}, forward: {primary: one, fallback: second}}
  - {name: pair_404, match: {path: /missing}, forward: {primary: one, fallback: second, on: [404]}}
  - {name: pair_down, match: {path: /down}, forward: {primary: nobody, fallback: second}}
  - {name: pair_empty, match: {path: /empty}, forward: {primary: empty, fallback: second}}
  - {name: pair_not_503, match: {path: /not503}, forward: {primary: nobody, fallback: second, on: [500]}}
  - {name: hedged, match: {path: /hedged}, forward: hedged, hedge: 100ms, retry: {budget: 100%}}
  - {name: hedged_late, match: {path: /hedged_late}, forward: hedged, hedge: 20s, retry: {budget: 100%}}
"""


@pytest.fixture(scope="module")
def origins():
    with Origin() as first, Origin() as second:
        yield first, second


@pytest.fixture(scope="module")
def shared(origins):
    with Weir(CONFIG, first=origins[0].port, second=origins[1].port) as gateway:
        yield gateway


@pytest.fixture
def gateway(shared, origins):
    for origin in origins:
        origin.settle()
        origin.answer = OK
    return shared


def failing(count, bad=reply(status="503 Service Unavailable", body=b"down")):
    """An answer for both origins: bad the first `count` times, counted together."""
    left, lock = [count], threading.Lock()

    def answer(exchange):
        with lock:
            left[0] -= 1
            is_bad = left[0] >= 0
        if not is_bad:
            exchange.send(reply(b"fine"))
        elif callable(bad):
            bad(exchange)
        else:
            exchange.send(bad)
    return answer


def answer_both(origins, answer):
    for origin in origins:
        origin.answer = answer


def hits(origins):
    return [len(origin.requests) for origin in origins]


# --- statuses ---------------------------------------------------------------------------------------------------------
def test_a_status_in_the_list_is_tried_on_the_other_target(gateway, origins):
    answer_both(origins, failing(1))
    response = fetch(gateway.port("http"), "/statuses")
    assert (response.status, response.body) == (200, b"fine")
    assert hits(origins) == [1, 1]


@pytest.mark.parametrize("status", ["500 Internal Server Error", "404 Not Found", "505 x"])
def test_a_status_that_is_not_listed_is_passed_on(gateway, origins, status):
    answer_both(origins, reply(status=status))
    assert fetch(gateway.port("http"), "/statuses").status == int(status[:3])
    assert sum(hits(origins)) == 1


def test_after_the_last_try_the_target_s_own_answer_is_passed_on(gateway, origins):
    answer_both(origins, reply(b"still down", status="503 x"))
    response = fetch(gateway.port("http"), "/statuses")
    assert (response.status, response.body) == (503, b"still down")
    assert sum(hits(origins)) == 3  # attempts: 2 further ones


def test_no_attempts_means_no_second_try(gateway, origins):
    answer_both(origins, reply(status="503 x"))
    assert fetch(gateway.port("http"), "/once").status == 503
    assert sum(hits(origins)) == 1


def test_a_group_s_retry_asks_its_only_target_again(gateway, origins):
    origins[0].answer = failing(1)
    assert fetch(gateway.port("http"), "/group").status == 200
    assert hits(origins) == [2, 0]


def test_a_discarded_answer_of_a_megabyte_does_not_show(gateway, origins):
    answer_both(origins, failing(1, reply(b"x" * 1_000_000, status="502 x")))
    assert fetch(gateway.port("http"), "/statuses").body == b"fine"


def test_a_post_is_not_sent_again_for_a_status(gateway, origins):
    answer_both(origins, reply(status="503 x"))
    assert fetch(gateway.port("http"), "/statuses", "POST", body=b"hello").status == 503
    assert sum(hits(origins)) == 1


# --- bodies -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [0, 1, 5000, 65536])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_within_the_buffer_is_sent_again_whole(gateway, origins, size, is_chunked):
    body = bytes(i % 251 for i in range(size))
    answer_both(origins, failing(1))
    with Client(gateway.port("http")) as client:
        if is_chunked:
            client.send(b"POST /anything HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, size, 1000):
                part = body[at:at + 1000]
                client.send(b"%x\r\n%b\r\n" % (len(part), part))
            client.send(b"0\r\n\r\n")
        else:
            client.request("POST", "/anything", body=body)
        assert client.response("POST").body == b"fine"
    requests = origins[0].requests + origins[1].requests
    assert len(requests) == 2 and all(request.body == body for request in requests)


def test_a_body_above_the_buffer_is_sent_once(gateway, origins):
    answer_both(origins, failing(1))
    assert fetch(gateway.port("http"), "/anything", "POST", body=b"x" * 200_000).status == 503
    assert sum(hits(origins)) == 1


def test_a_target_that_answers_before_the_body_has_come_is_followed_by_one_that_gets_all_of_it(gateway, origins):
    for origin in origins:
        origin.reads_body = False
    try:
        seen = threading.Event()

        def answer(exchange):
            if not seen.is_set():
                seen.set()
                exchange.send(reply(status="503 x"))
                exchange.close()
                return
            exchange.read_body()
            exchange.send(reply(exchange.request.body))
        answer_both(origins, answer)
        with Client(gateway.port("http")) as client:
            client.send(b"PUT /anything HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
            assert seen.wait(30)
            wait_for(lambda: sum(hits(origins)) == 2, "the second target to be asked")
            client.send(b"world")
            assert client.response("PUT").body == b"helloworld"
    finally:
        for origin in origins:
            origin.reads_body = True


# --- failures ---------------------------------------------------------------------------------------------------------
def test_a_reset_before_the_answer_is_tried_again_when_listed(gateway, origins):
    answer_both(origins, failing(2, lambda exchange: exchange.reset()))
    assert fetch(gateway.port("http"), "/reset").body == b"fine"


def test_a_post_that_was_reset_is_not_sent_again(gateway, origins):
    answer_both(origins, failing(1, lambda exchange: exchange.reset()))
    assert fetch(gateway.port("http"), "/reset", "POST", body=b"x").status == 502
    assert sum(hits(origins)) == 1


def test_non_idempotent_lets_a_post_be_sent_again(gateway, origins):
    answer_both(origins, failing(1, lambda exchange: exchange.reset()))
    assert fetch(gateway.port("http"), "/anything", "POST", body=b"x").body == b"fine"


def test_a_reset_is_an_error_where_retry_is_not_configured(gateway, origins):
    # on a kept connection it is taken for a stale one and replaced: the new one says what it is
    answer_both(origins, failing(9, lambda exchange: exchange.reset()))
    assert fetch(gateway.port("http"), "/unset").status == 502


def test_a_try_that_is_silent_for_per_try_timeout_is_given_up(gateway, origins):
    for path, limit in (("/slow", 0.3), ("/slower", 5)):
        answer_both(origins, failing(1, lambda exchange: exchange.wait_peer_closed()))
        began = time.monotonic()
        response = fetch(gateway.port("http"), path, timeout=60)
        assert time.monotonic() - began >= limit - 0.01
        if response.status == 200:  # the others were quick enough
            break
    assert response.body == b"fine"


def test_when_every_try_is_silent_the_client_gets_504(gateway, origins):
    paid = 0
    while paid < 3:  # each that needs no other try pays a share into the budget
        paid = paid + 1 if fetch(gateway.port("http"), "/slow", headers=[("User-Agent", "pays")]).status == 200 else 0
    answer_both(origins, lambda exchange: exchange.wait_peer_closed())
    assert fetch(gateway.port("http"), "/slow", headers=[("User-Agent", "gets none")]).status == 504
    assert gateway.wait_log(lambda entry: entry["user_agent"] == "gets none")[0]["attempts"] == 3


def test_a_malformed_answer_is_tried_again_when_listed(gateway, origins):
    answer_both(origins, failing(1, b"HTTP/1.1 2x0 no\r\n\r\n"))
    assert fetch(gateway.port("http"), "/bad").body == b"fine"


def test_a_response_that_has_begun_is_never_tried_again(gateway, origins):
    seen = threading.Event()
    answer_both(origins, failing(1, lambda exchange: (exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
                                                      seen.wait(30), exchange.reset())))
    with Client(gateway.port("http")) as client:
        client.request("GET", "/anything")
        assert client.head().status == 200
        seen.set()
        with pytest.raises(Closed):
            client.exactly(9)
    assert sum(hits(origins)) == 1


# --- time -------------------------------------------------------------------------------------------------------------
def test_timeouts_total_ends_a_request_without_a_response(gateway, origins):
    answer_both(origins, lambda exchange: exchange.wait_peer_closed())
    began = time.monotonic()
    assert fetch(gateway.port("http"), "/total/none", timeout=30).status == 504
    assert 0.99 <= time.monotonic() - began
    entry = gateway.wait_log(lambda entry: entry["path"] == "/total/none")[0]
    assert entry["reason"] == "TOTAL_TIMEOUT"


def test_timeouts_total_cuts_off_a_response_that_goes_on(gateway, origins):
    def drip(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            for _ in range(1000):
                exchange.send(b"x")
                time.sleep(0.02)
        except OSError:
            exchange.close()
    answer_both(origins, drip)
    for _ in range(10):
        with Client(gateway.port("http")) as client:
            client.request("GET", "/total/drip")
            if client.head().status == 504:
                continue  # it had not begun in time: once more
            with pytest.raises(Closed):
                client.exactly(1000)
            break
    else:
        raise AssertionError("no response has begun")
    assert gateway.wait_log(lambda entry: entry["path"] == "/total/drip")[0]["reason"] == "TOTAL_TIMEOUT"


def test_there_is_a_pause_before_the_second_try(gateway, origins):
    answer_both(origins, failing(1))
    began = time.monotonic()
    assert fetch(gateway.port("http"), "/paused").status == 200
    assert 0.19 <= time.monotonic() - began  # half of 400 ms at least


def test_a_client_that_leaves_during_the_pause_ends_it(gateway, origins):
    answer_both(origins, failing(1))
    with Client(gateway.port("http")) as client:
        client.request("GET", "/left")
        wait_for(lambda: sum(hits(origins)) == 1, "the first try")
        client.reset()
    assert gateway.wait_log(lambda entry: entry["path"] == "/left" and entry["reason"] == "CLIENT_CLOSED")
    assert sum(hits(origins)) == 1


# --- the budget -------------------------------------------------------------------------------------------------------
def test_with_every_target_down_the_load_is_at_most_one_and_the_budget(gateway, origins):
    answer_both(origins, reply(status="503 x"))
    before, began = gateway.metric("weir_retries_over_budget_total"), time.monotonic()
    with Client(gateway.port("http")) as client:
        for _ in range(500):
            client.request("GET", "/budget")
            assert client.response().status == 503
    least = 10 * (time.monotonic() - began + 2)  # a second, where the machine is so slow that there are few requests
    assert 590 <= sum(hits(origins)) <= 500 * 1.2 + least
    assert gateway.metric("weir_retries_over_budget_total") > before


def test_a_failing_target_does_not_show_where_there_are_few_requests(gateway, origins):
    origins[0].answer, origins[1].answer = reply(status="503 x"), OK
    assert [fetch(gateway.port("http"), "/few").status for _ in range(8)] == [200] * 8
    assert hits(origins)[0] >= 4


def test_a_budget_of_nothing_allows_no_second_try(gateway, origins):
    answer_both(origins, reply(status="503 x"))
    assert fetch(gateway.port("http"), "/no_budget").status == 503
    assert sum(hits(origins)) == 1


# --- a fallback -------------------------------------------------------------------------------------------------------
def test_the_fallback_is_asked_when_the_primary_s_tries_are_used_up(gateway, origins):
    origins[0].answer = reply(status="503 x")
    origins[1].answer = reply(b"second")
    before = gateway.metric("weir_failovers_total")
    assert fetch(gateway.port("http"), "/pair").body == b"second"
    assert hits(origins) == [3, 1]
    assert gateway.metric("weir_failovers_total") == before + 1
    assert gateway.wait_log(lambda entry: entry["path"] == "/pair")[-1]["target_group"] == "second"


def test_the_fallback_s_failure_is_what_the_client_gets(gateway, origins):
    origins[0].answer = reply(status="500 x")
    origins[1].answer = reply(b"as well", status="502 x")
    response = fetch(gateway.port("http"), "/pair")
    assert (response.status, response.body) == (502, b"as well")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_other_methods_do_not_fail_over(gateway, origins, method):
    origins[0].answer = reply(status="500 x")
    assert fetch(gateway.port("http"), "/pair", method, body=b"").status == 500
    assert hits(origins)[1] == 0


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_head_and_options_fail_over(gateway, origins, method):
    origins[0].answer = reply(b"" if method == "HEAD" else b"x", status="500 x")
    origins[1].answer = reply(b"", fields=[("X-From", "second")])
    assert fetch(gateway.port("http"), "/pair", method).get("x-from") == "second"


@pytest.mark.parametrize("status", ["200 OK", "301 Moved", "404 Not Found", "501 x"])
def test_statuses_that_are_not_listed_stay_with_the_primary(gateway, origins, status):
    origins[0].answer = reply(status=status)
    assert fetch(gateway.port("http"), "/pair").status == int(status[:3])
    assert hits(origins)[1] == 0


def test_on_may_name_other_statuses(gateway, origins):
    origins[0].answer = reply(status="404 x")
    assert fetch(gateway.port("http"), "/missing").status == 200
    assert hits(origins) == [1, 1]


def test_every_request_asks_the_primary_first(gateway, origins):
    origins[0].answer = reply(status="500 x")
    for _ in range(3):
        assert fetch(gateway.port("http"), "/pair").status == 200
    assert hits(origins) == [3, 3]


def test_a_primary_that_cannot_be_reached_counts_as_503(gateway, origins):
    assert fetch(gateway.port("http"), "/down").status == 200
    assert fetch(gateway.port("http"), "/empty").status == 200
    assert fetch(gateway.port("http"), "/not503").status == 502


def test_explain_names_the_fallback_when_the_primary_has_no_target(gateway):
    text = gateway.run("explain", "http://a/empty", "-c", str(gateway.config_path)).stdout
    assert "fallback: the primary has no target" in text


@pytest.mark.parametrize("path, method, says", [
    ("/pair", "GET", 'after the last try "second" is asked on 500, 502, 503, 504'),
    ("/missing", "HEAD", 'after the last try "second" is asked on 404'),
    ("/pair", "POST", "no fallback: it is for GET, HEAD and OPTIONS"),
])
def test_explain_says_when_the_fallback_is_asked(gateway, path, method, says):
    text = gateway.run("explain", f"http://a{path}", "-X", method, "-c", str(gateway.config_path)).stdout
    assert re.search(rf"^retry +{re.escape(says)}  \[.*weir\.yaml:\d+\]$", text, re.M), text


# --- hedges -----------------------------------------------------------------------------------------------------------
def test_a_hedge_takes_the_faster_target(gateway, origins):
    first_is_asked, may_answer = threading.Event(), threading.Event()
    count, lock = [0], threading.Lock()

    def answer(exchange):
        with lock:
            count[0] += 1
            is_first = count[0] == 1
        if is_first:
            first_is_asked.set()
            assert exchange.wait_peer_closed(), "the loser is let go of"
            exchange.close()
            may_answer.set()
        else:
            exchange.send(reply(b"fast"))
    answer_both(origins, answer)
    before = gateway.metric("weir_hedges_total")
    assert fetch(gateway.port("http"), "/hedged").body == b"fast"
    assert may_answer.wait(30) and hits(origins) == [1, 1]
    assert gateway.metric("weir_hedges_total") == before + 1


def test_a_target_that_answers_in_time_has_no_rival(gateway, origins):
    assert fetch(gateway.port("http"), "/hedged_late").status == 200
    assert sum(hits(origins)) == 1


def test_a_hedge_whose_first_target_fails_lives_from_the_second(gateway, origins):
    count, lock, second_came = [0], threading.Lock(), threading.Event()

    def answer(exchange):
        with lock:
            count[0] += 1
            is_first = count[0] == 1
        if is_first:
            assert second_came.wait(30)
            exchange.reset()
        else:
            second_came.set()
            time.sleep(0.3)
            exchange.send(reply(b"second"))
    answer_both(origins, answer)
    assert fetch(gateway.port("http"), "/hedged").body == b"second"


# --- a rolling restart ------------------------------------------------------------------------------------------------
def test_a_rolling_restart_of_targets_that_drop_everything_is_not_seen_by_clients(origins):
    """Each of four targets closes at once, requests in flight included, and comes back on its port."""
    ports = [PORTS.take() for _ in range(4)]
    text = """
worker_threads: 1
listeners: {http: {address: "127.0.0.1:@http@"}}
target_groups:
  all:
    targets: [%s]
    health_check: {interval: 100ms, timeout: 20s, healthy_threshold: 1, unhealthy_threshold: 1}
    retry: {attempts: 5, on: [connect_failure, reset], budget: 50%%}
routes: [{name: all, forward: all}]
""" % ", ".join(f'"127.0.0.1:{port}"' for port in ports)

    def target(port):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        made = Origin(lambda exchange: (time.sleep(0.005), exchange.send(OK)))
        made.listener.close()
        made.listener = listener
        listener.listen(512)
        threading.Thread(target=made._accept, daemon=True).start()
        return made

    targets = [target(port) for port in ports]
    stop, bad, good = threading.Event(), [], [0]

    def load(gateway):
        with Client(gateway.port("http")) as client:
            while not stop.is_set():
                client.request("GET", "/")
                response = client.response()
                good[0] += response.status == 200
                if response.status != 200:
                    bad.append((response.status, response.fields))
    with Weir(text) as gateway:
        threads = [threading.Thread(target=load, args=(gateway,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            for i, port in enumerate(ports):
                before = good[0]
                wait_for(lambda: good[0] > before + 50, "traffic", 30)
                targets[i].close()
                wait_for(lambda: good[0] > before + 150, "traffic with a target down", 30)
                targets[i] = target(port)
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
            for each in targets:
                each.close()
    assert not bad and good[0] > 500
