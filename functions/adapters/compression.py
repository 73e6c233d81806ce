"""Replies packed on the way: gzip and zstd, as the reader takes them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

CODINGS: Final = ("zstd", "gzip")
"""The better one first."""

_GZIP_LEVEL: Final = 4
_ZSTD_LEVEL: Final = 3
_ZSTD_QUICK: Final = {"window_log": 17, "hash_log": 8, "min_match": 5}
"""Of the quickest strategy: a row repeats what the one before has, which a small table finds in a quarter less time."""
_GZIP_WINDOW: Final = 31
"""zlib's largest window, in the frame of gzip."""


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


async def packed(pieces: AsyncGenerator[bytes], coding: str) -> AsyncGenerator[bytes]:
    """Yield the pieces packed; what was begun and not ended is told from what is whole by its missing end."""
    packer = _packer(coding)
    try:
        async for piece in pieces:
            if data := packer.compress(piece):
                yield data
    finally:
        await pieces.aclose()
    yield packer.flush()


def _packer(coding: str) -> _Packer:
    if coding == "gzip":
        return zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW)
    import zstandard  # noqa: PLC0415  # imported where it is asked for

    packer: _Packer = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()
    return packer


def prepare() -> None:
    """Import what `pack` needs, so that the first who does need not wait."""
    import zstandard  # noqa: F401, PLC0415  # see above


def pack(text: bytes | memoryview) -> bytes:
    """Return a text packed for our own memory: quickly. Other threads go on meanwhile."""
    import zstandard  # noqa: PLC0415  # see above

    parameters = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST, chain_log=6, search_log=1, target_length=0, **_ZSTD_QUICK
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(text)


def unpack(packed_text: bytes) -> bytes:
    """Return the text that `pack` was given."""
    import zstandard  # noqa: PLC0415  # see above

    text: bytes = zstandard.ZstdDecompressor().decompress(packed_text)
    return text
