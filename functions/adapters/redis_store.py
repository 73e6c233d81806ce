"""The store as the functions use it: append events, read the books and the runs. Asyncio, one trip a question."""

from __future__ import annotations

import secrets
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import redis
import redis.asyncio
from redis.exceptions import ClusterCrossSlotError as CrossSlotError
from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from functions.adapters import metrics, redis_client
from functions.adapters.redis_client import load_script, translated_errors
from functions.adapters.redis_durability import Durability
from functions.adapters.redis_layout import LAYOUT_FORMAT, check_layout, ledger_from
from functions.core import shards as sharding
from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError
from functions.core.naming import Digests
from functions.core.pressure import StoreLoad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.adapters.redis_cluster import AsyncClient
    from functions.core.ledger import ShardLedger
    from functions.core.settings import Settings

NO_EVICTION: Final = "noeviction"

_APPEND: Final = load_script("append")
_LEDGER: Final = load_script("ledger")


class ShardBatch(NamedTuple):
    """The events of one request for one shard, packed, with the digests that tell repeats."""

    shard: int
    entry: bytes
    events: int
    digests: Sequence[bytes] = ()
    """One an event, in the entry's order, all of one length; none at all where the events have no id."""
    duplicates: int = 0
    """Events of this shard already known to be repeats, for the ledger."""


class Appended(NamedTuple):
    """The batch is in the log."""

    entry_id: str
    pending_before: int
    pending_after: int


class Seen(NamedTuple):
    """Nothing was written: these events (positions in the batch, from 0) were accepted before."""

    positions: tuple[int, ...]


class RedisStore:
    """What every function asks of Redis; what only report does is in redis_state.py and redis_report.py."""

    def __init__(self, settings: Settings, client: AsyncClient | None = None) -> None:
        self._settings = settings
        self._redis = client or redis_client.connect_async(settings)
        self._shards: int | None = None
        self._pipeline = ""
        self._digests: Digests | None = None
        self._durability = Durability(settings)
        self.keys = sharding.Keys(settings.namespace)

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()

    async def is_new(self) -> bool:
        """Tell whether nothing has come to the store yet, not even its number of shards."""
        with translated_errors():
            return not await self._redis.exists(self.keys.layout)

    async def shards(self) -> int:
        """Return the number of shards, fixing it where the store is new.

        Raises:
            MisconfiguredError: The settings or this version of flyertime do not fit what the store holds.
        """
        if self._shards is None:
            wanted = self._settings.shards
            with translated_errors():
                pipe = self._redis.pipeline(transaction=True)
                pipe.hsetnx(self.keys.layout, "shards", str(wanted or sharding.DEFAULT_SHARDS))
                pipe.hsetnx(self.keys.layout, "format", str(LAYOUT_FORMAT))
                pipe.hsetnx(self.keys.layout, "pipeline", secrets.token_hex(8))
                pipe.hsetnx(self.keys.layout, "digest_key", secrets.token_hex(16))
                pipe.hmget(self.keys.layout, ["shards", "format", "pipeline", "digest_key"])
                shards, version, pipeline, digest_key = (await pipe.execute())[-1]
            check_layout(int(shards), int(version), wanted)
            self._shards, self._pipeline, self._digests = int(shards), pipeline.decode(), Digests(digest_key)
        return self._shards

    async def shards_now(self) -> int:
        """Return the number of shards as it is now: it changes when the store is laid out anew."""
        with translated_errors():
            held: Any = await self._redis.hget(self.keys.layout, "shards")
        if held is None or int(held) != self._shards:
            self._shards = None
        return await self.shards()

    async def pipeline(self) -> str:
        """Return what tells this pipeline from every other, also from one that this store held before."""
        await self.shards()
        return self._pipeline

    async def digests(self) -> Digests:
        """Return what makes the digests by which this store knows events: their key is made where it is new."""
        if self._digests is None:
            await self.shards()
        return cast("Digests", self._digests)

    @metrics.timed_trip("append")
    async def append(self, batches: Sequence[ShardBatch], window: int) -> list[Appended | Seen | FlyertimeError]:
        """Write each batch to its shard's log, all in one trip; each answer stands for itself.

        An answer that is no error is as durable as the settings ask for, what was seen before likewise.

        Args:
            batches: What to write, each shard at most once, all digests of one length.
            window: Number of the current dedupe window, the time divided by its length.
        """
        settings, closing = self._settings, self._durability.closing
        if not self._durability.confirmed and (fault := await self._early()) is not None:
            return [fault] * len(batches)
        digest_bytes = next((len(digest) for batch in batches for digest in batch.digests), 1)
        common = [2 * settings.dedupe_window_s, int(closing is not None), await self.shards(), digest_bytes]
        parts: list[tuple[Sequence[str], list[Any]]] = [
            (
                self.keys.appended(batch.shard, window),
                [batch.entry, batch.events, batch.duplicates, b"".join(batch.digests)],
            )
            for batch in batches
        ]
        replies: list[Any] = []
        if not self._redis.is_cluster:
            keys = list(chain.from_iterable(keys for keys, _ in parts))
            arguments = list(chain.from_iterable(arguments for _, arguments in parts))
            try:
                (reply,) = await self._call_script(_APPEND, [(keys, common + arguments)], closing)
            except CrossSlotError:
                self._redis.take_for_cluster()
            else:
                replies = [reply] * len(parts) if isinstance(reply, FlyertimeError) else reply
        if not replies:
            calls = [(keys, common + arguments) for keys, arguments in parts]
            replies = [
                reply if isinstance(reply, FlyertimeError) else reply[0]
                for reply in await self._call_script(_APPEND, calls, closing)
            ]
        return [self._append_answer(reply) for reply in replies]

    def _append_answer(self, reply: Any) -> Appended | Seen | FlyertimeError:
        if isinstance(reply, FlyertimeError):
            return reply
        if reply[0] == 1:
            return Appended(reply[1].decode(), reply[2], reply[3])
        if reply[0] == 2:
            self._shards = None  # the next request goes by what the layout says then
            return UnavailableError(
                "resharding", "the store's shards are being laid out anew, or have been: try again", retry_after_s=2
            )
        if reply[0] == 3:
            return redis_client.as_flyertime_error(ResponseError(reply[1].decode("utf-8", "replace")))
        return Seen(tuple(position - 1 for position in reply[1:]))

    async def ready(self, *, to_write: bool = False) -> None:
        """Return where the store can be used: of a cluster, some node of it.

        Args:
            to_write: Events too, as durably as the settings ask for.

        Raises:
            MisconfiguredError: Only the operator can mend it.
            UnavailableError: Not just now.
        """
        await self.shards()
        with translated_errors():
            infos = await self._redis.on_each_node("INFO")
            probed = []
            if to_write and self._durability.closing is not None:
                probed = await self._redis.on_each_node(*self._durability.probe)
        faults = [_fault_of(info, to_write=to_write) for info in infos]
        for fault in faults:
            if isinstance(fault, MisconfiguredError):
                raise fault
        if all(faults):
            raise faults[0]  # type: ignore[misc]  # none is None
        if probed:
            asked = [self._durability.fault_of(probe, info) for probe, info in zip(probed, infos, strict=True)]
            for fault in asked:
                if isinstance(fault, MisconfiguredError) or (fault is not None and all(asked)):
                    raise fault
            if (early := await self._early()) is not None:
                raise early

    @metrics.timed_trip("add_duplicates")
    async def add_duplicates(self, shard: int, events: int) -> None:
        """Count repeats of events where there is nothing to write beside them."""
        with translated_errors():
            await self._redis.hincrby(self.keys.ledger(shard), "duplicate", events)

    @metrics.timed_trip("ledgers")
    async def ledgers(self) -> list[ShardLedger]:
        """Return every shard's books."""
        ledgers = []
        for shard, reply in enumerate(await self._call_script(_LEDGER, self._ledger_calls(await self.shards_now()))):
            if isinstance(reply, FlyertimeError):
                raise reply
            ledgers.append(ledger_from(shard, reply))
        return ledgers

    def _ledger_calls(self, shards: int) -> list[tuple[list[str], list[Any]]]:
        return [([self.keys.ledger(shard), self.keys.events(shard)], []) for shard in range(shards)]

    @metrics.timed_trip("load")
    async def load(self) -> StoreLoad:
        """Return how much is pending and how full the store is: of a cluster the fullest node, of those that answer."""
        replies = await self._call_script(_LEDGER, self._ledger_calls(await self.shards_now()))
        books = [
            ledger_from(shard, reply) for shard, reply in enumerate(replies) if not isinstance(reply, FlyertimeError)
        ]
        memories = await self._each_node("INFO", "memory")
        used = [(int(memory["used_memory"]), int(memory.get("maxmemory", 0))) for memory in memories]
        fullest = max(used, key=lambda node: node[0] / node[1] if node[1] else 0.0)
        return StoreLoad(sum(ledger.pending for ledger in books), *fullest)

    @metrics.timed_trip("time")
    async def now_ms(self) -> int:
        """Return the store's time, which stamps the log, in milliseconds since 1970; of a cluster the latest."""
        times = await self._each_node("TIME")
        return max(int(seconds) * 1000 + int(microseconds) // 1000 for seconds, microseconds in times)

    @metrics.timed_trip("request_flush")
    async def request_flush(self) -> int:
        """Ask that everything received until now be folded without delay; return that moment in milliseconds."""
        now_ms = await self.now_ms()
        with translated_errors():
            await self._redis.set(self.keys.flush, now_ms)
        return now_ms

    async def request_flush_for_reader(self) -> int | None:
        """Likewise, at most once in FLYERTIME_READER_FLUSH_INTERVAL_S for all readers; None where one just did."""
        pause_ms = int(self._settings.reader_flush_interval_s * 1000)
        if pause_ms:
            with translated_errors():
                if not await self._redis.set(self.keys.flush_pause, 1, nx=True, px=pause_ms):
                    return None
        return await self.request_flush()

    @metrics.timed_trip("flush_requested")
    async def flush_requested_ms(self) -> int | None:
        """Return up to which moment a flush was asked for; None where none ever was."""
        with translated_errors():
            value = await self._redis.get(self.keys.flush)
        return None if value is None else int(value)

    @metrics.timed_trip("runs")
    async def runs(self, count: int = 10) -> list[dict[str, str]]:
        """Return what the last runs did, the newest first."""
        with translated_errors():
            entries: Any = await self._redis.xrevrange(self.keys.runs, count=count)
        return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]

    async def _call_script(
        self,
        script: redis_client.Script,
        calls: Sequence[tuple[Sequence[str], list[Any]]],
        closing: tuple[Any, ...] | None = None,
    ) -> list[Any | FlyertimeError]:
        """Call a script once for each (keys, arguments), a trip to each node; an error stands in its reply's place."""
        replies = await self._evaluate(("EVALSHA", script.sha), calls, closing)
        unknown = [place for place, (reply, _) in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:  # the store was restarted, or is new: nothing of these calls was done
            again = await self._evaluate(("EVAL", script.text), [calls[place] for place in unknown], closing)
            for place, reply in zip(unknown, again, strict=True):
                replies[place] = reply
        return [
            redis_client.as_flyertime_error(reply)
            if isinstance(reply, redis.RedisError | OSError)
            else (self._durability.shortfall(closed) if closing is not None else None) or reply
            for reply, closed in replies
        ]

    async def _evaluate(
        self, how: tuple[str, str], calls: Sequence[tuple[Sequence[str], list[Any]]], closing: tuple[Any, ...] | None
    ) -> list[tuple[Any, Any]]:
        """Return each call's reply, and that to the closing command of its node."""
        pipe = self._redis.pipeline(transaction=False)
        for keys, arguments in calls:
            pipe.execute_command(*how, len(keys), *keys, *arguments)
        try:
            replies = await pipe.execute_closed(closing)
        except (redis.RedisError, OSError) as e:  # the connection as a whole: no call is known to have been done
            return [(e, None)] * len(calls)
        for reply, _ in replies:
            if isinstance(reply, CrossSlotError):  # whose keys are of several shards has to know what they are on
                raise reply
        return replies

    async def _early(self) -> FlyertimeError | None:
        """Return the fault of a node that says too early that something is on disk; remember where there is none."""
        infos = await self._redis.on_each_node("INFO")
        configs = await self._redis.on_each_node("CONFIG GET", "appendfsync")
        faults = [self._durability.early(info, config) for info, config in zip(infos, configs, strict=True)]
        self._durability.confirmed = not any(faults) and any(isinstance(info, dict) for info in infos)
        return next(filter(None, faults), None)

    async def _each_node(self, *command: str) -> list[Any]:
        """Return the reply of every node that answers."""
        with translated_errors():
            replies = await self._redis.on_each_node(*command)
            answers = [reply for reply in replies if not isinstance(reply, BaseException)]
            if not answers:
                raise replies[0]
        return answers


def _fault_of(info: Any, *, to_write: bool) -> FlyertimeError | None:
    """Return what keeps a node from work, by its INFO; None where nothing does, or where our user may not ask."""
    if isinstance(info, NoPermissionError):
        return None
    if isinstance(info, redis.RedisError | OSError):
        return redis_client.as_flyertime_error(info)
    if info.get("loading"):
        return UnavailableError("store_loading", "the store is loading its data", retry_after_s=2)
    if to_write and info.get("role") == "slave":
        return UnavailableError("store_read_only", "the store is a replica just now", retry_after_s=2)
    policy = info.get("maxmemory_policy", NO_EVICTION)
    if to_write and policy != NO_EVICTION and info.get("maxmemory"):
        return MisconfiguredError(
            "store_evicts",
            f"a full store would drop events (maxmemory-policy is {policy}); set maxmemory-policy to {NO_EVICTION}",
        )
    return None
