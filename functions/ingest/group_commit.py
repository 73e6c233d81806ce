"""Group commit: what arrives while a write is under way goes into the next one, all of it in one trip.

A request that comes alone is written at once. Under load one write carries many requests, so the cost of a trip, of a
script and of a log entry is shared, and the log has fewer and larger entries, which the fold reads faster. Each event
keeps a verdict of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from functions.adapters.exchange import current, work_for
from functions.core.errors import UnavailableError
from functions.core.event_columns import EventColumns
from functions.ingest.verdicts import Answers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from functions.adapters.exchange import Exchange
    from functions.ingest.submissions import Submissions

GROUP_EVENTS: Final = 2_000
"""Requests are added to a write until it has this many events; bounds how long one script holds the store."""
FEW_EVENTS: Final = 100
"""Fewer than that wait for what else comes in this turn of the loop: a trip costs as much as several events."""
WRITERS: Final = 2
"""Writes under way at the same time: while the store works on one, the next is packed."""
WAITING_WRITERS: Final = 24
"""The same where each write waits for disk or replicas, which may take a second and costs the store nothing; fewer than
there are connections, so that other questions get one too."""


class _Waiting(NamedTuple):
    submissions: Submissions
    answers: asyncio.Future[Answers]
    exchange: Exchange | None


class GroupCommit:
    """The requests that wait for a write."""

    def __init__(
        self,
        write: Callable[[EventColumns, Sequence[bytes | None]], Awaitable[Answers]],
        *,
        max_waiting_events: int,
        writers: int = WRITERS,
    ) -> None:
        """Prepare; nothing runs before the first request.

        Args:
            write: Writes events and answers for each.
            max_waiting_events: Events that may wait; beyond that senders are asked to retry.
            writers: Writes under way at the same time.
        """
        self._write = write
        self._max_waiting_events = max_waiting_events
        self._waiting: deque[_Waiting] = deque()
        self._waiting_events = 0
        self._max_writers = writers
        self._writers: set[asyncio.Task[None]] = set()

    async def submit(self, submissions: Submissions) -> Answers:
        """Return the verdicts on the events that can be taken, once they are written.

        Raises:
            UnavailableError: Too many events wait already.
        """
        events = len(submissions.columns)
        if not events:
            return Answers(())
        if self._waiting_events and self._waiting_events + events > self._max_waiting_events:
            raise UnavailableError("busy", "more events wait to be written than fit here", retry_after_s=1)
        answers: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(submissions, answers, current.get()))
        self._waiting_events += events
        if len(self._writers) < self._max_writers:
            self._writers.add(asyncio.create_task(self._write_all()))
        return await answers

    async def close(self) -> None:
        """Write what waits."""
        while self._writers:
            await asyncio.wait(self._writers)

    async def _write_all(self) -> None:
        try:
            await self._write_waiting()
        finally:
            # Here, in the step that found nothing waiting: what comes in the next one needs a writer of its own.
            self._writers.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _write_waiting(self) -> None:
        while self._waiting:
            if self._waiting_events < FEW_EVENTS:
                await asyncio.sleep(0)
            if not (group := self._next_group()):  # the other writer took all
                return
            work_for([waiting.exchange for waiting in group])
            try:
                await self._write_group(group)
            except BaseException as e:
                for waiting in group:
                    if not waiting.answers.done():
                        waiting.answers.set_exception(e if isinstance(e, Exception) else RuntimeError("ended"))
                if not isinstance(e, Exception):
                    raise

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        events = 0
        while self._waiting and (not group or events + len(self._waiting[0].submissions.columns) <= GROUP_EVENTS):
            waiting = self._waiting.popleft()
            events += len(waiting.submissions.columns)
            group.append(waiting)
        self._waiting_events -= events
        return group

    async def _write_group(self, group: list[_Waiting]) -> None:
        if len(group) == 1:
            (waiting,) = group
            answers = await self._write(waiting.submissions.columns, waiting.submissions.digests)
            if not waiting.answers.done():
                waiting.answers.set_result(answers)
            return
        columns = EventColumns()
        digests: list[bytes | None] = []
        for waiting in group:
            columns.extend(waiting.submissions.columns)
            digests += waiting.submissions.digests
        answers = await self._write(columns, digests)
        start = 0
        for waiting in group:
            end = start + len(waiting.submissions.columns)
            if not waiting.answers.done():  # done where its request was given up
                waiting.answers.set_result(answers._replace(verdicts=answers.verdicts[start:end]))
            start = end
