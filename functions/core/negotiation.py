"""What a client takes: formats by ``Accept``, codings by ``Accept-Encoding`` (RFC 9110 §12.5). Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_QUALITY: Final = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


class Wish(NamedTuple):
    """A media range or a coding, and how welcome it is."""

    name: str
    quality: float


def wishes_of(header: str) -> Iterator[Wish]:
    """Yield what a header lists, in lower case; a quality that makes no sense counts as 1, other parameters as none."""
    for part in header.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name:
            quality = 1.0
            for parameter in parameters:
                key, _, value = parameter.partition("=")
                if key.strip().lower() == "q" and _QUALITY.fullmatch(value.strip()):
                    quality = float(value)
            yield Wish(name.lower(), quality)


def preferred_type(accept: str | None, offered: Sequence[str]) -> str | None:
    """Return the media type that the client likes best, the first offered among equals; None: it takes none."""
    wishes = [*wishes_of(accept or "*/*")] or [Wish("*/*", 1.0)]
    best, best_quality = None, 0.0
    for media_type in offered:
        quality = _quality(media_type, wishes)
        if quality > best_quality:
            best, best_quality = media_type, quality
    return best


def _quality(media_type: str, wishes: Sequence[Wish]) -> float:
    """Return the quality that the most specific of the ranges that fit gives (RFC 9110 §12.5.1)."""
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    for name in ranges:
        fitting = [wish.quality for wish in wishes if wish.name == name]
        if fitting:
            return max(fitting)
    return 0.0


@lru_cache(256)  # a client sends the same header each time
def preferred_coding(accept_encoding: str | None, offered: tuple[str, ...]) -> str | None:
    """Return the content coding to use, among equals the one offered first; None: none, as where nothing is said."""
    if not accept_encoding:
        return None
    qualities = {wish.name: wish.quality for wish in wishes_of(accept_encoding)}
    qualities["gzip"] = max(qualities.get("gzip", -1.0), qualities.get("x-gzip", -1.0))
    rest = qualities.get("*", 0.0)
    best, best_quality = None, qualities.get("identity", 0.0)
    for coding in offered:
        given = qualities.get(coding, -1.0)
        quality = rest if given < 0 else given
        if quality > best_quality or (quality == best_quality > 0 and best is None):
            best, best_quality = coding, quality
    return best
