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


def taken(data: bytes, elements: int, pieces: list[int], further: int = 1) -> list[Any]:
    """Return the replies in some bytes that arrive in pieces of these sizes, over and over; all must be there then."""
    replies = ArrivingReplies(elements, further)
    at = turn = 0
    while at < len(data):
        assert not replies.complete
        room = replies.room()
        size = min(len(room), pieces[turn % len(pieces)], len(data) - at)
        room[:size] = data[at : at + size]
        replies.received(size)
        at, turn = at + size, turn + 1
    assert replies.complete, "it waits for what does not come"
    return replies.replies


def objects(reply: Any) -> list[bytes]:
    """Return a reply as the client has it."""
    if not isinstance(reply, Regular):
        return list(reply)
    return [text for record in zip(*reply.columns(), strict=True) for text in record]


alike = st.integers(0, 40).flatmap(
    lambda size: st.lists(st.tuples(st.binary(min_size=size, max_size=size), st.binary(min_size=3, max_size=3)))
)
anything = st.lists(st.tuples(st.binary(max_size=12), st.sampled_from([b"abc", b"", b"\r\n$3\r\nabc\r\n"])))
sizes = st.lists(st.integers(1, 50), min_size=1, max_size=5)


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


def test_what_is_not_of_the_protocol_is_an_error() -> None:
    """It cannot be told where the next reply begins."""
    with pytest.raises(redis.InvalidResponse):
        taken(b"HTTP/1.1 400 Bad Request\r\n", 2, [10])
