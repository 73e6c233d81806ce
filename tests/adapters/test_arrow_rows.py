"""Arrow's kernels say what plain Python does, byte by byte, or leave it to that."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.adapters import arrow_rows
from functions.adapters.arrow_rows import SortedRows, sorted_rows, summary_of, unpacked
from functions.adapters.redis_regular import Regular
from functions.core.report_columns import DEFAULT_FIELDS, USER_COLUMN
from functions.core.report_rows import rows_of_users
from functions.core.report_summary import Summary
from functions.core.report_texts import Csv, JsonArray, JsonLines
from functions.core.spans import Totals, pack_totals

if TYPE_CHECKING:
    from collections.abc import Iterator

IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.text("ab1", max_size=9)
FORMAT_1 = b"\x01" + (7200).to_bytes(8, "little") + (2).to_bytes(8, "little")
FORMAT_2 = b"\x02" + (7200).to_bytes(8, "little") + (2).to_bytes(4, "little") + bytes(32)


@st.composite
def totals(draw: st.DrawFn) -> Totals:
    """Draw a user's totals: any, exact halves of a hundredth, and users without a session."""
    sessions = draw(st.integers(0, 4) | st.integers(0, 2**32 - 1))
    halves = draw(st.integers(0, 10**4))
    seconds = draw(st.integers(0, 10**10) | st.just(18 * halves * sessions))
    closed = draw(st.none() | st.integers(0, 10**6))
    return Totals(seconds, sessions, 1, 2, closed and 60 * closed, closed, closed and closed + 1)


USERS = st.dictionaries(IDS, totals(), min_size=1, max_size=12)


def packed(users: dict[str, Totals]) -> tuple[list[bytes], list[bytes]]:
    """Return users as an averages hash has them."""
    return [name.encode() for name in users], [pack_totals(each) for each in users.values()]


def regular(*columns: list[bytes]) -> Regular:
    """Return columns as they are in a reply of the store, each with texts of one length."""
    records = [
        b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in record) for record in zip(*columns, strict=True)
    ]
    head = b"*%d\r\n" % (len(columns) * len(records))
    lengths = tuple(len(column[0]) for column in columns)
    return Regular(bytearray(head + b"".join(records) + b"$1\r\n0\r\n"), len(head), len(records), lengths)


def written(rows: SortedRows | None, encoder: JsonArray | JsonLines | Csv, slice_rows: int) -> bytes:
    """Return what an encoder makes of rows, slice by slice."""
    assert rows is not None
    return b"".join(encoder.placed(rows.text(encoder, at, slice_rows)) for at in range(0, len(rows), slice_rows))


@pytest.fixture(autouse=True, scope="module")
def _few_ids_are_looked_at_together() -> Iterator[None]:
    """So that here, too, an id that is not written as it is stands in any of several parts."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(arrow_rows, "_CHECKED_ROWS", 3)
        yield


@pytest.mark.parametrize("encoder_of", [JsonArray, JsonLines, Csv])
@given(users=USERS, slice_rows=st.integers(1, 5))
@example(users={"b": Totals(90, 7, 1, 2), "a": Totals(10**10, 1, 1, 2), "=c": Totals(1, 1, 1, 2)}, slice_rows=1)
@example(users={"a\0": Totals(18, 1, 1, 2), "a": Totals(9, 2, 1, 2), "": Totals(1, 1, 1, 2)}, slice_rows=5)
def test_texts_are_those_of_plain_python(
    encoder_of: type[JsonArray | JsonLines | Csv], users: dict[str, Totals], slice_rows: int
) -> None:
    """In the order of the ids' bytes, whatever the ids are made of and wherever the slices end."""
    columns = [USER_COLUMN[name] for name in DEFAULT_FIELDS]
    in_order = dict(sorted(users.items(), key=lambda user: user[0].encode()))
    plain = rows_of_users(*packed(in_order))
    wanted = encoder_of(columns).rows([plain.column(name) for name in DEFAULT_FIELDS] if len(plain) else [[], []])

    assert wanted == written(sorted_rows(packed(users)), encoder_of(columns), slice_rows)


@pytest.mark.parametrize("encoder_of", [JsonArray, Csv])
@given(
    names=st.integers(0, 20).flatmap(
        lambda size: st.lists(
            st.text("ab", min_size=size, max_size=size) | st.text('a9,-"', min_size=size, max_size=size),
            min_size=1,
            max_size=80,
            unique=True,
        )
    ),
    drawn=st.lists(totals(), min_size=5, max_size=5),
    before=st.sampled_from(["", "user-", "=", "u" * 30]),
    slice_rows=st.integers(1, 50),
)
def test_texts_of_records_alike_are_those_of_plain_python(
    encoder_of: type[JsonArray | Csv], names: list[str], drawn: list[Totals], before: str, slice_rows: int
) -> None:
    """As the store's reply has them, with ids that begin alike, differ in few places only, or are escaped."""
    columns = [USER_COLUMN[name] for name in DEFAULT_FIELDS]
    users = {before + name: drawn[number % 5] for number, name in enumerate(names)}
    plain = rows_of_users(*packed(dict(sorted(users.items()))))
    wanted = encoder_of(columns).rows([plain.column(name) for name in DEFAULT_FIELDS] if len(plain) else [[], []])

    assert wanted == written(sorted_rows(regular(*packed(users))), encoder_of(columns), slice_rows)


@pytest.mark.parametrize("special", ['uz"', "uz,", "uz\n"])
@pytest.mark.parametrize(
    "ids", [["u10", "u11", "u12", "u13"], ["u1", "u10", "u100", "u2"]], ids=["alike", "of any length"]
)
def test_one_id_that_is_escaped_is_found_behind_many_that_are_not(ids: list[str], special: str) -> None:
    """By its part of the column, which is not the first."""
    columns = [USER_COLUMN[name] for name in DEFAULT_FIELDS]
    users = dict.fromkeys([*ids, special], Totals(3600, 1, 1, 2))
    averages = regular(*packed(users)) if len({*map(len, users)}) == 1 else packed(users)
    plain = rows_of_users(*packed(users))

    for encoder_of in (JsonArray, Csv):
        wanted = encoder_of(columns).rows([plain.column(name) for name in DEFAULT_FIELDS])
        assert wanted == written(sorted_rows(averages), encoder_of(columns), 9)
        averages = regular(*packed(users)) if isinstance(averages, Regular) else packed(users)


@given(users=USERS, alike=st.booleans())
def test_rows_that_were_packed_are_the_same(users: dict[str, Totals], alike: bool) -> None:
    """With ids of one length or of several, in a format that was written before and in another one."""
    named = {f"{name:<9}": each for name, each in users.items()} if alike else users
    if len({len(name.encode()) for name in named}) > 1:
        alike = False
    rows = sorted_rows(regular(*packed(named)) if alike else packed(named))
    assert rows is not None
    if not len(rows):
        return
    columns = [USER_COLUMN[name] for name in DEFAULT_FIELDS]
    wanted = written(rows, Csv(columns), 5)
    shape, pieces = rows.packed(zlib.compress)

    assert wanted == written(unpacked(shape, pieces, zlib.decompress), Csv(columns), 5)
    plain = sorted_rows(packed(named))
    assert written(plain, JsonArray(columns), 5) == written(
        unpacked(shape, pieces, zlib.decompress), JsonArray(columns), 5
    )


def test_a_few_ids_that_begin_alike_are_put_in_order_by_the_rest() -> None:
    """Among many that do not: as UUIDs, of which some share their first digits."""
    names = [f"u-{number * 7919 % 1000:08d}-{number:012d}" for number in range(500)]
    names += [f"u-{7919 * 3 % 1000:08d}-{number:012d}" for number in (9000, 8000, 8999)] + ["u-00000999-000000000001"]
    users = {name: Totals(3600, 1, 1, 2) for name in names}
    rows = sorted_rows(regular(*packed(users)))
    encoder = Csv([USER_COLUMN[name] for name in DEFAULT_FIELDS])

    assert [f"{name},1.0".encode() for name in sorted(names)] == written(rows, encoder, 1000).split(b"\r\n")[:-1]


@pytest.mark.parametrize("few", [0, 16_384], ids=["by digits", "by comparing"])
@given(
    ids=st.integers(8, 20).flatmap(
        lambda size: st.lists(
            st.binary(min_size=size, max_size=size) | st.text("ab", min_size=size, max_size=size).map(str.encode),
            min_size=1,
            max_size=60,
            unique=True,
        )
    ),
    before=st.binary(max_size=10),
)
@example(ids=[b"\xff" * 8, b"\x00" * 8, b"\x80" + b"\x00" * 7], before=b"")
def test_ids_of_one_length_are_put_in_the_order_of_their_bytes(few: int, ids: list[bytes], before: bytes) -> None:
    """Whether there are few of them or many, whatever they have in common."""
    ids = [before + each for each in ids]
    width = len(ids[0])
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(ids), [None, pa.py_buffer(b"".join(ids))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow_rows, "_FEW_KEYS", few)
        order = arrow_rows.order_of(column).to_pylist()

    assert sorted(ids) == [ids[place] for place in order]


@given(USERS)
def test_summaries_are_those_of_plain_python(users: dict[str, Totals]) -> None:
    """Totals, and how many have which average; not known where it is not of some user."""
    ids, values = packed(users)
    wanted = Summary()
    wanted.add(rows_of_users(ids, values))

    assert wanted == summary_of(values)
    assert wanted == summary_of(regular(values))


@pytest.mark.parametrize(
    "value",
    [FORMAT_1, FORMAT_2, pack_totals(Totals(-1, 1, 1, 2)), pack_totals(Totals(2**62, 1, 1, 2)), b"", b"\x07" * 49],
)
def test_unusual_values_are_left_to_plain_python(value: bytes) -> None:
    """Beside usual ones: older formats, and averages that do not stand ready."""
    values = [pack_totals(Totals(3600, 1, 1, 2)), value]

    assert sorted_rows(([b"a", b"b"], values)) is None
    assert summary_of(values) is None
    if len(value) == len(values[0]):
        assert sorted_rows(regular([b"a", b"b"], values)) is None
        assert summary_of(regular(values)) is None
    else:
        assert summary_of(regular([value] * 2)) is None


def test_the_half_of_arrow_that_makes_functions_of_all_kernels_is_not_imported() -> None:
    """Whatever is done with rows: it takes longer than all else that a process of many users imports."""
    script = """
import sys, zlib
from functions.adapters.arrow_rows import sorted_rows, summary_of, unpacked
from functions.core.report_columns import DEFAULT_FIELDS, USER_COLUMN
from functions.core.report_texts import Csv
from functions.core.spans import Totals, pack_totals
users = [b"user-%04d" % number for number in range(500)]
values = [pack_totals(Totals(3600, number % 3, 1, 2, 0, 1, 0)) for number in range(500)]
assert summary_of(values).users
for ids in (users, [each * (1 + number % 2) for number, each in enumerate(users)]):
    rows = sorted_rows((ids, [*values]))
    again = unpacked(*rows.packed(zlib.compress), zlib.decompress)
    assert again.text(Csv([USER_COLUMN[name] for name in DEFAULT_FIELDS]), 0, 100)
assert rows.size_bytes
sys.exit("pyarrow.compute" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, cwd=Path(__file__).parents[2])
