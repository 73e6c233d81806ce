"""What an event is called: the id that the sender is told, and the digest that tells a repeat. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Final, overload

from xxhash import xxh3_128_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DIGEST_BYTES: Final = 12
"""96 bits: among a thousand million ids of a source in a window, the chance that any two collide is below 10^-11.

Among a million sources, the chance that the digests of any two start alike, so that equal ids have equal ones, is below
10^-7."""


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


class Digests:
    """Makes digests under the secret key of a store: all who write to it make the same ones.

    XXH3 is no cryptographic hash, but it starts from a number that follows from key and source by one that is
    (BLAKE2b): who knows neither number cannot find an id that has the digest of another source's event, and ids of one
    source that share a digest would cost only whoever chose them. Against chance XXH3 is as good as any, in a third of
    the time that BLAKE2b took for each event.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, source: str, ids: Iterable[str]) -> list[bytes]:
        """Return the digests of events that came by themselves, from one source."""
        seed = _seed(self._key, _BY_ITSELF, source)
        return list(map(_CUT, map(xxh3_128_digest, map(str.encode, ids), repeat(seed))))

    def of_list(self, source: str, name: str, events: int) -> list[bytes]:
        """Return the digests of events that came as a list under one name.

        They are numbers in a row that begins at the digest of the list: one digest is made for all. That two rows of a
        thousand meet is two thousand times as likely as that two digests are equal, and there are a thousandth as many
        rows, so a thousand million events are as safe as if each had a digest of its own.
        """
        first = self._first_of_list(source, name)
        return [((first + position) % _DIGESTS).to_bytes(DIGEST_BYTES, "big") for position in range(events)]

    def of_item(self, source: str, name: str, position: int) -> bytes:
        """Return the digest of one event of such a list."""
        return ((self._first_of_list(source, name) + position) % _DIGESTS).to_bytes(DIGEST_BYTES, "big")

    def _first_of_list(self, source: str, name: str) -> int:
        digest = xxh3_128_digest(name.encode(), _seed(self._key, _IN_LIST, source))
        return int.from_bytes(digest[:DIGEST_BYTES], "big")


def item_of(event_id: str, place: object) -> tuple[str, int] | None:
    """Return the name and the position of a list's item from its id and its attribute; None where they do not fit."""
    text = str(place) if isinstance(place, int) and not isinstance(place, bool) else place
    if not isinstance(text, str) or not _PLACE.fullmatch(text):
        return None
    name = event_id.removesuffix(f"#{text}")
    return (name, int(text)) if name and name != event_id else None


_PLACE: Final = re.compile(r"0|[1-9][0-9]{0,8}")


_CUT: Final = itemgetter(slice(DIGEST_BYTES))
_DIGESTS: Final = 1 << 8 * DIGEST_BYTES
_BY_ITSELF: Final = b"by itself"
_IN_LIST: Final = b"in a list"
_SEED_BYTES: Final = 8


@lru_cache(4096)
def _seed(key: bytes, kind: bytes, source: str) -> int:
    """Return where the digests of a source's events start from."""
    digest = hashlib.blake2b(source.encode(), digest_size=_SEED_BYTES, key=key, person=kind)
    return int.from_bytes(digest.digest(), "big")
