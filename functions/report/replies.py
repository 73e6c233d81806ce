"""Replies: nothing where the asker has the answer, one piece where it is there already, else piece by piece."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from functions.adapters import web
from functions.adapters.compression import packed
from functions.adapters.streaming import WHOLE_UP_TO_BYTES, reply_from
from functions.core.report import matches

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from starlette.responses import Response

    from functions.adapters.redis_state import StoreState
    from functions.core.report_freshness import Freshness

Header = tuple[bytes, bytes]

_ALWAYS: Final = (
    (b"cache-control", b"private, no-cache"),
    (b"vary", b"accept, accept-encoding, authorization"),
)  # fmt: skip


class Standing:
    """How the store stood, and what the headers of an answer made from it say of that."""

    def __init__(self, state: StoreState, fresh: Freshness) -> None:
        self.state = state
        self.users = state.users
        self.fresh = fresh
        told = fresh.headers()
        changed_us = max((shard.version for shard in state.shards), default=0)
        if changed_us:
            told["last-modified"] = formatdate(changed_us // 1_000_000, usegmt=True)
        self.headers: Sequence[Header] = (*_ALWAYS, *encoded(told))


class Replies:
    """Makes the replies to one question."""

    def __init__(
        self, method: str, condition: str | None, coding: str | None, media_type: str, stall_s: float
    ) -> None:  # fmt: skip
        """Take what they hang on.

        Args:
            method: GET or HEAD.
            condition: ``If-None-Match``.
            coding: In which they are packed.
            media_type: Of the answer.
            stall_s: How long a reader is waited for who takes nothing.
        """
        self._method = method
        self._condition = condition
        self._coding = coding
        self._media_type = media_type
        self._stall_s = stall_s

    def known(self, etag: str, headers: Sequence[Header]) -> Response | None:
        """Return the 304 for an asker who has this representation already."""
        if self._condition and matches(etag, self._condition):
            return web.ready_reply(b"", [(b"etag", etag.encode()), *headers], 304)
        return None

    async def whole(self, body: bytes, etag: str, headers: Sequence[Header]) -> Response:
        """Return a reply whose body is there."""
        if known := self.known(etag, headers):
            return known
        if self._coding is None and len(body) <= WHOLE_UP_TO_BYTES:
            content_type = (b"content-type", self._media_type.encode())
            return web.ready_reply(body, [(b"etag", etag.encode()), *headers, content_type])

        async def one_piece() -> AsyncGenerator[bytes]:
            yield body

        return await self.streamed(one_piece(), etag, headers)

    async def streamed(self, pieces: AsyncGenerator[bytes], etag: str, headers: Sequence[Header]) -> Response:
        """Return a reply whose body is still to be made."""
        told = {"etag": etag, **{name.decode("latin-1"): value.decode("latin-1") for name, value in headers}}
        if self._coding is not None:
            pieces = packed(pieces, self._coding)
            told["content-encoding"] = self._coding
        return await reply_from(
            pieces, told, media_type=self._media_type, head_only=self._method == "HEAD", stall_s=self._stall_s
        )


def encoded(headers: Mapping[str, str]) -> list[Header]:
    """Return headers as they are sent."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
