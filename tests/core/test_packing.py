"""The log's format, which outlives the code that writes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.events import Event
from functions.core.packing import NULL_LENGTH, pack_events, unpack_events

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
EVENTS = st.lists(
    st.builds(Event, st.integers(-(2**63), 2**63 - 1), TEXT, TEXT, st.none() | TEXT, st.none() | TEXT), min_size=1
)


@given(EVENTS)
def test_what_is_packed_is_unpacked(events: list[Event]) -> None:
    """Nulls, empty texts, any Unicode, any moment."""
    assert events == unpack_events(pack_events(events))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_format_stays_what_it_is(path: Path) -> None:
    """Entries that older versions wrote are read, and written the same: to the byte."""
    golden = json.loads(path.read_text())
    events = [Event(*event) for event in golden["events"]]
    packed = bytes.fromhex(golden["hex"])

    assert events == unpack_events(packed)
    assert packed == pack_events(events)


def test_there_are_golden_entries() -> None:
    """A test without cases would hold nothing still."""
    assert len(GOLDEN) >= 3


def test_the_longest_text_fits() -> None:
    """One byte below the mark of null."""
    event = Event(0, "x" * (NULL_LENGTH - 1), "", None, None)

    assert [event] == unpack_events(pack_events([event]))


def test_ten_thousand_events_fit_in_an_entry() -> None:
    """As many as a request may hold."""
    events = [Event(number, f"u{number}", "e", None, "m") for number in range(10_000)]

    assert events == unpack_events(pack_events(events))


ENTRY = pack_events([Event(1, "u", "e", "f", None), Event(2, "ü", "e", None, "m")])


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (b"", "shorter than its header"),
        (b"\x02" + ENTRY[1:], "format 2; this version reads format 1"),
        (ENTRY[:-1], "size is not what its header says"),
        (ENTRY + b"\0", "size is not what its header says"),
        (ENTRY[:1] + b"\x03" + ENTRY[2:], "size is not what its header says"),
        (ENTRY[:37] + b"\x02" + ENTRY[38:], "do not add up"),
    ],
)
def test_a_damaged_entry_is_refused(entry: bytes, reason: str) -> None:
    """It says what is wrong, rather than giving other events."""
    with pytest.raises(ValueError, match=reason):
        unpack_events(entry)
