"""A user erased from the pending log in steps, while events come in and are folded in between: a plain model."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from functions.adapters import redis_erasure
from functions.adapters.redis_erasure import ErasureStore
from functions.adapters.redis_shard import Change, Committed
from functions.core.events import Event
from functions.core.packing import pack_events, unpack_events
from functions.core.settings import Settings
from spark.erasing_pending import erase_pending, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import redis

    from functions.local.valkey import EmbeddedValkey

    Fill = Callable[[Settings, Iterable[Sequence[Event]]], None]

USERS = ["u", "uu", "v", ""]
_numbers = itertools.count()


@dataclasses.dataclass
class Erasure:
    """One that is under way: whose, by which steps, and the events that it has to take out."""

    user: str
    steps: Iterator[bool]
    wanted: set[Event]


class Log(RuleBasedStateMachine):
    """A shard's log in a real store, and beside it every entry as it came in. Events differ by their moments."""

    new_settings: Callable[[], Settings]
    fill: Fill

    def __init__(self) -> None:
        super().__init__()
        self.settings = type(self).new_settings()
        self.store = ErasureStore(self.settings)
        self.store.lay_out()
        self.came: dict[str, list[Event]] = {}
        self.folded: list[Event] = []
        self.may_go: set[Event] = set()
        self.erasures: list[Erasure] = []
        self.read: tuple[Change, list[Event]] | None = None
        self.moments = itertools.count()

    def log(self) -> dict[str, list[Event]]:
        """Return what is pending."""
        return {entry_id: unpack_events(entry) for entry_id, entry in self.store.log(0, "0-0", "+")}

    @rule(requests=st.lists(st.lists(st.sampled_from(USERS), min_size=1, max_size=3), min_size=1, max_size=4))
    def append(self, requests: list[list[str]]) -> None:
        """Take requests in."""
        before = self.log()
        batches = [[Event(next(self.moments), user, "flyer_open", "f", "m") for user in users] for users in requests]
        type(self).fill(self.settings, batches)
        new = {entry_id: events for entry_id, events in self.log().items() if entry_id not in before}
        assert batches == list(new.values())
        self.came |= new

    @rule(entries=st.integers(1, 5))
    def read_some(self, entries: int) -> None:
        """Be a run that reads, and commits when it comes to that."""
        ledger = self.store.ledger(0)
        some = list(itertools.islice(self.log().items(), entries))
        if some:
            events = [event for _, found in some for event in found]
            change = Change(0, ledger.commits, some[-1][0], len(events), True, {}, {})
            self.read = change, events

    @precondition(lambda self: self.read is not None)
    @rule()
    def commit(self) -> None:
        """Commit what was read: all of it, or nothing where the shard has changed."""
        assert self.read is not None
        change, events = self.read
        unchanged = self.store.ledger(0).commits == change.commits
        assert unchanged == isinstance(self.store.commit(change), Committed)
        if unchanged:
            self.folded += events
        self.read = None

    @precondition(lambda self: len(self.erasures) < 2)
    @rule(user=st.sampled_from(USERS))
    def begin(self, user: str) -> None:
        """Call the command, and see it begin."""
        wanted = {event for events in self.log().values() for event in events if event.user_id == user}
        self.may_go |= wanted
        erasure = Erasure(user, steps(self.store, 0, user, "name"), wanted)
        self.erasures.append(erasure)
        self.go_on(0)

    @precondition(lambda self: self.erasures)
    @rule(number=st.integers(1, 6))
    def go_on(self, number: int) -> None:
        """Do some steps of the erasure that was begun last."""
        erasure = self.erasures[-1]
        for _ in range(number or 1):
            if next(erasure.steps, None) is None:
                self.ended(erasure)
                return

    @precondition(lambda self: len(self.erasures) > 1)
    @rule()
    def take_turns(self) -> None:
        """Let the other erasure go on."""
        self.erasures.reverse()

    @precondition(lambda self: self.erasures)
    @rule()
    def kill(self) -> None:
        """Break an erasure off."""
        self.erasures.pop()

    @rule(lease_s=st.sampled_from([0.0, 60.0]))
    def tell_life(self, lease_s: float) -> None:
        """Take who has not made a step just now to be gone, or to be alive."""
        redis_erasure.LEASE_S = lease_s  # type: ignore[misc]  # a test may

    def ended(self, erasure: Erasure) -> None:
        """Nothing is pending of what was there when it began."""
        assert not erasure.wanted & {event for events in self.log().values() for event in events}
        self.erasures.remove(erasure)

    @invariant()
    def every_event_is_in_one_place(self) -> None:
        """Pending where it came in, folded, or taken out by an erasure that was to do so; the books say the same."""
        log, ledger = self.log(), self.store.ledger(0)
        pending = [event for events in log.values() for event in events]
        gone = {event for events in self.came.values() for event in events} - set(pending) - set(self.folded)
        assert gone <= self.may_go
        assert {1} >= set(Counter([*pending, *self.folded, *gone]).values())
        assert (len(self.folded), len(gone), len(pending)) == (ledger.folded, ledger.erased, ledger.pending)
        assert sorted(log, key=lambda entry_id: [*map(int, entry_id.split("-"))]) == list(log)
        for entry_id, events in log.items():
            assert [event for event in self.came[entry_id] if event not in gone] == events
        assert self.store.erased(0, "name").get("pending_events", 0) == len(gone)

    def teardown(self) -> None:
        """Let all erasures come to their end, and fold the rest."""
        redis_erasure.LEASE_S = 0.0  # type: ignore[misc]
        while self.erasures:
            self.go_on(1)
        self.read_some(1000)
        if self.read:
            self.commit()
        self.every_event_is_in_one_place()
        assert not self.log()
        self.store.close()


def test_any_interleaving_of_appends_folds_and_erasures_keeps_every_event(
    valkey: EmbeddedValkey, fill_log: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two erasures at a time, each step by step, that overtake each other and are killed."""
    monkeypatch.setattr(redis_erasure, "ENTRIES_A_STEP", 2)
    monkeypatch.setattr(redis_erasure, "LEASE_S", 60.0)

    class Example(Log):
        pass

    Example.new_settings = staticmethod(
        lambda: Settings(redis_url=valkey.url, namespace=f"steps{next(_numbers)}", shards=1)
    )
    Example.fill = staticmethod(fill_log)
    run_state_machine_as_test(
        Example,
        settings=hypothesis_settings(
            max_examples=100, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One shard."""
    return dataclasses.replace(settings, shards=1)


@pytest.fixture
def store(settings: Settings) -> Iterator[ErasureStore]:
    """A store that is laid out."""
    store = ErasureStore(settings)
    store.lay_out()
    yield store
    store.close()


def test_no_script_does_more_than_a_step(
    store: ErasureStore, raw_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by entries, nor by bytes; a log that outgrows the copying by steps is caught up with in steps too."""
    monkeypatch.setattr(redis_erasure, "BYTES_A_STEP", 4000)
    key = store.keys.events(0)
    entry = pack_events([Event(0, "other", "flyer_open", "f" * 300, "m")])
    raw_redis.xadd(key, {"e": pack_events([Event(0, "u", "flyer_open", "f", "m")])})
    for _ in range(200):
        raw_redis.xadd(key, {"e": entry})
    raw_redis.hset(store.keys.ledger(0), "accepted", 201)
    copied: list[int] = []
    for number, _ in enumerate(steps(store, 0, "u", "name")):
        copied.append(raw_redis.xlen(store.keys.erasing(0)[0]))
        if number == 3:
            for _ in range(100):
                raw_redis.xadd(key, {"e": entry})
    grown = [after - before for before, after in itertools.pairwise(copied)]

    most = 4000 // len(entry) + 20
    assert 20 < len(copied)
    assert max(grown) <= most
    assert 300 == raw_redis.xlen(key)
    assert (301, 1) == (store.ledger(0).accepted + 100, store.ledger(0).erased)


def test_the_new_log_has_no_end_of_its_life(
    store: ErasureStore, settings: Settings, fill_log: Fill, raw_redis: redis.Redis
) -> None:
    """While it is made it has, so that one broken off is forgotten some time, the note of it always first."""
    fill_log(settings, [[Event(0, "u", "flyer_open", "f", "m"), Event(0, "v", "flyer_open", "f", "m")]])
    going = steps(store, 0, "u", "name")
    next(going)
    next(going)
    log, counts, step = store.keys.erasing(0)
    lives: list[Any] = [raw_redis.ttl(key) for key in (step, log, counts)]

    assert 0 < lives[0] <= 600 < min(lives[1:])
    erase_pending(store, 0, "v", "other")
    assert [-1, -2, -2, -2] == [raw_redis.ttl(key) for key in (store.keys.events(0), log, counts, step)]


def test_one_that_was_forgotten_begins_again(
    store: ErasureStore, settings: Settings, fill_log: Fill, raw_redis: redis.Redis
) -> None:
    """It stood still for too long: its streams may be gone, so nothing of them is used."""
    fill_log(settings, [[Event(0, "u", "flyer_open", "f", "m"), Event(0, "v", "flyer_open", "f", "m")]] * 3)
    going = steps(store, 0, "u", "name")
    next(going)
    next(going)
    raw_redis.delete(*store.keys.erasing(0))
    list(going)

    left = [event for _, entry in store.log(0, "0-0", "+") for event in unpack_events(entry)]
    assert ["v"] * 3 == [event.user_id for event in left]
    assert (6, 3) == (store.ledger(0).accepted, store.ledger(0).erased)
