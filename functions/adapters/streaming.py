"""A reply sent piece by piece, at its reader's pace, that is either whole or visibly broken off.

What goes wrong after the head cannot be told by a status any more. The connection is then closed without the last
chunk, which HTTP clients report as an error: nobody takes a part for the whole.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from functions.adapters import metrics
from functions.core.errors import FlyertimeError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence

    from starlette.types import Receive, Scope, Send

logger = logging.getLogger(__name__)

WHOLE_UP_TO_BYTES: Final = 65_536
"""A reply that is no longer is sent in one piece, with its length."""

PART_BYTES: Final = 262_144
"""About so much is handed to the server at a time; pieces are gathered, since each time wakes the reader."""

UNSENT: Final = "flyertime.unsent"
"""ASGI extension of our server: a function that tells the bytes which the other side has not confirmed yet."""

_LOOKS: Final = 4
"""At a reader's progress, within the time that one who makes none is waited for."""


class _StalledError(Exception):
    """The reader takes nothing any more."""


class StreamedReply(Response):
    """Sends what a generator yields, which has begun already: its first piece is there, so the head may go."""

    def __init__(
        self, first: bytes, rest: AsyncGenerator[bytes], headers: Mapping[str, str], *, media_type: str, stall_s: float
    ) -> None:
        super().__init__(media_type=media_type, headers=headers)
        del self.headers["content-length"]
        self._first = first
        self._rest = rest
        self._stall_s = stall_s
        self._passed_on_bytes = 0
        self._patience: asyncio.Timeout | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the reply (ASGI)."""
        leaving = asyncio.ensure_future(_until_gone(receive))
        watching = asyncio.ensure_future(self._watch(scope.get("extensions", {}).get(UNSENT, {}).get("bytes")))
        try:
            async with aclosing(self._rest) as rest:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                pieces: list[bytes] = []
                size = enough = 0  # the first goes at once
                async for piece in _after(self._first, rest):
                    if leaving.done():
                        return
                    pieces.append(piece)
                    size += len(piece)
                    if size >= enough:
                        for part in _parts_of(pieces, size):
                            await self._sent(send, _body(part))
                        pieces, size, enough = [], 0, PART_BYTES
            await self._sent(send, _body(b"".join(pieces), more=False))
        except _StalledError:
            metrics.ERRORS.of("reader_stalled").add()
            logger.warning("a reader took nothing for %g s; the reply is broken off", self._stall_s)
        except FlyertimeError as e:
            metrics.ERRORS.of(e.code).add()
            logger.error("a reply is broken off: %s", e.message)  # noqa: TRY400  # the message says it all
        except Exception:
            metrics.ERRORS.of("unexpected").add()
            logger.exception("a reply is broken off by an error that nobody expected")
        finally:
            for task in (leaving, watching):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _sent(self, send: Send, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._stall_s) as self._patience:
                await send(message)
                self._passed_on_bytes += len(message.get("body", b""))
                # The server writes at the loop's next turn, and only then can say that the reader is behind.
                await asyncio.sleep(0)
        except TimeoutError:
            raise _StalledError from None
        finally:
            self._patience = None

    async def _watch(self, unsent_bytes: Callable[[], int] | None) -> None:
        """Be patient anew with a reader who takes anything at all.

        The server takes the next part only when a third of the kernel's buffer has become free, which may be a megabyte
        and take a slow reader minutes; what the other side has confirmed is known by the byte.
        """
        taken_bytes = 0
        while unsent_bytes is not None:
            await asyncio.sleep(self._stall_s / _LOOKS)
            before_bytes, taken_bytes = taken_bytes, self._passed_on_bytes - unsent_bytes()
            if taken_bytes > before_bytes and self._patience is not None and not self._patience.expired():
                self._patience.reschedule(asyncio.get_running_loop().time() + self._stall_s)


async def reply_from(
    pieces: AsyncGenerator[bytes], headers: Mapping[str, str], *, media_type: str, head_only: bool, stall_s: float
) -> Response:
    """Return a reply of what a generator yields: in one piece where it is short, else as it comes.

    Waits for the first pieces, so that what goes wrong until then has a status.
    """
    parts: list[bytes] = []
    size = 0
    async for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size > WHOLE_UP_TO_BYTES:
            break
    else:
        return Response(b"".join(parts), media_type=media_type, headers=headers)
    if head_only:
        await pieces.aclose()
        head = Response(media_type=media_type, headers=headers)
        del head.headers["content-length"]
        return head
    return StreamedReply(b"".join(parts), pieces, headers, media_type=media_type, stall_s=stall_s)


async def _after(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _parts_of(pieces: Sequence[bytes], size: int) -> Iterator[memoryview]:
    """Yield pieces of so many bytes together in parts of one length."""
    whole = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
    step = -(-size // max(1, size // PART_BYTES))
    for start in range(0, size, step):
        yield whole[start : start + step]


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _body(piece: bytes | memoryview, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": piece, "more_body": more}
