"""A user erased, whatever is killed with SIGKILL on the way: the command at each of its writes, the store at each.

What the command does to the archive's files lies between two writes, so each of these moments is among them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import hiredis
import pyarrow.parquet as pq
import pytest
import redis

import functions.adapters
from functions.adapters import redis_erasure
from functions.adapters.redis_checks import CheckedStore
from functions.adapters.redis_client import load_script
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_quarantine import Quarantine
from functions.core import quarantine
from functions.core.errors import Fault
from functions.core.events import Event
from functions.core.settings import Settings
from functions.core.shards import Keys, shard_of
from spark.erasing import Receipt, erase
from spark.keeping import needed_archive
from spark.rebuilding import rebuild
from spark.verifying import verify_shard
from tests.fold_in_process import fold
from tests.killing_at_commits import ROOT, Proxy, environment_of
from tests.spark.conftest import expected_report, fill, report_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.local.valkey import EmbeddedValkey
    from tests.conftest import MakeServer

pytestmark = pytest.mark.timeout(300)

USER: Final = "someone@example.com"
EVENTS: Final = [
    Event(number * 977_000_000, USER if number % 5 == 1 else f"u{number % 5}", "flyer_open", f"f{number % 3}", "m")
    for number in range(300)
]
OTHERS: Final = [event for event in EVENTS if event.user_id != USER]
FOLDED: Final = 200
READS: Final = {
    *(b"HGET", b"HMGET", b"HGETALL", b"SMEMBERS", b"XRANGE", b"TIME", b"PING"),
    *(b"HELLO", b"AUTH", b"SELECT", b"CLIENT", b"INFO", b"CLUSTER", b"COMMAND"),
}
SCRIPTS: Final = sorted(path.stem for path in (Path(functions.adapters.__file__).parent / "lua").glob("*.lua"))
READING_SCRIPTS: Final = {load_script(name).sha.encode() for name in ("ledger", "archive_books")}
ZEROS: Final = dataclasses.asdict(Receipt("", 0))


class Writes:
    """A step is whatever changes something in the store."""

    def __init__(self) -> None:
        self._commands = hiredis.Reader()

    def sent(self, data: bytes) -> bool:
        """Tell whether a command that writes is complete."""
        self._commands.feed(data)
        found = False
        while (command := self._commands.gets()) is not False:
            name, *arguments = command
            found |= name.upper() not in READS and not READING_SCRIPTS & set(arguments[:1])
        return found

    def replied(self, data: bytes) -> bool:
        """Tell whether its reply is there: one reply is waited for at a time."""
        return bool(data)


@pytest.fixture(scope="module")
def server(make_server: MakeServer) -> Iterator[EmbeddedValkey]:
    """A store that has on disk what it has answered."""
    with make_server({"appendfsync": "always"}) as server:
        yield server


def load_scripts(server: EmbeddedValkey) -> None:
    """Let the store know all scripts by their names, so that one call of a script is one command."""
    with redis.Redis.from_url(server.url) as client:
        for name in SCRIPTS:
            client.script_load(load_script(name).text)


def pipeline(server: EmbeddedValkey, folder: Path, name: str, events: list[Event]) -> Settings:
    """Return the settings of a pipeline with a user in every store."""
    settings = Settings(redis_url=server.url, namespace=name, shards=2, archive_uri=str(folder / name))
    folded, pending = ([event for event in events if event in some] for some in (set(EVENTS[:FOLDED]), EVENTS[FOLDED:]))
    fill(settings, [folded[: len(folded) // 2], folded[len(folded) // 2 :]])
    fold_all(settings)
    fill(settings, [pending[: len(pending) // 2], pending[len(pending) // 2 :]])

    async def reject() -> None:
        held = Quarantine(settings)
        record = quarantine.new_record([Fault("bad_type", "/event", "no text")], {"user_id": USER, "event": 7})
        await held.add([(record, quarantine.packed(record))])
        await held.close()

    asyncio.run(reject())
    return dataclasses.replace(settings, shards=None)


def fold_all(settings: Settings) -> None:
    """Fold what is pending."""
    store = CheckedStore(settings)
    fold(settings, store)
    store.close()


def kill_at(server: EmbeddedValkey, settings: Settings, nth: int, moment: str, victim: str) -> str | None:
    """Erase the user and kill at the n-th write; return what was printed, None where there are not so many writes."""
    started: list[subprocess.Popen[str]] = []

    def kill() -> None:
        if victim == "store":
            server.kill()
        else:
            os.kill(started[0].pid, signal.SIGKILL)

    proxy = Proxy(server.port, nth, moment, kill, Writes)
    environment = environment_of(settings, FLYERTIME_REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0")
    command = [sys.executable, "-m", "spark.main", "erase", USER]
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    started.append(process)
    printed, complaint = process.communicate(timeout=60)
    proxy.close()
    if not process.returncode:
        assert not proxy.reached.is_set()
        return None
    assert proxy.reached.wait(10), complaint  # who was killed may have ended before the proxy gets to say so
    if victim == "store":
        assert 75 == process.returncode, complaint
        server.start()
        load_scripts(server)
    else:
        assert -signal.SIGKILL == process.returncode
    return printed


def receipt_of_another(settings: Settings) -> dict[str, Any]:
    """Erase the user once more."""
    store = ErasureStore(settings)
    receipt = erase(settings, store, USER)
    store.close()
    return dataclasses.asdict(receipt)


def state_of(server: EmbeddedValkey, settings: Settings) -> list[dict[bytes, bytes]]:
    """Return spans and averages, overall and the merchant's, shard by shard and byte by byte."""
    with redis.Redis.from_url(server.url, decode_responses=False) as client:
        held: Any = client.hget(Keys(settings.namespace).layout, "generation")
        keys = Keys(settings.namespace, int(held or 0))
        names = [(keys.spans(shard), keys.averages(shard), keys.averages(shard, "m")) for shard in range(2)]
        return [client.hgetall(name) for name in itertools.chain(*names)]


def check_gone(server: EmbeddedValkey, settings: Settings) -> None:
    """Check that the user is in no key of the store and in no file of the archive, and that the books balance."""
    store = CheckedStore(settings)
    with redis.Redis.from_url(server.url) as client:
        for key in client.scan_iter(f"{{{settings.namespace}*"):
            assert USER.encode() not in (client.dump(key) or b"") + key, key
    for file in Path(settings.archive_uri or "").rglob("*"):
        if file.is_file():
            assert USER not in pq.read_table(file, columns=["user_id"])["user_id"].to_pylist(), file
    archive = needed_archive(settings, store)
    for shard in range(2):
        ledger = store.ledger(shard)
        assert ledger.accepted == ledger.folded + ledger.pending + ledger.erased
        found = verify_shard(store, archive, shard)
        assert ([], True) == (found.deviations, found.recomputed)
    store.close()


def check_receipt(receipt: dict[str, Any], *, fold_between: bool) -> None:
    """Check that it has all of the user's events, each where it was when it was taken out."""
    assert (USER, shard_of(USER, 2)) == (receipt["user_id"], receipt["shard"])
    assert (3, 2, 1) == tuple(receipt[name] for name in ("state_spans", "report_averages", "quarantined_events"))
    assert len(EVENTS) - len(OTHERS) == receipt["pending_events"] + receipt["archived_events"]
    assert receipt["state_events"] == receipt["archived_events"]
    if not fold_between:
        assert sum(event.user_id == USER for event in EVENTS[FOLDED:]) == receipt["pending_events"]


@pytest.mark.parametrize(
    ("victim", "moment", "fold_between"),
    [("command", "before", False), ("command", "after", True), ("store", "before", True), ("store", "after", False)],
)
def test_a_user_is_gone_and_the_receipt_is_whole_whatever_was_killed(
    server: EmbeddedValkey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    victim: str,
    moment: str,
    *,
    fold_between: bool,
) -> None:
    """Killed at its n-th write, for each n, and called again: nobody else notices, and a rebuild keeps it so.

    The receipt is the one that was printed before the kill, else that of the second call, with all that the first one
    had taken out; the third has nothing.
    """
    monkeypatch.setattr(redis_erasure, "LEASE_S", 0.01)
    load_scripts(server)
    folder = f"{victim}-{moment}-{fold_between}"
    control = pipeline(server, tmp_path, f"{folder}-control", OTHERS)
    fold_all(control)
    others = state_of(server, control)
    resumed = 0
    for nth in itertools.count(1):
        settings = pipeline(server, tmp_path, f"{folder}-{nth}", EVENTS)
        printed = kill_at(server, settings, nth, moment, victim)
        if printed is None:
            break
        if fold_between:
            fold_all(settings)
        second, third = receipt_of_another(settings), receipt_of_another(settings)
        check_gone(server, settings)
        check_receipt(json.loads(printed) if printed else second, fold_between=fold_between)
        assert ZEROS == {**third, **{name: ZEROS[name] for name in ("user_id", "shard", "report_version")}}
        resumed += second["resumed"]
        fold_all(settings)
        assert expected_report(OTHERS) == report_of(settings)
        assert others == state_of(server, settings), nth
        rebuild(settings, grace_s=0)
        check_gone(server, settings)
        assert others == state_of(server, settings), nth
    assert nth > 8
    assert resumed >= 4
