"""Telling a sink that a run has committed: at once, not too often, and never in the run's way."""

from __future__ import annotations

import dataclasses
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters.update_notices import PERIOD_S, UpdateNotices
from functions.core import event_types
from tests.event_sink import Sink

if TYPE_CHECKING:
    from functions.core.settings import Settings


def test_the_first_commit_is_told_at_once_and_the_last_before_the_end(settings: Settings) -> None:
    """Of many commits within a moment there are two notices, each an event of its own, with how fresh the report is."""
    with Sink() as sink:
        with UpdateNotices(dataclasses.replace(settings, updates_sink=sink.url), "run-1") as notices:
            notices.committed()
            first = sink.next(PERIOD_S)
            for _ in range(100):
                notices.committed()
        last = sink.next(PERIOD_S)

        assert sink.received.empty()
    assert first.id != last.id
    for event in (first, last):
        assert (event_types.REPORT_UPDATED, f"/flyertime/{settings.namespace}/runs") == (event.type, event.source)
        assert {"run": "run-1", "state": "active", "complete_through": None, "pending_events": 0} == event.data


def test_a_run_that_commits_on_is_told_of_once_in_a_while(settings: Settings) -> None:
    """Not once for each of its commits, nor only at its end."""
    with Sink() as sink, UpdateNotices(dataclasses.replace(settings, updates_sink=sink.url), "run-1") as notices:
        began_s = time.monotonic()
        while time.monotonic() < began_s + PERIOD_S + 1:
            notices.committed()
            time.sleep(0.01)

        assert 2 == sink.received.qsize()


@pytest.mark.parametrize("trouble", ["refuses", "is away", "does not answer"])
def test_a_sink_in_trouble_does_not_hold_the_run_up(
    settings: Settings, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What it is not told is in the log, in one line; the run goes on meanwhile, and ends."""
    with Sink(status=lambda: 503) as sink, socket.create_server(("127.0.0.1", 0)) as silent:
        ports: dict[str, Any] = {"is away": 1, "does not answer": silent.getsockname()[1]}
        url = f"http://127.0.0.1:{ports[trouble]}" if trouble in ports else sink.url
        own = dataclasses.replace(settings, updates_sink=url, sink_timeout_s=0.5)
        with UpdateNotices(own, "run-1") as notices:
            began_s = time.monotonic()
            notices.committed()
            assert time.monotonic() < began_s + 0.4
    (line,) = caplog.messages

    assert line.startswith("flyertime.report.updated not delivered: the event sink ")


def test_without_a_sink_nothing_is_told(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """And nothing is tried."""
    with UpdateNotices(settings, "run-1") as notices:
        notices.committed()

    assert [] == caplog.messages
