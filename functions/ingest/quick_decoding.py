"""Well-formed requests decoded in one step: typed by msgspec, then column by column.

What does not fit exactly is None here and goes the strict way (functions/ingest/submissions.py), which takes it after
all or says what is wrong with it. Whatever is taken here the strict way takes too, with an equal result:
tests/ingest/test_quick_decoding.py holds that on arbitrary requests.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

import msgspec

from functions.core import timestamps
from functions.core.event_columns import EventColumns
from functions.core.naming import ARRAY_SOURCE, MAX_KEY_CHARACTERS, ListIds
from functions.ingest.submissions import Submissions
from functions.ingest.typed_json import LONGEST_BYTES, LONGEST_NAME, BatchDecoder, decode_array, decode_data, decode_one

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from functions.core.events import Limits
    from functions.core.naming import Digests
    from functions.ingest.typed_json import Data

_batches: Final = BatchDecoder()
_NOT_QUICK: Final = (msgspec.DecodeError, UnicodeError, ValueError, OverflowError, RecursionError)


def quick_array(body: bytes, idempotency_key: str | None, limits: Limits, digests: Digests) -> Submissions | None:
    """Return the events of a raw JSON array."""
    try:
        rows = decode_array(body)
        if idempotency_key is not None and not 0 < len(idempotency_key) <= MAX_KEY_CHARACTERS:
            return None
        if idempotency_key is None:
            return Submissions([None] * len(rows), _columns(rows, limits), [None] * len(rows))
        ids = ListIds(idempotency_key, len(rows))
        return Submissions(ids, _columns(rows, limits), digests.of_list(ARRAY_SOURCE, idempotency_key, len(rows)))
    except _NOT_QUICK:
        return None


def quick_structured(
    body: bytes, limits: Limits, digests: Digests, may_send: Callable[[str], bool] | None = None
) -> Submissions | None:
    """Return the events of one CloudEvent in structured mode."""
    try:
        event = decode_one(body)
        if event.time is not None:
            timestamps.parse_us(event.time)
        if may_send is not None and not may_send(event.source):
            return None
        return _of_one(event.source, event.id, event.data, limits, digests)
    except _NOT_QUICK:
        return None


def quick_batch(
    body: bytes, limits: Limits, digests: Digests, may_send: Callable[[str], bool] | None = None
) -> Submissions | None:
    """Return the events of CloudEvents in batched mode."""
    try:
        events = _batches.decode(body)
        times = [event.time for event in events if event.time is not None]
        if times:
            timestamps.parse_column_us(times)
        sources = [event.source for event in events]
        ids = [event.id for event in events]
        if sources and sources.count(sources[0]) == len(sources):  # as nearly always
            sources = sources[:1]
            names = digests.of(sources[0], ids)
        else:
            names = list(chain.from_iterable(digests.of(event.source, (event.id,)) for event in events))
        if may_send is not None and not all(map(may_send, set(sources))):
            return None
        return Submissions(ids, _columns([event.data for event in events], limits), names)
    except _NOT_QUICK:
        return None


def quick_binary(
    headers: Mapping[str, str],
    body: bytes,
    limits: Limits,
    digests: Digests,
    may_send: Callable[[str], bool] | None = None,
) -> Submissions | None:
    """Return the events of a CloudEvent in binary mode, whose attributes are headers of plain ASCII."""
    try:
        source, event_id, version = headers["ce-source"], headers["ce-id"], headers["ce-specversion"]
        texts = [source, event_id, headers["ce-type"]]
        if "ce-subject" in headers:
            texts.append(headers["ce-subject"])
        joined = "".join(texts)
        if version != "1.0" or not all(texts) or len(joined) > LONGEST_NAME:
            return None
        if not joined.isascii() or "%" in joined or '"' in joined:
            return None
        if "\n".join(["", *headers]).count("\nce-") != len(texts) + 1:  # there are others
            return None
        if headers.get("content-type") not in {"application/json", None}:
            return None
        if may_send is not None and not may_send(source):
            return None
        return _of_one(source, event_id, decode_data(body), limits, digests)
    except (KeyError, *_NOT_QUICK):
        return None


def _of_one(source: str, event_id: str, data: Data | list[Data], limits: Limits, digests: Digests) -> Submissions:
    """Return the events of one CloudEvent: one, or those of the list in its data."""
    if isinstance(data, list):
        ids = ListIds(event_id, len(data))
        return Submissions(ids, _columns(data, limits), digests.of_list(source, event_id, len(data)))
    return Submissions((event_id,), _columns((data,), limits), digests.of(source, (event_id,)))


def _columns(rows: Sequence[Data], limits: Limits) -> EventColumns:
    """Return the columns of decoded events.

    Raises:
        ValueError: Some event has to be looked at more closely.
    """
    moments_us = timestamps.parse_column_us([row.timestamp for row in rows])
    if limits.max_field_bytes < LONGEST_BYTES:
        raise ValueError("the strict way counts bytes")
    if limits.latest_us is not None and moments_us and max(moments_us) > limits.latest_us:
        raise ValueError("the strict way says which one is too late")
    return EventColumns(
        moments_us,
        [row.user_id for row in rows],
        [row.event for row in rows],
        [row.flyer_id for row in rows],
        [row.merchant_id for row in rows],
    )
