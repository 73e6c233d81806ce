"""How the functions are served: by uvicorn through functions.asgi, and by functions-framework itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from functions.local.valkey import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.core.settings import Settings
    from tests.conftest import ServeFunction

ROOT = Path(__file__).parent.parent
EVENT = {
    "timestamp": "2018-10-01T13:54:59Z",
    "user_id": "u",
    "event": "flyer_open",
    "flyer_id": "f",
    "merchant_id": "m",
}


@contextmanager
def served_by_framework(target: str, log: Path, **environment: str) -> Iterator[str]:
    """Serve a function by the plain functions-framework command; yield its address."""
    port = free_port()
    source = ROOT / "functions" / target / "main.py"
    arguments = ["--target", target, "--source", str(source), "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "functions_framework", *arguments],
            env={
                **os.environ,
                "FLYERTIME_LAUNCHER": "local",
                "FLYERTIME_WRITE_AUTH": "off",
                "FLYERTIME_READ_AUTH": "off",
                **environment,
            },
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 30
        while not accepts_connections(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.mark.parametrize("target", ["report", "ingest", "trigger"])
def test_functions_framework_serves_each_function(target: str, settings: Settings, tmp_path: Path) -> None:
    """The plain functions-framework command serves the same function, its metrics too."""
    store = {"FLYERTIME_REDIS_URL": settings.redis_url, "FLYERTIME_NAMESPACE": settings.namespace}
    with served_by_framework(target, tmp_path / "log", **store) as url:
        response = httpx2.get(f"{url}/api/health", timeout=10, trust_env=False)
        expected = (200, {"status": "OK"}) if target == "ingest" else (404, response.json())
        assert expected == (response.status_code, response.json())

        metrics = httpx2.get(f"{url}/metrics", timeout=10, trust_env=False)
        assert 200 == metrics.status_code
        assert "flyertime_store_up 1.0" in metrics.text


def test_a_wrong_setting_under_functions_framework_is_a_problem_and_no_traceback(tmp_path: Path) -> None:
    """It builds the function at the first request: that one is answered as any later one, and the log says why."""
    log = tmp_path / "log"
    with served_by_framework("ingest", log, FLYERTIME_MAX_BODY_BYTES="many") as url:
        for path in ("/", "/", "/metrics"):
            response = httpx2.get(url + path, timeout=10, trust_env=False)
            assert (503, "bad_settings") == (response.status_code, response.json()["code"])

    assert "FLYERTIME_MAX_BODY_BYTES must be a whole number" in log.read_text()
    assert "Traceback" not in log.read_text()


def imported(then: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Import what serves the functions in a process with these settings, and do something with it."""
    return subprocess.run(
        [sys.executable, "-c", f"import functions.asgi\n{then}"],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_unknown_target_ends_at_start() -> None:
    """A container with a wrong target fails at once, and says which targets there are."""
    result = imported(FUNCTION_TARGET="ingset")

    assert result.returncode != 0
    assert "FUNCTION_TARGET must be one of ingest, trigger, report" in result.stderr


def test_a_wrong_setting_ends_at_start() -> None:
    """A bad setting is found when the process starts, not at the first request."""
    result = imported(FUNCTION_TARGET="ingest", FLYERTIME_MAX_BODY_BYTES="many")

    assert result.returncode != 0
    assert "FLYERTIME_MAX_BODY_BYTES must be a whole number" in result.stderr


def test_what_is_there_at_the_start_is_not_looked_through_for_cycles() -> None:
    """Else every request would wait for that now and again."""
    start = """
import asyncio, gc
from functions.asgi import app
async def start():
    before = gc.get_freeze_count()
    async with app._framework.router.lifespan_context(app._framework):
        print(before, gc.get_freeze_count() > 10_000)
asyncio.run(start())
"""
    result = imported(start, FUNCTION_TARGET="ingest", FLYERTIME_WRITE_AUTH="off")
    assert result.stdout.splitlines()[-1:] == ["0 True"], result.stderr


def test_sigterm_finishes_what_is_under_way(settings: Settings, serve_function: ServeFunction) -> None:
    """A request whose body is still arriving when the stop comes is answered; then the process ends by itself."""
    with serve_function("ingest", settings) as process:
        event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": EVENT}
        body = json.dumps(event).encode()

        def parts() -> Iterator[bytes]:
            yield body[:50]
            process.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 10
            while accepts_connections(process.port):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield body[50:]

        response = httpx2.post(
            process.url,
            content=parts(),
            headers={"content-type": "application/cloudevents+json"},
            timeout=30,
            trust_env=False,
        )
        assert (202, 1) == (response.status_code, response.json()["accepted"])
        process.process.wait(30)


def accepts_connections(port: int) -> bool:
    """Tell whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
