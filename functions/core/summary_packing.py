"""How a summary is kept in the store: the version of the averages that it is of, a colon, and MessagePack. Pure.

The version stands by itself so that a commit's script, which alone knows it, can put it there.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, TypeAlias

import msgspec

from functions.core.report_summary import Summary

WORTH_KEEPING_USERS: Final = 2_000
"""The values of fewer users are read as soon as their summary is."""

_FORMAT: Final = 2
_Fields: TypeAlias = tuple[int, int, int, int, int, int, int, dict[int, int]]

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Fields)


def pack_counts(summary: Summary) -> bytes | None:
    """Return a summary as it is kept, behind the version and the colon; None where a sum has more than 64 bits."""
    try:
        return _encoder.encode(
            (
                _FORMAT, summary.users, summary.sessions, summary.seconds, summary.closed_sessions, summary.unclosed,
                summary.not_kept_users, summary.hundredths,
            )
        )  # fmt: skip
    except OverflowError:
        return None


def pack_summary(summary: Summary, version: int) -> bytes | None:
    """Return a summary as it is kept, of averages of this version; None where it cannot be."""
    counts = pack_counts(summary)
    return None if counts is None else b"%d:%b" % (version, counts)


def unpack_summary(packed: bytes) -> tuple[Summary, int] | None:
    """Return the summary and the version; None where another version of flyertime has kept it in its own way."""
    version, _, counts = packed.partition(b":")
    try:
        kept_format, users, sessions, seconds, closed_sessions, unclosed, not_kept, hundredths = _decoder.decode(counts)
    except msgspec.MsgspecError:
        return None
    if kept_format != _FORMAT or not version.isdigit():
        return None
    return Summary(users, sessions, seconds, closed_sessions, unclosed, Counter(hundredths), not_kept), int(version)
