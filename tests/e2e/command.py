"""Runs a command of the real binary that needs no running gateway."""
import json
import subprocess
import time

from weir import BINARY, SANITIZER_SAYS


def weir(*arguments, cwd=None, stdin=None, env=None):
    done = subprocess.run([BINARY, *map(str, arguments)], cwd=cwd, input=stdin, env=env, capture_output=True, text=True,
                          timeout=300)
    assert not SANITIZER_SAYS.search(done.stderr), done.stderr
    assert done.returncode >= 0, done.stderr
    return done


ENTRY = {"time": "2026-01-02T03:04:05.678Z", "request_id": "0" * 32, "trace_id": "1" * 32, "client": "203.0.113.9",
         "client_port": 4711, "peer": "203.0.113.9", "listener": "http", "protocol": "HTTP/1.1", "tls_version": None,
         "tls_cipher": None, "server_name": None, "method": "GET", "scheme": "http", "host": "a.example", "path": "/",
         "query": None, "status": 200, "reason": "-", "error": None, "route": None, "target_group": None, "target": None,
         "attempts": 0, "bytes_in": 100, "bytes_out": 1000, "duration_ms": 1.234, "upstream_ms": None,
         "user_agent": "test/1.0", "referer": None, "x_forwarded_for": None, "config_generation": 1}


def log_line(**fields):
    """A line as the access log has it."""
    assert not set(fields) - set(ENTRY), fields
    return json.dumps({**ENTRY, **fields}, separators=(",", ":")) + "\n"


def allowed(seconds):
    """As much CPU time as `seconds` of a machine on which the loop below takes 0.12 s: a busy or slow one gets more."""
    started = time.thread_time()
    total = 0
    for i in range(1_000_000):
        total += i * i % 7
    return seconds * max(1, (time.thread_time() - started) / 0.12)
