"""The store as erasing uses it: a user out of the log, the state and the report, and the record of what that was."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functions.adapters.redis_archive import MOVED_TO, ArchiveStore
from functions.adapters.redis_client import load_script, translated_errors
from functions.core import shards as sharding
from functions.core import span_packing

if TYPE_CHECKING:
    from collections.abc import Iterable

_ERASE_PENDING: Final = load_script("erase_pending")
_ERASE_USER: Final = load_script("erase_user")
LEASE_S: Final = 2.0
"""Who makes a shard's log anew is taken to be gone after so long without a step."""
ENTRIES_A_STEP: Final = 500
BYTES_A_STEP: Final = 1 << 20


class ChangedEntry(NamedTuple):
    """A log entry that loses events."""

    id: str
    content: bytes
    """The new one; empty where the entry goes."""
    fewer: int
    """Events that it loses."""


class ErasureStore(ArchiveStore):
    """An archive's store that also takes users out.

    What is taken out is counted under a name of the user that does not tell who that is, in the step that takes it out,
    and stays on record until a receipt was given.
    """

    def begin_log(self, shard: int, token: str) -> bool:
        """Begin to make a shard's log anew; tell whether nobody else is at it."""
        return bool(self._log_step(shard, "begin", token, int(LEASE_S * 1_000_000)))

    def copy_log(self, shard: int, token: str, upto: str, changed: Iterable[ChangedEntry]) -> bool:
        """Copy what the log has up to an entry, some of it changed; tell whether nobody else has begun."""
        return bool(self._log_step(shard, "copy", token, upto, *(value for entry in changed for value in entry)))

    def finish_log(self, shard: int, token: str, name: str) -> bool | None:
        """Copy some of the rest as it is; where that is all, let the new log be the log.

        Returns:
            Whether it is; None where somebody else has begun.
        """
        arguments = (ENTRIES_A_STEP, BYTES_A_STEP, f"{name}:pending_events")
        step = self._log_step(shard, "finish", token, *arguments)
        return step == 2 if step else None  # as the script has it

    def _log_step(self, shard: int, act: str, token: str, *arguments: Any) -> int:
        keys = self.keys
        names = [keys.ledger(shard), keys.events(shard), *keys.erasing(shard), keys.erasures(shard)]
        return int(self._call(_ERASE_PENDING, names, [act, token, *arguments]))

    def erase_state(self, shard: int, user: bytes, name: str, generation: int | None = None) -> int:
        """Take a user out of state and report, overall and every merchant's; return the version of the report then.

        Waits while a rebuild switches to its own generation of them.

        Args:
            shard: The user's.
            user: Whom.
            name: Under which that is counted; empty: it is not.
            generation: Of the state; by default the live one.
        """
        while True:
            self.open_ledger(shard)
            keys = self.keys if generation is None else sharding.Keys(self.keys.namespace, generation)
            with translated_errors():
                held: Any = self._redis.smembers(keys.merchants(shard))
                spans: Any = self._redis.hget(keys.spans(shard), user) or b""
            merchants = sorted(held)
            names = [keys.ledger(shard), keys.spans(shard), keys.averages(shard), keys.versions(shard)]
            names += [keys.erasures(shard), keys.summaries(shard)]
            names += [*(keys.averages(shard, merchant.decode()) for merchant in merchants)]
            reply = self._call(_ERASE_USER, names, [user, spans, *_sizes_of(spans), name, *merchants])
            if reply[0] == b"erased":
                return int(reply[1])

    def other_generations(self) -> list[int]:
        """Return all generations but the live one: of rebuilds that go on, that ended, or that broke off."""
        with translated_errors():
            held: Any = self._redis.hmget(self.keys.layout, ["generations", "generation"])
        last, live = (int(value or 0) for value in held)
        return [generation for generation in range(last + 1) if generation != live]

    def erased(self, shard: int, name: str) -> Counter[str]:
        """Return what was taken out of a shard under a name, by kind."""
        found: Counter[str] = Counter()
        for key_shard in {shard, MOVED_TO}:
            for field, count in self.erasures(key_shard).items():
                whose, _, kind = field.partition(":")
                if whose == name:
                    found[kind] += count
        return found

    def forget_erased(self, shard: int, name: str) -> None:
        """Forget that: the receipt was given."""
        for key_shard in {shard, MOVED_TO}:
            if fields := [field for field in self.erasures(key_shard) if field.startswith(f"{name}:")]:
                with translated_errors():
                    self._redis.hdel(self.keys.erasures(key_shard), *fields)


def _sizes_of(spans: bytes) -> tuple[int, int]:
    """Return how many spans these are, and the events in them; nothing where they cannot be read."""
    try:
        held = span_packing.unpack_spans(spans) if spans else {}
    except ValueError:
        held = {}
    return len(held), sum(span.events for span in held.values())
