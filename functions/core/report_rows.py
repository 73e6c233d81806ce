"""Users' packed totals as columns: many at once, by loops that run in C, since a report may hold a million of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, compress
from typing import TYPE_CHECKING, Any, Final, cast

from functions.core.spans import NOT_KEPT, TOTALS, TOTALS_FORMAT, average_hours, unpack_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


@dataclass(frozen=True, slots=True)
class UserRows:
    """Some users' rows, column by column; users without a session are not among them."""

    ids: Sequence[bytes]
    seconds: Sequence[int]
    sessions: Sequence[int]
    first_us: Sequence[int | None]
    last_us: Sequence[int | None]
    closed_seconds: Sequence[int | None]
    closed_sessions: Sequence[int | None]
    unclosed: Sequence[int | None]

    def __len__(self) -> int:
        return len(self.ids)

    def hundredths(self) -> list[int]:
        """Return the averages in hundredths of an hour."""
        return hundredths_of(self.seconds, self.sessions)

    def column(self, name: str) -> Sequence[Any]:
        """Return a column by its name in the report."""
        return _COLUMNS[name](self)

    def where(self, selected: Sequence[bool]) -> UserRows:
        """Return the rows that are selected."""
        if all(selected):
            return self
        return UserRows(*(list(compress(column, selected)) for column in self.all_columns()))

    def part(self, start: int, end: int) -> UserRows:
        """Return the rows from one place up to another."""
        return UserRows(*(column[start:end] for column in self.all_columns()))

    def all_columns(self) -> tuple[Sequence[Any], ...]:
        """Return all that is held, in the order of the fields."""
        return (
            self.ids, self.seconds, self.sessions, self.first_us, self.last_us,
            self.closed_seconds, self.closed_sessions, self.unclosed,
        )  # fmt: skip


def rows_of_users(ids: Sequence[bytes], values: Sequence[bytes]) -> UserRows:
    """Return the rows of users from their values in an averages hash, in the order given.

    Raises:
        ValueError: A value is of a format that this version does not read.
    """
    if not ids:
        return UserRows((), (), (), (), (), (), (), ())
    packed = b"".join(values)
    columns: list[Any]
    if len(packed) == TOTALS.size * len(values) and set(packed[:: TOTALS.size]) == {TOTALS_FORMAT}:
        columns = list(zip(*TOTALS.iter_unpack(packed), strict=True))[1:]
        if NOT_KEPT in columns[6]:
            kept = [unclosed != NOT_KEPT for unclosed in columns[6]]
            columns[4:] = [tuple(v if known else None for v, known in zip(c, kept, strict=True)) for c in columns[4:]]
    else:  # some are of an older format
        columns = [*zip(*map(unpack_totals, values), strict=True)]
    rows = UserRows(ids, *columns)
    return rows if min(rows.sessions) > 0 else rows.where([count > 0 for count in rows.sessions])


def joined(parts: Sequence[UserRows]) -> UserRows:
    """Return the rows of all parts, in their order."""
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(part.all_columns() for part in parts), strict=True) if parts else ((),) * 8
    return UserRows(*(tuple(chain.from_iterable(column)) for column in columns))


def hundredths_of(seconds: Sequence[int], sessions: Sequence[int]) -> list[int]:
    """Return averages in whole hundredths of an hour, rounded as `average_hours` does.

    In whole numbers, which are exact: only where a half is met does Spark's way of rounding doubles decide.
    """
    return [
        quotient if remainder else round(average_hours(total, count) * 100)
        for (quotient, remainder), total, count in zip(
            map(
                divmod,
                [total + 18 * count for total, count in zip(seconds, sessions, strict=True)],
                [36 * count for count in sessions],
            ),
            seconds,
            sessions,
            strict=True,
        )
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
