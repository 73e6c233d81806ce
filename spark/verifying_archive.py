"""Verifying the archive: its records against the books and the folder, its events against the state."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from functions.core import span_packing
from functions.core.events import FLYER_EVENTS
from functions.core.ledger import position_of
from functions.core.spans import Span
from spark.archive import MissingFileError
from spark.findings import MOST_TRIES, PAUSE_S
from spark.keeping import left_over

if TYPE_CHECKING:
    from functions.adapters.redis_archive import ArchiveBooks
    from functions.adapters.redis_checks import CheckedStore
    from functions.core.archive import ArchivedFile
    from functions.core.spans import UserSpans
    from spark.archive import Archive
    from spark.findings import Findings, SpansByUser

_FLYER_EVENTS: Final = pa.array(sorted(FLYER_EVENTS))


def check_files(store: CheckedStore, archive: Archive, found: Findings) -> bool:
    """Compare the records with the books and with the folder; tell whether all files can be read."""
    paths = archive.paths(found.shard)
    books = store.archive_books(found.shard)
    ledger = books.ledger
    found.archived, found.files = ledger.archived + ledger.history_archived, len(books.files)
    found.add(_deviations_of_books(books))
    gaps = {
        "folded": ledger.folded - ledger.archived - ledger.archived_erased,
        "backfilled": ledger.backfilled - ledger.history_archived - ledger.history_archived_erased,
    }
    for name, gap in gaps.items():
        if gap > 0:
            found.not_archived += gap
            found.notes.append(f"{gap:,} events were {name} without an archive: a rebuild is not possible")
        elif gap < 0:
            found.add([f"archive: {-gap:,} events more than were {name}"])
    missing = []
    for file in books.files:
        try:
            rows = archive.rows_of(file)
        except MissingFileError as e:
            if file in store.archive_books(found.shard).files:  # nobody has put another one in its place
                missing.append(f"archive: {e.message}")
            continue
        if rows != file.rows:
            missing.append(f"archive: {file.path} has {rows:,} rows, on record are {file.rows:,}")
    found.add(missing)
    left = left_over(store, found.shard, paths)
    if left:
        time.sleep(PAUSE_S)  # whoever has just put others in their place deletes them now
        left = sorted(set(left) & set(archive.paths(found.shard)))
    found.add(
        f"archive: {path} is left over from a run that was killed: `flyertime archive compact` deletes it"
        for path in left
    )
    return not missing


def _deviations_of_books(books: ArchiveBooks) -> list[str]:
    ledger, files = books
    log = [file for file in files if file.first]
    own = [file for file in log if not file.laid]  # the ids of others are of the shards that were
    deviations = []
    for name, of_kind, booked in (
        ("log", log, ledger.archived),
        ("history", [file for file in files if not file.first], ledger.history_archived),
    ):
        events = sum(file.events for file in of_kind)
        if events != booked:
            deviations.append(f"archive: {booked:,} events of {name} by the ledger, {events:,} by the files' records")
    deviations += [
        f"archive: {file.path} goes beyond {ledger.folded_to}, up to which is folded"
        for file in own
        if position_of(file.last) > position_of(ledger.folded_to)
    ]
    deviations += [
        f"archive: {one.path} and {other.path} overlap"
        for one, other in itertools.pairwise(own)
        if position_of(one.last) >= position_of(other.first)
    ]
    return deviations


def check_against_archive(store: CheckedStore, archive: Archive, found: Findings, held: SpansByUser) -> None:
    """Compare the spans with those that the archive's events give."""
    seen: dict[str, ArchivedFile] = {}
    computed: SpansByUser = {}
    wrong = set(held)
    for _ in range(MOST_TRIES):
        ledger, files = store.archive_books(found.shard)
        new = [file for file in files if file.path not in seen]
        if any(path not in {file.path for file in files} for path in seen):
            seen, computed, new = {}, {}, files  # merged or erased from meanwhile
        try:
            for file in new:
                _add(computed, _spans_in(archive, file))
        except MissingFileError:
            seen, computed = {}, {}
            time.sleep(PAUSE_S)
            continue
        seen = {file.path: file for file in files}
        wrong = {user for user in held.keys() | computed.keys() if _differ(held.get(user), computed.get(user))}
        if not wrong:
            break
        again = sorted(wrong)
        if not _unpacked(store, found, again, held):
            return
        if store.ledger(found.shard).commits == ledger.commits:  # files and state of the same moment
            wrong = {user for user in again if _differ(held.get(user), computed.get(user))}
            break
        time.sleep(PAUSE_S)
    else:
        found.notes.append("state and archive were not compared to the end: the shard is being folded all the time")
        return
    found.recomputed = True
    found.add(
        f"state: user {user.decode(errors='replace')!r} has {_counted(held.get(user))}; "
        f"the archive gives {_counted(computed.get(user))}"
        for user in sorted(wrong)
    )


def _differ(held: UserSpans | None, computed: UserSpans | None) -> bool:
    """Tell whether spans are others, openings apart: those depend on how late an event came, which no file tells."""
    return (held and {key: span._replace(openings=None) for key, span in held.items()}) != computed


def _unpacked(store: CheckedStore, found: Findings, users: list[bytes], held: SpansByUser) -> bool:
    """Read some users' spans again; tell whether they can be read, which was said before where they cannot."""
    for user, value in zip(users, store.spans(found.shard, users), strict=True):
        if value is None:
            held.pop(user, None)
            continue
        try:
            held[user] = span_packing.unpack_spans(value)
        except ValueError:
            return False
    return True


def _counted(own: UserSpans | None) -> str:
    if own is None:
        return "no spans"
    return f"{len(own):,} spans of {sum(span.events for span in own.values()):,} events"


def _spans_in(archive: Archive, file: ArchivedFile) -> SpansByUser:
    """Return the spans of one file's events."""
    parts = []
    for table in archive.tables(file):
        if file.backfill:
            parts.append(table.select(["user_id", "flyer_id", "merchant_id", "first_us", "last_us", "events"]))
            continue
        texts = table.select(["user_id", "event", "flyer_id", "merchant_id"]).cast(_TEXTS)
        moment = table["timestamp"].cast(pa.int64())
        wanted = pc.and_(pc.is_in(texts["event"], value_set=_FLYER_EVENTS), pc.is_valid(texts["flyer_id"]))
        parts.append(
            pa.table(
                {
                    "user_id": texts["user_id"],
                    "flyer_id": texts["flyer_id"],
                    "merchant_id": pc.fill_null(texts["merchant_id"], ""),
                    "first_us": moment,
                    "last_us": moment,
                    "events": pa.chunked_array([pa.repeat(pa.scalar(1, pa.int64()), len(texts))]),
                }
            ).filter(wanted)
        )
    rows = (
        pa.concat_tables(parts, promote_options="permissive")
        .group_by(["user_id", "flyer_id", "merchant_id"])
        .aggregate([("first_us", "min"), ("last_us", "max"), ("events", "sum")])
    )
    found: SpansByUser = {}
    for row in rows.to_pylist():
        span = Span(row["first_us_min"], row["last_us_max"], row["events_sum"])
        found.setdefault(row["user_id"].encode(), {})[row["flyer_id"], row["merchant_id"]] = span
    return found


_TEXTS: Final = pa.schema([(name, pa.string()) for name in ("user_id", "event", "flyer_id", "merchant_id")])


def _add(computed: SpansByUser, more: SpansByUser) -> None:
    for user, own in more.items():
        held = computed.setdefault(user, {})
        for key, span in own.items():
            held[key] = held[key].merge(span) if key in held else span
