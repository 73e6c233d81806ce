"""Arrow's kernels for a report of many users, imported beside other work once it is known that there are many."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from functions.adapters import compression
from functions.adapters.heap import share_one_heap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from functions.adapters.redis_regular import Regular
    from functions.adapters.redis_report import Averages
    from functions.core.report_summary import Summary
    from functions.core.report_texts import TextEncoder

logger = logging.getLogger(__name__)

MANY_USERS: Final = 100_000
"""From so many on, the import (0.1 s and 40 MB) is worth it."""


class SortedRows(Protocol):
    """Users and their averages, in the order of the ids' bytes."""

    def __len__(self) -> int: ...

    @property
    def size_bytes(self) -> int:
        """The memory that they take."""

    def text(self, encoder: TextEncoder, start: int, rows: int, lead: bytes = b"") -> bytes:
        """Return what the encoder, always the same one, makes of some rows' ids and averages, behind a lead."""

    def packed(self, pack: Callable[[bytes | memoryview], bytes]) -> tuple[Any, list[bytes]]:
        """Return the rows in little memory: their shape, and pieces."""


class ArrowRows(Protocol):
    """What functions/adapters/arrow_rows.py offers."""

    def sorted_rows(self, averages: Averages | Regular) -> SortedRows | None:
        """Return users' rows, and empty what they were in; None where some value is not of the usual kind."""

    def unpacked(self, shape: Any, pieces: Sequence[bytes], unpack: Callable[[bytes], bytes]) -> SortedRows:
        """Return rows that were packed."""

    def summary_of(self, values: Sequence[bytes] | Regular) -> Summary | None:
        """Return the summary of users; None where some value is not of the usual kind."""


class Kernels:
    """Has them, or not."""

    def __init__(self) -> None:
        self._rows: ArrowRows | None = None
        self._importing: asyncio.Future[None] | None = None

    async def ready(self) -> ArrowRows | None:
        """Return them, once an import that is under way has ended; None: go on without."""
        if self._importing is not None:
            await asyncio.shield(self._importing)
        return self._rows

    def prepare(self, users: int) -> None:
        """Have them imported where there are so many users that they are worth it."""
        if self._importing is None and users >= MANY_USERS:
            share_one_heap()
            self._importing = asyncio.ensure_future(asyncio.to_thread(self._import))

    def _import(self) -> None:
        # Arrow imports NumPy where that is installed, which takes three times as long as Arrow and is not used here.
        modules: dict[str, Any] = sys.modules
        modules.setdefault("numpy", None)
        try:
            self._rows = cast("ArrowRows", importlib.import_module("functions.adapters.arrow_rows"))
            compression.prepare()
            gc.freeze()  # these modules stay too
        except ImportError as e:
            logger.warning("large reports take longer than they need to: %s", e)
        finally:
            if modules["numpy"] is None:
                del modules["numpy"]
