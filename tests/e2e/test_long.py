"""Years of operation in small: what tests/bench/long does with full numbers must hold in every build with these."""
import pytest

from long_runs import lost, run_crashes, run_flips, run_large, run_reloads, run_upgrades
from weir import SANITIZED

pytestmark = [pytest.mark.xdist_group("load"), pytest.mark.timeout(180)]


def test_reloads_lose_nothing_while_idle_connections_streams_and_requests_go_on():
    seen = run_reloads(reloads=40, idle=300, streams=100, rate=500, pause=0.02)
    assert lost(seen["total"]) == 0, seen
    assert seen["total"]["told_to_close"] == 0 and seen["total"]["requests"] > 100
    assert (seen["idle"], seen["streams"]) == (300, 100)
    assert seen["generation"] == 61
    if not SANITIZED:
        assert seen["rss_after"] < seen["rss_before"] * 1.05, seen


def test_upgrades_lose_no_request_and_no_stream():
    seen = run_upgrades(upgrades=4, rate=300, new=50, streams=20)
    assert lost(seen["total"]) == 0, seen
    assert seen["streams"] == 20, "those who stream stay with the worker that they began with"
    assert seen["workers"] == 4


def test_crashes_refuse_no_connection():
    seen = run_crashes(crashes=4, rate=300, new=50)
    assert (seen["total"]["refused"], seen["total"]["failed"]) == (0, 0), seen
    assert seen["restarts"] == 4
    if not SANITIZED:  # the slowest ones measure what else the machine does
        assert seen["back_ms"][1] < 200, seen


def test_a_name_that_changes_its_address_loses_no_request_and_no_stream():
    seen = run_flips(flips=5, every=0.5, rate=300, new=30, streams=20)
    assert lost(seen["total"]) == 0, seen
    assert seen["streams"] == 20 and seen["total"]["requests"] > 100, seen


def test_10000_routes_are_reloaded_and_checked_in_time():
    seen = run_large(windows=1, seconds=2, rate=200, routes=1000 if SANITIZED else 10000)
    if not SANITIZED:
        assert seen["reload_cpu_ms"] < 500, seen
        assert seen["check_cpu_ms"] < 300, seen
