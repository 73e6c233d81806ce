"""What an event is called: the id that the sender is told, and the digest that tells a repeat. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, overload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DIGEST_BYTES: Final = 12
"""96 bits: among a thousand million ids in a window, the chance that any two collide is below 10^-11."""


ARRAY_SOURCE: Final = "idempotency-key"
"""What stands for the source of a raw array, whose name is its Idempotency-Key."""


MAX_KEY_CHARACTERS: Final = 255
"""Of an Idempotency-Key: it is repeated in the name of each event of its array."""
POSITION: Final = "flyertimeposition"
"""Attribute of a CloudEvent that was an item of a list: its place there, from 0. With it an event that is sent again by
itself (as those that were rejected and then corrected are) is the same event as in its list. Its id is
``name#position``, its source that of the list, or `ARRAY_SOURCE`."""


class ListIds(Sequence[str]):
    """What the events of a list are called that came under one name: ``name#position``.

    Each is made when it is asked for: a sender that wants no more than counts is told none of them.
    """

    __slots__ = ("_name", "_positions")

    def __init__(self, name: str, events: int) -> None:
        self._name = name
        self._positions = range(events)

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self._positions)

    def __iter__(self) -> Iterator[str]:
        """Return all in order."""
        beginning = f"{self._name}#"
        return (f"{beginning}{position}" for position in self._positions)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        """Return one, or a stretch of them."""
        if isinstance(place, slice):
            return list(self)[place]
        return f"{self._name}#{self._positions[place]}"


def digests_of(source: str, ids: Iterable[str]) -> list[bytes]:
    """Return the digests of events that came by themselves, from one source."""
    return _digests(f"{len(source)}:{source}", ids)


def list_digests(source: str, name: str, events: int) -> list[bytes]:
    """Return the digests of events that came as a list under one name; no event that came by itself has such a one.

    They are numbers in a row that begins at the digest of the list: one digest is made for all. That two rows of a
    thousand meet is two thousand times as likely as that two digests are equal, and there are a thousandth as many
    rows, so a thousand million events are as safe as if each had a digest of its own.
    """
    first = _first_of_list(source, name)
    return [((first + position) % _DIGESTS).to_bytes(DIGEST_BYTES, "big") for position in range(events)]


def list_digest(source: str, name: str, position: int) -> bytes:
    """Return the digest of one event of such a list."""
    return ((_first_of_list(source, name) + position) % _DIGESTS).to_bytes(DIGEST_BYTES, "big")


def item_of(event_id: str, place: object) -> tuple[str, int] | None:
    """Return the name and the position of a list's item from its id and its attribute; None where they do not fit."""
    text = str(place) if isinstance(place, int) and not isinstance(place, bool) else place
    if not isinstance(text, str) or not _PLACE.fullmatch(text):
        return None
    name = event_id.removesuffix(f"#{text}")
    return (name, int(text)) if name and name != event_id else None


_PLACE: Final = re.compile(r"0|[1-9][0-9]{0,8}")


_DIGESTS: Final = 1 << 8 * DIGEST_BYTES


def _first_of_list(source: str, name: str) -> int:
    (digest,) = _digests(f"{len(source)}#{source}", (name,))
    return int.from_bytes(digest, "big")


def _digests(beginning: str, names: Iterable[str]) -> list[bytes]:
    """Return the digest of each name; the length in the beginning keeps apart what the joined texts would not."""
    begun = hashlib.blake2b(beginning.encode(), digest_size=DIGEST_BYTES)
    digests: list[bytes] = []
    for name in names:
        digest = begun.copy()
        digest.update(name.encode())
        digests.append(digest.digest())
    return digests
