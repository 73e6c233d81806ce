"""Spans as tables: those of packed values and those of archived rows are what plain Python makes of the events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core import span_packing, spans
from functions.core.events import FLYER_CLOSE, FLYER_EVENTS, Event
from spark.span_tables import ArchivedRows, part_of, spans_of
from spark.verifying_spans import compare
from tests.spark.conftest import some_events

if TYPE_CHECKING:
    from collections.abc import Sequence

EVER_US = 2**60


def log_of(events: Sequence[Event]) -> pa.Table:
    """Return events as a file of the archive has them."""
    columns: dict[str, Any] = {name: [getattr(event, name) for event in events] for name in Event._fields[1:]}
    times = pa.array([event.timestamp_us for event in events], pa.int64()).cast(pa.timestamp("us", "UTC"))
    return pa.table({"timestamp": times, **{name: pa.array(column, pa.string()) for name, column in columns.items()}})


def history_of(events: Sequence[Event]) -> pa.Table:
    """Return flyer events as a backfill archives them."""
    rows = [event for event in events if event.event in FLYER_EVENTS and event.flyer_id is not None]
    moments = pa.array([event.timestamp_us for event in rows], pa.int64())
    return pa.table(
        {
            "user_id": pa.array([event.user_id for event in rows], pa.string()),
            "flyer_id": pa.array([event.flyer_id for event in rows], pa.string()),
            "merchant_id": pa.array([event.merchant_id or "" for event in rows], pa.string()),
            "first_us": moments,
            "last_us": moments,
            "events": pa.array([1] * len(rows), pa.int64()),
            "is_close": pa.array([event.event == FLYER_CLOSE for event in rows], pa.bool_()),
        }
    )


def packed(events: Sequence[Event], lateness_us: int = EVER_US) -> dict[bytes, bytes]:
    """Return the users' packed spans, in plain Python, each event folded by itself."""
    held: dict[str, spans.UserSpans] = {}
    for event in events:
        held = spans.with_events(held, [event], lateness_us)
    return {user.encode(): span_packing.pack_spans(own) for user, own in held.items()}


@given(events=some_events(), history=some_events(), parts=st.integers(1, 3))
def test_the_archives_rows_give_the_spans_of_the_events(events: list[Event], history: list[Event], parts: int) -> None:
    """Of log and history, in parts of the users, each in one of them."""
    tables = []
    for part in range(parts):
        rows = ArchivedRows(part, parts)
        rows.add(log_of(events), is_history=False)
        rows.add(history_of(history), is_history=True)
        tables.append(rows.spans())
        assert {part} >= {part_of(user, parts) for user in tables[-1]["user"].to_pylist()}
    found = {tuple(row.values()) for table in tables for row in table.to_pylist()}
    expected = set()
    for user, own in spans.spans_of([*events, *history], EVER_US).items():
        for (flyer_id, merchant_id), span in own.items():
            segment = None if span.openings is None else span.openings.total
            assert segment is not None
            numbers = (1, segment.closed_seconds, segment.closed_sessions, segment.unclosed, 0)
            expected.add((user.encode(), flyer_id, merchant_id, *span[:3], *numbers))

    assert expected == found
    assert len(expected) == sum(map(len, tables))


@given(events=some_events(max_size=80), lateness_us=st.sampled_from([0, 10**6, 10**10, EVER_US]))
def test_what_came_late_is_explained_and_nothing_else_is_left(events: list[Event], lateness_us: int) -> None:
    """However late: a state that was folded event by event differs from the archive by what its late events may do."""
    rows = ArchivedRows()
    rows.add(log_of(events), is_history=False)
    held = spans_of(packed(events, lateness_us))
    found = compare(held, rows.spans())

    assert (set(), len(held)) == (found.wrong, found.exact + found.within)
    assert sum(held["late"].to_pylist()) == found.late
    assert lateness_us < EVER_US or not found.within


def test_history_of_many_events_a_row_keeps_no_openings() -> None:
    """There is no telling what follows what."""
    rows = ArchivedRows()
    table = history_of([Event(1, "u", "flyer_open", "f", "m"), Event(5, "u", "flyer_close", "f", "m")])
    rows.add(table.set_column(6, "is_close", pa.nulls(2, pa.bool_())), is_history=True)
    (row,) = rows.spans().to_pylist()

    assert (1, 5, 2, 0, 0, 0, 0) == tuple(row.values())[3:10]


@pytest.mark.parametrize("name", ["first_us", "last_us", "events", "closed_seconds", "closed_sessions", "unclosed"])
def test_any_number_that_is_another_is_found(name: str) -> None:
    """By user; and a span or a user that only one side has."""
    events = [Event(number * 10**6, f"u{number % 3}", "flyer_open", f"f{number % 2}", "m") for number in range(60)]
    rows = ArchivedRows()
    rows.add(log_of(events), is_history=False)
    computed, held = rows.spans(), spans_of(packed(events))
    numbers = held[name].to_pylist()
    numbers[2] += 1
    damaged = held.set_column(held.schema.get_field_index(name), name, pa.array(numbers, pa.int64()))

    assert {held["user"][2].as_py()} == compare(damaged, computed).wrong
    assert {held["user"][0].as_py()} == compare(held[1:], computed).wrong
    assert {b"u0", b"u1", b"u2"} == compare(held, computed[:0]).wrong
    assert set() == compare(held, computed).wrong
