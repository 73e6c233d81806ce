"""What strace's log of a killed server says of its append-only file."""

from __future__ import annotations

import pytest

from tests.promises.power_cut import Traced, traced

FILE = "/data/appendonly.aof.1.incr.aof"
BEFORE = f"""10 write(8<{FILE}>, ""..., 100) = 100
11 fdatasync(8<{FILE}> <unfinished ...>
10 write(8<{FILE}>, ""..., 20) = 20
11 <... fdatasync resumed>) = 0
10 write(9<socket:[1]>, ""..., 5) = 5
"""


@pytest.mark.parametrize(
    ("end", "is_writing"),
    [
        ("10 +++ killed by SIGKILL +++", False),
        (f'10 write(8<{FILE}>, ""..., 30 <unfinished ...>) = ?\n10 +++ killed by SIGKILL +++', True),
        (f'10 write(8<{FILE}>, ""..., 30) = ?\n10 +++ killed by SIGKILL +++', True),
        (f"11 fdatasync(8<{FILE}> <unfinished ...>) = ?\n10 +++ killed by SIGKILL +++", False),
        ('10 write(9<socket:[1]>, ""..., 30 <unfinished ...>) = ?\n10 +++ killed by SIGKILL +++', False),
    ],
    ids=["idle", "a write", "a write at its very start", "a sync", "a reply"],
)
def test_a_trace_tells_what_was_written_before_a_sync_and_whether_the_end_came_in_a_write(
    end: str, *, is_writing: bool
) -> None:
    """What is written while a sync is under way is not synced by it; an unfinished write counts as nothing yet."""
    assert traced(BEFORE + end) == Traced(synced_bytes=100, written_bytes=120, is_writing=is_writing)
