"""Lines of files in parts: whatever is cut where, together they are the lines of the whole."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.core.errors import MisconfiguredError
from spark.object_json import JsonLines
from spark.object_text import Header, csv_batches, encoding_of, lines_of_blocks, lines_of_range

TEXTS = st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"bc", b"", b"\xff"]), max_size=30).map(b"".join)


def lines_in(data: bytes, start: int, end: int, block_bytes: int) -> list[bytes]:
    """Return the lines of a part."""
    blocks = lines_of_range(lambda size, at: data[at : at + size], start, end, block_bytes)
    return [line for block in blocks for line in block.splitlines()]


@given(data=st.one_of(TEXTS, st.binary(max_size=60)), cuts=st.lists(st.integers(0, 60)), block_bytes=st.integers(1, 9))
@example(data=b"a\r\nb", cuts=[2], block_bytes=1)
@example(data=b"a\r\rb", cuts=[2], block_bytes=4)
def test_the_lines_of_the_parts_are_the_lines_of_the_whole(data: bytes, cuts: list[int], block_bytes: int) -> None:
    """Whatever ends them, and however few bytes are read at a time."""
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    parts = [lines_in(data, start, end, block_bytes) for start, end in itertools.pairwise(bounds)]

    assert data.splitlines() == [line for part in parts for line in part]


@given(st.lists(TEXTS))
def test_blocks_are_made_whole_lines(blocks: list[bytes]) -> None:
    """No line is in two of them, nothing is lost."""
    made = list(lines_of_blocks(blocks))

    assert b"".join(blocks) == b"".join(made)
    assert b"".join(blocks).splitlines() == [line for block in made for line in block.splitlines()]


def test_a_part_reads_little_beyond_its_end() -> None:
    """What its last line needs; nothing where none begins in it."""
    data = b"x" * 1_000_000 + b"\n" + b"y" * 1_000_000
    asked: list[tuple[int, int]] = []

    def read(size: int, at: int) -> bytes:
        asked.append((at, size))
        return data[at : at + size]

    assert [] == list(lines_of_range(read, 10, 20, 1000))
    assert [(9, 11)] == asked
    asked.clear()
    assert [b"y" * 1_000_000] == list(lines_of_range(read, 999_990, 1_000_100, 1_000_000))
    assert asked[-1][0] < len(data) + 10


def test_lines_that_are_no_utf8_are_marked_and_others_as_they_are() -> None:
    """Spark's parser would take them for good; a line that begins with the mark gets another one."""
    lines = b'{"a":"\xff"}\n\xef\xbb\xbf{"a":"\xc3\xbc"}\n\0x\n'
    found = JsonLines(["a"]).batch(lines).column(0).cast("binary").to_pylist()

    assert [b'\0{"a":"\xff"}', b'{"a":"\xc3\xbc"}', b"\0\0x"] == found


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ('{"t":1700000000.50,"b":{"c": 1e3, "d":1.50}}', '{"t":"1700000000.50","b":{"c":"1e3","d":1.50}}'),
        ('{"t":{"x": 1},"b":-0}', '{"t":"{\\"x\\": 1}","b":-0}'),
        (' [{"t":-0.0},{"t":null,"b":{"c":[ ]}}]', '[{"t":"-0.0"},{"t":null,"b":{"c":"[ ]"}}]'),
        ('{"t":7, "b":{"c":"1.50"}}', '{"t":7, "b":{"c":"1.50"}}'),
        ('{"t":true, "x":1.5}', '{"t":true, "x":1.5}'),
        ('{"t":"2023-11-14T22:13:20.5Z", "b":{}}', '{"t":"2023-11-14T22:13:20.5Z", "b":{}}'),
        ('{"t":1.50', '{"t":1.50'),
        ("[1.50]", "[1.50]"),
        ("1.50", "1.50"),
    ],
)
def test_what_would_be_written_anew_becomes_a_text(line: str, made: str) -> None:
    """Fractions, and what is no single value; what is no record stays as it is."""
    assert [made] == JsonLines(["t", "b.c"]).batch(line.encode()).column(0).to_pylist()


def test_the_header_goes_and_lines_equal_to_it_stay() -> None:
    """Once a file, behind blank lines and comments; it may be quoted otherwise."""
    header = Header(b"a;b", ";", b"#", checked=True)
    batches = csv_batches([b"\n#c\n", b' \t\n"A";b\n1;2\n', b"a;b\n"], header, "x.csv")

    assert ["1;2", "a;b"] == [line for batch in batches for line in batch.column(0).to_pylist()]


def test_another_header_is_told_with_the_file() -> None:
    """Its columns would be taken for others."""
    with pytest.raises(MisconfiguredError, match=r"y\.csv has the header b;a, the first file a;b"):
        list(csv_batches([b"b;a\n"], Header(b"a;b", ";", b"", checked=True), "y.csv"))
    assert [] == list(csv_batches([b"b;a\n"], Header(b"a;b", ";", b"", checked=False), "y.csv"))


@pytest.mark.parametrize(
    ("name", "found"), [("ISO-8859-1", "iso8859-1"), ("windows-1252", "cp1252"), ("UTF-8", "utf-8")]
)
def test_encodings_have_the_names_of_java(name: str, found: str) -> None:
    """Those in which a line ends as in ASCII."""
    assert found == encoding_of(name)


@pytest.mark.parametrize("name", ["UTF-16", "UTF-32LE", "hex", "no-such"])
def test_an_encoding_with_other_ends_of_lines_is_refused(name: str) -> None:
    """Its lines could not be told apart."""
    with pytest.raises(MisconfiguredError, match=f"texts in {name} cannot be read from an object store"):
        encoding_of(name)
