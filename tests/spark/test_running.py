"""When a run goes on, and when it ends: lingering, without Spark around it."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING

import pytest

from functions.adapters.redis_shard import ShardStore
from functions.core.events import Event
from spark import running
from spark.folding import Folded, fold_shard
from spark.running import Stopping, Summary, linger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from functions.core.settings import Settings
    from spark.planning import ShardBound

EVENTS = [Event(number * 1_000_000, f"u{number}", "flyer_open", "f", "m") for number in range(20)]


class Run:
    """Lingers in a thread of its own and notes when it ends."""

    def __init__(self, settings: Settings, **changes: float) -> None:
        self.settings = dataclasses.replace(settings, **changes)  # type: ignore[arg-type]  # only floats are changed
        self.summary = Summary()
        self.stopping = Stopping()
        self.stopping.be_patient()
        self.passes = 0
        self.trouble = ""
        self.thread = threading.Thread(target=linger, args=[self.settings, self._fold, self.summary, self.stopping])
        self.thread.start()

    def _fold(self, bounds: Sequence[ShardBound]) -> None:
        self.passes += 1
        store = ShardStore(self.settings)
        for bound in bounds:
            self.summary.add(fold_shard(store, bound.shard, bound.upto, 1000))
        store.close()
        if self.trouble:
            self.summary.add(Folded(0, error=self.trouble))

    def wait_for(self, events: int) -> None:
        """Wait until so many are folded."""
        deadline_s = time.monotonic() + 20
        while self.summary.events < events:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)

    def end(self, patience_s: float = 20) -> bool:
        """Wait for its end; tell whether it came."""
        self.thread.join(patience_s)
        return not self.thread.is_alive()


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look ten times as often, for quick tests."""
    monkeypatch.setattr(running, "POLL_S", 0.1)


@pytest.fixture
def fill(settings: Settings, fill_log: Callable[[Settings, Iterable[list[Event]]], None]) -> Callable[[], None]:
    """Return what puts twenty events into the log."""
    return lambda: fill_log(settings, [EVENTS])


def test_a_run_that_does_not_linger_folds_once(settings: Settings, fill: Callable[[], None]) -> None:
    """What was there, and no look after that."""
    fill()
    run = Run(settings)

    assert run.end()
    assert (1, 20) == (run.passes, run.summary.events)


def test_a_run_that_lingers_folds_what_comes_in(settings: Settings, fill: Callable[[], None]) -> None:
    """Again and again, and ends by itself when nothing has come in for so long."""
    fill()
    run = Run(settings, linger_s=1.5)
    for total in (20, 40, 60):
        run.wait_for(total)
        fill()
    run.wait_for(80)
    idle_since_s = time.monotonic()

    assert run.end()
    assert time.monotonic() - idle_since_s > 1
    assert (4, 4) == (run.passes, len(run.summary.shards))


def test_a_run_that_lingers_ends_when_it_has_lived_long_enough(settings: Settings, fill: Callable[[], None]) -> None:
    """Whatever is still coming in."""
    fill()
    run = Run(settings, linger_s=60, linger_max_s=1)

    assert run.end()


def test_a_run_that_lingers_ends_with_its_first_error(settings: Settings, fill: Callable[[], None]) -> None:
    """Trigger then sees that it failed, and what to do about that."""
    fill()
    run = Run(settings, linger_s=60)
    run.wait_for(20)
    run.trouble = "shard 0: damaged"
    fill()

    assert run.end()
    assert ["shard 0: damaged"] == run.summary.errors


def test_a_run_that_lingers_ends_when_asked(settings: Settings, fill: Callable[[], None]) -> None:
    """At once, where nothing is under way."""
    fill()
    run = Run(settings, linger_s=60)
    run.wait_for(20)
    run.stopping._requested.set()

    assert run.end()
    assert [] == run.summary.errors
