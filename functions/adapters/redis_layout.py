"""What the store says of itself: how it is laid out, and the books of its shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from functions.core.errors import MisconfiguredError
from functions.core.ledger import ShardLedger

if TYPE_CHECKING:
    from collections.abc import Sequence

LAYOUT_FORMAT: Final = 1
"""Version of the keys and values of docs/architecture.md; a store of another one is not touched."""

_COUNTS: Final = frozenset(
    (
        *("accepted", "duplicate", "folded", "erased", "commits", "version", "backfilled"),
        *("archived", "archived_erased", "history_archived", "history_archived_erased", "swaps", "loose", "fence"),
    )
)
"""Fields of a ledger that are whole numbers."""


def check_layout(held_shards: int, held_format: int, wanted_shards: int | None) -> None:
    """Check that this process and the store agree.

    Raises:
        MisconfiguredError: They do not.
    """
    if held_format != LAYOUT_FORMAT:
        raise MisconfiguredError(
            "layout_format", f"the store has layout {held_format}, this version of flyertime reads {LAYOUT_FORMAT}"
        )
    if wanted_shards is not None and wanted_shards != held_shards:
        raise MisconfiguredError(
            "layout_shards",
            f"FLYERTIME_SHARDS is {wanted_shards}, but the store was laid out with {held_shards} shards; unset it, "
            "or use another namespace",
        )


def ledger_from(shard: int, reply: Sequence[bytes]) -> ShardLedger:
    """Return the books that the ledger script's reply describes."""
    oldest = reply[0].decode()
    fields = {name.decode(): value.decode() for name, value in zip(reply[2::2], reply[3::2], strict=True)}
    counts = {name: int(value) for name, value in fields.items() if name in _COUNTS}
    return ShardLedger(
        shard=shard,
        folded_to=fields.get("folded_to", "0-0"),
        oldest_pending_ms=int(oldest.partition("-")[0]) if oldest else None,
        newest_id=reply[1].decode() or None,
        **counts,
    )
