"""Arrow's kernels say what plain Python does, byte by byte, or leave it to that."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.adapters.arrow_rows import sorted_rows, summary_of
from functions.core.report_columns import DEFAULT_FIELDS, USER_COLUMN
from functions.core.report_rows import rows_of_users
from functions.core.report_summary import Summary
from functions.core.report_texts import Csv, JsonArray, JsonLines
from functions.core.spans import Totals, pack_totals

IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.text("ab1", max_size=9)
FORMAT_1 = b"\x01" + (7200).to_bytes(8, "little") + (2).to_bytes(8, "little")


@st.composite
def totals(draw: st.DrawFn) -> Totals:
    """Draw a user's totals: any, exact halves of a hundredth, and users without a session."""
    sessions = draw(st.integers(0, 4) | st.integers(0, 2**32 - 1))
    halves = draw(st.integers(0, 10**4))
    seconds = draw(st.integers(0, 10**12) | st.just(18 * halves * sessions))
    closed = draw(st.none() | st.integers(0, 10**6))
    return Totals(seconds, sessions, 1, 2, closed and 60 * closed, closed, closed and closed + 1)


USERS = st.dictionaries(IDS, totals(), min_size=1, max_size=12)


def packed(users: dict[str, Totals]) -> tuple[list[bytes], list[bytes]]:
    """Return users as an averages hash has them."""
    return [name.encode() for name in users], [pack_totals(each) for each in users.values()]


@pytest.mark.parametrize("encoder_of", [JsonArray, JsonLines, Csv])
@given(users=USERS, slice_rows=st.integers(1, 5))
@example(users={"b": Totals(90, 7, 1, 2), "a": Totals(10**12, 1, 1, 2), "=c": Totals(1, 1, 1, 2)}, slice_rows=1)
@example(users={"a\0": Totals(18, 1, 1, 2), "a": Totals(9, 2, 1, 2), "": Totals(1, 1, 1, 2)}, slice_rows=5)
def test_texts_are_those_of_plain_python(
    encoder_of: type[JsonArray | JsonLines | Csv], users: dict[str, Totals], slice_rows: int
) -> None:
    """In the order of the ids' bytes, whatever the ids are made of and wherever the slices end."""
    columns = [USER_COLUMN[name] for name in DEFAULT_FIELDS]
    in_order = dict(sorted(users.items(), key=lambda user: user[0].encode()))
    plain = rows_of_users(*packed(in_order))
    wanted = encoder_of(columns).rows([plain.column(name) for name in DEFAULT_FIELDS] if len(plain) else [[], []])

    rows = sorted_rows(*packed(users))
    assert rows is not None
    encoder = encoder_of(columns)
    slices = [encoder.placed(rows.text(encoder, at, slice_rows)) for at in range(0, len(rows), slice_rows)]

    assert wanted == b"".join(slices)


@given(USERS)
def test_summaries_are_those_of_plain_python(users: dict[str, Totals]) -> None:
    """Totals, and how many have which average; not known where it is not of some user."""
    ids, values = packed(users)
    wanted = Summary()
    wanted.add(rows_of_users(ids, values))

    assert wanted == summary_of(values)


@pytest.mark.parametrize(
    "value", [FORMAT_1, pack_totals(Totals(-1, 1, 1, 2)), pack_totals(Totals(2**62, 1, 1, 2)), b"", b"\x07" * 45]
)
def test_unusual_values_are_left_to_plain_python(value: bytes) -> None:
    """Beside usual ones: an older format, and sums that 64 bits might not hold."""
    values = [pack_totals(Totals(3600, 1, 1, 2)), value]

    assert sorted_rows([b"a", b"b"], values) is None
    assert summary_of(values) is None
