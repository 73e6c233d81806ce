"""Backfill: history from files into the state, once, whatever is interrupted and started again.

Rows are checked and made into spans by Spark, brought to their shards, and merged there as a fold merges its own
(spark/backfill_parts.py). The log is not touched, so events go on coming in and being folded meanwhile.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from pyspark.sql import Observation
from pyspark.sql import functions as F  # noqa: N812  # the name that every Spark user knows

from functions.adapters.redis_archive import ArchiveStore
from functions.adapters.redis_history import HistoryStore
from functions.core import environment
from functions.core.errors import MisconfiguredError
from functions.core.events import FLYER_CLOSE, FLYER_EVENTS
from spark import progress
from spark.addresses import ObjectAddress, is_in_object_store
from spark.backfill_parts import merge_part, parts_of
from spark.history_input import columns_from, files_of, read, shown_input
from spark.history_rows import checked
from spark.keeping import archive_of
from spark.object_rejects import write_objects
from spark.transforms import spans_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pyspark.sql import DataFrame, SparkSession

    from functions.core.settings import Settings

logger = logging.getLogger("flyertime.backfill")

_KEPT: Final = ("rows", "rejected", "rows_rejected", "flyer_events", "users", "rejects")
"""What stays on record."""
_CUTS_OFF: Final = "org.apache.spark.sql.execution.adaptive.AQEPropagateEmptyRelation"
"""Where no row comes to a shard, this rule cuts off what observes the rows, which would then be waited for for ever."""
SPAN_COLUMNS: Final = ("user_id", "flyer_id", "merchant_id", "first_us", "last_us", "events", "is_close")
_DONE: Final = pa.schema([(name, pa.int64()) for name in ("shard", "events", "users", "commits", "superseded")])
_DONE_SCHEMA: Final = ", ".join(f"{name} long" for name in _DONE.names)


@dataclass(frozen=True, slots=True)
class Source:
    """What to read, and how."""

    uri: str
    format: str
    columns: dict[str, str] = field(default_factory=dict)
    """Field to column, where they differ."""
    options: dict[str, str] = field(default_factory=dict)
    """Of Spark's reader."""
    unit: str | None = None
    """Of timestamps that are whole numbers."""

    @property
    def digest(self) -> str:
        """Return a name that follows from all of it but the credentials, which may be others at the next start."""
        parts = [
            shown_input(self.uri) if is_in_object_store(self.uri) else self.uri,
            self.format,
            self.columns,
            self.options,
            self.unit,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(slots=True)
class Backfilled:
    """What a backfill did, over all its starts."""

    backfill: str
    rows: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    """Rows by fault; a row with two faults counts for each."""
    rows_rejected: int = 0
    flyer_events: int = 0
    """Counted by this start; earlier ones may have counted others."""
    users: int = 0
    commits: int = 0
    seconds: float = 0.0
    was_done: bool = False
    """An earlier start had completed it: nothing was read."""
    rejects: str = ""
    """Where the rejected rows are."""


def environment_settings() -> Settings:
    """Return the settings of a process on an executor: no password goes through Spark's own messages."""
    return environment.parse(os.environ)


def backfill(
    spark: SparkSession,
    settings: Settings,
    source: Source,
    name: str | None,
    rejects: str | None,
    worker_settings: Callable[[], Settings] = environment_settings,
) -> Backfilled:
    """Count the history once.

    Args:
        spark: Where the work is done; its own settings stay as they are.
        settings: Of the pipeline.
        source: What to read.
        name: The backfill's id; by default it follows from the source.
        rejects: Folder for the rows that are not events, with their faults; None only counts them.
        worker_settings: How a task comes by the settings.

    Raises:
        MisconfiguredError: The input cannot be read, or is another one than at the first start under this id.
        UnavailableError: The store does not answer.
    """
    started_s = time.monotonic()
    if rejects and is_in_object_store(rejects):
        ObjectAddress.parse(rejects).open()  # before the work, not after it
    result = Backfilled(name or source.digest)
    columns = columns_from(source.columns)
    spark = session_for_history(spark)
    store = HistoryStore(settings)
    try:
        store.lay_out()
        record = _registered(store, spark, source, result.backfill)
        if record["state"] == "done":
            return _as_recorded(result, record)
        shards = store.lay_out()  # again: a resharding waits for what is on record, and may have come before that
        logger.info("backfill %s: %d files, %d bytes", result.backfill, record["files"], record["bytes"])
        future_us = settings.max_future_s * 1_000_000  # from the first start: so all starts judge alike
        rows = checked(
            read(spark, source.uri, source.format, columns, source.options),
            columns,
            max_field_bytes=settings.max_field_bytes,
            latest_us=record["started_ms"] * 1000 + future_us if future_us else None,
            unit=source.unit,
        )
        with progress.shown(spark.sparkContext, "backfill"):
            _count(_Work(rows, shards, store, worker_settings, settings.lateness_us is not None), result)
            if result.rows_rejected and rejects:
                result.rejects = _write_rejects(rows, rejects, result.backfill)
        if files_of(spark, source.uri, source.options).digest != record["digest"]:
            raise MisconfiguredError(
                "input_changed",
                f"{shown_input(source.uri)} changed while it was read: what was counted may be a mixture",
            )
        result.seconds = time.monotonic() - started_s
        store.update_backfill(result.backfill, {**record, "state": "done", **_shown(result)})
    finally:
        store.close()
    return result


def session_for_history(spark: SparkSession) -> SparkSession:
    """Return a session of our own, in which files say what they say whatever else Spark is used for."""
    session = spark.newSession()
    session.conf.set("spark.sql.session.timeZone", "UTC")
    session.conf.set("spark.sql.sources.partitionColumnTypeInference.enabled", "false")  # a merchant 007 is no 7
    session.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")  # Spark has no such type; pandas writes it
    session.conf.set("spark.sql.adaptive.optimizer.excludedRules", _CUTS_OFF)
    return session


def _registered(store: HistoryStore, spark: SparkSession, source: Source, name: str) -> dict[str, Any]:
    """Return what is on record of this backfill, having put it there at the first start."""
    files = files_of(spark, source.uri, source.options)
    fields = dataclasses.asdict(files) | {
        "input": shown_input(source.uri),
        "source": source.digest,
        "state": "started",
        "started_ms": store.now_ms(),
    }
    record = store.register_backfill(name, fields)
    if record["source"] != source.digest:
        raise MisconfiguredError(
            "backfill_differs", f"backfill {name} was started with another input or other options ({record['input']})"
        )
    if record["digest"] != files.digest:
        raise MisconfiguredError(
            "input_changed",
            f"the input of backfill {name} is not what it was when it started: {record['files']} files, "
            f"{record['bytes']} bytes then; {files.files} files, {files.bytes} bytes now. "
            "Put it back, or count the new files alone under another --id",
        )
    return record


def _as_recorded(result: Backfilled, record: Mapping[str, Any]) -> Backfilled:
    for name in _KEPT:
        setattr(result, name, record[name])
    result.was_done = True
    return result


def _shown(result: Backfilled) -> dict[str, Any]:
    return {name: getattr(result, name) for name in _KEPT}


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be merged, and where."""

    rows: DataFrame
    shards: int
    store: HistoryStore
    worker_settings: Callable[[], Settings]
    openings: bool
    """Whether the time from open to close is kept: then events go through the shuffle, else spans."""


def _count(work: _Work, result: Backfilled) -> None:
    """Merge the rows' spans into the state."""
    rows, shards, store = work.rows, work.shards, work.store
    seen = Observation()
    good = F.size("faults") == 0
    events = rows.observe(
        seen,
        F.count(F.lit(1)).alias("rows"),
        F.count_if(~good).alias("rejected"),
    ).where(good)
    upto = F.create_map(
        *(F.lit(value) for shard in range(shards) for value in (shard, store.backfilled_upto(shard, result.backfill)))
    )
    place = F.crc32(F.col("user_id"))
    spans = (
        (moments_of(events) if work.openings else spans_of_moments(events))
        .select((place % shards).cast("int").alias("shard"), place.alias("place"), *SPAN_COLUMNS)
        .where(F.col("place") > upto[F.col("shard")])
        .repartition(shards, "shard")
        .sortWithinPartitions("shard", "place", "first_us")  # in order of time, a rebuild may cut a user anywhere
    )
    own, worker_settings = result.backfill, work.worker_settings

    def merge(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from merge_batches(batches, own, worker_settings())

    for row in spans.mapInArrow(merge, _DONE_SCHEMA).collect():
        result.flyer_events += row.events
        result.users += row.users
        result.commits += row.commits
    result.rows, result.rows_rejected = seen.get["rows"], seen.get["rejected"]
    if result.rows_rejected:
        faults = rows.select(F.explode("faults").alias("fault")).groupBy("fault").count().collect()
        result.rejected = {row.fault: row["count"] for row in sorted(faults)}


def moments_of(events: DataFrame) -> DataFrame:
    """Return each flyer event as the span that it is."""
    return events.where(F.col("event").isin(*FLYER_EVENTS) & F.col("flyer_id").isNotNull()).select(
        "user_id",
        "flyer_id",
        F.coalesce("merchant_id", F.lit("")).alias("merchant_id"),
        F.col("moment_us").alias("first_us"),
        F.col("moment_us").alias("last_us"),
        F.lit(1).cast("long").alias("events"),
        (F.col("event") == FLYER_CLOSE).alias("is_close"),
    )


def spans_of_moments(events: DataFrame) -> DataFrame:
    """Return the span of each user, flyer and merchant: what Spark can aggregate before it shuffles."""
    return spans_of(events.withColumn("timestamp", F.timestamp_micros("moment_us"))).select(
        *SPAN_COLUMNS[:3],
        F.unix_micros("first_at").alias("first_us"),
        F.unix_micros("last_at").alias("last_us"),
        "events",
        F.lit(None).cast("boolean").alias("is_close"),
    )


def merge_batches(batches: Iterable[pa.RecordBatch], backfill: str, settings: Settings) -> Iterator[pa.RecordBatch]:
    """Merge the spans of some shards, in a Spark task; yield what was done, a row a part."""
    store = ArchiveStore(settings)
    try:
        archive = archive_of(settings, store)
        for shard, spans in parts_of(batches, settings.round_events):
            done = merge_part(store, backfill, shard, spans, settings.lateness_us, archive)
            yield pa.RecordBatch.from_pylist([dataclasses.asdict(done)], _DONE)
    finally:
        store.close()


def _write_rejects(rows: DataFrame, folder: str, name: str) -> str:
    """Write rejected rows to a folder of this backfill, in the place of what an earlier start wrote; return which."""
    rejected = rows.where(F.size("faults") > 0).withColumn("faults", F.array_join("faults", ", ")).drop("moment_us")
    if is_in_object_store(folder):
        address = ObjectAddress.parse(folder).below(name)
        shown = address.shown
        write_objects(rejected, address)
    else:
        shown = f"{folder.rstrip('/')}/{name}"
        rejected.write.mode("overwrite").json(shown)
    logger.info("rejected rows are in %s", shown)
    return shown
