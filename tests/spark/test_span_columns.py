"""Many users' spans by column, and one by one: the same, to the byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.openings import Moment, Openings, Segment
from functions.core.span_packing import pack_spans, unpack_spans, varint
from functions.core.spans import Span
from spark import span_columns, varints
from tests.made_up_spans import user_spans

if TYPE_CHECKING:
    from functions.core.spans import UserSpans
    from spark.span_columns import HeldSpans

GOLDEN = Path(__file__).parents[1] / "core" / "golden" / "state" / "spans.json"


def one_by_one(held: HeldSpans, users: int) -> list[UserSpans]:
    """Return each user's spans as objects."""
    found: list[UserSpans] = [{} for _ in range(users)]
    opened, tail = held.openings, 0
    for row in range(len(held.user)):
        openings = None
        end = tail + int(opened.tail_events[row])
        if opened.kept[row]:
            settled = None
            if opened.settled[row]:
                settled = Segment(
                    Moment(int(held.first_us[row]), bool(opened.first_closes[row])),
                    Moment(int(opened.settled_last_us[row]), bool(opened.last_closes[row])),
                    int(opened.opens[row]),
                    int(opened.closed_sessions[row]),
                    int(opened.closed_seconds[row]),
                )
            moments = zip(opened.tail_us[tail:end].tolist(), opened.tail_closes[tail:end].tolist(), strict=True)
            openings = Openings(settled, tuple(Moment(*moment) for moment in moments), int(opened.late[row]))
        tail = end
        key = held.flyer_id[row].as_py(), held.merchant_id[row].as_py()
        found[held.user[row]][key] = Span(
            int(held.first_us[row]), int(held.last_us[row]), int(held.events[row]), openings
        )
    return found


@given(st.lists(user_spans(), max_size=6))
def test_users_spans_are_unpacked_alike(users: list[UserSpans]) -> None:
    """Many users at once are the spans of each."""
    held = span_columns.unpack_spans([pack_spans(spans) for spans in users])

    assert users == one_by_one(held, len(users))


@given(st.lists(user_spans().filter(bool), max_size=6))
def test_users_spans_are_packed_alike(users: list[UserSpans]) -> None:
    """The bytes are those of the pure function, rows in the same order."""
    values = [pack_spans(spans) for spans in users]

    assert values == span_columns.pack_spans(span_columns.unpack_spans(values)).to_pylist()


def test_spans_that_any_version_wrote_are_read() -> None:
    """Of several formats at once."""
    values = [bytes.fromhex(golden["hex"]) for golden in json.loads(GOLDEN.read_text())]

    assert {1, 2} == {value[0] for value in values}
    assert [unpack_spans(value) for value in values] == one_by_one(span_columns.unpack_spans(values), len(values))


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_varints_are_written_and_read_alike(numbers: list[int]) -> None:
    """Many at once are each of them, joined."""
    packed, sizes = varints.encode(np.array(numbers, np.uint64))
    one_by_one = [varint(number) for number in numbers]

    assert b"".join(one_by_one) == packed.tobytes()
    assert list(map(len, one_by_one)) == sizes.tolist()
    assert numbers == varints.decode(packed)[0].tolist()


SPANS = pack_spans({("f", "m"): Span(1, 2, 2)})


@pytest.mark.parametrize(
    "value", [b"", b"\x03" + SPANS[1:], SPANS[:-1], SPANS + b"x", b"\x01\x09\x00\x00\x00", b"\x02\xff\xff\xff\xff\xff"]
)
def test_damaged_spans_are_refused(value: bytes) -> None:
    """Rather than misread, with the others."""
    with pytest.raises(ValueError, match="spans"):
        span_columns.unpack_spans([SPANS, value])


@given(user_spans(max_size=3).filter(bool), st.data())
def test_a_damaged_byte_is_refused_or_read_as_other_spans(spans: UserSpans, data: st.DataObject) -> None:
    """Never another kind of error, whatever stands in a value; and neither reader takes more than the other."""
    packed = bytearray(pack_spans(spans))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    cut = bytes(packed)[: data.draw(st.integers(0, len(packed)))] if data.draw(st.booleans()) else bytes(packed)
    try:
        span_columns.unpack_spans([SPANS, cut, SPANS])
    except ValueError as e:
        assert "spans" in str(e)  # noqa: PT017  # where it raises, this is what it says
