"""Trigger as a process, a backlog for it, and a stand-in for the job."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import httpx2
import pytest

from functions.adapters import cloud_events
from functions.adapters.redis_store import Appended, RedisStore, ShardBatch
from functions.adapters.spark_local import stop_runs
from functions.core import event_types
from functions.core.events import Event
from functions.core.packing import pack_events
from functions.core.settings import Settings
from functions.local.valkey import EmbeddedValkey, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

ROOT = Path(__file__).parents[2]


class Trigger:
    """A trigger process and the ways to talk to it."""

    def __init__(self, environment: dict[str, str], port: int, log: Path) -> None:
        self.log = log
        self.url = f"http://127.0.0.1:{port}"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("standin_trigger.py")), str(port)],
                env={**os.environ, **environment},
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.client = httpx2.Client(base_url=self.url, timeout=20, trust_env=False)
        deadline_s = time.monotonic() + 30
        while True:
            try:
                self.client.get("/healthz")
            except httpx2.HTTPError:
                assert self.process.poll() is None, log.read_text()
                assert time.monotonic() < deadline_s, log.read_text()
                time.sleep(0.05)
            else:
                return

    def send(
        self, event_type: str = event_types.BACKLOG_REACHED, data: object = None, *, event_id: str = "1", **headers: str
    ) -> httpx2.Response:
        """Send it an event."""
        event_headers, body = cloud_events.new_event(event_type, "/tests", data, event_id=event_id)
        return self.client.post("/", content=body, headers={**event_headers, **headers})

    def ping(self) -> Any:
        """Send it a ping and return its explanation."""
        return self.send(event_types.PING).json()

    def explain(self) -> Any:
        """Ask what it would do."""
        return self.client.get("/").json()

    def until(self, cause: str) -> Any:
        """Ping until that is the cause of its decision, and return the explanation."""
        deadline_s = time.monotonic() + 20
        while (explanation := self.ping())["cause"] != cause:
            assert time.monotonic() < deadline_s, explanation
            time.sleep(0.05)
        return explanation

    def until_idle(self) -> Any:
        """Ping until nothing is pending and no run is active, and return the explanation."""
        deadline_s = time.monotonic() + 20
        while True:
            explanation = self.until("nothing_pending")
            if "active" not in [run["state"] for run in explanation["runs"]]:
                return explanation
            assert time.monotonic() < deadline_s, explanation

    def stop(self) -> None:
        """End the process as Kubernetes does."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)


class ServeTrigger(Protocol):
    """Start trigger for the length of a ``with`` block."""

    def __call__(self, **environment: str) -> AbstractContextManager[Trigger]:
        """Start it, with these variables beside those of the test."""


@pytest.fixture
def runs_dir(tmp_path: Path) -> Iterator[Path]:
    """Where the runs of the test are kept; what still runs at its end is ended."""
    runs_dir = tmp_path / "runs"
    yield runs_dir
    stop_runs(runs_dir, 2)


def environment_of(settings: Settings, runs_dir: Path, port: int) -> dict[str, str]:
    """Return the variables of a trigger with a threshold of 100 events."""
    return {
        "FUNCTION_TARGET": "trigger",
        "FLYERTIME_REDIS_URL": settings.redis_url,
        "FLYERTIME_NAMESPACE": settings.namespace,
        "FLYERTIME_SHARDS": str(settings.shards),
        "FLYERTIME_LAUNCHER": "local",
        "FLYERTIME_LOCAL_RUNS_DIR": str(runs_dir),
        "FLYERTIME_THRESHOLD_EVENTS": "100",
        "FLYERTIME_RUN_ENDED_SINK": f"http://127.0.0.1:{port}",
    }


@pytest.fixture(scope="module")
def quiet_trigger(valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trigger]:
    """A trigger that tests share, since none of them puts anything into its store."""
    folder, port = tmp_path_factory.mktemp("quiet"), free_port()
    settings = Settings(redis_url=valkey.url, namespace="quiet-trigger", shards=4)
    trigger = Trigger(environment_of(settings, folder / "runs", port), port, folder / "log")
    yield trigger
    trigger.stop()


@pytest.fixture
def serve_trigger(settings: Settings, runs_dir: Path, tmp_path: Path) -> ServeTrigger:
    """Return what starts trigger on the test's store, with a threshold of 100 events."""

    @contextmanager
    def serve(**environment: str) -> Iterator[Trigger]:
        port = free_port()
        trigger = Trigger(
            {**environment_of(settings, runs_dir, port), **environment}, port, tmp_path / f"trigger-{port}.log"
        )
        try:
            yield trigger
        finally:
            trigger.stop()

    return serve


@pytest.fixture
def trigger(serve_trigger: ServeTrigger) -> Iterator[Trigger]:
    """A trigger with a threshold of 100 events, patient with small backlogs, and with no pause after a failure."""
    with serve_trigger(FLYERTIME_RETRY_PAUSE_S="0") as trigger:
        yield trigger


@pytest.fixture
def fill(settings: Settings) -> Callable[[int], None]:
    """Return what puts events into the log, over all shards."""

    async def append(count: int) -> None:
        store = RedisStore(settings)
        shards = await store.shards()
        events = [Event(i, f"user-{i}", "flyer_open", "flyer", "merchant") for i in range(count)]
        parts = {shard: events[shard::shards] for shard in range(shards)}
        batches = [ShardBatch(shard, pack_events(part), len(part)) for shard, part in parts.items() if part]
        answers = await store.append(batches, 0)
        assert all(isinstance(answer, Appended) for answer in answers)
        await store.close()

    return lambda count: asyncio.run(append(count))


class Job:
    """What the stand-in for the job is told, and what it did."""

    def __init__(self, control: Path) -> None:
        control.mkdir(parents=True)
        self._control = control

    @property
    def started(self) -> list[str]:
        """Names of the runs whose job was started, in order."""
        jobs = self._control / "jobs"
        return jobs.read_text().splitlines() if jobs.exists() else []

    def hold(self) -> None:
        """Make jobs wait."""
        (self._control / "hold").touch()

    def let_go(self) -> None:
        """Let them go on."""
        (self._control / "hold").unlink()

    def fail(self, message: str) -> None:
        """Make jobs fail."""
        (self._control / "fail").write_text(message)

    def mend(self) -> None:
        """Let them succeed again."""
        (self._control / "fail").unlink()

    def until_started(self, count: int) -> list[str]:
        """Return the names when that many were started."""
        deadline_s = time.monotonic() + 20
        while len(self.started) < count:
            assert time.monotonic() < deadline_s, self.started
            time.sleep(0.02)
        return self.started


@pytest.fixture
def job(runs_dir: Path) -> Job:
    """The stand-in for the job."""
    return Job(runs_dir / ".standin")
