"""Made-up events in the order in which they would arrive, by column: tens of millions in seconds.

Ten events a user within one hour of a day, on three flyers each; every flyer is one merchant's; ids of users have 64
characters. Two of a hundred events come up to six hours late.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from functions.adapters.redis_store import RedisStore, ShardBatch
from functions.core import packing
from functions.core.shards import shard_of
from functions.core.timestamps import parse_us

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from functions.core.settings import Settings

BATCH_EVENTS: Final = 500
EVENTS_A_USER: Final = 10
FLYERS: Final = 2000
FLYERS_A_USER: Final = 3
MERCHANTS: Final = 100

_START_US: Final = parse_us("2026-03-02T08:00:00Z")
_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
_NAMES: Final = np.array([b"flyer_open", b"flyer_close"])
_FLYER_IDS: Final = np.array([b"flyer-%d" % number for number in range(FLYERS)])
_MERCHANT_IDS: Final = np.array([b"merchant-%d" % number for number in range(MERCHANTS)])


class Workload:
    """Some events, as columns of numbers; texts are made where they are written."""

    def __init__(self, events: int, *, users: int | None = None, seed: int = 1) -> None:
        """Make up events.

        Args:
            events: How many.
            users: Of how many users; unset: so many that each has ten. The first ones are the same for every number.
            seed: Other events of the same users.
        """
        rng = np.random.default_rng(seed)
        self.users = users or max(1, events // EVENTS_A_USER)
        self.events = events
        user = rng.permutation(np.resize(np.arange(self.users), events))
        at_ms = rng.integers(0, _DAY_MS - _HOUR_MS, self.users)[user] + rng.integers(0, _HOUR_MS, events)
        late_ms = np.where(rng.random(events) < 0.02, rng.integers(0, 6 * _HOUR_MS, events), 0)
        order = np.argsort(at_ms + late_ms)
        self.user = user[order]
        self.moment_us = _START_US + at_ms[order] * 1000
        self.is_close = rng.integers(0, 2, events)
        own = np.random.default_rng(2).integers(0, FLYERS, (self.users, FLYERS_A_USER))
        self.flyer = own[self.user, rng.integers(0, FLYERS_A_USER, events)]

    def user_ids(self) -> npt.NDArray[np.bytes_]:
        """Return the users' ids."""
        digits = np.random.default_rng(3).integers(0, 16, (self.users, 64), np.uint8)
        ids: npt.NDArray[np.bytes_] = np.frombuffer(b"0123456789abcdef", "S1")[digits].view("S64").ravel()
        return ids

    def write(self, folder: Path, *, ndjson: bool) -> None:
        """Write the events as Parquet, and as NDJSON where that is wanted, in eight files each as an archive would."""
        ids = self.user_ids()
        for part, rows in enumerate(np.array_split(np.arange(self.events), 8)):
            frame = pl.DataFrame(
                {
                    "timestamp": pl.Series(self.moment_us[rows]).cast(pl.Datetime("us", "UTC")),
                    "user_id": pl.Series(ids[self.user[rows]]).cast(pl.String),
                    "event": pl.Series(_NAMES[self.is_close[rows]]).cast(pl.String),
                    "flyer_id": pl.Series(_FLYER_IDS[self.flyer[rows]]).cast(pl.String),
                    "merchant_id": pl.Series(_MERCHANT_IDS[self.flyer[rows] % MERCHANTS]).cast(pl.String),
                }
            )
            (folder / "parquet").mkdir(parents=True, exist_ok=True)
            frame.write_parquet(folder / "parquet" / f"{part}.parquet")
            if ndjson:
                (folder / "ndjson").mkdir(exist_ok=True)
                text = pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
                frame.with_columns(text).write_ndjson(folder / "ndjson" / f"{part}.json")

    def fill(self, settings: Settings) -> None:
        """Write the events to the log, packed as ingest packs requests of 500 events."""
        asyncio.run(self._fill(settings))

    async def _fill(self, settings: Settings) -> None:
        store = RedisStore(settings)
        shards = await store.shards()
        ids = self.user_ids()
        shard_of_user = np.array([shard_of(user.decode(), shards) for user in ids.tolist()])
        for start in range(0, self.events, BATCH_EVENTS):
            rows = np.arange(start, min(start + BATCH_EVENTS, self.events))
            owner = shard_of_user[self.user[rows]]
            rows = rows[np.argsort(owner, kind="stable")]
            counts = np.bincount(owner, minlength=shards)
            ends = np.cumsum(counts).tolist()
            batches = [
                ShardBatch(shard, self._entry(rows[end - count : end], ids), count)
                for shard, (end, count) in enumerate(zip(ends, counts.tolist(), strict=True))
                if count
            ]
            await store.append(batches, window=0)
        await store.close()

    def _entry(self, rows: npt.NDArray[np.int64], ids: npt.NDArray[np.bytes_]) -> bytes:
        flyers = self.flyer[rows]
        texts = (
            ids[self.user[rows]],
            _NAMES[self.is_close[rows]],
            _FLYER_IDS[flyers],
            _MERCHANT_IDS[flyers % MERCHANTS],
        )
        columns = [column.tolist() for column in texts]
        joined = [b"".join(column) for column in columns]
        lengths = [np.fromiter(map(len, column), "<u2", len(rows)).tobytes() for column in columns]
        header = packing.HEADER.pack(packing.FORMAT, len(rows), *map(len, joined))
        return b"".join((header, self.moment_us[rows].astype("<i8").tobytes(), *lengths, *joined))
