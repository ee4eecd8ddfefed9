"""Fixtures of the end-to-end tests. Every test talks to the real binary (WEIR_BIN, default build/weir)."""
import resource
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from again import Again  # noqa: E402
from origin import FastOrigin, Origin  # noqa: E402
from weir import BINARY, SANITIZED, Weir  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "timeout(seconds): a test's own limit; 180 s without the mark")
    config.addinivalue_line("markers", "xdist_group(name): tests of one group run one after the other (pytest-xdist)")
    config.pluginmanager.register(Again(), "again")
    # Whoever starts the tests in the background may have them ignore it, and all they start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Some tests hold a thousand connections; the usual soft limit is 1,024 descriptors.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 16
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(hard, wanted), hard))
    if not BINARY.exists():
        raise pytest.UsageError(f"{BINARY} is missing: run `make build` first")


@pytest.fixture(autouse=True)
def time_limit(request):
    """A hanging test fails with a stack instead of stopping the run. No test needs as long, but where the machine does."""
    mark = request.node.get_closest_marker("timeout")
    seconds = max(mark.args[0] if mark else 0, 180) * (3 if SANITIZED else 1)

    def expire(*_):
        raise TimeoutError(f"the test took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def weir():
    """weir(config, **values) starts a gateway; all are stopped and checked at the end of the test."""
    started = []

    def start(config, **options):
        gateway = Weir(config, **options)
        started.append(gateway)
        return gateway

    yield start
    complaints = []
    for gateway in started:
        try:
            gateway.close()
        except AssertionError as complaint:
            complaints.append(str(complaint))
    assert not complaints, "\n".join(complaints)


@pytest.fixture(scope="module")
def module_weir():
    """The same for a module: one gateway shared by its tests."""
    started = []

    def start(config, **options):
        gateway = Weir(config, **options)
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        gateway.close()


@pytest.fixture
def origin():
    with Origin() as server:
        yield server


@pytest.fixture(scope="module")
def fast_origin():
    with FastOrigin() as server:
        yield server
