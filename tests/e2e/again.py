"""
A failure counts only where the machine let the test run.

Tests with clocks in them (timeouts, floods, health checks) share two cores with other tests, and a virtual machine may
stand still for longer than any of their limits. Clock measures that while a test runs: a thread that wants to wake up
every 20 ms notes its longest delay, whoever caused it (the machine, other processes, other threads of the test). A test
that fails without such a delay has failed. One that fails with a delay of LIMIT or more is run once more, with fresh
fixtures; its second result counts. The run's summary names each, with the delay and the first failure, so that a race
does not hide here: whoever sees a name twice has found one. A run repeats at most MOST tests per process. (pytest-rerunfailures knows
no delays, and forgets the fixtures of what failed without ending them: gateways would stay.)
"""
import threading
import time

import pytest
from _pytest.runner import runtestprotocol

LIMIT = 0.1
MOST = 4


class Clock(threading.Thread):
    """Notes how late it wakes up; .longest is the longest delay in seconds since .longest was set to 0."""
    STEP = 0.02

    def __init__(self):
        super().__init__(daemon=True, name="clock")
        self.longest = 0.0
        self.start()

    def run(self):
        before = time.monotonic()
        while True:
            time.sleep(self.STEP)
            now = time.monotonic()
            self.longest = max(self.longest, now - before - self.STEP)
            before = now


class Again:
    """The pytest plugin (registered in conftest.py)."""

    def __init__(self):
        self.clock = Clock()
        self.repeated = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        self.clock.longest = 0.0
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        delay = self.clock.longest
        if any(report.failed for report in reports) and delay >= LIMIT and self.repeated < MOST:
            self.repeated += 1
            item.session._setupstate.teardown_exact(None)  # what tests of the module share is made anew
            for report in reports:
                if report.failed:
                    report.outcome = "repeated"
                    report.delay = delay
                    item.ihook.pytest_runtest_logreport(report=report)
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_report_teststatus(self, report):
        if report.outcome == "repeated":
            return "repeated", "R", ("REPEATED", {"yellow": True})

    def pytest_terminal_summary(self, terminalreporter):
        repeated = terminalreporter.stats.get("repeated", [])
        if repeated:
            terminalreporter.section("run again, because the machine stood still while they failed", yellow=True)
        for report in repeated:
            terminalreporter.write_line(f"{report.nodeid}: {report.delay:.2f} s late in its {report.when}")
            terminalreporter.write_line(report.longreprtext)
