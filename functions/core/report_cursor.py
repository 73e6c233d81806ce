"""Where a page ended: an opaque text that only we can make, and that fits one question alone. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final, NamedTuple

import msgspec

from functions.core.errors import RequestRefusedError

_DIGEST_BYTES: Final = 12


class Position(NamedTuple):
    """The last row of a page: what it is sorted by, and its id."""

    value: int | None
    """None: the order is by id alone, or the row has no value and stands at the end."""
    user_id: bytes


def write_cursor(position: Position, question: str, secret: bytes) -> str:
    """Return the cursor of a position, for those who ask the same question."""
    body = msgspec.msgpack.encode(position)
    return base64.urlsafe_b64encode(_digest(body, question, secret) + body).decode().rstrip("=")


def read_cursor(text: str, question: str, secret: bytes) -> Position:
    """Return the position of a cursor.

    Raises:
        RequestRefusedError: It is not one of ours, or belongs to another question.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _bad() from None
    digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if not hmac.compare_digest(digest, _digest(body, question, secret)):
        raise _bad()
    return msgspec.msgpack.decode(body, type=Position)


def _digest(body: bytes, question: str, secret: bytes) -> bytes:
    question_bytes = hashlib.sha256(question.encode("utf-8", "surrogateescape")).digest()
    return hmac.digest(secret, question_bytes + body, "sha256")[:_DIGEST_BYTES]


def _bad() -> RequestRefusedError:
    return RequestRefusedError(
        "bad_cursor",
        "after is no cursor of this question: follow the next link of a page unchanged, or start without after",
    )
