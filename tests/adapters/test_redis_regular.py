"""Replies taken as they arrive: what is regular is found out, anything else comes as the client would have it."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
import redis
from hypothesis import example, given
from hypothesis import strategies as st

from functions.adapters.redis_regular import ArrivingReplies, Regular

FURTHER = b"$1\r\n7\r\n"


def packed(texts: list[bytes]) -> bytes:
    """Return an array reply."""
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in texts)


def taken(data: bytes, elements: int, pieces: list[int], further: int = 1, arrays: int = 1) -> list[Any]:
    """Return the replies in some bytes that arrive in pieces of these sizes, over and over; all must be there then.

    They arrive twice: in the memory that is offered, and in memory of their own.
    """
    offered, owned = ArrivingReplies(elements, arrays), ArrivingReplies(elements, arrays)
    at = turn = 0
    while at < len(data):
        assert len(offered.replies) < arrays + further
        room = offered.room()
        size = min(len(room), pieces[turn % len(pieces)], len(data) - at)
        room[:size] = data[at : at + size]
        offered.received(size)
        owned.take(data[at : at + size])
        at, turn = at + size, turn + 1
    assert len(offered.replies) == arrays + further, "it waits for what does not come"
    assert [*map(shown, offered.replies)] == [*map(shown, owned.replies)]
    return owned.replies if len(pieces) % 2 else offered.replies


def shown(reply: Any) -> tuple[bool, Any]:
    """Return whether a reply is regular, and what is in it."""
    return isinstance(reply, Regular), reply.columns() if isinstance(reply, Regular) else repr(reply)


def objects(reply: Any) -> list[bytes]:
    """Return a reply as the client has it."""
    if not isinstance(reply, Regular):
        return list(reply)
    return [text for record in zip(*reply.columns(), strict=True) for text in record]


alike = st.integers(0, 40).flatmap(
    lambda size: st.lists(st.tuples(st.binary(min_size=size, max_size=size), st.binary(min_size=3, max_size=3)))
)
anything = st.lists(st.tuples(st.binary(max_size=12), st.sampled_from([b"abc", b"", b"\r\n$3\r\nabc\r\n"])))
sizes = st.lists(st.integers(1, 50) | st.integers(1, 2000), min_size=1, max_size=5)


@given(alike, sizes)
def test_records_of_the_same_lengths_are_regular_in_whatever_pieces_they_come(
    records: list[tuple[bytes, bytes]], pieces: list[int]
) -> None:
    """Their columns are those of the objects."""
    texts = [text for record in records for text in record]
    reply, generation = taken(packed(texts) + FURTHER, 2, pieces)

    assert isinstance(reply, Regular) == bool(records)
    assert texts == objects(reply)
    assert b"7" == generation


@given(anything, sizes)
@example([(b"four", b"abc"), (b"four", b"abc"), (b"", b"abc")], [1000])  # shorter than the first ones promise
@example([(b"four", b"abc"), (b"longer", b"abc"), (b"it", b"abc")], [7])  # as long altogether, but not alike
@example([(b"12", b"abc"), (b"x" * 200_000, b"abc")], [65_536])
def test_any_records_come_as_they_are_and_nothing_is_waited_for(
    records: list[tuple[bytes, bytes]], pieces: list[int]
) -> None:
    """Also where ids look like the protocol."""
    texts = [text for record in records for text in record]
    reply, generation = taken(packed(texts) + FURTHER, 2, pieces)

    assert texts == objects(reply)
    assert b"7" == generation
    if len({tuple(map(len, record)) for record in records}) > 1:
        assert not isinstance(reply, Regular)


@pytest.mark.parametrize("odd", [0, 1, 2_047, 2_048, 2_049, 4_095, 4_096, 4_999])
def test_one_record_among_thousands_that_is_not_alike_is_found(odd: int) -> None:
    """Wherever it stands: in its place is an id that is shorter, and a value that is as much longer."""
    records = [(b"%04d" % number, b"abc") for number in range(5_000)]
    records[odd] = (b"%03d" % (odd % 1000), b"abcd")
    texts = [text for record in records for text in record]
    reply, generation = taken(packed(texts) + FURTHER, 2, [65_536])

    assert not isinstance(reply, Regular)
    assert (texts, b"7") == (reply, generation)


@pytest.mark.parametrize(
    ("record", "elements"),
    [
        (b":1\r\n$8\r\n1\rxxxxxx\r\n", [1, b"1\rxxxxxx"]),
        (b"$10\r\nxx$1\rxxxxx\r\n$1\r\nb\r\n", [b"xx$1\rxxxxx", b"b"]),
        (b"$1\r\na\r\n:1\r\n", [b"a", 1]),
        (b"$1\r\na\r\n$12\r\nxxxxxxxxxxxx\r\n", [b"a", b"xxxxxxxxxxxx"]),
    ],
)
def test_a_record_that_differs_in_one_byte_of_a_line_is_found(record: bytes, elements: list[Any]) -> None:
    """A number where texts are expected, or a length with one digit more, and all else where it is in the first one."""
    (reply,) = taken(b"*4\r\n$1\r\na\r\n$1\r\nb\r\n" + record, 2, [200], further=0)

    assert [b"a", b"b", *elements] == reply


def test_a_first_record_that_promises_gigabytes_gets_no_room_for_them() -> None:
    """One long id among many short ones."""
    texts = [b"x" * 60_000, b"abc", *[b"y", b"abc"] * 50_000]
    (reply,) = taken(packed(texts), 2, [65_536], further=0)

    assert texts == reply


def test_a_single_column_is_regular_too() -> None:
    """As HVALS has it."""
    (reply,) = taken(packed([b"abc", b"def"]), 1, [5], further=0)

    assert isinstance(reply, Regular)
    assert [[b"abc", b"def"]] == reply.columns()


@pytest.mark.parametrize(
    "data", [b"-LOADING wait\r\n", b"$-1\r\n", b"*-1\r\n", b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"]
)
def test_what_is_no_table_comes_as_the_client_has_it(data: bytes) -> None:
    """Errors, nothing at all, an odd number."""
    reader = hiredis.Reader(replyError=redis.connection.DefaultParser.parse_error)
    reader.feed(data)
    reply, _ = taken(data + FURTHER, 2, [3])
    wanted = reader.gets()

    assert (type(wanted), str(wanted)) == (type(reply), str(reply))


@given(st.lists(alike | anything, min_size=1, max_size=4), sizes)
@example([[(b"a", b"abc")], [], [(b"b", b"abc")]], [1000])
@example([[(b"x" * 40, b"abc")] * 3000, [(b"x", b"abc")] * 2, [(b"y", b"abc")]], [65_536])
def test_arrays_that_come_together_come_as_they_are(
    arrays: list[list[tuple[bytes, bytes]]], pieces: list[int]
) -> None:  # fmt: skip
    """Up to the first whose records are not alike as columns, that one and all behind it as objects."""
    texts = [[text for record in records for text in record] for records in arrays]
    *replies, generation = taken(b"".join(map(packed, texts)) + FURTHER, 2, pieces, arrays=len(arrays))

    assert texts == [*map(objects, replies)]
    assert b"7" == generation
    kinds = [isinstance(reply, Regular) for reply in replies]
    assert kinds == sorted(kinds, reverse=True)
    assert kinds[0] == (len({tuple(map(len, record)) for record in arrays[0]}) == 1)


@given(st.integers(0, 40), st.integers(1, 300), st.integers(0, 70_000))
def test_a_field_is_unpacked_from_every_record(id_bytes: int, records: int, behind: int) -> None:
    """However much memory there is behind the last one."""
    ids = [number.to_bytes(40, "big")[40 - id_bytes :] for number in range(records)]
    texts = [text for number, name in enumerate(ids) for text in (name, b"\x03" + number.to_bytes(4, "little"))]
    head = b"*%d\r\n" % len(texts)
    regular = Regular(bytearray(packed(texts) + bytes(behind)), len(head), records, (id_bytes, 5))
    names, numbers = regular.fields(f"{id_bytes}s", "xI")

    assert (ids, [*range(records)]) == ([*names], [*numbers])
    assert b"\x03" * records == regular.bytes_at(1, 0)


def test_what_is_not_of_the_protocol_is_an_error() -> None:
    """It cannot be told where the next reply begins."""
    with pytest.raises(redis.InvalidResponse):
        taken(b"HTTP/1.1 400 Bad Request\r\n", 2, [10])
