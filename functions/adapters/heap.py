"""How the C library's heap (mallopt(3)) keeps what is freed; where it is not glibc nothing changes."""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_MMAP_MAX: Final = -4
_M_ARENA_MAX: Final = -8

_KEPT_PIECE_BYTES: Final = 16 << 20
"""Pieces of memory up to this size come from what is kept."""
_KEPT_FREE_BYTES: Final = 32 << 20
_KEPT_FREE_WITH_TABLES_BYTES: Final = 4 << 20
_KEPT_PIECE_WITH_TABLES_BYTES: Final = 6 << 20
"""Of a million users a shard's reply has 8 MB, for which there is no hole among what else comes and goes.

From 3 MB on, so without ids too, a table takes a tenth longer.
"""
_ALL_BYTES: Final = 2**31 - 1


def keep_freed_memory() -> None:
    """Keep what a request frees for the next one.

    By itself glibc gives large pieces back to the kernel and takes them again page by page: a twentieth of a batch's
    time.
    """
    _set(_M_MMAP_THRESHOLD, _KEPT_PIECE_BYTES)
    _set(_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)


def share_one_heap() -> None:
    """Let threads that come allocate from one heap, and keep little that is free and no large pieces, for large tables.

    What each thread keeps for itself adds up, and a large report should not be what the process holds ever after.
    """
    _set(_M_ARENA_MAX, 1)
    _set(_M_TRIM_THRESHOLD, _KEPT_FREE_WITH_TABLES_BYTES)
    _set(_M_MMAP_THRESHOLD, _KEPT_PIECE_WITH_TABLES_BYTES)


def keep_all_memory() -> None:
    """Let all threads take all memory from one heap that gives nothing back, for who fills it again and again.

    Large pieces would else be taken from the kernel page by page each time, and what one thread has freed is of no use
    to the next.
    """
    _set(_M_ARENA_MAX, 1)
    _set(_M_MMAP_MAX, 0)
    _set(_M_TRIM_THRESHOLD, _ALL_BYTES)


def give_back() -> None:
    """Give what is free back to the kernel, also from between what is in use; takes some milliseconds."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def _set(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(parameter, value)
