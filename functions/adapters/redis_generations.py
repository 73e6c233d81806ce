"""The store as a rebuild uses it: another generation of the state beside the live one, and the switch to it.

Who is live is one field of the layout, which readers and runs look at. Each shard is fenced while that is decided: a
commit would be in one generation only. Whoever finds a fence that nobody lifts asks the layout, and lifts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from functions.adapters.redis_archive import ArchiveStore
from functions.adapters.redis_client import load_script, translated_errors
from functions.adapters.redis_layout import ledger_from
from functions.adapters.redis_shard import GENERATION, Superseded
from functions.core import shards as sharding
from functions.core.errors import FlyertimeError

if TYPE_CHECKING:
    from functions.adapters.redis_shard import Change, Committed
    from functions.core.ledger import ShardLedger
    from functions.core.settings import Settings

_FENCE: Final = load_script("fence")
_BEGIN_SHARD: Final = load_script("begin_shard")
_DROP: Final = load_script("drop_generation")
_LEDGER: Final = load_script("ledger")
MERCHANTS_A_STEP: Final = 500


class DroppedError(FlyertimeError):
    """The generation that is being built was deleted meanwhile: it will never become the live one."""

    def __init__(self, generation: int) -> None:
        super().__init__(
            "generation_dropped",
            f"generation {generation} of the state is gone: another rebuild or a resharding came in between; "
            "start it again",
        )


class BuildingKeys(sharding.Keys):
    """The keys of a generation that is not live: its books are its own."""

    __slots__ = ()

    def ledger(self, shard: int) -> str:
        """Hash: the generation's counters."""
        return self.built(shard)

    def backfilled(self, shard: int) -> str:
        """Hash: path of a file of the archive to how many of its rows are counted."""
        return self._state(shard, "counted")


class BuildingStore(ArchiveStore):
    """A shard store of a generation that is not live; its commits go there."""

    def __init__(self, settings: Settings, generation: int) -> None:
        super().__init__(settings)
        self.keys = BuildingKeys(settings.namespace, generation)

    def ledger(self, shard: int) -> ShardLedger:
        """Return the generation's books."""
        return ledger_from(shard, self._call(_LEDGER, [self.keys.ledger(shard), self.keys.events(shard)], []))

    def counted(self, shard: int) -> dict[str, int]:
        """Return how many rows of each file are counted."""
        with translated_errors():
            held: Any = self._redis.hgetall(self.keys.backfilled(shard))
        return {path.decode(): int(rows) for path, rows in held.items()}

    def forget_counted(self, shard: int) -> None:
        """Delete what tells which files are counted: nobody builds this generation any more."""
        with translated_errors():
            self._redis.unlink(self.keys.backfilled(shard))

    def begin_shard(self, shard: int, commits: int, swaps: int) -> bool:
        """Make the generation's part of a shard empty; tell whether nobody else has gone on with it.

        Raises:
            DroppedError: The generation was dropped.
        """
        with translated_errors():
            held: Any = self._redis.smembers(self.keys.merchants(shard))
        keys = self.keys
        names = [keys.spans(shard), keys.averages(shard), keys.versions(shard), keys.backfilled(shard)]
        names += [
            keys.summaries(shard),
            *(keys.averages(shard, merchant.decode()) for merchant in held),
            keys.merchants(shard),
        ]
        live = sharding.Keys(keys.namespace).ledger(shard)
        reply = self._call(_BEGIN_SHARD, [keys.ledger(shard), live, *names], [commits, swaps, keys.generation])
        return _unless_dropped(reply, keys.generation)

    def commit(self, change: Change) -> Committed | Superseded:
        """Replace the generation's part of a shard by the change, unless somebody else has gone on with it.

        It must have been begun: so nothing is written once it was dropped, which only ``begin_shard`` looks at.
        """
        if not change.commits:
            return Superseded("changed")
        return super().commit(change)

    def summed(self, ledger: ShardLedger) -> set[bytes]:
        """Return the merchants whose summaries the live generation has: they are asked for; and an empty name."""
        live = sharding.Keys(self.keys.namespace, self.live_generation())
        return {*self.summed_in(live, ledger.shard), b""}


class GenerationStore(ArchiveStore):
    """An archive's store that also begins, switches and drops generations."""

    def begin_generation(self) -> int:
        """Return the number of a generation that nobody has used, and that alone may become the live one next."""
        return int(self._call(GENERATION, [self.keys.layout], ["begin", "", ""]))

    def switch_to(self, generation: int, shards: int | None = None) -> bool:
        """Make a generation the live one, perhaps of another number of shards; tell whether it is.

        It is not where another one has been begun meanwhile, or it was given up.
        """
        return bool(self._call(GENERATION, [self.keys.layout], ["switch", generation, shards or ""]) == generation)

    def fence(self, ledger: ShardLedger, built: ShardLedger, generation: int) -> bool:
        """Let no commit through, unless the shard or the generation has changed since their books were read.

        Raises:
            DroppedError: The generation was dropped.
        """
        keys = [self.keys.ledger(ledger.shard), BuildingKeys(self.keys.namespace, generation).ledger(ledger.shard)]
        reply = self._call(_FENCE, keys, [ledger.commits, ledger.swaps, built.commits, generation])
        return _unless_dropped(reply, generation)

    def dead_generations(self) -> list[int]:
        """Return those that are neither live nor being built; some may hold nothing any more."""
        with translated_errors():
            held: Any = self._redis.hmget(self.keys.layout, ["generations", "generation", "building"])
        last, live, building = (int(value or 0) for value in held)
        return [generation for generation in range(last + 1) if generation not in {live, building or live}]

    def drop_generation(self, shard: int, generation: int, *, used: bool = True) -> None:
        """Delete what a generation that is not live holds of a shard, in bounded steps; who builds it finds that out.

        Args:
            shard: Which one.
            generation: Likewise.
            used: Whether the shard is surely one of the store's.
        """
        keys = BuildingKeys(self.keys.namespace, generation)
        self._call(_DROP, [self.keys.ledger(shard), keys.ledger(shard)], [generation, int(used)])
        merchants = keys.merchants(shard)
        while True:
            with translated_errors():
                some: Any = self._redis.srandmember(merchants, MERCHANTS_A_STEP)
                if not some:
                    break
                self._redis.unlink(*(keys.averages(shard, merchant.decode()) for merchant in some))
                self._redis.srem(merchants, *some)
        with translated_errors():
            names = [keys.spans(shard), keys.averages(shard), keys.versions(shard), keys.backfilled(shard)]
            self._redis.unlink(*names, keys.summaries(shard))


def _unless_dropped(reply: int, generation: int) -> bool:
    if reply < 0:
        raise DroppedError(generation)
    return reply == 1
