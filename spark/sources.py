"""The pending log as a DataFrame: ``spark.dataSource.register(LogSource); spark.read.format("flyertime_log").load()``.

For looking at what is pending, for checking a fold against the reference, for copying the log elsewhere. The fold
itself does not read through it: it would send every event through the JVM and back (measured: docs/benchmarks.md).
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

from functions.adapters.redis_shard import ShardStore
from functions.core import environment
from spark import columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql.types import StructType

    from functions.core.settings import Settings

SCHEMA: Final = "timestamp timestamp, user_id string, event string, flyer_id string, merchant_id string"
ENTRIES_A_BATCH: Final = 1000


class ShardPartition(InputPartition):
    """One shard's log, between two of its entries."""

    def __init__(self, shard: int, after: str, upto: str) -> None:
        super().__init__(shard)
        self.shard = shard
        self.after = after
        self.upto = upto


class LogSource(DataSource):
    """What is pending when the query starts; one partition a shard.

    Settings come from the driver's environment; ``.option("redis_url", …)`` and ``.option("namespace", …)`` go before.
    """

    @classmethod
    def name(cls) -> str:
        """Return the name for ``spark.read.format``."""
        return "flyertime_log"

    def schema(self) -> str:
        """Return the columns: those of an event."""
        return SCHEMA

    def reader(self, schema: StructType) -> DataSourceReader:
        """Return the reader."""
        del schema  # it is ours
        held = environment.parse(os.environ)
        url = self.options.get("redis_url", held.redis_url)
        namespace = self.options.get("namespace", held.namespace)
        return _LogReader(dataclasses.replace(held, redis_url=url, namespace=namespace))


class _LogReader(DataSourceReader):
    def __init__(self, own_settings: Settings) -> None:
        self._settings = own_settings

    def partitions(self) -> list[InputPartition]:
        """Fix the bounds of each shard that has something pending."""
        store = ShardStore(self._settings)
        try:
            ledgers = [store.ledger(shard) for shard in range(store.shards())]
        finally:
            store.close()
        return [
            ShardPartition(ledger.shard, ledger.folded_to, ledger.newest_id)
            for ledger in ledgers
            if ledger.newest_id is not None
        ] or [ShardPartition(-1, "", "")]  # Spark wants at least one

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Yield the events of one shard, many entries at a time."""
        assert isinstance(partition, ShardPartition)  # noqa: S101  # we made it
        if partition.shard < 0:
            return
        store = ShardStore(self._settings)
        try:
            batch: list[bytes] = []
            for _, entry in store.log(partition.shard, partition.after, partition.upto):
                batch.append(entry)
                if len(batch) == ENTRIES_A_BATCH:
                    yield _record_batch(batch)
                    batch = []
            if batch:
                yield _record_batch(batch)
        finally:
            store.close()


def _record_batch(entries: list[bytes]) -> pa.RecordBatch:
    events = columns.unpack_log(entries)
    times = events.pop("timestamp_us").cast(pa.timestamp("us", "UTC"))
    return pa.RecordBatch.from_arrays(
        [times, *(column.cast(pa.string()) for column in events.values())], names=["timestamp", *events]
    )
