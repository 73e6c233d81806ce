"""W3C Trace Context: what is taken for a traceparent."""

from __future__ import annotations

import pytest

from functions.core.trace_context import parse

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_traceparent_is_read_and_written() -> None:
    """Trace, span and flags, in the form that they came in."""
    text = f"00-{TRACE}-{SPAN}-01"

    parsed = parse(text)

    assert parsed is not None
    assert (TRACE, SPAN, "01", text) == (*parsed, parsed.traceparent)


def test_a_later_version_is_read_as_far_as_we_know_it() -> None:
    """More fields behind the first four are no reason to lose the trace; we write our own version."""
    parsed = parse(f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like")

    assert parsed is not None
    assert f"00-{TRACE}-{SPAN}-01" == parsed.traceparent


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "nonsense",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_what_is_no_traceparent_is_passed_over(text: str | None) -> None:
    """A broken header is as none at all."""
    assert parse(text) is None
