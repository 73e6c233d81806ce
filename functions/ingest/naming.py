"""What an event is called: the id that the sender is told, and the digest that tells a repeat. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

DIGEST_BYTES: Final = 12
"""96 bits: among a thousand million ids in a window, the chance that any two collide is below 10^-11."""


ARRAY_SOURCE: Final = "idempotency-key"
"""What stands for the source of a raw array, whose name is its Idempotency-Key."""


def list_ids(name: str, events: int) -> list[str]:
    """Return what the events of a list are called that came under one name: ``name#position``."""
    return [f"{name}#{position}" for position in range(events)]


def digests_of(source: str, ids: Iterable[str]) -> list[bytes]:
    """Return the digests of events that came by themselves, from one source."""
    return _digests(f"{len(source)}:{source}", ids)


def list_digests(source: str, name: str, events: int) -> list[bytes]:
    """Return the digests of events that came as a list under one name; no event that came by itself has such a one."""
    return _digests(f"{len(source)}#{source}", [f"{position}:{name}" for position in range(events)])


def _digests(beginning: str, names: Iterable[str]) -> list[bytes]:
    """Return the digest of each name; the length in the beginning keeps apart what the joined texts would not."""
    begun = hashlib.blake2b(beginning.encode(), digest_size=DIGEST_BYTES)
    digests: list[bytes] = []
    for name in names:
        digest = begun.copy()
        digest.update(name.encode())
        digests.append(digest.digest())
    return digests
