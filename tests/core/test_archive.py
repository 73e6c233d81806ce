"""The archive's names, and which files are merged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from functions.core.archive import (
    FAN,
    TARGET_EVENTS,
    ArchivedFile,
    history_path,
    in_order,
    is_left_over,
    log_path,
    merges_of,
    swapped_path,
)
from functions.core.ledger import ShardLedger

DAY_MS = 86_400_000
TODAY_MS = 20_000 * DAY_MS
TODAY = "2024-10-04"


def file_of(number: int, events: int, *, days_ago: int = 0) -> ArchivedFile:
    """Return a file of one entry, received so many milliseconds into a day."""
    first = f"{TODAY_MS - days_ago * DAY_MS + number}-0"
    return ArchivedFile(log_path(3, first, first, number, "ab"), events, events, 10, first, first)


def test_a_record_tells_the_file_again() -> None:
    """Whatever is in a backfill's id."""
    log = file_of(7, 5)
    history = ArchivedFile(history_path(3, "a/b=ü", 9, 1, "ab"), 2, 4, 10, backfill="a/b=ü")

    assert [log, history] == [ArchivedFile.of_record(file.path, file.record) for file in (log, history)]
    assert "history/shard=0003/backfill=a%2Fb%3D%C3%BC" == history.folder
    assert f"log/shard=0003/day={TODAY}" == log.folder


def test_a_file_is_left_over_once_what_it_hung_on_has_moved() -> None:
    """One whose commit or swap may still come is not; nor is a file that we did not write."""
    ledger = ShardLedger(3, commits=5, swaps=2)
    swapped = swapped_path([file_of(1, 1), file_of(2, 1)], 1, "ab")
    names = [log_path(3, "1-0", "2-0", commits, "ab") for commits in (4, 5)]

    assert [True, False] == [is_left_over(name, ledger) for name in names]
    assert [True, False] == [is_left_over(name + ".tmp", ledger) for name in names]
    assert is_left_over(swapped, ledger)
    assert not is_left_over(swapped_path([file_of(1, 1)], 2, "ab"), ledger)
    assert not is_left_over("log/shard=0003/README", ledger)


def test_a_day_that_goes_on_waits_for_enough_files() -> None:
    """A day that is over does not."""
    few, many = [file_of(n, 10) for n in range(FAN - 1)], [file_of(n, 10) for n in range(FAN)]
    over = [file_of(n, 10, days_ago=1) for n in range(2)]

    assert [] == merges_of(few, TODAY)
    assert [many] == merges_of(many, TODAY)
    assert [over] == merges_of([*few, *over], TODAY)
    assert [few] == merges_of(few, TODAY, everything=True)


@given(st.lists(st.tuples(st.integers(1, 3 * TARGET_EVENTS // 2), st.integers(0, 2)), max_size=80))
def test_merged_files_stand_together_and_stay_within_the_target(sizes: list[tuple[int, int]]) -> None:
    """No file is in two groups, none with its own size or more already, and nothing stands between a group's files."""
    files = [file_of(n, events, days_ago=days) for n, (events, days) in enumerate(sizes)]
    ordered = in_order(files)
    for everything in (True, False):
        groups = merges_of(files, TODAY, everything=everything)
        merged = [file for group in groups for file in group]
        assert len(merged) == len(set(merged))
        for group in groups:
            at = ordered.index(group[0])
            assert ordered[at : at + len(group)] == group
            assert 1 == len({file.folder for file in group})
            assert sum(file.events for file in group) <= TARGET_EVENTS
            assert len(group) >= 2


def test_an_event_is_written_again_a_few_times_however_small_the_files_come_in() -> None:
    """Thirty thousand rounds of one event each, in one day: less than five times, and few files are left."""
    held: list[ArchivedFile] = []
    written = 0
    for number in range(FAN**3):
        held.append(file_of(number, 1))
        if number % FAN == FAN - 1:
            for group in merges_of(held, TODAY):
                events = sum(file.events for file in group)
                written += events
                merged = ArchivedFile(swapped_path(group, 0, "a"), events, events, 1, group[0].first, group[-1].last)
                held = [*(file for file in held if file not in group), merged]

    assert written < 5 * FAN**3
    assert len(held) < 4 * FAN
