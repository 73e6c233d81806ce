"""Reading and committing a shard, on the real server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from functions.adapters.redis_arguments import PackedArguments
from functions.adapters.redis_shard import ENTRIES_A_READ, Change, Committed, ShardStore, Superseded
from functions.adapters.redis_store import RedisStore, ShardBatch
from functions.core.errors import MisconfiguredError, UnavailableError
from functions.core.events import Event
from functions.core.packing import pack_events
from functions.core.settings import Settings
from functions.local.valkey import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from functions.core.ledger import ShardLedger
    from tests.conftest import MakeServer


def append_to(settings: Settings, events: int) -> str:
    """Append one entry with so many events to shard 0; return its id."""

    async def append() -> str:
        store = RedisStore(settings)
        await store.shards()
        entry = pack_events([Event(number, "u", "flyer_open", "f", "m") for number in range(events)])
        (answer,) = await store.append([ShardBatch(0, entry, events)], window=0)
        await store.close()
        return answer.entry_id  # type: ignore[union-attr]  # anything else fails the test here

    return asyncio.run(append())


@pytest.fixture
def append(settings: Settings) -> Callable[[int], str]:
    """Return what appends an entry with so many events to shard 0 and returns its id."""
    return lambda events: append_to(settings, events)


@pytest.fixture
def store(settings: Settings) -> Iterator[ShardStore]:
    """The store as the job has it."""
    store = ShardStore(settings)
    yield store
    store.close()


def change_of(ledger: ShardLedger, upto: str, events: int, **fields: Any) -> Change:
    """Return a change that folds up to an entry."""
    defaults: dict[str, Any] = {"spans": {b"u": b"s"}, "averages": {b"u": b"a"}}
    return Change(ledger.shard, ledger.commits, upto, events, **{"report_changes": True, **defaults, **fields})


def test_a_commit_moves_events_from_pending_to_folded(store: ShardStore, append: Callable[[int], str]) -> None:
    """Accepted = folded + pending, before and after; later entries stay in the log."""
    first, second = append(3), append(4)
    before = store.ledger(0)
    assert isinstance(store.commit(change_of(before, first, 3)), Committed)
    after = store.ledger(0)

    assert (7, 0, 7) == (before.accepted, before.folded, before.pending)
    assert (7, 3, 4, first) == (after.accepted, after.folded, after.pending, after.folded_to)
    assert [second] == [entry_id for entry_id, _ in store.log(0, "0-0", "+")]


def test_a_commit_of_an_old_read_changes_nothing(
    store: ShardStore, append: Callable[[int], str], raw_redis: redis.Redis, settings: Settings
) -> None:
    """Of two tasks that read the same, the second is told so and leaves no trace."""
    upto = append(3)
    append(1)
    read = store.ledger(0)
    store.commit(change_of(read, upto, 3))
    keys = sorted(raw_redis.scan_iter(f"{{{settings.namespace}*"))
    before = [raw_redis.dump(key) for key in keys]

    assert Superseded("changed") == store.commit(
        change_of(read, upto, 3, spans={b"x": b"y"}, merchants={b"m": {b"x": b"y"}})
    )
    assert keys == sorted(raw_redis.scan_iter(f"{{{settings.namespace}*"))
    assert before == [raw_redis.dump(key) for key in keys]


def test_a_commit_writes_state_and_result_of_every_kind(store: ShardStore, append: Callable[[int], str]) -> None:
    """Spans, averages, and each merchant's averages, whatever bytes are in the ids."""
    upto = append(1)
    merchants = {"ü\0:{x}".encode(): {b"u": b"am"}, b"n": {b"v": b"an"}}
    store.commit(change_of(store.ledger(0), upto, 1, merchants=merchants))

    assert [b"s", None] == store.spans(0, [b"u", b"v"])
    assert [b"a", None] == store.averages(0, [b"u", b"v"])
    assert [b"am"] == store.averages(0, [b"u"], merchant="ü\0:{x}")
    assert [b"an"] == store.averages(0, [b"v"], merchant="n")


def test_a_merchants_version_grows_with_each_commit_of_its_averages(
    store: ShardStore, append: Callable[[int], str], raw_redis: redis.Redis
) -> None:
    """Others keep theirs; it is a moment, so that a store set back never gives the same one to another content."""
    key = store.keys.versions(0)
    seen = []
    for merchants in ([b"m", b"n"], [b"m"], [b"m"]):
        pairs: dict[bytes, dict[bytes, bytes]] = {merchant: {b"u": b"a"} for merchant in merchants}
        store.commit(change_of(store.ledger(0), append(1), 1, merchants=pairs))
        held: Any = raw_redis.hmget(key, ["m", "n"])
        seen.append([int(version) for version in held])
    before_us = raw_redis.hset(key, "m", 4 * 10**15)
    store.commit(change_of(store.ledger(0), append(1), 1, merchants={b"m": {b"u": b"a"}}))

    assert 0 == before_us
    assert seen[0][0] < seen[1][0] < seen[2][0]
    assert seen[0][1] == seen[1][1] == seen[2][1] > 10**15
    assert str(4 * 10**15 + 1).encode() == raw_redis.hget(key, "m")


@pytest.mark.parametrize("by_script", [False, True])
def test_summaries_are_kept_with_the_version_that_their_averages_get(
    store: ShardStore, append: Callable[[int], str], monkeypatch: pytest.MonkeyPatch, *, by_script: bool
) -> None:
    """Of all users and of merchants, each with its own; what is not given stays as it was. A fold is told which are."""
    if by_script:
        monkeypatch.setattr(ShardStore, "_transaction", lambda *_: None)
    both: dict[bytes, dict[bytes, bytes]] = {name: {b"u": b"a"} for name in (b"m", b"n")}
    asked = [b"", b"m", b"n"]
    first = store.summed(store.ledger(0))
    store.commit(change_of(store.ledger(0), append(1), 1, merchants=both, summaries={b"": b"\x00:all", b"m": b"\xff"}))
    overall = store.ledger(0).version
    _, of_m, of_n = (version for _, version in store.kept_summaries(0, asked))
    kept = store.kept_summaries(0, asked)
    store.commit(change_of(store.ledger(0), append(1), 1, merchants=both, summaries={b"n": b"of n"}))
    later = store.kept_summaries(0, asked)

    assert {b""} == first
    assert [(b"%d:\x00:all" % overall, 0), (b"%d:\xff" % of_m, of_m), (None, of_n)] == kept
    assert [kept[0][0], kept[1][0], b"%d:of n" % later[2][1]] == [packed for packed, _ in later]
    assert store.ledger(0).version > overall
    assert later[1][1] > of_m
    assert {*asked} == store.summed(store.ledger(0))


def test_many_users_are_committed_and_read_in_bulk(store: ShardStore, append: Callable[[int], str]) -> None:
    """More than Lua passes to one call, and more than are read in one."""
    upto = append(1)
    users = [b"user%d" % number for number in range(25_000)]
    store.commit(change_of(store.ledger(0), upto, 1, spans={user: user for user in users}))

    assert [*users, None] == store.spans(0, [*users, b"nobody"])
    assert [*users, None] == store.spans_of(0, [PackedArguments.of(users), PackedArguments.of([b"nobody"])])


def test_the_version_changes_only_when_the_report_does(store: ShardStore, append: Callable[[int], str]) -> None:
    """Every commit counts as one; the version is the moment of the last that changed what is shown."""
    entries = [append(1) for _ in range(3)]
    ledgers = []
    for upto, changes in zip(entries, (True, False, True), strict=True):
        store.commit(change_of(store.ledger(0), upto, 1, report_changes=changes))
        ledgers.append(store.ledger(0))

    assert [1, 2, 3] == [ledger.commits for ledger in ledgers]
    assert ledgers[0].version == ledgers[1].version < ledgers[2].version


@pytest.mark.parametrize("lost", ["entry", "events"])
def test_a_log_that_was_set_back_is_not_folded(
    store: ShardStore, append: Callable[[int], str], raw_redis: redis.Redis, lost: str
) -> None:
    """A task that read entries which the store has lost since must not count them."""
    upto = append(3)
    read = store.ledger(0)
    if lost == "entry":
        raw_redis.xdel(store.keys.events(0), upto)
    else:
        raw_redis.hset(store.keys.ledger(0), "accepted", 2)

    assert Superseded("log lost") == store.commit(change_of(read, upto, 3))
    assert 0 == store.ledger(0).folded


def test_a_change_from_elsewhere_leaves_the_log_alone(store: ShardStore, append: Callable[[int], str]) -> None:
    """Without a log position a commit changes state and result only."""
    append(3)
    assert isinstance(store.commit(change_of(store.ledger(0), "", 0)), Committed)
    after = store.ledger(0)

    assert (3, 0, 3, "0-0", 1) == (after.accepted, after.folded, after.pending, after.folded_to, after.commits)


def test_a_long_log_is_read_page_by_page_between_its_bounds(store: ShardStore, append: Callable[[int], str]) -> None:
    """After one id, up to and including another, in order."""
    entries = [append(1) for _ in range(ENTRIES_A_READ + 20)]

    assert entries[5:-3] == [entry_id for entry_id, _ in store.log(0, entries[4], entries[-4])]


def test_where_transactions_are_refused_the_script_does_all(
    store: ShardStore, append: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a full store; what is written is the same, and an old read changes nothing here too."""
    monkeypatch.setattr(ShardStore, "_transaction", lambda *_: None)
    read, upto = store.ledger(0), append(1)
    change = change_of(read, upto, 1, merchants={b"m": {b"u": b"am"}})

    assert isinstance(store.commit(change), Committed)
    assert ([b"s"], [b"a"]) == (store.spans(0, [b"u"]), store.averages(0, [b"u"]))
    assert [b"am"] == store.averages(0, [b"u"], merchant="m")
    assert Superseded("changed") == store.commit(change)


def test_a_transaction_that_cannot_begin_writes_nothing(
    store: ShardStore, append: Callable[[int], str], raw_redis: redis.Redis, settings: Settings
) -> None:
    """Its commands write aside where the state was not moved there, and that is deleted."""
    upto = append(1)
    read = store.ledger(0)
    raw_redis.hset(store.keys.ledger(0), "fence", 1)
    before = sorted(raw_redis.scan_iter(f"{{{settings.namespace}*"))

    assert Superseded("fenced") == store.commit(change_of(read, upto, 1, merchants={b"m": {b"u": b"am"}}))
    assert before == sorted(raw_redis.scan_iter(f"{{{settings.namespace}*"))
    assert [None] == store.spans(0, [b"u"])


def test_a_full_store_can_still_commit(make_server: MakeServer) -> None:
    """Folding is what frees memory, so it must not need any first."""
    with make_server() as server:
        settings = Settings(redis_url=server.url, shards=1)
        upto = [append_to(settings, 500) for _ in range(20)][-1]
        store = ShardStore(settings)
        store._redis.config_set("maxmemory", "1mb")
        with pytest.raises(UnavailableError, match="out of memory"):
            store.record_run({"run": "x"})
        answer = store.commit(change_of(store.ledger(0), upto, 10_000))
        ledger = store.ledger(0)
        store.close()

    assert (Committed, 0) == (type(answer), ledger.pending)


def test_scripts_survive_a_store_that_forgot_them(
    store: ShardStore, append: Callable[[int], str], raw_redis: redis.Redis
) -> None:
    """A restarted store does not know them; they are sent again."""
    upto = append(1)
    raw_redis.script_flush()
    ledger = store.ledger(0)
    raw_redis.script_flush()

    assert isinstance(store.commit(change_of(ledger, upto, 1)), Committed)


def test_a_store_that_is_away_is_unavailable() -> None:
    """The caller is asked to try again."""
    store = ShardStore(Settings(redis_url=f"redis://127.0.0.1:{free_port()}"))
    with pytest.raises(UnavailableError, match="does not answer"):
        store.ledger(0)


def test_a_store_laid_out_otherwise_is_refused(settings: Settings, append: Callable[[int], str]) -> None:
    """The job checks it as every process does; a store never used has no shards."""
    assert 0 == ShardStore(settings).shards()
    append(1)

    assert 4 == ShardStore(settings).shards()
    other = Settings(redis_url=settings.redis_url, namespace=settings.namespace, shards=8)
    with pytest.raises(MisconfiguredError, match="laid out with 4 shards"):
        ShardStore(other).shards()
