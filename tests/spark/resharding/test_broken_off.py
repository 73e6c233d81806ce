"""Another number of shards is broken off, held up, refused or overtaken: it is completed, or nothing has changed."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters.redis_lease import Lease
from functions.adapters.redis_resharding import ReshardingStore
from functions.core.errors import FlyertimeError, MisconfiguredError, UnavailableError
from spark.resharding import reshard
from tests.disturbing import Disturbance, disturbed
from tests.fold_in_process import fold
from tests.spark.resharding.laid_out_anew import EVENTS, ROOT, deviations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import redis

    from functions.core.events import Event
    from functions.core.settings import Settings

    Fill = Callable[[Settings, Iterable[list[Event]]], None]
    Read = Callable[[Settings], dict[str, float]]
    Plain = Callable[[Iterable[Event]], dict[str, float]]

KILLED = """
import os, signal, sys
from functions.adapters import redis_lease
from functions.adapters.redis_resharding import ReshardingStore
from functions.core.environment import parse
from spark.resharding import reshard
redis_lease.LEASE_S = 0.3
act, left = getattr(ReshardingStore, sys.argv[1]), int(sys.argv[2])
def killed(*arguments, **named):
    global left
    left -= 1
    if left:
        return act(*arguments, **named)
    if sys.argv[3] == "after":
        act(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(ReshardingStore, sys.argv[1], killed)
settings = parse(os.environ)
reshard(settings, ReshardingStore(settings), 3)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("step", "time"),
    [
        ("let_in", 2),
        ("commit", 2),
        ("fence", 3),
        ("add_fields", 5),
        ("put_on_new_record", 4),
        ("switch_to", 1),
        ("finish_shard", 1),
        ("finish_shard", 3),
        ("end_shard", 1),
        ("drop_generation", 2),
        ("let_in", 5),
        ("let_in", 7),
    ],
)
def test_killed_at_any_step_the_same_command_completes_it(
    kept: Settings,
    store: ReshardingStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    step: str,
    time: int,
    moment: str,
) -> None:
    """The report is right at all times; in the end nothing of the old layout is left."""
    fill_log(kept, [EVENTS[start : start + 50] for start in range(0, 200, 50)])
    fold(kept, store)
    fill_log(kept, [EVENTS[200:]])
    environment = {
        **os.environ,
        "FLYERTIME_REDIS_URL": kept.redis_url,
        "FLYERTIME_NAMESPACE": kept.namespace,
        "FLYERTIME_ARCHIVE_URI": str(kept.archive_uri),
    }
    command = [sys.executable, "-c", KILLED, step, str(time), moment]
    killed = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert -signal.SIGKILL == killed.returncode, killed.stderr
    shown = read_report(kept)
    assert plain_report(EVENTS[:200]).keys() <= shown.keys() <= plain_report(EVENTS).keys()
    reshard(kept, store, 3)
    assert plain_report(EVENTS) == read_report(kept)
    assert [] == deviations(kept)
    assert {"shards": "3"}.items() <= store.layout().items()
    assert not {"plan", "resharding", "building"} & store.layout().keys()
    fill_log(kept, [EVENTS])
    fold(kept, store)
    assert plain_report([*EVENTS, *EVENTS]) == read_report(kept)


AT = [
    ("set_layout", 1),
    ("begin_generation", 1),
    ("add_fields", 3),
    ("switch_to", 1),
    ("finish_shard", 2),
    ("let_in", 6),
]


@pytest.mark.parametrize(("step", "time"), AT)
def test_one_is_at_work_at_a_time(
    kept: Settings,
    store: ReshardingStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    raw_redis: redis.Redis,
    step: str,
    time: int,
) -> None:
    """Whatever number another one wants, and whatever the first one is at: the other says so and changes nothing."""
    fill_log(kept, [EVENTS[:200]])
    fold(kept, store)
    fill_log(kept, [EVENTS[200:]])

    def meanwhile() -> None:
        other = ReshardingStore(kept)
        for to in (3, 4, 6):
            with pytest.raises(UnavailableError, match="another resharding is at work"):
                reshard(kept, other, to)
        other.close()

    with disturbed(Disturbance((ReshardingStore, step), time, "another"), meanwhile) as happened:
        reshard(kept, store, 3)

    assert [f"another {step}"] == happened
    assert (3, plain_report(EVENTS), []) == (store.shards(), read_report(kept), deviations(kept))
    names = [name.decode() for name in raw_redis.scan_iter(f"{{{kept.namespace}*")]
    assert f"{{{kept.namespace}}}:resharder" not in names
    assert [f"{{{kept.namespace}:3}}:ledger"] == [name for name in names if name.startswith(f"{{{kept.namespace}:3}}")]


@pytest.mark.parametrize(("step", "time"), [("commit", 2), *AT[1:4]])
def test_one_that_was_held_up_while_another_one_did_its_work_leaves_that_as_it_is(
    kept: Settings,
    store: ReshardingStore,
    fill_log: Fill,
    read_report: Read,
    plain_report: Plain,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    time: int,
) -> None:
    """It gave no sign for longer than its lease is good for, as one that was stopped and goes on; events come in."""
    monkeypatch.setattr(Lease, "_renew", lambda _: None)
    fill_log(kept, [EVENTS[:200]])
    fold(kept, store)
    fill_log(kept, [EVENTS[200:]])

    def meanwhile() -> None:
        other = ReshardingStore(kept)
        reshard(kept, other, 6)
        other.close()

    held_up = disturbed(Disturbance((ReshardingStore, step), time, "another"), meanwhile)
    with held_up, pytest.raises(FlyertimeError, match=r"begun meanwhile|came in between"):
        reshard(kept, store, 3)

    assert (6, plain_report(EVENTS), []) == (store.shards(), read_report(kept), deviations(kept))
    assert not {"plan", "resharding", "building"} & store.layout().keys()
    fill_log(kept, [EVENTS])
    fold(kept, store)
    assert plain_report([*EVENTS, *EVENTS]) == read_report(kept)


def test_what_cannot_be_done_is_undone(
    kept: Settings, store: ReshardingStore, fill_log: Fill, raw_redis: redis.Redis
) -> None:
    """An unfinished backfill, a damaged entry, no archive, the same number: events come in as before."""
    fill_log(kept, [EVENTS])
    fold(kept, store)
    with pytest.raises(MisconfiguredError, match="the store has 4 shards"):
        reshard(kept, store, 4)
    with pytest.raises(MisconfiguredError, match="1 to 4096 shards"):
        reshard(kept, store, 0)
    with pytest.raises(MisconfiguredError, match="set FLYERTIME_ARCHIVE_URI"):
        reshard(dataclasses.replace(kept, archive_uri=None), store, 8)
    store.register_backfill("half", {"state": "started"})
    with pytest.raises(MisconfiguredError, match="backfills are not done: half"):
        reshard(kept, store, 8)
    store.update_backfill("half", {"state": "done"})
    entry: Any = raw_redis.xadd(store.keys.events(1), {"e": b"\x09nonsense"})
    raw_redis.hincrby(store.keys.ledger(1), "accepted", 1)
    with pytest.raises(FlyertimeError, match=f"log entry {entry.decode()}"):
        reshard(kept, store, 8)
    fill_log(kept, [EVENTS])

    assert 4 == store.shards()
    assert 401 == sum(store.ledger(shard).pending for shard in range(4))
    assert not any(store.ledger(shard).fence for shard in range(4))


INTERRUPTED = """
import os, signal, sys
from functions.adapters.redis_resharding import ReshardingStore
from spark.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where tests run in the background
act = ReshardingStore.add_fields
def interrupted(*arguments):
    act(*arguments)
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
ReshardingStore.add_fields = interrupted
sys.exit(main(["reshard", "--to", "3"]))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_who_interrupts_it_finds_the_store_as_it_was(
    kept: Settings, store: ReshardingStore, fill_log: Fill, read_report: Read, plain_report: Plain, name: str
) -> None:
    """Ctrl-C, or the end of a pod, leaves nothing closed."""
    fill_log(kept, [EVENTS[:200]])
    environment = {**os.environ, "FLYERTIME_REDIS_URL": kept.redis_url, "FLYERTIME_NAMESPACE": kept.namespace}
    command = [sys.executable, "-c", INTERRUPTED, name]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    fill_log(kept, [EVENTS[200:]])
    fold(kept, store)

    assert (1, True) == (done.returncode, "reshard: stopped from outside" in done.stderr), done.stderr
    assert not {"plan", "resharding", "building"} & store.layout().keys()
    assert (4, plain_report(EVENTS)) == (store.shards(), read_report(kept))
