"""Batches are decoded to the same rows, whatever came before them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.ingest.typed_json import MOST_TEXTS, BatchDecoder, OneEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXTS = st.text(min_size=1, max_size=3) | st.sampled_from(["/s", "ü", '"\\', "x" * 256])


def batch(texts: Sequence[tuple[str, str, str]]) -> bytes:
    """Return the body of a batch with an event for each source, type and name."""
    return json.dumps([
        {
            "specversion": "1.0", "id": str(number), "source": source, "type": kind,
            "data": {"timestamp": "t", "user_id": "u", "event": name, "flyer_id": None, "merchant_id": ""},
        }
        for number, (source, kind, name) in enumerate(texts)
    ]).encode()  # fmt: skip


def content(events: Sequence[OneEvent]) -> list[Any]:
    """Return events as plain values."""
    return [msgspec.to_builtins(event) for event in events]


@given(st.lists(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=4), max_size=4))
def test_what_was_decoded_before_changes_nothing(batches: list[list[tuple[str, str, str]]]) -> None:
    """Each batch comes twice: with texts that are new, and with texts that are known."""
    decoder = BatchDecoder()
    for texts in batches:
        for _ in range(2):
            assert content(BatchDecoder().decode(batch(texts))) == content(decoder.decode(batch(texts)))


def test_texts_that_come_again_are_made_once() -> None:
    """Or there would be no use in keeping them."""
    decoder = BatchDecoder()
    decoder.decode(batch([("/source", "type", "name")]))
    one, other = decoder.decode(batch([("/source", "type", "name")] * 2))

    assert one.source is other.source
    assert one.type is other.type
    assert one.data.event is other.data.event


def test_of_more_texts_than_are_kept_none_is() -> None:
    """Senders who each have a source of their own cost no memory; what they have in common is kept all the same."""
    decoder = BatchDecoder()
    for number in range(MOST_TEXTS + 2):
        (event,) = decoder.decode(batch([(f"/source-{number}", "type", "name")]))
        assert f"/source-{number}" == event.source
    one, other = decoder.decode(batch([("/source", "type", "name")] * 2))

    assert one.source is not other.source
    assert one.type is other.type


@pytest.mark.parametrize("body", [b"[", b"{}", b"[{}]", batch([("", "t", "n")]), batch([("s" * 257, "t", "n")])])
def test_what_does_not_fit_is_refused_before_and_after_others(body: bytes) -> None:
    """And nothing is kept of it."""
    decoder = BatchDecoder()
    for _ in range(2):
        with pytest.raises(msgspec.DecodeError):
            decoder.decode(body)
        decoder.decode(batch([("/s", "t", "n")]))
