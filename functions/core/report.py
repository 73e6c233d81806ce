"""One user's row of the report, and the tags by which answers are known. Pure."""

from __future__ import annotations

import hashlib

import msgspec

from functions.core.spans import average_hours, unpack_totals


class Row(msgspec.Struct, frozen=True):
    """One user's average time on flyer, in hours with two digits."""

    user_id: str
    avg_time_on_flyer_per_user_hours: float


def row_of(user_id: bytes, value: bytes) -> Row | None:
    """Return the row of a user's entry in an averages hash; None where the user has no session, and so no average."""
    totals = unpack_totals(value)
    return Row(user_id.decode(), average_hours(totals.seconds, totals.sessions)) if totals.sessions else None


def etag_of(state: str | bytes, representation: str) -> str:
    """Return the strong ETag of a representation: by its bytes and who they are for, or by what it is made from.

    The text tells the state from every other. A shard's version changes exactly when any user's totals do, so this does
    too; and no data is read for it.
    """
    told = state if isinstance(state, bytes) else state.encode("utf-8", "surrogatepass")
    return f'"{representation}-{hashlib.sha256(told).hexdigest()[:24]}"'


def matches(etag: str, if_none_match: str) -> bool:
    """Tell whether an ``If-None-Match`` header names this ETag (RFC 9110 §13.1.2: weak comparison)."""
    return if_none_match.strip() == "*" or any(
        candidate.strip().removeprefix("W/") == etag for candidate in if_none_match.split(",")
    )
