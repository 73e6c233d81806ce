"""The books: what each shard has accepted and folded, and what is still pending.

Per shard, at every moment, ``accepted = folded + pending + erased``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class ShardLedger:
    """The counters of one shard, in events, and where its fold stands."""

    shard: int
    accepted: int = 0
    duplicate: int = 0
    folded: int = 0
    erased: int = 0
    """Taken out of the log before they were folded, since their user was erased."""
    folded_to: str = "0-0"
    """Id of the last folded entry of the log."""
    commits: int = 0
    """Bumped by every commit: what a task read is what it may replace."""
    version: int = 0
    """When (microseconds since 1970, Redis clock) a commit last changed what the report shows; 0 before the first.

    Always grows; the report's ETag is made of these.
    """
    backfilled: int = 0
    """Flyer events of history that went into the state without passing the log."""
    archived: int = 0
    """Events of the log in the archive's files."""
    archived_erased: int = 0
    """Events that were in them until their user was erased."""
    history_archived: int = 0
    """Flyer events of history in the archive's files."""
    history_archived_erased: int = 0
    swaps: int = 0
    """Bumped whenever files of the archive take the place of others."""
    loose: int = 0
    """Files put on record since."""
    fence: int = 0
    """Generation for whose switch no commit is let through; 0 where all are."""
    oldest_pending_ms: int | None = None
    """When Redis received the oldest pending event; None where nothing is pending."""
    newest_id: str | None = None
    """Id of the newest pending entry; None where nothing is pending."""

    @property
    def pending(self) -> int:
        """Events accepted and neither folded nor erased."""
        return self.accepted - self.folded - self.erased


@dataclass(frozen=True, slots=True)
class Backlog:
    """All shards together, as trigger needs them."""

    pending_events: int
    oldest_pending_ms: int | None
    digest: str
    """Follows from the pipeline and its shards' ``folded_to``: equal digests mean that the same work is to be done."""


def backlog_of(ledgers: Sequence[ShardLedger], pipeline: str = "") -> Backlog:
    """Sum up the shards.

    ``pipeline`` names store and namespace: two pipelines that are both at their beginning have different work to do.
    """
    ages_ms = [ledger.oldest_pending_ms for ledger in ledgers if ledger.oldest_pending_ms is not None]
    positions = ",".join([pipeline, *(ledger.folded_to for ledger in ledgers)])
    return Backlog(
        pending_events=sum(ledger.pending for ledger in ledgers),
        oldest_pending_ms=min(ages_ms, default=None),
        digest=hashlib.sha256(positions.encode()).hexdigest()[:12],
    )


def position_of(entry_id: str) -> tuple[int, int]:
    """Return a log entry's id as numbers, in whose order the log is."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)
