"""When a write counts as done: what follows an append on its connection, and what the reply to that means.

WAIT and WAITAOF (https://valkey.io/commands/waitaof) wait for the writes of their own connection, and thereby for all
that came before these. So they go right behind the appends, and an append that only found known events writes something
small: a repeat is told only when what it repeats is as safe as was asked for.

With ``appendfsync everysec`` Valkey (9.1 too) and Redis before 8 answer WAITAOF as soon as the file is written, and
sync it up to a second later (https://github.com/redis/redis/pull/13793): there only ``always`` is good for fsync.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import redis

from functions.adapters.redis_client import as_flyertime_error
from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError
from functions.core.settings import FSYNC, MEMORY

if TYPE_CHECKING:
    from functions.core.settings import Settings

_PROBE_MS: Final = 1
_OFF: Final = "appendonly is disabled"
_UNKNOWN: Final = "unknown command"


class Durability:
    """What was asked for."""

    def __init__(self, settings: Settings) -> None:
        self._fsync = settings.durability == FSYNC
        self._replicas = settings.durability_replicas
        self.confirmed = not self._fsync
        """Whether the store is known to say rightly what is on disk, where that is asked for."""
        self.closing: tuple[Any, ...] | None = None
        """The command behind the appends of a trip; None where memory is enough."""
        if settings.durability != MEMORY:
            self.closing = self._command(round(settings.durability_timeout_s * 1000))

    @property
    def probe(self) -> tuple[Any, ...]:
        """The same command, waiting for next to nothing."""
        return self._command(_PROBE_MS)

    def shortfall(self, reply: object) -> FlyertimeError | None:
        """Return what the reply to the closing command falls short of; None where all is as asked for."""
        fault = self.fault(reply)
        if fault is not None:
            return fault
        if self._fsync:
            local = reply[0] if isinstance(reply, list | tuple) else 0
            return None if local >= 1 else UnavailableError("not_durable", "the store has not yet written this to disk")
        have = reply if isinstance(reply, int) else 0
        if have >= self._replicas:
            return None
        return UnavailableError("not_durable", f"{have} of {self._replicas} replicas have this so far")

    def fault(self, reply: object) -> FlyertimeError | None:
        """Return why the store cannot do what was asked for at all, or not now."""
        if not isinstance(reply, redis.RedisError | OSError):
            return None
        text = str(reply)
        if _OFF in text:
            return MisconfiguredError(
                "durability_off",
                "FLYERTIME_DURABILITY is fsync, but the store keeps no append-only file; set its appendonly to yes, or "
                "FLYERTIME_DURABILITY to replicas or memory",
            )
        if text.startswith(_UNKNOWN):
            return MisconfiguredError(
                "durability_unknown",
                "FLYERTIME_DURABILITY is fsync, which needs WAITAOF: Redis 7.2 or Valkey; set it to replicas or memory",
            )
        if "replica instances" in text or text.startswith("UNBLOCKED"):
            return UnavailableError("store_read_only", "the store is a replica just now", retry_after_s=2)
        return as_flyertime_error(reply)

    def fault_of(self, probe: object, info: Any) -> FlyertimeError | None:
        """Return what a node falls short of, by its replies to the probe and to INFO."""
        fault = self.fault(probe)
        if fault is not None or self._fsync or not isinstance(info, dict):
            return fault
        have = int(info.get("connected_slaves", 0))
        if have >= self._replicas:
            return None
        return UnavailableError(
            "too_few_replicas",
            f"{have} replicas are connected, but FLYERTIME_DURABILITY_REPLICAS is {self._replicas}",
            retry_after_s=5,
        )

    def early(self, info: Any, config: Any) -> MisconfiguredError | None:
        """Return what is wrong with a node that says too early that something is on disk, by its INFO and CONFIG GET.

        A node that does not answer, or does not let our user ask, is taken at its word.
        """
        if not self._fsync or not isinstance(info, dict) or not isinstance(config, dict):
            return None
        waits = "valkey_version" not in info and str(info.get("redis_version", "")).partition(".")[0] >= "8"
        if waits or config.get("appendfsync") != "everysec" or not info.get("aof_enabled"):
            return None
        return MisconfiguredError(
            "durability_early",
            "FLYERTIME_DURABILITY is fsync, but with appendfsync everysec this store says that something is on disk "
            "before it is; set its appendfsync to always, or FLYERTIME_DURABILITY to replicas or memory",
        )

    def _command(self, timeout_ms: int) -> tuple[Any, ...]:
        return ("WAITAOF", 1, 0, timeout_ms) if self._fsync else ("WAIT", self._replicas, timeout_ms)
