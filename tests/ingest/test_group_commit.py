"""Requests that come together are written together, and each gets its own verdicts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from functions.core.errors import UnavailableError
from functions.core.event_columns import EventColumns
from functions.core.events import Event
from functions.ingest.group_commit import FEW_EVENTS, GROUP_EVENTS, GroupCommit
from functions.ingest.submissions import Submissions
from functions.ingest.verdicts import Answers, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence


def request(name: str, events: int = 1) -> Submissions:
    """Return a request's events."""
    ids = [f"{name}{number}" for number in range(events)]
    columns = EventColumns.of(Event(0, event_id, "e", None, None) for event_id in ids)
    return Submissions(ids, columns, [event_id.encode() for event_id in ids])


class Store:
    """Notes the writes; events of users that begin with d are duplicates."""

    def __init__(self) -> None:
        self.writes: list[list[str]] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def write(self, events: EventColumns, digests: Sequence[bytes | None]) -> Answers:
        """Write, once the store is open."""
        assert [user.encode() for user in events.user_ids] == list(digests)
        self.writes.append(events.user_ids)
        await self.open.wait()
        if self.error:
            raise self.error
        return Answers([Verdict.DUPLICATE if user.startswith("d") else Verdict.ACCEPTED for user in events.user_ids])


def test_what_comes_during_a_write_goes_into_the_next_one() -> None:
    """And every request gets the verdicts on its own events, in their order."""

    async def scenario() -> None:
        store = Store()
        group_commit = GroupCommit(store.write, max_waiting_events=100)
        first = [asyncio.create_task(group_commit.submit(request(name))) for name in "ab"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        later = [asyncio.create_task(group_commit.submit(request(name, 2))) for name in "cde"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ["a0", "b0"] == store.writes[0]
        store.open.set()

        assert [[Verdict.ACCEPTED]] * 2 == [answers.verdicts for answers in await asyncio.gather(*first)]
        assert [[Verdict.ACCEPTED] * 2, [Verdict.DUPLICATE] * 2, [Verdict.ACCEPTED] * 2] == [
            answers.verdicts for answers in await asyncio.gather(*later)
        ]
        assert [["c0", "c1", "d0", "d1", "e0", "e1"]] == store.writes[1:]

    asyncio.run(scenario())


@pytest.mark.parametrize(("events", "writes"), [(1, 1), (FEW_EVENTS, 2)])
def test_a_few_events_wait_for_those_that_come_in_the_same_turn(events: int, writes: int) -> None:
    """Many are written at once, so that the store has something to do meanwhile."""

    async def scenario() -> None:
        store = Store()
        store.open.set()
        group_commit = GroupCommit(store.write, max_waiting_events=10 * FEW_EVENTS)
        first = asyncio.create_task(group_commit.submit(request("a", events)))
        await asyncio.sleep(0)
        second = asyncio.create_task(group_commit.submit(request("b")))
        await asyncio.gather(first, second)

        assert writes == len(store.writes)

    asyncio.run(scenario())


def test_a_write_has_its_size() -> None:
    """A request that does not fit waits for the next write; a large one goes alone."""

    async def scenario() -> None:
        store = Store()
        store.open.set()
        group_commit = GroupCommit(store.write, max_waiting_events=10 * GROUP_EVENTS)
        sizes = [GROUP_EVENTS - 1, 2, 2 * GROUP_EVENTS]
        await asyncio.gather(*(group_commit.submit(request(str(size), size)) for size in sizes))
        assert sizes == [len(write) for write in store.writes]

    asyncio.run(scenario())


def test_a_failed_write_is_told_to_all_that_were_in_it_and_no_other() -> None:
    """The next write goes its own way."""

    async def scenario() -> None:
        store = Store()
        store.open.set()
        group_commit = GroupCommit(store.write, max_waiting_events=100)
        store.error = UnavailableError("away", "the store is away")
        outcomes = await asyncio.gather(*(group_commit.submit(request(name)) for name in "ab"), return_exceptions=True)
        assert [store.error] * 2 == outcomes
        store.error = None
        assert [Verdict.ACCEPTED] == (await group_commit.submit(request("c"))).verdicts

    asyncio.run(scenario())


def test_a_request_that_is_given_up_takes_nobody_with_it() -> None:
    """Its events may be written; the others in the same write get their verdicts."""

    async def scenario() -> None:
        store = Store()
        group_commit = GroupCommit(store.write, max_waiting_events=100)
        given_up, patient = (asyncio.create_task(group_commit.submit(request(name))) for name in "ab")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        given_up.cancel()
        store.open.set()
        assert [Verdict.ACCEPTED] == (await patient).verdicts

    asyncio.run(scenario())


def test_only_so_many_events_wait() -> None:
    """A store that is slower than its senders does not fill this process; who comes too much is asked to retry."""

    async def scenario() -> None:
        store = Store()
        group_commit = GroupCommit(store.write, max_waiting_events=5)
        waiting = []
        for name in "abc":  # two are being written, the third waits
            waiting.append(asyncio.create_task(group_commit.submit(request(name, 3))))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="more events wait"):
            await group_commit.submit(request("d", 3))
        store.open.set()
        assert [[Verdict.ACCEPTED] * 3] * 3 == [answers.verdicts for answers in await asyncio.gather(*waiting)]
        await group_commit.close()

    asyncio.run(scenario())


def test_writes_that_wait_for_the_disk_do_not_wait_for_each_other() -> None:
    """As many are under way as were allowed; what comes beyond goes together into the next one."""

    async def scenario() -> None:
        store = Store()
        group_commit = GroupCommit(store.write, max_waiting_events=100, writers=3)
        tasks = []
        for name in "abcde":
            tasks.append(asyncio.create_task(group_commit.submit(request(name))))
            await asyncio.sleep(0.001)
        assert [["a0"], ["b0"], ["c0"]] == store.writes
        store.open.set()
        await asyncio.gather(*tasks)
        assert [["d0", "e0"]] == store.writes[3:]

    asyncio.run(scenario())


def test_what_comes_just_as_the_last_writer_ends_is_written() -> None:
    """Also where no other request ever comes after it."""

    async def scenario() -> None:
        store = Store()
        store.open.set()
        group_commit = GroupCommit(store.write, max_waiting_events=100, writers=1)

        async def sender(name: str) -> None:
            for number in range(50):
                await group_commit.submit(request(f"{name}{number}-"))

        async with asyncio.timeout(10):
            await asyncio.gather(*(sender(name) for name in "abc"))
        await group_commit.close()

    asyncio.run(scenario())
