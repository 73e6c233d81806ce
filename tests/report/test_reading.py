"""What is read of small stores: ids and averages, in whatever way the store's reply lies in memory."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from functions.adapters.redis_regular import Regular
from functions.core.report_rows import rows_of_users
from functions.core.spans import Totals, pack_totals
from functions.report.reading import ready_averages

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
