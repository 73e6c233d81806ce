"""Rows, and the tag that tells whether they changed."""

from __future__ import annotations

import pytest

from functions.core.report import Row, etag_of, matches, row_of
from functions.core.spans import Totals, pack_totals


def packed(seconds: int, sessions: int) -> bytes:
    """Return a value of an averages hash."""
    return pack_totals(Totals(seconds, sessions, 0, seconds * 1_000_000))


def test_a_user_has_an_average_in_hours_with_two_digits() -> None:
    """Spark's rounding is tested with the totals; here that it is seconds for each session."""
    assert Row("ü", 0.33) == row_of("ü".encode(), packed(3600, 3))


def test_a_user_without_a_session_has_no_row() -> None:
    """There is something stored about everybody, but an average only of who has one."""
    assert row_of(b"once", packed(0, 0)) is None


def test_a_tag_differs_with_any_version_and_with_the_representation() -> None:
    """Each shard's version counts, at its place."""
    tags = {etag_of(str(versions), name) for versions in ([0, 1], [1, 0], [1, 1], [11]) for name in ("json", "csv")}

    assert 8 == len(tags)
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)


@pytest.mark.parametrize(
    ("condition", "known"),
    [
        ('"t"', True),
        ('W/"t"', True),
        ('"x", "t"', True),
        ("*", True),
        (' "x" ,W/"t" ', True),
        ('"x"', False),
        ("t", False),
    ],
)
def test_conditions_are_compared_weakly(condition: str, *, known: bool) -> None:
    """RFC 9110 §13.1.2."""
    assert known == matches('"t"', condition)
