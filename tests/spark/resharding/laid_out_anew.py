"""Events for stores that are laid out anew, and what to find there afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from functions.adapters.redis_checks import CheckedStore
from functions.core.events import Event
from spark.keeping import archive_of
from spark.verifying import verify_shard

if TYPE_CHECKING:
    from functions.core.settings import Settings


ROOT = Path(__file__).parents[3]
EVENTS = [
    Event(number * 977_000_000, f"u{number % 23}", "flyer_open", f"f{number % 3}", f"m{number % 4 % 3}")
    for number in range(400)
]


def deviations(settings: Settings) -> list[str]:
    """Verify all shards."""
    store = CheckedStore(settings)
    archive = archive_of(settings, store)
    found = [verify_shard(store, archive, shard) for shard in range(store.shards())]
    store.close()
    assert all(findings.recomputed for findings in found if archive)
    return [deviation for findings in found for deviation in findings.deviations]
