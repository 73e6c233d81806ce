"""What large answers leave free is given back once nothing large has been read for a moment."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Final

from functions.adapters.heap import give_back

if TYPE_CHECKING:
    from functions.adapters.redis_report import ReportStore

MUCH_USERS: Final = 50_000
"""So many have to be read before it is worth some milliseconds."""
_QUIET_S: Final = 0.1


class Tidying:
    """Gives free memory back to the kernel, which the C library's heap does by itself only at its end."""

    def __init__(self, store: ReportStore) -> None:
        """Be told by a store of what is read."""
        self._read_users = 0
        self._task: asyncio.Task[None] | None = None
        store.when_read = self._read

    def _read(self, users: int) -> None:
        self._read_users += users
        if self._read_users > MUCH_USERS and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._tidy())

    async def _tidy(self) -> None:
        while self._read_users:
            self._read_users = 0
            await asyncio.sleep(_QUIET_S)
        gc.collect()  # empties Python's lists of free objects too, each of which holds on to the memory around it
        await asyncio.to_thread(give_back)
