"""Runs a command of the real binary that needs no running gateway."""
import json
import subprocess

from weir import BINARY, SANITIZER_SAYS


def weir(*arguments, cwd=None, stdin=None, env=None):
    done = subprocess.run([BINARY, *map(str, arguments)], cwd=cwd, input=stdin, env=env, capture_output=True, text=True,
                          timeout=120)
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
