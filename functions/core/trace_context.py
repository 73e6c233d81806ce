"""W3C Trace Context: the ``traceparent`` of a header, of a CloudEvent or of a run's environment. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)


class TraceContext(NamedTuple):
    """Who calls: the trace, and the span in it."""

    trace_id: str
    span_id: str
    flags: str

    @property
    def traceparent(self) -> str:
        """The header, in the version that we write."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def parse(text: str | None) -> TraceContext | None:
    """Return what a ``traceparent`` says; None where it is none (W3C Trace Context §3.2).

    A later version may have more behind the four fields; its first four are those that we know.
    """
    match = _FORM.fullmatch(text) if text else None
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    if not match[2].strip("0") or not match[3].strip("0"):
        return None
    return TraceContext(match[2], match[3], match[4])
