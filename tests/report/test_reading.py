"""What is read of small stores: ids and averages, in whatever way the store's reply lies in memory."""

from __future__ import annotations

import asyncio

from hypothesis import example, given
from hypothesis import strategies as st

from functions.adapters.redis_regular import Regular
from functions.core.report_rows import rows_of_users
from functions.core.report_summary import Summary
from functions.core.spans import Totals, pack_totals
from functions.report.reading import first_bytes, ready_averages
from functions.report.summaries import summary_of

FORMAT_2 = b"\x02" + (7200).to_bytes(8, "little") + (2).to_bytes(4, "little") + bytes(32)
TOTALS = st.tuples(st.integers(0, 10**9), st.integers(0, 3)).map(lambda each: Totals(*each, 1, 2))
USERS = st.dictionaries(st.binary(min_size=4, max_size=4), TOTALS.map(pack_totals), min_size=1, max_size=20)


def regular(users: dict[bytes, bytes]) -> Regular:
    """Return users as they are in a reply of the store; ids and values have one length each."""
    records = [b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(users[name]), users[name]) for name in users]
    head = b"*%d\r\n" % (2 * len(users))
    lengths = tuple(map(len, next(iter(users.items()))))
    return Regular(bytearray(head + b"".join(records)), len(head), len(users), lengths)


@given(USERS)
@example({b"abcd": pack_totals(Totals(2**60, 1, 1, 2)), b"efgh": pack_totals(Totals(0, 0, 1, 2))})
@example({b"abcd": FORMAT_2, b"efgh": FORMAT_2})
@example({b"abcd": pack_totals(Totals(0, 0, 1, 2))})
def test_users_with_a_session_are_read_with_their_averages(users: dict[bytes, bytes]) -> None:
    """Of this format and an older one, ready or to be computed."""
    ids, values = [*users], [*users.values()]
    wanted = rows_of_users(ids, values)

    for averages in (regular(users), (ids, values)):
        names, hundredths = ready_averages(averages)
        assert ([*wanted.ids], [*wanted.hundredths()]) == ([*names], [*hundredths])
        starts = b"".join(name[:1] for name in names)
        assert first_bytes(averages, names) == (starts if averages != (ids, values) and len(names) == len(ids) else b"")


def test_of_empty_ids_no_first_byte_is_known() -> None:
    """One user at most has one."""
    assert b"" == first_bytes(regular({b"": pack_totals(Totals(1, 1, 1, 2))}), [b""])


SUMMED = st.builds(
    Totals,
    seconds=st.integers(0, 10**9) | st.integers(0, 2**60),
    sessions=st.integers(0, 3),
    first_us=st.just(1),
    last_us=st.just(2),
    closed_seconds=st.integers(0, 10**6) | st.none(),
    closed_sessions=st.integers(0, 5),
    unclosed=st.integers(0, 5),
)


@given(st.lists(SUMMED.map(pack_totals), min_size=1, max_size=20))
@example([FORMAT_2, FORMAT_2])
@example([pack_totals(Totals(0, 0, 1, 2, 0, 0, 1))])
@example([pack_totals(Totals(2**60, 1, 1, 2, 0, 0, 0)), pack_totals(Totals(0, 0, 1, 2, 0, 0, 1))])
def test_a_summary_is_the_same_from_columns_and_from_objects(values: list[bytes]) -> None:
    """With users who have no session, averages that are still to be computed, and numbers that are not kept."""
    wanted = Summary()
    wanted.add(rows_of_users(values, values))

    together = b"".join(b"$%d\r\n%b\r\n" % (len(value), value) for value in values)
    column = Regular(together, 0, len(values), (len(values[0]),))
    assert [wanted, wanted] == [asyncio.run(summary_of(some)) for some in (column, values)]
