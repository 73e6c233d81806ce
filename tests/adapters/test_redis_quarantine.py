"""The quarantine in the store: each event once, within caps, no sender with more than half, and out again."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import redis

from functions.adapters.redis_quarantine import NO_ROOM, Quarantine
from functions.core.errors import Fault, MisconfiguredError, RequestRefusedError, UnavailableError
from functions.core.quarantine import new_record, packed
from functions.core.settings import Settings
from tests.store_in_a_loop import run_with

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from functions.core.quarantine import Record
    from tests.conftest import MakeServer

T = TypeVar("T")


def with_quarantine(settings: Settings, use: Callable[[Quarantine], Awaitable[T]]) -> T:
    """Return what a use of the quarantine gives."""
    return run_with(Quarantine, settings, use)


def rejected(event_id: str, key: str | None = "app", code: str = "missing", **data: Any) -> tuple[Record, bytes]:
    """Return a record and its packed form."""
    received = {"id": event_id, "source": "/s", "data": {"user_id": "u", **data}}
    record = new_record((Fault(code, "/event", "r"),), received, event_id=event_id, source="/s", key=key)
    return record, packed(record)


def add(settings: Settings, *records: tuple[Record, bytes]) -> list[str]:
    """Keep events."""
    return with_quarantine(settings, lambda quarantine: quarantine.add(records))


def held(settings: Settings) -> list[str | None]:
    """Return what the events that are there are called."""

    async def read(quarantine: Quarantine) -> list[str | None]:
        return [entry.record.event_id async for entry in quarantine.entries()]

    return with_quarantine(settings, read)


def test_what_is_kept_can_be_read_again(settings: Settings) -> None:
    """By its id and in the list, with faults, sender and the event as it came."""
    record, value = rejected("1", note="naïve")
    (entry_id,) = add(settings, (record, value))

    entry = with_quarantine(settings, lambda quarantine: quarantine.entry(entry_id))
    assert (entry_id, record, None) == (entry.id, entry.record, entry.fixed)
    assert entry.received_ms > 1_700_000_000_000
    assert ["1"] == held(settings)


@pytest.mark.parametrize("wrong", ["0-0", "1-0", "9999999999999-0", "x", "", "1-1-1", "(1-0"])
def test_an_entry_that_is_not_there_is_refused_by_name(settings: Settings, wrong: str) -> None:
    """Whatever it is asked by."""
    add(settings, rejected("1"))

    with pytest.raises(RequestRefusedError, match="there is no"):
        with_quarantine(settings, lambda quarantine: quarantine.entry(wrong))
    with pytest.raises(RequestRefusedError, match="there is no"):
        with_quarantine(settings, lambda quarantine: quarantine.fix(wrong, {}))


def test_the_same_event_again_is_kept_once(settings: Settings) -> None:
    """A sender that retries what is rejected fills nothing; another content under the same name is another event."""
    first = add(settings, rejected("1"))

    assert first * 2 == add(settings, rejected("1"), rejected("1"))
    assert first != add(settings, rejected("1", other=1))
    assert ["1", "1"] == held(settings)


def test_the_oldest_goes_where_there_are_too_many(settings: Settings) -> None:
    """Of two senders with half each; the books say how many were pushed out."""
    small = replace(settings, quarantine_max_events=4)
    add(small, *(rejected(f"a{i}", key="a") for i in range(2)))
    add(small, *(rejected(f"b{i}", key="b") for i in range(2)))
    add(small, rejected("c0", key="c"), rejected("c1", key="c"))

    assert ["b0", "b1", "c0", "c1"] == held(small)
    books = with_quarantine(small, Quarantine.books)
    assert (4, 6, 2) == (books.events, books.kept, books.pushed_out)


def test_what_is_too_old_goes_whether_anything_comes_in_or_not(settings: Settings, raw_redis: redis.Redis) -> None:
    """With its correction, its name and its bytes; it may then come again."""
    brief = replace(settings, quarantine_max_age_s=1)
    (entry_id, _) = add(settings, rejected("1"), rejected("2"))
    with_quarantine(settings, lambda quarantine: quarantine.fix(entry_id, {}))
    with_quarantine(settings, Quarantine.expire)
    assert ["1", "2"] == held(settings)

    deadline_s = time.monotonic() + 20
    while held(brief):
        assert time.monotonic() < deadline_s
        with_quarantine(brief, Quarantine.expire)
    books = with_quarantine(brief, Quarantine.books)
    assert (0, 0, 0, 2, 2) == (books.events, books.fixed, books.bytes, books.kept, books.expired)
    assert {b"bytes": b"0", b"kept": b"2", b"expired": b"2"} == raw_redis.hgetall(
        f"{{{settings.namespace}}}:quarantine:books"
    )

    add(brief, rejected("1"))
    while "1" in held(brief):
        assert time.monotonic() < deadline_s
        add(brief, rejected("3"))


def test_bytes_have_a_cap_too(settings: Settings, raw_redis: redis.Redis) -> None:
    """What is held never takes more, and what is booked is what is there."""
    small = replace(settings, quarantine_max_bytes=65_536)
    for i in range(40):
        add(small, rejected(str(i), key=f"key{i}", filling="x" * 5000))
        books = with_quarantine(small, Quarantine.books)
        assert books.bytes <= 65_536
    entries: Any = raw_redis.xrange(f"{{{settings.namespace}}}:quarantine")

    assert books.bytes == sum(len(fields[b"r"]) + 320 for _, fields in entries)
    assert [str(i) for i in range(40 - len(entries), 40)] == held(small)
    assert 40 - len(entries) == books.pushed_out > 20


def test_a_key_that_has_half_pushes_out_its_own(settings: Settings) -> None:
    """A broken app goes on and on; what others sent stays, and of its own the newest."""
    small = replace(settings, quarantine_max_events=10)
    add(small, *(rejected(f"other{i}", key="other") for i in range(5)))
    for i in range(40):
        add(small, rejected(str(i)))

    assert [*(f"other{i}" for i in range(5)), *map(str, range(35, 40))] == held(small)
    books = with_quarantine(small, Quarantine.books)
    assert (35, 0) == (books.over_share, books.pushed_out)


def test_room_that_nobody_wants_is_anybodys(settings: Settings) -> None:
    """One key alone has all of it, and makes way for others up to their half."""
    small = replace(settings, quarantine_max_events=10)
    add(small, *(rejected(str(i)) for i in range(20)))
    assert [str(i) for i in range(10, 20)] == held(small)
    add(small, *(rejected(f"other{i}", key="other") for i in range(8)))

    assert [*map(str, range(15, 20)), *(f"other{i}" for i in range(3, 8))] == held(small)


def test_without_keys_a_mistake_that_has_half_pushes_out_its_own(settings: Settings) -> None:
    """An app on many devices sends from many sources, and makes one mistake."""
    small = replace(settings, quarantine_max_events=10)
    add(small, *(rejected(f"other{i}", key=None, code="bad_timestamp") for i in range(5)))
    add(small, *(rejected(str(i), key=None) for i in range(40)))

    assert [*(f"other{i}" for i in range(5)), *map(str, range(35, 40))] == held(small)


def test_bytes_are_shared_too(settings: Settings) -> None:
    """Few large events of one key do not push out many small ones of another."""
    small = replace(settings, quarantine_max_bytes=65_536)
    add(small, *(rejected(f"small{i}", key="other") for i in range(40)))
    for i in range(40):
        add(small, rejected(str(i), filling="x" * 5000))

    assert 40 == sum(str(name).startswith("small") for name in held(small))
    assert "39" == held(small)[-1]


def test_what_is_larger_than_half_pushes_nothing_out(settings: Settings) -> None:
    """It is not kept, and all others stay."""
    small = replace(settings, quarantine_max_bytes=65_536)
    add(small, rejected("1"), rejected("2"))

    assert [NO_ROOM] == add(small, rejected("3", filling="x" * 40_000))
    assert ["1", "2"] == held(small)


def test_a_lowered_cap_is_reached_in_steps(settings: Settings) -> None:
    """One call pushes out 2,000 at most; what needs more room is not kept this time."""
    for key in "ab":
        for start in (0, 1000):
            add(settings, *(rejected(f"{key}{start + i}", key=key) for i in range(1000)))
    small = replace(settings, quarantine_max_events=100)

    assert [NO_ROOM] == add(small, rejected("c", key="c"))
    (kept,) = add(small, rejected("c", key="c"))
    assert "-" in kept
    assert 100 == len(held(small))


def test_a_correction_stands_beside_the_event(settings: Settings) -> None:
    """The last one counts; what came stays as it came; it goes with its event."""
    first, _ = add(settings, rejected("1"), rejected("2"))

    async def correct(quarantine: Quarantine) -> list[object]:
        await quarantine.fix(first, {"id": "wrong"})
        await quarantine.fix(first, {"id": "1"})
        entry = await quarantine.entry(first)
        assert ("1", {"id": "1"}) == (entry.record.event_id, entry.fixed)
        assert (2, 1) == (await quarantine.books())[:2]
        await quarantine.remove([first], "redriven")
        return [entry.fixed async for entry in quarantine.entries()]

    assert [None] == with_quarantine(settings, correct)
    assert (1, 0, 1) == (
        (books := with_quarantine(settings, Quarantine.books)).events,
        books.fixed,
        books.redriven,
    )


def test_what_is_removed_frees_its_share_and_its_name(settings: Settings) -> None:
    """Everything that was booked for it is gone, so the same event can be kept again."""
    small = replace(settings, quarantine_max_events=4)
    ids = add(small, rejected("1"), rejected("2"), rejected("other", key="other"), rejected("another", key="other"))

    assert 2 == with_quarantine(small, lambda quarantine: quarantine.remove([*ids[:2], "1-1"], "discarded"))
    add(small, rejected("1"), rejected("3"))
    assert ["other", "another", "1", "3"] == held(small)


def test_an_empty_quarantine_leaves_no_books_open(settings: Settings, raw_redis: redis.Redis) -> None:
    """No bytes, no shares, no names."""
    ids = add(settings, rejected("1"), rejected("2", key=None), rejected("3", key="b"))
    with_quarantine(settings, lambda quarantine: quarantine.remove(ids, "discarded"))

    prefix = f"{{{settings.namespace}}}:quarantine"
    assert 0 == with_quarantine(settings, Quarantine.books).bytes
    assert [] == [part for part in ("names", "fixes", "groups", "order") if raw_redis.exists(f"{prefix}:{part}")]


def test_a_user_is_erased_wherever_an_event_names_them(settings: Settings) -> None:
    """In its data, its correction, its source, its texts, as a number; nobody else's event goes."""

    async def erase(quarantine: Quarantine) -> int:
        (fixed,) = await quarantine.add([rejected("fixed", user_id=None)])
        await quarantine.fix(fixed, {"data": {"user_id": "42"}})
        await quarantine.erase_user("42", "erasure")
        return await quarantine.erased("erasure")

    add(
        settings,
        rejected("as it should be", user_id="42"),
        rejected("as a number", user_id=42),
        rejected("elsewhere", user_id=None, userId="42"),
        rejected("deep", user_id=None, list=[{"text": "by /users/42!"}]),
        rejected("another", user_id="142", timestamp="2026-03-02T08:42:42Z"),
        rejected("yet another", user_id="user42"),
    )

    assert 5 == with_quarantine(settings, erase)
    assert ["another", "yet another"] == held(settings)
    assert 5 == with_quarantine(settings, Quarantine.books).erased


def test_erasing_goes_through_all_pages(settings: Settings) -> None:
    """Hundreds of entries."""
    add(settings, *(rejected(str(i), user_id="ann" if i % 3 else "bob") for i in range(700)))

    with_quarantine(settings, lambda quarantine: quarantine.erase_user("ann", "erasure"))
    assert 466 == with_quarantine(settings, lambda quarantine: quarantine.erased("erasure"))
    assert 234 == len(held(settings))
    with_quarantine(settings, lambda quarantine: quarantine.forget_erased("erasure"))
    assert 0 == with_quarantine(settings, lambda quarantine: quarantine.erased("erasure"))


def test_a_store_without_memory_changes_nothing(make_server: MakeServer) -> None:
    """Not even what would have made room; the books stay right."""
    with make_server() as server, redis.Redis.from_url(server.url) as client:
        small = Settings(redis_url=server.url, quarantine_max_events=4)
        add(small, *(rejected(str(i)) for i in range(4)))
        before = with_quarantine(small, Quarantine.books)
        client.config_set("maxmemory", "1")
        with pytest.raises(UnavailableError, match="out of memory"):
            add(small, rejected("5"))
        client.config_set("maxmemory", "0")

        assert before == with_quarantine(small, Quarantine.books)
        assert ["0", "1", "2", "3"] == held(small)


def test_an_entry_of_a_later_version_is_not_guessed_at(settings: Settings, raw_redis: redis.Redis) -> None:
    """It is named, and left where it is."""
    raw_redis.xadd(f"{{{settings.namespace}}}:quarantine", {"d": "x", "g": "y", "r": '{"format":2}'})

    with pytest.raises(MisconfiguredError, match="cannot be read"):
        held(settings)
