"""The C library's heap, of which a process with many users' texts in threads needs one rather than one a thread."""

from __future__ import annotations

import ctypes
from typing import Final

_M_ARENA_MAX: Final = -8
"""mallopt(3)."""


def share_one_heap() -> None:
    """Let threads that come allocate from the one heap, where this is glibc: what each keeps for itself adds up."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
