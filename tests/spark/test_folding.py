"""Folding a shard, without Spark around it: exact whatever the order, the batches, the rounds and the rivals."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters.redis_shard import ShardStore
from functions.core.events import Event
from functions.core.openings import Moment, Openings
from functions.core.shards import shard_of
from functions.core.span_packing import HEADER_1, ROW_1, pack_spans
from functions.core.spans import Span, Totals, unpack_totals
from spark import columns, folding
from spark.folding import DamagedLogError, DamagedStateError, fold_shard
from spark.running import bounds_of
from spark.tasks import ROUNDS_A_PASS, fold_groups
from tests.spark.folded_state import EVER_US, SHARDS, fold, state_of, stored_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import redis

    from functions.core.settings import Settings
    from spark.folding import Folded


@pytest.fixture
def filled(
    fresh: Callable[[], Settings], fill_log: Callable[[Settings, Iterable[list[Event]]], None]
) -> tuple[Settings, list[Event]]:
    """A log of 40 entries with 400 events of 20 users."""
    settings = fresh()
    events = [
        Event(number * 977_000_000, f"u{number % 20}", "flyer_open", f"f{number % 3}", "m") for number in range(400)
    ]
    fill_log(settings, [events[start : start + 10] for start in range(0, 400, 10)])
    return settings, events


def test_rivals_fold_everything_once(
    filled: tuple[Settings, list[Event]],
    read_report: Callable[[Settings], dict[str, float]],
    plain_report: Callable[[Iterable[Event]], dict[str, float]],
) -> None:
    """Several jobs at once, in rounds of one entry: some commits are overtaken, none counts twice."""
    settings, events = filled
    done: list[Folded] = []
    rivals = [threading.Thread(target=lambda: done.extend(fold(settings, round_events=1))) for _ in range(4)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()

    assert 400 == sum(folded.events for folded in done)
    assert plain_report(events) == read_report(settings)


def test_rounds_bound_what_is_folded_at_once(filled: tuple[Settings, list[Event]]) -> None:
    """Rounds of about so many events, whole entries each."""
    settings, _ = filled
    rounds = [folded.rounds for folded in fold(settings, round_events=50)]

    assert all(round_count >= 4 for round_count in rounds)


def test_a_run_that_lingers_leaves_the_rest_of_a_hot_shard_for_its_next_look(
    fresh: Callable[[], Settings],
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One user has everything: so many rounds, then the others have their turn."""
    settings = fresh()
    hot = shard_of("u", SHARDS)
    fill_log(settings, [[Event(number, "u", "flyer_open", "f", "m")] * 10 for number in range(30)])
    fill_log(settings, [[Event(1, f"u{number}", "flyer_open", "f", "m")] for number in range(20)])
    for name, value in (
        ("REDIS_URL", settings.redis_url),
        ("NAMESPACE", settings.namespace),
        ("ROUND_EVENTS", "10"),
        ("LINGER_S", "1"),
    ):
        monkeypatch.setenv(f"FLYERTIME_{name}", value)
    passes = [
        {folded.shard: folded.rounds for folded in fold_groups([bounds])}
        for _ in range(4)
        if (bounds := bounds_of(settings))
    ]

    assert [ROUNDS_A_PASS, ROUNDS_A_PASS] == [rounds[hot] for rounds in passes[:2]]
    assert all(1 - hot not in rounds for rounds in passes[1:])
    assert not bounds_of(settings)


def test_entries_after_the_bound_stay(
    filled: tuple[Settings, list[Event]], fill_log: Callable[[Settings, Iterable[list[Event]]], None]
) -> None:
    """A run folds what was there when it looked; later entries are the next run's."""
    settings, events = filled
    store = ShardStore(settings)
    bounds = [store.ledger(shard).newest_id for shard in range(SHARDS)]
    fill_log(settings, [events[:10]])
    for shard, upto in enumerate(bounds):
        fold_shard(store, shard, str(upto), 1000)

    assert 10 == sum(store.ledger(shard).pending for shard in range(SHARDS))
    store.close()


def test_a_thread_has_the_turn_while_it_works_and_not_while_it_waits(
    filled: tuple[Settings, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads the log and the state and commits leaves it to others; what merges does not."""
    settings, _ = filled
    turn = threading.Lock()
    held: dict[str, set[bool]] = defaultdict(set)

    def noted(owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def noting(*arguments: Any) -> Any:
            held[name].add(turn.locked())
            return plain(*arguments)

        monkeypatch.setattr(owner, name, noting)

    for name in ("open_ledger", "spans_of", "commit"):
        noted(ShardStore, name)
    for owner, name in ((columns, "unpack_log"), (folding, "spans_of_events"), (folding, "merge")):
        noted(owner, name)
    store = ShardStore(settings)
    fold_shard(store, 0, str(store.ledger(0).newest_id), 100, turn=turn)
    store.close()

    assert {"open_ledger", "spans_of", "commit"} == {name for name, turns in held.items() if turns == {False}}
    assert {"unpack_log", "spans_of_events", "merge"} == {name for name, turns in held.items() if turns == {True}}
    assert not turn.locked()


@pytest.mark.parametrize("damaged", [b"\x09nonsense", b"\x09" + bytes(60), b"\x01\x02" + bytes(19)])
def test_a_damaged_entry_is_named_and_stays(
    filled: tuple[Settings, list[Event]], raw_redis: redis.Redis, damaged: bytes
) -> None:
    """The error says which; all that stands before it is folded, nothing after it is lost."""
    settings, _ = filled
    store = ShardStore(settings)
    before = store.ledger(0)
    entry_id: Any = raw_redis.xadd(store.keys.events(0), {"e": damaged})
    raw_redis.hincrby(store.keys.ledger(0), "accepted", 1)
    with pytest.raises(DamagedLogError, match=f"shard 0, log entry {entry_id.decode()}: .*(damaged|format 9)"):
        fold_shard(store, 0, entry_id.decode(), 1000)
    after = store.ledger(0)
    store.close()

    assert before.accepted == after.folded
    assert 1 == after.pending


def test_damaged_state_is_named_and_stays(filled: tuple[Settings, list[Event]], raw_redis: redis.Redis) -> None:
    """The shard is left as it is, rather than folded without what the user had."""
    settings, _ = filled
    store = ShardStore(settings)
    user = next(f"u{number}" for number in range(20) if shard_of(f"u{number}", SHARDS) == 0)
    raw_redis.hset(store.keys.spans(0), user, b"\x01\x09\x00\x00\x00")
    before = store.ledger(0)
    with pytest.raises(DamagedStateError, match="shard 0: damaged spans"):
        fold_shard(store, 0, str(before.newest_id), 1000)

    assert before == store.ledger(0)
    store.close()


def test_a_user_with_a_hundred_thousand_flyers_is_folded(
    fresh: Callable[[], Settings], fill_log: Callable[[Settings, Iterable[list[Event]]], None]
) -> None:
    """State of many megabytes for one user, read and written again by a later fold."""
    settings = fresh()
    flyers = [Event(number * 1_000_000, "u", "flyer_open", f"f{number}", "m") for number in range(100_000)]
    fill_log(settings, [flyers])
    fold(settings, 100_000)
    fill_log(settings, [[event._replace(timestamp_us=event.timestamp_us + 60_000_000) for event in flyers[:50_000]]])
    fold(settings, 100_000)
    store = ShardStore(settings)
    (average,) = store.averages(shard_of("u", SHARDS), [b"u"])
    store.close()

    assert average is not None
    assert Totals(50_000 * 60, 50_000, 0, 99_999_000_000, 0, 0, 150_000) == unpack_totals(average)


def test_a_user_with_nearly_all_events_is_a_few_bytes(
    fresh: Callable[[], Settings], fill_log: Callable[[Settings, Iterable[list[Event]]], None]
) -> None:
    """One flyer opened or closed every second for two days: rounds bound the work, the tail the state."""
    settings = fresh()
    seconds = 2 * 86_400
    events = [
        Event(second * 1_000_000, "bot", "flyer_close" if second % 2 else "flyer_open", "f", "m")
        for second in range(seconds)
    ]
    fill_log(settings, [events[start : start + 10_000] for start in range(0, seconds, 10_000)])
    fill_log(settings, [[Event(1, f"u{number}", "flyer_open", "f", "m")] for number in range(10)])
    done = fold(settings, 20_000)

    assert max(folded.rounds for folded in done) >= seconds // 20_000
    assert (
        Totals(seconds - 1, seconds - 1, 0, (seconds - 1) * 10**6, seconds // 2, seconds // 2, 0)
        == (stored_totals(settings)["bot"])
    )
    assert len(state_of(settings)["bot"]) < 150
    assert 11 == len(stored_totals(settings))


def test_an_event_that_is_too_late_is_in_all_numbers_but_one(
    fresh: Callable[[], Settings], fill_log: Callable[[Settings, Iterable[list[Event]]], None]
) -> None:
    """It is counted as late, and an open and a close that it would have parted stay a closed session."""
    settings = fresh()
    hour_us = 3_600_000_000

    def event(hour: float, name: str) -> Event:
        return Event(round(hour * hour_us), "u", f"flyer_{name}", "f", "m")

    fill_log(settings, [[event(0, "open"), event(1, "close"), event(100, "open")]])
    first = fold(settings, lateness_us=48 * hour_us)
    fill_log(settings, [[event(0.5, "open"), event(90, "close"), event(101, "close")]])
    second = fold(settings, lateness_us=48 * hour_us)

    assert [0, 1] == [sum(folded.late_events for folded in done) for done in (first, second)]
    assert {"u": Totals(101 * 3600, 5, 0, 101 * hour_us, 2 * 3600, 2, 0)} == stored_totals(settings)


def test_openings_that_are_switched_off_are_not_kept_from_then_on(
    fresh: Callable[[], Settings], fill_log: Callable[[Settings, Iterable[list[Event]]], None]
) -> None:
    """Of the flyers that get events meanwhile: with a gap there would be no telling what follows what."""
    settings = fresh()
    for lateness_us, flyer, moment_us in ((EVER_US, "f", 0), (None, "g", 0), (EVER_US, "f", 10**6), (EVER_US, "g", 1)):
        name = "flyer_close" if moment_us else "flyer_open"
        fill_log(settings, [[Event(moment_us, "u", name, flyer, "m")]])
        fold(settings, lateness_us=lateness_us)
    kept = {"u": Totals(1, 2, 0, 10**6, 1, 1, 0)}
    assert kept == stored_totals(settings)
    fill_log(settings, [[Event(2 * 10**6, "u", "flyer_close", "f", "m")]])
    fold(settings, lateness_us=None)

    assert {"u": Totals(2, 3, 0, 2 * 10**6)} == stored_totals(settings)


def test_state_of_an_older_format_goes_on_and_is_written_anew_where_it_is_touched(
    fresh: Callable[[], Settings],
    fill_log: Callable[[Settings, Iterable[list[Event]]], None],
    raw_redis: redis.Redis,
) -> None:
    """Format 1 had no time from open to close, so that of these spans is not known; another user's value stays."""
    settings = fresh()
    store = ShardStore(settings)
    hour_us = 3_600_000_000
    old = HEADER_1.pack(1, 1) + ROW_1.pack(0, hour_us, 2, 1, 1) + b"fm"
    other = next(f"v{number}" for number in range(9) if shard_of(f"v{number}", SHARDS) == shard_of("u", SHARDS))
    fill_log(settings, [[Event(3 * hour_us, "u", "flyer_close", "f", "m"), Event(0, "u", "flyer_open", "g", "m")]])
    for user in ("u", other):
        raw_redis.hset(store.keys.spans(shard_of(user, SHARDS)), user, old)
    store.close()
    fold(settings)

    spans = {("f", "m"): Span(0, 3 * hour_us, 3), ("g", "m"): Span(0, 0, 1, Openings(None, (Moment(0, False),)))}
    assert {"u": pack_spans(spans), other: old} == state_of(settings)
    assert {"u": Totals(3 * 3600, 2, 0, 3 * hour_us, 0, 0, 1)} == stored_totals(settings)


def test_an_empty_log_is_no_work(fresh: Callable[[], Settings]) -> None:
    """Nothing pending, nothing done."""
    assert [] == fold(fresh())
