"""Appends, folds, backfills, merged files, erasures, rebuilds, reshardings in any order, broken off: a plain model."""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from hypothesis import HealthCheck, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from functions.adapters import redis_erasure, redis_shard
from functions.adapters.redis_archive import ArchiveStore
from functions.adapters.redis_checks import CheckedStore
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_generations import BuildingStore, GenerationStore
from functions.adapters.redis_resharding import ReshardingStore
from functions.core.errors import MisconfiguredError
from functions.core.events import FLYER_CLOSE, FLYER_EVENTS, Event
from functions.core.settings import Settings
from functions.core.shards import shard_of
from functions.core.spans import average_hours, spans_of, totals_of
from spark.archive import Archive
from spark.backfill_parts import merge_part, parts_of
from spark.erasing import erase
from spark.folding import fold_shard
from spark.keeping import merge_files, needed_archive, sweep
from spark.rebuilding import rebuild
from spark.resharding import reshard
from spark.verifying import verify_shard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    import pytest

    from functions.local.valkey import EmbeddedValkey

USERS = ["", "u", "v", "ü", "w", "x"]
_numbers = itertools.count()


class BrokenOffError(Exception):
    """In place of a kill: what is outside is as a kill leaves it, and nothing inside is used again."""


STEPS: list[tuple[type, str]] = [
    (ArchiveStore, "commit"),
    (ArchiveStore, "swap_files"),
    (Archive, "write_log"),
    (Archive, "write_history"),
    (Archive, "rewrite"),
    (Archive, "remove"),
    (ErasureStore, "begin_log"),
    (ErasureStore, "copy_log"),
    (ErasureStore, "finish_log"),
    (ErasureStore, "erase_state"),
    (BuildingStore, "begin_shard"),
    (GenerationStore, "begin_generation"),
    (GenerationStore, "fence"),
    (GenerationStore, "switch_to"),
    (GenerationStore, "lift_fence"),
    (GenerationStore, "give_up_switch"),
    (GenerationStore, "drop_generation"),
    (ReshardingStore, "let_in"),
    (ReshardingStore, "add_fields"),
    (ReshardingStore, "copy_seen"),
    (ReshardingStore, "put_on_new_record"),
    (ReshardingStore, "finish_shard"),
    (ReshardingStore, "move_erasures"),
    (ReshardingStore, "end_shard"),
    (ReshardingStore, "set_layout"),
]


@contextmanager
def breaking(step: tuple[type, str], nth: int, when: str) -> Iterator[None]:
    """Break off at the n-th call of a step, before or after it; where it comes to that. What follows does nothing."""
    owner, name = step
    act = getattr(owner, name)
    left = nth

    def broken(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and when == "after":
            act(*arguments, **named)
        if left <= 0:  # also in what cleans up: a kill leaves nobody who does
            raise BrokenOffError
        return act(*arguments, **named)

    own = name in vars(owner)
    setattr(owner, name, broken)
    try:
        yield
    except BrokenOffError:
        note(f"broken off {when} {name} {nth}")
    finally:
        if own:
            setattr(owner, name, act)
        else:
            delattr(owner, name)


MOMENTS_US = st.one_of(
    st.integers(-3, 3).map(lambda hours: hours * 3_600_000_000),
    st.integers(0, 1000).map(lambda halves: halves * 18_000_000),
    st.integers(-(10**12), 10**13),
)
EVENTS = st.lists(
    st.builds(
        Event,
        MOMENTS_US,
        st.sampled_from(USERS),
        st.sampled_from([*sorted(FLYER_EVENTS), "page_view"]),
        st.sampled_from(["", "f", "g", None]),
        st.sampled_from(["", "m", "n", None]),
    ),
    min_size=1,
    max_size=12,
)
BREAKS = st.none() | st.tuples(st.sampled_from(STEPS), st.integers(1, 4), st.sampled_from(["before", "after"]))


def history_of(events: Sequence[Event], shards: int) -> pa.Table:
    """Return flyer events as the tasks of a backfill get them: by shard and place."""
    rows = [
        {
            "shard": shard_of(event.user_id, shards),
            "place": zlib.crc32(event.user_id.encode()),
            "user_id": event.user_id,
            "flyer_id": event.flyer_id,
            "merchant_id": event.merchant_id or "",
            "first_us": event.timestamp_us,
            "last_us": event.timestamp_us,
            "events": 1,
            "is_close": event.event == FLYER_CLOSE,
        }
        for event in events
        if event.event in FLYER_EVENTS and event.flyer_id is not None
    ]
    types = {name: pa.int64() for name in ("shard", "place", "first_us", "last_us", "events")}
    types |= {name: pa.string() for name in ("user_id", "flyer_id", "merchant_id")} | {"is_close": pa.bool_()}
    return pa.Table.from_pylist(
        sorted(rows, key=lambda row: (row["shard"], row["place"])), pa.schema(list(types.items()))
    )


class Pipeline(RuleBasedStateMachine):
    """The real parts on a real store, and beside them a list of events."""

    settings_of: Callable[[], Settings]
    fill: Callable[[Settings, Iterable[Sequence[Event]]], None]
    report: Callable[[Settings], dict[str, float]]

    def __init__(self) -> None:
        super().__init__()
        self.settings = type(self).settings_of()
        self.events: list[Event] = []
        self.backfills: list[tuple[str, list[Event]]] = []

    @initialize(lateness_s=st.sampled_from([60, 10_000_000]))
    def lay_out(self, lateness_s: int) -> None:
        """Fix the number of shards, and whether events come too late for the time from open to close."""
        self.settings = dataclasses.replace(self.settings, lateness_s=lateness_s)
        first = GenerationStore(dataclasses.replace(self.settings, shards=2))
        first.lay_out()
        first.close()

    @contextmanager
    def opened(self, kind: type[Any]) -> Iterator[Any]:
        """Open a store of a kind."""
        store = kind(self.settings)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def perhaps_broken(self, broken: tuple[tuple[type, str], int, str] | None) -> Iterator[None]:
        """Break off somewhere, where asked for."""
        if broken is None:
            yield
        else:
            with breaking(*broken):
                yield

    @rule(events=EVENTS)
    def append(self, events: list[Event]) -> None:
        """Take a request in."""
        type(self).fill(self.settings, [events])
        self.events += events

    @rule(round_events=st.sampled_from([1, 4, 1000]), broken=BREAKS)
    def fold(self, round_events: int, broken: tuple[tuple[type, str], int, str] | None) -> None:
        """Run the job."""
        with self.perhaps_broken(broken), self.opened(ArchiveStore) as store:
            archive = needed_archive(self.settings, store)
            for shard in range(store.shards()):
                newest = store.ledger(shard).newest_id
                if newest is not None:
                    fold_shard(
                        store, shard, newest, round_events, archive=archive, lateness_us=self.settings.lateness_us
                    )

    @rule(events=EVENTS, broken=BREAKS)
    def begin_backfill(self, events: list[Event], broken: tuple[tuple[type, str], int, str] | None) -> None:
        """Count some history."""
        self.backfills.append((f"history-{len(self.backfills)}", events))
        self.backfill(broken)

    @rule(broken=BREAKS)
    def backfill(self, broken: tuple[tuple[type, str], int, str] | None) -> None:
        """Start all backfills again, in parts."""
        for name, events in self.backfills:
            with self.perhaps_broken(broken), self.opened(ArchiveStore) as store:
                archive = needed_archive(self.settings, store)
                store.register_backfill(name, {"state": "started"})
                for shard, part in parts_of(history_of(events, store.shards()).to_batches(), 3):
                    merge_part(store, name, shard, part, self.settings.lateness_us, archive)
                store.update_backfill(name, {"state": "done"})

    @rule(everything=st.booleans(), broken=BREAKS)
    def merge(self, everything: bool, broken: tuple[tuple[type, str], int, str] | None) -> None:
        """Merge the archive's files, and delete left-over ones."""
        with self.perhaps_broken(broken), self.opened(ArchiveStore) as store:
            archive = needed_archive(self.settings, store)
            for shard in range(store.shards()):
                merge_files(store, archive, shard, everything=everything)
                sweep(store, archive, shard)

    @rule(user=st.sampled_from(USERS), broken=BREAKS)
    def erase(self, user: str, broken: tuple[tuple[type, str], int, str] | None) -> None:
        """Erase a user; where that breaks off, once more."""
        self.backfill(None)  # one that is not done may bring the user back
        for at_this_try in (broken, None) if broken else (None,):
            with self.perhaps_broken(at_this_try), self.opened(ErasureStore) as store:
                erase(self.settings, store, user)
        self.events = [event for event in self.events if event.user_id != user]
        self.backfills = [
            (name, [event for event in events if event.user_id != user]) for name, events in self.backfills
        ]

    @rule(broken=BREAKS)
    def rebuild(self, broken: tuple[tuple[type, str], int, str] | None) -> None:
        """Rebuild from the archive."""
        with self.perhaps_broken(broken):
            rebuild(self.settings, grace_s=0)

    @rule(to=st.integers(1, 5), broken=BREAKS)
    def reshard(self, to: int, broken: tuple[tuple[type, str], int, str] | None) -> None:
        """Lay the store out anew; where that breaks off, once more."""
        self.backfill(None)
        for at_this_try in (broken, None) if broken else (None,):
            with self.perhaps_broken(at_this_try), self.opened(ReshardingStore) as store:
                try:
                    reshard(self.settings, store, to)
                except MisconfiguredError as e:
                    assert e.code == "same_shards"  # noqa: PT017  # and nothing else
                assert to == store.shards()

    @invariant()
    def the_books_balance(self) -> None:
        """Whatever is broken off, accepted = folded + pending + erased, and the log holds what is pending."""
        with self.opened(CheckedStore) as store:
            for shard in range(store.shards()):
                found = verify_shard(store, needed_archive(self.settings, store), shard)
                assert [] == [line for line in found.deviations if "left over" not in line]
                assert found.recomputed

    def teardown(self) -> None:
        """Let everything come to its end: the report is that of the model's events."""
        self.backfill(None)
        self.fold(1000, None)
        events = [*self.events, *(event for _, some in self.backfills for event in some)]
        totals = {user: totals_of(spans) for user, spans in spans_of(events).items()}
        expected = {
            user: average_hours(total.seconds, total.sessions) for user, total in totals.items() if total.sessions
        }
        assert expected == type(self).report(self.settings)
        self.rebuild(None)
        assert expected == type(self).report(self.settings)
        self.merge(everything=True, broken=None)
        with self.opened(CheckedStore) as store:
            archive = needed_archive(self.settings, store)
            for shard in range(store.shards()):
                found = verify_shard(store, archive, shard)
                assert ([], 0) == (found.deviations, found.pending)


def test_any_interleaving_gives_the_models_report(
    valkey: EmbeddedValkey,
    tmp_path: Path,
    fill_log: Callable[[Settings, Iterable[Sequence[Event]]], None],
    read_report: Callable[[Settings], dict[str, float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two shards, a few users, awkward moments and names; each step may be broken off, as a kill would."""
    monkeypatch.setattr(redis_shard, "FENCE_S", 0.01)
    monkeypatch.setattr(redis_erasure, "LEASE_S", 0.01)

    def settings_of() -> Settings:
        name = f"mix{next(_numbers)}"
        return Settings(redis_url=valkey.url, namespace=name, archive_uri=str(tmp_path / name))

    class Example(Pipeline):
        pass

    Example.settings_of = staticmethod(settings_of)
    Example.fill = staticmethod(fill_log)
    Example.report = staticmethod(read_report)
    run_state_machine_as_test(
        Example,
        settings=hypothesis_settings(
            max_examples=30,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
