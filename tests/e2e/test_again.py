"""What again.py promises: a test's failure counts, unless the machine stood still while it ran."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from weir import SANITIZED

pytestmark = pytest.mark.skipif(SANITIZED, reason="says nothing about the gateway")
HERE = Path(__file__).parent
SHARED = f"""
import os, pathlib, signal, subprocess, sys, time
import pytest
sys.path.insert(0, {str(HERE)!r})
HOME = pathlib.Path(__file__).parent


def number_of(name):
    with open(HOME / name, "a") as file:
        file.write("x")
    return len((HOME / name).read_text())


def stand_still(seconds):
    me = os.getpid()
    subprocess.Popen(["sh", "-c", f"kill -STOP {{me}}; sleep {{seconds}}; kill -CONT {{me}}"]).wait()
    time.sleep(0.1)


@pytest.fixture(scope="module")
def shared():
    yield number_of("shared")
    number_of("closed")
"""
CONFTEST = """
def pytest_configure(config):
    import sys
    sys.path.insert(0, {here!r})
    from again import Again
    config.pluginmanager.register(Again(), "again")
"""


def run(tmp_path, body, *options):
    (tmp_path / "conftest.py").write_text(CONFTEST.format(here=str(HERE)))
    (tmp_path / "test_it.py").write_text(SHARED + body)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *options, "."], cwd=tmp_path,
                          env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def marks(tmp_path, name):
    return len((tmp_path / name).read_text())


# In a process of its own the clock of the inner run stands still only as far as the machine does.
def test_a_failure_counts_at_once_where_nothing_stood_still(tmp_path):
    for _ in range(5):
        status, text = run(tmp_path, """
def test_fails():
    assert number_of("runs") % 2 == 0
""")
        if "run again" not in text:  # the machine did stand still: once more
            break
        (tmp_path / "runs").unlink()
    assert status == 1 and "1 failed" in text and marks(tmp_path, "runs") == 1, text


@pytest.mark.parametrize("options", ((), ("-n", "2")), ids=("alone", "in processes"))
def test_a_failure_while_the_machine_stood_still_is_run_again_and_named(tmp_path, options):
    status, text = run(tmp_path, """
def test_before(shared):
    pass

def test_fails_once(shared):
    if number_of("runs") == 1:
        stand_still(0.5)
        assert shared == "the first failure"

def test_after(shared):
    pass
""", *options)
    assert status == 0 and "3 passed" in text and "1 repeated" in text, text
    assert "test_it.py::test_fails_once" in text and "the first failure" in text and " s late" in text, text
    assert marks(tmp_path, "runs") == 2
    assert marks(tmp_path, "shared") == marks(tmp_path, "closed") >= 2, "what the module shares was not made anew"


def test_what_fails_twice_has_failed(tmp_path):
    status, text = run(tmp_path, """
def test_fails():
    number_of("runs")
    stand_still(0.5)
    assert 0
""")
    assert status == 1 and "1 failed" in text and "1 repeated" in text and marks(tmp_path, "runs") == 2, text


def test_what_its_fixtures_break_is_run_again_too(tmp_path):
    status, text = run(tmp_path, """
@pytest.fixture(scope="module")
def broken():
    if number_of("fixtures") == 1:
        stand_still(0.5)
        raise OSError("not yet")
    yield 1

@pytest.fixture
def ends_badly():
    yield
    if number_of("ends") == 1:
        stand_still(0.5)
        raise OSError("not closed")

def test_with_it(broken):
    assert broken == 1

def test_other(ends_badly):
    pass
""")
    assert status == 0 and "2 passed" in text and "2 repeated" in text, text


def test_a_process_repeats_a_few_tests_at_most(tmp_path):
    status, text = run(tmp_path, """
@pytest.mark.parametrize("n", range(6))
def test_fails(n):
    stand_still(0.3)
    assert 0
""")
    assert status == 1 and "6 failed" in text and "4 repeated" in text, text
