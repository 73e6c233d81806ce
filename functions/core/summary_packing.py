"""How a summary is kept in the store: MessagePack, with the version of the averages that it is of. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final, TypeAlias

import msgspec

from functions.core.report_summary import Summary

WORTH_KEEPING_USERS: Final = 2_000
"""The values of fewer users are read as soon as their summary is."""

_FORMAT: Final = 1
_Fields: TypeAlias = tuple[int, int, int, int, int, int | None, int | None, dict[int, int]]

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Fields)


def pack_summary(summary: Summary, version: int) -> bytes:
    """Return a summary as it is kept, of averages of this version."""
    return _encoder.encode(
        (
            _FORMAT, version, summary.users, summary.sessions, summary.seconds, summary.closed_sessions,
            summary.unclosed, summary.hundredths,
        )
    )  # fmt: skip


def unpack_summary(packed: bytes) -> tuple[Summary, int] | None:
    """Return the summary and the version; None where another version of flyertime has kept it in its own way."""
    try:
        kept_format, version, users, sessions, seconds, closed_sessions, unclosed, hundredths = _decoder.decode(packed)
    except msgspec.MsgspecError:
        return None
    if kept_format != _FORMAT:
        return None
    return Summary(users, sessions, seconds, closed_sessions, unclosed, Counter(hundredths)), version
