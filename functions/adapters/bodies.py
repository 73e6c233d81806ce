"""Bodies of requests: read within limits of size and time, unpacked within the same limit of size."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect

from functions.adapters import metrics
from functions.core.errors import RequestRefusedError

if TYPE_CHECKING:
    from starlette.requests import Request

ENCODINGS: Final = ("gzip", "zstd")
ARRIVED: Final = "flyertime.arrived"
"""In a request's scope where our server has all of its body already: nobody has to be waited for, which is what most of
the reading of a small body would cost."""


async def read_body(request: Request, limit_bytes: int, timeout_s: float | None = None) -> bytes:
    """Return the whole body, unpacked where it came packed.

    Args:
        request: Whose body; it has not been read.
        limit_bytes: For the body as it came, and for what it is unpacked.
        timeout_s: For all of it to arrive; None: no limit.

    Raises:
        RequestRefusedError: It is too large (413; nothing more of it is read), did not arrive in time (408), is
            packed in a way that we do not know (415), or cannot be unpacked (400).
    """
    announced, encoding = b"0", b""
    for name, value in request.scope["headers"]:
        if name == b"content-length":
            announced = value
        elif name == b"content-encoding":
            encoding = encoding + b", " + value if encoding else value  # a list may come in lines (RFC 9110 §5.3)
    if announced.isdigit() and int(announced) > limit_bytes:
        raise _too_large(limit_bytes)
    try:
        if ARRIVED in request.scope:
            body = await _received(request, limit_bytes)
        else:
            async with asyncio.timeout(timeout_s):
                body = await _received(request, limit_bytes)
    except TimeoutError:
        raise RequestRefusedError(
            "body_too_slow", f"the body did not arrive within {timeout_s:g} s", status=408
        ) from None
    metrics.body_sizes.observe(len(body))
    return _unpacked(body, encoding.decode("latin-1").strip().lower(), limit_bytes) if encoding else body


async def _received(request: Request, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _unpacked(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    if encoding in {"", "identity"}:
        return body
    if encoding in {"gzip", "x-gzip"}:  # one and the same (RFC 9110 §8.4.1.3)
        unpacked = _from_gzip(body, limit_bytes)
    elif encoding == "zstd":
        unpacked = _from_zstd(body, limit_bytes)
    else:
        raise RequestRefusedError(
            "unsupported_encoding", f"a body may be packed once, as {' or '.join(ENCODINGS)}", status=415,
            headers={"accept-encoding": ", ".join(ENCODINGS)},
        )  # fmt: skip
    if len(unpacked) > limit_bytes:
        raise _too_large(limit_bytes, ", unpacked")
    return unpacked


def _from_gzip(body: bytes, limit_bytes: int) -> bytes:
    """Return at most one byte more than the limit."""
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(body, limit_bytes + 1)
    except zlib.error:
        raise _broken("gzip") from None
    if len(unpacked) <= limit_bytes and (not unpacker.eof or unpacker.unused_data):
        raise _broken("gzip")  # cut off, or followed by something else
    return unpacked


def _from_zstd(body: bytes, limit_bytes: int) -> bytes:
    """Return at most one byte more than the limit."""
    import zstandard  # noqa: PLC0415  # only for those who send it

    try:
        size_bytes = zstandard.frame_content_size(body)  # -1 where the frame does not say
        if size_bytes > limit_bytes:
            raise _too_large(limit_bytes, ", unpacked")
        # The window bounds what a frame of a few bytes can make us hold; 8 MB is what RFC 8878 asks receivers to take.
        unpacker = zstandard.ZstdDecompressor(max_window_size=8 << 20)
        if size_bytes >= 0:
            return unpacker.decompress(body, allow_extra_data=False)
        unpacked = unpacker.stream_reader(body).read(limit_bytes + 1)
        if len(unpacked) <= limit_bytes:
            frame = unpacker.decompressobj()
            frame.decompress(body)  # once more: the reader does not tell whether this is all of it, and nothing else
            if not frame.eof or frame.unused_data:
                raise _broken("zstd")
    except zstandard.ZstdError:
        raise _broken("zstd") from None
    return unpacked


def _too_large(limit_bytes: int, how: str = "") -> RequestRefusedError:
    return RequestRefusedError(
        "body_too_large",
        f"the body{how} is larger than {limit_bytes} bytes; send the events in smaller batches",
        status=413,
    )


def _broken(encoding: str) -> RequestRefusedError:
    return RequestRefusedError("bad_encoding", f"the body cannot be unpacked as {encoding}")
