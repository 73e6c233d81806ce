"""The C library's heap, of which a process with many users' texts in threads needs one rather than one a thread."""

from __future__ import annotations

import ctypes
from typing import Final

_M_ARENA_MAX: Final = -8  # mallopt(3)
_M_TRIM_THRESHOLD: Final = -1
_KEPT_FREE_BYTES: Final = 4 << 20
"""Free memory that is kept: less than functions/server.py has kept for processes that hold no tables."""


def share_one_heap() -> None:
    """Let threads that come allocate from the one heap, where this is glibc: what each keeps for itself adds up.

    And give back what is free at its end, so that a large report is not what the process holds ever after.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)
