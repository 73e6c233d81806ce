"""The store killed with SIGKILL at every write of a command, and started again from its append-only file.

Each write is carried out, and its reply is lost: the state in the store is then the one in which the next write has not
been sent, so this has every moment between two writes. The store stays away until the command has ended, or is back at
once, so that what the command does about the failure works.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import itertools
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

import functions.adapters
from functions.adapters import redis_lease
from functions.adapters.redis_archive import ArchiveStore
from functions.adapters.redis_checks import CheckedStore
from functions.adapters.redis_client import load_script
from functions.adapters.redis_cluster import AsyncClient
from functions.adapters.redis_cluster_blocking import Client, Pipeline
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_quarantine import Quarantine
from functions.adapters.redis_resharding import ReshardingStore
from functions.core import quarantine
from functions.core.errors import Fault, FlyertimeError
from functions.core.events import Event
from functions.core.settings import Settings
from spark.backfill_parts import merge_part, parts_of
from spark.erasing import erase
from spark.keeping import merge_files, needed_archive, sweep
from spark.rebuilding import rebuild
from spark.resharding import reshard
from spark.verifying import verify_shard
from tests.fold_in_process import fold
from tests.made_up_history import history_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import MakeServer

    Fill = Callable[[Settings, Iterable[list[Event]]], None]
    Read = Callable[[Settings], dict[str, float]]
    Plain = Callable[[Iterable[Event]], dict[str, float]]

pytestmark = pytest.mark.timeout(240)

SCRIPTS = sorted(path.stem for path in (Path(functions.adapters.__file__).parent / "lua").glob("*.lua"))
READS = {"HGET", "HMGET", "HGETALL", "SMEMBERS", "SRANDMEMBER", "XRANGE", "HSCAN", "SSCAN", "TTL", "TIME"}
READING_SCRIPTS = {load_script(name).sha for name in ("ledger", "archive_books")}
EPOCH, MICROSECOND = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.timedelta(microseconds=1)
EVENTS = [
    Event(number * 977_000_000, f"u{number % 7}", ("flyer_open", "flyer_close")[number % 2], f"f{number % 3}", "m")
    for number in range(60)
]
HISTORY = [event._replace(timestamp_us=event.timestamp_us - 10**12) for event in EVENTS[:20]]


@pytest.fixture(scope="module")
def server(make_server: MakeServer) -> Iterator[EmbeddedValkey]:
    """A store that has on disk what it has answered."""
    with make_server({"appendfsync": "always"}) as server:
        load_scripts(server)
        yield server


def load_scripts(server: EmbeddedValkey) -> None:
    """Let the store know all scripts by their names, so that one call of a script is one command."""
    with redis.Redis.from_url(server.url) as client:
        for name in SCRIPTS:
            client.script_load(load_script(name).text)


class Killing:
    """Kills the store at the n-th write, once that is carried out."""

    def __init__(self, server: EmbeddedValkey, nth: int, *, back: bool) -> None:
        self._server = server
        self._left = nth
        self._back = back
        self.killed = False

    def after(self, *commands: tuple[Any, ...]) -> None:
        """Count what was carried out; at the one wanted, kill the store and lose the reply."""
        self._left -= sum(is_write(command) for command in commands)
        if self._left <= 0 and not self.killed:
            self.killed = True
            self._server.kill()
            if self._back:
                self._server.start()
            raise redis.ConnectionError("the reply was lost")


def is_write(command: tuple[Any, ...]) -> bool:
    """Tell whether a command changes what is in the store."""
    return command[0] not in READS and not (command[0] == "EVALSHA" and command[1] in READING_SCRIPTS)


@contextmanager
def watching(killing: Killing) -> Iterator[None]:
    """Let a killing see all commands."""
    act, act_async, act_together = Client.execute_command, AsyncClient.execute_command, Pipeline.execute

    def execute(self: Client, *args: Any, **options: Any) -> Any:
        reply = act(self, *args, **options)
        killing.after(args)
        return reply

    async def execute_async(self: AsyncClient, *args: Any, **options: Any) -> Any:
        reply = await act_async(self, *args, **options)
        killing.after(args)
        return reply

    def execute_together(self: Pipeline, raise_on_error: bool = True) -> list[Any]:
        commands = [args for args, _ in self.command_stack]
        replies = act_together(self, raise_on_error)
        killing.after(*(commands[:1] if self._of_one_shard else commands))  # a transaction is one write
        return replies

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "execute_command", execute)
        patch.setattr(AsyncClient, "execute_command", execute_async)
        patch.setattr(Pipeline, "execute", execute_together)
        yield


def folding(settings: Settings) -> None:
    """What is pending, in rounds of an entry."""
    store = ArchiveStore(settings)
    try:
        fold(settings, store, 1)
    finally:
        store.close()


def backfilling(settings: Settings) -> None:
    """History, in parts of a user or two."""
    store = ArchiveStore(settings)
    try:
        archive = needed_archive(settings, store)
        store.register_backfill("old", {"state": "started"})
        for shard, part in parts_of(history_of(HISTORY, store.shards()).to_batches(), 3):
            merge_part(store, "old", shard, part, settings.lateness_us, archive)
        store.update_backfill("old", {"state": "done"})
    finally:
        store.close()


def rebuilding(settings: Settings) -> None:
    """State and report anew from the archive."""
    rebuild(settings, grace_s=0)


def erasing(settings: Settings) -> None:
    """A user out of log, state, report, archive and quarantine."""
    store = ErasureStore(settings)
    try:
        erase(settings, store, "u1")
    finally:
        store.close()


def resharding(settings: Settings) -> None:
    """Three shards in the place of two."""
    store = ReshardingStore(settings)
    try:
        if store.layout().get("shards") != "3" or store.plan():
            reshard(settings, store, 3)
        assert not {"plan", "resharding", "building"} & store.layout().keys()
    finally:
        store.close()


def compacting(settings: Settings) -> None:
    """Small files of the archive merged, left-over ones deleted."""
    store = ArchiveStore(settings)
    try:
        archive = needed_archive(settings, store)
        for shard in range(store.shards()):
            merge_files(store, archive, shard, everything=True)
            sweep(store, archive, shard)
    finally:
        store.close()


def quarantine_one(settings: Settings) -> None:
    """Have an event of the user among those that were rejected."""

    async def add() -> None:
        held = Quarantine(settings)
        record = quarantine.new_record([Fault("bad_type", "/event", "no text")], {"user_id": "u1", "event": 7})
        await held.add([(record, quarantine.packed(record))])
        await held.close()

    asyncio.run(add())


def archived_events(settings: Settings, store: CheckedStore) -> Counter[Event]:
    """Return all that the archive's files of log that are on record hold."""
    archive = needed_archive(settings, store)
    files = [file for shard in range(store.shards()) for file in store.archive_books(shard).files if file.first]
    rows = [row for file in files for table in archive.tables(file) for row in table.to_pylist()]
    names = ("user_id", "event", "flyer_id", "merchant_id")
    return Counter(Event((row["timestamp"] - EPOCH) // MICROSECOND, *(row[name] for name in names)) for row in rows)


@pytest.mark.parametrize("back", [False, True], ids=["stays away", "is back at once"])
@pytest.mark.parametrize(
    ("command", "fewest"),
    [(folding, 4), (backfilling, 7), (rebuilding, 15), (erasing, 5), (compacting, 3), (resharding, 40)],
)
def test_a_store_killed_at_any_write_loses_and_doubles_nothing(
    server: EmbeddedValkey,
    tmp_path: Path,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    command: Callable[[Settings], None],
    fewest: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    back: bool,
) -> None:
    """The same command completes it: report, books and archive are those of the events, and runs go on."""
    monkeypatch.setattr(redis_lease, "LEASE_S", 0.1)
    left = [event for event in EVENTS if command is not erasing or event.user_id != "u1"]
    for nth in itertools.count(1):
        name = f"{command.__name__}-{nth}-{'back' if back else 'away'}"
        settings = Settings(redis_url=server.url, namespace=name, shards=2, archive_uri=str(tmp_path / name))
        store = CheckedStore(dataclasses.replace(settings, shards=None))
        fill_log(settings, [EVENTS[:20], EVENTS[20:40]])
        fold(settings, store, 10)
        fill_log(settings, [EVENTS[40:50], EVENTS[50:]])
        quarantine_one(settings)
        settings = dataclasses.replace(settings, shards=None)
        killing = Killing(server, nth, back=back)
        try:
            with watching(killing):
                command(settings)
        except FlyertimeError:
            assert killing.killed
        if killing.killed:
            if not back:
                server.start()
            load_scripts(server)
            command(settings)
        fold(settings, store)

        counted = [*left, *(HISTORY if command is backfilling else ())]
        assert plain_report(counted) == read_report(settings), name
        found = [verify_shard(store, needed_archive(settings, store), shard) for shard in range(store.shards())]
        assert [] == [deviation for findings in found for deviation in findings.deviations], name
        assert all(findings.recomputed and not findings.pending for findings in found), name
        assert (60, 60) == tuple(
            sum(number) for number in zip(*((one.accepted, one.folded + one.erased) for one in found), strict=True)
        )
        assert Counter(left) == archived_events(settings, store), name
        store.close()
        if not killing.killed:
            assert nth > fewest
            return
