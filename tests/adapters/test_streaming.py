"""Replies piece by piece: few parts, all bytes, and an end that is told from a break."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters.streaming import PART_BYTES, WHOLE_UP_TO_BYTES, reply_from

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


def sent(pieces: list[bytes]) -> list[dict[str, Any]]:
    """Return what a server is handed of a reply of these pieces."""
    messages: list[dict[str, Any]] = []

    async def generated() -> AsyncGenerator[bytes]:
        for piece in pieces:
            yield piece

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: Any) -> None:
        messages.append({**message, "body": bytes(message.get("body", b""))})

    async def run() -> None:
        reply = await reply_from(generated(), {}, media_type="text/csv", head_only=False, stall_s=5)
        await reply({"type": "http"}, receive, send)

    asyncio.run(run())
    return messages


@pytest.mark.parametrize(
    "pieces",
    [
        [b"a"],
        [b"%06d" % number * 4_000 for number in range(60)],
        [b"x" * WHOLE_UP_TO_BYTES, b"y"],
        [b"x" * (3 * PART_BYTES + 7), b"y" * (2 * PART_BYTES), b"z"],
        [b"%08d" % number for number in range(100_000)],
    ],
    ids=["one", "small", "just more than whole", "large", "tiny"],
)
def test_pieces_of_any_size_come_in_few_parts(pieces: list[bytes]) -> None:
    """All of them, none much larger than it should be, and only the last one is the end."""
    head, *parts = sent(pieces)
    size = sum(map(len, pieces))

    assert "http.response.start" == head["type"]
    assert b"".join(pieces) == b"".join(part["body"] for part in parts)
    assert [*[True] * (len(parts) - 1), False] == [part.get("more_body", False) for part in parts]
    assert max(len(part["body"]) for part in parts) < 2 * PART_BYTES
    assert len(parts) <= 2 + size // PART_BYTES
