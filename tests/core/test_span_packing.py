"""Packed spans: read back whatever they hold, small, and the same bytes for years."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.events import Event
from functions.core.openings import Moment, Openings, Segment
from functions.core.span_packing import FORMAT, count_of, pack_spans, unpack_spans, varint
from functions.core.spans import Span, UserSpans, spans_of
from tests.made_up_spans import user_spans

GOLDEN = Path(__file__).parent / "golden" / "state"


@given(user_spans())
def test_packed_spans_are_read_back(spans: UserSpans) -> None:
    """Whatever the ids are made of, settled or not, kept or not; the order of the dict does not matter to the bytes."""
    packed = pack_spans(spans)

    assert spans == unpack_spans(packed)
    assert packed == pack_spans(dict(reversed(spans.items())))
    assert len(spans) == count_of(packed)


@given(user_spans(max_size=3).filter(bool), st.data())
def test_spans_that_are_cut_short_or_too_long_are_refused(spans: UserSpans, data: st.DataObject) -> None:
    """Rather than misread."""
    packed = pack_spans(spans)
    damaged = packed[: data.draw(st.integers(0, len(packed) - 1))] if data.draw(st.booleans()) else packed + b"x"
    with pytest.raises(ValueError, match="spans"):
        unpack_spans(damaged)


@pytest.mark.parametrize("value", [b"", b"\x03\x00\x00\x00\x00", b"\x01\x01\x00", b"\x01\x01" + bytes(27) + b"x"])
def test_other_formats_are_refused(value: bytes) -> None:
    """Another version's, and damaged ones of an older one."""
    with pytest.raises(ValueError, match=r"format 3|format none|damaged"):
        unpack_spans(value)


def test_an_open_and_its_close_on_a_flyer_take_a_few_bytes() -> None:
    """Of a user with ten flyers of seven digits each at two merchants, moments in whole seconds: ids included."""
    events = [
        Event(
            (1_538_416_499 + 100_000 * number + after) * 1_000_000, "u", name, str(2_043_149 + number), f"{number % 2}1"
        )
        for number in range(10)
        for name, after in (("flyer_open", 0), ("flyer_close", 300))
    ]

    assert len(pack_spans(spans_of(events, 172_800 * 1_000_000)["u"])) / 10 < 14


def as_json(spans: UserSpans) -> list[Any]:
    """Return spans as a golden file has them."""
    return [[flyer, merchant, *span] for (flyer, merchant), span in sorted(spans.items())]


def spans_from(rows: list[Any]) -> UserSpans:
    """Return the spans of a golden file."""
    spans: UserSpans = {}
    for flyer, merchant, first_us, last_us, events, openings in rows:
        kept = None
        if openings is not None:
            settled, tail, late = openings
            ends = settled and (Moment(*settled[0]), Moment(*settled[1]), *settled[2:])
            kept = Openings(Segment(*ends) if ends else None, tuple(Moment(*moment) for moment in tail), late)
        spans[flyer, merchant] = Span(first_us, last_us, events, kept)
    return spans


GOLDEN_SPANS = json.loads((GOLDEN / "spans.json").read_text())


@pytest.mark.parametrize("golden", GOLDEN_SPANS, ids=lambda golden: golden["name"])
def test_spans_that_any_version_wrote_are_read(golden: dict[str, Any]) -> None:
    """To the byte, and those of this version's format are still written so."""
    packed, spans = bytes.fromhex(golden["hex"]), spans_from(golden["spans"])

    assert spans == unpack_spans(packed)
    if packed[0] == FORMAT:
        assert packed == pack_spans(spans)


def test_there_are_golden_spans_of_each_format() -> None:
    """A test without cases would hold nothing still."""
    assert {1, FORMAT} == {bytes.fromhex(golden["hex"])[0] for golden in GOLDEN_SPANS}


@pytest.mark.parametrize(("number", "packed"), [(0, "00"), (127, "7f"), (128, "8001"), (2**63, "80808080808080808001")])
def test_small_numbers_are_short(number: int, packed: str) -> None:
    """Seven bits a byte, the lowest first."""
    assert packed == varint(number).hex()
