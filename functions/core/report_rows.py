"""Users' packed totals as columns: many at once, by loops that run in C, since a report may hold a million of them."""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import chain, compress
from typing import TYPE_CHECKING, Any, Final, cast

from functions.core.spans import NOT_KEPT, TOTALS, TOTALS_FORMAT, average_hours, unpack_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class UserRows:
    """Some users' rows, column by column; users without a session are not among them.

    What the reference number needs not, which are the columns after the first three, is unpacked when it is asked for.
    """

    __slots__ = ("_further", "_values", "ids", "seconds", "sessions")

    def __init__(
        self,
        ids: Sequence[bytes],
        seconds: Sequence[int],
        sessions: Sequence[int],
        *further: Sequence[int | None],
        values: Sequence[bytes] = (),
    ) -> None:
        """Take columns: all of them, or the first three and the values that they are from."""
        self.ids = ids
        self.seconds = seconds
        self.sessions = sessions
        self._further = further
        self._values = values

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def further(self) -> tuple[Sequence[int | None], ...]:
        """first_us, last_us, closed_seconds, closed_sessions and unclosed; None: not known."""
        if not self._further:
            self._further = _further_of(self._values) if self._values else ((),) * 5
        return self._further

    @property
    def first_us(self) -> Sequence[int | None]:
        """First flyer event, microseconds since 1970."""
        return self.further[0]

    @property
    def last_us(self) -> Sequence[int | None]:
        """Last flyer event, microseconds since 1970."""
        return self.further[1]

    @property
    def closed_seconds(self) -> Sequence[int | None]:
        """Seconds from opens to the closes that follow them."""
        return self.further[2]

    @property
    def closed_sessions(self) -> Sequence[int | None]:
        """Opens that a close follows."""
        return self.further[3]

    @property
    def unclosed(self) -> Sequence[int | None]:
        """Opens that no close follows."""
        return self.further[4]

    def hundredths(self) -> list[int]:
        """Return the averages in hundredths of an hour."""
        return hundredths_of(self.seconds, self.sessions)

    def column(self, name: str) -> Sequence[Any]:
        """Return a column by its name in the report."""
        return _COLUMNS[name](self)

    def where(self, selected: Sequence[bool]) -> UserRows:
        """Return the rows that are selected."""
        return self if all(selected) else self._each(lambda column: list(compress(column, selected)))

    def part(self, start: int, end: int) -> UserRows:
        """Return the rows from one place up to another."""
        return self._each(lambda column: column[start:end])

    def _each(self, change: Callable[[Sequence[Any]], Sequence[Any]]) -> UserRows:
        columns = (self.ids, self.seconds, self.sessions, *self._further)
        return UserRows(*map(change, columns), values=change(self._values))

    def all_columns(self) -> tuple[Sequence[Any], ...]:
        """Return all that is held: ids, seconds, sessions, and the further ones."""
        return (self.ids, self.seconds, self.sessions, *self.further)


def rows_of_users(ids: Sequence[bytes], values: Sequence[bytes]) -> UserRows:
    """Return the rows of users from their values in an averages hash, in the order given.

    Raises:
        ValueError: A value is of a format that this version does not read.
    """
    if not ids:
        return UserRows((), (), ())
    packed = b"".join(values)
    if is_current(packed, values):
        more = -len(values) % _UNPACKED_BY
        numbers = _first_two(len(values) + more).unpack(packed + bytes(TOTALS.size * more))[: 2 * len(values)]
        rows = UserRows(ids, numbers[0::2], numbers[1::2], values=values)
    else:  # some are of an older format
        rows = UserRows(ids, *zip(*map(unpack_totals, values), strict=True))
    return rows if all(rows.sessions) else rows.where([count > 0 for count in rows.sessions])


def is_current(packed: bytes, values: Sequence[bytes]) -> bool:
    """Tell whether all values, which joined are the first argument, are of today's format."""
    return len(packed) == TOTALS.size * len(values) and set(packed[:: TOTALS.size]) == {TOTALS_FORMAT}


_UNPACKED_BY: Final = 128
"""Values are unpacked by multiples of this, so that parts of shards of about the same size need one `struct.Struct`:
making it takes as long as using it."""


@lru_cache(4)
def _first_two(count: int) -> struct.Struct:
    """Return what unpacks the seconds and the sessions of so many values at once, for a tenth of the price."""
    return struct.Struct("<" + f"xqI{TOTALS.size - 13}x" * count)


def _further_of(values: Sequence[bytes]) -> tuple[Sequence[int | None], ...]:
    columns: list[Any] = list(zip(*TOTALS.iter_unpack(b"".join(values)), strict=True))[3:]
    if NOT_KEPT in columns[4]:
        kept = [unclosed != NOT_KEPT for unclosed in columns[4]]
        columns[2:] = [tuple(v if known else None for v, known in zip(c, kept, strict=True)) for c in columns[2:]]
    return tuple(columns)


def joined(parts: Sequence[UserRows]) -> UserRows:
    """Return the rows of all parts, in their order."""
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(part.all_columns() for part in parts), strict=True) if parts else ((),) * 8
    return UserRows(*(tuple(chain.from_iterable(column)) for column in columns))


def hundredths_of(seconds: Sequence[int], sessions: Sequence[int]) -> list[int]:
    """Return averages in whole hundredths of an hour, rounded as `average_hours` does.

    In whole numbers, which are exact: only where a half is met does Spark's way of rounding doubles decide. Only whole
    multiples of 18 seconds may meet one.
    """
    return [
        (total + 18 * count) // (36 * count)
        if total % 18 or (total + 18 * count) % (36 * count)
        else round(average_hours(total, count) * 100)
        for total, count in zip(seconds, sessions, strict=True)
    ]


def _closed_hundredths(rows: UserRows) -> list[int | None]:
    known = [
        total is not None and bool(count)
        for total, count in zip(rows.closed_seconds, rows.closed_sessions, strict=True)
    ]
    hundredths = iter(
        hundredths_of(
            cast("Sequence[int]", [*compress(rows.closed_seconds, known)]),
            cast("Sequence[int]", [*compress(rows.closed_sessions, known)]),
        )
    )
    return [next(hundredths) if there else None for there in known]


_COLUMNS: Final[dict[str, Callable[[UserRows], Sequence[Any]]]] = {
    "user_id": lambda rows: rows.ids,
    "avg_time_on_flyer_per_user_hours": UserRows.hundredths,
    "sessions": lambda rows: rows.sessions,
    "total_seconds": lambda rows: rows.seconds,
    "first_seen": lambda rows: rows.first_us,
    "last_seen": lambda rows: rows.last_us,
    "avg_open_to_close_hours": _closed_hundredths,
    "closed_sessions": lambda rows: rows.closed_sessions,
    "unclosed_opens": lambda rows: rows.unclosed,
}


def sum_of(numbers: Iterable[int | None]) -> int | None:
    """Return the sum; None where one is not known."""
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total
