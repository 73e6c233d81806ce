"""Ledger, log and archive held against each other and against the events that were sent, event by event."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from functions.adapters.redis_archive import ArchiveStore
from functions.core.events import Event
from functions.core.packing import unpack_events
from functions.core.shards import shard_of
from spark.keeping import archive_of
from tests.kept_summaries import current_summaries

if TYPE_CHECKING:
    from collections.abc import Iterable

    from functions.core.settings import Settings

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)


def check_books(settings: Settings, sent: Iterable[Event]) -> tuple[int, int]:
    """Check that each event that was sent is in the archive or in the log, once; return events folded and pending.

    They are read one after the other, so no run may go on. More may be given than was sent yet. What all users come to
    must be kept of every shard that has any, and be right.
    """
    sent = list(sent)
    store = ArchiveStore(settings)
    archive = archive_of(settings, store)
    folded = pending = 0
    summed = current_summaries(settings)
    for shard in range(store.shards()):
        ledger, files = store.archive_books(shard)
        in_log = [event for _, entry in store.log(shard, "0-0", "+") for event in unpack_events(entry)]
        assert ledger.accepted == ledger.folded + len(in_log)
        assert ((shard, "") in summed) == (ledger.version > 0)
        folded, pending = folded + ledger.folded, pending + len(in_log)
        if archive:
            rows = [row for file in files for table in archive.tables(file) for row in table.to_pylist()]
            assert ledger.folded == ledger.archived == len(rows)
            moments_us = [(row["timestamp"] - _EPOCH) // _MICROSECOND for row in rows]
            texts = [[row[name] for name in ("user_id", "event", "flyer_id", "merchant_id")] for row in rows]
            in_archive = [Event(moment_us, *text) for moment_us, text in zip(moments_us, texts, strict=True)]
            of_shard = [event for event in sent if shard_of(event.user_id, store.shards()) == shard]
            assert of_shard[: ledger.accepted] == in_archive + in_log  # in their order, each once
    store.close()
    return folded, pending
