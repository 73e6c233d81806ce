"""When the store has as much as it should: decided before anything breaks, so that folding still can."""

from __future__ import annotations

from dataclasses import dataclass

from functions.core.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class StoreLoad:
    """What the store holds."""

    pending_events: int
    used_memory_bytes: int
    max_memory_bytes: int
    """0 where it has no limit."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """How much of it is too much."""

    pending_events: int
    """0: no limit."""
    memory_ratio: float
    """Of the store's own limit; 1 leaves it to the store, which then refuses every write, the fold's too."""

    def refusal(self, load: StoreLoad) -> UnavailableError | None:
        """Return what senders are told while the load is beyond this; None while it is not."""
        if self.pending_events and load.pending_events >= self.pending_events:
            return UnavailableError(
                "backlog_full", f"{load.pending_events} events wait to be folded; no more are taken", retry_after_s=10
            )
        if load.max_memory_bytes and load.used_memory_bytes >= self.memory_ratio * load.max_memory_bytes:
            used_percent = 100 * load.used_memory_bytes // load.max_memory_bytes
            return UnavailableError(
                "store_nearly_full", f"{used_percent} % of the store's memory is in use", retry_after_s=10
            )
        return None
