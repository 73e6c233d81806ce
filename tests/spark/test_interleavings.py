"""Appends, folds, backfills, merged files, erasures, rebuilds, reshardings in any order, broken off: a plain model."""

from __future__ import annotations

import dataclasses
import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, currently_in_test_context, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from functions.adapters import redis_erasure, redis_lease, redis_shard
from functions.adapters.redis_archive import ArchiveStore
from functions.adapters.redis_checks import CheckedStore
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_generations import GenerationStore
from functions.adapters.redis_resharding import ReshardingStore
from functions.core.errors import FlyertimeError, MisconfiguredError
from functions.core.events import FLYER_EVENTS, Event
from functions.core.settings import Settings
from functions.core.spans import average_hours, spans_of, totals_of
from spark.backfill_parts import merge_part, parts_of
from spark.erasing import erase
from spark.folding import fold_shard
from spark.keeping import merge_files, needed_archive, sweep
from spark.rebuilding import rebuild
from spark.resharding import reshard
from spark.verifying import verify_shard
from tests.disturbing import STEPS, Disturbance, disturbed
from tests.made_up_history import history_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from functions.local.valkey import EmbeddedValkey

USERS = ["", "u", "v", "ü", "w", "x"]
_numbers = itertools.count()


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
MEANWHILE = {
    "fold": ["append", "fold", "merge", "erase"],
    "backfill": ["append", "fold", "merge"],  # not erase: a backfill that goes on may bring the user back
    "merge": ["append", "fold", "erase"],
    "erase": ["append", "fold", "merge"],
    "rebuild": ["append", "fold", "merge", "erase"],
    "reshard": [],  # offline
}
"""What may go on while a command does its work."""


def disturbances(command: str) -> st.SearchStrategy[Disturbance | None]:
    """Draw where to disturb a command, and how."""
    steps = st.sampled_from(STEPS[command])
    hows = st.sampled_from(["before", "after", *MEANWHILE[command]])
    return st.none() | st.builds(Disturbance, steps, st.integers(1, 4), hows)


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
        self.happened: list[str] = []

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
    def disturbed(
        self, disturbance: Disturbance | None, events: Sequence[Event] = (), erased: str = "x"
    ) -> Iterator[None]:
        """Disturb what is done within, where asked for: break it off, or do something else meanwhile."""
        if disturbance is None:
            yield
            return

        def act() -> None:
            if disturbance.how == "append":
                self.append(list(events))
            elif disturbance.how == "fold":
                self.fold(2, None, [])
            elif disturbance.how == "merge":
                self.merge(True, None, [])
            else:
                self.erase(erased, None, [])

        with disturbed(disturbance, act) as happened:
            yield
        self.happened += happened
        if currently_in_test_context():
            note(f"disturbed: {happened or 'not'}")

    @rule(events=EVENTS)
    def append(self, events: list[Event]) -> None:
        """Take a request in."""
        if events:
            type(self).fill(self.settings, [events])
            self.events += events

    @rule(round_events=st.sampled_from([1, 4, 1000]), disturbance=disturbances("fold"), more=EVENTS)
    def fold(self, round_events: int, disturbance: Disturbance | None, more: list[Event]) -> None:
        """Run the job."""
        with self.disturbed(disturbance, more), self.opened(ArchiveStore) as store:
            archive = needed_archive(self.settings, store)
            for shard in range(store.shards()):
                newest = store.ledger(shard).newest_id
                if newest is not None:
                    fold_shard(
                        store, shard, newest, round_events, archive=archive, lateness_us=self.settings.lateness_us
                    )

    @rule(events=EVENTS, disturbance=disturbances("backfill"), more=EVENTS)
    def begin_backfill(self, events: list[Event], disturbance: Disturbance | None, more: list[Event]) -> None:
        """Count some history."""
        self.backfills.append((f"history-{len(self.backfills)}", events))
        self.backfill(disturbance, more)

    @rule(disturbance=disturbances("backfill"), more=EVENTS)
    def backfill(self, disturbance: Disturbance | None, more: list[Event]) -> None:
        """Start all backfills again, in parts."""
        for name, events in self.backfills:
            with self.disturbed(disturbance, more), self.opened(ArchiveStore) as store:
                archive = needed_archive(self.settings, store)
                store.register_backfill(name, {"state": "started"})
                for shard, part in parts_of(history_of(events, store.shards()).to_batches(), 3):
                    merge_part(store, name, shard, part, self.settings.lateness_us, archive)
                store.update_backfill(name, {"state": "done"})

    @rule(everything=st.booleans(), disturbance=disturbances("merge"), more=EVENTS)
    def merge(self, everything: bool, disturbance: Disturbance | None, more: list[Event]) -> None:
        """Merge the archive's files, and delete left-over ones."""
        with self.disturbed(disturbance, more), self.opened(ArchiveStore) as store:
            archive = needed_archive(self.settings, store)
            for shard in range(store.shards()):
                merge_files(store, archive, shard, everything=everything)
                sweep(store, archive, shard)

    @rule(user=st.sampled_from(USERS), disturbance=disturbances("erase"), more=EVENTS)
    def erase(self, user: str, disturbance: Disturbance | None, more: list[Event]) -> None:
        """Erase a user, who sends nothing meanwhile; where that breaks off, once more."""
        self.backfill(None, [])  # one that is not done may bring the user back
        others = [event for event in more if event.user_id != user]
        for at_this_try in (disturbance, None) if disturbance else (None,):
            with self.disturbed(at_this_try, others), self.opened(ErasureStore) as store:
                erase(self.settings, store, user)
        self.events = [event for event in self.events if event.user_id != user]
        self.backfills = [
            (name, [event for event in events if event.user_id != user]) for name, events in self.backfills
        ]

    @rule(disturbance=disturbances("rebuild"), more=EVENTS, user=st.sampled_from(USERS))
    def rebuild(self, disturbance: Disturbance | None, more: list[Event], user: str) -> None:
        """Rebuild from the archive; a run that waits too long for the switch, as they do here, puts an end to it."""
        with self.disturbed(disturbance, more, user):
            try:
                rebuild(self.settings, grace_s=0)
            except FlyertimeError as e:
                assert (e.code, bool(disturbance)) == ("rebuild_superseded", True)  # noqa: PT017  # and nothing else

    @rule(to=st.integers(1, 5), disturbance=disturbances("reshard"))
    def reshard(self, to: int, disturbance: Disturbance | None) -> None:
        """Lay the store out anew; where that breaks off, once more."""
        self.backfill(None, [])
        for at_this_try in (disturbance, None) if disturbance else (None,):
            with self.disturbed(at_this_try), self.opened(ReshardingStore) as store:
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
        self.backfill(None, [])
        self.fold(1000, None, [])
        events = [*self.events, *(event for _, some in self.backfills for event in some)]
        totals = {user: totals_of(spans) for user, spans in spans_of(events).items()}
        expected = {
            user: average_hours(total.seconds, total.sessions) for user, total in totals.items() if total.sessions
        }
        assert expected == type(self).report(self.settings)
        self.rebuild(None, [], "")
        assert expected == type(self).report(self.settings)
        self.merge(everything=True, disturbance=None, more=[])
        with self.opened(CheckedStore) as store:
            archive = needed_archive(self.settings, store)
            for shard in range(store.shards()):
                found = verify_shard(store, archive, shard)
                assert ([], 0) == (found.deviations, found.pending)


@pytest.fixture
def machine(
    valkey: EmbeddedValkey,
    tmp_path: Path,
    fill_log: Callable[[Settings, Iterable[Sequence[Event]]], None],
    read_report: Callable[[Settings], dict[str, float]],
    monkeypatch: pytest.MonkeyPatch,
) -> type[Pipeline]:
    """Pipelines in the store; who is gone is not waited for."""
    monkeypatch.setattr(redis_shard, "FENCE_S", 0.01)
    monkeypatch.setattr(redis_erasure, "LEASE_S", 0.01)
    monkeypatch.setattr(redis_lease, "LEASE_S", 0.01)

    def settings_of() -> Settings:
        name = f"mix{next(_numbers)}"
        return Settings(redis_url=valkey.url, namespace=name, archive_uri=str(tmp_path / name))

    class Example(Pipeline):
        pass

    Example.settings_of = staticmethod(settings_of)
    Example.fill = staticmethod(fill_log)
    Example.report = staticmethod(read_report)
    return Example


def test_any_interleaving_gives_the_models_report(machine: type[Pipeline]) -> None:
    """Two shards, a few users, awkward moments and names; each step may be broken off, as a kill would."""
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=30,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


SOME = [
    Event(number * 977_000_000, USERS[number % 6], ("flyer_open", "flyer_close")[number % 2], f"f{number % 2}", "m")
    for number in range(24)
]


@pytest.mark.parametrize(
    ("command", "step", "how"),
    [
        pytest.param(command, step, how, id=f"{command} {how} {step[1]}")
        for command, steps in STEPS.items()
        for step in steps
        for how in ("before", "after", *MEANWHILE[command])
    ],
)
def test_each_command_may_be_disturbed_at_each_of_its_steps(
    machine: type[Pipeline], command: str, step: tuple[type, str], how: str
) -> None:
    """The same machine by a plan, where chance might leave something out: it does come to the disturbance."""
    pipeline = machine()
    pipeline.lay_out(60)
    pipeline.append(SOME[:5])
    pipeline.append(SOME[5:9])
    pipeline.fold(1, None, [])
    pipeline.begin_backfill(SOME[9:15], None, [])
    pipeline.append(SOME[15:])
    disturbance = Disturbance(step, 1, how)
    if command == "fold":
        pipeline.fold(4, disturbance, SOME[:3])
    elif command == "backfill":
        pipeline.begin_backfill(SOME[3:9], disturbance, SOME[:3])
    elif command == "merge":
        pipeline.merge(True, disturbance, SOME[:3])
    elif command == "erase":
        pipeline.erase("u", disturbance, SOME[:3])
    elif command == "rebuild":
        pipeline.rebuild(disturbance, SOME[:3], "u")
    else:
        pipeline.reshard(3, disturbance)

    assert [f"{how} {step[1]}"] == pipeline.happened[:1]
    pipeline.the_books_balance()
    pipeline.append(SOME[:5])
    pipeline.teardown()
